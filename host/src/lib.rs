//! The host: where the stages, each a crate of its own, become one program.
//!
//! `api` is the HTTP face (push, health, metrics, state); `pipeline` wires the stages of a stream. The program that
//! starts both does not exist yet: see `ARCHITECTURE.md`.

pub mod api;
pub mod pipeline;
pub mod telemetry;
