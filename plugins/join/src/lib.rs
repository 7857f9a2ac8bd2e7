//! The `join` plugin: records with the rows of a table, or two kinds of records of one stream with each other.
//!
//! A table comes with the config or from a granted file. Of two sides, records wait for each other in the transform's
//! keyed state for as long as the bounds of their times say.

pub mod config;
pub mod engine;
pub mod streams;
pub mod table;
pub mod with_table;
