//! What a source counts while it runs. The pipeline reads it; only the source writes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one source, all since its start.
#[derive(Debug, Default)]
pub struct SourceStats {
    pub(crate) records: AtomicU64,
    pub(crate) too_long: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) throttled: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) behind_ms: AtomicU64,
}

impl SourceStats {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn set(counter: &AtomicU64, value: u64) {
        counter.store(value, Ordering::Relaxed);
    }

    /// Records that have a receipt.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Lines over the limit, which were skipped (files, stdin) or ended their connection (TCP).
    pub fn too_long(&self) -> u64 {
        self.too_long.load(Ordering::Relaxed)
    }

    /// Appends that were tried again.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Open files or connections, or shards that are read, at the moment.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that were refused because too many were open.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Requests that the source of the records put off because there were too many of them.
    pub fn throttled(&self) -> u64 {
        self.throttled.load(Ordering::Relaxed)
    }

    /// Requests to the source of the records that failed, and are sent again.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Milliseconds between what was read last and the newest record, of the shard that is most behind.
    pub fn behind_ms(&self) -> u64 {
        self.behind_ms.load(Ordering::Relaxed)
    }
}
