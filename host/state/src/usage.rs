//! What a tenant's state takes, and may take.
//!
//! What is stored is counted exactly, in the batch that stores it. What slices have changed and nobody has stored yet counts
//! besides, from the slice on until its changes are stored or withdrawn.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Of one tenant, over all of its streams.
#[derive(Debug)]
pub struct Usage {
    limit: AtomicU64,
    stored: AtomicI64,
    pending: AtomicI64,
}

impl Default for Usage {
    fn default() -> Self {
        Usage { limit: AtomicU64::new(u64::MAX), stored: AtomicI64::new(0), pending: AtomicI64::new(0) }
    }
}

impl Usage {
    /// `None` = without bound.
    pub fn set_limit(&self, bytes: Option<u64>) {
        self.limit.store(bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Bytes that it may take, if that is bounded.
    pub fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit < u64::MAX)
    }

    /// Bytes that are stored.
    pub fn stored(&self) -> u64 {
        u64::try_from(self.stored.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(crate) fn add_stored(&self, bytes: i64) {
        self.stored.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How much more it may take, beside so much that nobody knows of yet; `None` = without bound.
    pub(crate) fn room(&self, more: i64) -> Option<u64> {
        let limit = i64::try_from(self.limit()?).unwrap_or(i64::MAX);
        let used = self.stored.load(Ordering::Relaxed).saturating_add(self.pending.load(Ordering::Relaxed));
        Some(u64::try_from(limit.saturating_sub(used).saturating_sub(more)).unwrap_or(0))
    }

    /// The limit, if so much more is too much.
    pub(crate) fn refuses(&self, more: i64) -> Option<u64> {
        let limit = self.limit()?;
        let used = self.stored.load(Ordering::Relaxed).saturating_add(self.pending.load(Ordering::Relaxed));
        let after = used.saturating_add(more);
        (after > i64::try_from(limit).unwrap_or(i64::MAX)).then_some(limit)
    }
}

/// Bytes that count until this is dropped.
#[derive(Debug)]
pub(crate) struct Pending {
    usage: Arc<Usage>,
    bytes: i64,
}

impl Pending {
    pub(crate) fn new(usage: Arc<Usage>, bytes: i64) -> Pending {
        usage.pending.fetch_add(bytes, Ordering::Relaxed);
        Pending { usage, bytes }
    }

    pub(crate) fn add(&mut self, bytes: i64) {
        self.usage.pending.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }

    pub(crate) fn bytes(&self) -> i64 {
        self.bytes
    }
}

impl Clone for Pending {
    fn clone(&self) -> Self {
        Pending::new(Arc::clone(&self.usage), self.bytes)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.usage.pending.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_bytes_count_until_they_are_let_go_of() {
        let usage = Arc::new(Usage::default());
        assert_eq!(usage.refuses(i64::MAX), None);
        usage.set_limit(Some(100));
        usage.add_stored(60);
        let mut pending = Pending::new(Arc::clone(&usage), 30);
        assert_eq!((usage.refuses(10), usage.refuses(11)), (None, Some(100)));
        assert_eq!((usage.room(0), usage.room(4), usage.room(50)), (Some(10), Some(6), Some(0)));
        pending.add(5);
        let copy = pending.clone();
        assert_eq!(usage.refuses(1), Some(100));
        drop(copy);
        assert_eq!((usage.refuses(5), usage.refuses(6)), (None, Some(100)));
        drop(pending);
        assert_eq!((usage.refuses(40), usage.stored()), (None, 60));
    }
}
