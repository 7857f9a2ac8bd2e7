//! The chains that a thread of the workers keeps warm from one slice to the next: of each lane the one that it ran last.
//!
//! However many lanes there are, a thread keeps its part of what the host may keep, in instances and in their memory, and
//! of a tenant no more than its quota lets all threads keep together; those that were not needed for longest go first. Threads
//! on which slices wait, however many there are, keep half of it at most, and the others so much less. What was not needed for
//! a minute goes too. A chain that goes costs its lane fresh instances, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmill_transform::{Chain, ChainWorker};

use super::quotas::TenantQuota;
use super::workers::LaneId;

/// How long a chain stays that is not needed.
const IDLE_NS: u64 = 60_000_000_000;
/// How often a thread looks for such chains.
pub(crate) const LOOK_NS: u64 = 10_000_000_000;

/// What may be kept warm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WarmBounds {
    pub(crate) instances: u64,
    pub(crate) bytes: u64,
}

impl Default for WarmBounds {
    fn default() -> WarmBounds {
        WarmBounds { instances: 1000, bytes: 1 << 30 }
    }
}

impl WarmBounds {
    /// Of each of so many threads.
    pub(crate) fn shared_by(self, threads: usize) -> WarmBounds {
        let threads = threads.max(1) as u64;
        WarmBounds { instances: (self.instances / threads).max(1), bytes: self.bytes / threads }
    }
}

/// What is kept warm by threads on which slices wait, all together.
#[derive(Default)]
pub(crate) struct WarmAside {
    most: WarmBounds,
    instances: AtomicU64,
    bytes: AtomicU64,
}

impl WarmAside {
    /// A part of what the host may keep.
    pub(crate) fn of(host: WarmBounds) -> WarmAside {
        let most = WarmBounds { instances: host.instances / 2, bytes: host.bytes / 2 };
        WarmAside { most, ..WarmAside::default() }
    }

    fn kept(&self) -> (u64, u64) {
        (self.instances.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    fn changed(&self, before: (u64, u64), after: (u64, u64)) {
        // Wraps, and comes out right.
        self.instances.fetch_add(after.0.wrapping_sub(before.0), Ordering::Relaxed);
        self.bytes.fetch_add(after.1.wrapping_sub(before.1), Ordering::Relaxed);
    }
}

/// What one thread may keep.
#[derive(Clone)]
pub(crate) enum WarmShare {
    /// So much, without its part of what is kept aside.
    Pool { own: WarmBounds, threads: u64, aside: Arc<WarmAside> },
    /// What the other threads on which slices wait have left.
    Aside(Arc<WarmAside>),
}

impl WarmShare {
    /// Of each of so many threads that all share.
    pub(crate) fn of_pool(host: WarmBounds, threads: usize, aside: Arc<WarmAside>) -> WarmShare {
        WarmShare::Pool { own: host.shared_by(threads), threads: threads.max(1) as u64, aside }
    }

    /// Whether so much is too much.
    fn is_past(&self, instances: u64, bytes: u64) -> bool {
        let (own, (instances, bytes)) = match self {
            WarmShare::Aside(aside) => (aside.most, aside.kept()),
            WarmShare::Pool { own, threads, aside } => {
                let (aside_instances, aside_bytes) = aside.kept();
                let own = WarmBounds {
                    instances: own.instances.saturating_sub(aside_instances.div_ceil(*threads)).max(1),
                    bytes: own.bytes.saturating_sub(aside_bytes.div_ceil(*threads)),
                };
                (own, (instances, bytes))
            }
        };
        instances > own.instances || bytes > own.bytes
    }
}

impl Default for WarmShare {
    fn default() -> WarmShare {
        WarmShare::of_pool(WarmBounds::default(), 1, Arc::default())
    }
}

struct Warm {
    worker: ChainWorker,
    /// Whose it is; known when its first job is done.
    quota: Option<Arc<TenantQuota>>,
    instances: u64,
    bytes: u64,
    /// Grows with each use of any chain.
    turn: u64,
    used_ns: u64,
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct WarmChains {
    chains: HashMap<LaneId, Warm>,
    share: WarmShare,
    turn: u64,
    instances: u64,
    bytes: u64,
    looked_ns: u64,
}

impl WarmChains {
    pub(crate) fn new(share: WarmShare) -> WarmChains {
        WarmChains { chains: HashMap::new(), share, turn: 0, instances: 0, bytes: 0, looked_ns: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// This thread's warm instances of `chain`, for the lane whose chain it is.
    pub(crate) fn get(&mut self, lane: LaneId, chain: &Arc<Chain>) -> &mut ChainWorker {
        self.turn += 1;
        let fresh = || Warm {
            worker: ChainWorker::new(Arc::clone(chain)),
            quota: None,
            instances: 0,
            bytes: 0,
            turn: 0,
            used_ns: 0,
        };
        let warm = self.chains.entry(lane).or_insert_with(fresh);
        warm.turn = self.turn;
        if !Arc::ptr_eq(warm.worker.chain(), chain) {
            warm.worker = ChainWorker::new(Arc::clone(chain));
        }
        &mut warm.worker
    }

    /// A job of this lane is done: counts what its chain keeps, and lets go of what is too much.
    pub(crate) fn settle(&mut self, lane: LaneId, quota: &Arc<TenantQuota>, now_ns: u64) {
        let Some(warm) = self.chains.get_mut(&lane) else { return };
        let (instances, bytes) = warm.worker.warm();
        self.instances = self.instances - warm.instances + instances;
        self.bytes = self.bytes - warm.bytes + bytes;
        if warm.quota.is_none() {
            warm.quota = Some(Arc::clone(quota));
        }
        quota.warm_changed((warm.instances, warm.bytes), (instances, bytes));
        if let WarmShare::Aside(aside) = &self.share {
            aside.changed((warm.instances, warm.bytes), (instances, bytes));
        }
        (warm.instances, warm.bytes, warm.used_ns) = (instances, bytes, now_ns);
        while self.share.is_past(self.instances, self.bytes) {
            let Some(coldest) = self.coldest(|_| true) else { break };
            self.forget(coldest);
        }
        while quota.warm_is_past() {
            let own = |warm: &Warm| warm.quota.as_ref().is_some_and(|of| Arc::ptr_eq(of, quota));
            // Other threads let go of theirs when they have run a job of it.
            let Some(coldest) = self.coldest(own) else { break };
            self.forget(coldest);
        }
    }

    fn coldest(&self, of: impl Fn(&Warm) -> bool) -> Option<LaneId> {
        // One that keeps nothing makes no room.
        let keeping = self.chains.iter().filter(|(_, warm)| warm.instances > 0 && of(warm));
        keeping.min_by_key(|(_, warm)| warm.turn).map(|(lane, _)| *lane)
    }

    /// Lets go of a lane's chain: it does not run here soon.
    pub(crate) fn forget(&mut self, lane: LaneId) {
        if let Some(warm) = self.chains.remove(&lane) {
            self.gone(&warm);
        }
    }

    fn gone(&mut self, warm: &Warm) {
        self.instances -= warm.instances;
        self.bytes -= warm.bytes;
        if let WarmShare::Aside(aside) = &self.share {
            aside.changed((warm.instances, warm.bytes), (0, 0));
        }
        if let Some(quota) = &warm.quota {
            quota.warm_changed((warm.instances, warm.bytes), (0, 0));
        }
    }

    /// Now and then lets go of chains that were not needed for long.
    pub(crate) fn expire(&mut self, now_ns: u64) {
        if now_ns < self.looked_ns + LOOK_NS {
            return;
        }
        self.looked_ns = now_ns;
        drop(self.take(|_, warm| warm.used_ns + IDLE_NS <= now_ns));
    }

    /// Takes out the chains of lanes that are not there any more, to be dropped elsewhere.
    pub(crate) fn retain(&mut self, there: impl Fn(LaneId) -> bool) -> Vec<ChainWorker> {
        self.take(|lane, _| !there(lane))
    }

    fn take(&mut self, of: impl Fn(LaneId, &Warm) -> bool) -> Vec<ChainWorker> {
        let taken: Vec<Warm> =
            self.chains.extract_if(|lane, warm| of(*lane, warm)).map(|(_, warm)| warm).collect();
        taken.iter().for_each(|warm| self.gone(warm));
        taken.into_iter().map(|warm| warm.worker).collect()
    }
}

impl Drop for WarmChains {
    fn drop(&mut self) {
        drop(self.take(|_, _| true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_wait_keep_half_together_and_the_others_so_much_less() {
        let host = WarmBounds { instances: 100, bytes: 1000 };
        let aside = Arc::new(WarmAside::of(host));
        let waiting = WarmShare::Aside(Arc::clone(&aside));
        let pool = WarmShare::of_pool(host, 2, Arc::clone(&aside));
        assert!(!pool.is_past(50, 500) && pool.is_past(51, 0) && pool.is_past(0, 501));
        // However little it keeps itself.
        aside.changed((0, 0), (50, 500));
        assert!(!waiting.is_past(0, 0));
        aside.changed((0, 0), (1, 0));
        assert!(waiting.is_past(0, 0));
        aside.changed((11, 100), (0, 0));
        assert!(!waiting.is_past(0, 0));
        assert_eq!(aside.kept(), (40, 400));
        assert!(!pool.is_past(30, 300) && pool.is_past(31, 0) && pool.is_past(0, 301));
    }
}
