//! Wasmill.

pub mod api;
pub mod pipeline;
