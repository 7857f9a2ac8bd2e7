//! Why state could not be read or changed.

use std::path::PathBuf;

use crate::limits::{KEY_BYTES_MAX, SLICE_BYTES_MAX, VALUE_BYTES_MAX};

/// Why the store could not be read or written. It is the host's trouble, and no record is to blame.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory of the store.
    #[error("open the state store {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{action} the state store")]
    Engine {
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is in another process, which does not answer.
    #[error("ask for state")]
    Far(#[source] std::io::Error),
    /// What is stored is not what this version writes.
    #[error("the state store has {what} that this host cannot read")]
    Damaged { what: &'static str },
}

/// Why a call of a plugin could not read or change state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("a key of {bytes} bytes; at most {KEY_BYTES_MAX} are allowed")]
    KeyTooLong { bytes: usize },
    #[error("a value of {bytes} bytes; at most {VALUE_BYTES_MAX} are allowed")]
    ValueTooLong { bytes: usize },
    #[error("a value of {bytes} bytes where a sum has 8")]
    NotASum { bytes: usize },
    /// The tenant's quota.
    #[error("the tenant's quota of state (state_bytes, {limit} bytes) is used up")]
    Full { limit: u64 },
    #[error("more than {SLICE_BYTES_MAX} bytes of changed state in one slice")]
    SliceFull,
    /// By whoever asked.
    #[error("stopped before its end")]
    Stopped,
    #[error(transparent)]
    Store(#[from] StoreError),
}
