//! Writes rows as JSON: base text with the overlays over it.
//!
//! Three ways, from fast to general: rows that start from `{}` with top-level fields are put together from
//! prefixes and values; values that exist once are spliced into the base text and new top-level ones appended;
//! all else is one edit after the other. Refuses nothing: what can fail was refused when it was applied.

use crate::blocks::{Blocks, Piece};
use crate::cells::write;
use crate::edit::{Change, edit};
use crate::layout::Layout;
use crate::scan::Shape;
use crate::store::{Kind, Store, Value};
use crate::table::{EMPTY_SCAN, NO_ROW, Table};
use crate::text::{escape_into, is_clean_short};

struct Overlay<'a> {
    column: u32,
    store: &'a Store,
    map: Option<&'a [u32]>,
    /// `,"key":`
    prefix: &'a [u8],
    /// The same in a block, if it fits.
    lead: Option<Piece>,
    top: bool,
}

impl Overlay<'_> {
    #[inline]
    fn at(&self, row: usize) -> Option<usize> {
        match self.map {
            None => Some(row),
            Some(map) => (map[row] != NO_ROW).then(|| map[row] as usize),
        }
    }

    #[inline(always)]
    fn put_prefix(&self, line: &mut Blocks) {
        match &self.lead {
            Some(lead) => lead.put_into(line),
            None => line.put_all(self.prefix),
        }
    }
}

pub(crate) struct Writer<'a> {
    table: &'a Table,
    layout: &'a Layout,
    overlays: Vec<Overlay<'a>>,
    /// Every overlay is at the top level.
    flat: bool,
    splices: Vec<(u32, u32, usize, usize)>,
    /// The row being put together.
    line: Blocks,
    value: Vec<u8>,
    from: Vec<u8>,
    to: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(table: &'a Table, layout: &'a Layout) -> Writer<'a> {
        let overlays: Vec<Overlay<'a>> = table
            .order
            .iter()
            .filter_map(|&column| {
                let store = table.overlays[column as usize].as_ref()?;
                let field = &layout.fields[column as usize];
                Some(Overlay {
                    column,
                    store,
                    map: table.maps[store.epoch].as_deref(),
                    prefix: &field.prefix,
                    lead: Piece::new(&field.prefix),
                    top: field.path.len() == 1,
                })
            })
            .collect();
        let flat = overlays.iter().all(|overlay| overlay.top);
        Writer {
            table,
            layout,
            overlays,
            flat,
            splices: Vec::new(),
            line: Blocks::default(),
            value: Vec::new(),
            from: Vec::new(),
            to: Vec::new(),
        }
    }

    /// Appends the row.
    pub(crate) fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        let base = self.table.rows[row];
        if self.overlays.is_empty() {
            out.extend_from_slice(&self.table.arena[base.range()]);
        } else if base.scan == EMPTY_SCAN && self.flat {
            self.assemble(row, out);
        } else if !self.splice(row, out) {
            self.edit(row, out);
        }
    }

    /// A row that starts from `{}`.
    fn assemble(&mut self, row: usize, out: &mut Vec<u8>) {
        let line = &mut self.line;
        line.clear();
        for overlay in &self.overlays {
            let Some(at) = overlay.at(row) else { continue };
            match overlay.store.state[at] {
                write::VALUE => {
                    overlay.put_prefix(line);
                    put_value(overlay.store, at, line, &mut self.value);
                }
                write::NULL => {
                    overlay.put_prefix(line);
                    line.put_all(b"null");
                }
                _ => {}
            }
        }
        if line.is_empty() {
            line.push(b'{');
        } else {
            line.set_first(b'{');
        }
        line.push(b'}');
        out.extend_from_slice(line.written());
    }

    /// False, with nothing appended, if the row needs more than replacing and appending.
    fn splice(&mut self, row: usize, out: &mut Vec<u8>) -> bool {
        let (table, layout) = (self.table, self.layout);
        let base = table.rows[row];
        let Shape { append_at, empty, duplicate, .. } = table.shape(row);
        self.splices.clear();
        let mut touched = false;
        for (index, overlay) in self.overlays.iter().enumerate() {
            let Some(at) = overlay.at(row) else { continue };
            let op = overlay.store.state[at];
            if op == write::LEAVE {
                continue;
            }
            touched = true;
            let span = table.span(layout, row, overlay.column as usize);
            if duplicate || (span.is_missing() && !overlay.top && op != write::REMOVE) {
                return false;
            }
            match (op, span.is_missing()) {
                (write::REMOVE, true) => {}
                (write::REMOVE, false) => return false,
                (_, true) => self.splices.push((append_at, append_at, index, at)),
                (_, false) => {
                    let range = span.range();
                    self.splices.push((range.start as u32, range.end as u32, index, at));
                }
            }
        }
        if !touched {
            out.extend_from_slice(&table.arena[base.range()]);
            return true;
        }
        // Stable: new members stay in the order of the columns.
        if !self.splices.is_sorted_by_key(|splice| splice.0) {
            self.splices.sort_by_key(|splice| splice.0);
        }
        let line = &mut self.line;
        line.clear();
        let mut done = base.start as usize;
        let mut first = empty;
        for &(start, end, index, at) in &self.splices {
            line.put(&table.arena, done, start as usize);
            let overlay = &self.overlays[index];
            if start == end {
                if first {
                    line.put_all(&overlay.prefix[1..]);
                } else {
                    overlay.put_prefix(line);
                }
                first = false;
            }
            if overlay.store.state[at] == write::NULL {
                line.put_all(b"null");
            } else {
                put_value(overlay.store, at, line, &mut self.value);
            }
            done = end as usize;
        }
        line.put(&table.arena, done, base.end as usize);
        out.extend_from_slice(line.written());
        true
    }

    /// One edit after the other.
    fn edit(&mut self, row: usize, out: &mut Vec<u8>) {
        let base = self.table.rows[row];
        self.from.clear();
        self.from.extend_from_slice(&self.table.arena[base.range()]);
        for overlay in &self.overlays {
            let Some(at) = overlay.at(row) else { continue };
            self.value.clear();
            let change = match overlay.store.state[at] {
                write::LEAVE => continue,
                write::REMOVE => Change::Remove,
                write::NULL => Change::Set(b"null"),
                _ => {
                    overlay.store.value(at).write_json(&mut self.value);
                    Change::Set(&self.value)
                }
            };
            self.to.clear();
            let path = &self.layout.fields[overlay.column as usize].path;
            let edited = edit(&self.from, path, change, &mut self.to);
            debug_assert!(edited.is_ok(), "rows that cannot take a value failed when it was applied");
            if edited.is_ok() {
                std::mem::swap(&mut self.from, &mut self.to);
            }
        }
        out.extend_from_slice(&self.from);
    }
}

/// `scratch` is for text that needs escapes.
#[inline(always)]
fn put_value(store: &Store, at: usize, line: &mut Blocks, scratch: &mut Vec<u8>) {
    match store.kind {
        Kind::Text => {
            let span = store.values.as_ref().range(at);
            let data = &store.values.data;
            line.push(b'"');
            if store.clean || is_clean_short(data, span.clone()) {
                line.put(data, span.start, span.end);
            } else {
                scratch.clear();
                escape_into(&data[span], scratch);
                line.put_all(scratch);
            }
            line.push(b'"');
        }
        Kind::Raw => {
            let span = store.values.as_ref().range(at);
            line.put(&store.values.data, span.start, span.end);
        }
        Kind::Floats => {
            scratch.clear();
            Value::Float(store.floats[at]).write_json(scratch);
            line.put_all(scratch);
        }
        Kind::Ints => line.push_int(store.ints[at]),
    }
}
