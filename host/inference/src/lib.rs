//! ONNX models over rows of numbers: what `wasi:nn` computes for plugins.
//!
//! Runs linear models, ensembles of trees and small dense networks as scikit-learn, LightGBM and PyTorch export them, row by
//! row: the first dimension of inputs and outputs is that of the rows, and no operator may mix them. So any number of rows is
//! taken lot after lot, within memory that does not grow with them, and everything can be stopped between two lots.
//!
//! A file is data of a stranger: it is read in place, everything in it is bounded ([`MODEL_BYTES_MAX`] and `limits.rs`), graphs
//! have no loops and no branches, and nothing leads to other files. What is refused says where it is and what would be
//! right. Results do not depend on the processor: sums are added in one order, without fused operations.
//!
//! Knows neither Wasm nor files.

mod error;
mod graph;
mod limits;
mod ml;
mod ops;
mod proto;
mod tensor;
mod wire;

pub use error::{ModelError, RunError};
pub use graph::{Model, Port};
pub use limits::{MODEL_BYTES_MAX, WORK_BYTES_MAX};
pub use tensor::{Classes, Data, Tensor};
