//! One error enum per public operation. Fields carry what a caller may act on; causes sit in `source()`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::is_full;
use crate::records::{Numbered, Receipt};

/// Why the journal could not be opened. Nothing on disk was changed or lost.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// `holder` is its process id and the name of its machine.
    #[error("data directory {path} is in use by process {holder}")]
    Locked { path: PathBuf, holder: String },
    #[error("journal file {file} was written by a newer program: {needs} at byte {at}")]
    Newer { file: PathBuf, at: u64, needs: crate::format::HeaderError },
    #[error("journal file {file} belongs to another data directory")]
    Foreign { file: PathBuf },
    #[error("option {option}: {what}")]
    Option { option: &'static str, what: &'static str },
    #[error("{action} {path}")]
    Disk { action: &'static str, path: PathBuf, source: io::Error },
}

/// Why an append is not acknowledged. All but [`AppendError::Unknown`] mean that nothing was stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The caller's columns contradict each other or exceed a bound. Retrying is of no use.
    #[error("invalid append: {what}")]
    Invalid { what: &'static str },
    /// The stream's own bound is reached; it recovers as its records are delivered.
    #[error("stream holds {buffered} bytes of at most {max}")]
    StreamFull { buffered: u64, max: u64 },
    /// The bound of all streams together is reached.
    #[error("buffer holds {buffered} bytes of at most {max}")]
    Full { buffered: u64, max: u64 },
    /// `submit` only: the writer's queue has no room now.
    #[error("the journal's queue is full")]
    Busy,
    /// The disk refused the write. Later appends may succeed, without a restart.
    #[error("{}", if is_full(source) { "the disk is full" } else { "the journal cannot be written" })]
    Storage { source: Arc<io::Error> },
    /// A sync failed, or the journal or its file went away: the records may or may not be stored, and are not delivered
    /// by this process. Their offsets are given to no other records while the journal stays open.
    #[error("it is not known whether the append is durable")]
    Unknown,
    /// The producer used this number before, for other records, which have this place.
    #[error("sequence {sequence} of producer {producer:?} is stored with other records")]
    Conflict { producer: Arc<str>, sequence: u64, first_offset: u64, count: u32 },
    /// Stored long ago, or so late that this cannot be told: everything up to `floor` is forgotten.
    #[error("sequence {sequence} of producer {producer:?} is not above {floor}, and no longer remembered")]
    Forgotten { producer: Arc<str>, sequence: u64, floor: u64 },
    /// The stream remembers as many producers as it can.
    #[error("stream remembers {max} producers already")]
    Producers { max: usize, retry_after: Duration },
    /// Of an entry: records that it may speak of did not become durable.
    #[error("records that the entry speaks of are lost")]
    Void,
    #[error("stream is deleted")]
    Deleted,
    #[error("journal is closed")]
    Closed,
}

impl AppendError {
    pub(crate) fn conflict(numbered: &Numbered, stored: Receipt) -> AppendError {
        AppendError::Conflict {
            producer: Arc::clone(&numbered.producer),
            sequence: numbered.sequence,
            first_offset: stored.first_offset,
            count: stored.count,
        }
    }
}

/// Why a stream cannot be created.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamError {
    #[error("invalid stream name: {what}")]
    Name { what: &'static str },
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Why a read failed. Corrupt frames are no error: they are reported as lost ranges and passed over.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("read {path} at byte {at}")]
    Disk { path: PathBuf, at: u64, source: io::Error },
    #[error("no entry at journal position {position}")]
    NoEntry { position: u64 },
    #[error("entry at journal position {position} is corrupt")]
    Corrupt { position: u64 },
    #[error("stream is deleted")]
    Deleted,
    #[error("journal is closed")]
    Closed,
}
