//! Operators of two or more values, element by element, with the broadcasting of ONNX.

use super::{Building, built, input};
use crate::error::{Stop, wrong};
use crate::graph::{Operator, Work};
use crate::proto::Node;
use crate::tensor::{Data, Tensor, elements};

#[derive(Clone, Copy, PartialEq)]
enum Function {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    Sum,
    Mean,
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    And,
    Or,
}

pub(super) fn build(node: &Node<'_>) -> Building {
    let function = match node.operator {
        "Add" => Function::Add,
        "Sub" => Function::Sub,
        "Mul" => Function::Mul,
        "Div" => Function::Div,
        "Pow" => Function::Pow,
        "Min" => Function::Min,
        "Max" => Function::Max,
        "Sum" => Function::Sum,
        "Mean" => Function::Mean,
        "Equal" => Function::Equal,
        "Greater" => Function::Greater,
        "GreaterOrEqual" => Function::GreaterOrEqual,
        "Less" => Function::Less,
        "LessOrEqual" => Function::LessOrEqual,
        "And" => Function::And,
        _ => Function::Or,
    };
    built(Binary(function))
}

struct Binary(Function);

impl Operator for Binary {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        if !matches!(self.0, Function::Min | Function::Max | Function::Sum | Function::Mean) {
            return Ok(vec![two(self.0, input(inputs, 0)?, input(inputs, 1)?, work)?]);
        }
        // Of any number of inputs.
        let first = input(inputs, 0)?;
        work.take(first.data.len(), first.data.width())?;
        let mut result = first.clone();
        for number in 1..inputs.len() {
            result = two(self.0, &result, input(inputs, number)?, work)?;
        }
        if self.0 == Function::Mean
            && let Data::F32(data) = &mut result.data
        {
            let count = inputs.len() as f32;
            data.iter_mut().for_each(|x| *x /= count);
        }
        Ok(vec![result])
    }
}

fn two(function: Function, a: &Tensor, b: &Tensor, work: &mut Work<'_>) -> Result<Tensor, Stop> {
    let plan = Plan::of(&[a, b])?;
    let count = plan.count;
    let data = match (&a.data, &b.data) {
        (Data::F32(x), Data::F32(y)) => {
            work.take(count, 4)?;
            let numbers = |f: fn(f32, f32) -> f32| Ok(Data::F32(plan.zip(x, y, f)));
            let truths = |f: fn(f32, f32) -> bool| Ok(Data::Bool(plan.zip(x, y, f)));
            match function {
                // Written out, so that the loops know what they do.
                Function::Add | Function::Sum | Function::Mean => Ok(Data::F32(plan.zip(x, y, |x, y| x + y))),
                Function::Sub => Ok(Data::F32(plan.zip(x, y, |x, y| x - y))),
                Function::Mul => Ok(Data::F32(plan.zip(x, y, |x, y| x * y))),
                Function::Div => Ok(Data::F32(plan.zip(x, y, |x, y| x / y))),
                Function::Pow => {
                    work.worked(15 * count as u64)?;
                    numbers(libm::powf)
                }
                Function::Min => numbers(|x, y| if x.is_nan() || x < y { x } else { y }),
                Function::Max => numbers(|x, y| if x.is_nan() || x > y { x } else { y }),
                Function::Equal => truths(|x, y| x == y),
                Function::Greater => truths(|x, y| x > y),
                Function::GreaterOrEqual => truths(|x, y| x >= y),
                Function::Less => truths(|x, y| x < y),
                Function::LessOrEqual => truths(|x, y| x <= y),
                Function::And | Function::Or => wrong("float32 come in, it takes bool"),
            }
        }
        (Data::F64(x), Data::F64(y)) => {
            work.take(count, 8)?;
            let numbers = |f: fn(f64, f64) -> f64| Ok(Data::F64(plan.zip(x, y, f)));
            let truths = |f: fn(f64, f64) -> bool| Ok(Data::Bool(plan.zip(x, y, f)));
            match function {
                Function::Add | Function::Sum => numbers(|x, y| x + y),
                Function::Sub => numbers(|x, y| x - y),
                Function::Mul => numbers(|x, y| x * y),
                Function::Div => numbers(|x, y| x / y),
                Function::Pow => numbers(libm::pow),
                Function::Min => numbers(|x, y| if x.is_nan() || x < y { x } else { y }),
                Function::Max => numbers(|x, y| if x.is_nan() || x > y { x } else { y }),
                Function::Equal => truths(|x, y| x == y),
                Function::Greater => truths(|x, y| x > y),
                Function::GreaterOrEqual => truths(|x, y| x >= y),
                Function::Less => truths(|x, y| x < y),
                Function::LessOrEqual => truths(|x, y| x <= y),
                Function::And | Function::Or | Function::Mean => {
                    wrong("float64 come in, which it does not take")
                }
            }
        }
        (Data::I64(x), Data::I64(y)) => {
            work.take(count, 8)?;
            let numbers = |f: fn(i64, i64) -> i64| Ok(Data::I64(plan.zip(x, y, f)));
            let truths = |f: fn(i64, i64) -> bool| Ok(Data::Bool(plan.zip(x, y, f)));
            match function {
                Function::Add | Function::Sum => numbers(i64::wrapping_add),
                Function::Sub => numbers(i64::wrapping_sub),
                Function::Mul => numbers(i64::wrapping_mul),
                Function::Div if y.contains(&0) => wrong("an integer is divided by 0"),
                Function::Div => numbers(i64::wrapping_div),
                Function::Min => numbers(i64::min),
                Function::Max => numbers(i64::max),
                Function::Equal => truths(|x, y| x == y),
                Function::Greater => truths(|x, y| x > y),
                Function::GreaterOrEqual => truths(|x, y| x >= y),
                Function::Less => truths(|x, y| x < y),
                Function::LessOrEqual => truths(|x, y| x <= y),
                Function::And | Function::Or | Function::Pow | Function::Mean => {
                    wrong("integers come in, which it does not take")
                }
            }
        }
        (Data::Bool(x), Data::Bool(y)) => {
            work.take(count, 1)?;
            match function {
                Function::And => Ok(Data::Bool(plan.zip(x, y, |x, y| x && y))),
                Function::Or => Ok(Data::Bool(plan.zip(x, y, |x, y| x || y))),
                Function::Equal => Ok(Data::Bool(plan.zip(x, y, |x, y| x == y))),
                _ => wrong("bool come in, which it does not take"),
            }
        }
        (x, y) => wrong(format!("{} and {} come in, which do not go together", x.kind(), y.kind())),
    };
    Ok(Tensor {
        data: data?,
        classes: a.classes.clone(),
        ..Tensor::new(plan.shape, Data::Bool(vec![]), plan.rows)
    })
}

/// How values are laid over one another.
struct Plan {
    shape: Vec<usize>,
    count: usize,
    rows: bool,
    /// Of each value and dimension: how far the next element is, 0 where there is only one.
    steps: Vec<Vec<usize>>,
}

impl Plan {
    fn of(values: &[&Tensor]) -> Result<Plan, Stop> {
        let rank = values.iter().map(|value| value.shape.len()).max().unwrap_or(0);
        let rows = values.iter().any(|value| value.rows);
        let mut shape = vec![1; rank];
        for value in values {
            let lacks = rank - value.shape.len();
            if value.rows && lacks > 0 {
                return wrong("it would mix the rows of a batch (a value with more dimensions meets them)");
            }
            if rows && !value.rows && lacks == 0 && value.first() != 1 {
                return wrong("it would mix the rows of a batch (a value that is not of rows has several)");
            }
            for (length, found) in shape.iter_mut().skip(lacks).zip(&value.shape) {
                match (*length, *found) {
                    (before, found) if before == found || found == 1 => {}
                    (1, found) => *length = found,
                    _ => {
                        let shapes: Vec<_> = values.iter().map(|value| &value.shape).collect();
                        return wrong(format!("the shapes {shapes:?} do not go together"));
                    }
                }
            }
        }
        let count = elements(&shape).ok_or(Stop::Memory)?;
        let steps = values.iter().map(|value| {
            let mut steps = vec![0; rank];
            let mut step = 1;
            for (place, length) in steps.iter_mut().rev().zip(value.shape.iter().rev()) {
                *place = if *length == 1 { 0 } else { step };
                step *= length;
            }
            steps
        });
        let steps = steps.collect();
        Ok(Plan { shape, count, rows, steps })
    }

    /// Calls `each` with the places of the first elements of all runs along the last dimension.
    fn runs(&self, mut each: impl FnMut(&[usize])) {
        let last = self.shape.last().copied().unwrap_or(1);
        let rank = self.shape.len();
        let mut at = vec![0; self.steps.len()];
        let mut counter = vec![0; rank.saturating_sub(1)];
        for _ in 0..self.count / last.max(1) {
            each(&at);
            for dimension in (0..counter.len()).rev() {
                let (Some(count), Some(length)) = (counter.get_mut(dimension), self.shape.get(dimension))
                else {
                    return;
                };
                *count += 1;
                let over = *count == *length;
                let moved = if over { *count - 1 } else { 1 };
                if over {
                    *count = 0;
                }
                for (place, steps) in at.iter_mut().zip(&self.steps) {
                    let step = steps.get(dimension).copied().unwrap_or(0) * moved;
                    *place = if over { place.wrapping_sub(step) } else { place.wrapping_add(step) };
                }
                if !over {
                    break;
                }
            }
        }
    }

    /// The steps along the last dimension.
    fn last_step(&self, value: usize) -> usize {
        self.steps.get(value).and_then(|steps| steps.last()).copied().unwrap_or(0)
    }

    fn zip<T: Copy, U>(&self, x: &[T], y: &[T], function: impl Fn(T, T) -> U) -> Vec<U> {
        let last = self.shape.last().copied().unwrap_or(1);
        let mut out = Vec::with_capacity(self.count);
        let along = (self.last_step(0), self.last_step(1));
        self.runs(|at| {
            let &[from_x, from_y] = at else { return };
            let (x, y) = (x.get(from_x..).unwrap_or_default(), y.get(from_y..).unwrap_or_default());
            match (along, x.first(), y.first()) {
                ((0, 0), Some(x), Some(y)) => out.extend((0..last).map(|_| function(*x, *y))),
                ((0, _), Some(x), _) => out.extend(y.iter().take(last).map(|y| function(*x, *y))),
                ((_, 0), _, Some(y)) => out.extend(x.iter().take(last).map(|x| function(*x, *y))),
                _ => out.extend(x.iter().zip(y).take(last).map(|(x, y)| function(*x, *y))),
            }
        });
        out
    }
}

/// Of two values, the one that a third says.
pub(super) struct Where;

impl Operator for Where {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let (which, a, b) = (input(inputs, 0)?, input(inputs, 1)?, input(inputs, 2)?);
        let Data::Bool(truths) = &which.data else {
            return wrong(format!("{} come in, it takes bool", which.data.kind()));
        };
        let plan = Plan::of(&[which, a, b])?;
        work.take(plan.count, 16)?;
        let last = plan.shape.last().copied().unwrap_or(1);
        let steps = [plan.last_step(0), plan.last_step(1), plan.last_step(2)];
        let mut places = (Vec::with_capacity(plan.count), Vec::with_capacity(plan.count));
        plan.runs(|at| {
            let &[which, a, b] = at else { return };
            for number in 0..last {
                let truth = truths.get(which + number * steps[0]).copied().unwrap_or_default();
                places.0.push(truth);
                places.1.push(if truth { a + number * steps[1] } else { b + number * steps[2] });
            }
        });
        fn choose<T: Copy + Default>((truths, places): &(Vec<bool>, Vec<usize>), a: &[T], b: &[T]) -> Vec<T> {
            let chosen = truths.iter().zip(places);
            chosen
                .map(|(truth, place)| if *truth { a } else { b }.get(*place).copied().unwrap_or_default())
                .collect()
        }
        let data = match (&a.data, &b.data) {
            (Data::F32(a), Data::F32(b)) => Data::F32(choose(&places, a, b)),
            (Data::F64(a), Data::F64(b)) => Data::F64(choose(&places, a, b)),
            (Data::I64(a), Data::I64(b)) => Data::I64(choose(&places, a, b)),
            (a, b) => {
                return wrong(format!("{} and {} come in, which do not go together", a.kind(), b.kind()));
            }
        };
        Ok(vec![Tensor::new(plan.shape, data, plan.rows)])
    }
}
