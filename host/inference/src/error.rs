//! Why a model is refused, and why it could not be run.

/// Why a file is no model that runs here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("{bytes} bytes are over the limit of {max} for a model")]
    TooLarge { bytes: u64, max: u64 },
    #[error("not an ONNX model, damaged or cut off: {what}")]
    Damaged { what: &'static str },
    #[error("{count} {what}, more than the limit of {max}")]
    TooMany { what: &'static str, count: usize, max: usize },
    #[error("it takes more than {max} bytes of memory")]
    Memory { max: usize },
    #[error("node {node:?}: there is no operator {operator:?} here; the ones that there are: {known}")]
    Operator { node: String, operator: String, known: String },
    #[error("node {node:?} ({operator}): {reason}")]
    Node { node: String, operator: String, reason: String },
    #[error("input {input:?}: {reason}")]
    Input { input: String, reason: String },
    #[error("output {output:?}: {reason}")]
    Output { output: String, reason: String },
    #[error("{0}")]
    Graph(String),
    #[error("it was not ready in time")]
    Overdue,
    #[error("the reader of models failed at it: {0}")]
    Panicked(String),
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// What was handed over does not go with the model.
    #[error("{0}")]
    Input(String),
    #[error("its outputs take more than the {max} bytes that are left")]
    Memory { max: usize },
    #[error("the time of the call is over")]
    Overdue,
    #[error("node {node:?} ({operator}): {reason}")]
    Node { node: String, operator: String, reason: String },
    #[error("running the model failed: {0}")]
    Panicked(String),
}

/// Why an operator stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Between input and output there would be more than [`crate::WORK_BYTES_MAX`].
    Memory,
    Overdue,
    Wrong(String),
}

/// An operator cannot do that; the text says what would be right.
pub(crate) fn wrong<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Wrong(reason.into()))
}
