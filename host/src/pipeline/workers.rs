//! The fixed pool of OS threads that runs guests and encoders.
//!
//! One thread per core, never the async runtime's: a guest may burn its whole deadline without anybody's
//! socket waiting. Every stream has a lane, and lanes belong to tenants: a free thread takes the next job of the tenant
//! that has used the least CPU time, and of its lanes of the one that has (fair queueing by measured cost, which gives the
//! shares of a deficit round robin without its bursts), so that one busy tenant slows only itself. A job is not
//! interrupted, so tenants whose jobs take long never hold all threads: one stays free for the others. Lanes are
//! bounded by their owners: a stream has at most `SLICES_IN_FLIGHT` slices and one commit queued.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use wasmill_encode::Encoder;
use wasmill_transform::{Chain, ChainWorker, WORKER_STACK_BYTES};

/// What guests need, and room for the encoder; untouched pages cost nothing.
const STACK_BYTES: usize = WORKER_STACK_BYTES + (4 << 20);

/// CPU time from which a job is a long one: a slice that is full takes about 30 ms.
const LONG_JOB_NS: u64 = 100_000_000;

/// Identifies a lane: one per stream.
pub(crate) type LaneId = u64;

/// Whose a lane is.
pub(crate) type TenantId = Arc<str>;

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
    /// Nanoseconds of CPU that this lane has used, moved up to the clock of its share when it wakes.
    spent_ns: u64,
}

/// What a tenant has queued and used.
#[derive(Default)]
struct Share {
    lanes: HashMap<LaneId, Lane>,
    /// Jobs in all lanes.
    queued: usize,
    /// Nanoseconds of CPU, moved up to the clock of the queues when it wakes.
    spent_ns: u64,
    /// What the lane had used whose job was taken last: where one that wakes begins.
    clock_ns: u64,
    /// CPU time of its longest job of late.
    longest_ns: u64,
}

impl Share {
    fn is_slow(&self) -> bool {
        self.longest_ns > LONG_JOB_NS
    }

    fn next(&mut self) -> Option<(LaneId, Job)> {
        let waiting = self.lanes.iter_mut().filter(|(_, lane)| !lane.jobs.is_empty());
        let (id, lane) = waiting.min_by_key(|(_, lane)| lane.spent_ns)?;
        let job = lane.jobs.pop_front()?;
        self.clock_ns = self.clock_ns.max(lane.spent_ns);
        self.queued -= 1;
        Some((*id, job))
    }
}

/// A job on its way.
struct Taken {
    tenant: TenantId,
    lane: LaneId,
    /// Its tenant's jobs take long.
    slow: bool,
    job: Job,
}

struct Queues {
    shares: HashMap<TenantId, Share>,
    /// Tenants with queued jobs, by what they have used.
    ready: BTreeSet<(u64, TenantId)>,
    /// What the tenant had used whose job was taken last: where one that wakes begins.
    clock_ns: u64,
    /// Whose each lane is.
    owners: HashMap<LaneId, TenantId>,
    /// Threads that tenants with long jobs may hold together.
    slow_max: usize,
    slow: usize,
    /// How many lanes have been retired.
    retired: u64,
    closed: bool,
}

impl Queues {
    fn new(threads: usize) -> Queues {
        Queues {
            shares: HashMap::new(),
            ready: BTreeSet::new(),
            clock_ns: 0,
            owners: HashMap::new(),
            slow_max: threads.saturating_sub(1).max(1),
            slow: 0,
            retired: 0,
            closed: false,
        }
    }

    fn push(&mut self, tenant: &TenantId, lane: LaneId, job: Job) {
        self.owners.entry(lane).or_insert_with(|| tenant.clone());
        let share = self.shares.entry(tenant.clone()).or_default();
        if share.queued == 0 {
            // Who slept must not make up for it by starving the others.
            share.spent_ns = share.spent_ns.max(self.clock_ns);
            self.ready.insert((share.spent_ns, tenant.clone()));
        }
        let entry = share.lanes.entry(lane).or_default();
        if entry.jobs.is_empty() {
            entry.spent_ns = entry.spent_ns.max(share.clock_ns);
        }
        entry.jobs.push_back(job);
        share.queued += 1;
    }

    fn next(&mut self) -> Option<Taken> {
        // To whom else would it be left?
        let room = self.slow < self.slow_max || self.shares.len() < 2;
        let may_run =
            |tenant: &TenantId| room || self.shares.get(tenant).is_some_and(|share| !share.is_slow());
        let (spent_ns, tenant) = self.ready.iter().find(|(_, tenant)| may_run(tenant))?.clone();
        let share = self.shares.get_mut(&tenant)?;
        let (lane, job) = share.next()?;
        let slow = share.is_slow();
        self.clock_ns = self.clock_ns.max(spent_ns);
        self.slow += usize::from(slow);
        if share.queued == 0 {
            self.ready.remove(&(spent_ns, tenant.clone()));
        }
        Some(Taken { tenant, lane, slow, job })
    }

    /// Counts what a job has used. Whether another thread may find something now that it was to leave.
    fn done(&mut self, tenant: &TenantId, lane: LaneId, slow: bool, spent_ns: u64) -> bool {
        self.slow -= usize::from(slow);
        let Some(share) = self.shares.get_mut(tenant) else { return slow };
        if let Some(lane) = share.lanes.get_mut(&lane) {
            lane.spent_ns += spent_ns;
        }
        share.longest_ns = spent_ns.max(share.longest_ns / 8 * 7);
        let before = share.spent_ns;
        share.spent_ns += spent_ns;
        if share.queued > 0 {
            self.ready.remove(&(before, tenant.clone()));
            self.ready.insert((share.spent_ns, tenant.clone()));
        }
        slow
    }

    /// What was queued in the lane.
    fn retire(&mut self, lane: LaneId) -> Option<Lane> {
        self.retired += 1;
        let tenant = self.owners.remove(&lane)?;
        let share = self.shares.get_mut(&tenant)?;
        let removed = share.lanes.remove(&lane)?;
        share.queued -= removed.jobs.len();
        if share.queued == 0 {
            self.ready.remove(&(share.spent_ns, tenant.clone()));
        }
        if share.lanes.is_empty() {
            self.shares.remove(&tenant);
        }
        Some(removed)
    }
}

struct Shared {
    queues: Mutex<Queues>,
    ready: Condvar,
    /// In place of threads, for a simulation.
    #[cfg(test)]
    stepped: Option<Mutex<WorkerState>>,
}

impl Shared {
    fn new(threads: usize) -> Shared {
        Shared {
            queues: Mutex::new(Queues::new(threads)),
            ready: Condvar::new(),
            #[cfg(test)]
            stepped: None,
        }
    }

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
        let shared = Arc::new(Shared::new(count));
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
        let shared = Shared { stepped: Some(Mutex::default()), ..Shared::new(1) };
        Workers { shared: Arc::new(shared), threads: Vec::new() }
    }

    #[cfg(test)]
    pub(crate) fn is_stepped(&self) -> bool {
        self.shared.stepped.is_some()
    }

    /// Runs one job on this thread; `false` if there is none.
    #[cfg(test)]
    pub(crate) fn step(&self) -> bool {
        let (Some(state), Some(taken)) = (&self.shared.stepped, self.shared.lock().next()) else {
            return false;
        };
        (taken.job)(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        true
    }

    /// Queues a job in a lane, which is this tenant's.
    pub(crate) fn submit(
        &self,
        tenant: &TenantId,
        lane: LaneId,
        job: impl FnOnce(&mut WorkerState) + Send + 'static,
    ) {
        self.shared.lock().push(tenant, lane, Box::new(job));
        self.shared.ready.notify_one();
    }

    /// Ends a lane: what is queued in it is dropped, and what the threads keep warm for it as each takes its next job.
    pub(crate) fn retire(&self, lane: LaneId) {
        let removed = self.shared.lock().retire(lane);
        // Behind the lock.
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
        let (taken, _cold) = {
            let mut queues = shared.lock();
            loop {
                if let Some(taken) = queues.next() {
                    // Let go of behind the lock.
                    let mut cold = Vec::new();
                    if state.retired < queues.retired {
                        let owners = &queues.owners;
                        cold.extend(state.chains.extract_if(|lane, _| !owners.contains_key(lane)));
                        state.retired = queues.retired;
                    }
                    break (taken, cold);
                }
                if queues.closed {
                    return;
                }
                queues = shared.ready.wait(queues).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let Taken { tenant, lane, slow, job } = taken;
        let before = thread_cpu_ns();
        // A panic in a job is a bug of the host: it costs that job (whose owner sees its reply dropped and
        // stops its stream), never the thread that all streams share.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&mut state))).is_err() {
            state = WorkerState::default();
        }
        let spent = thread_cpu_ns().saturating_sub(before);
        if shared.lock().done(&tenant, lane, slow, spent) {
            // Another thread may have passed over a tenant that may run now.
            shared.ready.notify_one();
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

    fn tenant(name: &str) -> TenantId {
        name.into()
    }

    fn queued(queues: &mut Queues, of: &str, lane: LaneId, jobs: usize) {
        for _ in 0..jobs {
            queues.push(&tenant(of), lane, Box::new(|_| {}));
        }
    }

    /// Takes the next job, which uses so many milliseconds of CPU.
    fn run(queues: &mut Queues, ms: u64) -> Option<(String, LaneId)> {
        let Taken { tenant, lane, slow, .. } = queues.next()?;
        queues.done(&tenant, lane, slow, ms * 1_000_000);
        Some((tenant.to_string(), lane))
    }

    #[test]
    fn lanes_of_a_tenant_take_turns_by_what_they_used() {
        let mut queues = Queues::new(2);
        for lane in [1, 2, 3] {
            queued(&mut queues, "a", lane, 2);
        }
        let cost = |lane| [0, 5, 1, 2][lane as usize];
        let mut order = Vec::new();
        while let Some(Taken { tenant, lane, slow, .. }) = queues.next() {
            queues.done(&tenant, lane, slow, cost(lane));
            order.push(lane);
        }
        assert_eq!(order[3..], [2, 3, 1], "{order:?}");
    }

    #[test]
    fn tenant_with_many_streams_gets_no_more_than_one_with_one() {
        let mut queues = Queues::new(2);
        (0..50).for_each(|lane| queued(&mut queues, "many", lane, 10));
        queued(&mut queues, "one", 99, 100);
        let ran: Vec<String> = (0..100).map_while(|_| Some(run(&mut queues, 10)?.0)).collect();
        let of_one = ran.iter().filter(|tenant| *tenant == "one").count();
        assert!((49..=51).contains(&of_one), "{of_one}");
    }

    #[test]
    fn tenant_that_slept_makes_up_for_nothing() {
        let mut queues = Queues::new(2);
        queued(&mut queues, "busy", 1, 30);
        (0..20).for_each(|_| drop(run(&mut queues, 10)));
        queued(&mut queues, "woken", 2, 30);
        let ran: Vec<String> = (0..20).map_while(|_| Some(run(&mut queues, 10)?.0)).collect();
        let of_busy = ran.iter().filter(|tenant| *tenant == "busy").count();
        assert!((9..=11).contains(&of_busy), "{ran:?}");
    }

    #[test]
    fn tenant_that_slept_makes_up_for_nothing_either_while_every_job_of_the_others_is_on_its_way() {
        let mut queues = Queues::new(2);
        queued(&mut queues, "busy", 1, 20);
        (0..19).for_each(|_| drop(run(&mut queues, 10)));
        let on_its_way = queues.next().unwrap();
        queued(&mut queues, "woken", 2, 30);
        queued(&mut queues, "busy", 1, 30);
        queues.done(&on_its_way.tenant, on_its_way.lane, on_its_way.slow, 10_000_000);
        let ran: Vec<String> = (0..20).map_while(|_| Some(run(&mut queues, 10)?.0)).collect();
        let of_busy = ran.iter().filter(|tenant| *tenant == "busy").count();
        assert!((9..=11).contains(&of_busy), "{ran:?}");
    }

    #[test]
    fn tenants_with_long_jobs_leave_a_thread_to_the_others() {
        let mut queues = Queues::new(2);
        queued(&mut queues, "slow", 1, 5);
        queued(&mut queues, "slower", 2, 5);
        run(&mut queues, 500).unwrap();
        run(&mut queues, 900).unwrap();
        let first = queues.next().unwrap();
        assert!(first.slow && queues.next().is_none(), "one thread of two is not for them");
        queued(&mut queues, "quick", 3, 1);
        assert_eq!(run(&mut queues, 1).unwrap().0, "quick");
        assert!(queues.done(&first.tenant, first.lane, first.slow, 1_000_000));
        assert!(queues.next().is_some());
    }

    #[test]
    fn tenant_that_is_alone_holds_all_threads() {
        let mut queues = Queues::new(2);
        queued(&mut queues, "a", 1, 5);
        run(&mut queues, 500).unwrap();
        let first = queues.next().unwrap();
        assert!(first.slow && queues.next().is_some());
    }

    #[test]
    fn tenant_whose_jobs_became_short_is_slow_no_more() {
        let mut queues = Queues::new(2);
        queued(&mut queues, "a", 1, 40);
        run(&mut queues, 1_000).unwrap();
        (0..30).for_each(|_| drop(run(&mut queues, 1)));
        assert!(!queues.next().unwrap().slow);
    }

    #[test]
    fn one_thread_runs_long_jobs_too() {
        let mut queues = Queues::new(1);
        queued(&mut queues, "a", 1, 2);
        run(&mut queues, 1_000).unwrap();
        assert!(run(&mut queues, 1_000).is_some());
    }

    #[test]
    fn worker_survives_a_panicking_job() {
        let workers = Workers::start(1).unwrap();
        let (tx, rx) = sync_channel(1);
        workers.submit(&tenant("a"), 1, |_| panic!("expected by the test"));
        workers.submit(&tenant("a"), 1, move |_| tx.send(7).unwrap());
        assert_eq!(rx.recv().unwrap(), 7);
    }

    #[test]
    fn retired_lane_drops_what_is_queued_and_others_go_on() {
        let workers = Workers::start(1).unwrap();
        let (tx, rx) = sync_channel(4);
        let (go, wait) = sync_channel::<()>(0);
        workers.submit(&tenant("a"), 1, move |_| wait.recv().unwrap());
        let dropped = tx.clone();
        workers.submit(&tenant("a"), 2, move |_| dropped.send(2).unwrap());
        workers.retire(2);
        workers.submit(&tenant("b"), 3, move |_| tx.send(3).unwrap());
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
                workers.submit(&tenant("a"), i % 3, move |_| tx.send(i).unwrap());
            }
        }
        drop(tx);
        assert_eq!(rx.iter().count(), 64);
    }
}
