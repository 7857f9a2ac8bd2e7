//! A chain whose guests run in another process: its way there, slice by slice, and what happens when that process ends.
//!
//! Owns the budget of lost processes. A record that ends the process costs one record, like one that traps: parts of the
//! slice run in fresh processes until the record is alone. Rows reach the sink only when their part is whole.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use wasmill_chunk::{FinishOptions, RowSink};
use wasmill_state::{Layer, StateError, TABLES_MAX};

use super::answer::{self, Asked};
use super::exchange::{Broken, Done};
use super::going::Going;
use super::messages::{
    Answer, Clock, Load, LoadedStep, ModelHead, Refused, Request, Transform, manifest_bytes,
};
use super::process::{OWN_BYTES, Process};
use super::requests::Sent;
use super::state::Held;
use super::{Isolation, LINES_MAX};
use crate::bisect;
use crate::chain::{Chain, ChainOptions};
use crate::event_time::{NO_TIME, Times};
use crate::fault::{PluginFault, REASON_BYTES_MAX, cut_text};
use crate::http::wait_max;
use crate::limits::{LOG_MESSAGE_BYTES_MAX, TABLE_NAME_BYTES_MAX, TELLINGS_MAX, WALL_PER_CPU};
use crate::models::LOAD_CPU_MAX;
use crate::plugin::{Code, Digest};
use crate::report::{Slice, SliceReport, TransformReport};
use crate::step::{Declared, Step};
use crate::worker::{Kept, Part};

/// Processes that one slice may lose. One record among 100,000 needs about 17.
const LOST_MAX: u32 = 40;
/// Processes that a record alone must end before it is to blame: one may have been ended by somebody else.
const LOST_ALONE: u32 = 2;
/// What anything may take beside what guests may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Processes that are tried for building a chain.
const BUILDS_MAX: u32 = 2;
/// Configuring and probing call a transform about this often, bisecting a chunk about that much longer than a call.
const CALLS_PER_PROBE: u32 = 3;

/// See the head of this file.
pub(crate) struct Remote {
    isolation: Isolation,
    pub(super) chain: u64,
    outputs: Vec<String>,
    /// Tells processes when the chain is gone.
    alive: Arc<()>,
    /// What its instances in one process may use together.
    memory_bytes: u64,
    /// For building the chain.
    build_max: Duration,
    /// Between two signs of life while a slice runs, without what guests wait.
    pub(super) chunk_max: Duration,
    /// So long they may wait in one slice.
    pub(super) wait_max: Duration,
    /// More for each chunk of a slice, over all: CPU time twice.
    pub(super) each_chunk: Duration,
    /// What the transforms declared when the chain was built first.
    declared: OnceLock<Vec<Digest>>,
}

/// Why there is no answer.
enum Unanswered {
    /// The process is gone: the transform it was at, and what is known.
    Lost(usize, PluginFault),
    /// No process can run the chain.
    Unrunnable(usize, PluginFault),
}

/// Rows that wait for their turn.
struct Waiting {
    rows: Range<usize>,
    /// They have ended a process: at this transform, and how.
    ends: Option<(usize, PluginFault)>,
    /// How many processes ended under exactly these rows.
    lost: u32,
}

impl Waiting {
    fn new(rows: Range<usize>) -> Waiting {
        Waiting { rows, ends: None, lost: 0 }
    }
}

/// The process did not build the chain.
enum NotLoaded {
    /// The process is of no more use.
    Lost(io::Error),
    Host(PluginFault),
    Refused(Refused),
}

/// Where an attempt ran, and what it cost.
struct Ready {
    process: Process,
    /// The process's CPU time before anything was asked of it.
    before: Duration,
}

/// What building a chain there came to, when it did not come to a chain.
pub(crate) enum BuildError {
    /// Place, whether the config is to blame, and the fault.
    Transforms(Vec<(usize, bool, PluginFault)>),
    Layout(String),
}

impl Remote {
    /// Builds and probes the chain in a process.
    pub(crate) fn build(
        isolation: &Isolation,
        steps: &[Step],
        outputs: &[String],
        options: &ChainOptions,
    ) -> Result<Remote, BuildError> {
        let sum = |of: &dyn Fn(&Step) -> Duration| steps.iter().map(of).sum::<Duration>();
        let configure = sum(&|step| step.limits.configure_deadline);
        let call = sum(&|step| step.limits.deadline);
        let memory: u64 = steps.iter().map(|step| step.limits.memory_bytes).sum();
        let files = steps.iter().flat_map(|step| step.grants.files.values());
        let files: u64 = files.map(|file| file.bytes.len() as u64).sum();
        let models = || steps.iter().flat_map(|step| step.grants.models.values());
        let of_models: u64 = models().map(|model| model.memory_bytes()).sum();
        let read = LOAD_CPU_MAX * u32::try_from(models().count()).unwrap_or(u32::MAX);
        // Of a stream that has event time each chunk may end with tellings.
        let calls = if options.event_time { TELLINGS_MAX } else { 0 } + options.bisect_deadlines + 2;
        let remote = Remote {
            isolation: isolation.clone(),
            chain: isolation.next_chain(),
            outputs: outputs.to_vec(),
            alive: Arc::new(()),
            memory_bytes: memory.saturating_add(files).saturating_add(of_models),
            build_max: PATIENCE + (configure + call * CALLS_PER_PROBE + read) * WALL_PER_CPU,
            chunk_max: PATIENCE + (configure + call * calls) * WALL_PER_CPU,
            wait_max: wait_max(steps),
            each_chunk: call * 2 * calls,
            declared: OnceLock::new(),
        };
        let ready = remote.ready(steps, options, &mut Duration::default())?;
        isolation.put(ready.process);
        Ok(remote)
    }

    /// A process that has the chain. One that is lost while it builds it may have been ended by somebody else, so that
    /// another one tries it, too. What the lost ones used is added to `spent`.
    fn ready(
        &self,
        steps: &[Step],
        options: &ChainOptions,
        spent: &mut Duration,
    ) -> Result<Ready, BuildError> {
        let of_step = |step: usize, fault| BuildError::Transforms(vec![(step, false, fault)]);
        let mut tried = 0;
        loop {
            let mut process = self.process().map_err(|error| of_step(0, no_process(&error)))?;
            let before = process.cpu();
            if process.has(self.chain) {
                return Ok(Ready { process, before });
            }
            match self.load(&mut process, steps, options) {
                Ok(declared) => {
                    let first = self.declared.get_or_init(|| declared.clone());
                    return match first.iter().zip(&declared).position(|(first, now)| first != now) {
                        None => Ok(Ready { process, before }),
                        Some(step) => Err(of_step(step, declared_otherwise())),
                    };
                }
                Err(NotLoaded::Host(fault)) => return Err(of_step(0, fault)),
                Err(NotLoaded::Refused(refused)) => {
                    *spent += process.cpu().saturating_sub(before);
                    self.isolation.put(process);
                    return Err(refused_of(refused, steps.len()));
                }
                Err(NotLoaded::Lost(error)) => {
                    self.isolation.note_lost();
                    let step = process.position().min(steps.len().saturating_sub(1));
                    let (fault, used) = process.end(&error);
                    *spent += used.saturating_sub(before);
                    tried += 1;
                    if tried >= BUILDS_MAX {
                        return Err(of_step(step, fault));
                    }
                }
            }
        }
    }

    fn process(&self) -> io::Result<Process> {
        self.isolation.take(self.chain, self.memory_bytes.saturating_add(OWN_BYTES))
    }

    /// Has the process build the chain. After `Lost` and `Host` the process is of no more use.
    fn load(
        &self,
        process: &mut Process,
        steps: &[Step],
        options: &ChainOptions,
    ) -> Result<Vec<Digest>, NotLoaded> {
        let until = Instant::now() + self.build_max;
        process.make_room(self.memory_bytes.saturating_add(OWN_BYTES), until).map_err(NotLoaded::Lost)?;
        for step in steps {
            let digest = step.plugin.digest;
            if process.has_code(&digest) {
                continue;
            }
            let module = matches!(step.plugin.code, Code::Door(_));
            let code = step.plugin.compiled().map_err(NotLoaded::Host)?;
            let request = Request::Code { digest, manifest: manifest_bytes(&step.plugin.manifest), module };
            process.send(&request, &[&code], until).map_err(NotLoaded::Lost)?;
            match process.receive(until).map_err(NotLoaded::Lost)?.0 {
                Answer::Taken => process.note_code(digest),
                Answer::NotTaken(message) => {
                    return Err(NotLoaded::Host(PluginFault::Host { message }.bounded()));
                }
                _ => return Err(NotLoaded::Lost(impossible())),
            }
        }
        let transforms = steps.iter().map(|step| Transform {
            name: step.name.to_string(),
            plugin: step.plugin.digest,
            config: step.config.clone(),
            files: step.grants.files.iter().map(|(name, file)| (name.clone(), length(&file.bytes))).collect(),
            secrets: step.grants.secrets.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            http: step.grants.http.as_ref().map(|grant| grant.hosts.clone()),
            key: step.grants.state.key.clone(),
            models: step
                .grants
                .models
                .iter()
                .map(|(name, model)| ModelHead {
                    name: name.clone(),
                    file: model.file.to_string(),
                    bytes: length(model.content()),
                })
                .collect(),
            limits: step.limits.clone(),
        });
        let request = Request::Load(Box::new(Load {
            chain: self.chain,
            transforms: transforms.collect(),
            outputs: self.outputs.clone(),
            options: options.clone(),
        }));
        let files = steps.iter().flat_map(|step| step.grants.files.values().map(|file| &*file.bytes));
        let models = steps.iter().flat_map(|step| step.grants.models.values().map(|model| model.content()));
        let files: Vec<&[u8]> = files.chain(models).collect();
        process.send(&request, &files, until).map_err(NotLoaded::Lost)?;
        let mut lines = 0;
        loop {
            match process.receive(until).map_err(NotLoaded::Lost)?.0 {
                Answer::Loaded(loaded) if loaded.len() == steps.len() => {
                    if !steps.iter().zip(&loaded).all(|(step, loaded)| may_declare(step, loaded)) {
                        return Err(NotLoaded::Lost(impossible()));
                    }
                    process.note_loaded(self.chain, Arc::downgrade(&self.alive), self.memory_bytes);
                    let declared = steps.iter().zip(loaded).map(|(step, LoadedStep { declared, tables })| {
                        step.declared.get_or_init(|| Declared { tables, ..Declared::default() });
                        declared
                    });
                    return Ok(declared.collect());
                }
                Answer::Refused(refused) => return Err(NotLoaded::Refused(refused)),
                said if log(steps, &said, &mut lines) => {}
                _ => return Err(NotLoaded::Lost(impossible())),
            }
        }
    }

    /// Takes a slice through the chain there: see [`crate::ChainWorker::run_timed`].
    pub(crate) fn run(
        &self,
        chain: &Chain,
        slice: &Slice<'_>,
        times: Option<Times<'_>>,
        options: &FinishOptions,
        sink: &mut dyn RowSink,
        kept: Option<Kept<'_>>,
    ) -> (SliceReport, Option<Layer>, bool) {
        let (state, check) = kept.map_or((None, None), |Kept { state, check }| (Some(state), check));
        let mut going = Going {
            chain,
            slice,
            options,
            times,
            known: times.map_or(NO_TIME, |times| times.before),
            due: times.is_some_and(|times| times.due),
            owed: false,
            held: state.map(|state| Held::new(state, chain)),
            check,
            sent: Sent::new(chain.steps.len()),
            whole: SliceReport {
                transforms: vec![TransformReport::default(); chain.steps.len()],
                ..SliceReport::default()
            },
        };
        let mut lost = 0;
        self.run_rows(&mut going, sink, &mut lost);
        // Behind the last row, where no part that came through had it, or there is none.
        let mut tried = 0;
        while going.whole.unrunnable.is_none() && going.is_to_be_told() {
            if let Err((step, fault)) = self.attempt(&mut going, &[], sink) {
                tried += 1;
                if tried >= LOST_ALONE {
                    // There is no record to blame.
                    going.whole.unrunnable = Some((step, fault));
                }
            }
        }
        let Going { mut whole, held, sent, owed, .. } = going;
        whole.count_letters(&chain.steps);
        let sent = sent.of_steps.into_iter();
        whole.transforms.iter_mut().zip(sent).for_each(|(transform, sent)| transform.http.add(sent));
        let layer = held.filter(|_| whole.unrunnable.is_none()).map(Held::finish);
        (whole, layer, owed)
    }

    fn run_rows(&self, going: &mut Going<'_, '_>, sink: &mut dyn RowSink, lost: &mut u32) {
        let (chain, slice) = (going.chain, going.slice);
        let parts: Vec<Part> = slice
            .inputs
            .iter()
            .enumerate()
            .filter(|(_, input)| !input.payloads.ends.is_empty())
            .map(|(input, columns)| Part { input, rows: columns.rows() })
            .collect();
        if parts.is_empty() {
            return;
        }
        let total = parts.iter().map(|part| part.rows.len()).sum();
        let mut some = Vec::new();
        let mut waiting = vec![Waiting::new(0..total)];
        while let Some(Waiting { rows, ends, lost: lost_here }) = waiting.pop() {
            if going.whole.unrunnable.is_some() {
                break;
            }
            bisect::pick(&parts, &rows, &mut some);
            if let Some((step, fault)) = ends {
                if *lost >= LOST_MAX || rows.len() == 1 && lost_here >= LOST_ALONE {
                    let reason = match rows.len() {
                        1 => fault.reason(),
                        rows => {
                            format!("{fault} (in a part of {rows} records; {LOST_MAX} processes were lost)")
                        }
                    };
                    let why = (reason.as_str(), fault.is_of_state_quota());
                    bisect::fail(chain, slice, &mut going.whole, &some, step, why);
                    continue;
                }
                if rows.len() == 1 {
                    waiting.push(Waiting { rows, ends: None, lost: lost_here });
                    continue;
                }
                let middle = rows.start + rows.len() / 2;
                waiting.push(Waiting::new(middle..rows.end));
                waiting.push(Waiting::new(rows.start..middle));
                continue;
            }
            if let Err(ends) = self.attempt(going, &some, sink) {
                *lost += 1;
                waiting.push(Waiting { rows, ends: Some(ends), lost: lost_here + 1 });
            }
        }
    }

    /// Runs some rows in one process, or none, and tells the transforms of the watermark behind them. What is lost is lost at
    /// a transform, with all that it did.
    fn attempt(
        &self,
        going: &mut Going<'_, '_>,
        parts: &[Part],
        sink: &mut dyn RowSink,
    ) -> Result<(), (usize, PluginFault)> {
        let mut spent = Duration::default();
        let clock = going.clock(parts);
        let attempt = self.attempt_once(going, parts, clock, &mut spent);
        going.whole.cpu_elsewhere += spent;
        match attempt {
            Ok((report, rows, owed)) => {
                if report.unrunnable.is_none() {
                    rows.iter().for_each(|rows| rows.pour(sink));
                    going.told(clock, owed);
                }
                answer::add(&mut going.whole, report);
                Ok(())
            }
            Err(Unanswered::Unrunnable(step, fault)) => {
                going.whole.unrunnable = Some((step, fault));
                Ok(())
            }
            Err(Unanswered::Lost(step, fault)) => {
                self.isolation.note_lost();
                going.whole.chunks_bisected += 1;
                if let Some(transform) = going.whole.transforms.get_mut(step) {
                    transform.traps += 1;
                }
                going.whole.note(step, fault.clone());
                Err((step, fault))
            }
        }
    }

    fn attempt_once(
        &self,
        going: &mut Going<'_, '_>,
        parts: &[Part],
        clock: Option<Clock>,
        spent: &mut Duration,
    ) -> Result<Done, Unanswered> {
        let chain = going.chain;
        let ready = self.ready(&chain.steps, &chain.options, spent).map_err(|error| match error {
            BuildError::Transforms(mut faults) => {
                let (step, _, fault) = faults.swap_remove(0);
                Unanswered::Unrunnable(step, fault)
            }
            BuildError::Layout(message) => Unanswered::Unrunnable(0, PluginFault::BadOutput { message }),
        })?;
        let Ready { mut process, before } = ready;
        let asked = Asked { chain, slice: going.slice, parts, outputs: self.outputs.len(), clock };
        match self.exchange(&mut process, &asked, going, before) {
            Ok(done) => {
                self.isolation.put(process);
                Ok(done)
            }
            Err(Broken::Process(error)) => {
                let step = process.position().min(chain.steps.len().saturating_sub(1));
                let (fault, used) = process.end(&error);
                *spent += used.saturating_sub(before);
                Err(Unanswered::Lost(step, fault))
            }
            Err(Broken::State(error)) => {
                // It waits for an answer.
                *spent += process.cpu().saturating_sub(before);
                drop(process);
                let step = chain.steps.iter().position(|step| step.plugin.manifest.grants.state).unwrap_or(0);
                Err(match error {
                    StateError::Store(error) => {
                        let message = format!("its state cannot be read: {error}");
                        Unanswered::Unrunnable(step, PluginFault::Host { message })
                    }
                    StateError::Full { .. } => {
                        let message = error.to_string();
                        Unanswered::Lost(step, PluginFault::State { message, of_quota: true })
                    }
                    refused => Unanswered::Lost(step, PluginFault::Returned { message: refused.to_string() }),
                })
            }
        }
    }
}

/// Whether these can be the tables of a transform.
fn may_declare(step: &Step, loaded: &LoadedStep) -> bool {
    let fit = loaded.tables.iter().all(|table| table.name.len() <= TABLE_NAME_BYTES_MAX);
    let few = loaded.tables.len() <= TABLES_MAX;
    fit && few && (loaded.tables.is_empty() || step.plugin.manifest.grants.state)
}

pub(super) fn impossible() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "columns or counts that do not fit together")
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn no_process(error: &io::Error) -> PluginFault {
    PluginFault::Host { message: format!("start a process for plugins: {error}") }
}

fn out_of_turn() -> PluginFault {
    PluginFault::Host { message: "the process of its plugins answered out of turn".to_owned() }
}

fn declared_otherwise() -> PluginFault {
    PluginFault::BadOutput {
        message: "configure declared other fields or outputs than in the instance before; \
                  it must depend on the config alone"
            .to_owned(),
    }
}

fn refused_of(refused: Refused, steps: usize) -> BuildError {
    match refused {
        Refused::Layout(message) => BuildError::Layout(cut_text(&message, REASON_BYTES_MAX)),
        Refused::Transforms(faults) => {
            let mut faults: Vec<_> = faults
                .into_iter()
                .filter(|refused| refused.index < steps)
                .map(|refused| (refused.index, refused.of_config, refused.fault.bounded()))
                .collect();
            if faults.is_empty() {
                faults.push((0, false, out_of_turn()));
            }
            BuildError::Transforms(faults)
        }
    }
}

/// Hands on what a guest logged; false if that is none, or too much.
pub(super) fn log(steps: &[Step], said: &Answer, lines: &mut u32) -> bool {
    *lines += 1;
    let find = |name: &str| steps.iter().find(|step| *step.name == *name);
    match said {
        _ if *lines > LINES_MAX => false,
        Answer::Line { transform, level, message } if message.len() <= LOG_MESSAGE_BYTES_MAX => {
            find(transform).map(|step| step.log.line(&step.name, *level, message)).is_some()
        }
        Answer::Dropped { transform, lines } => {
            find(transform).map(|step| step.log.dropped(&step.name, *lines)).is_some()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
