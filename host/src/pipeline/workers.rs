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

mod queues;
mod spare;
pub(super) mod waiting;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wasmill_chunk::{FinishOptions, RowSink};
use wasmill_encode::Encoder;
use wasmill_state::Layer;
use wasmill_transform::{Chain, ChainWorker, Kept, Slice, SliceReport, Times, WORKER_STACK_BYTES};

use self::queues::{Next, Queues, Taken};
use self::waiting::Waiting;
use super::network;
use super::quotas::{self, Quotas, TenantQuota};
use super::warm::{LOOK_NS, WarmBounds, WarmChains};

/// What guests need, and room for the encoder; untouched pages cost nothing.
const STACK_BYTES: usize = WORKER_STACK_BYTES + (4 << 20);

/// CPU time from which a job is a long one: a slice that is full takes about 30 ms.
const LONG_JOB_NS: u64 = 100_000_000;
/// A job that has held its thread for so long may be one too many.
const HELD_NS: u64 = 2_000_000;
/// How long the first job of a tenant may take, as far as anybody knows.
const UNKNOWN_NS: u64 = 50_000_000;

/// Identifies a lane: one per stream.
pub(crate) type LaneId = u64;

/// Whose a lane is.
pub(crate) type TenantId = Arc<str>;

type Job = Box<dyn FnOnce(&mut WorkerState) + Send>;

/// What a thread keeps between jobs, and has of what all threads keep warm.
#[derive(Default)]
pub(crate) struct WorkerState {
    warm: Arc<WarmChains>,
    /// The chain that ran last, while it is not put back.
    held: Option<(LaneId, ChainWorker)>,
    /// CPU time of the job that another process used for it.
    elsewhere: Duration,
    /// The job waited for another process.
    waited: bool,
    pub(crate) encoder: Encoder,
}

impl WorkerState {
    fn new(warm: &Arc<WarmChains>) -> WorkerState {
        WorkerState { warm: Arc::clone(warm), ..WorkerState::default() }
    }

    /// Takes a slice through warm instances of `chain`, for the lane whose chain it is, over the state of its stream if the chain
    /// keeps some; what has changed of that comes back, where it has an outcome, and whether transforms have more to do at the
    /// watermark. What another process uses for it counts as if it were used here.
    pub(crate) fn run_keeping(
        &mut self,
        lane: LaneId,
        chain: &Arc<Chain>,
        (slice, times): (&Slice<'_>, Option<Times<'_>>),
        options: &FinishOptions,
        sink: &mut dyn RowSink,
        kept: Option<Kept<'_>>,
    ) -> (SliceReport, Option<Layer>, bool) {
        let held = self.held.take().filter(|(of, held)| *of == lane && Arc::ptr_eq(held.chain(), chain));
        let held = held.map(|(_, held)| held).or_else(|| self.warm.take(lane, chain));
        let mut held = held.unwrap_or_else(|| ChainWorker::new(Arc::clone(chain)));
        let (report, layer, owed) = held.run_timed(slice, times, options, sink, kept);
        self.held = Some((lane, held));
        self.elsewhere += report.cpu_elsewhere;
        self.waited |= chain.runs_elsewhere();
        (report, layer, owed)
    }

    /// Lets go of the lane's chain: it does not run soon.
    pub(crate) fn forget(&mut self, lane: LaneId) {
        self.held.take_if(|(of, _)| *of == lane);
        self.warm.forget(lane);
    }

    /// The job is done: its chain is for whoever runs the lane's next one.
    fn put_back(&mut self, quota: &Arc<TenantQuota>, aside: bool, now_ns: u64) {
        if let Some((lane, held)) = self.held.take() {
            self.warm.put(lane, held, quota, aside, now_ns);
        }
    }
}

struct Shared {
    queues: Mutex<Queues>,
    ready: Condvar,
    /// For the threads that stand by.
    needed: Condvar,
    warm: Arc<WarmChains>,
    /// For slices that wait: time counts that a job held its thread, whether it computed or not, and what is kept warm is
    /// kept aside.
    waits: bool,
    /// In place of threads, for a simulation.
    #[cfg(test)]
    stepped: Option<Mutex<WorkerState>>,
}

impl Shared {
    fn new(threads: usize, quotas: Arc<Quotas>, warm: Arc<WarmChains>) -> Shared {
        Shared {
            queues: Mutex::new(Queues::new(threads, quotas)),
            ready: Condvar::new(),
            needed: Condvar::new(),
            warm,
            waits: false,
            #[cfg(test)]
            stepped: None,
        }
    }

    /// For the threads of one tenant.
    fn of_waiting(quotas: Arc<Quotas>, warm: Arc<WarmChains>) -> Shared {
        let shared = Shared::new(waiting::THREADS, quotas, warm);
        shared.lock().lane_max = waiting::THREADS_OF_LANE;
        Shared { waits: true, ..shared }
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
        let warm = Arc::new(WarmChains::new(bounds));
        let waiting = Waiting::new(Arc::clone(&quotas), Arc::clone(&warm));
        let shared = Arc::new(Shared::new(count, quotas, warm));
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
        let shared =
            Shared { stepped: Some(Mutex::default()), ..Shared::new(1, Arc::default(), Arc::default()) };
        let waiting = Waiting::new(Arc::default(), Arc::default());
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
    /// the thread, and they wait no longer than until it is over.
    pub(crate) fn submit_slice(
        &self,
        tenant: &TenantId,
        lane: LaneId,
        chain: &Chain,
        over: &CancellationToken,
        job: impl FnOnce(&mut WorkerState) + Send + 'static,
    ) {
        if !chain.waits() {
            return self.submit(tenant, lane, job);
        }
        let over = over.clone();
        let job = move |worker: &mut WorkerState| network::until(over, || job(worker));
        if let Err((error, job)) = self.waiting.submit(tenant, lane, Box::new(job)) {
            tracing::error!(tenant = &**tenant, %error, "threads for plugins that wait cannot be started, the shared ones wait");
            self.submit(tenant, lane, job);
        }
    }

    /// How many slices of this chain run at a time at most.
    pub(crate) fn width(&self, chain: &Chain) -> usize {
        if chain.waits() { waiting::THREADS } else { self.count() }
    }

    /// How many threads run jobs, at least one.
    pub(crate) fn count(&self) -> usize {
        // Half of its threads stand by.
        (self.threads.len() / 2).max(1)
    }

    /// Quotas have changed: who had to wait may run now.
    pub(crate) fn look_again(&self) {
        // Whoever has looked at them under the lock waits by then.
        drop(self.shared.lock());
        self.shared.ready.notify_all();
        self.waiting.look_again();
    }

    /// Ends a lane: what is queued in it is dropped, and what is kept warm for it.
    pub(crate) fn retire(&self, lane: LaneId) {
        let removed = self.shared.lock().retire(lane);
        // Behind the lock.
        drop(removed);
        // Who is left alone may have all threads.
        self.shared.ready.notify_all();
        self.waiting.retire(lane);
        self.shared.warm.forget(lane);
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
    let mut state = WorkerState::new(&shared.warm);
    loop {
        let mut unwatched = false;
        let taken = {
            let mut queues = shared.lock();
            match queues.next(quotas::now(), false) {
                Next::Run(taken) => {
                    // It may be the last thread that waited, and more is queued.
                    unwatched = queues.is_unwatched();
                    Some(taken)
                }
                Next::Wait(_) if queues.closed => return,
                Next::Wait(soonest) => {
                    let look = (!shared.warm.is_empty()).then_some(Duration::from_nanos(LOOK_NS));
                    wait(shared, queues, soonest.into_iter().chain(look).min());
                    None
                }
            }
        };
        if unwatched {
            shared.needed.notify_one();
        }
        shared.warm.expire(quotas::now());
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
        *state = WorkerState::new(&shared.warm);
    }
    if std::mem::take(&mut state.waited) {
        // Who makes the thread wait holds it as much as who computes on it.
        shared.lock().held(&tenant, nanos(began.elapsed()));
    }
    let elsewhere = nanos(std::mem::take(&mut state.elsewhere));
    let spent = thread_cpu_ns().saturating_sub(before).saturating_add(elsewhere);
    let now_ns = quotas::now();
    quota.charge_cpu(spent, now_ns);
    let spent = if shared.waits { spent.max(nanos(began.elapsed())) } else { spent };
    state.put_back(&quota, shared.waits, now_ns);
    let mut queues = shared.lock();
    let others_may = queues.done(&tenant, lane, ticket, spent);
    let is_there = queues.owners.contains_key(&lane);
    drop(queues);
    if others_may {
        // Other threads may have passed over tenants that may run now.
        shared.ready.notify_all();
    }
    if !is_there {
        // The lane was retired meanwhile.
        shared.warm.forget(lane);
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
