//! What the API of Amazon Data Firehose tells and finds.

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
