//! Replays that are asked for over a real connection.

use std::sync::Arc;

use super::tests::request;

async fn start_replay(headers: &str, body: &[u8]) -> String {
    let head =
        format!("POST /v1/streams/access/replays HTTP/1.1\r\ncontent-type: application/json\r\n{headers}");
    request(&Arc::default(), &head, body).await
}

#[tokio::test]
async fn replay_whose_body_comes_whole_is_started() {
    let body = br#"{"from":"-2h","to":"now","destination":"default"}"#;
    let answer = start_replay(&format!("content-length: {}", body.len()), body).await;
    assert!(answer.starts_with("HTTP/1.1 202") && answer.contains("destination: Some("), "{answer}");
}

#[tokio::test]
async fn replay_of_another_stream_than_its_path_or_with_offsets_is_refused() {
    let start = async |more: &str| {
        let body = format!(r#"{{"from":"-2h","to":"now","destination":"default"{more}}}"#);
        start_replay(&format!("content-length: {}", body.len()), body.as_bytes()).await
    };
    let same = start(r#","stream":"access","id":null"#).await;
    assert!(same.starts_with("HTTP/1.1 202"), "{same}");
    for (more, says) in [
        (r#","stream":"other""#, "the stream is another than"),
        (r#","stream":7"#, "the stream is another than"),
        (r#","offsets":[0,9]"#, "offsets are not given"),
        (r#","form":"now""#, "unknown field `form`"),
    ] {
        let answer = start(more).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(says), "{answer}");
    }
}

#[tokio::test]
async fn replay_whose_body_is_slow_or_too_long_or_breaks_off_is_refused_as_a_push_is() {
    let slow = start_replay("content-length: 9", b"{").await;
    assert!(slow.starts_with("HTTP/1.1 408") && slow.contains("\"slow_body\""), "{slow}");
    // Announced, and found while it is read.
    let long = format!("{}1\r\n \r\n0\r\n\r\n", format!("4000\r\n{}\r\n", " ".repeat(0x4000)).repeat(4));
    for (header, body) in [("content-length: 65537", ""), ("transfer-encoding: chunked", long.as_str())] {
        let answer = start_replay(header, body.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("\"body_too_large\""), "{answer}");
        assert!(answer.contains("more than 65536 bytes"), "{answer}");
    }
    let broken = start_replay("transfer-encoding: chunked", b"nonsense\r\n").await;
    assert!(broken.starts_with("HTTP/1.1 400") && broken.contains("\"broken_body\""), "{broken}");
}
