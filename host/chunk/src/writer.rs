//! Writes rows as JSON: base text with the overlays over it.
//!
//! Three ways, from fast to general: rows that start from `{}` with top-level fields are put together from
//! prefixes and values; values that exist once are spliced into the base text and new top-level ones appended;
//! all else is one edit after the other. Refuses nothing: what can fail was refused when it was applied.

use crate::cells::write;
use crate::edit::{Change, edit};
use crate::layout::Layout;
use crate::scan::Shape;
use crate::store::{Kind, Store, Value};
use crate::table::{EMPTY_SCAN, NO_ROW, Table};
use crate::text::escape_into;

struct Overlay<'a> {
    column: u32,
    store: &'a Store,
    map: Option<&'a [u32]>,
    /// `,"key":`
    prefix: &'a [u8],
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
}

pub(crate) struct Writer<'a> {
    table: &'a Table,
    layout: &'a Layout,
    overlays: Vec<Overlay<'a>>,
    /// Every overlay is at the top level.
    flat: bool,
    splices: Vec<(u32, u32, usize, usize)>,
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
    fn assemble(&self, row: usize, out: &mut Vec<u8>) {
        let start = out.len();
        for overlay in &self.overlays {
            let Some(at) = overlay.at(row) else { continue };
            match overlay.store.state[at] {
                write::VALUE => {
                    out.extend_from_slice(overlay.prefix);
                    write_value(overlay.store, at, out);
                }
                write::NULL => {
                    out.extend_from_slice(overlay.prefix);
                    out.extend_from_slice(b"null");
                }
                _ => {}
            }
        }
        if out.len() == start {
            out.push(b'{');
        } else {
            out[start] = b'{';
        }
        out.push(b'}');
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
        let text = &table.arena[..base.end as usize];
        if !touched {
            out.extend_from_slice(&text[base.start as usize..]);
            return true;
        }
        // Stable: new members stay in the order of the columns.
        if !self.splices.is_sorted_by_key(|splice| splice.0) {
            self.splices.sort_by_key(|splice| splice.0);
        }
        let mut done = base.start;
        let mut first = empty;
        for &(start, end, index, at) in &self.splices {
            out.extend_from_slice(&text[done as usize..start as usize]);
            let overlay = &self.overlays[index];
            if start == end {
                out.extend_from_slice(&overlay.prefix[usize::from(first)..]);
                first = false;
            }
            if overlay.store.state[at] == write::NULL {
                out.extend_from_slice(b"null");
            } else {
                write_value(overlay.store, at, out);
            }
            done = end;
        }
        out.extend_from_slice(&text[done as usize..]);
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
                    write_value(overlay.store, at, &mut self.value);
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

#[inline]
fn write_value(store: &Store, at: usize, out: &mut Vec<u8>) {
    match store.kind {
        Kind::Text => {
            let text = store.values.as_ref().get(at);
            out.push(b'"');
            if store.clean {
                out.extend_from_slice(text);
            } else {
                escape_into(text, out);
            }
            out.push(b'"');
        }
        Kind::Raw => out.extend_from_slice(store.values.as_ref().get(at)),
        Kind::Floats => Value::Float(store.floats[at]).write_json(out),
        Kind::Ints => Value::Int(store.ints[at]).write_json(out),
    }
}
