//! Chains over real instances: what a guest can do wrong, and that it costs only the guest.
//!
//! The guests are small core modules in the text format; `support` gives them the component metadata that a plugin SDK
//! would. Guests written in real languages have their tests in `tests/` at the top of the workspace.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should say where")]

mod abi;
mod bisection;
mod code;
mod doors;
mod event_time;
mod isolation;
mod limits;
#[path = "../places/mod.rs"]
mod places;
mod speed;
mod state;
mod support;
mod wasi;
