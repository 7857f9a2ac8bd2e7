//! Streams that are defined over HTTP: created, replaced and removed by their tenants, and started again with the host.
//!
//! It owns which of two definitions holds. The file owns what it defines, and a stream that was defined over HTTP goes on
//! whatever the file says later; neither takes the other's name. It owns the order of a change, too: conditions are
//! looked at while the tenant's lock is held, so that of two clients who saw the same version one wins; then `changes`
//! does the work. A stream that cannot start is no reason for the host not to: it is known with what is wrong with it, and
//! tried again when its tenant's plugins change, and every minute.
//!
//! A crash leaves the old definition or the new one, and nothing lost or doubled. A new stream: nobody could push before
//! its definition was durable. A replaced one: the old one had delivered everything, and whatever was opened for the new
//! one is only places, which the next start finds as they are. A removed one: see `changes`.

mod starting;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use wasmill_buffer::StreamKey;
use wasmill_config::{self as config, Defined, Flaw};
use wasmill_control::{Actor, ControlError, Definition, Discarded, Version};
use wasmill_tenant::TenantName;

use super::changes::{ChangeError, Wanted};
use super::descriptors;
use super::host::Host;
use super::opening::{counted_problems, key_of};
use super::staging::staging_dirs;
use super::stats::wall_clock_ns;
use crate::api::Host as _;

/// What must be so for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Nothing was said: a stream is made, and none replaced.
    Unsaid,
    /// There is no such stream.
    New,
    /// There is one, of whatever version.
    There,
    Version(u64),
}

/// What a client asks of the definition of a stream.
#[derive(Debug)]
pub enum DefineRequest {
    Show {
        version: Option<u64>,
    },
    Versions,
    Put {
        definition: Value,
        origin: Option<Value>,
        when: When,
        dry_run: bool,
        within: Duration,
        by: Actor,
    },
    /// What the version that holds was made from is this now; nothing of the stream changes.
    Amend {
        version: u64,
        origin: Value,
    },
    Delete {
        when: When,
        force: bool,
        within: Duration,
        by: Actor,
    },
}

/// What is answered.
#[derive(Debug, Default)]
pub struct DefineAnswer {
    /// That holds now.
    pub version: Option<u64>,
    pub created: bool,
    pub body: Value,
    /// What it was made from, where another interface has told it.
    pub origin: Option<Arc<Value>>,
}

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
pub enum DefineError {
    #[error("there is no stream {stream:?}")]
    NoStream { stream: String },
    #[error("of stream {stream:?} no version {version} is kept")]
    NoVersion { stream: String, version: u64 },
    #[error("stream {stream:?} is defined in {}: change it there", file.display())]
    OfFile { stream: String, file: PathBuf },
    #[error(
        "stream {stream:?} was taken out of {} and goes once it has delivered what it has stored; `--force` (`?force=true`) discards that",
        file.display()
    )]
    Leaving { stream: String, file: PathBuf },
    #[error(
        "stream {stream:?} is there, in version {version}: say which version is to be replaced by If-Match: \"{version}\""
    )]
    Unsaid { stream: String, version: u64 },
    #[error(
        "stream {stream:?} {}",
        match .version { Some(version) => format!("has version {version} now"), None => "is not there".to_owned() }
    )]
    Stale { stream: String, version: Option<u64> },
    #[error("the definition has {}", counted_problems(.0.len()))]
    Flaws(Vec<Flaw>),
    #[error(transparent)]
    Change(ChangeError),
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl From<ChangeError> for DefineError {
    fn from(error: ChangeError) -> DefineError {
        match error {
            ChangeError::Invalid(flaws) => DefineError::Flaws(flaws),
            ChangeError::Control(error) => DefineError::Control(error),
            error => DefineError::Change(error),
        }
    }
}

/// Streams that are defined and do not run.
#[derive(Default)]
pub(super) struct Idle(Mutex<BTreeMap<StreamKey, Tried>>);

struct Tried {
    reason: String,
    at: Instant,
    /// Of the tenant's plugins then.
    change: Option<u64>,
}

impl Idle {
    fn all(&self) -> MutexGuard<'_, BTreeMap<StreamKey, Tried>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is gone.
    pub(super) fn forget(&self, key: &StreamKey) {
        self.all().remove(key);
    }

    /// Why a stream does not run.
    pub(super) fn reason(&self, key: &StreamKey) -> Option<String> {
        self.all().get(key).map(|tried| tried.reason.clone())
    }

    /// Of one tenant, by name.
    pub(super) fn of(&self, tenant: &str) -> Vec<(String, String)> {
        let all = self.all();
        let of_tenant = all.iter().filter(|(key, _)| key.tenant == tenant);
        of_tenant.map(|(key, tried)| (key.name.clone(), tried.reason.clone())).collect()
    }
}

fn key(tenant: &TenantName, name: &str) -> StreamKey {
    StreamKey { tenant: tenant.as_str().to_owned(), name: name.to_owned() }
}

fn now_ms() -> u64 {
    u64::try_from(wall_clock_ns()).unwrap_or(0) / 1_000_000
}

impl When {
    fn holds(self, stream: &str, version: Option<u64>) -> Result<(), DefineError> {
        let stale = || DefineError::Stale { stream: stream.to_owned(), version };
        match (self, version) {
            (When::Unsaid, Some(version)) => Err(DefineError::Unsaid { stream: stream.to_owned(), version }),
            (When::New, Some(_)) | (When::There | When::Version(_), None) => Err(stale()),
            (When::Version(wanted), Some(version)) if wanted != version => Err(stale()),
            _ => Ok(()),
        }
    }
}

impl Host {
    pub(super) async fn answer_define(
        &self,
        tenant: TenantName,
        name: String,
        request: DefineRequest,
    ) -> Result<DefineAnswer, DefineError> {
        match request {
            DefineRequest::Show { version: None } => self.shown(&tenant, &name),
            DefineRequest::Show { version: Some(version) } => {
                let versions = self.versions_of(tenant, name.clone()).await?;
                let of = versions.into_iter().find(|known| known.version == version);
                let of = of.ok_or(DefineError::NoVersion { stream: name, version })?;
                Ok(DefineAnswer { body: told(&of), ..DefineAnswer::default() })
            }
            DefineRequest::Versions => {
                let versions = self.versions_of(tenant, name).await?;
                let body = json!({ "versions": versions.iter().map(told).collect::<Vec<_>>() });
                Ok(DefineAnswer { body, ..DefineAnswer::default() })
            }
            DefineRequest::Put { definition, origin: _, when, dry_run: true, within: _, by: _ } => {
                self.try_definition(&tenant, &name, definition, when).await
            }
            DefineRequest::Put { definition: value, origin, when, dry_run: false, within, by } => {
                let definition = Definition { value, origin, by, at_ms: now_ms() };
                self.put_definition(&tenant, &name, definition, when, within).await
            }
            DefineRequest::Amend { version, origin } => {
                let (control, of, stream) = (Arc::clone(&self.inner.control), tenant.clone(), name.clone());
                let amend = move || control.amend(&of, &stream, version, origin);
                let amended = tokio::task::spawn_blocking(amend).await;
                amended.map_err(|error| interrupted(&error))??;
                self.shown(&tenant, &name)
            }
            DefineRequest::Delete { when, force, within, by } => {
                self.delete_definition(&tenant, &name, when, force, within, by).await
            }
        }
    }

    /// A stream that the file owns.
    fn of_file(&self, tenant: &TenantName, name: &str) -> Option<config::Stream> {
        let settings = self.inner.filed.settings();
        let mut streams = settings.streams.iter();
        let found = streams.find(|stream| stream.tenant == tenant.as_str() && stream.name == name);
        found.filter(|_| !self.inner.control.definitions().has(tenant, name)).cloned()
    }

    fn not_of_file(&self, tenant: &TenantName, name: &str) -> Result<(), DefineError> {
        // One that runs and was not defined here is the file's, also before all of the file is applied.
        let runs = || self.inner.streams.get(tenant.as_str(), name).is_some();
        let of_file = self.of_file(tenant, name).is_some()
            || (runs() && !self.inner.control.definitions().has(tenant, name));
        let (stream, file) = (name.to_owned(), self.inner.filed.settings().file.clone());
        match of_file {
            false => Ok(()),
            true if self.inner.filed.is_leaving(&key(tenant, name)) => {
                Err(DefineError::Leaving { stream, file })
            }
            true => Err(DefineError::OfFile { stream, file }),
        }
    }

    async fn versions_of(&self, tenant: TenantName, name: String) -> Result<Vec<Version>, DefineError> {
        let control = Arc::clone(&self.inner.control);
        let read =
            tokio::task::spawn_blocking(move || match control.definitions().versions(&tenant, &name) {
                Err(ControlError::NoStream { name: stream }) => Err(DefineError::NoStream { stream }),
                read => Ok(read?),
            });
        read.await.unwrap_or_else(|error| Err(interrupted(&error)))
    }

    /// How a stream is, in a word, and why.
    pub(super) fn state(&self, key: &StreamKey) -> (&'static str, Option<String>) {
        let inner = &self.inner;
        if inner.streams.is_changing(&key.tenant, &key.name) {
            return ("changing", None);
        }
        match inner.streams.get(&key.tenant, &key.name) {
            Some(live) if !inner.reports.activity.borrow().running.contains(key) => {
                let reason = live.stats.paused();
                ("ended", reason)
            }
            Some(live) => match live.stats.paused() {
                Some(reason) => ("paused", Some(reason)),
                None => ("running", None),
            },
            None => ("failed", inner.idle.reason(key)),
        }
    }

    fn shown(&self, tenant: &TenantName, name: &str) -> Result<DefineAnswer, DefineError> {
        let (state, reason) = self.state(&key(tenant, name));
        if let Some(defined) = self.inner.control.definitions().get(tenant, name) {
            let body = json!({
                "name": name, "owner": "api", "state": state, "reason": reason, "version": defined.version,
                "changed_ms": defined.at_ms, "definition": config::masked(&defined.definition),
            });
            let (version, origin) = (Some(defined.version), defined.origin);
            return Ok(DefineAnswer { version, body, origin, ..DefineAnswer::default() });
        }
        let Some(stream) = self.of_file(tenant, name) else {
            return Err(DefineError::NoStream { stream: name.to_owned() });
        };
        let body = json!({
            "name": name, "owner": "file", "state": state, "reason": reason, "version": null, "changed_ms": null,
            "definition": self.inner.filed.settings().written(&stream),
        });
        Ok(DefineAnswer { body, ..DefineAnswer::default() })
    }

    /// Everything that can be said of it without a change.
    async fn checked(
        &self,
        tenant: &TenantName,
        name: &str,
        definition: &Value,
    ) -> Result<Defined, DefineError> {
        let settings = self.inner.filed.settings();
        let (tenant, name, definition) = (tenant.clone(), name.to_owned(), definition.clone());
        let checked =
            tokio::task::spawn_blocking(move || settings.define(tenant.as_str(), &name, &definition));
        checked.await.map_err(|error| interrupted(&error))?.map_err(DefineError::Flaws)
    }

    async fn try_definition(
        &self,
        tenant: &TenantName,
        name: &str,
        definition: Value,
        when: When,
    ) -> Result<DefineAnswer, DefineError> {
        self.not_of_file(tenant, name)?;
        let before = self.inner.control.definitions().get(tenant, name);
        when.holds(name, before.as_ref().map(|before| before.version))?;
        let defined = self.checked(tenant, name, &definition).await?;
        let held = self.tenant(tenant.as_str()).await.map_err(ChangeError::from)?;
        drop(self.judged(&held, &defined.stream, Some(&defined)).await?);
        let would = match &before {
            None => "create",
            Some(before) if *before.definition == definition => "nothing",
            Some(_) => "replace",
        };
        let body = json!({ "dry_run": true, "would": would });
        Ok(DefineAnswer { version: before.map(|before| before.version), body, ..DefineAnswer::default() })
    }

    async fn put_definition(
        &self,
        tenant: &TenantName,
        name: &str,
        definition: Definition,
        when: When,
        within: Duration,
    ) -> Result<DefineAnswer, DefineError> {
        self.not_of_file(tenant, name)?;
        let defined = self.checked(tenant, name, &definition.value).await?;
        let held = self.tenant(tenant.as_str()).await.map_err(ChangeError::from)?;
        let busy = ChangeError::Busy { after: within };
        let _one = tokio::time::timeout(within, held.changing.lock()).await.map_err(|_elapsed| busy)?;
        let _change = self.inner.reports.change();
        let before = self.inner.control.definitions().get(tenant, name);
        when.holds(name, before.as_ref().map(|before| before.version))?;
        self.not_of_file(tenant, name)?;
        if let Some(before) = &before {
            self.open_before(&held, tenant, name, before).await;
        }
        let (key, runs) = (key(tenant, name), self.inner.streams.get(tenant.as_str(), name).is_some());
        let same = |before: &wasmill_control::Defined| *before.definition == definition.value;
        let same = runs && before.as_ref().is_some_and(same);
        if same && definition.origin.is_none() {
            return self.shown(tenant, name);
        }
        if before.is_none() {
            let there = self.streams_of(tenant) as u64;
            let quota = self.inner.opening.quotas.of(tenant.as_str());
            quota.takes_another_stream(there).map_err(ChangeError::from)?;
            let enough = tokio::task::spawn_blocking(descriptors::enough).await;
            enough.map_err(|error| interrupted(&error))?.map_err(ChangeError::from)?;
        }
        let (control, of, stream) = (Arc::clone(&self.inner.control), tenant.clone(), name.to_owned());
        let commit = move |_nothing| control.define(&of, &stream, definition).map(drop);
        if same {
            // What runs stays; how it was told is another version of it.
            let done = tokio::task::spawn_blocking(move || commit(())).await;
            done.map_err(|error| interrupted(&error))??;
            return self.shown(tenant, name);
        }
        let commit = move |_nothing: Discarded| commit(());
        let wanted =
            Wanted { stream: &defined.stream, defined: Some(&defined), commit: Some(Box::new(commit)) };
        let done = match runs {
            true => self.replace_held(&held, wanted, within).await,
            false => self.add_held(&held, wanted).await,
        };
        self.note(&key, done)?;
        Ok(DefineAnswer { created: before.is_none(), ..self.shown(tenant, name)? })
    }

    async fn delete_definition(
        &self,
        tenant: &TenantName,
        name: &str,
        when: When,
        force: bool,
        within: Duration,
        by: Actor,
    ) -> Result<DefineAnswer, DefineError> {
        let key = key(tenant, name);
        let deleted = || json!({ "deleted": name, "forced": force });
        if force && when == When::Unsaid && self.inner.filed.is_leaving(&key) {
            // The file has it no more, and it cannot deliver what it has stored.
            self.inner.filed.hurry(&key);
            self.remove_stream(tenant.as_str(), name, within, true).await?;
            self.has_left(&key);
            return Ok(DefineAnswer { body: deleted(), ..DefineAnswer::default() });
        }
        self.not_of_file(tenant, name)?;
        let held = self.tenant(tenant.as_str()).await.map_err(ChangeError::from)?;
        let busy = ChangeError::Busy { after: within };
        let _one = tokio::time::timeout(within, held.changing.lock()).await.map_err(|_elapsed| busy)?;
        let _change = self.inner.reports.change();
        let Some(before) = self.inner.control.definitions().get(tenant, name) else {
            return Err(DefineError::NoStream { stream: name.to_owned() });
        };
        if when != When::Unsaid {
            when.holds(name, Some(before.version))?;
        }
        let (control, of, stream) = (Arc::clone(&self.inner.control), tenant.clone(), name.to_owned());
        let commit = Box::new(move |discarded| control.undefine(&of, &stream, by, discarded, now_ms()));
        self.open_before(&held, tenant, name, &before).await;
        // Nobody may hold the stream while it ends.
        let runs = self.inner.streams.get(tenant.as_str(), name).is_some();
        let done = match runs {
            true => self.remove_held(&held, &key, within, force, Some(commit)).await,
            false => {
                // As far as it can be told where its outputs are.
                let defined = self.inner.filed.settings().define(tenant.as_str(), name, &before.definition);
                let staged = defined.map(|defined| staging_dirs(&defined.stream)).unwrap_or_default();
                self.remove_idle(&held, &key, force, staged, commit).await
            }
        };
        self.note(&key, done)?;
        Ok(DefineAnswer { body: deleted(), ..DefineAnswer::default() })
    }

    /// What became of a change, for those who ask how the stream is.
    fn note(&self, key: &StreamKey, done: Result<(), ChangeError>) -> Result<(), DefineError> {
        match &done {
            Ok(()) => {
                self.inner.idle.all().remove(key);
            }
            Err(ChangeError::Lost { reason, .. }) => self.set_idle(key, reason.clone()),
            Err(_goes_on) => {}
        }
        Ok(done?)
    }

    /// A stream of the file that runs again, or is gone from it.
    pub(super) fn forget_idle(&self, stream: &config::Stream) {
        self.inner.idle.all().remove(&key_of(stream));
    }

    pub(super) fn set_idle(&self, key: &StreamKey, reason: String) {
        let tried = Tried { reason, at: Instant::now(), change: self.plugins_change(key) };
        self.inner.idle.all().insert(key.clone(), tried);
    }

    fn plugins_change(&self, key: &StreamKey) -> Option<u64> {
        let tenant = self.inner.tenants.get(&key.tenant)?;
        let change = *tenant.catalog.changes().borrow();
        Some(change)
    }
}

/// A version, as it may be shown.
fn told(version: &Version) -> Value {
    let Version { version, at_ms, by, definition, origin: _, discarded } = version;
    json!({
        "version": version, "at_ms": at_ms, "by": by,
        "definition": definition.as_ref().map(config::masked), "discarded": discarded,
    })
}

fn interrupted(error: &tokio::task::JoinError) -> DefineError {
    DefineError::Change(ChangeError::Interrupted { reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_is_made_only_when_what_the_client_saw_still_holds() {
        let holds = |when: When, version| when.holds("s", version);
        assert!(holds(When::Unsaid, None).is_ok());
        assert!(matches!(holds(When::Unsaid, Some(3)), Err(DefineError::Unsaid { version: 3, .. })));
        assert!(holds(When::New, None).is_ok() && holds(When::There, Some(3)).is_ok());
        assert!(holds(When::Version(3), Some(3)).is_ok());
        for (when, version) in
            [(When::New, Some(3)), (When::There, None), (When::Version(3), None), (When::Version(3), Some(4))]
        {
            assert!(matches!(holds(when, version), Err(DefineError::Stale { .. })), "{when:?} {version:?}");
        }
    }
}
