//! `/v1/streams/{name}`: the definition of a stream.
//!
//! | route | does |
//! |---|---|
//! | `PUT` | makes or replaces the stream; the body is what its table in the configuration would be |
//! | `GET`, `…?version=N` | shows it, with its state and whose it is |
//! | `GET …/versions` | the last definitions, who made each and when |
//! | `DELETE` | removes it |
//!
//! It owns conditions (`If-Match`, `If-None-Match`), queries and status codes. A change is answered when it is done: it
//! waits at most `within`, and what could not be drained by then goes on as it was.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::access::{Caller, Peer, Touched};
use super::error::ApiError;
use super::keys::span;
use super::push::once;
use super::replays::json;
use super::{Host, Shared};
use crate::pipeline::{ChangeError, DefineAnswer, DefineError, DefineRequest, StartError, When};

/// How long a change waits for what is stored to be delivered, unless the client asks for another time.
const WITHIN: Duration = Duration::from_secs(30);
/// The same where it is to be discarded.
const WITHIN_FORCED: Duration = Duration::from_secs(2);
const WITHIN_MAX: Duration = Duration::from_secs(600);

fn refuse(message: String) -> ApiError {
    ApiError::Query { message }
}

/// What a query says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    dry_run: bool,
    pub(super) force: bool,
    within: Option<Duration>,
    version: Option<u64>,
}

impl Query {
    /// `known`: what this route takes.
    pub(super) fn parse(raw: Option<&str>, known: &[&str]) -> Result<Query, ApiError> {
        let mut query = Query::default();
        let flag = |name: &str, text: &str| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(refuse(format!("{name} {text:?}: expected true or false"))),
        };
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                let expected = if known.is_empty() { "none".to_owned() } else { known.join(" or ") };
                return Err(refuse(format!("there is no parameter {name:?} here, expected {expected}")));
            }
            match name {
                "dry_run" => query.dry_run = flag(name, text)?,
                "force" => query.force = flag(name, text)?,
                "within" => query.within = Some(span(name, text, WITHIN_MAX)?),
                _ => {
                    let version = text.parse().ok();
                    query.version =
                        Some(version.ok_or_else(|| refuse(format!("version {text:?} is no number")))?);
                }
            }
        }
        Ok(query)
    }
}

/// The condition in the headers.
fn when(headers: &HeaderMap) -> Result<When, ApiError> {
    let (matches, none) = (once(headers, header::IF_MATCH)?, once(headers, header::IF_NONE_MATCH)?);
    match (matches.trim(), none.trim()) {
        ("", "") => Ok(When::Unsaid),
        ("", "*") => Ok(When::New),
        ("", other) => Err(refuse(format!("if-none-match {other:?}: expected *, to make what is not there"))),
        ("*", "") => Ok(When::There),
        (tag, "") => {
            let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let version = version.and_then(|version| version.parse().ok());
            version.map(When::Version).ok_or_else(|| {
                refuse(format!("if-match {tag:?}: expected the ETag of one version, such as \"3\", or *"))
            })
        }
        _ => Err(refuse("if-match and if-none-match: expected one of them".to_owned())),
    }
}

fn answer(status: StatusCode, answer: DefineAnswer) -> Response {
    let mut response = (status, Json(answer.body)).into_response();
    if let Some(tag) = answer.version.and_then(|version| format!("\"{version}\"").parse().ok()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn actor(caller: &Caller, peer: Option<Extension<Peer>>) -> wasmill_control::Actor {
    caller.actor(&peer.map(|Extension(peer)| peer).unwrap_or_default())
}

pub(super) async fn put<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    peer: Option<Extension<Peer>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), &["dry_run", "within"])?;
    let when = when(&headers)?;
    let definition = json(&shared, &headers, body).await?;
    let (dry_run, within) = (query.dry_run, query.within.unwrap_or(WITHIN));
    let by = actor(&caller, peer);
    let request = DefineRequest::Put { definition, origin: None, when, dry_run, within, by };
    let target = format!("/v1/streams/{name}?dry_run=true");
    let done = shared.host.define(caller.tenant, name, request).await;
    let mut response = match done.map_err(ApiError::define) {
        Ok(done) if done.created => answer(StatusCode::CREATED, done),
        Ok(done) => answer(StatusCode::OK, done),
        Err(error) => error.into_response(),
    };
    if dry_run {
        // Nothing was changed, and the log says so.
        response.extensions_mut().insert(Touched(target));
    }
    Ok(response)
}

pub(super) async fn get<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Query { version, .. } = Query::parse(query.as_deref(), &["version"])?;
    let shown = shared.host.define(caller.tenant, name, DefineRequest::Show { version }).await;
    Ok(answer(StatusCode::OK, shown.map_err(ApiError::define)?))
}

pub(super) async fn versions<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let shown = shared.host.define(caller.tenant, name, DefineRequest::Versions).await;
    Ok(answer(StatusCode::OK, shown.map_err(ApiError::define)?))
}

pub(super) async fn delete<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    peer: Option<Extension<Peer>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query { force, within, .. } = Query::parse(query.as_deref(), &["force", "within"])?;
    let within = within.unwrap_or(if force { WITHIN_FORCED } else { WITHIN });
    let when = when(&headers)?;
    if when == When::New {
        return Err(refuse("if-none-match: what is not there cannot be removed".to_owned()));
    }
    let request = DefineRequest::Delete { when, force, within, by: actor(&caller, peer) };
    let done = shared.host.define(caller.tenant, name, request).await;
    Ok(answer(StatusCode::OK, done.map_err(ApiError::define)?))
}

impl ApiError {
    fn define(error: DefineError) -> ApiError {
        let message = crate::pipeline::with_causes(&error);
        match error {
            DefineError::NoStream { .. } => ApiError::NotFound { code: "no_stream", message },
            DefineError::NoVersion { .. } => ApiError::NotFound { code: "no_version", message },
            DefineError::OfFile { .. } | DefineError::Leaving { .. } => {
                ApiError::NotNow { code: "owned_by_file", message }
            }
            DefineError::Unsaid { .. } => ApiError::NoCondition { message },
            DefineError::Stale { .. } => ApiError::Stale { message },
            DefineError::Flaws(flaws) => ApiError::Definition { message, flaws },
            DefineError::Control(error) => ApiError::Control(error),
            DefineError::Change(error) => match error {
                ChangeError::NoStream { .. } => ApiError::NotFound { code: "no_stream", message },
                ChangeError::Exists { .. } => ApiError::Stale { message },
                ChangeError::Invalid(flaws) => ApiError::Definition { message, flaws },
                ChangeError::NotDrained { .. } => ApiError::NotNow { code: "not_drained", message },
                ChangeError::Letters { .. } => ApiError::NotNow { code: "has_dead_letters", message },
                ChangeError::Idle { .. } => ApiError::NotNow { code: "not_running", message },
                ChangeError::Start(
                    StartError::Output { .. } | StartError::Listen { .. } | StartError::Catalog(_),
                ) => ApiError::Unfit { message },
                ChangeError::Control(error) => ApiError::Control(error),
                ChangeError::Quota(refusal) => ApiError::Quota(refusal),
                ChangeError::Descriptors(_) => ApiError::NotNow { code: "too_many_files", message },
                ChangeError::Busy { .. } => ApiError::Changing { message },
                ChangeError::Start(_)
                | ChangeError::Interrupted { .. }
                | ChangeError::Lost { .. }
                | ChangeError::Remains { .. } => ApiError::Failed { message },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(header::HeaderName, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn condition_is_one_version_or_none_or_any() {
        let of = |lines: &[(header::HeaderName, &str)]| when(&headers(lines));
        assert_eq!(of(&[]).unwrap(), When::Unsaid);
        assert_eq!(of(&[(header::IF_MATCH, "\"17\"")]).unwrap(), When::Version(17));
        assert_eq!(of(&[(header::IF_MATCH, "*")]).unwrap(), When::There);
        assert_eq!(of(&[(header::IF_NONE_MATCH, "*")]).unwrap(), When::New);
        for wrong in [
            &[(header::IF_MATCH, "17")][..],
            &[(header::IF_MATCH, "W/\"17\"")],
            &[(header::IF_MATCH, "\"1\", \"2\"")],
            &[(header::IF_NONE_MATCH, "\"1\"")],
            &[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")],
        ] {
            assert!(matches!(of(wrong), Err(ApiError::Query { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn query_takes_what_its_route_has() {
        let query = Query::parse(Some("force=true&within=5s"), &["force", "within"]).unwrap();
        assert_eq!(query, Query { force: true, within: Some(Duration::from_secs(5)), ..Query::default() });
        for wrong in ["force=yes", "within=5", "within=11m", "version=3", "x"] {
            assert!(matches!(Query::parse(Some(wrong), &["force", "within"]), Err(ApiError::Query { .. })));
        }
    }
}
