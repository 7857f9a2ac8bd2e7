//! Wires the stages of one stream: cuts slices, gathers batches, commits outcomes, notes deliveries.
//!
//! The only place that imports several stages. What is compiled so far are its parts that stand alone.
#![allow(dead_code, reason = "the stream task that uses these parts is not wired yet")]

pub mod dead_letters;
mod judge;
mod outcome;
pub mod stats;
