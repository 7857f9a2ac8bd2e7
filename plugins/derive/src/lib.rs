//! The `derive` plugin.
