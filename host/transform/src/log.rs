//! Where guests' log lines go, and how many of them.

/// As in the WIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// `lines` lines of this transform were dropped since the last call.
    fn dropped(&self, transform: &str, lines: u64);
}

/// Discards everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullLog;

impl LogSink for NullLog {
    fn line(&self, _transform: &str, _level: Level, _message: &str) {}
    fn dropped(&self, _transform: &str, _lines: u64) {}
}
