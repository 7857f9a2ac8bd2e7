//! Quantiles with a bounded relative error: `DDSketch` (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile
//! sketch with relative-error guarantees", PVLDB 12(12), 2019).
//!
//! A value `x` is counted in bucket `ceil(log_gamma(|x|))`, gamma = (1 + a) / (1 - a): every value of a bucket is within
//! the relative error `a` of its middle. Counts of buckets add up, so that the order of values and merges changes
//! nothing. Past [`BUCKETS_MAX`] the buckets nearest to zero are joined, and only quantiles among them lose the bound.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most buckets of a sketch: with 1 % of error, values that span 17 powers of ten.
pub const BUCKETS_MAX: usize = 2048;
/// Values nearer to zero are zero.
const TINY: f64 = 1e-300;

/// A sketch of numbers. The relative error is the caller's and must be the same at every call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DdSketch {
    positive: BTreeMap<i32, u64>,
    negative: BTreeMap<i32, u64>,
    zeros: u64,
    /// The smallest and the largest value, which are kept exactly.
    range: Option<(f64, f64)>,
}

fn log_gamma(error: f64) -> f64 {
    libm::log1p(error) - libm::log1p(-error)
}

impl DdSketch {
    /// Counts a value; `error` is above 0 and below 1.
    pub fn add(&mut self, value: f64, error: f64) {
        let (low, high) = self.range.unwrap_or((value, value));
        self.range = Some((low.min(value), high.max(value)));
        let magnitude = value.abs();
        if magnitude < TINY {
            self.zeros += 1;
            return;
        }
        // libm in place of the platform's: the same bucket in a component and outside.
        let bucket = (libm::log(magnitude) / log_gamma(error)).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a cast of a float saturates; 1e308 at 1e-6 fits"
        )]
        let bucket = bucket as i32;
        let side = if value > 0.0 { &mut self.positive } else { &mut self.negative };
        *side.entry(bucket).or_default() += 1;
        join(side);
    }

    /// Adds what another sketch counted.
    pub fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        for (mine, theirs) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            for (bucket, count) in theirs {
                *mine.entry(*bucket).or_default() += count;
            }
            join(mine);
        }
        self.range = match (self.range, other.range) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (mine, theirs) => mine.or(theirs),
        };
    }

    /// Values counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.zeros + self.positive.values().sum::<u64>() + self.negative.values().sum::<u64>()
    }

    /// The value of rank `floor(q (n - 1))`, 0 <= q <= 1, to the relative error; `None` where nothing was counted.
    #[must_use]
    pub fn quantile(&self, q: f64, error: f64) -> Option<f64> {
        let (low, high) = self.range?;
        #[expect(clippy::cast_precision_loss, reason = "a rank to 2^53")]
        let rank = (q * (self.count() - 1) as f64).floor();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, at most the count"
        )]
        let mut left = rank as u64;
        if left == 0 {
            return Some(low);
        }
        if left + 1 == self.count() {
            return Some(high);
        }
        let log = log_gamma(error);
        // The middle of (gamma^(i - 1), gamma^i]: 2 gamma^i / (gamma + 1).
        let middle = |bucket: i32| libm::exp(f64::from(bucket) * log) * 2.0 / (libm::exp(log) + 1.0);
        let negative = self.negative.iter().rev().map(|(bucket, count)| (-middle(*bucket), *count));
        let positive = self.positive.iter().map(|(bucket, count)| (middle(*bucket), *count));
        for (value, count) in negative.chain([(0.0, self.zeros)]).chain(positive) {
            if left < count {
                return Some(value.clamp(low, high));
            }
            left -= count;
        }
        Some(high)
    }
}

/// Joins the two buckets nearest to zero while there are too many.
fn join(side: &mut BTreeMap<i32, u64>) {
    while side.len() > BUCKETS_MAX {
        let Some((_, count)) = side.pop_first() else { return };
        if let Some(mut next) = side.first_entry() {
            *next.get_mut() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(values: &[f64], error: f64) -> DdSketch {
        let mut sketch = DdSketch::default();
        values.iter().for_each(|value| sketch.add(*value, error));
        sketch
    }

    proptest! {
        #[test]
        fn quantiles_keep_the_papers_relative_error(
            values in prop::collection::vec(prop_oneof![-1e9..1e9_f64, 1e-9..1e-3_f64, Just(0.0)], 1..400),
            q in 0.0..=1.0_f64,
            error in prop_oneof![Just(0.001), Just(0.01), Just(0.1)],
        ) {
            let found = sketch(&values, error).quantile(q, error).unwrap();
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let exact = sorted[(q * (values.len() - 1) as f64).floor() as usize];
            prop_assert!((found - exact).abs() <= error * exact.abs() * (1.0 + 1e-9), "{found} for {exact}");
        }

        #[test]
        fn merged_sketches_are_the_sketch_of_all(
            left in prop::collection::vec(-1e6..1e6_f64, 0..100),
            right in prop::collection::vec(-1e6..1e6_f64, 0..100),
        ) {
            let mut merged = sketch(&left, 0.01);
            merged.merge(&sketch(&right, 0.01));
            prop_assert_eq!(merged, sketch(&[left, right].concat(), 0.01));
        }
    }

    #[test]
    fn buckets_stay_bounded_and_the_upper_quantiles_true() {
        let error = 0.001;
        let values: Vec<f64> = (0..60_000).map(|step| libm::exp(f64::from(step) / 1000.0)).collect();
        let sketch = sketch(&values, error);
        assert_eq!(sketch.positive.len(), BUCKETS_MAX);
        let found = sketch.quantile(0.99, error).unwrap();
        let exact = values[59_399];
        assert!((found - exact).abs() <= error * exact * 1.000_001, "{found} for {exact}");
        assert_eq!(sketch.quantile(0.0, error), Some(1.0));
    }

    #[test]
    fn a_sketch_of_a_thousand_values_is_small() {
        let values: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert!(postcard::to_allocvec(&sketch(&values, 0.01)).unwrap().len() < 1400);
    }
}
