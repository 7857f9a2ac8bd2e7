//! Secrets with which requests are signed instead of carrying a key: Signature Version 4, as AWS's SDKs do it.
//!
//! Whoever checks such a signature needs the secret itself. None is stored: each is made, whenever it is needed, from the id
//! of its key, the number of its secret and one random root of the host's, which is in a file that nobody else may read. The
//! root is drawn for the first key that may sign; without it no signature is right any more, and keys have to be rotated.

use std::fmt;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use wasmill_tenant::{Moment, Refused, TenantName, Who};

use super::Control;
use crate::error::{ControlError, StoreError};
use crate::file;

const FORMAT: u64 = 1;
const ROOT_BYTES: usize = 32;
/// Of the digest; 40 characters of text.
const SECRET_BYTES: usize = 30;
/// What the root is used for; another use has another text.
const PURPOSE: &[u8] = b"wasmill signature v4 secret\0";

/// What a client signs with.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct SigningPair {
    /// The id of the key.
    pub access_key_id: String,
    pub secret_access_key: String,
}

impl fmt::Debug for SigningPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningPair({})", self.access_key_id)
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    root: String,
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct Root(OnceLock<hmac::Key>);

impl Root {
    fn secret(&self, id: &str, number: u64) -> Option<String> {
        let mut text = hmac::Context::with_key(self.0.get()?);
        text.update(PURPOSE);
        text.update(id.as_bytes());
        text.update(b"\0");
        text.update(number.to_string().as_bytes());
        Some(STANDARD.encode(text.sign().as_ref().get(..SECRET_BYTES)?))
    }

    fn set(&self, root: &[u8]) {
        self.0.get_or_init(|| hmac::Key::new(hmac::HMAC_SHA256, root));
    }
}

impl Control {
    fn root_path(&self) -> std::path::PathBuf {
        self.dir.with_file_name("signing-root.json")
    }

    /// Reads the root, if there is one.
    pub(super) fn read_root(&self) -> Result<(), ControlError> {
        let path = self.root_path();
        let Some(Stored { root }) = file::read::<Stored>(&path, FORMAT)? else { return Ok(()) };
        let root = STANDARD.decode(root).ok().filter(|root| root.len() == ROOT_BYTES);
        let root = root.ok_or_else(|| StoreError::Unreadable {
            path,
            reason: format!("expected {ROOT_BYTES} bytes in base64"),
        })?;
        self.root.set(&root);
        Ok(())
    }

    /// Draws the root, if there is none yet. The lock of changes is held. Blocks on the disk.
    pub(super) fn draw_root(&self) -> Result<(), ControlError> {
        if self.root.0.get().is_some() {
            return Ok(());
        }
        let mut root = [0; ROOT_BYTES];
        SystemRandom::new()
            .fill(&mut root)
            .map_err(|_none| ControlError::Draw { reason: "the system has no randomness".to_owned() })?;
        file::make_directory(&self.dir)?;
        file::write(&self.root_path(), FORMAT, &Stored { root: STANDARD.encode(root) })?;
        self.root.set(&root);
        Ok(())
    }

    /// What the newest secret of a key signs with; `None` where the key may not sign.
    ///
    /// # Errors
    /// There is no such tenant.
    pub fn signing_pair(&self, name: &TenantName, id: &str) -> Result<Option<SigningPair>, ControlError> {
        let tenant = self.found(name)?;
        let newest = tenant.key(id).filter(|key| key.signs).and_then(|key| key.secrets.first());
        Ok(newest.and_then(|newest| {
            let secret_access_key = self.root.secret(id, newest.number)?;
            Some(SigningPair { access_key_id: id.to_owned(), secret_access_key })
        }))
    }

    /// The secrets that a signature of this key may be made with, each with its number: none where there is no such key, or
    /// it may not sign.
    pub fn signing_secrets(&self, id: &str) -> Vec<(u64, String)> {
        let directory = self.directory();
        let tenant = directory.owner(id).and_then(|owner| directory.tenant(owner));
        let key = tenant.and_then(|tenant| tenant.key(id)).filter(|key| key.signs);
        let numbers = key.into_iter().flat_map(|key| &key.secrets).map(|secret| secret.number);
        numbers.filter_map(|number| Some((number, self.root.secret(id, number)?))).collect()
    }

    /// Who it is that signed with this secret of this key.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn signed(&self, id: &str, secret: u64, now: Moment) -> Result<Who, Refused> {
        let who = self.directory().who(id, secret, now)?;
        self.used.note(&who.key, now);
        Ok(who)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasmill_tenant::{NewKey, Scope, Scopes};

    use super::*;

    fn new(signs: bool) -> NewKey {
        NewKey {
            name: "edge".to_owned(),
            scopes: [Scope::Push].into_iter().collect(),
            expires_ms: None,
            signs,
        }
    }

    #[test]
    fn key_signs_with_a_secret_that_is_stored_nowhere_and_the_same_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let name = TenantName::default_tenant();
        let control = Control::open(dir.path()).unwrap();
        let (plain, _) = control.create_key(&name, new(false), 1).unwrap();
        assert!(!dir.path().join("control/signing-root.json").exists(), "nobody signs yet");
        let (text, view) = control.create_key(&name, new(true), 1).unwrap();
        assert!(view.signs);
        let pair = control.signing_pair(&name, text.id()).unwrap().unwrap();
        assert_eq!((pair.access_key_id.as_str(), pair.secret_access_key.len()), (text.id(), 40));
        assert_eq!(control.signing_pair(&name, plain.id()).unwrap(), None);
        assert!(control.signing_secrets(plain.id()).is_empty());
        assert!(control.signing_secrets("nobody").is_empty());
        assert!(!format!("{pair:?}").contains(&pair.secret_access_key));

        let control = Control::open(dir.path()).unwrap();
        assert_eq!(control.signing_secrets(text.id()), [(1, pair.secret_access_key.clone())]);
        assert_eq!(control.signed(text.id(), 1, 5).unwrap().key, text.id());
        let secret = pair.secret_access_key.as_bytes();
        for file in ["control/signing-root.json", "control/tenants/default.json"] {
            let stored = std::fs::read(dir.path().join(file)).unwrap();
            assert!(!stored.windows(secret.len()).any(|part| part == secret), "{file}");
        }
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.path().join("control/signing-root.json")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o077, 0);

        // For the grace time both are right, and afterwards the newer one.
        let by: Scopes = [Scope::Admin].into_iter().collect();
        control.rotate_key(&name, text.id(), Duration::from_millis(10), by, 100).unwrap();
        let numbers: Vec<u64> = control.signing_secrets(text.id()).into_iter().map(|(of, _)| of).collect();
        assert_eq!(numbers, [2, 1]);
        assert!(control.signed(text.id(), 1, 109).is_ok());
        assert_eq!(control.signed(text.id(), 1, 110), Err(Refused::Replaced));
        let newer = control.signing_pair(&name, text.id()).unwrap().unwrap();
        assert_ne!(newer.secret_access_key, pair.secret_access_key);
        control.revoke_key(&name, text.id(), by, 200).unwrap();
        assert_eq!(control.signed(text.id(), 2, 200), Err(Refused::Revoked));
    }

    #[test]
    fn root_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("control")).unwrap();
        std::fs::write(dir.path().join("control/signing-root.json"), r#"{"format":1,"root":"AAAA"}"#)
            .unwrap();
        let error = Control::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("signing-root.json") && error.contains("32 bytes"), "{error}");
    }
}
