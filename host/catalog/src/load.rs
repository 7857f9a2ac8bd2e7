//! From the bytes of a plugin file to a plugin: compiled code from the cache or the compile child, which looks into the file
//! too, and linking.
//!
//! Never touches the plugin directory and runs no guest. Whatever goes wrong is a refusal with a reason, a panic of a
//! parser included.

use std::collections::HashMap;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmill_transform::{
    CacheError, CodeCache, CompileError, CompileLimits, Digest, Engine, LoadError, Manifest, Plugin,
    compile_in_child_counted,
};

use crate::gate::{CompileGate, Turn};

/// Refusals of the compiler that are remembered.
const REFUSED_MAX: usize = 256;
/// A reason is kept for as long as the file is there, logged and shown.
const REASON_BYTES_MAX: usize = 4 << 10;

/// Why a version is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    /// The host's trouble rather than the file's: worth another try with the same bytes.
    pub(crate) passing: bool,
}

impl Refusal {
    pub(crate) fn of_file(reason: impl Into<String>) -> Refusal {
        Refusal { reason: bounded(reason.into()), passing: false }
    }

    pub(crate) fn of_host(error: &dyn Error) -> Refusal {
        Refusal { reason: bounded(chain(error)), passing: true }
    }
}

/// What a file says of itself is in the reason, and a file may say a lot.
fn bounded(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        reason.push_str("...");
    }
    reason
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A plugin and what it took.
pub(crate) struct Loaded {
    pub(crate) plugin: Arc<Plugin>,
    /// `None` if the code came from the cache.
    pub(crate) compile: Option<Duration>,
}

/// What every load needs.
pub(crate) struct Loader {
    pub(crate) engine: Engine,
    pub(crate) cache: CodeCache,
    pub(crate) compiler: PathBuf,
    pub(crate) limits: CompileLimits,
    pub(crate) gate: Arc<dyn CompileGate>,
    /// What the compiler has refused lately: it would do so again, for as much time.
    pub(crate) refused: Mutex<HashMap<Digest, Refusal>>,
    pub(crate) compiles: AtomicU64,
    pub(crate) cache_hits: AtomicU64,
}

impl Loader {
    /// `manifest` as a sidecar leaves it; empty if the file has none, then `name` is the plugin's.
    pub(crate) fn load(
        &self,
        wasm: &[u8],
        digest: Digest,
        manifest: Manifest,
        name: &str,
    ) -> Result<Loaded, Refusal> {
        let load = || {
            let mut loaded = self.load_once(wasm, digest, manifest)?;
            // Nobody else has it yet.
            if let Some(plugin) = Arc::get_mut(&mut loaded.plugin) {
                name.clone_into(&mut plugin.name);
            }
            Ok(loaded)
        };
        catch_unwind(AssertUnwindSafe(load))
            .unwrap_or_else(|_panic| Err(Refusal::of_file("the host panicked while it looked into the file")))
    }

    fn load_once(&self, wasm: &[u8], digest: Digest, manifest: Manifest) -> Result<Loaded, Refusal> {
        // What the gate takes may change; the file is looked at again.
        let taken = self.gate.takes(wasm.len() as u64);
        taken.map_err(|reason| Refusal { reason, passing: true })?;
        if let Some(path) = self.cached(digest)? {
            match self.engine.load(&path, manifest.clone(), digest) {
                Ok(plugin) => {
                    self.cache_hits.fetch_add(1, Ordering::Relaxed);
                    return Ok(Loaded { plugin, compile: None });
                }
                Err(error @ LoadError::Link(_)) => return Err(Refusal::of_file(chain(&error))),
                Err(error) => {
                    tracing::warn!(%digest, error = chain(&error), "compiled code cannot be loaded, compiling again");
                    std::fs::remove_file(&path).map_err(|error| Refusal::of_host(&error))?;
                }
            }
        }
        let known = self.refused.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        if let Some(refusal) = known {
            return Err(refusal);
        }
        let mut turn = Turn::begin(&self.gate).map_err(|reason| Refusal { reason, passing: true })?;
        let started = Instant::now();
        self.compiles.fetch_add(1, Ordering::Relaxed);
        let (code, cpu) = compile_in_child_counted(&self.compiler, wasm, &self.limits);
        turn.cpu = cpu;
        drop(turn);
        let code = code.map_err(|error| self.refuse(digest, &error))?;
        let compile = started.elapsed();
        let path = self.cache.put(&self.engine, digest, &code).map_err(|error| Refusal::of_host(&error))?;
        let plugin =
            self.engine.load(&path, manifest, digest).map_err(|error| Refusal::of_file(chain(&error)))?;
        Ok(Loaded { plugin, compile: Some(compile) })
    }

    fn refuse(&self, digest: Digest, error: &CompileError) -> Refusal {
        let passing = matches!(error, CompileError::Process { .. });
        let refusal = Refusal { passing, reason: bounded(chain(error)) };
        if !passing {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if refused.len() >= REFUSED_MAX {
                refused.clear();
            }
            refused.insert(digest, refusal.clone());
        }
        refusal
    }

    fn cached(&self, digest: Digest) -> Result<Option<PathBuf>, Refusal> {
        match self.cache.get(&self.engine, digest) {
            Ok(path) => Ok(path),
            Err(CacheError::Corrupt { path }) => {
                warn_damaged(&path);
                Ok(None)
            }
            Err(error) => Err(Refusal::of_host(&error)),
        }
    }
}

fn warn_damaged(path: &Path) {
    tracing::warn!(file = %path.display(), "compiled code was damaged, compiling again");
}
