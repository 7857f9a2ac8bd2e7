//! The rows that a chain of plugins works on.
