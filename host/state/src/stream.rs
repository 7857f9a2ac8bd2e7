//! The state of one stream in the store: how far it has come, what is read of it, and what outcomes change.
//!
//! What outcomes change is in memory until it is written behind them. No lock that a reader needs is held while the database
//! works.

mod apply;
mod write;

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::changes::Wanted;
use crate::engine::{Batch, Space};
use crate::error::StoreError;
use crate::limits::{BLOCK_ENTRIES, RESIDENT_READ_BYTES, RESIDENT_READS};
use crate::places::TOGETHER;
use crate::resident::{Found, Held, Known, Resident};
use crate::store::{Incarnation, Mark, Store, TableUse};
use crate::stored::{above, entry, mark_value};
use crate::table::{Address, Entry, TableId, TableSpec};
use crate::usage::Usage;
use crate::view::{Base, Range, Shown};
use apply::Sweep;

/// The state of one stream. Cheap to clone.
#[derive(Clone)]
pub struct StreamStore {
    store: Store,
    memory: StreamMemory,
}

/// What of a stream's state is in memory: it has what the database has not, and goes on over it when it is opened anew. Cheap to
/// clone.
#[derive(Clone)]
pub struct StreamMemory(Arc<Inner>);

struct Inner {
    incarnation: Incarnation,
    usage: Arc<Usage>,
    held: Arc<Held>,
    clock: AtomicI64,
    told: Mutex<Told>,
    residents: RwLock<HashMap<TableId, Resident>>,
    /// Held by who applies, and by who begins a write: it takes what is between two outcomes.
    applying: Mutex<Sweep>,
    /// Held by who writes.
    writing: Mutex<()>,
}

/// What is known of the stream and its tables.
struct Told {
    mark: Option<Mark>,
    /// That of the database.
    durable: Option<Mark>,
    tables: HashMap<TableId, TableUse>,
    /// Those that the database does not have so.
    changed: BTreeSet<TableId>,
    /// Bytes of outcomes that are applied and not durable in the database.
    behind: u64,
    /// It may be that the database says that a write is on its way.
    writing: bool,
    /// Up to this journal position entries may be there that no slice saw.
    mixed_to: u64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let told = self.told.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.usage.add_stored(-counted(told.tables.values()));
        self.held.behind.fetch_sub(told.behind, Ordering::Relaxed);
    }
}

impl StreamMemory {
    /// How far it has come, whatever the database has.
    pub fn mark(&self) -> Option<Mark> {
        self.told().mark
    }

    /// How far the database has.
    pub fn durable(&self) -> Option<Mark> {
        self.told().durable
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn applying(&self) -> MutexGuard<'_, Sweep> {
        self.0.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn residents(&self) -> RwLockReadGuard<'_, HashMap<TableId, Resident>> {
        self.0.residents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn residents_to_write(&self) -> RwLockWriteGuard<'_, HashMap<TableId, Resident>> {
        self.0.residents.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn prefix(&self, table: &TableId) -> Vec<u8> {
        [&self.0.incarnation[..], table.encoded()].concat()
    }

    /// What is known of a table from an address on; `None` of one of which nothing is.
    fn known(&self, table: &TableId, from: &[u8], most: usize) -> Result<Option<Known>, StoreError> {
        loop {
            let group = match self.residents().get(table).map(|resident| resident.known(from, most)) {
                None => return Ok(None),
                Some(known) => match known? {
                    Ok(known) => return Ok(Some(known)),
                    Err(group) => group,
                },
            };
            if let Some(resident) = self.residents_to_write().get_mut(table) {
                resident.arrange(group);
            }
        }
    }
}

impl StreamStore {
    pub(crate) fn open(
        store: Store,
        incarnation: Incarnation,
        usage: Arc<Usage>,
    ) -> Result<StreamStore, StoreError> {
        let mark = store.mark(incarnation)?;
        let mixed_to = store.writing(incarnation)?;
        let mut tables = store.tables(incarnation)?;
        tables.retain(TableUse::is_kept);
        let tables = if mixed_to.is_some() { store.recount(incarnation, tables)? } else { tables };
        usage.add_stored(counted(&tables));
        // What was counted anew is not what the database has of them, also where nothing comes to it.
        let recounted = tables.iter().filter(|_| mixed_to.is_some());
        let told = Told {
            mark,
            durable: mark,
            changed: recounted.map(|table| table.id.clone()).collect(),
            tables: tables.into_iter().map(|table| (table.id.clone(), table)).collect(),
            behind: 0,
            writing: mixed_to.is_some(),
            mixed_to: mixed_to.unwrap_or(0),
        };
        let memory = StreamMemory(Arc::new(Inner {
            incarnation,
            usage,
            held: Arc::clone(&store.held),
            clock: AtomicI64::new(mark.map_or(i64::MIN, |mark| mark.clock)),
            told: Mutex::new(told),
            residents: RwLock::default(),
            applying: Mutex::default(),
            writing: Mutex::default(),
        }));
        Ok(StreamStore { store, memory })
    }

    pub(crate) fn over(store: Store, memory: StreamMemory) -> StreamStore {
        StreamStore { store, memory }
    }

    /// What of it is in memory, which may outlive the store.
    pub fn memory(&self) -> StreamMemory {
        self.memory.clone()
    }

    /// How far it has come.
    pub fn mark(&self) -> Option<Mark> {
        self.memory.mark()
    }

    /// What is stored, by table, in the order of their names.
    pub fn tables(&self) -> Vec<TableUse> {
        let told = self.memory.told();
        let mut tables: Vec<TableUse> =
            told.tables.values().filter(|table| table.is_kept()).cloned().collect();
        drop(told);
        let names = |TableUse { id, .. }: &TableUse| {
            let strand = id.strand().map(|strand| strand.number);
            (id.transform().to_owned(), id.table().to_owned(), strand, id.name().to_owned())
        };
        tables.sort_by_cached_key(names);
        tables
    }

    /// What it knows of outcomes behind this journal position is not true any more: others come there. Nothing is applied
    /// meanwhile. Blocks.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn rewind(&self, position: u64) -> Result<(), StoreError> {
        let mark = self.mark();
        let Some(mark) = mark.filter(|mark| mark.position > position) else { return Ok(()) };
        let mark = Mark { position, ..mark };
        let mut batch = Batch::default();
        batch.put(Space::About, self.memory.0.incarnation.to_vec(), mark_value(mark));
        self.store.engine.write(batch)?;
        self.store.engine.persist()?;
        let told = &mut *self.memory.told();
        (told.mark, told.durable) = (Some(mark), Some(mark));
        Ok(())
    }

    /// What is stored of an entry.
    fn stored(&self, id: &TableId, wanted: Wanted<'_>) -> Result<Option<Entry>, StoreError> {
        if let Some(resident) = self.memory.residents().get(id) {
            match resident.get(wanted) {
                Found::Value(value) => return entry(value).map(Some),
                Found::Missing => return Ok(None),
                Found::Unknown => {}
            }
        }
        self.of_database(id, wanted)?.map(|value| entry(&value)).transpose()
    }

    fn of_database(&self, id: &TableId, wanted: Wanted<'_>) -> Result<Option<Vec<u8>>, StoreError> {
        let key = [&self.memory.prefix(id)[..], wanted.address].concat();
        self.store.engine.get(Space::Entries, &key)
    }

    /// Reads a table that was not asked before into memory, if it is not too large.
    fn load(&self, id: &TableId) -> Result<(), StoreError> {
        let stored =
            self.memory.told().tables.get(id).filter(|table| table.entries > 0).map(|table| table.bytes);
        {
            let residents = &mut *self.memory.residents_to_write();
            let resident = match residents.entry(id.clone()) {
                MapEntry::Occupied(known) => known.into_mut(),
                MapEntry::Vacant(none) => none.insert(new_resident(stored.is_some(), &self.memory.0.held)),
            };
            if !resident.is_to_be_asked() {
                return Ok(());
            }
            resident.asked();
        }
        if stored.is_none_or(|bytes| bytes > RESIDENT_READ_BYTES) {
            return Ok(());
        }
        for _ in 0..RESIDENT_READS {
            if self.read_all(id)? {
                break;
            }
        }
        Ok(())
    }

    /// Reads all of a table into memory, unless something of it is forgotten meanwhile.
    fn read_all(&self, id: &TableId) -> Result<bool, StoreError> {
        let prefix = self.memory.prefix(id);
        let (mut from, to) = (prefix.clone(), above(&prefix));
        let forgotten = self.memory.residents().get(id).map(Resident::forgotten);
        loop {
            let (pairs, more) = self.store.engine.range(Space::Entries, &from, &to, BLOCK_ENTRIES)?;
            let residents = &mut *self.memory.residents_to_write();
            let Some(resident) = residents.get_mut(id).filter(|known| Some(known.forgotten()) == forgotten)
            else {
                return Ok(false);
            };
            for (key, value) in &pairs {
                resident.learn(Wanted::new(key.get(prefix.len()..).unwrap_or_default()), value);
            }
            if Some(resident.forgotten()) != forgotten {
                return Ok(false);
            }
            match pairs.last().filter(|_| more) {
                Some((last, _)) => from = after(last),
                None => {
                    resident.learnt();
                    return Ok(true);
                }
            }
        }
    }
}

fn new_resident(stored: bool, held: &Arc<Held>) -> Resident {
    let held = Arc::clone(held);
    if stored { Resident::part(held) } else { Resident::whole(held) }
}

/// The next key.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn counted<'a>(tables: impl IntoIterator<Item = &'a TableUse>) -> i64 {
    tables.into_iter().map(|table| i64::try_from(table.bytes).unwrap_or(i64::MAX)).sum()
}

/// Entries of which the newer are known, and the older of the database in the same order.
fn merged(
    known: Vec<(Address, Option<Entry>)>,
    stored: impl Iterator<Item = Result<(Address, Entry), StoreError>>,
) -> Result<Vec<(Address, Entry)>, StoreError> {
    let mut merged = Vec::new();
    let mut known = known.into_iter().peekable();
    let there = |(address, entry): (Address, Option<Entry>)| entry.map(|entry| (address, entry));
    for stored in stored {
        let (address, entry) = stored?;
        while let Some(before) = known.next_if(|(known, _)| *known < address) {
            merged.extend(there(before));
        }
        match known.next_if(|(known, _)| *known == address) {
            Some(newer) => merged.extend(there(newer)),
            None => merged.push((address, entry)),
        }
    }
    merged.extend(known.filter_map(there));
    Ok(merged)
}

impl Base for StreamStore {
    fn get(&self, table: &TableId, wanted: Wanted<'_>) -> Result<Option<Entry>, StoreError> {
        let known = |resident: &Resident| match resident.get(wanted) {
            Found::Value(value) => Some(entry(value).map(Some)),
            Found::Missing => Some(Ok(None)),
            Found::Unknown => None,
        };
        let mut forgotten = None;
        for _ in 0..2 {
            let to_be_asked = match self.memory.residents().get(table) {
                Some(resident) => {
                    if let Some(known) = known(resident) {
                        return known;
                    }
                    forgotten = Some(resident.forgotten());
                    resident.is_to_be_asked()
                }
                None => true,
            };
            if !to_be_asked {
                break;
            }
            self.load(table)?;
        }
        let Some(value) = self.of_database(table, wanted)? else { return Ok(None) };
        // Whatever else is written, whoever reads this entry sees it before it comes here.
        let mut residents = self.memory.residents_to_write();
        if let Some(resident) = residents.get_mut(table)
            && Some(resident.forgotten()) == forgotten
        {
            resident.learn(wanted, &value);
        }
        entry(&value).map(Some)
    }

    fn show(
        &self,
        table: &TableId,
        wanted: &[Wanted<'_>],
        shown: &mut dyn FnMut(usize, Shown<'_>),
    ) -> Result<(), StoreError> {
        let mut unknown = Vec::new();
        match self.memory.residents().get(table) {
            None => unknown.extend(0..wanted.len()),
            Some(resident) => {
                for (block, wanted) in wanted.chunks(TOGETHER).enumerate() {
                    for (number, found) in (block * TOGETHER..).zip(resident.get_many(wanted)) {
                        match found {
                            Found::Value(value) => shown(number, Shown::stored(value)?),
                            Found::Missing => {}
                            Found::Unknown => unknown.push(number),
                        }
                    }
                }
            }
        }
        for number in unknown {
            let Some(wanted) = wanted.get(number) else { continue };
            self.get(table, *wanted)?.iter().for_each(|entry| shown(number, Shown::of(entry)));
        }
        Ok(())
    }

    fn range(&self, table: &TableId, from: &[u8], most: usize) -> Result<Range, StoreError> {
        let to_be_asked = self.memory.residents().get(table).is_none_or(Resident::is_to_be_asked);
        if to_be_asked {
            self.load(table)?;
        }
        let prefix = self.memory.prefix(table);
        let mut from = from.to_vec();
        loop {
            // First what is known: what is written and forgotten after that is in the database.
            let known = self.memory.known(table, &from, most)?;
            let Known { entries: mut known, more, whole } =
                known.unwrap_or(Known { entries: Vec::new(), more: false, whole: false });
            let mut last = known.last().filter(|_| more).map(|(last, _)| last.to_vec());
            let mut stored = Vec::new();
            if !whole {
                let start = [&prefix[..], &from].concat();
                let end =
                    last.as_ref().map_or_else(|| above(&prefix), |last| after(&[&prefix[..], last].concat()));
                let (pairs, cut) = self.store.engine.range(Space::Entries, &start, &end, most)?;
                if let Some((key, _)) = pairs.last().filter(|_| cut) {
                    let end = key.get(prefix.len()..).unwrap_or_default();
                    known.retain(|(address, _)| **address <= *end);
                    last = Some(end.to_vec());
                }
                stored = pairs;
            }
            let stored = stored
                .iter()
                .map(|(key, value)| Ok((key.get(prefix.len()..).unwrap_or_default().into(), entry(value)?)));
            let entries = merged(known, stored)?;
            match last {
                Some(last) if entries.is_empty() => from = after(&last),
                last => return Ok(Range { entries, more: last.is_some() }),
            }
        }
    }

    fn spec(&self, table: &TableId) -> Option<TableSpec> {
        self.memory.told().tables.get(table).filter(|table| table.entries > 0).map(|table| table.spec)
    }

    fn find_table(&self, wanted: &mut dyn FnMut(&TableId) -> bool) -> Option<TableId> {
        let told = self.memory.told();
        let mut kept = told.tables.values().filter(|table| table.entries > 0);
        kept.find(|table| wanted(&table.id)).map(|table| table.id.clone())
    }

    fn clock(&self) -> i64 {
        self.memory.0.clock.load(Ordering::Relaxed)
    }
}
