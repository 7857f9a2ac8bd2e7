//! The Wasm engine: one per process, with the linker of everything that a plugin may import.
//!
//! Owns the configuration that decides what compiled code looks like. Anything nondeterministic (threads, relaxed
//! SIMD, NaN bits) and anything that tenants do not need (garbage collection, 64-bit memories, exceptions) is off.

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails,
    WasmFeatures,
};

use crate::componentize::Program;
use crate::grants::GrantedFile;
use crate::instance::Guest;
use crate::isolation::{Isolation, ProcessOptions, ProcessStats, Processes};
use crate::limits;
use crate::manifest::Manifest;
use crate::models::{GrantedModel, LoadedModels};
use crate::plugin::{Digest, LoadError, Plugin};
use crate::ticker::Ticker;

/// Stack that guests themselves may use; what a guest needs beyond it is a clean trap.
const WASM_STACK_BYTES: usize = 512 << 10;
/// Stack that a thread must have which runs guests: the guests' own part and what host functions need. Overrunning
/// the host's part aborts the process, so it is generous; untouched pages cost nothing.
pub const WORKER_STACK_BYTES: usize = WASM_STACK_BYTES + (4 << 20);

/// Changes when this crate makes different code of the same plugin file (adapter, componentizing, linker names).
const CODE_REVISION: u32 = 1;

/// What an engine is built from.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Instances that may be alive at once in the process, over all chains and workers.
    pub instances_max: u32,
    /// Period of the interruption ticker; deadlines are exact to about this. Clamped to 1 to 10 ms.
    pub tick: Duration,
    /// Try the pooling allocator first; it needs a lot of address space.
    pub pooling: bool,
    /// Count fuel, a cost that is the same on every machine and in every run: for comparing versions of a plugin, never
    /// as time. Guests are slower with it.
    pub fuel: bool,
    /// Name file and line in traps where a component carries debug information.
    pub debug_info: bool,
    /// Compile with all cores. Off in the compile child, whose memory is limited.
    pub parallel_compilation: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            instances_max: 1000,
            tick: Duration::from_millis(5),
            pooling: true,
            fuel: false,
            debug_info: false,
            parallel_compilation: true,
        }
    }
}

/// The Wasm engine. Cheap to clone; its ticker thread ends with the last clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    linker: Linker<Guest>,
    engine: wasmtime::Engine,
    pooling: bool,
    fuel: bool,
    debug_info: bool,
    apart: OnceLock<Apart>,
    models: LoadedModels,
    _ticker: Ticker,
}

/// Tenants whose guests never run in this process.
struct Apart {
    processes: Processes,
    tenants: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

/// Why there is no engine or no code.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("configure the Wasm engine: {message}")]
    Config { message: String },
    #[error("start the interruption ticker")]
    Ticker(#[source] std::io::Error),
    #[error("compile: {message}")]
    Compile { message: String },
    /// The file is nothing that is compiled.
    #[error(transparent)]
    File(#[from] crate::componentize::ComponentizeError),
}

impl Engine {
    /// Starts an engine and its ticker thread. Falls back to on-demand allocation where the address space is too
    /// small for the pool, and says so in the log.
    pub fn new(options: EngineOptions) -> Result<Engine, EngineError> {
        let config_error = |error: wasmtime::Error| EngineError::Config { message: format!("{error:#}") };
        let mut pooling = options.pooling;
        let engine = if pooling {
            let mut config = config(&options);
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(&options)));
            match wasmtime::Engine::new(&config) {
                Ok(engine) => Some(engine),
                Err(error) => {
                    pooling = false;
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "no pool of instances, allocating on demand"
                    );
                    None
                }
            }
        } else {
            None
        };
        let engine = match engine {
            Some(engine) => engine,
            None => wasmtime::Engine::new(&config(&options)).map_err(config_error)?,
        };
        let mut linker = Linker::new(&engine);
        crate::wasi::add_to_linker(&mut linker).map_err(config_error)?;
        crate::abi::add_to_linker(&mut linker).map_err(config_error)?;
        let tick = options.tick.clamp(Duration::from_millis(1), Duration::from_millis(10));
        let ticker = Ticker::start(engine.weak(), tick).map_err(EngineError::Ticker)?;
        let EngineOptions { fuel, debug_info, .. } = options;
        let apart = OnceLock::new();
        let models = LoadedModels::default();
        let inner = Inner { linker, engine, pooling, fuel, debug_info, apart, models, _ticker: ticker };
        Ok(Engine { inner: Arc::new(inner) })
    }

    /// A text that changes whenever compiled code stops being interchangeable; part of the cache key.
    pub fn compatibility(&self) -> String {
        // Hashes wasmtime's full version and every setting that shapes code.
        let mut hasher = std::hash::DefaultHasher::new();
        self.inner.engine.precompile_compatibility_hash().hash(&mut hasher);
        CODE_REVISION.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// Whether the pooling allocator is in use.
    pub fn pooling(&self) -> bool {
        self.inner.pooling
    }

    /// Compiles a plugin file; may take long and much memory: see [`crate::compile_in_child`]. What has a door of its
    /// own is compiled as it is, any other core module as a component.
    pub fn precompile(&self, wasm: &[u8]) -> Result<Vec<u8>, EngineError> {
        let engine = &self.inner.engine;
        let program = crate::componentize::program(wasm)?;
        without_panic(|| {
            let code = match program {
                Program::Component(component) => engine.precompile_component(&component),
                Program::Door(_) => engine.precompile_module(wasm),
            };
            code.map_err(|error| format!("{error:#}"))
        })
        .map_err(|message| EngineError::Compile { message })
    }

    /// Loads a file that [`crate::CodeCache`] wrote. `digest` is that of the plugin file, `manifest` the one in it.
    pub fn load(
        &self,
        precompiled: &Path,
        manifest: Manifest,
        digest: Digest,
    ) -> Result<Arc<Plugin>, LoadError> {
        crate::cache::verify(precompiled).map_err(LoadError::Verify)?;
        Plugin::load(self, precompiled, manifest, digest).map(Arc::new)
    }

    /// From now on chains of these tenants are to be built in processes of their own ([`Engine::isolation`]). The first call
    /// counts.
    pub fn isolate(&self, options: ProcessOptions, tenants: impl Fn(&str) -> bool + Send + Sync + 'static) {
        let processes = Processes::new(self, options);
        self.inner.apart.get_or_init(|| Apart { processes, tenants: Box::new(tenants) });
    }

    /// Where the chains of a tenant are to be built, if not here.
    pub fn isolation(&self, tenant: &str) -> Option<Isolation> {
        let apart = self.inner.apart.get()?;
        (apart.tenants)(tenant).then(|| apart.processes.of(tenant))
    }

    /// What processes for plugins did so far.
    pub fn process_stats(&self) -> ProcessStats {
        self.inner.apart.get().map_or_else(ProcessStats::default, |apart| apart.processes.stats())
    }

    /// Reads a model, unless one of the same content is in use; `file` is how it is called. May take some time.
    ///
    /// # Errors
    /// Why it is none that runs here.
    pub fn model(
        &self,
        file: &str,
        content: &GrantedFile,
    ) -> Result<GrantedModel, wasmill_inference::ModelError> {
        self.inner.models.load(file, content)
    }

    /// Whether guests' fuel is counted.
    pub fn fuel(&self) -> bool {
        self.inner.fuel
    }

    pub(crate) fn debug_info(&self) -> bool {
        self.inner.debug_info
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.engine
    }

    pub(crate) fn linker(&self) -> &Linker<Guest> {
        &self.inner.linker
    }
}

/// The compiler is made for files of strangers, but what it has not thought of it answers with a panic.
fn without_panic<T>(compile: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // What it worked on is gone with it, and an engine keeps nothing of a compilation.
    catch_unwind(AssertUnwindSafe(compile)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(format!("the compiler panicked: {text}"))
    })
}

/// Everything that shapes code or behaviour, except where memory comes from.
fn config(options: &EngineOptions) -> Config {
    let mut config = Config::new();
    config.wasm_features(
        WasmFeatures::MEMORY64
            | WasmFeatures::GC
            | WasmFeatures::FUNCTION_REFERENCES
            | WasmFeatures::EXCEPTIONS
            | WasmFeatures::THREADS
            | WasmFeatures::TAIL_CALL
            | WasmFeatures::RELAXED_SIMD
            | WasmFeatures::CM_ASYNC,
        false,
    );
    // What passes between components that are composed into one goes through a module that has the memories of both.
    config.wasm_features(WasmFeatures::SIMD | WasmFeatures::BULK_MEMORY | WasmFeatures::MULTI_MEMORY, true);
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config.max_wasm_stack(WASM_STACK_BYTES);
    // For guests that are suspended inside a call; as large as a worker's own.
    config.async_stack_size(WORKER_STACK_BYTES);
    config.cranelift_opt_level(OptLevel::Speed);
    // Results must not depend on the processor; floating point is a small part of what plugins do.
    config.cranelift_nan_canonicalization(true);
    // Registering unwind tables is quadratic in the number of modules, and nothing here unwinds through guests.
    config.native_unwind_info(false);
    // Fixed so that code from the compile child (no pool) suits this process (pool).
    config.memory_reservation(4 << 30);
    config.memory_guard_size(32 << 20);
    config.parallel_compilation(options.parallel_compilation);
    config.consume_fuel(options.fuel);
    config.wasm_backtrace_details(match options.debug_info {
        true => WasmBacktraceDetails::Enable,
        false => WasmBacktraceDetails::Disable,
    });
    config
}

fn pool(options: &EngineOptions) -> PoolingAllocationConfig {
    let instances = options.instances_max.max(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(16))
        // One each, and one more for those that are composed of several components: all that are known have two.
        .total_memories(instances.saturating_mul(2))
        .total_stacks(instances)
        .total_tables(instances.saturating_mul(4))
        .max_core_instances_per_component(u32::try_from(limits::CORE_INSTANCES_MAX).unwrap_or(u32::MAX))
        .max_memories_per_component(u32::try_from(limits::MEMORIES_MAX).unwrap_or(u32::MAX))
        .max_memories_per_module(u32::try_from(limits::MEMORIES_MAX).unwrap_or(u32::MAX))
        .max_tables_per_module(u32::try_from(limits::TABLES_MAX).unwrap_or(u32::MAX))
        .max_tables_per_component(u32::try_from(limits::TABLES_MAX).unwrap_or(u32::MAX))
        .table_elements(limits::TABLE_ELEMENTS_MAX)
        .max_memory_size(4 << 30)
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(64 << 10);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_of_the_compiler_is_an_error_that_says_what_it_said() {
        let nothing = Vec::<u8>::new();
        assert_eq!(without_panic(|| Ok(1)), Ok(1));
        assert_eq!(without_panic::<()>(|| Err("refused".to_owned())), Err("refused".to_owned()));
        let error =
            without_panic(|| Ok(nothing.first().copied().expect("invalid adapter module"))).unwrap_err();
        assert_eq!(error, "the compiler panicked: invalid adapter module");
        let error = without_panic(|| Ok(nothing[usize::from(nothing.is_empty())])).unwrap_err();
        assert!(error.starts_with("the compiler panicked: index out of bounds"), "{error}");
    }
}
