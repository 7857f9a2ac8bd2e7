//! How many different values: `HyperLogLog` (Flajolet, Fusy, Gandouet, Meunier 2007) with 4096 registers, and the
//! estimator of Ertl ("New cardinality estimation algorithms for HyperLogLog sketches", 2017, algorithm 6), which needs
//! no tables of bias. Standard error 1.04 / sqrt(4096) = 1.6 %.
//!
//! Up to [`EXACT_MAX`] values their hashes (`XXH3`, 64 bits) are kept and the count is exact; then registers of a byte
//! are. Order and merges change nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Bits of a hash that choose the register.
const P: u32 = 12;
/// Registers.
const M: usize = 1 << P;
/// Bits of a hash that are left for the rank.
const Q: usize = 64 - P as usize;
/// Most hashes that are kept as they are.
pub const EXACT_MAX: usize = 256;

/// A sketch of a set of values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HyperLogLog {
    /// The hashes themselves.
    Exact(BTreeSet<u64>),
    /// The largest rank of each register.
    Registers(Vec<u8>),
}

impl Default for HyperLogLog {
    fn default() -> Self {
        Self::Exact(BTreeSet::new())
    }
}

impl HyperLogLog {
    /// Adds a value.
    pub fn add(&mut self, value: &[u8]) {
        self.add_hash(xxhash_rust::xxh3::xxh3_64(value));
    }

    fn add_hash(&mut self, hash: u64) {
        match self {
            Self::Exact(hashes) => {
                hashes.insert(hash);
                if hashes.len() > EXACT_MAX {
                    let hashes = std::mem::take(hashes);
                    *self = Self::Registers(vec![0; M]);
                    hashes.into_iter().for_each(|hash| self.add_hash(hash));
                }
            }
            Self::Registers(registers) => {
                let register = (hash >> (64 - P)) as usize;
                // The guard bit makes the rank of a hash that ends in zeros Q + 1.
                #[expect(clippy::cast_possible_truncation, reason = "at most 53")]
                let rank = (((hash << P) | (1 << (P - 1))).leading_zeros() + 1) as u8;
                if let Some(known) = registers.get_mut(register) {
                    *known = rank.max(*known);
                }
            }
        }
    }

    /// Adds the values of another.
    pub fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (_, Self::Exact(hashes)) => hashes.into_iter().for_each(|hash| self.add_hash(hash)),
            (Self::Exact(hashes), Self::Registers(registers)) => {
                let hashes = std::mem::take(hashes);
                *self = Self::Registers(registers);
                hashes.into_iter().for_each(|hash| self.add_hash(hash));
            }
            (Self::Registers(mine), Self::Registers(theirs)) => {
                mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine = theirs.max(*mine));
            }
        }
    }

    /// How many different values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        let registers = match self {
            Self::Exact(hashes) => return hashes.len() as u64,
            Self::Registers(registers) => registers,
        };
        let mut histogram = [0_u32; Q + 2];
        for rank in registers {
            if let Some(count) = histogram.get_mut(usize::from(*rank)) {
                *count += 1;
            }
        }
        estimate(&histogram)
    }
}

/// Ertl's improved raw estimator from how many registers have each rank.
fn estimate(histogram: &[u32; Q + 2]) -> u64 {
    let m = f64::from(1_u32 << P);
    let mut z = m * tau(1.0 - f64::from(histogram[Q + 1]) / m);
    for count in histogram.iter().take(Q + 1).skip(1).rev() {
        z = 0.5 * (z + f64::from(*count));
    }
    z += m * sigma(f64::from(histogram[0]) / m);
    let alpha = 0.5 / std::f64::consts::LN_2;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative; a cast saturates"
    )]
    let estimate = (alpha * m * m / z).round() as u64;
    estimate
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: std::ops::Range<u64>) -> HyperLogLog {
        let mut sketch = HyperLogLog::default();
        range.for_each(|number| sketch.add(&number.to_le_bytes()));
        sketch
    }

    #[test]
    fn count_few_values_is_exact() {
        let mut sketch = of(0..EXACT_MAX as u64);
        sketch.merge(of(0..200));
        assert_eq!(sketch.count(), EXACT_MAX as u64);
    }

    /// The standard error is 1.6 %: over many sets, the root mean square of the errors must be about that.
    #[test]
    fn count_has_the_papers_standard_error() {
        for size in [1_000_u64, 10_000, 50_000] {
            let sets = 40;
            let errors = (0..sets).map(|set| {
                let base = set * 1_000_000_007;
                of(base..base + size).count() as f64 / size as f64 - 1.0
            });
            let squares: f64 = errors.map(|error| error * error).sum();
            let deviation = (squares / f64::from(u32::try_from(sets).unwrap())).sqrt();
            assert!(deviation < 0.0163 * 1.35, "{size} values: {deviation}");
        }
    }

    #[test]
    fn merged_sketches_are_the_sketch_of_all() {
        for (left, right) in
            [(0..100, 50..150), (0..5000, 100..200), (100..200, 0..5000), (0..5000, 4000..9000)]
        {
            let mut merged = of(left.clone());
            merged.merge(of(right.clone()));
            assert_eq!(merged, of(left.start.min(right.start)..left.end.max(right.end)));
        }
    }

    #[test]
    fn estimate_of_registers_all_alike_is_finite() {
        let mut full = [0; Q + 2];
        full[Q + 1] = 1 << P;
        assert!(estimate(&full) > 1 << 60);
        let mut empty = [0; Q + 2];
        empty[0] = 1 << P;
        assert_eq!(estimate(&empty), 0);
    }
}
