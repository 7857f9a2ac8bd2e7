//! Wasmill.

pub mod pipeline;
pub mod api;
