//! The manifest: what a plugin says about itself, as JSON in the custom section `wasmill:manifest`.
//!
//! The section is part of the file and so covered by its digest. It grants nothing: what it lists under `grants`
//! is what the plugin *may ask for*; the operator's config hands it over. A sidecar may only narrow it.

use serde::{Deserialize, Serialize};

/// Name of the custom section.
pub const SECTION: &str = "wasmill:manifest";
/// A larger manifest is refused.
const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// What a plugin says about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name under which streams use it; `[a-z0-9-]+`.
    pub name: String,
    /// Semantic version.
    pub version: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// WIT package version it was built for, such as `0.1.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wit: Option<String>,
    #[serde(default)]
    pub grants: Grants,
    #[serde(default)]
    pub limits: ManifestLimits,
    /// JSON Schema of the config that `configure` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<serde_json::Value>,
    /// Records that a new version must take without failing before it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
}

/// Names that the plugin may read through `setup.file` and `setup.secret`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

/// Limits that the plugin asks for; absent = the host's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
}

/// A config and records that go with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    #[serde(default)]
    pub config: serde_json::Value,
    #[serde(default)]
    pub records: Vec<String>,
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("not a WebAssembly file")]
    NotWasm(#[source] wasmparser::BinaryReaderError),
    #[error("manifest of {bytes} bytes is over the limit of {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("manifest is not what this host expects")]
    Json(#[source] serde_json::Error),
    #[error("plugin name {name:?} must match [a-z0-9-]+ and be at most 64 characters")]
    Name { name: String },
    #[error("more than one manifest section")]
    Twice,
}

/// The manifest of a plugin file; `None` when it has none.
pub fn read_manifest(_wasm: &[u8]) -> Result<Option<Manifest>, ManifestError> {
    unimplemented!()
}

/// `wasm` with its manifest section replaced by `manifest`. Works on components and on core modules.
pub fn embed_manifest(_wasm: &[u8], _manifest: &Manifest) -> Result<Vec<u8>, ManifestError> {
    unimplemented!()
}
