//! Programs and plugins of other systems that lie: what the transform host makes of any answer that comes through a door
//! (pointers, lengths, counts, msgpack, JSON, lines, records, exit codes). It drives `wasmill-transform` whole.
//!
//! Whatever a guest answers, the guest alone pays: the host says what was wrong with it and is never blamed itself, each
//! record has one verdict, what honest guests hand back is what they were given, and a chain beside it notices nothing.

mod guests;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use wasmill_transform::{
    Chain, ChainError, ChainOptions, ChainWorker, CodeCache, Digest, Engine, EngineOptions, Limits, Manifest,
    NullLog, Plugin, PluginFault, TransformSpec, WORKER_STACK_BYTES,
};

use self::guests::{ALLOCATIONS, BASE, END, Image, Kind, OPERATIONS_MAX, PAGES};
use crate::draw::Draw;
use crate::guest_calls::{MEMORY_BYTES, take_through};

/// What records hold where a door wants objects.
const OBJECTS: [&[u8]; 6] = [
    b"{}",
    br#"{"a":1}"#,
    br#"{"text":"caf\u00e9 \ud83d\ude00","n":-129,"x":1.5}"#,
    br#"{"a":{"b":[1,2,{"c":null}]},"d":true}"#,
    b"no object",
    b"two\nlines",
];

/// What all inputs share: an engine, the guests, and a chain of honest ones of every door.
struct Host {
    engine: Engine,
    guests: Vec<(Kind, Arc<Plugin>)>,
    neighbour: Mutex<ChainWorker>,
}

static HOST: LazyLock<Host> = LazyLock::new(|| {
    let engine = Engine::new(EngineOptions { instances_max: 24, ..EngineOptions::default() }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let cache = CodeCache::open(directory.path()).unwrap();
    let load = |kind: Kind| {
        let module = wat::parse_str(kind.text()).unwrap();
        let digest = Digest::of(&module);
        let path = cache.put(&engine, digest, &engine.precompile(&module).unwrap()).unwrap();
        (kind, engine.load(&path, Manifest::default(), digest).unwrap())
    };
    let guests: Vec<(Kind, Arc<Plugin>)> = Kind::ALL.into_iter().map(load).collect();
    let honest = guests.iter().map(|(kind, plugin)| spec(*kind, plugin, Image::default())).collect();
    let neighbour = Mutex::new(ChainWorker::new(chain(&engine, honest).unwrap()));
    Host { engine, guests, neighbour }
});

fn spec(kind: Kind, plugin: &Arc<Plugin>, image: Image) -> TransformSpec {
    TransformSpec {
        name: format!("{kind:?}").to_lowercase(),
        limits: Limits {
            // A busy machine must not be taken for a promise that is broken.
            deadline: Duration::from_secs(5),
            memory_bytes: MEMORY_BYTES,
            output_bytes: 64 << 10,
            ..Limits::default()
        },
        ..TransformSpec::new(Arc::clone(plugin), &kind.config(&image.finish()))
    }
}

fn chain(engine: &Engine, specs: Vec<TransformSpec>) -> Result<Arc<Chain>, ChainError> {
    let outputs = ["name".to_owned(), "other".to_owned()];
    Chain::build(engine, specs, &outputs, ChainOptions::default(), Arc::new(NullLog))
}

/// `data`: see the code; the first bytes choose the door and the records, the others how the guest lies, and how.
pub fn doors(data: &[u8]) {
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
    let (kind, plugin) = &host.guests[draw.below(host.guests.len())];
    let records: Vec<Vec<u8>> = (0..draw.below(6)).map(|_| record(&mut draw)).collect();
    let format = if draw.one_in(2) { Format::Msgpack } else { Format::Json };
    let honest = draw.is_empty();
    let mut spec = spec(*kind, plugin, lies(&mut draw, *kind, format));
    let rewritten = matches!((kind, format), (Kind::Filter | Kind::BareFilter, Format::Msgpack));
    if rewritten {
        spec.config.insert_str(1, r#""format":"msgpack","#);
    }
    if *kind == Kind::Command && draw.one_in(3) {
        spec.config.insert_str(1, r#""mapping":"free","#);
    }
    match chain(&host.engine, vec![spec]) {
        Ok(chain) => {
            let mut worker = ChainWorker::new(chain);
            // The second time in an instance that has run, unless it failed.
            for _ in 0..2 {
                let rows = take_through(&mut worker, &records);
                let all = passable(*kind, &records);
                // JSON that was msgpack in between has the same values in other words.
                let same = if rewritten { rows.len() == all.len() } else { rows == all };
                assert!(!honest || same, "{kind:?} did not hand back {records:?}");
            }
        }
        Err(ChainError::Layout(_)) => {}
        Err(ChainError::Transforms(errors)) => {
            assert!(!honest && !errors.is_empty(), "an honest guest was refused");
            for error in errors {
                let fault = &error.fault;
                assert!(!matches!(fault, PluginFault::Host { .. }), "the host is blamed: {fault}");
                assert!(fault.reason().len() <= 1024);
            }
        }
    }
    let mut neighbour = host.neighbour.lock().unwrap_or_else(PoisonError::into_inner);
    let all = passable(Kind::Filter, &passable(Kind::Command, &records));
    assert!(take_through(&mut neighbour, &records) == all, "a neighbour noticed");
}

fn record(draw: &mut Draw<'_>) -> Vec<u8> {
    if draw.one_in(4) { draw.bytes(60).to_vec() } else { draw.pick(&OBJECTS).to_vec() }
}

/// What an honest guest behind this door hands back.
fn passable(kind: Kind, records: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let passes = |record: &&Vec<u8>| match kind {
        // An empty line drops its record, and one with a newline is no line.
        Kind::Command => !record.is_empty() && !record.contains(&b'\n'),
        Kind::Filter | Kind::BareFilter => is_object(record),
        Kind::FilterMap | Kind::ArrayMap | Kind::Redpanda => true,
    };
    records.iter().filter(passes).cloned().collect()
}

fn is_object(record: &[u8]) -> bool {
    serde_json::from_slice::<BTreeMap<String, serde::de::IgnoredAny>>(record).is_ok()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Msgpack,
}

/// A script for a guest, which is honest where the bytes end.
fn lies(draw: &mut Draw<'_>, kind: Kind, format: Format) -> Image {
    let mut liar = Liar { draw, image: Image::default(), kind };
    for _ in 0..OPERATIONS_MAX {
        if liar.draw.is_empty() {
            break;
        }
        match (liar.draw.below(8), kind) {
            (0, _) => liar.chaos(),
            (_, Kind::Command) => liar.program(),
            (_, Kind::FilterMap | Kind::ArrayMap) => liar.smart_module(),
            (_, Kind::Filter | Kind::BareFilter) => liar.filter(format),
            (_, Kind::Redpanda) => liar.transform(),
        }
    }
    liar.image
}

/// Makes an image of what a guest does.
struct Liar<'a, 'b> {
    draw: &'a mut Draw<'b>,
    image: Image,
    kind: Kind,
}

impl Liar<'_, '_> {
    /// An address at which nothing is, or something else.
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

    /// Bytes, where they are and how many; one in so many is a lie.
    fn bytes(&mut self, bytes: &[u8]) -> [u32; 2] {
        let mut list = [self.image.put(bytes), bytes.len() as u32];
        if self.draw.one_in(6) {
            match self.draw.below(4) {
                0 => list[0] = self.address(),
                1 => list[0] += 1,
                2 => list[1] = self.number(),
                _ => list = [self.address(), self.number()],
            }
        }
        list
    }

    /// An end, a trap, more memory, what an allocator answers, any call with any arguments.
    fn chaos(&mut self) {
        match self.draw.below(6) {
            0 => {
                let answer = self.number();
                self.image.operation(END, &[answer]);
            }
            1 => self.image.trap(),
            2 => {
                let pages = self.number();
                self.image.grow(pages);
            }
            3 => {
                let (index, answer) = (self.draw.below(ALLOCATIONS), self.address());
                self.image.allocation(index, answer);
            }
            _ => {
                let number = 3 + self.draw.below(self.kind.calls().max(1)) as u32;
                let arguments: Vec<u32> = (0..10)
                    .map(|_| if self.draw.one_in(2) { self.number() } else { self.address() })
                    .collect();
                self.image.operation(number, &arguments);
            }
        }
    }

    /// Lines on standard output, text on standard error, the end with or without a code.
    fn program(&mut self) {
        match self.draw.below(6) {
            0 => {
                let code = self.draw.pick(&[0, 1, 7, 255, u32::MAX]);
                self.image.operation(self.kind.call("proc_exit"), &[code]);
            }
            1 => self.image.operation(END, &[0]),
            2 => {
                let (at, len) = (self.address(), self.number());
                let buffers = [at.to_le_bytes(), len.to_le_bytes()].concat();
                let [buffers, _] = self.bytes(&buffers);
                let read = self.address();
                self.image.operation(self.kind.call("fd_read"), &[0, buffers, 1, read]);
            }
            to => {
                let text = match self.draw.below(3) {
                    0 => self.draw.bytes(80).to_vec(),
                    1 => b"\n".repeat(self.draw.below(8)),
                    _ => {
                        let line = [self.draw.pick(&OBJECTS), b"\n"].concat();
                        line.repeat(1 + self.draw.below(5))
                    }
                };
                let [at, len] = self.bytes(&text);
                let buffers = [at.to_le_bytes(), len.to_le_bytes()].concat();
                let [buffers, _] = self.bytes(&buffers);
                let stream = if to == 3 { 2 } else { 1 };
                self.image.operation(self.kind.call("fd_write"), &[stream, buffers, 1, 2048]);
            }
        }
    }

    /// An output of records, and a status.
    fn smart_module(&mut self) {
        let mut output = Vec::new();
        let count = self.draw.below(5);
        let claimed = if self.draw.one_in(6) { self.number() } else { count as u32 };
        output.extend(claimed.to_be_bytes());
        for delta in 0..count as i64 {
            let mut record = vec![0];
            varint(&mut record, 0);
            let delta = if self.draw.one_in(4) { self.draw.long() as i64 } else { delta };
            varint(&mut record, delta);
            record.push(u8::from(self.draw.one_in(2)));
            if record.ends_with(&[1]) {
                self.sized(&mut record, b"key");
            }
            let value = self::record(self.draw);
            self.sized(&mut record, &value);
            let headers = if self.draw.one_in(5) { self.draw.long() as i64 } else { 0 };
            varint(&mut record, headers);
            self.sized(&mut output, &record);
        }
        if self.draw.one_in(3) {
            output.push(1);
            let hint = self.draw.bytes(40);
            let len = if self.draw.one_in(4) { self.draw.short() } else { hint.len() as u16 };
            output.extend(len.to_be_bytes());
            output.extend(hint);
            let offset =
                if self.draw.one_in(4) { self.draw.long() as i64 } else { self.draw.below(6) as i64 };
            output.extend(offset.to_be_bytes());
            output.extend(self.draw.bytes(8));
        } else {
            output.push(0);
        }
        let cut = if self.draw.one_in(6) { self.draw.below(output.len()) } else { output.len() };
        let list = self.bytes(&output[..cut]);
        let copies = 1 + usize::from(self.draw.one_in(8));
        for _ in 0..copies {
            self.image.operation(self.kind.call("copy_records"), &list);
        }
        let status = if self.draw.one_in(6) { self.number() } else { count as u32 };
        self.image.operation(END, &[status]);
    }

    /// Bytes behind their length, which is a lie now and then.
    fn sized(&mut self, out: &mut Vec<u8>, bytes: &[u8]) {
        let len = if self.draw.one_in(10) { self.draw.long() as i64 } else { bytes.len() as i64 };
        varint(out, len);
        out.extend(bytes);
    }

    /// What a filter returns for a record.
    fn filter(&mut self, format: Format) {
        let mut text = match (format, self.draw.below(4)) {
            (_, 0) => self.draw.bytes(200).to_vec(),
            (_, 1) => Vec::new(),
            (Format::Json, _) => self.draw.pick(&OBJECTS).to_vec(),
            (Format::Msgpack, _) => {
                let mut out = Vec::new();
                self.msgpack(&mut out, 0);
                out
            }
        };
        if !self.draw.one_in(6) {
            text.push(0);
        }
        let [at, _] = self.bytes(&text);
        self.image.operation(END, &[at]);
    }

    /// A map, then anything below it.
    fn msgpack(&mut self, out: &mut Vec<u8>, depth: usize) {
        let kind = if depth == 0 { 0 } else { self.draw.below(8) };
        match kind {
            0 | 1 if depth < 200 => {
                let count = self.draw.below(4);
                match self.draw.below(6) {
                    0 => out.extend([&[0xdf][..], &self.number().to_be_bytes()].concat()),
                    1 => out.extend([0xde, 0, count as u8]),
                    _ => out.push(0x80 | count as u8),
                }
                for _ in 0..count {
                    out.extend([0xa1, b'a' + self.draw.byte() % 26]);
                    self.msgpack(out, depth + 1);
                }
            }
            2 => {
                // As deep as may be, and deeper.
                out.extend([0x91].repeat(self.draw.byte().into()));
                out.push(0xc0);
            }
            3 => {
                out.push(self.draw.pick(&[0xc4, 0xc5, 0xc6, 0xd9, 0xda, 0xdb]));
                out.extend(self.draw.bytes(8));
            }
            4 => {
                out.push(self.draw.pick(&[0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3]));
                out.extend(self.draw.long().to_be_bytes());
            }
            5 => out.push(self.draw.byte()),
            _ => out.extend([0xa3, b'a', 0xc3, 0xa9]),
        }
    }

    /// Records that are written, to an output or not; records that are read; batches that are asked for.
    fn transform(&mut self) {
        let next: [u32; 5] = [592, 600, 608, 4096, 32768];
        match self.draw.below(8) {
            0 => {
                let arguments =
                    next.map(|argument| if self.draw.one_in(3) { self.address() } else { argument });
                self.image.operation(self.kind.call("read_next_record"), &arguments);
            }
            1 => {
                let arguments: Vec<u32> = (0..10)
                    .map(|at| if self.draw.one_in(10) { self.address() } else { 512 + 8 * at })
                    .collect();
                self.image.operation(self.kind.call("read_batch_header"), &arguments);
            }
            2 | 3 => self.image.operation(self.kind.call("read_next_record"), &next),
            number => {
                let mut record = Vec::new();
                self.sized(&mut record, b"key");
                let value = self::record(self.draw);
                self.sized(&mut record, &value);
                let headers = self.draw.below(3);
                let claimed = if self.draw.one_in(6) { self.draw.long() as i64 } else { headers as i64 };
                varint(&mut record, claimed);
                for _ in 0..headers {
                    self.sized(&mut record, b"name");
                    self.sized(&mut record, b"");
                }
                let [at, len] = self.bytes(&record);
                if number < 6 {
                    self.image.operation(self.kind.call("write_record"), &[at, len]);
                    return;
                }
                let mut options = vec![if self.draw.one_in(6) { self.draw.byte() } else { 1 }];
                let topic = self.draw.pick(&["other", "name", "nowhere", ""]);
                self.sized(&mut options, topic.as_bytes());
                let [options, options_len] = self.bytes(&options);
                let arguments = [at, len, options, options_len];
                self.image.operation(self.kind.call("write_record_with_options"), &arguments);
            }
        }
    }
}

fn varint(out: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_guest_behind_each_door_hands_back_what_it_was_given() {
        for kind in 0..Kind::ALL.len() as u8 {
            // Three records, picked from the list.
            doors(&[kind, 3, 0, 1, 0, 2, 0, 3]);
        }
    }
}
