//! The `parse` plugin.
