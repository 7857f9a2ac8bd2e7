//! What a transform is handed at `configure`: files by content and secrets, both by name.
//!
//! Owns nothing on disk: a granted file is read once, whole and bounded, and shared by all instances. Secrets never show
//! in `Debug`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::plugin::Digest;

/// A granted file, by content. Cheap to clone.
#[derive(Clone)]
pub struct GrantedFile {
    pub bytes: Arc<[u8]>,
    pub digest: Digest,
}

/// Why a file could not be granted.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is over the limit of {max} bytes")]
    TooLarge { path: PathBuf, max: u64 },
}

impl GrantedFile {
    /// A file that is in memory already.
    pub fn from_bytes(bytes: Vec<u8>) -> GrantedFile {
        GrantedFile { digest: Digest::of(&bytes), bytes: bytes.into() }
    }

    /// Reads a whole file of at most `max` bytes.
    pub fn read(path: &Path, max: u64) -> Result<GrantedFile, GrantError> {
        let error = |source| GrantError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        File::open(path)
            .map_err(error)?
            .take(max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(error)?;
        if bytes.len() as u64 > max {
            return Err(GrantError::TooLarge { path: path.to_owned(), max });
        }
        Ok(GrantedFile::from_bytes(bytes))
    }
}

impl fmt::Debug for GrantedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantedFile").field("bytes", &self.bytes.len()).field("digest", &self.digest).finish()
    }
}

/// All that one transform is granted.
#[derive(Default)]
pub(crate) struct GrantSet {
    pub(crate) files: BTreeMap<String, GrantedFile>,
    pub(crate) secrets: BTreeMap<String, String>,
}
