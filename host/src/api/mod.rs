//! HTTP: push, metrics, health and state.
//!
//! It owns routes (`routes`) and who may use them (`access`), the bounds of a request and of a listener, and (in `error`)
//! the mapping from what went wrong to status codes. It sees the program through [`Host`] only; it refuses to reach into the
//! buffer, and to answer a push before its records have a receipt.
//!
//! | status of a push | meaning |
//! |---|---|
//! | 200 | durable: count and offsets in the answer |
//! | 400, 401, 403, 404, 408, 413, 415 | refused, nothing stored |
//! | 429 | buffer full or a quota used up, nothing stored; send again after `Retry-After` |
//! | 503 `unavailable` | nothing stored; send again |
//! | 503 `unknown` | a write failed half-way: the records may or may not be stored |

mod access;
mod audit;
mod bodies;
#[cfg(test)]
mod control_tests;
mod dead_letters;
mod decide;
mod delivered;
mod error;
mod firehose;
mod keys;
mod listen;
#[cfg(test)]
mod matrix;
mod openapi;
mod producer;
mod push;
mod quotas;
mod replays;
#[cfg(test)]
mod replays_tests;
mod routes;
mod samples;
mod source;
mod state;
mod streams;
mod tenants;
#[cfg(test)]
mod tests;
mod tls;
#[cfg(test)]
mod tls_tests;
#[cfg(test)]
mod token_tests;
mod unread;
mod usage;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use wasmill_tenant::{Quotas, TenantName};

use self::bodies::Bodies;
use self::routes::Route;
use crate::pipeline::stats::{StreamStats, wall_clock_ns};
use crate::pipeline::{
    Decider, DefineAnswer, DefineError, DefineRequest, FirehoseSettings, HistoryError, LeftError,
    LettersError, PluginFile, SampleError, SampledSlice, StateDeskError, StateRequest, TenantQuota,
    UsageError, UsagePage, UsageQuery, UsageReader, VersionsError, VersionsRequest,
};

pub use access::{Access, KeySetPlace, TakenTokens, TokenRules, Tokens};
pub use dead_letters::LettersRequest;
pub use error::ApiError;
pub use firehose::{Functions, Left, MigrateError, Migrated, migrate};
pub use listen::{ListenLimits, serve};
pub use replays::ReplaysRequest;
pub use source::Pushed;
pub use tls::{Tls, TlsClient, TlsError, TlsFiles};

/// Bytes of request bodies that are in memory at a time, unless a single body may be longer.
const BODIES_BYTES_MAX: u64 = 256 << 20;

/// The program as the routes see it.
pub trait Host: Send + Sync + 'static {
    type Append: Pushed;

    /// What a tenant may use.
    fn quota(&self, tenant: &TenantName) -> Arc<TenantQuota>;
    /// What the configuration says of this tenant by name.
    fn quotas_of_file(&self, tenant: &TenantName) -> Quotas;
    /// What was set for a tenant counts from now on.
    fn set_quotas(&self, tenant: &TenantName, quotas: &Quotas);
    /// How much of its quotas a tenant uses, by the name of the quota, as far as that is a number at a moment.
    fn quotas_used(&self, tenant: &TenantName) -> serde_json::Value;
    /// The configuration file, if it names this tenant.
    fn file_of(&self, tenant: &TenantName) -> Option<String>;
    /// What a tenant has used, also one that is gone: as many whole spans as have so many rows together, and at least one.
    fn usage(
        &self,
        tenant: String,
        query: UsageQuery,
        rows: usize,
        reader: UsageReader,
    ) -> impl Future<Output = Result<UsagePage, UsageError>> + Send;
    /// The tenants that have used something, those that are gone among them.
    fn usage_tenants(&self) -> impl Future<Output = Result<Vec<String>, UsageError>> + Send;
    /// Unless the tenant is in use: what is stored of its former streams is removed, and their dead letters are put aside.
    fn forget_streams(
        &self,
        tenant: &TenantName,
        force: bool,
    ) -> impl Future<Output = Result<(), LeftError>> + Send;
    /// Unless there is such a tenant: another one of its name has used nothing.
    fn forget_usage(&self, tenant: &TenantName) -> impl Future<Output = Result<(), LeftError>> + Send;
    /// Unless there is such a tenant: what is stored of the plugins of one that had the name is put aside.
    fn forget_plugins(&self, tenant: &TenantName) -> impl Future<Output = Result<(), LeftError>> + Send;
    /// The stream of this name, if records may be pushed to it.
    fn stream(&self, tenant: &TenantName, name: &str) -> Result<Arc<Self::Append>, Absence>;
    /// What becomes of records while their client waits; `None`: nobody may wait there.
    fn decider(&self, tenant: &TenantName, name: &str) -> Option<Decider>;
    /// What is counted of a stream that runs.
    fn counted(&self, tenant: &TenantName, name: &str) -> Option<Arc<StreamStats>>;
    /// What the Firehose API says of streams.
    fn firehose(&self) -> FirehoseSettings;
    /// What the definition of a stream was made from, where another interface has told it.
    fn origin(&self, tenant: &TenantName, name: &str) -> Option<Arc<serde_json::Value>>;
    /// Whether a stream is being opened, changed or removed.
    fn is_changing(&self, tenant: &TenantName, name: &str) -> bool;
    /// The definition of a stream, for `/v1/streams/{name}`.
    fn define(
        &self,
        tenant: TenantName,
        stream: String,
        request: DefineRequest,
    ) -> impl Future<Output = Result<DefineAnswer, DefineError>> + Send;
    /// Whether a tenant has a stream, of whatever source.
    fn has_stream(&self, tenant: &TenantName, name: &str) -> bool;
    /// Whether a tenant has a plugin, or had.
    fn has_plugin(&self, tenant: &TenantName, name: &str) -> bool;
    /// How many streams a tenant has.
    fn streams_of(&self, tenant: &TenantName) -> usize;
    /// State per stream, for `GET /v1/streams`.
    fn streams(&self, tenant: &TenantName) -> serde_json::Value;
    /// Loaded and refused plugins, for `GET /v1/plugins`.
    fn plugins(&self, tenant: &TenantName) -> serde_json::Value;
    /// What a stream's plugins keep, for the routes below `/v1/streams/{name}/state`.
    fn state(
        &self,
        tenant: TenantName,
        stream: String,
        request: StateRequest,
    ) -> impl Future<Output = Result<serde_json::Value, StateDeskError>> + Send;
    /// A stream's dead letters, for the routes below `/v1/streams/{name}/dead-letters`.
    fn dead_letters(
        &self,
        tenant: TenantName,
        stream: String,
        request: LettersRequest,
    ) -> impl Future<Output = Result<serde_json::Value, LettersError>> + Send;
    /// A stream's replays, for the routes below `/v1/streams/{name}/replays`.
    fn replays(
        &self,
        tenant: TenantName,
        stream: String,
        request: ReplaysRequest,
    ) -> impl Future<Output = Result<serde_json::Value, HistoryError>> + Send;
    /// The next records of a stream that are run within `wait`, before and after.
    fn sample(
        &self,
        tenant: TenantName,
        stream: String,
        records: usize,
        wait: Duration,
    ) -> impl Future<Output = Result<SampledSlice, SampleError>> + Send;
    /// The versions of a plugin, for the routes below `/v1/plugins/{name}`.
    fn versions(
        &self,
        tenant: TenantName,
        plugin: String,
        request: VersionsRequest,
    ) -> impl Future<Output = Result<serde_json::Value, VersionsError>> + Send;
    /// Takes a plugin file; without a manifest it needs a name, and a signature where that is asked for.
    fn upload(
        &self,
        tenant: TenantName,
        name: Option<String>,
        file: PluginFile,
        signature: Option<Vec<u8>>,
    ) -> impl Future<Output = Result<serde_json::Value, VersionsError>> + Send;
    /// What became of the configuration file, for `GET /v1/config`.
    fn file(&self) -> serde_json::Value;
    /// `Err` says what is not ready yet.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// Prometheus text.
    fn metrics(&self) -> String;
}

/// Why nothing can be pushed to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// There is none, or it has another source.
    None,
    /// It is being opened, changed or removed.
    Changing,
    /// It is defined, and cannot run.
    Idle,
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
    bodies: Arc<Bodies>,
    /// Whose bodies of settings are: they are small.
    others: Arc<TenantQuota>,
    access: Access,
    signatures: firehose::Signatures,
    /// The OpenAPI document.
    document: Bytes,
}

/// The routes.
pub fn router<H: Host>(host: Arc<H>, limits: ApiLimits, access: Access) -> Router {
    // A body that is opened is there twice.
    let bodies = Bodies::new(BODIES_BYTES_MAX.max(2 * limits.max_body).max(limits.max_plugin));
    let routes = routes::routes::<H>();
    let heads: Vec<_> = routes.iter().map(|route| route.head).collect();
    let document = openapi::document(&heads).into();
    let (others, signatures) = (TenantQuota::without_limits(), firehose::Signatures::default());
    let shared = Arc::new(Shared { host, limits, bodies, others, access, signatures, document });
    let mut router = Router::new();
    for Route { head, handler } in routes {
        let gate = axum::middleware::from_fn_with_state((Arc::clone(&shared), head), access::gate::<H>);
        let mut handler = handler.route_layer(gate);
        if head.path == delivered::PATH {
            handler = handler.route_layer(axum::middleware::from_fn(delivered::in_form));
        }
        router = router.route(head.path, handler);
    }
    router
        .fallback(async || ApiError::NoRoute)
        .method_not_allowed_fallback(async || ApiError::Method)
        .with_state(shared)
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    u64::try_from(wall_clock_ns()).unwrap_or(0) / 1_000_000
}
