//! Compiled code on disk, keyed by the plugin's digest and the engine's compatibility.

use std::path::{Path, PathBuf};

use crate::engine::Engine;
use crate::plugin::Digest;

/// A private directory of compiled code.
#[derive(Clone, Debug)]
pub struct CodeCache {
    _directory: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("{action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is damaged or was not written by this cache")]
    Corrupt { path: PathBuf },
}

impl CodeCache {
    /// Opens or makes the directory (mode 0700).
    pub fn open(_directory: &Path) -> Result<CodeCache, CacheError> {
        unimplemented!()
    }
    /// The file of this digest and engine, verified; `None` when there is none. A damaged one is removed and
    /// reported as `Corrupt` once.
    pub fn get(&self, _engine: &Engine, _digest: Digest) -> Result<Option<PathBuf>, CacheError> {
        unimplemented!()
    }
    /// Writes compiled code (temporary file, sync, rename) and returns its path.
    pub fn put(&self, _engine: &Engine, _digest: Digest, _code: &[u8]) -> Result<PathBuf, CacheError> {
        unimplemented!()
    }
}
