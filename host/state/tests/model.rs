//! State against a map: whatever slices do, fail at, commit and apply, and whenever the process ends, each change is there
//! once, and what is counted is what is there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use wasmill_state::{
    Base, Crashing, Layer, Scan, SliceState, StateError, Store, StreamStore, TableId, TableSpec, Usage, View,
    Written, group_of,
};

const INCARNATION: [u8; 16] = [7; 16];
const TTL: u64 = 40;
const TABLES: [(&str, u64); 2] = [("sums", 0), ("recent", TTL)];
const SPEC: fn(u64) -> TableSpec = |ttl_ns| TableSpec { version: 1, ttl_ns };

#[derive(Clone, Debug)]
enum Write {
    Put { table: usize, key: u8, value: Vec<u8> },
    Remove { table: usize, key: u8 },
    Add { key: u8, delta: i64 },
}

#[derive(Clone, Debug)]
enum Step {
    /// Chunks of one slice, each with whether it comes through, and how much time has gone by.
    Slice {
        chunks: Vec<(Vec<Write>, bool)>,
        passed: i64,
        withdrawn: bool,
    },
    Commit,
    Clear,
    /// So many outcomes at once.
    Apply {
        most: usize,
    },
    Write,
    /// After so many batches the store fails; what is in memory stays.
    WriteFails {
        after: usize,
    },
    /// Of what is not durable, so many percent of the batches are there.
    Crash {
        kept: usize,
    },
}

fn write() -> impl Strategy<Value = Write> {
    // Sums have keys of their own: what else is put there need not be one.
    let key = 0..24_u8;
    prop_oneof![
        4 => (0..2_usize, key.clone(), prop::collection::vec(any::<u8>(), 0..12))
            .prop_map(|(table, key, value)| Write::Put { table, key, value }),
        2 => (0..2_usize, key).prop_map(|(table, key)| Write::Remove { table, key }),
        4 => (100..112_u8, -5..50_i64).prop_map(|(key, delta)| Write::Add { key, delta }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let chunk = (prop::collection::vec(write(), 0..12), prop::bool::weighted(0.7));
    prop_oneof![
        8 => (prop::collection::vec(chunk, 1..4), 0..15_i64, prop::bool::weighted(0.15))
            .prop_map(|(chunks, passed, withdrawn)| Step::Slice { chunks, passed, withdrawn }),
        4 => Just(Step::Commit),
        1 => Just(Step::Clear),
        4 => (1..4_usize).prop_map(|most| Step::Apply { most }),
        2 => Just(Step::Write),
        3 => (0..12_usize).prop_map(|after| Step::WriteFails { after }),
        2 => (0..=100_usize).prop_map(|kept| Step::Crash { kept }),
    ]
}

type Model = BTreeMap<(usize, u8, Vec<u8>), (i64, Vec<u8>)>;

/// What keeps the store.
enum Machine {
    Memory(Crashing),
    Disk { directories: tempfile::TempDir, lives: usize },
}

impl Machine {
    fn path(&self) -> PathBuf {
        let Machine::Disk { directories, lives } = self else { return PathBuf::new() };
        directories.path().join(lives.to_string())
    }

    fn open(&self) -> Store {
        match self {
            Machine::Memory(crashing) => crashing.store(),
            Machine::Disk { .. } => Store::open(&self.path(), &Arc::default()).unwrap(),
        }
    }

    /// A disk has what another process finds after a kill: everything that was written.
    fn crash(&mut self, kept: usize) {
        let before = self.path();
        match self {
            Machine::Memory(crashing) => *crashing = crashing.crashed(|behind| behind * kept / 100),
            Machine::Disk { lives, .. } => *lives += 1,
        }
        if before != Path::new("") {
            copy(&before, &self.path());
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

struct World {
    machine: Machine,
    store: Store,
    stream: StreamStore,
    usage: Arc<Usage>,
    /// The journal: outcomes, and up to which one the store has to know them by itself.
    outcomes: Vec<(Written, Vec<u8>)>,
    needed: usize,
    applied: usize,
    pending: Layer,
    now: i64,
    /// With everything that was gathered, and of the outcomes alone.
    gathered: Model,
    committed: Model,
    committed_now: i64,
}

impl World {
    fn new(machine: Machine) -> World {
        let store = machine.open();
        let usage = Arc::new(Usage::default());
        let stream = store.stream(INCARNATION, Arc::clone(&usage)).unwrap();
        World {
            machine,
            store,
            stream,
            usage,
            outcomes: Vec::new(),
            needed: 0,
            applied: 0,
            pending: Layer::default(),
            now: 1000,
            gathered: Model::new(),
            committed: Model::new(),
            committed_now: 1000,
        }
    }

    fn layer(&self, outcome: usize) -> Layer {
        let (written, blobs) = &self.outcomes[outcome];
        Layer::read(written, blobs).unwrap()
    }

    fn slice_state(&self, now: i64) -> (SliceState, [usize; 2]) {
        let unapplied = (self.applied..self.outcomes.len()).rev().map(|at| Arc::new(self.layer(at)));
        let layers = std::iter::once(Arc::new(self.pending.clone())).chain(unapplied);
        let view = View::new(layers, Arc::new(self.stream.clone()));
        let mut state = SliceState::new(view, now, Some(Arc::clone(&self.usage)));
        let tables = TABLES.map(|(name, ttl)| state.table(&TableId::new("count", name).unwrap(), SPEC(ttl)));
        (state, tables)
    }

    fn run(&mut self, chunks: &[(Vec<Write>, bool)], now: i64) -> (Layer, Model) {
        let (mut state, tables) = self.slice_state(now);
        let mut model = self.gathered.clone();
        for (writes, passes) in chunks {
            let before = model.clone();
            state.begin();
            for write in writes {
                match write {
                    Write::Put { table, key, value } => {
                        let group = group_of(&[*key]);
                        state.put(tables[*table], group, &[*key], Some(value)).unwrap();
                        model.insert((*table, group, vec![*key]), (now, value.clone()));
                    }
                    Write::Remove { table, key } => {
                        let group = group_of(&[*key]);
                        state.put(tables[*table], group, &[*key], None).unwrap();
                        model.remove(&(*table, group, vec![*key]));
                    }
                    Write::Add { key, delta } => {
                        let group = group_of(&[*key]);
                        let sum = state.add(tables[0], group, &[*key], *delta).unwrap();
                        let before = model.get(&(0, group, vec![*key]));
                        let before =
                            before.map_or(0, |(_, value)| i64::from_le_bytes(value[..].try_into().unwrap()));
                        assert_eq!(sum, before + delta);
                        model.insert((0, group, vec![*key]), (now, sum.to_le_bytes().to_vec()));
                    }
                }
            }
            if !passes {
                state.rollback();
                model = before;
            }
        }
        (state.finish(), model)
    }

    fn commit(&mut self) {
        let mut blobs = Vec::new();
        let written = self.pending.write(&mut blobs, 0);
        self.outcomes.push((written, blobs));
        self.pending = Layer::default();
        self.committed.clone_from(&self.gathered);
        self.committed_now = self.now;
    }

    fn apply_next(&mut self, most: usize) {
        let to = self.outcomes.len().min(self.applied + most);
        let layers: Vec<Layer> = (self.applied..to).map(|outcome| self.layer(outcome)).collect();
        let layers: Vec<&Layer> = layers.iter().collect();
        if !layers.is_empty() {
            assert!(self.stream.apply(to as u64, &layers).unwrap());
            assert!(!self.stream.apply(to as u64, &layers).unwrap());
            self.applied = to;
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Slice { chunks, passed, withdrawn } => {
                let now = self.now + passed;
                let (layer, model) = self.run(chunks, now);
                if !withdrawn && !layer.is_empty() {
                    self.pending.add(layer);
                    self.gathered = model;
                    self.now = now;
                }
            }
            Step::Commit => self.commit(),
            Step::Clear => {
                let table = (TableId::new("count", "sums").unwrap(), SPEC(0));
                self.pending.add(Layer::clearing([table]));
                self.gathered.retain(|(table, ..), _| *table != 0);
                self.commit();
            }
            Step::Apply { most } => self.apply_next(*most),
            Step::Write => {
                let written = self.stream.write_behind().unwrap();
                assert_eq!(written, self.stream.mark());
                self.needed = self.applied;
            }
            Step::WriteFails { after } => {
                let Machine::Memory(crashing) = &self.machine else { return };
                crashing.succeeds(Some(*after));
                if self.stream.write_behind().is_ok() {
                    self.needed = self.applied;
                }
                crashing.succeeds(None);
            }
            Step::Crash { kept } => {
                self.machine.crash(*kept);
                self.store = self.machine.open();
                self.usage = Arc::default();
                self.stream = self.store.stream(INCARNATION, Arc::clone(&self.usage)).unwrap();
                self.applied = self.stream.mark().map_or(0, |mark| usize::try_from(mark.position).unwrap());
                // What the journal has let go of is in the store.
                assert!(self.applied >= self.needed, "{} {}", self.applied, self.needed);
                self.pending = Layer::default();
                self.gathered.clone_from(&self.committed);
                self.now = self.committed_now;
                while self.applied < self.outcomes.len() {
                    self.apply_next(2);
                }
            }
        }
    }

    fn live(&self) -> Vec<(usize, u8, Vec<u8>, Vec<u8>)> {
        let ttl = |table: usize| i64::try_from(TABLES[table].1).unwrap();
        let live = self
            .gathered
            .iter()
            .filter(|((table, ..), (written, _))| ttl(*table) == 0 || self.now - written < ttl(*table));
        live.map(|((table, group, key), (_, value))| (*table, *group, key.clone(), value.clone())).collect()
    }

    /// What a slice reads is what the map has.
    fn check(&self) {
        let (mut state, tables) = self.slice_state(self.now);
        let live = self.live();
        for (table, handle) in tables.into_iter().enumerate() {
            for key in (0..24).chain(100..112) {
                let group = group_of(&[key]);
                let there =
                    live.iter().find(|(of, at, found, _)| (*of, *at, &found[..]) == (table, group, &[key]));
                let found = state.get(handle, group, &[key]).unwrap();
                assert_eq!(found.as_deref(), there.map(|(.., value)| &value[..]), "{table} {key}");
            }
            let keys: Vec<[u8; 1]> = (0..24).chain(100..112).cycle().take(72).map(|key| [key]).collect();
            let (mut state, _) = self.slice_state(self.now);
            let mut values = keys.iter().map(|key| {
                let there = |(of, _, found, _): &&(usize, u8, Vec<u8>, Vec<u8>)| {
                    (*of, &found[..]) == (table, &key[..])
                };
                live.iter().find(there).map(|(.., value)| &value[..])
            });
            let asked = keys.iter().map(|key| (group_of(key), &key[..]));
            let told = state.get_many(handle, asked, |found| {
                assert_eq!(Some(found), values.next(), "{table}");
                Ok::<_, StateError>(())
            });
            told.unwrap();
            let mut scanned = Vec::new();
            let mut after: Option<(u8, Vec<u8>)> = None;
            loop {
                let from = after.as_ref().map(|(group, key)| (*group, &key[..]));
                let found =
                    state.scan(handle, Scan { after: from, limit: 3, ..Scan::default() }, || true).unwrap();
                let Some(last) = found.keys.last() else { break };
                after = Some((*found.groups.last().unwrap(), last.to_vec()));
                let entries = found.groups.iter().zip(&found.keys).zip(&found.values);
                scanned.extend(
                    entries.map(|((group, key), value)| (table, *group, key.to_vec(), value.to_vec())),
                );
            }
            let of_table: Vec<_> = live.iter().filter(|(of, ..)| *of == table).cloned().collect();
            assert_eq!(scanned, of_table);
            let some = state
                .scan(handle, Scan { from: &[3], to: &[101], after: None, limit: 1000 }, || true)
                .unwrap();
            let keys: Vec<Vec<u8>> = some.keys.iter().map(|key| key.to_vec()).collect();
            let between = of_table.iter().filter(|(_, _, key, _)| (3..101).contains(&key[0]));
            assert_eq!(keys, between.map(|(_, _, key, _)| key.clone()).collect::<Vec<_>>());
        }
    }

    /// Once all is applied, what is counted is what is stored, old entries included.
    fn check_counts(&mut self) {
        self.commit();
        while self.applied < self.outcomes.len() {
            self.apply_next(2);
        }
        self.check();
        let tables = self.stream.tables();
        for table in &tables {
            // Those that are too old and not yet removed are stored, too.
            let (mut entries, mut bytes, mut from) = (0, 0, Vec::new());
            loop {
                let range = self.stream.range(&table.id, &from, 10).unwrap();
                entries += range.entries.len() as u64;
                let sizes =
                    range.entries.iter().map(|(address, entry)| address.len() + entry.value.len() + 48);
                bytes += sizes.sum::<usize>() as u64;
                match range.entries.last().filter(|_| range.more) {
                    Some((last, _)) => from = [&last[..], &[0]].concat(),
                    None => break,
                }
            }
            assert_eq!((entries, bytes), (table.entries, table.bytes), "{:?}", table.id);
        }
        assert_eq!(self.usage.stored(), tables.iter().map(|table| table.bytes).sum::<u64>());
        assert_eq!(self.usage.stored() > 0, tables.iter().any(|table| table.entries > 0));
    }
}

fn lives(mut world: World, steps: &[Step]) {
    for step in steps {
        world.step(step);
        world.check();
    }
    world.check_counts();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn state_is_what_slices_made_of_it_whenever_the_process_ends(steps in prop::collection::vec(step(), 1..40)) {
        lives(World::new(Machine::Memory(Crashing::default())), &steps);
    }
}

#[test]
fn counts_taken_anew_after_a_write_that_broke_off_are_written() {
    let put = |key| Write::Put { table: 0, key, value: vec![key] };
    let steps = |after, kept| {
        let (first, more) = ((vec![put(0)], true), ((0..12).map(put).collect(), true));
        let slice = |chunk| Step::Slice { chunks: vec![chunk], passed: 0, withdrawn: false };
        let (apply, broken) = (Step::Apply { most: 2 }, Step::WriteFails { after });
        let begun = [
            slice(first),
            Step::Commit,
            apply.clone(),
            Step::Write,
            Step::Clear,
            slice(more),
            Step::Commit,
            apply,
        ];
        // What came of the entries is what is counted in them then: nothing comes to it.
        [&begun[..], &[broken, Step::Crash { kept }, Step::Write, Step::Crash { kept: 0 }]].concat()
    };
    for after in 0..10 {
        for kept in [0, 50, 100] {
            lives(World::new(Machine::Memory(Crashing::default())), &steps(after, kept));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn state_on_disk_is_what_slices_made_of_it_whenever_the_process_is_killed(
        steps in prop::collection::vec(step(), 10..40)
    ) {
        let directories = tempfile::tempdir().unwrap();
        lives(World::new(Machine::Disk { directories, lives: 0 }), &steps);
    }
}

/// The model would find it: what was applied is forgotten by a crash, and nobody applies it again.
#[test]
fn changes_that_are_not_applied_again_after_a_crash_are_found() {
    let crashing = Crashing::default();
    let mut world = World::new(Machine::Memory(crashing));
    let add = |delta| Step::Slice {
        chunks: vec![(vec![Write::Add { key: 100, delta }], true)],
        passed: 1,
        withdrawn: false,
    };
    for step in [
        add(1),
        Step::Commit,
        Step::Apply { most: 1 },
        Step::Write,
        add(2),
        Step::Commit,
        Step::Apply { most: 1 },
    ] {
        world.step(&step);
    }
    world.machine.crash(0);
    world.store = world.machine.open();
    world.stream = world.store.stream(INCARNATION, Arc::default()).unwrap();
    assert_eq!(world.stream.mark().map(|mark| mark.position), Some(1));
    let (mut state, tables) = world.slice_state(0);
    let found = state.get(tables[0], group_of(&[100]), &[100]).unwrap();
    assert_eq!(found.as_deref(), Some(&1_i64.to_le_bytes()[..]));
    world.applied = 1;
    world.check();
}

#[test]
fn quota_refuses_what_grows_and_takes_what_does_not() {
    let usage = Arc::new(Usage::default());
    let store = Crashing::default().store();
    let stream = store.stream(INCARNATION, Arc::clone(&usage)).unwrap();
    usage.set_limit(Some(200));
    let id = TableId::new("t", "a").unwrap();
    let state = |layers: Vec<Arc<Layer>>| {
        SliceState::new(View::new(layers, Arc::new(stream.clone())), 1, Some(Arc::clone(&usage)))
    };
    let mut first = state(Vec::new());
    let table = first.table(&id, SPEC(0));
    // An entry counts its key, its value and 49 bytes besides.
    first.put(table, 0, b"a", Some(&[0; 50])).unwrap();
    first.put(table, 0, b"b", Some(&[0; 40])).unwrap();
    let full = first.put(table, 0, b"c", Some(&[])).unwrap_err();
    assert!(full.to_string().contains("state_bytes, 200 bytes"), "{full}");
    first.put(table, 0, b"b", Some(&[1; 50])).unwrap();
    assert!(first.put(table, 0, b"b", Some(&[1; 51])).is_err());
    let layer = Arc::new(first.finish());
    // What is on its way counts, for other streams too.
    let mut second = state(vec![Arc::clone(&layer)]);
    let table = second.table(&id, SPEC(0));
    assert!(second.put(table, 0, b"a", Some(&[0; 51])).is_err());
    second.put(table, 0, b"a", Some(&[2; 50])).unwrap();
    second.put(table, 0, b"b", None).unwrap();
    second.put(table, 0, b"d", Some(&[2; 50])).unwrap();
    second.begin();
    second.put(table, 0, b"d", None).unwrap();
    second.rollback();
    assert!(second.put(table, 0, b"e", Some(&[])).is_err());
    drop(second);
    assert!(stream.apply(1, &[&layer]).unwrap());
    drop(layer);
    assert_eq!(usage.stored(), 200);
    drop(stream);
    assert_eq!(usage.stored(), 0);
}

#[test]
fn entries_that_are_too_old_are_removed_from_the_store_bit_by_bit() {
    let usage = Arc::new(Usage::default());
    let store = Crashing::default().store();
    let stream = store.stream(INCARNATION, Arc::clone(&usage)).unwrap();
    let ids = ["a", "b"].map(|name| TableId::new("t", name).unwrap());
    let apply = |position: u64, keys: std::ops::Range<u32>, now: i64| {
        let mut state = SliceState::new(View::new([], Arc::new(stream.clone())), now, None);
        for id in &ids {
            let table = state.table(id, SPEC(100));
            for key in keys.clone() {
                state.put(table, 0, &key.to_be_bytes(), Some(b"v")).unwrap();
            }
        }
        stream.apply(position, &[&state.finish()]).unwrap();
    };
    apply(1, 0..5000, 1000);
    let mut last = stream.tables().iter().map(|table| table.entries).sum::<u64>();
    assert_eq!(last, 10_000);
    // Four entries are looked at for each of the four that are changed; two rounds, because the first ends within a table.
    for position in 2..2 * 10_000 / 16 {
        apply(position, 0..2, 1100 + i64::try_from(position).unwrap());
        let now = stream.tables().iter().map(|table| table.entries).sum::<u64>();
        assert!(last - now <= 600, "{last} {now}");
        last = now;
    }
    // The two that were written again.
    assert_eq!(stream.tables().iter().map(|table| table.entries).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(usage.stored(), 4 * (4 + 1 + 49));
}

#[test]
fn memory_of_a_slice_is_bounded_also_where_it_writes_the_same_again_and_again() {
    let id = TableId::new("t", "a").unwrap();
    let mut state = SliceState::scratch(1);
    let table = state.table(&id, SPEC(0));
    let value = vec![7; wasmill_state::VALUE_BYTES_MAX];
    let mut writes = 0;
    let full = loop {
        match state.put(table, 0, b"k", Some(&value)) {
            Ok(()) => writes += 1,
            Err(full) => break full,
        }
    };
    assert!(full.to_string().contains("of changed state in one slice"), "{full}");
    assert!((60..64).contains(&writes), "{writes}");
    // What takes back is let go of with the chunk.
    state.begin();
    state.put(table, 0, b"k", Some(&value)).unwrap();
    state.rollback();
    // Small ones count what they take in memory.
    let mut entries = 0_u32;
    while state.put(table, 0, &entries.to_be_bytes(), Some(b"")).is_ok() {
        entries += 1;
    }
    assert!((200_000..400_000).contains(&entries), "{entries}");
}

#[test]
fn values_have_the_layout_version_that_they_were_written_with() {
    let store = Crashing::default().store();
    let stream = store.stream(INCARNATION, Arc::default()).unwrap();
    let id = TableId::new("t", "a").unwrap();
    let slice = |version: u32, keys: &[&[u8]]| {
        let mut state = SliceState::new(View::new([], Arc::new(stream.clone())), 1, None);
        let table = state.table(&id, TableSpec { version, ttl_ns: 0 });
        keys.iter().for_each(|key| state.put(table, 0, key, Some(b"v")).unwrap());
        let of = |state: &mut SliceState, key: &[u8]| state.version_of(table, 0, key).unwrap();
        let found = [b"a", b"b", b"c"].map(|key| of(&mut state, key));
        (found, state.finish())
    };
    let (found, layer) = slice(1, &[b"a", b"b"]);
    assert_eq!(found, [Some(1), Some(1), None]);
    let mut blobs = Vec::new();
    let written = layer.write(&mut blobs, 0);
    stream.apply(1, &[&Layer::read(&written, &blobs).unwrap()]).unwrap();
    let (found, layer) = slice(2, &[b"b"]);
    assert_eq!(found, [Some(1), Some(2), None]);
    stream.apply(2, &[&layer]).unwrap();
    assert_eq!(slice(2, &[]).0, [Some(1), Some(2), None]);
    assert_eq!(stream.tables()[0].spec.version, 2);
}

#[test]
fn store_that_was_half_made_when_the_process_ended_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let beside = directory.path().join("state.making");
    std::fs::create_dir_all(beside.join("keyspaces")).unwrap();
    std::fs::write(beside.join("0.jnl"), b"").unwrap();
    // That is what the database does not open.
    assert!(Store::open(&beside, &Arc::default()).is_err());
    let store = Store::open(&path, &Arc::default()).unwrap();
    store.stream(INCARNATION, Arc::default()).unwrap();
    assert!(!beside.exists());
    drop(store);
    assert!(Store::open(&path, &Arc::default()).unwrap().incarnations().unwrap().is_empty());
}
