//! Threads of one tenant each for slices whose plugins wait for others: whatever they wait for, the pool that all share
//! goes on, and so do the other tenants.
//!
//! A tenant's threads start with the first such slice and end when none of its streams that had one is left, nor a slice on
//! its way: who comes back meanwhile gets the same threads, and no more. Turns are as
//! in the shared pool, but time counts that a slice held its thread, and of several streams none holds more than half of the
//! threads and one alone not all, so that one whose server hangs leaves the others theirs. Past a number of tenants, further
//! ones have one such pool together, until others have ended.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Job, LaneId, STACK_BYTES, Shared, TenantId, work};
use crate::pipeline::quotas::Quotas;
use crate::pipeline::warm::WarmChains;

/// Threads of one tenant.
pub(super) const THREADS: usize = 4;
/// Tenants that have their own.
const TENANTS_MAX: usize = 31;
/// The others', whose name no tenant has.
const OTHERS: &str = "";
/// Of all.
pub(crate) const ALL_THREADS: usize = (TENANTS_MAX + 1) * THREADS;
/// Of which one stream has at most so many, where there are others.
pub(super) const THREADS_OF_LANE: usize = THREADS / 2;

/// See the head of this file.
pub(super) struct Waiting {
    quotas: Arc<Quotas>,
    warm: Arc<WarmChains>,
    of_tenants: Mutex<HashMap<TenantId, Arc<Shared>>>,
}

impl Waiting {
    pub(super) fn new(quotas: Arc<Quotas>, warm: Arc<WarmChains>) -> Waiting {
        Waiting { quotas, warm, of_tenants: Mutex::default() }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, Arc<Shared>>> {
        self.of_tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job; gives it back where the threads do not start.
    pub(super) fn submit(&self, tenant: &TenantId, lane: LaneId, job: Job) -> Result<(), (io::Error, Job)> {
        let mut all = self.all();
        all.retain(|_, shared| end_if_over(shared));
        let tenants = all.len() - usize::from(all.contains_key(OTHERS));
        let own = all.contains_key(tenant) || tenants < TENANTS_MAX;
        let whose = if own { tenant.clone() } else { TenantId::from(OTHERS) };
        let shared = match all.get(&whose) {
            Some(shared) => Arc::clone(shared),
            None => match self.start(&whose) {
                Ok(shared) => {
                    all.insert(whose, Arc::clone(&shared));
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
        let shared = Arc::new(Shared::of_waiting(Arc::clone(&self.quotas), Arc::clone(&self.warm)));
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
            removed.extend(shared.lock().retire(lane));
            // The one that is left may have all threads.
            shared.ready.notify_all();
            end_if_over(shared)
        });
        // Behind the locks.
        drop(removed);
    }
}

/// Ends threads that no lane needs and that are at nothing; whether they go on.
fn end_if_over(shared: &Shared) -> bool {
    let queues = shared.lock();
    let needed = !queues.owners.is_empty() || !queues.running.is_empty();
    drop(queues);
    if !needed {
        shared.close();
    }
    needed
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
    use std::time::{Duration, Instant};

    use super::super::queues::{Next, Queues};
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn lane_whose_jobs_wait_leaves_threads_to_others_and_threads_end_with_the_last_lane() {
        let waiting = Waiting::new(Arc::default(), Arc::default());
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
        assert_eq!(waiting.all().len(), 1, "its jobs hold the threads");
        assert!(waiting.submit(&tenant, 4, Box::new(move |_| done.send(4).unwrap())).is_ok());
        assert_eq!(dones.recv_timeout(SOON).unwrap(), 4);
        assert_eq!(waiting.all().len(), 1, "who comes back gets no others");
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        waiting.retire(4);
        let deadline = Instant::now() + SOON;
        while !waiting.all().is_empty() {
            assert!(Instant::now() < deadline, "threads that nobody needs go on");
            std::thread::yield_now();
            waiting.retire(4);
        }
    }

    #[test]
    fn tenants_past_a_number_share_threads_and_those_are_the_last() {
        let waiting = Waiting::new(Arc::default(), Arc::default());
        let (done, dones) = sync_channel(16);
        let run = |number: u64| {
            let done = done.clone();
            let tenant: TenantId = format!("tenant-{number}").into();
            let job: Job = Box::new(move |_| done.send(number).unwrap());
            assert!(waiting.submit(&tenant, number, job).is_ok());
            assert_eq!(dones.recv_timeout(SOON).unwrap(), number);
        };
        let most = TENANTS_MAX as u64;
        (0..most + 20).for_each(run);
        assert_eq!(waiting.all().len() * THREADS, ALL_THREADS);
        assert_eq!(waiting.all()[OTHERS].lock().owners.len(), 20);
        // One has ended: the next has its own.
        waiting.retire(0);
        run(most + 20);
        assert!(waiting.all().contains_key(&*format!("tenant-{}", most + 20)));
        (most..most + 20).for_each(|lane| waiting.retire(lane));
        assert!(!waiting.all().contains_key(OTHERS));
    }

    #[test]
    fn tenant_that_holds_all_it_may_of_shared_threads_leaves_one_to_the_next() {
        let mut queues = Queues::new(THREADS, Arc::default());
        queues.lane_max = THREADS_OF_LANE;
        let (hangs, other): (TenantId, TenantId) = ("hangs".into(), "other".into());
        (0..8).for_each(|_| queues.push(&hangs, 1, Box::new(|_| {})));
        let take = |queues: &mut Queues| match queues.next(0, false) {
            Next::Run(taken) => Some(taken.tenant),
            Next::Wait(_) => None,
        };
        for _ in 0..=THREADS_OF_LANE {
            assert_eq!(take(&mut queues).as_ref(), Some(&hangs));
        }
        assert_eq!(take(&mut queues), None, "one lane holds all threads");
        queues.push(&other, 2, Box::new(|_| {}));
        assert_eq!(take(&mut queues), Some(other));
    }
}
