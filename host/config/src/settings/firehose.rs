//! What of Amazon Data Firehose a configuration has: names of objects, and what its API tells and finds.

/// How objects are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectName {
    /// A template with placeholders.
    Template(String),
    /// As Amazon Data Firehose does it.
    Firehose(FirehoseNames),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirehoseNames {
    /// Text and expressions.
    pub prefix: String,
    /// Of the IANA database; `None`: UTC.
    pub time_zone: Option<String>,
    /// `None`: that of the compression.
    pub extension: Option<String>,
    pub version: u64,
}

/// What the Firehose API says of streams, and where the buckets are that they name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firehose {
    /// In the ARNs of streams, and of S3 where there is no endpoint.
    pub region: String,
    /// In the ARNs of streams.
    pub account: String,
    /// Of a store other than AWS.
    pub endpoint: Option<String>,
    pub path_style: bool,
    /// What is stored is on an encrypted disk.
    pub encrypted_disk: bool,
}
