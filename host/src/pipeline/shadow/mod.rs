//! Shadows: a candidate version of a plugin beside the live one, on the same slices of a stream; what it makes of them is
//! compared and thrown away.
//!
//! All shadows of a host share one thread with a low priority and a short queue. It takes a slice when the live outcome is
//! made, from whoever made it, and never makes anybody wait: with a full queue the slice is skipped and counted. What the
//! candidate makes goes nowhere but into a bounded report, neither do its dead letters and log lines, and none of its requests
//! is sent; a candidate that cannot finish its slices is stopped and says so.

mod compare;
mod report;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmill_catalog::ShadowOf;
use wasmill_transform::{Chain, ChainOptions, Digest, LogSink, Plugin, TransformReport, WORKER_STACK_BYTES};

use self::compare::{Made, compare};
use self::report::Lines;
pub use self::report::{Cost, Difference, Sample, ShadowReport, Slices};
use super::fate::failed;
use super::plan::ChainVersion;
use super::sink::Trace;
use super::slice::{Cut, Done, Growth, Route};
use super::workers::{LaneId, WorkerState};

/// Slices that wait, of all shadows and of one: each holds its records and what the live version made of them.
const QUEUE_MAX: usize = 8;
const WAITING_MAX: u32 = 2;
/// CPU time for one slice; the live version takes a few percent of it for the largest one.
const SLICE_CPU_MAX: Duration = Duration::from_secs(5);
/// Unfinished slices one after another that end a shadow.
const UNFINISHED_MAX: u32 = 3;
/// How long an idle thread keeps a candidate's instances.
const WARM_FOR: Duration = Duration::from_secs(2);
/// Lower than everything else in the process.
const NICE: i32 = 15;
/// Lanes of the shadows' thread.
const LANE: LaneId = 1 << 62;

/// The shadows of one stream.
pub(crate) struct StreamShadows {
    /// Plugins that the stream follows.
    plugins: Vec<String>,
    queue: SyncSender<Task>,
    shadows: Mutex<Vec<Arc<Shadow>>>,
}

/// One candidate beside one version of a stream's chain.
pub(crate) struct Shadow {
    plugin: String,
    of: ShadowOf,
    /// Of the chain that it is beside.
    generation: u64,
    candidate: Option<Candidate>,
    /// The stream's task and its workers touch no more than this and the numbers below: the thread holds the report's
    /// lock while it compares, and has a low priority.
    turn: Mutex<Turn>,
    waiting: AtomicU32,
    seen: AtomicU64,
    skipped: AtomicU64,
    stopped: AtomicBool,
    report: Mutex<ShadowReport>,
}

/// A chain with the candidate in it.
pub(crate) struct Candidate {
    version: Arc<ChainVersion>,
    /// Of the plugin in the chain.
    places: Vec<usize>,
    lines: Arc<Lines>,
}

/// Which slices are compared.
#[derive(Default)]
struct Turn {
    /// In percent of a slice.
    credit: u32,
    /// Slices before this offset had their turn; some run again.
    up_to: u64,
}

/// A slice, and what the live version made of it.
pub(crate) struct Task {
    shadow: Arc<Shadow>,
    cut: Arc<Cut>,
    route: Route,
    live: Arc<Live>,
}

struct Live {
    trace: Trace,
    failed: Vec<(i64, String)>,
    transforms: Vec<TransformReport>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread; it ends with the last sender.
pub(crate) fn start() -> std::io::Result<SyncSender<Task>> {
    let (queue, tasks) = sync_channel(QUEUE_MAX);
    let thread =
        std::thread::Builder::new().name("shadows".to_owned()).stack_size(WORKER_STACK_BYTES + (4 << 20));
    // Nobody waits for it: it may have a guest in hand that takes its time, and nothing of it is kept.
    let _thread = thread.spawn(move || serve(&tasks))?;
    Ok(queue)
}

/// How a candidate's chain runs. It asks no servers: one thread would wait for all shadows, and what it is told would be
/// asked for twice.
pub(crate) fn candidate_options() -> ChainOptions {
    ChainOptions { slice_cpu_max: Some(SLICE_CPU_MAX), sends: false, ..ChainOptions::default() }
}

impl Candidate {
    pub(crate) fn new(
        chain: Arc<Chain>,
        plugins: Vec<Arc<Plugin>>,
        places: Vec<usize>,
        log: &CandidateLog,
    ) -> Candidate {
        let version = Arc::new(ChainVersion::new(0, chain, plugins));
        Candidate { version, places, lines: Arc::clone(&log.0) }
    }
}

impl StreamShadows {
    pub(crate) fn new(plugins: Vec<String>, queue: SyncSender<Task>) -> StreamShadows {
        StreamShadows { plugins, queue, shadows: Mutex::default() }
    }

    pub(crate) fn plugins(&self) -> &[String] {
        &self.plugins
    }

    pub(crate) fn get(&self) -> Vec<Arc<Shadow>> {
        locked(&self.shadows).clone()
    }

    pub(crate) fn put(&self, shadows: Vec<Arc<Shadow>>) {
        *locked(&self.shadows) = shadows;
    }

    pub(crate) fn reports(&self) -> Vec<ShadowReport> {
        self.get().iter().map(|shadow| shadow.report()).collect()
    }

    /// The shadows whose turn it is with a slice that the stream is about to run; asked once per slice, in order.
    pub(crate) fn turn(&self, generation: u64, from: u64, to: u64) -> Vec<Arc<Shadow>> {
        let shadows = locked(&self.shadows);
        shadows.iter().filter(|shadow| shadow.takes(generation, from, to)).cloned().collect()
    }

    /// Hands over a slice that was run with a trace; never waits.
    pub(crate) fn offer(
        &self,
        shadows: Vec<Arc<Shadow>>,
        cut: &Arc<Cut>,
        route: &Route,
        done: &mut Done,
    ) -> Offer<'_> {
        let trace = done.trace.take().filter(|_| done.unrunnable.is_none());
        let tasks = trace.map(|trace| {
            let live = Live { trace, failed: failed(done), transforms: done.transforms.clone() };
            let live = Arc::new(live);
            let task =
                |shadow| Task { shadow, cut: Arc::clone(cut), route: route.clone(), live: Arc::clone(&live) };
            shadows.into_iter().map(task).collect()
        });
        Offer { queue: &self.queue, tasks: tasks.unwrap_or_default() }
    }
}

/// A slice that can be handed over once its outcome is on its way.
#[must_use]
pub(crate) struct Offer<'a> {
    queue: &'a SyncSender<Task>,
    tasks: Vec<Task>,
}

impl Offer<'_> {
    pub(crate) fn send(self) {
        for task in self.tasks {
            let shadow = Arc::clone(&task.shadow);
            let full = shadow.waiting.fetch_add(1, Ordering::AcqRel) >= WAITING_MAX;
            if full || self.queue.try_send(task).is_err() {
                shadow.waiting.fetch_sub(1, Ordering::AcqRel);
                shadow.skipped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Shadow {
    /// Beside `live`, with the candidate's chain, or the reason why there is none.
    pub(crate) fn new(
        stream: &str,
        plugin: &str,
        of: ShadowOf,
        (live, generation): (Digest, u64),
        candidate: Result<Candidate, String>,
    ) -> Shadow {
        let mut report = ShadowReport::new(stream, plugin, live, of.digest, of.sample_percent);
        let candidate = candidate.and_then(|candidate| match candidate.version.chain.keeps_state() {
            // What it would have to see is that of the live version at each slice.
            true => {
                Err("the chain keeps state, which a candidate beside the live version cannot have yet"
                    .to_owned())
            }
            false => Ok(candidate),
        });
        let candidate = match candidate {
            Ok(candidate) => Some(candidate),
            Err(reason) => {
                report.stopped = Some(reason);
                None
            }
        };
        // So that the first slice is one of those that are compared.
        let turn = Turn { credit: 100 - u32::from(of.sample_percent.min(100)), ..Turn::default() };
        Shadow {
            plugin: plugin.to_owned(),
            of,
            generation,
            candidate,
            turn: Mutex::new(turn),
            waiting: AtomicU32::new(0),
            seen: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            stopped: AtomicBool::new(report.stopped.is_some()),
            report: Mutex::new(report),
        }
    }

    /// Whether it is still the one that is wanted.
    pub(crate) fn is(&self, plugin: &str, of: ShadowOf, generation: u64) -> bool {
        self.plugin == plugin && self.of == of && self.generation == generation
    }

    pub(crate) fn report(&self) -> ShadowReport {
        let mut report = locked(&self.report).clone();
        if let Some(candidate) = &self.candidate {
            report.log = candidate.lines.get();
        }
        report.slices.seen = self.seen.load(Ordering::Relaxed);
        report.slices.skipped = self.skipped.load(Ordering::Relaxed);
        report
    }

    fn stop(&self, reason: String) {
        self.stopped.store(true, Ordering::Relaxed);
        locked(&self.report).stopped = Some(reason);
    }

    fn takes(&self, generation: u64, from: u64, to: u64) -> bool {
        if self.generation != generation || self.stopped.load(Ordering::Relaxed) {
            return false;
        }
        let mut turn = locked(&self.turn);
        if from < turn.up_to {
            return false;
        }
        turn.up_to = to;
        self.seen.fetch_add(1, Ordering::Relaxed);
        turn.credit += u32::from(self.of.sample_percent);
        if turn.credit < 100 {
            return false;
        }
        turn.credit -= 100;
        true
    }
}

/// Where a candidate's log lines go.
#[derive(Default)]
pub(crate) struct CandidateLog(Arc<Lines>);

impl CandidateLog {
    pub(crate) fn sink(&self) -> Arc<dyn LogSink> {
        self.0.clone()
    }
}

fn serve(tasks: &Receiver<Task>) {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::warn!(%error, "shadows run with the priority of everything else");
    }
    let mut worker = WorkerState::default();
    let mut warm = None;
    loop {
        let task = match warm {
            Some(_) => tasks.recv_timeout(WARM_FOR),
            None => tasks.recv().map_err(|_gone| RecvTimeoutError::Disconnected),
        };
        let lane = task.as_ref().ok().map(|task| LANE | task.route.lane);
        // The instances of one candidate at a time: their number must not grow with that of the streams.
        if let Some(before) = warm.filter(|_| warm != lane) {
            worker.forget(before);
        }
        warm = lane;
        match task {
            Ok(task) => {
                task.shadow.waiting.fetch_sub(1, Ordering::AcqRel);
                if catch_unwind(AssertUnwindSafe(|| run(&task, LANE | task.route.lane, &mut worker))).is_err()
                {
                    tracing::error!(
                        plugin = task.shadow.plugin,
                        "comparing a shadow panicked; it is stopped"
                    );
                    task.shadow.stop("the host panicked while it compared".to_owned());
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn run(task: &Task, lane: LaneId, worker: &mut WorkerState) {
    let shadow = &task.shadow;
    let Some(candidate) = &shadow.candidate else { return };
    if shadow.stopped.load(Ordering::Relaxed) {
        return;
    }
    let version = Arc::clone(&candidate.version);
    let route =
        Route { version, lane, growth: Growth::default(), traced: true, backup: None, ..task.route.clone() };
    let done = task.cut.run(&route, None, worker);
    // A copy: whoever reads the report must not wait for a thread of so low a priority. Nobody else writes it.
    let mut report = locked(&shadow.report).clone();
    let name = |place: usize| candidate.version.transform(place);
    for (place, fault) in &done.faults {
        report.fault(&format!("{}: {fault}", name(*place)));
    }
    let Some(trace) = done.trace.as_ref().filter(|_| done.unrunnable.is_none()) else {
        let fault = done.unrunnable.as_ref().map(|(place, fault)| format!("{}: {fault}", name(*place)));
        let fault = fault.unwrap_or_default();
        report.fault(&fault);
        report.slices.unfinished += 1;
        report.unfinished_in_a_row += 1;
        if report.unfinished_in_a_row >= UNFINISHED_MAX {
            tracing::warn!(
                stream = report.stream, plugin = shadow.plugin, candidate = %report.candidate, reason = fault,
                "shadow stopped"
            );
            report.stopped =
                Some(format!("{UNFINISHED_MAX} slices one after another were not finished: {fault}"));
            shadow.stopped.store(true, Ordering::Relaxed);
            worker.forget(lane);
        }
        *locked(&shadow.report) = report;
        return;
    };
    report.unfinished_in_a_row = 0;
    let live = &task.live;
    report.slices.compared += 1;
    report.cost_live.add(&live.transforms, &candidate.places);
    report.cost_candidate.add(&done.transforms, &candidate.places);
    compare(
        &mut report,
        task.cut.records(),
        &Made { trace: &live.trace, failed: &live.failed },
        &Made { trace, failed: &failed(&done) },
    );
    *locked(&shadow.report) = report;
}
