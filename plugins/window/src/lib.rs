//! The `window` plugin: aggregates of records by key and window of event time.
//!
//! Tumbling, sliding and session windows; results at a window's end, early, or whenever they change. What it keeps is
//! in the transform's keyed state, written with the outcome of the records that it came of, so that every record
//! counts once whatever is run again. Records themselves do not leave unless `pass` says so.

pub mod aggregate;
pub mod config;
pub mod engine;
pub mod pane;
pub mod shape;
pub mod transform;

pub use transform::Windows;
