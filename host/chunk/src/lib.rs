//! The rows that a chain of plugins works on: the exact semantics of the WIT interface `records`, without
//! any Wasm in it. The host maps guest calls onto [`Chunk`]; the Rust SDK uses it as its in-memory chunk.
//!
//! Owns: scanning JSON for the fields that a chain declared, typed cells, staged writes, derived and fresh
//! rows, verdicts, and writing the final JSON once. Refuses: I/O, clocks, knowledge of plugins, outputs
//! and formats. The rules that the WIT leaves open are fixed in `README.md` and in `wit/vectors.json`.

mod apply;
mod blocks;
mod cells;
mod chunk;
mod edit;
mod error;
mod fail;
mod finish;
mod input;
mod layout;
mod marks;
mod merge;
mod number;
mod read;
mod scan;
mod stage;
mod staged;
mod store;
mod table;
mod text;
mod verdict;
mod writer;

pub use cells::{Cells, CellsRef, Column, ColumnRef, Floats, FloatsRef, Ints, IntsRef, state, write};
pub use chunk::{Chunk, RowsId};
pub use error::{LayoutError, Misuse, OverLimit};
pub use input::{ChunkLimits, FinishOptions, Input};
pub use layout::Layout;
pub use verdict::{Failure, NO_INPUT, Partition, RowCheck, RowMeta, RowSink, Verdicts};
