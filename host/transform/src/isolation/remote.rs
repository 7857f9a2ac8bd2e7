//! A chain whose guests run in another process: its way there, slice by slice, and what happens when that process ends.
//!
//! Owns the budget of lost processes. A record that ends the process costs one record, like one that traps: parts of the
//! slice run in fresh processes until the record is alone. Rows reach the sink only when their part is whole.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use wasmill_chunk::{CellsRef, ColumnRef, FinishOptions, Input, RowSink};

use super::answer::{self, Asked, Rows};
use super::messages::{Answer, InputHead, Load, Refused, Request, Run, Transform, manifest_bytes};
use super::process::{OWN_BYTES, Process};
use super::requests::{self, Sent};
use super::wire::put_u32s;
use super::{Isolation, LINES_MAX};
use crate::bisect;
use crate::chain::{Chain, ChainOptions};
use crate::fault::{PluginFault, REASON_BYTES_MAX, cut_text};
use crate::http::wait_max;
use crate::limits::{LOG_MESSAGE_BYTES_MAX, WALL_PER_CPU};
use crate::plugin::{Code, Digest};
use crate::report::{Slice, SliceReport, TransformReport};
use crate::step::Step;
use crate::worker::Part;

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
    chain: u64,
    outputs: Vec<String>,
    /// Tells processes when the chain is gone.
    alive: Arc<()>,
    /// What its instances in one process may use together.
    memory_bytes: u64,
    /// For building the chain.
    build_max: Duration,
    /// Between two signs of life while a slice runs, without what guests wait.
    chunk_max: Duration,
    /// So long they may wait in one slice.
    wait_max: Duration,
    /// More for each chunk of a slice, over all: CPU time twice.
    each_chunk: Duration,
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
        let remote = Remote {
            isolation: isolation.clone(),
            chain: isolation.next_chain(),
            outputs: outputs.to_vec(),
            alive: Arc::new(()),
            memory_bytes: memory.saturating_add(files),
            build_max: PATIENCE + (configure + call * CALLS_PER_PROBE) * WALL_PER_CPU,
            chunk_max: PATIENCE + (configure + call * (options.bisect_deadlines + 2)) * WALL_PER_CPU,
            wait_max: wait_max(steps),
            each_chunk: call * 2 * (options.bisect_deadlines + 2),
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
            limits: step.limits.clone(),
        });
        let request = Request::Load(Box::new(Load {
            chain: self.chain,
            transforms: transforms.collect(),
            outputs: self.outputs.clone(),
            options: options.clone(),
        }));
        let files: Vec<&[u8]> = steps
            .iter()
            .flat_map(|step| step.grants.files.values().map(|file| file.bytes.as_ref()))
            .collect();
        process.send(&request, &files, until).map_err(NotLoaded::Lost)?;
        let mut lines = 0;
        loop {
            match process.receive(until).map_err(NotLoaded::Lost)?.0 {
                Answer::Loaded(declared) if declared.len() == steps.len() => {
                    process.note_loaded(self.chain, Arc::downgrade(&self.alive), self.memory_bytes);
                    return Ok(declared);
                }
                Answer::Refused(refused) => return Err(NotLoaded::Refused(refused)),
                said if log(steps, &said, &mut lines) => {}
                _ => return Err(NotLoaded::Lost(impossible())),
            }
        }
    }

    /// Takes a slice through the chain there.
    pub(crate) fn run(
        &self,
        chain: &Chain,
        slice: &Slice<'_>,
        options: &FinishOptions,
        sink: &mut dyn RowSink,
    ) -> SliceReport {
        let mut whole = SliceReport {
            transforms: vec![TransformReport::default(); chain.steps.len()],
            ..SliceReport::default()
        };
        let parts: Vec<Part> = slice
            .inputs
            .iter()
            .enumerate()
            .filter(|(_, input)| !input.payloads.ends.is_empty())
            .map(|(input, columns)| Part { input, rows: columns.rows() })
            .collect();
        if parts.is_empty() {
            return whole;
        }
        let total = parts.iter().map(|part| part.rows.len()).sum();
        let (mut lost, mut some) = (0, Vec::new());
        let mut sent = Sent::new(chain.steps.len());
        let mut waiting = vec![Waiting::new(0..total)];
        while let Some(Waiting { rows, ends, lost: lost_here }) = waiting.pop() {
            if whole.unrunnable.is_some() {
                break;
            }
            bisect::pick(&parts, &rows, &mut some);
            if let Some((step, fault)) = ends {
                if lost >= LOST_MAX || rows.len() == 1 && lost_here >= LOST_ALONE {
                    let reason = match rows.len() {
                        1 => fault.reason(),
                        rows => {
                            format!("{fault} (in a part of {rows} records; {LOST_MAX} processes were lost)")
                        }
                    };
                    bisect::fail(chain, slice, &mut whole, &some, step, &reason);
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
            let mut spent = Duration::default();
            let attempt = self.attempt(chain, slice, &some, options, &mut spent, &mut sent);
            whole.cpu_elsewhere += spent;
            match attempt {
                Ok((report, rows)) => {
                    if report.unrunnable.is_none() {
                        rows.iter().for_each(|rows| rows.pour(sink));
                    }
                    answer::add(&mut whole, report);
                }
                Err(Unanswered::Unrunnable(step, fault)) => whole.unrunnable = Some((step, fault)),
                Err(Unanswered::Lost(step, fault)) => {
                    lost += 1;
                    self.isolation.note_lost();
                    whole.chunks_bisected += 1;
                    if let Some(transform) = whole.transforms.get_mut(step) {
                        transform.traps += 1;
                    }
                    whole.note(step, fault.clone());
                    waiting.push(Waiting { rows, ends: Some((step, fault)), lost: lost_here + 1 });
                }
            }
        }
        whole.count_letters(&chain.steps);
        let sent = sent.of_steps.into_iter();
        whole.transforms.iter_mut().zip(sent).for_each(|(transform, sent)| transform.http.add(sent));
        whole
    }

    /// Runs some rows in one process.
    fn attempt(
        &self,
        chain: &Chain,
        slice: &Slice<'_>,
        parts: &[Part],
        options: &FinishOptions,
        spent: &mut Duration,
        sent: &mut Sent,
    ) -> Result<(SliceReport, Vec<Rows>), Unanswered> {
        let ready = self.ready(&chain.steps, &chain.options, spent).map_err(|error| match error {
            BuildError::Transforms(mut faults) => {
                let (step, _, fault) = faults.swap_remove(0);
                Unanswered::Unrunnable(step, fault)
            }
            BuildError::Layout(message) => Unanswered::Unrunnable(0, PluginFault::BadOutput { message }),
        })?;
        let Ready { mut process, before } = ready;
        let asked = Asked { chain, slice, parts, outputs: self.outputs.len() };
        match self.exchange(&mut process, &asked, options, before, sent) {
            Ok(done) => {
                self.isolation.put(process);
                Ok(done)
            }
            Err(error) => {
                let step = process.position().min(chain.steps.len().saturating_sub(1));
                let (fault, used) = process.end(&error);
                *spent += used.saturating_sub(before);
                Err(Unanswered::Lost(step, fault))
            }
        }
    }

    fn exchange(
        &self,
        process: &mut Process,
        asked: &Asked<'_>,
        options: &FinishOptions,
        before: Duration,
        sent: &mut Sent,
    ) -> io::Result<(SliceReport, Vec<Rows>)> {
        let mut request = Run {
            chain: self.chain,
            slice: asked.slice.id,
            stream_seed: asked.slice.stream_seed,
            require_json: options.require_json,
            byte_routes: options.byte_routes,
            waited: sent.waited(),
            inputs: Vec::with_capacity(asked.parts.len()),
        };
        // Payloads go as they are; everything else is copied into one buffer behind each.
        let mut payloads: Vec<&[u8]> = Vec::with_capacity(asked.parts.len());
        let mut rest: Vec<Vec<u8>> = Vec::with_capacity(asked.parts.len());
        for part in asked.parts {
            let Some(input) = asked.slice.inputs.get(part.input) else { continue };
            let (head, payload, columns) = columns(input, &part.rows).ok_or_else(impossible)?;
            request.inputs.push(head);
            payloads.push(payload);
            rest.push(columns);
        }
        let body: Vec<&[u8]> =
            payloads.iter().zip(&rest).flat_map(|(payload, rest)| [*payload, rest.as_slice()]).collect();
        let chunks = u32::try_from(asked.chunks()).unwrap_or(u32::MAX);
        let of_chunks = self.each_chunk.saturating_mul(chunks);
        let end = Instant::now() + self.chunk_max + of_chunks + self.wait_max;
        sent.begin();
        process.send(&Request::Run(request), &body, end)?;
        let (mut rows, mut came, mut lines) = (Vec::new(), (0, 0), 0);
        let mut room = asked.rows_max();
        let mut alive = Instant::now() + self.chunk_max;
        loop {
            let (answer, body) = process.receive(end.min(alive))?;
            match answer {
                Answer::Rows(head) => {
                    let some = Rows::read(head, body, asked).ok_or_else(impossible)?;
                    room = room.checked_sub(some.bytes()).ok_or_else(impossible)?;
                    came = (came.0 + some.count(), came.1 + some.payload_bytes());
                    rows.push(some);
                }
                Answer::Http(ask) => {
                    let waited = sent.waited();
                    requests::answer(process, asked, ask, &body, sent, end).ok_or_else(impossible)??;
                    // To ask is no sign that anything is done.
                    alive += sent.waited().saturating_sub(waited);
                    continue;
                }
                Answer::Done(report) => {
                    let used = process.cpu().saturating_sub(before);
                    let report = asked.report(*report, &body, came, used).ok_or_else(impossible)?;
                    return Ok((report, rows));
                }
                said if log(&asked.chain.steps, &said, &mut lines) => {}
                _ => return Err(impossible()),
            }
            alive = Instant::now() + self.chunk_max;
        }
    }
}

fn impossible() -> io::Error {
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
fn log(steps: &[Step], said: &Answer, lines: &mut u32) -> bool {
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

/// Some rows of an input: what they are, their payloads, and the columns behind these. `None`: the columns are no columns.
fn columns<'a>(input: &Input<'a>, rows: &Range<usize>) -> Option<(InputHead, &'a [u8], Vec<u8>)> {
    let mut out = Vec::with_capacity(rows.len() * 8);
    let payload = put_ends(input.payloads, rows, &mut out)?;
    if let Some(deltas) = input.arrival_deltas {
        put_u32s(&mut out, deltas.get(rows.clone())?.iter().copied());
    }
    let keys = match &input.keys {
        Some(keys) => Some(put_cells(keys, rows, &mut out)?),
        None => None,
    };
    let mut attributes = Vec::with_capacity(input.attributes.len());
    for (name, cells) in input.attributes {
        attributes.push((name.clone(), put_cells(cells, rows, &mut out)?));
    }
    let head = InputHead {
        first_offset: input.first_offset.saturating_add(rows.start as u64),
        arrival: input.arrival,
        rows: u32::try_from(rows.len()).ok()?,
        payload_bytes: u32::try_from(payload.len()).ok()?,
        deltas: input.arrival_deltas.is_some(),
        keys,
        attributes,
    };
    Some((head, payload, out))
}

/// Writes the ends of some values, counted from the first of them, and returns their bytes.
fn put_ends<'a>(column: ColumnRef<'a>, rows: &Range<usize>, out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let start = if rows.start == 0 { 0 } else { *column.ends.get(rows.start - 1)? };
    let ends = column.ends.get(rows.clone())?;
    put_u32s(out, ends.iter().map(|end| end.wrapping_sub(start)));
    column.data.get(start as usize..ends.last().map_or(start, |end| *end) as usize)
}

/// States, ends and values; how many bytes the values are.
fn put_cells(cells: &CellsRef<'_>, rows: &Range<usize>, out: &mut Vec<u8>) -> Option<u32> {
    out.extend_from_slice(cells.state.get(rows.clone())?);
    let values = put_ends(cells.values, rows, out)?;
    out.extend_from_slice(values);
    u32::try_from(values.len()).ok()
}
