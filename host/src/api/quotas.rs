//! What tenants may use, and how much of it is used.
//!
//! | route | does |
//! |---|---|
//! | `GET /v1/quotas` | shows the quotas of one's own tenant |
//! | `GET /v1/tenants/{name}/quotas` | shows what an operator has set for a tenant, with an `ETag` |
//! | `PUT /v1/tenants/{name}/quotas` | sets them, durably and at once; `If-Match` refuses what others have changed meanwhile |
//!
//! What the configuration says of a tenant by name is changed there, and not here.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use wasmill_tenant::{Quota, Quotas};

use super::access::Caller;
use super::error::ApiError;
use super::keys::controlled;
use super::push::once;
use super::replays::json_given;
use super::tenants::named;
use super::{Host, Shared, now_ms};

const EXPECTED: &str = "quotas by name, such as {\"streams\": 10}";

/// The same for the same quotas.
fn etag(quotas: &Quotas) -> String {
    let text = serde_json::to_vec(quotas).unwrap_or_default();
    format!("\"{:08x}\"", crc32c::crc32c(&text))
}

/// Whether a header `If-Match` speaks of these.
fn fits(wanted: &str, quotas: &Quotas) -> bool {
    wanted.is_empty()
        || wanted.split(',').any(|tag| matches!(tag.trim(), tag if tag == "*" || tag == etag(quotas)))
}

pub(super) async fn own<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Extension(caller): Extension<Caller>,
) -> Json<Value> {
    let quota = shared.host.quota(&caller.tenant);
    let limits = serde_json::to_value(&*quota.limits()).unwrap_or_default();
    let of_file = serde_json::to_value(shared.host.quotas_of_file(&caller.tenant)).unwrap_or_default();
    let set = shared.access.control.quotas(&caller.tenant).unwrap_or_default();
    let set = serde_json::to_value(set).unwrap_or_default();
    let used = shared.host.quotas_used(&caller.tenant);
    let shown = quota.refusals().map(|(kind, refused)| {
        let name = kind.as_str();
        let set_by = if of_file.get(name).is_some() {
            json!("configuration")
        } else if set.get(name).is_some() {
            json!("operator")
        } else {
            Value::Null
        };
        json!({
            "quota": name,
            "limit": limits.get(name).cloned(),
            "unit": if kind == Quota::Cpu { "cores" } else { kind.unit() },
            "set_by": set_by,
            "used": used.get(name).cloned(),
            "refused": refused,
        })
    });
    Json(json!({ "tenant": caller.tenant, "quotas": shown.collect::<Vec<_>>() }))
}

fn shown(name: &str, quotas: &Quotas) -> Response {
    ([(header::ETAG, etag(quotas))], Json(json!({ "tenant": name, "quotas": quotas }))).into_response()
}

pub(super) async fn get<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let quotas = shared.access.managed()?.quotas(&named(&name)?).map_err(ApiError::Control)?;
    Ok(shown(&name, &quotas))
}

pub(super) async fn set<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let (control, tenant) = (shared.access.managed()?, named(&name)?);
    let if_match = once(&headers, header::IF_MATCH)?;
    let refuse = |why: &dyn std::fmt::Display| ApiError::Query {
        message: format!("body: {why}; expected {EXPECTED}, or {{}} to unset all"),
    };
    let wanted = json_given(&shared, &headers, body).await?.ok_or_else(|| refuse(&"it is empty"))?;
    // An array would be read as fields in their order.
    if !wanted.is_object() {
        return Err(refuse(&"it is no object"));
    }
    let wanted: Quotas = serde_json::from_value(wanted).map_err(|error| refuse(&error))?;
    let of_file = shared.host.quotas_of_file(&tenant).common(&wanted);
    if !of_file.is_empty() {
        let names: Vec<&str> = of_file.iter().map(|quota| quota.as_str()).collect();
        let message = format!(
            "the configuration sets {} in [tenants.{tenant}.quota]: change it there, or take it out there",
            names.join(", ")
        );
        return Err(ApiError::NotNow { code: "set_by_configuration", message });
    }
    let (host, set) = (Arc::clone(&shared.host), wanted.clone());
    let changed = controlled(control, move |control| {
        let then = |quotas: &Quotas| host.set_quotas(&tenant, quotas);
        control.set_quotas(&tenant, set, |before| fits(&if_match, before), then, now_ms())
    });
    changed.await?;
    Ok(shown(&name, &wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_tells_quotas_apart() {
        let (none, some) = (Quotas::default(), Quotas { streams: Some(1), ..Quotas::default() });
        assert_ne!(etag(&none), etag(&some));
        for fitting in ["", "*", &etag(&some), &format!("\"x\", {}", etag(&some))] {
            assert!(fits(fitting, &some), "{fitting}");
        }
        assert!(!fits(&etag(&none), &some) && !fits("\"\"", &some));
    }
}
