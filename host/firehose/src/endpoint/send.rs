//! Requests as they are sent, and what their answers are worth.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::{ANSWER_BYTES_MAX, CONTENT_TYPE};

/// Bytes of a body without records: both numbers at their longest.
const ENVELOPE_BYTES: usize = 112;
/// Of a record without its data, with what parts it from the next.
const RECORD_BYTES: usize = r#"{"data":""},"#.len();

/// What a record of so many bytes takes of a body.
pub fn record_bytes(length: usize) -> usize {
    length.div_ceil(3) * 4 + RECORD_BYTES
}

/// Bytes that a body has room for where its records take so many.
pub fn body_bytes(records: usize) -> usize {
    records + ENVELOPE_BYTES
}

/// The id of the request whose first record is the row `row` of a batch: the same however often it is made. A UUID.
pub fn request_id(batch_id: &str, row: u64) -> String {
    let text = format!("wasmill request\n{batch_id}\n{row}");
    let mut half = [0; 16];
    half.iter_mut().zip(digest(&SHA256, text.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
    let number = (u128::from_be_bytes(half) & !(0xf << 76) & !(0b11 << 62)) | (4 << 76) | (0b10 << 62);
    let (high, low) = (number >> 64, number & u128::from(u64::MAX));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// Appends a request's body to `body`. `timestamp` in milliseconds since the Unix epoch.
pub fn write_body<'r>(
    body: &mut Vec<u8>,
    request_id: &str,
    timestamp: u64,
    records: impl Iterator<Item = &'r [u8]>,
) {
    body.extend_from_slice(br#"{"requestId":""#);
    body.extend_from_slice(request_id.as_bytes());
    body.extend_from_slice(format!(r#"","timestamp":{timestamp},"records":["#).as_bytes());
    for (index, record) in records.enumerate() {
        body.extend_from_slice(if index == 0 { br#"{"data":""# } else { br#",{"data":""# });
        base64_simd::STANDARD.encode_append(record, body);
        body.extend_from_slice(br#""}"#);
    }
    body.extend_from_slice(b"]}");
}

/// The value of the header of that name.
pub fn common_attributes(attributes: &BTreeMap<String, String>) -> String {
    serde_json::json!({ "commonAttributes": attributes }).to_string()
}

/// Why an answer in status 200 is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("the answer's content type is {found:?} instead of {CONTENT_TYPE}")]
    ContentType { found: String },
    #[error("the answer has content encoding {found:?}")]
    Encoded { found: String },
    #[error("the answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the answer is no JSON object with requestId and timestamp")]
    Body,
    #[error("the answer has request id {found:?} instead of that of the request")]
    RequestId { found: String },
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "requestId")]
    request_id: String,
    timestamp: serde_json::Number,
}

/// Whether an answer in status 200 says that the request was taken.
///
/// # Errors
/// It does not: Firehose takes such an answer for one in status 500 without a body.
pub fn check(
    request_id: &str,
    content_type: Option<&str>,
    content_encoding: Option<&str>,
    body: &[u8],
) -> Result<(), Unfit> {
    let shown = |text: &str| text.chars().take(100).collect::<String>();
    let kind = content_type.unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(CONTENT_TYPE) {
        return Err(Unfit::ContentType { found: shown(kind) });
    }
    if let Some(found) = content_encoding.filter(|found| !found.eq_ignore_ascii_case("identity")) {
        return Err(Unfit::Encoded { found: shown(found) });
    }
    if body.len() > ANSWER_BYTES_MAX {
        return Err(Unfit::TooLong);
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_other| Unfit::Body)?;
    if !(answer.timestamp.is_u64() || answer.timestamp.is_i64()) {
        return Err(Unfit::Body);
    }
    if answer.request_id != request_id {
        return Err(Unfit::RequestId { found: shown(&answer.request_id) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_id_is_a_uuid_of_batch_and_row() {
        let id = request_id("batch", 0);
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert!(id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19]), "{id}");
        // For ever: an endpoint may remember it.
        assert_eq!(id, "ca70240f-6b68-49e9-a9fd-829f6b584ba8");
        assert_ne!(request_id("batch", 1), id);
        assert_ne!(request_id("batch\n1", 0), request_id("batch", 1));
    }

    #[test]
    fn body_has_the_documented_form_and_no_more_bytes_than_were_announced() {
        let records: [&[u8]; 3] = [b"hello", b"", &[0xff]];
        let mut body = Vec::new();
        write_body(&mut body, &request_id("b", 0), u64::MAX, records.into_iter());
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "requestId": request_id("b", 0), "timestamp": u64::MAX,
                "records": [{ "data": "aGVsbG8=" }, { "data": "" }, { "data": "/w==" }],
            })
        );
        let announced = body_bytes(records.iter().map(|record| record_bytes(record.len())).sum());
        assert!(body.len() <= announced && announced < body.len() + 20, "{} {announced}", body.len());
    }

    #[test]
    fn answer_is_one_only_if_it_repeats_the_id_as_json() {
        let fits = r#"{"timestamp":1578090903599,"requestId":"a-b","more":[]}"#;
        let json = Some("application/json; charset=utf-8");
        assert_eq!(check("a-b", json, None, fits.as_bytes()), Ok(()));
        assert_eq!(check("a-b", json, Some("identity"), fits.as_bytes()), Ok(()));
        for (kind, encoding, body, part) in [
            (None, None, fits, "content type"),
            (Some("text/plain"), None, fits, "text/plain"),
            (json, Some("gzip"), fits, "gzip"),
            (json, None, "", "no JSON object"),
            (json, None, "ok", "no JSON object"),
            (json, None, r#"{"requestId":"a-b"}"#, "no JSON object"),
            (json, None, r#"{"requestId":"a-b","timestamp":"2020"}"#, "no JSON object"),
            (json, None, r#"{"requestId":"a-b","timestamp":1.5}"#, "no JSON object"),
            (json, None, r#"{"requestId":"a-c","timestamp":1}"#, "\"a-c\""),
            (json, None, &" ".repeat(ANSWER_BYTES_MAX + 1), "more than"),
        ] {
            let told = check("a-b", kind, encoding, body.as_bytes()).unwrap_err().to_string();
            assert!(told.contains(part), "{told}");
        }
    }
}
