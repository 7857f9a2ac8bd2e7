//! Wasmill.
