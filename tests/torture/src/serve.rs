//! A small HTTP/1.1 server for destinations that misbehave: a handler that may also break the connection.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;

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
