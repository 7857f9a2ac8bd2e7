//! The `anomaly` plugin: how far the values of a key are from what is usual for it, and when that is an alarm.
//!
//! Detectors for one value (control chart, robust z-score, baseline by season) and for several at once (half-space
//! trees). What a detector has learnt of a key is in the transform's keyed state.

pub mod alarm;
pub mod config;
pub mod detect;
pub mod engine;
pub mod transform;

pub use transform::Detection;
