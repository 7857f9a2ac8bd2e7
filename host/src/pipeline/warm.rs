//! The chains that the host keeps warm from one slice to the next.
//!
//! A thread takes a chain of a lane for a job and puts it back, so that a lane keeps as many as it had slices at a time,
//! whichever threads ran them. However many lanes there are, the host keeps so many instances and so much of their memory, and
//! of a tenant no more than its quota; those that were not needed for longest go first. Those of threads on which slices wait,
//! however many there are, are half of it at most. What was not needed for a minute goes too. A chain that goes costs its lane
//! fresh instances, and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmill_transform::{Chain, ChainWorker};

use super::quotas::TenantQuota;
use super::workers::LaneId;

/// How long a chain stays that is not needed.
const IDLE_NS: u64 = 60_000_000_000;
/// How often such chains are looked for.
pub(crate) const LOOK_NS: u64 = 10_000_000_000;

/// What may be kept warm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WarmBounds {
    pub(crate) instances: u64,
    pub(crate) bytes: u64,
}

impl Default for WarmBounds {
    fn default() -> WarmBounds {
        WarmBounds { instances: 2000, bytes: 2 << 30 }
    }
}

/// What is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kept {
    instances: u64,
    bytes: u64,
}

impl Kept {
    fn add(&mut self, of: Kept) {
        self.instances += of.instances;
        self.bytes += of.bytes;
    }

    fn sub(&mut self, of: Kept) {
        self.instances -= of.instances;
        self.bytes -= of.bytes;
    }

    fn is_past(self, most: WarmBounds) -> bool {
        self.instances > most.instances || self.bytes > most.bytes
    }
}

struct Warm {
    worker: ChainWorker,
    quota: Arc<TenantQuota>,
    /// Of a thread on which slices wait.
    aside: bool,
    kept: Kept,
    /// When it was put back, among all; grows.
    turn: u64,
    used_ns: u64,
}

#[derive(Default)]
struct Inner {
    /// Those of each lane, in the order of turns.
    lanes: HashMap<LaneId, Vec<Warm>>,
    /// Lanes by turn: those that were not needed for longest come first.
    turns: BTreeMap<u64, LaneId>,
    all: Kept,
    aside: Kept,
    turn: u64,
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct WarmChains {
    most: WarmBounds,
    inner: Mutex<Inner>,
    /// When idle chains were looked for; outside of the lock, because every job asks.
    looked_ns: AtomicU64,
}

impl WarmChains {
    pub(crate) fn new(most: WarmBounds) -> WarmChains {
        WarmChains { most, inner: Mutex::default(), looked_ns: AtomicU64::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().turns.is_empty()
    }

    /// Warm instances of `chain`, for the lane whose chain it is. What is kept of another chain, which this one replaced, goes.
    pub(crate) fn take(&self, lane: LaneId, chain: &Arc<Chain>) -> Option<ChainWorker> {
        let mut inner = self.lock();
        let mut taken = inner.lanes.remove(&lane)?;
        let stale: Vec<Warm> =
            taken.extract_if(.., |warm| !Arc::ptr_eq(warm.worker.chain(), chain)).collect();
        let found = taken.pop();
        if !taken.is_empty() {
            inner.lanes.insert(lane, taken);
        }
        stale.iter().chain(&found).for_each(|warm| inner.gone(warm));
        // Behind the lock.
        drop(inner);
        drop(stale);
        found.map(|warm| warm.worker)
    }

    /// A job is done: keeps the chain that it used for the next one of its lane, and lets go of what is too much.
    pub(crate) fn put(
        &self,
        lane: LaneId,
        worker: ChainWorker,
        quota: &Arc<TenantQuota>,
        aside: bool,
        now_ns: u64,
    ) {
        let (instances, bytes) = worker.warm();
        let kept = Kept { instances, bytes };
        self.keep(lane, Warm { worker, quota: Arc::clone(quota), aside, kept, turn: 0, used_ns: now_ns });
    }

    fn keep(&self, lane: LaneId, mut warm: Warm) {
        let quota = Arc::clone(&warm.quota);
        let mut inner = self.lock();
        inner.turn += 1;
        warm.turn = inner.turn;
        inner.turns.insert(warm.turn, lane);
        inner.came(&warm);
        inner.lanes.entry(lane).or_default().push(warm);
        let mut gone = Vec::new();
        while inner.all.is_past(self.most)
            && let Some(coldest) = inner.take_coldest(|_| true)
        {
            gone.push(coldest);
        }
        let half = WarmBounds { instances: self.most.instances / 2, bytes: self.most.bytes / 2 };
        while inner.aside.is_past(half)
            && let Some(coldest) = inner.take_coldest(|warm| warm.aside)
        {
            gone.push(coldest);
        }
        while quota.warm_is_past()
            && let Some(coldest) = inner.take_coldest(|warm| Arc::ptr_eq(&warm.quota, &quota))
        {
            gone.push(coldest);
        }
        // Behind the lock.
        drop(inner);
        drop(gone);
    }

    /// Lets go of what is kept of a lane: it does not run soon.
    pub(crate) fn forget(&self, lane: LaneId) {
        let mut inner = self.lock();
        let gone = inner.lanes.remove(&lane).unwrap_or_default();
        gone.iter().for_each(|warm| inner.gone(warm));
        // Behind the lock.
        drop(inner);
        drop(gone);
    }

    /// Now and then lets go of chains that were not needed for long.
    pub(crate) fn expire(&self, now_ns: u64) {
        if now_ns < self.looked_ns.load(Ordering::Relaxed) + LOOK_NS {
            return;
        }
        self.looked_ns.store(now_ns, Ordering::Relaxed);
        let mut inner = self.lock();
        let mut gone = Vec::new();
        while let Some((turn, lane)) = inner.turns.first_key_value().map(|(turn, lane)| (*turn, *lane))
            && inner.get(lane, turn).is_none_or(|warm| warm.used_ns + IDLE_NS <= now_ns)
        {
            gone.extend(inner.take(lane, turn));
        }
        // Behind the lock.
        drop(inner);
        drop(gone);
    }
}

impl Inner {
    fn get(&self, lane: LaneId, turn: u64) -> Option<&Warm> {
        self.lanes.get(&lane)?.iter().find(|warm| warm.turn == turn)
    }

    fn take(&mut self, lane: LaneId, turn: u64) -> Option<Warm> {
        self.turns.remove(&turn);
        let warm = self.lanes.get_mut(&lane)?;
        let place = warm.iter().position(|warm| warm.turn == turn)?;
        let taken = warm.remove(place);
        if warm.is_empty() {
            self.lanes.remove(&lane);
        }
        self.gone(&taken);
        Some(taken)
    }

    fn take_coldest(&mut self, of: impl Fn(&Warm) -> bool) -> Option<Warm> {
        // One that keeps nothing makes no room.
        let makes_room = |warm: &Warm| warm.kept != Kept::default() && of(warm);
        let found = self.turns.iter().find(|(turn, lane)| self.get(**lane, **turn).is_some_and(makes_room));
        let (turn, lane) = found.map(|(turn, lane)| (*turn, *lane))?;
        self.take(lane, turn)
    }

    fn came(&mut self, warm: &Warm) {
        self.all.add(warm.kept);
        if warm.aside {
            self.aside.add(warm.kept);
        }
        warm.quota.warm_changed((0, 0), (warm.kept.instances, warm.kept.bytes));
    }

    fn gone(&mut self, warm: &Warm) {
        self.turns.remove(&warm.turn);
        self.all.sub(warm.kept);
        if warm.aside {
            self.aside.sub(warm.kept);
        }
        warm.quota.warm_changed((warm.kept.instances, warm.kept.bytes), (0, 0));
    }
}

impl Drop for WarmChains {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<Warm> = inner.lanes.drain().flat_map(|(_, warm)| warm).collect();
        all.iter().for_each(|warm| inner.gone(warm));
    }
}

#[cfg(test)]
mod tests {
    use wasmill_tenant::Quotas as Limits;
    use wasmill_transform::{ChainOptions, Engine, EngineOptions, NullLog};

    use super::super::quotas::Quotas;
    use super::*;

    /// One without transforms; what it keeps is made up.
    fn chain() -> Arc<Chain> {
        let engine = Engine::new(EngineOptions { instances_max: 1, ..EngineOptions::default() }).unwrap();
        let outputs = ["out".to_owned()];
        Chain::build(&engine, Vec::new(), &outputs, ChainOptions::default(), Arc::new(NullLog)).unwrap()
    }

    struct Scene {
        chain: Arc<Chain>,
        warm: WarmChains,
        quota: Arc<TenantQuota>,
    }

    impl Scene {
        fn new(instances: u64, bytes: u64) -> Scene {
            let quota = Quotas::default().of("team");
            Scene { chain: chain(), warm: WarmChains::new(WarmBounds { instances, bytes }), quota }
        }

        fn keep(&self, lane: LaneId, aside: bool, (instances, bytes): (u64, u64), now_ns: u64) {
            let worker = ChainWorker::new(Arc::clone(&self.chain));
            let kept = Kept { instances, bytes };
            let quota = Arc::clone(&self.quota);
            self.warm.keep(lane, Warm { worker, quota, aside, kept, turn: 0, used_ns: now_ns });
        }

        fn lanes(&self) -> Vec<LaneId> {
            self.warm.lock().turns.values().copied().collect()
        }
    }

    #[test]
    fn what_was_not_needed_for_longest_goes_first_by_number_and_by_memory() {
        let scene = Scene::new(3, 100);
        (1..=3).for_each(|lane| scene.keep(lane, false, (1, 10), 0));
        let taken = scene.warm.take(1, &scene.chain).unwrap();
        assert_eq!(scene.quota.warm(), (2, 20));
        assert!(scene.warm.take(1, &scene.chain).is_none(), "it is in use");
        drop(taken);
        scene.keep(1, false, (1, 10), 0);
        scene.keep(4, false, (1, 10), 0);
        assert_eq!(scene.lanes(), [3, 1, 4]);
        scene.keep(5, false, (1, 81), 0);
        assert_eq!(scene.lanes(), [4, 5]);
        assert_eq!(scene.quota.warm(), (2, 91));
        // What keeps nothing makes no room, and stays.
        scene.keep(6, false, (0, 0), 0);
        scene.keep(7, false, (3, 1), 0);
        assert_eq!(scene.lanes(), [6, 7]);
        scene.warm.forget(7);
        assert_eq!((scene.lanes(), scene.quota.warm()), (vec![6], (0, 0)));
    }

    #[test]
    fn lane_keeps_as_many_as_ran_and_none_of_the_chain_before() {
        let scene = Scene::new(10, 100);
        scene.keep(1, false, (1, 1), 0);
        scene.keep(1, false, (1, 2), 0);
        let last = scene.warm.take(1, &scene.chain);
        assert_eq!((last.is_some(), scene.quota.warm()), (true, (1, 1)));
        assert!(scene.warm.take(1, &chain()).is_none());
        assert_eq!((scene.lanes(), scene.quota.warm()), (Vec::new(), (0, 0)));
        assert!(scene.warm.is_empty());
    }

    #[test]
    fn threads_that_wait_keep_half_at_most() {
        let scene = Scene::new(4, 100);
        (1..=3).for_each(|lane| scene.keep(lane, true, (1, 1), 0));
        assert_eq!(scene.lanes(), [2, 3]);
        (4..=5).for_each(|lane| scene.keep(lane, false, (1, 1), 0));
        scene.keep(6, true, (1, 1), 0);
        assert_eq!(scene.lanes(), [3, 4, 5, 6]);
        scene.keep(7, true, (1, 1), 0);
        assert_eq!(scene.lanes(), [4, 5, 6, 7]);
    }

    #[test]
    fn tenant_keeps_what_its_quota_lets_it_and_nothing_longer_than_a_minute() {
        let mut scene = Scene::new(10, 1000);
        let quotas = Quotas::default();
        let other = quotas.of("other");
        scene.quota = quotas.set("team", &Limits { warm_memory: Some(20), ..Limits::default() });
        (1..=2).for_each(|lane| scene.keep(lane, false, (1, 10), lane));
        let team = std::mem::replace(&mut scene.quota, other);
        scene.keep(3, false, (1, 50), IDLE_NS);
        scene.quota = team;
        scene.keep(4, false, (1, 10), IDLE_NS);
        assert_eq!((scene.lanes(), scene.quota.warm()), (vec![2, 3, 4], (2, 20)));
        scene.warm.expire(IDLE_NS + 1);
        assert_eq!(scene.lanes(), [2, 3, 4]);
        scene.warm.expire(IDLE_NS + 1 + LOOK_NS);
        assert_eq!(scene.lanes(), [3, 4]);
        let quota = Arc::clone(&scene.quota);
        drop(scene);
        assert_eq!(quota.warm(), (0, 0));
    }
}
