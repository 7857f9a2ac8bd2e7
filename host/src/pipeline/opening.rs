//! Opens a host's streams: chains built and probed, outputs opened, what the journal has left read.
//!
//! What is wrong with the configuration is collected over all streams and reported at once, with places. Nothing
//! runs yet when this is done.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;
use wasmill_buffer::{Journal, Retention, StreamKey, StreamOptions};
use wasmill_catalog::{Catalog, CatalogError, CatalogOptions, PublicKey, SigningPolicy};
use wasmill_config::{self as config, DEFAULT_TENANT, Problem, Settings};
use wasmill_deliver::{Destination, Sent, SyncCount};
use wasmill_transform::{
    CompileLimits, Digest, Engine, EngineError, EngineOptions, ProcessOptions, WAITING_CHAIN_MAX,
    WORKER_STACK_BYTES,
};

use super::context::{Output, StreamContext};
use super::dead_letters::{Cursor, Store, StoreError};
use super::event_time::EventTime;
use super::firehose_stats::Receiver;
use super::host::HostOptions;
use super::letters_output::LettersOutput;
use super::outputs::{self, OpenError};
use super::plan::{ChainPlan, FirstChain, GivenPlugins};
use super::quotas::Quotas;
use super::recovery::{self, RecoveryError};
use super::shadow::{self, StreamShadows};
use super::sources::with_causes;
use super::staging::remove_spooled_of_others;
use super::state::{StateHouse, is_full};
use super::stats::StreamStats;
use super::strands::Parallel;
use super::stream::Standing;
use super::tenants::{self, Apart};
use super::workers::Workers;
use super::workers::waiting::ALL_THREADS;

/// Why a host does not start. Nothing was delivered, and nothing that is stored was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong; every problem that was found.
    #[error("{} in the configuration", counted_problems(.0.len()))]
    Invalid(Vec<Problem>),
    #[error("{action} {path}")]
    Directory {
        action: &'static str,
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("open the journal")]
    Journal(#[from] wasmill_buffer::OpenError),
    #[error("start the Wasm engine")]
    Engine(#[from] EngineError),
    #[error("open the plugin directory")]
    Catalog(#[from] CatalogError),
    #[error("open stream {stream:?} in the journal")]
    Stream {
        stream: String,
        #[source]
        error: wasmill_buffer::StreamError,
    },
    #[error("open output {output:?} of stream {stream:?}: {message}")]
    Output { stream: String, output: String, message: String },
    #[error("go on with stream {stream:?}")]
    Recovery {
        stream: String,
        #[source]
        error: RecoveryCause,
    },
    #[error("open the state of the transforms")]
    State(#[source] wasmill_state::StoreError),
    #[error("open the dead letters of stream {stream:?}")]
    DeadLetters {
        stream: String,
        #[source]
        error: StoreError,
    },
    #[error("listen on {address} for {what}")]
    Listen {
        what: String,
        address: SocketAddr,
        #[source]
        error: std::io::Error,
    },
    #[error("start a thread")]
    Thread(#[source] std::io::Error),
    #[error("the host is stopping")]
    Stopping,
}

/// As people say it.
pub(super) fn counted_problems(count: usize) -> String {
    format!("{count} problem{}", if count == 1 { "" } else { "s" })
}

/// What the journal says of a stream cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RecoveryCause(#[from] RecoveryError);

/// Runs guests on a thread that has the stack for it, and from which tasks of the caller's runtime can be started.
pub(crate) async fn on_guest_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StartError> {
    let (reply, done) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new()
        .name("probe".to_owned())
        .stack_size(WORKER_STACK_BYTES + (1 << 20))
        .spawn(move || {
            let _within = runtime.enter();
            // Nobody waits if the start was given up.
            drop(reply.send(work()));
        })
        .map_err(StartError::Thread)?;
    done.await.map_err(|_panicked| StartError::Thread(std::io::Error::other("the probing thread panicked")))
}

/// What `work` makes of each, in their order: on as many threads as there are processors, each with the stack that guests
/// need, as the calling thread has it. Blocks.
fn on_guest_threads<I: Sync, T: Send>(
    items: &[I],
    work: impl Fn(&I) -> T + Sync,
) -> Result<Vec<T>, StartError> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(items.len());
    if threads < 2 {
        return Ok(items.iter().map(work).collect());
    }
    let next = AtomicUsize::new(0);
    let turns = || {
        let mut made = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return made };
            made.push((index, work(item)));
        }
    };
    let mut made = std::thread::scope(|scope| {
        let start = || {
            let builder = std::thread::Builder::new().name("probe".to_owned());
            builder.stack_size(WORKER_STACK_BYTES + (1 << 20)).spawn_scoped(scope, turns)
        };
        let started: Vec<_> = (0..threads).map(|_| start()).collect();
        let mut made = Vec::with_capacity(items.len());
        for thread in started {
            let done = thread.map_err(StartError::Thread)?.join();
            made.extend(done.map_err(|_panicked| {
                StartError::Thread(std::io::Error::other("a probing thread panicked"))
            })?);
        }
        Ok::<_, StartError>(made)
    })?;
    made.sort_unstable_by_key(|(index, _)| *index);
    Ok(made.into_iter().map(|(_, made)| made).collect())
}

/// Catalogs by tenant.
pub(crate) type Catalogs = BTreeMap<String, Catalog>;

/// Starts the engine and opens the plugin directories of all tenants; whose plugins run apart. Blocks.
pub(crate) fn open_plugins(
    settings: &Settings,
    data_dir: &Path,
    options: &HostOptions,
    given: &GivenPlugins,
    quotas: &Quotas,
) -> Result<(Engine, Catalogs, Apart), StartError> {
    let transforms: usize = settings.streams.iter().map(|stream| stream.transforms.len()).sum();
    // What the threads run on which slices wait, whosever they are: nobody else must be without for them.
    let waiting = u32::try_from(ALL_THREADS * WAITING_CHAIN_MAX).unwrap_or(u32::MAX);
    // Warm ones per worker, as many again while versions change, and probes.
    let instances = (settings.workers + 2).saturating_mul(transforms).saturating_mul(2);
    let instances = u32::try_from(instances).unwrap_or(u32::MAX).saturating_add(waiting);
    // What is kept warm, and as many as run at a time besides.
    let least = settings.warm_instances.saturating_add(512).saturating_add(waiting);
    let least = EngineOptions::default().instances_max.max(least);
    let engine = Engine::new(EngineOptions {
        instances_max: instances.clamp(least, least.max(10_000)),
        ..EngineOptions::default()
    })?;
    let apart = Apart::default();
    let decided = apart.clone();
    engine.isolate(ProcessOptions::new(options.compiler.clone()), move |tenant| decided.is(tenant));
    let tenants = settings.tenants.iter().map(|tenant| tenant.name.as_str()).chain([DEFAULT_TENANT]);
    let tenants: Vec<&str> = tenants.collect();
    for tenant in &tenants {
        apart.decide(tenant, settings.isolation_of(tenant));
    }
    let opened = on_guest_threads(&tenants, |tenant| {
        open_catalog(&engine, settings, data_dir, options, given, (tenant, quotas))
    })?;
    let mut catalogs = Catalogs::new();
    for (tenant, catalog) in tenants.into_iter().zip(opened) {
        catalogs.insert(tenant.to_owned(), catalog?);
    }
    Ok((engine, catalogs, apart))
}

/// Opens the plugin directory of one tenant. Blocks.
pub(crate) fn open_catalog(
    engine: &Engine,
    settings: &Settings,
    data_dir: &Path,
    options: &HostOptions,
    given: &GivenPlugins,
    (tenant, quotas): (&str, &Quotas),
) -> Result<Catalog, StartError> {
    let streams = settings.streams.iter().filter(|stream| stream.tenant == tenant);
    let transforms = streams.flat_map(|stream| &stream.transforms);
    let transforms = transforms.filter(|transform| !given.contains_key(&transform.plugin.name));
    let wanted: Vec<(String, Option<Digest>)> = transforms
        .map(|transform| {
            let digest = transform.plugin.digest.as_ref().and_then(|text| text.parse().ok());
            (transform.plugin.name.clone(), digest)
        })
        .collect();
    let plugin_dir = match settings.plugin_dir_of(tenant) {
        Some(written) => written.to_owned(),
        None => {
            let uploads = tenants::uploads(data_dir, tenant);
            make_directory(&uploads)?;
            uploads
        }
    };
    let catalog = CatalogOptions {
        // Notifications name absolute paths.
        plugin_dir: std::path::absolute(&plugin_dir).unwrap_or(plugin_dir),
        data_dir: tenants::plugins_data(data_dir, tenant),
        compiler: options.compiler.clone(),
        compile: CompileLimits::default(),
        gate: quotas.gate(tenant),
        signing: signing_policy(settings, tenant),
    };
    Ok(Catalog::open_for(engine.clone(), catalog, &wanted)?)
}

/// What a tenant asks of signatures, as these settings say.
pub(super) fn signing_policy(settings: &Settings, tenant: &str) -> Option<SigningPolicy> {
    settings.signing_of(tenant).map(|signing| SigningPolicy {
        required: signing.required,
        keys: signing.keys.iter().copied().map(PublicKey).collect(),
    })
}

/// Whether an output is what Firehose calls a delivery to S3.
fn is_delivery(destination: &config::Destination) -> bool {
    matches!(destination, config::Destination::S3(s3) if matches!(s3.object, config::ObjectName::Firehose(_)))
}

fn receiver(destination: &Destination) -> Option<(Receiver, Arc<Sent>)> {
    let receiver = match destination {
        Destination::Endpoint(_) => Receiver::HttpEndpoint,
        Destination::Splunk(_) => Receiver::Splunk,
        Destination::OpenSearch(_) => Receiver::OpenSearch,
        Destination::Redshift(_) => Receiver::Redshift,
        _ => return None,
    };
    Some((receiver, Arc::clone(destination.sent()?)))
}

/// Where the dead letters of a stream are.
pub(crate) fn letters_dir(data_dir: &Path, stream: &config::Stream) -> PathBuf {
    letters_place(data_dir, &key_of(stream))
}

/// The same, of whatever defines the stream.
pub(crate) fn letters_place(data_dir: &Path, stream: &StreamKey) -> PathBuf {
    letters_of(data_dir, &stream.tenant).join(&stream.name)
}

/// The same of all streams of a tenant.
pub(crate) fn letters_of(data_dir: &Path, tenant: &str) -> PathBuf {
    data_dir.join("dead-letters").join(tenant)
}

/// What the journal calls a stream.
pub(crate) fn key_of(stream: &config::Stream) -> StreamKey {
    StreamKey { tenant: stream.tenant.clone(), name: stream.name.clone() }
}

pub(crate) fn make_directory(path: &Path) -> Result<(), StartError> {
    std::fs::create_dir_all(path).map_err(|error| StartError::Directory {
        action: "make",
        path: path.to_owned(),
        error,
    })
}

/// The chain of every stream, or every problem ([`StartError::Invalid`]). Blocks.
pub(crate) fn first_chains(
    settings: &Settings,
    engine: &Engine,
    catalogs: &Catalogs,
    given: &GivenPlugins,
    quotas: &Quotas,
) -> Result<Vec<FirstChain>, StartError> {
    let mut chains = Vec::with_capacity(settings.streams.len());
    let mut problems = Vec::new();
    // All of them first: objects are read meanwhile, all at once.
    let plans: Vec<(ChainPlan, &Catalog)> = settings
        .streams
        .iter()
        .map(|stream| {
            let catalog = &catalogs[&stream.tenant];
            (ChainPlan::of(stream, given, catalog).within(quotas.of(&stream.tenant)).following(), catalog)
        })
        .collect();
    for first in on_guest_threads(&plans, |(plan, catalog)| plan.first(engine, catalog))? {
        match first {
            Ok(chain) => chains.push(chain),
            Err(found) => {
                problems
                    .extend(found.into_iter().map(|problem| settings.problem(&problem.key, problem.message)));
            }
        }
    }
    if problems.is_empty() { Ok(chains) } else { Err(StartError::Invalid(problems)) }
}

/// Plugins of which a stream takes whatever version is live, each once.
fn follows(stream: &config::Stream) -> Vec<String> {
    let follows = stream.transforms.iter().filter(|transform| transform.plugin.digest.is_none());
    let names: BTreeSet<&String> = follows.map(|transform| &transform.plugin.name).collect();
    names.into_iter().cloned().collect()
}

/// What the buffer may take and keeps of a stream.
pub(crate) fn stream_options(settings: &Settings, stream: &config::Stream) -> StreamOptions {
    let retention = stream.retention.map(|kept| Retention { bytes: kept.size, age: kept.age });
    StreamOptions { max_bytes: settings.buffer.max_bytes, retention }
}

/// What every stream of a host is opened from.
pub(crate) struct Opening {
    pub(crate) settings: Settings,
    pub(crate) engine: Engine,
    pub(crate) apart: Apart,
    pub(crate) options: HostOptions,
    pub(crate) given: GivenPlugins,
    pub(crate) journal: Journal,
    pub(crate) workers: Arc<Workers>,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) syncs: SyncCount,
    pub(crate) shadows: SyncSender<shadow::Task>,
    /// What all transforms keep.
    pub(crate) state: Arc<StateHouse>,
    /// Streams that were opened so far.
    pub(crate) lanes: AtomicU64,
}

/// A stream, opened and not yet running.
pub(crate) struct OpenStream {
    pub(crate) context: Arc<StreamContext>,
    pub(crate) standing: Standing,
}

impl Opening {
    /// Removes state of streams that the journal does not have: a crash came between the end of a stream and that of its state.
    pub(crate) async fn remove_state_of_nobody(&self) -> Result<(), StartError> {
        let known: Vec<_> = self.journal.streams().iter().map(wasmill_buffer::Stream::incarnation).collect();
        let state = Arc::clone(&self.state);
        let removed = tokio::task::spawn_blocking(move || state.remove_others(&known)).await;
        let removed = removed.map_err(|error| StartError::Thread(std::io::Error::other(error)))?;
        match removed {
            Ok(0) => {}
            Ok(streams) => tracing::info!(streams, "state of streams that are gone was removed"),
            Err(full) if is_full(&full) => {
                let error = with_causes(&full);
                tracing::warn!(error, "the disk is too full to look for state of streams that are gone");
            }
            Err(error) => return Err(StartError::State(error)),
        }
        Ok(())
    }

    /// The same of their objects in the spool.
    pub(crate) async fn remove_spool_of_nobody(&self) -> Result<(), StartError> {
        let known: Vec<_> = self.journal.streams().iter().map(wasmill_buffer::Stream::incarnation).collect();
        let data_dir = self.settings.data_dir.clone();
        let removed = tokio::task::spawn_blocking(move || {
            remove_spooled_of_others(&data_dir, &known, |path, error| {
                tracing::warn!(path = %path.display(), %error, "staged objects of a stream that is gone stay");
            })
        });
        match removed.await.map_err(|error| StartError::Thread(std::io::Error::other(error)))? {
            0 => {}
            files => tracing::info!(files, "staged objects of streams that are gone were removed"),
        }
        Ok(())
    }

    pub(crate) async fn stream(&self, stream: &config::Stream) -> Result<OpenStream, StartError> {
        let settings = &self.settings;
        let name = || stream.name.clone();
        let key = key_of(stream);
        let options = stream_options(settings, stream);
        let buffer = self.journal.stream(&key, options).await;
        let buffer = buffer.map_err(|error| StartError::Stream { stream: name(), error })?;
        let mut opened = Vec::with_capacity(stream.outputs.len());
        for output in &stream.outputs {
            opened.push(self.output(stream, output).await?);
        }
        let incarnation = format!("{:032x}", u128::from_be_bytes(buffer.incarnation()));
        let dir = letters_dir(&settings.data_dir, stream);
        let quota = self.quotas.of(&stream.tenant);
        let state = self.state.stream(buffer.incarnation(), Arc::clone(quota.state()));
        let job_state = Arc::clone(&state);
        let (job_stream, job_buffer, job_dir) = (stream.clone(), buffer.clone(), dir.clone());
        // Every outcome that is still needed is read: other streams may run beside.
        let read = move || {
            let name = || job_stream.name.clone();
            let mut recovered = recovery::recover(&job_buffer, &opened, &job_state)
                .map_err(|error| StartError::Recovery { stream: name(), error: error.into() })?;
            let mut letters = Store::open(&job_dir, job_stream.dead_letters.max_bytes, Some(&incarnation))
                .map_err(|error| StartError::DeadLetters { stream: name(), error })?;
            recovery::settle_given_up(&mut recovered.standing.undelivered, &mut letters);
            let kept = match job_state.existing() {
                Ok(kept) => Ok(kept.map_or_else(Vec::new, |kept| kept.tables())),
                // They are told once it can be opened.
                Err(full) if is_full(&full) => Ok(Vec::new()),
                Err(error) => Err(error),
            };
            let kept = kept.map_err(|error| StartError::Recovery {
                stream: name(),
                error: RecoveryError::StateStore(error).into(),
            })?;
            Ok::<_, StartError>((opened, recovered, letters, kept))
        };
        let read = tokio::task::spawn_blocking(read).await;
        let (opened, recovered, letters, kept) =
            read.map_err(|error| StartError::Thread(std::io::Error::other(error)))??;
        let letters_output = match &stream.dead_letters.output {
            Some(output) => {
                let cursor = Cursor::open(&dir, letters.next_number())
                    .map_err(|error| StartError::DeadLetters { stream: name(), error })?;
                let opened = self.output(stream, &output.output).await?;
                Some(Arc::new(LettersOutput::new(opened, output, cursor)))
            }
            None => None,
        };
        let event_time = stream.event_time.as_ref().map(EventTime::new).transpose().map_err(|message| {
            let key = format!("{}.event_time", stream.key);
            StartError::Invalid(vec![settings.problem(&key, message)])
        })?;
        let event_time = event_time.map(|rules| rules.of_sources(&stream.sources));
        let parallel = stream.parallel.as_ref().map(Parallel::new).transpose().map_err(|message| {
            let key = format!("{}.parallel", stream.key);
            StartError::Invalid(vec![settings.problem(&key, message)])
        })?;
        let stats = Arc::new(StreamStats::new(&key, stream.outputs.iter().map(|o| o.name.clone())));
        for (stats, output) in stats.outputs.iter().zip(&opened) {
            if let Some(inferred) = output.columns.as_ref().and_then(|columns| columns.inferred()) {
                // They are those of the first batch, which was before.
                drop(stats.columns.set(inferred.to_owned()));
            }
        }
        let places = |wanted: fn(&config::Destination) -> bool| -> Vec<usize> {
            let routes = stream.routes().enumerate();
            routes.filter(|(_, output)| wanted(&output.destination)).map(|(place, _)| place).collect()
        };
        // Nobody has seen them.
        if let Some(backup) = stream.backup.filter(|backup| is_delivery(&stream.outputs[*backup].destination))
        {
            let _first = stats.firehose.backup.set(backup);
        }
        let _first = stats.firehose.outputs.set(places(is_delivery));
        let _first = stats
            .firehose
            .tables
            .set(places(|destination| matches!(destination, config::Destination::Iceberg(_))));
        let receivers = opened.iter().filter_map(|output| receiver(&output.destination));
        let _first = stats.firehose.receivers.set(receivers.collect());
        if event_time.is_some() {
            stats.event_time.track();
        }
        stats.dead_letter_bytes.set(letters.bytes());
        stats.dead_letters.kept.set(letters.count());
        stats.letters_output.configured.store(letters_output.is_some(), Ordering::Relaxed);
        stats.keeps(kept);
        let context = Arc::new(StreamContext {
            name: name(),
            buffer,
            outputs: opened,
            workers: Arc::clone(&self.workers),
            tenant: stream.tenant.as_str().into(),
            lane: self.lanes.fetch_add(1, Ordering::Relaxed),
            quota: Arc::clone(&quota),
            stats,
            state,
            settled: tokio::sync::watch::Sender::new(false),
            over: CancellationToken::new(),
            letters: Mutex::new(letters),
            letters_max_age: stream.dead_letters.max_age,
            letters_output,
            failed_percent_max: stream.max_failed_percent,
            buffer_bytes_max: settings.buffer.max_bytes,
            shadows: Arc::new(StreamShadows::new(follows(stream), self.shadows.clone())),
            samples: Arc::default(),
            decisions: Arc::default(),
            decides: stream.decide.is_some(),
            decides_durably: stream.decide.as_ref().is_none_or(|decide| decide.durable()),
            reads_early: stream.decide.as_ref().is_some_and(|decide| decide.reads_early()),
            fallback: stream.fallback,
            backup: stream.backup.and_then(|number| u32::try_from(number).ok()),
            event_time: event_time.map(Arc::new),
            parallel: parallel.map(Arc::new),
            #[cfg(test)]
            mutant: super::simulation::Mutant::None,
        });
        quota.watch(&context);
        for lost in recovered.lost {
            tracing::error!(
                stream = %context.label(), from = lost.start, to = lost.end,
                "an outcome is lost to corruption, and with it what of its records was not delivered"
            );
            context.stats.records_lost_to_corruption.add(lost.end - lost.start);
        }
        recovery::clean_staging(&context, &recovered.standing.undelivered);
        let standing = recovered.standing;
        if !standing.undelivered.is_empty() || !standing.open.is_empty() {
            tracing::info!(
                stream = %context.stats.label(), processed = standing.processed, open_batches = standing.open.len(),
                undelivered_batches = standing.undelivered.len(), "stream goes on where it was"
            );
        }
        Ok(OpenStream { context, standing })
    }

    async fn output(&self, stream: &config::Stream, output: &config::Output) -> Result<Output, StartError> {
        let threads = self.quotas.of(&stream.tenant).directories().clone();
        outputs::open(&self.settings, output, &self.syncs, &threads).await.map_err(|error| match error {
            OpenError::Problem(problem) => StartError::Invalid(vec![problem]),
            OpenError::Failed { output, message } => {
                StartError::Output { stream: stream.name.clone(), output, message }
            }
        })
    }
}

/// In the order of the file, each once.
pub(crate) fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
    problems.dedup();
    problems
}
