//! The manifest: what a plugin says about itself, as JSON in the custom section `wasmill:manifest`.
//!
//! The section is part of the file and so covered by its digest. It grants nothing: what it lists under `grants`
//! is what the plugin *may ask for*; the operator's config hands it over. A sidecar may only narrow it.

mod values;

use std::ops::Range;

use serde::{Deserialize, Serialize};
use wasmparser::BinaryReader;

use crate::{abi, schema};

/// Name of the custom section.
pub const SECTION: &str = "wasmill:manifest";
/// A larger manifest is refused.
const MANIFEST_BYTES_MAX: usize = 1 << 20;
const NAME_BYTES_MAX: usize = 64;
const HOST_BYTES_MAX: usize = 300;

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
    #[serde(default, skip_serializing_if = "Chunks::are_usual")]
    pub chunk: Chunks,
    /// JSON Schema of the config that `configure` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<serde_json::Value>,
    /// Records that a new version must take without failing before it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
}

/// Names that the plugin may read through `setup.file` and `setup.secret`, and hosts to which it may send.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Hosts, each with a port or for all, or `*`: whatever the transform lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<String>,
    /// Keyed state, which needs nobody's leave but is bounded by the tenant's quota.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub state: bool,
    /// Names by which it loads models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
}

/// Limits that the plugin asks for; absent = the host's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
}

/// What it wants to be called with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunks {
    /// A slice uncut, where that is within the bounds of such a chunk.
    #[serde(default)]
    pub slice: bool,
}

impl Chunks {
    fn are_usual(&self) -> bool {
        *self == Chunks::default()
    }
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
    NotWasm,
    #[error("a section ends past the end of the file")]
    Truncated,
    #[error("read the sections of the file")]
    Sections(#[from] wasmparser::BinaryReaderError),
    #[error("manifest of {bytes} bytes is over the limit of {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error(
        "manifest of over {max} values, counting each name, text, number, list and object; a sample needs no more records \
         than show that the plugin works"
    )]
    TooMany { max: usize },
    #[error("the manifest is not what this host expects: {0}")]
    Json(serde_json::Error),
    #[error("plugin name {name:?} must match [a-z0-9-]+ and be at most 64 characters")]
    Name { name: String },
    #[error("version {version:?} is no semantic version such as 1.0.0")]
    Version { version: String },
    #[error("built for wasmill:plugin {wit:?}; this host has {has}")]
    Wit { wit: String, has: &'static str },
    #[error("config_schema is no JSON Schema: {reason}")]
    Schema { reason: String },
    #[error("limits.{limit} is 0, with which nothing can run")]
    Zero { limit: &'static str },
    #[error(
        "grants.http has {host:?}, which is no host; expected such as \"scores.example\", \"scores.example:8443\" or \"*\""
    )]
    Host { host: String },
    #[error("more than one manifest section")]
    Twice,
}

/// The manifest of a plugin file; `None` when it has none.
pub fn read_manifest(wasm: &[u8]) -> Result<Option<Manifest>, ManifestError> {
    let mut found = None;
    for section in TopSections::new(wasm) {
        let section = section?;
        if section.is_manifest && found.replace(&wasm[section.contents]).is_some() {
            return Err(ManifestError::Twice);
        }
    }
    let Some(json) = found else { return Ok(None) };
    if json.len() > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge { bytes: json.len(), max: MANIFEST_BYTES_MAX });
    }
    values::check(json)?;
    let manifest: Manifest = serde_json::from_slice(json).map_err(ManifestError::Json)?;
    check_manifest(&manifest)?;
    Ok(Some(manifest))
}

/// `wasm` with its manifest section replaced by `manifest`. Works on components and on core modules.
pub fn embed_manifest(wasm: &[u8], manifest: &Manifest) -> Result<Vec<u8>, ManifestError> {
    check_manifest(manifest)?;
    let json = serde_json::to_vec(manifest).map_err(ManifestError::Json)?;
    if json.len() > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge { bytes: json.len(), max: MANIFEST_BYTES_MAX });
    }
    values::check(&json)?;
    let mut out = Vec::with_capacity(wasm.len() + json.len() + 64);
    let mut kept = 0;
    for section in TopSections::new(wasm) {
        let section = section?;
        if section.is_manifest {
            out.extend_from_slice(&wasm[kept..section.whole.start]);
            kept = section.whole.end;
        }
    }
    out.extend_from_slice(&wasm[kept..]);
    // A custom section has the same form in modules and in components: id 0, size, name, bytes.
    let custom = wasm_encoder::CustomSection { name: SECTION.into(), data: json.as_slice().into() };
    out.push(0);
    wasm_encoder::Encode::encode(&custom, &mut out);
    Ok(out)
}

/// Whether a host takes such a manifest.
pub fn check_manifest(manifest: &Manifest) -> Result<(), ManifestError> {
    let name = &manifest.name;
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(ManifestError::Name { name: crate::fault::cut_text(name, 2 * NAME_BYTES_MAX) });
    }
    let shown = |text: &str| crate::fault::cut_text(text, NAME_BYTES_MAX);
    if semver::Version::parse(&manifest.version).is_err() {
        return Err(ManifestError::Version { version: shown(&manifest.version) });
    }
    if let Some(wit) = &manifest.wit
        && !is_served(wit)
    {
        return Err(ManifestError::Wit { wit: shown(wit), has: abi::VERSION });
    }
    if let Some(schema) = &manifest.config_schema {
        schema::check(schema).map_err(|reason| ManifestError::Schema { reason })?;
    }
    if let Some(host) = manifest.grants.http.iter().find(|host| !is_host(host)) {
        return Err(ManifestError::Host { host: shown(host) });
    }
    let ManifestLimits { memory_bytes, deadline_ms, output_bytes } = manifest.limits;
    let limits =
        [("memory_bytes", memory_bytes), ("deadline_ms", deadline_ms), ("output_bytes", output_bytes)];
    match limits.into_iter().find(|(_, value)| *value == Some(0)) {
        Some((limit, _)) => Err(ManifestError::Zero { limit }),
        None => Ok(()),
    }
}

/// Whether it can be one: a name or an address, with a port or without, a network, or any.
fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]/".contains(&byte);
    text == "*"
        || (1..=HOST_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) && !text.contains("//")
}

/// Versions of the ABI only grow: an older one of the same line runs here, a newer one may want what is not there.
fn is_served(wit: &str) -> bool {
    let (Ok(wit), Ok(has)) = (semver::Version::parse(wit), semver::Version::parse(abi::VERSION)) else {
        return false;
    };
    abi::line(&wit) == abi::line(&has) && wit <= has
}

/// One top-level section of a module or component.
struct Section {
    /// With its id and size.
    whole: Range<usize>,
    /// What follows the name, if it is custom.
    contents: Range<usize>,
    is_manifest: bool,
}

/// Walks the top-level sections without looking into them: manifests of nested modules do not count.
struct TopSections<'a> {
    wasm: &'a [u8],
    at: usize,
}

impl<'a> TopSections<'a> {
    fn new(wasm: &'a [u8]) -> Self {
        TopSections { wasm, at: 0 }
    }

    fn section(&mut self) -> Result<Section, ManifestError> {
        let start = self.at;
        let mut reader = BinaryReader::new(&self.wasm[start..], start);
        let id = reader.read_u8()?;
        let size = reader.read_var_u32()? as usize;
        let body = reader.original_position();
        let end =
            body.checked_add(size).filter(|end| *end <= self.wasm.len()).ok_or(ManifestError::Truncated)?;
        self.at = end;
        let mut section = Section { whole: start..end, contents: end..end, is_manifest: false };
        if id == 0 {
            let mut reader = BinaryReader::new(&self.wasm[body..end], body);
            section.is_manifest = reader.read_string()? == SECTION;
            section.contents = reader.original_position()..end;
        }
        Ok(section)
    }
}

impl Iterator for TopSections<'_> {
    type Item = Result<Section, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == 0 {
            if self.wasm.get(..4) != Some(b"\0asm") || self.wasm.len() < 8 {
                self.at = usize::MAX;
                return Some(Err(ManifestError::NotWasm));
            }
            self.at = 8;
        }
        if self.at >= self.wasm.len() {
            return None;
        }
        let section = self.section();
        if section.is_err() {
            self.at = usize::MAX;
        }
        Some(section)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str) -> Manifest {
        Manifest { name: name.to_owned(), version: "1.2.3".to_owned(), ..Manifest::default() }
    }

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn manifest_embedded_is_read_back() {
        let wasm = embed_manifest(MODULE, &manifest("parse")).unwrap();
        assert_eq!(read_manifest(&wasm).unwrap(), Some(manifest("parse")));
        assert_eq!(read_manifest(MODULE).unwrap(), None);
    }

    #[test]
    fn manifest_embedded_twice_replaces_the_first() {
        let once = embed_manifest(MODULE, &manifest("parse")).unwrap();
        let twice = embed_manifest(&once, &manifest("filter")).unwrap();
        assert_eq!(read_manifest(&twice).unwrap(), Some(manifest("filter")));
        assert_eq!(twice, embed_manifest(MODULE, &manifest("filter")).unwrap());
    }

    #[test]
    fn manifest_section_twice_is_refused() {
        let once = embed_manifest(MODULE, &manifest("parse")).unwrap();
        let both = [once.as_slice(), &once[8..]].concat();
        assert!(matches!(read_manifest(&both), Err(ManifestError::Twice)));
    }

    #[test]
    fn manifest_of_damaged_file_is_an_error_and_never_a_panic() {
        let wasm = embed_manifest(MODULE, &manifest("parse")).unwrap();
        for len in 0..wasm.len() {
            let cut = &wasm[..len];
            assert!(!matches!(read_manifest(cut), Ok(Some(_))), "{len}");
        }
        for index in 8..wasm.len() {
            let mut damaged = wasm.clone();
            damaged[index] ^= 0xff;
            let _any = read_manifest(&damaged);
        }
    }

    #[test]
    fn manifest_that_promises_what_no_host_has_is_refused() {
        let change = |change: fn(&mut Manifest)| {
            let mut manifest = manifest("parse");
            change(&mut manifest);
            check_manifest(&manifest)
        };
        assert!(change(|m| m.wit = Some("0.1.0".to_owned())).is_ok());
        for wit in ["0.1.4", "0.2.0", "1.1.0", "0.0.9", "x"] {
            let manifest = Manifest { wit: Some(wit.to_owned()), ..manifest("parse") };
            assert!(matches!(check_manifest(&manifest), Err(ManifestError::Wit { .. })), "{wit}");
        }
        for version in ["", "1", "1.0", "v1.0.0", "x"] {
            let manifest = Manifest { version: version.to_owned(), ..manifest("parse") };
            assert!(matches!(check_manifest(&manifest), Err(ManifestError::Version { .. })), "{version}");
        }
        for host in ["*", "scores.example", "scores.example:8443", "[::1]:9", "10.0.0.0/8"] {
            let mut manifest = manifest("parse");
            manifest.grants.http.push(host.to_owned());
            assert!(check_manifest(&manifest).is_ok(), "{host}");
        }
        for host in ["", "https://scores.example", "user@scores.example", "*.example", "a b"] {
            let mut manifest = manifest("parse");
            manifest.grants.http.push(host.to_owned());
            assert!(matches!(check_manifest(&manifest), Err(ManifestError::Host { .. })), "{host}");
        }
        assert!(matches!(change(|m| m.config_schema = Some(5.into())), Err(ManifestError::Schema { .. })));
        assert!(matches!(
            change(|m| m.limits.deadline_ms = Some(0)),
            Err(ManifestError::Zero { limit: "deadline_ms" })
        ));
    }

    #[test]
    fn manifest_unknown_field_or_bad_name_is_refused() {
        let wasm = embed_manifest(MODULE, &manifest("parse")).unwrap();
        let text = String::from_utf8_lossy(&wasm).replace("version", "versiom");
        assert!(matches!(read_manifest(text.as_bytes()), Err(ManifestError::Json(_))));
        for name in ["", "Parse", "a/b", "ä", &"x".repeat(65)] {
            assert!(
                matches!(embed_manifest(MODULE, &manifest(name)), Err(ManifestError::Name { .. })),
                "{name}"
            );
        }
    }
}
