//! Operators of one value, element by element. Functions are those of `libm`, which gives the same on every machine.

use std::sync::Arc;

use super::{Building, built, input, optional};
use crate::error::{Stop, wrong};
use crate::graph::{Operator, Work};
use crate::limits::LABEL_MEMORY_BYTES;
use crate::proto::{Node, element};
use crate::tensor::{Data, Tensor};

#[derive(Clone, Copy)]
enum Function {
    Abs,
    Ceil,
    Elu(f32),
    Erf,
    Exp,
    Floor,
    Gelu,
    GeluTanh,
    HardSigmoid(f32, f32),
    LeakyRelu(f32),
    Log,
    Neg,
    Not,
    Reciprocal,
    Relu,
    Selu(f32, f32),
    Sigmoid,
    Sign,
    Softplus,
    Softsign,
    Sqrt,
    Tanh,
}

/// `None`: it is none of these.
pub(super) fn build(node: &Node<'_>) -> Option<Building> {
    let alpha = |default: f32| node.float("alpha").map(|alpha| alpha.unwrap_or(default));
    let function = match node.operator {
        "Abs" => Ok(Function::Abs),
        "Ceil" => Ok(Function::Ceil),
        "Elu" => alpha(1.0).map(Function::Elu),
        "Erf" => Ok(Function::Erf),
        "Exp" => Ok(Function::Exp),
        "Floor" => Ok(Function::Floor),
        "Gelu" => node.text("approximate").map(|how| match how {
            Some("tanh") => Function::GeluTanh,
            _ => Function::Gelu,
        }),
        "HardSigmoid" => alpha(0.2).and_then(|alpha| {
            let beta = node.float("beta")?.unwrap_or(0.5);
            Ok(Function::HardSigmoid(alpha, beta))
        }),
        "LeakyRelu" => alpha(0.01).map(Function::LeakyRelu),
        "Log" => Ok(Function::Log),
        "Neg" => Ok(Function::Neg),
        "Not" => Ok(Function::Not),
        "Reciprocal" => Ok(Function::Reciprocal),
        "Relu" => Ok(Function::Relu),
        "Selu" => alpha(1.673_263_2).and_then(|alpha| {
            let gamma = node.float("gamma")?.unwrap_or(1.050_701);
            Ok(Function::Selu(alpha, gamma))
        }),
        "Sigmoid" => Ok(Function::Sigmoid),
        "Sign" => Ok(Function::Sign),
        "Softplus" => Ok(Function::Softplus),
        "Softsign" => Ok(Function::Softsign),
        "Sqrt" => Ok(Function::Sqrt),
        "Tanh" => Ok(Function::Tanh),
        _ => return None,
    };
    Some(function.and_then(|function| built(Unary(function))))
}

struct Unary(Function);

impl Operator for Unary {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        work.take(tensor.data.len(), tensor.data.width())?;
        let data = match (&tensor.data, self.0) {
            (Data::F32(data), function) => {
                work.worked(7 * data.len() as u64)?;
                Data::F32(of_floats(data, function)?)
            }
            // The few functions that are asked of such numbers are computed with 64 bits.
            (Data::F64(data), function) => {
                work.worked(7 * data.len() as u64)?;
                Data::F64(of_doubles(data, function)?)
            }
            (Data::I64(data), Function::Neg) => Data::I64(data.iter().map(|x| x.wrapping_neg()).collect()),
            (Data::I64(data), Function::Abs) => Data::I64(data.iter().map(|x| x.wrapping_abs()).collect()),
            (Data::Bool(data), Function::Not) => Data::Bool(data.iter().map(|x| !x).collect()),
            (other, _) => return wrong(format!("{} come in, which it does not take", other.kind())),
        };
        Ok(vec![Tensor { data, ..tensor.clone_shape() }])
    }
}

fn of_floats(data: &[f32], function: Function) -> Result<Vec<f32>, Stop> {
    fn each(data: &[f32], function: impl Fn(f32) -> f32) -> Vec<f32> {
        data.iter().map(|x| function(*x)).collect()
    }
    Ok(match function {
        Function::Abs => each(data, f32::abs),
        Function::Ceil => each(data, f32::ceil),
        Function::Elu(alpha) => each(data, |x| if x < 0.0 { alpha * libm::expm1f(x) } else { x }),
        Function::Erf => each(data, libm::erff),
        Function::Exp => each(data, libm::expf),
        Function::Floor => each(data, f32::floor),
        Function::Gelu => each(data, |x| 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))),
        Function::GeluTanh => each(data, |x| {
            // sqrt(2 / pi)
            let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + libm::tanhf(inner))
        }),
        Function::HardSigmoid(alpha, beta) => each(data, |x| (alpha * x + beta).clamp(0.0, 1.0)),
        Function::LeakyRelu(alpha) => each(data, |x| if x < 0.0 { alpha * x } else { x }),
        Function::Log => each(data, libm::logf),
        Function::Neg => each(data, |x| -x),
        Function::Not => return wrong("float32 come in, it takes bool"),
        Function::Reciprocal => each(data, |x| 1.0 / x),
        // What is not a number stays so.
        Function::Relu => each(data, |x| if x < 0.0 { 0.0 } else { x }),
        Function::Selu(alpha, gamma) => {
            each(data, |x| gamma * if x > 0.0 { x } else { alpha * libm::expm1f(x) })
        }
        Function::Sigmoid => each(data, sigmoid),
        Function::Sign => each(data, |x| if x == 0.0 || x.is_nan() { x } else { x.signum() }),
        Function::Softplus => each(data, |x| x.max(0.0) + libm::log1pf(libm::expf(-x.abs()))),
        Function::Softsign => each(data, |x| x / (1.0 + x.abs())),
        Function::Sqrt => each(data, f32::sqrt),
        Function::Tanh => each(data, libm::tanhf),
    })
}

fn of_doubles(data: &[f64], function: Function) -> Result<Vec<f64>, Stop> {
    fn each(data: &[f64], function: impl Fn(f64) -> f64) -> Vec<f64> {
        data.iter().map(|x| function(*x)).collect()
    }
    Ok(match function {
        Function::Abs => each(data, f64::abs),
        Function::Exp => each(data, libm::exp),
        Function::Log => each(data, libm::log),
        Function::Neg => each(data, |x| -x),
        Function::Relu => each(data, |x| if x < 0.0 { 0.0 } else { x }),
        Function::Sigmoid => each(data, |x| 1.0 / (1.0 + libm::exp(-x))),
        Function::Sqrt => each(data, f64::sqrt),
        Function::Tanh => each(data, libm::tanh),
        _ => return wrong("float64 come in, it takes float32; export the model for float32"),
    })
}

/// The logistic function.
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-x))
}

impl Tensor {
    /// The same without its elements, for others in their place.
    pub(crate) fn clone_shape(&self) -> Tensor {
        Tensor {
            shape: self.shape.clone(),
            data: Data::Bool(Vec::new()),
            rows: self.rows,
            classes: self.classes.clone(),
        }
    }
}

pub(super) fn cast(node: &Node<'_>) -> Building {
    let to = node.int("to")?.unwrap_or(0);
    match to {
        element::FLOAT
        | element::DOUBLE
        | element::INT64
        | element::INT32
        | element::BOOL
        | element::STRING => built(Cast(to)),
        other => Err(format!("it makes {}, which are not there here", element::name(other))),
    }
}

struct Cast(i64);

impl Operator for Cast {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let width = if self.0 == element::STRING { LABEL_MEMORY_BYTES } else { 8 };
        work.take(tensor.data.len(), width)?;
        let data = match (&tensor.data, self.0) {
            (Data::F32(data), element::FLOAT) => Data::F32(data.clone()),
            (Data::F32(data), element::DOUBLE) => Data::F64(data.iter().map(|x| f64::from(*x)).collect()),
            (Data::F32(data), element::INT64 | element::INT32) => {
                Data::I64(data.iter().map(|x| *x as i64).collect())
            }
            (Data::F32(data), element::BOOL) => Data::Bool(data.iter().map(|x| *x != 0.0).collect()),
            (Data::F64(data), element::FLOAT) => Data::F32(data.iter().map(|x| *x as f32).collect()),
            (Data::F64(data), element::DOUBLE) => Data::F64(data.clone()),
            (Data::F64(data), element::INT64 | element::INT32) => {
                Data::I64(data.iter().map(|x| *x as i64).collect())
            }
            (Data::F64(data), element::BOOL) => Data::Bool(data.iter().map(|x| *x != 0.0).collect()),
            (Data::I64(data), element::FLOAT) => Data::F32(data.iter().map(|x| *x as f32).collect()),
            (Data::I64(data), element::DOUBLE) => Data::F64(data.iter().map(|x| *x as f64).collect()),
            (Data::I64(data), element::INT64 | element::INT32) => Data::I64(data.clone()),
            (Data::I64(data), element::BOOL) => Data::Bool(data.iter().map(|x| *x != 0).collect()),
            (Data::I64(data), element::STRING) => {
                Data::Text(data.iter().map(|x| Arc::from(x.to_string())).collect())
            }
            (Data::Bool(data), element::FLOAT) => Data::F32(data.iter().map(|x| f32::from(*x)).collect()),
            (Data::Bool(data), element::DOUBLE) => Data::F64(data.iter().map(|x| f64::from(*x)).collect()),
            (Data::Bool(data), element::INT64 | element::INT32) => {
                Data::I64(data.iter().map(|x| i64::from(*x)).collect())
            }
            (Data::Bool(data), element::BOOL) => Data::Bool(data.clone()),
            (Data::Text(data), element::STRING) => Data::Text(data.clone()),
            (other, to) => {
                return wrong(format!("{} cannot be made {} here", other.kind(), element::name(to)));
            }
        };
        Ok(vec![Tensor { data, ..tensor.clone_shape() }])
    }
}

/// Before version 11 the bounds are attributes, since then inputs.
pub(super) fn clip(node: &Node<'_>) -> Building {
    built(Clip { min: node.float("min")?, max: node.float("max")? })
}

struct Clip {
    min: Option<f32>,
    max: Option<f32>,
}

impl Operator for Clip {
    fn run(&self, inputs: &[Option<&Tensor>], work: &mut Work<'_>) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        let bound = |number: usize, attribute: Option<f32>| match optional(inputs, number) {
            None => Ok(attribute),
            Some(bound) => Ok(super::floats(bound)?.first().copied()),
        };
        let min = bound(1, self.min)?.unwrap_or(f32::NEG_INFINITY);
        let max = bound(2, self.max)?.unwrap_or(f32::INFINITY);
        let data = super::floats(tensor)?;
        work.take(data.len(), 4)?;
        let clip = |x: &f32| {
            let x = if *x < min { min } else { *x };
            if x > max { max } else { x }
        };
        let data = Data::F32(data.iter().map(clip).collect());
        Ok(vec![Tensor { data, ..tensor.clone_shape() }])
    }
}
