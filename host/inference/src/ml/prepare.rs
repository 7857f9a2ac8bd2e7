//! What prepares columns before a model, and arranges scores behind it.

use std::sync::Arc;

use super::classes;
use crate::error::{Stop, wrong};
use crate::graph::{Operator, Work};
use crate::ops::shape::column;
use crate::ops::{Building, built, floats, input};
use crate::proto::Node;
use crate::tensor::{Classes, Data, Tensor, elements};

/// Numbers of 32 bits, also where integers come in, which these operators take as well.
fn numbers(tensor: &Tensor, work: &mut Work<'_>) -> Result<Vec<f32>, Stop> {
    work.take(tensor.data.len(), 4)?;
    match &tensor.data {
        Data::I64(data) => Ok(data.iter().map(|x| *x as f32).collect()),
        _ => Ok(floats(tensor)?.to_vec()),
    }
}

/// The number of a column in a list that has one for each, or one for all.
fn of_column(list: &[f32], column: usize, default: f32) -> f32 {
    if list.len() == 1 { list.first() } else { list.get(column) }.copied().unwrap_or(default)
}

fn one_or_each(what: &str, list: &[f32], columns: usize) -> Result<(), Stop> {
    if list.len() <= 1 || list.len() == columns {
        return Ok(());
    }
    wrong(format!("{} {what} for {columns} columns", list.len()))
}

pub(super) fn scaler(node: &Node<'_>) -> Building {
    built(Scaler { offsets: node.floats("offset")?, scales: node.floats("scale")? })
}

/// `(x - offset) * scale`.
struct Scaler {
    offsets: Vec<f32>,
    scales: Vec<f32>,
}

impl Operator for Scaler {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let (_, columns) = tensor.matrix();
        one_or_each("offsets", &self.offsets, columns)?;
        one_or_each("scales", &self.scales, columns)?;
        let mut out = numbers(tensor, work)?;
        for row in out.chunks_exact_mut(columns.max(1)) {
            for (column, x) in row.iter_mut().enumerate() {
                *x = (*x - of_column(&self.offsets, column, 0.0)) * of_column(&self.scales, column, 1.0);
            }
        }
        Ok(vec![Tensor { data: Data::F32(out), ..tensor.clone_shape() }])
    }
}

pub(super) fn normalizer(node: &Node<'_>) -> Building {
    built(match node.text("norm")? {
        None | Some("MAX") => Normalizer::Max,
        Some("L1") => Normalizer::L1,
        Some("L2") => Normalizer::L2,
        Some(other) => return Err(format!("norm {other:?}; MAX, L1 and L2 are the ones that there are")),
    })
}

#[derive(Clone, Copy)]
enum Normalizer {
    Max,
    L1,
    L2,
}

impl Operator for Normalizer {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let (_, columns) = tensor.matrix();
        let mut out = numbers(tensor, work)?;
        for row in out.chunks_exact_mut(columns.max(1)) {
            let norm = match self {
                Normalizer::Max => row.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                Normalizer::L1 => row.iter().map(|x| x.abs()).sum(),
                Normalizer::L2 => row.iter().map(|x| x * x).sum::<f32>().sqrt(),
            };
            // A row of zeros stays one.
            if norm != 0.0 {
                row.iter_mut().for_each(|x| *x /= norm);
            }
        }
        Ok(vec![Tensor { data: Data::F32(out), ..tensor.clone_shape() }])
    }
}

pub(super) fn imputer(node: &Node<'_>) -> Building {
    let values = node.floats("imputed_value_floats")?;
    if values.is_empty() {
        return Err("it has no imputed_value_floats; integers are not imputed here".to_owned());
    }
    built(Imputer { values, replaced: node.float("replaced_value_float")?.unwrap_or(0.0) })
}

/// Puts values where there are none.
struct Imputer {
    values: Vec<f32>,
    replaced: f32,
}

impl Operator for Imputer {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let (_, columns) = tensor.matrix();
        one_or_each("values", &self.values, columns)?;
        let mut out = numbers(tensor, work)?;
        for row in out.chunks_exact_mut(columns.max(1)) {
            for (column, x) in row.iter_mut().enumerate() {
                if *x == self.replaced || (x.is_nan() && self.replaced.is_nan()) {
                    *x = of_column(&self.values, column, *x);
                }
            }
        }
        Ok(vec![Tensor { data: Data::F32(out), ..tensor.clone_shape() }])
    }
}

pub(super) fn binarizer(node: &Node<'_>) -> Building {
    built(Binarizer(node.float("threshold")?.unwrap_or(0.0)))
}

struct Binarizer(f32);

impl Operator for Binarizer {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let out = numbers(tensor, work)?.into_iter().map(|x| f32::from(x > self.0)).collect();
        Ok(vec![Tensor { data: Data::F32(out), ..tensor.clone_shape() }])
    }
}

pub(super) fn extractor() -> Building {
    built(Extractor)
}

/// Columns by their numbers; or of one row of labels one for each row, by the number that the row has.
struct Extractor;

impl Operator for Extractor {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let (tensor, indices) = (input(inputs, 0)?, input(inputs, 1)?);
        let (rows, columns) = tensor.matrix();
        let Data::I64(wanted) = &indices.data else {
            return wrong(format!("{} come in as numbers of columns", indices.data.kind()));
        };
        if indices.rows && (tensor.rows || rows != 1) {
            return wrong("it would mix the rows of a batch");
        }
        let shape: Vec<usize> = match (indices.rows, tensor.shape.split_last()) {
            // The specification says [1, rows]; whatever comes of it makes [rows] of that.
            (true, _) => vec![wanted.len()],
            (false, Some((_, before))) => before.iter().copied().chain([wanted.len()]).collect(),
            (false, None) => return wrong("a single value comes in, which has no columns"),
        };
        work.take(elements(&shape).ok_or(Stop::Memory)?, 24)?;
        let mut numbers = Vec::with_capacity(wanted.len());
        for number in wanted {
            numbers.push(column(*number, columns)?);
        }
        if indices.rows {
            return Ok(vec![Tensor::new(shape, tensor.data.pick(&numbers), true)]);
        }
        let places: Vec<usize> =
            (0..rows).flat_map(|row| numbers.iter().map(move |column| row * columns + column)).collect();
        Ok(vec![Tensor::new(shape, tensor.data.pick(&places), tensor.rows)])
    }
}

pub(super) fn zip_map(node: &Node<'_>, memory: &mut usize) -> Building {
    built(ZipMap(classes(node, "classlabels_int64s", "classlabels_strings", memory)?))
}

/// Says what the columns of scores stand for. Elsewhere that makes a map of each row; here it stays a table, with the labels
/// beside it.
struct ZipMap(Arc<Classes>);

impl Operator for ZipMap {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let (_, columns) = tensor.matrix();
        if columns != self.0.len() {
            return wrong(format!("{} labels for {columns} columns", self.0.len()));
        }
        work.take(tensor.data.len(), tensor.data.width())?;
        Ok(vec![Tensor { classes: Some(Arc::clone(&self.0)), ..tensor.clone() }])
    }
}
