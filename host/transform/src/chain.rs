//! A chain of configured transforms, shared by the workers that run it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::Engine;
use crate::fault::PluginFault;
use crate::grants::GrantedFile;
use crate::limits::Limits;
use crate::log::LogSink;
use crate::plugin::Plugin;

/// One transform of a stream as the operator wants it.
#[derive(Clone)]
pub struct TransformSpec {
    /// Its name in the stream.
    pub name: String,
    pub plugin: Arc<Plugin>,
    /// JSON.
    pub config: String,
    pub files: BTreeMap<String, GrantedFile>,
    pub secrets: BTreeMap<String, String>,
    pub limits: Limits,
}

/// How a chain cuts and recycles; the defaults are what was measured to be good.
#[derive(Clone, Debug)]
pub struct ChainOptions {
    /// Payload bytes per chunk.
    pub chunk_bytes: usize,
    /// Rows per chunk at most.
    pub chunk_rows: u32,
    /// A warm instance is replaced after about this many calls (drawn between half and one and a half).
    pub calls_per_instance: u64,
    /// A warm instance is replaced once its memory is over this share of its limit, in percent.
    pub memory_watermark_percent: u8,
    /// CPU time that bisecting one chunk may take, in multiples of the failing transform's deadline.
    pub bisect_deadlines: u32,
}

/// A chain, built and probed.
pub struct Chain {
    _private: (),
}

#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// One transform could not be configured or failed its probe.
    #[error("transform {transform:?} (plugin {plugin} {digest}): {fault}")]
    Transform { transform: String, plugin: String, digest: crate::plugin::Digest, fault: PluginFault },
    #[error("fields of the chain: {message}")]
    Layout { message: String },
}

impl Chain {
    /// Instantiates and configures every transform with its real config, runs an empty chunk, and the manifest's
    /// sample where there is one. `outputs` are the stream's outputs, the first is the default.
    /// Runs guests on the calling thread.
    pub fn build(
        _engine: &Engine,
        _transforms: Vec<TransformSpec>,
        _outputs: &[String],
        _options: ChainOptions,
        _log: Arc<dyn LogSink>,
    ) -> Result<Arc<Chain>, ChainError> {
        unimplemented!()
    }
}

impl Default for ChainOptions {
    fn default() -> Self {
        ChainOptions {
            chunk_bytes: 128 << 10,
            chunk_rows: 4096,
            calls_per_instance: 100_000,
            memory_watermark_percent: 75,
            bisect_deadlines: 4,
        }
    }
}
