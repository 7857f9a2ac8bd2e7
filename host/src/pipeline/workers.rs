//! The fixed pool of OS threads that runs guests and encoders.
//!
//! One thread per core, never the async runtime's: a guest may burn its whole deadline without anybody's
//! socket waiting. Every stream has a lane; a free thread takes the next job of the lane that has used the
//! least CPU time (fair queueing by measured cost), so that one busy stream slows only itself. Lanes are
//! bounded by their owners: a stream has at most `SLICES_IN_FLIGHT` slices and one commit queued.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use wasmill_encode::Encoder;
use wasmill_transform::{Chain, ChainWorker, WORKER_STACK_BYTES};

/// What guests need, and room for the encoder; untouched pages cost nothing.
const STACK_BYTES: usize = WORKER_STACK_BYTES + (4 << 20);

/// Identifies a lane: one per stream.
pub(crate) type LaneId = u64;

type Job = Box<dyn FnOnce(&mut WorkerState) + Send>;

/// What a thread keeps warm between jobs.
#[derive(Default)]
pub(crate) struct WorkerState {
    /// Of each lane the chain that it ran last: a version that was replaced is let go of when the next one runs.
    chains: HashMap<LaneId, ChainWorker>,
    /// Retired lanes that it has heard of.
    retired: u64,
    pub(crate) encoder: Encoder,
}

impl WorkerState {
    /// This thread's warm instances of `chain`, for the lane whose chain it is.
    pub(crate) fn chain(&mut self, lane: LaneId, chain: &Arc<Chain>) -> &mut ChainWorker {
        let worker = self.chains.entry(lane).or_insert_with(|| ChainWorker::new(chain.clone()));
        if !Arc::ptr_eq(worker.chain(), chain) {
            *worker = ChainWorker::new(chain.clone());
        }
        worker
    }

    /// Lets go of the lane's chain: it does not run here soon.
    pub(crate) fn forget(&mut self, lane: LaneId) {
        self.chains.remove(&lane);
    }
}

#[derive(Default)]
struct Lane {
    jobs: VecDeque<Job>,
    /// Nanoseconds of CPU that this lane has used, moved up to the least of the others when it wakes.
    spent_ns: u64,
}

#[derive(Default)]
struct Queues {
    lanes: HashMap<LaneId, Lane>,
    /// How many lanes have been retired.
    retired: u64,
    closed: bool,
}

impl Queues {
    fn next(&mut self) -> Option<(LaneId, Job)> {
        let id = self
            .lanes
            .iter()
            .filter(|(_, lane)| !lane.jobs.is_empty())
            .min_by_key(|(_, lane)| lane.spent_ns)
            .map(|(id, _)| *id)?;
        let job = self.lanes.get_mut(&id)?.jobs.pop_front()?;
        Some((id, job))
    }
}

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    ready: Condvar,
    /// In place of threads, for a simulation.
    #[cfg(test)]
    stepped: Option<Mutex<WorkerState>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pool. Dropping it ends the threads after the jobs that are queued.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` threads.
    pub(crate) fn start(count: usize) -> std::io::Result<Workers> {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            let shared = shared.clone();
            threads.push(
                std::thread::Builder::new()
                    .name(format!("worker-{index}"))
                    .stack_size(STACK_BYTES)
                    .spawn(move || work(&shared))?,
            );
        }
        Ok(Workers { shared, threads })
    }

    /// Without threads: jobs run when `step` is called.
    #[cfg(test)]
    pub(crate) fn stepped() -> Workers {
        let shared = Shared { stepped: Some(Mutex::default()), ..Shared::default() };
        Workers { shared: Arc::new(shared), threads: Vec::new() }
    }

    #[cfg(test)]
    pub(crate) fn is_stepped(&self) -> bool {
        self.shared.stepped.is_some()
    }

    /// Runs one job on this thread; `false` if there is none.
    #[cfg(test)]
    pub(crate) fn step(&self) -> bool {
        let (Some(state), Some((_, job))) = (&self.shared.stepped, self.shared.lock().next()) else {
            return false;
        };
        job(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        true
    }

    /// Queues a job in a lane.
    pub(crate) fn submit(&self, lane: LaneId, job: impl FnOnce(&mut WorkerState) + Send + 'static) {
        let mut queues = self.shared.lock();
        let least = queues.lanes.values().filter(|l| !l.jobs.is_empty()).map(|l| l.spent_ns).min();
        let entry = queues.lanes.entry(lane).or_default();
        if entry.jobs.is_empty()
            && let Some(least) = least
        {
            // A lane that slept must not make up for it by starving the others.
            entry.spent_ns = entry.spent_ns.max(least);
        }
        entry.jobs.push_back(Box::new(job));
        drop(queues);
        self.shared.ready.notify_one();
    }

    /// Ends a lane: what is queued in it is dropped, and what the threads keep warm for it as each takes its next job.
    pub(crate) fn retire(&self, lane: LaneId) {
        let mut queues = self.shared.lock();
        let removed = queues.lanes.remove(&lane);
        queues.retired += 1;
        drop(queues);
        drop(removed);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.ready.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

fn work(shared: &Shared) {
    let mut state = WorkerState::default();
    loop {
        let (lane, job, _cold) = {
            let mut queues = shared.lock();
            loop {
                if let Some((lane, job)) = queues.next() {
                    // Let go of behind the lock.
                    let mut cold = Vec::new();
                    if state.retired < queues.retired {
                        state.retired = queues.retired;
                        let lanes = &queues.lanes;
                        cold.extend(state.chains.extract_if(|lane, _| !lanes.contains_key(lane)));
                    }
                    break (lane, job, cold);
                }
                if queues.closed {
                    return;
                }
                queues = shared.ready.wait(queues).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let before = thread_cpu_ns();
        // A panic in a job is a bug of the host: it costs that job (whose owner sees its reply dropped and
        // stops its stream), never the thread that all streams share.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&mut state))).is_err() {
            state = WorkerState::default();
        }
        let spent = thread_cpu_ns().saturating_sub(before);
        if let Some(lane) = shared.lock().lanes.get_mut(&lane) {
            lane.spent_ns += spent;
        }
    }
}

/// CPU time of this thread in nanoseconds.
fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn queue_prefers_the_lane_that_used_least() {
        let mut queues = Queues::default();
        for (id, spent_ns) in [(1, 500), (2, 20), (3, 100)] {
            let lane = queues.lanes.entry(id).or_default();
            lane.spent_ns = spent_ns;
            lane.jobs.push_back(Box::new(|_| {}));
        }
        let order: Vec<LaneId> = std::iter::from_fn(|| queues.next().map(|(id, _)| id)).collect();
        assert_eq!(order, [2, 3, 1]);
    }

    #[test]
    fn worker_survives_a_panicking_job() {
        let workers = Workers::start(1).unwrap();
        let (tx, rx) = sync_channel(1);
        workers.submit(1, |_| panic!("expected by the test"));
        workers.submit(1, move |_| tx.send(7).unwrap());
        assert_eq!(rx.recv().unwrap(), 7);
    }

    #[test]
    fn retired_lane_drops_what_is_queued_and_others_go_on() {
        let workers = Workers::start(1).unwrap();
        let (tx, rx) = sync_channel(4);
        let (go, wait) = sync_channel::<()>(0);
        workers.submit(1, move |_| wait.recv().unwrap());
        let dropped = tx.clone();
        workers.submit(2, move |_| dropped.send(2).unwrap());
        workers.retire(2);
        workers.submit(3, move |_| tx.send(3).unwrap());
        go.send(()).unwrap();
        assert_eq!(rx.iter().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn drop_runs_what_was_queued() {
        let (tx, rx) = sync_channel(64);
        {
            let workers = Workers::start(2).unwrap();
            for i in 0..64 {
                let tx = tx.clone();
                workers.submit(i % 3, move |_| tx.send(i).unwrap());
            }
        }
        drop(tx);
        assert_eq!(rx.iter().count(), 64);
    }
}
