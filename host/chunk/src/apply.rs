//! Applying a turn: what an export that returned ok has staged becomes what the next transform reads.
//!
//! Order, whatever the order of calls: clear or set-payloads; fields by slot; key, attributes, partition,
//! route; verdict (fail beats replaced beats dropped beats kept). Owns that order, the first reason of a
//! failure, and the withdrawal of all rows of a failed record. Refuses to apply half: limits come first.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cells::write;
use crate::chunk::{Chunk, TEXT_MAX};
use crate::edit::{Change, edit};
use crate::error::OverLimit;
use crate::fail::FreshPayloads;
use crate::merge::Picked;
use crate::scan::one_value;
use crate::staged::{Base, Group, Staged};
use crate::store::{Fault, Kind, Store, Value, bit};
use crate::table::{EMPTY_END, EMPTY_SCAN, PartitionChange, UNSCANNED};
use crate::verdict::NO_INPUT;

const SETS: u8 = bit(write::NULL) | bit(write::VALUE);

/// Whether a text is one JSON object.
pub(crate) fn is_object(text: &[u8]) -> bool {
    let value = std::str::from_utf8(text).ok().and_then(|_| one_value(text, crate::layout::DEPTH_MAX));
    value.is_some_and(|value| value[0] == b'{')
}

impl Chunk {
    /// The export returned ok: applies everything staged in the fixed order. Over a limit nothing is applied.
    pub fn apply(&mut self) -> Result<(), OverLimit> {
        self.check_limits()?;
        let mut groups = vec![0];
        groups.extend_from_slice(&self.turn.emitted);
        let written = groups.iter().flat_map(|group| &self.turn.groups[*group].staged.fields);
        if self.layout.touches(self.turn.transform, written.map(|(slot, _)| *slot)) {
            for &group in &groups {
                self.edit_fields(group);
            }
        }
        let read = self.fresh_as_read();
        self.make_room(&groups);
        let picked = self.append_rows(&groups);
        for slot in 0..self.slots() {
            for &group in &groups {
                if self.turn.groups[group].staged.field(slot).is_some_and(|store| store.mask & SETS != 0) {
                    self.table.scan(&self.layout);
                    break;
                }
            }
        }
        let mut dead = vec![false; self.table.rows.len()];
        self.judge(&groups, &mut dead, read);
        self.redirect(&groups);
        self.settle(&groups, picked, dead);
        self.turn.reset(self.table.rows.len() as u32, &mut self.table.pool);
        Ok(())
    }

    fn slots(&self) -> u32 {
        self.layout.slots.get(self.turn.transform).map_or(0, Vec::len) as u32
    }

    fn check_limits(&self) -> Result<(), OverLimit> {
        let limit = self.limits.output_bytes;
        if self.turn.bytes == 0 && self.turn.emitted.is_empty() {
            return Ok(());
        }
        let mut rows = self.table.rows.len();
        let mut total = self.turn.bytes;
        total += self.table.rows.iter().map(|row| (row.end - row.start) as usize).sum::<usize>();
        total += self.overlays().map(Store::bytes).sum::<usize>();
        for &group in &self.turn.emitted {
            let Group { roots, staged, .. } = &self.turn.groups[group];
            rows += roots.len();
            for (number, &root) in roots.iter().enumerate().filter(|(_, root)| **root != NO_INPUT) {
                let row = &self.table.rows[root as usize];
                // A row that gets a text of its own, which is staged and counted, takes nothing of its source's: else
                // no large record could be taken apart into many small ones.
                let same = staged.base(number) == Base::Same;
                let overlays = self.overlays().filter(|_| same);
                total += if same { (row.end - row.start) as usize } else { 0 };
                for store in overlays.chain(self.table.sides()) {
                    if let Some(at) = self.table.mapped(store.epoch, root as usize) {
                        total +=
                            if store.values.is_empty() { 8 } else { store.values.as_ref().range(at).len() };
                    }
                }
                if total > limit {
                    return Err(OverLimit::Bytes { limit });
                }
            }
        }
        // A row that is given a partition value takes those that it had along.
        for at in std::iter::once(0).chain(self.turn.emitted.iter().copied()) {
            let group = &self.turn.groups[at];
            let staged = &group.staged.partitions;
            let rows = if staged.is_empty() { 0 } else { group.rows as usize };
            let written =
                (0..rows).filter(|row| staged.iter().any(|(_, store)| store.state[*row] != write::LEAVE));
            for row in written {
                let root = if at == 0 { row } else { group.roots[row] as usize };
                let had = self.table.rows.get(root).map_or(0, |row| row.partition);
                let values = &self.table.partitions[had as usize].values;
                total += values.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
                if total > limit {
                    return Err(OverLimit::Bytes { limit });
                }
            }
        }
        let names = |column: u32| {
            self.layout.fields[column as usize].path.iter().map(|key| key.len() + 4).sum::<usize>()
        };
        let staged = self.layout.slots.get(self.turn.transform);
        let written = staged.into_iter().flatten().enumerate().filter(|(slot, _)| {
            self.turn.groups[..self.turn.count].iter().any(|group| group.staged.field(*slot as u32).is_some())
        });
        let per_row: usize = self.table.order.iter().map(|&column| names(column)).sum::<usize>()
            + written.map(|(_, &column)| names(column)).sum::<usize>();
        // Key texts come from the config, not from the guest: they may take as much again.
        if total > limit || per_row.saturating_mul(rows) > limit || self.table.len + total > TEXT_MAX {
            return Err(OverLimit::Bytes { limit });
        }
        Ok(())
    }

    fn overlays(&self) -> impl Iterator<Item = &Store> {
        self.table.order.iter().filter_map(|&column| self.table.overlays[column as usize].as_ref())
    }

    /// Writes that touch each other, or other paths: they are made in the text one by one, and the text is staged.
    fn edit_fields(&mut self, group: usize) {
        if self.turn.groups[group].staged.fields.is_empty() {
            return;
        }
        self.table.flush(&self.layout);
        self.table.scan(&self.layout);
        let mut staged = std::mem::take(&mut self.turn.groups[group].staged);
        staged.fields.sort_by_key(|(slot, _)| *slot);
        let mut texts = self.table.store();
        texts.reset(Kind::Text);
        for row in 0..self.turn.groups[group].rows as usize {
            match self.edit_row(group, &staged, row) {
                Ok(Some(text)) => texts.push(write::VALUE, Some(Value::Text(&text))),
                Ok(None) => texts.push(write::LEAVE, None),
                Err((slot, fault)) => {
                    staged.fails.push((row as u32, self.reason(slot, fault)));
                    texts.push(write::LEAVE, None);
                }
            }
        }
        self.table.pool.extend(staged.fields.drain(..).map(|(_, store)| store));
        self.table.pool.extend(staged.payloads.replace(texts));
        staged.clear = None;
        self.turn.groups[group].staged = staged;
    }

    /// The row's new text; `None`: as it was.
    fn edit_row(&self, group: usize, staged: &Staged, row: usize) -> Result<Option<Vec<u8>>, (u32, Fault)> {
        let root = if group == 0 { row as u32 } else { self.turn.groups[group].roots[row] };
        let base = staged.base(row);
        let (mut text, object) = match base {
            Base::Same if root != NO_INPUT => (
                self.table.arena[self.table.rows[root as usize].range()].to_vec(),
                self.table.shape(root as usize).object,
            ),
            Base::Payload => {
                let text = staged.payloads.as_ref().map(|store| store.values.as_ref().get(row));
                let text = text.unwrap_or_default().to_vec();
                let object = is_object(&text);
                (text, object)
            }
            Base::Same | Base::Empty => (b"{}".to_vec(), true),
        };
        let written = self.write_staged(&mut text, object, staged, row)?;
        Ok((written || base != Base::Same).then_some(text))
    }

    /// Writes the row's staged fields into a text, which is an object or not. Whether there were any.
    pub(crate) fn write_staged(
        &self,
        text: &mut Vec<u8>,
        object: bool,
        staged: &Staged,
        row: usize,
    ) -> Result<bool, (u32, Fault)> {
        let mut changed = false;
        let mut value = Vec::new();
        for (slot, store) in &staged.fields {
            if let Ok(at) = store.faults.binary_search_by_key(&(row as u32), |fault| fault.0) {
                return Err((*slot, store.faults[at].1));
            }
            value.clear();
            let change = match store.state[row] {
                write::LEAVE => continue,
                write::REMOVE if !object => continue,
                write::REMOVE => Change::Remove,
                _ if !object => return Err((*slot, Fault::NoObject)),
                write::NULL => Change::Set(b"null"),
                _ => {
                    store.value(row).write_json(&mut value);
                    Change::Set(&value)
                }
            };
            let column = self.layout.slots[self.turn.transform][*slot as usize];
            let mut edited = Vec::with_capacity(text.len() + value.len());
            edit(text, &self.layout.fields[column as usize].path, change, &mut edited)
                .map_err(|_blocked| (*slot, Fault::WayBlocked))?;
            *text = edited;
            changed = true;
        }
        Ok(changed)
    }

    /// Writes overlays into the texts where what was staged could not be laid over them.
    fn make_room(&mut self, groups: &[usize]) {
        if self.table.order.is_empty() {
            return;
        }
        if groups.iter().any(|&group| self.turn.groups[group].staged.changes_base()) {
            let staged = &self.turn.groups[0].staged;
            let mut gone = vec![false; self.table.rows.len()];
            for (row, _) in &staged.fails {
                gone[*row as usize] = true;
            }
            let all = gone.iter().enumerate().all(|(row, gone)| {
                *gone
                    || staged.base(row) != Base::Same
                    || staged.keep.as_ref().is_some_and(|marks| marks[row] == 0)
            });
            if all && groups.len() == 1 {
                self.table.drop_overlays();
                self.table.forget_reads();
            } else {
                self.table.flush(&self.layout);
            }
        } else if self.would_reorder(groups) {
            self.table.flush(&self.layout);
        }
    }

    /// Whether laying the columns one over the other would not give what edits in turn give: a row gets a new
    /// member in a column that other rows got earlier (the order of the columns is not that of its members),
    /// or loses one for which parents were made (they stay).
    fn would_reorder(&mut self, groups: &[usize]) -> bool {
        for slot in 0..self.slots() {
            let column = self.layout.slots[self.turn.transform][slot as usize] as usize;
            let Some(old) = &self.table.overlays[column] else { continue };
            let (mask, mapped) = (old.mask, self.table.maps[old.epoch].is_some());
            let nested = self.layout.fields[column].path.len() > 1;
            for &group in groups {
                let rows = &self.turn.groups[group];
                let Some(store) = rows.staged.field(slot) else { continue };
                let removes = nested && store.mask & bit(write::REMOVE) != 0;
                let adds = store.mask & SETS != 0 && (mask & !SETS != 0 || mapped || group != 0);
                if !adds && !removes {
                    continue;
                }
                self.table.scan(&self.layout);
                for (row, &op) in store.state.iter().enumerate() {
                    let root = if group == 0 { row as u32 } else { rows.roots[row] };
                    let sets = matches!(op, write::NULL | write::VALUE);
                    if root == NO_INPUT {
                        if sets {
                            return true;
                        }
                        continue;
                    }
                    let (had, _) = self.table.overlay(column, root as usize);
                    let missing = self.table.span(&self.layout, root as usize, column).is_missing();
                    let had_set = matches!(had, write::NULL | write::VALUE);
                    if sets && (had == write::REMOVE || (had == write::LEAVE && missing))
                        || nested && op == write::REMOVE && had_set && missing
                    {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Appends the rows of emitted groups and gives rows their new base texts. Returns where each row of the
    /// table comes from.
    fn append_rows(&mut self, groups: &[usize]) -> Vec<Picked> {
        let main = self.table.rows.len();
        let mut picked: Vec<Picked> = Vec::new();
        if groups.len() > 1 {
            picked.extend((0..main as u32).map(|row| Picked { group: 0, row, root: row }));
            self.has_children = true;
        }
        for &group in &groups[1..] {
            for (row, &root) in self.turn.groups[group].roots.iter().enumerate() {
                let copy = match self.table.rows.get(root as usize) {
                    Some(&source) => source,
                    None => self.fresh_row(),
                };
                self.table.rows.push(copy);
                picked.push(Picked { group: group as u32, row: row as u32, root });
            }
        }
        let mut first = 0;
        for &group in groups {
            let rows = self.turn.groups[group].rows as usize;
            let staged = &self.turn.groups[group].staged;
            if staged.changes_base() {
                let payloads = staged.payloads.as_ref();
                let (start, _) = match payloads {
                    Some(store) => self.table.append(&store.values.data),
                    None => (0, 0),
                };
                for row in 0..rows {
                    let target = &mut self.table.rows[first + row];
                    match staged.base(row) {
                        Base::Same => {}
                        Base::Empty => (target.start, target.end, target.scan) = (0, EMPTY_END, EMPTY_SCAN),
                        Base::Payload => {
                            let range =
                                payloads.map(|store| store.values.as_ref().range(row)).unwrap_or_default();
                            target.start = start + range.start as u32;
                            target.end = start + range.end as u32;
                            target.scan = UNSCANNED;
                        }
                    }
                }
            }
            first += rows;
        }
        picked
    }

    fn reason(&self, slot: u32, fault: Fault) -> String {
        let column = self.layout.slots[self.turn.transform][slot as usize] as usize;
        let name: String = self.layout.fields[column].name.chars().take(200).collect();
        match fault {
            Fault::Utf8 => format!("field {name}: the text is not UTF-8"),
            Fault::NotOneValue => format!("field {name}: the raw text is not one JSON value"),
            Fault::NotFinite => format!("field {name}: the number is not finite"),
            Fault::NoObject => format!("field {name}: the payload is not a JSON object"),
            Fault::WayBlocked => format!("field {name}: a value on the way is not an object"),
        }
    }

    /// Verdicts: marks the rows that do not go on, and records failures. `read` has the fresh rows that the export fails.
    fn judge(&mut self, groups: &[usize], dead: &mut [bool], mut read: FreshPayloads) {
        let mut failed: Vec<(usize, String)> = Vec::new();
        let mut first = 0;
        let starts: Vec<usize> = groups
            .iter()
            .map(|&group| {
                first += self.turn.groups[group].rows as usize;
                first - self.turn.groups[group].rows as usize
            })
            .collect();
        for (&group, &start) in groups.iter().zip(&starts) {
            let fails = std::mem::take(&mut self.turn.groups[group].staged.fails);
            failed.extend(fails.into_iter().map(|(row, reason)| (start + row as usize, reason)));
        }
        // Rows that start from `{}` can take whatever is a value at all.
        let empty = self.table.all_empty();
        for slot in 0..self.slots() {
            for (&group, &start) in groups.iter().zip(&starts) {
                self.find_faults(group, start, slot, empty, &mut failed);
            }
        }
        if groups.len() > 1 {
            self.mark_replaced(groups, &starts, dead);
        }
        for (&group, &start) in groups.iter().zip(&starts) {
            if let Some(marks) = &self.turn.groups[group].staged.keep {
                for (row, &mark) in marks.iter().enumerate() {
                    dead[start + row] |= mark == 0;
                }
            }
        }
        if !failed.is_empty() {
            self.add_failed_fresh(groups, &starts, &failed, &mut read);
            self.fail_rows(failed, dead, self.turn.transform, read);
        }
    }

    /// Rows that cannot take what was written to a slot.
    fn find_faults(
        &self,
        group: usize,
        start: usize,
        slot: u32,
        empty: bool,
        failed: &mut Vec<(usize, String)>,
    ) {
        let Some(store) = self.turn.groups[group].staged.field(slot) else { return };
        for &(row, fault) in &store.faults {
            failed.push((start + row as usize, self.reason(slot, fault)));
        }
        if store.mask & SETS == 0 || empty {
            return;
        }
        let column = self.layout.slots[self.turn.transform][slot as usize] as usize;
        let parents = &self.layout.fields[column].parents;
        for (row, &op) in store.state.iter().enumerate() {
            let at = start + row;
            if !matches!(op, write::NULL | write::VALUE) || self.table.rows[at].scan == EMPTY_SCAN {
                continue;
            }
            if !self.table.shape(at).object {
                failed.push((at, self.reason(slot, Fault::NoObject)));
                continue;
            }
            for &parent in parents {
                let span = self.table.span(&self.layout, at, parent as usize);
                if span.is_missing() {
                    break;
                }
                if self.table.arena[span.range().start] != b'{' {
                    failed.push((at, self.reason(slot, Fault::WayBlocked)));
                    break;
                }
            }
        }
    }

    /// Sources of emitted rows, and the sources of those, are replaced.
    fn mark_replaced(&self, groups: &[usize], starts: &[usize], dead: &mut [bool]) {
        let all = &self.turn.groups[..self.turn.count];
        let mut replaced: Vec<Vec<bool>> = all.iter().map(|group| vec![false; group.rows as usize]).collect();
        for at in (1..all.len()).rev() {
            let emitted = groups.contains(&at);
            let Some(parent) = all[at].parent else { continue };
            for (row, &source) in all[at].sources.iter().enumerate() {
                if emitted || replaced[at][row] {
                    replaced[parent][source as usize] = true;
                }
            }
        }
        for (&group, &start) in groups.iter().zip(starts) {
            for (row, &replaced) in replaced[group].iter().enumerate() {
                dead[start + row] |= replaced;
            }
        }
    }

    /// Partitions and routes.
    fn redirect(&mut self, groups: &[usize]) {
        let mut first = 0;
        for &group in groups {
            let staged = &self.turn.groups[group].staged;
            if !staged.partitions.is_empty() {
                let mut known: HashMap<u32, HashMap<Vec<PartitionChange<'_>>, u32>> = HashMap::new();
                let mut changes = Vec::with_capacity(staged.partitions.len());
                for row in 0..self.turn.groups[group].rows as usize {
                    changes.clear();
                    let written =
                        staged.partitions.iter().filter(|(_, store)| store.state[row] != write::LEAVE);
                    changes.extend(written.map(|(name, store)| (name, store.cells().get(row))));
                    if changes.is_empty() {
                        continue;
                    }
                    let from = self.table.rows[first + row].partition;
                    let known = known.entry(from).or_default();
                    let to = match known.get(changes.as_slice()) {
                        Some(&to) => to,
                        None => {
                            let to = self.table.partition_with(from, &changes);
                            known.insert(changes.clone(), to);
                            to
                        }
                    };
                    self.table.rows[first + row].partition = to;
                }
            }
            if let Some(outputs) = &staged.route {
                for (row, &output) in outputs.iter().enumerate() {
                    self.table.rows[first + row].route = output;
                }
            }
            first += self.turn.groups[group].rows as usize;
        }
    }

    /// Puts staged cells over the rows, and lets go of dead rows.
    fn settle(&mut self, groups: &[usize], mut picked: Vec<Picked>, dead: Vec<bool>) {
        let changed = groups.len() > 1 || dead.contains(&true);
        if changed {
            if picked.is_empty() {
                let main = self.table.rows.len() as u32;
                picked.extend((0..main).map(|row| Picked { group: 0, row, root: row }));
            }
            let mut at = 0;
            picked.retain(|_| {
                at += 1;
                !dead[at - 1]
            });
            let mut at = 0;
            self.table.rows.retain(|_| {
                at += 1;
                !dead[at - 1]
            });
        }
        let picked = changed.then_some(picked.as_slice());
        for slot in 0..self.slots() {
            self.merge_field(groups, slot, picked);
        }
        self.merge_side(groups, None, picked);
        let mut names: Vec<Arc<str>> = Vec::new();
        for &group in groups {
            for (name, _) in &self.turn.groups[group].staged.attributes {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        for name in &names {
            self.merge_side(groups, Some(name), picked);
        }
        self.remap(picked);
        self.table.forget_reads();
        if self.has_children {
            self.number_children();
        }
    }

    /// Rows of a record are numbered in the order of rows.
    pub(crate) fn number_children(&mut self) {
        let mut next = vec![0u32; self.inputs as usize];
        let mut fresh = 0u32;
        for row in &mut self.table.rows {
            let next = next.get_mut(row.input as usize).unwrap_or(&mut fresh);
            row.child = *next;
            *next += 1;
        }
    }
}
