//! What is measured: chains of first-party plugins in Wasm and natively, and the same work by hand.
//!
//! Input is the access log as one slice. The whole transform stage counts: bytes in, chunks, calls, JSON out into one
//! buffer; all protection (interruption, memory limits, pooled instances) is on. Before anything is measured the outputs
//! of variants that do the same are compared.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use wasmill_chunk::{Column, FinishOptions, Input, RowMeta, RowSink};
use wasmill_tests::components::Components;
use wasmill_tests::{access_log, native};
use wasmill_transform::{ChainOptions, ChainWorker, Engine, Plugin, Slice, TransformSpec};

use crate::measure::Variant;
use crate::serde_job::{self, Client};

/// Name of the figure, and the variants whose CPU time is divided.
pub(crate) const RATIOS: [(&str, &str, &str); 4] = [
    ("wasm_over_native_bytes", "parse_wasm", "parse_native"),
    ("column_over_serde", "column_serde", "column_wasm"),
    ("wasm_over_native_column", "column_wasm", "column_native"),
    ("wasm_over_native_job", "job_wasm", "job_native"),
];

const FILTER: &str = r#"{"keep":"status < 400 && path !~ \"^/images/\""}"#;

/// Lines as an output would write them.
#[derive(Default)]
struct Lines(Vec<u8>);

impl RowSink for Lines {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        &mut self.0
    }

    fn end(&mut self, _row: &RowMeta<'_>) {
        self.0.push(b'\n');
    }
}

fn slice(worker: &mut ChainWorker, records: &Column, lines: &mut Lines) -> Result<()> {
    lines.0.clear();
    let inputs = [Input::of_payloads(0, records.as_ref())];
    let report =
        worker.run(&Slice { id: 0, stream_seed: 7, inputs: &inputs }, &FinishOptions::default(), lines);
    if let Some((_, fault)) = report.unrunnable {
        bail!("unrunnable: {fault}");
    }
    // Lines that cannot be parsed are part of a log; a plugin that fails is not.
    ensure!(report.faults.is_empty(), "a plugin failed: {:?}", report.faults);
    Ok(())
}

fn chain(engine: &Engine, specs: Vec<TransformSpec>, chunk_bytes: usize) -> Result<ChainWorker> {
    Ok(wasmill_cases::worker(engine, specs, ChainOptions { chunk_bytes, ..ChainOptions::default() })?)
}

fn outcome(worker: &mut ChainWorker, records: &Column) -> Result<Vec<u8>> {
    let mut lines = Lines::default();
    slice(worker, records, &mut lines)?;
    Ok(lines.0)
}

fn records_of(lines: &[u8]) -> Column {
    let mut records = Column::default();
    lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(|line| records.push(line));
    records
}

/// Every second client of the log, in the order of appearance.
fn table(records: &Column) -> Result<HashMap<String, Client>> {
    let mut known: HashMap<String, Option<Client>> = HashMap::new();
    for payload in records.as_ref().iter() {
        let record: Value = serde_json::from_slice(payload)?;
        let client = record["client"].as_str().context("a record without a client")?;
        let number = known.len();
        known.entry(client.to_owned()).or_insert_with(|| {
            let client = Client { zone: format!("zone-{}", number % 40), number: number as i64 };
            number.is_multiple_of(2).then_some(client)
        });
    }
    Ok(known.into_iter().filter_map(|(client, known)| Some((client, known?))).collect())
}

fn enrich(table: &HashMap<String, Client>) -> String {
    let rows: Vec<Value> = table
        .iter()
        .map(|(client, known)| json!({ "client": client, "zone": known.zone, "client_number": known.number }))
        .collect();
    let lookup = json!({
        "field": "client", "table": { "rows": rows }, "key": "client", "copy": ["zone", "client_number"],
    });
    json!({ "lookups": [lookup] }).to_string()
}

fn by_hand(records: &Column, table: &HashMap<String, Client>, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    for payload in records.as_ref().iter() {
        if serde_job::record(payload, table, out)? {
            out.push(b'\n');
        }
    }
    Ok(())
}

/// Whether two outputs are the same JSON, line by line; the order of members may differ.
fn same_values(left: &[u8], right: &[u8]) -> Result<bool> {
    let (left, right) = (records_of(left), records_of(right));
    if left.len() != right.len() {
        return Ok(false);
    }
    for (left, right) in left.as_ref().iter().zip(right.as_ref().iter()) {
        if serde_json::from_slice::<Value>(left)? != serde_json::from_slice::<Value>(right)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Everything that is measured.
pub(crate) fn variants(plugins: &Path, log: &Path, chunk_bytes: usize) -> Result<Vec<Variant>> {
    let components = Components::open_at(plugins)?;
    let text = std::fs::read(log).with_context(|| format!("read {}", log.display()))?;
    let lines = Rc::new(records_of(&text));
    let engine = &components.engine;
    let wasm = |name: &str| components.plugin(name);
    let natively = |name: &str| native::plugin(name).context("no such plugin");
    let of = |pick: &dyn Fn(&str) -> Result<Arc<Plugin>>, steps: &[(&str, &str)]| -> Result<ChainWorker> {
        let specs = steps.iter().map(|(name, config)| Ok(TransformSpec::new(pick(name)?, config)));
        chain(engine, specs.collect::<Result<_>>()?, chunk_bytes)
    };
    let job = access_log::JOB;
    let mut parse = (of(&wasm, &job[..1])?, of(&natively, &job[..1])?);
    let parsed = outcome(&mut parse.0, &lines)?;
    ensure!(parsed == outcome(&mut parse.1, &lines)?, "native parse gives something else");
    let mut whole = (of(&wasm, &job)?, of(&natively, &job)?);
    ensure!(
        outcome(&mut whole.0, &lines)? == outcome(&mut whole.1, &lines)?,
        "the native job gives something else"
    );

    let documents = Rc::new(records_of(&parsed));
    let known = table(&documents)?;
    let enrich = enrich(&known);
    let steps = [("filter", FILTER), ("enrich", enrich.as_str())];
    let mut column = (of(&wasm, &steps)?, of(&natively, &steps)?);
    let columns = outcome(&mut column.0, &documents)?;
    ensure!(columns == outcome(&mut column.1, &documents)?, "native filter and enrich give something else");
    let mut serde = Vec::new();
    by_hand(&documents, &known, &mut serde)?;
    ensure!(same_values(&columns, &serde)?, "serde_json gives something else than filter and enrich");

    let empty = chain(engine, Vec::new(), chunk_bytes)?;
    let variant = |name, records: &Rc<Column>, mut worker: ChainWorker| {
        let mut out = Lines::default();
        let input = Rc::clone(records);
        let run = Box::new(move || slice(&mut worker, &input, &mut out));
        Variant { name, records: records.len(), bytes: records.data.len(), run }
    };
    let mut all = vec![
        variant("no_transforms", &lines, empty),
        variant("parse_wasm", &lines, parse.0),
        variant("parse_native", &lines, parse.1),
        variant("job_wasm", &lines, whole.0),
        variant("job_native", &lines, whole.1),
        variant("column_wasm", &documents, column.0),
        variant("column_native", &documents, column.1),
    ];
    let (count, bytes) = (documents.len(), documents.data.len());
    let mut out = Vec::new();
    let run = Box::new(move || by_hand(&documents, &known, &mut out));
    all.push(Variant { name: "column_serde", records: count, bytes, run });
    Ok(all)
}
