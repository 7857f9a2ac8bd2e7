//! `/v1/plugins/{name}`: the versions of a plugin, and which of them is live.
//!
//! | route | does |
//! |---|---|
//! | `GET …` | shows the versions, and what was decided about them |
//! | `POST …/pin` | keeps a version live, whatever comes into the plugin directory |
//! | `DELETE …/pin` | makes live what the plugin directory has |
//! | `POST …/rollback` | makes the version live that was live before, and pins it |
//! | `POST …/promote` | makes a version live: the shadow, if none is named |
//! | `POST …/shadow` | runs a candidate beside the live version: a digest, or a plugin file |
//! | `GET …/shadow` | reports what it did differently |
//! | `DELETE …/shadow` | ends it, and reports for the last time |
//! | `POST /v1/plugins` | takes a plugin file as what stands for its name |
//! | `DELETE …/versions/{digest}` | removes a kept version that nobody uses |
//!
//! Every answer is how things stand then, with a `message` that says what was done. It owns the shape of requests; what is
//! posted must say that it is JSON, or a plugin file.

use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::Value;

use super::access::{Caller, Touched};
use super::error::ApiError;
use super::push::once;
use super::replays::json;
use super::{Host, Shared};
use crate::pipeline::{
    AddError, Digest, FindError, PluginFile, RemoveError, ShadowOf, VersionsError, VersionsRequest,
};

/// The header with a line of a `.sig` file.
const SIGNATURE: &str = "wasmill-signature";
/// Of the slices, unless the client asks for another share: what a shadow costs is clear then.
const SAMPLE_PERCENT: u8 = 10;

/// The body of a request about a version.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(default)]
    digest: Option<Digest>,
}

type Answer = Result<Json<Value>, ApiError>;

async fn ask<H: Host>(
    shared: &Shared<H>,
    caller: Caller,
    plugin: String,
    request: VersionsRequest,
) -> Answer {
    Ok(Json(shared.host.versions(caller.tenant, plugin, request).await.map_err(ApiError::versions)?))
}

async fn which<H>(shared: &Shared<H>, headers: &HeaderMap, body: Body) -> Result<Option<Digest>, ApiError> {
    let wanted = json(shared, headers, body).await?;
    if !wanted.is_object() {
        return Err(refuse("body: expected nothing, or a JSON object with digest".to_owned()));
    }
    let which: Which = serde_json::from_value(wanted).map_err(|error| refuse(format!("body: {error}")))?;
    Ok(which.digest)
}

pub(super) async fn show<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(plugin): Path<String>,
) -> Answer {
    ask(&shared, caller, plugin, VersionsRequest::Show).await
}

pub(super) async fn pin<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(plugin): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    ask(&shared, caller, plugin, VersionsRequest::Pin(which(&shared, &headers, body).await?)).await
}

pub(super) async fn unpin<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(plugin): Path<String>,
) -> Answer {
    ask(&shared, caller, plugin, VersionsRequest::Unpin).await
}

pub(super) async fn rollback<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(plugin): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    if which(&shared, &headers, body).await?.is_some() {
        let message = "body: a rollback goes to the version live before; promote takes a digest".to_owned();
        return Err(ApiError::Query { message });
    }
    ask(&shared, caller, plugin, VersionsRequest::Rollback).await
}

pub(super) async fn promote<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(plugin): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    ask(&shared, caller, plugin, VersionsRequest::Promote(which(&shared, &headers, body).await?)).await
}

/// The body of a shadow's start.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Candidate {
    digest: Digest,
    #[serde(default)]
    sample_percent: Option<u8>,
}

pub(super) async fn shadow<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(plugin): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let limits = shared.limits;
    let is_file = once(&headers, header::CONTENT_TYPE)?.eq_ignore_ascii_case("application/wasm");
    if is_file && !limits.plugin_uploads {
        return Err(ApiError::UploadsOff);
    }
    let request = if is_file {
        let sample_percent = sample(sample_of_query(query.as_deref())?)?;
        VersionsRequest::ShadowFile { file: file(&shared, &caller, body).await?, sample_percent }
    } else {
        let wanted = json(&shared, &headers, body).await?;
        let candidate: Candidate = serde_json::from_value(wanted).map_err(|error| {
            refuse(format!(
                "body: {error}; expected digest and perhaps sample_percent, or a file as application/wasm"
            ))
        })?;
        let sample_percent = sample(candidate.sample_percent)?;
        VersionsRequest::Shadow(ShadowOf { digest: candidate.digest, sample_percent })
    };
    ask(&shared, caller, plugin, request).await
}

fn sample_of_query(query: Option<&str>) -> Result<Option<u8>, ApiError> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(None) };
    let percent = query.strip_prefix("sample_percent=").and_then(|text| text.parse().ok());
    percent.map(Some).ok_or_else(|| refuse(format!("query {query:?}: expected sample_percent=1 to 100")))
}

fn sample(percent: Option<u8>) -> Result<u8, ApiError> {
    match percent.unwrap_or(SAMPLE_PERCENT) {
        percent @ 1..=100 => Ok(percent),
        percent => Err(refuse(format!("sample_percent {percent} is none, expected 1 to 100"))),
    }
}

fn refuse(message: String) -> ApiError {
    ApiError::Query { message }
}

/// A plugin file, with the room that it takes up.
async fn file<H: Host>(shared: &Shared<H>, caller: &Caller, body: Body) -> Result<PluginFile, ApiError> {
    let limits = shared.limits;
    let quota = shared.host.quota(&caller.tenant);
    let turn = quota.upload_turn().ok_or(ApiError::TooManyUploads)?;
    if let Some(announced) = body.size_hint().exact() {
        quota.takes_plugin(announced)?;
    }
    let reading = shared.bodies.read_other(&quota, body, limits.max_plugin, limits.read_timeout);
    let (wasm, held) = reading.await?;
    // Of one that comes in chunks nobody knew.
    quota.takes_plugin(wasm.len() as u64)?;
    Ok(PluginFile { wasm, room: Box::new((turn, held)) })
}

/// A plugin file that is to be used under the name in its manifest, or else in the query.
pub(super) async fn upload<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let limits = shared.limits;
    let kind = once(&headers, header::CONTENT_TYPE)?;
    if !kind.eq_ignore_ascii_case("application/wasm") {
        return Err(refuse(format!("content type {kind:?}: expected application/wasm")));
    }
    if !limits.plugin_uploads {
        return Err(ApiError::UploadsOff);
    }
    let name = match query.as_deref().filter(|query| !query.is_empty()) {
        None => None,
        Some(query) => match query.strip_prefix("name=") {
            Some(name) if !name.contains('&') => Some(name.to_owned()),
            _ => return Err(refuse(format!("query {query:?}: expected name, of a file without a manifest"))),
        },
    };
    let file = file(&shared, &caller, body).await?;
    let signature = signature(&headers);
    let answer =
        shared.host.upload(caller.tenant, name, file, signature).await.map_err(ApiError::versions)?;
    let touched = Touched(format!("/v1/plugins/{}", answer["plugin"].as_str().unwrap_or_default()));
    Ok((StatusCode::CREATED, Extension(touched), Json(answer)).into_response())
}

/// As a `.sig` file has them: each signature is a line, and a header of its own.
fn signature(headers: &HeaderMap) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all(SIGNATURE).iter().map(|line| line.as_bytes()).collect();
    (!lines.is_empty()).then(|| lines.join(&b'\n'))
}

pub(super) async fn remove<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path((plugin, digest)): Path<(String, String)>,
) -> Answer {
    let digest = digest
        .parse()
        .map_err(|_no_digest| refuse("digest: expected sha256: and 64 lower-case hex digits".to_owned()))?;
    ask(&shared, caller, plugin, VersionsRequest::Remove(digest)).await
}

pub(super) async fn report<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(plugin): Path<String>,
) -> Answer {
    ask(&shared, caller, plugin, VersionsRequest::ShadowReport).await
}

pub(super) async fn stop_shadow<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(plugin): Path<String>,
) -> Answer {
    ask(&shared, caller, plugin, VersionsRequest::ShadowStop).await
}

impl ApiError {
    fn versions(error: VersionsError) -> ApiError {
        let message = crate::pipeline::with_causes(&error);
        match error {
            VersionsError::NoPlugin { .. } => ApiError::NotFound { code: "no_plugin", message },
            VersionsError::NoVersion { error, .. } if matches!(*error, FindError::OtherName { .. }) => {
                ApiError::Unfit { message }
            }
            VersionsError::Remove(RemoveError::InUse { .. }) => ApiError::NotNow { code: "in_use", message },
            VersionsError::File(AddError::OfFile { .. }) => {
                ApiError::NotNow { code: "owned_by_file", message }
            }
            VersionsError::File(AddError::Nameless) => refuse(message),
            VersionsError::File(AddError::TooMany { .. }) => ApiError::NotNow { code: "quota_full", message },
            VersionsError::Quota(refusal) => ApiError::Quota(refusal),
            VersionsError::Remove(RemoveError::NoVersion { .. }) | VersionsError::NoVersion { .. } => {
                ApiError::NotFound { code: "no_version", message }
            }
            VersionsError::NoShadow { .. } => ApiError::NotFound { code: "no_shadow", message },
            VersionsError::Unused { .. } => ApiError::Unfit { message },
            VersionsError::NotNow { code, .. } => ApiError::NotNow { code, message },
            VersionsError::Changing => ApiError::Changing { message },
            VersionsError::Unfit { .. }
            | VersionsError::File(AddError::Refused { .. } | AddError::OtherName { .. }) => {
                ApiError::Unfit { message }
            }
            VersionsError::File(AddError::Store(_) | AddError::Compile { .. })
            | VersionsError::Remove(RemoveError::Store(_))
            | VersionsError::Catalog(_)
            | VersionsError::Closed
            | VersionsError::Stopping => ApiError::Failed { message },
        }
    }
}
