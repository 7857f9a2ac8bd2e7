//! Requests as a server sees them that knows the protocol from its documentation alone, and what its answers mean.

use std::io::Read as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::http::stand_in::{Got, Says, StandIn};
use crate::staged::{Staged, framed};

/// As the documentation has it.
fn taken(got: &Got) -> Says {
    Says::json(
        200,
        json!({ "requestId": got.header("x-amz-firehose-request-id"), "timestamp": 1_578_090_903_599_u64 }),
    )
}

fn config(server: &StandIn) -> EndpointConfig {
    EndpointConfig {
        http: server.config("/take?token=s3cr3t"),
        source_arn: "arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks".to_owned(),
        access_key: Some("k3y of theirs".to_owned()),
        common_attributes: BTreeMap::from([("deployment".to_owned(), "pre \"prod\"".to_owned())]),
        gzip: None,
    }
}

async fn send(endpoint: &Endpoint, rows: &[&[u8]]) -> Result<Delivered, DeliverError> {
    let staged = Staged::new();
    let (meta, body) = framed_object(&staged, rows);
    endpoint.deliver(&Object { meta: &meta, body: &body }).await
}

fn framed_object(staged: &Staged, rows: &[&[u8]]) -> (ObjectMeta, std::path::PathBuf) {
    let (meta, body) = staged.object("batch", &framed(rows));
    (ObjectMeta { content_type: crate::records::FRAMED_CONTENT_TYPE.to_owned(), ..meta }, body)
}

async fn refusal(says: Says) -> DeliverError {
    let server = StandIn::start(vec![says], taken).await;
    send(&Endpoint::open(&config(&server)).unwrap(), &[b"a"]).await.unwrap_err()
}

#[tokio::test]
async fn request_has_every_header_and_the_body_of_the_protocol() {
    let server = StandIn::start(vec![], taken).await;
    let endpoint = Endpoint::open(&config(&server)).unwrap();
    assert_eq!(send(&endpoint, &[b"hello", b"", &[0xff, 0]]).await, Ok(Delivered::Created));
    let [got] = &server.got()[..] else { panic!() };
    assert_eq!(got.path, "/take?token=s3cr3t");
    let id = got.header("x-amz-firehose-request-id").to_owned();
    for (name, value) in [
        ("x-amz-firehose-protocol-version", "1.0"),
        ("x-amz-firehose-source-arn", "arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks"),
        ("x-amz-firehose-access-key", "k3y of theirs"),
        ("x-amz-firehose-common-attributes", r#"{"commonAttributes":{"deployment":"pre \"prod\""}}"#),
        ("content-type", "application/json"),
        ("content-encoding", ""),
        ("x-own", "mine"),
    ] {
        assert_eq!(got.header(name), value, "{name}");
    }
    let body = got.json();
    assert_eq!(body["requestId"], id.as_str());
    assert!(body["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(body["records"], json!([{ "data": "aGVsbG8=" }, { "data": "" }, { "data": "/wA=" }]));
    assert_eq!(body.as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn gzip_is_told_and_what_is_not_configured_is_left_out() {
    let server = StandIn::start(vec![], taken).await;
    let config = EndpointConfig {
        access_key: None,
        common_attributes: BTreeMap::new(),
        gzip: Some(6),
        ..config(&server)
    };
    send(&Endpoint::open(&config).unwrap(), &[b"hello"]).await.unwrap();
    let [got] = &server.got()[..] else { panic!() };
    assert_eq!(got.header("content-encoding"), "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&got.body[..]).read_to_string(&mut text).unwrap();
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["records"], json!([{ "data": "aGVsbG8=" }]));
    for name in ["x-amz-firehose-access-key", "x-amz-firehose-common-attributes"] {
        assert!(!got.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn request_of_a_batch_has_one_id_whoever_sends_it_and_tries_begin_with_the_one_that_failed() {
    let rows = vec![&b"r"[..]; protocol::RECORDS_MAX + 1];
    let server = StandIn::start(vec![], |got| {
        if got.json()["records"].as_array().unwrap().len() == 1 { Says::json(500, "{}") } else { taken(got) }
    })
    .await;
    let endpoint = Endpoint::open(&config(&server)).unwrap();
    let staged = Staged::new();
    let (meta, body) = framed_object(&staged, &rows);
    let object = Object { meta: &meta, body: &body };
    endpoint.deliver(&object).await.unwrap_err();
    endpoint.deliver(&object).await.unwrap_err();
    // After a restart nothing is remembered but the batch.
    let again = Endpoint::open(&config(&server)).unwrap();
    again.deliver(&object).await.unwrap_err();
    let got = server.got();
    let of = |got: &Got| {
        (got.header("x-amz-firehose-request-id").to_owned(), got.json()["records"].as_array().unwrap().len())
    };
    let found: Vec<(String, usize)> = got.iter().map(of).collect();
    assert_eq!(found.iter().map(|(_, records)| *records).collect::<Vec<_>>(), [10_000, 1, 1, 10_000, 1]);
    let (first, last) = (&found[0].0, &found[1].0);
    assert_ne!(first, last);
    assert!(found[3].0 == *first && [&found[2].0, &found[4].0].iter().all(|id| *id == last), "{found:?}");
    // What was delivered needs no other place.
    let rest = endpoint.give_up(&meta);
    assert_eq!((rest.done, rest.refused), ((130_000, 10_000), vec![]));
    assert_eq!(endpoint.give_up(&meta), Rest::default());
    // Sent again as what is left, it is the same request.
    let (rest, body) = framed_object(&staged, &rows[10_000..]);
    let rest = ObjectMeta { first_row: 10_000, ..rest };
    endpoint.deliver(&Object { meta: &rest, body: &body }).await.unwrap_err();
    assert_eq!(server.got()[5].header("x-amz-firehose-request-id"), last);
}

#[tokio::test]
async fn everything_but_the_documented_answer_is_tried_again() {
    let same = |id: &str| json!({ "requestId": id, "timestamp": 1 }).to_string();
    let right = same(&protocol::request_id("batch-of-batch", 0));
    let json = |status, body: &str| Says::json(status, body);
    for (says, code) in [
        (json(500, ""), "HttpEndpoint.DestinationException: the endpoint answered 500"),
        (
            json(400, r#"{"requestId":"x","timestamp":1,"errorMessage":"no such key"}"#),
            "HttpEndpoint.DestinationException: the endpoint answered 400: no such key",
        ),
        (json(404, "<html>"), "HttpEndpoint.DestinationException: the endpoint answered 404"),
        (json(202, &right), "HttpEndpoint.DestinationException: the endpoint answered 202"),
        (json(301, &right), "HttpEndpoint.DestinationException: the endpoint answered 301"),
        (
            json(200, &same("another")),
            "HttpEndpoint.InvalidResponseFromDestination: the answer has request id \"another\"",
        ),
        (json(200, ""), "HttpEndpoint.InvalidResponseFromDestination: the answer is no JSON object"),
        (
            Says::Status(200, "text/html", right.clone().into_bytes()),
            "HttpEndpoint.InvalidResponseFromDestination: the answer's content type",
        ),
        (
            Says::With("content-encoding", "br", Box::new(json(200, &right))),
            "HttpEndpoint.InvalidResponseFromDestination: the answer has content encoding",
        ),
        (json(200, &format!("{}{right}", " ".repeat(1 << 20))), "HttpEndpoint.ResponseTooLarge: "),
        (json(500, &" ".repeat((1 << 20) + 1)), "HttpEndpoint.ResponseTooLarge: "),
    ] {
        let error = refusal(says).await;
        assert!(error.message.starts_with(code), "{code}: {error}");
        assert_eq!((error.fault, error.retry), (Fault::Destination, Retry::Later { after: None }), "{code}");
        assert!(!error.detail.contains("s3cr3t") && error.detail.len() < 5000, "{}", error.detail);
    }
    let error = refusal(Says::With("retry-after", "7", Box::new(json(429, "")))).await;
    assert_eq!(error.retry, Retry::Later { after: Some(Duration::from_secs(7)) });
}

#[tokio::test]
async fn request_that_is_too_large_is_given_up_at_once() {
    let error = refusal(Says::json(413, "")).await;
    assert_eq!((error.fault, error.retry), (Fault::Client, Retry::Never));
    assert!(error.message.starts_with("HttpEndpoint.DestinationException"), "{error}");
}

#[tokio::test]
async fn silence_has_a_code_of_its_own() {
    let server = StandIn::start(vec![Says::Nothing], taken).await;
    let mut config = config(&server);
    config.http.timeout = Duration::from_millis(200);
    let error = send(&Endpoint::open(&config).unwrap(), &[b"a"]).await.unwrap_err();
    assert!(error.message.starts_with("HttpEndpoint.RequestTimeout: "), "{error}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.http.url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let error = send(&Endpoint::open(&config).unwrap(), &[b"a"]).await.unwrap_err();
    assert!(error.message.starts_with("HttpEndpoint.ConnectionFailed: "), "{error}");
}

#[tokio::test]
async fn what_is_no_object_of_records_and_settings_that_fit_no_header_are_refused() {
    let server = StandIn::start(vec![], taken).await;
    let endpoint = Endpoint::open(&config(&server)).unwrap();
    let staged = Staged::new();
    let (meta, body) = staged.object("batch", b"{}\n");
    let error = endpoint.deliver(&Object { meta: &meta, body: &body }).await.unwrap_err();
    assert_eq!((error.fault, error.retry), (Fault::Host, Retry::Never));
    assert!(error.message.contains("another kind of destination"), "{error}");
    let mut wrong = config(&server);
    wrong.access_key = Some("a\nb".to_owned());
    assert_eq!(wrong.wrong()[0].at, Setting::AccessKey);
    let mut wrong = config(&server);
    wrong.http.headers.insert("X-Amz-Firehose-Source-Arn".to_owned(), "x".to_owned());
    assert_eq!(wrong.wrong()[0].at, Setting::Header("X-Amz-Firehose-Source-Arn".to_owned()));
    assert!(!format!("{wrong:?}").contains("k3y"));
    assert!(server.got().is_empty());
}
