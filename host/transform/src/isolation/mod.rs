//! `isolation = "process"`: a tenant's plugins run in processes of their own, so that even an escape from the sandbox, or an
//! abort of the runtime, costs that tenant the slice in flight and nobody else anything.
//!
//! The process is this program under a hidden name. It is started with an empty environment and three files (a socket, and
//! two in memory for its position and its last words), limits its memory, and lets the kernel take everything else away
//! ([`sandbox`]) before it loads the first plugin. Code that was compiled and verified, configs, granted files and secrets
//! of the chains that it runs come through the socket; no secret of the host is ever in it. Slices go over as columns, and
//! come back as columns, which the host checks before it believes them ([`answer`]).
//!
//! What guests ask of the network goes over, too, and the host sends it ([`requests`]); so does what they read and change of
//! state ([`state`]).
//!
//! A process that ends in the middle of a slice is as a trap: halves of the slice run in fresh processes until the record
//! is alone that ends them ([`remote`]). How a chain behaves is otherwise the same: the same code runs it there.

mod answer;
mod columns;
mod exchange;
mod going;
mod inside;
mod messages;
mod process;
mod remote;
mod requests;
mod sandbox;
mod state;
mod wire;

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use inside::plugin_process_main;
pub(crate) use remote::{BuildError, Remote};

use process::Process;

use crate::engine::Engine;

/// Log lines that are taken for one slice.
const LINES_MAX: u32 = 20_000;
/// Name of the hidden subcommand.
const SUBCOMMAND: &str = "run-plugins";

/// How processes for plugins are run.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    /// The program that has the hidden subcommand `run-plugins`.
    pub program: PathBuf,
    /// Private memory of one process. One that runs a chain which may use more than this gets that much and a little.
    pub memory_bytes: u64,
    /// Processes that are kept while they have nothing to do, over all tenants; past it the one that waits longest ends.
    pub idle_max: usize,
}

impl ProcessOptions {
    /// The defaults, for this program.
    pub fn new(program: PathBuf) -> ProcessOptions {
        ProcessOptions { program, memory_bytes: 1 << 30, idle_max: 32 }
    }
}

/// What processes did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessStats {
    pub started: u64,
    /// Ended by themselves, or were ended because of what they did.
    pub lost: u64,
}

/// The processes for plugins of one host. Cheap to clone.
#[derive(Clone)]
pub struct Processes {
    inner: Arc<Inner>,
}

struct Inner {
    options: ProcessOptions,
    fuel: bool,
    debug_info: bool,
    /// The one that was used last is at the back.
    idle: Mutex<VecDeque<(Arc<str>, Process)>>,
    next_chain: AtomicU64,
    started: AtomicU64,
    lost: AtomicU64,
}

impl Processes {
    /// None is started yet. They run code that `engine` compiled.
    pub fn new(engine: &Engine, options: ProcessOptions) -> Processes {
        let inner = Inner {
            options,
            fuel: engine.fuel(),
            debug_info: engine.debug_info(),
            idle: Mutex::default(),
            next_chain: AtomicU64::new(1),
            started: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        };
        Processes { inner: Arc::new(inner) }
    }

    /// Those of one tenant.
    pub fn of(&self, tenant: &str) -> Isolation {
        Isolation { processes: self.clone(), tenant: tenant.into() }
    }

    pub fn stats(&self) -> ProcessStats {
        ProcessStats {
            started: self.inner.started.load(Ordering::Relaxed),
            lost: self.inner.lost.load(Ordering::Relaxed),
        }
    }
}

/// Where the chains of a tenant run: in processes that no other tenant's plugins are ever in.
#[derive(Clone)]
pub struct Isolation {
    processes: Processes,
    tenant: Arc<str>,
}

impl Isolation {
    fn next_chain(&self) -> u64 {
        self.processes.inner.next_chain.fetch_add(1, Ordering::Relaxed)
    }

    /// An idle process of the tenant, rather one that has this chain, or a new one. It has room for so much memory.
    fn take(&self, chain: u64, memory_bytes: u64) -> std::io::Result<Process> {
        let inner = &self.processes.inner;
        while let Some(mut process) = self.idle(chain, memory_bytes) {
            // It may have been ended while it had nothing to do.
            if process.runs() {
                return Ok(process);
            }
            self.note_lost();
        }
        let process = Process::start(&inner.options, memory_bytes, inner.fuel, inner.debug_info)?;
        inner.started.fetch_add(1, Ordering::Relaxed);
        Ok(process)
    }

    fn idle(&self, chain: u64, memory_bytes: u64) -> Option<Process> {
        let mut idle = self.processes.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = |(tenant, process): &(Arc<str>, Process)| {
            *tenant == self.tenant && process.memory_bytes() >= memory_bytes
        };
        let best = idle.iter().rposition(|entry| ours(entry) && entry.1.has(chain));
        let best = best.or_else(|| idle.iter().rposition(ours))?;
        idle.remove(best).map(|(_, process)| process)
    }

    /// Gives a process back that is fit for more.
    fn put(&self, process: Process) {
        let inner = &self.processes.inner;
        let surplus = {
            let mut idle = inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push_back((Arc::clone(&self.tenant), process));
            if idle.len() > inner.options.idle_max { idle.pop_front() } else { None }
        };
        // Behind the lock: it is waited for.
        drop(surplus);
    }

    fn note_lost(&self) {
        self.processes.inner.lost.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Isolation").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}
