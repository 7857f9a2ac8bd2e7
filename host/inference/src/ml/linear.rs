//! LinearRegressor and LinearClassifier.

use std::sync::Arc;

use super::{PostTransform, classes};
use crate::error::{Stop, wrong};
use crate::graph::{Operator, Work};
use crate::ops::dense::multiply;
use crate::ops::reduce::largest;
use crate::ops::{Building, built, floats, input};
use crate::proto::Node;
use crate::tensor::{Classes, Data, Tensor};

/// Scores: each a weighted sum of the columns.
struct Scores {
    targets: usize,
    columns: usize,
    /// Column by column, of all targets.
    weights: Vec<f32>,
    intercepts: Vec<f32>,
}

impl Scores {
    fn new(node: &Node<'_>, targets: usize) -> Result<Scores, String> {
        let coefficients = node.floats("coefficients")?;
        let intercepts = node.floats("intercepts")?;
        let columns = coefficients.len() / targets.max(1);
        if targets == 0 || columns == 0 || columns * targets != coefficients.len() {
            return Err(format!("{} coefficients do not go with {targets} targets", coefficients.len()));
        }
        if !intercepts.is_empty() && intercepts.len() != targets {
            return Err(format!("{} intercepts for {targets} targets", intercepts.len()));
        }
        let of_column = |column: usize| coefficients.iter().skip(column).step_by(columns).copied();
        let weights = (0..columns).flat_map(of_column).collect();
        Ok(Scores { targets, columns, weights, intercepts })
    }

    /// Rows of scores.
    fn of(&self, tensor: &Tensor, work: &mut Work<'_>) -> Result<Vec<f32>, Stop> {
        let (rows, columns) = tensor.matrix();
        if columns != self.columns || tensor.shape.len() != 2 {
            return wrong(format!("{} come in; it takes {} columns", tensor.shown(), self.columns));
        }
        let integers;
        let x = match &tensor.data {
            Data::I64(data) => {
                let numbers = data.iter().map(|x| *x as f32).collect::<Vec<_>>();
                integers = numbers;
                &integers
            }
            _ => floats(tensor)?,
        };
        work.take(rows.saturating_mul(self.targets), 4)?;
        let mut out = vec![0.0; rows * self.targets];
        multiply(x, &self.weights, columns, self.targets, &mut out, work)?;
        if !self.intercepts.is_empty() {
            for row in out.chunks_exact_mut(self.targets) {
                row.iter_mut().zip(&self.intercepts).for_each(|(x, intercept)| *x += intercept);
            }
        }
        Ok(out)
    }
}

pub(super) fn regressor(node: &Node<'_>) -> Building {
    let targets = usize::try_from(node.int("targets")?.unwrap_or(1)).unwrap_or(0);
    built(Regressor { scores: Scores::new(node, targets)?, post: PostTransform::of(node)? })
}

struct Regressor {
    scores: Scores,
    post: PostTransform,
}

impl Operator for Regressor {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let mut out = self.scores.of(tensor, work)?;
        out.chunks_exact_mut(self.scores.targets).for_each(|row| self.post.apply(row));
        let shape = vec![tensor.first(), self.scores.targets];
        Ok(vec![Tensor::new(shape, Data::F32(out), tensor.rows)])
    }
}

pub(super) fn classifier(node: &Node<'_>, memory: &mut usize) -> Building {
    let classes = classes(node, "classlabels_ints", "classlabels_strings", memory)?;
    let coefficients = node.floats("coefficients")?.len();
    let intercepts = node.floats("intercepts")?.len();
    // Of two classes there may be the scores of the second alone.
    let targets = match (classes.len(), intercepts) {
        (2, 1) => 1,
        (0, _) => return Err("it has no labels of its classes".to_owned()),
        (count, _) => count,
    };
    let scores = Scores::new(node, targets)
        .map_err(|reason| format!("{reason} ({coefficients} coefficients, {} classes)", classes.len()))?;
    built(Classifier { scores, post: PostTransform::of(node)?, classes })
}

struct Classifier {
    scores: Scores,
    post: PostTransform,
    classes: Arc<Classes>,
}

impl Operator for Classifier {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let mut out = self.scores.of(tensor, work)?;
        let rows = tensor.first();
        work.take(rows.saturating_mul(self.classes.len() + 4), 4)?;
        let labels: Vec<usize> = if self.scores.targets == 1 && self.classes.len() == 2 {
            let labels = out.iter().map(|score| usize::from(*score > 0.0)).collect();
            out = out
                .into_iter()
                .flat_map(|score| {
                    let mut pair = [-score, score];
                    self.post.apply(&mut pair);
                    pair
                })
                .collect();
            labels
        } else {
            let labels = out.chunks_exact(self.scores.targets).map(largest).collect();
            out.chunks_exact_mut(self.scores.targets).for_each(|row| self.post.apply(row));
            labels
        };
        let label = Tensor::new(vec![rows], self.classes.pick(&labels), tensor.rows);
        let scores = Tensor::new(vec![rows, self.classes.len()], Data::F32(out), tensor.rows);
        Ok(vec![label, Tensor { classes: Some(Arc::clone(&self.classes)), ..scores }])
    }
}
