//! Replies, as compact JSON: some clients look for texts such as `"FailedPutCount":0` in them.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Tag;

/// The body of a reply; that of operations without one is `{}`.
pub fn json<T: Serialize>(reply: &T) -> Vec<u8> {
    // Structures of texts and numbers have no keys that could fail, and a vector takes every byte.
    serde_json::to_vec(reply).unwrap_or_else(|_| b"{}".to_vec())
}

/// Opaque to clients. It is short on purpose: a reply has one for each record, and some clients have little room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordId {
    /// Which append, unique within the stream.
    pub append: u64,
    /// Which record of it.
    pub index: u32,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.append, self.index)
    }
}

impl Serialize for RecordId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct PutRecordReply {
    #[serde(rename = "RecordId")]
    pub record_id: RecordId,
    #[serde(rename = "Encrypted")]
    pub encrypted: bool,
}

/// Why one record of a batch was not taken. Clients send it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum EntryError {
    #[serde(rename = "ServiceUnavailableException")]
    ServiceUnavailable,
    InternalFailure,
}

/// What became of one record.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum PutResult {
    Stored {
        #[serde(rename = "RecordId")]
        record_id: RecordId,
    },
    Failed {
        #[serde(rename = "ErrorCode")]
        code: EntryError,
        #[serde(rename = "ErrorMessage")]
        message: String,
    },
}

/// One result for each record, in the order of the request.
#[derive(Clone, Debug)]
pub struct PutRecordBatchReply {
    pub encrypted: bool,
    pub results: Vec<PutResult>,
}

impl PutRecordBatchReply {
    /// All records were stored by one append.
    pub fn stored(encrypted: bool, append: u64, count: u32) -> PutRecordBatchReply {
        let stored = |index| PutResult::Stored { record_id: RecordId { append, index } };
        PutRecordBatchReply { encrypted, results: (0..count).map(stored).collect() }
    }
}

impl Serialize for PutRecordBatchReply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Reply<'a> {
            #[serde(rename = "FailedPutCount")]
            failed: usize,
            #[serde(rename = "Encrypted")]
            encrypted: bool,
            #[serde(rename = "RequestResponses")]
            results: &'a [PutResult],
        }
        let failed = self.results.iter().filter(|result| matches!(result, PutResult::Failed { .. })).count();
        Reply { failed, encrypted: self.encrypted, results: &self.results }.serialize(serializer)
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct CreateReply {
    #[serde(rename = "DeliveryStreamARN")]
    pub arn: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListReply {
    #[serde(rename = "DeliveryStreamNames")]
    pub names: Vec<String>,
    #[serde(rename = "HasMoreDeliveryStreams")]
    pub has_more: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListTagsReply {
    #[serde(rename = "Tags")]
    pub tags: Vec<Tag>,
    #[serde(rename = "HasMoreTags")]
    pub has_more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_was_stored_is_compact_and_its_ids_are_short() {
        let reply = json(&PutRecordBatchReply::stored(false, 0x1f, 2));
        assert_eq!(
            String::from_utf8(reply).unwrap(),
            r#"{"FailedPutCount":0,"Encrypted":false,"RequestResponses":[{"RecordId":"1f-0"},{"RecordId":"1f-1"}]}"#
        );
        let largest = RecordId { append: u64::MAX, index: 499 };
        assert_eq!(largest.to_string().len(), 20);
    }

    #[test]
    fn records_that_failed_are_counted_and_stand_in_their_places() {
        let mut reply = PutRecordBatchReply::stored(true, 1, 2);
        reply.results[0] =
            PutResult::Failed { code: EntryError::ServiceUnavailable, message: "Slow down.".to_owned() };
        assert_eq!(
            String::from_utf8(json(&reply)).unwrap(),
            r#"{"FailedPutCount":1,"Encrypted":true,"RequestResponses":[{"ErrorCode":"ServiceUnavailableException","ErrorMessage":"Slow down."},{"RecordId":"1-1"}]}"#
        );
    }
}
