//! What a transform is handed at `configure`: files by content and secrets, both by name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::plugin::Digest;

/// A granted file, by content. Cheap to clone.
#[derive(Clone)]
pub struct GrantedFile {
    pub bytes: Arc<[u8]>,
    pub digest: Digest,
}

#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} has {bytes} bytes, over the limit of {max}")]
    TooLarge { path: PathBuf, bytes: u64, max: u64 },
}

impl GrantedFile {
    pub fn from_bytes(_bytes: Vec<u8>) -> GrantedFile {
        unimplemented!()
    }
    /// Reads a whole file of at most `max` bytes.
    pub fn read(_path: &Path, _max: u64) -> Result<GrantedFile, GrantError> {
        unimplemented!()
    }
}
