//! From a component's bytes to a plugin that can run, through a directory of compiled code.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use wasmill_transform::{CodeCache, Digest, Engine, Plugin, componentize, read_manifest};

/// The plugin, and how long it took to compile where no compiled code was in `cache`.
///
/// # Errors
/// It is no component, has no manifest, or does not compile.
pub fn load(engine: &Engine, wasm: &[u8], cache: &Path) -> Result<(Arc<Plugin>, Option<Duration>)> {
    let manifest =
        read_manifest(wasm)?.context("the component has no manifest; `wasmill plugin pack` puts one in")?;
    let digest = Digest::of(wasm);
    let cache = CodeCache::open(cache)?;
    let (path, took) = match cache.get(engine, digest)? {
        Some(path) => (path, None),
        None => {
            let started = Instant::now();
            let code = engine.precompile(&componentize(wasm)?)?;
            (cache.put(engine, digest, &code)?, Some(started.elapsed()))
        }
    };
    Ok((engine.load(&path, manifest, digest)?, took))
}
