//! A test kit for plugins: records in, rows and verdicts out, on the host's own in-memory chunk.
//!
//! ```
//! use wasmill_sdk::{Chunk, Plugin, Setup};
//!
//! struct DropAll;
//!
//! impl Plugin for DropAll {
//!     fn configure(_config: &str, _setup: &mut Setup) -> Result<Self, String> {
//!         Ok(DropAll)
//!     }
//!     fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
//!         rows.keep(&vec![0; rows.len() as usize]);
//!         Ok(())
//!     }
//! }
//!
//! let outcome = wasmill_sdk::testing::run::<DropAll>("{}", &[r#"{"a":1}"#]);
//! assert!(outcome.rows().is_empty());
//! ```
//! As on the host, an `Err` of `process` costs one record: the chunk is run again record by record, in fresh
//! instances. [`cases`] runs a folder of cases three ways (warm, fresh, cut differently) and compares.

mod case;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use wasmill_chunk::{
    Cells, CellsRef, Chunk, ChunkLimits, Column, ColumnRef, FinishOptions, Input, Layout, RowMeta, RowSink,
    Verdicts, state as state_byte,
};

use crate::Plugin;
use crate::event_time::{self, Call};
use crate::log::Level;
use crate::native::{Grants, Native};
use crate::state;

pub use case::cases;

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At least one row left.
    Passed,
    /// No row left.
    Dropped,
    /// It failed for this reason.
    Failed(String),
}

/// Records that failed, by number, and why.
type Failures = Vec<(usize, String)>;

/// A row that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Offset of the record that it came from; -1 for fresh rows.
    pub offset: i64,
    /// Position among the rows of its record.
    pub child: u32,
    /// Number of the output.
    pub route: u32,
    /// Partition names and values.
    pub partition: Vec<(String, String)>,
    /// The key, if set.
    pub key: Option<String>,
    /// The payload.
    pub payload: String,
}

/// What became of all records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows in the order in which they left.
    pub emitted: Vec<Row>,
    /// One per record.
    pub verdicts: Vec<Verdict>,
}

impl Outcome {
    fn fail(&mut self, failed: &BTreeMap<usize, String>) {
        for (number, reason) in failed {
            if let Some(verdict) = self.verdicts.get_mut(*number) {
                *verdict = Verdict::Failed(reason.clone());
            }
        }
    }

    /// The payloads that left.
    #[must_use]
    pub fn rows(&self) -> Vec<&str> {
        self.emitted.iter().map(|row| row.payload.as_str()).collect()
    }

    /// Record number and reason of the failures.
    #[must_use]
    pub fn reasons(&self) -> Vec<(usize, &str)> {
        let mut reasons = Vec::new();
        for (row, verdict) in self.verdicts.iter().enumerate() {
            if let Verdict::Failed(reason) = verdict {
                reasons.push((row, reason.as_str()));
            }
        }
        reasons
    }
}

/// A run to be set up: config, grants, arrival times, how the records are cut into chunks.
#[derive(Clone, Debug)]
pub struct Run {
    config: String,
    grants: Grants,
    arrival: i64,
    chunk_rows: usize,
    fresh: bool,
    /// Of the records, and the delay.
    times: Option<(Vec<Option<i64>>, i64)>,
    /// By name, of each record.
    attributes: Vec<(String, Vec<Option<String>>)>,
}

/// Arrival of the first record: 2026-11-22T00:00:00Z. Each record arrives a millisecond after the one before.
pub const ARRIVAL: i64 = 1_795_305_600_000_000_000;
const ARRIVAL_STEP: u32 = 1_000_000;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

impl Run {
    /// A run with this config (JSON text) and nothing granted.
    #[must_use]
    pub fn new(config: &str) -> Self {
        let grants = Grants { outputs: vec!["default".to_owned()], ..Grants::default() };
        Self {
            config: config.to_owned(),
            grants,
            arrival: ARRIVAL,
            chunk_rows: 500,
            fresh: false,
            times: None,
            attributes: Vec::new(),
        }
    }

    /// Grants a file.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.grants.files.insert(name.to_owned(), content.into());
        self
    }

    /// Grants a secret.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.grants.secrets.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds an output behind the default one.
    #[must_use]
    pub fn output(mut self, name: &str) -> Self {
        self.grants.outputs.push(name.to_owned());
        self
    }

    /// Cuts the records into chunks of so many rows (500 unless told), at most 4000.
    #[must_use]
    pub fn chunk_rows(mut self, rows: usize) -> Self {
        self.chunk_rows = rows.clamp(1, 4000);
        self
    }

    /// A fresh instance for every chunk.
    #[must_use]
    pub fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// The stream has event time: that of each record, in nanoseconds, and how much later than newer ones others may come. The
    /// plugin is told of the watermark after each chunk.
    #[must_use]
    pub fn event_time(mut self, times: Vec<Option<i64>>, delay: i64) -> Self {
        self.times = Some((times, delay));
        self
    }

    /// The records have this attribute: each the value in its place.
    #[must_use]
    pub fn attribute(mut self, name: &str, values: Vec<Option<String>>) -> Self {
        self.attributes.push((name.to_owned(), values));
        self
    }

    /// The attributes of one record.
    fn attributes_of(&self, record: usize) -> Vec<(String, Cells)> {
        let values = self.attributes.iter().filter_map(|(name, values)| {
            let value = values.get(record)?.as_ref()?;
            let values = Column { data: value.clone().into_bytes(), ends: vec![small(value.len())] };
            Some((name.clone(), Cells { state: vec![state_byte::VALUE], values }))
        });
        values.collect()
    }

    /// The watermark in front of a record.
    fn watermark(&self, record: usize) -> i64 {
        let Some((times, delay)) = &self.times else { return i64::MIN };
        let newest = times.iter().take(record).flatten().max();
        newest.map_or(i64::MIN, |newest| newest.saturating_sub(*delay))
    }

    /// What a call on records in front of `end` sees of event time.
    fn clock(&self, rows: &[(usize, &[u8])], end: usize) -> Option<Call> {
        let (times, _) = self.times.as_ref()?;
        Some(Call {
            times: rows.iter().map(|(number, _)| times.get(*number).copied().flatten()).collect(),
            watermarks: rows.iter().map(|(number, _)| self.watermark(*number)).collect(),
            after: self.watermark(end),
            more: false,
        })
    }

    /// Configures the plugin and runs the records through it. State begins empty. `Err` is the refusal of `configure`.
    pub fn records<P: Plugin>(&self, records: &[impl AsRef<[u8]>]) -> Result<Outcome, String> {
        state::forget();
        event_time::begin(self.clock(&[], 0));
        let mut plugin = Native::<P>::configure(&self.config, &self.grants)?;
        let mut outcome = Outcome { emitted: Vec::new(), verdicts: vec![Verdict::Dropped; records.len()] };
        let records: Vec<(usize, &[u8])> = records.iter().map(AsRef::as_ref).enumerate().collect();
        for (number, rows) in records.chunks(self.chunk_rows).enumerate() {
            if self.fresh && number > 0 {
                plugin = Native::configure(&self.config, &self.grants)?;
            }
            self.chunk(&mut plugin, rows, &mut outcome)?;
            self.tell(&mut plugin, rows.last().map_or(0, |(number, _)| number + 1), &mut outcome)?;
        }
        event_time::begin(None);
        Ok(outcome)
    }

    /// Tells the plugin of the watermark in front of `end`, as often as it wants.
    fn tell<P: Plugin>(
        &self,
        plugin: &mut Native<P>,
        end: usize,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let watermark = self.watermark(end);
        if watermark == i64::MIN {
            return Ok(());
        }
        loop {
            let layout = Layout::new(&[plugin.fields().to_vec()]).map_err(|error| error.to_string())?;
            let mut chunk = Chunk::new(Arc::new(layout), ChunkLimits::default());
            chunk.enter(0, SEED);
            state::begin(self.arrival);
            event_time::begin(self.clock(&[], end));
            plugin.on_watermark(watermark, &mut chunk)?;
            chunk.apply().map_err(|error| error.to_string())?;
            let mut gather = Gather::default();
            chunk.finish(&FinishOptions::default(), &mut gather, &mut Verdicts::default());
            outcome.emitted.extend(gather.rows);
            if !event_time::begin(self.clock(&[], end)).is_some_and(|call| call.more) {
                return Ok(());
            }
        }
    }

    /// One chunk; where the plugin fails as a whole, its records one by one.
    fn chunk<P: Plugin>(
        &self,
        plugin: &mut Native<P>,
        rows: &[(usize, &[u8])],
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        match self.call(plugin, rows) {
            Ok((emitted, failed)) => {
                let failed: BTreeMap<usize, String> = failed.into_iter().collect();
                if state::has_written() && !failed.is_empty() {
                    // They take what was written with them.
                    state::rollback();
                    outcome.fail(&failed);
                    let mut left = rows.to_vec();
                    left.retain(|(number, _)| !failed.contains_key(number));
                    return if left.is_empty() { Ok(()) } else { self.chunk(plugin, &left, outcome) };
                }
                for row in &emitted {
                    let verdict = usize::try_from(row.offset).ok();
                    if let Some(verdict) = verdict.and_then(|number| outcome.verdicts.get_mut(number)) {
                        *verdict = Verdict::Passed;
                    }
                }
                outcome.emitted.extend(emitted);
                outcome.fail(&failed);
            }
            Err(reason) if rows.len() == 1 => outcome.fail(&BTreeMap::from([(rows[0].0, reason)])),
            Err(_) => {
                for row in rows {
                    *plugin = Native::configure(&self.config, &self.grants)?;
                    self.chunk(plugin, &[*row], outcome)?;
                }
            }
        }
        Ok(())
    }

    /// Rows that left, and records that failed.
    fn call<P: Plugin>(
        &self,
        plugin: &mut Native<P>,
        rows: &[(usize, &[u8])],
    ) -> Result<(Vec<Row>, Failures), String> {
        let layout = Layout::new(&[plugin.fields().to_vec()]).map_err(|error| error.to_string())?;
        let mut chunk = Chunk::new(Arc::new(layout), ChunkLimits::default());
        for (place, (number, record)) in rows.iter().enumerate() {
            let ends = [small(record.len())];
            let cells = self.attributes_of(*number);
            let attributes: Vec<(String, CellsRef<'_>)> =
                cells.iter().map(|(name, cells)| (name.clone(), cells.as_ref())).collect();
            let input = Input {
                attributes: &attributes,
                arrival: self.arrival + *number as i64 * i64::from(ARRIVAL_STEP),
                ..Input::of_payloads(*number as u64, ColumnRef { data: record, ends: &ends })
            };
            let taken = if place == 0 { chunk.begin(&input, 0..1) } else { chunk.extend(&input, 0..1) };
            taken.map_err(|error| error.to_string())?;
        }
        chunk.enter(0, SEED ^ rows.first().map_or(0, |(number, _)| *number as u64));
        // A run is one slice, and the time of a slice is the arrival of its first record.
        state::begin(self.arrival);
        event_time::begin(self.clock(rows, rows.last().map_or(0, |(number, _)| number + 1)));
        if let Err(error) = plugin.process(&mut chunk) {
            state::rollback();
            chunk.discard();
            return Err(error);
        }
        chunk.apply().map_err(|error| {
            state::rollback();
            error.to_string()
        })?;
        let mut gather = Gather::default();
        let mut report = Verdicts::default();
        chunk.finish(&FinishOptions::default(), &mut gather, &mut report);
        let failed = report.failed.into_iter().filter_map(|failure| {
            let (number, _) = rows.get(failure.input_row as usize)?;
            Some((*number, failure.reason))
        });
        Ok((gather.rows, failed.collect()))
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[derive(Default)]
struct Gather {
    rows: Vec<Row>,
    buffer: Vec<u8>,
}

impl RowSink for Gather {
    fn begin(&mut self, _row: &RowMeta<'_>) -> &mut Vec<u8> {
        self.buffer.clear();
        &mut self.buffer
    }

    fn end(&mut self, row: &RowMeta<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let partition = row.partition.values.iter().map(|(name, value)| (name.to_string(), text(value)));
        self.rows.push(Row {
            offset: row.offset,
            child: row.child,
            route: row.route,
            partition: partition.collect(),
            key: row.key.map(text),
            payload: text(&self.buffer),
        });
    }
}

/// Runs records through a plugin. Panics where `configure` refuses: see [`refusal`].
pub fn run<P: Plugin>(config: &str, records: &[impl AsRef<[u8]>]) -> Outcome {
    match Run::new(config).records::<P>(records) {
        Ok(outcome) => outcome,
        Err(error) => panic!("the plugin refused its config: {error}"),
    }
}

/// The reason why `configure` refuses this config. Panics where it does not.
pub fn refusal<P: Plugin>(config: &str) -> String {
    match Native::<P>::configure(config, &Grants::default()) {
        Err(error) => error,
        Ok(_) => panic!("the plugin accepted the config {config}"),
    }
}

thread_local! {
    static LOG: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
}

/// At most so many log lines are kept.
const LOG_LINES: usize = 1000;

pub(crate) fn log_line(level: Level, message: &str) {
    LOG.with_borrow_mut(|lines| {
        if lines.len() < LOG_LINES {
            lines.push((level, message.to_owned()));
        }
    });
}

/// Takes what plugins logged on this thread.
#[must_use]
pub fn take_log() -> Vec<(Level, String)> {
    LOG.take()
}
