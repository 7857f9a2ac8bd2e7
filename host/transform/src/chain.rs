//! A chain of configured transforms, shared by the workers that run it.
//!
//! Owns the probe of a chain before it is used: instantiate and configure with the real config, an empty chunk, the
//! manifest's sample. A chain that does not pass is never handed out.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmill_chunk::{Chunk, ChunkLimits, Column, Input, Layout};
use wasmill_state::SliceState;

use crate::clock::thread_cpu;
use crate::engine::Engine;
use crate::event_time::{CallClock, NO_TIME};
use crate::fault::PluginFault;
use crate::grants::{GrantSet, GrantedFile, StateGrant};
use crate::http::{HttpGrant, Sending, covers};
use crate::instance::{Call, Instance};
use crate::isolation::{BuildError, Isolation, Remote};
use crate::limits::{Limits, SLICE_CHUNK_BYTES_MAX, SLICE_CHUNK_ROWS_MAX, WAITING_CHAIN_MAX};
use crate::log::LogSink;
use crate::manifest::Sample;
use crate::models::GrantedModel;
use crate::plugin::{Digest, Plugin};
use crate::seed;
use crate::state::Keeping;
use crate::step::{Declared, Step};
use crate::worker::Position;

/// One transform of a stream as the operator wants it.
#[derive(Clone)]
pub struct TransformSpec {
    /// Its name in the stream; also part of the seed, so renaming it changes what it samples.
    pub name: String,
    pub plugin: Arc<Plugin>,
    /// JSON, handed to `configure` as it is.
    pub config: String,
    pub files: BTreeMap<String, GrantedFile>,
    pub secrets: BTreeMap<String, String>,
    /// Without one nothing is sent for its plugin.
    pub http: Option<HttpGrant>,
    pub state: StateGrant,
    /// Models by the names under which the plugin loads them.
    pub models: BTreeMap<String, GrantedModel>,
    /// Narrowed by the manifest's own limits.
    pub limits: Limits,
}

impl TransformSpec {
    /// One with default limits and nothing granted, named like its plugin.
    pub fn new(plugin: Arc<Plugin>, config: &str) -> TransformSpec {
        TransformSpec {
            name: plugin.name.clone(),
            plugin,
            config: config.to_owned(),
            files: BTreeMap::new(),
            secrets: BTreeMap::new(),
            http: None,
            state: StateGrant::default(),
            models: BTreeMap::new(),
            limits: Limits::default(),
        }
    }
}

/// How a chain cuts and recycles; the defaults are what was measured to be good.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChainOptions {
    /// Payload bytes per chunk: small enough for the CPU's cache.
    pub chunk_bytes: usize,
    /// Rows per chunk at most.
    pub chunk_rows: usize,
    /// Whether plugins that ask for it get slices uncut: those chunks are larger than these two say.
    pub uncut: bool,
    /// A warm instance is replaced after about this many calls (drawn between half and one and a half).
    pub calls_per_instance: u64,
    /// A warm instance is replaced once its memory is over this share of its limit, in percent.
    pub memory_watermark_percent: u8,
    /// CPU time that bisecting one chunk may take, in multiples of the failing transform's deadline.
    pub bisect_deadlines: u32,
    /// CPU time of a slice past which no further chunk of it is begun: it has no outcome then.
    pub slice_cpu_max: Option<Duration>,
    /// Whether its guests' requests are sent; else each is told that they are not.
    pub sends: bool,
    /// Whether its slices come with event times.
    pub event_time: bool,
    /// Names of the stream's sources, none where its only one has no name; `None`: nobody knows them.
    pub sources: Option<Vec<String>>,
}

impl Default for ChainOptions {
    fn default() -> Self {
        ChainOptions {
            chunk_bytes: 128 << 10,
            chunk_rows: 4096,
            uncut: true,
            calls_per_instance: 100_000,
            memory_watermark_percent: 75,
            bisect_deadlines: 4,
            slice_cpu_max: None,
            sends: true,
            event_time: false,
            sources: None,
        }
    }
}

impl ChainOptions {
    /// For a chain of these steps.
    fn fit(self, steps: &[Step]) -> ChainOptions {
        if !self.uncut || !steps.iter().any(|step| step.plugin.manifest.chunk.slice) {
            return self;
        }
        ChainOptions { chunk_bytes: SLICE_CHUNK_BYTES_MAX, chunk_rows: SLICE_CHUNK_ROWS_MAX, ..self }
    }
}

/// A chain, built and probed. May be empty: then records pass as they are.
pub struct Chain {
    pub(crate) steps: Vec<Step>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) options: ChainOptions,
    pub(crate) chunk_limits: ChunkLimits,
    /// Where the guests run, if that is not here: then nothing of it is ever instantiated here.
    pub(crate) elsewhere: Option<Remote>,
}

/// Why a chain cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Every transform that could not be configured or failed its probe, in the order of the chain; never empty.
    #[error("{}", .0.iter().map(|error| format!("{error}: {}", error.fault)).collect::<Vec<_>>().join("; "))]
    Transforms(Vec<TransformError>),
    #[error("lay out the fields of the chain: {0}")]
    Layout(String),
}

/// Why a transform cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("transform {transform:?} (plugin {plugin:?}, {digest})")]
pub struct TransformError {
    /// Its place in the chain, from 0.
    pub index: usize,
    pub transform: Box<str>,
    pub plugin: Box<str>,
    pub digest: Digest,
    /// The plugin's own `configure` did not take the config, or it does not fit the manifest's schema: `fault` says why.
    pub of_config: bool,
    #[source]
    pub fault: PluginFault,
}

impl Chain {
    /// Instantiates and configures every transform with its real config, which must fit the manifest's schema too, runs an
    /// empty chunk, and the manifest's sample where there is one; that one fails keeps none of the others from being tried. `outputs` are the stream's
    /// outputs, the first is the default.
    /// Runs guests on the calling thread.
    pub fn build(
        engine: &Engine,
        transforms: Vec<TransformSpec>,
        outputs: &[String],
        options: ChainOptions,
        log: Arc<dyn LogSink>,
    ) -> Result<Arc<Chain>, ChainError> {
        Chain::build_marking(engine, transforms, outputs, options, log, None)
    }

    /// The same with marks of which transform is about to run.
    pub(crate) fn build_marking(
        engine: &Engine,
        transforms: Vec<TransformSpec>,
        outputs: &[String],
        options: ChainOptions,
        log: Arc<dyn LogSink>,
        position: Option<&Position>,
    ) -> Result<Arc<Chain>, ChainError> {
        let mark = |index| position.iter().for_each(|position| position.mark(index));
        let outputs: Arc<[String]> = outputs.into();
        let mut steps = Vec::with_capacity(transforms.len());
        let mut probes = Vec::with_capacity(transforms.len());
        let mut errors = Vec::new();
        let length = transforms.len();
        for (index, mut spec) in transforms.into_iter().enumerate() {
            spec.models =
                spec.models.into_iter().map(|(name, model)| (name, model.without_content())).collect();
            let step = step(engine, spec, &outputs, &log, &options);
            if let Err(fault) = asked_for(&step, length) {
                errors.push(failed(index, &step, fault));
                continue;
            }
            mark(index);
            // What the plugin itself says comes first: it knows more than its schema.
            match Instance::start(&step).and_then(|instance| fits(&step).map(|()| instance)) {
                Ok(instance) => {
                    // A fresh cell: nothing else can have set it.
                    let _first = step.declared.set(instance.declared().clone());
                    probes.push((index, instance));
                    steps.push(step);
                }
                Err(fault) => {
                    let of_config = matches!(fault, PluginFault::Returned { .. });
                    errors.push(TransformError { of_config, ..failed(index, &step, fault) });
                }
            }
        }
        let fields: Vec<_> = steps.iter().map(|step| step.fields(declared(step))).collect();
        let layout = match Layout::new(&fields) {
            Ok(layout) => Arc::new(layout),
            Err(error) if errors.is_empty() => return Err(ChainError::Layout(error.to_string())),
            Err(_) => return Err(ChainError::Transforms(errors)),
        };
        let output_bytes = steps.iter().map(|step| step.limits.output_bytes).max();
        let chunk_limits = ChunkLimits {
            output_bytes: output_bytes
                .map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            ..ChunkLimits::default()
        };
        let mut chunk = None;
        for (place, (step, (index, instance))) in steps.iter().zip(&mut probes).enumerate() {
            mark(*index);
            // A transform that failed may have kept it.
            chunk.get_or_insert_with(|| Box::new(Chunk::new(Arc::clone(&layout), chunk_limits)));
            let sample = step.plugin.manifest.sample.as_ref();
            let probed = probe(step, place, instance, &mut chunk, &[]).and_then(|()| match sample {
                Some(sample) => probe_sample(step, place, instance, &mut chunk, sample, chunk_limits),
                None => Ok(()),
            });
            if let Err(fault) = probed {
                errors.push(failed(*index, step, fault));
            }
        }
        if errors.is_empty() {
            let options = options.fit(&steps);
            return Ok(Arc::new(Chain { steps, layout, options, chunk_limits, elsewhere: None }));
        }
        errors.sort_by_key(|error| error.index);
        Err(ChainError::Transforms(errors))
    }

    /// The same in a process of its own: no guest runs here, neither now nor when the chain is run.
    pub fn build_apart(
        engine: &Engine,
        isolation: &Isolation,
        transforms: Vec<TransformSpec>,
        outputs: &[String],
        options: ChainOptions,
        log: Arc<dyn LogSink>,
    ) -> Result<Arc<Chain>, ChainError> {
        let shared: Arc<[String]> = outputs.into();
        let steps: Vec<Step> =
            transforms.into_iter().map(|spec| step(engine, spec, &shared, &log, &options)).collect();
        // Also judged there; what is sent is sent from here.
        let unasked = steps.iter().enumerate().filter_map(|(index, step)| {
            asked_for(step, steps.len()).err().map(|fault| failed(index, step, fault))
        });
        let unasked: Vec<TransformError> = unasked.collect();
        if !unasked.is_empty() {
            return Err(ChainError::Transforms(unasked));
        }
        let options = options.fit(&steps);
        let nothing =
            Layout::new(&[]).map(Arc::new).map_err(|error| ChainError::Layout(error.to_string()))?;
        let whole = |steps, elsewhere| {
            let chunk_limits = ChunkLimits::default();
            Arc::new(Chain {
                steps,
                layout: Arc::clone(&nothing),
                options: options.clone(),
                chunk_limits,
                elsewhere,
            })
        };
        if steps.is_empty() {
            return Ok(whole(steps, None));
        }
        match Remote::build(isolation, &steps, outputs, &options) {
            Ok(remote) => Ok(whole(steps, Some(remote))),
            Err(BuildError::Layout(message)) => Err(ChainError::Layout(message)),
            Err(BuildError::Transforms(faults)) => {
                let errors = faults.into_iter().filter_map(|(index, of_config, fault)| {
                    let step = steps.get(index)?;
                    Some(TransformError { of_config, ..failed(index, step, fault) })
                });
                Err(ChainError::Transforms(errors.collect()))
            }
        }
    }

    /// What each transform declared, in order.
    pub(crate) fn declared(&self) -> impl Iterator<Item = &Declared> {
        self.steps.iter().map(declared)
    }

    /// Whether its guests run in another process.
    pub fn runs_elsewhere(&self) -> bool {
        self.elsewhere.is_some()
    }

    /// Whether it keeps state: then its slices run one after another, each over what the one before has changed.
    pub fn keeps_state(&self) -> bool {
        self.steps.iter().any(|step| !declared(step).tables.is_empty())
    }

    /// Whether it is told how far event time has come, also when no records come.
    pub fn takes_watermarks(&self) -> bool {
        self.options.event_time && self.steps.iter().any(|step| step.plugin.takes_watermarks())
    }

    /// Whether its guests may wait for others: it should not run where many wait for the thread.
    pub fn waits(&self) -> bool {
        self.options.sends && self.steps.iter().any(|step| step.grants.http.is_some())
    }

    /// Every granted file, with its transform and its name.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str, &GrantedFile)> {
        self.steps
            .iter()
            .flat_map(|step| step.grants.files.iter().map(|(name, file)| (&*step.name, name.as_str(), file)))
    }

    /// File and digest of every model, for the outcome.
    pub fn models(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.steps
            .iter()
            .flat_map(|step| step.grants.models.values().map(|model| (&*model.file, model.digest)))
    }

    /// Name and digest of every transform, in order.
    pub fn transforms(&self) -> impl ExactSizeIterator<Item = (&str, Digest)> {
        self.steps.iter().map(|step| (&*step.name, step.plugin.digest))
    }
}

/// Whether the config fits the schema of the manifest, if there is one.
fn fits(step: &Step) -> Result<(), PluginFault> {
    let Some(schema) = &step.plugin.manifest.config_schema else { return Ok(()) };
    crate::schema::fits(schema, &step.config, step.grants.sources.as_ref())
        .map_err(|message| PluginFault::Returned { message })
}

fn failed(index: usize, step: &Step, fault: PluginFault) -> TransformError {
    TransformError {
        index,
        transform: Box::from(&*step.name),
        plugin: Box::from(step.plugin.name.as_str()),
        digest: step.plugin.digest,
        of_config: false,
        fault,
    }
}

fn declared(step: &Step) -> &Declared {
    static NOTHING: Declared =
        Declared { fields: Vec::new(), key_bytes: 0, outputs: Vec::new(), tables: Vec::new() };
    step.declared.get().unwrap_or(&NOTHING)
}

fn step(
    engine: &Engine,
    spec: TransformSpec,
    outputs: &Arc<[String]>,
    log: &Arc<dyn LogSink>,
    options: &ChainOptions,
) -> Step {
    let (event_time, sources) = (options.event_time, options.sources.as_deref().map(Arc::from));
    let TransformSpec { name, plugin, config, files, secrets, http, state, models, limits } = spec;
    Step {
        engine: engine.clone(),
        name_seed: seed::of_name(&name),
        name: name.into(),
        limits: limits.narrowed(&plugin.manifest.limits),
        plugin,
        config,
        grants: Arc::new(GrantSet { files, secrets, http, state, event_time, sources, models }),
        outputs: Arc::clone(outputs),
        log: Arc::clone(log),
        declared: OnceLock::new(),
    }
}

/// Whether the config grants nothing that the plugin does not ask for, in a chain of so many transforms.
fn asked_for(step: &Step, length: usize) -> Result<(), PluginFault> {
    let asked = &step.plugin.manifest.grants;
    if step.grants.http.is_some() && length > WAITING_CHAIN_MAX {
        let message = format!(
            "it may ask servers, and a chain with such a transform has at most {WAITING_CHAIN_MAX} transforms, this one has \
             {length}"
        );
        return Err(PluginFault::Refused { message });
    }
    if !step.grants.state.key.is_empty() && !asked.state {
        let message = "the transform's \"key\" says in which key group of its state a record is, and the plugin's manifest asks for no state \
                       (\"grants\": {\"state\": true})";
        return Err(PluginFault::Refused { message: message.to_owned() });
    }
    if asked.state
        && let Some(denied) = &step.grants.state.denied
    {
        let message = format!("state is not granted: its manifest asks for it, and {denied}");
        return Err(PluginFault::Refused { message });
    }
    let models = &step.grants.models;
    let unasked_model = models.keys().find(|name| !asked.models.contains(name));
    if let Some(name) = unasked_model {
        let message = format!(
            "the config grants the model {name:?}, which the plugin's manifest does not ask for (\"grants\": {{\"models\": [{name:?}]}})"
        );
        return Err(PluginFault::Refused { message });
    }
    let bytes: u64 = models.values().map(GrantedModel::memory_bytes).sum();
    if bytes > step.limits.memory_bytes {
        let message = format!(
            "its models take {bytes} bytes of memory; the transform's limits.memory is {}: smaller models or a higher limit would do",
            step.limits.memory_bytes
        );
        return Err(PluginFault::Refused { message });
    }
    // A file without a manifest asks for nothing by name and gets what the operator hands it, but nothing that leaves the host.
    if step.plugin.manifest.name.is_empty() {
        if let Some(host) = step.grants.http.iter().flat_map(|grant| &grant.hosts).next() {
            let message = format!(
                "the config grants the http host {host:?} to a file without a manifest; who may ask hosts names them in a \
                 manifest's \"grants.http\""
            );
            return Err(PluginFault::Refused { message });
        }
    } else {
        let unasked = |kind: &str, name: &str| PluginFault::Refused {
            message: format!(
                "the config grants the {kind} {name:?}, which the plugin's manifest does not ask for"
            ),
        };
        if let Some(name) = step.grants.files.keys().find(|name| !asked.files.contains(name)) {
            return Err(unasked("file", name));
        }
        if let Some(name) = step.grants.secrets.keys().find(|name| !asked.secrets.contains(name)) {
            return Err(unasked("secret", name));
        }
        let hosts = step.grants.http.iter().flat_map(|grant| &grant.hosts);
        let unasked_host = |host: &&String| !asked.http.iter().any(|asked| covers(asked, host));
        if let Some(host) = hosts.into_iter().find(unasked_host) {
            return Err(unasked("http host", host));
        }
    }
    Ok(())
}

/// Runs one transform alone over `records`; whatever it writes is thrown away.
fn probe(
    step: &Step,
    index: usize,
    instance: &mut Instance,
    chunk: &mut Option<Box<Chunk>>,
    records: &[String],
) -> Result<(), PluginFault> {
    let lost = || PluginFault::Host { message: "the chunk was lost in a call".to_owned() };
    let mut rows = chunk.take().ok_or_else(lost)?;
    let mut payloads = Column::default();
    for record in records {
        payloads.push(record.as_bytes());
    }
    let input = Input::of_payloads(0, payloads.as_ref());
    let bad_output = |message: String| PluginFault::BadOutput { message };
    rows.begin(&input, input.rows()).map_err(|misuse| bad_output(misuse.to_string()))?;
    let seed = seed::of_call(0, 0, step.name_seed, 0);
    rows.enter(index, seed);
    let deadline = step.limits.deadline;
    let call = Call { seed, now: 0, deadline, cpu_start: thread_cpu(), sending: Sending::PROBE };
    let mut keeping = Some(Box::new(Keeping::new(SliceState::scratch(0))));
    if let Some(keeping) = &mut keeping {
        keeping.enter(step, instance.declared());
    }
    let mut clock = step.grants.event_time.then(|| Box::new(CallClock::on_watermark(NO_TIME)));
    let (back, result) = instance.process(rows, &mut keeping, &mut clock, call);
    let mut rows = back.ok_or_else(lost)?;
    let result = result.and_then(|()| {
        rows.apply().map_err(|over| PluginFault::OutputTooLarge { message: over.to_string() })
    });
    rows.discard();
    *chunk = Some(rows);
    result
}

/// Runs the manifest's sample, in an instance of its own if it brings its own config.
fn probe_sample(
    step: &Step,
    index: usize,
    instance: &mut Instance,
    chunk: &mut Option<Box<Chunk>>,
    sample: &Sample,
    limits: ChunkLimits,
) -> Result<(), PluginFault> {
    let result = if sample.config.is_null() {
        probe(step, index, instance, chunk, &sample.records)
    } else {
        let own = Step {
            engine: step.engine.clone(),
            name: Arc::clone(&step.name),
            name_seed: step.name_seed,
            plugin: Arc::clone(&step.plugin),
            config: sample.config.to_string(),
            grants: Arc::clone(&step.grants),
            limits: step.limits.clone(),
            outputs: Arc::clone(&step.outputs),
            log: Arc::clone(&step.log),
            declared: OnceLock::new(),
        };
        Instance::start(&own).and_then(|mut instance| {
            let fields = vec![own.fields(instance.declared())];
            let layout = Layout::new(&fields)
                .map_err(|error| PluginFault::BadOutput { message: error.to_string() })?;
            let mut chunk = Some(Box::new(Chunk::new(Arc::new(layout), limits)));
            probe(&own, 0, &mut instance, &mut chunk, &sample.records)
        })
    };
    result.map_err(|fault| match fault {
        PluginFault::Host { .. } => fault,
        fault => PluginFault::Refused { message: format!("fails the sample in its own manifest: {fault}") },
    })
}
