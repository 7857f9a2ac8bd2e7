//! The process that runs plugins, seen from inside: it takes code and chains, and runs slices, until the host lets go of it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{SigSet, Signal};
use wasmill_chunk::{FinishOptions, Input, Partition, RowCheck, RowMeta, RowSink};

use super::columns::Columns;
use super::messages::{
    Answer, Clock, Letter, Load, LoadedStep, PartitionValues, Refused, RefusedTransform, Report, Request,
    RowsHead, Run, Transform,
};
use super::requests::ThroughHost;
use super::wire::{Body, Channel, put_i64s, put_u32s};
use super::{sandbox, state};
use crate::chain::{Chain, ChainError, TransformSpec};
use crate::engine::{Engine, EngineOptions, WORKER_STACK_BYTES};
use crate::event_time::{RowTimes, Times};
use crate::fault::PluginFault;
use crate::grants::{GrantedFile, StateGrant};
use crate::http::HttpGrant;
use crate::log::{Level, LogSink};
use crate::plugin::{Digest, Plugin};
use crate::report::{DeadLetter, Slice, SliceReport};
use crate::step::Declared;
use crate::worker::{ChainWorker, Kept, Position};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
/// Bytes of rows, and rows, that are gathered before they are sent.
const ROWS_BYTES: usize = 256 << 10;
const ROWS_MAX: usize = 16_384;

/// The body of the hidden subcommand `run-plugins`: `args` are the arguments after its name. Serves the host at the other end of
/// stdin until that closes it. Returns the exit code; why it gave up is on stderr.
pub fn plugin_process_main(args: &[String]) -> u8 {
    let numbers: Vec<u64> = args.iter().map_while(|arg| arg.parse().ok()).collect();
    let &[memory, fuel, debug_info] = numbers.as_slice() else {
        say("usage: run-plugins MEMORY-BYTES FUEL DEBUG-INFO, with a socket as stdin");
        return USAGE;
    };
    // The host ends it by letting go of the socket; what a terminal or a service manager sends to everybody is not for it.
    let others = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    if let Err(error) = others.thread_block() {
        say(&format!("block signals: {error}"));
        return FAILED;
    }
    if let Err(error) = let_go() {
        say(&format!("close what the host was started with: {error}"));
        return FAILED;
    }
    let serving = std::thread::Builder::new()
        .name("guests".to_owned())
        .stack_size(WORKER_STACK_BYTES + (1 << 20))
        .spawn(move || serve(memory, fuel != 0, debug_info != 0));
    match serving.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => 0,
        Ok(Ok(Err(reason))) => {
            say(&reason);
            FAILED
        }
        Ok(Err(_panic)) => FAILED,
        Err(error) => {
            say(&format!("start the thread of guests: {error}"));
            FAILED
        }
    }
}

/// Closes what the host itself was started with, and so this process: everything but the three files that are its own.
fn let_go() -> io::Result<()> {
    let mut others: Vec<i32> = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number: Option<i32> = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        others.extend(number.filter(|number| *number > 2));
    }
    for other in others {
        // The one that the list was read through has gone already.
        match nix::unistd::close(other) {
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn say(text: &str) {
    // Nobody is left to tell if stderr is gone.
    let _unheard = writeln!(io::stderr(), "{text}");
}

fn serve(memory: u64, fuel: bool, debug_info: bool) -> Result<(), String> {
    let files = || -> io::Result<(UnixStream, File)> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        Ok((UnixStream::from(socket), File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    };
    let (socket, position) = files().map_err(|error| format!("stdin and stdout: {error}"))?;
    let options = EngineOptions { pooling: false, fuel, debug_info, ..EngineOptions::default() };
    let engine = Engine::new(options).map_err(|error| error.to_string())?;
    sandbox::limit(memory).map_err(|error| format!("limit the process: {error}"))?;
    sandbox::enter()?;
    // From here on anything but memory, the clock and the socket ends the process.
    let mut inside = Inside {
        engine,
        channel: Arc::new(Mutex::new(Channel::patient(socket))),
        position: Arc::new(Position::new(position)),
        plugins: HashMap::new(),
        chains: HashMap::new(),
    };
    loop {
        let received = inside.lock().receive(None);
        let (request, body) = match received {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(format!("the host: {error}")),
        };
        inside.answer(request, body).map_err(|error| format!("answer the host: {error}"))?;
    }
}

struct Inside {
    engine: Engine,
    channel: Arc<Mutex<Channel>>,
    position: Arc<Position>,
    plugins: HashMap<Digest, Arc<Plugin>>,
    chains: HashMap<u64, ChainWorker>,
}

impl Inside {
    fn lock(&self) -> std::sync::MutexGuard<'_, Channel> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, answer: &Answer) -> io::Result<()> {
        self.lock().send(answer, &[], None)
    }

    fn answer(&mut self, request: Request, body: Vec<u8>) -> io::Result<()> {
        match request {
            Request::Code { digest, manifest, module } => {
                let manifest = serde_json::from_slice(&manifest).map_err(io::Error::other)?;
                match Plugin::from_code(&self.engine, &body, module, manifest, digest) {
                    Ok(plugin) => {
                        self.plugins.insert(digest, Arc::new(plugin));
                        self.say(&Answer::Taken)
                    }
                    Err(error) => self.say(&Answer::NotTaken(error.to_string())),
                }
            }
            Request::Load(load) => self.load(*load, &body),
            Request::Unload { chain } => {
                self.chains.remove(&chain);
                if self.chains.is_empty() {
                    self.plugins.clear();
                }
                self.say(&Answer::Gone)
            }
            Request::Run(run) => self.run(&run, &body),
            // Only in a run that asked.
            Request::Answers(_) | Request::Entries { .. } | Request::Checked(_) => Err(unfit()),
        }
    }

    fn load(&mut self, load: Load, body: &[u8]) -> io::Result<()> {
        let Load { chain, transforms, outputs, options } = load;
        let files: usize =
            transforms.iter().flat_map(|transform| &transform.files).map(|(_, bytes)| *bytes as usize).sum();
        let (files, models) = body.split_at_checked(files).ok_or_else(unfit)?;
        let (mut files, mut models) = (Body(files), Body(models));
        let mut specs = Vec::with_capacity(transforms.len());
        for (transform, step) in transforms.into_iter().zip(0..) {
            specs.push(self.spec(transform, step, &mut files, &mut models).ok_or_else(unfit)?);
        }
        let log = Arc::new(ToHost { channel: Arc::clone(&self.channel) });
        let position = Some(self.position.as_ref());
        match Chain::build_marking(&self.engine, specs, &outputs, options, log, position) {
            Ok(built) => {
                let loaded = |declared: &Declared| -> io::Result<LoadedStep> {
                    Ok(LoadedStep { declared: digest_of(declared)?, tables: declared.tables.clone() })
                };
                let declared = built.declared().map(loaded).collect::<io::Result<_>>()?;
                let worker = ChainWorker::new(built).marking(Arc::clone(&self.position));
                self.chains.insert(chain, worker);
                self.say(&Answer::Loaded(declared))
            }
            Err(ChainError::Layout(message)) => self.say(&Answer::Refused(Refused::Layout(message))),
            Err(ChainError::Transforms(errors)) => {
                let errors = errors.into_iter().map(|error| RefusedTransform {
                    index: error.index,
                    of_config: error.of_config,
                    fault: error.fault.bounded(),
                });
                self.say(&Answer::Refused(Refused::Transforms(errors.collect())))
            }
        }
    }

    fn spec(
        &self,
        transform: Transform,
        step: u32,
        granted: &mut Body<'_>,
        of_models: &mut Body<'_>,
    ) -> Option<TransformSpec> {
        let Transform { name, plugin, config, files, secrets, http, key, models, limits } = transform;
        let files = files.into_iter().map(|(name, length)| {
            let bytes = granted.bytes(length as usize)?;
            Some((name, GrantedFile::from_bytes(bytes.to_vec())))
        });
        let models = models.into_iter().map(|model| {
            let content = GrantedFile::from_bytes(of_models.bytes(model.bytes as usize)?.to_vec());
            // The host has read it, too.
            Some((model.name, self.engine.model(&model.file, &content).ok()?))
        });
        Some(TransformSpec {
            name,
            plugin: Arc::clone(self.plugins.get(&plugin)?),
            config,
            files: files.collect::<Option<_>>()?,
            secrets: secrets.into_iter().collect(),
            http: http.map(|hosts| HttpGrant {
                hosts,
                outbound: Arc::new(ThroughHost { channel: Arc::clone(&self.channel), step }),
            }),
            // The host has judged it.
            state: StateGrant { key, denied: None },
            models: models.collect::<Option<_>>()?,
            limits,
        })
    }

    fn run(&mut self, run: &Run, body: &[u8]) -> io::Result<()> {
        let mut body = Body(body);
        let columns = run.inputs.iter().map(|head| Columns::read(head, &mut body));
        let columns = columns.collect::<Option<Vec<_>>>().ok_or_else(unfit)?;
        let attributes: Vec<_> = columns.iter().map(Columns::attributes).collect();
        let parts = run.inputs.iter().zip(&columns).zip(&attributes);
        let inputs: Vec<Input<'_>> =
            parts.map(|((head, columns), attributes)| columns.input(head, attributes)).collect();
        let slice = Slice { id: run.slice, stream_seed: run.stream_seed, inputs: &inputs };
        let options = FinishOptions { require_json: run.require_json, byte_routes: run.byte_routes };
        let worker = self.chains.get_mut(&run.chain).ok_or_else(unfit)?;
        let mut sink = ToRows { channel: &self.channel, rows: Gathered::default(), failed: None };
        worker.has_waited(run.waited);
        let rows: Vec<RowTimes<'_>> = columns.iter().map(Columns::times).collect();
        let times = run.clock.map(|Clock { before, after, due, arrival }| Times {
            rows: &rows,
            before,
            after,
            due,
            arrival,
        });
        let mut check = state::ThroughHost(&self.channel);
        let kept = run.keeps.as_ref().map(|keeps| Kept {
            state: state::far(worker.chain(), keeps, &self.channel),
            check: keeps.checks.then_some(&mut check as &mut dyn RowCheck),
        });
        let (report, layer, owed) = worker.run_timed(&slice, times, &options, &mut sink, kept);
        sink.flush();
        if let Some(error) = sink.failed {
            return Err(error);
        }
        let names: Vec<&str> = worker.chain().transforms().map(|(name, _)| name).collect();
        let (report, letters) = report_of(report, owed, &names)?;
        let changes = layer.map_or(Vec::new(), |layer| state::changes(worker.chain(), &layer));
        self.lock().send(&Answer::Done(Box::new(report)), &[&letters, &changes], None)
    }
}

fn digest_of(declared: &Declared) -> io::Result<Digest> {
    Ok(Digest::of(&postcard::to_stdvec(declared).map_err(io::Error::other)?))
}

fn unfit() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a request that does not fit its body")
}

/// The report, and its letters one after another.
fn report_of(report: SliceReport, owed: bool, names: &[&str]) -> io::Result<(Report, Vec<u8>)> {
    let letter = |letter: DeadLetter| Letter {
        input: letter.input,
        row: letter.row,
        offset: letter.offset,
        child: letter.child,
        step: names.iter().position(|name| *name == &*letter.transform).unwrap_or(names.len()),
        route: letter.route,
        reason: letter.reason,
        payload: letter.payload,
    };
    let count = u32::try_from(report.failures.len()).map_err(io::Error::other)?;
    let mut letters = Vec::new();
    for failure in report.failures {
        letters = postcard::to_extend(&letter(failure), letters).map_err(io::Error::other)?;
    }
    let bounded = |(step, fault): (usize, PluginFault)| (step, fault.bounded());
    let report = Report {
        passed: report.passed,
        dropped: report.dropped,
        emitted: report.emitted,
        letters: count,
        letter_bytes: u32::try_from(letters.len()).map_err(io::Error::other)?,
        owed,
        transforms: report.transforms,
        chunks: report.chunks,
        chunks_bisected: report.chunks_bisected,
        faults: report.faults.into_iter().map(bounded).collect(),
        unrunnable: report.unrunnable.map(bounded),
    };
    Ok((report, letters))
}

/// Sends what guests log. Nothing is dropped here: what comes is capped already.
struct ToHost {
    channel: Arc<Mutex<Channel>>,
}

impl ToHost {
    fn send(&self, answer: &Answer) {
        // A host that is gone is found out at the next answer.
        let _gone = self.channel.lock().unwrap_or_else(PoisonError::into_inner).send(answer, &[], None);
    }
}

impl LogSink for ToHost {
    fn line(&self, transform: &str, level: Level, message: &str) {
        let (transform, message) = (transform.to_owned(), message.to_owned());
        self.send(&Answer::Line { transform, level, message });
    }

    fn dropped(&self, transform: &str, lines: u64) {
        self.send(&Answer::Dropped { transform: transform.to_owned(), lines });
    }
}

/// Rows that have not been sent.
#[derive(Default)]
struct Gathered {
    payload: Vec<u8>,
    ends: Vec<u32>,
    offsets: Vec<i64>,
    children: Vec<u32>,
    arrivals: Vec<i64>,
    routes: Vec<u32>,
    partition_of: Vec<u32>,
    partitions: Vec<Partition>,
    places: HashMap<Partition, u32>,
}

/// Sends the rows that leave, some at a time.
struct ToRows<'a> {
    channel: &'a Mutex<Channel>,
    rows: Gathered,
    failed: Option<io::Error>,
}

impl ToRows<'_> {
    fn flush(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        if rows.ends.is_empty() || self.failed.is_some() {
            return;
        }
        let head = Answer::Rows(RowsHead {
            rows: u32::try_from(rows.ends.len()).unwrap_or(u32::MAX),
            payload_bytes: u32::try_from(rows.payload.len()).unwrap_or(u32::MAX),
            partitions: u32::try_from(rows.partitions.len()).unwrap_or(u32::MAX),
        });
        let mut columns = Vec::with_capacity(rows.ends.len() * 32);
        put_u32s(&mut columns, rows.ends);
        put_i64s(&mut columns, rows.offsets);
        put_u32s(&mut columns, rows.children);
        put_i64s(&mut columns, rows.arrivals);
        put_u32s(&mut columns, rows.routes);
        put_u32s(&mut columns, rows.partition_of);
        for partition in rows.partitions {
            let values = partition.values.into_iter().map(|(name, value)| (name.to_string(), value));
            match postcard::to_stdvec(&values.collect::<PartitionValues>()) {
                Ok(bytes) => {
                    put_u32s(&mut columns, [u32::try_from(bytes.len()).unwrap_or(u32::MAX)]);
                    columns.extend_from_slice(&bytes);
                }
                Err(error) => self.failed = Some(io::Error::other(error)),
            }
        }
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = channel.send(&head, &[&rows.payload, &columns], None) {
            self.failed = Some(error);
        }
    }
}

impl RowSink for ToRows<'_> {
    fn begin(&mut self, row: &RowMeta<'_>) -> &mut Vec<u8> {
        if self.rows.payload.len() >= ROWS_BYTES || self.rows.ends.len() >= ROWS_MAX {
            self.flush();
        }
        let rows = &mut self.rows;
        rows.offsets.push(row.offset);
        rows.children.push(row.child);
        rows.arrivals.push(row.arrival);
        rows.routes.push(row.route);
        let last = rows.partition_of.last().copied();
        let same = last.filter(|at| rows.partitions.get(*at as usize) == Some(row.partition));
        let at = same.unwrap_or_else(|| match rows.places.get(row.partition) {
            Some(at) => *at,
            None => {
                let at = u32::try_from(rows.partitions.len()).unwrap_or(u32::MAX);
                rows.partitions.push(row.partition.clone());
                rows.places.insert(row.partition.clone(), at);
                at
            }
        });
        rows.partition_of.push(at);
        &mut rows.payload
    }

    fn end(&mut self, _row: &RowMeta<'_>) {
        self.rows.ends.push(u32::try_from(self.rows.payload.len()).unwrap_or(u32::MAX));
    }
}
