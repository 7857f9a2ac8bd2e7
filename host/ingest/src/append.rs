//! The way from a source into a stream's buffer.
//!
//! It owns the batch of records that sources hand over, the receipt that comes back when the batch is
//! durable, and what can go wrong. It refuses to buffer anything itself.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// How far a source that can be read again has been read. Kept durably together with the records
/// of its batch, so that a restart goes on behind exactly these records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The source's name, unique in its stream.
    pub name: String,
    /// A part of the source (for files a slot, below [`crate::PARTITIONS_MAX`]); positions of different
    /// partitions are independent.
    pub partition: u32,
    /// The source's own encoding; a later one of the same partition replaces it.
    pub position: Vec<u8>,
}

/// A request as the producer that sent it knows it: stored once, however often it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// 1 to 128 bytes.
    pub producer: Arc<str>,
    /// Used for one request only, and greater for later ones.
    pub sequence: u64,
    /// Of the records, by which the same request is told from another one with its number.
    pub digest: [u8; 16],
    /// The producer is the request's own name, and sends no other one: it is forgotten sooner.
    pub once: bool,
}

/// Consecutive records of one source: record `i` is `payload[ends[i - 1]..ends[i]]`.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    pub payload: Bytes,
    pub ends: Vec<u32>,
    /// Nanoseconds since the Unix epoch.
    pub arrival: i64,
    pub source: Option<Position>,
    /// Only of clients that push.
    pub numbered: Option<Numbered>,
    /// The receipt comes before they are durable: their client waits for what becomes of them.
    pub early: bool,
}

impl RecordBatch {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Proof that a batch is durable, unless it was to come early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub first_offset: u64,
    pub count: u32,
    /// The request was stored before; this is what was answered then.
    pub duplicate: bool,
}

/// Why a batch has no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was stored; there is no space at the moment.
    #[error("buffer is full, retry after {}s", whole_seconds(*.retry_after))]
    Full { retry_after: Duration },
    /// Nothing was stored; the buffer cannot write at the moment.
    #[error("buffer is unavailable: {reason}")]
    Unavailable { reason: String },
    /// The write failed half-way: the records may or may not be stored.
    #[error("buffer cannot tell whether the records were stored")]
    Unknown,
    /// Nothing was stored; the request's number is taken by another one.
    #[error(
        "sequence {sequence} of producer {producer:?} was used before, for other records (offsets {first_offset} to {last_offset}); give each request a number of its own"
    )]
    Conflict { producer: Arc<str>, sequence: u64, first_offset: u64, last_offset: u64 },
    /// Nothing was stored now; whether it was stored before nobody knows any more.
    #[error(
        "sequence {sequence} of producer {producer:?} is no longer remembered, as are all up to {floor}: either it was stored before, or it comes later than 8 requests with greater numbers; nothing was stored now"
    )]
    Forgotten { producer: Arc<str>, sequence: u64, floor: u64 },
    /// Nothing was stored; no further producer can be remembered at the moment.
    #[error(
        "{max} producers have pushed to this stream within the last hour, and it remembers no more; reuse the names of producers, or retry after {}s", whole_seconds(*.retry_after)
    )]
    Producers { max: usize, retry_after: Duration },
    /// Nothing was stored; the stream is stopping.
    #[error("stream is closed")]
    Closed,
}

impl AppendError {
    /// When to try again, where that is known.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            AppendError::Full { retry_after } | AppendError::Producers { retry_after, .. } => {
                Some(whole_seconds(*retry_after))
            }
            AppendError::Unavailable { .. }
            | AppendError::Unknown
            | AppendError::Conflict { .. }
            | AppendError::Forgotten { .. }
            | AppendError::Closed => None,
        }
    }
}

/// Rounded up, and at least one: what is told knows no fractions.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// A stream's buffer as sources see it.
///
/// Order is by call: a batch is stored behind those whose `append` was called before, whatever the
/// order in which the futures are polled. When a write fails, appends that were called after it fail too.
pub trait Append: Send + Sync + 'static {
    /// Appends the batch as a whole; it is never empty. The future is ready when the batch is durable.
    fn append(
        &self,
        batch: RecordBatch,
    ) -> impl Future<Output = Result<Receipt, AppendError>> + Send + 'static;

    /// The last durable position of a partition of a source.
    ///
    /// # Errors
    /// [`AppendError::Unavailable`] while it is not known what is durable (after
    /// [`AppendError::Unknown`], until the buffer was reopened).
    fn position(&self, source: &str, partition: u32) -> Result<Option<Vec<u8>>, AppendError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_to_wait_is_said_in_whole_seconds_and_never_too_short() {
        let producers = |ms| AppendError::Producers { max: 5, retry_after: Duration::from_millis(ms) };
        assert!(producers(3_583_928).to_string().ends_with("or retry after 3584s"));
        assert!(producers(1).to_string().ends_with("or retry after 1s"));
        let full = AppendError::Full { retry_after: Duration::from_millis(500) };
        assert_eq!(full.to_string(), "buffer is full, retry after 1s");
        // As the header says it.
        assert_eq!(producers(3_583_928).retry_after_seconds(), Some(3584));
        assert_eq!((full.retry_after_seconds(), AppendError::Closed.retry_after_seconds()), (Some(1), None));
    }
}
