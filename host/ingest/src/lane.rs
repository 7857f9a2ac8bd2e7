//! The way of one source's batches into the buffer: in order, several on the way at a time, tried again
//! while the buffer is full.
//!
//! It owns order, retry and the counters of what has a receipt. It refuses to pass over a batch: the
//! one behind a failed batch never becomes the position that a restart goes on from.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::append::{Append, AppendError, Receipt, RecordBatch};
use crate::stats::SourceStats;

const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_LONGEST: Duration = Duration::from_secs(1);

/// Why a lane is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneEnd {
    /// The stream takes nothing any more, or stopping while it could not.
    Closed,
    /// Whether batches were stored is not known; only a source that keeps positions sees this.
    Unknown,
}

/// What to do when the buffer cannot tell whether a batch was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnUnknown {
    /// The source can be read again from its durable position.
    GiveBack,
    /// The source cannot be read again: rather twice than never.
    Retry,
}

type Answer = Pin<Box<dyn Future<Output = Result<Receipt, AppendError>> + Send>>;

/// Batches on their way.
pub(crate) struct Lane<A> {
    append: Arc<A>,
    stats: Arc<SourceStats>,
    stop: CancellationToken,
    on_unknown: OnUnknown,
    most: usize,
    on_the_way: VecDeque<(RecordBatch, Answer)>,
}

impl<A: Append> Lane<A> {
    /// `most`: batches that may be on the way at a time.
    pub(crate) fn new(
        append: Arc<A>,
        stats: Arc<SourceStats>,
        stop: CancellationToken,
        on_unknown: OnUnknown,
        most: usize,
    ) -> Lane<A> {
        Lane { append, stats, stop, on_unknown, most: most.max(1), on_the_way: VecDeque::new() }
    }

    /// Sends a batch; waits while as many as allowed are on the way.
    pub(crate) async fn send(&mut self, batch: RecordBatch) -> Result<(), LaneEnd> {
        if batch.is_empty() {
            return Ok(());
        }
        while self.on_the_way.len() >= self.most {
            self.receive().await?;
        }
        let mut answer: Answer = Box::pin(self.append.append(batch.clone()));
        // A full buffer answers at once; then nothing may be sent behind this batch.
        let refused = std::future::poll_fn(|context| {
            Poll::Ready(match answer.as_mut().poll(context) {
                Poll::Ready(result) => Some(result),
                Poll::Pending => None,
            })
        })
        .await;
        match refused {
            None => {
                self.on_the_way.push_back((batch, answer));
                Ok(())
            }
            Some(result) => {
                let failed = result.is_err();
                self.on_the_way.push_back((batch, Box::pin(std::future::ready(result))));
                if failed { self.flush().await } else { Ok(()) }
            }
        }
    }

    /// Waits until everything that was sent has its receipt.
    pub(crate) async fn flush(&mut self) -> Result<(), LaneEnd> {
        while !self.on_the_way.is_empty() {
            self.receive().await?;
        }
        Ok(())
    }

    /// Waits for the oldest batch. If it failed, all others are waited for and the failed ones are sent
    /// again one by one.
    async fn receive(&mut self) -> Result<(), LaneEnd> {
        let Some((batch, answer)) = self.on_the_way.pop_front() else { return Ok(()) };
        let mut error = match answer.await {
            Ok(_) => {
                self.count(&batch);
                return Ok(());
            }
            Err(error) => error,
        };
        let mut failed = vec![batch];
        let mut stored_behind = None;
        while let Some((batch, answer)) = self.on_the_way.pop_front() {
            match answer.await {
                Ok(_) => {
                    self.count(&batch);
                    stored_behind = batch.source.or(stored_behind);
                }
                Err(later) => {
                    if later == AppendError::Unknown {
                        error = later;
                    }
                    failed.push(batch);
                }
            }
        }
        for mut batch in failed {
            // A batch behind this one was stored in spite of the contract: its position must not go back.
            if stored_behind.is_some() {
                batch.source = stored_behind.clone();
            }
            self.again(batch, error.clone()).await?;
        }
        Ok(())
    }

    /// Sends one batch until it is stored.
    async fn again(&mut self, batch: RecordBatch, first: AppendError) -> Result<(), LaneEnd> {
        let mut error = first;
        let mut pause = PAUSE_FIRST;
        loop {
            let wait = match error {
                AppendError::Closed => return Err(LaneEnd::Closed),
                // Batches of sources have no numbers.
                AppendError::Conflict { .. } | AppendError::Forgotten { .. } => {
                    return Err(LaneEnd::Closed);
                }
                AppendError::Unknown if self.on_unknown == OnUnknown::GiveBack => {
                    return Err(LaneEnd::Unknown);
                }
                AppendError::Unknown | AppendError::Unavailable { .. } => pause,
                AppendError::Full { retry_after } | AppendError::Producers { retry_after, .. } => {
                    retry_after.clamp(PAUSE_FIRST, PAUSE_LONGEST)
                }
            };
            SourceStats::add(&self.stats.retries, 1);
            tracing::debug!(%error, pause_ms = wait.as_millis(), "append refused, trying again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // What can be read again is not worth holding up a stop for.
                () = self.stop.cancelled(), if self.on_unknown == OnUnknown::GiveBack => return Err(LaneEnd::Closed),
            }
            pause = (pause * 2).min(PAUSE_LONGEST);
            match self.append.append(batch.clone()).await {
                Ok(_) => {
                    self.count(&batch);
                    return Ok(());
                }
                Err(again) => error = again,
            }
        }
    }

    fn count(&self, batch: &RecordBatch) {
        SourceStats::add(&self.stats.records, batch.len() as u64);
    }
}

/// The time of arrival, in nanoseconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
