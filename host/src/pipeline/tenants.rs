//! What a tenant has of its own beside its streams: a plugin directory with its catalog, and the thread that follows it.
//!
//! Nothing of it is shared with other tenants but the Wasm engine: neither files, nor compiled code, nor instances.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use wasmill_catalog::Catalog;
use wasmill_config::DEFAULT_TENANT;
use wasmill_transform::Engine;

use super::reload::Reloader;

/// See the head of this file.
pub(super) struct Tenant {
    pub(super) name: String,
    pub(super) catalog: Catalog,
    reloader: Mutex<Option<Arc<Reloader>>>,
    /// Held while a stream of the tenant comes, changes or goes.
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl Tenant {
    /// Starts its thread.
    pub(super) fn new(name: &str, engine: &Engine, catalog: Catalog) -> std::io::Result<Tenant> {
        let reloader = Reloader::start(engine.clone(), catalog.clone())?;
        Ok(Tenant {
            name: name.to_owned(),
            catalog,
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
    /// Held while one is opened.
    pub(super) opening: tokio::sync::Mutex<()>,
}

impl Tenants {
    pub(super) fn insert(&self, tenant: Tenant) -> Arc<Tenant> {
        let tenant = Arc::new(tenant);
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

/// The plugin directory of a tenant that no configuration knows: what the API was given is there, and nobody else writes.
pub(super) fn uploads(data_dir: &Path, tenant: &str) -> PathBuf {
    plugins_data(data_dir, tenant).join("uploads")
}

/// Where the data of a tenant's plugins is. That of the first tenant is where it was when there were no others.
pub(super) fn plugins_data(data_dir: &Path, tenant: &str) -> PathBuf {
    if tenant == DEFAULT_TENANT { data_dir.to_owned() } else { data_dir.join("tenants").join(tenant) }
}
