//! The first-party plugins as the components that `cargo xtask plugins` builds.
//!
//! Compiled code is kept beside them, so that only the first run after a change compiles. Refuses to build anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use wasmill_transform::{Engine, EngineOptions, Plugin};

/// An engine and the directory that the components are in.
pub struct Components {
    pub engine: Engine,
    directory: PathBuf,
    /// Directory of compiled code.
    cache: PathBuf,
}

impl Components {
    /// The directory that `WASMILL_PLUGINS` names. `None` when it is not set: `cargo xtask test` always sets it, a
    /// plain `cargo test` does not.
    pub fn open() -> Result<Option<Components>> {
        match std::env::var_os("WASMILL_PLUGINS") {
            Some(directory) => Components::open_at(Path::new(&directory)).map(Some),
            None => Ok(None),
        }
    }

    /// The components in `directory`; compiled code goes into a directory beside it.
    pub fn open_at(directory: &Path) -> Result<Components> {
        let mut name = directory.file_name().context("a directory without a name")?.to_owned();
        name.push("-compiled");
        Ok(Components {
            engine: Engine::new(EngineOptions::default())?,
            cache: directory.with_file_name(name),
            directory: directory.to_owned(),
        })
    }

    /// The component of a plugin, compiled and loaded.
    pub fn plugin(&self, name: &str) -> Result<Arc<Plugin>> {
        let file = self.directory.join(format!("{name}.wasm"));
        let wasm = std::fs::read(&file)
            .with_context(|| format!("read {}; `cargo xtask plugins` builds it", file.display()))?;
        let loaded = wasmill_cases::load(&self.engine, &wasm, &self.cache);
        Ok(loaded.with_context(|| file.display().to_string())?.0)
    }
}
