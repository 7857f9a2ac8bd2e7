//! The expression language that `filter` and `derive` share.
//!
//! An expression is compiled once, in `configure`, and then evaluated over the columns of a chunk: conditions over
//! fields and literals run column by column, everything else row by row. The language, its functions and its rules
//! for missing values are described in this crate's README.
//!
//! What it refuses: expressions that are too long, too deep or ill-typed, with the position; and at run time it
//! never fails: what cannot be computed is null.

mod check;
mod columns;
mod error;
mod eval;
mod function;
mod lexer;
mod mask;
mod moment;
mod parser;
mod pattern;
mod program;
mod results;
mod syntax;
mod value;

pub use columns::{Columns, Fields};
pub use error::ExprError;
pub use program::{Program, field_path, hash};
pub use results::Results;
pub use value::Value;
