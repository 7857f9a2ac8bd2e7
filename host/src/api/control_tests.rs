//! The routes by which streams are defined and plugins uploaded, over a real connection.

use std::sync::Arc;

use wasmill_tenant::Quotas;

use super::tests::{Fake, NDJSON, request};

#[tokio::test]
async fn definition_is_answered_with_its_version_and_refused_with_every_problem() {
    let put = async |path: &str, headers: &str, body: &str| {
        let length = body.len();
        let head = format!(
            "PUT {path} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {length}{headers}"
        );
        request(&Arc::default(), &head, body.as_bytes()).await.to_lowercase()
    };
    let made = put("/v1/streams/new", "", "{}").await;
    assert!(made.starts_with("http/1.1 201") && made.contains("etag: \"4\""), "{made}");
    let unsaid = put("/v1/streams/access", "", "{}").await;
    assert!(unsaid.starts_with("http/1.1 428") && unsaid.contains("if-match"), "{unsaid}");
    let stale = put("/v1/streams/access", "\r\nif-match: \"1\"", "{}").await;
    assert!(stale.starts_with("http/1.1 412") && stale.contains("\"stale\""), "{stale}");
    let replaced = put("/v1/streams/access", "\r\nif-match: \"3\"", "{}").await;
    assert!(replaced.starts_with("http/1.1 200"), "{replaced}");
    let bad = put("/v1/streams/access?dry_run=true", "", "{\"bad\":1}").await;
    assert!(bad.starts_with("http/1.1 422") && bad.contains("\"key\":\"bad\""), "{bad}");
    let unknown = put("/v1/streams/access?force=true", "", "{}").await;
    assert!(unknown.starts_with("http/1.1 400") && unknown.contains("dry_run"), "{unknown}");
}

#[tokio::test]
async fn push_to_a_stream_that_changes_or_cannot_run_is_to_come_again() {
    for (stream, code) in [("changing", "changing"), ("idle", "not_running")] {
        let head = format!("POST /v1/streams/{stream}/records HTTP/1.1\r\ncontent-length: 2\r\n{NDJSON}");
        let answer = request(&Arc::default(), &head, b"{}").await.to_lowercase();
        assert!(answer.starts_with("http/1.1 503") && answer.contains("retry-after:"), "{answer}");
        assert!(answer.contains(code), "{answer}");
    }
}

#[tokio::test]
async fn plugin_file_is_taken_within_its_limit_and_only_as_one() {
    let post = async |query: &str, kind: &str, body: &[u8]| {
        let length = body.len();
        let head =
            format!("POST /v1/plugins{query} HTTP/1.1\r\ncontent-type: {kind}\r\ncontent-length: {length}");
        request(&Arc::default(), &head, body).await.to_lowercase()
    };
    let wasm = "application/wasm";
    assert!(post("?name=p", wasm, b"good").await.starts_with("http/1.1 201"));
    assert!(post("", wasm, b"bad").await.starts_with("http/1.1 422"));
    assert!(post("", wasm, &[0; 2001]).await.starts_with("http/1.1 413"));
    assert!(post("", "application/json", b"{}").await.starts_with("http/1.1 400"));
    assert!(post("?names=p", wasm, b"good").await.starts_with("http/1.1 400"));
}

#[tokio::test]
async fn plugin_file_is_taken_within_the_quota_and_a_few_at_a_time() {
    let limits = Quotas { plugin_bytes: Some(3), ..Quotas::default() };
    let quota = crate::pipeline::Quotas::default().set("team", &limits);
    let fake = Arc::new(Fake { quota: Some(Arc::clone(&quota)), ..Fake::default() });
    let post = async |headers: &str, body: &[u8]| {
        let head = format!("POST /v1/plugins?name=p HTTP/1.1\r\ncontent-type: application/wasm\r\n{headers}");
        request(&fake, &head, body).await.to_lowercase()
    };
    // Announced, and in chunks.
    for (headers, body) in [
        ("content-length: 4", &b"good"[..]),
        ("transfer-encoding: chunked", b"2\r\ngo\r\n2\r\nod\r\n0\r\n\r\n"),
    ] {
        let large = post(headers, body).await;
        assert!(large.starts_with("http/1.1 413") && large.contains("larger_than_quota"), "{large}");
    }
    let turns: Vec<_> = (0..4).map(|_| quota.upload_turn().unwrap()).collect();
    let full = post("content-length: 3", b"god").await;
    assert!(full.starts_with("http/1.1 429") && full.contains("too_many_uploads"), "{full}");
    assert!(full.contains("retry-after: 1"), "{full}");
    drop(turns);
    assert!(post("content-length: 3", b"god").await.starts_with("http/1.1 201"));
}
