//! Operators that arrange elements: none of them moves any to another row.

use super::{Building, axis_of, built, fixed_ints, input, optional};
use crate::error::{Stop, wrong};
use crate::graph::{Operator, Work};
use crate::limits::RANK_MAX;
use crate::proto::Node;
use crate::tensor::{Data, Tensor, elements};

/// The same elements in another shape, if that keeps the rows apart.
fn shaped(tensor: &Tensor, shape: Vec<usize>, work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
    if shape.len() > RANK_MAX {
        return wrong(format!("{} dimensions; at most {RANK_MAX} are taken here", shape.len()));
    }
    if elements(&shape) != Some(tensor.data.len()) {
        return wrong(format!("{} cannot have the shape {shape:?}", tensor.shown()));
    }
    if tensor.rows && shape.first() != tensor.shape.first() {
        return wrong(format!(
            "{} would get the shape {shape:?}, which mixes the rows of a batch; export the model with a first dimension of \
             any length",
            tensor.shown()
        ));
    }
    work.take(tensor.data.len(), tensor.data.width())?;
    // What the last dimension stood for is another now, unless it is still that long.
    let classes = tensor.classes.clone().filter(|_| shape.last() == tensor.shape.last());
    Ok(vec![Tensor { classes, ..Tensor::new(shape, tensor.data.clone(), tensor.rows) }])
}

pub(super) fn reshape(node: &Node<'_>) -> Building {
    built(Reshape {
        zeros_are_lengths: node.int("allowzero")?.unwrap_or(0) != 0,
        shape: node.ints("shape", RANK_MAX)?,
    })
}

struct Reshape {
    zeros_are_lengths: bool,
    /// Of version 1 alone.
    shape: Vec<i64>,
}

impl Operator for Reshape {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let wanted = match optional(inputs, 1) {
            Some(wanted) => fixed_ints(wanted)?,
            None => &self.shape,
        };
        let mut shape = Vec::with_capacity(wanted.len().min(RANK_MAX));
        let mut open = None;
        for (place, length) in wanted.iter().enumerate().take(RANK_MAX + 1) {
            shape.push(match *length {
                0 if !self.zeros_are_lengths => tensor.shape.get(place).copied().unwrap_or(0),
                -1 if open.replace(place).is_some() => return wrong("its shape leaves two lengths open"),
                -1 => 1,
                length => usize::try_from(length).unwrap_or(0),
            });
        }
        if let Some(open) = open.and_then(|open| shape.get_mut(open)) {
            *open = 1;
            let known = elements(&shape).filter(|known| *known > 0);
            let length = known.map_or(0, |known| tensor.data.len() / known);
            if let Some(place) =
                wanted.iter().position(|length| *length == -1).and_then(|at| shape.get_mut(at))
            {
                *place = length;
            }
        }
        shaped(tensor, shape, work)
    }
}

pub(super) fn flatten(node: &Node<'_>) -> Building {
    built(Flatten(node.int("axis")?.unwrap_or(1)))
}

struct Flatten(i64);

impl Operator for Flatten {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let axis = if self.0 < 0 { axis_of(tensor, self.0)? } else { usize::try_from(self.0).unwrap_or(0) };
        let (before, behind) = tensor.shape.split_at_checked(axis).unwrap_or((&tensor.shape, &[]));
        let shape = vec![before.iter().product(), behind.iter().product()];
        shaped(tensor, shape, work)
    }
}

pub(super) fn squeeze(node: &Node<'_>) -> Building {
    built(Squeeze { adds: node.operator == "Unsqueeze", axes: node.ints("axes", RANK_MAX)? })
}

/// Takes dimensions of length 1 away, or adds some.
struct Squeeze {
    adds: bool,
    /// Of exports before version 13; since then they are an input.
    axes: Vec<i64>,
}

impl Operator for Squeeze {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let axes = match optional(inputs, 1) {
            Some(axes) => fixed_ints(axes)?,
            None => &self.axes,
        };
        if axes.len() > RANK_MAX {
            return wrong("too many axes");
        }
        let rank = tensor.shape.len() + if self.adds { axes.len() } else { 0 };
        let signed = i64::try_from(rank).unwrap_or(0);
        let places: Vec<usize> = axes
            .iter()
            .map(|axis| usize::try_from(if *axis < 0 { axis + signed } else { *axis }).unwrap_or(rank))
            .collect();
        if places.iter().any(|place| *place >= rank) {
            return wrong(format!("{} has no axes {axes:?}", tensor.shown()));
        }
        let shape = if self.adds {
            let mut lengths = tensor.shape.iter().copied();
            (0..rank)
                .map(|place| if places.contains(&place) { 1 } else { lengths.next().unwrap_or(1) })
                .collect()
        } else {
            let kept = tensor.shape.iter().enumerate().filter(|(place, length)| {
                let wanted = places.contains(place) || (places.is_empty() && !(tensor.rows && *place == 0));
                !(wanted && **length == 1)
            });
            kept.map(|(_, length)| *length).collect()
        };
        shaped(tensor, shape, work)
    }
}

pub(super) fn concat(node: &Node<'_>) -> Building {
    built(Concat(node.int("axis")?.unwrap_or(1)))
}

struct Concat(i64);

impl Operator for Concat {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let first = input(inputs, 0)?;
        let rows = inputs.iter().flatten().any(|tensor| tensor.rows);
        let axis = axis_of(&Tensor { rows, ..first.clone_shape() }, self.0)?;
        let outer: usize = first.shape.iter().take(axis).product();
        let inner: usize = first.shape.iter().skip(axis + 1).product();
        let mut length = 0;
        for number in 0..inputs.len() {
            let tensor = input(inputs, number)?;
            let others = |tensor: &Tensor| {
                let mut shape = tensor.shape.clone();
                shape.get_mut(axis).into_iter().for_each(|length| *length = 0);
                shape
            };
            if others(tensor) != others(first) || tensor.rows != rows {
                return wrong(format!("{} and {} do not go together", first.shown(), tensor.shown()));
            }
            length += tensor.shape.get(axis).copied().unwrap_or(1);
        }
        let mut shape = first.shape.clone();
        shape.get_mut(axis).into_iter().for_each(|along| *along = length);
        work.take(elements(&shape).ok_or(Stop::Memory)?, 16)?;
        let mut data = first.data.part(0, 0);
        for place in 0..outer {
            for tensor in inputs.iter().flatten() {
                let along = tensor.shape.get(axis).copied().unwrap_or(1) * inner;
                if !data.append(tensor.data.part(place * along, along)) {
                    return wrong(format!("{} and {} do not go together", first.shown(), tensor.shown()));
                }
            }
        }
        Ok(vec![Tensor::new(shape, data, rows)])
    }
}

pub(super) fn gather(node: &Node<'_>) -> Building {
    built(Gather(node.int("axis")?.unwrap_or(0)))
}

/// Columns by their numbers.
struct Gather(i64);

impl Operator for Gather {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let (tensor, indices) = (input(inputs, 0)?, input(inputs, 1)?);
        let axis = axis_of(tensor, self.0)?;
        let length = tensor.shape.get(axis).copied().unwrap_or(1);
        let outer: usize = tensor.shape.iter().take(axis).product();
        let inner: usize = tensor.shape.iter().skip(axis + 1).product();
        let numbers = fixed_ints(indices)?;
        let mut shape: Vec<usize> = tensor.shape.iter().take(axis).copied().collect();
        shape.extend(&indices.shape);
        shape.extend(tensor.shape.iter().skip(axis + 1));
        if shape.len() > RANK_MAX {
            return wrong("it makes too many dimensions");
        }
        let count = elements(&shape).ok_or(Stop::Memory)?;
        work.take(count, 24)?;
        let mut columns = Vec::with_capacity(numbers.len());
        for number in numbers {
            columns.push(column(*number, length)?);
        }
        let mut places = Vec::with_capacity(count);
        for place in 0..outer {
            for column in &columns {
                let start = (place * length + column) * inner;
                places.extend(start..start + inner);
            }
        }
        Ok(vec![Tensor::new(shape, tensor.data.pick(&places), tensor.rows)])
    }
}

/// A number of a column, which may count from the end.
pub(crate) fn column(number: i64, columns: usize) -> Result<usize, Stop> {
    let place = if number < 0 { number + i64::try_from(columns).unwrap_or(0) } else { number };
    match usize::try_from(place) {
        Ok(place) if place < columns => Ok(place),
        _ => wrong(format!("there is no column {number} of {columns}")),
    }
}

pub(super) fn transpose(node: &Node<'_>) -> Building {
    built(Transpose(node.ints("perm", RANK_MAX)?))
}

/// Of a matrix that is the same for all rows.
struct Transpose(Vec<i64>);

impl Operator for Transpose {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let &[rows, columns] = tensor.shape.as_slice() else {
            return wrong(format!("{} comes in; a matrix is taken here", tensor.shown()));
        };
        match self.0.as_slice() {
            [0, 1] => return shaped(tensor, tensor.shape.clone(), work),
            [] | [1, 0] if !tensor.rows => {}
            _ => return wrong("it would mix the rows of a batch"),
        }
        work.take(tensor.data.len(), 24)?;
        let places: Vec<usize> =
            (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column)).collect();
        let data: Data = tensor.data.pick(&places);
        Ok(vec![Tensor::new(vec![columns, rows], data, false)])
    }
}
