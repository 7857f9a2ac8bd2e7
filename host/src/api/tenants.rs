//! `/v1/tenants`: for operators.
//!
//! | route | does |
//! |---|---|
//! | `POST /v1/tenants` | makes one |
//! | `GET /v1/tenants`, `…/{name}` | shows them |
//! | `POST …/{name}/disable`, `…/enable` | its keys are of no use, or of use again |
//! | `DELETE …/{name}` | removes a disabled one that has no streams and that the configuration does not name, with its keys and what is left of former streams |
//!
//! The audit log, plugins, usage and dead letters of one that was removed stay on disk, and are put aside before another gets
//! the name.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use wasmill_control::{ControlError, TenantView};
use wasmill_tenant::{Quotas, TenantName};

use super::access::Touched;
use super::error::ApiError;
use super::keys::{controlled, shaped};
use super::streams::Query;
use super::{Host, Shared, now_ms};
use crate::pipeline::LeftError;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
}

/// A name in a path: one that is none is of no tenant.
pub(super) fn named(text: &str) -> Result<TenantName, ApiError> {
    TenantName::new(text).map_err(|_no_name| ApiError::NotFound {
        code: "no_tenant",
        message: format!("there is no tenant {:?}", text.chars().take(65).collect::<String>()),
    })
}

/// A tenant, and whose it is.
fn shown(host: &impl Host, tenant: &TenantView) -> Value {
    let of_file = host.file_of(&tenant.name).is_some();
    let mut shown = json!(tenant);
    shown["owner"] = json!(if of_file { "file" } else { "api" });
    shown["left_file"] = json!(tenant.filed && !of_file);
    shown
}

/// Whether what is left of a tenant's streams is discarded with what was not delivered.
fn forced(query: Option<&str>) -> Result<bool, ApiError> {
    Ok(Query::parse(query, &["force"])?.force)
}

impl ApiError {
    fn left(error: LeftError) -> ApiError {
        let message = error.to_string();
        match error {
            LeftError::Changing { .. } => ApiError::Changing { message },
            LeftError::Undelivered { .. } => ApiError::NotNow { code: "not_drained", message },
            LeftError::Failed { .. } => ApiError::Failed { message },
        }
    }
}

pub(super) async fn create<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let (control, force) = (shared.access.managed()?, forced(query.as_deref())?);
    let Wanted { name } = shaped(&shared, &headers, body, "name").await?;
    let name = TenantName::new(&name).map_err(|error| ApiError::Query { message: error.to_string() })?;
    let touched = Touched(format!("/v1/tenants/{name}"));
    if control.tenant_disabled(&name).is_none() {
        // What the removal of another one of the name has left.
        shared.host.forget_streams(&name, force).await.map_err(ApiError::left)?;
        shared.host.forget_plugins(&name).await.map_err(ApiError::left)?;
        shared.host.forget_usage(&name).await.map_err(ApiError::left)?;
    }
    let audit = Arc::clone(&shared.access.audit);
    let tenant = controlled(control, move |control| control.create_tenant(&audit, &name, now_ms()));
    let tenant = tenant.await?;
    let answer = Json(json!({ "tenant": shown(&*shared.host, &tenant) }));
    Ok((StatusCode::CREATED, Extension(touched), answer).into_response())
}

pub(super) async fn list<H: Host>(State(shared): State<Arc<Shared<H>>>) -> Result<Json<Value>, ApiError> {
    let tenants = shared.access.managed()?.tenants(now_ms());
    let tenants: Vec<Value> = tenants.iter().map(|tenant| shown(&*shared.host, tenant)).collect();
    Ok(Json(json!({ "tenants": tenants })))
}

pub(super) async fn get<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let tenant = shared.access.managed()?.tenant(&named(&name)?, now_ms()).map_err(ApiError::Control)?;
    Ok(Json(json!({ "tenant": shown(&*shared.host, &tenant) })))
}

pub(super) async fn disable<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    set_disabled(&shared, &name, true).await
}

pub(super) async fn enable<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    set_disabled(&shared, &name, false).await
}

async fn set_disabled<H: Host>(
    shared: &Shared<H>,
    name: &str,
    disabled: bool,
) -> Result<Json<Value>, ApiError> {
    let (control, name) = (shared.access.managed()?, named(name)?);
    let tenant = controlled(control, move |control| control.disable_tenant(&name, disabled, now_ms()));
    Ok(Json(json!({ "tenant": shown(&*shared.host, &tenant.await?) })))
}

pub(super) async fn delete<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let (control, name) = (shared.access.managed()?, named(&name)?);
    let force = forced(query.as_deref())?;
    control.tenant(&name, now_ms()).map_err(ApiError::Control)?;
    if let Some(file) = shared.host.file_of(&name) {
        return Err(ApiError::Control(ControlError::TenantOfFile { name, file }));
    }
    // Before it goes: records that were not delivered are a reason to keep it.
    shared.host.forget_streams(&name, force).await.map_err(ApiError::left)?;
    let streams = shared.host.streams_of(&name);
    let deleted = name.clone();
    let host = Arc::clone(&shared.host);
    controlled(control, move |control| {
        // Another one of this name begins without.
        // The file may have been read again meanwhile.
        let file = || host.file_of(&deleted);
        control.delete_tenant(&deleted, streams, file, || host.set_quotas(&deleted, &Quotas::default()))
    })
    .await?;
    // Where that fails it is logged, and tried again before another one gets the name.
    let _logged = shared.host.forget_usage(&name).await;
    let _logged = shared.host.forget_plugins(&name).await;
    Ok(Json(json!({ "deleted": name })))
}
