//! Keys of what a tenant asks of its plugin files, and what it lets plugins have. A doc comment here is text that users read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::SecretSource;

mod default {
    pub(super) fn required() -> bool {
        true
    }
}

/// Who must have signed plugin files; see docs/plugins.md.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "signing")]
pub(crate) struct Signing {
    /// Whether a plugin file without a signature is refused. One whose signature is not good always is.
    #[serde(default = "default::required")]
    pub(crate) required: bool,
    /// Public keys as `wasmill plugin keygen` prints them: `ed25519:` and base64. Any of them is enough, so that keys can change one after another.
    #[serde(default)]
    #[schemars(required)]
    pub(crate) keys: Vec<String>,
}

/// What plugins of a tenant may be given. What is not here they do not get, whatever their manifests ask for.
#[derive(Deserialize, JsonSchema)]
#[schemars(title = "grants")]
pub(crate) struct Grants {
    /// Directory below which the files lie; no symbolic link leads out of it. By default that of this file. Relative to this file.
    pub(crate) root: Option<String>,
    /// Files by the name under which transforms ask for them. Relative to `root`.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    /// Secrets by the name under which transforms ask for them.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, SecretSource>,
}
