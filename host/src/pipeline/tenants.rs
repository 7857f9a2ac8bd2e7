//! What a tenant has of its own beside its streams: a plugin directory with its catalog, and the thread that follows it.
//!
//! Nothing of it is shared with other tenants but the Wasm engine: neither files, nor compiled code, nor instances.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use wasmill_catalog::Catalog;
use wasmill_config::{DEFAULT_TENANT, Isolation, Settings};
use wasmill_transform::Engine;

use super::leftovers::{name_aside, put_aside};
use super::reload::Reloader;

/// Of the configuration, what a tenant is opened with: it stays so until the next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenedWith {
    /// `None`: no configuration says one, and uploads alone are there.
    pub(super) plugin_dir: Option<PathBuf>,
    pub(super) isolation: Isolation,
}

impl OpenedWith {
    pub(super) fn of(settings: &Settings, tenant: &str) -> OpenedWith {
        OpenedWith {
            plugin_dir: settings.plugin_dir_of(tenant).map(Path::to_owned),
            isolation: settings.isolation_of(tenant),
        }
    }
}

/// Whose plugins run in processes of their own: decided when a tenant is opened, before its first chain.
#[derive(Clone, Default)]
pub(crate) struct Apart(Arc<RwLock<BTreeMap<String, Isolation>>>);

impl Apart {
    pub(crate) fn decide(&self, tenant: &str, isolation: Isolation) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(tenant.to_owned(), isolation);
    }

    /// A tenant of which nothing was decided is not trusted.
    pub(crate) fn is(&self, tenant: &str) -> bool {
        let decided = self.0.read().unwrap_or_else(PoisonError::into_inner);
        decided.get(tenant).is_none_or(|isolation| *isolation == Isolation::Process)
    }
}

/// See the head of this file.
pub(super) struct Tenant {
    pub(super) name: String,
    pub(super) catalog: Catalog,
    pub(super) opened_with: OpenedWith,
    reloader: Mutex<Option<Arc<Reloader>>>,
    /// Held while a stream of the tenant comes, changes or goes.
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl Tenant {
    /// Starts its thread.
    pub(super) fn new(
        name: &str,
        engine: &Engine,
        catalog: Catalog,
        opened_with: OpenedWith,
    ) -> std::io::Result<Tenant> {
        let reloader = Reloader::start(engine.clone(), catalog.clone())?;
        Ok(Tenant {
            name: name.to_owned(),
            catalog,
            opened_with,
            reloader: Mutex::new(Some(Arc::new(reloader))),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// `None`: the host is stopping.
    pub(super) fn reloader(&self) -> Option<Arc<Reloader>> {
        self.reloader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the thread after what it is doing. Blocks.
    pub(super) fn stop(&self) {
        let reloader = self.reloader.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(reloader);
    }
}

/// The tenants that have or had a stream here.
#[derive(Default)]
pub(super) struct Tenants {
    known: RwLock<BTreeMap<String, Arc<Tenant>>>,
    /// Held while one is opened or put aside, and before anything of what is known of tenants is changed meanwhile.
    pub(super) opening: tokio::sync::Mutex<()>,
}

impl Tenants {
    pub(super) fn insert(&self, tenant: impl Into<Arc<Tenant>>) -> Arc<Tenant> {
        let tenant = tenant.into();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(tenant.name.clone(), Arc::clone(&tenant));
        tenant
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Tenant>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Tenant>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Tenants {
    /// Takes a tenant that is gone off, and what is stored of its plugins out of the way of the next one of its name.
    /// [`Tenants::opening`] is held. Blocks.
    pub(super) fn put_aside(&self, data_dir: &Path, tenant: &str, now_ms: u64) -> std::io::Result<()> {
        let gone = self.known.write().unwrap_or_else(PoisonError::into_inner).remove(tenant);
        if let Some(gone) = gone {
            gone.stop();
        }
        if tenant == DEFAULT_TENANT {
            return Ok(());
        }
        put_aside(&plugins_data(data_dir, tenant), name_aside(tenant, now_ms))
    }
}

/// Whether plugins were uploaded for a tenant, or are kept of it.
pub(super) fn has_plugins(data_dir: &Path, tenant: &str) -> bool {
    let kept = std::fs::read_dir(plugins_data(data_dir, tenant).join("plugins"));
    kept.is_ok_and(|mut kept| kept.next().is_some())
}

/// The plugin directory of a tenant that no configuration knows: what the API was given is there, and nobody else writes.
pub(super) fn uploads(data_dir: &Path, tenant: &str) -> PathBuf {
    plugins_data(data_dir, tenant).join("uploads")
}

/// Where the data of a tenant's plugins is. That of the first tenant is where it was when there were no others.
pub(super) fn plugins_data(data_dir: &Path, tenant: &str) -> PathBuf {
    if tenant == DEFAULT_TENANT { data_dir.to_owned() } else { data_dir.join("tenants").join(tenant) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_of_which_nothing_was_decided_is_apart() {
        let apart = Apart::default();
        apart.decide("trusted", Isolation::Thread);
        apart.decide("strange", Isolation::Process);
        assert_eq!(["trusted", "strange", "unknown"].map(|tenant| apart.is(tenant)), [false, true, true]);
    }

    #[test]
    fn what_is_put_aside_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let kept = plugins_data(dir.path(), "team").join("plugins");
        assert!(!has_plugins(dir.path(), "team"));
        std::fs::create_dir_all(&kept).unwrap();
        assert!(!has_plugins(dir.path(), "team"));
        std::fs::write(kept.join("sha256-1.wasm"), "").unwrap();
        assert!(has_plugins(dir.path(), "team"));
        let tenants = Tenants::default();
        tenants.put_aside(dir.path(), "team", 7).unwrap();
        assert!(!has_plugins(dir.path(), "team"));
        assert!(dir.path().join("tenants/team@7/plugins/sha256-1.wasm").exists());
        // Nothing is there to be put aside, or to be taken from whoever is always there.
        tenants.put_aside(dir.path(), "team", 8).unwrap();
        tenants.put_aside(dir.path(), DEFAULT_TENANT, 8).unwrap();
        assert!(dir.path().exists());
    }
}
