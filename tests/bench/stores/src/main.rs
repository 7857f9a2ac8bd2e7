//! What an embedded store costs as the store of keyed state: one million keys of 16 bytes with values of 100 bytes, then
//! batches of 5,000 random keys, each read and written anew in one atomic batch, with a sync after every 20 batches.
//!
//! `cargo run --release -- fjall|redb DIRECTORY [KEYS] [BATCHES]`, each in a process of its own: memory is the process's peak.

use std::path::Path;
use std::time::{Duration, Instant};

const BATCH: u64 = 5000;
const VALUE_BYTES: usize = 100;
const SYNC_EVERY: u64 = 20;

type Failed = Box<dyn std::error::Error>;

/// What is asked of a store.
trait Store {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failed>;
    /// One atomic batch; durable only after a later one that is.
    fn apply(&mut self, batch: &[([u8; 16], Vec<u8>)], durable: bool) -> Result<(), Failed>;
    fn scan(&self) -> Result<u64, Failed>;
}

struct Fjall {
    database: fjall::Database,
    entries: fjall::Keyspace,
}

impl Store for Fjall {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failed> {
        Ok(self.entries.get(key)?.map(|value| value.to_vec()))
    }

    fn apply(&mut self, batch: &[([u8; 16], Vec<u8>)], durable: bool) -> Result<(), Failed> {
        let mut write = self.database.batch();
        for (key, value) in batch {
            write.insert(&self.entries, &key[..], &value[..]);
        }
        write.commit()?;
        if durable {
            self.database.persist(fjall::PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn scan(&self) -> Result<u64, Failed> {
        let mut count = 0;
        for entry in self.entries.iter() {
            let (_key, _value) = entry.into_inner()?;
            count += 1;
        }
        Ok(count)
    }
}

const TABLE: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("entries");

struct Redb(redb::Database);

impl Store for Redb {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failed> {
        use redb::ReadableDatabase;
        let read = self.0.begin_read()?;
        let table = read.open_table(TABLE)?;
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    fn apply(&mut self, batch: &[([u8; 16], Vec<u8>)], durable: bool) -> Result<(), Failed> {
        let mut write = self.0.begin_write()?;
        write.set_durability(if durable { redb::Durability::Immediate } else { redb::Durability::None })?;
        {
            let mut table = write.open_table(TABLE)?;
            for (key, value) in batch {
                table.insert(&key[..], &value[..])?;
            }
        }
        write.commit()?;
        Ok(())
    }

    fn scan(&self) -> Result<u64, Failed> {
        use redb::{ReadableDatabase, ReadableTable};
        let read = self.0.begin_read()?;
        let mut count = 0;
        for entry in read.open_table(TABLE)?.iter()? {
            let _entry = entry?;
            count += 1;
        }
        Ok(count)
    }
}

/// SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mixed(number).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn value(number: u64, round: u64) -> Vec<u8> {
    (0..VALUE_BYTES).map(|at| mixed(number ^ round << 32 ^ at as u64 / 8) as u8).collect()
}

fn bytes_below(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return path.metadata().map_or(0, |meta| meta.len()) };
    entries.filter_map(Result::ok).map(|entry| bytes_below(&entry.path())).sum()
}

/// A line of `/proc/self/status` or `/proc/self/io`.
fn proc(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().find_map(|word| word.parse().ok())).unwrap_or(0)
}

fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let (kind, directory) = (arguments.next().unwrap_or_default(), arguments.next().ok_or("no directory")?);
    let keys = arguments.next().map_or(Ok(1_000_000), |text| text.parse::<u64>())?;
    let batches = arguments.next().map_or(Ok(400), |text| text.parse::<u64>())?;
    let directory = Path::new(&directory);
    std::fs::create_dir_all(directory)?;
    let open = |kind: &str| -> Result<Box<dyn Store>, Failed> {
        Ok(match kind {
            "fjall" => {
                let database = fjall::Database::builder(directory.join("fjall")).cache_size(64 << 20).open()?;
                let entries = database.keyspace("entries", fjall::KeyspaceCreateOptions::default)?;
                Box::new(Fjall { database, entries })
            }
            "redb" => {
                let mut builder = redb::Builder::new();
                builder.set_cache_size(64 << 20);
                Box::new(Redb(builder.create(directory.join("redb"))?))
            }
            other => return Err(format!("{other:?}: expected fjall or redb").into()),
        })
    };
    let mut store = open(&kind)?;
    let began = Instant::now();
    for batch in 0..keys.div_ceil(BATCH) {
        let numbers = batch * BATCH..((batch + 1) * BATCH).min(keys);
        let entries: Vec<_> = numbers.map(|number| (key(number), value(number, 0))).collect();
        store.apply(&entries, batch % SYNC_EVERY == 0)?;
    }
    println!("load: {:.2} s", began.elapsed().as_secs_f64());
    let (mut reading, mut writing, mut worst) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for batch in 0..batches {
        let numbers: Vec<u64> = (0..BATCH).map(|at| mixed(batch << 32 | at) % keys).collect();
        let before = Instant::now();
        for number in &numbers {
            store.get(&key(*number))?.ok_or("an entry is missing")?;
        }
        reading += before.elapsed();
        let entries: Vec<_> = numbers.iter().map(|number| (key(*number), value(*number, batch))).collect();
        let before = Instant::now();
        store.apply(&entries, batch % SYNC_EVERY == SYNC_EVERY - 1)?;
        writing += before.elapsed();
        worst = worst.max(before.elapsed());
    }
    let per = |time: Duration| time.as_secs_f64() * 1e6 / (batches * BATCH) as f64;
    println!("read: {:.2} us each, write: {:.2} us each, longest batch {worst:?}", per(reading), per(writing));
    let before = Instant::now();
    println!("scan: {} entries in {:.2} s", store.scan()?, before.elapsed().as_secs_f64());
    println!("peak memory: {} MiB, written: {} MiB", proc("status", "VmHWM:") / 1024, proc("io", "write_bytes:") >> 20);
    drop(store);
    println!("on disk: {} MiB", bytes_below(directory) >> 20);
    let before = Instant::now();
    let store = open(&kind)?;
    store.get(&key(1))?.ok_or("an entry is missing")?;
    println!("open again: {:.3} s", before.elapsed().as_secs_f64());
    Ok(())
}
