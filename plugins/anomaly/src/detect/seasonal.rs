//! A baseline for each hour of the day or the week: mean and deviation with exponentially falling weights (Finch:
//! "Incremental calculation of weighted mean and variance", 2009), and how many deviations a value is from it.
//!
//! Until a season has `warmup` values it judges nothing. While it has fewer values than the weight asks for, all of them
//! weigh the same, so that the first ones do not stay. Values that are out of control change little: nothing.

use serde::{Deserialize, Serialize};

use super::Spread;

const HOUR: i64 = 3_600_000_000_000;

/// What repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Season {
    /// 24 hours.
    HourOfDay,
    /// 168 hours, from Monday.
    HourOfWeek,
    /// Seven days, from Monday.
    DayOfWeek,
}

impl Season {
    /// Its number at a moment (nanoseconds), `offset` nanoseconds east of UTC.
    #[must_use]
    pub fn of(self, time: i64, offset: i64) -> usize {
        let hours = time.saturating_add(offset).div_euclid(HOUR);
        // 1970-01-01 was a Thursday.
        let number = match self {
            Self::HourOfDay => hours.rem_euclid(24),
            Self::HourOfWeek => (hours + 3 * 24).rem_euclid(168),
            Self::DayOfWeek => (hours + 3 * 24).rem_euclid(168) / 24,
        };
        usize::try_from(number).unwrap_or(0)
    }
}

/// How the baseline is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Baseline {
    /// What repeats.
    pub season: Season,
    /// Nanoseconds east of UTC.
    pub offset: i64,
    /// Weight of the newest value, above 0 and below 1.
    pub alpha: f64,
    /// Values of a season before it judges.
    pub warmup: u64,
    /// The deviation is taken to be at least this.
    pub floor: f64,
}

/// The seasons so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seasonal {
    seasons: Vec<Spread>,
}

impl Seasonal {
    /// Takes a value. Score and what was expected; `None` while its season is warming up.
    pub fn take(&mut self, time: i64, value: f64, baseline: &Baseline, limit: f64) -> Option<(f64, f64)> {
        let number = baseline.season.of(time, baseline.offset);
        if self.seasons.len() <= number {
            self.seasons.resize(number + 1, Spread::default());
        }
        let season = self.seasons.get_mut(number)?;
        let judged = (season.count >= baseline.warmup.max(1)).then(|| {
            (super::ratio(value - season.mean, season.deviation().max(baseline.floor)), season.mean)
        });
        if judged.is_none_or(|(score, _)| score.abs() <= limit) {
            #[expect(clippy::cast_precision_loss, reason = "counts to 2^53")]
            if season.count < 2 || (season.count + 1) as f64 * baseline.alpha < 1.0 {
                season.add(value);
            } else {
                season.follow(value, baseline.alpha);
                season.count += 1;
            }
        }
        judged
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 24 * HOUR;
    /// 2026-11-23T00:00:00Z, a Monday.
    const MONDAY: i64 = 1_795_392_000_000_000_000;

    #[test]
    fn seasons_of_known_moments() {
        assert_eq!(Season::HourOfWeek.of(MONDAY, 0), 0);
        assert_eq!(Season::HourOfWeek.of(MONDAY - 1, 0), 167);
        assert_eq!(Season::HourOfDay.of(MONDAY + 5 * HOUR, -6 * HOUR), 23);
        assert_eq!(Season::DayOfWeek.of(MONDAY - 1, 0), 6);
        assert_eq!(Season::DayOfWeek.of(MONDAY, 0), 0);
    }

    fn baseline() -> Baseline {
        Baseline { season: Season::HourOfDay, offset: 0, alpha: 0.2, warmup: 3, floor: 0.1 }
    }

    #[test]
    fn a_value_that_is_normal_at_noon_is_an_anomaly_at_night() {
        let mut seasonal = Seasonal::default();
        for day in 0..14 {
            for hour in 0..24 {
                let value = if (8..18).contains(&hour) { 100.0 } else { 10.0 } + (day % 3) as f64;
                seasonal.take(MONDAY + day * DAY + hour * HOUR, value, &baseline(), 4.0);
            }
        }
        let mut score =
            |hour, value| seasonal.take(MONDAY + 14 * DAY + hour * HOUR, value, &baseline(), 4.0).unwrap().0;
        assert!(score(12, 101.0).abs() < 3.0);
        assert!(score(3, 101.0) > 4.0);
        assert!(score(12, 11.0) < -4.0);
    }

    /// Mean and variance as Finch defines them before he makes them incremental: sums over all values by their weights.
    fn direct(weights: &[f64], values: &[f64]) -> (f64, f64) {
        let sum: f64 = weights.iter().sum();
        let weighted = |of: &dyn Fn(f64) -> f64| -> f64 {
            weights.iter().zip(values).map(|(weight, value)| weight * of(*value)).sum::<f64>() / sum
        };
        let mean = weighted(&|value| value);
        (mean, weighted(&|value| (value - mean) * (value - mean)))
    }

    proptest! {
        #[test]
        fn mean_and_variance_are_those_of_falling_weights(
            alpha in 0.01..0.9_f64,
            values in prop::collection::vec(-1000.0..1000.0_f64, 1..120),
        ) {
            let baseline = Baseline { alpha, ..baseline() };
            let (mut seasonal, mut weights) = (Seasonal::default(), Vec::<f64>::new());
            for (day, value) in values.iter().enumerate() {
                seasonal.take(MONDAY + day as i64 * DAY, *value, &baseline, f64::INFINITY);
                // All alike at first, and as soon as that is less than `alpha` it is that.
                let count = weights.len() as f64 + 1.0;
                let newest = if count <= 2.0 || count * alpha < 1.0 { 1.0 / count } else { alpha };
                weights.iter_mut().for_each(|weight| *weight *= 1.0 - newest);
                weights.push(newest);
                let (mean, variance) = direct(&weights, &values[..=day]);
                let season = &seasonal.seasons[0];
                prop_assert!((season.mean - mean).abs() < 1e-8, "{} for {mean}", season.mean);
                let found = season.deviation().powi(2);
                prop_assert!((found - variance).abs() < 1e-8 * variance.max(1.0), "{found} for {variance}");
            }
        }
    }

    /// Weights of any kind. The figures are those in the documentation of pandas, `Series([1, 2, 3, 4]).ewm(alpha=0.2)`: weights 0.8 to
    /// the age, the variance made that of a sample by `(sum w)^2 / ((sum w)^2 - sum w^2)`.
    #[test]
    fn spread_of_weighted_values_has_published_figures() {
        let published = [(1.555_556, 0.5), (2.147_541, 0.991_803), (2.775_068, 1.631_547)];
        let mut spread = Spread::default();
        let (mut sum, mut squares) = (0.0, 0.0);
        for (at, value) in [1.0, 2.0, 3.0, 4.0].into_iter().enumerate() {
            (sum, squares) = (0.8 * sum + 1.0, 0.64 * squares + 1.0);
            spread.follow(value, 1.0 / sum);
            let Some((mean, variance)) = at.checked_sub(1).map(|at| published[at]) else { continue };
            let of_sample = spread.deviation().powi(2) * sum * sum / (sum * sum - squares);
            assert!(
                (spread.mean - mean).abs() < 1e-6 && (of_sample - variance).abs() < 1e-6,
                "{at}: {of_sample}"
            );
        }
    }
}
