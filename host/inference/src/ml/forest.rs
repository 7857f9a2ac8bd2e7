//! Trees in the form in which batches go through them.
//!
//! All nodes of all trees lie in one list; both children of a node lie beside each other, behind it. A step of a row is then one
//! comparison without a branch: `left + (not left)`. A leaf is a node that leads to itself. A tree at a time is walked by many
//! rows, some of them at once, so that the processor waits for none of them and the tree stays in its nearest cache.

use crate::error::{Stop, wrong};
use crate::graph::Work;

/// Rows that walk at once.
const LANES: usize = 16;

/// Bits of [`Node::column`].
const NAN_LEFT: u32 = 1 << 31;
const EQUAL: u32 = 1 << 30;
const COLUMN: u32 = EQUAL - 1;

/// Columns that a tree may ask for.
pub(super) const COLUMNS_MAX: usize = COLUMN as usize;

#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    threshold: f32,
    /// Which column is compared; the top bits say how.
    column: u32,
    left: u32,
}

impl Node {
    /// Goes left where the column is at most (with `equal`: exactly) the threshold, and where it is no number if so said.
    pub(super) fn branch(column: u32, threshold: f32, equal: bool, nan_left: bool, left: u32) -> Node {
        let column = column | if equal { EQUAL } else { 0 } | if nan_left { NAN_LEFT } else { 0 };
        Node { threshold, column, left }
    }

    /// Goes nowhere.
    pub(super) fn leaf(place: u32) -> Node {
        Node { threshold: f32::INFINITY, column: NAN_LEFT, left: place }
    }

    fn is_leaf(self, place: usize) -> bool {
        self.left as usize == place
    }
}

/// A tree in the list of nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    pub(super) root: u32,
    /// Steps to the leaf that is nearest and to the one that is farthest.
    pub(super) nearest: u32,
    pub(super) deepest: u32,
}

/// What leaves say.
#[derive(Debug)]
pub(super) enum Leaves {
    /// A weight of the one target, by node.
    One(Vec<f32>),
    /// Targets and weights, of the node of this number from here to where the next one's begin.
    Many { starts: Vec<u32>, weights: Vec<(u32, f32)> },
}

#[derive(Debug)]
pub(super) struct Forest {
    pub(super) nodes: Vec<Node>,
    pub(super) trees: Vec<Tree>,
    pub(super) leaves: Leaves,
    /// Some node compares for equality.
    pub(super) has_equal: bool,
    /// Columns that a row must have at least.
    pub(super) columns: usize,
}

/// How weights of a target are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

impl Aggregate {
    fn begin(self) -> f32 {
        match self {
            Aggregate::Sum | Aggregate::Average => 0.0,
            Aggregate::Min => f32::INFINITY,
            Aggregate::Max => f32::NEG_INFINITY,
        }
    }

    fn add(self, sum: &mut f32, weight: f32) {
        match self {
            Aggregate::Sum | Aggregate::Average => *sum += weight,
            Aggregate::Min => *sum = sum.min(weight),
            Aggregate::Max => *sum = sum.max(weight),
        }
    }
}

impl Forest {
    /// Rows of what all trees say of their targets.
    pub(super) fn run(
        &self,
        rows: &[f32],
        columns: usize,
        targets: usize,
        aggregate: Aggregate,
        work: &mut Work<'_>,
    ) -> Result<Vec<f32>, Stop> {
        if columns < self.columns {
            return wrong(format!(
                "its trees look at column {}; the rows have {columns} columns",
                self.columns - 1
            ));
        }
        let count = rows.len() / columns.max(1);
        work.take(count.saturating_mul(targets), 4)?;
        let mut sums = vec![aggregate.begin(); count * targets];
        for tree in &self.trees {
            work.worked(count as u64 * u64::from(tree.deepest + 1))?;
            let lots = rows.chunks(columns * LANES).zip(sums.chunks_mut(targets * LANES));
            for (rows, sums) in lots {
                let leaves = if self.has_equal {
                    self.walk::<true>(*tree, rows, columns)
                } else {
                    self.walk::<false>(*tree, rows, columns)
                };
                self.say(&leaves, sums, targets, aggregate);
            }
        }
        if aggregate == Aggregate::Average {
            let trees = self.trees.len() as f32;
            sums.iter_mut().for_each(|sum| *sum /= trees);
        }
        Ok(sums)
    }

    /// In which leaves some rows end. Where there are fewer than lanes, the others do as the first one.
    fn walk<const EQUALS: bool>(&self, tree: Tree, rows: &[f32], columns: usize) -> [u32; LANES] {
        let mut lanes: [&[f32]; LANES] = [rows.get(..columns).unwrap_or_default(); LANES];
        for (lane, row) in lanes.iter_mut().zip(rows.chunks_exact(columns)) {
            *lane = row;
        }
        let mut places = [tree.root; LANES];
        for _ in 0..tree.nearest {
            self.step::<EQUALS>(&lanes, &mut places);
        }
        for _ in tree.nearest..tree.deepest {
            if !self.step::<EQUALS>(&lanes, &mut places) {
                break;
            }
        }
        places
    }

    /// Whether some row went on.
    fn step<const EQUALS: bool>(&self, lanes: &[&[f32]; LANES], places: &mut [u32; LANES]) -> bool {
        let mut moved = 0;
        for (place, row) in places.iter_mut().zip(lanes) {
            let Some(node) = self.nodes.get(*place as usize) else { continue };
            let x = row.get((node.column & COLUMN) as usize).copied().unwrap_or(f32::NAN);
            let below =
                if EQUALS && node.column & EQUAL != 0 { x == node.threshold } else { x <= node.threshold };
            let left = below | (x.is_nan() & (node.column & NAN_LEFT != 0));
            let next = node.left + u32::from(!left);
            moved |= next ^ *place;
            *place = next;
        }
        moved != 0
    }

    fn say(&self, places: &[u32; LANES], sums: &mut [f32], targets: usize, aggregate: Aggregate) {
        for (place, sums) in places.iter().zip(sums.chunks_exact_mut(targets)) {
            let place = *place as usize;
            match &self.leaves {
                Leaves::One(weights) => {
                    if let (Some(sum), Some(weight)) = (sums.first_mut(), weights.get(place)) {
                        aggregate.add(sum, *weight);
                    }
                }
                Leaves::Many { starts, weights } => {
                    let start = starts.get(place).copied().unwrap_or(0) as usize;
                    let end = starts.get(place + 1).copied().unwrap_or(0) as usize;
                    for (target, weight) in weights.get(start..end).unwrap_or_default() {
                        if let Some(sum) = sums.get_mut(*target as usize) {
                            aggregate.add(sum, *weight);
                        }
                    }
                }
            }
        }
    }

    /// How far the leaves of a tree are, whose nodes lie from `root` to `end`; `depths` is what is known by then.
    pub(super) fn measure(nodes: &[Node], root: u32) -> Tree {
        let start = root as usize;
        let own = nodes.get(start..).unwrap_or_default();
        let mut depths = vec![0_u32; own.len()];
        let (mut nearest, mut deepest) = (u32::MAX, 0);
        for (number, node) in own.iter().enumerate() {
            let depth = depths.get(number).copied().unwrap_or(0);
            if node.is_leaf(start + number) {
                nearest = nearest.min(depth);
                deepest = deepest.max(depth);
                continue;
            }
            // Children lie behind their parents.
            let left = (node.left as usize).saturating_sub(start);
            for child in [left, left + 1] {
                depths.get_mut(child).into_iter().for_each(|below| *below = depth + 1);
            }
        }
        Tree { root, nearest: nearest.min(deepest), deepest }
    }
}
