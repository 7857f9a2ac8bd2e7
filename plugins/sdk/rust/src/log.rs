//! The plugin's log on the host: capped and rate-limited there. Outside a component the lines are kept for tests.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the author.
    Debug,
    /// Worth knowing.
    Info,
    /// Unexpected, but nothing is lost.
    Warn,
    /// Somebody must look.
    Error,
}

/// Writes one line.
pub fn write(level: Level, message: &str) {
    crate::face::write_log(level, message);
}
