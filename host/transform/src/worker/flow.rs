//! How many rows and bytes go into each transform and come out of it.
//!
//! Counts of an attempt count once it holds: what runs again because of a bad record counts once. Bytes between two
//! transforms are those of the rows' texts; values that were set by column are among the bytes that leave the chain.

use wasmill_chunk::{Chunk, Verdicts};

use crate::report::{SliceReport, TransformReport};

/// Of one transform, in one attempt.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flow {
    rows_in: u64,
    bytes_in: u64,
    rows_out: u64,
    bytes_out: u64,
}

/// Rows that there are, and their bytes.
#[derive(Clone, Copy)]
pub(super) struct Level {
    rows: u64,
    bytes: u64,
}

impl Level {
    pub(super) fn of(chunk: &Chunk) -> Level {
        Level { rows: chunk.rows_left().into(), bytes: chunk.bytes_left() }
    }
}

impl Flow {
    /// The transform has had its turn at everything that there was.
    pub(super) fn processed(&mut self, before: Level, after: Level) {
        self.rows_in += before.rows;
        self.bytes_in += before.bytes;
        self.rows_out += after.rows;
        self.bytes_out += after.bytes;
    }

    /// It was told of a watermark: what there was went through before.
    pub(super) fn told(&mut self, before: Level, after: Level) {
        self.rows_out += after.rows.saturating_sub(before.rows);
        self.bytes_out += after.bytes.saturating_sub(before.bytes);
    }
}

/// Counts an attempt that holds; what has left the chain is what the last transform gave.
pub(super) fn count(report: &mut SliceReport, flows: &mut Vec<Flow>, left: &Verdicts) {
    if let Some(last) = flows.last_mut() {
        (last.rows_out, last.bytes_out) = (left.emitted, left.bytes);
    }
    for (transform, flow) in report.transforms.iter_mut().zip(flows.drain(..)) {
        transform.records_in += flow.rows_in;
        transform.bytes_in += flow.bytes_in;
        transform.records_out += flow.rows_out;
        transform.bytes_out += flow.bytes_out;
    }
}

/// Counts a record that failed at a place of the chain, of which no attempt holds: up to there it was one row.
pub(crate) fn count_failed(transforms: &mut [TransformReport], place: usize, bytes: u64) {
    for (at, transform) in transforms.iter_mut().enumerate().take(place.saturating_add(1)) {
        transform.records_in += 1;
        transform.bytes_in += bytes;
        if at < place {
            transform.records_out += 1;
            transform.bytes_out += bytes;
        }
    }
}
