//! `NAME.json` beside `NAME.wasm`: how an operator narrows what a plugin's manifest asks for.
//!
//! It may lower limits and leave out grants, for example `{"limits": {"memory_bytes": 33554432}, "grants": {"secrets":
//! []}}`. What it does not mention stays as in the manifest. Anything else, and anything that would widen, is refused.

use serde::Deserialize;
use serde_json::{Map, Value};
use wasmill_transform::{Manifest, http_covers};

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sidecar {
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    grants: Grants,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    memory_bytes: Option<u64>,
    deadline_ms: Option<u64>,
    output_bytes: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grants {
    files: Option<Vec<String>>,
    secrets: Option<Vec<String>>,
    http: Option<Vec<String>>,
    state: Option<bool>,
    models: Option<Vec<String>>,
}

/// Why a sidecar was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SidecarError {
    #[error("not what a sidecar may hold: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{field} must be {wanted}")]
    Shape { field: String, wanted: &'static str },
    #[error("limits.{limit} of {asked} is over the manifest's {has}; a sidecar may only lower it")]
    Wider { limit: &'static str, asked: u64, has: u64 },
    #[error("limits.{limit} must be at least 1")]
    Zero { limit: &'static str },
    #[error("grants.{kind} has {name:?}, which the manifest does not ask for; a sidecar may only leave out")]
    NotAsked { kind: &'static str, name: String },
    #[error("grants.{kind} cannot be narrowed: the plugin has no manifest that asks for any")]
    NoManifest { kind: &'static str },
}

impl Sidecar {
    pub(crate) fn parse(json: &[u8]) -> Result<Sidecar, SidecarError> {
        let sidecar = serde_json::from_slice(json)?;
        // The derived reader takes lists for objects and null for nothing said, and neither can be what was meant.
        let value: Value = serde_json::from_slice(json)?;
        let whole = fields("the sidecar", &value)?;
        for (name, part) in whole {
            for (field, value) in fields(name, part)? {
                if value.is_null() {
                    let field = format!("{name}.{field}");
                    return Err(SidecarError::Shape { field, wanted: "left out or given a value, not null" });
                }
            }
        }
        Ok(sidecar)
    }

    /// The manifest as this sidecar leaves it; `None` = the plugin has no manifest. A limit that the manifest does not
    /// have is the host's, which the sidecar cannot raise: the smaller of the two holds.
    pub(crate) fn narrow(&self, manifest: Option<&Manifest>) -> Result<Manifest, SidecarError> {
        let has = manifest.map(|manifest| manifest.limits).unwrap_or_default();
        let limits = &self.limits;
        let pairs = [
            ("memory_bytes", limits.memory_bytes, has.memory_bytes),
            ("deadline_ms", limits.deadline_ms, has.deadline_ms),
            ("output_bytes", limits.output_bytes, has.output_bytes),
        ];
        for (limit, asked, has) in pairs {
            match (asked, has) {
                (Some(0), _) => return Err(SidecarError::Zero { limit }),
                (Some(asked), Some(has)) if asked > has => {
                    return Err(SidecarError::Wider { limit, asked, has });
                }
                _ => {}
            }
        }
        let none = wasmill_transform::Grants::default();
        let asked = manifest.map_or(&none, |manifest| &manifest.grants);
        let Grants { files, secrets, http, state: _, models } = &self.grants;
        for (kind, granted, asked) in [
            ("files", files, &asked.files),
            ("secrets", secrets, &asked.secrets),
            ("http", http, &asked.http),
            ("models", models, &asked.models),
        ] {
            let Some(granted) = granted else { continue };
            if manifest.is_none() {
                return Err(SidecarError::NoManifest { kind });
            }
            // A host may be one of several that the manifest asks for.
            let is_asked = |name: &&String| match kind {
                "http" => asked.iter().any(|asked| http_covers(asked, name)),
                _ => asked.contains(name),
            };
            if let Some(name) = granted.iter().find(|name| !is_asked(name)) {
                return Err(SidecarError::NotAsked { kind, name: name.clone() });
            }
        }
        if self.grants.state == Some(true) && !asked.state {
            let kind = "state";
            return Err(match manifest {
                None => SidecarError::NoManifest { kind },
                Some(_) => SidecarError::NotAsked { kind, name: "true".to_owned() },
            });
        }
        Ok(self.restrict(manifest.cloned().unwrap_or_default()))
    }

    /// The same for another version of the plugin, which may ask for less than this sidecar allows: the smaller limit
    /// and what is in both lists of grants.
    pub(crate) fn restrict(&self, mut manifest: Manifest) -> Manifest {
        let smaller = |asked: Option<u64>, has: Option<u64>| match (asked, has) {
            (Some(asked), Some(has)) => Some(asked.min(has)),
            (asked, has) => asked.or(has),
        };
        let limits = &mut manifest.limits;
        limits.memory_bytes = smaller(self.limits.memory_bytes, limits.memory_bytes);
        limits.deadline_ms = smaller(self.limits.deadline_ms, limits.deadline_ms);
        limits.output_bytes = smaller(self.limits.output_bytes, limits.output_bytes);
        if let Some(files) = &self.grants.files {
            manifest.grants.files.retain(|name| files.contains(name));
        }
        if let Some(secrets) = &self.grants.secrets {
            manifest.grants.secrets.retain(|name| secrets.contains(name));
        }
        if let Some(models) = &self.grants.models {
            manifest.grants.models.retain(|name| models.contains(name));
        }
        if let Some(http) = &self.grants.http {
            let asked = std::mem::take(&mut manifest.grants.http);
            let has = |list: &[String], host: &str| list.iter().any(|entry| http_covers(entry, host));
            let mut both: Vec<String> = asked.iter().filter(|host| has(http, host)).cloned().collect();
            both.extend(http.iter().filter(|host| has(&asked, host) && !asked.contains(host)).cloned());
            manifest.grants.http = both;
        }
        manifest.grants.state &= self.grants.state != Some(false);
        manifest
    }
}

fn fields<'a>(name: &str, value: &'a Value) -> Result<&'a Map<String, Value>, SidecarError> {
    let wrong = || SidecarError::Shape { field: name.to_owned(), wanted: "an object" };
    value.as_object().ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use wasmill_transform::{Grants, ManifestLimits};

    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            name: "parse".to_owned(),
            version: "1.0.0".to_owned(),
            grants: Grants {
                files: vec!["table".to_owned()],
                secrets: vec!["key".to_owned()],
                http: vec!["a.example".to_owned()],
                state: true,
                models: Vec::new(),
            },
            limits: ManifestLimits { memory_bytes: Some(100), deadline_ms: None, output_bytes: Some(10) },
            ..Manifest::default()
        }
    }

    fn narrowed(json: &str) -> Result<Manifest, SidecarError> {
        Sidecar::parse(json.as_bytes())?.narrow(Some(&manifest()))
    }

    #[test]
    fn narrow_takes_smaller_limits_and_fewer_grants() {
        let got = narrowed(
            r#"{"limits": {"memory_bytes": 50, "deadline_ms": 7}, "grants": {"files": [], "secrets": ["key"], "http": []}}"#,
        )
        .unwrap();
        assert_eq!(got.limits.memory_bytes, Some(50));
        assert_eq!(got.limits.deadline_ms, Some(7));
        assert_eq!(got.limits.output_bytes, Some(10));
        assert!(got.grants.files.is_empty());
        assert_eq!(got.grants.secrets, ["key"]);
        assert!(got.grants.http.is_empty() && got.grants.state);
        assert!(!narrowed(r#"{"grants": {"state": false}}"#).unwrap().grants.state);
        let stateless = Manifest { grants: Grants::default(), ..manifest() };
        let wider = Sidecar::parse(br#"{"grants": {"state": true}}"#).unwrap().narrow(Some(&stateless));
        assert!(matches!(wider, Err(SidecarError::NotAsked { kind: "state", .. })));
        let hosts = |has: &[&str], sidecar: &str| {
            let mut manifest = manifest();
            manifest.grants.http = has.iter().map(|host| (*host).to_owned()).collect();
            let sidecar =
                Sidecar::parse(format!(r#"{{"grants": {{"http": {sidecar}}}}}"#).as_bytes()).unwrap();
            sidecar.narrow(Some(&manifest)).map(|narrow| narrow.grants.http)
        };
        assert_eq!(hosts(&["*"], r#"["a.example", "10.0.0.0/8"]"#).unwrap(), ["a.example", "10.0.0.0/8"]);
        assert_eq!(hosts(&["a.example", "b.example"], r#"["a.example:8443"]"#).unwrap(), ["a.example:8443"]);
        assert_eq!(hosts(&["a.example"], r#"["a.example"]"#).unwrap(), ["a.example"]);
        assert!(hosts(&["a.example:8443"], r#"["a.example"]"#).is_err());
        assert_eq!(narrowed("{}").unwrap(), manifest());
    }

    #[test]
    fn narrow_refuses_what_widens_and_what_it_does_not_know() {
        for (json, part) in [
            (r#"{"limits": {"memory_bytes": 101}}"#, "over the manifest's 100"),
            (r#"{"limits": {"output_bytes": 0}}"#, "at least 1"),
            (r#"{"grants": {"secrets": ["key", "other"]}}"#, "\"other\""),
            (r#"{"grants": {"files": ["key"]}}"#, "grants.files has \"key\""),
            (r#"{"grants": {"models": ["key"]}}"#, "grants.models has \"key\""),
            (r#"{"grants": {"http": ["b.example"]}}"#, "grants.http has \"b.example\""),
            (r#"{"name": "filter"}"#, "unknown field `name`"),
            (r#"{"limits": {"cpu": 1}}"#, "unknown field `cpu`"),
            (r#"{"limits": {"memory_bytes": -1}}"#, "not what a sidecar may hold"),
            ("[]", "the sidecar must be an object"),
            (r#"{"limits": [1, 1, 1]}"#, "limits must be an object"),
            (r#"{"grants": {"secrets": null}}"#, "grants.secrets must be left out or given a value"),
            (r#"{"limits": {"memory_bytes": 5, "memory_bytes": 50}}"#, "duplicate field"),
            ("{", "not what a sidecar may hold"),
            ("", "not what a sidecar may hold"),
        ] {
            let error = narrowed(json).unwrap_err().to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn narrow_without_manifest_takes_limits_and_no_grants() {
        let limits = Sidecar::parse(br#"{"limits": {"memory_bytes": 5}}"#).unwrap();
        let got = limits.narrow(None).unwrap();
        assert_eq!((got.name.as_str(), got.limits.memory_bytes), ("", Some(5)));
        let grants = Sidecar::parse(br#"{"grants": {"files": []}}"#).unwrap();
        assert!(matches!(grants.narrow(None), Err(SidecarError::NoManifest { kind: "files" })));
    }

    #[test]
    fn restrict_of_an_older_version_never_widens_it() {
        let sidecar =
            Sidecar::parse(br#"{"limits": {"memory_bytes": 500}, "grants": {"files": ["table", "new"]}}"#)
                .unwrap();
        let got = sidecar.restrict(manifest());
        assert_eq!(got, manifest());
    }
}
