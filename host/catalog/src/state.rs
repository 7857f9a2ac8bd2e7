//! What the catalog shows of itself: for the API, for metrics, and for people.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use wasmill_transform::{Digest, Door};

use crate::control::Demotion;

/// What a version or file is at present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum VersionState {
    /// What the plugin directory has under the name; a stream takes it unless it is demoted there, or another is pinned.
    Current,
    /// As `Current`, but its file has gone: after a restart the name is missing, and streams that ran it fall back on
    /// the kept copy.
    Removed,
    /// An earlier version or a candidate, kept for pins and for streams that are not done with it.
    #[default]
    Kept,
    /// This file is not used; or this candidate, which is kept, could not be one when it was last tried.
    Refused { reason: String },
}

/// A stream in which a version did not pass its probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeFailure {
    pub stream: String,
    pub reason: String,
}

/// One version of a plugin, or one refused file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PluginState {
    /// The manifest's name, or the file's stem if it has no manifest that can be read.
    pub name: String,
    /// In the plugin directory, or the kept copy. Where these are is the operator's: shown is the name.
    #[serde(serialize_with = "name_alone")]
    pub file: PathBuf,
    /// Absent if the file could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The manifest's; absent without a manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub bytes: u64,
    /// The foreign ABI that it speaks, such as `wasi-command`; absent for this host's own, and while it is not loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub door: Option<Door>,
    #[serde(flatten)]
    pub state: VersionState,
    /// A sidecar narrows what the manifest asks for.
    pub narrowed: bool,
    /// Milliseconds since 1970; absent if this process has not loaded it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loaded_at_ms: Option<u64>,
    /// Absent if the code came from the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compile_ms: Option<u64>,
    /// Streams that run this version now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<String>,
    /// Streams that go on with the version before, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probe_failures: Vec<ProbeFailure>,
    /// It was uploaded, and stands for the name where the plugin directory has no file of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub uploaded: bool,
    /// Goes before what is in the plugin directory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// Runs beside the live version, for comparison.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// When a stream took it last, in milliseconds since 1970, as far as that is remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_since_ms: Option<u64>,
    /// Streams in which it failed too much, and which do not take it again by themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub demoted: Vec<Demotion>,
}

fn name_alone<S: Serializer>(file: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&file.file_name().unwrap_or_default().to_string_lossy())
}

/// Counts since the catalog was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CatalogStats {
    /// Versions that became current after the catalog was opened.
    pub reloads: u64,
    /// Files or versions that were refused.
    pub refusals: u64,
    /// Runs of the compile child.
    pub compiles: u64,
    /// Loads that needed no compiling.
    pub cache_hits: u64,
    /// Names that have a current version.
    pub current: u64,
    /// Files in the directory that are refused now.
    pub refused: u64,
    /// There are no file events, so the directory is looked at every second.
    pub polling: bool,
}
