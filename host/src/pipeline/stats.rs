//! What one stream has done and what it holds, as counters that its tasks write and `/metrics` and the API
//! read. The counters here are the one truth; the metrics exporter copies them when it is asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::Serialize;
use wasmill_buffer::StreamKey;
use wasmill_config::{DEFAULT_TENANT, StreamSource};
use wasmill_ingest::SourceStats;
use wasmill_state::{Strands, TableUse};
use wasmill_transform::HttpUse;

use super::dead_letters::Stage;
use super::event_time::EventTimeStats;
use super::firehose_stats::FirehoseStats;
use super::usage::Counted;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One output of a stream. `emitted = delivered + failed + pending` at every moment between two commits.
#[derive(Debug, Default)]
pub struct OutputStats {
    pub name: String,
    /// Rows in durable outcomes for this output, delivered or not.
    pub emitted: Counter,
    pub delivered: Counter,
    pub delivery_failed: Counter,
    /// Rows in durable outcomes that are not delivered.
    pub pending: Gauge,
    /// Encoded bytes sealed and not delivered.
    pub undelivered_bytes: Gauge,
    pub undelivered_batches: Gauge,
    pub objects: Counter,
    pub bytes_raw: Counter,
    pub bytes: Counter,
    pub retries: Counter,
    /// Rows of batches that the fallback output took; they count as failed here.
    pub fallen_back: Counter,
    /// Stopped because an object that is not ours has the name of one of ours, or the like.
    pub stopped: AtomicBool,
    pub last_error: Mutex<Option<String>>,
    /// Columns that were taken from the first batch.
    pub columns: OnceLock<String>,
}

/// One source of a stream.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Of one of several.
    pub name: Option<String>,
    /// Its type.
    pub kind: &'static str,
    /// That have a receipt.
    pub records: Counter,
    /// Of these.
    pub bytes: Counter,
    /// Offset behind what it has brought, once it has come to its end.
    pub(crate) ended: OnceLock<u64>,
    own: OnceLock<Arc<SourceStats>>,
}

impl SourceCounters {
    pub(crate) fn of(source: &StreamSource) -> SourceCounters {
        let (name, kind) = (source.name.clone(), source.source.kind());
        SourceCounters { name, kind, ..SourceCounters::default() }
    }

    /// Sets what it counts itself, once.
    pub(crate) fn reads(&self, own: Option<Arc<SourceStats>>) {
        if let Some(own) = own {
            // Whoever opens the source is the only one who does.
            let _first = self.own.set(own);
        }
    }

    /// Of a source that the host reads itself.
    pub fn own(&self) -> Option<&SourceStats> {
        self.own.get().map(Arc::as_ref)
    }
}

/// Dead letters that were written, by the stage that they come from.
#[derive(Debug, Default)]
pub struct LetterStats {
    pub transform: Counter,
    pub encode: Counter,
    pub delivery: Counter,
    /// Of those, or of earlier runs: that a replay was done with, that were removed, that were too old.
    pub replayed: Counter,
    pub purged: Counter,
    pub expired: Counter,
    /// At present.
    pub kept: Gauge,
}

impl LetterStats {
    pub fn of(&self, stage: Stage) -> &Counter {
        match stage {
            Stage::Transform => &self.transform,
            Stage::Encode => &self.encode,
            Stage::Delivery => &self.delivery,
        }
    }

    /// Of all stages.
    pub fn get(&self) -> u64 {
        self.transform.get() + self.encode.get() + self.delivery.get()
    }
}

/// The output that a stream's dead letters have of their own.
#[derive(Debug, Default)]
pub struct LettersOutputStats {
    /// Whether there is one.
    pub configured: AtomicBool,
    pub delivered: Counter,
    pub objects: Counter,
    pub retries: Counter,
    /// When the oldest letter was kept that is not delivered, 0 when there is none.
    pub oldest_undelivered: AtomicI64,
    pub last_error: Mutex<Option<String>>,
}

impl LettersOutputStats {
    pub fn configured(&self) -> bool {
        self.configured.load(Ordering::Relaxed)
    }

    pub fn oldest_undelivered(&self, failed: Option<i64>) {
        self.oldest_undelivered.store(failed.unwrap_or(0), Ordering::Relaxed);
    }

    /// Seconds since the oldest letter was kept that is not delivered.
    pub fn undelivered_age_s(&self, now_ns: i64) -> f64 {
        age_s(self.oldest_undelivered.load(Ordering::Relaxed), now_ns)
    }

    pub fn error(&self, error: Option<String>) {
        *locked(&self.last_error) = error;
    }

    pub fn last_error(&self) -> Option<String> {
        locked(&self.last_error).clone()
    }
}

/// What holds a stream up; several things can at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pause {
    /// Plugins that fail or cannot run, or records that cannot be read back.
    Intake,
    /// Outcomes cannot be stored.
    Commit,
    /// Dead letters cannot be kept.
    Letters,
    /// State cannot be stored.
    State,
    /// Plugins fail when they are told how far event time has come.
    Watermark,
}

/// What is stored of a table of state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableStats {
    pub transform: String,
    pub table: String,
    /// Whose part of the table it is, where the stream's keys run in strands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strand: Option<u8>,
    /// How the stream's keys were parted for it.
    #[serde(skip)]
    pub parted: Option<Strands>,
    pub version: u32,
    pub ttl_ns: u64,
    pub entries: u64,
    pub bytes: u64,
}

/// One transform of a stream.
#[derive(Debug, Default, Clone, Serialize)]
pub struct TransformStats {
    pub name: String,
    pub plugin: String,
    pub digest: String,
    pub version: String,
    /// Digests of granted files by name.
    pub files: std::collections::BTreeMap<String, String>,
    pub calls: u64,
    pub cpu_ns: u64,
    pub memory_bytes_peak: u64,
    pub traps: u64,
    pub instances: u64,
    pub records_in: u64,
    pub bytes_in: u64,
    pub records_out: u64,
    pub bytes_out: u64,
    pub dead_letters: u64,
    /// Requests that it sent.
    #[serde(skip)]
    pub http: HttpUse,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct StreamStats {
    pub tenant: String,
    pub name: String,
    pub records_in: Counter,
    pub bytes_in: Counter,
    /// Of requests that their producer sent again; not among `records_in`.
    pub records_duplicate: Counter,
    pub processed: Counter,
    pub passed: Counter,
    pub dropped: Counter,
    pub failed: Counter,
    pub absorbed: Counter,
    pub emitted: Counter,
    pub dead_letters: LetterStats,
    pub dead_letter_bytes: Gauge,
    pub event_time: EventTimeStats,
    pub letters_output: LettersOutputStats,
    pub firehose: FirehoseStats,
    /// Rows that went to the overflow partition of their output.
    pub overflowed: Gauge,
    pub slices: Counter,
    pub commits: Counter,
    pub commit_retries: Counter,
    pub chunks_bisected: Counter,
    pub reloads: Counter,
    /// Requests that waited for what becomes of their records, and those of them that had no answer in time.
    pub decisions: Counter,
    pub decisions_late: Counter,
    pub reloads_refused: Counter,
    /// Fresh versions that failed too much.
    pub demotions: Counter,
    pub records_lost_to_corruption: Counter,
    /// By source, in the order of the configuration.
    pub sources: OnceLock<Vec<Arc<SourceCounters>>>,
    pub open_batches: Gauge,
    pub buffered_bytes: Gauge,
    /// Of delivered records that are kept.
    pub retained_bytes: Gauge,
    /// Arrival of the oldest of them, 0 when there is none.
    pub oldest_retained: AtomicI64,
    /// Bytes of records that were appended and have not come back from the transforms, counted from the start.
    pub backlog_bytes: AtomicI64,
    /// Arrival of the oldest record that is not delivered, 0 when there is none.
    pub oldest_undelivered: AtomicI64,
    pub oldest_open_batch: AtomicI64,
    /// Records in the buffer that have no durable outcome; once the stream has ended, those that are left.
    pub unprocessed: Gauge,
    /// All of its sources have come to their end, or were stopped.
    pub source_ended: AtomicBool,
    /// Why it is paused, by what pauses it.
    pub pauses: Mutex<BTreeMap<Pause, String>>,
    pub outputs: Vec<OutputStats>,
    pub transforms: Mutex<Vec<TransformStats>>,
    /// What its transforms keep.
    pub tables: Mutex<Vec<TableStats>>,
    /// What of it is in the usage already.
    pub(super) counted: Counted,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StreamStats {
    pub fn new(stream: &StreamKey, outputs: impl IntoIterator<Item = String>) -> StreamStats {
        let outputs =
            outputs.into_iter().map(|name| OutputStats { name, ..OutputStats::default() }).collect();
        let StreamKey { tenant, name } = stream.clone();
        StreamStats { tenant, name, outputs, ..StreamStats::default() }
    }

    /// For people: the tenant is told where it is not the first one.
    pub fn label(&self) -> String {
        label(&self.tenant, &self.name)
    }

    /// Its sources, once they are open.
    pub fn sources(&self) -> impl Iterator<Item = &SourceCounters> {
        self.sources.get().into_iter().flatten().map(Arc::as_ref)
    }

    /// Seconds since the oldest record arrived that is not delivered.
    pub fn freshness_s(&self, now_ns: i64) -> f64 {
        age_s(self.oldest_undelivered.load(Ordering::Relaxed), now_ns)
    }

    /// Seconds since the oldest record of an open batch arrived.
    pub fn batch_age_s(&self, now_ns: i64) -> f64 {
        age_s(self.oldest_open_batch.load(Ordering::Relaxed), now_ns)
    }

    /// Seconds since the oldest of the delivered records arrived that are kept.
    pub fn retained_age_s(&self, now_ns: i64) -> f64 {
        age_s(self.oldest_retained.load(Ordering::Relaxed), now_ns)
    }

    /// Says whether that is news: it was not paused by this, or for another reason.
    pub fn pause(&self, by: Pause, reason: &str) -> bool {
        let before = locked(&self.pauses).insert(by, reason.to_owned());
        before.is_none_or(|before| before != reason)
    }

    /// That does not hold it up any more. Says whether it did.
    pub fn resume(&self, by: Pause) -> bool {
        locked(&self.pauses).remove(&by).is_some()
    }

    pub fn is_paused_by(&self, by: Pause) -> bool {
        locked(&self.pauses).contains_key(&by)
    }

    /// Why it is paused, if it is.
    pub fn paused(&self) -> Option<String> {
        let pauses = locked(&self.pauses);
        let reasons: Vec<&str> = pauses.values().map(String::as_str).collect();
        if reasons.is_empty() { None } else { Some(reasons.join("; ")) }
    }

    /// Whether it cannot go on by itself: it is paused, or an output has stopped.
    pub fn is_held_up(&self) -> bool {
        !locked(&self.pauses).is_empty()
            || self.outputs.iter().any(|output| output.stopped.load(Ordering::Relaxed))
    }

    /// Grows whenever anything is done.
    pub fn done(&self) -> u64 {
        let delivered =
            self.outputs.iter().map(|output| output.delivered.get() + output.delivery_failed.get());
        self.processed.get() + self.dead_letters.get() + delivered.sum::<u64>()
    }

    /// So much is stored of its state.
    pub(crate) fn keeps(&self, tables: Vec<TableUse>) {
        let told = tables.into_iter().map(|table| {
            let strand = table.id.strand();
            TableStats {
                transform: table.id.transform().to_owned(),
                table: table.id.table().to_owned(),
                strand: strand.as_ref().map(|strand| strand.number),
                parted: strand.map(|strand| strand.of),
                version: table.spec.version,
                ttl_ns: table.spec.ttl_ns,
                entries: table.entries,
                bytes: table.bytes,
            }
        });
        *locked(&self.tables) = told.collect();
    }

    /// What is stored of its state; strands of a table one after another.
    pub fn kept(&self) -> Vec<TableStats> {
        locked(&self.tables).clone()
    }

    /// The same with the strands of each table as one.
    pub fn kept_whole(&self) -> Vec<TableStats> {
        let mut whole: Vec<TableStats> = Vec::new();
        for table in self.kept() {
            let same =
                |last: &&mut TableStats| (&last.transform, &last.table) == (&table.transform, &table.table);
            match whole.last_mut().filter(same) {
                Some(last) => {
                    last.entries += table.entries;
                    last.bytes += table.bytes;
                }
                None => whole.push(TableStats { strand: None, parted: None, ..table }),
            }
        }
        whole
    }

    pub fn with_transforms<R>(&self, read: impl FnOnce(&mut Vec<TransformStats>) -> R) -> R {
        read(&mut locked(&self.transforms))
    }
}

impl OutputStats {
    /// The invariant of every output: each emitted row is delivered, failed or pending.
    pub fn balanced(&self) -> bool {
        self.emitted.get() == self.delivered.get() + self.delivery_failed.get() + self.pending.get()
    }

    pub fn error(&self, error: Option<String>) {
        *locked(&self.last_error) = error;
    }

    pub fn last_error(&self) -> Option<String> {
        locked(&self.last_error).clone()
    }
}

/// A stream's name for people: the tenant is told where it is not the first one.
pub(crate) fn label(tenant: &str, name: &str) -> String {
    if tenant == DEFAULT_TENANT { name.to_owned() } else { format!("{tenant}/{name}") }
}

#[expect(clippy::cast_precision_loss, reason = "an age in seconds needs no 63 bits")]
fn age_s(arrival_ns: i64, now_ns: i64) -> f64 {
    if arrival_ns == 0 { 0.0 } else { (now_ns - arrival_ns).max(0) as f64 / 1e9 }
}

/// Nanoseconds since the epoch.
pub fn wall_clock_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
