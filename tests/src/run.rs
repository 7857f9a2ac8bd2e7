//! Runs records through a chain as one slice, and keeps what leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use wasmill_chunk::{Column, ColumnRef, FinishOptions, Input, RowMeta, RowSink};
use wasmill_transform::{
    Chain, ChainError, ChainOptions, ChainWorker, Engine, Limits, NullLog, Plugin, Slice, SliceReport,
    TransformSpec,
};

/// A transform with default limits and nothing granted, named like its plugin.
pub fn spec(plugin: Arc<Plugin>, config: &str) -> TransformSpec {
    TransformSpec {
        name: plugin.name.clone(),
        plugin,
        config: config.to_owned(),
        files: BTreeMap::new(),
        secrets: BTreeMap::new(),
        limits: Limits::default(),
    }
}

/// A worker on a chain with one output.
pub fn worker(
    engine: &Engine,
    specs: Vec<TransformSpec>,
    options: ChainOptions,
) -> Result<ChainWorker, ChainError> {
    let outputs = ["default".to_owned()];
    Chain::build(engine, specs, &outputs, options, Arc::new(NullLog)).map(ChainWorker::new)
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
