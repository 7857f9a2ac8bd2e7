//! `/v1/plugins/{name}`: the versions of a plugin, and which of them is live.
//!
//! | route | does |
//! |---|---|
//! | `GET …` | shows the versions, and what was decided about them |
//! | `POST …/pin` | keeps a version live, whatever comes into the plugin directory |
//! | `DELETE …/pin` | makes live what the plugin directory has |
//! | `POST …/rollback` | makes the version live that was live before, and pins it |
//! | `POST …/promote` | makes a version live: the shadow, if none is named |
//!
//! Every answer is how things stand then, with a `message` that says what was done. It owns the shape of requests; what is
//! posted must say that it is JSON.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use wasmill_catalog::{AddError, FindError};
use wasmill_transform::Digest;

use super::error::ApiError;
use super::replays::json;
use super::{Host, Shared};
use crate::pipeline::{VersionsError, VersionsRequest};

/// The body of a request about a version.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(default)]
    digest: Option<Digest>,
}

type Answer = Result<Json<Value>, ApiError>;

async fn ask<H: Host>(shared: &Shared<H>, plugin: String, request: VersionsRequest) -> Answer {
    Ok(Json(shared.host.versions(plugin, request).await.map_err(ApiError::versions)?))
}

async fn which<H>(shared: &Shared<H>, headers: &HeaderMap, body: Body) -> Result<Option<Digest>, ApiError> {
    let wanted = json(shared, headers, body).await?;
    let refuse = |message: String| ApiError::Query { message };
    if !wanted.is_object() {
        return Err(refuse("body: expected nothing, or a JSON object with digest".to_owned()));
    }
    let which: Which = serde_json::from_value(wanted).map_err(|error| refuse(format!("body: {error}")))?;
    Ok(which.digest)
}

pub(super) async fn show<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Path(plugin): Path<String>,
) -> Answer {
    ask(&shared, plugin, VersionsRequest::Show).await
}

pub(super) async fn pin<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Path(plugin): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    ask(&shared, plugin, VersionsRequest::Pin(which(&shared, &headers, body).await?)).await
}

pub(super) async fn unpin<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Path(plugin): Path<String>,
) -> Answer {
    ask(&shared, plugin, VersionsRequest::Unpin).await
}

pub(super) async fn rollback<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Path(plugin): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    if which(&shared, &headers, body).await?.is_some() {
        let message = "body: a rollback goes to the version live before; promote takes a digest".to_owned();
        return Err(ApiError::Query { message });
    }
    ask(&shared, plugin, VersionsRequest::Rollback).await
}

pub(super) async fn promote<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Path(plugin): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    ask(&shared, plugin, VersionsRequest::Promote(which(&shared, &headers, body).await?)).await
}

impl ApiError {
    fn versions(error: VersionsError) -> ApiError {
        let message = crate::pipeline::with_causes(&error);
        match error {
            VersionsError::NoPlugin { .. } => ApiError::NotFound { code: "no_plugin", message },
            VersionsError::NoVersion { error, .. } if matches!(*error, FindError::OtherName { .. }) => {
                ApiError::Unfit { message }
            }
            VersionsError::NoVersion { .. } => ApiError::NotFound { code: "no_version", message },
            VersionsError::Wrong(_) => ApiError::Query { message },
            VersionsError::Unfit { .. }
            | VersionsError::File(AddError::Refused { .. } | AddError::OtherName { .. }) => {
                ApiError::Unfit { message }
            }
            VersionsError::File(AddError::Store(_) | AddError::Compile { .. })
            | VersionsError::Catalog(_)
            | VersionsError::Stopping => ApiError::Failed { message },
        }
    }
}
