//! The detectors. Each takes the values of a key one after the other and says how far each is from what it expects, in
//! standard deviations or what stands for them; what is kept of a key is small, and is all that counts.

pub mod ewma;
pub mod forest;
pub mod robust;
pub mod seasonal;

use serde::{Deserialize, Serialize};

use ewma::{Chart, Ewma};
use forest::{Forest, Measures};
use robust::Robust;
use seasonal::{Baseline, Seasonal};

/// Scores are cut here: further than any value that a deviation could be measured for.
const SCORE_MAX: f64 = 1e9;

/// `distance / deviation`, for a deviation of 0 too.
fn ratio(distance: f64, deviation: f64) -> f64 {
    if distance == 0.0 {
        return 0.0;
    }
    (distance / deviation.max(f64::MIN_POSITIVE)).clamp(-SCORE_MAX, SCORE_MAX)
}

/// Mean and variance, of all values alike or with falling weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Values.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    variance: f64,
}

impl Spread {
    /// Takes a value that weighs as much as each before it.
    pub fn add(&mut self, value: f64) {
        #[expect(clippy::cast_precision_loss, reason = "counts to 2^53")]
        let weight = 1.0 / (self.count + 1) as f64;
        self.follow(value, weight);
        self.count += 1;
    }

    /// Takes a value of this weight; all before it keep the rest.
    pub fn follow(&mut self, value: f64, weight: f64) {
        let apart = value - self.mean;
        self.mean += weight * apart;
        self.variance = (1.0 - weight) * (self.variance + weight * apart * apart);
    }

    /// The standard deviation, of the values as all there are.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        self.variance.sqrt()
    }
}

/// A detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// [`ewma`].
    Ewma(Chart),
    /// [`robust`].
    Robust {
        /// Values that are compared with.
        window: usize,
        /// Values before anything is judged.
        warmup: usize,
        /// The MAD is taken to be at least this.
        floor: f64,
    },
    /// [`seasonal`].
    Seasonal(Baseline),
    /// [`forest`].
    Forest(Measures),
}

/// What a detector keeps of a key. The order of the variants is part of the layout in state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Memory {
    /// [`ewma`].
    Ewma(Ewma),
    /// [`robust`].
    Robust(Robust),
    /// [`seasonal`].
    Seasonal(Seasonal),
    /// [`forest`].
    Forest(Forest),
}

/// How far a value is from what was expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// In deviations; below 0 = smaller than expected. Of a forest: larger = rarer.
    pub score: f64,
    /// What was expected, where that is a number.
    pub expected: Option<f64>,
}

impl Method {
    /// As the config names it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ewma(_) => "ewma",
            Self::Robust { .. } => "robust",
            Self::Seasonal(_) => "seasonal",
            Self::Forest(_) => "forest",
        }
    }

    /// Nothing seen yet.
    #[must_use]
    pub fn start(&self) -> Memory {
        match self {
            Self::Ewma(_) => Memory::Ewma(Ewma::default()),
            Self::Robust { .. } => Memory::Robust(Robust::default()),
            Self::Seasonal(_) => Memory::Seasonal(Seasonal::default()),
            Self::Forest(_) => Memory::Forest(Forest::default()),
        }
    }

    /// Whether a memory is of this method.
    #[must_use]
    pub fn fits(&self, memory: &Memory) -> bool {
        std::mem::discriminant(&self.start()) == std::mem::discriminant(memory)
    }

    /// Takes the values of a record of this time (nanoseconds). `None` while there is not enough to compare with.
    pub fn take(&self, memory: &mut Memory, time: i64, values: &[f64], limit: f64) -> Option<Judged> {
        let value = values.first().copied()?;
        let told = |(score, expected)| Judged { score, expected: Some(expected) };
        match (self, memory) {
            (Self::Ewma(chart), Memory::Ewma(ewma)) => ewma.take(value, chart, limit).map(told),
            (Self::Robust { window, warmup, floor }, Memory::Robust(robust)) => {
                robust.take(value, *window, *warmup, *floor).map(told)
            }
            (Self::Seasonal(baseline), Memory::Seasonal(seasonal)) => {
                seasonal.take(time, value, baseline, limit).map(told)
            }
            (Self::Forest(measures), Memory::Forest(forest)) => {
                let score = forest.take(values, measures, limit)?;
                Some(Judged { score, expected: None })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Normally distributed numbers that are the same in every run (Box and Muller 1958 over xorshift).
    pub(crate) struct Normal {
        state: u64,
        spare: Option<f64>,
    }

    impl Normal {
        pub(crate) fn new(seed: u64) -> Self {
            Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, spare: None }
        }

        fn unit(&mut self) -> f64 {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            ((self.state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        }

        pub(crate) fn next(&mut self) -> f64 {
            if let Some(spare) = self.spare.take() {
                return spare;
            }
            let (radius, angle) = ((-2.0 * self.unit().ln()).sqrt(), std::f64::consts::TAU * self.unit());
            self.spare = Some(radius * angle.sin());
            radius * angle.cos()
        }
    }

    #[test]
    fn spread_is_mean_and_variance_of_all() {
        let mut spread = Spread::default();
        [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].iter().for_each(|value| spread.add(*value));
        assert!((spread.mean - 5.0).abs() < 1e-12 && (spread.deviation() - 2.0).abs() < 1e-12);
    }

    #[test]
    fn ratio_without_deviation_is_large_and_finite() {
        assert_eq!(ratio(0.0, 0.0), 0.0);
        assert_eq!(ratio(-3.0, 0.0), -SCORE_MAX);
    }
}
