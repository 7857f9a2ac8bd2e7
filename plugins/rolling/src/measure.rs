//! One feature of some records of a key, computed anew each time: so it does not depend on how the stream was cut.

use crate::engine::Kept;

/// Mean radius of the earth in kilometres (IUGG).
const EARTH_KM: f64 = 6371.0088;

/// Over which records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The last so many,
    pub records: u32,
    /// of those that are not older than this, in nanoseconds, before the record's time.
    pub ns: Option<i64>,
    /// Without the record itself.
    pub before: bool,
}

impl Reach {
    /// How many records have to be kept for it.
    #[must_use]
    pub fn needs(self) -> u32 {
        self.records.saturating_add(u32::from(self.before))
    }

    /// The records that it reaches, of those up to and including the one in question.
    fn of(self, records: &[Kept]) -> &[Kept] {
        let Some((this, earlier)) = records.split_last() else { return records };
        let records = if self.before { earlier } else { records };
        let skipped = records.len().saturating_sub(self.records as usize);
        let records = records.get(skipped..).unwrap_or_default();
        let Some(ns) = self.ns else { return records };
        // Nearly in order: what is older stands in front.
        let old = records.iter().take_while(|record| this.time.saturating_sub(record.time) >= ns).count();
        records.get(old..).unwrap_or_default()
    }
}

/// What is measured; numbers are places among the kept fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// How many records.
    Records,
    /// Those that have the field.
    Count(usize),
    /// Sum.
    Sum(usize),
    /// Mean.
    Mean(usize),
    /// Sample standard deviation, of two values or more.
    Std(usize),
    /// Least.
    Min(usize),
    /// Greatest.
    Max(usize),
    /// Least squares against the number of the record among them, of two values or more.
    Slope(usize),
    /// Different values.
    Distinct(usize),
    /// Seconds since the record before, 0 where that is newer.
    Elapsed,
    /// Of the record before.
    Previous(usize),
    /// Great circle from the record before, in kilometres (haversine).
    Distance {
        /// Degrees.
        latitude: usize,
        /// Degrees.
        longitude: usize,
    },
}

impl Measure {
    /// Whether it is a whole number.
    #[must_use]
    pub fn is_count(self) -> bool {
        matches!(self, Measure::Records | Measure::Count(_) | Measure::Distinct(_))
    }

    /// Measures: the last of `records` is the record that gets it. `None` where too few have a value.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of a few thousand")]
    pub fn of(self, reach: Reach, records: &[Kept]) -> Option<f64> {
        let reached = reach.of(records);
        let values = |field: usize| reached.iter().filter_map(move |record| record.number(field));
        let pair = || match records {
            [.., before, this] => Some((before, this)),
            _ => None,
        };
        let finite = |value: f64| value.is_finite().then_some(value);
        match self {
            Measure::Records => Some(reached.len() as f64),
            Measure::Count(field) => {
                Some(reached.iter().filter(|record| record.value(field).is_some()).count() as f64)
            }
            Measure::Distinct(field) => {
                let mut prints: Vec<u64> = reached.iter().filter_map(|record| record.value(field)).collect();
                prints.sort_unstable();
                prints.dedup();
                Some(prints.len() as f64)
            }
            // That of nothing is -0, which adds nothing to a sum.
            Measure::Sum(field) => finite(values(field).sum::<f64>() + 0.0),
            Measure::Mean(field) => mean(values(field)).and_then(finite),
            Measure::Std(field) => {
                let mean = mean(values(field))?;
                let count = values(field).count();
                let squares: f64 = values(field).map(|value| (value - mean) * (value - mean)).sum();
                (count > 1).then(|| libm::sqrt(squares / (count - 1) as f64)).and_then(finite)
            }
            Measure::Min(field) => values(field).reduce(f64::min),
            Measure::Max(field) => values(field).reduce(f64::max),
            Measure::Slope(field) => slope(reached, field).and_then(finite),
            Measure::Elapsed => {
                pair().map(|(before, this)| this.time.saturating_sub(before.time).max(0) as f64 / 1e9)
            }
            Measure::Previous(field) => pair()?.0.number(field),
            Measure::Distance { latitude, longitude } => {
                let (before, this) = pair()?;
                let place = |record: &Kept| Some((record.number(latitude)?, record.number(longitude)?));
                finite(kilometres(place(before)?, place(this)?))
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few thousand")]
fn mean(values: impl Iterator<Item = f64> + Clone) -> Option<f64> {
    let count = values.clone().count();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few thousand")]
fn slope(records: &[Kept], field: usize) -> Option<f64> {
    let points = || {
        let points = records.iter().enumerate();
        points.filter_map(|(at, record)| Some((at as f64, record.number(field)?)))
    };
    let across = mean(points().map(|(x, _)| x).collect::<Vec<_>>().into_iter())?;
    let level = mean(points().map(|(_, y)| y).collect::<Vec<_>>().into_iter())?;
    let spread: f64 = points().map(|(x, _)| (x - across) * (x - across)).sum();
    let together: f64 = points().map(|(x, y)| (x - across) * (y - level)).sum();
    (spread > 0.0).then(|| together / spread)
}

fn kilometres((from_lat, from_lon): (f64, f64), (to_lat, to_lon): (f64, f64)) -> f64 {
    let half = |from: f64, to: f64| libm::sin((to - from).to_radians() / 2.0);
    let (lat, lon) = (half(from_lat, to_lat), half(from_lon, to_lon));
    let cosines = libm::cos(from_lat.to_radians()) * libm::cos(to_lat.to_radians());
    let part = lat * lat + cosines * lon * lon;
    2.0 * EARTH_KM * libm::asin(libm::sqrt(part.min(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(values: &[f64]) -> Vec<Kept> {
        let kept = values.iter().enumerate();
        kept.map(|(at, value)| Kept::new(at as i64 * 1_000_000_000, vec![Some(value.to_bits())])).collect()
    }

    fn reach(records: u32) -> Reach {
        Reach { records, ns: None, before: false }
    }

    #[test]
    fn slope_of_a_line_is_its_slope_wherever_it_lies() {
        let line = records(&[7.0, 9.5, 12.0, 14.5]);
        assert_eq!(Measure::Slope(0).of(reach(4), &line), Some(2.5));
        assert_eq!(Measure::Slope(0).of(reach(2), &line), Some(2.5));
        assert_eq!(Measure::Slope(0).of(reach(1), &line), None);
    }

    #[test]
    fn sum_of_nothing_is_zero_as_it_is_written() {
        let sum = Measure::Sum(0).of(reach(4), &[]).unwrap();
        assert_eq!((sum, sum.is_sign_positive()), (0.0, true));
    }

    #[test]
    fn deviation_and_mean_are_of_the_reached_alone() {
        let values = records(&[100.0, 2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!(Measure::Mean(0).of(reach(8), &values), Some(5.0));
        let expected = (32.0_f64 / 7.0).sqrt();
        assert_eq!(Measure::Std(0).of(reach(8), &values), Some(expected));
        let before = Reach { before: true, ..reach(3) };
        assert_eq!(Measure::Mean(0).of(before, &values), Some(17.0 / 3.0));
        assert_eq!(Measure::Max(0).of(reach(2), &values), Some(9.0));
    }

    #[test]
    fn a_second_reaches_records_of_less_than_a_second_ago() {
        let reach =
            |seconds: i64| Reach { records: u32::MAX, ns: Some(seconds * 1_000_000_000), before: false };
        let values = records(&[1.0, 2.0, 4.0]);
        assert_eq!(Measure::Sum(0).of(reach(1), &values), Some(4.0));
        assert_eq!(Measure::Sum(0).of(reach(2), &values), Some(6.0));
        assert_eq!(Measure::Records.of(reach(9), &values), Some(3.0));
        assert_eq!(Measure::Elapsed.of(reach(9), &values), Some(1.0));
    }

    #[test]
    fn a_quarter_of_the_earth_is_ten_thousand_kilometres() {
        let quarter = kilometres((0.0, 0.0), (0.0, 90.0));
        assert!((quarter - EARTH_KM * std::f64::consts::FRAC_PI_2).abs() < 1e-9, "{quarter}");
        assert!((kilometres((90.0, 0.0), (-90.0, 77.0)) - 2.0 * quarter).abs() < 1e-6);
        assert_eq!(kilometres((48.2, 16.4), (48.2, 16.4)), 0.0);
    }
}
