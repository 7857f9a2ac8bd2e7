//! Tenants and keys of a running host: changed one after another, read at any time.

mod filed;
mod quotas;
mod signing;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use serde::Serialize;
use wasmill_tenant::{
    Directory, Failures, KNOWN_MAX, Key, KeyText, Moment, NewKey, Refused, RetryAfter, Scopes, SecretHash,
    Tenant, TenantName, Verified, Who, is_label, verify,
};

use crate::audit::{Actor, AuditLog};
use crate::definitions::{Defined, Definition, Definitions, Discarded};
use crate::error::{ControlError, StoreError};
use crate::file;
use crate::last_used::LastUsed;

pub use self::filed::is_stored;
pub use self::quotas::stored_quotas;
pub use self::signing::SigningPair;

const FORMAT: u64 = 1;
const TENANTS_MAX: usize = 10_000;
/// Of one tenant, which have not ended.
const KEYS_MAX: usize = 1000;
/// Of one tenant, which have ended and stay in the list; past it the one goes that ended first.
const ENDED_MAX: usize = 1000;
/// How long a key that has ended stays in the list.
const ENDED_KEPT_MS: Moment = 90 * 24 * 3600 * 1000;

/// A key, as it may be shown: nothing of its secrets but when they were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyView {
    pub id: String,
    pub name: String,
    pub tenant: TenantName,
    pub scopes: Scopes,
    /// Whether requests may be signed with it.
    pub signs: bool,
    /// `active`, `expired` or `revoked`.
    pub state: &'static str,
    pub created_ms: Moment,
    pub expires_ms: Option<Moment>,
    pub revoked_ms: Option<Moment>,
    pub last_used_ms: Option<Moment>,
    pub rotated_ms: Option<Moment>,
    /// The end of the grace time of the secret before.
    pub previous_until_ms: Option<Moment>,
}

/// A tenant, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantView {
    pub name: TenantName,
    pub created_ms: Moment,
    pub disabled: bool,
    /// Those that have not ended.
    pub keys: usize,
    /// A configuration file names it, or did.
    #[serde(skip)]
    pub filed: bool,
}

/// See the head of this file. Every function that changes something blocks on the disk.
pub struct Control {
    dir: PathBuf,
    directory: RwLock<Directory>,
    /// Held for the whole of a change.
    changing: Mutex<()>,
    verified: Mutex<Verified>,
    failures: Mutex<Failures>,
    used: LastUsed,
    definitions: Definitions,
    root: signing::Root,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    /// Reads what is there; `data_dir` is the host's.
    ///
    /// # Errors
    /// A file cannot be read; it is named.
    pub fn open(data_dir: &Path) -> Result<Control, ControlError> {
        let dir = data_dir.join("control").join("tenants");
        let mut directory = Directory::default();
        // It is always there, and written when something of it changes.
        directory.put(Tenant::new(TenantName::default_tenant(), 0));
        let mut ids = HashSet::new();
        for path in file::list(&dir)? {
            let Some(tenant) = file::read::<Tenant>(&path, FORMAT)? else { continue };
            let unreadable = |reason: String| StoreError::Unreadable { path: path.clone(), reason };
            if path.file_stem().is_none_or(|stem| stem != tenant.name.as_str()) {
                return Err(unreadable(format!("it is about tenant {}", tenant.name)).into());
            }
            for key in &tenant.keys {
                if !ids.insert(key.id.clone()) {
                    return Err(unreadable(format!("key {} is in another file too", key.id)).into());
                }
                for secret in &key.secrets {
                    let wrong = |error| unreadable(format!("key {}: {error}", key.id));
                    secret.hash.check().map_err(wrong)?;
                }
            }
            directory.put(tenant);
        }
        let draw = |error: &dyn std::fmt::Display| ControlError::Draw { reason: error.to_string() };
        let control = Control {
            directory: RwLock::new(directory),
            changing: Mutex::new(()),
            verified: Mutex::new(Verified::new(KNOWN_MAX).map_err(|error| draw(&error))?),
            failures: Mutex::new(Failures::default()),
            used: LastUsed::open(data_dir.join("control").join("last-used.json")),
            definitions: Definitions::open(data_dir.join("control").join("streams"))?,
            root: signing::Root::default(),
            dir,
        };
        control.read_root()?;
        Ok(control)
    }

    fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    // Who asks.

    /// Who has this key, if its text was verified before: costs no hash that takes time.
    pub fn known(&self, text: &KeyText, now: Moment) -> Option<Result<Who, Refused>> {
        let secret = lock(&self.verified).find(text)?;
        Some(self.who(text, secret, now))
    }

    fn who(&self, text: &KeyText, secret: u64, now: Moment) -> Result<Who, Refused> {
        let who = self.directory().who(text.id(), secret, now)?;
        self.used.note(&who.key, now);
        Ok(who)
    }

    /// Whether [`Control::attempt`] would be refused.
    ///
    /// # Errors
    /// Too many attempts from there have failed.
    pub fn may_attempt(&self, from: IpAddr, now: Moment) -> Result<(), RetryAfter> {
        lock(&self.failures).look(from, now)
    }

    /// Before [`Control::verify`].
    ///
    /// # Errors
    /// Too many attempts from there have failed.
    pub fn attempt(&self, from: IpAddr, now: Moment) -> Result<(), RetryAfter> {
        lock(&self.failures).take(from, now)
    }

    /// The attempt did not fail.
    pub fn succeeded(&self, from: IpAddr) {
        lock(&self.failures).give_back(from);
    }

    /// Who has this key. Takes milliseconds of a processor.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn verify(&self, text: &KeyText, now: Moment) -> Result<Who, Refused> {
        let hashes = self.directory().hashes(text);
        let secret = verify(text, &hashes)?;
        lock(&self.verified).remember(text, secret);
        self.who(text, secret, now)
    }

    /// The tenant of a key, for the log of what was refused.
    pub fn owner(&self, id: &str) -> Option<TenantName> {
        self.directory().owner(id).cloned()
    }

    /// Whether there is such a tenant, and whether it is disabled.
    pub fn tenant_disabled(&self, name: &TenantName) -> Option<bool> {
        self.directory().tenant(name).map(|tenant| tenant.disabled)
    }

    /// Stores when keys were last used.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store_last_used(&self) -> Result<(), ControlError> {
        Ok(self.used.store(|id| self.directory().owner(id).is_some())?)
    }

    // Tenants.

    pub fn tenants(&self, now: Moment) -> Vec<TenantView> {
        self.directory().tenants().map(|tenant| view(tenant, now)).collect()
    }

    /// # Errors
    /// There is none of this name.
    pub fn tenant(&self, name: &TenantName, now: Moment) -> Result<TenantView, ControlError> {
        let tenant = self.found(name)?;
        Ok(view(&tenant, now))
    }

    fn found(&self, name: &TenantName) -> Result<Arc<Tenant>, ControlError> {
        let directory = self.directory();
        directory.tenant(name).cloned().ok_or_else(|| ControlError::NoTenant { name: name.clone() })
    }

    /// Makes a tenant, with a log of its own: that of another one who had the name before is not its to read.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn create_tenant(
        &self,
        audit: &AuditLog,
        name: &TenantName,
        now: Moment,
    ) -> Result<TenantView, ControlError> {
        let _one = lock(&self.changing);
        {
            let directory = self.directory();
            if directory.tenant(name).is_some() {
                return Err(ControlError::TenantExists { name: name.clone() });
            }
            if directory.tenants().count() >= TENANTS_MAX {
                return Err(ControlError::TooManyTenants { max: TENANTS_MAX });
            }
        }
        audit.put_aside(name, now)?;
        let tenant = Tenant::new(name.clone(), now);
        let view = view(&tenant, now);
        self.put(tenant, now)?;
        Ok(view)
    }

    /// Ends the use of all of a tenant's keys, or allows it again.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn disable_tenant(
        &self,
        name: &TenantName,
        disabled: bool,
        now: Moment,
    ) -> Result<TenantView, ControlError> {
        let _one = lock(&self.changing);
        let mut tenant = Tenant::clone(&*self.found(name)?);
        if name.is_default() {
            return Err(ControlError::DefaultTenant { name: name.clone() });
        }
        tenant.disabled = disabled;
        let view = view(&tenant, now);
        self.put(tenant, now)?;
        Ok(view)
    }

    /// Removes a disabled tenant with its keys. `streams` is how many it has, `file` the one that names it by then.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn delete_tenant(
        &self,
        name: &TenantName,
        streams: usize,
        file: impl FnOnce() -> Option<String>,
        then: impl FnOnce(),
    ) -> Result<(), ControlError> {
        let _one = lock(&self.changing);
        let tenant = self.found(name)?;
        let streams = streams.max(self.definitions.count(name));
        if name.is_default() {
            return Err(ControlError::DefaultTenant { name: name.clone() });
        }
        if let Some(file) = file() {
            return Err(ControlError::TenantOfFile { name: name.clone(), file });
        }
        if streams > 0 {
            return Err(ControlError::HasStreams { name: name.clone(), streams });
        }
        if !tenant.disabled {
            return Err(ControlError::NotDisabled { name: name.clone() });
        }
        self.definitions.forget(name)?;
        file::remove(&self.path(name))?;
        self.directory.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        then();
        Ok(())
    }

    // Streams.

    /// Streams that are defined here.
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// Gives a stream a definition, its next version. Durable when it returns.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn define(
        &self,
        tenant: &TenantName,
        stream: &str,
        definition: Definition,
    ) -> Result<Defined, ControlError> {
        let _one = lock(&self.changing);
        self.found(tenant)?;
        self.definitions.put(tenant, stream, definition)
    }

    /// Changes what the definition of a stream was made from, if its version is the one that holds. Durable when it returns.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn amend(
        &self,
        tenant: &TenantName,
        stream: &str,
        version: u64,
        origin: serde_json::Value,
    ) -> Result<(), ControlError> {
        let _one = lock(&self.changing);
        self.definitions.amend(tenant, stream, version, origin)
    }

    /// Ends a stream, and notes what was discarded with it. Durable when it returns.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn undefine(
        &self,
        tenant: &TenantName,
        stream: &str,
        by: Actor,
        discarded: Discarded,
        now: Moment,
    ) -> Result<(), ControlError> {
        let _one = lock(&self.changing);
        self.definitions.end(tenant, stream, by, discarded, now)
    }

    // Keys. `by` is what the one who asks may do: a key that may do more is none to him.

    pub fn keys(&self, name: &TenantName, by: Scopes, now: Moment) -> Result<Vec<KeyView>, ControlError> {
        let tenant = self.found(name)?;
        let seen = tenant.keys.iter().filter(|key| by.cover(key.scopes));
        Ok(seen.map(|key| self.key_view(name, key, now)).collect())
    }

    /// # Errors
    /// There is none of this id.
    pub fn key(&self, name: &TenantName, id: &str, by: Scopes, now: Moment) -> Result<KeyView, ControlError> {
        let tenant = self.found(name)?;
        Ok(self.key_view(name, seen(&tenant, id, by)?, now))
    }

    /// Makes a key. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn create_key(
        &self,
        name: &TenantName,
        new: NewKey,
        now: Moment,
    ) -> Result<(KeyText, KeyView), ControlError> {
        if new.scopes.is_empty() {
            return Err(ControlError::NoScope);
        }
        if !is_label(&new.name) {
            return Err(ControlError::BadLabel { name: new.name.chars().take(16).collect() });
        }
        if let Some(expires_ms) = new.expires_ms.filter(|expires| *expires <= now) {
            return Err(ControlError::Past { expires_ms });
        }
        let text = KeyText::draw().map_err(|error| ControlError::Draw { reason: error.to_string() })?;
        let hash = hash(&text)?;
        let _one = lock(&self.changing);
        if new.signs {
            self.draw_root()?;
        }
        let mut tenant = Tenant::clone(&*self.found(name)?);
        tenant.keys.retain(|key| key.ended_ms(now).is_none_or(|ended| ended + ENDED_KEPT_MS > now));
        if tenant.keys.iter().filter(|key| key.ended_ms(now).is_none()).count() >= KEYS_MAX {
            return Err(ControlError::TooManyKeys { name: name.clone(), max: KEYS_MAX });
        }
        let mut ended: Vec<Moment> = tenant.keys.iter().filter_map(|key| key.ended_ms(now)).collect();
        ended.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(first) = ended.get(ENDED_MAX) {
            tenant.keys.retain(|key| key.ended_ms(now).is_none_or(|ended| ended > *first));
        }
        let key = Key::new(text.id().to_owned(), new, hash, now);
        let view = self.key_view(name, &key, now);
        tenant.keys.push(key);
        self.put(tenant, now)?;
        Ok((text, view))
    }

    /// Gives a key a new secret; the one before is good for `grace` more.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn rotate_key(
        &self,
        name: &TenantName,
        id: &str,
        grace: Duration,
        by: Scopes,
        now: Moment,
    ) -> Result<(KeyText, KeyView), ControlError> {
        let text = KeyText::with_id(id).map_err(|error| ControlError::Draw { reason: error.to_string() })?;
        let until = now.saturating_add(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        let hash = hash(&text)?;
        let view = self.change_key(name, id, by, now, |key| match key.state(now) {
            "active" => {
                key.rotate(hash, now, until);
                Ok(())
            }
            state => Err(ControlError::KeyEnded { id: id.to_owned(), state }),
        })?;
        Ok((text, view))
    }

    /// Ends a key, at once and for good.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn revoke_key(
        &self,
        name: &TenantName,
        id: &str,
        by: Scopes,
        now: Moment,
    ) -> Result<KeyView, ControlError> {
        self.change_key(name, id, by, now, |key| {
            key.revoke(now);
            Ok(())
        })
    }

    fn change_key(
        &self,
        name: &TenantName,
        id: &str,
        by: Scopes,
        now: Moment,
        change: impl FnOnce(&mut Key) -> Result<(), ControlError>,
    ) -> Result<KeyView, ControlError> {
        let _one = lock(&self.changing);
        let mut tenant = Tenant::clone(&*self.found(name)?);
        seen(&tenant, id, by)?;
        let key = tenant.keys.iter_mut().find(|key| key.id == id);
        let key = key.ok_or_else(|| ControlError::NoKey { id: id.to_owned() })?;
        change(key)?;
        let view = self.key_view(name, key, now);
        self.put(tenant, now)?;
        Ok(view)
    }

    fn key_view(&self, tenant: &TenantName, key: &Key, now: Moment) -> KeyView {
        let newest = key.secrets.first().filter(|newest| newest.number > 1);
        let before = key.secrets.get(1).and_then(|before| before.until_ms);
        KeyView {
            id: key.id.clone(),
            name: key.name.clone(),
            tenant: tenant.clone(),
            scopes: key.scopes,
            signs: key.signs,
            state: key.state(now),
            created_ms: key.created_ms,
            expires_ms: key.expires_ms,
            revoked_ms: key.revoked_ms,
            last_used_ms: self.used.of(&key.id),
            rotated_ms: newest.map(|newest| newest.created_ms),
            previous_until_ms: before.filter(|until| *until > now && key.state(now) == "active"),
        }
    }

    /// On disk first, then in use.
    fn put(&self, mut tenant: Tenant, now: Moment) -> Result<(), ControlError> {
        if tenant.created_ms == 0 {
            tenant.created_ms = now;
        }
        file::make_directory(&self.dir)?;
        file::write(&self.path(&tenant.name), FORMAT, &tenant)?;
        self.directory.write().unwrap_or_else(PoisonError::into_inner).put(tenant);
        Ok(())
    }

    fn path(&self, name: &TenantName) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }
}

fn hash(text: &KeyText) -> Result<SecretHash, ControlError> {
    SecretHash::of(text).map_err(|error| ControlError::Draw { reason: error.to_string() })
}

fn seen<'a>(tenant: &'a Tenant, id: &str, by: Scopes) -> Result<&'a Key, ControlError> {
    let key = tenant.key(id).filter(|key| by.cover(key.scopes));
    key.ok_or_else(|| ControlError::NoKey { id: id.chars().take(40).collect() })
}

fn view(tenant: &Tenant, now: Moment) -> TenantView {
    TenantView {
        name: tenant.name.clone(),
        created_ms: tenant.created_ms,
        disabled: tenant.disabled,
        keys: tenant.keys.iter().filter(|key| key.state(now) == "active").count(),
        filed: tenant.filed,
    }
}

#[cfg(test)]
mod tests;
