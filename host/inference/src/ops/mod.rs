//! The operators that there are, and which of them a node is.
//!
//! Semantics are those of the ONNX operator specification, for values of which the first dimension is that of the rows. No
//! operator mixes rows: what would is refused when the model is tried.

mod binary;
pub(crate) mod dense;
pub(crate) mod reduce;
pub(crate) mod shape;
pub(crate) mod unary;

use crate::error::{Stop, wrong};
use crate::graph::Operator;
use crate::limits::{MODEL_MEMORY_BYTES_MAX, NODES_MAX};
use crate::ml;
use crate::proto::{AttributeError, Node};
use crate::tensor::{Data, Tensor, constant};

/// What a node became.
pub(crate) enum Built {
    Operator(Box<dyn Operator>),
    Constant(Tensor),
}

pub(crate) type Building = Result<Built, AttributeError>;

pub(crate) fn built(operator: impl Operator + 'static) -> Building {
    Ok(Built::Operator(Box::new(operator)))
}

/// Every operator by its name; `ml.` is the domain `ai.onnx.ml`.
pub(crate) const KNOWN: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Flatten",
    "Floor",
    "Gather",
    "Gelu",
    "Gemm",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "Identity",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "Mean",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Pow",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Selu",
    "Sigmoid",
    "Sign",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
    "ml.ArrayFeatureExtractor",
    "ml.Binarizer",
    "ml.Imputer",
    "ml.LinearClassifier",
    "ml.LinearRegressor",
    "ml.Normalizer",
    "ml.Scaler",
    "ml.TreeEnsembleClassifier",
    "ml.TreeEnsembleRegressor",
    "ml.ZipMap",
];

/// The name by which refusals know the operator of a node.
pub(crate) fn full_name(node: &Node<'_>) -> String {
    match node.domain {
        "" | "ai.onnx" => node.operator.to_owned(),
        "ai.onnx.ml" => format!("ml.{}", node.operator),
        other => format!("{other}.{}", node.operator),
    }
}

/// The operator of a node; `None`: there is none here.
pub(crate) fn build(node: &Node<'_>, opset: i64, memory: &mut usize) -> Option<Building> {
    if node.has_graph() {
        return None;
    }
    match node.domain {
        "" | "ai.onnx" => {}
        "ai.onnx.ml" => return ml::build(node, memory),
        _ => return None,
    }
    Some(match node.operator {
        "Constant" => a_constant(node, memory),
        "Cast" => unary::cast(node),
        "Clip" => unary::clip(node),
        "Dropout" | "Identity" => built(Same),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" | "Sum" | "Mean" | "Equal" | "Greater"
        | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or" => binary::build(node),
        "Where" => built(binary::Where),
        "MatMul" => built(dense::MatMul),
        "Gemm" => dense::gemm(node),
        "BatchNormalization" => dense::batch_normalization(node),
        "LayerNormalization" => dense::layer_normalization(node),
        "Softmax" | "LogSoftmax" => reduce::softmax(node, opset),
        "ArgMax" => reduce::arg_max(node),
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" => reduce::build(node),
        "Reshape" => shape::reshape(node),
        "Flatten" => shape::flatten(node),
        "Squeeze" | "Unsqueeze" => shape::squeeze(node),
        "Concat" => shape::concat(node),
        "Gather" => shape::gather(node),
        "Transpose" => shape::transpose(node),
        _ => return unary::build(node),
    })
}

fn a_constant(node: &Node<'_>, memory: &mut usize) -> Building {
    let single = |data| Ok(Built::Constant(Tensor::new(Vec::new(), data, false)));
    if let Some(body) = node.tensor("value")? {
        let (_, tensor) = constant(body, memory).map_err(|error| error.to_string())?;
        return Ok(Built::Constant(tensor));
    }
    if let Some(number) = node.float("value_float")? {
        return single(Data::F32(vec![number]));
    }
    if let Some(number) = node.int("value_int")? {
        return single(Data::I64(vec![number]));
    }
    let list = |data: Data| Ok(Built::Constant(Tensor::new(vec![data.len()], data, false)));
    if node.has("value_ints") {
        let numbers = node.ints("value_ints", NODES_MAX)?;
        let over = || format!("its numbers take more than {MODEL_MEMORY_BYTES_MAX} bytes with those before");
        *memory = memory.checked_sub(8 * numbers.len()).ok_or_else(over)?;
        return list(Data::I64(numbers));
    }
    if node.has("value_floats") {
        return list(Data::F32(node.floats("value_floats")?));
    }
    Err("it has no value of numbers".to_owned())
}

/// The input of this number.
pub(crate) fn input<'a>(inputs: &[Option<&'a Tensor>], number: usize) -> Result<&'a Tensor, Stop> {
    match inputs.get(number).copied().flatten() {
        Some(tensor) => Ok(tensor),
        None => wrong(format!("input {number} is missing")),
    }
}

/// An input that may be left out.
pub(crate) fn optional<'a>(inputs: &[Option<&'a Tensor>], number: usize) -> Option<&'a Tensor> {
    inputs.get(number).copied().flatten()
}

/// Numbers of 32 bits.
pub(crate) fn floats(tensor: &Tensor) -> Result<&[f32], Stop> {
    match &tensor.data {
        Data::F32(data) => Ok(data),
        other => wrong(format!("{} come in, it takes float32; export the model for float32", other.kind())),
    }
}

/// Integers that are the same for all rows, such as axes.
pub(crate) fn fixed_ints(tensor: &Tensor) -> Result<&[i64], Stop> {
    match &tensor.data {
        Data::I64(data) if !tensor.rows => Ok(data),
        _ => wrong("shapes, axes and indices must be integers that do not depend on the rows"),
    }
}

/// An axis, which may count from the end, of a tensor of which it is not that of the rows.
pub(crate) fn axis_of(tensor: &Tensor, axis: i64) -> Result<usize, Stop> {
    let rank = i64::try_from(tensor.shape.len()).unwrap_or(i64::MAX);
    let place = if axis < 0 { axis + rank } else { axis };
    match usize::try_from(place) {
        Ok(0) if tensor.rows => wrong("it would mix the rows of a batch (its axis is the first one)"),
        Ok(place) if place < tensor.shape.len() => Ok(place),
        _ => wrong(format!("there is no axis {axis} in {}", tensor.shown())),
    }
}

/// Passes on what comes in.
struct Same;

impl Operator for Same {
    fn run(
        &self,
        inputs: &[Option<&Tensor>],
        work: &mut crate::graph::Work<'_>,
    ) -> Result<Vec<Tensor>, Stop> {
        let tensor = input(inputs, 0)?;
        work.take(tensor.data.len(), tensor.data.width())?;
        Ok(vec![tensor.clone()])
    }
}
