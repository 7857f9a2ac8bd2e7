//! One chunk on its way through a chain: rows in, turns, and what handles and slots stand for.
//!
//! What a guest reads is in `read`, what it stages in `stage`, what becomes of it in `apply`, and the end of the chain
//! in `finish`. Refuses handles and slots that are not of the current turn.

use std::ops::Range;
use std::sync::Arc;

use crate::cells::{CellsRef, state};
use crate::error::Misuse;
use crate::input::{ChunkLimits, Input};
use crate::layout::Layout;
use crate::read::Scratch;
use crate::staged::{Life, Turn};
use crate::store::Store;
use crate::table::{EMPTY_END, EMPTY_SCAN, Row, Table, UNSCANNED};
use crate::verdict::{Failure, NO_INPUT};

/// Texts are addressed with 31 bits.
pub(crate) const TEXT_MAX: usize = (1 << 31) - 64;

/// Escaping makes text up to six times as long; the result must still be addressable.
const OUTPUT_MAX: usize = TEXT_MAX / 8;

/// Rows of one turn: the chunk itself, or rows derived or made in this turn. Never valid in another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowsId(pub u32);

impl RowsId {
    /// The rows that the host handed in.
    pub const MAIN: RowsId = RowsId(0);
}

/// One chunk on its way through a chain. Reused between chunks: it keeps its buffers.
#[derive(Debug)]
pub struct Chunk {
    pub(crate) layout: Arc<Layout>,
    pub(crate) limits: ChunkLimits,
    pub(crate) table: Table,
    pub(crate) turn: Turn,
    /// Records put in.
    pub(crate) inputs: u32,
    /// Arrival time of rows without a source.
    pub(crate) arrival: i64,
    /// Per record: whether it failed.
    pub(crate) failed: Vec<bool>,
    pub(crate) failures: Vec<Failure>,
    /// Rows were derived or made: records may have other than one row.
    pub(crate) has_children: bool,
    pub(crate) times: Vec<i64>,
    pub(crate) scratch: Scratch,
}

impl Chunk {
    pub fn new(layout: Arc<Layout>, mut limits: ChunkLimits) -> Chunk {
        limits.output_bytes = limits.output_bytes.min(OUTPUT_MAX);
        let mut chunk = Chunk {
            layout,
            limits,
            table: Table::default(),
            turn: Turn::default(),
            inputs: 0,
            arrival: 0,
            failed: Vec::new(),
            failures: Vec::new(),
            has_children: false,
            times: Vec::new(),
            scratch: Scratch::default(),
        };
        chunk.reset();
        chunk
    }

    fn reset(&mut self) {
        self.turn.reset(0, &mut self.table.pool);
        self.table.reset(&self.layout);
        self.inputs = 0;
        self.arrival = 0;
        self.failed.clear();
        self.failures.clear();
        self.has_children = false;
    }

    /// Starts a chunk from the given rows of the input. Bytes are copied once.
    pub fn begin(&mut self, input: &Input<'_>, rows: Range<usize>) -> Result<(), Misuse> {
        self.reset();
        self.arrival = input.arrival;
        self.extend(input, rows)
    }

    /// Adds rows of another input (before the first turn), so that small frames share a chunk.
    pub fn extend(&mut self, input: &Input<'_>, rows: Range<usize>) -> Result<(), Misuse> {
        let all = input.payloads.len();
        input.payloads.check(all)?;
        if rows.start > rows.end || rows.end > all {
            return Err(Misuse::Length { expected: all, got: rows.end });
        }
        if let Some(keys) = &input.keys {
            keys.check(all)?;
        }
        for (_, values) in input.attributes {
            values.check(all)?;
        }
        if let Some(deltas) = input.arrival_deltas
            && deltas.len() != all
        {
            return Err(Misuse::Length { expected: all, got: deltas.len() });
        }
        if let Some(offsets) = input.offsets
            && offsets.len() != all
        {
            return Err(Misuse::Length { expected: all, got: offsets.len() });
        }
        if rows.is_empty() {
            return Ok(());
        }
        let from = input.payloads.range(rows.start).start;
        let to = input.payloads.range(rows.end - 1).end;
        if self.table.len + (to - from) > TEXT_MAX {
            return Err(Misuse::TooLarge { limit: TEXT_MAX });
        }
        let (base, _) = self.table.append(&input.payloads.data[from..to]);
        let before = self.table.rows.len();
        let mut start = base;
        for row in rows.clone() {
            let end = base + (input.payloads.ends[row] - from as u32);
            let delta = input.arrival_deltas.map_or(0, |deltas| deltas[row]);
            self.table.rows.push(Row {
                start,
                end,
                scan: UNSCANNED,
                input: self.inputs,
                child: 0,
                route: 0,
                partition: 0,
                offset: input.offset(row) as i64,
                arrival: input.arrival.saturating_add(i64::from(delta)),
            });
            self.inputs += 1;
            start = end;
        }
        self.failed.resize(self.inputs as usize, false);
        let keys = input.keys.as_ref();
        let mut store = self.table.keys.take();
        extend_side(&mut store, keys, before, rows.clone(), &mut self.table.pool);
        self.table.keys = store;
        for (name, values) in input.attributes {
            if !self.table.attributes.iter().any(|(known, _)| **known == **name) {
                self.table.attributes.push((name.as_str().into(), Store::default()));
            }
            for (known, store) in &mut self.table.attributes {
                if **known == **name {
                    let mut side = Some(std::mem::take(store));
                    extend_side(&mut side, Some(values), before, rows.clone(), &mut self.table.pool);
                    *store = side.unwrap_or_default();
                }
            }
        }
        // Attributes that this input does not have.
        let total = self.table.rows.len();
        for (_, store) in &mut self.table.attributes {
            while store.state.len() < total {
                store.push(state::MISSING, None);
            }
        }
        Ok(())
    }

    /// Starts the turn of one transform of the chain; slots are that transform's own from here on.
    pub fn enter(&mut self, transform: usize, seed: u64) {
        self.turn.reset(self.table.rows.len() as u32, &mut self.table.pool);
        self.turn.transform = transform;
        self.turn.seed = seed;
    }

    /// The export failed: nothing staged remains.
    pub fn discard(&mut self) {
        self.turn.reset(self.table.rows.len() as u32, &mut self.table.pool);
    }

    /// Rows that are left.
    pub fn rows_left(&self) -> u32 {
        self.table.rows.len() as u32
    }

    /// Bytes of their texts, without what was set by column and is not written yet.
    pub fn bytes_left(&self) -> u64 {
        self.table.rows.iter().map(|row| row.range().len() as u64).sum()
    }

    pub(crate) fn group(&self, rows: RowsId) -> Result<usize, Misuse> {
        if rows == RowsId::MAIN {
            return Ok(0);
        }
        let group = rows.0.wrapping_sub(self.turn.first_id) as usize + 1;
        if group >= self.turn.count || self.turn.groups[group].life != Life::Open {
            return Err(Misuse::Handle);
        }
        Ok(group)
    }

    pub(crate) fn column(&self, slot: u32) -> Result<usize, Misuse> {
        let slots = self.layout.slots.get(self.turn.transform);
        slots
            .and_then(|slots| slots.get(slot as usize))
            .map(|&column| column as usize)
            .ok_or(Misuse::Slot { slot })
    }

    /// A row without a source, as it enters the chain.
    pub(crate) fn fresh_row(&self) -> Row {
        Row {
            start: 0,
            end: EMPTY_END,
            scan: EMPTY_SCAN,
            input: NO_INPUT,
            child: 0,
            route: 0,
            partition: 0,
            offset: -1,
            arrival: self.arrival,
        }
    }
}

/// Appends key or attribute cells of an input behind `before` rows.
fn extend_side(
    store: &mut Option<Store>,
    values: Option<&CellsRef<'_>>,
    before: usize,
    rows: Range<usize>,
    pool: &mut Vec<Store>,
) {
    if store.is_none() && values.is_none() {
        return;
    }
    let store = store.get_or_insert_with(|| {
        let mut store = pool.pop().unwrap_or_default();
        store.reset(Default::default());
        store
    });
    while store.state.len() < before {
        store.push(state::MISSING, None);
    }
    for row in rows {
        match values.and_then(|values| values.get(row)) {
            Some(value) => store.push(state::VALUE, Some(crate::store::Value::Text(value))),
            None => store.push(state::MISSING, None),
        }
    }
}
