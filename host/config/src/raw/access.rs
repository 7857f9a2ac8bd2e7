//! Keys of who may use the HTTP listener. A doc comment here is text that users read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may use the HTTP listener; see docs/access.md.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "auth")]
pub(crate) struct Auth {
    /// Whether requests need a key.
    #[schemars(extend("default" = "off"))]
    pub(crate) mode: AuthMode,
    /// Who may read `/metrics` where requests need a key.
    #[schemars(extend("default" = "operator"))]
    pub(crate) metrics: MetricsAccess,
    /// Tokens of others that are taken beside keys. Without, none are.
    pub(crate) jwt: Option<Jwt>,
}

impl Default for Auth {
    fn default() -> Auth {
        Auth { mode: AuthMode::Off, metrics: MetricsAccess::Operator, jwt: None }
    }
}

/// Bearer tokens (JWT) of an issuer, such as of OpenID Connect. Asymmetric signatures alone are taken.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "jwt")]
pub(crate) struct Jwt {
    /// The issuer's keys (JSON Web Key Set): a file, relative to this one, or a URL with https.
    pub(crate) jwks: String,
    /// What `iss` must be.
    pub(crate) issuer: String,
    /// What `aud` must be, or have among others.
    pub(crate) audience: String,
    /// The claim that names the tenant.
    #[serde(default = "default::tenant_claim")]
    pub(crate) tenant_claim: String,
    /// The claim with the scopes: a text with spaces between, or a list. Other words in it mean nothing.
    #[serde(default = "default::scope_claim")]
    pub(crate) scope_claim: String,
}

mod default {
    pub(super) fn tenant_claim() -> String {
        "tenant".to_owned()
    }
    pub(super) fn scope_claim() -> String {
        "scope".to_owned()
    }
}

/// Whether requests need a key.
#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AuthMode {
    /// Whoever reaches the listener may do everything, as the tenant `default`. For loopback.
    Off,
    /// Every request needs a key with the scope for it; only `/healthz`, `/readyz` and `/v1/openapi.json` are open.
    Keys,
}

/// Who may read `/metrics`.
#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MetricsAccess {
    /// Keys with the scope `operator`.
    Operator,
    /// Whoever reaches the listener.
    Open,
}

/// TLS on the listener. Files are read again when they change; a pair that is bad is refused, and the one before goes on.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "tls")]
pub(crate) struct Tls {
    /// Certificate with those between it and its root (PEM). Relative to this file.
    pub(crate) certificate: String,
    /// Its private key (PEM). Relative to this file.
    pub(crate) key: String,
    /// Certificates (PEM) of who signs certificates of clients. Clients may show one then; keys are as good. Relative to this file.
    pub(crate) client_ca: Option<String>,
    /// Whose the certificates of clients are; the first that fits counts.
    #[serde(default)]
    pub(crate) clients: Vec<Option<TlsClient>>,
}

/// Whose a client's certificate is.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "client")]
pub(crate) struct TlsClient {
    /// A URI among the alternative names of the certificate, such as `spiffe://example.org/edge`.
    pub(crate) uri: Option<String>,
    /// The common name of the certificate; without `uri`.
    pub(crate) name: Option<String>,
    /// The tenant that the client acts for.
    pub(crate) tenant: String,
    /// What it may do.
    #[serde(default)]
    #[schemars(required)]
    pub(crate) scopes: Vec<ClientScope>,
}

/// What a client may do.
#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ClientScope {
    /// Push records.
    Push,
    /// See streams, plugins, dead letters and records.
    Read,
    /// Change which versions of plugins are live.
    Plugins,
    /// Everything within the tenant.
    Admin,
    /// Everything on the host; of the tenant `default`.
    Operator,
}
