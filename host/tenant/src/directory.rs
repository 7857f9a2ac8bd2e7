//! All tenants and their keys, and whose a presented key is.
//!
//! A tenant is replaced as a whole when something of it changes, so that who reads never sees half a change, and what is
//! stored is what is used.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Moment;
use crate::hash::{SecretHash, verify_nothing};
use crate::key::Key;
use crate::key_text::KeyText;
use crate::name::TenantName;
use crate::quota::Quotas;
use crate::scope::Scopes;

/// Secrets that a key has at most; a key that is wrong costs as many hashes whatever it is wrong in.
const SECRETS_MAX: usize = 2;

/// One tenant, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    pub name: TenantName,
    pub created_ms: Moment,
    /// Its keys are of no use while it is.
    #[serde(default)]
    pub disabled: bool,
    /// A configuration file names it, or did.
    #[serde(default)]
    pub filed: bool,
    #[serde(default)]
    pub keys: Vec<Key>,
    /// Those that were set at run time.
    #[serde(default, skip_serializing_if = "Quotas::is_empty")]
    pub quotas: Quotas,
}

impl Tenant {
    pub fn new(name: TenantName, now: Moment) -> Tenant {
        Tenant {
            name,
            created_ms: now,
            disabled: false,
            filed: false,
            keys: Vec::new(),
            quotas: Quotas::default(),
        }
    }

    pub fn key(&self, id: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }
}

/// Who asks, once it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub tenant: TenantName,
    /// The id of the key.
    pub key: String,
    pub name: String,
    pub scopes: Scopes,
}

/// Why a key that has the form of one is refused. It is for the audit log; a client is told the same of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Unknown,
    WrongSecret,
    Expired,
    Revoked,
    /// The grace time of its secret is over.
    Replaced,
    TenantDisabled,
}

impl Refused {
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Unknown => "unknown key",
            Refused::WrongSecret => "wrong secret",
            Refused::Expired => "expired key",
            Refused::Revoked => "revoked key",
            Refused::Replaced => "secret that was rotated out",
            Refused::TenantDisabled => "key of a disabled tenant",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    tenants: BTreeMap<TenantName, Arc<Tenant>>,
    owners: HashMap<String, TenantName>,
}

impl Directory {
    /// Puts a tenant in, or in the place of what it was.
    pub fn put(&mut self, tenant: Tenant) {
        self.remove(&tenant.name.clone());
        for key in &tenant.keys {
            self.owners.insert(key.id.clone(), tenant.name.clone());
        }
        self.tenants.insert(tenant.name.clone(), Arc::new(tenant));
    }

    pub fn remove(&mut self, name: &TenantName) {
        if let Some(before) = self.tenants.remove(name) {
            for key in &before.keys {
                self.owners.remove(&key.id);
            }
        }
    }

    pub fn tenant(&self, name: &TenantName) -> Option<&Arc<Tenant>> {
        self.tenants.get(name)
    }

    /// In the order of their names.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// Whose the key of this id is.
    pub fn owner(&self, id: &str) -> Option<&TenantName> {
        self.owners.get(id)
    }

    /// What is needed to verify a text, to be done without holding this.
    pub fn hashes(&self, text: &KeyText) -> Vec<(u64, SecretHash)> {
        let owner = self.owners.get(text.id()).and_then(|owner| self.tenants.get(owner));
        let Some(key) = owner.and_then(|tenant| tenant.key(text.id())) else { return Vec::new() };
        key.secrets.iter().map(|secret| (secret.number, secret.hash.clone())).collect()
    }

    /// Who it is that has this secret of this key.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn who(&self, id: &str, secret: u64, now: Moment) -> Result<Who, Refused> {
        let tenant = self.owners.get(id).and_then(|owner| self.tenants.get(owner)).ok_or(Refused::Unknown)?;
        let key = tenant.key(id).ok_or(Refused::Unknown)?;
        key.valid(secret, now)?;
        if tenant.disabled {
            return Err(Refused::TenantDisabled);
        }
        Ok(Who {
            tenant: tenant.name.clone(),
            key: key.id.clone(),
            name: key.name.clone(),
            scopes: key.scopes,
        })
    }
}

/// Which of the secrets a text is. It costs the same whether the key is known and however many secrets it has, unless it
/// is the right one. Takes milliseconds of a processor.
pub fn verify(text: &KeyText, hashes: &[(u64, SecretHash)]) -> Result<u64, Refused> {
    for place in 0..SECRETS_MAX {
        match hashes.get(place) {
            Some((number, hash)) if hash.verifies(text) => return Ok(*number),
            Some(_) => {}
            None => {
                verify_nothing(text);
            }
        }
    }
    Err(if hashes.is_empty() { Refused::Unknown } else { Refused::WrongSecret })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewKey, Scope};

    fn tenant(name: &str, texts: &[&KeyText]) -> Tenant {
        let mut tenant = Tenant::new(TenantName::new(name).unwrap(), 1);
        for text in texts {
            let new = NewKey {
                name: "n".to_owned(),
                scopes: [Scope::Push].into_iter().collect(),
                expires_ms: None,
                signs: false,
            };
            tenant.keys.push(Key::new(text.id().to_owned(), new, SecretHash::of(text).unwrap(), 1));
        }
        tenant
    }

    #[test]
    fn key_is_its_tenants_and_wrong_ones_are_told_apart() {
        let [one, other, stranger] = std::array::from_fn(|_| KeyText::draw().unwrap());
        let mut directory = Directory::default();
        directory.put(tenant("a", &[&one]));
        directory.put(tenant("b", &[&other]));
        let ask = |directory: &Directory, text: &KeyText| {
            verify(text, &directory.hashes(text)).and_then(|secret| directory.who(text.id(), secret, 5))
        };
        assert_eq!(ask(&directory, &one).unwrap().tenant.as_str(), "a");
        assert_eq!(ask(&directory, &other).unwrap().tenant.as_str(), "b");
        assert_eq!(ask(&directory, &stranger), Err(Refused::Unknown));
        let wrong = KeyText::with_id(one.id()).unwrap();
        assert_eq!(ask(&directory, &wrong), Err(Refused::WrongSecret));
        let mut disabled = tenant("b", &[&other]);
        disabled.disabled = true;
        directory.put(disabled);
        assert_eq!(ask(&directory, &other), Err(Refused::TenantDisabled));
        directory.put(tenant("b", &[]));
        assert_eq!((ask(&directory, &other), directory.owner(other.id())), (Err(Refused::Unknown), None));
        directory.remove(&TenantName::new("a").unwrap());
        assert_eq!(ask(&directory, &one), Err(Refused::Unknown));
    }

    #[test]
    fn stored_tenant_is_read_again_and_shows_no_hash_in_debug_text() {
        let text = KeyText::draw().unwrap();
        let tenant = tenant("a", &[&text]);
        let stored = serde_json::to_string(&tenant).unwrap();
        assert_eq!(serde_json::from_str::<Tenant>(&stored).unwrap(), tenant);
        assert!(stored.contains("argon2id") && !stored.contains(&text.reveal()[16..]));
        assert!(!format!("{tenant:?}").contains("argon2"));
    }
}
