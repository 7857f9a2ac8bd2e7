//! Threads of one tenant each for slices whose plugins wait for others: whatever they wait for, the pool that all share
//! goes on, and so do the other tenants.
//!
//! A tenant's threads start with the first such slice and end when none of its streams that had one is left. Turns are as
//! in the shared pool, but time counts that a slice held its thread, and of several streams none holds more than half of the
//! threads and one alone not all, so that one whose server hangs leaves the others theirs.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Job, LaneId, STACK_BYTES, Shared, TenantId, work};
use crate::pipeline::quotas::Quotas;
use crate::pipeline::warm::WarmBounds;

/// Threads of one tenant.
pub(super) const THREADS: usize = 4;
/// Of which one stream has at most so many, where there are others.
pub(super) const THREADS_OF_LANE: usize = THREADS / 2;

/// See the head of this file.
pub(super) struct Waiting {
    quotas: Arc<Quotas>,
    bounds: WarmBounds,
    of_tenants: Mutex<HashMap<TenantId, Arc<Shared>>>,
}

impl Waiting {
    pub(super) fn new(quotas: Arc<Quotas>, bounds: WarmBounds) -> Waiting {
        Waiting { quotas, bounds, of_tenants: Mutex::default() }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, Arc<Shared>>> {
        self.of_tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job; gives it back where the threads do not start.
    pub(super) fn submit(&self, tenant: &TenantId, lane: LaneId, job: Job) -> Result<(), (io::Error, Job)> {
        let mut all = self.all();
        let shared = match all.get(tenant) {
            Some(shared) => Arc::clone(shared),
            None => match self.start(tenant) {
                Ok(shared) => {
                    all.insert(tenant.clone(), Arc::clone(&shared));
                    shared
                }
                Err(error) => return Err((error, job)),
            },
        };
        // Before anybody can end these threads.
        shared.lock().push(tenant, lane, job);
        drop(all);
        shared.ready.notify_one();
        Ok(())
    }

    fn start(&self, tenant: &TenantId) -> io::Result<Arc<Shared>> {
        // Half of what the shared pool may keep warm is plenty for all of them together in practice; the tenant's own
        // quota bounds it, too.
        let WarmBounds { instances, bytes } = self.bounds;
        let bounds = WarmBounds { instances: instances / 2, bytes: bytes / 2 };
        let shared = Arc::new(Shared::of_waiting(Arc::clone(&self.quotas), bounds));
        for index in 0..THREADS {
            let job = Arc::clone(&shared);
            let spawned = std::thread::Builder::new()
                .name(format!("waiting-{index}"))
                .stack_size(STACK_BYTES)
                .spawn(move || work(&job));
            if let Err(error) = spawned {
                shared.close();
                return Err(error);
            }
        }
        tracing::info!(tenant = &**tenant, threads = THREADS, "threads for plugins that wait started");
        Ok(shared)
    }

    pub(super) fn look_again(&self) {
        self.all().values().for_each(|shared| {
            // As in the shared pool.
            drop(shared.lock());
            shared.ready.notify_all();
        });
    }

    /// Ends a lane, and the threads that no lane needs any more.
    pub(super) fn retire(&self, lane: LaneId) {
        let mut removed = Vec::new();
        self.all().retain(|_, shared| {
            let mut queues = shared.lock();
            removed.extend(queues.retire(lane));
            let needed = !queues.owners.is_empty();
            drop(queues);
            match needed {
                // The one that is left may have all threads.
                true => shared.ready.notify_all(),
                false => shared.close(),
            }
            needed
        });
        // Behind the locks.
        drop(removed);
    }
}

impl Drop for Waiting {
    /// Nobody waits for these threads: what they wait for may take its time, and nobody wants it any more.
    fn drop(&mut self) {
        self.all().drain().for_each(|(_, shared)| shared.close());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn lane_whose_jobs_wait_leaves_threads_to_others_and_threads_end_with_the_last_lane() {
        let waiting = Waiting::new(Arc::default(), WarmBounds::default());
        let tenant: TenantId = "a".into();
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let (started, starts) = sync_channel(16);
        for _ in 0..8 {
            let (gate, started) = (gate.clone(), started.clone());
            let job: Job = Box::new(move |_| {
                // The test may have failed by then.
                let _gone = started.send(());
                let open = gate.0.lock().unwrap();
                drop(gate.1.wait_while(open, |open| !*open).unwrap());
            });
            assert!(waiting.submit(&tenant, 1, job).is_ok());
        }
        for _ in 0..=THREADS_OF_LANE {
            starts.recv_timeout(SOON).unwrap();
        }
        let (done, dones) = sync_channel(16);
        for lane in [2, 3] {
            let done = done.clone();
            assert!(waiting.submit(&tenant, lane, Box::new(move |_| done.send(lane).unwrap())).is_ok());
            assert_eq!(dones.recv_timeout(SOON).unwrap(), lane);
        }
        assert!(starts.try_recv().is_err(), "one lane holds all threads");
        assert_eq!(waiting.all().len(), 1);
        [1, 2].into_iter().for_each(|lane| waiting.retire(lane));
        assert_eq!(waiting.all().len(), 1, "a lane is left");
        waiting.retire(3);
        assert_eq!(waiting.all().len(), 0);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
    }
}
