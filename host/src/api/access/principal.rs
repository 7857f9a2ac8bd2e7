//! From a request to its caller: the key in `Authorization`, and the tenant that an operator acts for.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use wasmill_control::Actor;
use wasmill_tenant::{KeyText, Refused, RetryAfter, TenantName, Who};

use super::tokens::{Bearer, Tokens, is_token};
use super::{Access, Caller, Peer, Refusal};
use crate::api::error::ApiError;
use crate::api::now_ms;
use crate::api::tls::{Shown, TlsClient};

/// By which an operator says whose things a request is about.
pub(in crate::api) const ACTS_FOR: &str = "wasmill-tenant";

impl Refusal {
    /// Of a key that is none: to the client all of them are the same.
    fn key(
        peer: &Peer,
        key: Option<&str>,
        tenant: Option<TenantName>,
        reason: impl ToString,
    ) -> Box<Refusal> {
        Box::new(Refusal {
            error: ApiError::Unauthorized,
            tenant: tenant.unwrap_or_else(TenantName::default_tenant),
            who: Actor { key: key.map(str::to_owned), address: peer.address.to_string(), ..Actor::default() },
            reason: Some(reason.to_string()),
        })
    }

    fn busy(peer: &Peer, RetryAfter(after): RetryAfter, reason: &str) -> Box<Refusal> {
        let mut refusal = Refusal::key(peer, None, None, reason);
        refusal.error = ApiError::TooManyKeys { after };
        refusal
    }
}

impl Access {
    pub(super) async fn caller(&self, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Box<Refusal>> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return match &peer.certificate {
                Some(shown) => self.certified(shown, peer),
                None => Err(Refusal::key(peer, None, None, "no key")),
            };
        };
        if values.next().is_some() {
            return Err(Refusal::key(peer, None, None, "header authorization is there twice"));
        }
        let Some(token) = value.to_str().ok().and_then(bearer) else {
            return Err(Refusal::key(peer, None, None, "no bearer token in the header authorization"));
        };
        if let Some(tokens) = self.tokens.get().filter(|_| is_token(token)) {
            return self.bearer(&tokens, token, peer).await;
        }
        let text = match KeyText::parse(token) {
            Ok(text) => text,
            Err(error) => {
                // It costs nothing, and is a guess all the same.
                let taken = self.control.attempt(peer.address, now_ms());
                taken.map_err(|after| Refusal::busy(peer, after, "too many failures"))?;
                return Err(Refusal::key(peer, None, None, format!("malformed key: {error}")));
            }
        };
        Ok(Caller::with_key(self.verified(&text, peer).await?))
    }

    async fn bearer(&self, tokens: &Tokens, token: &str, peer: &Peer) -> Result<Caller, Box<Refusal>> {
        let failed = |tenant: Option<&TenantName>, subject: Option<String>, reason: &str| {
            // To check one costs little; it is the guesses that are counted.
            let taken = self.control.attempt(peer.address, now_ms());
            taken.map_err(|after| Refusal::busy(peer, after, "too many failures"))?;
            let mut refusal = Refusal::key(peer, None, tenant.cloned(), reason);
            refusal.who.subject = subject;
            Err(refusal)
        };
        let Bearer { tenant, scopes, subject } = match tokens.bearer(token).await {
            Ok(bearer) => bearer,
            Err(reason) => return failed(None, None, &reason),
        };
        match self.control.tenant_disabled(&tenant) {
            None => failed(None, Some(subject), "token for a tenant that is not there"),
            Some(true) => failed(Some(&tenant), Some(subject), "token for a disabled tenant"),
            Some(false) => Ok(Caller {
                home: tenant.clone(),
                tenant,
                scopes,
                key: None,
                name: None,
                subject: Some(subject),
            }),
        }
    }

    /// Of a certificate that was checked when the connection began.
    fn certified(&self, shown: &Shown, peer: &Peer) -> Result<Caller, Box<Refusal>> {
        let client = shown.client();
        let subject = client.as_ref().and_then(|client| client.uri.clone().or_else(|| client.name.clone()));
        let subject = subject.unwrap_or_else(|| shown.subject.clone());
        let refuse = |tenant: Option<&TenantName>, reason: &str| {
            let mut refusal = Refusal::key(peer, None, tenant.cloned(), reason);
            refusal.who.subject = Some(subject.clone());
            Err(refusal)
        };
        if shown.until_s < i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX) {
            return refuse(None, "expired certificate");
        }
        let Some(TlsClient { tenant, scopes, .. }) = &client else {
            return refuse(None, "certificate of no known client");
        };
        match self.control.tenant_disabled(tenant) {
            None => refuse(None, "certificate for a tenant that is not there"),
            Some(true) => refuse(Some(tenant), "certificate for a disabled tenant"),
            Some(false) => Ok(Caller {
                tenant: tenant.clone(),
                home: tenant.clone(),
                scopes: *scopes,
                key: None,
                name: None,
                subject: Some(subject),
            }),
        }
    }

    async fn verified(&self, text: &KeyText, peer: &Peer) -> Result<Who, Box<Refusal>> {
        let refuse = |why: Refused| Refusal::key(peer, Some(text.id()), self.control.owner(text.id()), why);
        if let Some(known) = self.control.known(text, now_ms()) {
            return known.map_err(refuse);
        }
        let busy = |after| Refusal::busy(peer, after, "too many failures");
        self.control.may_attempt(peer.address, now_ms()).map_err(busy)?;
        let waits = self.waiting.try_acquire();
        let _waits = waits.map_err(|_full| {
            let mut refusal = Refusal::key(peer, Some(text.id()), None, "too many keys to verify");
            refusal.error = ApiError::KeysWait;
            refusal
        })?;
        // Never closed.
        let _turn = self.verifying.acquire().await.ok();
        // Another request with the same key may have been first.
        if let Some(known) = self.control.known(text, now_ms()) {
            return known.map_err(refuse);
        }
        self.control.attempt(peer.address, now_ms()).map_err(busy)?;
        let (control, own) = (Arc::clone(&self.control), text.clone());
        let verified = tokio::task::spawn_blocking(move || control.verify(&own, now_ms())).await;
        let who = verified.unwrap_or(Err(Refused::Unknown)).map_err(refuse)?;
        self.control.succeeded(peer.address);
        Ok(who)
    }

    /// The caller, acting for the tenant that the header names. To whoever is no operator there are no other tenants.
    pub(super) fn acting(
        &self,
        caller: Caller,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<Caller, Box<Refusal>> {
        let mut values = headers.get_all(ACTS_FOR).iter();
        let Some(value) = values.next() else { return Ok(caller) };
        let refuse = |error: ApiError| {
            Box::new(Refusal {
                error,
                tenant: caller.home.clone(),
                who: caller.actor(peer),
                reason: Some("acts for another tenant".to_owned()),
            })
        };
        if values.next().is_some() {
            return Err(refuse(ApiError::HeaderTwice { name: ACTS_FOR.to_owned() }));
        }
        let written = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let named = TenantName::new(&written).ok();
        match named {
            Some(name) if name == caller.home => Ok(caller),
            Some(name) if caller.scopes.is_operator() && self.control.tenant_disabled(&name).is_some() => {
                Ok(Caller { tenant: name, ..caller })
            }
            _ => Err(refuse(ApiError::NotFound {
                code: "no_tenant",
                message: format!("there is no tenant {:?}", written.chars().take(65).collect::<String>()),
            })),
        }
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_token_is_told_from_other_schemes() {
        assert_eq!(bearer("Bearer a.b"), Some("a.b"));
        assert_eq!(bearer("bearer  a "), Some("a"));
        for other in ["Basic YTpi", "Bearer", "a.b", ""] {
            assert_eq!(bearer(other), None, "{other}");
        }
    }
}
