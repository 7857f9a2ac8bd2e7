//! The `dedupe` plugin: of records that are the same within a time, the first passes.
//!
//! Same means: the same values of some fields, or the same bytes. Times are those of the records or of their arrival.
//! What has passed is in the transform's keyed state, so that a record that is run again is not its own duplicate.

pub mod config;
pub mod engine;
pub mod transform;

pub use transform::Deduplication;
