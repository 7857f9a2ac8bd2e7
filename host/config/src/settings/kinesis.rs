//! A source in Kinesis Data Streams.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KinesisSource {
    pub place: KinesisPlace,
    pub from: KinesisStart,
    /// How often a shard is asked that had nothing more.
    pub poll_interval: Duration,
}

/// Which stream of Kinesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KinesisPlace {
    /// Name or ARN.
    pub stream: String,
    /// `None`: from the environment.
    pub region: Option<String>,
    /// `None`: AWS itself.
    pub endpoint: Option<String>,
}

/// Where to begin in shards of which nothing is stored yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KinesisStart {
    TrimHorizon,
    Latest,
    /// Milliseconds since the Unix epoch.
    AtTimestamp(i64),
}
