//! Who may ask what: every route says which scope it wants, and no handler runs before its caller is known and may.
//!
//! | answer | to whom |
//! |---|---|
//! | 401 | no key, or one that is none, unknown, wrong, expired or revoked: the same text to all, the audit log says which |
//! | 403 | a key without the scope |
//! | 404 | what belongs to another tenant, or to a key that may do more |
//! | 429 | too many keys from there were none |
//!
//! It owns the order of these, and that what is changed or refused is written down ([`trail`]). Which keys there are is
//! the concern of `control`; what a handler does with its [`Caller`], of the handler.

mod key_set;
mod principal;
mod signatures;
mod tokens;
mod trail;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use wasmill_control::{Actor, AuditLog, Control};
use wasmill_tenant::{Scope, Scopes, TenantName, Who};

use super::error::ApiError;
use super::tls::Shown;
use super::{Host, Shared};

pub use key_set::KeySetPlace;
pub use tokens::{TakenTokens, TokenRules, Tokens};
pub(super) use trail::{Touched, note};

/// Keys that are verified at a time: each takes a core for a millisecond or so.
const VERIFIED_AT_A_TIME: usize = 2;
/// Requests that wait for that.
const WAIT_FOR_IT: usize = 4096;

/// What a route wants of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// Open to everybody.
    Nothing,
    /// Any valid key.
    Key,
    Scope(Scope),
    /// The scope `operator`, unless the configuration opens metrics.
    Metrics,
    /// A signature over the request, or a key, which its handler verifies.
    Signature,
}

/// A route, as far as access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouteHead {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) wants: Wants,
}

impl RouteHead {
    /// Whether it changes something, and is written down. Pushes are not, one by one.
    fn changes(&self) -> bool {
        self.method != "GET" && !matches!(self.wants, Wants::Scope(Scope::Push) | Wants::Signature)
    }
}

/// Who asks, known and checked; a handler takes it as an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// Whose things it is about.
    pub(super) tenant: TenantName,
    /// Whose key it is: another's only for operators.
    pub(super) home: TenantName,
    pub(super) scopes: Scopes,
    pub(super) key: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subject: Option<String>,
}

impl Caller {
    /// Where no key is needed: everything within the tenant that is always there.
    pub(super) fn anybody() -> Caller {
        let tenant = TenantName::default_tenant();
        Caller {
            home: tenant.clone(),
            tenant,
            scopes: [Scope::Admin].into_iter().collect(),
            key: None,
            name: None,
            subject: None,
        }
    }

    /// Whoever has a key.
    pub(super) fn with_key(who: Who) -> Caller {
        Caller {
            tenant: who.tenant.clone(),
            home: who.tenant,
            scopes: who.scopes,
            key: Some(who.key),
            name: Some(who.name),
            subject: None,
        }
    }

    pub(super) fn actor(&self, peer: &Peer) -> Actor {
        Actor {
            key: self.key.clone(),
            subject: self.subject.clone(),
            tenant: Some(self.home.clone()).filter(|home| *home != self.tenant),
            address: peer.address.to_string(),
        }
    }
}

/// The other end of the connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// What it has shown of itself.
    pub(super) certificate: Option<Arc<Shown>>,
}

impl Default for Peer {
    fn default() -> Peer {
        Peer { address: Ipv4Addr::UNSPECIFIED.into(), certificate: None }
    }
}

/// What decides who may ask.
pub struct Access {
    pub(super) control: Arc<Control>,
    pub(super) audit: Arc<AuditLog>,
    /// Whether keys are needed.
    pub(super) keys: bool,
    metrics_open: bool,
    tokens: Arc<TakenTokens>,
    verifying: Semaphore,
    waiting: Semaphore,
}

impl Access {
    /// `keys`: whether they are needed; `metrics_open`: whether metrics need none all the same.
    pub fn new(control: Arc<Control>, audit: Arc<AuditLog>, keys: bool, metrics_open: bool) -> Access {
        Access {
            control,
            audit,
            keys,
            metrics_open,
            tokens: Arc::default(),
            verifying: Semaphore::new(VERIFIED_AT_A_TIME),
            waiting: Semaphore::new(WAIT_FOR_IT),
        }
    }

    /// Takes tokens of others, too.
    pub fn with_tokens(self, tokens: Tokens) -> Access {
        self.tokens.put(Some(tokens));
        self
    }

    /// Which tokens of others are taken, to change it.
    pub fn tokens(&self) -> Arc<TakenTokens> {
        Arc::clone(&self.tokens)
    }

    /// Tenants and keys, where they are managed over HTTP: a stranger who could make a key today would have it when keys
    /// are needed.
    pub(super) fn managed(&self) -> Result<&Arc<Control>, ApiError> {
        if self.keys { Ok(&self.control) } else { Err(ApiError::AuthOff) }
    }

    /// Who asks with a key, a token or a certificate where a signature would do as well.
    pub(super) async fn keyed(&self, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Box<Refusal>> {
        self.acting(self.caller(headers, peer).await?, headers, peer)
    }

    async fn admit(&self, head: RouteHead, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Box<Refusal>> {
        let wanted = match head.wants {
            Wants::Nothing | Wants::Signature => return Ok(Caller::anybody()),
            Wants::Metrics if self.metrics_open || !self.keys => return Ok(Caller::anybody()),
            Wants::Key => None,
            Wants::Metrics => Some(Scope::Operator),
            Wants::Scope(scope) => Some(scope),
        };
        let caller = if self.keys { self.caller(headers, peer).await? } else { Caller::anybody() };
        let caller = self.acting(caller, headers, peer)?;
        match wanted {
            Some(scope) if self.keys && !caller.scopes.allow(scope) => Err(Box::new(Refusal {
                error: ApiError::Forbidden { scope },
                tenant: caller.tenant.clone(),
                who: caller.actor(peer),
                reason: None,
            })),
            _ => Ok(caller),
        }
    }
}

/// A request that goes no further.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: ApiError,
    /// Whose log it is written in.
    pub(super) tenant: TenantName,
    pub(super) who: Actor,
    /// What the client is not told.
    pub(super) reason: Option<String>,
}

/// Runs before every handler; see the head of this file.
pub(super) async fn gate<H: Host>(
    State((shared, head)): State<(Arc<Shared<H>>, RouteHead)>,
    mut request: Request,
    next: Next,
) -> Response {
    let access = &shared.access;
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let caller = match access.admit(head, request.headers(), &peer).await {
        Ok(caller) => caller,
        Err(refusal) => {
            let Refusal { error, tenant, who, reason } = *refusal;
            let target = request.uri().path().to_owned();
            let answer = error.into_response();
            let entry = trail::entry(head, target, who, reason, &answer);
            trail::refused(Arc::clone(&access.audit), tenant, entry).await;
            return answer;
        }
    };
    let who = caller.actor(&peer);
    let tenant = caller.tenant.clone();
    if let Some(answer) = changing(&*shared.host, &tenant, head, &request) {
        return answer;
    }
    if access.keys
        && let Some(answer) = missing(&*shared.host, &tenant, head, &request)
    {
        if head.changes() {
            let entry = trail::entry(head, request.uri().path().to_owned(), who, None, &answer);
            trail::changed(Arc::clone(&access.audit), tenant, entry).await;
        }
        return answer;
    }
    request.extensions_mut().insert(caller);
    if !head.changes() {
        return next.run(request).await;
    }
    let target = request.uri().path().to_owned();
    let audit = Arc::clone(&access.audit);
    // A client that goes away must not leave a change behind of which nothing is written.
    let done = tokio::spawn(async move {
        let mut answer = next.run(request).await;
        let touched = answer.extensions_mut().remove::<Touched>();
        let target = touched.map_or(target, |Touched(target)| target);
        let entry = trail::entry(head, target, who, None, &answer);
        trail::changed(audit, tenant, entry).await;
        answer
    });
    done.await.unwrap_or_else(|error| {
        tracing::error!(%error, route = head.path, "a request ended early");
        ApiError::Failed { message: "the request ended early".to_owned() }.into_response()
    })
}

/// A stream that changes answers nothing but what its definition is, which waits or refuses by itself.
fn changing<H: Host>(host: &H, tenant: &TenantName, head: RouteHead, request: &Request) -> Option<Response> {
    head.path.strip_prefix("/v1/streams/{name}/")?;
    let name = request.uri().path().split('/').nth(3)?;
    let message = || format!("stream {name:?} is being changed: try again");
    host.is_changing(tenant, name).then(|| ApiError::Changing { message: message() }.into_response())
}

/// What is another tenant's, or nobody's, is not there: that is said before anything else about the request.
fn missing<H: Host>(host: &H, tenant: &TenantName, head: RouteHead, request: &Request) -> Option<Response> {
    if (head.method, head.path) == ("PUT", "/v1/streams/{name}") {
        // It makes what is not there.
        return None;
    }
    let of = head.path.strip_prefix("/v1/")?.split_once("/{name}")?.0;
    let name = request.uri().path().split('/').nth(3)?;
    let (code, there) = match of {
        "streams" => ("no_stream", host.has_stream(tenant, name)),
        "plugins" => ("no_plugin", host.has_plugin(tenant, name)),
        _ => return None,
    };
    let shown: String = name.chars().take(100).collect();
    let message = format!("there is nothing of that name: {shown:?}");
    (!there).then(|| ApiError::NotFound { code, message }.into_response())
}

/// A set that is asked for whenever a key is not there.
#[cfg(test)]
pub(super) fn asking_at_once(place: KeySetPlace) -> Arc<key_set::KeySet> {
    Arc::new(key_set::KeySet::asking_every(place, std::time::Duration::ZERO).unwrap())
}
