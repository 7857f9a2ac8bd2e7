//! Event and answer as functions know them: names, shapes and JSON of `aws_lambda_events::firehose`, but for
//! [`MillisecondTimestamp`], which is a number here.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use base64::Engine;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::BASE64;

/// The records of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KinesisFirehoseEvent {
    /// The same for every attempt at these records.
    #[serde(default)]
    pub invocation_id: Option<String>,
    /// From the transform's config.
    #[serde(default)]
    pub delivery_stream_arn: Option<String>,
    /// Never there: records come from no Kinesis stream.
    #[serde(default)]
    pub source_kinesis_stream_arn: Option<String>,
    /// From the transform's config.
    #[serde(default)]
    pub region: Option<String>,
    /// At least one.
    pub records: Vec<KinesisFirehoseEventRecord>,
}

/// A record as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KinesisFirehoseEventRecord {
    /// For the answer.
    #[serde(default)]
    pub record_id: Option<String>,
    /// When it arrived.
    pub approximate_arrival_timestamp: MillisecondTimestamp,
    /// The payload.
    pub data: Base64Data,
    /// Never there: records come from no Kinesis stream.
    #[serde(default, rename = "kinesisRecordMetadata")]
    pub kinesis_firehose_record_metadata: Option<KinesisFirehoseRecordMetadata>,
}

/// An answer for every record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KinesisFirehoseResponse {
    /// In any order.
    pub records: Vec<KinesisFirehoseResponseRecord>,
}

/// What becomes of one record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KinesisFirehoseResponseRecord {
    /// The record's own.
    #[serde(default)]
    pub record_id: Option<String>,
    /// `Ok`, `Dropped` or `ProcessingFailed`.
    #[serde(default)]
    pub result: Option<String>,
    /// The new payload.
    pub data: Base64Data,
    /// What partitions the record.
    pub metadata: KinesisFirehoseResponseRecordMetadata,
}

/// What partitions a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KinesisFirehoseResponseRecordMetadata {
    /// They become the row's partition values.
    #[serde(default)]
    pub partition_keys: HashMap<String, String>,
}

/// Where in a Kinesis stream a record was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KinesisFirehoseRecordMetadata {
    /// The shard.
    #[serde(default)]
    pub shard_id: Option<String>,
    /// The record's key.
    #[serde(default)]
    pub partition_key: Option<String>,
    /// Its place in the shard.
    #[serde(default)]
    pub sequence_number: Option<String>,
    /// Its place in an aggregate.
    pub subsequence_number: i64,
    /// When it arrived there.
    pub approximate_arrival_timestamp: MillisecondTimestamp,
}

/// Milliseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct MillisecondTimestamp(pub i64);

impl Deref for MillisecondTimestamp {
    type Target = i64;

    fn deref(&self) -> &i64 {
        &self.0
    }
}

/// Bytes that are base64 in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base64Data(pub Vec<u8>);

impl Deref for Base64Data {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Base64Data {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Serialize for Base64Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text).map(Base64Data).map_err(de::Error::custom)
    }
}
