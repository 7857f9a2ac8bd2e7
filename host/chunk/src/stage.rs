//! What a guest writes: the writing calls of the WIT interface, checked and staged.
//!
//! Owns the checks of states, lengths and row numbers, and what a turn may write in all. Refuses to apply anything:
//! that is [`Chunk::apply`] (in `apply`).

use std::sync::Arc;

use crate::cells::{CellsRef, ColumnRef, FloatsRef, IntsRef};
use crate::chunk::{Chunk, RowsId};
use crate::error::Misuse;
use crate::layout::DEPTH_MAX;
use crate::staged::{Life, Staged};
use crate::store::Store;

/// Names of attributes or of partitions that a turn may write.
const NAMES_MAX: usize = 256;

impl Chunk {
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
        let filled = self.fill(old, bytes, |store| store.fill_bytes(values, len));
        let stores = target(self.staged(group));
        match (at, filled) {
            (Some(at), Ok(store)) => stores[at].1 = store,
            (None, Ok(store)) => stores.push((name.into(), store)),
            // As with fields and keys: a refused call leaves nothing of the one that it was to replace.
            (at, Err(misuse)) => {
                at.into_iter().for_each(|at| drop(stores.remove(at)));
                return Err(misuse);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::{Cells, Column, write};
    use crate::input::{ChunkLimits, Input};
    use crate::layout::Layout;

    fn cells(values: &[&str]) -> Cells {
        let mut cells = Cells::default();
        values.iter().for_each(|value| cells.push(write::VALUE, value.as_bytes()));
        cells
    }

    #[test]
    fn call_refused_leaves_nothing_of_the_one_that_it_was_to_replace() {
        let mut chunk = Chunk::new(Arc::new(Layout::new(&[vec![]]).unwrap()), ChunkLimits::default());
        let mut payloads = Column::default();
        payloads.push(b"{}");
        let input = Input::of_payloads(0, payloads.as_ref());
        chunk.begin(&input, 0..1).unwrap();
        chunk.enter(0, 0);
        let misuse = Err(Misuse::Length { expected: 1, got: 2 });
        for values in [cells(&["one"]), cells(&["one", "two"])] {
            let told = if values.len() == 1 { Ok(()) } else { misuse.clone() };
            assert_eq!(chunk.set_keys(RowsId::MAIN, values.as_ref()), told);
            assert_eq!(chunk.set_attributes(RowsId::MAIN, "name", values.as_ref()), told);
            assert_eq!(chunk.partition(RowsId::MAIN, "name", values.as_ref()), told);
        }
        // A caller that goes on all the same, as a unit test of a plugin may.
        chunk.apply().unwrap();
        assert_eq!(chunk.keys(RowsId::MAIN).unwrap().get(0), None);
        assert_eq!(chunk.attributes(RowsId::MAIN, "name").unwrap().get(0), None);
    }

    #[test]
    fn keys_and_attributes_of_rows_derived_many_times_are_bounded_too() {
        let limits = ChunkLimits { output_bytes: 4096, ..ChunkLimits::default() };
        let mut chunk = Chunk::new(Arc::new(Layout::new(&[vec![]]).unwrap()), limits);
        let mut payloads = Column::default();
        payloads.push(b"{}");
        let (key, attribute) = (cells(&["k".repeat(100).as_str()]), cells(&["a".repeat(100).as_str()]));
        for (with_key, with_attribute) in [(true, false), (false, true)] {
            let attributes = [("name".to_owned(), attribute.as_ref())];
            let mut input = Input::of_payloads(0, payloads.as_ref());
            input.keys = with_key.then_some(key.as_ref());
            input.attributes = if with_attribute { &attributes } else { &[] };
            for (times, fits) in [(30, true), (60, false)] {
                chunk.begin(&input, 0..1).unwrap();
                chunk.enter(0, 0);
                let rows = chunk.derive(RowsId::MAIN, &vec![0; times]).unwrap();
                let (keys, attributes) =
                    (chunk.keys(rows).map(drop), chunk.attributes(rows, "name").map(drop));
                let refused = Err(Misuse::TooLarge { limit: 4096 });
                assert_eq!(keys, if fits || !with_key { Ok(()) } else { refused.clone() });
                assert_eq!(attributes, if fits || !with_attribute { Ok(()) } else { refused });
                chunk.emit(rows).unwrap();
                assert_eq!(chunk.apply().is_ok(), fits, "{times} rows");
                chunk.discard();
            }
        }
    }

    #[test]
    fn a_large_record_is_taken_apart_into_small_rows_and_copies_of_it_are_bounded() {
        let limits = ChunkLimits { output_bytes: 4096, ..ChunkLimits::default() };
        let mut chunk = Chunk::new(Arc::new(Layout::new(&[vec![]]).unwrap()), limits);
        let mut payloads = Column::default();
        payloads.push("x".repeat(1000).as_bytes());
        let input = Input::of_payloads(0, payloads.as_ref());
        // How many of the derived rows get a text of their own: the others are copies of the whole record.
        for (own, fits) in [(100, true), (98, true), (96, false), (0, false)] {
            chunk.begin(&input, 0..1).unwrap();
            chunk.enter(0, 0);
            let rows = chunk.derive(RowsId::MAIN, &[0; 100]).unwrap();
            let mut texts = Cells::default();
            for row in 0..100 {
                texts.state.push(if row < own { 3 } else { 0 });
                texts.values.push(if row < own { b"ten bytes." } else { b"" });
            }
            chunk.set_payloads(rows, texts.as_ref()).unwrap();
            chunk.emit(rows).unwrap();
            assert_eq!(chunk.apply().is_ok(), fits, "{own} rows of their own");
            chunk.discard();
        }
    }

    #[test]
    fn partitions_are_kept_once_and_are_bounded_for_rows_derived_many_times() {
        let limits = ChunkLimits { output_bytes: 4096, ..ChunkLimits::default() };
        let mut chunk = Chunk::new(Arc::new(Layout::new(&[vec![], vec![]]).unwrap()), limits);
        let mut payloads = Column::default();
        payloads.push(b"{}");
        let input = Input::of_payloads(0, payloads.as_ref());
        for (times, fits) in [(3, true), (5, false)] {
            chunk.begin(&input, 0..1).unwrap();
            chunk.enter(0, 0);
            for name in 0..40 {
                chunk
                    .partition(RowsId::MAIN, &format!("{name:02}"), cells(&["twenty bytes of text"]).as_ref())
                    .unwrap();
            }
            chunk.apply().unwrap();
            assert_eq!(chunk.table.partitions.len(), 2, "none, and the one of the row");
            assert_eq!(chunk.table.partitions[1].values.len(), 40);
            chunk.enter(1, 0);
            let rows = chunk.derive(RowsId::MAIN, &vec![0; times]).unwrap();
            let values: Vec<String> = (0..times).map(|value| value.to_string()).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            chunk.partition(rows, "own", cells(&values).as_ref()).unwrap();
            chunk.emit(rows).unwrap();
            assert_eq!(chunk.apply().is_ok(), fits, "{times} rows");
            chunk.discard();
        }
    }
}
