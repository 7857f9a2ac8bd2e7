//! State as one slice sees and changes it.
//!
//! Reads see the slice's own writes. What is written since [`SliceState::begin`] is taken back by [`SliceState::rollback`]:
//! an attempt at a chunk that fails leaves nothing behind. Nothing of it is seen by anybody else before the slice's layer is.

mod seen;
mod together;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use crate::changes::{self, Wanted};
use crate::error::StateError;
use crate::layer::{Growth, Layer, TableChanges};
use crate::limits::{
    BLOCK_BYTES, BLOCK_ENTRIES, CHANGE_BYTES, KEY_BYTES_MAX, SCAN_BYTES_MAX, SCAN_ENTRIES_MAX, SEEN_BYTES,
    SEEN_ENTRIES, SLICE_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::pair::Pair;
use crate::strand::Strand;
use crate::table::{Address, Entry, TableId, TableSpec, address, counted_bytes};
use crate::usage::{Pending, Usage};
use crate::view::{Range, View, group_start};
use seen::{Seen, Size};
use together::Together;

/// Entries that a scan walks over before it asks whether it may go on.
const ASK_EVERY: u32 = 256;

/// See the head of this file.
pub struct SliceState {
    view: View,
    now: i64,
    tables: Vec<Table>,
    undo: Vec<Undo>,
    undo_bytes: usize,
    /// The address that is asked for.
    address: Vec<u8>,
    /// Several that are.
    together: Together,
    /// As they were at `begin`.
    before: Totals,
    totals: Totals,
    usage: Option<Arc<Usage>>,
    /// Whose tables it sees under the names that plugins declare.
    strand: Option<Strand>,
    changing: Changing,
    /// What of that is its own.
    own: Totals,
}

/// What the strands of a slice that run at once have changed together, so that they share its bounds.
#[derive(Clone, Debug, Default)]
pub struct Changing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// About what it takes in memory.
    bytes: AtomicUsize,
    /// What it adds to what is counted for the tenant, where no layer counts it yet.
    counted: AtomicI64,
}

/// One table of a transform, as the slice knows it.
struct Table {
    id: TableId,
    changes: TableChanges,
    seen: Seen,
}

struct Undo {
    table: usize,
    place: u32,
    before: Option<Pair>,
    growth: Growth,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    /// About what the changes take in memory.
    bytes: usize,
    /// What they add to what is counted for the tenant.
    counted: i64,
}

/// What an entry counts, by the lengths of its address and its value.
fn counted(address: usize, value: Size) -> Growth {
    value.map_or(Growth::default(), |value| Growth { entries: 1, bytes: counted_bytes(address, value) })
}

/// Entries of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    pub groups: Vec<u8>,
    pub keys: Vec<Box<[u8]>>,
    pub values: Vec<Arc<[u8]>>,
}

/// Which entries are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan<'a> {
    /// Of each group keys from here on,
    pub from: &'a [u8],
    /// and before this one; empty = to the end.
    pub to: &'a [u8],
    /// Behind this group and key.
    pub after: Option<(u8, &'a [u8])>,
    /// At most so many entries.
    pub limit: usize,
}

impl SliceState {
    /// State over `view` for a slice of this time. Time never goes back: it is at least what the view has seen.
    pub fn new(view: View, time: i64, usage: Option<Arc<Usage>>) -> SliceState {
        let now = view.clock().max(time);
        SliceState {
            view,
            now,
            tables: Vec::new(),
            undo: Vec::new(),
            undo_bytes: 0,
            address: Vec::new(),
            together: Together::default(),
            before: Totals::default(),
            totals: Totals::default(),
            usage,
            strand: None,
            changing: Changing::default(),
            own: Totals::default(),
        }
    }

    /// The same as one strand of the slice sees it.
    #[must_use]
    pub fn in_strand(self, strand: Strand, changing: Changing) -> SliceState {
        SliceState { strand: Some(strand), changing, ..self }
    }

    /// What a table is called here.
    fn called(&self, id: &TableId) -> TableId {
        // Names that plugins may give are shorter than what a table's id takes, and so are those of fields.
        self.strand.as_ref().and_then(|strand| id.in_strand(strand)).unwrap_or_else(|| id.clone())
    }

    /// Whether changes of the slice may take so much here.
    fn may_take(&mut self, bytes: usize) -> bool {
        if self.strand.is_none() {
            return bytes <= SLICE_BYTES_MAX;
        }
        let Changing(all) = &self.changing;
        let others = all.bytes.load(Ordering::Relaxed) - self.own.bytes;
        let takes = others.saturating_add(bytes) <= SLICE_BYTES_MAX;
        if takes {
            all.bytes.fetch_add(bytes.wrapping_sub(self.own.bytes), Ordering::Relaxed);
            self.own.bytes = bytes;
        }
        takes
    }

    /// What it counts for the tenant together with the other strands of the slice.
    fn counted_with_others(&self, counted: i64) -> i64 {
        let Changing(all) = &self.changing;
        all.counted.load(Ordering::Relaxed) - self.own.counted + counted
    }

    /// So much counts of it, for the others.
    fn count(&mut self, counted: i64) {
        if self.strand.is_none() {
            return;
        }
        let Changing(all) = &self.changing;
        all.counted.fetch_add(counted - self.own.counted, Ordering::Relaxed);
        self.own.counted = counted;
    }

    /// State of a stream that has none, and keeps none.
    pub fn scratch(time: i64) -> SliceState {
        SliceState::new(View::default(), time, None)
    }

    /// The layout version that a table has where it was written before.
    pub fn version(&self, id: &TableId) -> Option<u32> {
        self.view.spec(&self.called(id)).map(|spec| spec.version)
    }

    /// The number of a table, by which the other methods know it.
    pub fn table(&mut self, id: &TableId, spec: TableSpec) -> usize {
        let id = self.called(id);
        if let Some(known) = self.tables.iter().position(|table| table.id == id) {
            return known;
        }
        let growth = self.usage.is_some().then(Growth::default);
        let changes = TableChanges { spec, growth, ..TableChanges::default() };
        self.tables.push(Table { id, changes, seen: Seen::default() });
        self.tables.len() - 1
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn get(&mut self, table: usize, group: u8, key: &[u8]) -> Result<Option<Arc<[u8]>>, StateError> {
        let now = self.now;
        let ttl = self.tables[table].changes.spec.ttl_ns;
        let entry = self.at(group, key, |state, wanted| state.physical(table, wanted))?;
        Ok(entry.filter(|entry| entry.is_live(ttl, now)).map(|entry| entry.value))
    }

    /// The layout version that the value of a key was written with, if there is one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn version_of(&mut self, table: usize, group: u8, key: &[u8]) -> Result<Option<u32>, StateError> {
        let now = self.now;
        let ttl = self.tables[table].changes.spec.ttl_ns;
        let entry = self.at(group, key, |state, wanted| state.physical(table, wanted))?;
        Ok(entry.filter(|entry| entry.is_live(ttl, now)).map(|entry| entry.version))
    }

    /// Writes a value, or removes the key.
    ///
    /// # Errors
    /// It is too much, or the store cannot be read.
    pub fn put(
        &mut self,
        table: usize,
        group: u8,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        fits(key, value)?;
        self.at(group, key, |state, wanted| state.change(table, wanted, None, value))
    }

    /// Does something at an address.
    fn at<T>(&mut self, group: u8, key: &[u8], act: impl FnOnce(&mut Self, Wanted<'_>) -> T) -> T {
        let mut address = std::mem::take(&mut self.address);
        address.clear();
        address.push(group);
        address.extend_from_slice(key);
        let done = act(self, Wanted::new(&address));
        self.address = address;
        done
    }

    /// `known` is where the address was among the changes, if it was looked for; it may have come since.
    fn change(
        &mut self,
        table: usize,
        wanted: Wanted<'_>,
        known: Option<u32>,
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let (address, size) = (wanted.address.len(), value.map(<[u8]>::len));
        let mut totals = self.totals;
        totals.bytes += changes::bytes(address, size);
        let mut undo_bytes = self.undo_bytes + CHANGE_BYTES + address;
        let entries = &self.tables[table].changes.entries;
        let known = known.or_else(|| entries.index(wanted));
        let before = known.and_then(|place| entries.at(place)).map(Pair::value_len);
        if let Some(before) = before {
            let bytes = changes::bytes(address, before);
            totals.bytes -= bytes;
            undo_bytes += bytes;
        }
        if !self.may_take(totals.bytes + undo_bytes) {
            return Err(StateError::SliceFull);
        }
        let mut growth = Growth::default();
        if self.usage.is_some() {
            let before = match before {
                Some(before) => before,
                None => self.size_below(table, wanted)?,
            };
            let (before, after) = (counted(address, before), counted(address, size));
            growth = Growth { entries: after.entries - before.entries, bytes: after.bytes - before.bytes };
            totals.counted += growth.bytes;
            let counted = self.counted_with_others(totals.counted);
            let refused = self.usage.as_ref().and_then(|usage| usage.refuses(counted));
            if let Some(limit) = refused.filter(|_| growth.bytes > 0) {
                return Err(StateError::Full { limit });
            }
        }
        (self.totals, self.undo_bytes) = (totals, undo_bytes);
        self.count(totals.counted);
        let changes = &mut self.tables[table].changes;
        let pair = match value {
            Some(value) => Pair::put(wanted.address, self.now, changes.spec.version, value),
            None => Pair::removed(wanted.address),
        };
        let (place, before) = changes.entries.insert_at(known, wanted.hash, pair);
        changes.growth.iter_mut().for_each(|all| all.add(growth));
        self.undo.push(Undo { table, place, before, growth });
        Ok(())
    }

    /// Adds to a sum, which is kept as 8 bytes, little-endian; saturating.
    ///
    /// # Errors
    /// As [`SliceState::put`], and where the value is no sum.
    pub fn add(&mut self, table: usize, group: u8, key: &[u8], delta: i64) -> Result<i64, StateError> {
        let before = match self.get(table, group, key)? {
            None => 0,
            Some(value) => {
                let sum: Result<[u8; 8], _> = value[..].try_into();
                i64::from_le_bytes(sum.map_err(|_| StateError::NotASum { bytes: value.len() })?)
            }
        };
        let sum = before.saturating_add(delta);
        self.put(table, group, key, Some(&sum.to_le_bytes()))?;
        Ok(sum)
    }

    /// Entries in the order of their groups and keys. Whoever asks is asked now and then whether it may go on: a table may
    /// have many entries that are too old.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn scan(
        &mut self,
        table: usize,
        scan: Scan<'_>,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<Scanned, StateError> {
        let Table { id, changes, .. } = &self.tables[table];
        let mut found = Scanned::default();
        let (limit, mut bytes) = (scan.limit.min(SCAN_ENTRIES_MAX), 0);
        let start = match scan.after {
            Some((group, key)) if key >= scan.from => Some([&[group], key, &[0]].concat().into()),
            Some((group, _)) => group_start(usize::from(group), scan.from),
            None => group_start(0, scan.from),
        };
        let Some(start) = start else { return Ok(found) };
        let mut walk = self.view.walk(id, Some(changes), start);
        let mut steps = 0_u32;
        while found.keys.len() < limit && bytes < SCAN_BYTES_MAX {
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(ASK_EVERY) && !goes_on() {
                return Err(StateError::Stopped);
            }
            let Some((address, entry)) = walk.next()? else { break };
            let Some((group, key)) = address.split_first() else { break };
            if key < scan.from {
                walk.skip_to([&[*group], scan.from].concat().into());
                continue;
            }
            if !scan.to.is_empty() && key >= scan.to {
                let Some(next) = group_start(usize::from(*group) + 1, scan.from) else { break };
                walk.skip_to(next);
                continue;
            }
            if entry.is_live(changes.spec.ttl_ns, self.now) {
                bytes += key.len() + entry.value.len();
                found.groups.push(*group);
                found.keys.push(key.into());
                found.values.push(entry.value);
            }
        }
        Ok(found)
    }

    /// What is written from here on can be taken back.
    pub fn begin(&mut self) {
        self.undo.clear();
        self.undo_bytes = 0;
        self.before = self.totals;
        // What a chunk reads it most often writes, and then knows by that; little of it stays near.
        if !self.view.is_far() {
            self.tables.iter_mut().for_each(|table| table.seen.clear());
        }
    }

    /// Whether something was written since `begin`.
    pub fn has_written(&self) -> bool {
        !self.undo.is_empty()
    }

    /// Takes back what was written since `begin`.
    pub fn rollback(&mut self) {
        while let Some(Undo { table, place, before, growth: Growth { entries, bytes } }) = self.undo.pop() {
            let changes = &mut self.tables[table].changes;
            changes.entries.undo(place, before);
            changes.growth.iter_mut().for_each(|all| all.add(Growth { entries: -entries, bytes: -bytes }));
        }
        self.undo_bytes = 0;
        self.totals = self.before;
        self.count(self.totals.counted);
    }

    /// The slice's time.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// How many bytes more the tenant may keep; `None` = without bound.
    pub fn room(&self) -> Option<u64> {
        let counted = self.counted_with_others(self.totals.counted);
        self.usage.as_ref().and_then(|usage| usage.room(counted))
    }

    /// What was declared of a table when something was last written to it.
    pub fn stored(&self, id: &TableId) -> Option<TableSpec> {
        self.view.spec(&self.called(id))
    }

    /// The entry at an address, however old it is: for who sees this state from afar ([`crate::Base`]).
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn entry(&mut self, table: usize, address: &[u8]) -> Result<Option<Entry>, StateError> {
        self.physical(table, Wanted::new(address))
    }

    /// Some entries in their order, from an address on, however old they are: for the same.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn page(&mut self, table: usize, from: &[u8]) -> Result<Range, StateError> {
        let Table { id, changes, .. } = &self.tables[table];
        let mut walk = self.view.walk(id, Some(changes), from.into());
        let (mut page, mut bytes) = (Range::default(), 0);
        while let Some((address, entry)) = walk.next()? {
            bytes += address.len() + entry.value.len();
            page.entries.push((address, entry));
            if page.entries.len() >= BLOCK_ENTRIES || bytes >= BLOCK_BYTES {
                page.more = true;
                break;
            }
        }
        Ok(page)
    }

    /// Reads what is soon asked for, where it is far away and many cost no more than one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn fetch<'a>(
        &mut self,
        table: usize,
        places: impl Iterator<Item = (u8, &'a [u8])>,
    ) -> Result<(), StateError> {
        if !self.view.is_far() {
            return Ok(());
        }
        let Table { id, changes, seen } = &self.tables[table];
        let addresses: BTreeSet<Address> = places.map(|(group, key)| address(group, key)).collect();
        let wanted: Vec<Wanted<'_>> = addresses.iter().map(|address| Wanted::new(address)).collect();
        let unknown =
            |wanted: &Wanted<'_>| changes.entries.get(*wanted).is_none() && seen.fetched(*wanted).is_none();
        let wanted: Vec<Wanted<'_>> = wanted.into_iter().filter(unknown).collect();
        let entries = match wanted.as_slice() {
            [] => return Ok(()),
            wanted => self.view.find_many(id, wanted)?,
        };
        self.forget_if_full();
        let seen = &mut self.tables[table].seen;
        wanted.into_iter().zip(entries).for_each(|(wanted, entry)| seen.fetch(wanted, entry));
        Ok(())
    }

    /// The slice's layer.
    pub fn finish(self) -> Layer {
        let (Changing(all), own) = (self.changing.clone(), self.own.counted);
        let changed = self.tables.into_iter().filter(|table| !table.changes.entries.is_empty());
        let tables: BTreeMap<TableId, TableChanges> =
            changed.map(|table| (table.id, table.changes)).collect();
        let pending = self.usage.filter(|_| !tables.is_empty());
        let pending = pending.map(|usage| Pending::new(usage, self.totals.counted));
        // The layer counts it from here on.
        all.counted.fetch_sub(own, Ordering::Relaxed);
        Layer { clock: self.now, bytes: self.totals.bytes, pending, tables }
    }

    /// The entry, however old it is.
    fn physical(&mut self, number: usize, wanted: Wanted<'_>) -> Result<Option<Entry>, StateError> {
        let table = &self.tables[number];
        if let Some(pair) = table.changes.entries.get(wanted) {
            return Ok(pair.entry());
        }
        if let Some(entry) = table.seen.fetched(wanted) {
            return Ok(entry.clone());
        }
        let entry = self.view.find(&table.id, wanted)?;
        self.forget_if_full();
        self.tables[number].seen.add(wanted, entry.as_ref().map(|entry| entry.value.len()));
        Ok(entry)
    }

    /// The size of what is below the slice.
    fn size_below(&mut self, number: usize, wanted: Wanted<'_>) -> Result<Size, StateError> {
        match self.tables[number].seen.get(wanted) {
            Some(size) => Ok(size),
            None => Ok(self.physical(number, wanted)?.map(|entry| entry.value.len())),
        }
    }

    fn forget_if_full(&mut self) {
        let seen = self.tables.iter().map(|table| &table.seen);
        let (entries, bytes) =
            seen.fold((0, 0), |(entries, bytes), seen| (entries + seen.len(), bytes + seen.bytes()));
        if entries >= SEEN_ENTRIES || bytes >= SEEN_BYTES {
            self.tables.iter_mut().for_each(|table| table.seen.clear());
        }
    }
}

fn fits(key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(StateError::KeyTooLong { bytes: key.len() });
    }
    match value.map(<[u8]>::len).filter(|bytes| *bytes > VALUE_BYTES_MAX) {
        Some(bytes) => Err(StateError::ValueTooLong { bytes }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
