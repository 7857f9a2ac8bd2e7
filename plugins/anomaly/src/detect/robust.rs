//! The modified z-score of Iglewicz and Hoaglin ("How to detect and handle outliers", 1993) over the last values:
//! `0.6745 (x - median) / MAD`, MAD being the median of the distances from the median.
//!
//! Up to half of the values may be outliers without moving it far. The value that is judged is not among those that it
//! is compared with. Where more than half of the values are the same, MAD is 0 and the mean distance takes its place
//! (`(x - median) / (1.2533 mean distance)`).

use serde::{Deserialize, Serialize};

/// Most values that are kept.
pub const WINDOW_MAX: usize = 10_000;

/// The last values, oldest first, as they are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Robust {
    values: Vec<f64>,
    /// Place of the oldest.
    oldest: u32,
    /// The same values by size; made again from `values` when they are read.
    #[serde(skip)]
    sorted: Vec<f64>,
}

impl Robust {
    /// Takes a value into a window of `window` values. Score and median; `None` for fewer than `warmup` values before it.
    /// `floor`: the MAD is taken to be at least this.
    pub fn take(&mut self, value: f64, window: usize, warmup: usize, floor: f64) -> Option<(f64, f64)> {
        if self.sorted.len() != self.values.len() {
            self.sorted.clone_from(&self.values);
            self.sorted.sort_by(f64::total_cmp);
        }
        let judged = (self.values.len() >= warmup.max(1)).then(|| self.score(value, floor));
        self.push(value, window);
        judged
    }

    fn score(&self, value: f64, floor: f64) -> (f64, f64) {
        let middle = median(&self.sorted);
        let spread = distance(&self.sorted, middle).max(floor);
        if spread > 0.0 {
            return (super::ratio(0.6745 * (value - middle), spread), middle);
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 10,000 values")]
        let mean =
            self.sorted.iter().map(|other| (other - middle).abs()).sum::<f64>() / self.sorted.len() as f64;
        (super::ratio(value - middle, 1.2533 * mean), middle)
    }

    fn push(&mut self, value: f64, window: usize) {
        if self.values.len() > window {
            // The config has a shorter window than before: the newest values stay.
            let (oldest, length) = (self.oldest as usize, self.values.len());
            self.values.rotate_left(oldest % length);
            self.values.drain(..length - window);
            self.oldest = 0;
            self.sorted.clone_from(&self.values);
            self.sorted.sort_by(f64::total_cmp);
        }
        if self.values.len() < window {
            // Behind the newest, which is before the oldest where the window is longer than it was.
            let oldest = (self.oldest as usize).min(self.values.len());
            self.values.rotate_left(oldest);
            self.oldest = 0;
            self.values.push(value);
        } else if let Some(place) = self.values.get_mut(self.oldest as usize) {
            let gone = std::mem::replace(place, value);
            self.oldest = if self.oldest as usize + 1 == window { 0 } else { self.oldest + 1 };
            let at = self.sorted.partition_point(|other| other.total_cmp(&gone).is_lt());
            self.sorted.remove(at);
        }
        let at = self.sorted.partition_point(|other| other.total_cmp(&value).is_lt());
        self.sorted.insert(at, value);
    }
}

/// The median of sorted values: of an even number the mean of the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match (sorted.get(half.wrapping_sub(1)), sorted.get(half)) {
        (Some(left), Some(right)) if sorted.len().is_multiple_of(2) => f64::midpoint(*left, *right),
        (_, Some(middle)) => *middle,
        _ => 0.0,
    }
}

/// The median distance of sorted values from their median. The nearest half stands together around the median: it is
/// found from there, one value at a time.
fn distance(sorted: &[f64], middle: f64) -> f64 {
    let count = sorted.len();
    let mut right = sorted.partition_point(|value| *value < middle);
    let mut left = right;
    let (mut before, mut last) = (0.0, 0.0);
    for _ in 0..=count / 2 {
        let below =
            left.checked_sub(1).and_then(|at| sorted.get(at)).map_or(f64::INFINITY, |value| middle - value);
        let above = sorted.get(right).map_or(f64::INFINITY, |value| value - middle);
        before = last;
        if below < above {
            last = below;
            left -= 1;
        } else {
            last = above;
            right += 1;
        }
    }
    if count.is_multiple_of(2) { f64::midpoint(before, last) } else { last }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(values: &[f64]) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        median(&sorted)
    }

    proptest! {
        #[test]
        fn score_is_that_of_the_definition(
            values in prop::collection::vec(prop_oneof![-50..50_i32, Just(3)], 2..60),
            window in 1..20_usize,
        ) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let mut robust = Robust::default();
            for (at, value) in values.iter().enumerate() {
                // What is kept in state is all that counts.
                robust = postcard::from_bytes(&postcard::to_allocvec(&robust).unwrap()).unwrap();
                let found = robust.take(*value, window, 1, 0.0);
                let past = &values[at.saturating_sub(window)..at];
                if past.is_empty() {
                    prop_assert!(found.is_none());
                    continue;
                }
                let (score, middle) = found.unwrap();
                prop_assert_eq!(middle, naive(past));
                let distances: Vec<f64> = past.iter().map(|other| (other - middle).abs()).collect();
                let mad = naive(&distances);
                if mad > 0.0 {
                    prop_assert!((score - 0.6745 * (value - middle) / mad).abs() < 1e-9);
                }
            }
        }

        #[test]
        fn windows_of_another_length_keep_the_newest_values(
            count in 1..40_u32,
            before in 1..20_usize,
            after in 1..20_usize,
        ) {
            let mut robust = Robust::default();
            for value in 0..count {
                let _ = robust.take(f64::from(value), before, 1, 0.0);
            }
            for value in count..count + 3 {
                let _ = robust.take(f64::from(value), after, 1, 0.0);
            }
            let kept = after.min(before.min(count as usize) + 3);
            let newest: Vec<f64> = (0..count + 3).rev().take(kept).map(f64::from).rev().collect();
            prop_assert_eq!(&robust.sorted, &newest);
        }
    }

    /// The worked example of Seo ("A review and comparison of methods for detecting outliers in univariate data sets", University
    /// of Pittsburgh, 2006): two values that hide each other from the ordinary z-score, which is past 3 for none, and that the
    /// modified one finds. Median 4, MAD 0.3; the scores are `0.6745 (x - 4) / 0.3`, to two digits.
    #[test]
    fn outliers_of_a_published_example_are_found_with_their_scores() {
        let values = [3.2, 3.4, 3.7, 3.7, 3.8, 3.9, 4.0, 4.0, 4.1, 4.2, 4.7, 4.8, 14.0, 15.0];
        let scores =
            [-1.80, -1.35, -0.67, -0.67, -0.45, -0.22, 0.0, 0.0, 0.22, 0.45, 1.57, 1.80, 22.48, 24.73];
        let mut robust = Robust::default();
        for value in values {
            let _ = robust.take(value, values.len(), 1, 0.0);
        }
        for (value, expected) in values.into_iter().zip(scores) {
            let (score, middle) = robust.clone().take(value, values.len(), 1, 0.0).unwrap();
            assert!((middle - 4.0).abs() < 1e-12 && (score - expected).abs() < 0.005, "{value}: {score}");
        }
        let past = values.into_iter().filter(|value| {
            let (score, _) = robust.clone().take(*value, values.len(), 1, 0.0).unwrap();
            score.abs() > 3.5
        });
        assert_eq!(past.collect::<Vec<_>>(), [14.0, 15.0]);
        let mean = values.iter().sum::<f64>() / 14.0;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 13.0;
        assert!(values.iter().all(|value| (value - mean).abs() / variance.sqrt() < 3.0));
    }

    /// Half of the values less one may be anything: the score of a far value stays far, that of a normal one near.
    #[test]
    fn breakdown_point_is_a_half() {
        let mut robust = Robust::default();
        for value in 0..99 {
            let value = if value < 49 { 1e12 } else { f64::from(value % 5) };
            robust.take(value, 99, 1, 0.0);
        }
        let score = |value| robust.clone().take(value, 99, 1, 0.0).unwrap().0;
        assert!(score(2.0).abs() < 3.5);
        assert!(score(-40.0) < -3.5);
        assert!(score(1e12) > 3.5);
    }

    #[test]
    fn values_nearly_all_the_same_are_measured_by_the_mean_distance() {
        let mut robust = Robust::default();
        for value in [5.0, 5.0, 5.0, 5.0, 6.0] {
            let _ = robust.take(value, 5, 1, 0.0);
        }
        let (score, _) = robust.clone().take(7.0, 5, 1, 0.0).unwrap();
        assert!((score - 2.0 / (1.2533 * 0.2)).abs() < 1e-9);
        let floored = robust.take(7.0, 5, 1, 2.0).unwrap().0;
        assert!((floored - 0.6745).abs() < 1e-9);
    }
}
