//! A server that answers what a test says, for destinations with a protocol of their own.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::HttpConfig;

/// A request that it got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What it answers.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    Status(u16, &'static str, Vec<u8>),
    /// With this header besides.
    With(&'static str, &'static str, Box<Says>),
    /// Nothing, for as long as anybody waits.
    Nothing,
}

impl Says {
    pub(crate) fn json(status: u16, body: impl ToString) -> Says {
        Says::Status(status, "application/json", body.to_string().into_bytes())
    }
}

type Answers = Arc<dyn Fn(&Got) -> Says + Send + Sync>;

#[derive(Clone)]
pub(crate) struct StandIn {
    got: Arc<Mutex<Vec<Got>>>,
    next: Arc<Mutex<VecDeque<Says>>>,
    always: Answers,
    pub(crate) url: String,
}

async fn take(State(server): State<StandIn>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let path = parts.uri.path_and_query().unwrap().to_string();
    let got = Got { path, headers: parts.headers, body };
    server.got.lock().unwrap().push(got.clone());
    let next = server.next.lock().unwrap().pop_front();
    answer(next.unwrap_or_else(|| (server.always)(&got))).await
}

fn answer(says: Says) -> Pin<Box<dyn Future<Output = Response> + Send>> {
    Box::pin(async move {
        match says {
            Says::Nothing => std::future::pending().await,
            Says::With(name, value, says) => {
                let mut response = answer(*says).await;
                response.headers_mut().insert(name, value.parse().unwrap());
                response
            }
            Says::Status(status, kind, body) => {
                let mut response = Response::new(Body::from(body));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response.headers_mut().insert("content-type", kind.parse().unwrap());
                response
            }
        }
    })
}

impl StandIn {
    /// Answers `next` one after another, then what `always` says.
    pub(crate) async fn start(
        next: Vec<Says>,
        always: impl Fn(&Got) -> Says + Send + Sync + 'static,
    ) -> StandIn {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = StandIn {
            got: Arc::default(),
            next: Arc::new(Mutex::new(next.into())),
            always: Arc::new(always),
            url: format!("http://{}", listener.local_addr().unwrap()),
        };
        let router = Router::new().fallback(take).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        server
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub(crate) fn config(&self, path: &str) -> HttpConfig {
        HttpConfig {
            url: format!("{}{path}", self.url),
            headers: std::collections::BTreeMap::from([("x-own".to_owned(), "mine".to_owned())]),
            ca: None,
            timeout: Duration::from_secs(10),
            reach: None,
        }
    }
}
