//! From raw keys to what a tenant asks of its plugin files, and what it lets plugins have.
//!
//! For tenants other than `default` nothing is granted that the policy does not name, and no transform says where in the
//! machine anything comes from: who writes streams need not be who owns the host. It refuses to look at files: see `files.rs`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::authority::HttpReach;
use crate::raw;
use crate::resolve::Resolver;
use crate::secret::Secret;
use crate::settings::{FileAt, GrantPolicy, Signing};
use crate::tree;

/// Each is tried with each signature of a file.
const KEYS_MAX: usize = 16;

/// What one tenant may hand to its plugins.
#[derive(Clone)]
pub(crate) struct Policy {
    tenant: String,
    granted: GrantPolicy,
    files: BTreeMap<String, FileAt>,
    secrets: BTreeMap<String, Secret>,
    http: HttpReach,
    state: bool,
}

impl Policy {
    /// Where plugins may send.
    pub(crate) fn http(&self) -> &HttpReach {
        &self.http
    }

    /// In words, for a refusal.
    pub(crate) fn has_http(&self) -> String {
        self.has("http", &self.granted.http)
    }

    /// Why plugins may keep no state.
    pub(crate) fn state_denied(&self) -> Option<String> {
        (!self.state)
            .then(|| format!("[tenants.{}.grants] has no \"state = true\"", tree::segment(&self.tenant)))
    }

    /// What streams of the tenant keep of it.
    pub(crate) fn granted(&self) -> GrantPolicy {
        self.granted.clone()
    }

    fn has(&self, kind: &str, names: &[String]) -> String {
        let has = match names {
            [] => "grants none".to_owned(),
            names => format!("has {}", names.join(", ")),
        };
        format!("[tenants.{}.grants.{kind}] {has}", tree::segment(&self.tenant))
    }
}

impl Resolver<'_> {
    pub(crate) fn signing(&mut self, key: &str, signing: &raw::Signing) -> Signing {
        let keys_key = format!("{key}.keys");
        if signing.keys.len() > KEYS_MAX {
            self.problem(&keys_key, format!("{} keys, the limit is {KEYS_MAX}", signing.keys.len()));
        }
        if signing.keys.is_empty() && self.sound(&keys_key) {
            self.problem(&keys_key, "without a key no signature is good; `wasmill plugin keygen` makes one");
        }
        let mut keys = Vec::with_capacity(signing.keys.len());
        for (index, text) in signing.keys.iter().enumerate() {
            let bytes = text.strip_prefix("ed25519:").and_then(|base64| STANDARD.decode(base64).ok());
            match bytes.and_then(|bytes| bytes.try_into().ok()) {
                Some(found) => keys.push(found),
                // It may be a private one that went astray.
                None => self.problem(
                    &format!("{keys_key}[{index}]"),
                    "no public key, expected \"ed25519:\" and 44 characters of base64 as `wasmill plugin keygen` prints them",
                ),
            }
        }
        Signing { required: signing.required, keys }
    }

    /// The policy of a tenant other than `default`; without one nothing is granted.
    pub(crate) fn policy(&mut self, key: &str, tenant: &str, grants: Option<&raw::Grants>) -> Policy {
        let root = match grants.and_then(|grants| grants.root.as_ref()) {
            Some(written) => self.directory(&format!("{key}.root"), written),
            None => self.base.to_owned(),
        };
        let (mut files, mut secrets) = (BTreeMap::new(), BTreeMap::new());
        for (name, written) in grants.iter().flat_map(|grants| &grants.files) {
            let key = format!("{key}.files.{}", tree::segment(name));
            self.name(&key, "file", name);
            let file = match (self.object(&key, written), written) {
                (Some(object), _) => FileAt::Object(object),
                (None, raw::FileSource::Plain(path)) => FileAt::Path(self.below(&key, &root, path)),
                (None, raw::FileSource::Object(_)) => continue,
            };
            files.insert(name.clone(), file);
        }
        for (name, source) in grants.iter().flat_map(|grants| &grants.secrets) {
            let key = format!("{key}.secrets.{}", tree::segment(name));
            self.name(&key, "secret", name);
            let secret = self.secret(&key, source);
            secrets.insert(name.clone(), secret);
        }
        let written = grants.map(|grants| grants.http.clone()).unwrap_or_default();
        let http = self.reach(&format!("{key}.http"), &written);
        let granted = GrantPolicy {
            root,
            files: files.keys().cloned().collect(),
            secrets: secrets.keys().cloned().collect(),
            http: written,
        };
        let state = grants.is_some_and(|grants| grants.state);
        Policy { tenant: tenant.to_owned(), granted, files, secrets, http, state }
    }

    fn below(&mut self, key: &str, root: &Path, written: &str) -> PathBuf {
        let relative = Path::new(written);
        let inside =
            relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside || written.is_empty() {
            self.problem(
                key,
                format!("{written:?} must be a path below \"root\" ({}), without \"..\"", root.display()),
            );
        }
        root.join(relative)
    }

    /// A file that a transform names, by its name in the tenant's policy. `None`: there is no policy.
    pub(crate) fn granted_file(
        &self,
        asked: &str,
        source: &raw::FileSource,
    ) -> Option<Result<FileAt, String>> {
        let policy = self.policy.as_ref()?;
        let (file, named) = match source {
            raw::FileSource::Plain(written) => (policy.files.get(written), format!("{written:?}")),
            raw::FileSource::Object(_) => (None, "an object, which is none".to_owned()),
        };
        Some(file.cloned().ok_or_else(|| {
            format!(
                "file {asked:?} is not granted: the transform names {named} of the tenant's policy, and {}; whether the \
                 plugin's manifest asks for it does not matter then",
                policy.has("files", &policy.granted.files)
            )
        }))
    }

    /// A secret that a transform names.
    pub(crate) fn transform_secret(&mut self, key: &str, asked: &str, source: &raw::SecretSource) -> Secret {
        match (source, &self.policy) {
            (raw::SecretSource::Granted(_), _) | (_, None) => self.secret(key, source),
            (_, Some(policy)) => {
                let message = format!(
                    "secret {asked:?} is not granted: a transform of this tenant names one of the tenant's policy, as \
                     {{ granted = \"..\" }}, and {}",
                    policy.has("secrets", &policy.granted.secrets)
                );
                self.problem(key, message);
                Secret::new(String::new())
            }
        }
    }

    /// A secret by its name in the policy.
    pub(crate) fn granted_secret(&self, name: &str) -> Result<String, String> {
        let Some(policy) = &self.policy else {
            return Err(format!(
                "{{ granted = {name:?} }} is for streams of tenants other than \"default\", which have a policy; expected \
                 {{ env = \"..\" }} or {{ file = \"..\" }}"
            ));
        };
        policy.secrets.get(name).map(|secret| secret.reveal().to_owned()).ok_or_else(|| {
            format!(
                "secret {name:?} is not granted: {}; whether the plugin's manifest asks for it does not matter then",
                policy.has("secrets", &policy.granted.secrets)
            )
        })
    }
}
