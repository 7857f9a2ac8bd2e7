//! Numbers as records have them, whole or not, and their sums and moments.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A JSON number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Number {
    /// A whole number of 64 bits, exactly.
    Int(i64),
    /// Any other.
    Float(f64),
}

impl Number {
    /// The nearest float.
    #[must_use]
    pub fn float(self) -> f64 {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "the nearest float is what is asked for")]
            Self::Int(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    /// The order of the numbers themselves, without rounding one to the other's kind.
    #[must_use]
    pub fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => left.cmp(&right),
            (Self::Float(left), Self::Float(right)) => left.total_cmp(&right),
            (Self::Int(left), Self::Float(right)) => whole_and_float(left, right),
            (Self::Float(left), Self::Int(right)) => whole_and_float(right, left).reverse(),
        }
    }

    /// Appends it as JSON.
    pub fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Float(number) => write_float(number, out),
        }
    }
}

/// Appends a float as JSON, in the shortest form that reads back as the same; what JSON cannot say is null.
pub fn write_float(number: f64, out: &mut Vec<u8>) {
    match serde_json::Number::from_f64(number) {
        Some(number) => out.extend_from_slice(number.to_string().as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
}

fn whole_and_float(whole: i64, float: f64) -> Ordering {
    if float >= 9_223_372_036_854_775_808.0 {
        return Ordering::Less;
    }
    if float < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    let floor = float.floor() as i64;
    let fraction = if float > float.floor() { Ordering::Less } else { Ordering::Equal };
    whole.cmp(&floor).then(fraction)
}

/// A sum: whole numbers exactly, others with the compensation of Neumaier (1974), which keeps what rounding cuts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    whole: i128,
    float: f64,
    lost: f64,
    /// Numbers added.
    pub count: u64,
    any_float: bool,
}

impl Sum {
    /// Adds a number.
    pub fn add(&mut self, number: Number) {
        self.count += 1;
        match number {
            Number::Int(number) => self.whole = self.whole.saturating_add(i128::from(number)),
            Number::Float(number) => {
                self.any_float = true;
                self.add_float(number);
            }
        }
    }

    fn add_float(&mut self, number: f64) {
        let sum = self.float + number;
        self.lost += if self.float.abs() >= number.abs() {
            (self.float - sum) + number
        } else {
            (number - sum) + self.float
        };
        self.float = sum;
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.whole = self.whole.saturating_add(other.whole);
        self.any_float |= other.any_float;
        self.add_float(other.float);
        self.lost += other.lost;
    }

    /// The sum as a float.
    #[must_use]
    pub fn float(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a sum of floats is one")]
        let whole = self.whole as f64;
        let mut all = Self { float: self.float, lost: self.lost, ..Self::default() };
        all.add_float(whole);
        all.float + all.lost
    }

    /// Appends the sum as JSON: a whole number where all were.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.any_float {
            write_float(self.float(), out);
        } else {
            out.extend_from_slice(self.whole.to_string().as_bytes());
        }
    }
}

/// Mean and squared deviations, by Welford (1962); merged by Chan, Golub and `LeVeque` (1979).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
}

#[expect(clippy::cast_precision_loss, reason = "counts to 2^53")]
impl Moments {
    /// Adds a number.
    pub fn add(&mut self, number: f64) {
        self.count += 1;
        let before = number - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (number - self.mean);
    }

    /// Adds the numbers of another.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        let share = other.count as f64 / count as f64;
        self.mean += apart * share;
        self.squares += other.squares + apart * apart * self.count as f64 * share;
        self.count = count;
    }

    /// The variance of the numbers as a sample (divided by n - 1) or as all there are (by n); `None` where there are
    /// too few.
    #[must_use]
    pub fn variance(&self, sample: bool) -> Option<f64> {
        let by = self.count.checked_sub(u64::from(sample)).filter(|by| *by > 0)?;
        Some(self.squares / by as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn order_of_whole_and_float_is_exact_beyond_what_floats_hold() {
        let big = (1_i64 << 53) + 1;
        let float = Number::Float(9_007_199_254_740_992.0);
        assert_eq!(Number::Int(big).order(float), Ordering::Greater);
        assert_eq!(float.order(Number::Int(big)), Ordering::Less);
        assert_eq!(Number::Int(i64::MAX).order(Number::Float(9_223_372_036_854_775_808.0)), Ordering::Less);
        assert_eq!(Number::Int(-1).order(Number::Float(-1.5)), Ordering::Greater);
        assert_eq!(Number::Int(2).order(Number::Float(2.0)), Ordering::Equal);
    }

    #[test]
    fn sum_of_whole_numbers_does_not_round_or_wrap() {
        let mut sum = Sum::default();
        [i64::MAX, i64::MAX, 1].into_iter().for_each(|number| sum.add(Number::Int(number)));
        let mut out = Vec::new();
        sum.write(&mut out);
        assert_eq!(out, b"18446744073709551615");
    }

    #[test]
    fn sum_keeps_what_rounding_cuts() {
        let mut sum = Sum::default();
        [1.0, 1e100, 1.0, -1e100].into_iter().for_each(|number| sum.add(Number::Float(number)));
        assert_eq!(sum.float(), 2.0);
    }

    proptest! {
        #[test]
        fn moments_merged_are_those_of_all(
            left in prop::collection::vec(-1e3..1e3_f64, 0..50),
            right in prop::collection::vec(-1e3..1e3_f64, 0..50),
        ) {
            let of = |values: &[f64]| {
                let mut moments = Moments::default();
                values.iter().for_each(|value| moments.add(*value));
                moments
            };
            let mut merged = of(&left);
            merged.merge(&of(&right));
            let all = [left, right].concat();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            let squares: f64 = all.iter().map(|value| (value - mean).powi(2)).sum();
            for sample in [true, false] {
                let by = all.len() as f64 - f64::from(u8::from(sample));
                match merged.variance(sample) {
                    Some(found) => prop_assert!((found - squares / by).abs() <= 1e-9 * (1.0 + squares / by)),
                    None => prop_assert!(by < 1.0),
                }
            }
        }
    }
}
