//! The fixed pool of OS threads that runs guests and encoders.
//!
//! One thread per core, never the async runtime's: a guest may burn its whole deadline without anybody's
//! socket waiting. Every stream has a lane, and lanes belong to tenants: a free thread takes the next job of the tenant
//! that has used the least CPU time, and of its lanes of the one that has (fair queueing by measured cost, which gives the
//! shares of a deficit round robin without its bursts), so that one busy tenant slows only itself. One that has used more
//! than its quota of CPU time waits until it has not, although threads idle. A job is not
//! interrupted, so tenants whose jobs take long never hold all threads: one stays free for the others, a tenant of which
//! nothing is known yet holds one at most, and where every thread is held for long all the same, one that [stands by](spare)
//! takes its place. Lanes are bounded by their owners: a stream has at most `SLICES_IN_FLIGHT` slices and one commit queued.
//! Slices whose plugins may wait for others run on threads of their tenant's own ([`waiting`]).

mod spare;
mod waiting;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wasmill_chunk::{FinishOptions, RowSink};
use wasmill_encode::Encoder;
use wasmill_transform::{Chain, Slice, SliceReport, WORKER_STACK_BYTES};

use super::quotas::{self, Quotas, TenantQuota};
use super::warm::{LOOK_NS, WarmBounds, WarmChains};
use waiting::Waiting;

/// What guests need, and room for the encoder; untouched pages cost nothing.
const STACK_BYTES: usize = WORKER_STACK_BYTES + (4 << 20);

/// CPU time from which a job is a long one: a slice that is full takes about 30 ms.
const LONG_JOB_NS: u64 = 100_000_000;
/// A job that holds its thread for longer than a full slice takes is one too many while others wait.
const HELD_NS: u64 = 50_000_000;

/// Identifies a lane: one per stream.
pub(crate) type LaneId = u64;

/// Whose a lane is.
pub(crate) type TenantId = Arc<str>;

type Job = Box<dyn FnOnce(&mut WorkerState) + Send>;

/// What a thread keeps warm between jobs.
#[derive(Default)]
pub(crate) struct WorkerState {
    /// A version that was replaced is let go of when the next one runs.
    warm: WarmChains,
    /// Retired lanes that it has heard of.
    retired: u64,
    /// CPU time of the job that another process used for it.
    elsewhere: Duration,
    /// The job waited for another process.
    waited: bool,
    pub(crate) encoder: Encoder,
}

impl WorkerState {
    fn new(bounds: WarmBounds) -> WorkerState {
        WorkerState { warm: WarmChains::new(bounds), ..WorkerState::default() }
    }

    /// Takes a slice through this thread's warm instances of `chain`, for the lane whose chain it is. What another process
    /// uses for it counts as if it were used here.
    pub(crate) fn run(
        &mut self,
        lane: LaneId,
        chain: &Arc<Chain>,
        slice: &Slice<'_>,
        options: &FinishOptions,
        sink: &mut dyn RowSink,
    ) -> SliceReport {
        let report = self.warm.get(lane, chain).run(slice, options, sink);
        self.elsewhere += report.cpu_elsewhere;
        self.waited |= chain.runs_elsewhere();
        report
    }

    /// Lets go of the lane's chain: it does not run here soon.
    pub(crate) fn forget(&mut self, lane: LaneId) {
        self.warm.forget(lane);
    }
}

#[derive(Default)]
struct Lane {
    jobs: VecDeque<Job>,
    /// Jobs on threads.
    running: usize,
    /// Nanoseconds of CPU that this lane has used, moved up to the clock of its share when it wakes.
    spent_ns: u64,
}

/// What a tenant has queued and used.
struct Share {
    quota: Arc<TenantQuota>,
    lanes: HashMap<LaneId, Lane>,
    /// Jobs in all lanes.
    queued: usize,
    /// Nanoseconds of CPU, moved up to the clock of the queues when it wakes.
    spent_ns: u64,
    /// What the lane had used whose job was taken last: where one that wakes begins.
    clock_ns: u64,
    /// CPU time of its longest job of late; nothing while none has come back.
    longest_ns: Option<u64>,
    /// Jobs on threads.
    running: usize,
}

impl Share {
    fn new(quota: Arc<TenantQuota>) -> Share {
        Share {
            quota,
            lanes: HashMap::new(),
            queued: 0,
            spent_ns: 0,
            clock_ns: 0,
            longest_ns: None,
            running: 0,
        }
    }

    fn is_slow(&self) -> bool {
        self.longest_ns.is_some_and(|longest_ns| longest_ns > LONG_JOB_NS)
    }

    /// So long was its longest job, at least.
    fn was_held(&mut self, ns: u64) {
        self.longest_ns = Some(self.longest_ns.map_or(ns, |longest_ns| longest_ns.max(ns)));
    }

    fn next(&mut self, lane_max: usize) -> Option<(LaneId, Job)> {
        // Alone, one more: but a thread is free for who comes next.
        let lane_max = lane_max.saturating_add(usize::from(self.lanes.len() < 2));
        let may_run = |lane: &Lane| !lane.jobs.is_empty() && lane.running < lane_max;
        let waiting = self.lanes.iter_mut().filter(|(_, lane)| may_run(lane));
        let (id, lane) = waiting.min_by_key(|(_, lane)| lane.spent_ns)?;
        let job = lane.jobs.pop_front()?;
        lane.running += 1;
        self.clock_ns = self.clock_ns.max(lane.spent_ns);
        self.queued -= 1;
        self.running += 1;
        Some((*id, job))
    }
}

/// A thread is at it.
struct Running {
    /// Which job it is.
    ticket: u64,
    tenant: TenantId,
    since_ns: u64,
    /// Its tenant's jobs took long when it was taken.
    slow: bool,
    /// None of its tenant's had come back then.
    first: bool,
}

impl Running {
    fn is_past(&self, ns: u64, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.since_ns) >= ns
    }

    fn is_slow(&self, now_ns: u64) -> bool {
        self.slow || self.is_past(LONG_JOB_NS, now_ns)
    }
}

/// A job on its way.
struct Taken {
    tenant: TenantId,
    quota: Arc<TenantQuota>,
    lane: LaneId,
    ticket: u64,
    job: Job,
}

/// What a thread is to do.
enum Next {
    Run(Taken),
    /// Nothing; at the latest after this time some tenant may run again.
    Wait(Option<Duration>),
}

struct Queues {
    quotas: Arc<Quotas>,
    shares: HashMap<TenantId, Share>,
    /// Tenants with queued jobs, by what they have used.
    ready: BTreeSet<(u64, TenantId)>,
    /// What the tenant had used whose job was taken last: where one that wakes begins.
    clock_ns: u64,
    /// Whose each lane is.
    owners: HashMap<LaneId, TenantId>,
    /// Jobs that may run at a time, without those that have held their threads for long.
    threads: usize,
    running: Vec<Running>,
    /// Jobs that were taken.
    tickets: u64,
    /// Threads that wait for a job.
    idle: usize,
    /// A thread that stands by looks now and then whether it is needed.
    watched: bool,
    /// Threads that one of several lanes may hold.
    lane_max: usize,
    /// How many lanes have been retired.
    retired: u64,
    closed: bool,
}

impl Queues {
    fn new(threads: usize, quotas: Arc<Quotas>) -> Queues {
        Queues {
            quotas,
            shares: HashMap::new(),
            ready: BTreeSet::new(),
            clock_ns: 0,
            owners: HashMap::new(),
            threads,
            running: Vec::new(),
            tickets: 0,
            idle: 0,
            watched: false,
            lane_max: usize::MAX,
            retired: 0,
            closed: false,
        }
    }

    fn push(&mut self, tenant: &TenantId, lane: LaneId, job: Job) {
        self.owners.entry(lane).or_insert_with(|| tenant.clone());
        let quotas = &self.quotas;
        let share = self.shares.entry(tenant.clone()).or_insert_with(|| Share::new(quotas.of(tenant)));
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

    /// Jobs are queued, and no thread waits for one.
    fn is_waited_for(&self) -> bool {
        self.idle == 0 && !self.ready.is_empty()
    }

    /// And none that stands by looks after them.
    fn is_unwatched(&self) -> bool {
        self.is_waited_for() && !self.watched
    }

    /// For a thread of the pool, or for one that stands by: that is there for those of whom nothing runs.
    fn next(&mut self, now_ns: u64, stands_by: bool) -> Next {
        let short = self.running.iter().filter(|job| !job.is_past(HELD_NS, now_ns)).count();
        if short >= self.threads && !self.closed {
            // Some of them may turn out to be long.
            return Next::Wait(Some(Duration::from_nanos(HELD_NS)));
        }
        // To whom else would it be left? What is queued at the end is done at once.
        let alone = self.shares.len() < 2 || self.closed;
        let slow = self.running.iter().filter(|job| job.is_slow(now_ns)).count();
        let slow_max = self.threads.saturating_sub(1).max(1);
        let running = &self.running;
        let is_slow = |share: &Share, tenant: &TenantId| {
            share.is_slow() || running.iter().any(|job| job.tenant == *tenant && job.is_slow(now_ns))
        };
        let mut soonest: Option<Duration> = None;
        let mut may_run = |tenant: &TenantId| {
            let Some(share) = self.shares.get(tenant) else { return false };
            if stands_by && share.running > 0 {
                return false;
            }
            let unknown = share.longest_ns.is_none() && share.running > 0;
            if !alone && (unknown || (slow >= slow_max && is_slow(share, tenant))) {
                return false;
            }
            let Some(wait) = share.quota.cpu_debt(now_ns).filter(|_| !self.closed) else { return true };
            soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
            false
        };
        let found = self.ready.iter().find(|(_, tenant)| may_run(tenant)).cloned();
        found.and_then(|found| self.take(found, now_ns)).map_or(Next::Wait(soonest), Next::Run)
    }

    fn take(&mut self, (spent_ns, tenant): (u64, TenantId), now_ns: u64) -> Option<Taken> {
        let share = self.shares.get_mut(&tenant)?;
        let (lane, job) = share.next(self.lane_max)?;
        let (slow, first) = (share.is_slow(), share.longest_ns.is_none());
        let quota = Arc::clone(&share.quota);
        self.clock_ns = self.clock_ns.max(spent_ns);
        if share.queued == 0 {
            self.ready.remove(&(spent_ns, tenant.clone()));
        }
        self.tickets += 1;
        let ticket = self.tickets;
        self.running.push(Running { ticket, tenant: tenant.clone(), since_ns: now_ns, slow, first });
        Some(Taken { tenant, quota, lane, ticket, job })
    }

    /// Counts what a job has used. Whether another thread may find something now that it was to leave.
    fn done(&mut self, tenant: &TenantId, lane: LaneId, ticket: u64, spent_ns: u64) -> bool {
        let place = self.running.iter().position(|job| job.ticket == ticket);
        let left =
            place.map(|place| self.running.swap_remove(place)).is_some_and(|job| job.slow || job.first);
        let Some(share) = self.shares.get_mut(tenant) else { return left };
        share.running = share.running.saturating_sub(1);
        if let Some(lane) = share.lanes.get_mut(&lane) {
            lane.spent_ns += spent_ns;
            lane.running = lane.running.saturating_sub(1);
        }
        share.longest_ns = share.longest_ns.map(|longest_ns| longest_ns / 8 * 7);
        share.was_held(spent_ns);
        let before = share.spent_ns;
        share.spent_ns += spent_ns;
        if share.queued > 0 {
            self.ready.remove(&(before, tenant.clone()));
            self.ready.insert((share.spent_ns, tenant.clone()));
        }
        left
    }

    /// So long did a job hold its thread.
    fn held(&mut self, tenant: &TenantId, held_ns: u64) {
        if let Some(share) = self.shares.get_mut(tenant) {
            share.was_held(held_ns);
        }
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
    /// For the threads that stand by.
    needed: Condvar,
    /// Of each thread.
    bounds: WarmBounds,
    /// Time counts that a job held its thread, whether it computed or not.
    by_time: bool,
    /// In place of threads, for a simulation.
    #[cfg(test)]
    stepped: Option<Mutex<WorkerState>>,
}

impl Shared {
    fn new(threads: usize, quotas: Arc<Quotas>, bounds: WarmBounds) -> Shared {
        Shared {
            queues: Mutex::new(Queues::new(threads, quotas)),
            ready: Condvar::new(),
            needed: Condvar::new(),
            bounds: bounds.shared_by(threads),
            by_time: false,
            #[cfg(test)]
            stepped: None,
        }
    }

    /// For the threads of one tenant.
    fn of_waiting(quotas: Arc<Quotas>, bounds: WarmBounds) -> Shared {
        let shared = Shared::new(waiting::THREADS, quotas, bounds);
        shared.lock().lane_max = waiting::THREADS_OF_LANE;
        Shared { by_time: true, ..shared }
    }

    /// Ends the threads when they have done what they are at; what is queued is dropped.
    fn close(&self) {
        let lanes: Vec<LaneId> = self.lock().owners.keys().copied().collect();
        let dropped: Vec<_> = lanes.into_iter().filter_map(|lane| self.lock().retire(lane)).collect();
        self.lock().closed = true;
        self.ready.notify_all();
        // Behind the lock.
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pool. Dropping it ends the threads after the jobs that are queued.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    waiting: Waiting,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` threads.
    pub(crate) fn start(count: usize, quotas: Arc<Quotas>, bounds: WarmBounds) -> std::io::Result<Workers> {
        let waiting = Waiting::new(Arc::clone(&quotas), bounds);
        let shared = Arc::new(Shared::new(count, quotas, bounds));
        let mut threads = Vec::with_capacity(2 * count);
        for (kind, work) in [("worker", work as fn(&Shared)), ("spare", spare::stand_by)] {
            for index in 0..count {
                let shared = shared.clone();
                let thread = std::thread::Builder::new().name(format!("{kind}-{index}"));
                threads.push(thread.stack_size(STACK_BYTES).spawn(move || work(&shared))?);
            }
        }
        Ok(Workers { shared, waiting, threads })
    }

    /// Without threads: jobs run when `step` is called.
    #[cfg(test)]
    pub(crate) fn stepped() -> Workers {
        let shared = Shared {
            stepped: Some(Mutex::default()),
            ..Shared::new(1, Arc::default(), WarmBounds::default())
        };
        let waiting = Waiting::new(Arc::default(), WarmBounds::default());
        Workers { shared: Arc::new(shared), waiting, threads: Vec::new() }
    }

    #[cfg(test)]
    pub(crate) fn is_stepped(&self) -> bool {
        self.shared.stepped.is_some()
    }

    /// Runs one job on this thread; `false` if there is none.
    #[cfg(test)]
    pub(crate) fn step(&self) -> bool {
        let Some(state) = &self.shared.stepped else { return false };
        let Next::Run(taken) = self.shared.lock().next(quotas::now(), false) else { return false };
        (taken.job)(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.lock().done(&taken.tenant, taken.lane, taken.ticket, 0);
        true
    }

    /// Queues a job in a lane, which is this tenant's.
    pub(crate) fn submit(
        &self,
        tenant: &TenantId,
        lane: LaneId,
        job: impl FnOnce(&mut WorkerState) + Send + 'static,
    ) {
        let mut queues = self.shared.lock();
        queues.push(tenant, lane, Box::new(job));
        let unwatched = queues.is_unwatched();
        drop(queues);
        self.shared.ready.notify_one();
        if unwatched {
            self.shared.needed.notify_one();
        }
    }

    /// The same with a slice for this chain: where its plugins may wait for others, it does not run where others wait for
    /// the thread.
    pub(crate) fn submit_slice(
        &self,
        tenant: &TenantId,
        lane: LaneId,
        chain: &Chain,
        job: impl FnOnce(&mut WorkerState) + Send + 'static,
    ) {
        if !chain.waits() {
            return self.submit(tenant, lane, job);
        }
        if let Err((error, job)) = self.waiting.submit(tenant, lane, Box::new(job)) {
            tracing::error!(tenant = &**tenant, %error, "threads for plugins that wait cannot be started, the shared ones wait");
            self.submit(tenant, lane, job);
        }
    }

    /// Quotas have changed: who had to wait may run now.
    pub(crate) fn look_again(&self) {
        // Whoever has looked at them under the lock waits by then.
        drop(self.shared.lock());
        self.shared.ready.notify_all();
        self.waiting.look_again();
    }

    /// Ends a lane: what is queued in it is dropped, and what the threads keep warm for it as each takes its next job.
    pub(crate) fn retire(&self, lane: LaneId) {
        let removed = self.shared.lock().retire(lane);
        // Behind the lock.
        drop(removed);
        self.waiting.retire(lane);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.ready.notify_all();
        self.shared.needed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

fn work(shared: &Shared) {
    let mut state = WorkerState::new(shared.bounds);
    loop {
        // Let go of behind the lock.
        let mut cold = Vec::new();
        let mut unwatched = false;
        let taken = {
            let mut queues = shared.lock();
            if state.retired < queues.retired {
                let owners = &queues.owners;
                cold = state.warm.retain(|lane| owners.contains_key(&lane));
                state.retired = queues.retired;
            }
            match queues.next(quotas::now(), false) {
                Next::Run(taken) => {
                    // It may be the last thread that waited, and more is queued.
                    unwatched = queues.is_unwatched();
                    Some(taken)
                }
                Next::Wait(_) if queues.closed => return,
                Next::Wait(soonest) => {
                    let look = (!state.warm.is_empty()).then_some(Duration::from_nanos(LOOK_NS));
                    wait(shared, queues, soonest.into_iter().chain(look).min());
                    None
                }
            }
        };
        drop(cold);
        if unwatched {
            shared.needed.notify_one();
        }
        state.warm.expire(quotas::now());
        if let Some(taken) = taken {
            run(shared, &mut state, taken);
        }
    }
}

/// Takes a job to its end, and counts what it used.
fn run(shared: &Shared, state: &mut WorkerState, taken: Taken) {
    let Taken { tenant, quota, lane, ticket, job } = taken;
    let (before, began) = (thread_cpu_ns(), Instant::now());
    // A panic in a job is a bug of the host: it costs that job (whose owner sees its reply dropped and
    // stops its stream), never the thread that all streams share.
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(state))).is_err() {
        *state = WorkerState::new(shared.bounds);
    }
    if std::mem::take(&mut state.waited) {
        // Who makes the thread wait holds it as much as who computes on it.
        shared.lock().held(&tenant, nanos(began.elapsed()));
    }
    let elsewhere = nanos(std::mem::take(&mut state.elsewhere));
    let spent = thread_cpu_ns().saturating_sub(before).saturating_add(elsewhere);
    let now_ns = quotas::now();
    quota.charge_cpu(spent, now_ns);
    let spent = if shared.by_time { spent.max(nanos(began.elapsed())) } else { spent };
    state.warm.settle(lane, &quota, now_ns);
    if shared.lock().done(&tenant, lane, ticket, spent) {
        // Other threads may have passed over tenants that may run now.
        shared.ready.notify_all();
    }
}

/// Waits for jobs, and at most so long.
fn wait(shared: &Shared, mut queues: MutexGuard<'_, Queues>, at_most: Option<Duration>) {
    queues.idle += 1;
    let mut queues = match at_most {
        Some(at_most) => {
            let waited = shared.ready.wait_timeout(queues, at_most);
            waited.unwrap_or_else(PoisonError::into_inner).0
        }
        None => shared.ready.wait(queues).unwrap_or_else(PoisonError::into_inner),
    };
    queues.idle -= 1;
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// CPU time of this thread in nanoseconds.
fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests;
