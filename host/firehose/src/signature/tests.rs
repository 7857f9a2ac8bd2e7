//! Requests as the signer of AWS's SDK for Rust makes them, and as somebody does who writes the documentation down.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use bytes::Bytes;
use proptest::prelude::*;
use ring::{digest, hmac};

use super::*;
use crate::wire::{Kind, Refusal};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2026-07-13T14:15:16Z.
const NOW: i64 = 1_783_952_116;

/// A request that owns its pieces.
#[derive(Clone)]
struct Sent {
    uri: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Sent {
    fn put(body: &[u8]) -> Sent {
        let headers = [
            ("host", "firehose.eu-west-1.amazonaws.com"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", "Firehose_20150804.PutRecord"),
            ("x-custom", "  two   words "),
        ];
        Sent {
            uri: "/".to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: body.to_vec(),
        }
    }

    fn header(mut self, name: &str, value: &str) -> Sent {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Sent {
        self.headers.retain(|(header, _)| header != name);
        self
    }

    fn request(&self) -> Request<'_> {
        let (path, query) = match self.uri.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.uri.as_str(), None),
        };
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        Request { method: "POST", path, query, headers }
    }

    fn verify_at(&self, now: i64) -> Result<Vec<u8>, Refusal> {
        let request = self.request();
        let presented = Presented::parse(&request)?;
        assert_eq!(presented.access_key(), "AKIDEXAMPLE");
        presented.verify(SECRET, &request, &self.body, now).map(Cow::into_owned)
    }

    fn verify(&self) -> Result<Vec<u8>, Refusal> {
        self.verify_at(NOW)
    }
}

fn identity(token: Option<&str>) -> Identity {
    Credentials::new("AKIDEXAMPLE", SECRET, token.map(str::to_owned), None, "test").into()
}

struct Signer {
    settings: SigningSettings,
    service: &'static str,
    token: Option<&'static str>,
}

impl Signer {
    fn new() -> Signer {
        Signer { settings: SigningSettings::default(), service: "firehose", token: None }
    }

    fn params<'a>(&self, identity: &'a Identity) -> v4::SigningParams<'a, SigningSettings> {
        v4::SigningParams::builder()
            .identity(identity)
            .region("eu-west-1")
            .name(self.service)
            .time(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW as u64))
            .settings(self.settings.clone())
            .build()
            .unwrap()
    }

    /// Signs and gives the signature too.
    fn sign_as(&self, mut sent: Sent, body: SignableBody<'_>) -> (Sent, String) {
        let identity = identity(self.token);
        let params = self.params(&identity).into();
        let uri = format!("https://firehose.eu-west-1.amazonaws.com{}", sent.uri);
        let headers = sent.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let signable = SignableRequest::new("POST", uri.as_str(), headers, body).unwrap();
        let (instructions, signature) = sign(signable, &params).unwrap().into_parts();
        let mut request = http::Request::builder().method("POST").uri(uri).body(()).unwrap();
        instructions.apply_to_request_http1x(&mut request);
        for (name, value) in request.headers() {
            sent.headers.push((name.to_string(), value.to_str().unwrap().to_owned()));
        }
        sent.uri = request.uri().path_and_query().unwrap().to_string();
        (sent, signature)
    }

    fn sign(&self, sent: Sent) -> Sent {
        let body = sent.body.clone();
        self.sign_as(sent, SignableBody::Bytes(&body)).0
    }
}

fn presign() -> Signer {
    let mut signer = Signer::new();
    signer.settings.signature_location = SignatureLocation::QueryParams;
    signer.settings.expires_in = Some(Duration::from_secs(300));
    signer
}

fn refused(result: Result<Vec<u8>, Refusal>, kind: Kind, message: &str) {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.kind, kind, "{refusal}");
    assert!(refusal.message.contains(message), "{message}: {refusal}");
}

const MISMATCH: &str = "The request signature we calculated does not match";

#[test]
fn what_the_sdk_signs_is_good_in_both_forms() {
    for signer in [Signer::new(), presign()] {
        let sent = signer.sign(Sent::put(b"{\"a\":1}"));
        assert_eq!(sent.verify().unwrap(), b"{\"a\":1}");
        let request = sent.request();
        let presented = Presented::parse(&request).unwrap();
        assert_eq!(presented.security_token(), None);
        refused(
            presented.verify("other", &request, &sent.body, NOW).map(Cow::into_owned),
            Kind::InvalidSignature,
            MISMATCH,
        );
    }
}

#[test]
fn paths_queries_and_repeated_headers_are_signed_alike() {
    for uri in
        ["/a%20b/c", "/a/../b//c/", "/?b=2&a=1&a=0", "/x?k=%2F%20~*&empty=&flag", "/%C3%A4?%C3%A4=%C3%A4"]
    {
        let mut sent = Sent::put(b"{}");
        sent.uri = uri.to_owned();
        assert!(Signer::new().sign(sent.clone()).verify().is_ok(), "{uri}");
        assert!(presign().sign(sent).verify().is_ok(), "{uri}");
    }
    let sent = Sent::put(b"{}").header("x-many", "a").header("x-many", " b  c");
    assert!(Signer::new().sign(sent).verify().is_ok());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The signature of a canonical request.
fn by_hand(canonical: &str) -> String {
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{SECRET}").as_bytes());
    for part in ["20260713", "eu-west-1", "firehose", "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text =
        format!("AWS4-HMAC-SHA256\n20260713T141516Z\n20260713/eu-west-1/firehose/aws4_request\n{hash}");
    hex(hmac::sign(&key, text.as_bytes()).as_ref())
}

#[test]
fn what_is_signed_by_hand_is_good_whatever_headers_are_signed() {
    let hash = hex(digest::digest(&digest::SHA256, b"{}").as_ref());
    let names = "host;user-agent;x-amz-date;x-amz-target;x-amzn-trace-id;x-custom";
    let signature = by_hand(&format!(
        "POST\n/a%2520b/\na=&a=1&b=x%20y%2B\nhost:firehose.eu-west-1.amazonaws.com\nuser-agent:agent/1 (a b)\n\
         x-amz-date:20260713T141516Z\nx-amz-target:Firehose_20150804.PutRecord\nx-amzn-trace-id:1,2\nx-custom:two words\n\
         \n{names}\n{hash}"
    ));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260713/eu-west-1/firehose/aws4_request, SignedHeaders={names}, \
         Signature={signature}"
    );
    let mut sent = Sent::put(b"{}")
        .header("User-Agent", "agent/1  (a b)")
        .header("X-Amz-Date", "20260713T141516Z")
        .header("x-amzn-trace-id", "1")
        .header("x-amzn-trace-id", " 2")
        .header("Authorization", &authorization);
    sent.uri = "/./a%20b//c/../?b=x+y%2b&a=1&a".to_owned();
    assert_eq!(sent.verify().unwrap(), b"{}");
    refused(sent.header("x-custom", "more").verify(), Kind::InvalidSignature, MISMATCH);

    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20260713%2Feu-west-1%2Ffirehose%2Faws4_request\
                 &X-Amz-Date=20260713T141516Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bx-amz-target&z=1";
    let signature = by_hand(&format!(
        "POST\n/\n{query}\nhost:firehose.eu-west-1.amazonaws.com\nx-amz-target:Firehose_20150804.PutRecord\n\n\
         host;x-amz-target\n{hash}"
    ));
    let mut sent = Sent::put(b"{}");
    sent.uri = format!("/?z=1&X-Amz-Signature={signature}&{}", query.trim_end_matches("&z=1"));
    assert_eq!(sent.verify().unwrap(), b"{}");
    let mut later = sent;
    later.uri = later.uri.replace("Expires=60", "Expires=61");
    refused(later.verify(), Kind::InvalidSignature, MISMATCH);
}

#[test]
fn user_agents_may_be_signed_although_the_sdk_does_not() {
    let mut signer = Signer::new();
    signer.settings.excluded_headers = None;
    let sent = signer.sign(Sent::put(b"{}").header("user-agent", "aws-fluent-bit-plugin"));
    assert!(sent.verify().is_ok());
    assert!(sent.without("user-agent").verify().is_err());
}

#[test]
fn nothing_that_was_signed_may_change() {
    let sent = Signer::new().sign(Sent::put(b"{}"));
    let change = |change: &dyn Fn(&mut Sent)| {
        let mut changed = sent.clone();
        change(&mut changed);
        refused(changed.verify(), Kind::InvalidSignature, MISMATCH);
    };
    change(&|sent| sent.body = b"{ }".to_vec());
    change(&|sent| sent.uri = "/other".to_owned());
    change(&|sent| sent.uri = "/?a=1".to_owned());
    change(&|sent| sent.headers.retain(|(name, _)| name != "content-type"));
    change(&|sent| {
        for (name, value) in &mut sent.headers {
            if name == "x-amz-target" {
                *value = "Firehose_20150804.DeleteDeliveryStream".to_owned();
            }
        }
    });
    change(&|sent| sent.headers.push(("x-custom".to_owned(), "more".to_owned())));
    change(&|sent| {
        for (name, value) in &mut sent.headers {
            if name == "x-amz-date" {
                *value = "20260713T141517Z".to_owned();
            }
        }
    });
}

#[test]
fn headers_that_are_not_signed_may_change_except_the_target() {
    let sent = Signer::new().sign(Sent::put(b"{}")).header("x-forwarded-for", "10.0.0.1");
    assert!(sent.verify().is_ok());
    let target = "x-amz-target";
    let unsigned =
        Signer::new().sign(Sent::put(b"{}").without(target)).header(target, "Firehose_20150804.PutRecord");
    refused(unsigned.verify(), Kind::InvalidSignature, "'X-Amz-Target' must be a 'SignedHeader'");
}

#[test]
fn clocks_may_be_off_by_fifteen_minutes() {
    let sent = Signer::new().sign(Sent::put(b"{}"));
    for now in [NOW - 900, NOW, NOW + 900] {
        assert!(sent.verify_at(now).is_ok(), "{now}");
    }
    refused(
        sent.verify_at(NOW + 901),
        Kind::InvalidSignature,
        "Signature expired: 20260713T141516Z is now earlier than 20260713T141517Z (20260713T143017Z - 15 min.)",
    );
    refused(
        sent.verify_at(NOW - 901),
        Kind::InvalidSignature,
        "Signature not yet current: 20260713T141516Z is still later than 20260713T141515Z (20260713T140015Z + 15 min.)",
    );
    let presigned = presign().sign(Sent::put(b"{}"));
    assert!(presigned.verify_at(NOW + 300).is_ok());
    refused(presigned.verify_at(NOW + 301), Kind::InvalidSignature, "Signature expired");
    refused(presigned.verify_at(NOW - 901), Kind::InvalidSignature, "not yet current");
}

#[test]
fn tokens_are_signed_with_the_rest_and_told() {
    let signer = Signer { token: Some("to/ken+=="), ..Signer::new() };
    for signer in [signer, Signer { token: Some("to/ken+=="), ..presign() }] {
        let sent = signer.sign(Sent::put(b"{}"));
        assert!(sent.verify().is_ok());
        assert_eq!(Presented::parse(&sent.request()).unwrap().security_token(), Some("to/ken+=="));
    }
}

#[test]
fn the_scope_is_of_this_service_and_of_the_day() {
    let sent = Signer { service: "kinesis", ..Signer::new() }.sign(Sent::put(b"{}"));
    refused(
        sent.verify(),
        Kind::InvalidSignature,
        "Credential should be scoped to correct service: 'firehose'.",
    );
    let edit = |from: &str, to: &str| {
        let mut sent = Signer::new().sign(Sent::put(b"{}"));
        for (name, value) in &mut sent.headers {
            if name == "authorization" {
                *value = value.replace(from, to);
            }
        }
        sent.verify()
    };
    refused(
        edit("/20260713/", "/20260712/"),
        Kind::InvalidSignature,
        "'20260712' != '20260713', from '20260713T141516Z'.",
    );
    refused(edit("aws4_request", "aws5_request"), Kind::InvalidSignature, "valid terminator");
    refused(edit("/eu-west-1/", "/us-east-1/"), Kind::InvalidSignature, MISMATCH);
    refused(edit("AKIDEXAMPLE/", ""), Kind::IncompleteSignature, "exactly 5 slash-delimited elements");
    refused(edit("host;", ""), Kind::InvalidSignature, "'Host' must be a 'SignedHeader'");
    refused(edit("x-amz-date;", ""), Kind::InvalidSignature, "'X-Amz-Date' must be a 'SignedHeader'");
    refused(
        edit("SignedHeaders=", "Signed="),
        Kind::IncompleteSignature,
        "requires 'SignedHeaders' parameter.",
    );
    refused(edit("Signature=", "Signature=0"), Kind::IncompleteSignature, "64 hexadecimal digits");
    refused(edit(", Signature=", ", Credential="), Kind::IncompleteSignature, "'Credential' twice");
    refused(
        edit("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        Kind::IncompleteSignature,
        "must begin with AWS4-HMAC-SHA256",
    );
    assert!(edit(", ", ",").is_ok(), "spaces between the pieces are free");
}

#[test]
fn what_is_missing_is_named() {
    refused(Sent::put(b"{}").verify(), Kind::MissingAuthenticationToken, "Missing Authentication Token");
    refused(
        Sent::put(b"{}").header("authorization", "Bearer s3cr3t").verify(),
        Kind::IncompleteSignature,
        "must begin with",
    );
    let refusal = Sent::put(b"{}").header("authorization", "AWS4-HMAC-SHA256 x=1").verify().unwrap_err();
    assert_eq!(refusal.message.matches("Authorization header requires").count(), 3, "{refusal}");
    let sent = Signer::new().sign(Sent::put(b"{}"));
    refused(sent.clone().without("x-amz-date").verify(), Kind::IncompleteSignature, "'X-Amz-Date' header");
    refused(
        sent.clone().without("x-amz-date").header("x-amz-date", "today").verify(),
        Kind::IncompleteSignature,
        "ISO-8601",
    );
    refused(
        sent.header("x-amz-date", "20260713T141516Z").verify(),
        Kind::IncompleteSignature,
        "more than once",
    );
    let presigned = presign().sign(Sent::put(b"{}"));
    for (name, message) in [
        ("X-Amz-Algorithm", "Missing Authentication Token"),
        ("X-Amz-Credential", "must include 'X-Amz-Credential'"),
        ("X-Amz-Date", "must include 'X-Amz-Date'"),
        ("X-Amz-Expires", "must include 'X-Amz-Expires'"),
        ("X-Amz-SignedHeaders", "must include 'X-Amz-SignedHeaders'"),
        ("X-Amz-Signature", "must include 'X-Amz-Signature'"),
    ] {
        let mut cut = presigned.clone();
        cut.uri = cut.uri.replace(&format!("{name}="), "X-Other=");
        assert!(cut.verify().unwrap_err().message.contains(message), "{name}");
    }
    let mut long = presigned;
    long.uri = long.uri.replace("X-Amz-Expires=300", "X-Amz-Expires=604801");
    refused(long.verify(), Kind::IncompleteSignature, "from 1 to 604800");
}

#[test]
fn the_hash_of_the_body_may_be_said_and_must_then_be_right() {
    let mut signer = Signer::new();
    signer.settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let sent = signer.sign(Sent::put(b"{}"));
    assert!(sent.headers.iter().any(|(name, _)| name == "x-amz-content-sha256"));
    assert!(sent.verify().is_ok());
    let mut changed = sent;
    changed.body = b"[]".to_vec();
    refused(changed.verify(), Kind::InvalidSignature, "does not match what was computed");
    let (mut unsigned, _) = signer.sign_as(Sent::put(b"{}"), SignableBody::UnsignedPayload);
    unsigned.body = b"anything".to_vec();
    assert_eq!(unsigned.verify().unwrap(), b"anything");
}

/// A body in chunks as clients of S3 send it, signed by the SDK's own functions.
fn chunked(trailer: bool) -> Sent {
    let announced = match trailer {
        false => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        true => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    };
    let mut signer = Signer::new();
    signer.settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let sent = Sent::put(b"").header("x-amz-decoded-content-length", "11");
    let (mut sent, mut previous) = signer.sign_as(sent, SignableBody::Precomputed(announced.to_owned()));
    let identity = identity(None);
    let params = signer.params(&identity);
    for chunk in ["hello ", "world", ""] {
        let signature = v4::sign_chunk(&Bytes::from(chunk), &previous, &params).unwrap().into_parts().1;
        sent.body.extend_from_slice(
            format!("{:x};chunk-signature={signature}\r\n{chunk}", chunk.len()).as_bytes(),
        );
        if !(trailer && chunk.is_empty()) {
            sent.body.extend_from_slice(b"\r\n");
        }
        previous = signature;
    }
    if trailer {
        let mut headers = aws_smithy_runtime_api::http::Headers::new();
        headers.insert("x-amz-checksum-crc32c", "sOO8/Q==");
        let signature = v4::sign_trailer(&headers, &previous, &params).unwrap().into_parts().1;
        let lines = format!("x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:{signature}\r\n\r\n");
        sent.body.extend_from_slice(lines.as_bytes());
    }
    sent
}

#[test]
fn bodies_in_signed_chunks_come_without_their_framing() {
    for trailer in [false, true] {
        let sent = chunked(trailer);
        assert_eq!(sent.verify().unwrap(), b"hello world", "{trailer}");
        let mut changed = sent.clone();
        let position = changed.body.windows(5).position(|window| window == b"world").unwrap();
        changed.body[position] = b'W';
        refused(changed.verify(), Kind::InvalidSignature, MISMATCH);
        let short = sent.without("x-amz-decoded-content-length").header("x-amz-decoded-content-length", "10");
        assert!(short.verify().is_err());
    }
    let mut changed = chunked(true);
    let position = changed.body.windows(4).position(|window| window == b"sOO8").unwrap();
    changed.body[position] = b't';
    refused(changed.verify(), Kind::InvalidSignature, MISMATCH);
}

proptest! {
    #[test]
    fn any_request_that_the_sdk_signs_is_good(
        path in "(/[a-zA-Z0-9._~%!$&'()*+,;=:@-]{0,8}){0,4}",
        query in "([a-z%2F]{1,4}=[a-zA-Z0-9*~+-]{0,4}&){0,4}",
        value in "[ -~]{0,40}",
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let uri = format!("/{}?{query}", path.replace('%', "%25").trim_start_matches('/'));
        let mut sent = Sent::put(&body).header("x-any", &value);
        sent.uri = uri.replace("%2F", "%252F").replace("%25252F", "%252F");
        prop_assume!(sent.uri.parse::<http::Uri>().is_ok() && !sent.uri.contains("//"));
        let signed = Signer::new().sign(sent);
        prop_assert_eq!(signed.verify().map_err(|refusal| refusal.to_string()), Ok(body));
    }

    #[test]
    fn nothing_that_is_presented_makes_it_panic(
        authorization in "(AWS4-HMAC-SHA256 |Credential=|SignedHeaders=|Signature=|[a-f0-9]{64}|[ -~]|/|,|ä){0,12}",
        date in "([0-9]{8}T[0-9]{6}Z|[ -~ä]{0,16})",
        query in "(X-Amz-[A-Za-z]{4,9}=|%[0-9A-F]{2}|&|[ -~]){0,20}",
        body in "([0-9a-f]{1,4}|;chunk-signature=|\r\n|[a-f0-9]{64}|:|ä){0,20}",
    ) {
        for headers in [vec![("authorization", authorization.as_bytes()), ("x-amz-date", date.as_bytes())], vec![]] {
            let request = Request { method: "POST", path: &query, query: Some(&query), headers };
            if let Ok(presented) = Presented::parse(&request) {
                prop_assert!(presented.verify(SECRET, &request, body.as_bytes(), NOW).is_err());
            }
        }
        let mut sent = chunked(true);
        sent.body = body.into_bytes();
        prop_assert!(sent.verify().is_err());
    }
}
