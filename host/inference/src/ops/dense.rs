//! Matrix products and what goes with them in dense networks.
//!
//! Sums are added in the order of the inner dimension, each element for itself: no two machines give different results, and
//! the compiler makes vector code of the loop over columns.

use std::sync::OnceLock;

use super::{Building, axis_of, built, floats, input, optional};
use crate::error::{Stop, wrong};
use crate::graph::{Operator, Work};
use crate::proto::Node;
use crate::tensor::{Data, Tensor};

/// Rows that share one pass over the weights.
const ROWS_AT_ONCE: usize = 8;

/// `out = a · b`, of `inner` columns of `a` and `columns` of `b`; `out` begins with what is to be added.
pub(crate) fn multiply(
    a: &[f32],
    b: &[f32],
    inner: usize,
    columns: usize,
    out: &mut [f32],
    work: &mut Work<'_>,
) -> Result<(), Stop> {
    if inner == 0 || columns == 0 {
        return Ok(());
    }
    let some = a.chunks(inner * ROWS_AT_ONCE).zip(out.chunks_mut(columns * ROWS_AT_ONCE));
    for (a, out) in some {
        let rows = a.len() / inner;
        for (place, weights) in b.chunks_exact(columns).enumerate() {
            work.worked((rows * columns) as u64 / 4)?;
            for (row, sums) in a.chunks_exact(inner).zip(out.chunks_exact_mut(columns)) {
                let x = row.get(place).copied().unwrap_or_default();
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += x * weight;
                }
            }
        }
    }
    Ok(())
}

fn transposed(data: &[f32], columns: usize) -> Vec<f32> {
    let column = |column: usize| data.iter().skip(column).step_by(columns.max(1)).copied();
    (0..columns).flat_map(column).collect()
}

/// Of matrices: the first may have more dimensions, the second is the same for all rows.
pub(super) struct MatMul;

impl Operator for MatMul {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let (a, b) = (input(inputs, 0)?, input(inputs, 1)?);
        if b.rows {
            return wrong("it would mix the rows of a batch (the second matrix depends on them)");
        }
        let (inner, columns) = match b.shape.as_slice() {
            &[inner] => (inner, 1),
            &[inner, columns] => (inner, columns),
            other => {
                return wrong(format!(
                    "the second matrix has the shape {other:?}; two dimensions are taken here"
                ));
            }
        };
        let (rows, width) = a.matrix();
        if width != inner || a.shape.len() < 2 {
            return wrong(format!("the shapes {:?} and {:?} do not go together", a.shape, b.shape));
        }
        let count = rows.checked_mul(columns).ok_or(Stop::Memory)?;
        let mut shape = a.shape.clone();
        shape.pop();
        if b.shape.len() > 1 {
            shape.push(columns);
        }
        if let (Data::F64(x), Data::F64(y)) = (&a.data, &b.data) {
            work.take(count, 8)?;
            let mut out = vec![0.0; count];
            for (row, out) in x.chunks_exact(inner.max(1)).zip(out.chunks_exact_mut(columns.max(1))) {
                work.worked((inner as u64).saturating_mul(columns as u64))?;
                for (x, weights) in row.iter().zip(y.chunks_exact(columns.max(1))) {
                    out.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += x * weight);
                }
            }
            return Ok(vec![Tensor::new(shape, Data::F64(out), a.rows)]);
        }
        work.take(count, 4)?;
        let mut out = vec![0.0; count];
        multiply(floats(a)?, floats(b)?, inner, columns, &mut out, work)?;
        Ok(vec![Tensor::new(shape, Data::F32(out), a.rows)])
    }
}

pub(super) fn gemm(node: &Node<'_>) -> Building {
    if node.int("transA")?.unwrap_or(0) != 0 {
        return Err("transA is not there here: it would mix the rows of a batch".to_owned());
    }
    built(Gemm {
        alpha: node.float("alpha")?.unwrap_or(1.0),
        beta: node.float("beta")?.unwrap_or(1.0),
        transposed: node.int("transB")?.unwrap_or(0) != 0,
        turned: OnceLock::new(),
    })
}

/// `alpha · a · b + beta · c`.
struct Gemm {
    alpha: f32,
    beta: f32,
    transposed: bool,
    /// The second matrix, turned once: what does not depend on the rows never changes.
    turned: OnceLock<Vec<f32>>,
}

impl Operator for Gemm {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let (a, b) = (input(inputs, 0)?, input(inputs, 1)?);
        let (&[rows, width], &[first, second]) = (a.shape.as_slice(), b.shape.as_slice()) else {
            return wrong(format!(
                "the shapes {:?} and {:?} are not those of two matrices",
                a.shape, b.shape
            ));
        };
        let (inner, columns) = if self.transposed { (second, first) } else { (first, second) };
        if b.rows || width != inner {
            return wrong(format!(
                "the shapes {:?} and {:?} do not go together; the second matrix may not depend on the rows",
                a.shape, b.shape
            ));
        }
        let count = rows.checked_mul(columns).ok_or(Stop::Memory)?;
        work.take(count, 4)?;
        let mut out = vec![0.0; count];
        let weights = floats(b)?;
        if self.transposed {
            let turned = self.turned.get_or_init(|| transposed(weights, inner));
            multiply(floats(a)?, turned, inner, columns, &mut out, work)?;
        } else {
            multiply(floats(a)?, weights, inner, columns, &mut out, work)?;
        }
        if self.alpha.to_bits() != 1.0_f32.to_bits() {
            out.iter_mut().for_each(|x| *x *= self.alpha);
        }
        if let Some(added) = optional(inputs, 2) {
            let c = floats(added)?;
            let right = !added.rows && matches!(added.shape.as_slice(), [] | [_] | [1, _]);
            if !right || (c.len() != columns && c.len() != 1) {
                return wrong(format!(
                    "what is added has the shape {:?}; [{columns}] is taken here",
                    added.shape
                ));
            }
            for row in out.chunks_exact_mut(columns.max(1)) {
                row.iter_mut().zip(c.iter().cycle()).for_each(|(x, c)| *x += self.beta * c);
            }
        }
        Ok(vec![Tensor::new(vec![rows, columns], Data::F32(out), a.rows)])
    }

    fn more_bytes(&self) -> usize {
        self.turned.get().map_or(0, |turned| 4 * turned.len())
    }
}

pub(super) fn batch_normalization(node: &Node<'_>) -> Building {
    if node.int("training_mode")?.unwrap_or(0) != 0 {
        return Err("it is in training mode; export the model for evaluation".to_owned());
    }
    built(BatchNormalization { epsilon: node.float("epsilon")?.unwrap_or(1e-5) })
}

/// With the means and variances of training.
struct BatchNormalization {
    epsilon: f32,
}

impl Operator for BatchNormalization {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let &[_, columns] = tensor.shape.as_slice() else {
            return wrong(format!("{} come in; [rows, columns] is taken here", tensor.shown()));
        };
        let x = floats(tensor)?;
        let mut parts = [&[][..]; 4];
        for (part, number) in parts.iter_mut().zip(1..) {
            *part = floats(input(inputs, number)?)?;
            if part.len() != columns {
                return wrong(format!("input {number} has {} numbers for {columns} columns", part.len()));
            }
        }
        let [scale, bias, mean, variance] = parts;
        work.take(x.len(), 4)?;
        let each = scale.iter().zip(bias).zip(mean.iter().zip(variance));
        let factors: Vec<(f32, f32)> = each
            .map(|((scale, bias), (mean, variance))| {
                let factor = scale / (variance + self.epsilon).sqrt();
                (factor, bias - mean * factor)
            })
            .collect();
        let out = x.iter().zip(factors.iter().cycle()).map(|(x, (factor, added))| x * factor + added);
        let data = Data::F32(out.collect());
        Ok(vec![Tensor { data, ..tensor.clone_shape() }])
    }
}

pub(super) fn layer_normalization(node: &Node<'_>) -> Building {
    built(LayerNormalization {
        axis: node.int("axis")?.unwrap_or(-1),
        epsilon: node.float("epsilon")?.unwrap_or(1e-5),
    })
}

/// Over the last dimension.
struct LayerNormalization {
    axis: i64,
    epsilon: f32,
}

impl Operator for LayerNormalization {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        if axis_of(tensor, self.axis)? + 1 != tensor.shape.len() {
            return wrong("it is over more than the last dimension");
        }
        let (_, columns) = tensor.matrix();
        let (x, scale) = (floats(tensor)?, floats(input(inputs, 1)?)?);
        let bias = optional(inputs, 2).map(floats).transpose()?.unwrap_or_default();
        if scale.len() != columns || !(bias.is_empty() || bias.len() == columns) {
            return wrong(format!("scale and bias have not {columns} numbers"));
        }
        work.take(x.len(), 4)?;
        let mut out = Vec::with_capacity(x.len());
        let count = columns as f32;
        for row in x.chunks_exact(columns.max(1)) {
            let mean = row.iter().sum::<f32>() / count;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / count;
            let factor = 1.0 / (variance + self.epsilon).sqrt();
            out.extend(row.iter().enumerate().map(|(place, x)| {
                let scale = scale.get(place).copied().unwrap_or(1.0);
                (x - mean) * factor * scale + bias.get(place).copied().unwrap_or(0.0)
            }));
        }
        Ok(vec![Tensor { data: Data::F32(out), ..tensor.clone_shape() }])
    }
}
