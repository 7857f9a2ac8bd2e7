//! The store of all streams of a data directory.
//!
//! It applies the layers of outcomes and remembers how far: the changes of an outcome and the journal position that they came
//! from are one batch. An outcome that was applied is not applied again, and what was not durable when the process ended is
//! applied again from the journal, which keeps it until [`Store::persist`] has made it durable here. So each change is there
//! exactly once. The store has no log of its own that anybody relies on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::engine::{Batch, Engine, InMemory, OnDisk, Space};
use crate::error::StoreError;
use crate::limits::DROPPED_ENTRIES;
use crate::stored::{self, above, table_use};
use crate::stream::StreamStore;
use crate::table::{TableId, TableSpec};
use crate::usage::Usage;

/// A stream's identity: drawn when it was made.
pub type Incarnation = [u8; 16];

/// See the head of this file. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) engine: Arc<dyn Engine>,
    /// Bytes of changes that were written since everything was durable.
    pub(crate) behind: Arc<AtomicU64>,
    /// Bytes of what is kept in memory besides.
    pub(crate) resident: Arc<AtomicUsize>,
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
        Store { engine, behind: Arc::default(), resident: Arc::default() }
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
        StreamStore::open(self.clone(), incarnation, usage)
    }

    /// How far the state of a stream has come; `None` where it has none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn mark(&self, incarnation: Incarnation) -> Result<Option<Mark>, StoreError> {
        let Some(value) = self.engine.get(Space::About, &incarnation)? else { return Ok(None) };
        stored::mark(&value).map(Some).ok_or(StoreError::Damaged { what: "a mark" })
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
    pub(crate) fn remove_all(&self, space: Space, prefix: &[u8]) -> Result<(), StoreError> {
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
