//! Opening, closing and the numbers of the one journal of a data directory.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{OpenError, StreamError};
use crate::stream::{Stream, StreamKey, StreamOptions};

/// When an append counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After `fdatasync`: it survives the loss of power.
    Fsync,
    /// After the write: it survives the end of the process, not that of the machine. Files are synced when
    /// they are full, so at most about one file of acknowledged records is at risk.
    Os,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub durability: Durability,
    /// Size of a journal file; a larger frame gets a larger file.
    pub file_bytes: u64,
    /// Once the journal is longer, what slow streams still need is moved from its oldest files into segments.
    pub max_journal_bytes: u64,
    /// Most buffered bytes of all streams together.
    pub max_total_bytes: u64,
    /// Recent frames kept in memory, all streams together.
    pub memory_bytes: u64,
    /// Appends that wait for the writer.
    pub queue_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            durability: Durability::Fsync,
            file_bytes: 64 << 20,
            max_journal_bytes: 512 << 20,
            max_total_bytes: 64 << 30,
            memory_bytes: 64 << 20,
            queue_bytes: 32 << 20,
        }
    }
}

/// What opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Closed in order, and nothing torn or corrupt.
    pub clean: bool,
    pub torn: Vec<Torn>,
    pub corrupt: Vec<Corrupt>,
    /// Offsets that were acknowledged and are still needed, but are gone.
    pub lost: Vec<(StreamKey, Range<u64>)>,
    pub streams: Vec<StreamKey>,
}

/// A tail that was never known to be durable, and was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    pub file: PathBuf,
    pub at: u64,
    pub bytes: u64,
    /// `None` if the tail does not say.
    pub records: Option<u64>,
}

/// Durable bytes that do not pass their checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrupt {
    pub file: PathBuf,
    pub at: u64,
    pub bytes: u64,
    /// Where a copy of the bytes is.
    pub set_aside: Option<PathBuf>,
    pub stream: Option<StreamKey>,
    pub offsets: Option<Range<u64>>,
}

/// Numbers since open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub syncs: u64,
    pub bytes_written: u64,
    pub groups: u64,
    pub frames: u64,
    pub records: u64,
    pub largest_group_frames: u64,
    pub failed_syncs: u64,
    pub failed_writes: u64,
    pub journal_files: u64,
    pub journal_bytes: u64,
    pub segment_bytes: u64,
    pub buffered_bytes: u64,
    pub cached_bytes: u64,
}

pub struct Journal {}

#[allow(unused_variables, clippy::unused_async, reason = "signatures first")]
impl Journal {
    pub fn open(dir: &Path, options: Options) -> Result<(Journal, Recovery), OpenError> {
        unimplemented!()
    }
    pub async fn stream(&self, key: &StreamKey, options: StreamOptions) -> Result<Stream, StreamError> {
        unimplemented!()
    }
    pub async fn close(&self) -> Result<(), crate::error::AppendError> {
        unimplemented!()
    }
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }
}
