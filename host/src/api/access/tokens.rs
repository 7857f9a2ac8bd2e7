//! Bearer tokens of others (JWT): who signed them, for whom they are, until when, and what they say of tenant and scopes.
//!
//! It owns which claims are believed. It refuses tokens without an expiry, tokens for others, signatures with a shared
//! secret or none, and a tenant that is not there.

use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::Value;
use wasmill_tenant::{Scope, Scopes, TenantName};

use super::key_set::{KeySet, KeySetPlace};
use super::signatures;

/// Longest token.
const BYTES_MAX: usize = 16 << 10;
/// How far clocks may be apart, in seconds.
const LEEWAY_S: u64 = 60;

/// Which tokens are taken.
#[derive(Clone, Debug)]
pub struct TokenRules {
    pub keys: KeySetPlace,
    pub issuer: String,
    pub audience: String,
    /// The claim that names the tenant, and the one with its scopes.
    pub tenant_claim: String,
    pub scope_claim: String,
}

/// What a token says of who presents it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) tenant: TenantName,
    pub(super) scopes: Scopes,
    pub(super) subject: String,
}

/// See the head of this file.
pub struct Tokens {
    rules: TokenRules,
    keys: Arc<KeySet>,
}

/// Whose tokens are taken, if anybody's; may change between two requests.
#[derive(Default)]
pub struct TakenTokens(RwLock<Option<Arc<Tokens>>>);

impl TakenTokens {
    pub fn put(&self, tokens: Option<Tokens>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tokens.map(Arc::new);
    }

    pub(super) fn get(&self) -> Option<Arc<Tokens>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether a text may be a token, and not a key that was mistyped.
pub(super) fn is_token(text: &str) -> bool {
    text.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl Tokens {
    /// Begins to ask for the keys.
    ///
    /// # Errors
    /// No client for it can be made.
    pub fn new(rules: TokenRules) -> Result<Tokens, reqwest::Error> {
        signatures::install();
        let keys = Arc::new(KeySet::new(rules.keys.clone())?);
        keys.ask();
        Ok(Tokens { rules, keys })
    }

    /// What the token says, if it may be believed; else why not, which is for the log.
    pub(super) async fn bearer(&self, text: &str) -> Result<Bearer, String> {
        if text.len() > BYTES_MAX {
            return Err(format!("token of more than {BYTES_MAX} bytes"));
        }
        let header = decode_header(text).map_err(|error| format!("token: {error}"))?;
        if !signatures::ALGORITHMS.contains(&header.alg) {
            return Err(format!("token: signatures with {:?} are not taken", header.alg));
        }
        let key = self.keys.key(header.kid.as_deref()).await.ok_or("token: signed with an unknown key")?;
        if key.algorithm.is_some_and(|algorithm| algorithm != format!("{:?}", header.alg)) {
            return Err("token: its key signs with another algorithm".to_owned());
        }
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.rules.issuer]);
        validation.set_audience(&[&self.rules.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims =
            decode::<Value>(text, &key.key, &validation).map_err(|error| format!("token: {error}"))?.claims;
        self.claimed(&claims)
    }

    fn claimed(&self, claims: &Value) -> Result<Bearer, String> {
        let TokenRules { tenant_claim, scope_claim, .. } = &self.rules;
        let tenant =
            claims[tenant_claim].as_str().ok_or(format!("token: no claim {tenant_claim:?} with a text"))?;
        let tenant = TenantName::new(tenant).map_err(|error| format!("token: {error}"))?;
        // Others may be there that mean something elsewhere.
        let scopes: Scopes = match &claims[scope_claim] {
            Value::String(texts) => texts.split(' ').filter_map(|text| text.parse::<Scope>().ok()).collect(),
            Value::Array(texts) => {
                texts.iter().filter_map(|text| text.as_str()?.parse::<Scope>().ok()).collect()
            }
            _ => Scopes::NONE,
        };
        if scopes.is_operator() && !tenant.is_default() {
            return Err("token: operators belong to the tenant default".to_owned());
        }
        let subject = claims["sub"].as_str().unwrap_or("token without a subject").chars().take(200).collect();
        Ok(Bearer { tenant, scopes, subject })
    }
}
