//! Takes the rows of a slice through a chain of plugins.
//!
//! Owns: the Wasm engine and its limits ([`Engine`]), what a plugin file is and may ask for ([`inspect`],
//! [`Manifest`]), compiled code on disk ([`CodeCache`]), the child process that compiles ([`compile_in_child`]),
//! the host side of the plugin ABI over `wasmill-chunk`, warm instances, and chains of plugins with bisection
//! of chunks that fail ([`Chain`], [`ChainWorker`]).
//!
//! Refuses: a plugin never gets a file, a socket, an environment variable, the real clock or real randomness;
//! a guest never runs without a CPU deadline, a memory cap and an output cap; nothing that a guest staged is
//! applied unless its call returned ok.
//!
//! [`ChainWorker::run`] and [`Chain::build`] run guests on the calling thread. Call them on plain OS threads with a
//! stack of at least [`WORKER_STACK_BYTES`], never on a thread that drives an async runtime.

mod cache;
mod chain;
mod child;
mod componentize;
mod engine;
mod fault;
mod grants;
mod inspect;
mod limits;
mod log;
mod manifest;
mod plugin;
mod report;
mod worker;

pub use cache::{CacheError, CodeCache};
pub use chain::{Chain, ChainError, ChainOptions, TransformSpec};
pub use child::{CompileError, CompileLimits, compile_child_main, compile_in_child};
pub use componentize::{ComponentizeError, componentize};
pub use engine::{Engine, EngineError, EngineOptions, WORKER_STACK_BYTES};
pub use fault::{Owner, PluginFault};
pub use grants::{GrantError, GrantedFile};
pub use inspect::{Inspection, Item, Kind, inspect};
pub use limits::Limits;
pub use log::{Level, LogSink, NullLog};
pub use manifest::{Grants, Manifest, ManifestError, ManifestLimits, embed_manifest, read_manifest};
pub use plugin::{Digest, LoadError, Plugin};
pub use report::{DeadLetter, Slice, SliceReport, TransformReport};
pub use worker::ChainWorker;
