//! The durable buffer.
