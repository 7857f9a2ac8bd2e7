//! HTTP: push, metrics, health and state.
//!
//! It owns routes, the bounds of a request and of a listener, and (in `error`) the mapping from what
//! went wrong to status codes. It sees the program through [`Host`] only; it refuses to reach into the
//! buffer, and to answer a push before its records have a receipt.
//!
//! | status of a push | meaning |
//! |---|---|
//! | 200 | durable: count and offsets in the answer |
//! | 400, 404, 408, 413, 415 | refused, nothing stored |
//! | 429 | buffer full, nothing stored; send again after `Retry-After` |
//! | 503 `unavailable` | nothing stored; send again |
//! | 503 `unknown` | a write failed half-way: the records may or may not be stored |

mod dead_letters;
mod error;
mod listen;
mod producer;
mod push;
mod replays;
mod samples;
#[cfg(test)]
mod tests;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use wasmill_ingest::Append;

use crate::pipeline::{
    HistoryError, LettersError, SampleError, SampledSlice, VersionsError, VersionsRequest,
};

pub use dead_letters::LettersRequest;
pub use error::ApiError;
pub use listen::{ListenLimits, serve};
pub use replays::ReplaysRequest;

/// Bytes of request bodies that are in memory at a time, unless a single body may be longer.
const BODIES_BYTES_MAX: u64 = 256 << 20;

/// The program as the routes see it.
pub trait Host: Send + Sync + 'static {
    type Append: Append;

    /// The stream of this name, if records may be pushed to it.
    fn stream(&self, name: &str) -> Option<Arc<Self::Append>>;
    /// State per stream, for `GET /v1/streams`.
    fn streams(&self) -> serde_json::Value;
    /// Loaded and refused plugins, for `GET /v1/plugins`.
    fn plugins(&self) -> serde_json::Value;
    /// A stream's dead letters, for the routes below `/v1/streams/{name}/dead-letters`.
    fn dead_letters(
        &self,
        stream: String,
        request: LettersRequest,
    ) -> impl Future<Output = Result<serde_json::Value, LettersError>> + Send;
    /// A stream's replays, for the routes below `/v1/streams/{name}/replays`.
    fn replays(
        &self,
        stream: String,
        request: ReplaysRequest,
    ) -> impl Future<Output = Result<serde_json::Value, HistoryError>> + Send;
    /// The next records of a stream that are run within `wait`, before and after.
    fn sample(
        &self,
        stream: String,
        records: usize,
        wait: Duration,
    ) -> impl Future<Output = Result<SampledSlice, SampleError>> + Send;
    /// The versions of a plugin, for the routes below `/v1/plugins/{name}`.
    fn versions(
        &self,
        plugin: String,
        request: VersionsRequest,
    ) -> impl Future<Output = Result<serde_json::Value, VersionsError>> + Send;
    /// `Err` says what is not ready yet.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// Prometheus text.
    fn metrics(&self) -> String;
}

/// Bounds of requests.
#[derive(Clone, Copy, Debug)]
pub struct ApiLimits {
    /// Bytes of a body, before and after decompression.
    pub max_body: u64,
    /// Bytes of one record.
    pub max_record: u64,
    /// Records of one request.
    pub max_records: u32,
    /// Longest wait for the next piece of a body.
    pub read_timeout: Duration,
    /// Bytes of a plugin file.
    pub max_plugin: u64,
    /// Whether plugin files are taken at all.
    pub plugin_uploads: bool,
}

/// What the handlers share.
struct Shared<H> {
    host: Arc<H>,
    limits: ApiLimits,
    /// One permit per KiB of request body in memory.
    bodies: Semaphore,
}

/// The routes.
pub fn router<H: Host>(host: Arc<H>, limits: ApiLimits) -> Router {
    let bodies =
        Semaphore::new(push::permits(BODIES_BYTES_MAX.max(limits.max_body).max(limits.max_plugin)) as usize);
    let shared = Arc::new(Shared { host, limits, bodies });
    Router::new()
        .route("/v1/streams/{name}/records", post(push::push::<H>))
        .route(
            "/v1/streams/{name}/dead-letters",
            get(dead_letters::list::<H>).delete(dead_letters::remove::<H>),
        )
        .route("/v1/streams/{name}/dead-letters/replay", post(dead_letters::replay::<H>))
        .route(
            "/v1/streams/{name}/dead-letters/{number}",
            get(dead_letters::get::<H>).delete(dead_letters::remove_one::<H>),
        )
        .route("/v1/streams/{name}/replays", post(replays::start::<H>).get(replays::list::<H>))
        .route("/v1/streams/{name}/replays/{id}", get(replays::get::<H>).delete(replays::cancel::<H>))
        .route("/v1/streams/{name}/sample", get(samples::sample::<H>))
        .route("/v1/streams", get(streams::<H>))
        .route("/v1/plugins", get(plugins::<H>))
        .route("/v1/plugins/{name}", get(versions::show::<H>))
        .route("/v1/plugins/{name}/pin", post(versions::pin::<H>).delete(versions::unpin::<H>))
        .route("/v1/plugins/{name}/rollback", post(versions::rollback::<H>))
        .route("/v1/plugins/{name}/promote", post(versions::promote::<H>))
        .route(
            "/v1/plugins/{name}/shadow",
            post(versions::shadow::<H>).get(versions::report::<H>).delete(versions::stop_shadow::<H>),
        )
        .route("/metrics", get(metrics::<H>))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready::<H>))
        .fallback(async || ApiError::NoRoute)
        .method_not_allowed_fallback(async || ApiError::Method)
        .with_state(shared)
}

async fn streams<H: Host>(State(shared): State<Arc<Shared<H>>>) -> Response {
    axum::Json(shared.host.streams()).into_response()
}

async fn plugins<H: Host>(State(shared): State<Arc<Shared<H>>>) -> Response {
    axum::Json(shared.host.plugins()).into_response()
}

async fn metrics<H: Host>(State(shared): State<Arc<Shared<H>>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.host.metrics()).into_response()
}

async fn ready<H: Host>(State(shared): State<Arc<Shared<H>>>) -> Response {
    match shared.host.ready().await {
        Ok(()) => "ready\n".into_response(),
        Err(what) => (StatusCode::SERVICE_UNAVAILABLE, format!("{what}\n")).into_response(),
    }
}
