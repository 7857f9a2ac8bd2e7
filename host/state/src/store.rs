//! The store of all streams of a data directory.
//!
//! It applies the layers of outcomes and remembers how far, in memory first; [`StreamStore::write_behind`] takes what was changed to a
//! database, together with the journal position that it came from. An outcome that was applied is not applied again, and what was
//! not durable in the database when the process ended is applied again from the journal, which keeps it until then. So each
//! change is there exactly once. The store has no log of its own that anybody relies on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::engine::{Batch, Engine, InMemory, OnDisk, Space};
use crate::error::StoreError;
use crate::limits::BLOCK_ENTRIES;
use crate::resident::Held;
use crate::stored::{self, above, table_use, writing_key};
use crate::stream::{StreamMemory, StreamStore};
use crate::table::{TableId, TableSpec, counted_bytes};
use crate::usage::Usage;

/// A stream's identity: drawn when it was made.
pub type Incarnation = [u8; 16];

/// See the head of this file. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) held: Arc<Held>,
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

impl TableUse {
    /// Whether it was not dropped.
    pub(crate) fn is_kept(&self) -> bool {
        self.entries > 0 || self.spec != TableSpec::default()
    }
}

/// A store in memory that can crash, for tests and simulations.
#[derive(Clone, Default)]
pub struct Crashing(Arc<InMemory>);

impl Crashing {
    pub fn store(&self) -> Store {
        Store { engine: Arc::clone(&self.0) as Arc<dyn Engine>, held: Arc::default() }
    }

    /// After so many writes and syncs of its database nothing succeeds any more; `None` = everything does.
    pub fn succeeds(&self, times: Option<usize>) {
        self.0.succeeds(times);
    }

    /// What is found after a crash that leaves `kept` of so many batches which were not durable.
    #[must_use]
    pub fn crashed(&self, kept: impl FnOnce(usize) -> usize) -> Crashing {
        Crashing(Arc::new(self.0.crashed(kept)))
    }
}

impl Store {
    /// Opens the store of a directory, or makes one; what its streams take in memory counts among what is `held`. Blocks.
    ///
    /// # Errors
    /// It cannot be read or written, or another process has it.
    pub fn open(path: &Path, held: &Arc<Held>) -> Result<Store, StoreError> {
        Ok(Store { engine: Arc::new(OnDisk::open(path)?), held: Arc::clone(held) })
    }

    /// What its streams take in memory.
    pub fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// The state of one stream, which counts for a tenant. Who applies to it has it alone.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn stream(&self, incarnation: Incarnation, usage: Arc<Usage>) -> Result<StreamStore, StoreError> {
        StreamStore::open(self.clone(), incarnation, usage)
    }

    /// The same where some of it is in memory already: this store was let go of, and is opened anew.
    pub fn resume(&self, memory: StreamMemory) -> StreamStore {
        StreamStore::over(self.clone(), memory)
    }

    /// How far the state of a stream has come in the database; `None` where it has none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn mark(&self, incarnation: Incarnation) -> Result<Option<Mark>, StoreError> {
        let Some(value) = self.engine.get(Space::About, &incarnation)? else { return Ok(None) };
        stored::mark(&value).map(Some).ok_or(StoreError::Damaged { what: "a mark" })
    }

    /// Up to which journal position a write was to come that did not end.
    pub(crate) fn writing(&self, incarnation: Incarnation) -> Result<Option<u64>, StoreError> {
        let Some(value) = self.engine.get(Space::About, &writing_key(&incarnation))? else { return Ok(None) };
        stored::writing(&value).map(Some).ok_or(StoreError::Damaged { what: "the mark of a write" })
    }

    /// The tables of a stream with what is there, whatever is said of them. It takes its time.
    pub(crate) fn recount(
        &self,
        incarnation: Incarnation,
        tables: Vec<TableUse>,
    ) -> Result<Vec<TableUse>, StoreError> {
        let damaged = || StoreError::Damaged { what: "a key" };
        let emptied = tables.into_iter().map(|table| TableUse { entries: 0, bytes: 0, ..table });
        let mut counted: BTreeMap<TableId, TableUse> =
            emptied.map(|table| (table.id.clone(), table)).collect();
        let (mut from, to) = (incarnation.to_vec(), above(&incarnation));
        loop {
            let (pairs, more) = self.engine.range(Space::Entries, &from, &to, BLOCK_ENTRIES)?;
            for (key, value) in &pairs {
                let key = key.get(incarnation.len()..).ok_or_else(damaged)?;
                let id = TableId::decode(key).ok_or_else(damaged)?;
                let address = key.get(id.encoded().len()..).ok_or_else(damaged)?;
                let bytes = counted_bytes(address.len(), stored::entry(value)?.value.len());
                let new = || TableUse { id: id.clone(), spec: TableSpec::default(), entries: 0, bytes: 0 };
                let table = counted.entry(id.clone()).or_insert_with(new);
                table.entries += 1;
                table.bytes = table.bytes.saturating_add_signed(bytes);
            }
            match pairs.last().filter(|_| more) {
                Some((last, _)) => from = [&last[..], &[0]].concat(),
                None => return Ok(counted.into_values().collect()),
            }
        }
    }

    /// What is stored of a stream, by table.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn tables(&self, incarnation: Incarnation) -> Result<Vec<TableUse>, StoreError> {
        let damaged = || StoreError::Damaged { what: "a table" };
        let prefix = [&incarnation[..], b"t"].concat();
        let mut tables = Vec::new();
        let (mut from, to) = (prefix.clone(), above(&prefix));
        loop {
            let (pairs, more) = self.engine.range(Space::About, &from, &to, BLOCK_ENTRIES)?;
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
                let (pairs, _) = self.engine.range(space, &from, &[0xff; 17], 1)?;
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
        self.engine.persist()
    }

    /// Removes all keys with a prefix, some at a time.
    pub(crate) fn remove_all(&self, space: Space, prefix: &[u8]) -> Result<(), StoreError> {
        let (mut from, to) = (prefix.to_vec(), above(prefix));
        loop {
            let mut batch = Batch::default();
            let mut more = true;
            while more && batch.0.len() < self.engine.batch_entries() {
                let (pairs, rest) = self.engine.range(space, &from, &to, BLOCK_ENTRIES)?;
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
