//! What keeps letters from being kept.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why letters could not be kept, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "dead letters in {path} are full: {needs} bytes more do not fit, {bytes} of at most {max} ({bound}) are \
         taken; replay, export or purge some"
    )]
    Full { path: PathBuf, needs: u64, bytes: u64, max: u64, bound: Bound },
    #[error("dead letters in {path}")]
    Io {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// Its error names line and column.
    #[error("{path} is damaged ({error}); {remedy}")]
    Damaged { path: PathBuf, error: serde_json::Error, remedy: &'static str },
}

/// Whose bound it is that letters do not fit within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The stream's own.
    Own,
    Quota,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::Own => "max_bytes",
            Bound::Quota => "what quota dead_letter_bytes leaves to this stream",
        })
    }
}
