//! Files, read once or followed.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::append::Append;
use crate::stats::SourceStats;

/// Where to begin in files that are there when the source starts for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Start,
    End,
}

/// What to read and how.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Name under which positions are kept; unique in the stream.
    pub name: String,
    /// Glob patterns.
    pub paths: Vec<String>,
    /// Keep reading what is appended, created and rotated; else read once and end.
    pub follow: bool,
    pub from: Start,
    /// Bytes of one line; a longer one is skipped, counted and logged.
    pub max_record: u64,
    /// How often globs are expanded again without a notification.
    pub poll_interval: Duration,
}

/// Reads lines of files into a stream.
pub struct FileSource<A> {
    _append: Arc<A>,
}

/// Why a file source ended early.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("pattern `{pattern}` is no glob")]
    Pattern { pattern: String, source: glob::PatternError },
    #[error("no file matches {patterns:?}")]
    NothingMatches { patterns: Vec<String> },
    #[error("stream is closed")]
    Closed,
}

impl<A: Append> FileSource<A> {
    pub fn new(_options: FileOptions, append: Arc<A>) -> FileSource<A> {
        FileSource { _append: append }
    }

    /// Counters, readable while it runs.
    pub fn stats(&self) -> Arc<SourceStats> {
        unimplemented!()
    }

    /// Runs until everything is read (once) or `stop` is cancelled; what was read by then is appended.
    pub async fn run(self, _stop: CancellationToken) -> Result<(), FileError> {
        unimplemented!()
    }
}
