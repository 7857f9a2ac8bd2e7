//! The state of one stream in the store: how far it has come, what is read of it, and what outcomes change.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::changes::{Change, Wanted};
use crate::engine::{Batch, Space};
use crate::error::StoreError;
use crate::layer::{Growth, Layer, TableChanges};
use crate::limits::{COPIED_ENTRIES, RESIDENT_READ_BYTES, SWEPT_ENTRIES, SWEPT_LEAST, SWEPT_PER_CHANGE};
use crate::resident::{Found, Resident};
use crate::store::{Incarnation, Mark, Store, TableUse};
use crate::stored::{about_table, above, entry, mark_value, write_entry};
use crate::table::{Entry, TableId, TableSpec, counted_bytes};
use crate::usage::Usage;
use crate::view::{Base, Range};

/// The state of one stream. Cheap to clone.
#[derive(Clone)]
pub struct StreamStore(Arc<Inner>);

struct Inner {
    store: Store,
    incarnation: Incarnation,
    clock: AtomicI64,
    known: Mutex<Known>,
    /// What is in memory besides.
    residents: RwLock<HashMap<TableId, Resident>>,
    /// Counts what is gone otherwise than by a change that everybody sees who reads.
    gone: AtomicU64,
    usage: Arc<Usage>,
}

struct Known {
    mark: Option<Mark>,
    tables: HashMap<TableId, TableUse>,
    /// Where the search for entries that are too old goes on.
    sweep: Option<(TableId, Vec<u8>)>,
    /// So many entries may be looked at for it.
    sweepable: usize,
}

/// What was removed because it was too old.
#[derive(Default)]
struct Swept {
    /// Where the search goes on.
    next: Option<(TableId, Vec<u8>)>,
    table: Option<TableId>,
    addresses: Vec<Vec<u8>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let known = self.known.get_mut().unwrap_or_else(PoisonError::into_inner);
        let tables: Vec<TableUse> = known.tables.values().cloned().collect();
        self.usage.add_stored(-counted(&tables));
    }
}

impl StreamStore {
    pub(crate) fn open(
        store: Store,
        incarnation: Incarnation,
        usage: Arc<Usage>,
    ) -> Result<StreamStore, StoreError> {
        let mark = store.mark(incarnation)?;
        let mut tables = store.tables(incarnation)?;
        // As stores from before are left by a drop.
        tables.retain(|table| table.entries > 0 || table.spec.version > 0);
        usage.add_stored(counted(&tables));
        let tables = tables.into_iter().map(|table| (table.id.clone(), table)).collect();
        let inner = Inner {
            store,
            incarnation,
            clock: AtomicI64::new(mark.map_or(i64::MIN, |mark| mark.clock)),
            known: Mutex::new(Known { mark, tables, sweep: None, sweepable: 0 }),
            residents: RwLock::default(),
            gone: AtomicU64::new(0),
            usage,
        };
        Ok(StreamStore(Arc::new(inner)))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it has come.
    pub fn mark(&self) -> Option<Mark> {
        self.known().mark
    }

    /// What is stored, by table, in the order of their names.
    pub fn tables(&self) -> Vec<TableUse> {
        let mut tables: Vec<TableUse> = self.known().tables.values().cloned().collect();
        let names = |TableUse { id, .. }: &TableUse| {
            let strand = id.strand().map(|strand| strand.number);
            (id.transform().to_owned(), id.table().to_owned(), strand, id.name().to_owned())
        };
        tables.sort_by_cached_key(names);
        tables
    }

    /// What it knows of outcomes behind this journal position is not true any more: others come there. Blocks.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn rewind(&self, position: u64) -> Result<(), StoreError> {
        let known = &mut *self.known();
        let Some(mark) = known.mark.filter(|mark| mark.position > position) else { return Ok(()) };
        let mark = Mark { position, ..mark };
        let mut batch = Batch::default();
        batch.put(Space::About, self.0.incarnation.to_vec(), mark_value(mark));
        self.0.store.engine.write(batch)?;
        known.mark = Some(mark);
        Ok(())
    }

    /// Applies what outcomes carry, the oldest first, of which the last is at this journal position; unless that was done.
    /// The caller gives all that were not applied up to there, and none that was. Blocks.
    ///
    /// # Errors
    /// The store cannot be read or written: nothing was applied.
    pub fn apply(&self, position: u64, layers: &[&Layer]) -> Result<bool, StoreError> {
        let Inner { store, incarnation, clock, usage, .. } = &*self.0;
        let known = &mut *self.known();
        if known.mark.is_some_and(|mark| position <= mark.position) {
            return Ok(false);
        }
        let latest = layers.iter().map(|layer| layer.clock).max().unwrap_or(i64::MIN);
        let now = known.mark.map_or(latest, |mark| mark.clock.max(latest));
        let mut batch = Batch::default();
        let mut tables = known.tables.clone();
        // Nothing is left of them, not even their name.
        let mut gone: Vec<&TableId> = Vec::new();
        let changed: BTreeSet<&TableId> = layers.iter().flat_map(|layer| layer.tables.keys()).collect();
        for id in changed {
            let mut changes: Vec<&TableChanges> =
                layers.iter().rev().filter_map(|layer| layer.tables.get(id)).collect();
            let Some(&newest) = changes.first() else { continue };
            let table = tables.entry(id.clone()).or_insert_with(|| TableUse {
                id: id.clone(),
                spec: newest.spec,
                entries: 0,
                bytes: 0,
            });
            let ages = table.spec.ttl_ns > 0 || changes.iter().any(|changes| changes.spec.ttl_ns > 0);
            table.spec = newest.spec;
            if let Some(cleared) = changes.iter().position(|changes| changes.cleared) {
                // In several batches: after a crash it is done again, and until then the layer hides what is left.
                store.remove_all(Space::Entries, &self.prefix(id))?;
                self.0.gone.fetch_add(1, Ordering::Relaxed);
                self.residents_to_write().insert(id.clone(), Resident::new(Arc::clone(&store.resident)));
                (table.entries, table.bytes) = (0, 0);
                changes.truncate(cleared + 1);
            }
            // Of what grows old something may be gone that a slice has seen: what is there must be looked at.
            let growth = changes.iter().map(|changes| changes.growth).collect::<Option<Vec<_>>>();
            let known = growth.filter(|_| !ages);
            let counted = self.write(id, &changes, known.is_none(), &mut batch)?;
            let growth = known.map_or(counted, |each| {
                each.into_iter().fold(Growth::default(), |mut all, more| {
                    all.add(more);
                    all
                })
            });
            count(table, growth);
            if newest.cleared && newest.entries.is_empty() {
                tables.remove(id);
                gone.push(id);
            }
        }
        let changes: usize = layers.iter().map(|layer| layer.changes()).sum();
        let mut sweepable =
            known.sweepable.saturating_add(changes.saturating_mul(SWEPT_PER_CHANGE)).min(SWEPT_ENTRIES);
        let mut swept = Swept { next: known.sweep.clone(), ..Swept::default() };
        if sweepable >= SWEPT_LEAST {
            swept = self.sweep(swept.next, sweepable, &mut tables, now, layers, &mut batch)?;
            sweepable = 0;
        }
        self.0.gone.fetch_add(u64::from(!swept.addresses.is_empty()), Ordering::Relaxed);
        for table in tables.values() {
            let changed = known.tables.get(&table.id) != Some(table);
            if changed {
                batch.put(Space::About, self.about(&table.id), about_table(table));
            }
        }
        gone.iter().for_each(|id| batch.remove(Space::About, self.about(id)));
        let mark = Mark { position, clock: now };
        batch.put(Space::About, incarnation.to_vec(), mark_value(mark));
        store.engine.write(batch)?;
        self.copy(layers, &swept);
        gone.iter().for_each(|id| drop(self.residents_to_write().remove(*id)));
        let bytes: usize = layers.iter().map(|layer| layer.bytes).sum();
        store.behind.fetch_add(bytes as u64 + 64, Ordering::Relaxed);
        usage.add_stored(counted(tables.values()) - counted(known.tables.values()));
        *known = Known { mark: Some(mark), tables, sweep: swept.next, sweepable };
        clock.store(now, Ordering::Relaxed);
        Ok(true)
    }

    /// Copies to memory what was written.
    fn copy(&self, layers: &[&Layer], swept: &Swept) {
        let mut value = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            for (id, changes) in &layer.tables {
                let later = layers.get(number + 1..).unwrap_or_default();
                if later.iter().any(|later| later.tables.get(id).is_some_and(|changes| changes.cleared)) {
                    continue;
                }
                let mut left = changes.entries.wanted().peekable();
                // Not all at once: slices read meanwhile.
                while left.peek().is_some() {
                    let mut residents = self.residents_to_write();
                    // What nobody has asked for yet is not there.
                    let Some(resident) = residents.get_mut(id) else { break };
                    for (wanted, change) in left.by_ref().take(COPIED_ENTRIES) {
                        match change {
                            Change::Put(entry) => {
                                value.clear();
                                write_entry(&mut value, entry);
                                resident.write(wanted, Some(&value));
                            }
                            Change::Removed => resident.write(wanted, None),
                        }
                    }
                }
            }
        }
        let mut residents = self.residents_to_write();
        if let Some(resident) = swept.table.as_ref().and_then(|table| residents.get_mut(table)) {
            swept.addresses.iter().for_each(|address| resident.write(Wanted::new(address), None));
        }
    }

    /// What the database has of an entry, by its key there.
    fn stored(&self, id: &TableId, wanted: Wanted<'_>, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.residents().get(id).map_or(Found::Unknown, |resident| resident.get(wanted)) {
            Found::Value(value) => Ok(Some(value)),
            Found::Missing => Ok(None),
            Found::Unknown => self.0.store.engine.get(Space::Entries, key),
        }
    }

    fn residents(&self) -> RwLockReadGuard<'_, HashMap<TableId, Resident>> {
        self.0.residents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn residents_to_write(&self) -> RwLockWriteGuard<'_, HashMap<TableId, Resident>> {
        self.0.residents.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in memory of a table that was not asked before: all of it, if it is not too large. Nothing is applied meanwhile.
    fn read_resident(&self, id: &TableId) -> Result<(), StoreError> {
        let known = self.known();
        let mut residents = self.residents_to_write();
        if residents.contains_key(id) {
            return Ok(());
        }
        let mut resident = Resident::new(Arc::clone(&self.0.store.resident));
        match known.tables.get(id).filter(|table| table.entries > 0) {
            Some(table) if table.bytes <= RESIDENT_READ_BYTES => {
                let prefix = self.prefix(id);
                let (mut from, to) = (prefix.clone(), above(&prefix));
                loop {
                    let (pairs, more) = self.0.store.engine.range(Space::Entries, &from, &to)?;
                    if let Some((last, _)) = pairs.last() {
                        from = [&last[..], &[0]].concat();
                    }
                    for (key, value) in pairs {
                        let address = key.get(prefix.len()..).unwrap_or_default();
                        resident.write(Wanted::new(address), Some(&value));
                    }
                    if !more {
                        break;
                    }
                }
            }
            Some(_) => resident.forget(),
            None => {}
        }
        residents.insert(id.clone(), resident);
        Ok(())
    }

    /// Writes what became of a table's entries, of each the newest of `changes`, which begin with the newest; with
    /// `counts` says by how much it grows over what is stored.
    fn write(
        &self,
        id: &TableId,
        changes: &[&TableChanges],
        counts: bool,
        batch: &mut Batch,
    ) -> Result<Growth, StoreError> {
        let prefix = self.prefix(id);
        let mut growth = Growth::default();
        for (age, older) in changes.iter().enumerate() {
            for (wanted, change) in older.entries.wanted() {
                if changes.iter().take(age).any(|newer| newer.entries.get(wanted).is_some()) {
                    continue;
                }
                let Wanted { address, .. } = wanted;
                let key = [&prefix[..], address].concat();
                if counts && let Some(before) = self.stored(id, wanted, &key)? {
                    growth.entries -= 1;
                    growth.bytes -= counted_bytes(address, &entry(&before)?.value);
                }
                match change {
                    Change::Put(entry) => {
                        growth.entries += 1;
                        growth.bytes += counted_bytes(address, &entry.value);
                        let mut value = Vec::with_capacity(12 + entry.value.len());
                        write_entry(&mut value, entry);
                        batch.put(Space::Entries, key, value);
                    }
                    Change::Removed => batch.remove(Space::Entries, key),
                }
            }
        }
        Ok(growth)
    }

    /// Removes entries that are too old, of some that it looks at; says where to go on. Those that the layers change are
    /// left alone: they are as old as these.
    fn sweep(
        &self,
        from: Option<(TableId, Vec<u8>)>,
        most: usize,
        tables: &mut HashMap<TableId, TableUse>,
        now: i64,
        layers: &[&Layer],
        batch: &mut Batch,
    ) -> Result<Swept, StoreError> {
        let mut dying: Vec<TableId> =
            tables.values().filter(|table| table.spec.ttl_ns > 0).map(|table| table.id.clone()).collect();
        dying.sort();
        // From where it stopped, or from the first.
        let (id, from) = match from {
            Some((id, key)) if dying.contains(&id) => (id, key),
            Some((id, _)) => match dying.iter().find(|next| **next > id).or(dying.first()) {
                Some(next) => (next.clone(), self.prefix(next)),
                None => return Ok(Swept::default()),
            },
            None => match dying.first() {
                Some(first) => (first.clone(), self.prefix(first)),
                None => return Ok(Swept::default()),
            },
        };
        let Some(table) = tables.get_mut(&id) else { return Ok(Swept::default()) };
        let mut addresses = Vec::new();
        let prefix = self.prefix(&id);
        let (mut from, to) = (from, above(&prefix));
        let (mut looked, mut growth) = (0, Growth::default());
        let mut more = true;
        while more && looked < most {
            let (pairs, rest) = self.0.store.engine.range(Space::Entries, &from, &to)?;
            more = rest;
            looked += pairs.len();
            if let Some((last, _)) = pairs.last() {
                from = [&last[..], &[0]].concat();
            }
            for (key, value) in pairs {
                let address = key.get(prefix.len()..).unwrap_or_default();
                let entry = entry(&value)?;
                let wanted = Wanted::new(address);
                let changes = |layer: &&Layer| layer.find(&id, wanted).is_some();
                if entry.is_live(table.spec.ttl_ns, now) || layers.iter().any(changes) {
                    continue;
                }
                growth.entries -= 1;
                growth.bytes -= counted_bytes(address, &entry.value);
                addresses.push(address.to_vec());
                batch.remove(Space::Entries, key);
            }
        }
        count(table, growth);
        let next = if more {
            Some((id.clone(), from))
        } else {
            let next = dying.iter().find(|next| **next > id).or(dying.first());
            next.map(|next| (next.clone(), self.prefix(next)))
        };
        Ok(Swept { next, table: Some(id), addresses })
    }

    fn prefix(&self, table: &TableId) -> Vec<u8> {
        [&self.0.incarnation[..], table.encoded()].concat()
    }

    fn about(&self, table: &TableId) -> Vec<u8> {
        [&self.0.incarnation[..], b"t", table.encoded()].concat()
    }
}

fn counted<'a>(tables: impl IntoIterator<Item = &'a TableUse>) -> i64 {
    tables.into_iter().map(|table| i64::try_from(table.bytes).unwrap_or(i64::MAX)).sum()
}

fn count(table: &mut TableUse, growth: Growth) {
    table.entries = table.entries.saturating_add_signed(growth.entries);
    table.bytes = table.bytes.saturating_add_signed(growth.bytes);
}

impl Base for StreamStore {
    fn get(&self, table: &TableId, wanted: Wanted<'_>) -> Result<Option<Entry>, StoreError> {
        let gone = self.0.gone.load(Ordering::Relaxed);
        let copy = self.residents().get(table).map(|resident| resident.get(wanted));
        let copy = match copy {
            Some(copy) => copy,
            None => {
                self.read_resident(table)?;
                self.residents().get(table).map_or(Found::Unknown, |resident| resident.get(wanted))
            }
        };
        match copy {
            Found::Value(value) => return entry(&value).map(Some),
            Found::Missing => return Ok(None),
            Found::Unknown => {}
        }
        let key = [&self.prefix(table)[..], wanted.address].concat();
        let Some(value) = self.0.store.engine.get(Space::Entries, &key)? else { return Ok(None) };
        let mut residents = self.residents_to_write();
        // Whatever else is written, whoever reads this entry sees it before it comes here.
        if let Some(resident) = residents.get_mut(table)
            && self.0.gone.load(Ordering::Relaxed) == gone
        {
            resident.write(wanted, Some(&value));
        }
        entry(&value).map(Some)
    }

    fn range(&self, table: &TableId, from: &[u8]) -> Result<Range, StoreError> {
        let prefix = self.prefix(table);
        let from = [&prefix[..], from].concat();
        let (pairs, more) = self.0.store.engine.range(Space::Entries, &from, &above(&prefix))?;
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| Ok((key.get(prefix.len()..).unwrap_or_default().into(), entry(&value)?)));
        Ok(Range { entries: pairs.collect::<Result<_, StoreError>>()?, more })
    }

    fn spec(&self, table: &TableId) -> Option<TableSpec> {
        self.known().tables.get(table).filter(|table| table.entries > 0).map(|table| table.spec)
    }

    fn find_table(&self, wanted: &mut dyn FnMut(&TableId) -> bool) -> Option<TableId> {
        let known = self.known();
        let mut kept = known.tables.values().filter(|table| table.entries > 0);
        kept.find(|table| wanted(&table.id)).map(|table| table.id.clone())
    }

    fn clock(&self) -> i64 {
        self.0.clock.load(Ordering::Relaxed)
    }
}
