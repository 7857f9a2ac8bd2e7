//! History: records that the checkpoint needs no more and that are kept all the same, for a time or up to a size.
//!
//! They stay in the frames, files and segments that they are in, and are moved and freed like those that are needed;
//! whole frames are dropped, the oldest first. They do not count against `max_bytes`. What is kept is not written down:
//! an open finds every frame that no file was freed of, and who asks for the stream says what of it stays. It reads no
//! clock: the caller says what time it is.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::ReadError;
use crate::state::{FrameRef, StreamState};
use crate::stream::{Frames, Stream};

/// What is kept of a stream's history; whatever bound is reached first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Frames as on disk, each counted as at least 2 KiB.
    pub bytes: u64,
    /// Since the arrival of a frame's first record.
    pub age: Duration,
}

impl Retention {
    pub(crate) const ALL: Retention = Retention { bytes: u64::MAX, age: Duration::MAX };
}

/// Records that arrived in some span of time and can be read, delivered or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// From the first of them to behind the last; empty if there is none.
    pub offsets: Range<u64>,
    /// Arrivals of the first and of the last frame that can be read at all; `None` if there is none.
    pub kept: Option<(i64, i64)>,
    /// Offset of the first record that can be read at all; above 0 others were let go of.
    pub kept_from: u64,
}

/// History and what is needed still, from the first frame on for which `before` does not hold; it holds for the first ones.
fn frames_from(stream: &StreamState, before: impl Fn(&FrameRef) -> bool) -> impl Iterator<Item = &FrameRef> {
    let from = |frames: &VecDeque<FrameRef>| frames.partition_point(|frame| before(frame));
    stream.retained.range(from(&stream.retained)..).chain(stream.records.range(from(&stream.records)..))
}

impl Stream {
    /// Bytes of history: frames as on disk, each at least 2 KiB.
    pub fn retained_bytes(&self) -> u64 {
        self.core.retained.load(Ordering::Relaxed)
    }

    /// Arrival of the oldest frame of history, ns since 1970.
    pub fn oldest_retained(&self) -> Option<i64> {
        let state = self.shared.state();
        state.streams.get(&self.core.id)?.retained.front().map(|frame| frame.arrival)
    }

    /// Drops the history that is too old at `now`, ns since 1970.
    pub fn expire(&self, now: i64) {
        let retention = self.shared.state().streams.get(&self.core.id).and_then(|stream| stream.retention);
        let Some(retention) = retention else { return };
        let age = i64::try_from(retention.age.as_nanos()).unwrap_or(i64::MAX);
        if self.shared.trim(self.core.id, now.saturating_sub(age)) {
            self.shared.queue.poke();
        }
    }

    /// What there is of frames that arrived in this span, ns since 1970.
    pub fn history(&self, arrivals: Range<i64>) -> Result<History, ReadError> {
        let state = self.shared.state();
        let stream = state.streams.get(&self.core.id).ok_or(ReadError::Deleted)?;
        let ends = [&stream.retained, &stream.records];
        let first = ends.iter().find_map(|frames| frames.front());
        let last = ends.iter().rev().find_map(|frames| frames.back());
        // Arrivals never decrease, so both are in order of time too.
        let mut inside = frames_from(stream, |frame| frame.arrival < arrivals.start);
        let start = inside.next().filter(|frame| frame.arrival < arrivals.end).map(|frame| frame.base);
        let behind = frames_from(stream, |frame| frame.arrival < arrivals.end).next();
        let end = behind.map_or(stream.end, |frame| frame.base);
        Ok(History {
            offsets: start.map_or(end..end, |start| start..end),
            kept_from: first.map_or(stream.end, |first| first.base),
            kept: first.zip(last).map(|(first, last)| (first.arrival, last.arrival)),
        })
    }

    /// Frames that hold records of these offsets: at least one, then up to `max_bytes`. What is `lost` of them was
    /// acknowledged, and is corrupt or was dropped by now. Past the last of them `next_offset` is the end of `offsets`.
    pub fn read_history(&self, offsets: Range<u64>, max_bytes: usize) -> Result<Frames, ReadError> {
        let mut picked = Vec::new();
        let stop = {
            let state = self.shared.state();
            let stream = state.streams.get(&self.core.id).ok_or(ReadError::Deleted)?;
            let mut stop = offsets.end;
            let mut bytes = 0usize;
            for frame in frames_from(stream, |frame| frame.until <= offsets.start) {
                bytes = bytes.saturating_add(frame.len as usize);
                if frame.base >= offsets.end || (bytes > max_bytes && !picked.is_empty()) {
                    stop = frame.after.min(offsets.end);
                    break;
                }
                picked.push((frame.clone(), state.cache.get(frame.position)));
            }
            stop
        };
        let last = picked.last().is_none_or(|(frame, _)| frame.until >= offsets.end);
        let mut found = self.read(picked, offsets.start, stop)?;
        if last {
            found.next_offset = offsets.end.max(found.next_offset);
        }
        Ok(found)
    }
}
