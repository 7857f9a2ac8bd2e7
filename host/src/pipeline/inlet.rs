//! A stream's buffer as its sources and the HTTP routes see it.
//!
//! It maps the buffer's answers onto what sources understand and counts what has a receipt. Sources that can wait
//! are held up long before the buffer is full, so that what they read passes through memory and the journal stays
//! short. It acknowledges nothing that the buffer has not acknowledged.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use wasmill_buffer as buffer;
use wasmill_ingest::{Append, AppendError, Position, Receipt, RecordBatch};

use super::decide::{Answer, Ticket};
use super::quotas::TenantQuota;
use super::sources::{names, with_causes};
use super::stats::{SourceCounters, StreamStats};
use crate::api::Pushed;

/// Bytes of records before the transforms from which a source that can wait has to wait: half of what the journal keeps
/// in memory. What waits behind them, for its batch or its destination, holds up no source until the buffer is full.
const HOLD_ABOVE_BYTES: i64 = 32 << 20;
/// How soon such a source asks again.
const HOLD_RETRY: Duration = Duration::from_millis(5);
/// What a client is told when the buffer is full: about the time in which a batch leaves.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// See the head of this file.
pub struct Inlet {
    stream: buffer::Stream,
    stats: Arc<StreamStats>,
    /// Those that append here: never empty.
    sources: Vec<Arc<SourceCounters>>,
    /// Of a source that keeps its records until they have a receipt, and waits when it is told to. Of clients that push
    /// the listener asks.
    patient: Option<Arc<TenantQuota>>,
}

impl Inlet {
    /// For clients that push, to any of these sources: refused only when the buffer is full.
    pub(crate) fn for_pushes(
        stream: buffer::Stream,
        stats: Arc<StreamStats>,
        sources: Vec<Arc<SourceCounters>>,
    ) -> Inlet {
        Inlet { stream, stats, sources, patient: None }
    }

    /// For a source of the host's own, which sends its batches in order and tries again.
    pub(crate) fn for_source(
        stream: buffer::Stream,
        stats: Arc<StreamStats>,
        source: Arc<SourceCounters>,
        quota: Arc<TenantQuota>,
    ) -> Inlet {
        Inlet { stream, stats, sources: vec![source], patient: Some(quota) }
    }

    /// The source of a batch, the first one where it says nothing; if that has a name, the batch has it now.
    fn source_of(&self, batch: &mut RecordBatch) -> Option<Arc<SourceCounters>> {
        let says = batch.source.as_ref().and_then(|position| names::of_stored(&position.name));
        let of = match says {
            Some(name) => self.sources.iter().find(|source| source.name.as_deref() == Some(name)),
            None => self.sources.first(),
        };
        let of = Arc::clone(of?);
        if let (Some(name), None) = (&of.name, &batch.source) {
            batch.source = Some(without_position(name));
        }
        Some(of)
    }

    fn counted(&self, batch: &mut RecordBatch) -> Counted {
        let source = self.source_of(batch);
        Counted { stats: Arc::clone(&self.stats), source, bytes: batch.payload.len() as u64 }
    }

    /// Queues a batch of a source that waits, within its quota.
    fn submit(
        &self,
        quota: &TenantQuota,
        batch: RecordBatch,
        then: impl FnOnce(Result<buffer::Receipt, buffer::AppendError>) + Send + 'static,
    ) -> Result<(), AppendError> {
        if self.stats.backlog_bytes.load(Ordering::Relaxed) > HOLD_ABOVE_BYTES {
            return Err(AppendError::Full { retry_after: HOLD_RETRY });
        }
        let (count, bytes) = (batch.len() as u64, batch.payload.len() as u64);
        quota.take_patiently(count, bytes).map_err(|wait| AppendError::Full { retry_after: wait })?;
        // What else it is refused for is told.
        if self.stream.submit_then(records(batch), then).is_err() {
            quota.give_back(count, bytes);
        }
        Ok(())
    }
}

/// Of records of a source that keeps no positions.
fn without_position(name: &str) -> Position {
    Position { name: names::stored(Some(name), ""), partition: 0, position: Vec::new() }
}

impl Pushed for Inlet {
    fn source_names(&self) -> Vec<&str> {
        self.sources.iter().filter_map(|source| source.name.as_deref()).collect()
    }

    fn source(&self, name: &str) -> Position {
        without_position(name)
    }

    fn decide(
        &self,
        mut batch: RecordBatch,
        ticket: Ticket,
        receipt: impl FnOnce(Option<&AppendError>) + Send + 'static,
    ) -> impl Future<Output = Result<Option<Answer>, AppendError>> + Send + 'static {
        let counted = self.counted(&mut batch);
        let stream = self.stream.clone();
        let (then, answer) = ticket.waits();
        let then = move |what: Result<Receipt, AppendError>| {
            receipt(what.as_ref().err());
            then(what);
        };
        async move {
            // A refusal is told, too.
            let _queued = stream.enqueue_then(records(batch), counted.then(then)).await;
            // Nothing is sent where the stream ends before.
            answer.await.ok().transpose()
        }
    }
}

fn records(batch: RecordBatch) -> buffer::Records {
    let source = batch.source.map(|position| buffer::SourcePosition {
        name: position.name,
        partition: position.partition,
        position: position.position,
    });
    let numbered = batch.numbered.map(|numbered| buffer::Numbered {
        producer: match numbered.once {
            true => format!("{}{}", buffer::ONCE_PREFIX, numbered.producer).into(),
            false => numbered.producer,
        },
        sequence: numbered.sequence,
        digest: numbered.digest,
    });
    let early = batch.early;
    buffer::Records {
        source,
        numbered,
        early,
        ..buffer::Records::new(batch.payload, batch.ends, batch.arrival)
    }
}

fn refusal(stream: &str, error: buffer::AppendError) -> AppendError {
    match error {
        buffer::AppendError::StreamFull { .. } | buffer::AppendError::Full { .. } => {
            AppendError::Full { retry_after: FULL_RETRY }
        }
        buffer::AppendError::Busy => AppendError::Full { retry_after: HOLD_RETRY },
        buffer::AppendError::Conflict { producer, sequence, first_offset, count } => AppendError::Conflict {
            producer,
            sequence,
            first_offset,
            last_offset: first_offset + u64::from(count.saturating_sub(1)),
        },
        buffer::AppendError::Forgotten { producer, sequence, floor } => {
            AppendError::Forgotten { producer, sequence, floor }
        }
        buffer::AppendError::Producers { max, retry_after } => AppendError::Producers { max, retry_after },
        // The second is of entries alone.
        buffer::AppendError::Unknown | buffer::AppendError::Void => AppendError::Unknown,
        buffer::AppendError::Deleted | buffer::AppendError::Closed => AppendError::Closed,
        // The journal tells the operator when that begins and when it is over.
        error @ buffer::AppendError::Storage { .. } => {
            AppendError::Unavailable { reason: with_causes(&error) }
        }
        error @ buffer::AppendError::Invalid { .. } => {
            tracing::warn!(stream, error = &error as &dyn std::error::Error, "append refused");
            AppendError::Unavailable { reason: with_causes(&error) }
        }
    }
}

/// What a batch counts as.
struct Counted {
    stats: Arc<StreamStats>,
    source: Option<Arc<SourceCounters>>,
    bytes: u64,
}

impl Counted {
    /// For the buffer to call: the batch may become durable, and counts, whether or not the client still waits.
    fn then(
        self,
        then: impl FnOnce(Result<Receipt, AppendError>) + Send + 'static,
    ) -> impl FnOnce(Result<buffer::Receipt, buffer::AppendError>) + Send + 'static {
        move |what| then(self.count(what))
    }

    fn count(&self, what: Result<buffer::Receipt, buffer::AppendError>) -> Result<Receipt, AppendError> {
        let Counted { stats, source, bytes } = self;
        let buffer::Receipt { first_offset, count, duplicate, .. } =
            what.map_err(|error| refusal(&stats.label(), error))?;
        if duplicate {
            stats.records_duplicate.add(u64::from(count));
        } else {
            stats.backlog_bytes.fetch_add(bytes.cast_signed(), Ordering::Relaxed);
            stats.records_in.add(u64::from(count));
            stats.bytes_in.add(*bytes);
            if let Some(source) = source {
                source.records.add(u64::from(count));
                source.bytes.add(*bytes);
            }
        }
        Ok(Receipt { first_offset, count, duplicate })
    }
}

impl Append for Inlet {
    fn append(
        &self,
        mut batch: RecordBatch,
    ) -> impl Future<Output = Result<Receipt, AppendError>> + Send + 'static {
        let counted = self.counted(&mut batch);
        let stream = self.stream.clone();
        let (reply, receipt) = oneshot::channel();
        // The client may have gone.
        let then = counted.then(move |what| drop(reply.send(what)));
        // A source's order is that of its calls: what is sent must be queued before this returns.
        let left = match &self.patient {
            Some(quota) => self.submit(quota, batch, then).map(|()| None),
            None => Ok(Some((batch, then))),
        };
        async move {
            if let Some((batch, then)) = left? {
                // A refusal is told, too.
                let _queued = stream.enqueue_then(records(batch), then).await;
            }
            receipt.await.unwrap_or(Err(AppendError::Unknown))
        }
    }

    fn position(&self, source: &str, partition: u32) -> Result<Option<Vec<u8>>, AppendError> {
        // What a failed sync left uncertain is voided by the next file, so this is always known.
        Ok(self.stream.source_position(source, partition))
    }
}
