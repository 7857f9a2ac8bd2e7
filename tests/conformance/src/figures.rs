//! What a component costs: its size, how long it takes to load, and time for a record.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use wasmill_cases::{ARRIVAL, slice, worker};
use wasmill_transform::{ChainOptions, Engine, Plugin, TransformSpec};

use crate::column::Column;

/// Records of one measured run, and runs.
const RECORDS: u64 = 20_000;
const RUNS: usize = 5;

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) bytes: usize,
    /// From the file to compiled code; none where compiled code was there.
    pub(crate) cold_ms: Option<f64>,
    /// From the file, with compiled code there, to the first chunk through a configured instance.
    pub(crate) cached_ms: f64,
    pub(crate) pass_ns: f64,
    pub(crate) map_ns: f64,
}

pub(crate) fn load(engine: &Engine, column: &Column, cache: &Path) -> Result<(Arc<Plugin>, Figures)> {
    let wasm = std::fs::read(&column.file).context("read the component")?;
    let (_, took) = wasmill_cases::load(engine, &wasm, cache)?;
    let cold_ms = took.map(|took| took.as_secs_f64() * 1e3);
    let mut figures = Figures { bytes: wasm.len(), cold_ms, ..Figures::default() };
    let mut loads = Vec::new();
    let mut loaded = None;
    for _ in 0..RUNS {
        let started = Instant::now();
        let (plugin, _) = wasmill_cases::load(engine, &wasm, cache)?;
        run(engine, column, &plugin, "pass", &records(1))?;
        loads.push(started.elapsed().as_secs_f64() * 1e3);
        loaded = Some(plugin);
    }
    figures.cached_ms = median(loads);
    Ok((loaded.context("no run")?, figures))
}

pub(crate) fn measure(
    engine: &Engine,
    column: &Column,
    plugin: &Arc<Plugin>,
    figures: &mut Figures,
) -> Result<()> {
    let records = records(RECORDS);
    figures.pass_ns = run(engine, column, plugin, "pass", &records)?;
    figures.map_ns = run(engine, column, plugin, "map", &records)?;
    Ok(())
}

fn records(count: u64) -> wasmill_cases::Column {
    let mut column = wasmill_cases::Column::default();
    for n in 0..count {
        let text = format!(
            "{{\"id\":{n},\"user\":{{\"name\":\"user {n}\",\"city\":\"Uppsala\"}},\"n\":{n},\"x\":{}.5,\"path\":\"/a/b/c\"}}",
            n % 100
        );
        column.push(text.as_bytes());
    }
    column
}

/// Nanoseconds for a record, median of some runs on a warm instance.
fn run(
    engine: &Engine,
    column: &Column,
    plugin: &Arc<Plugin>,
    what: &str,
    records: &wasmill_cases::Column,
) -> Result<f64> {
    let config = column.config(&format!("{{\"do\":\"{what}\"}}"))?;
    let spec = TransformSpec::new(Arc::clone(plugin), &config);
    let mut worker = worker(engine, vec![spec], ChainOptions::default())?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        let (_, report) = slice(&mut worker, records.as_ref(), ARRIVAL, 1);
        let count = records.as_ref().len();
        anyhow::ensure!(report.passed == count as u64, "{what}: {report:?}");
        times.push(started.elapsed().as_nanos() as f64 / count as f64);
    }
    Ok(median(times))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
