//! What the API of Amazon Data Firehose tells and finds.

use std::collections::BTreeMap;

use super::SchemaSource;
use crate::tree;

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
    /// Of a Kinesis other than AWS's.
    pub kinesis_endpoint: Option<String>,
    /// What is stored is on an encrypted disk.
    pub encrypted_disk: bool,
    /// The columns of tables that delivery streams name, by `DATABASE.TABLE`.
    pub schemas: BTreeMap<String, SchemaSource>,
}

impl Firehose {
    /// Where the columns of a table stand, for [`crate::Settings::problem`].
    pub fn schema_key(&self, table: &str) -> String {
        format!("firehose.schemas.{}", tree::segment(table))
    }
}
