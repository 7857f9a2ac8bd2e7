//! What is written in the audit log of a request.

use std::sync::Arc;

use axum::response::Response;
use wasmill_control::{Actor, AuditLog, NewEntry, StoreError};
use wasmill_tenant::TenantName;

use super::RouteHead;
use crate::api::error::ErrorCode;
use crate::api::now_ms;

/// The path of what a request made, where its own does not say it; an extension of its answer.
#[derive(Clone, Debug)]
pub(in crate::api) struct Touched(pub(in crate::api) String);

pub(super) fn entry(
    head: RouteHead,
    target: String,
    who: Actor,
    reason: Option<String>,
    answer: &Response,
) -> NewEntry {
    let code = answer.extensions().get::<ErrorCode>().map(|ErrorCode(code)| (*code).to_owned());
    NewEntry {
        at_ms: now_ms(),
        who,
        method: head.method.to_owned(),
        route: head.path.to_owned(),
        target: shortened(&target),
        status: answer.status().as_u16(),
        code,
        reason,
    }
}

/// Longest name of anything that a path names.
const NAME_MAX: usize = 64;
/// What is shown of what is longer: of a key its id.
const SHOWN: usize = 16;

/// A path whose steps are no longer than names are: what is longer is none, and may be a secret in the wrong place; so may
/// be what begins as a key does.
fn shortened(path: &str) -> String {
    let is_secret = |step: &str| step.len() > NAME_MAX || (step.starts_with("wm_") && step.len() > SHOWN);
    let step = |step: &str| match is_secret(step) {
        true => format!("{}..", &step[..step.floor_char_boundary(SHOWN)]),
        false => step.to_owned(),
    };
    path.split('/').map(step).collect::<Vec<_>>().join("/")
}

/// Of an operation of the Firehose API, by its name and the stream's.
pub(in crate::api) fn note(
    access: &super::Access,
    tenant: TenantName,
    (operation, stream): (&str, String),
    who: Actor,
    reason: Option<String>,
    answer: &Response,
    is_change: bool,
) -> impl Future<Output = ()> + Send + use<> {
    let head = RouteHead { method: "POST", path: "/", wants: super::Wants::Signature };
    let target = if stream.is_empty() { format!("/{operation}") } else { format!("/{operation}/{stream}") };
    let (entry, audit) = (entry(head, target, who, reason, answer), Arc::clone(&access.audit));
    async move {
        match is_change {
            true => changed(audit, tenant, entry).await,
            false => refused(audit, tenant, entry).await,
        }
    }
}

pub(super) async fn changed(audit: Arc<AuditLog>, tenant: TenantName, entry: NewEntry) {
    write(tenant, entry, move |tenant, entry| audit.changed(tenant, entry)).await;
}

pub(super) async fn refused(audit: Arc<AuditLog>, tenant: TenantName, entry: NewEntry) {
    write(tenant, entry, move |tenant, entry| audit.refused(tenant, entry)).await;
}

/// What cannot be written is at least in the program's own log.
async fn write(
    tenant: TenantName,
    entry: NewEntry,
    append: impl FnOnce(&TenantName, NewEntry) -> Result<(), StoreError> + Send + 'static,
) {
    let (own, spare) = (tenant.clone(), entry.clone());
    let written = tokio::task::spawn_blocking(move || append(&own, entry)).await;
    let error = match written {
        Ok(Ok(())) => return,
        Ok(Err(error)) => crate::pipeline::with_causes(&error),
        Err(error) => error.to_string(),
    };
    let NewEntry { who, method, route, target, status, .. } = spare;
    tracing::error!(
        error, %tenant, key = who.key, subject = who.subject, address = who.address, method, route, target, status,
        "cannot write to the audit log"
    );
}

#[cfg(test)]
mod tests {
    use wasmill_tenant::KeyText;

    use super::*;

    #[test]
    fn key_in_a_path_is_cut_to_its_id_also_when_its_end_is_missing() {
        let key = KeyText::draw().unwrap();
        for text in [key.reveal(), &key.reveal()[..64], &key.reveal()[..59]] {
            let shown = shortened(&format!("/v1/keys/{text}/rotate"));
            assert_eq!(shown, format!("/v1/keys/wm_{}_../rotate", key.id()));
        }
        let path = format!("/v1/streams/{}/records", "n".repeat(64));
        assert_eq!(shortened(&path), path);
        assert_eq!(shortened(&format!("/{}", "ü".repeat(40))), format!("/{}..", "ü".repeat(8)));
    }
}
