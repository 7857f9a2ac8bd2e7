//! Writes rows as JSON: base text with the overlays over it.
//!
//! Three ways, from fast to general: rows that start from `{}` with top-level fields are put together from
//! prefixes and values; values that exist once are spliced into the base text, and new ones put behind the last
//! member of the innermost object there is, with the objects that are missing; all else is one edit after the other.
//! Refuses nothing: what can fail was refused when it was applied.

use crate::blocks::{Blocks, Piece};
use crate::cells::write;
use crate::edit::{Change, edit};
use crate::layout::{Field, Layout};
use crate::store::{Kind, Store, Value};
use crate::table::{EMPTY_SCAN, NO_ROW, Table};
use crate::text::{escape_into, is_clean_short};

struct Overlay<'a> {
    column: u32,
    field: &'a Field,
    store: &'a Store,
    map: Option<&'a [u32]>,
    /// `,"key":` in a block, if it fits.
    lead: Option<Piece>,
}

/// A value that goes into the base text of a row.
struct Splice {
    start: u32,
    /// That of `start`: a new member.
    end: u32,
    /// Of the overlay, and of the value in it.
    index: usize,
    at: usize,
    /// So many of the objects on its way are there.
    level: usize,
    /// It was put into an object together with others.
    done: bool,
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
            None => line.put_all(&self.field.prefix),
        }
    }

    /// A member with the value at `at`; `first`: no comma stands before it.
    #[inline(always)]
    fn put_member(&self, at: usize, first: bool, line: &mut Blocks, scratch: &mut Vec<u8>) {
        if first {
            line.put_all(&self.field.prefix[1..]);
        } else {
            self.put_prefix(line);
        }
        self.put_cell(at, line, scratch);
    }

    #[inline(always)]
    fn put_cell(&self, at: usize, line: &mut Blocks, scratch: &mut Vec<u8>) {
        if self.store.state[at] == write::NULL {
            line.put_all(b"null");
        } else {
            put_value(self.store, at, line, scratch);
        }
    }
}

pub(crate) struct Writer<'a> {
    table: &'a Table,
    layout: &'a Layout,
    overlays: Vec<Overlay<'a>>,
    /// Every overlay is at the top level.
    flat: bool,
    splices: Vec<Splice>,
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
                    field,
                    store,
                    map: table.maps[store.epoch].as_deref(),
                    lead: Piece::new(&field.prefix),
                })
            })
            .collect();
        let flat = overlays.iter().all(|overlay| overlay.field.parents.is_empty());
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
                write::VALUE | write::NULL => overlay.put_member(at, false, line, &mut self.value),
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

    /// False, with nothing appended, if the row needs more than replacing and adding.
    fn splice(&mut self, row: usize, out: &mut Vec<u8>) -> bool {
        let Writer { table, layout, overlays, splices, line, value, .. } = self;
        let base = table.rows[row];
        let duplicate = table.shape(row).duplicate;
        splices.clear();
        for (index, overlay) in overlays.iter().enumerate() {
            let Some(at) = overlay.at(row) else { continue };
            let op = overlay.store.state[at];
            if op == write::LEAVE {
                continue;
            }
            let span = table.span(layout, row, overlay.column as usize);
            let (start, end, level) = match (op, span.is_missing()) {
                _ if duplicate => return false,
                (write::REMOVE, true) => continue,
                (write::REMOVE, false) => return false,
                (_, false) => (span.range().start as u32, span.range().end as u32, 0),
                (_, true) => {
                    let Some((behind, level)) = innermost(table, layout, row, overlay.field) else {
                        return false;
                    };
                    (behind, behind, level)
                }
            };
            splices.push(Splice { start, end, index, at, level, done: false });
        }
        if splices.is_empty() {
            out.extend_from_slice(&table.arena[base.range()]);
            return true;
        }
        // Stable: new members stay in the order of the columns.
        if !splices.is_sorted_by_key(|splice| splice.start) {
            splices.sort_by_key(|splice| splice.start);
        }
        line.clear();
        let mut done = base.start as usize;
        for number in 0..splices.len() {
            let Splice { start, end, index, at, level, done: made } = splices[number];
            if made {
                continue;
            }
            let (overlay, from) = (&overlays[index], start as usize);
            // A brace that opens stands there only in front of the first member: no member ends in one.
            let first = done != from && table.arena[from - 1] == b'{';
            line.put(&table.arena, done, from);
            if start != end {
                overlay.put_cell(at, line, value);
            } else if level == overlay.field.parents.len() {
                overlay.put_member(at, first, line, value);
            } else {
                let same = splices[number..].iter().take_while(|splice| splice.start == start).count();
                put_object(overlays, &mut splices[number..number + same], level, first, line, value);
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

/// Behind the last member of the innermost object on the field's way that is there, and how many of them are; `None` where a value
/// on the way is no object.
fn innermost(table: &Table, layout: &Layout, row: usize, field: &Field) -> Option<(u32, usize)> {
    let (mut behind, mut level) = (table.shape(row).append_at, 0);
    for parent in &field.parents {
        let span = table.span(layout, row, *parent as usize);
        if span.is_missing() {
            break;
        }
        let text = &table.arena[span.range()];
        if text[0] != b'{' {
            return None;
        }
        let members = text[..text.len() - 1].trim_ascii_end();
        behind = (span.range().start + members.len()) as u32;
        level += 1;
    }
    Some((behind, level))
}

/// The object at this level of the first splice's way, with all that is made in it. `scratch` is for text that needs escapes.
fn put_object(
    overlays: &[Overlay<'_>],
    splices: &mut [Splice],
    level: usize,
    first: bool,
    line: &mut Blocks,
    scratch: &mut Vec<u8>,
) {
    let Some(field) = splices.first().map(|splice| overlays[splice.index].field) else { return };
    let node = field.parents[level];
    line.put_all(&field.ways[level][usize::from(first)..]);
    line.push(b'{');
    let mut first = true;
    for number in 0..splices.len() {
        let Splice { index, at, done, .. } = splices[number];
        let parents = &overlays[index].field.parents;
        if done || parents.get(level) != Some(&node) {
            continue;
        }
        if parents.len() == level + 1 {
            overlays[index].put_member(at, first, line, scratch);
            splices[number].done = true;
        } else {
            put_object(overlays, &mut splices[number..], level + 1, first, line, scratch);
        }
        first = false;
    }
    line.push(b'}');
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Cells, Chunk, ChunkLimits, Column, Input, RowsId};

    /// What is made in objects that are there or are missing, in turns: the bytes that one edit after the other gives.
    #[test]
    fn members_stand_where_edits_put_them() {
        let paths = ["past/n", "b", "past/deep/x", "c/a", "past/m", "c/e/f", "past/deep/y", "c/d"];
        let paths: Vec<Vec<String>> =
            paths.iter().map(|path| path.split('/').map(str::to_owned).collect()).collect();
        let layout = Arc::new(Layout::new(std::slice::from_ref(&paths)).unwrap());
        let mut column = Column::default();
        let documents = [
            "{}",
            " { } ",
            r#"{"a":1}"#,
            r#"{ "a" : [ 1 ] , "c" : { } }"#,
            r#"{"c":{ "d" : 1 , "z":{ } } , "past":{}}"#,
            r#"{"past":{"deep":{"q":"}"} },"b":{"x":{}} }"#,
            r#"{"c":{"e":{}},"b":1,"past":{"n":2 ,"m":{}}}"#,
        ];
        documents.iter().for_each(|document| column.push(document.as_bytes()));
        let input = Input::of_payloads(0, column.as_ref());
        for left_out in 0..=paths.len() {
            let mut chunk = Chunk::new(Arc::clone(&layout), ChunkLimits::default());
            chunk.begin(&input, input.rows()).unwrap();
            chunk.enter(0, 0);
            for slot in (0..paths.len()).filter(|slot| *slot != left_out) {
                let mut cells = Cells::default();
                documents.iter().for_each(|_| cells.push(write::VALUE, format!("v{slot}").as_bytes()));
                chunk.set_text(RowsId::MAIN, slot as u32, cells.as_ref()).unwrap();
            }
            chunk.apply().unwrap();
            chunk.table.scan(&layout);
            assert_eq!(chunk.table.rows.len(), documents.len());
            let mut writer = Writer::new(&chunk.table, &layout);
            for (row, document) in documents.iter().enumerate() {
                let (mut spliced, mut edited) = (Vec::new(), Vec::new());
                assert!(writer.splice(row, &mut spliced), "{document}");
                writer.edit(row, &mut edited);
                let [spliced, edited] = [spliced, edited].map(|text| String::from_utf8(text).unwrap());
                assert_eq!(spliced, edited, "{document}");
            }
        }
    }
}
