//! The `enrich` plugin.
