//! Streaming half-space trees (Tan, Ting, Liu: "Fast anomaly detection for streaming data", IJCAI 2011): how much of the
//! last window of records lies where a new one does, over several fields at once.
//!
//! Trees are made before any data: each node halves its range of a field taken at random; the range of each field
//! in a tree is `s +- 2 max(s, 1 - s)` for an `s` at random, so that it holds 0 to 1. A record falls down each tree to
//! the first node with at most a tenth of the window or at full depth; its mass there, times two to the depth, summed
//! over the trees, is small for anomalies (the paper's score). Windows take turns: one is the reference while
//! the next is gathered.
//!
//! The paper keeps the counts of all nodes; here the two windows are kept and the counts made again from the reference,
//! which is the same and takes a hundredth of the room. Fields are brought to 0 to 1 by the smallest and largest values
//! of the reference. The score that is judged is `-log2` of the paper's, in deviations from its running mean.

use serde::{Deserialize, Serialize};

use super::Spread;

/// The forest's measures, as in the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// Trees.
    pub trees: u32,
    /// Depth of a tree; at most [`DEPTH_MAX`].
    pub depth: u32,
    /// Records of a window.
    pub window: usize,
    /// Fields of a record.
    pub fields: usize,
}

/// Deepest tree.
pub const DEPTH_MAX: u32 = 20;

/// A node: where it divides, what of the reference fell into it, and its halves.
#[derive(Clone, Copy, Debug)]
struct Node {
    field: usize,
    middle: f64,
    mass: f64,
    halves: Option<(usize, usize)>,
}

/// The forest of a reference window.
#[derive(Clone, Debug)]
struct Grown {
    nodes: Vec<Node>,
    roots: Vec<usize>,
    /// Smallest value and span of each field.
    scale: Vec<(f64, f64)>,
}

/// What is kept: two windows and how scores have been.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Forest {
    reference: Vec<f32>,
    gathered: Vec<f32>,
    usual: Spread,
    #[serde(skip)]
    grown: Option<Grown>,
}

/// Weight of the newest score in the running mean: about that of a window in the paper's default.
const FOLLOW: f64 = 0.004;

impl Forest {
    /// Takes a record. How unusual it is, in deviations; `None` until two windows have been seen.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "seven digits are enough to say on which side a value lies"
    )]
    pub fn take(&mut self, record: &[f64], measures: &Measures, limit: f64) -> Option<f64> {
        let judged = self.mass(record, measures).and_then(|mass| self.judge(mass, measures, limit));
        self.gathered.extend(record.iter().map(|value| *value as f32));
        if self.gathered.len() >= measures.window * measures.fields {
            self.reference = std::mem::take(&mut self.gathered);
            self.grown = None;
        }
        judged
    }

    fn judge(&mut self, mass: f64, measures: &Measures, limit: f64) -> Option<f64> {
        let rarity = -libm::log2(mass.max(0.5));
        let judged = (self.usual.count >= measures.window as u64)
            .then(|| super::ratio(rarity - self.usual.mean, self.usual.deviation().max(0.05)));
        if self.usual.count < measures.window as u64 {
            self.usual.add(rarity);
        } else if judged.is_none_or(|score| score <= limit) {
            self.usual.follow(rarity, FOLLOW);
        }
        judged
    }

    /// The paper's score: the mass around a record, large where many are. `None` before the first window.
    pub fn mass(&mut self, record: &[f64], measures: &Measures) -> Option<f64> {
        if self.reference.is_empty() {
            return None;
        }
        let grown = self.grown.get_or_insert_with(|| Grown::grow(&self.reference, measures));
        Some(grown.mass(record, measures))
    }
}

impl Grown {
    fn grow(reference: &[f32], measures: &Measures) -> Self {
        let fields = measures.fields.max(1);
        let mut scale = vec![(f64::INFINITY, f64::NEG_INFINITY); fields];
        for point in reference.chunks_exact(fields) {
            for ((low, high), value) in scale.iter_mut().zip(point) {
                *low = low.min(f64::from(*value));
                *high = high.max(f64::from(*value));
            }
        }
        for (low, high) in &mut scale {
            *high = if *high > *low { *high - *low } else { 1.0 };
        }
        let mut grown = Self { nodes: Vec::new(), roots: Vec::new(), scale };
        let points: Vec<Vec<f64>> = reference
            .chunks_exact(fields)
            .map(|point| grown.scaled(point.iter().map(|value| f64::from(*value))))
            .collect();
        for tree in 0..measures.trees {
            let mut draw = Draw::new(u64::from(tree));
            let ranges: Vec<(f64, f64)> = (0..fields).map(|_| range(draw.unit())).collect();
            let root = grown.node(points.iter().collect(), ranges, 1, 0, u64::from(tree), measures);
            grown.roots.push(root);
        }
        grown
    }

    /// Makes a node and those below it, as far down as a record can fall. `path`: 1, then a bit for each half taken.
    fn node(
        &mut self,
        points: Vec<&Vec<f64>>,
        ranges: Vec<(f64, f64)>,
        path: u64,
        depth: u32,
        tree: u64,
        measures: &Measures,
    ) -> usize {
        let field = Draw::new(tree << 32 | path).below(measures.fields);
        let (low, high) = ranges.get(field).copied().unwrap_or((0.0, 1.0));
        let middle = f64::midpoint(low, high);
        #[expect(clippy::cast_precision_loss, reason = "points of a window")]
        let (mass, bound) = (points.len() as f64, measures.window as f64 * 0.1);
        let at = self.nodes.len();
        self.nodes.push(Node { field, middle, mass, halves: None });
        if depth < measures.depth.min(DEPTH_MAX) && mass > bound {
            let (left, right): (Vec<_>, Vec<_>) =
                points.into_iter().partition(|point| point.get(field).is_some_and(|value| *value < middle));
            let mut half = ranges.clone();
            half.get_mut(field).into_iter().for_each(|range| range.1 = middle);
            let below = self.node(left, half, path << 1, depth + 1, tree, measures);
            let mut half = ranges;
            half.get_mut(field).into_iter().for_each(|range| range.0 = middle);
            let above = self.node(right, half, path << 1 | 1, depth + 1, tree, measures);
            if let Some(node) = self.nodes.get_mut(at) {
                node.halves = Some((below, above));
            }
        }
        at
    }

    fn scaled(&self, point: impl Iterator<Item = f64>) -> Vec<f64> {
        self.scale.iter().zip(point).map(|((low, span), value)| (value - low) / span).collect()
    }

    fn mass(&self, record: &[f64], measures: &Measures) -> f64 {
        #[expect(clippy::cast_possible_truncation, reason = "as the reference is kept")]
        let point = self.scaled(record.iter().map(|value| f64::from(*value as f32)));
        let mut sum = 0.0;
        for root in &self.roots {
            let (mut at, mut weight) = (*root, 1.0);
            for _ in 0..=measures.depth {
                let Some(node) = self.nodes.get(at) else { break };
                let Some((below, above)) = node.halves else {
                    sum += node.mass * weight;
                    break;
                };
                at = if point.get(node.field).is_some_and(|value| *value < node.middle) {
                    below
                } else {
                    above
                };
                weight *= 2.0;
            }
        }
        sum
    }
}

/// The range of a field in a tree, for a number from 0 to 1.
fn range(s: f64) -> (f64, f64) {
    let reach = 2.0 * s.max(1.0 - s);
    (s - reach, s + reach)
}

/// Numbers that look random and are the same everywhere (`SplitMix64`).
struct Draw(u64);

impl Draw {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd129_0d3b_3d1c_6a1d) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % (count.max(1) as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
#[path = "forest_tests.rs"]
mod tests;
