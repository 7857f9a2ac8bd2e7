//! Standard input, or any other reader of lines.
//!
//! It owns reading until the end. A line over the limit is skipped, counted and logged; a last line
//! without a line feed is a record. It keeps no position: what the buffer may or may not have stored is
//! sent again.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use crate::append::{Append, RecordBatch};
use crate::lane::{Lane, OnUnknown, now};
use crate::lines::{Lines, Splitter};
use crate::stats::SourceStats;

/// Reads lines of a reader until it ends.
pub struct LineSource<A> {
    append: Arc<A>,
    max_record: u64,
    stats: Arc<SourceStats>,
}

impl<A: Append> LineSource<A> {
    /// `max_record`: bytes of one line; a longer one is skipped, counted and logged.
    pub fn new(max_record: u64, append: Arc<A>) -> LineSource<A> {
        LineSource { append, max_record, stats: Arc::default() }
    }

    /// Counters, readable while it runs.
    pub fn stats(&self) -> Arc<SourceStats> {
        Arc::clone(&self.stats)
    }

    /// Runs until the reader ends or `stop` is cancelled; what was read by then is appended.
    ///
    /// # Errors
    /// What the reader says; complete lines before it are appended.
    pub async fn run<R: AsyncRead + Send + Unpin>(
        self,
        mut reader: R,
        stop: CancellationToken,
    ) -> Result<(), io::Error> {
        let mut lane = Lane::new(Arc::clone(&self.append), self.stats(), stop.clone(), OnUnknown::Retry, 4);
        let mut splitter = Splitter::new(self.max_record, 0);
        let closed = |_| io::Error::new(io::ErrorKind::BrokenPipe, "stream is closed");
        let result = loop {
            let read = tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                read = reader.read(splitter.space()) => read,
            };
            match read {
                Ok(0) => break Ok(()),
                Ok(read) => {
                    let batch = self.batch(splitter.take(read));
                    lane.send(batch).await.map_err(closed)?;
                }
                Err(error) => break Err(error),
            }
        };
        lane.send(self.batch(splitter.finish())).await.map_err(closed)?;
        lane.flush().await.map_err(closed)?;
        result
    }

    fn batch(&self, lines: Lines) -> RecordBatch {
        for at in &lines.too_long {
            SourceStats::add(&self.stats.too_long, 1);
            tracing::warn!(at, limit = self.max_record, "line over the limit skipped");
        }
        RecordBatch {
            payload: lines.payload.into(),
            ends: lines.ends,
            arrival: now(),
            source: None,
            numbered: None,
            early: false,
        }
    }
}
