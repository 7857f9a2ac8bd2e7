//! Runs records through a chain as one slice, in one of several ways, and keeps what comes.

use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use wasmill_chunk::{Column, ColumnRef, FinishOptions, Input, RowMeta, RowSink};
use wasmill_transform::{
    Chain, ChainError, ChainOptions, ChainWorker, Engine, Level, Limits, LogSink, NullLog, Plugin,
    PluginFault, Slice, SliceReport, TransformReport, TransformSpec,
};

use crate::case::{ARRIVAL, ARRIVAL_STEP, Case};

/// A granted file that ends so is a model, by what stands before it.
const MODEL_SUFFIX: &str = ".onnx";
/// Lines of a guest's log that are kept.
const LOG_LINES_MAX: usize = 50;

/// How the records of a case are cut into chunks, and how long instances live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// All together, as on a host that has been running for a while.
    Warm,
    /// A chunk for each record.
    Single,
    /// Chunks of 150 bytes, so that records meet other neighbours.
    Cut,
    /// An instance lives for one call.
    Fresh,
}

impl Way {
    pub const ALL: [Way; 4] = [Way::Warm, Way::Single, Way::Cut, Way::Fresh];

    pub fn name(self) -> &'static str {
        match self {
            Way::Warm => "warm",
            Way::Single => "one record a chunk",
            Way::Cut => "chunks of 150 bytes",
            Way::Fresh => "fresh",
        }
    }

    fn options(self) -> ChainOptions {
        let options = ChainOptions { uncut: false, ..ChainOptions::default() };
        match self {
            Way::Warm => ChainOptions::default(),
            Way::Single => ChainOptions { chunk_bytes: 1, calls_per_instance: 100_000, ..options },
            Way::Cut => ChainOptions { chunk_bytes: 150, calls_per_instance: 100_000, ..options },
            Way::Fresh => ChainOptions { chunk_rows: 2, calls_per_instance: 1, ..options },
        }
    }
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// The config was refused, with this reason.
    Refused(String),
    /// Rows in the order of their records, and for each failed record its offset and reason.
    Records { rows: Vec<String>, letters: Vec<(i64, String)> },
}

/// What came of a case, and what it took.
#[derive(Clone, Debug)]
pub struct Ran {
    pub got: Got,
    /// Of the plugin; all zero where the config was refused.
    pub cost: TransformReport,
    /// Faults of whole calls: for the plugin's author.
    pub faults: Vec<PluginFault>,
    /// What the plugin logged, as far as it is kept.
    pub log: Vec<String>,
}

/// Keeps the first lines that a guest logs.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<String>>);

impl Kept {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogSink for Kept {
    fn line(&self, _transform: &str, level: Level, message: &str) {
        let mut lines = self.lines();
        if lines.len() < LOG_LINES_MAX {
            lines.push(format!("{level:?}: {message}").to_lowercase());
        }
    }

    fn dropped(&self, _transform: &str, _lines: u64) {}
}

/// Runs a case in one way.
///
/// # Errors
/// The plugin cannot be run at all.
pub fn run(engine: &Engine, plugin: &Arc<Plugin>, case: &Case, way: Way, limits: Limits) -> Result<Ran> {
    let log = Arc::new(Kept::default());
    let mut spec = TransformSpec::new(Arc::clone(plugin), &case.config);
    for (name, file) in &case.files {
        match name.strip_suffix(MODEL_SUFFIX) {
            Some(model) => {
                spec.models.insert(model.to_owned(), engine.model(name, file)?);
            }
            None => {
                spec.files.insert(name.clone(), file.clone());
            }
        }
    }
    spec.limits = limits;
    let refused = |reason: String, log: &Kept| {
        let got = Got::Refused(reason);
        Ok(Ran { got, cost: TransformReport::default(), faults: Vec::new(), log: log.lines().clone() })
    };
    let mut worker = match worker_with_log(engine, vec![spec], way.options(), log.clone()) {
        Ok(worker) => worker,
        Err(ChainError::Transforms(errors)) => {
            let Some(error) = errors.into_iter().next() else { bail!("it cannot be run") };
            if error.of_config {
                return refused(error.fault.to_string(), &log);
            }
            let (fault, said) = (error.fault, log.lines().join("\n"));
            let mut text = format!("it cannot be run, which is no refusal of the config: {fault}");
            for more in [fault.detail(), said.as_str()].into_iter().filter(|more| !more.is_empty()) {
                text.push_str(&format!("\n{}", more.trim_end()));
            }
            bail!(text);
        }
        Err(error) => return refused(error.source().map(ToString::to_string).unwrap_or_default(), &log),
    };
    let (rows, report) = slice(&mut worker, case.records.as_ref(), ARRIVAL, ARRIVAL_STEP);
    if let Some((_, fault)) = report.unrunnable {
        bail!("it cannot be run: {fault}");
    }
    let mut came: Vec<((i64, u32), String)> = rows
        .identities
        .iter()
        .zip(rows.payloads.as_ref().iter())
        .map(|(identity, payload)| (*identity, String::from_utf8_lossy(payload).into_owned()))
        .collect();
    // Rows without a record have no order but that in which they left.
    came.sort_by_key(|((offset, child), _)| (*offset, if *offset < 0 { 0 } else { *child }));
    let mut letters: Vec<(i64, String)> =
        report.failures.iter().map(|letter| (letter.offset, letter.reason.clone())).collect();
    letters.sort();
    let rows = came.into_iter().map(|(_, row)| row).collect();
    Ok(Ran {
        got: Got::Records { rows, letters },
        cost: report.transforms.into_iter().next().unwrap_or_default(),
        faults: report.faults.into_iter().map(|(_, fault)| fault).collect(),
        log: std::mem::take(&mut log.lines()),
    })
}

/// A worker on a chain with one output.
pub fn worker(
    engine: &Engine,
    specs: Vec<TransformSpec>,
    options: ChainOptions,
) -> Result<ChainWorker, ChainError> {
    worker_with_log(engine, specs, options, Arc::new(NullLog))
}

fn worker_with_log(
    engine: &Engine,
    specs: Vec<TransformSpec>,
    options: ChainOptions,
    log: Arc<dyn LogSink>,
) -> Result<ChainWorker, ChainError> {
    let outputs = ["default".to_owned()];
    Chain::build(engine, specs, &outputs, options, log).map(ChainWorker::new)
}

/// Rows that left, with the offsets and children that they are known by.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub payloads: Column,
    pub identities: Vec<(i64, u32)>,
}

impl RowSink for Rows {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        &mut self.payloads.data
    }

    fn end(&mut self, row: &RowMeta<'_>) {
        self.payloads.end_row();
        self.identities.push((row.offset, row.child));
    }
}

/// The records as one slice from offset 0, each arriving `step` nanoseconds after the one before.
pub fn slice(
    worker: &mut ChainWorker,
    records: ColumnRef<'_>,
    arrival: i64,
    step: u32,
) -> (Rows, SliceReport) {
    let number = |row| u32::try_from(row).unwrap_or(u32::MAX).saturating_mul(step);
    let deltas: Vec<u32> = (0..records.len()).map(number).collect();
    let mut input = Input::of_payloads(0, records);
    input.arrival = arrival;
    input.arrival_deltas = Some(&deltas);
    let mut rows = Rows::default();
    let inputs = [input];
    let slice = Slice { id: 0, stream_seed: 7, inputs: &inputs };
    let report = worker.run(&slice, &FinishOptions::default(), &mut rows);
    (rows, report)
}
