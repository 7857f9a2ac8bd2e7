//! The Wasm engine: one per process.

use std::path::Path;
use std::sync::Arc;

use crate::manifest::Manifest;
use crate::plugin::{Digest, LoadError, Plugin};

/// Stack that a thread must have which runs guests: the guests' own part and what host functions need.
pub const WORKER_STACK_BYTES: usize = (512 << 10) + (4 << 20);

/// What an engine is built from.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Instances that may be alive at once in the process, over all chains and workers.
    pub instances_max: u32,
    /// Period of the interruption ticker, 1 to 10 ms; deadlines are exact to about this.
    pub tick: std::time::Duration,
    /// Try the pooling allocator first; it needs a lot of address space.
    pub pooling: bool,
    /// Compile with all cores. Off in the compile child, whose memory is limited.
    pub parallel_compilation: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            instances_max: 1000,
            tick: std::time::Duration::from_millis(5),
            pooling: true,
            parallel_compilation: true,
        }
    }
}

/// The Wasm engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    _inner: Arc<()>,
}

/// Why there is no engine or no code.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("configure the Wasm engine: {message}")]
    Config { message: String },
    #[error("start the interruption ticker")]
    Ticker(#[source] std::io::Error),
    #[error("compile: {message}")]
    Compile { message: String },
}

impl Engine {
    pub fn new(_options: EngineOptions) -> Result<Engine, EngineError> {
        unimplemented!()
    }
    /// A text that changes whenever compiled code stops being interchangeable; part of the cache key.
    pub fn compatibility(&self) -> String {
        unimplemented!()
    }
    /// Compiles a component; may take long and much memory: see [`crate::compile_in_child`].
    pub fn precompile(&self, _component: &[u8]) -> Result<Vec<u8>, EngineError> {
        unimplemented!()
    }
    /// Loads what [`crate::CodeCache`] wrote. `digest` is that of the plugin file, `manifest` the one in it.
    pub fn load(&self, _precompiled: &Path, _manifest: Manifest, _digest: Digest) -> Result<Arc<Plugin>, LoadError> {
        unimplemented!()
    }
}
