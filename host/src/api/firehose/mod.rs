//! `POST /`: the API of Amazon Data Firehose, so that whatever speaks to it speaks to this host.
//!
//! A delivery stream is a stream of the tenant whose key signed the request. The protocol is the `firehose` crate's; here it
//! is decided who asks (`caller`), puts are appended (`puts`), and requests of control become definitions of streams
//! (`streams`, `plan`); `migration` makes definitions of what AWS describes. What changes a stream, and what is refused, is in
//! the audit log under the name of its operation.

mod caller;
mod conversion;
mod foreign;
mod migration;
mod plan;
mod puts;
mod streams;

#[cfg(test)]
mod matrix_tests;

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use ring::rand::{SecureRandom, SystemRandom};
use wasmill_firehose::wire::{CONTENT_TYPE, Kind, Operation, Refusal, TARGET_HEADER};
use wasmill_tenant::{Scope, TenantName};

use super::access::{self, Caller, Peer};
use super::{Host, Shared};

pub(super) use caller::Signatures;
pub use migration::{Functions, Left, MigrateError, Migrated, migrate};

/// By which a client and this host speak of one request.
const REQUEST_ID: &str = "x-amzn-requestid";

/// What an operation needs of its caller.
fn scope(operation: Operation) -> Scope {
    match operation {
        Operation::PutRecord | Operation::PutRecordBatch => Scope::Push,
        Operation::DescribeDeliveryStream
        | Operation::ListDeliveryStreams
        | Operation::ListTagsForDeliveryStream => Scope::Read,
        Operation::CreateDeliveryStream
        | Operation::DeleteDeliveryStream
        | Operation::StartDeliveryStreamEncryption
        | Operation::StopDeliveryStreamEncryption
        | Operation::TagDeliveryStream
        | Operation::UntagDeliveryStream
        | Operation::UpdateDestination => Scope::Admin,
    }
}

/// A request that goes no further, with what the audit log says of it.
struct Refused {
    refusal: Refusal,
    tenant: TenantName,
    key: Option<String>,
    reason: Option<String>,
}

impl Refused {
    fn new(refusal: Refusal, reason: impl ToString) -> Refused {
        Refused { refusal, tenant: TenantName::default_tenant(), key: None, reason: Some(reason.to_string()) }
    }
}

pub(super) async fn answer<H: Host>(
    State(shared): State<Arc<Shared<H>>>,
    peer: Option<Extension<Peer>>,
    request: Request,
) -> Response {
    let peer = peer.map(|Extension(peer)| peer).unwrap_or_default();
    let target = request.headers().get(TARGET_HEADER).and_then(|target| target.to_str().ok());
    let operation = Operation::of(target);
    let name = operation.as_ref().map_or("?", |operation| operation.name());
    let identified = match caller::identify(&shared, &peer, request).await {
        Ok(found) => found,
        Err(refused) => {
            let answer = respond(Err(refused.refusal));
            let actor = wasmill_control::Actor {
                key: refused.key,
                address: peer.address.to_string(),
                ..wasmill_control::Actor::default()
            };
            let access = &shared.access;
            access::note(
                access,
                refused.tenant,
                (name, String::new()),
                actor,
                refused.reason,
                &answer,
                false,
            )
            .await;
            return answer;
        }
    };
    let operation = match operation {
        Ok(operation) => operation,
        Err(refusal) => return respond(Err(refusal)),
    };
    let (caller, body) = (identified.caller.clone(), identified.body.clone());
    let wanted = scope(operation);
    if shared.access.keys && !caller.scopes.allow(wanted) {
        let firehose = shared.host.firehose();
        let arn = wasmill_firehose::description::arn(&firehose.region, &firehose.account, "*");
        let user = caller.key.clone().unwrap_or_default();
        let answer = respond(Err(Refusal::access_denied(&user, operation, &arn)));
        let reason = Some(format!("the key has not the scope {wanted}"));
        let (tenant, actor) = (caller.tenant.clone(), caller.actor(&peer));
        access::note(&shared.access, tenant, (name, String::new()), actor, reason, &answer, false).await;
        return answer;
    }
    match operation {
        Operation::PutRecord => respond(puts::record(&shared, &caller, body).await),
        Operation::PutRecordBatch => respond(puts::batch(&shared, &caller, body).await),
        read if wanted == Scope::Read => respond(streams::read(&shared, &caller, read, &body).await),
        change => changed(shared, caller, peer, change, body).await,
    }
}

/// A client that goes away must not leave a change behind of which nothing is written.
async fn changed<H: Host>(
    shared: Arc<Shared<H>>,
    caller: Caller,
    peer: Peer,
    operation: Operation,
    body: Bytes,
) -> Response {
    let done = tokio::spawn(async move {
        let actor = caller.actor(&peer);
        let (stream, done) = streams::change(&shared, &caller, actor.clone(), operation, &body).await;
        let answer = respond(done);
        let target = (operation.name(), stream);
        access::note(&shared.access, caller.tenant, target, actor, None, &answer, true).await;
        answer
    });
    done.await.unwrap_or_else(|error| {
        tracing::error!(%error, operation = operation.name(), "a request ended early");
        respond(Err(Refusal::new(Kind::InternalFailure, "the request ended early")))
    })
}

fn respond(done: Result<Vec<u8>, Refusal>) -> Response {
    let (status, body, code) = match done {
        Ok(body) => (StatusCode::OK, body, None),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            (status, refusal.body(), Some(refusal.kind.name()))
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    if let Ok(id) = HeaderValue::from_str(&request_id()) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(code) = code {
        headers.insert("x-amzn-errortype", HeaderValue::from_static(code));
        response.extensions_mut().insert(super::error::ErrorCode(code));
    }
    response
}

/// A random UUID; nothing depends on it.
fn request_id() -> String {
    let mut random = [0; 16];
    let _without = SystemRandom::new().fill(&mut random);
    let mut number = u128::from_be_bytes(random);
    number = (number & !(0xf << 76)) | (4 << 76);
    number = (number & !(0x3 << 62)) | (2 << 62);
    let digits = format!("{number:032x}");
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_id_is_a_uuid_of_its_own() {
        let (one, other) = (request_id(), request_id());
        assert_ne!(one, other);
        let parts: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(one.as_bytes()[14], b'4');
    }

    #[test]
    fn operations_that_change_something_are_for_admins() {
        for operation in Operation::ALL {
            let expected = match operation.name() {
                name if name.starts_with("Put") => Scope::Push,
                name if name.starts_with("List") || name.starts_with("Describe") => Scope::Read,
                _ => Scope::Admin,
            };
            assert_eq!(scope(*operation), expected, "{}", operation.name());
        }
    }
}
