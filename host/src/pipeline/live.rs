//! The streams that run here, as everybody but their own tasks sees them, and what starts and ends one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmill_buffer::StreamKey;
use wasmill_config as config;

use super::context::StreamContext;
use super::history::Source;
use super::inlet::Inlet;
use super::letters::DeadLetters;
use super::replay;
use super::shadow::StreamShadows;
use super::stats::StreamStats;
use super::tables::StateDesk;
use super::workers::LaneId;

/// How long a stream that ends waits for requests that have begun.
const REQUESTS_END: Duration = Duration::from_secs(5);
/// How often it looks whether they have ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What ends the parts of a stream, in this order; those of a host end all of its streams.
#[derive(Clone, Default)]
pub(super) struct Stops {
    /// Sources of the host's own, and the listener.
    pub(super) intake: CancellationToken,
    /// Requests that had begun are answered: nothing is pushed any more.
    pub(super) pushes: CancellationToken,
    /// Deliveries are cut off.
    pub(super) deliveries: CancellationToken,
    /// Deliveries of dead letters.
    pub(super) letters: CancellationToken,
    /// Whoever waits for what is not delivered waits no longer.
    pub(super) hurry: CancellationToken,
}

impl Stops {
    /// Those of one stream.
    pub(super) fn child(&self) -> Stops {
        Stops {
            intake: self.intake.child_token(),
            pushes: self.pushes.child_token(),
            deliveries: self.deliveries.child_token(),
            letters: self.letters.child_token(),
            hurry: self.hurry.child_token(),
        }
    }
}

/// One stream that runs, or has ended by itself.
pub(super) struct LiveStream {
    pub(super) key: StreamKey,
    pub(super) settings: config::Stream,
    pub(super) stats: Arc<StreamStats>,
    pub(super) shadows: Arc<StreamShadows>,
    /// Of a stream to which records are pushed.
    pub(super) inlet: Option<Arc<Inlet>>,
    pub(super) letters: Arc<DeadLetters>,
    pub(super) state: Arc<StateDesk>,
    pub(super) history: Arc<Source>,
    pub(super) tcp: Option<SocketAddr>,
    pub(super) lane: LaneId,
    pub(super) stops: Stops,
    pub(super) tasks: Tasks,
}

/// The tasks of a stream.
#[derive(Default)]
pub(super) struct Tasks {
    pub(super) run: Mutex<Option<JoinHandle<()>>>,
    pub(super) letters: Mutex<Option<JoinHandle<()>>>,
}

/// Waits for a task until `end` or until there is no time any more, then cuts it off. `false`: it was.
pub(super) async fn join_until(
    task: &Mutex<Option<JoinHandle<()>>>,
    end: Instant,
    hurry: &CancellationToken,
) -> bool {
    let Some(mut task) = task.lock().unwrap_or_else(PoisonError::into_inner).take() else { return true };
    let joined = tokio::select! {
        biased;
        _ended = &mut task => true,
        () = tokio::time::sleep_until(end) => false,
        () = hurry.cancelled() => false,
    };
    if !joined {
        task.abort();
        // What it panicked with was logged.
        let _ended = task.await;
    }
    joined
}

impl LiveStream {
    /// Ends this stream alone: no more intake, then everything that is stored is processed and delivered. Whoever takes it
    /// out of the registry does so before. `false`: not everything was delivered before `end`, or requests that had begun
    /// have not ended; what is stored stays.
    pub(super) async fn end(self: Arc<Self>, end: Instant) -> bool {
        self.stops.intake.cancel();
        let mut requests_over = true;
        if let Some(inlet) = &self.inlet {
            // Requests that have begun hold it.
            let begun = || Arc::strong_count(inlet) > 1;
            let requests_end = end.min(Instant::now() + REQUESTS_END);
            while begun() && Instant::now() < requests_end {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            requests_over = !begun();
        }
        self.stops.pushes.cancel();
        let drained = join_until(&self.tasks.run, end, &self.stops.hurry).await;
        self.stops.deliveries.cancel();
        self.stops.letters.cancel();
        join_until(&self.tasks.letters, end, &self.stops.hurry).await;
        let delivered = self.stats.outputs.iter().all(|output| output.pending.get() == 0);
        let clean = drained && requests_over && delivered && self.stats.unprocessed.get() == 0;
        let (workers, lane) = (Arc::clone(&self.letters.context.workers), self.lane);
        let context: Weak<StreamContext> = Arc::downgrade(&self.letters.context);
        // Whatever plugins wait for ends with that.
        self.letters.context.over.cancel();
        drop(self);
        let retire = || [lane, replay::LANE | lane].into_iter().for_each(|lane| workers.retire(lane));
        // What is queued holds it, too.
        retire();
        // The store of its letters has one owner, and a commit on its way may become durable: whoever opens the stream again
        // waits for those that are still at it, which only a disk that does not answer holds up.
        while context.strong_count() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        retire();
        clean
    }
}

/// All streams of the host.
#[derive(Default)]
pub(super) struct Streams {
    live: RwLock<BTreeMap<StreamKey, Arc<LiveStream>>>,
    changing: Arc<Mutex<BTreeSet<StreamKey>>>,
}

/// For as long as it lives, a stream is known to be changing: it is neither there nor gone.
pub(super) struct Changing {
    key: StreamKey,
    all: Arc<Mutex<BTreeSet<StreamKey>>>,
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Streams {
    pub(super) fn insert(&self, stream: Arc<LiveStream>) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        live.insert(stream.key.clone(), stream);
    }

    pub(super) fn remove(&self, key: &StreamKey) -> Option<Arc<LiveStream>> {
        self.live.write().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    pub(super) fn get(&self, tenant: &str, name: &str) -> Option<Arc<LiveStream>> {
        let key = StreamKey { tenant: tenant.to_owned(), name: name.to_owned() };
        self.live.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// One change of a stream at a time; its tenant's lock sees to that.
    pub(super) fn changing(&self, key: StreamKey) -> Changing {
        let all = Arc::clone(&self.changing);
        all.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        Changing { key, all }
    }

    pub(super) fn is_changing(&self, tenant: &str, name: &str) -> bool {
        let key = StreamKey { tenant: tenant.to_owned(), name: name.to_owned() };
        self.changing.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    /// In the order of their tenants and names.
    pub(super) fn all(&self) -> Vec<Arc<LiveStream>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn of(&self, tenant: &str) -> Vec<Arc<LiveStream>> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let first = StreamKey { tenant: tenant.to_owned(), name: String::new() };
        let of_tenant = live.range(first..).take_while(|(key, _)| key.tenant == tenant);
        of_tenant.map(|(_, stream)| Arc::clone(stream)).collect()
    }
}
