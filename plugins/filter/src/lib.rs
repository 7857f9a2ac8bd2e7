//! The `filter` plugin.
