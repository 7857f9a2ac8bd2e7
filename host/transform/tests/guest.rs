//! Every case of `wit/vectors.json` through a real component, and what a real component costs.
//!
//! The component is `tests/guests/vectors`; `cargo xtask plugins` builds it, and `cargo xtask test` before it runs this.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use wasmill_chunk::{Column, FinishOptions, Input, RowMeta, RowSink};
use wasmill_transform::{
    Chain, ChainOptions, ChainWorker, CodeCache, Digest, Engine, EngineOptions, Limits, Manifest, NullLog,
    Plugin, Slice, SliceReport, TransformSpec, componentize, inspect,
};

fn guest() -> Vec<u8> {
    let directory = std::env::var_os("WASMILL_GUESTS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/guests"), PathBuf::from);
    let file = directory.join("vectors.wasm");
    std::fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask plugins`", file.display()))
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

    fn worker(&self, programs: &[serde_json::Value]) -> ChainWorker {
        let spec = |(index, program): (usize, &serde_json::Value)| TransformSpec {
            name: format!("t{index}"),
            plugin: Arc::clone(&self.plugin),
            config: program.to_string(),
            files: BTreeMap::new(),
            secrets: BTreeMap::new(),
            limits: Limits::default(),
        };
        let outputs = ["main".to_owned(), "side".to_owned()];
        let specs = programs.iter().enumerate().map(spec).collect();
        let chain =
            Chain::build(&self.engine, specs, &outputs, ChainOptions::default(), Arc::new(NullLog)).unwrap();
        ChainWorker::new(chain)
    }
}

#[derive(Default)]
struct Rows {
    rows: Vec<(i64, u32, u32, String)>,
    buffer: Vec<u8>,
}

impl RowSink for Rows {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        self.buffer.clear();
        &mut self.buffer
    }

    fn end(&mut self, row: &RowMeta<'_>) {
        let payload = String::from_utf8_lossy(&self.buffer).into_owned();
        self.rows.push((row.offset, row.child, row.route, payload));
    }
}

fn run(worker: &mut ChainWorker, lines: &[&str]) -> (Rows, SliceReport) {
    let mut payloads = Column::default();
    for line in lines {
        payloads.push(line.as_bytes());
    }
    let inputs = [Input::of_payloads(0, payloads.as_ref())];
    let slice = Slice { id: 0, stream_seed: 1, inputs: &inputs };
    let mut rows = Rows::default();
    let report = worker.run(&slice, &FinishOptions::default(), &mut rows);
    (rows, report)
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
    let mut worker = host.worker(&[first, second]);
    let (rows, report) = run(&mut worker, &[r#"{"a":"q\"\n","n":7}"#, r#"{"n":1.5,"a":null}"#, "{}"]);
    assert_eq!(report.failures, []);
    assert_eq!((report.passed, report.dropped), (2, 1));
    let wanted = [(0, 0, 1, r#"{"a":"q\"\n","n":8}"#), (1, 0, 0, r#"{"a":null,"x":{"y":"deep\u0007"}}"#)];
    let got: Vec<_> = rows.rows.iter().map(|row| (row.0, row.1, row.2, row.3.as_str())).collect();
    assert_eq!(got, wanted);
}

#[test]
fn component_panics_is_a_dead_letter_with_frames() {
    let host = Host::new();
    let mut worker = host.worker(&[json!({"ops": [{"call": "trap"}]})]);
    let (rows, report) = run(&mut worker, &["{}"]);
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
