//! `/v1/streams/{name}/replays`: run history again, see how far it is, cancel.
//!
//! | route | answer |
//! |---|---|
//! | `POST …/replays` | 202 and the replay, which runs |
//! | `GET …/replays` | those that run, and the last that have ended |
//! | `GET …/replays/{id}` | one: its state and what it has done |
//! | `DELETE …/replays/{id}` | the same, after it was asked to end |
//!
//! It owns the shape of requests and answers. A directory is only taken that holds the plan of this very replay: a client
//! that cannot write files cannot make the host write any elsewhere than at its own outputs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Extension, Json};
use serde_json::Value;
use wasmill_tenant::Scope;

use super::access::Caller;
use super::error::ApiError;
use super::push::once;
use super::{Host, Shared};
use crate::pipeline::{HistoryError, PlanError, ReplayPlan, new_id};

/// Longest body of JSON: room for hundreds of plugins.
const JSON_BYTES_MAX: u64 = 64 << 10;

/// What a client asks of a stream's replays.
#[derive(Debug)]
pub enum ReplaysRequest {
    Start(ReplayPlan),
    List,
    Get(String),
    Cancel(String),
}

type Answer = Result<Json<Value>, ApiError>;

async fn ask<H: Host>(shared: &Shared<H>, caller: Caller, stream: String, request: ReplaysRequest) -> Answer {
    Ok(Json(shared.host.replays(caller.tenant, stream, request).await.map_err(ApiError::history)?))
}

pub(super) async fn start<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(stream): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let wanted = json(&shared, &headers, body).await?;
    let plan = plan(&stream, wanted)?;
    if plan.output.is_some() && shared.access.keys && !caller.scopes.is_operator() {
        // Any directory of the host could be named.
        return Err(ApiError::Forbidden { scope: Scope::Operator });
    }
    Ok((StatusCode::ACCEPTED, ask(&shared, caller, stream, ReplaysRequest::Start(plan)).await?))
}

/// The plan in the body of a start. Which stream it is says the path, and which offsets the host.
fn plan(stream: &str, wanted: Value) -> Result<ReplayPlan, ApiError> {
    let Value::Object(mut wanted) = wanted else {
        return Err(refuse(
            "body: expected a JSON object with from, to, and output or destination".to_owned(),
        ));
    };
    if wanted.insert("stream".to_owned(), stream.into()).is_some_and(|told| told != stream) {
        return Err(refuse(format!("body: the stream is another than {stream:?} in the path")));
    }
    if wanted.contains_key("offsets") {
        return Err(refuse("body: offsets are not given, the host finds them by from and to".to_owned()));
    }
    if wanted.get("id").is_none_or(Value::is_null) {
        let id = new_id().map_err(|error| ApiError::Failed { message: format!("draw an id: {error}") })?;
        wanted.insert("id".to_owned(), id.into());
    }
    serde_json::from_value(wanted.into()).map_err(|error| refuse(format!("body: {error}")))
}

/// As [`json_given`], where no body is an empty object.
pub(super) async fn json<H>(shared: &Shared<H>, headers: &HeaderMap, body: Body) -> Result<Value, ApiError> {
    Ok(json_given(shared, headers, body).await?.unwrap_or_else(|| Value::Object(serde_json::Map::new())))
}

/// A small body as JSON, which it must say that it is: what a page in somebody's browser cannot send to another place
/// without being asked. Room for it is held no longer than it: what it asks for may take minutes. `None`: it is empty.
pub(super) async fn json_given<H>(
    shared: &Shared<H>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Option<Value>, ApiError> {
    let kind = once(headers, header::CONTENT_TYPE)?;
    if kind.is_empty() {
        return Err(refuse("header content-type is missing, expected application/json".to_owned()));
    }
    if kind.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(refuse(format!("content type {kind:?} is no application/json")));
    }
    let wait = shared.limits.read_timeout;
    let (body, _held) = shared.bodies.read_other(&shared.others, body, JSON_BYTES_MAX, wait).await?;
    if body.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&body).map(Some).map_err(|error| refuse(format!("body: {error}")))
}

pub(super) async fn list<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(stream): Path<String>,
) -> Answer {
    ask(&shared, caller, stream, ReplaysRequest::List).await
}

pub(super) async fn get<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path((stream, id)): Path<(String, String)>,
) -> Answer {
    ask(&shared, caller, stream, ReplaysRequest::Get(id)).await
}

pub(super) async fn cancel<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path((stream, id)): Path<(String, String)>,
) -> Answer {
    ask(&shared, caller, stream, ReplaysRequest::Cancel(id)).await
}

fn refuse(message: String) -> ApiError {
    ApiError::Query { message }
}

impl ApiError {
    fn history(error: HistoryError) -> ApiError {
        let message = crate::pipeline::with_causes(&error);
        match error {
            HistoryError::NoStream { .. } => ApiError::NotFound { code: "no_stream", message },
            HistoryError::NoReplay { .. } => ApiError::NotFound { code: "no_replay", message },
            HistoryError::Empty { .. } => ApiError::NotFound { code: "no_records", message },
            HistoryError::Wrong { .. } | HistoryError::Plugin { .. } | HistoryError::KeepsState { .. } => {
                refuse(message)
            }
            HistoryError::Output(PlanError::Io { .. }) => ApiError::Failed { message },
            HistoryError::Output(_) => refuse(message),
            HistoryError::Busy { .. } | HistoryError::HostBusy | HistoryError::Runs { .. } => {
                ApiError::Conflict { message }
            }
            HistoryError::Destination { .. }
            | HistoryError::Read(_)
            | HistoryError::Stopping
            | HistoryError::Failed { .. } => ApiError::Failed { message },
        }
    }
}
