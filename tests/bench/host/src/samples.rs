//! Samples, medians, percentiles, spreads: how figures are made and shown.

use serde_json::{Map, Value, json};

/// One number per run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// Run by run, so that what slows both down at the same time cancels out.
    pub(crate) fn over(&self, other: &Samples) -> Samples {
        Samples(self.0.iter().zip(&other.0).map(|(above, below)| above / below).collect())
    }

    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Samples {
        Samples(self.0.iter().map(|&sample| f(sample)).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            len if len % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// The smallest sample that at least `percent` of all are not above.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let sorted = self.sorted();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// Everything that was found, in the order in which it was.
#[derive(Debug, Default)]
pub(crate) struct Report(Map<String, Value>);

impl Report {
    /// The median, and beside it its spread and the number of runs.
    pub(crate) fn figure(&mut self, name: &str, samples: &Samples) {
        self.found(name, samples.median(), samples);
    }

    /// The largest, for what must never be passed.
    pub(crate) fn largest(&mut self, name: &str, samples: &Samples) {
        self.found(name, samples.most(), samples);
    }

    fn found(&mut self, name: &str, value: f64, samples: &Samples) {
        self.0.insert(name.to_owned(), json!(rounded(value)));
        let spread = [samples.least(), samples.most()].map(rounded);
        self.0.insert(format!("{name}_spread"), json!(spread));
        self.0.insert(format!("{name}_runs"), json!(samples.0.len()));
        #[expect(clippy::print_stderr, reason = "a command-line program talks to its user")]
        {
            eprintln!(
                "bench: {name} = {} ({}..{}, {} runs)",
                rounded(value),
                spread[0],
                spread[1],
                samples.0.len()
            );
        }
    }

    /// Something beside the figures that explains them.
    pub(crate) fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

/// Four significant digits: no measurement here has more.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_the_sample_at_its_rank() {
        let samples = Samples((1..=200).rev().map(f64::from).collect());
        assert_eq!(
            (samples.percentile(99), samples.percentile(50), samples.percentile(100)),
            (198.0, 100.0, 200.0)
        );
        assert_eq!(Samples(vec![7.0]).percentile(99), 7.0);
    }

    #[test]
    fn median_of_ratios_is_taken_run_by_run() {
        let (above, below) = (Samples(vec![4.0, 1.0, 9.0]), Samples(vec![2.0, 1.0, 3.0]));
        assert_eq!(above.over(&below).median(), 2.0);
    }

    #[test]
    fn rounded_keeps_four_digits_of_small_and_large_numbers() {
        assert_eq!(
            [rounded(123_456.0), rounded(0.001_234_56), rounded(9.999_96)],
            [123_500.0, 0.001_235, 10.0]
        );
    }
}
