//! Streams that are defined over HTTP, started with the host, and tried again where they do not run.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use wasmill_buffer::StreamKey;
use wasmill_control::Defined;
use wasmill_tenant::TenantName;

use super::{DefineError, Tried, key};
use crate::pipeline::changes::{ChangeError, Wanted};
use crate::pipeline::host::{Host, Inner};
use crate::pipeline::sources::with_causes;
use crate::pipeline::stats::label;
use crate::pipeline::tenants::Tenant;

/// How often it is looked whether a stream that does not run can be tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// When it is tried again although nothing has changed that is known here.
const TRY_EVERY: Duration = Duration::from_secs(60);

impl Host {
    /// Starts every stream that is defined over HTTP, those of a tenant one after another, and goes on trying those that do
    /// not start. Until a stream was tried it counts as changing.
    pub(in crate::pipeline) fn start_defined(&self) {
        let mut by_tenant: BTreeMap<TenantName, Vec<String>> = BTreeMap::new();
        for (tenant, name) in self.inner.control.definitions().all() {
            by_tenant.entry(tenant).or_default().push(name);
        }
        for (tenant, names) in by_tenant {
            let mut marks: Vec<_> =
                names.iter().rev().map(|name| self.inner.streams.changing(key(&tenant, name))).collect();
            let (host, change) = (self.clone(), self.inner.reports.change());
            tokio::spawn(async move {
                let _change = change;
                for name in names {
                    host.start_one(&tenant, &name).await;
                    drop(marks.pop());
                }
            });
        }
        let (host, stopping) = (Arc::downgrade(&self.inner), self.inner.stops.intake.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = try_again(host) => {}
            }
        });
    }

    async fn start_one(&self, tenant: &TenantName, name: &str) {
        let key = key(tenant, name);
        match self.started(tenant, name).await {
            Ok(()) => {
                self.inner.idle.all().remove(&key);
            }
            Err(error) => {
                let reason = match &error {
                    DefineError::Flaws(flaws) => ChangeError::Invalid(flaws.clone()).to_string(),
                    error => with_causes(error),
                };
                let stream = label(&key.tenant, &key.name);
                if self.inner.idle.reason(&key).is_none_or(|before| before != reason) {
                    tracing::warn!(
                        stream,
                        reason,
                        "stream that was defined over HTTP cannot start; it is tried again"
                    );
                }
                self.set_idle(&key, reason);
            }
        }
    }

    /// A stream whose turn has not come since the host started is opened as it was, so that what it has stored is delivered
    /// before it changes or goes. The lock of `held` is held.
    pub(super) async fn open_before(&self, held: &Tenant, tenant: &TenantName, name: &str, before: &Defined) {
        let key = key(tenant, name);
        let runs = self.inner.streams.get(tenant.as_str(), name).is_some();
        if runs || self.inner.idle.reason(&key).is_some() {
            return;
        }
        let opened = match self.checked(tenant, name, &before.definition).await {
            Ok(defined) => {
                let wanted = Wanted { stream: &defined.stream, defined: Some(&defined), commit: None };
                self.add_held(held, wanted).await.map_err(DefineError::from)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = opened {
            self.set_idle(&key, with_causes(&error));
        }
    }

    async fn started(&self, tenant: &TenantName, name: &str) -> Result<(), DefineError> {
        let held = self.tenant(tenant.as_str()).await.map_err(ChangeError::from)?;
        let _one = held.changing.lock().await;
        let _change = self.inner.reports.change();
        let Some(before) = self.inner.control.definitions().get(tenant, name) else { return Ok(()) };
        if self.inner.streams.get(tenant.as_str(), name).is_some() {
            return Ok(());
        }
        let defined = self.checked(tenant, name, &before.definition).await?;
        let wanted = Wanted { stream: &defined.stream, defined: Some(&defined), commit: None };
        Ok(self.add_held(&held, wanted).await?)
    }
}

/// Tries streams that do not run, for as long as the host is there: those of a tenant one after another, and none waits for
/// those of another one.
async fn try_again(host: Weak<Inner>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut tries: JoinSet<()> = JoinSet::new();
    let mut of_tenants: HashMap<TenantName, AbortHandle> = HashMap::new();
    loop {
        tick.tick().await;
        while tries.try_join_next().is_some() {}
        of_tenants.retain(|_, tried| !tried.is_finished());
        let Some(inner) = host.upgrade() else { return };
        let host = Host { inner };
        let due = |(key, tried): (&StreamKey, &Tried)| {
            let due = tried.at.elapsed() >= TRY_EVERY || host.plugins_change(key) != tried.change;
            due.then(|| key.clone())
        };
        let due: Vec<StreamKey> = host.inner.idle.all().iter().filter_map(due).collect();
        let mut round: BTreeMap<TenantName, Vec<String>> = BTreeMap::new();
        for key in due {
            // Names were valid when they became keys.
            let Ok(tenant) = TenantName::new(&key.tenant) else { continue };
            if host.of_file(&tenant, &key.name).is_some() || of_tenants.contains_key(&tenant) {
                // With the file, or in a later round.
                continue;
            }
            if !host.inner.control.definitions().has(&tenant, &key.name) {
                host.inner.idle.all().remove(&key);
                continue;
            }
            round.entry(tenant).or_default().push(key.name);
        }
        for (tenant, names) in round {
            let (host, of) = (host.clone(), tenant.clone());
            let tried = tries.spawn(async move {
                for name in names {
                    host.start_one(&of, &name).await;
                }
            });
            of_tenants.insert(tenant, tried);
        }
    }
}
