//! From a component's bytes to a plugin that can run, through a directory of compiled code.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use wasmill_transform::{CodeCache, Digest, Engine, Manifest, Plugin, inspect};

/// The plugin, and how long it took to compile where no compiled code was in `cache`.
///
/// # Errors
/// It is no plugin, has no manifest although it is a component, or does not compile.
pub fn load(engine: &Engine, wasm: &[u8], cache: &Path) -> Result<(Arc<Plugin>, Option<Duration>)> {
    let inspection = inspect(wasm)?;
    if !inspection.refused.is_empty() {
        bail!("a host would refuse it: {}", inspection.refused.join("; "));
    }
    let manifest = match (inspection.manifest, inspection.door) {
        (Some(manifest), _) => manifest,
        (None, Some(_)) => Manifest::default(),
        (None, None) => bail!("the component has no manifest; `wasmill plugin pack` puts one in"),
    };
    let digest = Digest::of(wasm);
    let cache = CodeCache::open(cache)?;
    let (path, took) = match cache.get(engine, digest)? {
        Some(path) => (path, None),
        None => {
            let started = Instant::now();
            let code = engine.precompile(wasm)?;
            (cache.put(engine, digest, &code)?, Some(started.elapsed()))
        }
    };
    let mut plugin = engine.load(&path, manifest, digest)?;
    // A host would name it after its file.
    if let (Some(door), Some(plugin)) = (inspection.door, Arc::get_mut(&mut plugin))
        && plugin.name.is_empty()
    {
        plugin.name = door.to_string();
    }
    Ok((plugin, took))
}
