//! Which chain a stream runs: built and probed at start, and again whenever the plugin directory changes.
//!
//! One thread of its own does it, because a probe runs guests: a version that does not configure or that fails its
//! probe costs nobody a worker. A stream sees only chains that passed; it takes the new one between two slices. A
//! version that failed too many records is left for the one before and not tried again until the directory has
//! another.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::watch;
use wasmill_catalog::{Catalog, FindError};
use wasmill_config as config;
use wasmill_transform::{
    Chain, ChainError, ChainOptions, Digest, Engine, GrantedFile, Limits, Plugin, TransformSpec,
    WORKER_STACK_BYTES,
};

use super::sources::with_causes;
use super::stats::{StreamStats, TransformStats};
use crate::telemetry::plugin_log;

/// Largest granted file; all instances of a process share one copy.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Refused sets of plugins that a stream remembers.
const REFUSED_MAX: usize = 16;
/// Requests that wait for the thread; a change of the directory needs only one.
const REQUESTS_MAX: usize = 1024;

/// A chain that passed its probe.
pub(crate) struct ChainVersion {
    /// Grows with each version of a stream's chain in this process.
    pub(crate) generation: u64,
    pub(crate) chain: Arc<Chain>,
    /// Of plugins and granted files, for outcomes.
    pub(crate) digests: Vec<String>,
    plugins: Vec<Arc<Plugin>>,
}

impl ChainVersion {
    pub(super) fn new(generation: u64, chain: Arc<Chain>, plugins: Vec<Arc<Plugin>>) -> ChainVersion {
        let of_plugins = chain.transforms().map(|(_, digest)| digest.to_string());
        let of_files = chain.files().map(|(_, name, digest)| format!("{name}={digest}"));
        ChainVersion { generation, digests: of_plugins.chain(of_files).collect(), chain, plugins }
    }

    /// Writes names and versions into the counters, which go on counting.
    pub(crate) fn name_transforms(&self, transforms: &mut Vec<TransformStats>) {
        transforms.resize(self.plugins.len(), TransformStats::default());
        for ((stats, (name, digest)), plugin) in
            transforms.iter_mut().zip(self.chain.transforms()).zip(&self.plugins)
        {
            name.clone_into(&mut stats.name);
            stats.plugin.clone_from(&plugin.name);
            stats.version.clone_from(&plugin.manifest.version);
            stats.digest = digest.to_string();
        }
    }

    /// Name of the transform at this place.
    pub(crate) fn transform(&self, index: usize) -> &str {
        self.chain.transforms().nth(index).map_or("", |(name, _)| name)
    }
}

/// Why a chain is not there: which transform, and what about it.
#[derive(Debug)]
pub(crate) struct ChainProblem {
    /// `None`: the chain as a whole.
    pub(crate) transform: Option<usize>,
    pub(crate) message: String,
}

/// What a stream's chain is built from.
#[derive(Clone)]
pub(crate) struct ChainPlan {
    pub(crate) stream: String,
    pub(crate) transforms: Vec<config::Transform>,
    /// The first is the default.
    pub(crate) outputs: Vec<String>,
    pub(crate) given: GivenPlugins,
}

/// Plugins that do not come from the plugin directory, by name; they stay for as long as the host runs. For
/// measurements of the pipeline with other code in the place of plugins.
pub type GivenPlugins = Arc<BTreeMap<String, Arc<Plugin>>>;

impl ChainPlan {
    pub(crate) fn of(stream: &config::Stream, given: &GivenPlugins) -> ChainPlan {
        ChainPlan {
            stream: stream.name.clone(),
            transforms: stream.transforms.clone(),
            outputs: stream.outputs.iter().map(|output| output.name.clone()).collect(),
            given: Arc::clone(given),
        }
    }

    /// The current plugin of every transform, or of its pinned version.
    pub(crate) fn find(&self, catalog: &Catalog) -> Result<Vec<Arc<Plugin>>, Vec<ChainProblem>> {
        let mut plugins = Vec::with_capacity(self.transforms.len());
        let mut problems = Vec::new();
        for (index, transform) in self.transforms.iter().enumerate() {
            if let Some(plugin) = self.given.get(&transform.plugin.name) {
                plugins.push(Arc::clone(plugin));
                continue;
            }
            match find(catalog, &transform.plugin) {
                Ok(plugin) => plugins.push(plugin),
                Err(message) => problems.push(ChainProblem { transform: Some(index), message }),
            }
        }
        if problems.is_empty() { Ok(plugins) } else { Err(problems) }
    }

    /// Builds and probes. Runs guests on this thread.
    fn build(&self, engine: &Engine, plugins: &[Arc<Plugin>]) -> Result<Arc<Chain>, ChainProblem> {
        let mut specs = Vec::with_capacity(plugins.len());
        for (index, (transform, plugin)) in self.transforms.iter().zip(plugins).enumerate() {
            specs.push(
                spec(transform, plugin)
                    .map_err(|message| ChainProblem { transform: Some(index), message })?,
            );
        }
        let log = plugin_log(&self.stream);
        Chain::build(engine, specs, &self.outputs, ChainOptions::default(), log).map_err(|error| {
            let transform = match &error {
                ChainError::Transform { transform, .. } => {
                    self.transforms.iter().position(|known| *known.name == **transform)
                }
                ChainError::Layout(_) => None,
            };
            ChainProblem { transform, message: with_causes(&error) }
        })
    }

    /// The first version of a stream's chain. Runs guests on this thread.
    pub(crate) fn first(
        &self,
        engine: &Engine,
        catalog: &Catalog,
    ) -> Result<ChainVersion, Vec<ChainProblem>> {
        let plugins = self.find(catalog)?;
        let built = self.build(engine, &plugins);
        note(catalog, self, &plugins, &built);
        built.map(|chain| ChainVersion::new(1, chain, plugins)).map_err(|problem| vec![problem])
    }
}

impl ChainPlan {
    /// The chain with other versions of some of its plugins, for a replay. Runs guests on this thread.
    pub(crate) fn with_versions(
        &self,
        engine: &Engine,
        catalog: &Catalog,
        wanted: &[(String, Digest)],
    ) -> Result<ChainVersion, String> {
        let mut plan = self.clone();
        for (name, digest) in wanted {
            let mut found = false;
            for transform in plan.transforms.iter_mut().filter(|transform| transform.plugin.name == *name) {
                transform.plugin.digest = Some(digest.to_string());
                found = true;
            }
            if !found {
                let known: Vec<&str> =
                    self.transforms.iter().map(|known| known.plugin.name.as_str()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(format!(
                    "stream {:?} has no plugin {name:?}; its plugins are: {known}",
                    self.stream
                ));
            }
        }
        let texts = |problems: Vec<ChainProblem>| {
            problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
        };
        let plugins = plan.find(catalog).map_err(texts)?;
        let chain = plan.build(engine, &plugins).map_err(|problem| problem.message)?;
        Ok(ChainVersion::new(0, chain, plugins))
    }
}

fn find(catalog: &Catalog, wanted: &config::PluginRef) -> Result<Arc<Plugin>, String> {
    let digest = match &wanted.digest {
        Some(text) => Some(text.parse::<Digest>().map_err(|error| format!("{text}: {error}"))?),
        None => None,
    };
    catalog.find(&wanted.name, digest).map_err(|error: FindError| with_causes(&error))
}

fn spec(transform: &config::Transform, plugin: &Arc<Plugin>) -> Result<TransformSpec, String> {
    let mut files = BTreeMap::new();
    for (name, path) in &transform.files {
        let file = GrantedFile::read(path, FILE_BYTES_MAX)
            .map_err(|error| format!("granted file {name:?}: {}", with_causes(&error)))?;
        files.insert(name.clone(), file);
    }
    let secrets = transform.secrets.iter().map(|(name, secret)| (name.clone(), secret.reveal().to_owned()));
    Ok(TransformSpec {
        name: transform.name.clone(),
        plugin: Arc::clone(plugin),
        config: transform.config.clone(),
        files,
        secrets: secrets.collect(),
        limits: Limits {
            memory_bytes: transform.limits.memory,
            deadline: transform.limits.deadline,
            configure_deadline: transform.limits.configure_deadline,
            output_bytes: transform.limits.output,
            log_bytes: transform.limits.log,
        },
    })
}

/// Tells the catalog which versions passed their probe, and which one did not.
fn note(
    catalog: &Catalog,
    plan: &ChainPlan,
    plugins: &[Arc<Plugin>],
    built: &Result<Arc<Chain>, ChainProblem>,
) {
    match built {
        Ok(_) => {
            for plugin in plugins {
                catalog.note_probe(plugin.digest, &plan.stream, Ok(()));
            }
        }
        Err(problem) => {
            if let Some(plugin) = problem.transform.and_then(|index| plugins.get(index)) {
                catalog.note_probe(plugin.digest, &plan.stream, Err(problem.message.clone()));
            }
        }
    }
}

/// A stream that reloads.
pub(crate) struct Reloading {
    pub(crate) plan: ChainPlan,
    pub(crate) chains: watch::Sender<Arc<ChainVersion>>,
    pub(crate) stats: Arc<StreamStats>,
}

struct Slot {
    stream: Reloading,
    before: Option<Arc<ChainVersion>>,
    /// Sets of plugins that did not pass, or failed too much; the newest.
    refused: VecDeque<Vec<Arc<Plugin>>>,
}

/// A changed sidecar makes another plugin of the same digest, so digests do not tell.
fn same(one: &[Arc<Plugin>], other: &[Arc<Plugin>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}

enum Request {
    DirectoryChanged,
    Demote { stream: usize, generation: u64 },
    Stop,
}

/// A stream's way to report a bad version.
#[derive(Clone)]
pub(crate) struct Demoter {
    requests: SyncSender<Request>,
    stream: usize,
}

impl Demoter {
    /// Asks for the version before `generation`.
    pub(crate) fn demote(&self, generation: u64) {
        let request = Request::Demote { stream: self.stream, generation };
        if self.requests.try_send(request).is_err() {
            tracing::warn!("the reloader takes no demotion now; the stream stays paused");
        }
    }
}

/// The thread. Dropping it stops the thread after what it is doing.
pub(crate) struct Reloader {
    requests: SyncSender<Request>,
    thread: Option<JoinHandle<()>>,
}

/// Requests before the thread is there.
pub(crate) struct Requests {
    sender: SyncSender<Request>,
    receiver: Receiver<Request>,
}

impl Requests {
    pub(crate) fn new() -> Requests {
        let (sender, receiver) = sync_channel(REQUESTS_MAX);
        Requests { sender, receiver }
    }

    /// For the stream with this number.
    pub(crate) fn demoter(&self, stream: usize) -> Demoter {
        Demoter { requests: self.sender.clone(), stream }
    }

    /// Starts the thread, and a task that passes the catalog's changes on.
    pub(crate) fn start(
        self,
        engine: Engine,
        catalog: Catalog,
        streams: Vec<Reloading>,
    ) -> std::io::Result<Reloader> {
        let mut changes = catalog.changes();
        let changed = self.sender.clone();
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                // A full queue has a request of this kind, or a stop.
                if let Err(TrySendError::Disconnected(_)) = changed.try_send(Request::DirectoryChanged) {
                    return;
                }
            }
        });
        let Requests { sender, receiver } = self;
        let slots = streams
            .into_iter()
            .map(|stream| Slot { stream, before: None, refused: VecDeque::new() })
            .collect();
        let thread = std::thread::Builder::new()
            .name("reloader".to_owned())
            .stack_size(WORKER_STACK_BYTES + (1 << 20))
            .spawn(move || serve(&receiver, &engine, &catalog, slots))?;
        Ok(Reloader { requests: sender, thread: Some(thread) })
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        // A full queue drains, since the thread is alive; a gone thread needs no request.
        let _gone = self.requests.send(Request::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the reloader panicked");
        }
    }
}

fn serve(requests: &Receiver<Request>, engine: &Engine, catalog: &Catalog, mut slots: Vec<Slot>) {
    let pinned: HashSet<Digest> = slots.iter().flat_map(Slot::pinned).collect();
    expire(catalog, &pinned);
    while let Ok(request) = requests.recv() {
        match request {
            Request::Stop => return,
            Request::DirectoryChanged => {
                for slot in &mut slots {
                    slot.reload(engine, catalog);
                }
                expire(catalog, &pinned);
            }
            Request::Demote { stream, generation } => {
                if let Some(slot) = slots.get_mut(stream) {
                    slot.demote(generation);
                }
            }
        }
    }
}

/// Lets the catalog forget versions that are old, not in use and not pinned.
fn expire(catalog: &Catalog, pinned: &HashSet<Digest>) {
    match catalog.expire(pinned) {
        Ok(0) => {}
        Ok(versions) => tracing::info!(versions, "old plugin versions removed"),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "old plugin versions cannot be removed");
        }
    }
}

impl Slot {
    /// Versions that the configuration names by digest.
    fn pinned(&self) -> impl Iterator<Item = Digest> {
        let transforms = self.stream.plan.transforms.iter();
        transforms.filter_map(|transform| transform.plugin.digest.as_ref()?.parse().ok())
    }

    fn current(&self) -> Arc<ChainVersion> {
        Arc::clone(&self.stream.chains.borrow())
    }

    fn reload(&mut self, engine: &Engine, catalog: &Catalog) {
        let plan = &self.stream.plan;
        let plugins = match plan.find(catalog) {
            Ok(plugins) => plugins,
            Err(problems) => {
                let reasons: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
                tracing::debug!(stream = %plan.stream, reasons = reasons.join("; "), "plugins are not all there, going on as before");
                return;
            }
        };
        let current = self.current();
        if same(&current.plugins, &plugins) || self.refused.iter().any(|refused| same(refused, &plugins)) {
            return;
        }
        let built = plan.build(engine, &plugins);
        note(catalog, plan, &plugins, &built);
        match built {
            Ok(chain) => {
                let next = ChainVersion::new(current.generation + 1, chain, plugins);
                self.before = Some(current);
                self.stream.chains.send_replace(Arc::new(next));
            }
            Err(problem) => {
                self.stream.stats.reloads_refused.add(1);
                tracing::warn!(
                    stream = %plan.stream, reason = problem.message,
                    "new plugin version refused, the one before goes on"
                );
                self.refuse(plugins);
            }
        }
    }

    fn refuse(&mut self, plugins: Vec<Arc<Plugin>>) {
        self.refused.push_back(plugins);
        if self.refused.len() > REFUSED_MAX {
            self.refused.pop_front();
        }
    }

    fn demote(&mut self, generation: u64) {
        let current = self.current();
        if current.generation != generation {
            return;
        }
        self.refuse(current.plugins.clone());
        let Some(before) = self.before.take() else { return };
        let again = ChainVersion::new(generation + 1, Arc::clone(&before.chain), before.plugins.clone());
        self.stream.chains.send_replace(Arc::new(again));
    }
}
