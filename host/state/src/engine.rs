//! Where bytes are kept: what the store asks of an embedded database, that database, and one in memory that can crash.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::error::StoreError;
use crate::limits::{BATCH_ENTRIES, BLOCK_BYTES, SORTED_ENTRIES};
use crate::pair::Pair;

/// Blocks that were read; all tables of all streams together.
const CACHE_BYTES: u64 = 32 << 20;
/// Entries that wait in memory for a file of their own; the database's own journal has them, too.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// That journal; it is written anew past it.
const JOURNAL_BYTES: u64 = 64 << 20;

/// Which keys are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Space {
    /// What is known of streams and tables.
    About,
    Entries,
}

/// Changes that are there together or not at all. A value of `None` removes the key.
#[derive(Default)]
pub(crate) struct Batch(pub(crate) Vec<(Space, Vec<u8>, Option<Vec<u8>>)>);

impl Batch {
    pub(crate) fn put(&mut self, space: Space, key: Vec<u8>, value: Vec<u8>) {
        self.0.push((space, key, Some(value)));
    }

    pub(crate) fn remove(&mut self, space: Space, key: Vec<u8>) {
        self.0.push((space, key, None));
    }
}

/// Entries of one table in their order, in parts.
pub(crate) struct Sorted {
    /// What stands in front of their addresses.
    pub(crate) prefix: Vec<u8>,
    pub(crate) parts: Vec<Vec<Pair>>,
}

impl Sorted {
    /// What was told is let go of, part by part.
    fn each<E>(self, mut told: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>) -> Result<(), E> {
        let (front, mut key) = (self.prefix.len(), self.prefix);
        self.parts.into_iter().flatten().try_for_each(|pair| {
            key.truncate(front);
            key.extend_from_slice(pair.address());
            told(&key, pair.value())
        })
    }
}

/// Keys and values in the order of the keys.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What keeps bytes. Batches become durable in the order in which they were written.
pub(crate) trait Engine: Send + Sync {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// From `from` on and before `to`, at most so many, in bounded memory; whether there may be more.
    fn range(&self, space: Space, from: &[u8], to: &[u8], most: usize) -> Result<(Pairs, bool), StoreError>;
    fn write(&self, batch: Batch) -> Result<(), StoreError>;
    /// Makes everything durable that was written.
    fn persist(&self) -> Result<(), StoreError>;
    /// Makes everything durable that was written, and then these tables' entries, the tables in the order of their keys, too: all of
    /// them at once, or none.
    fn write_sorted(&self, tables: Vec<Sorted>) -> Result<(), StoreError>;
    /// So many entries are worth being sorted.
    fn sorted_entries(&self) -> usize {
        SORTED_ENTRIES
    }
    /// Entries of a batch.
    fn batch_entries(&self) -> usize {
        BATCH_ENTRIES
    }
}

fn failed(action: &'static str) -> impl Fn(fjall::Error) -> StoreError {
    move |error| StoreError::Engine { action, source: error.into() }
}

/// The database on disk.
pub(crate) struct OnDisk {
    database: Database,
    about: Keyspace,
    entries: Keyspace,
    /// Held alone by who puts what others wrote into files.
    writing: RwLock<()>,
    /// Bytes in the database's journal since it was last asked to begin anew, about.
    journaled: AtomicU64,
}

impl OnDisk {
    /// What is there, or a new one. That is made beside its place and then takes it: the database does not open what it has left
    /// half-made.
    pub(crate) fn open(path: &Path) -> Result<OnDisk, StoreError> {
        if !path.exists() {
            let made = path.with_added_extension("making");
            OnDisk::make(&made, path).map_err(|error| StoreError::Open { path: made, source: error })?;
        }
        OnDisk::open_at(path)
    }

    fn make(beside: &Path, path: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
        if beside.exists() {
            std::fs::remove_dir_all(beside)?;
        }
        let made = OnDisk::open_at(beside)?;
        made.persist()?;
        drop(made);
        std::fs::rename(beside, path)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    fn open_at(path: &Path) -> Result<OnDisk, StoreError> {
        let open = || {
            let builder = Database::builder(path).cache_size(CACHE_BYTES).worker_threads(1);
            let database = builder.max_journaling_size(JOURNAL_BYTES).open()?;
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
            let about = database.keyspace("about", options)?;
            let entries = database.keyspace("entries", options)?;
            Ok(OnDisk { database, about, entries, writing: RwLock::default(), journaled: AtomicU64::new(0) })
        };
        open().map_err(|error: fjall::Error| StoreError::Open { path: path.to_owned(), source: error.into() })
    }

    fn space(&self, space: Space) -> &Keyspace {
        match space {
            Space::About => &self.about,
            Space::Entries => &self.entries,
        }
    }
}

impl Engine for OnDisk {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.space(space).get(key).map_err(failed("read"))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn range(&self, space: Space, from: &[u8], to: &[u8], most: usize) -> Result<(Pairs, bool), StoreError> {
        let (mut pairs, mut bytes) = (Pairs::new(), 0);
        if from >= to {
            return Ok((pairs, false));
        }
        for pair in self.space(space).range(from..to) {
            if pairs.len() >= most || bytes >= BLOCK_BYTES {
                return Ok((pairs, true));
            }
            let (key, value) = pair.into_inner().map_err(failed("read"))?;
            bytes += key.len() + value.len();
            pairs.push((key.to_vec(), value.to_vec()));
        }
        Ok((pairs, false))
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut write = self.database.batch();
        let mut bytes = 0;
        for (space, key, value) in batch.0 {
            bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => write.insert(self.space(space), key, value),
                None => write.remove(self.space(space), key),
            }
        }
        let _beside = self.writing.read().unwrap_or_else(PoisonError::into_inner);
        self.journaled.fetch_add(bytes as u64, Ordering::Relaxed);
        write.commit().map_err(failed("write"))
    }

    fn persist(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncAll).map_err(failed("sync"))
    }

    /// They go into files of their own, past the database's journal and the entries that wait in memory. Those are put into files,
    /// too, before these become visible: what was written before, by whomever, would be there without what was written together
    /// with it, if the journal were not durable.
    fn write_sorted(&self, tables: Vec<Sorted>) -> Result<(), StoreError> {
        let write = || {
            let mut ingestion = self.entries.start_ingestion()?;
            for table in tables {
                table.each(|key, value| match value {
                    Some(value) => ingestion.write(key, value),
                    None => ingestion.write_tombstone(key),
                })?;
            }
            let _alone = self.writing.write().unwrap_or_else(PoisonError::into_inner);
            self.database.persist(PersistMode::SyncAll)?;
            ingestion.finish()?;
            // The journal begins anew when entries that waited in memory go into files, which those have done here unasked.
            if self.journaled.load(Ordering::Relaxed) > JOURNAL_BYTES / 2 {
                self.journaled.store(0, Ordering::Relaxed);
                self.about.rotate_memtable()?;
            }
            Ok(())
        };
        write().map_err(failed("write"))
    }
}

type Map = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

/// One in memory, for tests and simulations: a crash takes the batches with it that nobody made durable, or some of them.
#[derive(Default)]
pub(crate) struct InMemory(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    now: Map,
    durable: Map,
    /// What is not durable, batch by batch.
    behind: Vec<Batch>,
    /// So much more succeeds, writes and syncs.
    succeeds: Option<usize>,
}

impl Contents {
    fn may(&mut self, action: &'static str) -> Result<(), StoreError> {
        match &mut self.succeeds {
            Some(0) => Err(StoreError::Engine { action, source: "it was told to fail".into() }),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn change(map: &mut Map, batch: &Batch) {
    for (space, key, value) in &batch.0 {
        let key = (*space, key.clone());
        match value {
            Some(value) => map.insert(key, value.clone()),
            None => map.remove(&key),
        };
    }
}

impl InMemory {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After so many writes and syncs nothing succeeds any more.
    pub(crate) fn succeeds(&self, times: Option<usize>) {
        self.contents().succeeds = times;
    }

    /// What another process would find after a crash: of the batches that are not durable, as many as `kept` says.
    pub(crate) fn crashed(&self, kept: impl FnOnce(usize) -> usize) -> InMemory {
        let contents = self.contents();
        let mut durable = contents.durable.clone();
        let kept = kept(contents.behind.len());
        contents.behind.iter().take(kept).for_each(|batch| change(&mut durable, batch));
        InMemory(Mutex::new(Contents { now: durable.clone(), durable, ..Contents::default() }))
    }
}

impl Engine for InMemory {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.contents().now.get(&(space, key.to_vec())).cloned())
    }

    fn range(&self, space: Space, from: &[u8], to: &[u8], most: usize) -> Result<(Pairs, bool), StoreError> {
        if from >= to {
            return Ok((Pairs::new(), false));
        }
        let bounds = (Bound::Included((space, from.to_vec())), Bound::Excluded((space, to.to_vec())));
        // Few at a time, so that tests go from one block to the next.
        const BLOCK: usize = 7;
        let contents = self.contents();
        let mut pairs = contents.now.range(bounds).map(|((_, key), value)| (key.clone(), value.clone()));
        let block: Pairs = pairs.by_ref().take(BLOCK.min(most)).collect();
        let more = pairs.next().is_some();
        Ok((block, more))
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut contents = self.contents();
        contents.may("write")?;
        change(&mut contents.now, &batch);
        contents.behind.push(batch);
        Ok(())
    }

    fn persist(&self) -> Result<(), StoreError> {
        let contents = &mut *self.contents();
        contents.may("sync")?;
        contents.durable.clone_from(&contents.now);
        contents.behind.clear();
        Ok(())
    }

    fn write_sorted(&self, tables: Vec<Sorted>) -> Result<(), StoreError> {
        self.persist()?;
        let contents = &mut *self.contents();
        contents.may("write")?;
        let mut batch = Batch::default();
        for table in tables {
            let sorted = table.each(|key, value| {
                let last = batch.0.last().is_none_or(|(_, last, _)| **last < *key);
                batch.0.push((Space::Entries, key.to_vec(), value.map(<[u8]>::to_vec)));
                last.then_some(()).ok_or("keys that are not in order")
            });
            sorted.map_err(|what| StoreError::Engine { action: "write", source: what.into() })?;
        }
        change(&mut contents.now, &batch);
        change(&mut contents.durable, &batch);
        Ok(())
    }

    /// Few, so that crashes come between them.
    fn batch_entries(&self) -> usize {
        5
    }

    fn sorted_entries(&self) -> usize {
        12
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: [u8; 17] = [9; 17];

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy(&entry.path(), &to),
                false => drop(std::fs::copy(entry.path(), to).unwrap()),
            }
        }
    }

    fn check(disk: &OnDisk, expected: &BTreeMap<Vec<u8>, Vec<u8>>) {
        let (mut found, mut from) = (BTreeMap::new(), PREFIX.to_vec());
        loop {
            let (pairs, more) = disk.range(Space::Entries, &from, &[10], 100).unwrap();
            from = pairs.last().map_or(from, |(last, _)| [&last[..], &[0]].concat());
            found.extend(pairs);
            if !more {
                break;
            }
        }
        assert_eq!(&found, expected);
        assert!(expected.keys().all(|key| disk.get(Space::Entries, key).unwrap().is_some()));
    }

    #[test]
    fn what_was_sorted_is_over_what_was_written_before_and_under_what_came_later_also_after_a_kill() {
        let directory = tempfile::tempdir().unwrap();
        let path = |life: u32| directory.path().join(life.to_string());
        let mut disk = OnDisk::open(&path(0)).unwrap();
        let mut expected = BTreeMap::new();
        let address = |number: u32| [&[(number % 7) as u8][..], &number.to_be_bytes()].concat();
        let key = |number: u32| [&PREFIX[..], &address(number)].concat();
        for life in 1..5_u32 {
            let mut batch = Batch::default();
            for number in (life..3000).step_by(3) {
                batch.put(Space::Entries, key(number), vec![0; 20]);
                expected.insert(key(number), vec![0; 20]);
            }
            batch.put(Space::About, vec![9], life.to_le_bytes().to_vec());
            disk.write(batch).unwrap();
            let mut parts = vec![Vec::new(); 7];
            for number in (0..3000).filter(|number| number % 5 != life) {
                let pair = match number % 4 == life % 4 {
                    true => Pair::removed(&address(number)),
                    false => Pair::put(&address(number), i64::from(life), 1, b"sorted"),
                };
                match pair.value() {
                    Some(value) => expected.insert(key(number), value.to_vec()),
                    None => expected.remove(&key(number)),
                };
                parts[(number % 7) as usize].push(pair);
            }
            disk.write_sorted(vec![Sorted { prefix: PREFIX.to_vec(), parts }]).unwrap();
            let mut batch = Batch::default();
            for number in (0..3000).step_by(11 + life as usize) {
                batch.remove(Space::Entries, key(number));
                expected.remove(&key(number));
            }
            disk.write(batch).unwrap();
            check(&disk, &expected);
            // What another process finds: the database is not closed before.
            copy(&path(life - 1), &path(life));
            disk = OnDisk::open(&path(life)).unwrap();
            check(&disk, &expected);
            assert_eq!(disk.get(Space::About, &[9]).unwrap().unwrap(), life.to_le_bytes());
        }
    }

    #[test]
    fn journal_of_the_database_stays_bounded_where_all_that_is_much_is_sorted() {
        let directory = tempfile::tempdir().unwrap();
        let disk = OnDisk::open(&directory.path().join("state")).unwrap();
        let journals = || -> u64 {
            let files = std::fs::read_dir(directory.path().join("state")).unwrap().map(Result::unwrap);
            let journals = files.filter(|file| file.path().extension().is_some_and(|name| name == "jnl"));
            journals.map(|file| file.metadata().unwrap().len()).sum()
        };
        // Incompressible, and never so much that a memtable is full.
        let mut random = 1_u64;
        let mut noise = || {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            random.to_le_bytes()
        };
        for turn in 0..60_u32 {
            let mut batch = Batch::default();
            for number in 0..64_u32 {
                let value = (0..8192).flat_map(|_| noise()).collect();
                batch.put(Space::Entries, [&PREFIX[..], &number.to_be_bytes()].concat(), value);
            }
            batch.put(Space::About, vec![9], turn.to_le_bytes().to_vec());
            disk.write(batch).unwrap();
            let parts = vec![vec![Pair::put(&turn.to_be_bytes(), 0, 1, b"sorted")]];
            disk.write_sorted(vec![Sorted { prefix: vec![8; 17], parts }]).unwrap();
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while journals() > 2 * JOURNAL_BYTES {
            assert!(std::time::Instant::now() < deadline, "{} bytes of journals", journals());
            std::thread::yield_now();
        }
        assert!(journals() > 0, "they have another name");
    }
}
