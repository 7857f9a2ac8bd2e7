//! One chunk on its way through a chain: the calls of the WIT interface.
//!
//! Owns the checks of handles, slots and lengths, reads, and staging. Refuses to apply anything before
//! [`Chunk::apply`] (in `apply`), and to write rows before [`Chunk::finish`] (in `finish`).

use std::ops::Range;
use std::sync::Arc;

use crate::cells::{Cells, CellsRef, Column, ColumnRef, Floats, FloatsRef, Ints, IntsRef, state};
use crate::error::Misuse;
use crate::input::{ChunkLimits, Input};
use crate::layout::{DEPTH_MAX, Layout};
use crate::staged::{Life, Staged, Turn};
use crate::store::Store;
use crate::table::{EMPTY_END, EMPTY_SCAN, Row, Table, UNSCANNED};
use crate::verdict::{Failure, NO_INPUT};

/// Names of attributes or of partitions that a turn may write.
const NAMES_MAX: usize = 256;
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
    times: Vec<i64>,
    scratch: Scratch,
}

/// Results of reads that are not kept.
#[derive(Debug, Default)]
struct Scratch {
    cells: Cells,
    column: Column,
    floats: Floats,
    ints: Ints,
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
                offset: input.first_offset.wrapping_add(row as u64) as i64,
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

    fn group(&self, rows: RowsId) -> Result<usize, Misuse> {
        if rows == RowsId::MAIN {
            return Ok(0);
        }
        let group = rows.0.wrapping_sub(self.turn.first_id) as usize + 1;
        if group >= self.turn.count || self.turn.groups[group].life != Life::Open {
            return Err(Misuse::Handle);
        }
        Ok(group)
    }

    fn column(&self, slot: u32) -> Result<usize, Misuse> {
        let slots = self.layout.slots.get(self.turn.transform);
        slots
            .and_then(|slots| slots.get(slot as usize))
            .map(|&column| column as usize)
            .ok_or(Misuse::Slot { slot })
    }

    pub fn len(&self, rows: RowsId) -> Result<u32, Misuse> {
        Ok(self.turn.groups[self.group(rows)?].rows)
    }

    pub fn is_empty(&self, rows: RowsId) -> Result<bool, Misuse> {
        Ok(self.len(rows)? == 0)
    }

    pub fn seed(&self) -> u64 {
        self.turn.seed
    }

    pub fn offsets(&mut self, rows: RowsId) -> Result<&[i64], Misuse> {
        self.times(rows, -1, |row| row.offset)
    }

    pub fn arrival_times(&mut self, rows: RowsId) -> Result<&[i64], Misuse> {
        self.times(rows, self.arrival, |row| row.arrival)
    }

    fn times(&mut self, rows: RowsId, fresh: i64, of: impl Fn(&Row) -> i64) -> Result<&[i64], Misuse> {
        let group = self.group(rows)?;
        self.times.clear();
        if group == 0 {
            self.times.extend(self.table.rows.iter().map(of));
        } else {
            let (rows, roots) = (&self.table.rows, &self.turn.groups[group].roots);
            self.times.extend(roots.iter().map(|&root| rows.get(root as usize).map_or(fresh, &of)));
        }
        Ok(&self.times)
    }

    pub fn keys(&mut self, rows: RowsId) -> Result<CellsRef<'_>, Misuse> {
        let group = self.group(rows)?;
        self.side(group, None)
    }

    pub fn attributes(&mut self, rows: RowsId, name: &str) -> Result<CellsRef<'_>, Misuse> {
        let group = self.group(rows)?;
        self.side(group, Some(name))
    }

    fn side(&mut self, group: usize, name: Option<&str>) -> Result<CellsRef<'_>, Misuse> {
        let store = match name {
            None => self.table.keys.as_ref(),
            Some(name) => {
                self.table.attributes.iter().find(|(known, _)| **known == *name).map(|(_, store)| store)
            }
        };
        let cells = &mut self.scratch.cells;
        cells.clear();
        let mut push = |row: Option<usize>| {
            let at = store.and_then(|store| Some((store, self.table.mapped(store.epoch, row?)?)));
            cells.push_option(at.and_then(|(store, at)| store.cells().get(at)));
        };
        if group == 0 {
            (0..self.table.rows.len()).for_each(|row| push(Some(row)));
        } else {
            let roots = &self.turn.groups[group].roots;
            roots.iter().for_each(|&root| push((root != NO_INPUT).then_some(root as usize)));
        }
        Ok(cells.as_ref())
    }

    pub fn payloads(&mut self, rows: RowsId) -> Result<ColumnRef<'_>, Misuse> {
        let group = self.group(rows)?;
        let all = self.table.payloads(&self.layout);
        if group == 0 {
            return Ok(all);
        }
        let column = &mut self.scratch.column;
        column.clear();
        for &root in &self.turn.groups[group].roots {
            // Sources may be named many times; what a guest can take in bounds what it can ask for.
            if column.data.len() > self.limits.output_bytes {
                return Err(Misuse::TooLarge { limit: self.limits.output_bytes });
            }
            column.push(if root == NO_INPUT { b"{}" } else { all.get(root as usize) });
        }
        Ok(column.as_ref())
    }

    /// Unescaped text of JSON strings.
    pub fn get_text(&mut self, rows: RowsId, slot: u32) -> Result<CellsRef<'_>, Misuse> {
        let (group, column) = (self.group(rows)?, self.column(slot)?);
        let all = self.table.text(&self.layout, column);
        if group == 0 {
            return Ok(all);
        }
        gather(all, &self.turn.groups[group].roots, &mut self.scratch.cells, self.limits.output_bytes)
    }

    /// JSON text of any value; state 1 without text for `null`.
    pub fn get_raw(&mut self, rows: RowsId, slot: u32) -> Result<CellsRef<'_>, Misuse> {
        let (group, column) = (self.group(rows)?, self.column(slot)?);
        let all = self.table.raw(&self.layout, column);
        if group == 0 {
            return Ok(all);
        }
        gather(all, &self.turn.groups[group].roots, &mut self.scratch.cells, self.limits.output_bytes)
    }

    /// The nearest float of JSON numbers; beyond the largest float the state is 2.
    pub fn get_floats(&mut self, rows: RowsId, slot: u32) -> Result<FloatsRef<'_>, Misuse> {
        let (group, column) = (self.group(rows)?, self.column(slot)?);
        let all = self.table.floats(&self.layout, column);
        if group == 0 {
            return Ok(all);
        }
        let floats = &mut self.scratch.floats;
        floats.state.clear();
        floats.values.clear();
        for &root in &self.turn.groups[group].roots {
            floats.state.push(all.state.get(root as usize).copied().unwrap_or(state::MISSING));
            floats.values.push(all.values.get(root as usize).copied().unwrap_or_default());
        }
        Ok(floats.as_ref())
    }

    /// JSON numbers that are exactly an s64, in whatever form they are written; others have state 2.
    pub fn get_ints(&mut self, rows: RowsId, slot: u32) -> Result<IntsRef<'_>, Misuse> {
        let (group, column) = (self.group(rows)?, self.column(slot)?);
        let all = self.table.ints(&self.layout, column);
        if group == 0 {
            return Ok(all);
        }
        let ints = &mut self.scratch.ints;
        ints.state.clear();
        ints.values.clear();
        for &root in &self.turn.groups[group].roots {
            ints.state.push(all.state.get(root as usize).copied().unwrap_or(state::MISSING));
            ints.values.push(all.values.get(root as usize).copied().unwrap_or_default());
        }
        Ok(ints.as_ref())
    }

    /// Accounts for what a call writes, so that no guest can make the host hold more than the limit.
    fn admit(&mut self, bytes: usize) -> Result<(), Misuse> {
        self.turn.bytes = self.turn.bytes.saturating_add(bytes);
        if self.turn.bytes > self.limits.output_bytes {
            return Err(Misuse::TooLarge { limit: self.limits.output_bytes });
        }
        Ok(())
    }

    fn staged(&mut self, group: usize) -> &mut Staged {
        &mut self.turn.groups[group].staged
    }

    /// Fills a store from the pool; `old` is what the call replaces.
    fn fill(
        &mut self,
        old: Option<Store>,
        bytes: usize,
        fill: impl FnOnce(&mut Store) -> Result<(), Misuse>,
    ) -> Result<Store, Misuse> {
        if let Some(old) = &old {
            self.turn.bytes = self.turn.bytes.saturating_sub(old.bytes());
        }
        self.admit(bytes)?;
        let mut store = old.unwrap_or_else(|| self.table.store());
        fill(&mut store)?;
        Ok(store)
    }

    /// States 0 and 3 only.
    pub fn set_payloads(&mut self, rows: RowsId, values: CellsRef<'_>) -> Result<(), Misuse> {
        let group = self.group(rows)?;
        let len = self.turn.groups[group].rows as usize;
        if let Some(&state) = values.state.iter().find(|state| !matches!(state, 0 | 3)) {
            return Err(Misuse::State { state });
        }
        let mut store = self.table.store();
        self.admit(values.state.len() + values.values.data.len())?;
        store.fill_bytes(values, len)?;
        let staged = self.staged(group);
        staged.clear_last = false;
        let old = staged.payloads.replace(store);
        self.release(old);
        Ok(())
    }

    /// Takes back what a replaced call was charged.
    fn release(&mut self, old: Option<Store>) {
        if let Some(old) = old {
            self.turn.bytes = self.turn.bytes.saturating_sub(old.bytes());
            self.table.pool.push(old);
        }
    }

    /// 1 = the row starts from `{}`.
    pub fn clear(&mut self, rows: RowsId, marks: &[u8]) -> Result<(), Misuse> {
        let group = self.group(rows)?;
        check_marks(marks, self.turn.groups[group].rows)?;
        let staged = self.staged(group);
        staged.clear = Some(marks.to_vec());
        staged.clear_last = true;
        Ok(())
    }

    pub fn set_text(&mut self, rows: RowsId, slot: u32, values: CellsRef<'_>) -> Result<(), Misuse> {
        let bytes = values.state.len() + values.values.data.len();
        self.set(rows, slot, bytes, |store, len, _| store.fill_text(values, len))
    }

    pub fn set_raw(&mut self, rows: RowsId, slot: u32, values: CellsRef<'_>) -> Result<(), Misuse> {
        let bytes = values.state.len() + values.values.data.len();
        self.set(rows, slot, bytes, |store, len, level| store.fill_raw(values, len, DEPTH_MAX - level))
    }

    pub fn set_floats(&mut self, rows: RowsId, slot: u32, values: FloatsRef<'_>) -> Result<(), Misuse> {
        let bytes = values.state.len() + 8 * values.values.len();
        self.set(rows, slot, bytes, |store, len, _| store.fill_floats(values, len))
    }

    pub fn set_ints(&mut self, rows: RowsId, slot: u32, values: IntsRef<'_>) -> Result<(), Misuse> {
        let bytes = values.state.len() + 8 * values.values.len();
        self.set(rows, slot, bytes, |store, len, _| store.fill_ints(values, len))
    }

    fn set(
        &mut self,
        rows: RowsId,
        slot: u32,
        bytes: usize,
        fill: impl FnOnce(&mut Store, usize, usize) -> Result<(), Misuse>,
    ) -> Result<(), Misuse> {
        let (group, column) = (self.group(rows)?, self.column(slot)?);
        let len = self.turn.groups[group].rows as usize;
        let level = self.layout.fields[column].path.len();
        let fields = &mut self.staged(group).fields;
        let old = fields.iter().position(|(known, _)| *known == slot).map(|at| fields.swap_remove(at).1);
        let store = self.fill(old, bytes, |store| fill(store, len, level))?;
        self.staged(group).fields.push((slot, store));
        Ok(())
    }

    /// Any bytes; null and remove both take the key away.
    pub fn set_keys(&mut self, rows: RowsId, values: CellsRef<'_>) -> Result<(), Misuse> {
        let group = self.group(rows)?;
        let len = self.turn.groups[group].rows as usize;
        let old = self.staged(group).keys.take();
        let bytes = values.state.len() + values.values.data.len();
        let store = self.fill(old, bytes, |store| store.fill_bytes(values, len))?;
        self.staged(group).keys = Some(store);
        Ok(())
    }

    /// Any bytes; null and remove both take the attribute away.
    pub fn set_attributes(&mut self, rows: RowsId, name: &str, values: CellsRef<'_>) -> Result<(), Misuse> {
        self.set_named(rows, name, values, |staged| &mut staged.attributes)
    }

    /// Any bytes; null and remove both take the partition value away.
    pub fn partition(&mut self, rows: RowsId, name: &str, values: CellsRef<'_>) -> Result<(), Misuse> {
        self.set_named(rows, name, values, |staged| &mut staged.partitions)
    }

    fn set_named(
        &mut self,
        rows: RowsId,
        name: &str,
        values: CellsRef<'_>,
        target: impl Fn(&mut Staged) -> &mut Vec<(Arc<str>, Store)>,
    ) -> Result<(), Misuse> {
        let group = self.group(rows)?;
        let len = self.turn.groups[group].rows as usize;
        let bytes = name.len() + values.state.len() + values.values.data.len();
        let stores = target(self.staged(group));
        let at = stores.iter().position(|(known, _)| **known == *name);
        if at.is_none() && stores.len() >= NAMES_MAX {
            return Err(Misuse::TooManyNames { limit: NAMES_MAX });
        }
        // The place among the names stays: partitions are applied in it.
        let old = at.map(|at| std::mem::take(&mut stores[at].1));
        let store = self.fill(old, bytes, |store| store.fill_bytes(values, len))?;
        let stores = target(self.staged(group));
        match at {
            Some(at) => stores[at].1 = store,
            None => stores.push((name.into(), store)),
        }
        Ok(())
    }

    /// One number per row; 0 = default. Which numbers exist is for the caller to check.
    pub fn route(&mut self, rows: RowsId, outputs: &[u32]) -> Result<(), Misuse> {
        let group = self.group(rows)?;
        let expected = self.turn.groups[group].rows as usize;
        if outputs.len() != expected {
            return Err(Misuse::Length { expected, got: outputs.len() });
        }
        self.staged(group).route = Some(outputs.to_vec());
        Ok(())
    }

    /// 1 keep, 0 drop.
    pub fn keep(&mut self, rows: RowsId, marks: &[u8]) -> Result<(), Misuse> {
        let group = self.group(rows)?;
        check_marks(marks, self.turn.groups[group].rows)?;
        self.staged(group).keep = Some(marks.to_vec());
        Ok(())
    }

    /// Calls add up; the first reason of a row stays, cut to 1 KiB.
    pub fn fail(&mut self, rows: RowsId, failed: &[u32], reasons: ColumnRef<'_>) -> Result<(), Misuse> {
        let group = self.group(rows)?;
        let len = self.turn.groups[group].rows;
        reasons.check(failed.len())?;
        if let Some(&row) = failed.iter().find(|&&row| row >= len) {
            return Err(Misuse::Row { row, rows: len });
        }
        for (&row, reason) in failed.iter().zip(reasons.iter()) {
            let reason = reason_text(reason);
            self.admit(reason.len() + 32)?;
            self.staged(group).fails.push((row, reason));
        }
        Ok(())
    }

    pub fn derive(&mut self, rows: RowsId, sources: &[u32]) -> Result<RowsId, Misuse> {
        let parent = self.group(rows)?;
        let len = self.turn.groups[parent].rows;
        if let Some(&row) = sources.iter().find(|&&row| row >= len) {
            return Err(Misuse::Row { row, rows: len });
        }
        self.admit_rows(sources.len())?;
        let group = self.turn.add(sources.len() as u32, Some(parent));
        let mut roots = std::mem::take(&mut self.turn.groups[group].roots);
        match parent {
            0 => roots.extend_from_slice(sources),
            _ => {
                let parents = &self.turn.groups[parent].roots;
                roots.extend(sources.iter().map(|&row| parents[row as usize]));
            }
        }
        let group_rows = &mut self.turn.groups[group];
        group_rows.roots = roots;
        group_rows.sources.extend_from_slice(sources);
        Ok(self.id_of(group))
    }

    pub fn fresh(&mut self, rows: u32) -> Result<RowsId, Misuse> {
        self.admit_rows(rows as usize)?;
        let group = self.turn.add(rows, None);
        Ok(self.id_of(group))
    }

    fn id_of(&self, group: usize) -> RowsId {
        RowsId(self.turn.first_id.wrapping_add(group as u32 - 1))
    }

    /// An empty group counts as a row, so that groups are bounded too.
    fn admit_rows(&mut self, rows: usize) -> Result<(), Misuse> {
        let limit = self.limits.derived_rows;
        let total = self.turn.derived_rows as usize + rows.max(1);
        if total > limit as usize {
            return Err(Misuse::TooManyRows { limit });
        }
        self.turn.derived_rows = total as u32;
        Ok(())
    }

    /// The rows will be appended after the kept ones; the id is no longer valid.
    pub fn emit(&mut self, rows: RowsId) -> Result<(), Misuse> {
        let group = self.group(rows)?;
        if group == 0 {
            return Err(Misuse::EmitMain);
        }
        self.turn.groups[group].life = Life::Emitted;
        self.turn.emitted.push(group);
        Ok(())
    }

    /// The guest dropped the rows without emitting them. Unknown ids are ignored.
    pub fn drop_rows(&mut self, rows: RowsId) {
        if let Ok(group) = self.group(rows)
            && group > 0
        {
            self.turn.groups[group].life = Life::Gone;
        }
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

fn check_marks(marks: &[u8], rows: u32) -> Result<(), Misuse> {
    if marks.len() != rows as usize {
        return Err(Misuse::Length { expected: rows as usize, got: marks.len() });
    }
    match marks.iter().fold(0, |max, &mark| max.max(mark)) {
        0 | 1 => Ok(()),
        state => Err(Misuse::State { state }),
    }
}

fn gather<'a>(
    all: CellsRef<'_>,
    roots: &[u32],
    cells: &'a mut Cells,
    limit: usize,
) -> Result<CellsRef<'a>, Misuse> {
    cells.clear();
    for &root in roots {
        if cells.values.data.len() > limit {
            return Err(Misuse::TooLarge { limit });
        }
        match root {
            NO_INPUT => cells.push(state::MISSING, b""),
            root => cells.push(all.state[root as usize], all.values.get(root as usize)),
        }
    }
    Ok(cells.as_ref())
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

/// At most 1 KiB of text, cut between characters.
pub(crate) fn reason_text(reason: &[u8]) -> String {
    const REASON_MAX: usize = 1024;
    let mut text = String::from_utf8_lossy(&reason[..reason.len().min(REASON_MAX + 4)]).into_owned();
    let mut end = text.len().min(REASON_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
