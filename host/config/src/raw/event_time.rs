//! The keys of `event_time`: where a stream's records have their time, and how long others are waited for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

mod default {
    use super::Span;

    pub(super) fn format() -> String {
        "rfc3339".to_owned()
    }
    pub(super) fn nothing() -> Span {
        Span(std::time::Duration::ZERO)
    }
}

/// Where the records have their time. The host then keeps the stream's watermark: the largest time seen, less `delay`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "event_time")]
pub(crate) struct EventTime {
    /// The field with the time, of records that are JSON; dots lead inwards, `\.` is a dot in a name.
    #[schemars(extend("examples" = ["ts", "request.time"]))]
    pub(crate) field: Option<String>,
    /// In place of `field`: a regular expression over the record as it came in; its one group is the time.
    #[schemars(extend("examples" = ["\\[([^\\]]+)\\]"]))]
    pub(crate) pattern: Option<String>,
    /// How the time is written: `rfc3339`, a number of `s`, `ms`, `us` or `ns` since 1970, or a text in the manner of strptime. Without an offset it is UTC.
    #[serde(default = "default::format")]
    #[schemars(extend("examples" = ["ms", "%d/%b/%Y:%H:%M:%S %z"]))]
    pub(crate) format: String,
    /// How much later than newer records others may come.
    #[serde(default = "default::nothing")]
    pub(crate) delay: Span,
    /// After so long without a record the watermark goes on, as the clock does. Of several sources one that brings none for so long is not waited for. By default it waits for records.
    pub(crate) idle_timeout: Option<Span>,
    /// A record is late when its time is below the watermark by more than this.
    #[serde(default = "default::nothing")]
    pub(crate) lateness: Span,
    /// What becomes of late records.
    #[serde(default)]
    pub(crate) late: Late,
    /// Name of the output of late records, with `late = "route"`. They go there as they came in.
    pub(crate) late_output: Option<String>,
    /// What becomes of records without a time that can be read, or with one too far ahead.
    #[serde(default)]
    pub(crate) unreadable: Unreadable,
    /// Times that are further ahead of the record's arrival count as unreadable, so that one wrong clock does not make all others late. By default none does.
    pub(crate) ahead: Option<Span>,
}

/// What becomes of late records.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Late {
    /// They go through the plugins like all others, which may look at time and watermark themselves.
    #[default]
    Keep,
    /// They are dropped, and counted.
    Drop,
    /// They go to `late_output`, past the plugins.
    Route,
}

/// What becomes of records without a time that can be read.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unreadable {
    /// They become dead letters.
    #[default]
    Fail,
    /// They are dropped, and counted.
    Drop,
    /// They go through the plugins, without a time.
    Keep,
}
