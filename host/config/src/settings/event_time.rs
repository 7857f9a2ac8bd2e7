//! Where a stream's records have their time, and how long others are waited for.

use std::time::Duration;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTime {
    pub source: TimeSource,
    pub format: TimeFormat,
    /// The watermark is the largest time seen less this.
    pub delay: Duration,
    /// Time without records after which the watermark goes on with the clock; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// Below the watermark by more than this a record is late.
    pub lateness: Duration,
    pub late: Late,
    pub unreadable: Unreadable,
    /// Times further ahead of the arrival are unreadable; `None`: none is.
    pub ahead: Option<Duration>,
}

/// Where the time of a record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeSource {
    /// Object keys, outermost first.
    Field(Vec<String>),
    /// A regular expression over the record with one group.
    Pattern(String),
}

/// How it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    Rfc3339,
    /// A number of units of so many nanoseconds since 1970.
    Number(i64),
    /// A pattern of strptime; without an offset it is UTC.
    Strptime(String),
}

/// What becomes of late records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// They go through the plugins.
    Keep,
    Drop,
    /// Index into the stream's outputs: they go there as they came in.
    Route(usize),
}

/// What becomes of records whose time cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// They become dead letters.
    Fail,
    Drop,
    /// They go through the plugins without a time.
    Keep,
}
