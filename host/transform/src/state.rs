//! State during the run of a slice: which of the slice's tables are those of the transform whose turn it is.
//!
//! What is written of an attempt at a chunk counts only when every transform of the chain has agreed and no record failed
//! that may have had a part in it; the worker begins and takes back.

use std::collections::HashSet;

use wasmill_chunk::{Chunk, Misuse, RowsId};
use wasmill_state::{SliceState, TableId, TableSpec, group_of};

use crate::step::{Declared, Step};
use crate::worker::Part;

/// State of a slice, in the hands of whoever runs it.
pub(crate) struct Keeping {
    pub(crate) state: SliceState,
    /// Of the transform whose turn it is: the slice's numbers of its tables.
    pub(crate) tables: Vec<usize>,
    /// The first transform that has written something in this attempt.
    pub(crate) wrote: Option<usize>,
}

impl Keeping {
    pub(crate) fn new(state: SliceState) -> Keeping {
        Keeping { state, tables: Vec::new(), wrote: None }
    }

    /// The first transform that cannot read what is stored of its tables, and why.
    pub(crate) fn unreadable<'a>(
        &self,
        steps: impl Iterator<Item = (&'a Step, &'a Declared)>,
    ) -> Option<(usize, String)> {
        for (index, (step, declared)) in steps.enumerate() {
            for table in &declared.tables {
                let stored = TableId::new(&step.name, &table.name).and_then(|id| self.state.version(&id));
                if let Some(stored) = stored.filter(|stored| table.version < *stored) {
                    let message = format!(
                        "the stored values of its table {:?} have layout version {stored}, and this version of the plugin reads up \
                         to {}: use one that reads them, or drop the table (`wasmill state drop`)",
                        table.name, table.version
                    );
                    return Some((index, message));
                }
            }
        }
        None
    }

    /// An attempt at a chunk begins.
    pub(crate) fn begin(&mut self) {
        self.state.begin();
        self.wrote = None;
    }

    /// It is the turn of this transform, which has declared so much.
    pub(crate) fn enter(&mut self, step: &Step, declared: &Declared) {
        self.tables.clear();
        for table in &declared.tables {
            // Names of transforms and tables are shorter than what a table's id takes.
            let Some(id) = TableId::new(&step.name, &table.name) else { continue };
            let spec = TableSpec { version: table.version, ttl_ns: table.ttl_ns };
            self.tables.push(self.state.table(&id, spec));
        }
    }

    /// Its turn is over.
    pub(crate) fn leave(&mut self, index: usize) {
        if self.state.has_written() {
            self.wrote.get_or_insert(index);
        }
    }

    /// What the slice calls this table of the transform.
    pub(crate) fn table(&self, number: u32) -> Option<usize> {
        self.tables.get(usize::try_from(number).ok()?).copied()
    }
}

/// The parts without these rows of their chunk.
pub(crate) fn without(parts: &[Part], rows: &[u32]) -> Vec<Part> {
    let gone: HashSet<usize> = rows.iter().filter_map(|row| usize::try_from(*row).ok()).collect();
    let mut left: Vec<Part> = Vec::with_capacity(parts.len() + rows.len());
    let mut first = 0;
    for part in parts {
        for (number, row) in part.rows.clone().enumerate() {
            if gone.contains(&(first + number)) {
                continue;
            }
            match left.last_mut().filter(|last| last.input == part.input && last.rows.end == row) {
                Some(last) => last.rows.end += 1,
                None => left.push(Part { input: part.input, rows: row..row + 1 }),
            }
        }
        first += part.rows.len();
    }
    left
}

/// The key group of each row by fields that are read from these slots on. Of one text it is the group of that; else each
/// value counts with its length, a missing one as if it were empty.
pub(crate) fn groups(chunk: &mut Chunk, rows: RowsId, first: u32, fields: u32) -> Result<Vec<u8>, Misuse> {
    let len = chunk.len(rows)? as usize;
    if fields == 0 {
        return Ok(vec![0; len]);
    }
    let mut keys: Vec<Vec<u8>> = vec![Vec::new(); len];
    let mut value: Vec<Option<Vec<u8>>> = Vec::new();
    for slot in first..first + fields {
        value.clear();
        value.extend(chunk.get_text(rows, slot)?.iter().map(|text| text.map(<[u8]>::to_vec)));
        for (text, raw) in value.iter_mut().zip(chunk.get_raw(rows, slot)?.iter()) {
            if text.is_none() {
                *text = raw.map(<[u8]>::to_vec);
            }
        }
        for (key, value) in keys.iter_mut().zip(&value) {
            let value = value.as_deref().unwrap_or_default();
            if fields > 1 {
                // Shorter than a record, and that is far below 4 GiB.
                key.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
            }
            key.extend_from_slice(value);
        }
    }
    Ok(keys.iter().map(|key| group_of(key)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_without_rows_keep_all_others_in_their_order() {
        let parts = [Part { input: 0, rows: 5..8 }, Part { input: 1, rows: 0..4 }];
        assert_eq!(without(&parts, &[]), parts);
        assert_eq!(
            without(&parts, &[1, 3, 6]),
            [Part { input: 0, rows: 5..6 }, Part { input: 0, rows: 7..8 }, Part { input: 1, rows: 1..3 },]
        );
        assert_eq!(without(&parts, &[0, 1, 2, 3, 4, 5, 6]), []);
    }
}
