//! The handle of one stream.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::error::{AppendError, ReadError};
use crate::frame::Frame;
use crate::records::{Receipt, Records};

/// A stream's name inside its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    pub tenant: String,
    pub name: String,
}

#[derive(Debug, Clone, Copy)]
pub struct StreamOptions {
    /// Most buffered bytes (frames as on disk, each counted as at least 2 KiB).
    pub max_bytes: u64,
}

/// A place in the journal; grows with time, never reused for something else that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// What an entry is for; its body is opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    Outcome,
    Mark,
}

/// One durable entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub position: Position,
    pub kind: EntryKind,
    /// The records that it speaks of.
    pub input: Range<u64>,
}

/// What a read found.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    pub frames: Vec<Arc<Frame>>,
    /// Offsets that were acknowledged but cannot be read any more: corrupt, set aside, reported.
    pub lost: Vec<Range<u64>>,
    /// Where the next read starts.
    pub next_offset: u64,
}

/// An append that was submitted and is not yet known to be durable.
pub struct Pending {}

impl Pending {
    pub async fn wait(self) -> Result<Receipt, AppendError> {
        unimplemented!()
    }
}

/// A handle; cheap to clone.
#[derive(Clone)]
pub struct Stream {}

#[allow(unused_variables, clippy::unused_async, reason = "signatures first")]
impl Stream {
    pub fn key(&self) -> &StreamKey {
        unimplemented!()
    }
    pub fn incarnation(&self) -> [u8; 16] {
        unimplemented!()
    }
    pub fn epoch(&self) -> u32 {
        unimplemented!()
    }
    /// Offset that the next durable record gets = end of what is durable.
    pub fn next_offset(&self) -> u64 {
        unimplemented!()
    }
    pub fn durable_end(&self) -> u64 {
        unimplemented!()
    }
    pub fn watch_durable_end(&self) -> watch::Receiver<u64> {
        unimplemented!()
    }
    pub fn buffered_bytes(&self) -> u64 {
        unimplemented!()
    }
    pub fn source_position(&self, source: &str, partition: u32) -> Option<Vec<u8>> {
        unimplemented!()
    }
    /// Waits for room in the queue, then for durability.
    pub async fn append(&self, records: Records) -> Result<Receipt, AppendError> {
        unimplemented!()
    }
    /// Waits for room in the queue only.
    pub async fn enqueue(&self, records: Records) -> Result<Pending, AppendError> {
        unimplemented!()
    }
    /// Waits for nothing: `AppendError::Busy` if the queue is full.
    pub fn submit(&self, records: Records) -> Result<Pending, AppendError> {
        unimplemented!()
    }
    pub async fn frames(&self, from_offset: u64, max_bytes: usize) -> Result<Frames, ReadError> {
        unimplemented!()
    }
    pub fn try_frames(&self, from_offset: u64, max_bytes: usize) -> Result<Frames, ReadError> {
        unimplemented!()
    }
    pub async fn entry(&self, kind: EntryKind, input: Range<u64>, body: impl Into<Bytes>) -> Result<Position, AppendError> {
        unimplemented!()
    }
    pub fn read_entry(&self, position: Position) -> Result<Bytes, ReadError> {
        unimplemented!()
    }
    pub fn entries(&self) -> Vec<Entry> {
        unimplemented!()
    }
    pub async fn checkpoint(
        &self,
        body: impl Into<Bytes>,
        records_needed_from: u64,
        entries_needed_from: Position,
        durable: bool,
    ) -> Result<(), AppendError> {
        unimplemented!()
    }
    pub fn latest_checkpoint(&self) -> Option<Bytes> {
        unimplemented!()
    }
    pub async fn delete(&self) -> Result<(), AppendError> {
        unimplemented!()
    }
}
