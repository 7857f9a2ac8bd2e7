//! Trees in the form in which batches go through them.
//!
//! All nodes of all trees lie in one list; both children of a node lie beside each other, behind it. A step of a row is then one
//! comparison without a branch: `left + (not left)`. A leaf is a node that leads to itself. A tree at a time is walked by many
//! rows, some of them at once, so that the processor waits for none of them and the tree stays in its nearest cache. Where there
//! are few rows, each walks some trees at once. Either way what trees say is added in their order.

use crate::error::{Stop, wrong};
use crate::graph::Work;

/// Rows that walk at once, or trees that one row walks at once.
const LANES: usize = 16;
/// Of fewer rows each walks many trees at once: lanes would be empty.
const ROWS_MIN: usize = LANES / 2;

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
        let few = count % LANES;
        let many = if few < ROWS_MIN { count - few } else { count };
        let (rows, others) = rows.split_at_checked(many * columns).unwrap_or_default();
        let (out, other_sums) = sums.split_at_mut_checked(many * targets).unwrap_or_default();
        for tree in &self.trees {
            let lots = rows.chunks(columns * LANES).zip(out.chunks_mut(targets * LANES));
            for (rows, sums) in lots {
                // Even one tree may be deep.
                work.worked(LANES as u64 * u64::from(tree.deepest + 1))?;
                let mut lanes = [rows.get(..columns).unwrap_or_default(); LANES];
                for (lane, row) in lanes.iter_mut().zip(rows.chunks_exact(columns)) {
                    *lane = row;
                }
                let mut places = [tree.root; LANES];
                self.walk(&lanes, &mut places, tree.nearest, tree.deepest);
                for (place, sums) in places.iter().zip(sums.chunks_exact_mut(targets)) {
                    self.say(*place, sums, aggregate);
                }
            }
        }
        for (row, sums) in others.chunks_exact(columns).zip(other_sums.chunks_exact_mut(targets)) {
            for trees in self.trees.chunks(LANES) {
                let deepest = trees.iter().map(|tree| tree.deepest).max().unwrap_or(0);
                work.worked(LANES as u64 * u64::from(deepest + 1))?;
                let mut places = [0; LANES];
                places.iter_mut().zip(trees.iter().cycle()).for_each(|(place, tree)| *place = tree.root);
                let nearest = trees.iter().map(|tree| tree.nearest).min().unwrap_or(0);
                self.walk(&[row; LANES], &mut places, nearest, deepest);
                places.iter().take(trees.len()).for_each(|place| self.say(*place, sums, aggregate));
            }
        }
        if aggregate == Aggregate::Average {
            let trees = self.trees.len() as f32;
            sums.iter_mut().for_each(|sum| *sum /= trees);
        }
        Ok(sums)
    }

    /// From roots to leaves; `nearest` steps are needed in any case, and no more than `deepest`. A lane that is not needed does as
    /// another one.
    fn walk(&self, lanes: &[&[f32]; LANES], places: &mut [u32; LANES], nearest: u32, deepest: u32) {
        if self.has_equal {
            self.walk_of::<true>(lanes, places, nearest, deepest);
        } else {
            self.walk_of::<false>(lanes, places, nearest, deepest);
        }
    }

    fn walk_of<const EQUALS: bool>(
        &self,
        lanes: &[&[f32]; LANES],
        places: &mut [u32; LANES],
        nearest: u32,
        deepest: u32,
    ) {
        for _ in 0..nearest {
            self.step::<EQUALS>(lanes, places);
        }
        for _ in nearest..deepest {
            if !self.step::<EQUALS>(lanes, places) {
                break;
            }
        }
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

    /// Adds what the leaf at this place says.
    fn say(&self, place: u32, sums: &mut [f32], aggregate: Aggregate) {
        let place = place as usize;
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

    /// What it takes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let leaves = match &self.leaves {
            Leaves::One(weights) => 4 * weights.len(),
            Leaves::Many { starts, weights } => 4 * starts.len() + 8 * weights.len(),
        };
        size_of::<Node>() * self.nodes.len() + size_of::<Tree>() * self.trees.len() + leaves
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
