//! Standard input, or any other reader of lines.

use std::sync::Arc;

use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use crate::append::Append;
use crate::stats::SourceStats;

/// Reads lines of a reader until it ends.
pub struct LineSource<A> {
    _append: Arc<A>,
}

impl<A: Append> LineSource<A> {
    /// `max_record`: bytes of one line; a longer one is skipped, counted and logged.
    pub fn new(_max_record: u64, append: Arc<A>) -> LineSource<A> {
        LineSource { _append: append }
    }

    /// Counters, readable while it runs.
    pub fn stats(&self) -> Arc<SourceStats> {
        unimplemented!()
    }

    /// Runs until the reader ends or `stop` is cancelled; what was read by then is appended.
    pub async fn run<R: AsyncRead + Send + Unpin>(
        self,
        _reader: R,
        _stop: CancellationToken,
    ) -> Result<(), std::io::Error> {
        unimplemented!()
    }
}
