//! Wasm: engine, instances, limits, chains.
