//! Replays: the history of a stream run once more, through the chain of today or with other versions of its plugins, into
//! a directory or beside the objects of an output.
//!
//! Live delivery is not touched: no checkpoint moves, nothing is marked, no letter is written to the stream's store, and
//! the workers serve a replay in a lane of its own. This file knows which replays there are; `run` is one of them.

mod alone;
mod letters;
mod moment;
mod plan;
mod progress;
mod run;
mod seal;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmill_buffer::{Disk as _, History, ReadError, RealDisk, Stream, StreamKey};
use wasmill_catalog::Catalog;
use wasmill_config::{self as config, DEFAULT_TENANT, Settings};
use wasmill_deliver::SyncCount;
use wasmill_transform::Engine;

pub use alone::{Alone, AloneError};
pub use moment::{moment_text, parse_moment};
pub use plan::{PlanError, ReplayPlan, parse_id};
pub use progress::{ReplayProgress, ReplayState};

use self::run::Replay;
use super::context::Output;
use super::opening::on_guest_thread;
use super::outputs;
use super::plan::{ChainPlan, ChainVersion};
use super::quotas::Quotas;
use super::recovery;
use super::stats::label;
use super::with_causes;
use super::workers::{LaneId, Workers};
use crate::pipeline::event_time::EventTime;

/// Replays of one tenant that run at a time.
const RUNNING_MAX: usize = 2;
/// Of all tenants: each holds the rows of its open batches.
const RUNNING_OF_ALL_MAX: usize = 8;
/// Replays of one tenant that have ended and can still be asked for.
const ENDED_MAX: usize = 32;
/// Lanes of replays; those of streams and of their letters are elsewhere.
const LANE: LaneId = 1 << 62;
/// Object names of outputs that have none of their own, in a directory.
const OBJECT: &str = "{stream}/{output}/{batch}{extension}";

/// Why a replay does not start, or is not there. Every text is fit for whoever asked.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("there is no stream {stream:?}")]
    NoStream { stream: String },
    #[error("stream {stream:?} has no replay {id}")]
    NoReplay { stream: String, id: String },
    #[error("{what}: {reason}")]
    Wrong { what: &'static str, reason: String },
    #[error("{reason}")]
    Plugin { reason: String },
    #[error(
        "the chain of stream {stream:?} keeps state, and its history cannot be replayed through it: the state that its records saw is gone. \
         Send the records to a new stream, which begins without state"
    )]
    KeepsState { stream: String },
    #[error("no records of stream {stream:?} arrived from {from} to before {to}; {kept}")]
    Empty { stream: String, from: String, to: String, kept: String },
    #[error(transparent)]
    Output(#[from] PlanError),
    #[error("{running} replays run already, and {RUNNING_MAX} may; wait or cancel one")]
    Busy { running: usize },
    #[error("as many replays of others run as this host takes; wait")]
    HostBusy,
    #[error("replay {id} runs already")]
    Runs { id: String },
    #[error("output {output:?} cannot be opened: {reason}")]
    Destination { output: String, reason: String },
    #[error("read the history")]
    Read(#[source] ReadError),
    #[error("the host is stopping")]
    Stopping,
    #[error("the replay could not be made ready: {reason}")]
    Failed { reason: String },
}

/// A stream whose history can be replayed.
pub(super) struct Source {
    pub(super) settings: config::Stream,
    pub(super) buffer: Stream,
    pub(super) plan: ChainPlan,
    pub(super) catalog: Catalog,
}

/// What replays share with the host that they run on.
pub(super) struct Shop {
    pub(super) settings: Settings,
    pub(super) engine: Engine,
    pub(super) workers: Arc<Workers>,
    pub(super) syncs: SyncCount,
    pub(super) quotas: Arc<Quotas>,
}

/// See the head of this file.
pub(super) struct Replays {
    shop: Shop,
    /// In the order of their start.
    known: Mutex<Vec<Arc<Replay>>>,
    /// One of each tenant at a time is made ready, so that the bound holds.
    starting: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    lanes: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// 128 random bits for a new replay.
///
/// # Errors
/// The system gives none.
pub fn new_id() -> std::io::Result<String> {
    let mut id = [0; 16];
    RealDisk.entropy(&mut id)?;
    Ok(format!("{:032x}", u128::from_be_bytes(id)))
}

fn wrong(what: &'static str) -> impl FnOnce(String) -> HistoryError {
    move |reason| HistoryError::Wrong { what, reason }
}

impl Replays {
    pub(super) fn new(shop: Shop) -> Replays {
        // What replays that were cut off have left is of no use to anybody.
        let _nothing_left = std::fs::remove_dir_all(spool(&shop.settings.data_dir));
        Replays {
            shop,
            known: Mutex::default(),
            starting: Mutex::default(),
            lanes: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Vec<Arc<Replay>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replays of a stream, the newest last.
    pub(super) fn list(&self, stream: &StreamKey) -> Vec<ReplayProgress> {
        let known = self.known();
        let of_stream = known.iter().filter(|replay| replay.buffer.key() == stream);
        of_stream.map(|replay| replay.note(|progress| progress.clone())).collect()
    }

    pub(super) fn progress(&self, stream: &StreamKey, id: &str) -> Result<ReplayProgress, HistoryError> {
        Ok(self.find(stream, id)?.note(|progress| progress.clone()))
    }

    /// Asks a replay to end; it does within moments.
    pub(super) fn cancel(&self, stream: &StreamKey, id: &str) -> Result<ReplayProgress, HistoryError> {
        let replay = self.find(stream, id)?;
        replay.cancel.cancel();
        Ok(replay.note(|progress| progress.clone()))
    }

    /// Forgets a stream that is no more: what runs of it ends.
    pub(super) fn forget(&self, stream: &StreamKey) {
        self.known().retain(|replay| {
            let goes = replay.buffer.key() == stream;
            if goes {
                replay.cancel.cancel();
            }
            !goes
        });
    }

    fn find(&self, stream: &StreamKey, id: &str) -> Result<Arc<Replay>, HistoryError> {
        // The same replay may have run before.
        let known = self.known();
        let found = known.iter().rev().find(|replay| replay.id == id && replay.buffer.key() == stream);
        let missing = || HistoryError::NoReplay { stream: stream.name.clone(), id: id.to_owned() };
        found.cloned().ok_or_else(missing)
    }

    /// Cancels all and waits until they have ended.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Checks everything that can be wrong and starts the replay.
    pub(super) async fn start(
        &self,
        source: &Source,
        wanted: ReplayPlan,
        now: i64,
    ) -> Result<ReplayProgress, HistoryError> {
        let tenant = source.buffer.key().tenant.as_str();
        let starting = self.starting(tenant);
        let _one = starting.lock().await;
        let expected = || "expected 32 hexadecimal digits".to_owned();
        let incarnation = parse_id(&wanted.id).ok_or_else(expected).map_err(wrong("id"))?;
        let from = parse_moment(&wanted.from, now).map_err(wrong("from"))?;
        let to = parse_moment(&wanted.to, now).map_err(wrong("to"))?;
        if from >= to {
            return Err(wrong("from")(format!("{} is not before {}", moment_text(from), moment_text(to))));
        }
        self.check_room(tenant, &wanted.id)?;
        let version = self.version(source, &wanted.plugins).await?;
        if version.chain.keeps_state() {
            // Neither that of today nor none is what these records saw.
            return Err(HistoryError::KeepsState { stream: wanted.stream });
        }
        let plan = match &wanted.output {
            Some(dir) => {
                // Whoever may name a directory to this host may write into it: the plan there says so.
                let there = wanted.in_directory(dir)?;
                ReplayPlan { offsets: there.offsets, ..wanted.clone() }
            }
            None => wanted.clone(),
        };
        let history = source.buffer.history(from..to).map_err(HistoryError::Read)?;
        let kept_from = match history.kept {
            Some((first, _)) if history.kept_from > 0 && first > from => Some(moment_text(first)),
            _ => None,
        };
        let offsets = match plan.offsets {
            Some((first, end)) => first..end,
            None => offsets(history, &wanted, from..to)?,
        };
        if let Some(dir) = &plan.output {
            let with_offsets = ReplayPlan { offsets: Some((offsets.start, offsets.end)), ..plan.clone() };
            with_offsets.write(dir)?;
        }
        let place = self.place(&source.settings, &source.buffer, &plan).await?;
        let progress = ReplayProgress {
            id: plan.id.clone(),
            stream: plan.stream.clone(),
            from: moment_text(from),
            to: moment_text(to),
            kept_from,
            plugins: version.digests.clone(),
            output: place.text,
            first_offset: offsets.start,
            end_offset: offsets.end,
            next_offset: offsets.start,
            ..ReplayProgress::default()
        };
        tracing::info!(
            stream = %label(tenant, &plan.stream), replay = %plan.id, from = progress.from, to = progress.to,
            first_offset = offsets.start, end_offset = offsets.end, plugins = progress.plugins.join(", "),
            output = progress.output, "replay started"
        );
        let replay = Arc::new(Replay {
            id: plan.id,
            incarnation,
            stream: plan.stream,
            buffer: source.buffer.clone(),
            offsets,
            version,
            outputs: place.outputs,
            workers: Arc::clone(&self.shop.workers),
            tenant: tenant.into(),
            lane: LANE | self.lanes.fetch_add(1, Ordering::Relaxed),
            event_time: source.settings.event_time.as_ref().and_then(|written| {
                // Whoever opened the stream has read it.
                EventTime::new(written).ok().map(Arc::new)
            }),
            beside: place.beside,
            staging: place.staging,
            cancel: self.stop.child_token(),
            progress: Mutex::new(progress.clone()),
        });
        self.remember(replay.clone())?;
        self.tasks.spawn(replay.run());
        Ok(progress)
    }

    fn starting(&self, tenant: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(starting.entry(tenant.to_owned()).or_default())
    }

    fn check_room(&self, tenant: &str, id: &str) -> Result<(), HistoryError> {
        if self.stop.is_cancelled() {
            return Err(HistoryError::Stopping);
        }
        let known = self.known();
        let running: Vec<&Arc<Replay>> =
            known.iter().filter(|replay| replay.state() == ReplayState::Running).collect();
        let own = running.iter().filter(|replay| replay.buffer.key().tenant == tenant);
        if own.clone().any(|replay| replay.id == id) {
            return Err(HistoryError::Runs { id: id.to_owned() });
        }
        match own.count() {
            running if running >= RUNNING_MAX => Err(HistoryError::Busy { running }),
            _ if running.len() >= RUNNING_OF_ALL_MAX => Err(HistoryError::HostBusy),
            _ => Ok(()),
        }
    }

    fn remember(&self, replay: Arc<Replay>) -> Result<(), HistoryError> {
        let mut known = self.known();
        // Others have become ready meanwhile.
        let running = known.iter().filter(|replay| replay.state() == ReplayState::Running).count();
        if running >= RUNNING_OF_ALL_MAX {
            return Err(HistoryError::HostBusy);
        }
        let is_ended = |known: &Arc<Replay>| {
            known.state() != ReplayState::Running && known.buffer.key().tenant == replay.buffer.key().tenant
        };
        let mut forget = known.iter().filter(|known| is_ended(known)).count().saturating_sub(ENDED_MAX);
        known.retain(|known| {
            let forgotten = forget > 0 && is_ended(known);
            forget -= usize::from(forgotten);
            !forgotten
        });
        known.push(replay);
        Ok(())
    }

    /// The chain with the versions that were asked for. Runs guests on a thread of its own.
    async fn version(&self, source: &Source, plugins: &[String]) -> Result<Arc<ChainVersion>, HistoryError> {
        let (plan, engine, catalog) = (source.plan.clone(), self.shop.engine.clone(), source.catalog.clone());
        let plugins = plugins.to_vec();
        let built = on_guest_thread(move || plan.with_versions(&engine, &catalog, &plugins)).await;
        let built = built.map_err(|error| HistoryError::Failed { reason: error.to_string() })?;
        built.map(Arc::new).map_err(|reason| HistoryError::Plugin { reason })
    }

    /// Opens the outputs where the objects go.
    async fn place(
        &self,
        stream: &config::Stream,
        buffer: &wasmill_buffer::Stream,
        plan: &ReplayPlan,
    ) -> Result<Place, HistoryError> {
        let data_dir = &self.shop.settings.data_dir;
        // Another tenant may have chosen the same id.
        let place = match buffer.key().tenant.as_str() {
            DEFAULT_TENANT => plan.id.clone(),
            tenant => format!("{tenant}-{}", plan.id),
        };
        let own = spool(data_dir).join(&place);
        // Bodies for what is no directory are staged apart from those of the stream.
        let mut settings = self.shop.settings.clone();
        settings.data_dir.clone_from(&own);
        let (to, beside) = match (&plan.output, &plan.destination) {
            (Some(dir), None) => (To::Directory(dir), dir.clone()),
            (None, Some(name)) => {
                let found = stream.outputs.iter().find(|output| output.name == *name);
                let known = || stream.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>();
                let output = found
                    .ok_or_else(|| {
                        format!(
                            "stream {:?} has no output {name:?}, it has {}",
                            stream.name,
                            known().join(", ")
                        )
                    })
                    .map_err(wrong("destination"))?;
                (To::Beside(output), data_dir.join("replays").join(&place))
            }
            _ => return Err(wrong("output")("expected either a directory or a destination".to_owned())),
        };
        let quota = self.shop.quotas.of(&stream.tenant);
        let mut opened = Vec::with_capacity(stream.outputs.len());
        let mut staging = vec![own];
        for output in &stream.outputs {
            let output = to.instead_of(output, &plan.id).map_err(wrong("destination"))?;
            let found = outputs::open(&settings, &output, &self.shop.syncs, quota.directories()).await;
            let output = found.map_err(|error| match error {
                outputs::OpenError::Problem(problem) => {
                    HistoryError::Destination { output: output.name.clone(), reason: problem.message }
                }
                outputs::OpenError::Failed { output, message } => {
                    HistoryError::Destination { output, reason: message }
                }
            })?;
            staging.push(output.staging.directory().to_owned());
            opened.push(output);
        }
        let pinned = recovery::pinned(buffer).and_then(|pinned| recovery::pin(&opened, &pinned));
        pinned.map_err(|error| HistoryError::Failed { reason: with_causes(&error) })?;
        if let Some(output) =
            opened.iter().find(|output| output.columns.as_ref().is_some_and(|own| own.is_open()))
        {
            let reason =
                "its columns are taken from the first batch that the stream seals, and there was none yet";
            return Err(HistoryError::Destination { output: output.name.clone(), reason: reason.to_owned() });
        }
        Ok(Place { outputs: opened, beside, staging, text: to.text(&plan.id) })
    }
}

/// Where bodies of replays are staged whose destination is no directory.
fn spool(data_dir: &Path) -> PathBuf {
    data_dir.join("replays").join("spool")
}

fn offsets(history: History, wanted: &ReplayPlan, arrivals: Range<i64>) -> Result<Range<u64>, HistoryError> {
    if history.offsets.is_empty() {
        let kept = match history.kept {
            Some((first, last)) => {
                format!("what is kept arrived from {} to {}", moment_text(first), moment_text(last))
            }
            None => "nothing is kept of it; `retention` in its configuration keeps what comes from now on"
                .to_owned(),
        };
        let (from, to) = (moment_text(arrivals.start), moment_text(arrivals.end));
        return Err(HistoryError::Empty { stream: wanted.stream.clone(), from, to, kept });
    }
    Ok(history.offsets)
}

/// Where the objects of a replay go, opened.
struct Place {
    outputs: Vec<Output>,
    beside: PathBuf,
    staging: Vec<PathBuf>,
    text: String,
}

enum To<'a> {
    Directory(&'a PathBuf),
    /// Below `replays/ID` at the destination of this output.
    Beside(&'a config::Output),
}

impl To<'_> {
    fn prefix(id: &str) -> String {
        format!("replays/{id}")
    }

    /// The output with another destination; format, compression and size stay.
    fn instead_of(&self, output: &config::Output, id: &str) -> Result<config::Output, String> {
        let named = match &output.destination {
            config::Destination::Directory(directory) => directory.object.clone(),
            config::Destination::S3(s3) => s3.object.clone(),
            config::Destination::Redshift(redshift) => redshift.s3.object.clone(),
            config::Destination::Http(_)
            | config::Destination::Endpoint(_)
            | config::Destination::Splunk(_)
            | config::Destination::OpenSearch(_)
            | config::Destination::Iceberg(_)
            | config::Destination::Stdout => config::ObjectName::Template(OBJECT.to_owned()),
        };
        let directory =
            |path| config::Destination::Directory(config::Directory { path, object: named.clone() });
        let (destination, retry) = match self {
            To::Directory(path) => (directory((*path).clone()), &output.retry),
            To::Beside(other) => {
                let destination = match &other.destination {
                    config::Destination::Directory(found) => directory(found.path.join(To::prefix(id))),
                    config::Destination::S3(s3) => config::Destination::S3(config::S3 {
                        prefix: format!("{}{}/", s3.prefix, To::prefix(id)),
                        object: named,
                        ..s3.clone()
                    }),
                    config::Destination::Redshift(found) => {
                        let prefix = format!("{}{}/", found.s3.prefix, To::prefix(id));
                        let s3 = config::S3 { prefix, object: named, ..found.s3.clone() };
                        let redshift = config::Redshift { s3, ..(**found).clone() };
                        config::Destination::Redshift(Box::new(redshift))
                    }
                    // Requests have no names that could meet; their batch ids tell them apart.
                    to @ (config::Destination::Http(_)
                    | config::Destination::Endpoint(_)
                    | config::Destination::Splunk(_)
                    | config::Destination::OpenSearch(_)) => to.clone(),
                    config::Destination::Iceberg(_) => {
                        return Err(format!(
                            "output {:?} is a table, which would hold the rows of a replay twice: replay into a directory",
                            other.name
                        ));
                    }
                    config::Destination::Stdout => {
                        return Err(format!(
                            "output {:?} is standard output, which cannot take a replay",
                            other.name
                        ));
                    }
                };
                (destination, &other.retry)
            }
        };
        Ok(config::Output { destination, retry: retry.clone(), ..output.clone() })
    }

    fn text(&self, id: &str) -> String {
        match self {
            To::Directory(path) => path.display().to_string(),
            To::Beside(output) => match &output.destination {
                config::Destination::Directory(found) => {
                    found.path.join(To::prefix(id)).display().to_string()
                }
                config::Destination::S3(s3) => format!("s3://{}/{}{}/", s3.bucket, s3.prefix, To::prefix(id)),
                to @ (config::Destination::Http(_)
                | config::Destination::Endpoint(_)
                | config::Destination::Splunk(_)
                | config::Destination::OpenSearch(_)
                | config::Destination::Redshift(_)) => to.shown(),
                config::Destination::Iceberg(_) | config::Destination::Stdout => String::new(),
            },
        }
    }
}
