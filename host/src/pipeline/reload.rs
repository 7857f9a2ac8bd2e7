//! Which chain a stream runs: built and probed at start (`plan.rs`), and again whenever the plugin directory changes.
//!
//! One thread of its own does it, because a probe runs guests: a version that does not configure or that fails its
//! probe costs nobody a worker. A stream sees only chains that passed; it takes the new one between two slices. A
//! version that failed too many records is left for the one before and not tried again until the directory has
//! another.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::watch;
use wasmill_catalog::Catalog;
use wasmill_transform::{Digest, Engine, Plugin, WORKER_STACK_BYTES};

use super::plan::{ChainPlan, ChainVersion};
use super::stats::StreamStats;

/// Refused sets of plugins that a stream remembers.
const REFUSED_MAX: usize = 16;
/// Requests that wait for the thread; a change of the directory needs only one.
const REQUESTS_MAX: usize = 1024;

/// A stream that reloads.
pub(crate) struct Reloading {
    pub(crate) plan: ChainPlan,
    pub(crate) chains: watch::Sender<Arc<ChainVersion>>,
    pub(crate) stats: Arc<StreamStats>,
    /// Plugins in the directory that did not pass at the start.
    pub(crate) refused: Option<Vec<Arc<Plugin>>>,
}

struct Slot {
    stream: Reloading,
    before: Option<Arc<ChainVersion>>,
    /// Sets of plugins that did not pass, or failed too much; the newest.
    refused: VecDeque<Vec<Arc<Plugin>>>,
}

/// A changed sidecar makes another plugin of the same digest, so digests do not tell.
fn same(one: &[Arc<Plugin>], other: &[Arc<Plugin>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}

enum Request {
    DirectoryChanged,
    Demote { stream: usize, generation: u64 },
    Stop,
}

/// A stream's way to report a bad version.
#[derive(Clone)]
pub(crate) struct Demoter {
    requests: SyncSender<Request>,
    stream: usize,
}

impl Demoter {
    /// Asks for the version before `generation`.
    pub(crate) fn demote(&self, generation: u64) {
        let request = Request::Demote { stream: self.stream, generation };
        if self.requests.try_send(request).is_err() {
            tracing::warn!("the reloader takes no demotion now; the stream stays paused");
        }
    }
}

/// The thread. Dropping it stops the thread after what it is doing.
pub(crate) struct Reloader {
    requests: SyncSender<Request>,
    thread: Option<JoinHandle<()>>,
}

/// Requests before the thread is there.
pub(crate) struct Requests {
    sender: SyncSender<Request>,
    receiver: Receiver<Request>,
}

impl Requests {
    pub(crate) fn new() -> Requests {
        let (sender, receiver) = sync_channel(REQUESTS_MAX);
        Requests { sender, receiver }
    }

    /// For the stream with this number.
    pub(crate) fn demoter(&self, stream: usize) -> Demoter {
        Demoter { requests: self.sender.clone(), stream }
    }

    /// Starts the thread, and a task that passes the catalog's changes on.
    pub(crate) fn start(
        self,
        engine: Engine,
        catalog: Catalog,
        streams: Vec<Reloading>,
    ) -> std::io::Result<Reloader> {
        let mut changes = catalog.changes();
        let changed = self.sender.clone();
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                // A full queue has a request of this kind, or a stop.
                if let Err(TrySendError::Disconnected(_)) = changed.try_send(Request::DirectoryChanged) {
                    return;
                }
            }
        });
        let Requests { sender, receiver } = self;
        let slots = streams
            .into_iter()
            .map(|mut stream| {
                let refused = stream.refused.take().into_iter().collect();
                Slot { stream, before: None, refused }
            })
            .collect();
        let thread = std::thread::Builder::new()
            .name("reloader".to_owned())
            .stack_size(WORKER_STACK_BYTES + (1 << 20))
            .spawn(move || serve(&receiver, &engine, &catalog, slots))?;
        Ok(Reloader { requests: sender, thread: Some(thread) })
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        // A full queue drains, since the thread is alive; a gone thread needs no request.
        let _gone = self.requests.send(Request::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the reloader panicked");
        }
    }
}

fn serve(requests: &Receiver<Request>, engine: &Engine, catalog: &Catalog, mut slots: Vec<Slot>) {
    let pinned: HashSet<Digest> = slots.iter().flat_map(Slot::pinned).collect();
    slots.iter().for_each(|slot| slot.note_running(catalog));
    expire(catalog, &pinned);
    while let Ok(request) = requests.recv() {
        match request {
            Request::Stop => return,
            Request::DirectoryChanged => {
                for slot in &mut slots {
                    slot.reload(engine, catalog);
                }
                expire(catalog, &pinned);
            }
            Request::Demote { stream, generation } => {
                if let Some(slot) = slots.get_mut(stream) {
                    slot.demote(generation);
                    slot.note_running(catalog);
                }
            }
        }
    }
}

/// Lets the catalog forget versions that are old, not in use and not pinned.
fn expire(catalog: &Catalog, pinned: &HashSet<Digest>) {
    match catalog.expire(pinned) {
        Ok(0) => {}
        Ok(versions) => tracing::info!(versions, "old plugin versions removed"),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "old plugin versions cannot be removed");
        }
    }
}

impl Slot {
    /// Versions that the configuration names by digest.
    fn pinned(&self) -> impl Iterator<Item = Digest> {
        let transforms = self.stream.plan.transforms.iter();
        transforms.filter_map(|transform| transform.plugin.digest.as_ref()?.parse().ok())
    }

    /// For the next start, in case a file is bad by then.
    fn note_running(&self, catalog: &Catalog) {
        let plan = &self.stream.plan;
        if let Err(error) = catalog.note_running(&plan.stream, &plan.versions(&self.current())) {
            tracing::warn!(
                stream = %plan.stream, error = &error as &dyn std::error::Error,
                "which plugin versions run cannot be noted; a bad file at the next start has no version before"
            );
        }
    }

    fn current(&self) -> Arc<ChainVersion> {
        Arc::clone(&self.stream.chains.borrow())
    }

    fn reload(&mut self, engine: &Engine, catalog: &Catalog) {
        let plan = &self.stream.plan;
        let plugins = match plan.find(catalog) {
            Ok(plugins) => plugins,
            Err(problems) => {
                let reasons: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
                tracing::debug!(stream = %plan.stream, reasons = reasons.join("; "), "plugins are not all there, going on as before");
                return;
            }
        };
        let current = self.current();
        if same(&current.plugins, &plugins) || self.refused.iter().any(|refused| same(refused, &plugins)) {
            return;
        }
        match plan.build(engine, catalog, &plugins) {
            Ok(chain) => {
                let next = ChainVersion::new(current.generation + 1, chain, plugins);
                self.before = Some(current);
                self.stream.chains.send_replace(Arc::new(next));
                self.note_running(catalog);
            }
            Err(problems) => {
                self.stream.stats.reloads_refused.add(1);
                for problem in problems {
                    tracing::warn!(
                        stream = %plan.stream, reason = problem.message,
                        "new plugin version refused, the one before goes on"
                    );
                }
                self.refuse(plugins);
            }
        }
    }

    fn refuse(&mut self, plugins: Vec<Arc<Plugin>>) {
        self.refused.push_back(plugins);
        if self.refused.len() > REFUSED_MAX {
            self.refused.pop_front();
        }
    }

    fn demote(&mut self, generation: u64) {
        let current = self.current();
        if current.generation != generation {
            return;
        }
        self.refuse(current.plugins.clone());
        let Some(before) = self.before.take() else { return };
        let again = ChainVersion::new(generation + 1, Arc::clone(&before.chain), before.plugins.clone());
        self.stream.chains.send_replace(Arc::new(again));
    }
}
