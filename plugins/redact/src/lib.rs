//! The `redact` plugin.
