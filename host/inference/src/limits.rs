//! Every bound on a model and on what it computes, in one file.

/// Largest model file.
pub const MODEL_BYTES_MAX: u64 = 64 << 20;
/// Operators of a graph; also its inputs and outputs, and what it holds of constants by number.
pub(crate) const NODES_MAX: usize = 10_000;
/// Attributes, inputs or outputs of one node.
pub(crate) const PARTS_PER_NODE_MAX: usize = 4096;
/// Dimensions of a tensor.
pub(crate) const RANK_MAX: usize = 8;
/// Constants and trees as they are kept in memory: numbers of a byte in the file take eight.
pub(crate) const MODEL_MEMORY_BYTES_MAX: usize = 256 << 20;
/// Columns of an input.
pub(crate) const COLUMNS_MAX: usize = 65_536;
/// Everything that is computed between the input and the output of some rows; more rows are taken one lot after another.
pub const WORK_BYTES_MAX: usize = 16 << 20;
/// Of that, what a lot of rows is meant to take: it stays in the processor's cache.
pub(crate) const LOT_BYTES: usize = 1 << 20;
/// Rows of a lot.
pub(crate) const LOT_ROWS_MAX: usize = 1024;
/// Units of work (about a multiplication each) after which it is looked whether the time is over: about a millisecond.
pub(crate) const WORK_PER_LOOK: u64 = 1 << 20;
/// Longest name, label or other text.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;
/// Inputs, outputs and attributes of all nodes together.
pub(crate) const PARTS_MAX: usize = 16 * NODES_MAX;
/// What a label takes of memory beside its bytes.
pub(crate) const LABEL_MEMORY_BYTES: usize = 64;
