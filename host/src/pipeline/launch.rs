//! Makes a running stream of one that was opened: its sources, its chain's followers, its tasks.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use wasmill_buffer::StreamKey;
use wasmill_config as config;
use wasmill_deliver::BatchOwner;

use super::delivery;
use super::history::Source;
use super::letters::DeadLetters;
use super::letters_output;
use super::live::{LiveStream, Stops, Tasks};
use super::opening::{OpenStream, Opening, StartError};
use super::plan::{ChainPlan, FirstChain};
use super::probe;
use super::reload::Reloading;
use super::sources::{OpenSource, OpenSources, with_causes};
use super::stats::StreamStats;
use super::stream::{Parts, StreamTask};
use super::tables::StateDesk;
use super::tenants::Tenant;

/// Batches that a delivery task has been handed and has not taken.
const HANDED_OVER_MAX: usize = 64;
/// Batches that were finished and that the stream has not noted.
const FINISHED_MAX: usize = 256;

/// What goes on.
#[derive(Default)]
pub(super) struct Activity {
    /// Streams whose task has not ended.
    pub(super) running: BTreeSet<StreamKey>,
    /// Streams that are being added, changed or removed.
    pub(super) changing: usize,
}

/// What the host hears of its streams.
#[derive(Clone, Default)]
pub(super) struct Reports {
    pub(super) activity: Arc<watch::Sender<Activity>>,
    /// What ended with an error, of streams that are still to run.
    failed: Arc<Mutex<Vec<(StreamKey, String)>>>,
}

/// A stream whose task, deliveries and sources can start.
pub(super) struct ReadyStream {
    live: LiveStream,
    buffer: wasmill_buffer::Stream,
    reloading: Reloading,
    task: StreamTask,
    probes: Vec<Probe>,
    deliveries: Vec<StartDelivery>,
    letters: Option<LettersTask>,
    sources: Vec<OpenSource>,
    /// Those of the stream, of which sources have theirs.
    stops: Stops,
    /// Cancelled when all sources have ended.
    drain: CancellationToken,
}

type Probe = Pin<Box<dyn Future<Output = ()> + Send>>;
type LettersTask = Pin<Box<dyn Future<Output = ()> + Send>>;
type StartDelivery = Box<dyn FnOnce() -> JoinHandle<()> + Send>;

impl Opening {
    /// Opens the sources of a stream, which nothing reads yet, and prepares everything else.
    pub(super) async fn prepare(
        &self,
        stream: &config::Stream,
        open: OpenStream,
        chain: FirstChain,
        tenant: &Tenant,
        stops: Stops,
    ) -> Result<ReadyStream, StartError> {
        let OpenStream { context, standing } = open;
        let Some(reloader) = tenant.reloader() else { return Err(StartError::Stopping) };
        let stats = Arc::clone(&context.stats);
        if chain.fell_back {
            stats.reloads_refused.add(1);
        }
        let (chains, chains_seen) = watch::channel(Arc::new(chain.version));
        let (replays, replays_seen) = mpsc::channel(1);
        let plan = ChainPlan::of(stream, &self.given, &tenant.catalog);
        let plan = plan.within(Arc::clone(&context.quota)).following();
        let state =
            StateDesk { context: context.clone(), chains: chains_seen.clone(), replays: replays.clone() };
        let letters = DeadLetters {
            context: context.clone(),
            plan: Arc::new(plan.clone()),
            engine: self.engine.clone(),
            catalog: tenant.catalog.clone(),
            chains: chains_seen.clone(),
            replays,
            replaying: Arc::default(),
        };
        let history = Source {
            settings: stream.clone(),
            buffer: context.buffer.clone(),
            plan: plan.clone(),
            catalog: tenant.catalog.clone(),
        };
        let reloading = Reloading {
            lane: context.lane,
            plan,
            chains,
            stats: Arc::clone(&stats),
            shadows: Arc::clone(&context.shadows),
            refused: chain.refused,
        };
        let sources = OpenSources::open(stream, &context).await.map_err(|(address, error)| {
            StartError::Listen { what: format!("stream {:?}", stats.label()), address, error }
        })?;
        // A new cell: nobody else sets it.
        let _first = stats.sources.set(sources.counters.clone());
        let (finished, finished_seen) = mpsc::channel(FINISHED_MAX);
        let mut outputs = Vec::with_capacity(context.outputs.len());
        let mut deliveries: Vec<StartDelivery> = Vec::new();
        let mut probes: Vec<Probe> = Vec::new();
        for number in 0..context.outputs.len() {
            let (ready, ready_seen) = mpsc::channel(HANDED_OVER_MAX);
            outputs.push(ready);
            let stop = stops.deliveries.clone();
            let run = delivery::run(context.clone(), number, ready_seen, finished.clone(), stop);
            deliveries.push(Box::new(move || tokio::spawn(run)));
            let context = context.clone();
            probes.push(Box::pin(async move {
                let output = &context.outputs[number];
                let owner = BatchOwner::new(context.buffer.incarnation(), &output.name);
                probe::ask(&context.label(), output, &owner).await;
            }));
        }
        let mut letters_task: Option<LettersTask> = None;
        if let Some(own) = context.letters_output.clone() {
            let run = letters_output::run(context.clone(), own.clone(), stops.letters.clone());
            letters_task = Some(Box::pin(run));
            let (stream, owner) = (context.label(), letters_output::owner(&context));
            probes.push(Box::pin(async move { probe::ask(&stream, &own.output, &owner).await }));
        }
        let drain = CancellationToken::new();
        let parts = Parts {
            context: context.clone(),
            chains: chains_seen,
            demoter: reloader.demoter(context.lane),
            outputs,
            finished: finished_seen,
            drain: drain.clone(),
            stopping: stops.intake.clone(),
            slices_max: self.settings.workers + 2,
            replays: replays_seen,
        };
        let live = LiveStream {
            key: context.buffer.key().clone(),
            settings: stream.clone(),
            stats,
            shadows: Arc::clone(&context.shadows),
            inlet: sources.pushes.clone(),
            letters: Arc::new(letters),
            state: Arc::new(state),
            history: Arc::new(history),
            tcp: sources.address(),
            lane: context.lane,
            stops: stops.clone(),
            tasks: Tasks::default(),
        };
        let task = StreamTask::new(parts, standing);
        Ok(ReadyStream {
            live,
            buffer: context.buffer.clone(),
            reloading,
            task,
            probes,
            deliveries,
            letters: letters_task,
            sources: sources.sources,
            stops,
            drain,
        })
    }
}

impl ReadyStream {
    /// Starts it.
    pub(super) async fn launch(self, tenant: &Tenant, reports: &Reports) -> Arc<LiveStream> {
        let ReadyStream { live, buffer, reloading, task, probes, deliveries, letters, sources, stops, drain } =
            self;
        if let Some(reloader) = tenant.reloader() {
            reloader.add(reloading).await;
        }
        let live = Arc::new(live);
        reports.forget(&live.key);
        reports.activity.send_modify(|activity| {
            activity.running.insert(live.key.clone());
        });
        let running = Running {
            gone: Gone { key: live.key.clone(), activity: Arc::clone(&reports.activity) },
            stats: Arc::clone(&live.stats),
            buffer,
            task,
            probes,
            deliveries,
            sources,
            stops,
            drain,
            reports: reports.clone(),
        };
        let put = |place: &Mutex<Option<JoinHandle<()>>>, task| {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        };
        put(&live.tasks.run, tokio::spawn(running.run()));
        if let Some(letters) = letters {
            put(&live.tasks.letters, tokio::spawn(letters));
        }
        live
    }
}

/// One stream from start to end: its deliveries, its task and its sources.
struct Running {
    /// However it ends.
    gone: Gone,
    stats: Arc<StreamStats>,
    buffer: wasmill_buffer::Stream,
    task: StreamTask,
    probes: Vec<Probe>,
    deliveries: Vec<StartDelivery>,
    sources: Vec<OpenSource>,
    stops: Stops,
    drain: CancellationToken,
    reports: Reports,
}

impl Running {
    async fn run(self) {
        let Running { gone, stats, buffer, task, probes, deliveries, sources, stops, drain, reports } = self;
        let name = stats.label();
        let fail = |text: String| reports.fail(&gone.key, text);
        let _probes: Vec<AbortOnDrop<()>> =
            probes.into_iter().map(|probe| AbortOnDrop(tokio::spawn(probe))).collect();
        let deliveries: Vec<AbortOnDrop<()>> =
            deliveries.into_iter().map(|start| AbortOnDrop(start())).collect();
        // They do not outlive it.
        let mut running = JoinSet::new();
        for OpenSource { name, opened } in sources {
            let stop = if opened.is_pushed_to() { stops.pushes.clone() } else { stops.intake.clone() };
            let (buffer, stats) = (buffer.clone(), Arc::clone(&stats));
            running.spawn(async move {
                let ended = opened.run(stop.clone()).await;
                let of = stats.sources().find(|source| source.name == name);
                // One that is stopped has more to bring.
                if let Some(of) = of.filter(|_| !stop.is_cancelled()) {
                    let _first = of.ended.set(buffer.next_offset());
                }
                (name, ended)
            });
        }
        let mut task = AbortOnDrop(tokio::spawn(task.run()));
        let ended = loop {
            tokio::select! {
                ended = &mut task.0 => break ended,
                Some(ended) = running.join_next(), if !running.is_empty() => {
                    if let Ok((source, Err(error))) = ended {
                        let source = source.map_or("source".to_owned(), |source| format!("source {source:?}"));
                        tracing::error!(stream = %name, source, error, "source ended early");
                        fail(format!("{source} of {name}: {error}"));
                    }
                    if running.is_empty() {
                        stats.source_ended.store(true, Ordering::Relaxed);
                        // What they brought is delivered, then the stream has ended too.
                        drain.cancel();
                    }
                }
            }
        };
        match ended {
            Ok(Ok(())) => tracing::info!(stream = %name, "stream has ended"),
            Ok(Err(error)) => {
                tracing::error!(stream = %name, error = &error as &dyn std::error::Error, "stream ended early");
                fail(format!("stream {name}: {}", with_causes(&error)));
            }
            Err(error) => {
                tracing::error!(stream = %name, %error, "stream task ended early");
                fail(format!("stream {name}: {error}"));
            }
        }
        for mut delivery in deliveries {
            // They end by themselves once the stream's task has; a panic was logged there.
            let _panicked = (&mut delivery.0).await;
        }
    }
}

/// Takes a stream off the list of those that run.
struct Gone {
    key: StreamKey,
    activity: Arc<watch::Sender<Activity>>,
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.activity.send_modify(|activity| {
            activity.running.remove(&self.key);
        });
    }
}

/// For as long as it lives, a stream is being added, changed or removed.
pub(super) struct Change(Arc<watch::Sender<Activity>>);

impl Reports {
    pub(super) fn failures(&self) -> Vec<String> {
        self.failed().iter().map(|(_, text)| text.clone()).collect()
    }

    pub(super) fn fail(&self, stream: &StreamKey, text: String) {
        self.failed().push((stream.clone(), text));
    }

    /// A stream that is opened anew, or gone, has failed no more.
    pub(super) fn forget(&self, stream: &StreamKey) {
        self.failed().retain(|(failed, _)| failed != stream);
    }

    fn failed(&self) -> MutexGuard<'_, Vec<(StreamKey, String)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self) -> Change {
        self.activity.send_modify(|activity| activity.changing += 1);
        Change(Arc::clone(&self.activity))
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.0.send_modify(|activity| activity.changing -= 1);
    }
}

/// A task that does not outlive its owner.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
