//! Keys of what a tenant asks of its plugin files, and what it lets plugins have. A doc comment here is text that users read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{FileSource, SecretSource};

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
    /// Files by the name under which transforms ask for them: paths, relative to `root`, or objects in S3.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, FileSource>,
    /// Secrets by the name under which transforms ask for them.
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    /// Hosts to which plugins may send requests: names, addresses or networks, each with a port or for all. A name stands for its public addresses; others must be listed, too.
    #[serde(default)]
    #[schemars(extend("examples" = [["scores.example", "10.1.2.3:8080", "10.7.0.0/16"]]))]
    pub(crate) http: Vec<String>,
    /// Whether they may keep state.
    #[serde(default)]
    pub(crate) state: bool,
}

/// A host to which a plugin may send requests.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(crate) enum HttpHost {
    /// Its name, address or network, with a port or for all.
    Plain(String),
    /// The same with headers that the host sets.
    WithHeaders(HostWithHeaders),
}

/// A host and headers of requests to it.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline, title = "http host")]
pub(crate) struct HostWithHeaders {
    /// Its name, address or network, with a port or for all.
    pub(crate) host: String,
    /// Secrets that every request to it gets as headers, by the header's name; the plugin does not see them.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, SecretSource>,
}
