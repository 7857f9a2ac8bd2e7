//! Requests as they arrive, and how they are answered.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{COMMON_ATTRIBUTES_MAX, ERROR_MESSAGE_CHARS_MAX, RECORDS_MAX};
use crate::wire::{Records, Text};

/// Of a request's id; a GUID has 36.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    #[error("the body is not what Firehose delivers: {reason}")]
    Body { reason: String },
    #[error("the body has the request id {body:?} and the header {header:?}")]
    RequestIds { header: String, body: String },
    #[error("the request id has to be 1 to {REQUEST_ID_BYTES_MAX} printable ASCII characters without spaces")]
    RequestId,
    #[error("{found} records, a request has 1 to {RECORDS_MAX}")]
    Count { found: usize },
    #[error("the data of record {index} is no base64")]
    Data { index: usize },
    #[error(
        "the header X-Amz-Firehose-Common-Attributes is no {{\"commonAttributes\":{{\"name\":\"value\"}}}} of at most {COMMON_ATTRIBUTES_MAX}"
    )]
    CommonAttributes,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    data: Text<'a>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(rename = "requestId", borrow)]
    request_id: Text<'a>,
    timestamp: u64,
    #[serde(borrow)]
    records: Vec<Entry<'a>>,
}

/// What one request brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub request_id: String,
    /// When it was sent, in milliseconds since the Unix epoch.
    pub timestamp: u64,
    pub records: Records,
}

impl Delivery {
    /// Reads a body, already decompressed. `request_id`: that of the header, if it has one.
    ///
    /// # Errors
    /// See [`Undelivered`].
    pub fn parse(body: &[u8], request_id: Option<&str>) -> Result<Delivery, Undelivered> {
        let body: Body<'_> =
            serde_json::from_slice(body).map_err(|error| Undelivered::Body { reason: error.to_string() })?;
        let id = body.request_id.to_string();
        if !(1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(Undelivered::RequestId);
        }
        if let Some(header) = request_id.filter(|header| *header != id) {
            let header = header.chars().take(REQUEST_ID_BYTES_MAX).collect();
            return Err(Undelivered::RequestIds { header, body: id });
        }
        if !(1..=RECORDS_MAX).contains(&body.records.len()) {
            return Err(Undelivered::Count { found: body.records.len() });
        }
        let mut records = Records::default();
        records.bytes.reserve(body.records.iter().map(|entry| entry.data.len() / 4 * 3).sum());
        records.ends.reserve(body.records.len());
        for (index, entry) in body.records.iter().enumerate() {
            base64_simd::STANDARD
                .decode_append(entry.data.as_bytes(), &mut records.bytes)
                .map_err(|_other| Undelivered::Data { index })?;
            // Less than the body, which is far below 4 GiB.
            records.ends.push(u32::try_from(records.bytes.len()).unwrap_or(u32::MAX));
        }
        Ok(Delivery { request_id: id, timestamp: body.timestamp, records })
    }
}

/// What the header of common attributes says.
///
/// # Errors
/// It is not what it should be.
pub fn common_attributes_of(header: &str) -> Result<BTreeMap<String, String>, Undelivered> {
    #[derive(Deserialize)]
    struct Attributes {
        #[serde(rename = "commonAttributes")]
        attributes: BTreeMap<String, String>,
    }
    let read: Attributes = serde_json::from_str(header).map_err(|_other| Undelivered::CommonAttributes)?;
    let fits = read.attributes.len() <= COMMON_ATTRIBUTES_MAX;
    fits.then_some(read.attributes).ok_or(Undelivered::CommonAttributes)
}

/// The body of an answer: that the request was taken, or why not. `timestamp` in milliseconds since the Unix epoch.
pub fn answer(request_id: &str, timestamp: u64, error: Option<&str>) -> Vec<u8> {
    let mut answer = serde_json::json!({ "requestId": request_id, "timestamp": timestamp });
    if let Some(error) = error {
        answer["errorMessage"] = Value::from(error.chars().take(ERROR_MESSAGE_CHARS_MAX).collect::<String>());
    }
    answer.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::{check, request_id, write_body};
    use super::*;

    #[test]
    fn what_is_sent_is_read_again() {
        let records: [&[u8]; 3] = [b"hello", b"", &[0, 0xff, b'\n']];
        let id = request_id("b", 7);
        let mut body = Vec::new();
        write_body(&mut body, &id, 1_578_090_901_599, records.into_iter());
        let read = Delivery::parse(&body, Some(&id)).unwrap();
        assert_eq!((read.request_id.as_str(), read.timestamp), (id.as_str(), 1_578_090_901_599));
        assert_eq!(read.records.iter().collect::<Vec<_>>(), records);
        assert_eq!(Delivery::parse(&body, None).unwrap(), read);
        let taken = answer(&id, 5, None);
        assert_eq!(check(&id, Some("application/json"), None, &taken), Ok(()));
    }

    #[test]
    fn what_firehose_does_not_send_is_refused_with_what_is_wrong() {
        let entries = |count: usize| vec![r#"{"data":""}"#; count].join(",");
        let of = |id: &str, records: &str| {
            format!(r#"{{"requestId":"{id}","timestamp":1,"records":[{records}]}}"#)
        };
        for (body, header, part) in [
            (String::new(), None, "not what Firehose delivers"),
            ("[]".to_owned(), None, "not what Firehose delivers"),
            (r#"{"requestId":"a","records":[]}"#.to_owned(), None, "timestamp"),
            (r#"{"timestamp":1,"records":[]}"#.to_owned(), None, "requestId"),
            (of("a", r#"{"data":5}"#), None, "string"),
            (of("a", r#"{"text":"eA=="}"#), None, "data"),
            (of("a", r#"{"data":"eA=="},{"data":"eA="}"#), None, "record 1 is no base64"),
            (of("a", ""), None, "0 records"),
            (of("a", &entries(RECORDS_MAX + 1)), None, "10001 records"),
            (of("", &entries(1)), None, "request id"),
            (of("a b", &entries(1)), None, "request id"),
            (of(&"a".repeat(129), &entries(1)), None, "1 to 128"),
            (of("a", &entries(1)), Some("b"), "header \"b\""),
        ] {
            let told = Delivery::parse(body.as_bytes(), header).unwrap_err().to_string();
            assert!(told.contains(part), "{part}: {told}");
        }
        assert_eq!(
            Delivery::parse(of("a", &entries(RECORDS_MAX)).as_bytes(), None).unwrap().records.len(),
            RECORDS_MAX
        );
    }

    #[test]
    fn common_attributes_are_texts_by_name() {
        let read = common_attributes_of(r#"{"commonAttributes":{"deployment":"pre","a":""}}"#).unwrap();
        assert_eq!(
            read.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
            ["a=", "deployment=pre"]
        );
        let many: BTreeMap<String, String> = (0..51).map(|n| (n.to_string(), String::new())).collect();
        for wrong in ["", "{}", r#"{"commonAttributes":{"a":1}}"#, &super::super::common_attributes(&many)] {
            assert_eq!(common_attributes_of(wrong), Err(Undelivered::CommonAttributes), "{wrong}");
        }
    }

    #[test]
    fn error_message_is_cut_to_what_firehose_reads() {
        let answer = answer("a", 1, Some(&"é".repeat(9000)));
        let value: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(value["errorMessage"].as_str().unwrap().chars().count(), 8192);
        assert_eq!((value["requestId"].as_str(), value["timestamp"].as_u64()), (Some("a"), Some(1)));
    }
}
