//! Operators of the domain `ai.onnx.ml`: what scikit-learn's and LightGBM's converters export.

mod forest;
mod linear;
mod prepare;
mod trees;

use std::sync::Arc;

use crate::limits::{LABEL_MEMORY_BYTES, NODES_MAX};
use crate::ops::Building;
use crate::ops::reduce::to_softmax;
use crate::ops::unary::sigmoid;
use crate::proto::{AttributeError, Node};
use crate::tensor::Classes;

/// `None`: there is no such operator here.
pub(crate) fn build(node: &Node<'_>, memory: &mut usize) -> Option<Building> {
    Some(match node.operator {
        "ArrayFeatureExtractor" => prepare::extractor(),
        "Binarizer" => prepare::binarizer(node),
        "Imputer" => prepare::imputer(node),
        "LinearClassifier" => linear::classifier(node, memory),
        "LinearRegressor" => linear::regressor(node),
        "Normalizer" => prepare::normalizer(node),
        "Scaler" => prepare::scaler(node),
        "TreeEnsembleClassifier" => trees::classifier(node, memory),
        "TreeEnsembleRegressor" => trees::regressor(node, memory),
        "ZipMap" => prepare::zip_map(node, memory),
        _ => return None,
    })
}

/// What becomes of scores at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PostTransform {
    None,
    Softmax,
    SoftmaxZero,
    Logistic,
}

impl PostTransform {
    fn of(node: &Node<'_>) -> Result<PostTransform, AttributeError> {
        match node.text("post_transform")? {
            None | Some("" | "NONE") => Ok(PostTransform::None),
            Some("SOFTMAX") => Ok(PostTransform::Softmax),
            Some("SOFTMAX_ZERO") => Ok(PostTransform::SoftmaxZero),
            Some("LOGISTIC") => Ok(PostTransform::Logistic),
            Some(other) => Err(format!(
                "post_transform {other:?} is not there here; NONE, SOFTMAX, SOFTMAX_ZERO and LOGISTIC are"
            )),
        }
    }

    fn apply(self, row: &mut [f32]) {
        match self {
            PostTransform::None => {}
            PostTransform::Softmax => to_softmax(row),
            PostTransform::SoftmaxZero => {
                let zeros: Vec<bool> = row.iter().map(|x| *x == 0.0).collect();
                to_softmax(row);
                row.iter_mut().zip(zeros).filter(|(_, zero)| *zero).for_each(|(x, _)| *x = 0.0);
            }
            PostTransform::Logistic => row.iter_mut().for_each(|x| *x = sigmoid(*x)),
        }
    }
}

/// The labels of a classifier, by either name of their attributes.
fn classes(
    node: &Node<'_>,
    numbers: &str,
    names: &str,
    memory: &mut usize,
) -> Result<Arc<Classes>, AttributeError> {
    let texts = node.labels(names)?;
    let numbers = if texts.is_empty() { node.ints(numbers, NODES_MAX)? } else { Vec::new() };
    let charge = (texts.len() + numbers.len()) * LABEL_MEMORY_BYTES;
    *memory = memory.checked_sub(charge).ok_or("its labels take too much memory with what is before")?;
    let classes = if texts.is_empty() {
        Classes::Numbers(numbers)
    } else {
        Classes::Names(texts.into_iter().map(Arc::from).collect())
    };
    Ok(Arc::new(classes))
}
