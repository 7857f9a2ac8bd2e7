//! How what is in memory comes to the database: what was changed up to one outcome, in batches, or sorted where it is much, and its
//! mark last.
//!
//! A crash may leave some of the batches, or what was sorted. Outcomes say what entries are, not by how much they differ, so that applying them again from
//! the mark before on makes of it what it was; only counts that are made by looking at what is there would be wrong. So the first
//! batch says that a write is on its way, and is durable before anything sorted is; the last one takes that back, and who finds it counts anew what is there, and goes on by
//! looking until it is past the mark that was to be written.

use super::{StreamMemory, StreamStore};
use crate::engine::{Batch, Sorted, Space};
use crate::error::StoreError;
use crate::limits::{BATCH_BYTES, COPIED_ENTRIES};
use crate::pair::Pair;
use crate::resident::{Amount, HandedOver, Resident};
use crate::store::{Mark, TableUse};
use crate::stored::{about_table, mark_value, writing_key, writing_value};
use crate::table::TableId;

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// What a write takes.
struct Write {
    mark: Mark,
    /// As they are at the mark.
    tables: Vec<TableUse>,
    /// Those that have changed entries, how many, and whether one is to be emptied first.
    changed: Vec<(TableId, Amount)>,
    amount: Amount,
    empties: bool,
    /// Bytes of outcomes that it makes needless.
    behind: u64,
}

impl StreamStore {
    /// Writes what was applied and makes it durable; what is applied meanwhile waits for the next time. Says up to which mark
    /// the database has it now. Blocks.
    ///
    /// # Errors
    /// It did not become durable: it is in memory still, and nobody knows what of it the database has.
    pub fn write_behind(&self) -> Result<Option<Mark>, StoreError> {
        let memory = &self.memory;
        let _alone = memory.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(write) = memory.freeze() else { return Ok(memory.durable()) };
        match self.write(&write) {
            Ok(true) => memory.settle(&write),
            // A table was emptied meanwhile: the next write goes by that.
            Ok(false) => memory.thaw(),
            Err(error) => {
                memory.thaw();
                return Err(error);
            }
        }
        Ok(memory.durable())
    }

    /// Whether nothing came between.
    fn write(&self, write: &Write) -> Result<bool, StoreError> {
        let (memory, engine) = (&self.memory, &self.store.engine);
        let most = engine.batch_entries();
        let whole = write.amount.entries <= most && write.amount.bytes <= BATCH_BYTES && !write.empties;
        let (mut batch, mut bytes) = (Batch::default(), 0);
        // What an earlier one left is there until the mark is past its own.
        let mixed_to = memory.told().mixed_to;
        let position = write.mark.position;
        if !whole {
            memory.told().writing = true;
            let value = writing_value(position.max(mixed_to));
            batch.put(Space::About, writing_key(&memory.0.incarnation), value);
        }
        let mut sorted = Vec::new();
        for (id, amount) in &write.changed {
            let prefix = memory.prefix(id);
            match memory.residents().get(id).and_then(Resident::wipes_now) {
                None => return Ok(false),
                Some(false) => {}
                Some(true) => {
                    engine.write(std::mem::take(&mut batch))?;
                    self.store.remove_all(Space::Entries, &prefix)?;
                }
            }
            if amount.entries >= engine.sorted_entries() {
                let Some(parts) = memory.sorted(id) else { return Ok(false) };
                sorted.push(Sorted { prefix, parts });
                continue;
            }
            let mut more = true;
            while more {
                let handed = memory.residents_to_write().get_mut(id).and_then(|resident| {
                    // Not all at once: slices read meanwhile.
                    resident.hand_over(COPIED_ENTRIES.min(most))
                });
                let Some(HandedOver { entries, more: left }) = handed else { return Ok(false) };
                more = left;
                for pair in entries {
                    bytes += pair.len();
                    let key = [&prefix[..], pair.address()].concat();
                    batch.0.push((Space::Entries, key, pair.value().map(Vec::from)));
                    if !whole && (batch.0.len() >= most || bytes >= BATCH_BYTES) {
                        engine.write(std::mem::take(&mut batch))?;
                        bytes = 0;
                    }
                }
            }
        }
        if !sorted.is_empty() {
            engine.write(std::mem::take(&mut batch))?;
            engine.write_sorted(sorted)?;
        }
        for table in &write.tables {
            let key = [&memory.0.incarnation[..], b"t", table.id.encoded()].concat();
            batch.put(Space::About, key, about_table(table));
        }
        batch.put(Space::About, memory.0.incarnation.to_vec(), mark_value(write.mark));
        if memory.told().writing && position >= mixed_to {
            batch.remove(Space::About, writing_key(&memory.0.incarnation));
        }
        engine.write(batch)?;
        engine.persist()?;
        Ok(true)
    }
}

impl StreamMemory {
    /// Takes what is not in the database, between two outcomes; if anything is not.
    fn freeze(&self) -> Option<Write> {
        // One that panicked has left something.
        self.thaw();
        let _applying = self.applying();
        let residents = &mut *self.residents_to_write();
        let told = self.told();
        let mark = told.mark.filter(|mark| Some(*mark) != told.durable)?;
        let mut write = Write {
            mark,
            tables: told.changed.iter().filter_map(|id| told.tables.get(id).cloned()).collect(),
            changed: Vec::new(),
            amount: Amount::default(),
            empties: false,
            behind: told.behind,
        };
        for (id, resident) in residents {
            let Some(amount) = resident.freeze() else { continue };
            write.amount.entries += amount.entries;
            write.amount.bytes += amount.bytes;
            write.empties |= resident.wipes_now() == Some(true);
            write.changed.push((id.clone(), amount));
        }
        // As their keys are; and runs of one seed are the same.
        write.changed.sort_by(|(a, _), (b, _)| a.cmp(b));
        Some(write)
    }

    /// What a write takes of a table, in order by key group; `None` where there is no write any more.
    fn sorted(&self, id: &TableId) -> Option<Vec<Vec<Pair>>> {
        let mut groups: Vec<Vec<Pair>> = (0..=u8::MAX).map(|_| Vec::new()).collect();
        let mut more = true;
        while more {
            let handed = {
                let mut residents = self.residents_to_write();
                // Not all at once: slices read meanwhile.
                residents.get_mut(id).and_then(|resident| resident.hand_over(COPIED_ENTRIES))?
            };
            more = handed.more;
            for pair in handed.entries {
                let group = pair.address().first().map_or(0, |group| usize::from(*group));
                if let Some(group) = groups.get_mut(group) {
                    group.push(pair);
                }
            }
        }
        groups.iter_mut().for_each(|group| group.sort_unstable_by(|a, b| a.address().cmp(b.address())));
        Some(groups)
    }

    /// It is durable.
    fn settle(&self, write: &Write) {
        for (id, _) in &write.changed {
            let mut next = Some(0);
            while let Some(from) = next {
                let mut residents = self.residents_to_write();
                next = residents.get_mut(id).and_then(|resident| resident.written(from, COPIED_ENTRIES));
            }
        }
        let told = &mut *self.told();
        for table in &write.tables {
            if told.tables.get(&table.id) == Some(table) {
                told.changed.remove(&table.id);
            }
        }
        told.durable = Some(write.mark);
        told.writing &= write.mark.position < told.mixed_to;
        told.behind -= write.behind;
        self.0.held.behind.fetch_sub(write.behind, Ordering::Relaxed);
    }

    /// It is not, or nobody knows.
    fn thaw(&self) {
        self.residents_to_write().values_mut().for_each(Resident::thaw);
    }
}
