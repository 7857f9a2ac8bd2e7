//! Requests of the Firehose API: signatures, bodies in chunks, puts and definitions, against a signer and a reader that are
//! obviously right.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac};
use serde_json::Value;
use wasmill_firehose::description::{Definition, Seen, Status};
use wasmill_firehose::migration::Migration;
use wasmill_firehose::signature::{Presented, Request};
use wasmill_firehose::wire::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, CreateDeliveryStream, DescribeDeliveryStream, Operation, PutRecord,
    PutRecordBatch, RECORD_BYTES_MAX, Refusal, UpdateDestination, parse,
};

use crate::draw::Draw;

const DATE: &str = "20260713T141516Z";
const DAY: &str = "20260713";
const SCOPE: &str = "20260713/eu-west-1/firehose/aws4_request";
/// Seconds since the epoch, at that date.
const NOW: i64 = 1_783_952_116;
const SECRET: &str = "secret";
const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const UNSIGNED: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// `data`: the part of the API, then what is given to it.
pub fn firehose(data: &[u8]) {
    let mut draw = Draw(data);
    match draw.byte() % 5 {
        0 => strangers(draw.0),
        1 => anything_in_chunks(draw.0),
        2 => own_chunks(draw),
        3 => puts(draw.0),
        _ => definitions(draw.0),
    }
}

/// A request as lines: method, path, query, then headers. Nobody knows the key, so that nothing of it is good.
fn strangers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let mut line = || lines.next().unwrap_or_default();
    let (method, path, query) = (line(), line(), line());
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name, value.as_bytes())).collect();
    let request = Request { method, path, query: Some(query).filter(|query| !query.is_empty()), headers };
    let target = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-amz-target"));
    if let Err(refusal) = Operation::of(target.and_then(|(_, value)| std::str::from_utf8(value).ok())) {
        told(&refusal);
    }
    match Presented::parse(&request) {
        Ok(presented) => {
            let refusal = presented.verify("another secret", &request, body.as_bytes(), NOW).unwrap_err();
            told(&refusal);
        }
        Err(refusal) => told(&refusal),
    }
}

/// A refusal is a body of JSON, whatever it quotes.
fn told(refusal: &Refusal) {
    let body: Value = serde_json::from_slice(&refusal.body()).unwrap();
    assert_eq!(body["__type"], refusal.kind.name());
    assert_eq!(body["message"], refusal.message.as_str());
}

/// Bytes as they are behind a head that is signed: the signature does not cover unsigned chunks.
fn anything_in_chunks(data: &[u8]) {
    if let Ok(body) = verified(UNSIGNED, data) {
        assert!(body.len() <= data.len());
    }
    assert!(verified(SIGNED, data).map_or(true, |body| body.is_empty()), "chunks that nobody signed");
}

/// Chunks as a client frames them come back as they were; signed ones with one bit changed do not come at all.
fn own_chunks(mut draw: Draw<'_>) {
    let (is_signed, flip) = (draw.one_in(2), draw.short());
    let kind = if is_signed { SIGNED } else { UNSIGNED };
    let (mut framed, mut whole) = (Vec::new(), Vec::new());
    let (key, mut previous) = (key(), head(kind));
    let mut frame = |data: &[u8]| {
        if is_signed {
            let text = format!(
                "AWS4-HMAC-SHA256-PAYLOAD\n{DATE}\n{SCOPE}\n{previous}\n{}\n{}",
                hex(digest::digest(&digest::SHA256, b"").as_ref()),
                hex(digest::digest(&digest::SHA256, data).as_ref())
            );
            previous = hex(hmac::sign(&key, text.as_bytes()).as_ref());
            framed.extend(format!("{:x};chunk-signature={previous}\r\n", data.len()).into_bytes());
        } else {
            framed.extend(format!("{:x}\r\n", data.len()).into_bytes());
        }
        framed.extend_from_slice(data);
        if is_signed || !data.is_empty() {
            framed.extend_from_slice(b"\r\n");
        }
    };
    while !draw.is_empty() {
        let chunk = draw.bytes(200);
        if !chunk.is_empty() {
            frame(chunk);
            whole.extend_from_slice(chunk);
        }
    }
    frame(b"");
    if !is_signed {
        framed.extend_from_slice(b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n");
    }
    assert_eq!(verified(kind, &framed).as_deref(), Ok(whole.as_slice()));
    if is_signed {
        let at = usize::from(flip >> 3) % framed.len();
        framed[at] ^= 1 << (flip & 7);
        // The case of digits of a length and of a signature means nothing to who reads them.
        let same = verified(kind, &framed).is_ok_and(|body| body != whole);
        assert!(!same, "other bytes under the same signatures");
    }
}

/// The body that is behind a good head.
fn verified(kind: &str, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=id/{SCOPE}, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={}",
        head(kind)
    );
    let request = Request {
        method: "POST",
        path: "/",
        query: None,
        headers: vec![
            ("host", b"h"),
            ("x-amz-content-sha256", kind.as_bytes()),
            ("x-amz-date", DATE.as_bytes()),
            ("authorization", authorization.as_bytes()),
        ],
    };
    let presented = Presented::parse(&request).unwrap();
    presented.verify(SECRET, &request, body, NOW).map(std::borrow::Cow::into_owned)
}

fn key() -> hmac::Key {
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{SECRET}").as_bytes());
    for part in [DAY, "eu-west-1", "firehose", "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}

/// The signature of the head of [`verified`].
fn head(kind: &str) -> String {
    let canonical = format!(
        "POST\n/\n\nhost:h\nx-amz-content-sha256:{kind}\nx-amz-date:{DATE}\n\nhost;x-amz-content-sha256;x-amz-date\n{kind}"
    );
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    hex(hmac::sign(&key(), format!("AWS4-HMAC-SHA256\n{DATE}\n{SCOPE}\n{hash}").as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is taken is what another reader of JSON and of base64 finds there, within the limits.
fn puts(body: &[u8]) {
    let data = |record: &Value| STANDARD.decode(record["Data"].as_str().unwrap()).unwrap();
    let all: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Ok(put) = parse::<PutRecordBatch<'_>>(body).and_then(PutRecordBatch::decode) {
        let wanted: Vec<Vec<u8>> = all["Records"].as_array().unwrap().iter().map(data).collect();
        assert_eq!(put.records.iter().map(<[u8]>::to_vec).collect::<Vec<_>>(), wanted);
        assert!((1..=BATCH_RECORDS_MAX).contains(&put.records.len()));
        assert!(put.records.bytes.len() <= BATCH_BYTES_MAX);
        assert!(put.records.iter().all(|record| record.len() <= RECORD_BYTES_MAX));
        assert!((1..=64).contains(&put.name.len()));
    }
    match parse::<PutRecord<'_>>(body).and_then(PutRecord::decode) {
        Ok(put) => assert_eq!(put.records.bytes, data(&all["Record"])),
        Err(refusal) => told(&refusal),
    }
}

/// A definition that is taken is described, and its description is taken again; an update of it never breaks it.
fn definitions(body: &[u8]) {
    let cut = body.iter().position(|byte| *byte == 0).unwrap_or(body.len());
    let (create, update) = (&body[..cut], body.get(cut + 1..).unwrap_or_default());
    let created = parse::<CreateDeliveryStream>(create).and_then(|request| Definition::create(request, 1));
    let definition = match created {
        Ok(definition) => definition,
        Err(refusal) => return told(&refusal),
    };
    again(&definition);
    match parse::<UpdateDestination>(update).and_then(|request| definition.update(request, 2)) {
        Ok(updated) => again(&updated),
        Err(refusal) => told(&refusal),
    }
}

fn again(definition: &Definition) {
    let seen = Seen { region: "eu-west-1", account: "000000000000", status: Status::Active, failure: None };
    let shown = definition.describe(&DescribeDeliveryStream::default(), &seen);
    let found = Migration::of(shown.to_string().as_bytes(), &BTreeMap::new()).unwrap();
    assert_eq!(found.name, definition.name);
    let request = parse(found.request.to_string().as_bytes()).unwrap();
    let made = Definition::create(request, 1).unwrap_or_else(|refusal| panic!("{shown}: {refusal}"));
    made.destination.naming().unwrap();
    let stored: Definition = serde_json::from_str(&serde_json::to_string(definition).unwrap()).unwrap();
    assert_eq!(&stored, definition, "what is stored is read as something else");
}
