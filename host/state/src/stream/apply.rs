//! What outcomes change: counted first, then made in memory, where nothing can fail.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{StreamMemory, StreamStore, counted, new_resident};
use crate::changes::Wanted;
use crate::error::StoreError;
use crate::layer::{Growth, Layer, TableChanges};
use crate::limits::{
    BLOCK_ENTRIES, CHANGE_BYTES, CHANGE_WRITTEN_BYTES, COPIED_ENTRIES, SWEPT_ENTRIES, SWEPT_LEAST,
    SWEPT_PER_CHANGE,
};
use crate::places::TOGETHER;
use crate::resident::Resident;
use crate::store::{Mark, TableUse};
use crate::table::{Address, TableId, TableSpec, counted_bytes};
use crate::view::Base;

/// The search for entries that are too old.
#[derive(Clone, Default)]
pub(super) struct Sweep {
    /// Where it goes on.
    next: Option<(TableId, Vec<u8>)>,
    /// So many entries may be looked at for it.
    sweepable: usize,
}

/// What is removed because it is too old.
#[derive(Default)]
struct Swept {
    /// Where the search goes on.
    next: Option<(TableId, Vec<u8>)>,
    table: Option<TableId>,
    addresses: Vec<Address>,
}

impl StreamStore {
    /// Applies what outcomes carry, the oldest first, of which the last is at this journal position; unless that was done.
    /// The caller gives all that were not applied up to there, and none that was. Blocks where the store must be read.
    ///
    /// # Errors
    /// The store cannot be read: nothing was applied.
    pub fn apply(&self, position: u64, layers: &[&Layer]) -> Result<bool, StoreError> {
        let sweep = &mut *self.memory.applying();
        let (mark, mixed_to) = {
            let told = self.memory.told();
            (told.mark, told.mixed_to)
        };
        if mark.is_some_and(|mark| position <= mark.position) {
            return Ok(false);
        }
        let latest = layers.iter().map(|layer| layer.clock).max().unwrap_or(i64::MIN);
        let now = mark.map_or(latest, |mark| mark.clock.max(latest));
        // What slices counted by is not what is there before that.
        let mixed = mark.map_or(0, |mark| mark.position) < mixed_to;
        let mut tables = self.grown(layers, mixed)?;
        let changes: usize = layers.iter().map(|layer| layer.changes()).sum();
        let mut sweepable =
            sweep.sweepable.saturating_add(changes.saturating_mul(SWEPT_PER_CHANGE)).min(SWEPT_ENTRIES);
        let mut swept = Swept { next: sweep.next.clone(), ..Swept::default() };
        if sweepable >= SWEPT_LEAST {
            swept = self.sweep(swept.next, sweepable, &mut tables, now, layers)?;
            sweepable = 0;
        }
        // From here on nothing fails.
        self.memory.change(layers, &swept);
        *sweep = Sweep { next: swept.next, sweepable };
        let bytes: usize = layers.iter().map(|layer| layer.bytes).sum();
        let bytes = bytes.saturating_sub(changes * (CHANGE_BYTES - CHANGE_WRITTEN_BYTES)) as u64 + 64;
        self.memory.tell(Mark { position, clock: now }, tables, bytes);
        Ok(true)
    }

    /// The tables that layers change, as they are then.
    fn grown(&self, layers: &[&Layer], mixed: bool) -> Result<HashMap<TableId, TableUse>, StoreError> {
        let mut tables = HashMap::new();
        let changed: BTreeSet<&TableId> = layers.iter().flat_map(|layer| layer.tables.keys()).collect();
        for id in changed {
            let mut changes: Vec<&TableChanges> =
                layers.iter().rev().filter_map(|layer| layer.tables.get(id)).collect();
            let Some(&newest) = changes.first() else { continue };
            let known = self.memory.told().tables.get(id).cloned();
            let mut table =
                known.unwrap_or_else(|| TableUse { id: id.clone(), spec: newest.spec, entries: 0, bytes: 0 });
            let ages = table.spec.ttl_ns > 0 || changes.iter().any(|changes| changes.spec.ttl_ns > 0);
            table.spec = newest.spec;
            let cleared = changes.iter().position(|changes| changes.cleared);
            if let Some(cleared) = cleared {
                (table.entries, table.bytes) = (0, 0);
                changes.truncate(cleared + 1);
            }
            // Of what grows old something may be gone that a slice has seen: what is there must be looked at.
            let growth = changes.iter().map(|changes| changes.growth).collect::<Option<Vec<_>>>();
            let growth = match growth.filter(|_| !ages && !mixed) {
                Some(each) => each.into_iter().fold(Growth::default(), |mut all, more| {
                    all.add(more);
                    all
                }),
                None => self.look(id, &changes, cleared.is_some())?,
            };
            count(&mut table, growth);
            if newest.cleared && newest.entries.is_empty() {
                // It was dropped: whoever writes it next begins it.
                table.spec = TableSpec::default();
            }
            tables.insert(id.clone(), table);
        }
        Ok(tables)
    }

    /// By how much a table grows over what is stored, or over nothing, by the newest of `changes` of each entry, which begin
    /// with the newest.
    fn look(&self, id: &TableId, changes: &[&TableChanges], emptied: bool) -> Result<Growth, StoreError> {
        let mut growth = Growth::default();
        let mut counts = |bytes: Option<i64>, sign: i64| {
            growth.entries += bytes.map_or(0, |_| sign);
            growth.bytes += bytes.map_or(0, |bytes| sign * bytes);
        };
        for (age, older) in changes.iter().enumerate() {
            for (wanted, pair) in older.entries.wanted() {
                if changes.iter().take(age).any(|newer| newer.entries.get(wanted).is_some()) {
                    continue;
                }
                let before = if emptied { None } else { self.stored(id, wanted)? };
                let len = wanted.address.len();
                counts(before.map(|entry| counted_bytes(len, entry.value.len())), -1);
                counts(pair.counted(), 1);
            }
        }
        Ok(growth)
    }

    /// Finds entries that are too old, of some that it looks at; says where to go on. Those that the layers change are left
    /// alone: they are as old as these.
    fn sweep(
        &self,
        from: Option<(TableId, Vec<u8>)>,
        most: usize,
        tables: &mut HashMap<TableId, TableUse>,
        now: i64,
        layers: &[&Layer],
    ) -> Result<Swept, StoreError> {
        let mut dying: Vec<TableId> = {
            let told = self.memory.told();
            let unchanged = told.tables.values().filter(|table| !tables.contains_key(&table.id));
            let all = unchanged.chain(tables.values());
            all.filter(|table| table.spec.ttl_ns > 0).map(|table| table.id.clone()).collect()
        };
        dying.sort();
        // From where it stopped, or from the first.
        let (id, mut from) = match from {
            Some((id, address)) if dying.contains(&id) => (id, address),
            Some((id, _)) => match dying.iter().find(|next| **next > id).or(dying.first()) {
                Some(next) => (next.clone(), Vec::new()),
                None => return Ok(Swept::default()),
            },
            None => match dying.first() {
                Some(first) => (first.clone(), Vec::new()),
                None => return Ok(Swept::default()),
            },
        };
        let known = self.memory.told().tables.get(&id).cloned();
        let Some(mut table) = tables.get(&id).cloned().or(known) else { return Ok(Swept::default()) };
        let (mut addresses, mut looked, mut growth, mut more) = (Vec::new(), 0, Growth::default(), true);
        while more && looked < most {
            let read = self.range(&id, &from, BLOCK_ENTRIES)?;
            more = read.more;
            looked += read.entries.len();
            if let Some((last, _)) = read.entries.last() {
                from = super::after(last);
            }
            for (address, entry) in read.entries {
                let wanted = Wanted::new(&address);
                let changes = |layer: &&Layer| layer.find(&id, wanted).is_some();
                if entry.is_live(table.spec.ttl_ns, now) || layers.iter().any(changes) {
                    continue;
                }
                growth.entries -= 1;
                growth.bytes -= counted_bytes(address.len(), entry.value.len());
                addresses.push(address);
            }
        }
        count(&mut table, growth);
        tables.insert(id.clone(), table);
        let next = if more {
            Some((id.clone(), from))
        } else {
            let next = dying.iter().find(|next| **next > id).or(dying.first());
            next.map(|next| (next.clone(), Vec::new()))
        };
        Ok(Swept { next, table: Some(id), addresses })
    }
}

impl StreamMemory {
    fn change(&self, layers: &[&Layer], swept: &Swept) {
        for (number, layer) in layers.iter().enumerate() {
            for (id, changes) in &layer.tables {
                let later = layers.get(number + 1..).unwrap_or_default();
                if later.iter().any(|later| later.tables.get(id).is_some_and(|changes| changes.cleared)) {
                    continue;
                }
                self.prepare(id, changes.cleared);
                let mut left = changes.entries.wanted().peekable();
                // Not all at once: slices read meanwhile.
                while left.peek().is_some() {
                    let mut residents = self.residents_to_write();
                    let Some(resident) = residents.get_mut(id) else { break };
                    for _ in 0..COPIED_ENTRIES / TOGETHER {
                        let some: Vec<_> = left.by_ref().take(TOGETHER).collect();
                        resident.put_many(&some);
                    }
                }
            }
        }
        let mut left = swept.addresses.iter().peekable();
        while left.peek().is_some() {
            let mut residents = self.residents_to_write();
            let Some(resident) = swept.table.as_ref().and_then(|table| residents.get_mut(table)) else {
                break;
            };
            left.by_ref().take(COPIED_ENTRIES).for_each(|address| resident.remove(Wanted::new(address)));
        }
    }

    /// There is a place in memory for changes of a table, in which nothing is left of it where it is cleared.
    fn prepare(&self, id: &TableId, cleared: bool) {
        let stored = self.told().tables.get(id).is_some_and(|table| table.entries > 0);
        let mut residents = self.residents_to_write();
        if !cleared {
            residents.entry(id.clone()).or_insert_with(|| new_resident(stored, &self.0.held));
            return;
        }
        let before = residents.insert(id.clone(), Resident::emptied(Arc::clone(&self.0.held)));
        // It takes its time, and slices read.
        drop(residents);
        drop(before);
    }

    /// Outcomes are applied up to this mark.
    fn tell(&self, mark: Mark, tables: HashMap<TableId, TableUse>, bytes: u64) {
        let told = &mut *self.told();
        let mut grown = 0;
        for (id, table) in tables {
            let before = told.tables.get(&id);
            if before == Some(&table) {
                continue;
            }
            grown += counted([&table]) - counted(before);
            told.changed.insert(id.clone());
            told.tables.insert(id, table);
        }
        told.mark = Some(mark);
        told.behind += bytes;
        self.0.held.behind.fetch_add(bytes, Ordering::Relaxed);
        self.0.usage.add_stored(grown);
        self.0.clock.store(mark.clock, Ordering::Relaxed);
    }
}

fn count(table: &mut TableUse, growth: Growth) {
    table.entries = table.entries.saturating_add_signed(growth.entries);
    table.bytes = table.bytes.saturating_add_signed(growth.bytes);
}
