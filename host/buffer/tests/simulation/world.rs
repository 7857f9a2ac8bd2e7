//! One seed's lives: a journal without threads on a faulty disk, and what its user does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use wasmill_buffer::testing::FaultyDisk;
use wasmill_buffer::{
    AppendError, Durability, EntryKind, Journal, OpenError, Options, Records, Retention, SourcePosition,
    Stream, StreamError, StreamKey, StreamOptions,
};

use crate::model::{Point, Told, check_recovery};
use crate::requests::{Requests, Try};

/// How a seed's run ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Plan {
    /// This many lives, with faults; most end by a crash at some operation.
    Lives(u32),
    /// One life without faults, that crashes at this operation or nowhere, and a look at what is left.
    OneLife(Option<u64>),
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) trace: u64,
    pub(crate) operations: u64,
    pub(crate) crashes: u64,
    pub(crate) acknowledged: u64,
    pub(crate) segments: bool,
    /// Requests whose first answer says that they were stored before: by an append that nobody was told of.
    pub(crate) duplicates_after_crash: u64,
    pub(crate) forgotten: u64,
    pub(crate) conflicts: u64,
    /// Groups that were written while the one before was synced.
    pub(crate) beside: u64,
    /// Receipts that came early, of records that are not there.
    pub(crate) voided: u64,
}

struct World {
    disk: FaultyDisk,
    random: SmallRng,
    told: BTreeMap<StreamKey, Told>,
    streams: BTreeMap<StreamKey, Stream>,
    requests: BTreeMap<StreamKey, Requests>,
    next: u64,
    /// Acknowledged before it is synced: it survives the end of the process only, and that is all that happens.
    os: bool,
    /// Some records are to be read before they are synced, and others are written while they are.
    early: bool,
    /// What is kept of history: 0 = all, 1 = some, 2 = nothing.
    history: u8,
    outcome: Outcome,
}

/// Names the run that fails.
struct Named(u64, Plan);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(writeln!(std::io::stderr(), "seed {} with {:?}", self.0, self.1));
        }
    }
}

pub(crate) fn run(seed: u64, plan: Plan) -> Outcome {
    let _named = Named(seed, plan);
    let mut world = World {
        disk: FaultyDisk::new(seed),
        random: SmallRng::seed_from_u64(seed),
        told: BTreeMap::new(),
        streams: BTreeMap::new(),
        requests: BTreeMap::new(),
        next: 0,
        os: seed % 5 == 4,
        early: seed % 5 != 4 && seed % 2 == 1,
        history: (seed % 3) as u8,
        outcome: Outcome::default(),
    };
    match plan {
        Plan::Lives(lives) => {
            for _ in 0..lives {
                let crash = world.random.random_range(1..200);
                let crash = world.random.random_bool(0.8).then(|| world.disk.operations() + crash);
                let per_mille = *[0, 0, 20, 60].get(world.random.random_range(0..4)).unwrap();
                world.life(crash, if world.os { 0 } else { per_mille }, 60);
            }
        }
        Plan::OneLife(crash) => world.life(crash, 0, 80),
    }
    world.outcome.operations = world.disk.operations();
    world.end();
    world.life(None, 0, 5);
    world.outcome.trace = world.disk.trace();
    world.outcome
}

fn is_there(stream: &Stream, offset: u64) -> bool {
    let found = stream.try_frames(offset, 0).unwrap();
    stream.durable_end() > offset && found.frames.iter().any(|frame| frame.base_offset == offset)
}

fn text(next: &mut u64, len: usize) -> String {
    *next += 1;
    format!("{next:06}{}", "x".repeat(len))
}

impl World {
    fn open(&self) -> Option<(Journal, wasmill_buffer::Recovery)> {
        let options = Options {
            file_bytes: 16 << 10,
            max_journal_bytes: 64 << 10,
            memory_bytes: 16 << 10,
            durability: if self.os { Durability::Os } else { Durability::Fsync },
            ..Options::default()
        };
        match Journal::open_stepped(Arc::new(self.disk.clone()), Path::new("/data"), options) {
            Ok(opened) => Some(opened),
            Err(OpenError::Disk { .. }) if self.disk.is_off() => None,
            Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
        }
    }

    /// A third of the seeds keeps all history, another some.
    fn options(&self) -> StreamOptions {
        let bytes = [Some(u64::MAX), Some(20_000), None][usize::from(self.history)];
        let retention = bytes.map(|bytes| Retention { bytes, age: Duration::MAX });
        StreamOptions { max_bytes: 1 << 30, retention }
    }

    /// From open to crash, kill or close.
    fn life(&mut self, crash: Option<u64>, per_mille: u64, actions: u32) {
        self.disk.fail_at_random(0);
        self.disk.set_capacity(u64::MAX);
        self.disk.crash_at(crash);
        if let Some((journal, recovery)) = self.open() {
            check_recovery(&recovery, &self.told);
            self.told.retain(|key, _| recovery.streams.contains(key));
            self.requests.retain(|key, _| recovery.streams.contains(key));
            if self.meet(&journal) {
                self.disk.fail_at_random(per_mille);
                for _ in 0..actions {
                    if self.disk.is_off() {
                        break;
                    }
                    self.act(&journal);
                }
                let stats = journal.stats();
                self.outcome.segments |= stats.segment_bytes > 0;
                if per_mille == 0 {
                    // The bound, a half more, two files, and one of a size of its own.
                    assert!(stats.journal_bytes <= (64 + 32 + 3 * 16) << 10, "{stats:?}");
                }
                self.disk.fail_at_random(0);
                if !self.disk.is_off() {
                    self.send_all_again(&journal);
                }
                if !self.disk.is_off() {
                    self.check(&journal);
                    if self.random.random_bool(0.5) {
                        let _closed: Result<(), AppendError> = journal.drive(journal.close());
                    }
                }
            }
            self.streams.clear();
        }
        self.outcome.crashes += u64::from(self.disk.is_off());
        // The end of the process keeps what the cache holds; a loss of power does not.
        if self.random.random_bool(0.6) {
            self.end();
        } else {
            self.disk.restart();
        }
    }

    fn end(&self) {
        self.disk.crash();
        if self.os { self.disk.restart() } else { self.disk.reboot() }
    }

    /// Takes the streams that are there, and compares.
    fn meet(&mut self, journal: &Journal) -> bool {
        let keys: Vec<StreamKey> = self.told.keys().cloned().collect();
        for key in keys {
            let stream = match journal.drive(journal.stream(&key, self.options())) {
                Ok(stream) => stream,
                Err(error) => panic!("{key:?} is there, but {error}"),
            };
            if self.disk.is_off() {
                return false;
            }
            let told = self.told.get_mut(&key).unwrap();
            told.settle(&stream);
            told.check_history(&stream, self.history);
            self.streams.insert(key, stream);
        }
        true
    }

    fn check(&mut self, journal: &Journal) {
        journal.step();
        if self.disk.is_off() {
            return;
        }
        for (key, stream) in &self.streams {
            if let Some(told) = self.told.get_mut(key).filter(|told| !told.may_be_gone) {
                told.check(stream);
                told.check_history(stream, self.history);
            }
        }
    }

    fn some_stream(&mut self) -> Option<(StreamKey, Stream)> {
        let count = self.streams.len();
        let index = if count == 0 { return None } else { self.random.random_range(0..count) };
        self.streams.iter().nth(index).map(|(key, stream)| (key.clone(), stream.clone()))
    }

    fn act(&mut self, journal: &Journal) {
        match self.random.random_range(0..100) {
            0..50 => self.append(journal),
            50..62 => self.entry(journal),
            62..80 => self.checkpoint(journal),
            80..90 => self.create(journal),
            90..92 => self.delete(journal),
            92..94 => {
                let room = self.random.random_range(0..60_000);
                self.disk.set_capacity(self.disk.used() + room);
            }
            94..97 => self.disk.set_capacity(u64::MAX),
            _ => {
                if !self.disk.is_off() {
                    self.check(journal);
                }
            }
        }
    }

    /// A few appends to any streams that make one group.
    fn append(&mut self, journal: &Journal) {
        let mut group = Vec::new();
        for _ in 0..self.random.random_range(1..5) {
            let Some((key, stream)) = self.some_stream() else { break };
            let requests = self.requests.entry(key.clone()).or_default();
            let again = requests.again(&mut self.random).filter(|_| self.random.random_bool(0.3));
            if let Some(again) = again {
                group.push((key, stream, requests.texts(again), Some(again)));
                continue;
            }
            let mut texts = Vec::new();
            for _ in 0..self.random.random_range(1..4) {
                let len = if self.random.random_bool(0.3) { self.random.random_range(0..3000) } else { 20 };
                texts.push(text(&mut self.next, len));
            }
            let numbered = self.random.random_bool(0.4);
            let request = numbered.then(|| requests.another(&mut self.random, texts.clone()));
            group.push((key, stream, texts, request));
        }
        self.send(journal, group);
    }

    /// Every request once more, however it was answered.
    fn send_all_again(&mut self, journal: &Journal) {
        for (key, stream) in self.streams.clone() {
            let Some(requests) = self.requests.get(&key) else { continue };
            let all: Vec<_> = requests.all().into_iter().map(|this| (this, requests.texts(this))).collect();
            for some in all.chunks(5) {
                let some = some.iter().cloned();
                self.send(
                    journal,
                    some.map(|(this, texts)| (key.clone(), stream.clone(), texts, Some(this))).collect(),
                );
                if self.disk.is_off() {
                    return;
                }
            }
        }
    }

    fn send(&mut self, journal: &Journal, group: Vec<(StreamKey, Stream, Vec<String>, Option<Try>)>) {
        let mut waiting = Vec::new();
        let mut syncing = false;
        for (key, stream, texts, request) in group {
            let position = texts.last().unwrap().as_bytes()[..6].to_vec();
            let ends = texts.iter().scan(0, |end, text| {
                *end += text.len() as u32;
                Some(*end)
            });
            let mut records = Records::new(texts.concat(), ends.collect(), 5);
            records.source = Some(SourcePosition { name: "source".into(), partition: 3, position });
            if let Some(request) = request {
                self.requests.get_mut(&key).unwrap().number(request, &mut records);
            }
            records.early = self.early && self.random.random_bool(0.6);
            let early = records.early.then(|| stream.clone());
            match stream.submit(records) {
                Ok(pending) => waiting.push((key, texts, request, early, Ok(pending))),
                Err(AppendError::Deleted) => {}
                Err(error) if request.is_some() => waiting.push((key, texts, request, early, Err(error))),
                Err(error) => panic!("{error}"),
            }
            if self.early && self.random.random_bool(0.6) {
                let groups = journal.stats().groups;
                journal.step_to_sync();
                let is_written = journal.stats().groups > groups;
                self.outcome.beside += u64::from(is_written && syncing);
                syncing |= is_written;
            }
        }
        journal.step();
        let mut unknown = BTreeSet::new();
        for (key, texts, request, early, pending) in waiting {
            let result = pending.and_then(|pending| journal.drive(pending.wait()));
            // A receipt that came early is one only if the records are still there once they had their sync.
            let result = match (result, early) {
                (Ok(receipt), Some(stream))
                    if !receipt.duplicate && !is_there(&stream, receipt.first_offset) =>
                {
                    assert!(stream.voided().records > 0);
                    self.outcome.voided += 1;
                    Err(AppendError::Unknown)
                }
                (result, _) => result,
            };
            let told = self.told.get_mut(&key).unwrap();
            if let Some(request) = request {
                let requests = self.requests.get_mut(&key).unwrap();
                let first = requests.is_open(request);
                // Offsets are passed over once for both copies of a request.
                if requests.answered(request, &result, told) && unknown.insert(texts[0].clone()) {
                    told.append_unknown(texts);
                }
                match result {
                    Ok(receipt) => {
                        self.outcome.acknowledged += u64::from(!receipt.duplicate);
                        self.outcome.duplicates_after_crash += u64::from(first && receipt.duplicate);
                    }
                    Err(AppendError::Forgotten { .. }) => self.outcome.forgotten += 1,
                    Err(AppendError::Conflict { .. }) => self.outcome.conflicts += 1,
                    Err(_) => {}
                }
                continue;
            }
            match result {
                Ok(receipt) => {
                    self.outcome.acknowledged += 1;
                    told.append_acknowledged(receipt.first_offset, texts);
                }
                Err(AppendError::Unknown) => told.append_unknown(texts),
                Err(AppendError::Storage { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn entry(&mut self, journal: &Journal) {
        let Some((key, stream)) = self.some_stream() else { return };
        let len = self.random.random_range(0..4000);
        let body = text(&mut self.next, len);
        let result = journal.drive(stream.entry(EntryKind::Outcome, 0..1, body.clone()));
        let told = self.told.get_mut(&key).unwrap();
        match result {
            Ok(position) => {
                assert!(told.entries.insert(position, body).is_none(), "{position:?} was given away");
            }
            Err(AppendError::Unknown) => {
                told.unknown_entries.insert(body);
            }
            Err(AppendError::Storage { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn checkpoint(&mut self, journal: &Journal) {
        let Some((key, stream)) = self.some_stream() else { return };
        let told = self.told.get_mut(&key).unwrap();
        let durable = self.random.random_bool(0.4);
        // The slow half of the streams lets go of little.
        let share = if key.name.as_bytes()[0] % 2 == 0 { 8 } else { 1 };
        let before = told.points.last().cloned().unwrap_or_default();
        let records_from = before.records_from + (told.end.saturating_sub(before.records_from)) / share;
        let entries_from = match told.entries.keys().nth(told.entries.len() / 2) {
            Some(position) if share > 1 => (*position).max(before.entries_from),
            _ => stream.journal_end(),
        };
        let body = text(&mut self.next, 10);
        let point = Point { body: body.clone(), records_from, entries_from };
        told.points.push(point.clone());
        let result = journal.drive(stream.checkpoint(body, records_from, entries_from, durable));
        match result {
            Ok(()) if durable => told.point_acknowledged(point),
            Ok(()) | Err(AppendError::Unknown) => {}
            Err(AppendError::Storage { .. }) => {
                told.points.pop();
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn create(&mut self, journal: &Journal) {
        if self.told.len() >= 4 {
            return;
        }
        let name = char::from(b'a' + self.random.random_range(0..6)).to_string();
        let key = StreamKey { tenant: "t".into(), name };
        if self.told.contains_key(&key) {
            return;
        }
        match journal.drive(journal.stream(&key, self.options())) {
            Ok(stream) => {
                let told = Told { incarnation: Some(stream.incarnation()), ..Told::default() };
                self.told.insert(key.clone(), told);
                self.streams.insert(key, stream);
            }
            Err(StreamError::Append(AppendError::Unknown)) => {
                self.told.insert(key, Told { may_be_gone: true, ..Told::default() });
            }
            Err(StreamError::Append(AppendError::Storage { .. })) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn delete(&mut self, journal: &Journal) {
        let Some((key, stream)) = self.some_stream() else { return };
        match journal.drive(stream.delete()) {
            Ok(()) => {
                self.told.remove(&key);
                self.requests.remove(&key);
                self.streams.remove(&key);
            }
            Err(AppendError::Unknown) => {
                self.told.get_mut(&key).unwrap().may_be_gone = true;
                self.streams.remove(&key);
            }
            Err(AppendError::Storage { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
