//! Formats and compression.
