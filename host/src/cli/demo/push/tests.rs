//! A client that counts, against a server that answers as told.

use std::collections::VecDeque;
use std::sync::Mutex as StdMutex;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::post;
use bytes::Bytes;

use super::*;

type Answers = Arc<StdMutex<VecDeque<(u16, &'static str)>>>;

/// Answers with these in turn, then acknowledges what comes; all bodies that came.
async fn server(answers: &[(u16, &'static str)]) -> (String, Arc<StdMutex<Vec<Bytes>>>) {
    let answers: Answers = Arc::new(StdMutex::new(answers.iter().copied().collect()));
    let seen = Arc::new(StdMutex::new(Vec::new()));
    let bodies = Arc::clone(&seen);
    let answer = async move |body: Bytes| {
        let lines = body.split(|byte| *byte == b'\n').count() - 1;
        bodies.lock().unwrap().push(body);
        let next = answers.lock().unwrap().pop_front();
        match next {
            Some((status, text)) => {
                (StatusCode::from_u16(status).unwrap(), [(RETRY_AFTER, "0")], text.to_owned()).into_response()
            }
            None => format!("{{\"records\":{lines}}}").into_response(),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(answer))).await });
    (format!("http://{address}/"), seen)
}

/// Pushes so many bodies of two records, the last one late.
async fn pushed(url: String, count: usize, go_on: watch::Receiver<bool>) -> (Result<()>, Arc<Acknowledged>) {
    let (sender, receiver) = mpsc::channel(count);
    for number in 0..count {
        let body = Body { lines: Bytes::from_static(b"a\nb\n"), records: 2, late: number + 1 == count };
        sender.send(body).await.unwrap();
    }
    drop(sender);
    let acknowledged = Arc::new(Acknowledged::default());
    (push_all(url, receiver, go_on, Arc::clone(&acknowledged)).await, acknowledged)
}

#[tokio::test]
async fn push_refused_for_now_is_sent_again_and_counted_once() {
    let (url, seen) = server(&[(429, "{}"), (503, r#"{"error":{"code":"unavailable"}}"#)]).await;
    let (result, acknowledged) = pushed(url, 3, watch::channel(true).1).await;
    result.unwrap();
    assert_eq!((acknowledged.records(), acknowledged.bytes(), acknowledged.refused()), (6, 12, 2));
    assert_eq!(seen.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn push_of_unknown_fate_is_not_sent_again() {
    for (status, text) in [
        (503, r#"{"error":{"code":"unknown","message":"who knows"}}"#),
        (413, "{}"),
        (200, r#"{"records":1}"#),
    ] {
        let (url, seen) = server(&[(status, text)]).await;
        let (result, acknowledged) = pushed(url, 1, watch::channel(true).1).await;
        assert!(result.is_err());
        assert_eq!((acknowledged.records(), seen.lock().unwrap().len()), (0, 1));
    }
}

#[tokio::test]
async fn push_of_late_bodies_waits_for_the_word() {
    let (url, seen) = server(&[]).await;
    let (go_on, wait) = watch::channel(false);
    let pushing = tokio::spawn(pushed(url, 3, wait));
    let both = async {
        while seen.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
    assert!(!pushing.is_finished());
    go_on.send_replace(true);
    let (result, acknowledged) = pushing.await.unwrap();
    result.unwrap();
    assert_eq!(acknowledged.records(), 6);
}
