//! A server that answers what a test says: for endpoints, collectors and clusters that are played, not had.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A request that it got.
#[derive(Clone, Debug)]
pub struct Got {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    /// The value of a header; empty without it.
    pub fn header(&self, name: &str) -> String {
        let value = self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        value.unwrap_or_default().into_owned()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What it answers.
#[derive(Clone, Debug)]
pub enum Says {
    /// In JSON.
    Json(u16, Value),
    /// Nothing, for as long as anybody waits.
    Nothing,
}

/// Gets the request, and how many there were before it.
type Answers = Arc<Mutex<dyn FnMut(&Got, usize) -> Says + Send>>;

#[derive(Clone)]
struct Shared {
    got: Arc<Mutex<Vec<Got>>>,
    answers: Answers,
}

/// See the head of this file.
pub struct StandIn {
    shared: Shared,
    address: SocketAddr,
    _runtime: Runtime,
}

async fn take(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    // A client that is killed leaves a part of one.
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else { return Response::default() };
    let got = Got { path, headers: parts.headers, body };
    let before = {
        let mut all = shared.got.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(got.clone());
        all.len() - 1
    };
    let says = {
        let mut answers = shared.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers(&got, before)
    };
    match says {
        Says::Nothing => std::future::pending().await,
        Says::Json(status, body) => {
            let mut response = Response::new(Body::from(body.to_string()));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
    }
}

impl StandIn {
    pub fn start(answers: impl FnMut(&Got, usize) -> Says + Send + 'static) -> StandIn {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let shared = Shared { got: Arc::default(), answers: Arc::new(Mutex::new(answers)) };
        let routes = Router::new().fallback(take).with_state(shared.clone());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move { axum::serve(listener, routes).await });
        StandIn { shared, address, _runtime: runtime }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
