//! The `features` plugin.
