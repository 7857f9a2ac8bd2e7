//! Takes the rows of a slice through a chain of plugins.
//!
//! Owns: the Wasm engine and its limits ([`Engine`]), what a plugin file is and may ask for ([`inspect`],
//! [`Manifest`]), compiled code on disk ([`CodeCache`]), the child process that compiles ([`compile_in_child`]),
//! the host side of the plugin ABI over `wasmill-chunk`, warm instances, and chains of plugins with bisection
//! of chunks that fail ([`Chain`], [`ChainWorker`]).
//!
//! Refuses: a plugin never gets a file, a socket, an environment variable, the real clock or real randomness; what it
//! asks of the network is asked for it by an [`Outbound`] that the program hands in, where the transform has one;
//! a guest never runs without a CPU deadline, a memory cap and an output cap; nothing that a guest staged is
//! applied unless its call returned ok.
//!
//! [`ChainWorker::run`] and [`Chain::build`] run guests on the calling thread. Call them on plain OS threads with a
//! stack of at least [`WORKER_STACK_BYTES`], never on a thread that drives an async runtime.

mod abi;
mod bisect;
mod cache;
mod chain;
mod child;
mod clock;
mod componentize;
mod door;
mod engine;
mod event_time;
mod fault;
mod grants;
mod http;
mod inspect;
mod instance;
mod isolation;
mod limits;
mod log;
mod manifest;
mod models;
#[cfg(feature = "native")]
mod native;
mod plugin;
mod report;
mod schema;
mod seed;
mod state;
mod step;
mod ticker;
mod wasi;
mod worker;

pub use cache::{CacheError, CodeCache};
pub use chain::{Chain, ChainError, ChainOptions, TransformError, TransformSpec};
pub use child::{
    CompileError, CompileLimits, compile_child_main, compile_in_child, compile_in_child_counted,
};
pub use componentize::{ComponentizeError, componentize};
pub use door::{Door, SmartModule};
pub use engine::{Engine, EngineError, EngineOptions, WORKER_STACK_BYTES};
pub use event_time::{RowTimes, Times};
pub use fault::{Owner, PluginFault};
pub use grants::{FileState, GrantError, GrantedFile, OpenFile, StateGrant};
pub use http::{
    HttpBounds, HttpGrant, HttpRequest, HttpResponse, HttpUse, Outbound, Unanswered, covers as http_covers,
};
pub use inspect::{Inspection, Item, Kind, inspect};
pub use isolation::{Isolation, ProcessOptions, ProcessStats, Processes, plugin_process_main};
pub use limits::{Limits, WAITING_CHAIN_MAX};
pub use log::{Level, LogSink, NullLog};
pub use manifest::{
    Chunks, Grants, Manifest, ManifestError, ManifestLimits, SECTION as MANIFEST_SECTION, Sample,
    check_manifest, embed_manifest, read_manifest,
};
pub use models::GrantedModel;
#[cfg(feature = "native")]
pub use native::{NativeInstance, NativePlugin, NativeSetup};
pub use plugin::{Digest, DigestError, LoadError, Plugin};
pub use report::{DeadLetter, Slice, SliceReport, TransformReport};
pub use wasmill_inference::{MODEL_BYTES_MAX, ModelError};
pub use worker::{ChainWorker, Kept};
