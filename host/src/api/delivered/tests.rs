//! Requests as Firehose sends them, and what it is answered.

use std::io::Write as _;

use serde_json::{Value, json};
use wasmill_firehose::endpoint::check;
use wasmill_ingest::AppendError;

use super::super::tests::{Fake, request};
use super::*;

const ID: &str = "ed4acda5-034f-9f42-bba1-f29aea6d7d8f";

fn body(records: &[&str]) -> Vec<u8> {
    let records: Vec<Value> = records.iter().map(|data| json!({ "data": data })).collect();
    json!({ "requestId": ID, "timestamp": 1_578_090_901_599_u64, "records": records })
        .to_string()
        .into_bytes()
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// In the form that the protocol has for a refusal.
    fn error(&self) -> String {
        let told: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(told["requestId"], ID);
        assert!(told["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
        assert!(self.head.contains("content-type: application/json"), "{}", self.head);
        told["errorMessage"].as_str().unwrap().to_owned()
    }
}

async fn deliver(fake: &Arc<Fake>, headers: &str, body: &[u8]) -> Answer {
    let length = body.len();
    let head = format!(
        "POST /v1/streams/access/firehose HTTP/1.1\r\ncontent-length: {length}\r\n\
         x-amz-firehose-protocol-version: 1.0\r\nx-amz-firehose-request-id: {ID}\r\n{headers}"
    );
    let answer = request(fake, &head, body).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.as_bytes().to_vec() }
}

const JSON: &str = "content-type: application/json";

#[tokio::test]
async fn delivery_is_stored_and_answered_as_firehose_wants_it() {
    let fake: Arc<Fake> = Arc::default();
    let attributes = "x-amz-firehose-common-attributes: {\"commonAttributes\":{\"deployment\":\"pre\"}}";
    let answer = deliver(&fake, &format!("{JSON}\r\n{attributes}"), &body(&["aGVsbG8=", ""])).await;
    assert_eq!((answer.status, fake.count()), (200, 2), "{}", answer.head);
    assert_eq!(check(ID, Some("application/json"), None, &answer.body), Ok(()));
    assert!(answer.head.contains("content-length: "), "{}", answer.head);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&body(&["aGVsbG8="])).unwrap();
    let gzip = deliver(&fake, &format!("{JSON}\r\ncontent-encoding: gzip"), &packed.finish().unwrap()).await;
    assert_eq!((gzip.status, fake.count()), (200, 3));
}

#[tokio::test]
async fn what_is_wrong_is_told_in_the_form_of_the_protocol_and_never_with_413() {
    let fake: Arc<Fake> = Arc::default();
    let long = base64_of(101);
    for (headers, body, status, part) in [
        (JSON, b"[]".to_vec(), 400, "not what Firehose delivers"),
        (JSON, body(&["aGVsbG8"]), 400, "record 0 is no base64"),
        (JSON, body(&[""; 4]), 400, "at most 3 at a time"),
        (JSON, body(&[&long]), 400, "a record has 101 bytes"),
        (JSON, vec![b' '; 1001], 400, "more than 1000 bytes"),
        ("content-type: text/plain", body(&["", ""]), 400, "content type"),
        ("content-type: application/json\r\ncontent-encoding: br", body(&[""]), 415, "br"),
        ("content-type: application/json\r\ncontent-encoding: gzip", body(&[""]), 400, "corrupt_body"),
        (
            "content-type: application/json\r\nx-amz-firehose-common-attributes: {}",
            body(&[""]),
            400,
            "Common-Attributes",
        ),
    ] {
        let answer = deliver(&fake, headers, &body).await;
        let told = answer.error();
        assert!(answer.status == status && told.contains(part), "{part}: {} {told}", answer.head);
    }
    let full = AppendError::Full { retry_after: std::time::Duration::from_secs(3) };
    *fake.next.lock().unwrap() = Some(full);
    let answer = deliver(&fake, JSON, &body(&[""])).await;
    assert_eq!(answer.status, 429);
    assert!(
        answer.error().contains("buffer_full") && answer.head.contains("retry-after: 3"),
        "{}",
        answer.head
    );
    *fake.next.lock().unwrap() = Some(AppendError::Unknown);
    let answer = deliver(&fake, JSON, &body(&[""])).await;
    assert_eq!(answer.status, 503);
    assert!(answer.error().starts_with("unknown: "));
    assert_eq!(fake.count(), 0);
}

fn base64_of(bytes: usize) -> String {
    let mut text = "A".repeat(bytes.div_ceil(3) * 4);
    let pad = (3 - bytes % 3) % 3;
    text.truncate(text.len() - pad);
    text.push_str(&"=".repeat(pad));
    text
}
