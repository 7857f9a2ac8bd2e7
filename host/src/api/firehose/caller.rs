//! Who signed a request, and the body that was signed.
//!
//! Keys are presented as to other routes, too, by those who do not sign ([`keyed`]).
//!
//! A signature covers the body, so that the body is read first. Who names a key and does not have it is a guess and counted
//! as one, and what he sends takes nothing of the tenant whose key it is; past too many of them nothing of the address is
//! read but what is signed with a key that it has shown to be its own, which is read within the bounds of its tenant.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use wasmill_firehose::signature::{self, Presented};
use wasmill_firehose::wire::{BODY_BYTES_MAX, Kind, Refusal};
use wasmill_tenant::{Moment, TenantName};

use super::Refused;
use crate::api::access::{self, Access, Caller, Peer};
use crate::api::bodies::Held;
use crate::api::error::ApiError;
use crate::api::{Host, Shared, now_ms};
use crate::pipeline::{InFlight, TenantQuota};

/// Bodies from this size on are hashed off the async threads.
const BLOCKING_BYTES_MIN: usize = 64 << 10;
/// How long an address is believed to have a key that it has signed with.
const KNOWN_MS: Moment = 3_600_000;
/// Addresses with their keys of which something is remembered; past it all is forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// What is remembered of signatures that were good.
#[derive(Default)]
pub(in crate::api) struct Signatures {
    known: Mutex<HashMap<(IpAddr, String), Moment>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Signatures {
    fn is_known(&self, from: IpAddr, key: &str, now: Moment) -> bool {
        locked(&self.known).get(&(from, key.to_owned())).is_some_and(|until| *until > now)
    }

    fn know(&self, from: IpAddr, key: &str, now: Moment) {
        let mut known = locked(&self.known);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert((from, key.to_owned()), now + KNOWN_MS);
    }
}

/// A request whose caller is known.
pub(super) struct Identified {
    pub(super) caller: Caller,
    /// Without whatever framing its signature has.
    pub(super) body: Bytes,
    /// Room for it, and its place among the tenant's requests, for as long as it is worked on.
    _held: Held,
    _on_its_way: InFlight,
}

pub(super) async fn identify<H: Host>(
    shared: &Shared<H>,
    peer: &Peer,
    request: Request,
) -> Result<Identified, Refused> {
    let (parts, body) = request.into_parts();
    if !shared.access.keys {
        let caller = Caller::anybody();
        let quota = shared.host.quota(&caller.tenant);
        let _on_its_way = enter(&quota)?;
        let (body, _held) = read(shared, &quota, body).await.map_err(|error| unread(&error))?;
        return Ok(Identified { caller, body, _held, _on_its_way });
    }
    if has_key(&parts, peer) {
        return keyed(shared, peer, &parts.headers, body).await;
    }
    let presented = Presented::parse(&presented_request(&parts))
        .map_err(|refusal| Refused::new(refusal, "no signature that could be read"))?;
    let access = &shared.access;
    let id = presented.access_key().to_owned();
    let tenant = access.control.owner(&id);
    let refused = |refusal: Refusal, reason: String| Refused {
        refusal,
        tenant: tenant.clone().unwrap_or_else(TenantName::default_tenant),
        key: Some(id.chars().take(64).collect()),
        reason: Some(reason),
    };
    let is_known = shared.signatures.is_known(peer.address, &id, now_ms());
    if !is_known && access.control.may_attempt(peer.address, now_ms()).is_err() {
        return Err(refused(too_many(), "too many failures".to_owned()));
    }
    let secrets = access.control.signing_secrets(&id);
    let Some(owner) = tenant.as_ref().filter(|_| !secrets.is_empty()) else {
        failed(access, peer);
        return Err(refused(Refusal::unrecognized_client(), "key that signs nothing here".to_owned()));
    };
    let quota = shared.host.quota(owner);
    let entered = if is_known { Some(enter(&quota)?) } else { None };
    let (body, _held) = read(shared, if is_known { &quota } else { &shared.others }, body)
        .await
        .map_err(|error| unread(&error))?;
    let is_large = body.len() >= BLOCKING_BYTES_MIN;
    let verify = move || {
        let request = presented_request(&parts);
        let now = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
        let mut why = Refusal::unrecognized_client();
        for (number, secret) in secrets {
            match presented.verify(&secret, &request, &body, now) {
                Ok(std::borrow::Cow::Borrowed(_whole)) => return Ok((number, body.clone())),
                Ok(std::borrow::Cow::Owned(unframed)) => return Ok((number, Bytes::from(unframed))),
                Err(refusal) => why = refusal,
            }
        }
        Err(why)
    };
    let verified = if is_large { off_runtime(verify).await } else { verify() };
    let (number, body) = verified.map_err(|refusal| {
        failed(access, peer);
        refused(refusal, "wrong signature".to_owned())
    })?;
    let who = access.control.signed(&id, number, now_ms());
    let who = who.map_err(|why| {
        failed(access, peer);
        refused(Refusal::unrecognized_client(), why.to_string())
    })?;
    if !is_known {
        shared.signatures.know(peer.address, &id, now_ms());
    }
    let _on_its_way = entered.map_or_else(|| enter(&quota), Ok)?;
    Ok(Identified { caller: Caller::with_key(who), body, _held, _on_its_way })
}

/// Whether a request is not signed and has a key in place of it: that of a connection is one where nothing else is said.
fn has_key(parts: &Parts, peer: &Peer) -> bool {
    match parts.headers.get(header::AUTHORIZATION) {
        Some(value) => {
            value.as_bytes().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
        }
        None => peer.certificate.is_some() && !parts.uri.query().unwrap_or_default().contains("X-Amz-"),
    }
}

/// Nothing of the body is read before it is known whose it is.
async fn keyed<H: Host>(
    shared: &Shared<H>,
    peer: &Peer,
    headers: &HeaderMap,
    body: Body,
) -> Result<Identified, Refused> {
    let caller = shared.access.keyed(headers, peer).await.map_err(|refused| {
        let access::Refusal { error, tenant, who, reason } = *refused;
        let refusal = match error {
            ApiError::Unauthorized => Refusal::unrecognized_client(),
            ApiError::TooManyKeys { .. } => too_many(),
            error @ ApiError::KeysWait => Refusal::new(Kind::ServiceUnavailable, error.to_string()),
            error => Refusal::new(Kind::AccessDenied, error.to_string()),
        };
        Refused { refusal, tenant, key: who.key, reason }
    })?;
    let quota = shared.host.quota(&caller.tenant);
    let _on_its_way = enter(&quota)?;
    let (body, _held) = read(shared, &quota, body).await.map_err(|error| unread(&error))?;
    Ok(Identified { caller, body, _held, _on_its_way })
}

/// Hashing a large body takes milliseconds of a processor.
async fn off_runtime(
    verify: impl FnOnce() -> Result<(u64, Bytes), Refusal> + Send + 'static,
) -> Result<(u64, Bytes), Refusal> {
    let done = tokio::task::spawn_blocking(verify).await;
    done.unwrap_or_else(|error| Err(Refusal::new(Kind::InternalFailure, error.to_string())))
}

/// A guess that was none, as far as it is known.
fn failed(access: &Access, peer: &Peer) {
    let _too_many = access.control.attempt(peer.address, now_ms());
}

fn too_many() -> Refusal {
    let message = "Rate exceeded: too many requests from this address had no valid signature";
    Refusal::new(Kind::Throttling, message)
}

fn enter(quota: &Arc<TenantQuota>) -> Result<InFlight, Refused> {
    quota.enter().map_err(|refusal| unread(&ApiError::Quota(refusal)))
}

async fn read<H: Host>(
    shared: &Shared<H>,
    quota: &Arc<TenantQuota>,
    body: Body,
) -> Result<(Bytes, Held), ApiError> {
    let max = shared.limits.max_body.min(BODY_BYTES_MAX as u64);
    shared.bodies.read(quota, body, max, false, shared.limits.read_timeout).await
}

fn unread(error: &ApiError) -> Refused {
    let refusal = match error {
        error @ ApiError::BodyTooLarge { .. } => Refusal::new(Kind::RequestTooLarge, error.to_string()),
        ApiError::Quota(refusal) => Refusal::new(Kind::ServiceUnavailable, format!("Slow down. {refusal}")),
        error => Refusal::new(Kind::Serialization, error.to_string()),
    };
    Refused::new(refusal, error)
}

fn presented_request(parts: &Parts) -> signature::Request<'_> {
    let mut headers: Vec<(&str, &[u8])> =
        parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    if !parts.headers.contains_key(header::HOST)
        && let Some(authority) = parts.uri.authority()
    {
        headers.push(("host", authority.as_str().as_bytes()));
    }
    signature::Request {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers,
    }
}
