//! What a shadow has found so far, bounded: counts, a few samples of each kind of difference, cost, faults, log lines.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use wasmill_transform::{Digest, Level, LogSink, TransformReport};

use crate::pipeline::fate::{Side, shown};

/// Samples of each kind of difference.
const SAMPLES_MAX: usize = 5;
const FAULTS_MAX: usize = 5;
const LOG_LINES_MAX: usize = 20;

/// How a record's fate under the candidate differs from its fate under the live version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// The candidate keeps it, the live version drops it.
    Kept,
    /// The candidate drops it, the live version keeps it.
    Dropped,
    /// Other rows come of it.
    Changed,
    /// The same rows come of it, for another output or partition.
    Elsewhere,
    /// It fails under the candidate alone.
    Failed,
    /// It fails under the live version alone.
    Mended,
}

/// A record whose fate differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub difference: Difference,
    pub offset: i64,
    pub before: String,
    pub live: Side,
    pub candidate: Side,
}

/// What one version took for the slices that were compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU time of the plugin's calls.
    pub cpu_ns: u64,
    /// The same of all transforms of the stream.
    pub chain_cpu_ns: u64,
    /// Largest linear memory of an instance of the plugin.
    pub memory_bytes_peak: u64,
    /// Calls that ended in a trap, in time or memory run out, or in nonsense.
    pub traps: u64,
}

impl Cost {
    /// Adds what the plugin at these places of the chain took.
    pub(super) fn add(&mut self, reports: &[TransformReport], places: &[usize]) {
        let ns = |report: &TransformReport| u64::try_from(report.cpu.as_nanos()).unwrap_or(u64::MAX);
        self.chain_cpu_ns += reports.iter().map(ns).sum::<u64>();
        for report in places.iter().filter_map(|place| reports.get(*place)) {
            self.cpu_ns += ns(report);
            self.memory_bytes_peak = self.memory_bytes_peak.max(report.memory_bytes_peak);
            self.traps += report.traps;
        }
    }
}

/// Slices since the shadow began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slices {
    /// That the stream ran.
    pub seen: u64,
    pub compared: u64,
    /// That were to be compared, but the shadow was not done with those before.
    pub skipped: u64,
    /// That the candidate could not finish: it did not start, or took too long for the slice as a whole.
    pub unfinished: u64,
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowReport {
    pub plugin: String,
    pub stream: String,
    pub live: Digest,
    pub candidate: Digest,
    pub sample_percent: u8,
    /// Milliseconds since 1970; a shadow begins anew with every start and every change of the live version.
    pub since_ms: u64,
    /// Why it compares nothing any more; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    pub slices: Slices,
    #[serde(skip)]
    pub(super) unfinished_in_a_row: u32,
    /// Of the slices that were compared.
    pub records: u64,
    /// Records with the same fate under both.
    pub same: u64,
    /// By kind; a kind that did not occur is 0.
    pub differences: BTreeMap<Difference, u64>,
    /// Rows that no record stands behind.
    pub own_rows_live: u64,
    pub own_rows_candidate: u64,
    pub cost_live: Cost,
    pub cost_candidate: Cost,
    /// The first faults of the candidate.
    #[serde(default)]
    pub faults: Vec<String>,
    /// The first lines that the candidate logged; they go nowhere else.
    #[serde(default)]
    pub log: Vec<String>,
    #[serde(default)]
    pub samples: Vec<Sample>,
}

impl ShadowReport {
    pub(super) fn new(
        stream: &str,
        plugin: &str,
        live: Digest,
        candidate: Digest,
        sample_percent: u8,
    ) -> Self {
        use Difference::{Changed, Dropped, Elsewhere, Failed, Kept, Mended};
        let kinds = [Kept, Dropped, Changed, Elsewhere, Failed, Mended];
        ShadowReport {
            plugin: plugin.to_owned(),
            stream: stream.to_owned(),
            live,
            candidate,
            sample_percent,
            since_ms: u64::try_from(crate::pipeline::stats::wall_clock_ns() / 1_000_000).unwrap_or(0),
            stopped: None,
            slices: Slices::default(),
            unfinished_in_a_row: 0,
            records: 0,
            same: 0,
            differences: kinds.map(|kind| (kind, 0)).into(),
            own_rows_live: 0,
            own_rows_candidate: 0,
            cost_live: Cost::default(),
            cost_candidate: Cost::default(),
            faults: Vec::new(),
            log: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// Counts a difference; `sample` is made only if there is room for it.
    pub(super) fn differs(&mut self, kind: Difference, sample: impl FnOnce() -> Sample) {
        *self.differences.entry(kind).or_default() += 1;
        if self.samples.iter().filter(|sample| sample.difference == kind).count() < SAMPLES_MAX {
            self.samples.push(sample());
        }
    }

    pub(super) fn fault(&mut self, text: &str) {
        let text = shown(text.as_bytes());
        if self.faults.len() < FAULTS_MAX && !self.faults.contains(&text) {
            self.faults.push(text);
        }
    }
}

/// The first log lines of a candidate.
#[derive(Default)]
pub(super) struct Lines(Mutex<Vec<String>>);

impl Lines {
    pub(super) fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl LogSink for Lines {
    fn line(&self, transform: &str, level: Level, message: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < LOG_LINES_MAX {
            lines.push(shown(format!("{transform}: {level:?}: {message}").as_bytes()));
        }
    }

    fn dropped(&self, _transform: &str, _lines: u64) {}
}
