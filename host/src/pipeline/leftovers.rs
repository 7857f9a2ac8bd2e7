//! What a tenant leaves behind that is gone, or is about to go: nothing of it is the next one's of its name.
//!
//! Streams that were taken out of the configuration file stay in the journal, with their history and whatever was not
//! delivered. They are removed before their tenant is, and looked for again before another one gets the name. Dead letters,
//! plugins and usage are put aside under names that no tenant can have. All of it happens while no tenant is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wasmill_buffer::{Disk, RealDisk, Stream, StreamKey};
use wasmill_config::{Problem, Settings};
use wasmill_tenant::TenantName;

use super::changes::ChangeError;
use super::ending::waiting_of;
use super::host::Host;
use super::opening::{StartError, letters_of};
use super::recovery;
use super::sources::with_causes;
use super::stats::{label, wall_clock_ns};
use super::tenants::{has_plugins, plugins_data};
use super::usage;
use crate::api::Host as _;

/// How long a stream that is discarded may still deliver.
const WITHIN_FORCED: Duration = Duration::from_secs(2);

/// Why what is left of a tenant stays. The message is for operators.
#[derive(Debug, thiserror::Error)]
pub enum LeftError {
    #[error("a stream of tenant {tenant:?} is being changed: try again")]
    Changing { tenant: TenantName },
    #[error(
        "records are stored that were not delivered, of streams that were taken out of the configuration ({streams}): put them back until they are delivered, or discard them by force (`--force`, `?force=true`)"
    )]
    Undelivered { streams: String },
    #[error("what is left of tenant {tenant:?} cannot be {what}: {reason}")]
    Failed { tenant: TenantName, what: &'static str, reason: String },
}

impl Host {
    /// Removes what streams of a tenant have left that is gone, or disabled and without streams; of any other nothing.
    pub(super) async fn remove_left(&self, tenant: &TenantName, force: bool) -> Result<(), LeftError> {
        let inner = &self.inner;
        let in_use = || inner.control.tenant_disabled(tenant) == Some(false);
        if tenant.is_default() || in_use() {
            return Ok(());
        }
        self.remove_leaving(tenant, force).await?;
        // Whoever opens a tenant waits for it: no stream comes meanwhile.
        let _opening = inner.tenants.opening.lock().await;
        let open = inner.tenants.get(tenant.as_str());
        let changing = || LeftError::Changing { tenant: tenant.clone() };
        let one = open.as_ref().map(|open| open.changing.try_lock()).transpose();
        let _one = one.map_err(|_held| changing())?;
        if in_use() || self.streams_of(tenant) > 0 {
            return Ok(());
        }
        let failed = |what| {
            let tenant = tenant.clone();
            move |reason: String| LeftError::Failed { tenant, what, reason }
        };
        let left = inner.opening.journal.streams_of(tenant.as_str());
        let asked = left.clone();
        let waiting = tokio::task::spawn_blocking(move || waiting(&asked)).await;
        let waiting = waiting.map_err(|error| failed("read")(error.to_string()))?;
        if !waiting.is_empty() {
            let streams = waiting.join(", ");
            if !force {
                return Err(LeftError::Undelivered { streams });
            }
            tracing::warn!(%tenant, streams, "records that were not delivered are discarded with their tenant");
        }
        let letters = letters_of(&inner.opening.settings.data_dir, tenant.as_str());
        let aside = name_aside(tenant.as_str(), now_ms());
        let aside = tokio::task::spawn_blocking(move || put_aside(&letters, aside)).await;
        let aside = aside.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        aside.map_err(|error| failed("put aside")(format!("dead letters: {error}")))?;
        for stream in left {
            let key = stream.key().clone();
            let removed = self.discard_stored(&key, &stream).await;
            removed.map_err(|reason| failed("removed")(format!("stream {:?}: {reason}", key.name)))?;
            self.forget(&key);
            tracing::info!(stream = %label(&key.tenant, &key.name), "what was left of a stream was removed with its tenant");
        }
        Ok(())
    }

    /// The same of those that run still because they cannot deliver: by force alone.
    async fn remove_leaving(&self, tenant: &TenantName, force: bool) -> Result<(), LeftError> {
        let leaving = self.inner.filed.leaving_of(tenant.as_str());
        if leaving.is_empty() {
            return Ok(());
        }
        if !force {
            let text = |key: &StreamKey| {
                let live = self.inner.streams.get(&key.tenant, &key.name);
                let waiting =
                    live.map_or_else(|| "it is being ended".to_owned(), |live| waiting_of(&live.stats));
                format!("{:?}: {waiting}", key.name)
            };
            let streams = leaving.iter().map(text).collect::<Vec<_>>().join(", ");
            return Err(LeftError::Undelivered { streams });
        }
        for key in leaving {
            self.inner.filed.hurry(&key);
            match self.remove_stream(&key.tenant, &key.name, WITHIN_FORCED, true).await {
                Ok(()) | Err(ChangeError::NoStream { .. }) => self.has_left(&key),
                Err(error) => {
                    let reason = format!("stream {:?}: {}", key.name, with_causes(&error));
                    return Err(LeftError::Failed { tenant: tenant.clone(), what: "removed", reason });
                }
            }
        }
        Ok(())
    }

    /// Puts aside the usage of a tenant that is gone; of one that is there, nothing.
    pub(super) async fn put_usage_aside(&self, tenant: &TenantName) -> Result<(), LeftError> {
        self.flush_usage().await;
        let _opening = self.inner.tenants.opening.lock().await;
        if self.inner.control.tenant_disabled(tenant).is_some() {
            return Ok(());
        }
        self.inner.usage.put_aside(tenant.as_str(), now_ms()).await.map_err(|error| {
            tracing::error!(%tenant, %error, "usage of a tenant that is gone cannot be put aside");
            LeftError::Failed { tenant: tenant.clone(), what: "put aside", reason: format!("usage: {error}") }
        })
    }

    /// The same of its plugins.
    pub(super) async fn put_plugins_aside(&self, tenant: &TenantName) -> Result<(), LeftError> {
        let _opening = self.inner.tenants.opening.lock().await;
        let (inner, name) = (Arc::clone(&self.inner), tenant.clone());
        let aside = tokio::task::spawn_blocking(move || {
            if inner.control.tenant_disabled(&name).is_some() {
                return Ok(());
            }
            inner.tenants.put_aside(&inner.opening.settings.data_dir, name.as_str(), now_ms())
        });
        let aside = aside.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        aside.map_err(|error| {
            tracing::error!(%tenant, %error, "plugins of a tenant that is gone cannot be put aside");
            LeftError::Failed {
                tenant: tenant.clone(),
                what: "put aside",
                reason: format!("plugins: {error}"),
            }
        })
    }
}

impl Host {
    /// Tenants that a file names and that are not there are about to be made: they begin without, as over HTTP.
    pub(super) async fn forget_gone(&self, settings: &Settings) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        for tenant in &settings.tenants {
            // Names were checked with the configuration.
            let Ok(name) = TenantName::new(&tenant.name) else { continue };
            if self.inner.control.tenant_disabled(&name).is_some() {
                continue;
            }
            let forgotten = async {
                self.remove_left(&name, false).await?;
                self.put_plugins_aside(&name).await?;
                self.put_usage_aside(&name).await
            };
            if let Err(error) = forgotten.await {
                problems.push(settings.problem(&format!("tenants.{name}"), with_causes(&error)));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// The same before a host is opened: what a removal has left that a crash cut short. Streams are removed before their
/// tenant is, so none are left then. Blocks.
pub(super) fn put_gone_aside(settings: &Settings) -> Result<(), StartError> {
    let data_dir = &settings.data_dir;
    let aside =
        |path: &Path, error| StartError::Directory { action: "put aside", path: path.to_owned(), error };
    let left = settings.tenants.iter().filter_map(|tenant| {
        let name =
            TenantName::new(&tenant.name).ok().filter(|name| !wasmill_control::is_stored(data_dir, name))?;
        let usage = usage::dir_of(data_dir, name.as_str());
        (has_plugins(data_dir, name.as_str()) || usage.exists()).then_some((name, usage))
    });
    let left: Vec<_> = left.collect();
    if left.is_empty() {
        return Ok(());
    }
    let journal = data_dir.join("journal");
    let locked = std::fs::create_dir_all(&journal).and_then(|()| RealDisk.lock(&journal.join("lock")));
    // Of another host that runs nothing is touched; that it does is said when the journal is opened.
    let Ok(_lock) = locked.map_err(|error| aside(&journal, error))? else { return Ok(()) };
    for (name, usage) in left {
        let plugins = plugins_data(data_dir, name.as_str());
        put_aside(&plugins, name_aside(name.as_str(), now_ms())).map_err(|error| aside(&plugins, error))?;
        put_aside(&usage, usage::name_aside(name.as_str(), now_ms()))
            .map_err(|error| aside(&usage, error))?;
        tracing::warn!(tenant = %name, "plugins and usage of a removed tenant of this name are put aside");
    }
    Ok(())
}

fn now_ms() -> u64 {
    u64::try_from(wall_clock_ns()).unwrap_or(0) / 1_000_000
}

/// Of each stream that has records which were not delivered, or of which that cannot be told: a text. Blocks on the disk.
fn waiting(streams: &[Stream]) -> Vec<String> {
    let text = |stream: &Stream| {
        let name = &stream.key().name;
        match recovery::undelivered(stream) {
            Ok(0) => None,
            Ok(1) => Some(format!("{name:?}: 1 record")),
            Ok(records) => Some(format!("{name:?}: {records} records")),
            Err(error) => Some(format!("{name:?}: {}", with_causes(&error))),
        }
    };
    streams.iter().filter_map(text).collect()
}

/// Gives a directory of a tenant that is gone another name, durably, where there is one. Blocks.
pub(super) fn put_aside(dir: &Path, name: String) -> std::io::Result<()> {
    match std::fs::rename(dir, dir.with_file_name(name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        renamed => {
            renamed?;
            dir.parent().map_or(Ok(()), |above| std::fs::File::open(above)?.sync_all())
        }
    }
}

/// Which no tenant can have.
pub(super) fn name_aside(tenant: &str, now_ms: u64) -> String {
    format!("{tenant}@{now_ms}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_put_aside_whole_and_only_where_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let letters = letters_of(dir.path(), "team");
        put_aside(&letters, name_aside("team", 7)).unwrap();
        std::fs::create_dir_all(letters.join("s")).unwrap();
        std::fs::write(letters.join("s/letters.ndjson"), "{}\n").unwrap();
        put_aside(&letters, name_aside("team", 8)).unwrap();
        assert!(!letters.exists() && dir.path().join("dead-letters/team@8/s/letters.ndjson").exists());
    }
}
