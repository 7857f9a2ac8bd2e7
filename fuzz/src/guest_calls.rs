//! A guest that lies, in front of the boundary: what the transform host makes of any core values that a component hands
//! to its imports, its `cabi_realloc` and its results. It drives `wasmill-transform` whole: lifting and lowering, host
//! functions, faults, bisection.
//!
//! The guest is one small core module that interprets a script: calls of every import, with pointers, lengths, handles,
//! discriminants and text out of the input. Whatever they are, the guest alone pays: the host says what was wrong with it,
//! each record has one verdict, and a chain beside it notices nothing.

mod interpreter;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use wasmill_chunk::{Column, FinishOptions, Input};
use wasmill_transform::{
    Chain, ChainError, ChainOptions, ChainWorker, CodeCache, Digest, Engine, EngineOptions, GrantedFile,
    Grants, Limits, Manifest, NullLog, Plugin, PluginFault, Slice, TransformSpec, WORKER_STACK_BYTES,
    componentize,
};
use wit_component::StringEncoding;
use wit_parser::Resolve;

use self::interpreter::{ANSWER, BASE, HANDLE, HANDLES, Image, PAGES, Script, text};
use crate::draw::Draw;
use crate::plugin_output::{NAMES, Sink, cells, column, document, float, marks, row, states};

const WIT: &str = include_str!("../../wit/plugin.wit");
/// Most calls of one script.
const CALLS_MAX: usize = 32;
pub(crate) const MEMORY_BYTES: u64 = 8 << 20;

/// What all inputs share: an engine, the guest, and a chain of an honest one.
struct Host {
    engine: Engine,
    guest: Arc<Plugin>,
    neighbour: Mutex<ChainWorker>,
}

static HOST: LazyLock<Host> = LazyLock::new(|| {
    let mut module = wat::parse_str(text()).unwrap();
    let mut resolve = Resolve::default();
    resolve.push_str("plugin.wit", WIT).unwrap();
    let world = "package fuzz:guest;\nworld guest { include wasmill:plugin/keeper@0.1.3; }";
    let package = resolve.push_str("guest.wit", world).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let engine = Engine::new(EngineOptions { instances_max: 16, ..EngineOptions::default() }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let code = engine.precompile(&componentize(&module).unwrap()).unwrap();
    let digest = Digest::of(&module);
    let path = CodeCache::open(directory.path()).unwrap().put(&engine, digest, &code).unwrap();
    let manifest = Manifest {
        name: "liar".to_owned(),
        version: "1.0.0".to_owned(),
        grants: Grants {
            files: vec!["image".to_owned()],
            secrets: vec!["name".to_owned()],
            state: true,
            ..Grants::default()
        },
        ..Manifest::default()
    };
    let guest = engine.load(&path, manifest, digest).unwrap();
    let honest = Image::new().finish(&[Script::end_well()], &[Script::drop_rows(), Script::end_well()], &[]);
    let neighbour = Mutex::new(ChainWorker::new(chain(&engine, vec![spec(&guest, 0, honest)]).unwrap()));
    Host { engine, guest, neighbour }
});

fn spec(guest: &Arc<Plugin>, index: usize, image: Vec<u8>) -> TransformSpec {
    TransformSpec {
        name: format!("t{index}"),
        files: BTreeMap::from([("image".to_owned(), GrantedFile::from_bytes(image))]),
        secrets: BTreeMap::from([("name".to_owned(), "hush".to_owned())]),
        limits: Limits {
            // A busy machine must not be taken for a promise that is broken.
            deadline: Duration::from_secs(5),
            memory_bytes: MEMORY_BYTES,
            output_bytes: 64 << 10,
            ..Limits::default()
        },
        ..TransformSpec::new(Arc::clone(guest), "")
    }
}

fn chain(engine: &Engine, specs: Vec<TransformSpec>) -> Result<Arc<Chain>, ChainError> {
    let outputs = ["name".to_owned(), "other".to_owned()];
    Chain::build(engine, specs, &outputs, ChainOptions::default(), Arc::new(NullLog))
}

/// `data`: see the code; the first bytes choose the records, then how often the guests lie, then the calls of each.
pub fn guest_calls(data: &[u8]) {
    // Guests need more stack than a thread of the tests has.
    let input = data.to_vec();
    let thread = std::thread::Builder::new().stack_size(WORKER_STACK_BYTES);
    let done = thread.spawn(move || run(&input)).unwrap().join();
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

fn run(data: &[u8]) {
    let host = &*HOST;
    let mut draw = Draw(data);
    let records: Vec<Vec<u8>> = (0..draw.below(6)).map(|_| document(&mut draw)).collect();
    let guests = 1 + usize::from(draw.one_in(3));
    let specs = (0..guests).map(|index| spec(&host.guest, index, image(&mut draw, records.len()))).collect();
    match chain(&host.engine, specs) {
        Ok(chain) => {
            let mut worker = ChainWorker::new(chain);
            // The second time in an instance that has run, unless it failed.
            for _ in 0..2 {
                take_through(&mut worker, &records);
            }
        }
        Err(ChainError::Layout(_)) => {}
        Err(ChainError::Transforms(errors)) => {
            assert!(!errors.is_empty());
            for error in errors {
                let fault = &error.fault;
                assert!(!matches!(fault, PluginFault::Host { .. }), "the host is blamed: {fault}");
                assert!(fault.reason().len() <= 1024);
            }
        }
    }
    let mut neighbour = host.neighbour.lock().unwrap_or_else(PoisonError::into_inner);
    let rows = take_through(&mut neighbour, &records);
    assert!(rows == records, "a neighbour noticed");
}

/// Takes the records through a chain and checks its books; the rows that came out.
pub(crate) fn take_through(worker: &mut ChainWorker, records: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut payloads = Column::default();
    records.iter().for_each(|record| payloads.push(record));
    let inputs = [Input::of_payloads(0, payloads.as_ref())];
    let slice = Slice { id: 0, stream_seed: 7, inputs: &inputs };
    let mut sink = Sink::default();
    // What a guest did not touch is what it was, JSON or not.
    let options = FinishOptions { require_json: false, byte_routes: 0 };
    let report = worker.run(&slice, &options, &mut sink);
    if let Some((_, fault)) = &report.unrunnable {
        panic!("configured once, but not again: {fault}");
    }
    for (_, fault) in &report.faults {
        assert!(!matches!(fault, PluginFault::Host { .. }), "the host is blamed: {fault}");
    }
    assert_eq!(report.emitted, sink.rows.len() as u64);
    let passed: BTreeSet<i64> = sink.rows.iter().map(|row| row.0).filter(|offset| *offset >= 0).collect();
    assert_eq!(report.passed, passed.len() as u64);
    let mut failed = BTreeSet::new();
    for failure in report.failures.iter().filter(|failure| failure.input != usize::MAX) {
        assert_eq!((failure.input, failure.offset), (0, i64::from(failure.row)));
        assert!(failure.reason.len() <= 1024, "{} bytes of reason", failure.reason.len());
        assert!(failed.insert(failure.offset), "record {} failed twice", failure.offset);
        assert!(!passed.contains(&failure.offset), "record {} passed and failed", failure.offset);
    }
    let settled = report.passed + report.dropped + failed.len() as u64;
    assert_eq!(settled, records.len() as u64, "{report:?}");
    for transform in &report.transforms {
        assert!(transform.memory_bytes_peak <= MEMORY_BYTES, "{} bytes", transform.memory_bytes_peak);
    }
    sink.rows.into_iter().map(|row| row.3).collect()
}

/// Makes an image of what a guest does.
struct Liar<'a, 'b> {
    draw: &'a mut Draw<'b>,
    image: Image,
    /// It lies in one of so many places.
    rate: u8,
    /// Fields that were declared.
    slots: usize,
    /// Rows behind each handle, the one of `process` first.
    handles: Vec<usize>,
}

fn image(draw: &mut Draw<'_>, records: usize) -> Vec<u8> {
    let rates = [draw.pick(&[255, 20, 6]), draw.pick(&[20, 255, 6])];
    let mut liar = Liar { draw, image: Image::new(), rate: rates[0], slots: 0, handles: vec![records] };
    let mut configure = Vec::new();
    for _ in 0..liar.draw.below(8) {
        configure.push(liar.declare());
    }
    configure.push(liar.end());
    liar.rate = rates[1];
    let mut process = Vec::new();
    for _ in 0..CALLS_MAX {
        let Some(call) = liar.call() else { break };
        process.push(call);
    }
    if !liar.lies() {
        process.push(Script::drop_rows());
    }
    process.push(liar.end());
    let answers: Vec<u32> =
        (0..liar.draw.below(4)).map(|_| if liar.lies() { liar.address() } else { 0 }).collect();
    liar.image.finish(&configure, &process, &answers)
}

impl Liar<'_, '_> {
    fn lies(&mut self) -> bool {
        self.rate < 255 && self.draw.one_in(self.rate)
    }

    /// An address that nothing is at, or something else.
    fn address(&mut self) -> u32 {
        match self.draw.below(6) {
            0 => 0,
            1 => (PAGES << 16) - u32::from(self.draw.byte()),
            2 => u32::MAX - u32::from(self.draw.byte()),
            3 => BASE + u32::from(self.draw.short()),
            4 => 1 << 31,
            _ => self.draw.long() as u32,
        }
    }

    fn number(&mut self) -> u32 {
        match self.draw.below(4) {
            0 => u32::from(self.draw.byte()),
            1 => u32::MAX - u32::from(self.draw.byte()),
            2 => 1 << (self.draw.byte() % 32),
            _ => self.draw.long() as u32,
        }
    }

    /// A list: where, and how many.
    fn list(&mut self, bytes: &[u8], count: usize) -> [u32; 2] {
        let mut list = [self.image.put(bytes), count as u32];
        if self.lies() {
            match self.draw.below(4) {
                0 => list[0] = self.address(),
                1 => list[0] += 1,
                2 => list[1] = self.number(),
                _ => list = [self.address(), self.number()],
            }
        }
        list
    }

    fn words(&mut self, words: &[u32]) -> [u32; 2] {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.list(&bytes, words.len())
    }

    fn bytes(&mut self, bytes: &[u8]) -> [u32; 2] {
        self.list(bytes, bytes.len())
    }

    /// A string, mostly UTF-8.
    fn string(&mut self) -> [u32; 2] {
        if self.lies() {
            let bytes = self.draw.bytes(40);
            return self.bytes(bytes);
        }
        let name = self.draw.pick(&NAMES);
        self.bytes(name.as_bytes())
    }

    fn cells(&mut self, rows: usize, documents: bool) -> [u32; 6] {
        let cells = cells(self.draw, rows, documents);
        let (state, data) = (self.bytes(&cells.state), self.bytes(&cells.values.data));
        let ends = self.words(&cells.values.ends);
        [state[0], state[1], data[0], data[1], ends[0], ends[1]]
    }

    fn answer(&mut self) -> u32 {
        if self.lies() { self.address() } else { ANSWER }
    }

    /// A handle, and how many rows are behind it.
    fn handle(&mut self) -> (u32, usize) {
        if self.lies() {
            return (self.number() % 64, self.draw.below(6));
        }
        let index = self.draw.below(self.handles.len());
        (HANDLE + index as u32, self.handles[index])
    }

    fn slot(&mut self) -> u32 {
        if self.lies() { self.number() } else { self.draw.below(self.slots) as u32 }
    }

    /// Where a handle that is returned is kept.
    fn keep(&mut self, rows: usize) -> u32 {
        if self.handles.len() < HANDLES as usize {
            self.handles.push(rows);
            self.handles.len() as u32 - 1
        } else {
            HANDLES - 1
        }
    }

    /// A call inside `configure`, mostly of what is allowed there.
    fn declare(&mut self) -> Script {
        if self.lies()
            && let Some(call) = self.call()
        {
            return call;
        }
        match self.draw.below(10) {
            8 | 9 => {
                let (name, answer) = (self.string(), self.answer());
                let (version, ttl) = (self.number(), if self.draw.one_in(2) { 0 } else { self.number() });
                Script::call("table", &[name[0], name[1], version, ttl, answer])
            }
            0 => {
                let (name, answer) = (self.string(), self.answer());
                Script::call("output", &[name[0], name[1], answer])
            }
            1 => {
                let (name, answer) = (self.string(), self.answer());
                Script::call("secret", &[name[0], name[1], answer])
            }
            2 => {
                let (name, answer) = (self.string(), self.answer());
                let (offset, len) = (self.number(), self.number());
                Script::call("file", &[name[0], name[1], offset, len, answer])
            }
            3 => self.log(),
            _ => {
                let steps = if self.lies() { self.draw.below(100) } else { 1 + self.draw.below(2) };
                let path: Vec<u32> = (0..steps)
                    .flat_map(|_| {
                        let key = self.draw.pick(&["a", "b", "c", "d", "longer-than-eight"]);
                        self.bytes(key.as_bytes())
                    })
                    .collect();
                let bytes: Vec<u8> = path.iter().flat_map(|word| word.to_le_bytes()).collect();
                let list = self.list(&bytes, steps);
                self.slots += 1;
                Script::call("field", &[list[0], list[1], HANDLES - 1])
            }
        }
    }

    fn log(&mut self) -> Script {
        let level = if self.lies() { self.number() } else { self.draw.below(4) as u32 };
        let message = self.string();
        Script::call("write", &[level, message[0], message[1]])
    }

    /// A result: ok, an error of its own, or neither.
    fn end(&mut self) -> Script {
        let error = self.draw.one_in(6);
        let text = if error { self.string() } else { [0; 2] };
        let discriminant = if self.lies() { self.number() } else { u32::from(error) };
        let at = self.image.put_words(&[discriminant, text[0], text[1]]);
        Script::end(if self.lies() { self.address() } else { at })
    }

    /// A call inside `process`.
    fn call(&mut self) -> Option<Script> {
        let call = self.draw.below(37);
        if call == 0 {
            return None;
        }
        let (handle, rows) = self.handle();
        let script = match call {
            1 => Script::call("chunk.len", &[handle, HANDLES - 1]),
            2 => Script::call("chunk.seed", &[handle]),
            3 | 4 => {
                let name =
                    self.draw.pick(&["chunk.offsets", "chunk.arrival-times", "chunk.keys", "chunk.payloads"]);
                Script::call(name, &[handle, self.answer()])
            }
            5 => {
                let name = self.string();
                Script::call("chunk.attributes", &[handle, name[0], name[1], self.answer()])
            }
            6..=8 => {
                let name = self.draw.pick(&[
                    "chunk.get-text",
                    "chunk.get-raw",
                    "chunk.get-floats",
                    "chunk.get-ints",
                    "chunk.get-strings",
                ]);
                Script::call(name, &[handle, self.slot(), self.answer()])
            }
            9 | 10 => self.named("chunk.set-payloads", &[handle], rows, true),
            11 => {
                let marks = marks(self.draw, rows);
                let list = self.bytes(&marks);
                Script::call("chunk.clear", &[handle, list[0], list[1]])
            }
            12 | 13 => {
                let slot = self.slot();
                self.named("chunk.set-text", &[handle, slot], rows, false)
            }
            14 | 15 => {
                let slot = self.slot();
                self.named("chunk.set-raw", &[handle, slot], rows, true)
            }
            16 => {
                let floats: Vec<u8> = (0..rows).flat_map(|_| float(self.draw).to_le_bytes()).collect();
                self.numbers("chunk.set-floats", handle, rows, &floats)
            }
            17 => {
                let ints: Vec<u8> = (0..rows).flat_map(|_| self.draw.long().to_le_bytes()).collect();
                self.numbers("chunk.set-ints", handle, rows, &ints)
            }
            18 => {
                let values: Vec<u32> = (0..rows)
                    .flat_map(|_| {
                        let some = if self.lies() { self.number() } else { u32::from(self.draw.one_in(2)) };
                        let text = self.string();
                        [some, text[0], text[1]]
                    })
                    .collect();
                let bytes: Vec<u8> = values.iter().flat_map(|word| word.to_le_bytes()).collect();
                let list = self.list(&bytes, rows);
                Script::call("chunk.set-strings", &[handle, self.slot(), list[0], list[1]])
            }
            19 => self.named("chunk.set-keys", &[handle], rows, false),
            20 => {
                let name = self.string();
                self.named("chunk.set-attributes", &[handle, name[0], name[1]], rows, false)
            }
            21 => {
                let name = self.string();
                self.named("chunk.partition", &[handle, name[0], name[1]], rows, false)
            }
            22 => {
                let routes: Vec<u32> = (0..rows)
                    .map(|_| if self.lies() { self.number() } else { self.draw.below(2) as u32 })
                    .collect();
                let list = self.words(&routes);
                Script::call("chunk.route", &[handle, list[0], list[1]])
            }
            23 => {
                let marks = marks(self.draw, rows);
                let list = self.bytes(&marks);
                Script::call("chunk.keep", &[handle, list[0], list[1]])
            }
            24 => {
                let failing: Vec<u32> = (0..self.draw.below(4)).map(|_| row(self.draw, rows)).collect();
                let reasons = column(self.draw, failing.len(), |draw| draw.bytes(200).to_vec());
                let (failing, data, ends) =
                    (self.words(&failing), self.bytes(&reasons.data), self.words(&reasons.ends));
                let args = [handle, failing[0], failing[1], data[0], data[1], ends[0], ends[1]];
                Script::call("chunk.fail", &args)
            }
            25 | 26 => {
                let sources: Vec<u32> = (0..self.draw.below(5)).map(|_| row(self.draw, rows)).collect();
                let list = self.words(&sources);
                let kept = self.keep(sources.len());
                Script::call("chunk.derive", &[handle, list[0], list[1], kept])
            }
            27 => {
                let rows = if self.lies() { self.number() } else { self.draw.below(4) as u32 };
                let kept = self.keep(rows.min(64) as usize);
                Script::call("chunk.fresh", &[rows, kept])
            }
            28 => Script::call("emit", &[handle]),
            29..=35 => self.keeps(call, handle),
            _ => match self.draw.below(3) {
                0 => self.log(),
                1 => Script::call("[resource-drop]chunk", &[handle]),
                _ => self.declare_late(),
            },
        };
        Some(script)
    }

    /// A call on state.
    fn keeps(&mut self, call: usize, handle: u32) -> Script {
        if call == 29 {
            return Script::call("groups", &[handle, self.answer()]);
        }
        let table = if self.lies() { self.number() } else { self.draw.below(3) as u32 };
        let count = self.draw.below(5);
        let keys = column(self.draw, count, |draw| draw.bytes(4).to_vec());
        let groups = self.draw.bytes(count).to_vec();
        let (groups, data, ends) = (self.bytes(&groups), self.bytes(&keys.data), self.words(&keys.ends));
        let places = [table, groups[0], groups[1], data[0], data[1], ends[0], ends[1]];
        match call {
            30 => Script::call("group-of", &[data[0], data[1], ends[0], ends[1], self.answer()]),
            31 => Script::call("get", &[&places[..], &[self.answer()]].concat()),
            35 => Script::call("versions", &[&places[..], &[self.answer()]].concat()),
            32 => self.named("put", &places, count, false),
            33 => {
                let deltas: Vec<u8> = (0..count).flat_map(|_| self.draw.long().to_le_bytes()).collect();
                let deltas = self.list(&deltas, count);
                Script::call("add", &[&places[..], &deltas, &[self.answer()]].concat())
            }
            _ => {
                let (from, to) = (self.string(), self.string());
                let after = u32::from(self.draw.one_in(2));
                let after = if self.lies() { self.number() } else { after };
                let (key, group, limit) = (self.string(), u32::from(self.draw.byte()), self.number());
                let args = [table, from[0], from[1], to[0], to[1], after, group, key[0], key[1], limit];
                Script::call("scan", &[&args[..], &[self.answer()]].concat())
            }
        }
    }

    /// What may be called inside `configure` only.
    fn declare_late(&mut self) -> Script {
        let (name, answer) = (self.string(), self.answer());
        Script::call("secret", &[name[0], name[1], answer])
    }

    /// A call with some arguments before its cells.
    fn named(&mut self, name: &str, before: &[u32], rows: usize, documents: bool) -> Script {
        let cells = self.cells(rows, documents);
        Script::call(name, &[before, &cells].concat())
    }

    fn numbers(&mut self, name: &str, handle: u32, rows: usize, values: &[u8]) -> Script {
        let (slot, state) = (self.slot(), states(self.draw, rows));
        let (state, values) = (self.bytes(&state), self.list(values, rows));
        Script::call(name, &[handle, slot, state[0], state[1], values[0], values[1]])
    }
}
