//! Makes plugins out of WebAssembly text, and runs chains of them over lines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use wasmill_chunk::{Column, FinishOptions, Input, RowMeta, RowSink};
use wasmill_transform::{
    Chain, ChainError, ChainOptions, ChainWorker, CodeCache, Digest, Engine, EngineOptions, GrantedFile,
    Isolation, Level, Limits, LoadError, LogSink, Manifest, Plugin, Slice, SliceReport, TransformSpec,
};
use wit_component::StringEncoding;
use wit_parser::Resolve;

const WIT: &str = include_str!("../../../../wit/plugin.wit");

pub(crate) static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(EngineOptions::default()).unwrap());

static CACHE: LazyLock<(tempfile::TempDir, CodeCache)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let cache = CodeCache::open(directory.path()).unwrap();
    (directory, cache)
});

/// A guest: parts of a core module that differ between tests.
#[derive(Default)]
pub(crate) struct Guest {
    /// More WIT packages, pushed before the world.
    pub(crate) packages: Vec<&'static str>,
    /// Interfaces that the world imports besides the plugin's own.
    pub(crate) world_imports: Vec<&'static str>,
    /// `(import ..)` lines besides those in `CORE`.
    pub(crate) imports: &'static str,
    /// Globals, functions, data.
    pub(crate) items: &'static str,
    /// Body of `configure`; `$config` and `$len` are its text.
    pub(crate) configure: &'static str,
    /// Body of `process`; `$rows` is the chunk, `$i`, `$j`, `$n` are free.
    pub(crate) process: &'static str,
    /// Body of `on-watermark`, which is exported if there is one; `$ns` is the watermark, `$i` is free.
    pub(crate) on_watermark: &'static str,
}

impl Guest {
    pub(crate) fn process(process: &'static str) -> Guest {
        Guest { process, ..Guest::default() }
    }

    /// The core module with component metadata.
    pub(crate) fn core(&self) -> Vec<u8> {
        self.core_for("0.1.3")
    }

    /// As [`Guest::core`], built for this version of the ABI.
    pub(crate) fn core_for(&self, version: &str) -> Vec<u8> {
        let at = |text: &str| text.replace("@0.1.3", &format!("@{version}"));
        let Guest { imports, items, configure, process, on_watermark, .. } = self;
        let told = match *on_watermark {
            "" => String::new(),
            body => format!(
                r#"(func (export "wasmill:plugin/event-time@0.1.3#on-watermark") (param $ns i64) (result i32)
                (local $i i32)
                {body}
                (i32.store (i32.const 16) (i32.const 0))
                (i32.const 16))"#
            ),
        };
        let text = format!(
            r#"(module
              (import "wasmill:plugin/records@0.1.3" "[resource-drop]chunk" (func $drop (param i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.len" (func $len (param i32) (result i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.payloads" (func $payloads (param i32 i32)))
              (import "wasmill:plugin/records@0.1.3" "[method]chunk.keep" (func $keep (param i32 i32 i32)))
              (import "wasmill:plugin/log@0.1.3" "write" (func $log (param i32 i32 i32)))
              {imports}
              (memory (export "memory") 4)
              ;; 16: result of the exports; 32: result of $payloads; 1024: texts; from 131072: allocations
              (global $top (mut i32) (i32.const 131072))
              {items}
              (func $alloc (param $size i32) (result i32)
                (local $at i32)
                (local.set $at (global.get $top))
                (global.set $top (i32.and (i32.add (i32.add (global.get $top) (local.get $size)) (i32.const 15)) (i32.const -16)))
                (block $fits (loop $grow
                  (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
                  (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
                  (br $grow)))
                (local.get $at))
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (call $alloc (local.get 3)))
              (func (export "wasmill:plugin/transform@0.1.3#configure") (param $config i32) (param $config-len i32) (result i32)
                (local $i i32)
                {configure}
                (i32.store (i32.const 16) (i32.const 0))
                (i32.const 16))
              (func (export "wasmill:plugin/transform@0.1.3#process") (param $rows i32) (result i32)
                (local $i i32) (local $j i32) (local $n i32)
                (global.set $top (i32.const 131072))
                {process}
                (call $drop (local.get $rows))
                (i32.store (i32.const 16) (i32.const 0))
                (i32.const 16))
              {told})"#
        );
        let mut module = wat::parse_str(at(&text)).unwrap();
        let mut resolve = Resolve::default();
        resolve.push_str("plugin.wit", &at(WIT)).unwrap();
        for (index, package) in self.packages.iter().enumerate() {
            resolve.push_str(format!("package-{index}.wit"), &at(package)).unwrap();
        }
        let more: String =
            self.world_imports.iter().map(|interface| format!("import {interface};\n")).collect();
        let more = if told.is_empty() { more } else { more + "export wasmill:plugin/event-time@0.1.3;\n" };
        let world = format!(
            "package test:guest;\nworld guest {{ include wasmill:plugin/transformer@0.1.3; {more} }}"
        );
        let package = resolve.push_str("guest.wit", &at(&world)).unwrap();
        let world = resolve.select_world(&[package], Some("guest")).unwrap();
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        module
    }

    pub(crate) fn plugin(&self) -> Arc<Plugin> {
        self.load(Manifest::default()).unwrap()
    }

    pub(crate) fn load(&self, manifest: Manifest) -> Result<Arc<Plugin>, LoadError> {
        load(&self.core(), manifest)
    }

    pub(crate) fn spec(&self, name: &str) -> TransformSpec {
        spec(name, self.plugin())
    }
}

pub(crate) fn load(core: &[u8], manifest: Manifest) -> Result<Arc<Plugin>, LoadError> {
    ENGINE.load(&compiled(core), manifest, Digest::of(core))
}

/// Compiles through the cache, as the catalog does.
pub(crate) fn compiled(wasm: &[u8]) -> PathBuf {
    let (_, cache) = &*CACHE;
    let digest = Digest::of(wasm);
    if let Some(path) = cache.get(&ENGINE, digest).unwrap() {
        return path;
    }
    let code = ENGINE.precompile(wasm).unwrap();
    cache.put(&ENGINE, digest, &code).unwrap()
}

pub(crate) fn spec(name: &str, plugin: Arc<Plugin>) -> TransformSpec {
    TransformSpec {
        name: name.to_owned(),
        files: BTreeMap::from([("table".to_owned(), GrantedFile::from_bytes(b"0123456789".to_vec()))]),
        secrets: BTreeMap::from([("key".to_owned(), "hush".to_owned())]),
        limits: Limits { deadline: Duration::from_millis(200), memory_bytes: 32 << 20, ..Limits::default() },
        ..TransformSpec::new(plugin, "{}")
    }
}

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) lines: Mutex<Vec<(Level, String)>>,
    pub(crate) dropped: Mutex<u64>,
}

impl Log {
    pub(crate) fn text(&self) -> String {
        self.lines.lock().unwrap().iter().map(|(_, line)| format!("{line}\n")).collect()
    }
}

impl LogSink for Log {
    fn line(&self, _transform: &str, level: Level, message: &str) {
        self.lines.lock().unwrap().push((level, message.to_owned()));
    }

    fn dropped(&self, _transform: &str, lines: u64) {
        *self.dropped.lock().unwrap() += lines;
    }
}

/// Keeps every row as `offset:payload`, with its route in front if it is not 0.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<String>,
    buffer: Vec<u8>,
}

impl RowSink for Rows {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        self.buffer.clear();
        &mut self.buffer
    }

    fn end(&mut self, row: &RowMeta<'_>) {
        let payload = String::from_utf8_lossy(&self.buffer);
        let route = if row.route == 0 { String::new() } else { format!("{}>", row.route) };
        self.rows.push(format!("{route}{}:{payload}", row.offset));
    }
}

/// A chain and a worker with everything that they wrote.
pub(crate) struct Bench {
    pub(crate) log: Arc<Log>,
    pub(crate) worker: ChainWorker,
}

impl Bench {
    pub(crate) fn try_new(specs: Vec<TransformSpec>, options: ChainOptions) -> Result<Bench, ChainError> {
        let log = Arc::new(Log::default());
        let outputs = ["main".to_owned(), "side".to_owned()];
        let chain = Chain::build(&ENGINE, specs, &outputs, options, Arc::clone(&log) as Arc<dyn LogSink>)?;
        Ok(Bench { log, worker: ChainWorker::new(chain) })
    }

    /// As [`Bench::try_new`], with the guests in a process of their own.
    pub(crate) fn try_apart(
        isolation: &Isolation,
        specs: Vec<TransformSpec>,
        options: ChainOptions,
    ) -> Result<Bench, ChainError> {
        let log = Arc::new(Log::default());
        let outputs = ["main".to_owned(), "side".to_owned()];
        let sink = Arc::clone(&log) as Arc<dyn LogSink>;
        let chain = Chain::build_apart(&ENGINE, isolation, specs, &outputs, options, sink)?;
        Ok(Bench { log, worker: ChainWorker::new(chain) })
    }

    pub(crate) fn new(guests: &[&Guest]) -> Bench {
        let specs =
            guests.iter().enumerate().map(|(index, guest)| guest.spec(&format!("t{index}"))).collect();
        Bench::try_new(specs, ChainOptions::default()).unwrap()
    }

    pub(crate) fn run(&mut self, lines: &[&str]) -> (Vec<String>, SliceReport) {
        let mut payloads = Column::default();
        for line in lines {
            payloads.push(line.as_bytes());
        }
        let mut input = Input::of_payloads(100, payloads.as_ref());
        input.arrival = 1_700_000_000_000_000_000;
        let inputs = [input];
        let slice = Slice { id: 100, stream_seed: 7, inputs: &inputs };
        let mut rows = Rows::default();
        let report = self.worker.run(&slice, &FinishOptions::default(), &mut rows);
        (rows.rows, report)
    }
}

/// What `Chain::build` says against this guest.
pub(crate) fn refusal(guest: &Guest) -> String {
    let error =
        Bench::try_new(vec![guest.spec("t0")], ChainOptions::default()).err().expect("a refused chain");
    text_of(&error)
}

pub(crate) fn text_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Fails (`unreachable`) if any payload's first byte is `x`, loops for ever if it is `l`, returns an error if it is `e`;
/// drops rows that begin with `d`.
pub(crate) fn picky() -> Guest {
    Guest {
        items: r#"
          (data (i32.const 1024) "no e, please")
          (func $first (param $rows i32) (param $row i32) (result i32)
            (local $start i32)
            (local $end i32)
            (local.set $end (i32.load (i32.add (i32.load (i32.const 40)) (i32.mul (local.get $row) (i32.const 4)))))
            (if (local.get $row) (then
              (local.set $start (i32.load (i32.add (i32.load (i32.const 40)) (i32.mul (i32.sub (local.get $row) (i32.const 1)) (i32.const 4)))))))
            (if (i32.eq (local.get $start) (local.get $end)) (then (return (i32.const 0))))
            (i32.load8_u (i32.add (i32.load (i32.const 32)) (local.get $start))))"#,
        process: r#"
          (local.set $n (call $len (local.get $rows)))
          (call $payloads (local.get $rows) (i32.const 32))
          (local.set $j (call $alloc (local.get $n)))
          (block $done (loop $next
            (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
            (if (i32.eq (call $first (local.get $rows) (local.get $i)) (i32.const 120)) (then unreachable))
            (if (i32.eq (call $first (local.get $rows) (local.get $i)) (i32.const 108)) (then (loop $ever (br $ever))))
            (if (i32.eq (call $first (local.get $rows) (local.get $i)) (i32.const 101)) (then
              (call $drop (local.get $rows))
              (i32.store (i32.const 16) (i32.const 1))
              (i32.store (i32.const 20) (i32.const 1024))
              (i32.store (i32.const 24) (i32.const 12))
              (return (i32.const 16))))
            (i32.store8 (i32.add (local.get $j) (local.get $i))
              (i32.ne (call $first (local.get $rows) (local.get $i)) (i32.const 100)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next)))
          (call $keep (local.get $rows) (local.get $j) (local.get $n))"#,
        ..Guest::default()
    }
}
