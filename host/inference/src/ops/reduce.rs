//! Operators over one dimension, never that of the rows.

use super::{Building, axis_of, built, fixed_ints, floats, input, optional};
use crate::error::{Stop, wrong};
use crate::graph::{Operator, Work};
use crate::limits::RANK_MAX;
use crate::proto::Node;
use crate::tensor::{Data, Tensor};

/// Before version 13 it is over everything from the axis on.
pub(super) fn softmax(node: &Node<'_>, opset: i64) -> Building {
    let axis = node.int("axis")?.unwrap_or(if opset < 13 { 1 } else { -1 });
    built(Softmax { axis, log: node.operator == "LogSoftmax" })
}

struct Softmax {
    axis: i64,
    log: bool,
}

impl Operator for Softmax {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        if axis_of(tensor, self.axis)? + 1 != tensor.shape.len() {
            return wrong("it is not over the last dimension");
        }
        let (_, columns) = tensor.matrix();
        work.take(tensor.data.len(), 4)?;
        let mut out = floats(tensor)?.to_vec();
        work.worked(15 * out.len() as u64)?;
        for row in out.chunks_exact_mut(columns.max(1)) {
            if self.log {
                let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = row.iter().map(|x| libm::expf(x - max)).sum();
                let log = libm::logf(sum) + max;
                row.iter_mut().for_each(|x| *x -= log);
            } else {
                to_softmax(row);
            }
        }
        Ok(vec![Tensor { data: Data::F32(out), ..tensor.clone_shape() }])
    }
}

/// Scores become probabilities.
pub(crate) fn to_softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in &mut *row {
        *x = libm::expf(*x - max);
        sum += *x;
    }
    row.iter_mut().for_each(|x| *x /= sum);
}

/// The place of the largest, the first one of several.
pub(crate) fn largest(row: &[f32]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (place, x) in row.iter().enumerate() {
        if *x > best.1 {
            best = (place, *x);
        }
    }
    best.0
}

pub(super) fn arg_max(node: &Node<'_>) -> Building {
    if node.int("select_last_index")?.unwrap_or(0) != 0 {
        return Err("select_last_index is not there here".to_owned());
    }
    built(ArgMax { axis: node.int("axis")?.unwrap_or(0), keeps: node.int("keepdims")?.unwrap_or(1) != 0 })
}

struct ArgMax {
    axis: i64,
    keeps: bool,
}

impl Operator for ArgMax {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        if axis_of(tensor, self.axis)? + 1 != tensor.shape.len() {
            return wrong("it is not over the last dimension");
        }
        let (rows, columns) = tensor.matrix();
        work.take(rows, 8)?;
        work.worked(tensor.data.len() as u64)?;
        let places = floats(tensor)?.chunks_exact(columns.max(1)).map(largest);
        let places = places.map(|place| i64::try_from(place).unwrap_or(0)).collect();
        let mut shape = tensor.shape.clone();
        shape.pop();
        if self.keeps {
            shape.push(1);
        }
        Ok(vec![Tensor::new(shape, Data::I64(places), tensor.rows)])
    }
}

#[derive(Clone, Copy)]
enum Function {
    Sum,
    Mean,
    Max,
    Min,
    Product,
}

pub(super) fn build(node: &Node<'_>) -> Building {
    let function = match node.operator {
        "ReduceSum" => Function::Sum,
        "ReduceMean" => Function::Mean,
        "ReduceMax" => Function::Max,
        "ReduceMin" => Function::Min,
        _ => Function::Product,
    };
    built(Reduce {
        function,
        axes: node.ints("axes", RANK_MAX)?,
        keeps: node.int("keepdims")?.unwrap_or(1) != 0,
    })
}

struct Reduce {
    function: Function,
    /// Of exports before version 13 or 18; since then they are an input.
    axes: Vec<i64>,
    keeps: bool,
}

impl Operator for Reduce {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let axes = match optional(inputs, 1) {
            Some(axes) => fixed_ints(axes)?,
            None => &self.axes,
        };
        let &[axis] = axes else {
            return wrong("it is over several dimensions; the last one alone is taken here");
        };
        if axis_of(tensor, axis)? + 1 != tensor.shape.len() {
            return wrong("it is not over the last dimension");
        }
        let (rows, columns) = tensor.matrix();
        work.take(rows, 4)?;
        work.worked(tensor.data.len() as u64)?;
        let count = columns as f32;
        let of_row = |row: &[f32]| match self.function {
            Function::Sum => row.iter().sum(),
            Function::Mean => row.iter().sum::<f32>() / count,
            Function::Max => row.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            Function::Min => row.iter().copied().fold(f32::INFINITY, f32::min),
            Function::Product => row.iter().product(),
        };
        let data = floats(tensor)?.chunks_exact(columns.max(1)).map(of_row).collect();
        let mut shape = tensor.shape.clone();
        shape.pop();
        if self.keeps {
            shape.push(1);
        }
        Ok(vec![Tensor::new(shape, Data::F32(data), tensor.rows)])
    }
}
