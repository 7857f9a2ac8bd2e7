//! What the tests of the whole share: first-party plugins as components and natively, case folders, a slice run.
//!
//! Owns no expectation of its own: each test says what it expects.

pub mod access_log;
pub mod case;
pub mod components;
pub mod native;
pub mod run;
