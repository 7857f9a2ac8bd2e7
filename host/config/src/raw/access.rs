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
}

impl Default for Auth {
    fn default() -> Auth {
        Auth { mode: AuthMode::Off, metrics: MetricsAccess::Operator }
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
