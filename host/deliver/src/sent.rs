//! What was sent to a destination that takes records one by one, for whoever counts it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Something of which more is tried than taken.
#[derive(Debug, Default)]
pub struct Tally {
    tried: AtomicU64,
    taken: AtomicU64,
}

impl Tally {
    /// Every time that it was sent.
    pub fn tried(&self) -> u64 {
        self.tried.load(Ordering::Relaxed)
    }

    /// Of these, what the destination has taken.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Sums since the destination was opened.
#[derive(Debug, Default)]
pub struct Sent {
    /// A request counts as taken where anything in it was.
    pub requests: Tally,
    pub records: Tally,
    /// Of records, without what is around them.
    pub bytes: Tally,
    acknowledged_us: AtomicU64,
}

impl Sent {
    /// A request that leaves now.
    pub fn tried(&self, records: u64, bytes: u64) {
        for (tally, count) in [(&self.requests, 1), (&self.records, records), (&self.bytes, bytes)] {
            tally.tried.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// What was taken of a request.
    pub fn taken(&self, records: u64, bytes: u64) {
        let requests = u64::from(records > 0);
        for (tally, count) in [(&self.requests, requests), (&self.records, records), (&self.bytes, bytes)] {
            tally.taken.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// An acknowledgement that came so long after the answer.
    pub fn acknowledged(&self, after: Duration) {
        let after_us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.acknowledged_us.fetch_add(after_us, Ordering::Relaxed);
    }

    /// For which acknowledgements were waited that came, all together.
    pub fn acknowledged_after(&self) -> Duration {
        Duration::from_micros(self.acknowledged_us.load(Ordering::Relaxed))
    }
}
