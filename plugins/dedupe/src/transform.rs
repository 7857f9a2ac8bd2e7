//! The engine over the columns of a chunk.

use wasmill_keyed::{Address, By, EventTime, Fate, State, Table};
use wasmill_sdk::{Chunk, Field, Output, Setup, TextColumn};

use crate::config::Config;
use crate::engine::{self, Record, Spec, Tables, Verdict};

/// Longer keys are known by their digest (`XXH3`, 128 bits).
const KEY_MAX: usize = 32;

/// The configured transform.
#[derive(Debug)]
pub struct Deduplication {
    spec: Spec,
    time: EventTime,
    /// None: the payload is the key.
    by: Option<By>,
    duplicates: Fate,
    duplicates_output: Option<Output>,
    mark: Option<Field>,
    late: Fate,
    late_output: Option<Output>,
}

impl Deduplication {
    /// Reads the config; `table` declares a table of the state by its name.
    pub fn new(
        config: &Config,
        setup: &mut Setup,
        mut table: impl FnMut(&mut Setup, &str) -> Result<Table, String>,
    ) -> Result<Self, String> {
        config.check(setup.has_event_time())?;
        let tables = Tables {
            entries: table(setup, "passed")?,
            timers: table(setup, "timers")?,
            progress: table(setup, "progress")?,
        };
        let mut output = |name: &Option<String>| name.as_deref().map(|name| setup.output(name)).transpose();
        let (duplicates_output, late_output) =
            (output(&config.duplicates_output)?, output(&config.late_output)?);
        Ok(Self {
            spec: Spec {
                tables,
                within: config.within.ns(),
                delay: config.delay.ns(),
                extend: config.extend,
            },
            time: EventTime::or_of_stream(config.time.as_ref(), config.time_format, config.delay, setup)?,
            by: if config.by.is_empty() { None } else { Some(By::new(&config.by, setup)?) },
            duplicates: config.duplicates,
            duplicates_output,
            mark: config.mark.as_ref().map(|path| setup.field(&path.0)),
            late: config.late(),
            late_output,
        })
    }

    /// Takes a chunk; `groups` are the key groups of its rows.
    pub fn process(&self, rows: &Chunk<'_>, groups: &[u8], state: &mut impl State) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        let (mut records, mut of_record) = (Vec::new(), Vec::new());
        let addresses = self.addresses(rows, groups);
        let (times, watermarks) = (self.time.read(rows), self.time.watermarks(rows));
        for (row, (time, address)) in times.into_iter().zip(addresses).enumerate() {
            let before = watermarks.as_ref().and_then(|watermarks| watermarks.get(row)).copied();
            match time.and_then(|time| Ok(Record { address: address?, time, before })) {
                Ok(record) => {
                    records.push(record);
                    of_record.push(row);
                }
                Err(reason) => rows.fail(row, &reason),
            }
        }
        let verdicts = engine::process(&self.spec, state, records).map_err(|fault| fault.to_string())?;
        let mut keep = vec![1; rows.len()];
        let mut routes = vec![0; rows.len()];
        let mut marks = TextColumn::new();
        for (row, verdict) in of_record.into_iter().zip(verdicts) {
            let (fate, output, reason) = match verdict {
                Verdict::First => continue,
                Verdict::Duplicate => (
                    self.duplicates,
                    self.duplicates_output,
                    "it is a duplicate: a record of its key has passed",
                ),
                Verdict::Late => {
                    (self.late, self.late_output, "it is late: a record of its key may have been forgotten")
                }
            };
            match (fate, keep.get_mut(row), routes.get_mut(row)) {
                (Fate::Drop, Some(keep), _) => *keep = 0,
                (Fate::Keep, _, Some(route)) => *route = output.map_or(0, Output::number),
                (Fate::Fail, ..) => rows.fail(row, reason),
                _ => {}
            }
            if verdict == Verdict::Duplicate && self.mark.is_some() {
                marks.pad(row);
                marks.push("true");
            }
        }
        rows.keep(&keep);
        if routes.iter().any(|route| *route > 0) {
            rows.route(&routes);
        }
        if let (Some(field), false) = (self.mark, marks.is_empty()) {
            marks.pad(rows.len());
            rows.set_raw(field, &marks);
        }
        Ok(())
    }

    /// Forgets what is useless at the stream's watermark.
    pub fn on_watermark(&self, ns: i64, state: &mut impl State) -> Result<(), String> {
        if self.time.is_of_stream()
            && engine::advance(&self.spec, state, ns).map_err(|fault| fault.to_string())?
        {
            wasmill_sdk::event_time::more();
        }
        Ok(())
    }

    /// The address of each row's key.
    fn addresses(&self, rows: &Chunk<'_>, groups: &[u8]) -> Vec<Result<Address, &'static str>> {
        let Some(by) = &self.by else {
            let payloads = rows.payloads();
            let each = payloads.iter().zip(groups);
            return each.map(|(payload, group)| Ok(Address::new(*group, short(payload)))).collect();
        };
        let keys = by.read(rows, groups);
        let addresses: Vec<Address> =
            keys.keys.iter().zip(&keys.groups).map(|(key, group)| Address::new(*group, short(key))).collect();
        let of = |number: u32| addresses.get(number as usize).cloned().ok_or("its key is not known");
        keys.of_row.into_iter().map(|number| number.and_then(of)).collect()
    }
}

/// A key as it is kept: the bytes themselves or their digest, never mistaken for each other.
fn short(key: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(KEY_MAX + 1);
    if key.len() <= KEY_MAX {
        kept.push(0);
        kept.extend_from_slice(key);
    } else {
        kept.push(1);
        kept.extend_from_slice(&xxhash_rust::xxh3::xxh3_128(key).to_be_bytes());
    }
    kept
}
