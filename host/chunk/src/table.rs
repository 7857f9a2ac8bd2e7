//! The rows as the current transform reads them: base texts, their scans, and the columns that earlier
//! transforms set over them.
//!
//! A row's document is its base text with the overlays written over it in `order`. A column set by an earlier
//! transform stays a column; its rows are found through the map of the turn in which it was set, so that
//! dropped rows cost nothing. Owns conversion on demand. Refuses to know about staged writes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cells::{Cells, CellsRef, Column, Floats, Ints, state, write};
use crate::layout::Layout;
use crate::marks::{self, Marks};
use crate::scan::{Scanner, Shape, Span};
use crate::store::{Kind, Store, Value, bit, float_of, int_of, push_raw_of, push_text_of, starts_inside};
use crate::verdict::Partition;
use crate::writer::Writer;

/// A row whose text was not scanned yet.
pub(crate) const UNSCANNED: u32 = u32::MAX;
/// The scan of the empty object, and the place of its text.
pub(crate) const EMPTY_SCAN: u32 = 0;
pub(crate) const EMPTY_END: u32 = 2;
/// In a map: the row has no cell in columns of that turn.
pub(crate) const NO_ROW: u32 = u32::MAX;

/// A partition name and the value that a row gets under it; `None`: it loses what it has.
pub(crate) type PartitionChange<'a> = (&'a Arc<str>, Option<&'a [u8]>);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) scan: u32,
    pub(crate) input: u32,
    pub(crate) child: u32,
    pub(crate) route: u32,
    pub(crate) partition: u32,
    pub(crate) offset: i64,
    pub(crate) arrival: i64,
}

impl Row {
    #[inline]
    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Converted reads of one column, kept until the rows change.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    text: (bool, Cells),
    raw: (bool, Cells),
    floats: (bool, Floats),
    ints: (bool, Ints),
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    /// All base texts; opens with `{}`; zeros behind `len`, so that words can be read past the end.
    pub(crate) arena: Vec<u8>,
    pub(crate) len: usize,
    pub(crate) rows: Vec<Row>,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) spans: Vec<Span>,
    scanner: Scanner,
    marks: Marks,
    /// Per column of the layout.
    pub(crate) overlays: Vec<Option<Store>>,
    /// Columns with an overlay, in the order in which rows first got them.
    pub(crate) order: Vec<u32>,
    /// Per turn: current row -> row of that turn; `None`: the same.
    pub(crate) maps: Vec<Option<Vec<u32>>>,
    pub(crate) keys: Option<Store>,
    pub(crate) attributes: Vec<(Arc<str>, Store)>,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) partition_index: HashMap<Vec<u8>, u32>,
    pub(crate) reads: Vec<Reads>,
    payload_reads: (bool, Column),
    next_arena: Vec<u8>,
    pub(crate) pool: Vec<Store>,
}

impl Table {
    pub(crate) fn reset(&mut self, layout: &Layout) {
        self.arena.clear();
        self.arena.extend_from_slice(b"{}");
        self.len = 2;
        self.rows.clear();
        self.drop_overlays();
        self.overlays.resize_with(layout.fields.len(), || None);
        self.reads.resize_with(layout.fields.len(), Reads::default);
        self.maps.clear();
        self.maps.push(None);
        if let Some(keys) = self.keys.take() {
            self.pool.push(keys);
        }
        for (_, store) in self.attributes.drain(..) {
            self.pool.push(store);
        }
        self.partitions.clear();
        self.partitions.push(Partition::default());
        self.partition_index.clear();
        self.forget_scans(layout);
        self.forget_reads();
    }

    pub(crate) fn store(&mut self) -> Store {
        self.pool.pop().unwrap_or_default()
    }

    pub(crate) fn turn(&self) -> usize {
        self.maps.len() - 1
    }

    /// Appends a base text and returns its range.
    pub(crate) fn append(&mut self, text: &[u8]) -> (u32, u32) {
        self.arena.truncate(self.len);
        self.arena.extend_from_slice(text);
        let start = self.len as u32;
        self.len = self.arena.len();
        (start, self.len as u32)
    }

    fn forget_scans(&mut self, layout: &Layout) {
        self.shapes.clear();
        self.shapes.push(Shape { append_at: 1, json: true, object: true, empty: true, duplicate: false });
        self.spans.clear();
        self.spans.resize(layout.spans, Span::MISSING);
    }

    pub(crate) fn forget_reads(&mut self) {
        for reads in &mut self.reads {
            reads.text.0 = false;
            reads.raw.0 = false;
            reads.floats.0 = false;
            reads.ints.0 = false;
        }
        self.payload_reads.0 = false;
    }

    pub(crate) fn drop_overlays(&mut self) {
        for column in self.order.drain(..) {
            self.pool.extend(self.overlays[column as usize].take());
        }
    }

    /// The row's cell in a column set in turn `epoch`.
    #[inline]
    pub(crate) fn mapped(&self, epoch: usize, row: usize) -> Option<usize> {
        match &self.maps[epoch] {
            None => Some(row),
            Some(map) => (map[row] != NO_ROW).then(|| map[row] as usize),
        }
    }

    /// What the overlay of a column does to a row.
    #[inline]
    pub(crate) fn overlay(&self, column: usize, row: usize) -> (u8, Option<Value<'_>>) {
        let Some(store) = &self.overlays[column] else { return (write::LEAVE, None) };
        let Some(at) = self.mapped(store.epoch, row) else { return (write::LEAVE, None) };
        let op = store.state[at];
        (op, (op == write::VALUE).then(|| store.value(at)))
    }

    /// Span of a base value; rows must be scanned.
    #[inline]
    pub(crate) fn span(&self, layout: &Layout, row: usize, span: usize) -> Span {
        self.spans[self.rows[row].scan as usize * layout.spans + span]
    }

    pub(crate) fn shape(&self, row: usize) -> Shape {
        self.shapes[self.rows[row].scan as usize]
    }

    /// Scans the base texts that were not scanned yet.
    pub(crate) fn scan(&mut self, layout: &Layout) {
        let mut at = 0;
        while at < self.rows.len() {
            if self.rows[at].scan != UNSCANNED {
                at += 1;
                continue;
            }
            // A run of texts that lie one behind the other is checked for UTF-8 as a whole.
            let mut behind = at + 1;
            while behind < self.rows.len()
                && self.rows[behind].scan == UNSCANNED
                && self.rows[behind].start == self.rows[behind - 1].end
            {
                behind += 1;
            }
            self.scan_run(layout, at..behind);
            at = behind;
        }
    }

    fn scan_run(&mut self, layout: &Layout, run: std::ops::Range<usize>) {
        self.arena.resize((self.len + 16).next_multiple_of(marks::BLOCK), 0);
        let (first, last) = (self.rows[run.start], self.rows[run.end - 1]);
        self.marks.set(&self.arena, first.start as usize, last.end as usize);
        let all = &self.arena[first.start as usize..last.end as usize];
        let whole = simdutf8::basic::from_utf8(all).is_ok()
            && !self.rows[run.clone()].iter().any(|row| starts_inside(&self.arena[row.range()]));
        self.spans.resize(self.spans.len() + run.len() * layout.spans, Span::MISSING);
        for row in &mut self.rows[run] {
            let scan = self.shapes.len();
            row.scan = scan as u32;
            let spans = &mut self.spans[scan * layout.spans..(scan + 1) * layout.spans];
            let shape = if whole || std::str::from_utf8(&self.arena[row.range()]).is_ok() {
                self.scanner.scan(
                    &self.arena,
                    &self.marks,
                    row.start as usize,
                    row.end as usize,
                    layout,
                    spans,
                )
            } else {
                Shape::default()
            };
            self.shapes.push(shape);
        }
    }

    /// Whether every row's base text is the empty object.
    pub(crate) fn all_empty(&self) -> bool {
        self.rows.iter().all(|row| row.scan == EMPTY_SCAN)
    }

    /// Makes the overlay of `column` have one cell per current row, if that is all a read of `kind` needs.
    fn is_direct(&mut self, column: usize, kind: Kind) -> bool {
        let Some(store) = &self.overlays[column] else { return false };
        if store.kind != kind || store.mask & bit(write::REMOVE) != 0 {
            return false;
        }
        let (epoch, leaves) = (store.epoch, store.mask & bit(write::LEAVE) != 0);
        let gaps = self.maps[epoch].as_ref().is_some_and(|map| map.contains(&NO_ROW));
        if (leaves || gaps) && !self.all_empty() {
            return false;
        }
        if self.maps[epoch].is_some() {
            self.gather(column);
        }
        true
    }

    /// Rebuilds an overlay for the rows that are left.
    fn gather(&mut self, column: usize) {
        let mut gathered = self.store();
        let (rows, turn) = (self.rows.len(), self.turn());
        let Some(store) = &self.overlays[column] else { return };
        gathered.reset(store.kind);
        gathered.reserve(rows, store.values.data.len());
        for row in 0..rows {
            let (op, value) = self.overlay(column, row);
            gathered.push(op, value);
        }
        gathered.clean = store.clean;
        gathered.epoch = turn;
        if let Some(old) = self.overlays[column].replace(gathered) {
            self.pool.push(old);
        }
    }

    fn needs_scan(&mut self, column: usize, layout: &Layout) {
        let covered = self.overlays[column].as_ref().is_some_and(|store| {
            store.mask & bit(write::LEAVE) == 0
                && self.maps[store.epoch].as_ref().is_none_or(|map| !map.contains(&NO_ROW))
        });
        if !covered {
            self.scan(layout);
        }
    }

    /// Calls `f` with what each row has at `column`: missing, null, an overlay's value, or base text.
    fn each(&self, layout: &Layout, column: usize, mut f: impl FnMut(Found<'_>)) {
        for row in 0..self.rows.len() {
            let (op, value) = self.overlay(column, row);
            f(match (op, value) {
                (write::VALUE, Some(value)) => Found::Set(value),
                (write::NULL, _) => Found::Null,
                (write::LEAVE, _) => {
                    let span = self.span(layout, row, column);
                    if span.is_missing() {
                        Found::Missing
                    } else {
                        Found::Base(&self.arena[span.range()], span.is_escaped())
                    }
                }
                _ => Found::Missing,
            });
        }
    }

    pub(crate) fn text(&mut self, layout: &Layout, column: usize) -> CellsRef<'_> {
        if self.is_direct(column, Kind::Text) {
            return self.overlays[column].as_ref().map(Store::cells).unwrap_or_default();
        }
        if !self.reads[column].text.0 {
            self.needs_scan(column, layout);
            let mut cells = std::mem::take(&mut self.reads[column].text.1);
            cells.clear();
            self.each(layout, column, |found| match found {
                Found::Missing => cells.push(state::MISSING, b""),
                Found::Null => cells.push(state::NULL, b""),
                Found::Set(value) => value.push_text(&mut cells),
                Found::Base(raw, escaped) => push_text_of(raw, escaped, &mut cells),
            });
            self.reads[column].text = (true, cells);
        }
        self.reads[column].text.1.as_ref()
    }

    pub(crate) fn raw(&mut self, layout: &Layout, column: usize) -> CellsRef<'_> {
        if !self.reads[column].raw.0 {
            self.needs_scan(column, layout);
            let mut cells = std::mem::take(&mut self.reads[column].raw.1);
            cells.clear();
            self.each(layout, column, |found| match found {
                Found::Missing => cells.push(state::MISSING, b""),
                Found::Null => cells.push(state::NULL, b""),
                Found::Set(value) => value.push_raw(&mut cells),
                Found::Base(raw, _) => push_raw_of(raw, &mut cells),
            });
            self.reads[column].raw = (true, cells);
        }
        self.reads[column].raw.1.as_ref()
    }

    pub(crate) fn floats(&mut self, layout: &Layout, column: usize) -> crate::FloatsRef<'_> {
        if self.is_direct(column, Kind::Floats) {
            return match &self.overlays[column] {
                Some(store) => crate::FloatsRef { state: &store.state, values: &store.floats },
                None => Default::default(),
            };
        }
        if !self.reads[column].floats.0 {
            self.needs_scan(column, layout);
            let mut floats = std::mem::take(&mut self.reads[column].floats.1);
            floats.state.clear();
            floats.values.clear();
            self.each(layout, column, |found| {
                let (state, value) = match found {
                    Found::Missing => (state::MISSING, 0.0),
                    Found::Null => (state::NULL, 0.0),
                    Found::Set(value) => value.float(),
                    Found::Base(raw, _) => float_of(raw),
                };
                floats.state.push(state);
                floats.values.push(value);
            });
            self.reads[column].floats = (true, floats);
        }
        self.reads[column].floats.1.as_ref()
    }

    pub(crate) fn ints(&mut self, layout: &Layout, column: usize) -> crate::IntsRef<'_> {
        if self.is_direct(column, Kind::Ints) {
            return match &self.overlays[column] {
                Some(store) => crate::IntsRef { state: &store.state, values: &store.ints },
                None => Default::default(),
            };
        }
        if !self.reads[column].ints.0 {
            self.needs_scan(column, layout);
            let mut ints = std::mem::take(&mut self.reads[column].ints.1);
            ints.state.clear();
            ints.values.clear();
            self.each(layout, column, |found| {
                let (state, value) = match found {
                    Found::Missing => (state::MISSING, 0),
                    Found::Null => (state::NULL, 0),
                    Found::Set(value) => value.int(),
                    Found::Base(raw, _) => int_of(raw),
                };
                ints.state.push(state);
                ints.values.push(value);
            });
            self.reads[column].ints = (true, ints);
        }
        self.reads[column].ints.1.as_ref()
    }

    /// Base texts of all rows, once overlays are written into them.
    pub(crate) fn payloads(&mut self, layout: &Layout) -> crate::ColumnRef<'_> {
        self.flush(layout);
        // Texts that lie one behind the other are read where they are.
        let first = self.rows.first().map_or(0, |row| row.start);
        let last = self.rows.last().map_or(0, |row| row.end);
        let in_order = self.rows.windows(2).all(|pair| pair[1].start == pair[0].end);
        let (known, column) = &mut self.payload_reads;
        if !*known {
            column.clear();
            if in_order {
                column.ends.extend(self.rows.iter().map(|row| row.end - first));
            } else {
                for row in &self.rows {
                    column.push(&self.arena[row.range()]);
                }
            }
            *known = true;
        }
        let data = if in_order { &self.arena[first as usize..last as usize] } else { &column.data };
        crate::ColumnRef { data, ends: &column.ends }
    }

    /// Writes all overlays into the base texts. Nothing that can be read changes.
    pub(crate) fn flush(&mut self, layout: &Layout) {
        if self.order.is_empty() {
            return;
        }
        self.scan(layout);
        let mut next = std::mem::take(&mut self.next_arena);
        next.clear();
        next.extend_from_slice(b"{}");
        let mut ends = Vec::with_capacity(self.rows.len());
        {
            let mut writer = Writer::new(self, layout);
            for row in 0..self.rows.len() {
                writer.write(row, &mut next);
                ends.push(next.len() as u32);
            }
        }
        let mut start = EMPTY_END;
        for (row, end) in self.rows.iter_mut().zip(ends) {
            (row.start, row.end, row.scan) = (start, end, UNSCANNED);
            start = end;
        }
        self.len = next.len();
        self.next_arena = std::mem::replace(&mut self.arena, next);
        self.drop_overlays();
        self.forget_scans(layout);
        self.forget_reads();
    }

    /// Keys and attributes.
    pub(crate) fn sides(&self) -> impl Iterator<Item = &Store> {
        self.keys.iter().chain(self.attributes.iter().map(|(_, store)| store))
    }

    /// The partition that `from` becomes by these changes, one after the other. Only what comes of all is kept: what comes
    /// in between could be many times as long.
    pub(crate) fn partition_with(&mut self, from: u32, changes: &[PartitionChange<'_>]) -> u32 {
        let mut partition = self.partitions[from as usize].clone();
        for &(name, value) in changes {
            let at = partition.values.iter().position(|(known, _)| known == name);
            match (at, value) {
                (Some(at), Some(value)) => partition.values[at].1 = value.to_vec(),
                (Some(at), None) => drop(partition.values.remove(at)),
                (None, Some(value)) => partition.values.push((name.clone(), value.to_vec())),
                (None, None) => {}
            }
        }
        if partition.values.is_empty() {
            return 0;
        }
        let mut code = Vec::new();
        for (name, value) in &partition.values {
            code.extend_from_slice(&(name.len() as u64).to_le_bytes());
            code.extend_from_slice(name.as_bytes());
            code.extend_from_slice(&(value.len() as u64).to_le_bytes());
            code.extend_from_slice(value);
        }
        let partitions = &mut self.partitions;
        *self.partition_index.entry(code).or_insert_with(|| {
            partitions.push(partition);
            partitions.len() as u32 - 1
        })
    }
}

enum Found<'a> {
    Missing,
    Null,
    Set(Value<'a>),
    Base(&'a [u8], bool),
}
