//! Definitions of streams: made by a create request, changed by updates, shown by descriptions.
//!
//! A [`Definition`] is what is stored. It keeps destinations as requests give them, merged and with the defaults that the
//! service fills in, so that nothing a client said is lost. Moments are handed in, in milliseconds since the Unix epoch.
//! Whether a stream is being created, runs or goes away is not part of it; a description is told ([`Status`]).
//!
//! Not certain, and decided here: the deprecated `S3Destination*` and `ExtendedS3Destination*` are the same type, so that one
//! updates the other (the members that both have). OpenSearch and Elasticsearch are two types, none of which becomes another. The token of a Splunk collector, which the service shows, is not shown. Starting and stopping encryption does not change the version.

mod create;
mod describe;
mod encryption;
mod list;
mod naming;
mod tags;
mod update;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use describe::{Seen, Status, arn};
pub use encryption::{EncryptionState, EncryptionStatus};
pub use list::list;
pub use naming::Naming;

use crate::wire::{ExtendedS3, HttpEndpoint, KinesisSource, OpenSearch, Redshift, S3, Splunk};

/// The one destination that a stream has.
pub const DESTINATION_ID: &str = "destinationId-000000000001";

/// The form in which definitions are stored.
const FORMAT: u32 = 1;

/// Where a stream delivers to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Destination {
    /// The deprecated one.
    S3(Box<S3>),
    ExtendedS3(Box<ExtendedS3>),
    HttpEndpoint(Box<HttpEndpoint>),
    Splunk(Box<Splunk>),
    OpenSearch(Box<OpenSearch>),
    Elasticsearch(Box<OpenSearch>),
    Redshift(Box<Redshift>),
}

/// All that is known of a stream.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    #[serde(deserialize_with = "known_format")]
    format: u32,
    pub name: String,
    /// From 1; one more with each change of the destination.
    pub version: u64,
    /// Milliseconds since the Unix epoch.
    pub created_at: u64,
    /// Of the last update, if there was one.
    pub updated_at: Option<u64>,
    pub destination: Destination,
    /// Mebibytes a second that the client expects to send; nothing follows from it.
    pub throughput_hint: Option<i64>,
    /// Where records are read from, where clients do not put them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<KinesisSource>,
    /// Labels; a value may be absent.
    #[serde(default)]
    pub tags: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub encryption: EncryptionState,
}

impl Definition {
    /// `DeliveryStreamType`.
    pub fn stream_type(&self) -> &'static str {
        if self.source.is_some() { "KinesisStreamAsSource" } else { "DirectPut" }
    }

    /// As `DescribeDeliveryStream` and updates have it.
    pub fn version_id(&self) -> String {
        self.version.to_string()
    }
}

fn known_format<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let format = u32::deserialize(deserializer)?;
    match format {
        FORMAT => Ok(format),
        other => Err(serde::de::Error::custom(format!(
            "a definition has format {other}, this version reads {FORMAT}"
        ))),
    }
}

#[cfg(test)]
mod tests;
