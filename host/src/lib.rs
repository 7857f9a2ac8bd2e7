//! The host: where the stages, each a crate of its own, become one program.
//!
//! `cli` is the command line; `api` is the HTTP face (push, health, metrics, state); `pipeline` wires the stages of a
//! stream; `telemetry` is what the program says about itself, as logs and metrics.

pub mod api;
pub mod cli;
pub mod pipeline;
pub mod telemetry;
