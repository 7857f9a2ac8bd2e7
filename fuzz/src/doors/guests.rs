//! A guest for each door: core modules that interpret a script, and how a script is written into their memory.
//!
//! A guest makes every call that it is told to, and refuses nothing. Where its script ends it does what an honest one
//! does: it hands back each record as it is. The script comes as text through what the door lets a config say.

use std::fmt::Write as _;

/// Where a guest's memory holds its image.
pub(super) const BASE: u32 = 64 << 10;
pub(super) const PAGES: u32 = 16;
/// Most operations of a script, and most bytes of what they point to.
pub(super) const OPERATIONS_MAX: usize = 40;
const DATA_MAX: usize = 16 << 10;
/// Calls of an allocator whose answers a script has.
pub(super) const ALLOCATIONS: usize = 8;
/// Words of an operation: which one, and arguments.
const WORDS: usize = 12;
const OPERATIONS_AT: usize = 4 + 4 * ALLOCATIONS;
/// Where the bytes are that operations point to.
const DATA: u32 = BASE + (OPERATIONS_AT + OPERATIONS_MAX * WORDS * 4) as u32;
/// Where a guest's allocations begin, and where it reads what is longer than its image.
const HEAP: u32 = 256 << 10;

/// Operations that are no calls.
pub(super) const END: u32 = 0;
const TRAP: u32 = 1;
const GROW: u32 = 2;
const CALLS: u32 = 3;

/// The functions of its host that a guest of each door calls: module, name, parameters (`l` is a wide one), result.
type Import = (&'static str, &'static str, &'static str, &'static str);

const WASI: &str = "wasi_snapshot_preview1";
const PROGRAM: [Import; 18] = [
    (WASI, "fd_write", "iiii", "i"),
    (WASI, "fd_read", "iiii", "i"),
    (WASI, "args_get", "ii", "i"),
    (WASI, "args_sizes_get", "ii", "i"),
    (WASI, "environ_get", "ii", "i"),
    (WASI, "environ_sizes_get", "ii", "i"),
    (WASI, "clock_res_get", "ii", "i"),
    (WASI, "clock_time_get", "ili", "i"),
    (WASI, "fd_close", "i", "i"),
    (WASI, "fd_fdstat_get", "ii", "i"),
    (WASI, "fd_filestat_get", "ii", "i"),
    (WASI, "fd_seek", "ilii", "i"),
    (WASI, "fd_prestat_get", "ii", "i"),
    (WASI, "path_open", "iiiiillii", "i"),
    (WASI, "poll_oneoff", "iiii", "i"),
    (WASI, "random_get", "ii", "i"),
    (WASI, "sched_yield", "", "i"),
    (WASI, "proc_exit", "i", ""),
];
const REDPANDA: [Import; 8] = [
    ("redpanda_transform", "check_abi_version_2", "", ""),
    ("redpanda_transform", "read_batch_header", "iiiiiiiiii", "i"),
    ("redpanda_transform", "read_next_record", "iiiii", "i"),
    ("redpanda_transform", "write_record", "ii", "i"),
    ("redpanda_transform", "write_record_with_options", "iiii", "i"),
    ("redpanda_schema_registry", "get_schema_definition_len", "ii", "i"),
    ("redpanda_schema_registry", "get_subject_schema", "iiiii", "i"),
    ("redpanda_schema_registry", "create_subject_schema", "iiiii", "i"),
];
const FLUVIO: [Import; 1] = [("env", "copy_records", "ii", "")];

/// A module that a door takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Command,
    /// One that gets all rows at once, and one that gets them one by one.
    FilterMap,
    ArrayMap,
    /// With an allocator of its own, and without.
    Filter,
    BareFilter,
    Redpanda,
}

impl Kind {
    pub(super) const ALL: [Kind; 6] =
        [Kind::Command, Kind::FilterMap, Kind::ArrayMap, Kind::Filter, Kind::BareFilter, Kind::Redpanda];

    fn imports(self) -> Vec<Import> {
        match self {
            Kind::Command => PROGRAM.to_vec(),
            Kind::FilterMap | Kind::ArrayMap => FLUVIO.to_vec(),
            Kind::Filter | Kind::BareFilter => Vec::new(),
            Kind::Redpanda => [PROGRAM.as_slice(), REDPANDA.as_slice()].concat(),
        }
    }

    /// How many functions it can call.
    pub(super) fn calls(self) -> usize {
        self.imports().len()
    }

    /// The number of a function among them.
    pub(super) fn call(self, name: &str) -> u32 {
        let found = self.imports().iter().position(|import| import.1 == name);
        CALLS + u32::try_from(found.unwrap()).unwrap()
    }

    pub(super) fn text(self) -> String {
        let body = match self {
            Kind::Command => COMMAND.to_owned(),
            Kind::FilterMap => SMART_MODULE.replace("NAME", "filter_map"),
            Kind::ArrayMap => SMART_MODULE.replace("NAME", "array_map"),
            Kind::Filter => format!("{FILTER}{ALLOCATOR}"),
            Kind::BareFilter => FILTER.to_owned(),
            Kind::Redpanda => TRANSFORM.to_owned(),
        };
        let (mut imports, mut operations) = (String::new(), String::new());
        for (index, (module, name, params, result)) in self.imports().into_iter().enumerate() {
            let types = types(params);
            let result_type = if result.is_empty() { "" } else { "(result i32)" };
            writeln!(
                imports,
                "(import \"{module}\" \"{name}\" (func ${name} (param {types}) {result_type}))"
            )
            .unwrap();
            let arguments: String = params.chars().enumerate().map(argument).collect();
            let call = format!("(call ${name} {arguments})");
            let call = if result.is_empty() { call } else { format!("(drop {call})") };
            let number = CALLS as usize + index;
            writeln!(
                operations,
                "(if (i32.eq (local.get $op) (i32.const {number})) (then {call} (br $more)))"
            )
            .unwrap();
        }
        INTERPRETER
            .replace("IMPORTS", &imports)
            .replace("OPERATIONS", &operations)
            .replace("BODY", &body)
            .replace("PAGES", &PAGES.to_string())
            .replace("ALLOCATIONS", &ALLOCATIONS.to_string())
            .replace("FIRST", &(BASE as usize + OPERATIONS_AT).to_string())
            .replace("SIZE", &(4 * WORDS).to_string())
            .replace("BASE", &BASE.to_string())
            .replace("HEAP", &HEAP.to_string())
    }

    /// The config that brings an image in.
    pub(super) fn config(self, image: &[u8]) -> String {
        let mut text = String::with_capacity(2 * image.len());
        for byte in image {
            text.extend([byte >> 4, byte & 15].map(|half| char::from(b'a' + half)));
        }
        match self {
            Kind::Command => format!(r#"{{"args":["{text}"]}}"#),
            Kind::FilterMap | Kind::ArrayMap => format!(r#"{{"params":{{"i":"{text}"}}}}"#),
            Kind::Filter | Kind::BareFilter => format!(r#"{{"tag":"{text}"}}"#),
            // The first of all, as the environment is sorted.
            Kind::Redpanda => format!(r#"{{"env":{{"A":"{text}"}}}}"#),
        }
    }
}

fn types(params: &str) -> String {
    params.chars().map(|param| if param == 'l' { "i64 " } else { "i32 " }).collect()
}

fn argument((at, param): (usize, char)) -> String {
    let word = format!("(i32.load offset={} (local.get $pc))", 4 + 4 * at);
    if param == 'l' { format!("(i64.extend_i32_s {word})") } else { word }
}

/// `$run` does one operation after the other up to an end; 1 where the script has none left. `$answer` is what it ended
/// with.
const INTERPRETER: &str = r#"(module
  IMPORTS
  (memory (export "memory") PAGES)
  (global $next (mut i32) (i32.const 0))
  (global $answer (mut i32) (i32.const 0))
  (global $taken (mut i32) (i32.const 0))
  (global $top (mut i32) (i32.const HEAP))
  (func $run (result i32) (local $op i32) (local $pc i32)
    (loop $more
      (if (i32.ge_u (global.get $next) (i32.load (i32.const BASE))) (then (return (i32.const 1))))
      (local.set $pc (i32.add (i32.const FIRST) (i32.mul (global.get $next) (i32.const SIZE))))
      (global.set $next (i32.add (global.get $next) (i32.const 1)))
      (local.set $op (i32.load (local.get $pc)))
      (if (i32.eqz (local.get $op)) (then
        (global.set $answer (i32.load offset=4 (local.get $pc)))
        (return (i32.const 0))))
      (if (i32.eq (local.get $op) (i32.const 1)) (then unreachable))
      (if (i32.eq (local.get $op) (i32.const 2)) (then
        (drop (memory.grow (i32.load offset=4 (local.get $pc))))
        (br $more)))
      OPERATIONS
      (br $more))
    (i32.const 1))
  ;; So many bytes of text are the image.
  (func $take (param $at i32) (param $len i32) (local $to i32)
    (local.set $to (i32.const BASE))
    (loop $more
      (if (i32.lt_u (local.get $len) (i32.const 2)) (then (return)))
      (i32.store8 (local.get $to) (i32.add
        (i32.shl (i32.sub (i32.load8_u (local.get $at)) (i32.const 97)) (i32.const 4))
        (i32.sub (i32.load8_u offset=1 (local.get $at)) (i32.const 97))))
      (local.set $at (i32.add (local.get $at) (i32.const 2)))
      (local.set $to (i32.add (local.get $to) (i32.const 1)))
      (local.set $len (i32.sub (local.get $len) (i32.const 2)))
      (br $more)))
  ;; The length of a text that ends with a zero.
  (func $length (param $at i32) (result i32) (local $end i32)
    (local.set $end (local.get $at))
    (block $done (loop $more
      (br_if $done (i32.eqz (i32.load8_u (local.get $end))))
      (local.set $end (i32.add (local.get $end) (i32.const 1)))
      (br $more)))
    (i32.sub (local.get $end) (local.get $at)))
  (func $allocate (param $size i32) (result i32) (local $at i32)
    (if (i32.lt_u (global.get $taken) (i32.const ALLOCATIONS)) (then
      (local.set $at (i32.load offset=4 (i32.add (i32.const BASE) (i32.shl (global.get $taken) (i32.const 2)))))
      (global.set $taken (i32.add (global.get $taken) (i32.const 1)))
      (if (local.get $at) (then (return (local.get $at))))))
    (local.set $at (global.get $top))
    (global.set $top (i32.add (local.get $at) (local.get $size)))
    (if (i32.gt_u (global.get $top) (i32.shl (memory.size) (i32.const 16))) (then
      (if (i32.eq (memory.grow (i32.const 4)) (i32.const -1)) (then unreachable))))
    (local.get $at))
  BODY)"#;

/// Standard input goes to standard output where the script has ended.
const COMMAND: &str = r#"
  (func (export "_start")
    (drop (call $args_get (i32.const 1024) (i32.const HEAP)))
    (call $take (i32.load (i32.const 1028)) (call $length (i32.load (i32.const 1028))))
    (if (i32.eqz (call $run)) (then (return)))
    (i32.store (i32.const 1024) (i32.const HEAP))
    (i32.store (i32.const 1028) (i32.const 65536))
    (loop $more
      (i32.store (i32.const 1028) (i32.const 65536))
      (drop (call $fd_read (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1032)))
      (if (i32.eqz (i32.load (i32.const 1032))) (then (return)))
      (i32.store (i32.const 1028) (i32.load (i32.const 1032)))
      (drop (call $fd_write (i32.const 1) (i32.const 1024) (i32.const 1) (i32.const 1036)))
      (br $more)))"#;

/// The records of an input are an output too; behind them is a zero, which is no error.
const SMART_MODULE: &str = r#"
  (func (export "alloc") (param i32) (result i32) (call $allocate (local.get 0)))
  (func (export "init") (param $at i32) (param $len i32) (param i32) (result i32)
    (call $take
      (i32.add (local.get $at) (i32.const 7))
      (i32.or (i32.shl (i32.load8_u offset=5 (local.get $at)) (i32.const 8)) (i32.load8_u offset=6 (local.get $at))))
    (i32.const 0))
  (func (export "NAME") (param $at i32) (param $len i32) (param i32) (result i32) (local $raw i32)
    (if (i32.eqz (call $run)) (then (return (global.get $answer))))
    (local.set $raw (i32.add (i32.shl (i32.load8_u offset=8 (local.get $at)) (i32.const 24)) (i32.add
      (i32.shl (i32.load8_u offset=9 (local.get $at)) (i32.const 16)) (i32.add
      (i32.shl (i32.load8_u offset=10 (local.get $at)) (i32.const 8)) (i32.load8_u offset=11 (local.get $at))))))
    (call $copy_records (i32.add (local.get $at) (i32.const 12)) (i32.add (local.get $raw) (i32.const 1)))
    (i32.const 0))"#;

const FILTER: &str = r#"
  (global $told (mut i32) (i32.const 0))
  (func (export "go") (param $tag i32) (param $tag-len i32) (param i32 i32) (param $record i32) (param $len i32) (result i32)
    (if (i32.eqz (global.get $told)) (then
      (global.set $told (i32.const 1))
      (call $take (local.get $tag) (local.get $tag-len))))
    (if (i32.eqz (call $run)) (then (return (global.get $answer))))
    (local.get $record))"#;

const ALLOCATOR: &str = r#"
  (func (export "malloc") (param i32) (result i32) (call $allocate (local.get 0)))
  (func (export "free") (param i32))"#;

/// Batch by batch: the script as far as it goes, then what is left of the batch as it is. 4096 is a record, 512 a head.
const TRANSFORM: &str = r#"
  (func (export "_start") (local $len i32)
    (call $check_abi_version_2)
    (drop (call $environ_get (i32.const 1024) (i32.const HEAP)))
    (call $take (i32.add (i32.const HEAP) (i32.const 2)) (call $length (i32.add (i32.const HEAP) (i32.const 2))))
    (loop $batch
      (drop (call $read_batch_header (i32.const 512) (i32.const 520) (i32.const 528) (i32.const 536) (i32.const 544) (i32.const 552) (i32.const 560) (i32.const 568) (i32.const 576) (i32.const 584)))
      (if (i32.eqz (call $run)) (then (if (global.get $answer) (then (return)))))
      (loop $record
        (local.set $len (call $read_next_record (i32.const 592) (i32.const 600) (i32.const 608) (i32.const 4096) (i32.const 32768)))
        (br_if $batch (i32.lt_s (local.get $len) (i32.const 0)))
        (drop (call $write_record (i32.const 4096) (local.get $len)))
        (br $record))))"#;

/// What a guest is to do, with the bytes that it points to.
#[derive(Default)]
pub(super) struct Image {
    operations: Vec<[u32; WORDS]>,
    allocations: [u32; ALLOCATIONS],
    data: Vec<u8>,
}

impl Image {
    /// Bytes that can be pointed to.
    pub(super) fn put(&mut self, bytes: &[u8]) -> u32 {
        let bytes = &bytes[..bytes.len().min(DATA_MAX - self.data.len())];
        let at = DATA + u32::try_from(self.data.len()).unwrap();
        self.data.extend_from_slice(bytes);
        at
    }

    pub(super) fn operation(&mut self, number: u32, arguments: &[u32]) {
        if self.operations.len() == OPERATIONS_MAX {
            return;
        }
        let mut words = [0; WORDS];
        words[0] = number;
        words[1..].iter_mut().zip(arguments).for_each(|(word, argument)| *word = *argument);
        self.operations.push(words);
    }

    pub(super) fn trap(&mut self) {
        self.operation(TRAP, &[]);
    }

    pub(super) fn grow(&mut self, pages: u32) {
        self.operation(GROW, &[pages]);
    }

    /// What an allocator answers, the first time, the second time ..; 0 is an honest answer.
    pub(super) fn allocation(&mut self, index: usize, answer: u32) {
        self.allocations[index % ALLOCATIONS] = answer;
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let mut image = u32::try_from(self.operations.len()).unwrap().to_le_bytes().to_vec();
        let words = self.allocations.iter().chain(self.operations.iter().flatten());
        image.extend(words.flat_map(|word| word.to_le_bytes()));
        image.resize((DATA - BASE) as usize, 0);
        image.extend(self.data);
        image
    }
}
