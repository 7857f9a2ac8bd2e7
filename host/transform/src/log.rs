//! Where guests' log lines go, and how many of them.
//!
//! Owns the caps: bytes per message, bytes per call, lines per second and instance. What is over a cap is dropped and
//! counted, and the count is reported; a guest can never make the host's log grow without bound.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::fault::cut_text;
use crate::limits::LOG_MESSAGE_BYTES_MAX;

/// Lines per second that one instance may write in the long run, and in one burst.
const LINES_PER_SECOND: u32 = 50;
const LINES_BURST: u32 = 200;
/// How often a count of dropped lines is reported.
const DROPPED_EVERY: Duration = Duration::from_secs(1);

/// As in the WIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Receives guests' log lines, already capped and rate limited. Must not block.
pub trait LogSink: Send + Sync + 'static {
    /// `transform` is the transform's name in the stream.
    fn line(&self, transform: &str, level: Level, message: &str);
    /// `lines` lines of this transform were dropped since the last report.
    fn dropped(&self, transform: &str, lines: u64);
}

/// Discards everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullLog;

impl LogSink for NullLog {
    fn line(&self, _transform: &str, _level: Level, _message: &str) {}
    fn dropped(&self, _transform: &str, _lines: u64) {}
}

/// One instance's way to the sink.
pub(crate) struct LogGate {
    sink: Arc<dyn LogSink>,
    transform: Arc<str>,
    bytes_per_call: u64,
    bytes_left: u64,
    tokens: u32,
    refilled: Instant,
    dropped: u64,
    reported: Instant,
}

impl LogGate {
    pub(crate) fn new(sink: Arc<dyn LogSink>, transform: Arc<str>, bytes_per_call: u64) -> LogGate {
        let now = Instant::now();
        LogGate {
            sink,
            transform,
            bytes_per_call,
            bytes_left: bytes_per_call,
            tokens: LINES_BURST,
            refilled: now,
            dropped: 0,
            reported: now,
        }
    }

    /// A new call begins: its byte allowance is whole again.
    pub(crate) fn begin_call(&mut self) {
        self.bytes_left = self.bytes_per_call;
    }

    pub(crate) fn write(&mut self, level: Level, message: &str) {
        let message = match message.len() {
            0..=LOG_MESSAGE_BYTES_MAX => Cow::Borrowed(message),
            _ => Cow::Owned(cut_text(message, LOG_MESSAGE_BYTES_MAX)),
        };
        let bytes = message.len() as u64;
        if self.tokens == 0 {
            self.refill();
        }
        if self.tokens == 0 || bytes > self.bytes_left {
            self.dropped += 1;
            return;
        }
        self.tokens -= 1;
        self.bytes_left -= bytes;
        self.sink.line(&self.transform, level, &message);
    }

    /// Counts lines that were lost before they came here.
    pub(crate) fn count_dropped(&mut self, lines: u64) {
        self.dropped += lines;
    }

    /// Reports what was dropped, at most once a second.
    pub(crate) fn end_call(&mut self) {
        if self.dropped > 0 && self.reported.elapsed() >= DROPPED_EVERY {
            self.report();
        }
    }

    fn report(&mut self) {
        self.sink.dropped(&self.transform, self.dropped);
        self.dropped = 0;
        self.reported = Instant::now();
    }

    fn refill(&mut self) {
        let earned = self.refilled.elapsed().as_millis() * u128::from(LINES_PER_SECOND) / 1000;
        if earned > 0 {
            self.tokens = u32::try_from(earned).unwrap_or(LINES_BURST).min(LINES_BURST);
            self.refilled = Instant::now();
        }
    }
}

impl Drop for LogGate {
    fn drop(&mut self) {
        if self.dropped > 0 {
            self.report();
        }
    }
}
