//! What others read of a stream's event time.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::pipeline::stats::Counter;

/// See the head of this file. Nothing of it moves where the stream has no event time.
#[derive(Debug, Default)]
pub struct EventTimeStats {
    /// Late records that went through the plugins.
    pub late_kept: Counter,
    pub late_dropped: Counter,
    /// To the output of late records.
    pub late_routed: Counter,
    /// Records whose time could not be read, whatever became of them.
    pub unreadable: Counter,
    /// 0: there is none.
    watermark: AtomicI64,
}

impl EventTimeStats {
    pub(crate) fn reached(&self, watermark: i64) {
        self.watermark.store(watermark, Ordering::Relaxed);
    }

    /// How far it has come, nanoseconds since the epoch, once there is a watermark.
    pub fn watermark(&self) -> Option<i64> {
        Some(self.watermark.load(Ordering::Relaxed)).filter(|watermark| *watermark != 0)
    }

    /// Late records, by what became of them.
    pub fn late(&self) -> [(&'static str, u64); 3] {
        [("kept", &self.late_kept), ("dropped", &self.late_dropped), ("routed", &self.late_routed)]
            .map(|(what, counter)| (what, counter.get()))
    }
}
