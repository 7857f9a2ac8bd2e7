//! A small HTTP/1.1 server for destinations that misbehave: a handler that may also break the connection.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Longest body of a request.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Refused before anything is done.
    Refused(Refusal),
    /// The connection breaks before the body is read.
    BrokenBefore,
    /// It breaks when a first piece of the body has come.
    BrokenWithin,
    /// It breaks when the body has come, and nothing is done.
    BrokenAfterBody,
    /// Everything is done, and the answer never comes.
    AnswerLost,
    /// The body is read late.
    SlowBody(Duration),
    /// Everything is done, and the answer comes late.
    SlowAnswer(Duration),
    /// Of uploads: it is gone, as if somebody had aborted it.
    UploadGone,
    /// Of a store: what is there is overwritten, whatever condition the request has.
    Overwrites,
}

/// What a request is refused with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// S3's name of the error.
    pub code: &'static str,
    /// `Retry-After` in seconds.
    pub after: Option<u32>,
}

impl Refusal {
    pub const SLOW_DOWN: Refusal = Refusal { status: 503, code: "SlowDown", after: None };
    pub const INTERNAL: Refusal = Refusal { status: 500, code: "InternalError", after: None };
    pub const DENIED: Refusal = Refusal { status: 403, code: "AccessDenied", after: None };
    pub const NO_BUCKET: Refusal = Refusal { status: 404, code: "NoSuchBucket", after: None };
    pub const SKEWED: Refusal = Refusal { status: 403, code: "RequestTimeTooSkewed", after: None };
}

/// The connection breaks without an answer.
#[derive(Debug)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is to break")
    }
}

impl std::error::Error for Broken {}

impl From<Infallible> for Broken {
    fn from(never: Infallible) -> Broken {
        match never {}
    }
}

pub type Answer = Response<Full<Bytes>>;

/// The whole body of a request.
pub async fn whole(body: Incoming) -> Result<Bytes, Broken> {
    Ok(Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|_broken_or_too_long| Broken)?.to_bytes())
}

/// The first piece of a body, and no more.
pub async fn piece(mut body: Incoming) {
    drop(body.frame().await);
}

/// An answer with a body of its own.
pub fn answer(status: u16, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    answer
}

/// Serves on a free port for as long as the runtime lives.
pub fn start<H, F>(runtime: &Runtime, handler: H) -> Result<SocketAddr>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Answer, Broken>> + Send + 'static,
{
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).context("listen")?;
    let address = listener.local_addr()?;
    runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service_fn(handler.clone());
            tokio::spawn(async move {
                // Clients that are killed leave connections half open, and some we break ourselves.
                drop(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await,
                );
            });
        }
    });
    Ok(address)
}
