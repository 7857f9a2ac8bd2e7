//! Answers that come before the body of their request was read: refusals, most of all.
//!
//! What is on its way is read and let go, so that the connection can be used again; of a body that goes on for longer the
//! connection ends behind the answer, which says so (RFC 9112, section 9.6), so that no client sends another request into it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// So much of a body that nobody reads is let go.
const LET_GO_BYTES_MAX: u64 = 1 << 20;
/// Wait for the end of such a body.
const LET_GO_TIME_MAX: Duration = Duration::from_millis(100);

/// What is left of a body that did not come to its end.
enum Rest {
    Unread(Body),
    /// Nothing that could be told from another request.
    Broken,
}

/// Where that goes.
type Left = Arc<Mutex<Option<Rest>>>;

/// A body that comes back when it is dropped before its end.
struct Returning {
    body: Body,
    /// How it came to it.
    ended: Option<Result<(), ()>>,
    left: Left,
}

impl HttpBody for Returning {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(None) => self.ended = Some(Ok(())),
            Poll::Ready(Some(Err(_))) => self.ended = Some(Err(())),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        let rest = match self.ended {
            Some(Ok(())) => return,
            Some(Err(())) => Rest::Broken,
            None if self.body.is_end_stream() => return,
            None => Rest::Unread(std::mem::take(&mut self.body)),
        };
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest);
    }
}

/// A layer around all routes.
pub(super) async fn let_go(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Who waits to be told to send the body is not told so by a refusal.
    let waits = request.headers().contains_key(header::EXPECT);
    let version = request.version();
    let left = Left::default();
    let back = Arc::clone(&left);
    let request = request.map(|body| Body::new(Returning { body, ended: None, left: back }));
    let mut answer = next.run(request).await;
    let rest = left.lock().unwrap_or_else(PoisonError::into_inner).take();
    let usable = match rest {
        None => true,
        // Anything but a refusal is in a hurry: a fallback, when the deadline is over before the body is there.
        Some(Rest::Unread(body)) => !waits && answer.status().is_client_error() && ends(body).await,
        Some(Rest::Broken) => false,
    };
    if !usable {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        if version == Version::HTTP_10 {
            // To an answer of 1.1 hyper adds that the connection is kept, where the client has asked for that.
            *answer.version_mut() = version;
        }
    }
    answer
}

/// Whether the rest of the body came within the bounds.
async fn ends(mut body: Body) -> bool {
    if body.size_hint().lower() > LET_GO_BYTES_MAX {
        return false;
    }
    let until = tokio::time::Instant::now() + LET_GO_TIME_MAX;
    let mut bytes = 0;
    loop {
        let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        match tokio::time::timeout_at(until, next).await {
            Ok(None) => return true,
            Ok(Some(Ok(frame))) => bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Ok(Some(Err(_))) | Err(_) => return false,
        }
        if bytes > LET_GO_BYTES_MAX {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::api::tests::{NDJSON, connect};

    /// One answer, as its `content-length` says.
    async fn answer(socket: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
            let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                length.is_some_and(|length| body.len() == length.parse::<usize>().unwrap())
            });
            if whole {
                return text;
            }
            let read = socket.read_buf(&mut answer).await.unwrap();
            assert!(read > 0, "the connection ended behind {text:?}");
        }
    }

    fn head(stream: &str, length: usize, more: &str) -> String {
        format!(
            "POST /v1/streams/{stream}/records HTTP/1.1\r\nhost: x\r\n{NDJSON}\r\n{more}content-length: {length}\r\n\r\n"
        )
    }

    #[tokio::test]
    async fn refusal_leaves_a_connection_whose_body_ends_soon_to_the_next_request() {
        let (server, mut socket) = connect(&Arc::default()).await;
        for _ in 0..3 {
            // Written before the server has its turn: how busy the machine is does not matter.
            let body = [b'x'; 4096];
            socket.write_all(&[head("missing", body.len(), "").as_bytes(), &body].concat()).await.unwrap();
            let refused = answer(&mut socket).await;
            assert!(
                refused.starts_with("http/1.1 404") && !refused.contains("connection: close"),
                "{refused}"
            );
        }
        socket.write_all(&[head("access", 3, "").as_bytes(), b"{}\n"].concat()).await.unwrap();
        let taken = answer(&mut socket).await;
        assert!(taken.starts_with("http/1.1 200"), "{taken}");
        server.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn body_is_let_go_up_to_its_bound() {
        let most = LET_GO_BYTES_MAX as usize;
        assert!(ends(Body::from(vec![0; most])).await);
        assert!(!ends(Body::from(vec![0; most + 1])).await);
        let pieces = |count| {
            let piece = move |_| Ok::<_, std::io::Error>(vec![0; most / 4]);
            Body::from_stream(futures::stream::iter((0..count).map(piece)))
        };
        assert!(ends(pieces(4)).await);
        assert!(!ends(pieces(5)).await);
    }

    #[tokio::test]
    async fn body_that_breaks_ends_its_connection_and_the_answer_says_so() {
        let (server, mut socket) = connect(&Arc::default()).await;
        let head = head("access", 0, "").replace("content-length: 0", "transfer-encoding: chunked");
        socket.write_all(format!("{head}zz\r\n").as_bytes()).await.unwrap();
        let refused = answer(&mut socket).await;
        assert!(refused.starts_with("http/1.1 400") && refused.contains("connection: close"), "{refused}");
        server.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn answer_that_is_no_refusal_waits_for_no_body() {
        let routes = axum::Router::new().route("/", axum::routing::post(async || "late"));
        let routes = TowerToHyperService::new(routes.layer(axum::middleware::from_fn(let_go)));
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let request = Request::post("/").body(never).unwrap();
        let begun = tokio::time::Instant::now();
        let answer = routes.call(request).await.unwrap();
        assert_eq!(answer.headers().get(header::CONNECTION).map(HeaderValue::as_bytes), Some(&b"close"[..]));
        // The clock of the test moves where something waits for it.
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn refusal_of_a_body_that_goes_on_says_that_the_connection_ends_and_ends_it() {
        // Announced as more than is let go; as less, of which the end does not come; and sent only when it is asked for.
        let all = [(2 * LET_GO_BYTES_MAX as usize, ""), (500, ""), (500, "expect: 100-continue\r\n")];
        for (length, more) in all {
            let (server, mut socket) = connect(&Arc::default()).await;
            socket.write_all(head("missing", length, more).as_bytes()).await.unwrap();
            if more.is_empty() {
                socket.write_all(b"{}\n").await.unwrap();
            }
            let refused = answer(&mut socket).await;
            assert!(refused.starts_with("http/1.1 404"), "{refused}");
            assert!(refused.contains("connection: close"), "{length} {more:?}: {refused}");
            assert_ended(&mut socket).await;
            server.abort();
        }
    }

    /// Closed, or reset because of what was not read.
    async fn assert_ended(socket: &mut TcpStream) {
        let behind = socket.read(&mut [0; 16]).await;
        assert!(behind.is_err() || behind.is_ok_and(|read| read == 0));
    }

    #[tokio::test]
    async fn refusal_that_ends_a_connection_kept_by_http_1_0_says_nothing_of_keeping_it() {
        let (server, mut socket) = connect(&Arc::default()).await;
        let keep = "connection: keep-alive\r\n";
        // Its body is there: the connection is kept, as it is wanted.
        let head_of = |length| head("missing", length, keep).replace("HTTP/1.1", "HTTP/1.0");
        socket.write_all(&[head_of(3).as_bytes(), b"{}\n"].concat()).await.unwrap();
        let kept = answer(&mut socket).await;
        assert!(kept.starts_with("http/1.0 404") && kept.contains("connection: keep-alive"), "{kept}");
        socket.write_all(&[head_of(500).as_bytes(), b"{}\n"].concat()).await.unwrap();
        let refused = answer(&mut socket).await;
        assert!(refused.starts_with("http/1.0 404"), "{refused}");
        assert!(refused.contains("connection: close") && !refused.contains("keep-alive"), "{refused}");
        assert_ended(&mut socket).await;
        server.abort();
    }
}
