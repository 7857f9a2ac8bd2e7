//! What a chunk is made from and bounded by.

use std::ops::Range;

use crate::cells::{CellsRef, ColumnRef};

/// Records as they come from the buffer. The columns may hold more rows than are taken.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Offset of row 0 of the columns.
    pub first_offset: u64,
    /// Offsets of the rows, ascending; `None`: they are consecutive.
    pub offsets: Option<&'a [u64]>,
    /// Payload bytes, one value per record.
    pub payloads: ColumnRef<'a>,
    /// Nanoseconds since the epoch.
    pub arrival: i64,
    /// Nanoseconds after `arrival`, per row; `None`: all arrived at `arrival`.
    pub arrival_deltas: Option<&'a [u32]>,
    /// States 0 (no key) and 3.
    pub keys: Option<CellsRef<'a>>,
    /// Name and values, states 0 and 3.
    pub attributes: &'a [(String, CellsRef<'a>)],
}

impl<'a> Input<'a> {
    /// Rows with nothing but payloads.
    pub fn of_payloads(first_offset: u64, payloads: ColumnRef<'a>) -> Self {
        Input {
            first_offset,
            offsets: None,
            payloads,
            arrival: 0,
            arrival_deltas: None,
            keys: None,
            attributes: &[],
        }
    }

    /// The offset of a row.
    pub fn offset(&self, row: usize) -> u64 {
        let told = self.offsets.and_then(|offsets| offsets.get(row)).copied();
        told.unwrap_or_else(|| self.first_offset.saturating_add(row as u64))
    }

    /// The whole range of rows.
    pub fn rows(&self) -> Range<usize> {
        0..self.payloads.len()
    }
}

/// Bounds on what one call of a guest may produce.
#[derive(Clone, Copy, Debug)]
pub struct ChunkLimits {
    /// Bytes: of one turn's writes, and of all rows after a turn (before escaping).
    pub output_bytes: usize,
    /// Rows that one turn may derive or make afresh, emitted or not.
    pub derived_rows: u32,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        ChunkLimits { output_bytes: 16 << 20, derived_rows: 1 << 20 }
    }
}

/// What the last step asks of every row.
#[derive(Clone, Copy, Debug, Default)]
pub struct FinishOptions {
    /// A payload that is no valid JSON fails its record.
    pub require_json: bool,
    /// Routes (as bits; only the first 64) whose rows may be any bytes all the same.
    pub byte_routes: u64,
}
