//! One chunk on its way through a chain.

use std::ops::Range;
use std::sync::Arc;

use crate::cells::{CellsRef, ColumnRef, FloatsRef, IntsRef};
use crate::error::{Misuse, OverLimit};
use crate::input::{ChunkLimits, FinishOptions, Input};
use crate::layout::Layout;
use crate::verdict::{RowSink, Verdicts};

/// Rows of one turn: the chunk itself, or rows derived or made in this turn. Never valid in another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowsId(pub u32);

impl RowsId {
    /// The rows that the host handed in.
    pub const MAIN: RowsId = RowsId(0);
}

/// One chunk on its way through a chain. Reused between chunks: it keeps its buffers.
pub struct Chunk {}

macro_rules! later {
    ($($x:expr),* $(,)?) => {{ $(let _ = $x;)* unimplemented!() }};
}

impl Chunk {
    pub fn new(layout: Arc<Layout>, limits: ChunkLimits) -> Chunk {
        later!(layout, limits)
    }

    /// Starts a chunk from the given rows of the input. Bytes are copied once.
    pub fn begin(&mut self, input: &Input<'_>, rows: Range<usize>) -> Result<(), Misuse> {
        later!(input, rows)
    }

    /// Adds rows of another input (before the first turn), so that small frames share a chunk.
    pub fn extend(&mut self, input: &Input<'_>, rows: Range<usize>) -> Result<(), Misuse> {
        later!(input, rows)
    }

    /// Starts the turn of one transform of the chain; slots are that transform's own from here on.
    pub fn enter(&mut self, transform: usize, seed: u64) {
        later!(transform, seed)
    }

    pub fn len(&self, rows: RowsId) -> Result<u32, Misuse> {
        later!(rows)
    }

    pub fn seed(&self) -> u64 {
        unimplemented!()
    }

    pub fn offsets(&mut self, rows: RowsId) -> Result<&[i64], Misuse> {
        later!(rows)
    }

    pub fn arrival_times(&mut self, rows: RowsId) -> Result<&[i64], Misuse> {
        later!(rows)
    }

    pub fn keys(&mut self, rows: RowsId) -> Result<CellsRef<'_>, Misuse> {
        later!(rows)
    }

    pub fn attributes(&mut self, rows: RowsId, name: &str) -> Result<CellsRef<'_>, Misuse> {
        later!(rows, name)
    }

    pub fn payloads(&mut self, rows: RowsId) -> Result<ColumnRef<'_>, Misuse> {
        later!(rows)
    }

    pub fn get_text(&mut self, rows: RowsId, slot: u32) -> Result<CellsRef<'_>, Misuse> {
        later!(rows, slot)
    }

    pub fn get_raw(&mut self, rows: RowsId, slot: u32) -> Result<CellsRef<'_>, Misuse> {
        later!(rows, slot)
    }

    pub fn get_floats(&mut self, rows: RowsId, slot: u32) -> Result<FloatsRef<'_>, Misuse> {
        later!(rows, slot)
    }

    pub fn get_ints(&mut self, rows: RowsId, slot: u32) -> Result<IntsRef<'_>, Misuse> {
        later!(rows, slot)
    }

    pub fn set_payloads(&mut self, rows: RowsId, values: CellsRef<'_>) -> Result<(), Misuse> {
        later!(rows, values)
    }

    pub fn clear(&mut self, rows: RowsId, marks: &[u8]) -> Result<(), Misuse> {
        later!(rows, marks)
    }

    pub fn set_text(&mut self, rows: RowsId, slot: u32, values: CellsRef<'_>) -> Result<(), Misuse> {
        later!(rows, slot, values)
    }

    pub fn set_raw(&mut self, rows: RowsId, slot: u32, values: CellsRef<'_>) -> Result<(), Misuse> {
        later!(rows, slot, values)
    }

    pub fn set_floats(&mut self, rows: RowsId, slot: u32, values: FloatsRef<'_>) -> Result<(), Misuse> {
        later!(rows, slot, values)
    }

    pub fn set_ints(&mut self, rows: RowsId, slot: u32, values: IntsRef<'_>) -> Result<(), Misuse> {
        later!(rows, slot, values)
    }

    pub fn set_keys(&mut self, rows: RowsId, values: CellsRef<'_>) -> Result<(), Misuse> {
        later!(rows, values)
    }

    pub fn set_attributes(&mut self, rows: RowsId, name: &str, values: CellsRef<'_>) -> Result<(), Misuse> {
        later!(rows, name, values)
    }

    pub fn partition(&mut self, rows: RowsId, name: &str, values: CellsRef<'_>) -> Result<(), Misuse> {
        later!(rows, name, values)
    }

    pub fn route(&mut self, rows: RowsId, outputs: &[u32]) -> Result<(), Misuse> {
        later!(rows, outputs)
    }

    pub fn keep(&mut self, rows: RowsId, marks: &[u8]) -> Result<(), Misuse> {
        later!(rows, marks)
    }

    pub fn fail(&mut self, rows: RowsId, failed: &[u32], reasons: ColumnRef<'_>) -> Result<(), Misuse> {
        later!(rows, failed, reasons)
    }

    pub fn derive(&mut self, rows: RowsId, sources: &[u32]) -> Result<RowsId, Misuse> {
        later!(rows, sources)
    }

    pub fn fresh(&mut self, rows: u32) -> Result<RowsId, Misuse> {
        later!(rows)
    }

    /// The rows will be appended after the kept ones; the id is no longer valid.
    pub fn emit(&mut self, rows: RowsId) -> Result<(), Misuse> {
        later!(rows)
    }

    /// The guest dropped the rows without emitting them. Unknown ids are ignored.
    pub fn drop_rows(&mut self, rows: RowsId) {
        later!(rows)
    }

    /// The export returned ok: applies everything staged in the fixed order. Over a limit nothing is applied.
    pub fn apply(&mut self) -> Result<(), OverLimit> {
        unimplemented!()
    }

    /// The export failed: nothing staged remains.
    pub fn discard(&mut self) {
        unimplemented!()
    }

    /// Rows that are left.
    pub fn rows_left(&self) -> u32 {
        unimplemented!()
    }

    /// After the last transform: writes every surviving row once and adds to the verdicts.
    pub fn finish(&mut self, options: &FinishOptions, sink: &mut dyn RowSink, report: &mut Verdicts) {
        later!(options, sink, report)
    }
}
