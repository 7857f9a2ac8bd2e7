//! TreeEnsembleRegressor and TreeEnsembleClassifier: from the lists of a file to a forest that can be walked, checked: every
//! tree is one, so that every walk ends.

use std::collections::HashMap;
use std::sync::Arc;

use super::forest::{Aggregate, COLUMNS_MAX, Forest, Leaves, Node as Kept, Tree};
use super::{PostTransform, classes};
use crate::error::{Stop, wrong};
use crate::graph::{Operator, Work};
use crate::ops::reduce::largest;
use crate::ops::unary::sigmoid;
use crate::ops::{Building, built, floats, input};
use crate::proto::{AttributeError, Node};
use crate::tensor::{Classes, Data, Tensor};

/// What a node of a file takes of memory while trees are read, at most, and a weight.
const READING_NODE_BYTES: usize = 176;
const READING_WEIGHT_BYTES: usize = 56;
/// For [`Written::children`] of a leaf.
const NOWHERE: (u32, u32) = (u32::MAX, u32::MAX);

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Leaf,
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
    NotEqual,
}

/// Of one node: how it compares, and what with.
struct Written {
    mode: Mode,
    nan_true: bool,
    column: u32,
    value: f32,
    /// Where it leads to if that holds, and if not.
    children: (u32, u32),
}

/// Weights of leaves as they are written.
struct Weights {
    trees: Vec<i64>,
    nodes: Vec<i64>,
    targets: Vec<i64>,
    weights: Vec<f32>,
}

impl Weights {
    fn of(node: &Node<'_>, prefix: &str, ids: &str, memory: usize) -> Result<Weights, AttributeError> {
        let weights = node.floats(&format!("{prefix}_weights"))?;
        let count = weights.len();
        if count.saturating_mul(READING_WEIGHT_BYTES) > memory {
            return Err(TOO_LARGE.to_owned());
        }
        if count == 0 && node.has(&format!("{prefix}_weights_as_tensor")) {
            return Err("its weights are float64; export the model for float32 inputs".to_owned());
        }
        let weights = Weights {
            trees: node.ints(&format!("{prefix}_treeids"), count)?,
            nodes: node.ints(&format!("{prefix}_nodeids"), count)?,
            targets: node.ints(&format!("{prefix}_{ids}"), count)?,
            weights,
        };
        if [&weights.trees, &weights.nodes, &weights.targets].iter().any(|list| list.len() != count) {
            return Err(format!("lists of the weights of leaves ({prefix}_..) have different lengths"));
        }
        Ok(weights)
    }
}

const TOO_LARGE: &str = "its trees take too much memory; fewer or smaller ones would do";

/// Reads the nodes of all trees. `targets` is how many targets weights may name. What the forest takes is taken from `memory`; while
/// it is read it may take all of that.
fn forest(
    node: &Node<'_>,
    weights: &Weights,
    targets: usize,
    memory: &mut usize,
) -> Result<Forest, AttributeError> {
    let most = memory.saturating_sub(weights.weights.len() * READING_WEIGHT_BYTES) / READING_NODE_BYTES;
    let mut modes = Vec::new();
    node.texts("nodes_modes", |mode| {
        if modes.len() >= most {
            return Err(TOO_LARGE.to_owned());
        }
        modes.push(match mode {
            "LEAF" => Mode::Leaf,
            "BRANCH_LEQ" => Mode::AtMost,
            "BRANCH_LT" => Mode::Below,
            "BRANCH_GTE" => Mode::AtLeast,
            "BRANCH_GT" => Mode::Above,
            "BRANCH_EQ" => Mode::Equal,
            "BRANCH_NEQ" => Mode::NotEqual,
            other => return Err(format!("a node of a tree has the mode {other:?}, which is none")),
        });
        Ok(())
    })?;
    let count = modes.len();
    let ints = |name| node.ints(name, count);
    let (trees, ids) = (ints("nodes_treeids")?, ints("nodes_nodeids")?);
    let (yes, no) = (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
    let (columns, values) = (ints("nodes_featureids")?, node.floats("nodes_values")?);
    if values.is_empty() && node.has("nodes_values_as_tensor") {
        return Err("its thresholds are float64; export the model for float32 inputs".to_owned());
    }
    let nan_true = ints("nodes_missing_value_tracks_true")?;
    let lengths = [trees.len(), ids.len(), yes.len(), no.len(), columns.len(), values.len()];
    if count == 0
        || lengths.iter().any(|length| *length != count)
        || !(nan_true.is_empty() || nan_true.len() == count)
    {
        return Err(format!(
            "lists of the nodes of trees have different lengths: {count} modes, {lengths:?}"
        ));
    }
    let mut places: HashMap<(i64, i64), u32> = HashMap::with_capacity(count);
    let mut roots = Vec::new();
    let mut before = None;
    for (place, key) in (0..).zip(trees.iter().copied().zip(ids.iter().copied())) {
        if places.insert(key, place).is_some() {
            return Err(format!("tree {} has two nodes {}", key.0, key.1));
        }
        // The first node of a tree is its root; nodes of a tree lie together.
        if before.replace(key.0) != Some(key.0) {
            roots.push(place);
        }
    }
    let mut written = Vec::with_capacity(count);
    for (place, mode) in modes.iter().copied().enumerate() {
        let at = |list: &[i64]| list.get(place).copied().unwrap_or(0);
        let value = values.get(place).copied().unwrap_or(0.0);
        let tree = at(&trees);
        if mode == Mode::Leaf {
            written.push(Written { mode, nan_true: false, column: 0, value, children: NOWHERE });
            continue;
        }
        let column = u32::try_from(at(&columns)).ok().filter(|column| (*column as usize) < COLUMNS_MAX);
        let column = column
            .ok_or_else(|| format!("node {} of tree {tree} looks at column {}", at(&ids), at(&columns)))?;
        if value.is_nan() {
            return Err(format!("node {} of tree {tree} compares with what is no number", at(&ids)));
        }
        let child = |id: i64| match places.get(&(tree, id)) {
            Some(place) => Ok(*place),
            None => Err(format!("node {} of tree {tree} leads to node {id}, which is not there", at(&ids))),
        };
        let children = (child(at(&yes))?, child(at(&no))?);
        written.push(Written { mode, nan_true: at(&nan_true) != 0, column, value, children });
    }
    let said = Said::of(weights, &places, count, targets)?;
    drop(places);
    let forest = lay_out(&written, &roots, &said, targets)?;
    *memory = memory.checked_sub(forest.memory_bytes()).ok_or(TOO_LARGE)?;
    Ok(forest)
}

/// Weights in the order of the nodes of the file.
struct Said {
    /// Where those of a node begin; those of the next one end them.
    starts: Vec<u32>,
    weights: Vec<(u32, f32)>,
}

impl Said {
    fn of(
        weights: &Weights,
        places: &HashMap<(i64, i64), u32>,
        count: usize,
        targets: usize,
    ) -> Result<Said, AttributeError> {
        let mut of_nodes = Vec::with_capacity(weights.weights.len());
        let mut starts = vec![0_u32; count + 1];
        for (tree, id) in weights.trees.iter().zip(&weights.nodes) {
            let place = places.get(&(*tree, *id));
            let place = place
                .ok_or_else(|| format!("a weight is of node {id} of tree {tree}, which is not there"))?;
            of_nodes.push(*place);
            starts.get_mut(*place as usize + 1).into_iter().for_each(|more| *more += 1);
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut next = starts.clone();
        let mut arranged = vec![(0, 0.0); of_nodes.len()];
        for (place, (target, weight)) in of_nodes.iter().zip(weights.targets.iter().zip(&weights.weights)) {
            let target = u32::try_from(*target).ok().filter(|target| (*target as usize) < targets);
            let target = target
                .ok_or_else(|| format!("a weight of its trees is for none of the {targets} targets"))?;
            if let Some(next) = next.get_mut(*place as usize) {
                arranged.get_mut(*next as usize).into_iter().for_each(|kept| *kept = (target, *weight));
                *next += 1;
            }
        }
        Ok(Said { starts, weights: arranged })
    }

    /// What the node at this place says.
    fn at(&self, place: u32) -> &[(u32, f32)] {
        let place = place as usize;
        let start = self.starts.get(place).copied().unwrap_or(0) as usize;
        let end = self.starts.get(place + 1).copied().unwrap_or(0) as usize;
        self.weights.get(start..end).unwrap_or_default()
    }
}

/// Breadth first, tree after tree: children beside each other and behind their parents.
fn lay_out(
    written: &[Written],
    roots: &[u32],
    said: &Said,
    targets: usize,
) -> Result<Forest, AttributeError> {
    let mut nodes: Vec<Kept> = Vec::with_capacity(written.len());
    let mut order: Vec<u32> = Vec::with_capacity(written.len());
    let mut seen = vec![false; written.len()];
    let mut trees: Vec<Tree> = Vec::with_capacity(roots.len());
    let (mut has_equal, mut columns) = (false, 1);
    // A file has fewer nodes than that: see `READING_NODE_BYTES`.
    let number_of = |place: usize| u32::try_from(place).map_err(|_many| "too many nodes".to_owned());
    for root in roots {
        let start = order.len();
        order.push(*root);
        let mut next = start;
        while let Some(place) = order.get(next).copied() {
            let Some(node) = written.get(place as usize) else { break };
            if seen.get_mut(place as usize).is_none_or(|seen| std::mem::replace(seen, true)) {
                return Err("two nodes of its trees lead to the same one; that is no tree".to_owned());
            }
            if node.mode == Mode::Leaf {
                nodes.push(Kept::leaf(number_of(next)?));
                next += 1;
                continue;
            }
            let left = number_of(order.len())?;
            // Below a number is at most the one before it; nothing is below the least.
            let below = if node.value == f32::NEG_INFINITY { f32::NAN } else { node.value.next_down() };
            let (equal, swapped, value) = match node.mode {
                Mode::AtMost | Mode::Leaf => (false, false, node.value),
                Mode::Below => (false, false, below),
                Mode::AtLeast => (false, true, below),
                Mode::Above => (false, true, node.value),
                Mode::Equal => (true, false, node.value),
                Mode::NotEqual => (true, true, node.value),
            };
            // What is no number compares false, unless the node says otherwise. Not being equal is true of it.
            let nan_true = node.nan_true || node.mode == Mode::NotEqual;
            let (yes, no) = node.children;
            order.extend(if swapped { [no, yes] } else { [yes, no] });
            nodes.push(Kept::branch(node.column, value, equal, nan_true != swapped, left));
            has_equal |= equal;
            columns = columns.max(node.column as usize + 1);
            next += 1;
        }
        trees.push(Forest::measure(&nodes, number_of(start)?));
    }
    let leaves = if targets == 1 {
        Leaves::One(
            order.iter().map(|place| said.at(*place).iter().map(|(_, weight)| weight).sum()).collect(),
        )
    } else {
        let (mut starts, mut weights) = (Vec::with_capacity(order.len() + 1), Vec::new());
        for place in order {
            starts.push(number_of(weights.len())?);
            weights.extend_from_slice(said.at(place));
        }
        starts.push(number_of(weights.len())?);
        Leaves::Many { starts, weights }
    };
    Ok(Forest { nodes, trees, leaves, has_equal, columns })
}

fn rows_of(tensor: &Tensor, work: &mut Work<'_>) -> Result<Vec<f32>, Stop> {
    if tensor.shape.len() != 2 {
        return wrong(format!("{} come in; [rows, columns] is taken here", tensor.shown()));
    }
    work.take(tensor.data.len(), 4)?;
    match &tensor.data {
        Data::I64(data) => Ok(data.iter().map(|x| *x as f32).collect()),
        _ => Ok(floats(tensor)?.to_vec()),
    }
}

pub(super) fn regressor(node: &Node<'_>, memory: &mut usize) -> Building {
    let targets = usize::try_from(node.int("n_targets")?.unwrap_or(1)).unwrap_or(0);
    let aggregate = match node.text("aggregate_function")? {
        None | Some("SUM") => Aggregate::Sum,
        Some("AVERAGE") => Aggregate::Average,
        Some("MIN") => Aggregate::Min,
        Some("MAX") => Aggregate::Max,
        Some(other) => {
            return Err(format!(
                "aggregate_function {other:?}; SUM, AVERAGE, MIN and MAX are the ones that there are"
            ));
        }
    };
    let base = node.floats("base_values")?;
    if !(1..=crate::limits::COLUMNS_MAX).contains(&targets) || !(base.is_empty() || base.len() == targets) {
        return Err(format!("{targets} targets and {} base values", base.len()));
    }
    let weights = Weights::of(node, "target", "ids", *memory)?;
    let forest = forest(node, &weights, targets, memory)?;
    built(Regressor { forest, targets, aggregate, base, post: PostTransform::of(node)? })
}

struct Regressor {
    forest: Forest,
    targets: usize,
    aggregate: Aggregate,
    base: Vec<f32>,
    post: PostTransform,
}

impl Operator for Regressor {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let rows = rows_of(tensor, work)?;
        let (_, columns) = tensor.matrix();
        let mut out = self.forest.run(&rows, columns, self.targets, self.aggregate, work)?;
        for row in out.chunks_exact_mut(self.targets) {
            row.iter_mut().zip(&self.base).for_each(|(x, base)| *x += base);
            self.post.apply(row);
        }
        let shape = vec![tensor.first(), self.targets];
        Ok(vec![Tensor::new(shape, Data::F32(out), tensor.rows)])
    }
}

pub(super) fn classifier(node: &Node<'_>, memory: &mut usize) -> Building {
    let classes = classes(node, "classlabels_int64s", "classlabels_strings", memory)?;
    let base = node.floats("base_values")?;
    let mut weights = Weights::of(node, "class", "ids", *memory)?;
    let positive = weights.weights.iter().all(|weight| *weight >= 0.0);
    let first = weights.targets.first().copied();
    // Of two classes trees may speak of one alone: what they say is for the second.
    let single = classes.len() == 2 && weights.targets.iter().all(|target| Some(*target) == first);
    if single {
        weights.targets.iter_mut().for_each(|target| *target = 0);
    }
    let targets = if single { 1 } else { classes.len() };
    let fits = base.is_empty() || base.len() == targets || (single && base.len() == 2);
    if targets == 0 || !fits {
        return Err(format!("{} labels of classes and {} base values", classes.len(), base.len()));
    }
    let forest = forest(node, &weights, targets, memory)?;
    built(Classifier { forest, classes, base, single, positive, post: PostTransform::of(node)? })
}

struct Classifier {
    forest: Forest,
    classes: Arc<Classes>,
    base: Vec<f32>,
    /// One score stands for both classes.
    single: bool,
    /// No weight is negative: then the score is a probability.
    positive: bool,
    post: PostTransform,
}

impl Classifier {
    /// The label of a row, and its scores. As ONNX Runtime does it, where the specification says little.
    fn of_single(&self, score: f32) -> (usize, [f32; 2]) {
        let score = score + self.base.last().copied().unwrap_or(0.0);
        if self.positive {
            return (usize::from(score > 0.5), [1.0 - score, score]);
        }
        let scores = match self.post {
            PostTransform::Logistic => [sigmoid(-score), sigmoid(score)],
            _ => [-score, score],
        };
        (usize::from(score > 0.0), scores)
    }
}

impl Operator for Classifier {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let rows = rows_of(tensor, work)?;
        let (_, columns) = tensor.matrix();
        let count = tensor.first();
        let classes = self.classes.len();
        let targets = if self.single { 1 } else { classes };
        let mut out = self.forest.run(&rows, columns, targets, Aggregate::Sum, work)?;
        work.take(count.saturating_mul(classes + 4), 4)?;
        let mut labels = Vec::with_capacity(count);
        if self.single {
            let mut scores = Vec::with_capacity(count * 2);
            for score in out {
                let (label, pair) = self.of_single(score);
                labels.push(label);
                scores.extend(pair);
            }
            out = scores;
        } else {
            for row in out.chunks_exact_mut(classes) {
                row.iter_mut().zip(&self.base).for_each(|(x, base)| *x += base);
                labels.push(largest(row));
                self.post.apply(row);
            }
        }
        let label = Tensor::new(vec![count], self.classes.pick(&labels), tensor.rows);
        let scores = Tensor::new(vec![count, classes], Data::F32(out), tensor.rows);
        Ok(vec![label, Tensor { classes: Some(Arc::clone(&self.classes)), ..scores }])
    }
}
