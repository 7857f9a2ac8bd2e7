//! What others read of a stream's event time.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::{Marks, NO_TIME};
use crate::pipeline::stats::Counter;

/// See the head of this file. Nothing of it moves where the stream has no event time.
#[derive(Debug, Default)]
pub struct EventTimeStats {
    tracked: AtomicBool,
    /// Late records that went through the plugins.
    pub late_kept: Counter,
    pub late_dropped: Counter,
    /// To the output of late records.
    pub late_routed: Counter,
    /// Records whose time could not be read, whatever became of them.
    pub unreadable: Counter,
    watermark: AtomicI64,
    /// Of a stream with several.
    sources: Mutex<Vec<SourceTime>>,
}

/// How far one of several sources has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceTime {
    pub name: String,
    /// Nanoseconds since the epoch, once it has brought something.
    pub watermark_ns: Option<i64>,
    /// The stream's watermark does not pass its own.
    pub waited_for: bool,
}

impl EventTimeStats {
    /// The stream has event time.
    pub(crate) fn track(&self) {
        self.reached(NO_TIME);
        self.tracked.store(true, Ordering::Relaxed);
    }

    pub fn is_tracked(&self) -> bool {
        self.tracked.load(Ordering::Relaxed)
    }

    pub(crate) fn reached(&self, watermark: i64) {
        self.watermark.store(watermark, Ordering::Relaxed);
    }

    pub(crate) fn sources_reached(&self, marks: &Marks) {
        let each = marks.each().map(|(name, watermark, waited_for)| SourceTime {
            name: name.to_owned(),
            watermark_ns: Some(watermark).filter(|watermark| *watermark != NO_TIME),
            waited_for,
        });
        *self.sources.lock().unwrap_or_else(PoisonError::into_inner) = each.collect();
    }

    /// Of a stream with several; of one that has one there are none.
    pub fn sources(&self) -> Vec<SourceTime> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How far it has come, nanoseconds since the epoch, once there is a watermark.
    pub fn watermark(&self) -> Option<i64> {
        let watermark = self.is_tracked().then(|| self.watermark.load(Ordering::Relaxed));
        watermark.filter(|watermark| *watermark != NO_TIME)
    }

    /// Seconds that it is behind the clock, 0 before there is one.
    #[expect(clippy::cast_precision_loss, reason = "an age in seconds needs no 63 bits")]
    pub fn lag_s(&self, now_ns: i64) -> f64 {
        self.watermark().map_or(0.0, |watermark| now_ns.saturating_sub(watermark) as f64 / 1e9)
    }

    /// Late records, by what became of them.
    pub fn late(&self) -> [(&'static str, u64); 3] {
        [("kept", &self.late_kept), ("dropped", &self.late_dropped), ("routed", &self.late_routed)]
            .map(|(what, counter)| (what, counter.get()))
    }
}
