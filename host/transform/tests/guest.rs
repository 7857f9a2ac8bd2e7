//! Every case of `wit/vectors.json` through a real component, and what a real component costs.
//!
//! The component is `tests/guests/vectors`; `cargo xtask plugins --guests` builds it, and `cargo xtask test` before it runs this.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use wasmill_chunk::{Cells, Column, FinishOptions, Input, RowMeta, RowSink};
use wasmill_transform::{
    Chain, ChainOptions, ChainWorker, CodeCache, Digest, Engine, EngineOptions, Manifest, NullLog, Plugin,
    Slice, SliceReport, TransformSpec, componentize, inspect,
};

fn guest() -> Vec<u8> {
    let directory = std::env::var_os("WASMILL_GUESTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/guests"), PathBuf::from);
    let file = directory.join("vectors.wasm");
    std::fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask plugins --guests`", file.display()))
}

/// Statements of a WIT text, each behind the interface or world that it is in.
fn statements(wit: &str) -> BTreeSet<String> {
    let code: String =
        wit.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    let mut found = BTreeSet::new();
    let mut place = String::new();
    for part in code.split_inclusive([';', '{', '}']) {
        let words: Vec<&str> = part.trim_end_matches([';', '{', '}']).split_whitespace().collect();
        let text = words.join(" ");
        if part.ends_with('{') && ["interface", "world"].contains(words.first().unwrap_or(&"")) {
            place.clone_from(&text);
        }
        if !text.is_empty() && words[0] != "package" {
            found.insert(format!("{place}: {text}"));
        }
    }
    found
}

#[test]
fn abi_still_has_everything_of_its_first_version() {
    let first = statements(include_str!("../../../tests/guests/vectors/wit/plugin.wit"));
    let now = statements(include_str!("../../../wit/plugin.wit"));
    assert!(first.iter().any(|statement| statement == "interface records: len: func() -> u32"), "{first:#?}");
    assert!(first.len() > 40, "{first:#?}");
    let gone: Vec<&String> = first.difference(&now).collect();
    assert!(gone.is_empty(), "an old plugin would not run any more: {gone:#?}");
}

struct Host {
    engine: Engine,
    plugin: Arc<Plugin>,
}

impl Host {
    fn new() -> Host {
        let wasm = guest();
        let engine = Engine::new(EngineOptions::default()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(directory.path()).unwrap();
        let code = engine.precompile(&componentize(&wasm).unwrap()).unwrap();
        let digest = Digest::of(&wasm);
        let path = cache.put(&engine, digest, &code).unwrap();
        let plugin = engine.load(&path, Manifest::default(), digest).unwrap();
        Host { engine, plugin }
    }

    fn worker(&self, programs: &[Value], outputs: &[String]) -> ChainWorker {
        let spec = |(index, program): (usize, &Value)| TransformSpec {
            name: format!("t{index}"),
            ..TransformSpec::new(Arc::clone(&self.plugin), &program.to_string())
        };
        let specs = programs.iter().enumerate().map(spec).collect();
        let chain =
            Chain::build(&self.engine, specs, outputs, ChainOptions::default(), Arc::new(NullLog)).unwrap();
        ChainWorker::new(chain)
    }
}

/// Rows as `wit/vectors.json` writes them.
#[derive(Default)]
struct Rows {
    rows: Vec<Value>,
    buffer: Vec<u8>,
}

impl RowSink for Rows {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        self.buffer.clear();
        &mut self.buffer
    }

    fn end(&mut self, row: &RowMeta<'_>) {
        let mut out = json!({ "payload": value_of(&self.buffer), "offset": row.offset });
        if row.child != 0 {
            out["child"] = json!(row.child);
        }
        if row.route != 0 {
            out["route"] = json!(row.route);
        }
        if let Some(key) = row.key {
            out["key"] = value_of(key);
        }
        if !row.partition.values.is_empty() {
            let pairs = row.partition.values.iter();
            out["partition"] = pairs.map(|(name, value)| json!([name.as_ref(), value_of(value)])).collect();
        }
        self.rows.push(out);
    }
}

fn value_of(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn bytes_of(value: &Value) -> Vec<u8> {
    if let Some(text) = value.as_str() {
        return text.as_bytes().to_vec();
    }
    let hex = value["hex"].as_str().unwrap_or_default().as_bytes();
    hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn column(value: &Value) -> Column {
    let mut column = Column::default();
    list(value).iter().for_each(|value| column.push(&bytes_of(value)));
    column
}

fn cells(value: &Value) -> Cells {
    let mut cells = Cells::default();
    let state = |cell: &Value| u8::try_from(cell[0].as_u64().unwrap()).unwrap();
    list(value).iter().for_each(|cell| cells.push(state(cell), &bytes_of(&cell[1])));
    cells
}

/// Runs the `input` of a case.
fn run(worker: &mut ChainWorker, input: &Value, options: &FinishOptions) -> (Rows, SliceReport) {
    let payloads = column(&input["payloads"]);
    let keys = input.get("keys").map(cells);
    let attributes: Vec<(String, Cells)> = input["attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, values)| (name.clone(), cells(values)))
        .collect();
    let attributes: Vec<_> = attributes.iter().map(|(name, cells)| (name.clone(), cells.as_ref())).collect();
    let deltas: Option<Vec<u32>> = input.get("arrival_deltas").map(|deltas| {
        list(deltas).iter().map(|delta| u32::try_from(delta.as_u64().unwrap()).unwrap()).collect()
    });
    let inputs = [Input {
        first_offset: input["first_offset"].as_u64().unwrap_or(0),
        offsets: None,
        payloads: payloads.as_ref(),
        arrival: input["arrival"].as_i64().unwrap_or(0),
        arrival_deltas: deltas.as_deref(),
        keys: keys.as_ref().map(Cells::as_ref),
        attributes: &attributes,
    }];
    let slice = Slice { id: 0, stream_seed: 1, inputs: &inputs };
    let mut rows = Rows::default();
    let report = worker.run(&slice, options, &mut rows);
    (rows, report)
}

/// One case; an `Err` says what differs.
fn run_case(host: &Host, case: &Value) -> Result<(), String> {
    let transforms = list(&case["transforms"]);
    // The numbers of a case's outputs are their places in its list.
    let outputs: Vec<String> = transforms
        .iter()
        .map(|transform| list(&transform["outputs"]))
        .max_by_key(|outputs| outputs.len())
        .into_iter()
        .flatten()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    let mut worker = host.worker(transforms, &outputs);
    let options = FinishOptions {
        require_json: case["require_json"].as_bool().unwrap_or(false),
        ..FinishOptions::default()
    };
    let (rows, report) = run(&mut worker, &case["input"], &options);
    let differs =
        |what: &str, got: &dyn std::fmt::Debug| Err(format!("{what}: {got:?}, faults {:?}", report.faults));
    if !report.faults.is_empty() {
        return differs("a fault", &report.failures);
    }
    if rows.rows != list(&case["output"]) {
        return differs("output", &rows.rows);
    }
    let failed = list(&case["failed"]);
    if report.failures.len() != failed.len() {
        return differs("failed", &report.failures);
    }
    for (letter, wanted) in report.failures.iter().zip(failed) {
        let row = wanted["row"].as_u64().map_or(u32::MAX, |row| u32::try_from(row).unwrap());
        let place = usize::try_from(wanted["transform"].as_u64().unwrap_or(0)).unwrap();
        let name = if place < transforms.len() { format!("t{place}") } else { String::new() };
        let reason = wanted["reason"].as_str().unwrap_or(&letter.reason);
        let child = wanted["child"].as_u64().unwrap_or(u64::from(letter.child));
        if letter.row != row
            || *letter.transform != *name
            || letter.reason != reason
            || u64::from(letter.child) != child
            || letter.payload != wanted["payload"].as_str().unwrap_or_default().as_bytes()
        {
            return differs("failure", letter);
        }
    }
    let dropped = case["dropped"].as_u64().unwrap_or(0);
    let records = list(&case["input"]["payloads"]).len() as u64;
    let with_row = failed.iter().filter(|failure| failure["row"].is_u64()).count() as u64;
    if report.dropped != dropped || report.passed != records - dropped - with_row {
        return differs("verdicts", &(report.passed, report.dropped));
    }
    Ok(())
}

#[test]
fn component_holds_every_case_of_the_vectors() {
    let host = Host::new();
    let vectors: Value = serde_json::from_str(include_str!("../../../wit/vectors.json")).unwrap();
    let cases = list(&vectors["cases"]);
    assert!(cases.len() > 30, "the file has its cases");
    let failed: Vec<_> = cases
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case["name"], run_case(&host, case).err()?)))
        .collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[test]
fn component_reads_and_writes_typed_cells_through_a_chain() {
    let host = Host::new();
    let first = json!({
        "fields": [["a"], ["n"], ["x", "y"]],
        "ops": [
            {"call": "len", "expect": 3},
            {"call": "get-text", "slot": 0, "expect": [[3, "q\"\n"], [1], [0]]},
            {"call": "get-ints", "slot": 1, "expect": [[3, 7], [2], [0]]},
            {"call": "get-floats", "slot": 1, "expect": [[3, 7.0], [3, 1.5], [0]]},
            {"call": "set-ints", "slot": 1, "cells": [[3, 8], [2], [0]]},
            {"call": "set-text", "slot": 2, "cells": [[0], [3, "deep\u{7}"], [0]]},
            {"call": "keep", "marks": [1, 1, 0]},
        ]
    });
    let second = json!({
        "fields": [["n"], ["x", "y"]],
        "outputs": ["side"],
        "ops": [
            {"call": "get-ints", "slot": 0, "expect": [[3, 8], [0]]},
            {"call": "get-text", "slot": 1, "expect": [[0], [3, "deep\u{7}"]]},
            {"call": "route", "outputs": [1, 0]},
        ]
    });
    let mut worker = host.worker(&[first, second], &["main".to_owned(), "side".to_owned()]);
    let lines = json!({"payloads": [r#"{"a":"q\"\n","n":7}"#, r#"{"n":1.5,"a":null}"#, "{}"]});
    let (rows, report) = run(&mut worker, &lines, &FinishOptions::default());
    assert_eq!(report.failures, []);
    assert_eq!((report.passed, report.dropped), (2, 1));
    let wanted = [
        json!({"offset": 0, "route": 1, "payload": r#"{"a":"q\"\n","n":8}"#}),
        json!({"offset": 1, "payload": r#"{"a":null,"x":{"y":"deep\u0007"}}"#}),
    ];
    assert_eq!(rows.rows, wanted);
}

#[test]
fn component_panics_is_a_dead_letter_with_frames() {
    let host = Host::new();
    let mut worker = host.worker(&[json!({"ops": [{"call": "trap"}]})], &[]);
    let (rows, report) = run(&mut worker, &json!({"payloads": ["{}"]}), &FinishOptions::default());
    assert!(rows.rows.is_empty());
    assert_eq!(report.failures.len(), 1);
    assert!(report.faults[0].1.detail().contains(" at "), "{:?}", report.faults);
}

#[test]
fn component_imports_nothing_but_the_plugin_interfaces() {
    let inspection = inspect(&guest()).unwrap();
    assert!(inspection.refused.is_empty(), "{:?}", inspection.refused);
    assert!(
        inspection.imports.iter().all(|item| item.interface.starts_with("wasmill:plugin/")),
        "{inspection:?}"
    );
}
