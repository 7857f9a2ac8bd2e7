//! The store of all streams of a data directory.
//!
//! It applies the layers of outcomes and remembers how far: the changes of an outcome and the journal position that they came
//! from are one batch. An outcome that was applied is not applied again, and what was not durable when the process ended is
//! applied again from the journal, which keeps it until [`Store::persist`] has made it durable here. So each change is there
//! exactly once. The store has no log of its own that anybody relies on.
//!
//! Keys in the space of entries: incarnation of the stream (16 bytes), length and name of the transform, length and name of
//! the table, key group (1 byte), key. Values: when the entry was written (i64 LE, nanoseconds since the epoch), layout
//! version of its value (u32 LE), value.
//!
//! Keys in the space that says what there is: incarnation, and for a table `t` and its names. Values of streams: format
//! (u8 1), journal position (u64 LE) behind which nothing is applied, clock (i64 LE). Values of tables: format (u8 1), layout
//! version of its values (u32 LE), time to live (u64 LE, ns), entries (u64 LE), counted bytes (u64 LE).

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::{Batch, Engine, InMemory, OnDisk, Space};
use crate::error::StoreError;
use crate::changes::{Change, Wanted};
use crate::layer::{Growth, Layer, TableChanges};
use crate::limits::{DROPPED_ENTRIES, SWEPT_ENTRIES};
use crate::table::{Entry, TableId, TableSpec, counted_bytes};
use crate::usage::Usage;
use crate::view::{Base, Range};

const FORMAT: u8 = 1;

/// A stream's identity: drawn when it was made.
pub type Incarnation = [u8; 16];

/// See the head of this file. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
    /// Bytes of changes that were written since everything was durable.
    behind: Arc<AtomicU64>,
}

/// How far a stream's state has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Outcomes up to this journal position are applied.
    pub position: u64,
    /// The latest time of their slices.
    pub clock: i64,
}

/// What is stored of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUse {
    pub id: TableId,
    pub spec: TableSpec,
    pub entries: u64,
    pub bytes: u64,
}

/// A store in memory that can crash, for tests and simulations.
#[derive(Clone, Default)]
pub struct Crashing(Arc<InMemory>);

impl Crashing {
    pub fn store(&self) -> Store {
        Store::over(Arc::clone(&self.0) as Arc<dyn Engine>)
    }

    /// What is found after a crash that leaves `kept` of so many batches which were not durable.
    #[must_use]
    pub fn crashed(&self, kept: impl FnOnce(usize) -> usize) -> Crashing {
        Crashing(Arc::new(self.0.crashed(kept)))
    }
}

impl Store {
    /// Opens the store of a directory, or makes one. Blocks.
    ///
    /// # Errors
    /// It cannot be read or written, or another process has it.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        Ok(Store::over(Arc::new(OnDisk::open(path)?)))
    }

    fn over(engine: Arc<dyn Engine>) -> Store {
        Store { engine, behind: Arc::default() }
    }

    /// Makes everything durable that was applied. Blocks.
    ///
    /// # Errors
    /// It did not become durable; nobody knows what of it is.
    pub fn persist(&self) -> Result<(), StoreError> {
        let behind = self.behind.load(Ordering::Relaxed);
        self.engine.persist()?;
        self.behind.fetch_sub(behind, Ordering::Relaxed);
        Ok(())
    }

    /// About how many bytes were applied and are not durable.
    pub fn behind(&self) -> u64 {
        self.behind.load(Ordering::Relaxed)
    }

    /// The state of one stream, which counts for a tenant. Who applies to it has it alone.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn stream(&self, incarnation: Incarnation, usage: Arc<Usage>) -> Result<StreamStore, StoreError> {
        let mark = self.mark(incarnation)?;
        let tables = self.tables(incarnation)?;
        usage.add_stored(counted(&tables));
        let tables = tables.into_iter().map(|table| (table.id.clone(), table)).collect();
        let inner = Inner {
            store: self.clone(),
            incarnation,
            clock: AtomicI64::new(mark.map_or(i64::MIN, |mark| mark.clock)),
            known: Mutex::new(Known { mark, tables, sweep: None }),
            usage,
        };
        Ok(StreamStore(Arc::new(inner)))
    }

    /// How far the state of a stream has come; `None` where it has none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn mark(&self, incarnation: Incarnation) -> Result<Option<Mark>, StoreError> {
        let Some(value) = self.engine.get(Space::About, &incarnation)? else { return Ok(None) };
        let damaged = StoreError::Damaged { what: "a mark" };
        let [FORMAT, rest @ ..] = &value[..] else { return Err(damaged) };
        let (Some((position, clock)), 16) = (rest.split_first_chunk::<8>(), rest.len()) else {
            return Err(damaged);
        };
        let clock = clock.first_chunk::<8>().copied().unwrap_or_default();
        Ok(Some(Mark { position: u64::from_le_bytes(*position), clock: i64::from_le_bytes(clock) }))
    }

    /// What is stored of a stream, by table.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn tables(&self, incarnation: Incarnation) -> Result<Vec<TableUse>, StoreError> {
        let damaged = || StoreError::Damaged { what: "a table" };
        let prefix = [&incarnation[..], b"t"].concat();
        let mut tables = Vec::new();
        let (mut from, to) = (prefix.clone(), above(&prefix));
        loop {
            let (pairs, more) = self.engine.range(Space::About, &from, &to)?;
            for (key, value) in &pairs {
                let id = key.get(prefix.len()..).and_then(TableId::decode).ok_or_else(damaged)?;
                tables.push(table_use(id, value).ok_or_else(damaged)?);
            }
            match pairs.last().filter(|_| more) {
                Some((last, _)) => from = [&last[..], &[0]].concat(),
                None => return Ok(tables),
            }
        }
    }

    /// Streams of which something is stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn incarnations(&self) -> Result<Vec<Incarnation>, StoreError> {
        let mut found = std::collections::BTreeSet::new();
        for space in [Space::About, Space::Entries] {
            let mut from = Vec::new();
            loop {
                let (pairs, _) = self.engine.range(space, &from, &[0xff; 17])?;
                let Some(incarnation) = pairs.first().and_then(|(key, _)| key.first_chunk::<16>()) else {
                    break;
                };
                found.insert(*incarnation);
                from = above(incarnation);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Removes everything of a stream. After a crash it may be that only a part is gone. Blocks.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn drop_stream(&self, incarnation: Incarnation) -> Result<(), StoreError> {
        self.remove_all(Space::Entries, &incarnation)?;
        self.remove_all(Space::About, &incarnation)?;
        self.persist()
    }

    /// Removes all keys with a prefix, some at a time.
    fn remove_all(&self, space: Space, prefix: &[u8]) -> Result<(), StoreError> {
        let (mut from, to) = (prefix.to_vec(), above(prefix));
        loop {
            let mut batch = Batch::default();
            let mut more = true;
            while more && batch.0.len() < DROPPED_ENTRIES {
                let (pairs, rest) = self.engine.range(space, &from, &to)?;
                more = rest;
                if let Some((last, _)) = pairs.last() {
                    from = [&last[..], &[0]].concat();
                }
                pairs.into_iter().for_each(|(key, _)| batch.remove(space, key));
            }
            if !batch.0.is_empty() {
                self.engine.write(batch)?;
            }
            if !more {
                return Ok(());
            }
        }
    }
}

/// The first key behind all that begin so. What all keys begin with, an incarnation, is never all ones.
fn above(prefix: &[u8]) -> Vec<u8> {
    let mut above = prefix.to_vec();
    while let Some(last) = above.pop() {
        if last < u8::MAX {
            above.push(last + 1);
            return above;
        }
    }
    vec![u8::MAX; prefix.len() + 1]
}

fn counted<'a>(tables: impl IntoIterator<Item = &'a TableUse>) -> i64 {
    tables.into_iter().map(|table| i64::try_from(table.bytes).unwrap_or(i64::MAX)).sum()
}

fn table_use(id: TableId, value: &[u8]) -> Option<TableUse> {
    let [FORMAT, rest @ ..] = value else { return None };
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let mut numbers = rest.chunks_exact(8).map(|number| number.first_chunk::<8>().copied());
    let mut number = || numbers.next().flatten().map(u64::from_le_bytes);
    let (ttl_ns, entries, bytes) = (number()?, number()?, number()?);
    (rest.len() == 24).then_some(())?;
    let spec = TableSpec { version: u32::from_le_bytes(*version), ttl_ns };
    Some(TableUse { id, spec, entries, bytes })
}

/// The state of one stream. Cheap to clone.
#[derive(Clone)]
pub struct StreamStore(Arc<Inner>);

struct Inner {
    store: Store,
    incarnation: Incarnation,
    clock: AtomicI64,
    known: Mutex<Known>,
    usage: Arc<Usage>,
}

struct Known {
    mark: Option<Mark>,
    tables: HashMap<TableId, TableUse>,
    /// Where the search for entries that are too old goes on.
    sweep: Option<(TableId, Vec<u8>)>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let known = self.known.get_mut().unwrap_or_else(PoisonError::into_inner);
        let tables: Vec<TableUse> = known.tables.values().cloned().collect();
        self.usage.add_stored(-counted(&tables));
    }
}

impl StreamStore {
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
        let names = |table: &TableUse| (table.id.transform().to_owned(), table.id.table().to_owned());
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
        let changed: BTreeSet<&TableId> = layers.iter().flat_map(|layer| layer.tables.keys()).collect();
        for id in changed {
            let mut changes: Vec<&TableChanges> =
                layers.iter().rev().filter_map(|layer| layer.tables.get(id)).collect();
            let Some(newest) = changes.first() else { continue };
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
        }
        let sweep = self.sweep(known.sweep.clone(), &mut tables, now, layers, &mut batch)?;
        for table in tables.values() {
            let changed = known.tables.get(&table.id) != Some(table);
            if changed {
                batch.put(Space::About, self.about(&table.id), about_table(table));
            }
        }
        let mark = Mark { position, clock: now };
        batch.put(Space::About, incarnation.to_vec(), mark_value(mark));
        store.engine.write(batch)?;
        let bytes: usize = layers.iter().map(|layer| layer.bytes).sum();
        store.behind.fetch_add(bytes as u64 + 64, Ordering::Relaxed);
        usage.add_stored(counted(tables.values()) - counted(known.tables.values()));
        *known = Known { mark: Some(mark), tables, sweep };
        clock.store(now, Ordering::Relaxed);
        Ok(true)
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
                if counts && let Some(before) = self.0.store.engine.get(Space::Entries, &key)? {
                    growth.entries -= 1;
                    growth.bytes -= counted_bytes(address, &entry(&before)?.value);
                }
                match change {
                    Change::Put(Entry { written, version, value }) => {
                        growth.entries += 1;
                        growth.bytes += counted_bytes(address, value);
                        let value = [&written.to_le_bytes()[..], &version.to_le_bytes(), value].concat();
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
        tables: &mut HashMap<TableId, TableUse>,
        now: i64,
        layers: &[&Layer],
        batch: &mut Batch,
    ) -> Result<Option<(TableId, Vec<u8>)>, StoreError> {
        let mut dying: Vec<TableId> =
            tables.values().filter(|table| table.spec.ttl_ns > 0).map(|table| table.id.clone()).collect();
        dying.sort();
        // From where it stopped, or from the first.
        let (id, from) = match from {
            Some((id, key)) if dying.contains(&id) => (id, key),
            Some((id, _)) => match dying.iter().find(|next| **next > id).or(dying.first()) {
                Some(next) => (next.clone(), self.prefix(next)),
                None => return Ok(None),
            },
            None => match dying.first() {
                Some(first) => (first.clone(), self.prefix(first)),
                None => return Ok(None),
            },
        };
        let Some(table) = tables.get_mut(&id) else { return Ok(None) };
        let prefix = self.prefix(&id);
        let (mut from, to) = (from, above(&prefix));
        let (mut looked, mut growth) = (0, Growth::default());
        let mut more = true;
        while more && looked < SWEPT_ENTRIES {
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
                batch.remove(Space::Entries, key);
            }
        }
        count(table, growth);
        if more {
            return Ok(Some((id, from)));
        }
        let next = dying.iter().find(|next| **next > id).or(dying.first());
        Ok(next.map(|next| (next.clone(), self.prefix(next))))
    }

    fn prefix(&self, table: &TableId) -> Vec<u8> {
        [&self.0.incarnation[..], table.encoded()].concat()
    }

    fn about(&self, table: &TableId) -> Vec<u8> {
        [&self.0.incarnation[..], b"t", table.encoded()].concat()
    }
}

fn count(table: &mut TableUse, growth: Growth) {
    table.entries = table.entries.saturating_add_signed(growth.entries);
    table.bytes = table.bytes.saturating_add_signed(growth.bytes);
}

fn mark_value(mark: Mark) -> Vec<u8> {
    [&[FORMAT][..], &mark.position.to_le_bytes(), &mark.clock.to_le_bytes()].concat()
}

fn about_table(table: &TableUse) -> Vec<u8> {
    let TableUse { spec: TableSpec { version, ttl_ns }, entries, bytes, .. } = table;
    let mut value = vec![FORMAT];
    value.extend_from_slice(&version.to_le_bytes());
    [ttl_ns, entries, bytes].iter().for_each(|number| value.extend_from_slice(&number.to_le_bytes()));
    value
}

fn entry(value: &[u8]) -> Result<Entry, StoreError> {
    let read = || {
        let (written, rest) = value.split_first_chunk::<8>()?;
        let (version, value) = rest.split_first_chunk::<4>()?;
        let (written, version) = (i64::from_le_bytes(*written), u32::from_le_bytes(*version));
        Some(Entry { written, version, value: value.into() })
    };
    read().ok_or(StoreError::Damaged { what: "an entry" })
}

impl Base for StreamStore {
    fn get(&self, table: &TableId, address: &[u8]) -> Result<Option<Entry>, StoreError> {
        let key = [&self.prefix(table)[..], address].concat();
        let value = self.0.store.engine.get(Space::Entries, &key)?;
        value.as_deref().map(entry).transpose()
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

    fn clock(&self) -> i64 {
        self.0.clock.load(Ordering::Relaxed)
    }
}
