//! The composition root: one host, from settings to running streams.
//!
//! Start, in this order: plugins and chains (what is wrong with the configuration shows here, before anything on disk
//! changes), journal, streams, sources, HTTP. The way back is in `ending`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use wasmill_buffer::Journal;
use wasmill_catalog::{Catalog, CatalogStats, PluginState};
use wasmill_config::{self as config, Settings};
use wasmill_deliver::{BatchOwner, SyncCount};
use wasmill_transform::Engine;

use super::delivery;
use super::history::{Replays, Shop, Source};
use super::inlet::Inlet;
use super::journal::{journal_options, report};
use super::letters::DeadLetters;
use super::letters_output;
use super::opening::{
    OpenStream, Opening, StartError, first_chains, in_order, make_directory, on_guest_thread, open_plugins,
};
use super::output_problems::output_problems;
use super::plan::{ChainPlan, FirstChain, GivenPlugins};
use super::probe;
use super::readiness::Looks;
use super::reload::{Reloader, Reloading, Requests};
use super::shadow;
use super::sources::{self, with_causes};
use super::stats::StreamStats;
use super::stream::{Parts, StreamTask};
use super::versions::VersionsDesk;
use super::workers::Workers;
use crate::api;

/// Batches that a delivery task has been handed and has not taken.
const HANDED_OVER_MAX: usize = 64;
/// Batches that were finished and that the stream has not noted.
const FINISHED_MAX: usize = 256;

/// What a host needs besides its settings.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// The program that has the hidden subcommand `compile-plugin`: usually this one.
    pub compiler: PathBuf,
}

/// A running host. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) streams: Vec<Arc<StreamStats>>,
    pub(super) inlets: BTreeMap<String, Arc<Inlet>>,
    pub(super) letters: BTreeMap<String, Arc<DeadLetters>>,
    pub(super) replays: Replays,
    pub(super) catalog: Catalog,
    pub(super) versions: VersionsDesk,
    pub(super) journal: Journal,
    pub(super) looks: Looks,
    pub(super) syncs: SyncCount,
    http: Option<SocketAddr>,
    tcp: BTreeMap<String, SocketAddr>,
    /// Sources and the listener.
    pub(super) stop_intake: CancellationToken,
    /// Requests that had begun are answered: nothing is pushed any more.
    pub(super) pushes_over: CancellationToken,
    /// Deliveries are cut off.
    pub(super) stop: CancellationToken,
    /// Names of the streams whose task has not ended.
    pub(super) running: watch::Receiver<Vec<String>>,
    /// Streams and sources that ended with an error.
    failed: Arc<Mutex<Vec<String>>>,
    pub(super) tasks: Mutex<JoinSet<()>>,
    /// Deliveries of dead letters, and when they end.
    pub(super) letters_tasks: Mutex<JoinSet<()>>,
    pub(super) letters_until: letters_output::Until,
    pub(super) listener: Mutex<Option<JoinHandle<()>>>,
    pub(super) reloader: Mutex<Option<Reloader>>,
}

impl Host {
    /// Opens everything and starts it. When it returns, sources are being read and pushes are taken.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn start(settings: Settings, options: HostOptions) -> Result<Host, StartError> {
        Host::start_with(settings, options, GivenPlugins::default()).await
    }

    /// The same, with plugins that are handed in: those names are not looked for in the plugin directory.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn start_with(
        settings: Settings,
        options: HostOptions,
        given: GivenPlugins,
    ) -> Result<Host, StartError> {
        make_directory(&settings.data_dir)?;
        if settings.streams.iter().all(|stream| stream.transforms.is_empty()) {
            // Nobody misses a directory from which nobody wants anything.
            make_directory(&settings.plugin_dir)?;
        }
        let mut problems = output_problems(&settings, &|_| true);
        let (job_settings, job_options, job_given) = (settings.clone(), options, Arc::clone(&given));
        let (engine, catalog, chains) = on_guest_thread(move || {
            let data_dir = &job_settings.data_dir;
            let (engine, catalog) = open_plugins(&job_settings, data_dir, &job_options, &job_given)?;
            let chains = first_chains(&job_settings, &engine, &catalog, &job_given);
            Ok::<_, StartError>((engine, catalog, chains))
        })
        .await??;
        let chains = chains.unwrap_or_else(|found| {
            problems.extend(found);
            Vec::new()
        });
        if !problems.is_empty() {
            return Err(StartError::Invalid(in_order(problems)));
        }
        let (dir, buffer) = (settings.data_dir.clone(), settings.buffer.clone());
        let opened = tokio::task::spawn_blocking(move || Journal::open(&dir, journal_options(&buffer))).await;
        let (journal, recovery) =
            opened.map_err(|error| StartError::Thread(std::io::Error::other(error)))??;
        report(&recovery, &settings);
        let workers = Arc::new(Workers::start(settings.workers).map_err(StartError::Thread)?);
        let syncs = SyncCount::default();
        let shadows = shadow::start().map_err(StartError::Thread)?;
        let opening = Opening {
            settings: &settings,
            journal: &journal,
            workers: &workers,
            syncs: &syncs,
            shadows: &shadows,
        };
        let mut opened = Vec::with_capacity(settings.streams.len());
        for (number, stream) in settings.streams.iter().enumerate() {
            opened.push(opening.stream(number, stream).await?);
        }
        let mut starting = Starting::new(settings.workers);
        for ((stream, open), chain) in settings.streams.iter().zip(opened).zip(chains) {
            starting.stream(stream, open, chain, &given, (&engine, &catalog)).await?;
        }
        let listener = match settings.http.listen {
            Some(address) => Some(TcpListener::bind(address).await.map_err(|error| StartError::Listen {
                what: "HTTP".to_owned(),
                address,
                error,
            })?),
            None => None,
        };
        let http = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let watching = catalog.clone();
        let watching = tokio::task::spawn_blocking(move || watching.start_watching()).await;
        watching.map_err(|error| StartError::Thread(std::io::Error::other(error)))??;
        let reloader = std::mem::replace(&mut starting.requests, Requests::new());
        let reloading = std::mem::take(&mut starting.reloading);
        let versions = VersionsDesk {
            catalog: catalog.clone(),
            decider: reloader.decider(),
            shadows: reloading.iter().map(|stream: &Reloading| Arc::clone(&stream.shadows)).collect(),
        };
        let reloader =
            reloader.start(engine.clone(), catalog.clone(), reloading).map_err(StartError::Thread)?;
        let replays = Replays::new(Shop {
            settings: settings.clone(),
            engine,
            catalog: catalog.clone(),
            workers,
            syncs: syncs.clone(),
            sources: std::mem::take(&mut starting.histories),
        });
        let host = starting.run(journal, (catalog, versions), replays, syncs, http, reloader);
        if let Some(listener) = listener {
            host.serve(listener, &settings.http);
        }
        Ok(host)
    }

    fn serve(&self, listener: TcpListener, http: &config::Http) {
        let limits = api::ApiLimits {
            max_body: http.max_body,
            max_record: http.max_record,
            max_records: http.max_records,
            read_timeout: http.read_timeout,
            max_plugin: self.inner.catalog.wasm_bytes_max(),
            plugin_uploads: http.plugin_uploads,
        };
        let router = api::router(Arc::new(self.clone()), limits);
        let stop = self.inner.stop_intake.clone().cancelled_owned();
        let limits =
            api::ListenLimits { max_connections: http.max_connections, head_timeout: http.read_timeout };
        let served = tokio::spawn(api::serve(listener, limits, router, stop));
        *self.inner.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(served);
    }

    /// Where pushes are taken; `None` when the listener is off.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.inner.http
    }

    /// Where a TCP source listens.
    pub fn tcp_address(&self, stream: &str) -> Option<SocketAddr> {
        self.inner.tcp.get(stream).copied()
    }

    /// Counters of every stream, in the order of their names.
    pub fn stats(&self) -> Vec<Arc<StreamStats>> {
        self.inner.streams.clone()
    }

    pub fn journal_stats(&self) -> wasmill_buffer::Stats {
        self.inner.journal.stats()
    }

    /// Syncs of staged files and destination directories.
    pub fn destination_syncs(&self) -> u64 {
        self.inner.syncs.get()
    }

    pub fn plugins(&self) -> Vec<PluginState> {
        self.inner.catalog.plugins()
    }

    pub fn catalog_stats(&self) -> CatalogStats {
        self.inner.catalog.counters()
    }

    /// Sources and streams that ended with an error, as text.
    pub fn failures(&self) -> Vec<String> {
        self.inner.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A host in the making.
struct Starting {
    workers: usize,
    requests: Requests,
    reloading: Vec<Reloading>,
    streams: Vec<Arc<StreamStats>>,
    inlets: BTreeMap<String, Arc<Inlet>>,
    letters: BTreeMap<String, Arc<DeadLetters>>,
    letters_tasks: Vec<LettersTask>,
    letters_until: letters_output::Until,
    histories: BTreeMap<String, Source>,
    tcp: BTreeMap<String, SocketAddr>,
    stop_intake: CancellationToken,
    pushes_over: CancellationToken,
    stop: CancellationToken,
    ready: Vec<ReadyStream>,
}

/// A stream whose task, deliveries and source can start.
struct ReadyStream {
    name: String,
    stats: Arc<StreamStats>,
    task: StreamTask,
    probes: Vec<Probe>,
    deliveries: Vec<StartDelivery>,
    source: sources::Opened,
    /// Ends the source.
    stop: CancellationToken,
    /// Cancelled when the source has ended.
    drain: CancellationToken,
}

type Probe = Pin<Box<dyn Future<Output = ()> + Send>>;
type LettersTask = Pin<Box<dyn Future<Output = ()> + Send>>;
type StartDelivery = Box<dyn FnOnce() -> JoinHandle<()> + Send>;

impl Starting {
    fn new(workers: usize) -> Starting {
        Starting {
            workers,
            requests: Requests::new(),
            reloading: Vec::new(),
            streams: Vec::new(),
            inlets: BTreeMap::new(),
            letters: BTreeMap::new(),
            letters_tasks: Vec::new(),
            letters_until: letters_output::Until::default(),
            histories: BTreeMap::new(),
            tcp: BTreeMap::new(),
            stop_intake: CancellationToken::new(),
            pushes_over: CancellationToken::new(),
            stop: CancellationToken::new(),
            ready: Vec::new(),
        }
    }

    async fn stream(
        &mut self,
        stream: &config::Stream,
        open: OpenStream,
        chain: FirstChain,
        given: &GivenPlugins,
        (engine, catalog): (&Engine, &Catalog),
    ) -> Result<(), StartError> {
        let OpenStream { context, standing } = open;
        let stats = Arc::clone(&context.stats);
        if chain.fell_back {
            stats.reloads_refused.add(1);
        }
        let (chains, chains_seen) = watch::channel(Arc::new(chain.version));
        let (replays, replays_seen) = mpsc::channel(1);
        let letters = DeadLetters {
            context: context.clone(),
            plan: Arc::new(ChainPlan::of(stream, given)),
            engine: engine.clone(),
            catalog: catalog.clone(),
            chains: chains_seen.clone(),
            replays,
            replaying: Arc::default(),
        };
        self.letters.insert(stream.name.clone(), Arc::new(letters));
        let history = Source { buffer: context.buffer.clone(), plan: ChainPlan::of(stream, given) };
        self.histories.insert(stream.name.clone(), history);
        let demoter = self.requests.demoter(self.reloading.len());
        self.reloading.push(Reloading {
            plan: ChainPlan::of(stream, given),
            chains,
            stats: Arc::clone(&stats),
            shadows: Arc::clone(&context.shadows),
            refused: chain.refused,
        });
        let inlet = match stream.source {
            config::Source::Http => Inlet::for_push(context.buffer.clone(), Arc::clone(&stats)),
            _ => Inlet::for_source(context.buffer.clone(), Arc::clone(&stats)),
        };
        let inlet = Arc::new(inlet);
        let source = sources::open(&stream.source, Arc::clone(&inlet)).await.map_err(|error| {
            let address = match &stream.source {
                config::Source::Tcp(tcp) => tcp.listen,
                _ => SocketAddr::from(([0, 0, 0, 0], 0)),
            };
            StartError::Listen { what: format!("stream {:?}", stream.name), address, error }
        })?;
        if matches!(source, sources::Opened::Push) {
            self.inlets.insert(stream.name.clone(), inlet);
        }
        if let Some(address) = source.address() {
            self.tcp.insert(stream.name.clone(), address);
        }
        if let Some(source_stats) = source.stats() {
            // A new cell: nobody else sets it.
            let _first = stats.source.set(source_stats);
        }
        let (finished, finished_seen) = mpsc::channel(FINISHED_MAX);
        let mut outputs = Vec::with_capacity(context.outputs.len());
        let mut deliveries: Vec<StartDelivery> = Vec::new();
        for number in 0..context.outputs.len() {
            let (ready, ready_seen) = mpsc::channel(HANDED_OVER_MAX);
            outputs.push(ready);
            let run = delivery::run(context.clone(), number, ready_seen, finished.clone(), self.stop.clone());
            deliveries.push(Box::new(move || tokio::spawn(run)));
        }
        let mut probes: Vec<Probe> = Vec::new();
        for number in 0..context.outputs.len() {
            let context = context.clone();
            probes.push(Box::pin(async move {
                let output = &context.outputs[number];
                let owner = BatchOwner::new(context.buffer.incarnation(), &output.name);
                probe::ask(&context.name, output, &owner).await;
            }));
        }
        if let Some(own) = context.letters_output.clone() {
            let run = letters_output::run(context.clone(), own.clone(), self.letters_until.clone());
            self.letters_tasks.push(Box::pin(run));
            let (stream, owner) = (context.name.clone(), letters_output::owner(&context));
            probes.push(Box::pin(async move { probe::ask(&stream, &own.output, &owner).await }));
        }
        let pushed = matches!(source, sources::Opened::Push);
        let stop = if pushed { self.pushes_over.clone() } else { self.stop_intake.clone() };
        let drain = CancellationToken::new();
        let parts = Parts {
            context,
            chains: chains_seen,
            demoter,
            outputs,
            finished: finished_seen,
            drain: drain.clone(),
            stopping: self.stop_intake.clone(),
            slices_max: self.workers + 2,
            replays: replays_seen,
        };
        let task = StreamTask::new(parts, standing);
        self.streams.push(stats.clone());
        self.ready.push(ReadyStream {
            name: stream.name.clone(),
            stats,
            task,
            probes,
            deliveries,
            source,
            stop,
            drain,
        });
        Ok(())
    }

    fn run(
        self,
        journal: Journal,
        (catalog, versions): (Catalog, VersionsDesk),
        replays: Replays,
        syncs: SyncCount,
        http: Option<SocketAddr>,
        reloader: Reloader,
    ) -> Host {
        let (running, running_seen) =
            watch::channel(self.ready.iter().map(|ready| ready.name.clone()).collect());
        let running = Arc::new(running);
        let failed = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for ready in self.ready {
            tasks.spawn(run_stream(ready, running.clone(), failed.clone()));
        }
        let letters_tasks = self.letters_tasks.into_iter().collect();
        let inner = Inner {
            streams: self.streams,
            inlets: self.inlets,
            letters: self.letters,
            replays,
            catalog,
            versions,
            journal,
            looks: Looks::default(),
            syncs,
            http,
            tcp: self.tcp,
            stop_intake: self.stop_intake,
            pushes_over: self.pushes_over,
            stop: self.stop,
            running: running_seen,
            failed,
            tasks: Mutex::new(tasks),
            letters_tasks: Mutex::new(letters_tasks),
            letters_until: self.letters_until,
            listener: Mutex::new(None),
            reloader: Mutex::new(Some(reloader)),
        };
        Host { inner: Arc::new(inner) }
    }
}

/// One stream from start to end: its deliveries, its task and its source.
async fn run_stream(
    ready: ReadyStream,
    running: Arc<watch::Sender<Vec<String>>>,
    failed: Arc<Mutex<Vec<String>>>,
) {
    let ReadyStream { name, stats, task, probes, deliveries, source, stop, drain } = ready;
    let fail = |text: String| failed.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    let _probes: Vec<AbortOnDrop<()>> =
        probes.into_iter().map(|probe| AbortOnDrop(tokio::spawn(probe))).collect();
    let deliveries: Vec<AbortOnDrop<()>> = deliveries.into_iter().map(|start| AbortOnDrop(start())).collect();
    let mut source = AbortOnDrop(source.start(stop));
    let mut task = AbortOnDrop(tokio::spawn(task.run()));
    let mut source_runs = true;
    let ended = loop {
        tokio::select! {
            ended = &mut task.0 => break ended,
            ended = &mut source.0, if source_runs => {
                source_runs = false;
                if let Ok(Err(error)) = &ended {
                    tracing::error!(stream = %name, error, "source ended early");
                    fail(format!("source of {name}: {error}"));
                }
                stats.source_ended.store(true, Ordering::Relaxed);
                // What it brought is delivered, then the stream has ended too.
                drain.cancel();
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
    running.send_modify(|names| names.retain(|running| *running != name));
}

/// A task that does not outlive its owner.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
