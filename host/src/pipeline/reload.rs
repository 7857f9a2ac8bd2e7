//! Which chain a stream runs: built and probed at start (`plan.rs`), and again whenever the plugin directory changes.
//!
//! One thread of its own does it, because a probe runs guests: a version that does not configure or that fails its
//! probe costs nobody a worker. A stream sees only chains that passed; it takes the new one between two slices. What
//! operators decide about versions (`decisions`) is done here too, so that nothing else moves meanwhile.

mod decisions;
mod slot;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use wasmill_catalog::{Catalog, CatalogError};
use wasmill_transform::{Digest, Engine, Plugin, WORKER_STACK_BYTES};

use self::slot::Slot;
use super::granted::{Kept, remove_unused};
use super::plan::{ChainPlan, ChainVersion};
use super::shadow::StreamShadows;
use super::stats::StreamStats;
use super::versions::{Decision, VersionsError};
use super::workers::LaneId;

/// Requests that wait for the thread; a change of the directory needs only one.
const REQUESTS_MAX: usize = 1024;
/// How soon a stream is offered again to a thread that has too much to do.
const FULL_RETRY: Duration = Duration::from_millis(5);

/// A stream that reloads.
pub(crate) struct Reloading {
    /// As its demoter says it.
    pub(crate) lane: LaneId,
    pub(crate) plan: ChainPlan,
    pub(crate) chains: watch::Sender<Arc<ChainVersion>>,
    pub(crate) stats: Arc<StreamStats>,
    pub(crate) shadows: Arc<StreamShadows>,
    /// Plugins in the directory that did not pass at the start.
    pub(crate) refused: Option<Vec<Arc<Plugin>>>,
}

/// Why a stream does not want its version any more.
#[derive(Debug)]
pub(crate) struct Blame {
    /// Place of the transform that is most to blame, where one is.
    pub(crate) transform: Option<usize>,
    pub(crate) reason: String,
    /// It failed too many records, rather than that it could not run now: that is remembered.
    pub(crate) lasting: bool,
}

enum Request {
    /// Of plugins.
    DirectoryChanged,
    /// Something of what a stream's transforms are granted.
    GrantChanged {
        lane: LaneId,
    },
    Add(Box<Reloading>),
    Remove {
        lane: LaneId,
    },
    Demote {
        lane: LaneId,
        generation: u64,
        blame: Blame,
    },
    Decide {
        plugin: String,
        decision: Decision,
        reply: oneshot::Sender<Result<String, VersionsError>>,
    },
    /// A stream of this name is removed.
    Forget {
        stream: String,
        reply: oneshot::Sender<Result<(), CatalogError>>,
    },
    /// Other signatures are asked for: streams end to run what may not be used.
    Judge {
        reply: oneshot::Sender<()>,
    },
    /// Chains are to be built anew of the plugins that they have: what they may use has changed.
    Rebuild,
    Stop,
}

/// A stream's way to report a bad version.
#[derive(Clone)]
pub(crate) struct Demoter {
    requests: SyncSender<Request>,
    lane: LaneId,
}

impl Demoter {
    /// One whose reports nobody hears.
    #[cfg(test)]
    pub(crate) fn unheard() -> Demoter {
        let (requests, _nobody) = sync_channel(REQUESTS_MAX);
        Demoter { requests, lane: 0 }
    }

    /// Asks for the version before `generation`.
    pub(crate) fn demote(&self, generation: u64, blame: Blame) {
        let request = Request::Demote { lane: self.lane, generation, blame };
        if self.requests.try_send(request).is_err() {
            tracing::warn!("the reloader takes no demotion now; the stream stays paused");
        }
    }
}

/// The thread of one tenant. Dropping it stops the thread after what it is doing.
pub(crate) struct Reloader {
    requests: SyncSender<Request>,
    thread: Option<JoinHandle<()>>,
}

impl Reloader {
    /// Starts the thread, and a task that passes the catalog's changes on.
    pub(crate) fn start(engine: Engine, catalog: Catalog) -> std::io::Result<Reloader> {
        let (requests, received) = sync_channel(REQUESTS_MAX);
        let mut changes = catalog.changes();
        let changed = requests.clone();
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                // A full queue has a request of this kind, or a stop.
                if let Err(TrySendError::Disconnected(_)) = changed.try_send(Request::DirectoryChanged) {
                    return;
                }
            }
        });
        let own = requests.clone();
        let thread = std::thread::Builder::new()
            .name("reloader".to_owned())
            .stack_size(WORKER_STACK_BYTES + (1 << 20))
            .spawn(move || serve(&received, &own, &engine, &catalog))?;
        Ok(Reloader { requests, thread: Some(thread) })
    }

    /// For the stream of this lane.
    pub(crate) fn demoter(&self, lane: LaneId) -> Demoter {
        Demoter { requests: self.requests.clone(), lane }
    }

    /// A stream that runs from now on. Waits while the thread has too much to do.
    pub(crate) async fn add(&self, stream: Reloading) {
        // A thread that has ended has nothing to do with it.
        let _heard = self.offer(Request::Add(Box::new(stream))).await;
    }

    /// Waits while the thread has too much to do; false once it has ended.
    async fn offer(&self, mut request: Request) -> bool {
        loop {
            match self.requests.try_send(request) {
                Ok(()) => return true,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(full)) => request = full,
            }
            tokio::time::sleep(FULL_RETRY).await;
        }
    }

    /// A stream that has ended.
    pub(crate) fn remove(&self, lane: LaneId) {
        if self.requests.try_send(Request::Remove { lane }).is_err() {
            tracing::warn!(
                "the reloader takes no request now; it goes on loading plugins for a stream that is gone"
            );
        }
    }

    /// A stream that has ended is removed: after everything that was said of it before, it is forgotten.
    pub(crate) async fn forget(&self, stream: &str) -> Result<(), CatalogError> {
        let (reply, done) = oneshot::channel();
        if !self.offer(Request::Forget { stream: stream.to_owned(), reply }).await {
            return Err(CatalogError::Stopped);
        }
        done.await.map_err(|_gone| CatalogError::Stopped)?
    }

    /// Other signatures are asked for; when it returns, nothing is begun any more with what may not be used.
    pub(crate) async fn judge(&self) {
        let (reply, done) = oneshot::channel();
        if self.offer(Request::Judge { reply }).await {
            // A thread that has ended runs nothing.
            drop(done.await);
        }
    }

    /// What the tenant may use has changed.
    pub(crate) fn rebuild(&self) {
        if self.requests.try_send(Request::Rebuild).is_err() {
            tracing::warn!(
                "the reloader takes no request now; chains run on within the quotas that they were built with"
            );
        }
    }

    /// Decides about the versions of a plugin; what was done, as text.
    pub(crate) async fn decide(&self, plugin: String, decision: Decision) -> Result<String, VersionsError> {
        let (reply, done) = oneshot::channel();
        let request = Request::Decide { plugin, decision, reply };
        self.requests.try_send(request).map_err(|_full_or_gone| VersionsError::Stopping)?;
        done.await.map_err(|_gone| VersionsError::Stopping)?
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

fn serve(requests: &Receiver<Request>, own: &SyncSender<Request>, engine: &Engine, catalog: &Catalog) {
    let mut slots: Vec<Slot> = Vec::new();
    while let Ok(request) = requests.recv() {
        match request {
            Request::Stop => return,
            Request::DirectoryChanged => {
                for slot in &mut slots {
                    slot.reload(engine, catalog);
                }
                expire(catalog, &slots);
            }
            Request::GrantChanged { lane } => {
                if let Some(slot) = slots.iter_mut().find(|slot| slot.stream.lane == lane) {
                    slot.reload(engine, catalog);
                }
            }
            Request::Add(stream) => {
                let mut slot = Slot::new(*stream);
                slot.note_running(catalog);
                slot.watch(own);
                remove_unused(catalog.data_dir());
                // The directory, and what is asked of it, may have changed since its chain was built.
                slot.judge(engine, catalog);
                slot.reload(engine, catalog);
                slot.follow_shadows(engine, catalog);
                slots.push(slot);
                expire(catalog, &slots);
                continue;
            }
            Request::Judge { reply } => {
                slots.iter_mut().for_each(|slot| slot.judge(engine, catalog));
                // Whoever asked may have gone.
                let _heard = reply.send(());
            }
            Request::Rebuild => slots.iter_mut().for_each(|slot| slot.rebuild(engine, catalog)),
            Request::Remove { lane } => slots.retain(|slot| slot.stream.lane != lane),
            Request::Forget { stream, reply } => {
                if let Err(error) = Kept::of(catalog, &stream).forget() {
                    tracing::warn!(%stream, error = &error as &dyn std::error::Error, "kept files and models cannot be removed");
                }
                remove_unused(catalog.data_dir());
                // Whoever asked may have gone; it is forgotten all the same.
                drop(reply.send(catalog.forget_stream(&stream)));
                expire(catalog, &slots);
            }
            Request::Demote { lane, generation, blame } => {
                if let Some(slot) = slots.iter_mut().find(|slot| slot.stream.lane == lane) {
                    slot.demote(engine, catalog, generation, &blame);
                }
            }
            Request::Decide { plugin, decision, reply } => {
                let decided = decisions::decide(&mut slots, engine, catalog, &plugin, decision);
                // The client may have gone; what was decided holds.
                drop(reply.send(decided));
            }
        }
        slots.iter().for_each(|slot| slot.follow_shadows(engine, catalog));
    }
}

/// Lets the catalog forget versions that are old, not in use and not pinned.
fn expire(catalog: &Catalog, slots: &[Slot]) {
    let pinned: HashSet<Digest> = slots.iter().flat_map(Slot::pinned).collect();
    match catalog.expire(&pinned) {
        Ok(0) => {}
        Ok(versions) => tracing::info!(versions, "old plugin versions removed"),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "old plugin versions cannot be removed");
        }
    }
}
