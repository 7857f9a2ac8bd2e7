//! Servers that hosts deliver to: an HTTP receiver that answers what the test says, and S3 in a directory.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A request that the receiver got.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What it was answered.
    pub status: u16,
    pub at: Instant,
}

#[derive(Default)]
struct Shared {
    /// Status and `Retry-After` of the next answers; after them `always`.
    next: VecDeque<(u16, Option<u32>)>,
    always: u16,
    received: Vec<Received>,
}

/// Takes POST requests at `/take`.
pub struct Receiver {
    shared: Arc<Mutex<Shared>>,
    address: SocketAddr,
    _runtime: Runtime,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

async fn take(State(shared): State<Arc<Mutex<Shared>>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let (status, after) = shared.next.pop_front().unwrap_or((shared.always, None));
    shared.received.push(Received { headers, body, status, at: Instant::now() });
    let mut answer = StatusCode::from_u16(status).expect("a status").into_response();
    if let Some(after) = after {
        answer.headers_mut().insert(header::RETRY_AFTER, after.into());
    }
    answer
}

impl Receiver {
    /// Answers `next` one after another, then `always`.
    pub fn start(next: &[(u16, Option<u32>)], always: u16) -> Receiver {
        let runtime = runtime();
        let shared = Shared { next: next.iter().copied().collect(), always, received: Vec::new() };
        let shared = Arc::new(Mutex::new(shared));
        let routes = Router::new().route("/take", post(take)).with_state(shared.clone());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Receiver { shared, address, _runtime: runtime }
    }

    pub fn url(&self) -> String {
        format!("http://{}/take", self.address)
    }

    /// Answers this from now on.
    pub fn answer(&self, always: u16) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).always = always;
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).received.clone()
    }
}

/// `s3s-fs` on a directory, with one key pair.
pub struct S3Server {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl S3Server {
    pub const ACCESS_KEY: &str = "test-access-key";
    pub const SECRET_KEY: &str = "test-secret-key";

    /// Serves the buckets in `root` on a free port.
    pub fn start(root: &Path) -> S3Server {
        S3Server::start_at(root, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same at an address that a server had before.
    pub fn start_at(root: &Path, address: SocketAddr) -> S3Server {
        let runtime = runtime();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).expect("a directory"));
        service.set_auth(SimpleAuth::from_single(S3Server::ACCESS_KEY, S3Server::SECRET_KEY));
        let service = service.build();
        let listener = runtime.block_on(TcpListener::bind(address)).expect("a port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let http = auto::Builder::new(TokioExecutor::new());
                    // A host that stops leaves connections half open.
                    drop(http.serve_connection(TokioIo::new(socket), service).await);
                });
            }
        });
        S3Server { address, runtime: Some(runtime) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
