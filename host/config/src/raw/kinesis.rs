//! Keys of a source in Kinesis Data Streams. A doc comment here is text that users read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

mod default {
    use super::Span;

    pub(super) fn poll_interval() -> Span {
        Span(std::time::Duration::from_secs(1))
    }
}

/// A stream of Kinesis Data Streams.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Kinesis {
    /// Name or ARN of the stream in Kinesis.
    #[schemars(extend("examples" = ["clicks", "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks"]))]
    pub(crate) stream: String,
    /// Region. By default that of the ARN, else from the environment.
    pub(crate) region: Option<String>,
    /// URL of a service other than AWS.
    #[schemars(extend("format" = "url", "examples" = ["http://127.0.0.1:4568"]))]
    pub(crate) endpoint: Option<String>,
    /// Where to begin in shards of which nothing is stored yet.
    #[serde(default)]
    pub(crate) from: KinesisFrom,
    /// The moment for `from = "at-timestamp"`, as RFC 3339 has it.
    #[schemars(extend("examples" = ["2026-01-31T12:00:00Z"]))]
    pub(crate) timestamp: Option<String>,
    /// How often a shard is asked that had nothing more. A shard answers five requests in a second, to all who read it.
    #[serde(default = "default::poll_interval")]
    pub(crate) poll_interval: Span,
}

/// Where to begin in shards of which nothing is stored yet.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KinesisFrom {
    /// At the oldest record that is there.
    #[default]
    TrimHorizon,
    /// Behind what is there at the first start. Until something is stored, each start is the first.
    Latest,
    /// At what came into Kinesis from `timestamp` on.
    AtTimestamp,
}

/// A stream of Kinesis Data Streams.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "kinesis place")]
pub(crate) struct PolicyKinesis {
    /// Its name or ARN, exactly as sources have it.
    pub(crate) stream: String,
    /// Region, exactly as sources have it. By default that of the ARN, else from the environment.
    pub(crate) region: Option<String>,
    /// URL of a service other than AWS, exactly as sources have it.
    #[schemars(extend("format" = "url", "examples" = ["http://127.0.0.1:4568"]))]
    pub(crate) endpoint: Option<String>,
}
