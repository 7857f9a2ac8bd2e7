//! `/v1/keys` and `/v1/whoami`: the keys of one's tenant.
//!
//! | route | does |
//! |---|---|
//! | `POST /v1/keys` | makes a key; its text is in this answer and in no other |
//! | `GET /v1/keys`, `…/{id}` | shows what they may do, until when, and when they were last used |
//! | `POST …/{id}/rotate` | gives it a new secret; the one before is good for a grace time |
//! | `DELETE …/{id}` | ends it, at once |
//!
//! Nobody makes, sees or changes a key that may do more than his own.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wasmill_control::{Control, ControlError, KeyView, SigningPair};
use wasmill_tenant::{KeyText, NewKey, Scope, Scopes};

use super::access::{Caller, Touched};
use super::error::ApiError;
use super::replays::json as json_body;
use super::{Host, Shared, now_ms};

/// How long the secret before is good after a rotation, unless the client asks for another time.
const GRACE: Duration = Duration::from_secs(3600);
const GRACE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
const EXPIRY_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    scopes: Vec<String>,
    #[serde(default)]
    expires_in: Option<String>,
    #[serde(default)]
    signs: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    #[serde(default)]
    grace: Option<String>,
}

fn refuse(message: String) -> ApiError {
    ApiError::Query { message }
}

/// A body of JSON that has this shape.
pub(super) async fn shaped<H, T: DeserializeOwned>(
    shared: &Shared<H>,
    headers: &HeaderMap,
    body: Body,
    expected: &str,
) -> Result<T, ApiError> {
    let value = json_body(shared, headers, body).await?;
    serde_json::from_value(value).map_err(|error| refuse(format!("body: {error}; expected {expected}")))
}

/// Does something that may wait for the disk.
pub(super) async fn controlled<T: Send + 'static>(
    control: &Arc<Control>,
    change: impl FnOnce(&Control) -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ApiError> {
    let control = Arc::clone(control);
    let done = tokio::task::spawn_blocking(move || change(&control)).await;
    let done = done.map_err(|error| ApiError::Failed { message: error.to_string() })?;
    done.map_err(ApiError::Control)
}

/// `90s`, `5m`, `24h`, `30d`.
pub(super) fn span(name: &str, text: &str, max: Duration) -> Result<Duration, ApiError> {
    let expected = || {
        let units = [(86_400, "d"), (3600, "h"), (60, "m")];
        let (seconds, unit) =
            units.into_iter().find(|(seconds, _)| max.as_secs().is_multiple_of(*seconds)).unwrap_or((1, "s"));
        let most = max.as_secs() / seconds;
        refuse(format!(
            "{name} {text:?}: expected a number and a unit, such as 90s, 5m, 24h or 30d, at most {most}{unit}"
        ))
    };
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    let seconds = number.parse().ok().and_then(|number: u64| number.checked_mul(seconds));
    seconds.map(Duration::from_secs).filter(|span| *span <= max).ok_or_else(expected)
}

/// A key whose text is to be shown, and what it signs with.
struct Made {
    text: KeyText,
    key: KeyView,
    signing: Option<SigningPair>,
}

impl Made {
    fn of(control: &Control, (text, key): (KeyText, KeyView)) -> Result<Made, ControlError> {
        let signing = control.signing_pair(&key.tenant, &key.id)?;
        Ok(Made { text, key, signing })
    }

    /// The answer that has the secrets of a key in it.
    fn into_response(self, status: StatusCode) -> Response {
        let touched = Touched(format!("/v1/keys/{}", self.key.id));
        let mut body = json!({ "key": self.key, "secret": self.text.reveal() });
        if let Some(signing) = self.signing {
            body["signing"] = json!(signing);
        }
        (status, Extension(touched), [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
    }
}

pub(super) async fn create<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let control = shared.access.managed()?;
    let wanted: Wanted =
        shaped(&shared, &headers, body, "name, scopes, and perhaps expires_in and signs").await?;
    let scopes = wanted.scopes.iter().map(|scope| scope.parse::<Scope>());
    let scopes: Scopes = scopes.collect::<Result<_, _>>().map_err(|error| refuse(error.to_string()))?;
    if !caller.scopes.cover(scopes) {
        return Err(refuse(format!("scopes {scopes}: a key cannot make one that may do more")));
    }
    if scopes.is_operator() && !caller.tenant.is_default() {
        return Err(refuse("scope operator: keys of operators belong to the tenant default".to_owned()));
    }
    let now = now_ms();
    let expires_in =
        wanted.expires_in.as_deref().map(|text| span("expires_in", text, EXPIRY_MAX)).transpose()?;
    let expires_ms = expires_in.map(|span| now + span.as_secs() * 1000);
    let new = NewKey { name: wanted.name, scopes, expires_ms, signs: wanted.signs };
    let made =
        controlled(control, move |control| Made::of(control, control.create_key(&caller.tenant, new, now)?));
    Ok(made.await?.into_response(StatusCode::CREATED))
}

pub(super) async fn list<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ApiError> {
    let control = shared.access.managed()?;
    let keys = control.keys(&caller.tenant, caller.scopes, now_ms()).map_err(ApiError::Control)?;
    Ok(Json(json!({ "keys": keys })))
}

pub(super) async fn get<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let control = shared.access.managed()?;
    let key = control.key(&caller.tenant, &id, caller.scopes, now_ms()).map_err(ApiError::Control)?;
    Ok(Json(json!({ "key": key })))
}

pub(super) async fn rotate<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let control = shared.access.managed()?;
    let Rotation { grace } = shaped(&shared, &headers, body, "nothing, or grace").await?;
    let grace = grace.map_or(Ok(GRACE), |text| span("grace", &text, GRACE_MAX))?;
    let rotated = controlled(control, move |control| {
        Made::of(control, control.rotate_key(&caller.tenant, &id, grace, caller.scopes, now_ms())?)
    });
    Ok(rotated.await?.into_response(StatusCode::OK))
}

pub(super) async fn revoke<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let control = shared.access.managed()?;
    let revoked =
        controlled(control, move |control| control.revoke_key(&caller.tenant, &id, caller.scopes, now_ms()));
    Ok(Json(json!({ "key": revoked.await? })))
}

pub(super) async fn whoami(Extension(caller): Extension<Caller>) -> Json<Value> {
    let Caller { tenant, home, scopes, key, name, subject } = caller;
    Json(json!({
        "tenant": tenant, "key_of": home, "scopes": scopes, "key": key, "name": name, "subject": subject,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_has_a_number_a_unit_and_a_bound() {
        assert_eq!(span("grace", "2h", GRACE_MAX).unwrap(), Duration::from_secs(7200));
        assert_eq!(span("grace", "30d", GRACE_MAX).unwrap(), GRACE_MAX);
        for wrong in ["", "5", "h", "-1h", "31d", "1w", "99999999999999999999d", "1.5h"] {
            let error = span("grace", wrong, GRACE_MAX).unwrap_err().to_string();
            assert!(error.contains("grace") && error.contains("at most 30d"), "{error}");
        }
        for (max, most) in [(600, "at most 10m"), (90, "at most 90s"), (7200, "at most 2h")] {
            let error = span("within", "1w", Duration::from_secs(max)).unwrap_err().to_string();
            assert!(error.ends_with(most), "{error}");
        }
    }
}
