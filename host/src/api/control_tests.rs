//! The routes by which streams are defined, plugins uploaded and their versions decided about, over a real connection.

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

#[tokio::test]
async fn versions_are_shown_and_decided_about() {
    let fake = Arc::default();
    let ask = async |head: &str, body: &str| {
        let length = body.len();
        request(&fake, &format!("{head}\r\ncontent-length: {length}"), body.as_bytes()).await
    };
    let json = "HTTP/1.1\r\ncontent-type: application/json";
    let digest = format!("sha256:{}", "ab".repeat(32));
    let named = format!("{{\"digest\":\"{digest}\"}}");
    assert!(ask("GET /v1/plugins/parse HTTP/1.1", "").await.contains("Show"));
    assert!(ask(&format!("POST /v1/plugins/parse/pin {json}"), "").await.contains("Pin(None)"));
    let pinned = ask(&format!("POST /v1/plugins/parse/pin {json}"), &named).await;
    assert!(pinned.contains(&format!("Pin(Some({digest}))")), "{pinned}");
    assert!(ask("DELETE /v1/plugins/parse/pin HTTP/1.1", "").await.contains("Unpin"));
    assert!(ask(&format!("POST /v1/plugins/parse/promote {json}"), &named).await.contains("Promote(Some("));
    let wasm = "HTTP/1.1\r\ncontent-type: application/wasm";
    let uploaded = ask(&format!("POST /v1/plugins/parse/shadow {wasm}"), &"x".repeat(2000)).await;
    assert!(uploaded.contains("ShadowFile") && uploaded.contains("sample_percent: 10"), "{uploaded}");
    let sampled = format!("{{\"digest\":\"{digest}\",\"sample_percent\":100}}");
    let shadowed = ask(&format!("POST /v1/plugins/parse/shadow {json}"), &sampled).await;
    assert!(shadowed.contains("sample_percent: 100"), "{shadowed}");
    assert!(ask("GET /v1/plugins/parse/shadow HTTP/1.1", "").await.contains("ShadowReport"));
    assert!(ask("DELETE /v1/plugins/parse/shadow HTTP/1.1", "").await.contains("ShadowStop"));
    for (head, body, status, code) in [
        ("GET /v1/plugins/pars HTTP/1.1", "", "404", "no_plugin"),
        ("POST /v1/plugins/parse/pin HTTP/1.1", "", "400", "bad_query"),
        (&*format!("POST /v1/plugins/parse/pin {json}"), "{\"digest\":\"sha256:1\"}", "400", "bad_query"),
        (&*format!("POST /v1/plugins/parse/pin {json}"), "{\"version\":\"1\"}", "400", "bad_query"),
        (&*format!("POST /v1/plugins/parse/pin {json}"), "[]", "400", "bad_query"),
        (&*format!("POST /v1/plugins/parse/promote {json}"), "{}", "409", "already_live"),
        (&*format!("POST /v1/plugins/parse/rollback {json}"), &*named, "400", "bad_query"),
        (&*format!("POST /v1/plugins/parse/rollback {json}"), "", "422", "refused"),
        ("POST /v1/plugins/parse HTTP/1.1", "", "405", "method_not_allowed"),
        (&*format!("POST /v1/plugins/parse/shadow {json}"), "{}", "400", "bad_query"),
        (&*format!("POST /v1/plugins/parse/shadow?sample_percent=101 {wasm}"), "x", "400", "bad_query"),
        (&*format!("POST /v1/plugins/parse/shadow?sample=1 {wasm}"), "x", "400", "bad_query"),
        (&*format!("POST /v1/plugins/parse/shadow {wasm}"), &*"x".repeat(2001), "413", "body_too_large"),
    ] {
        let answer = ask(head, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {answer}");
        assert!(answer.contains(code), "{head}: {answer}");
    }
}
