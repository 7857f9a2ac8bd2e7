//! Rows that fail: the first reason of each record, the withdrawal of all its rows, and the bytes of rows that no input has.

use std::collections::{HashMap, HashSet};

use crate::apply::is_object;
use crate::chunk::Chunk;
use crate::verdict::{Failure, NO_INPUT};
use crate::writer::Writer;

/// Documents of rows that no input has, by row.
pub(crate) type FreshPayloads = HashMap<usize, Vec<u8>>;

impl Chunk {
    /// Fresh rows that the export fails, as it read them: what it has staged may take the place of their texts.
    pub(crate) fn fresh_as_read(&mut self) -> FreshPayloads {
        let fails = &self.turn.groups[0].staged.fails;
        let failed: Vec<usize> = fails.iter().map(|(row, _)| *row as usize).collect();
        self.fresh_payloads(failed)
    }

    /// The documents of those of these rows that no input has.
    pub(crate) fn fresh_payloads(&mut self, mut rows: Vec<usize>) -> FreshPayloads {
        rows.retain(|&row| self.table.rows[row].input == NO_INPUT);
        if rows.is_empty() {
            return FreshPayloads::new();
        }
        if !self.table.order.is_empty() {
            self.table.scan(&self.layout);
        }
        let mut writer = Writer::new(&self.table, &self.layout);
        let written = rows.into_iter().map(|row| {
            let mut payload = Vec::new();
            writer.write(row, &mut payload);
            (row, payload)
        });
        written.collect()
    }

    /// Fresh rows that failed, and are not known yet: those of before as they are, those of this turn with what was staged for
    /// them. The columns of before know no rows of this turn: what they have of one is that of the row that it was derived of.
    pub(crate) fn add_failed_fresh(
        &mut self,
        groups: &[usize],
        starts: &[usize],
        failed: &[(usize, String)],
        known: &mut FreshPayloads,
    ) {
        let mut made = Vec::new();
        let mut before = Vec::new();
        for &(at, _) in failed {
            if self.table.rows[at].input != NO_INPUT || known.contains_key(&at) {
                continue;
            }
            // Of groups that begin at the same row all but the last are empty.
            let place = starts.partition_point(|start| *start <= at) - 1;
            let row = at - starts[place];
            let root = if place == 0 { at as u32 } else { self.turn.groups[groups[place]].roots[row] };
            if place > 0 {
                made.push((at, groups[place], row, root));
            }
            if place == 0 || root != NO_INPUT {
                before.push(root as usize);
            }
        }
        let before = self.fresh_payloads(before);
        for &(at, group, row, root) in &made {
            let own = || self.table.arena[self.table.rows[at].range()].to_vec();
            // Where a text was staged for any row, all columns were written into the texts.
            let derived = before.get(&(root as usize)).filter(|_| !self.table.order.is_empty());
            let text = derived.cloned().unwrap_or_else(own);
            let mut whole = text.clone();
            let staged = &self.turn.groups[group].staged;
            let written = self.write_staged(&mut whole, is_object(&text), staged, row);
            known.insert(at, if written.is_ok() { whole } else { text });
        }
        for &(at, _) in failed {
            if let Some(payload) = before.get(&at)
                && !known.contains_key(&at)
            {
                known.insert(at, payload.clone());
            }
        }
    }

    /// Records failures and withdraws all rows of the records. The first reason of a record stays.
    pub(crate) fn fail_rows(
        &mut self,
        failed: Vec<(usize, String)>,
        dead: &mut [bool],
        transform: usize,
        mut fresh: FreshPayloads,
    ) {
        let mut fresh_failed = HashSet::new();
        for (at, reason) in failed {
            let row = self.table.rows[at];
            let known = match self.failed.get_mut(row.input as usize) {
                Some(known) => std::mem::replace(known, true),
                None => !fresh_failed.insert(at),
            };
            dead[at] = true;
            if !known {
                self.failures.push(Failure {
                    input_row: row.input,
                    offset: row.offset,
                    child: row.child,
                    transform,
                    route: row.route,
                    reason: crate::stage::reason_text(reason.as_bytes()),
                    payload: fresh.remove(&at).unwrap_or_default(),
                });
            }
        }
        for (row, dead) in self.table.rows.iter().zip(dead) {
            *dead |= self.failed.get(row.input as usize).is_some_and(|failed| *failed);
        }
    }
}
