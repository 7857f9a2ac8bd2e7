//! Request bodies, split into records.

use bytes::Bytes;

/// How the records of a request body are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `application/x-ndjson`: lines; `\r` before `\n` is not part of the record; empty lines are skipped.
    Ndjson,
    /// `application/json`: an array; each element's exact text is a record.
    JsonArray,
    /// `application/octet-stream`, `text/plain`: the whole body is one record.
    Raw,
    /// `application/vnd.wasmill.length-delimited`: u32 big-endian length, then so many bytes.
    LengthDelimited,
}

/// What one request may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of one record.
    pub max_record: u64,
    /// Records of one request.
    pub max_records: u32,
}

/// The records of a body: record `i` is `payload[ends[i - 1]..ends[i]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplitBody {
    pub payload: Bytes,
    pub ends: Vec<u32>,
}

/// Why a body was refused. Nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Over `max_record`.
    #[error("record {index} has {size} bytes, the limit is {limit}")]
    RecordTooLarge { index: u32, size: u64, limit: u64 },
    /// Over `max_records`.
    #[error("request has more than {limit} records")]
    TooManyRecords { limit: u32 },
    /// Over what offsets of 32 bits can address.
    #[error("body has {size} bytes, the limit is {limit}")]
    BodyTooLarge { size: u64, limit: u64 },
    /// Not a JSON array.
    #[error("body is no JSON array: {reason}")]
    NoJsonArray { reason: String },
    /// Length-delimited, cut short.
    #[error("record {index} needs {needed} bytes, the body has {left} left")]
    Truncated { index: u32, needed: u64, left: u64 },
}

impl Framing {
    /// The framing that a Content-Type asks for; parameters are ignored.
    pub fn of_content_type(_content_type: &str) -> Option<Framing> {
        unimplemented!()
    }
}

/// Splits a body into records.
///
/// # Errors
/// The first limit or syntax error; nothing of the body may then be stored.
pub fn split_body(_framing: Framing, _body: Bytes, _limits: &BodyLimits) -> Result<SplitBody, BodyError> {
    unimplemented!()
}
