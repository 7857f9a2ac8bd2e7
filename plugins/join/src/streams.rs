//! Two kinds of records of one stream, over the columns of a chunk.

use wasmill_keyed::key::{Part, parts, quote};
use wasmill_keyed::{Address, By, EventTime, Fate, State, Table};
use wasmill_sdk::{Chunk, Field, Setup, TextColumn};

use crate::config::{Kind, SideConfig, StreamsConfig};
use crate::engine::{self, Joined, Record, Side, Spec, Tables};

/// Longest record that is kept.
pub const PAYLOAD_MAX: usize = 64 << 10;
/// The attribute that says which of a stream's sources a record came from.
const SOURCE: &str = "wasmill.source";
/// Most records of a key that may be asked for.
const ROWS_MAX: usize = 10_000;

/// The configured join.
#[derive(Debug)]
pub struct Streams {
    spec: Spec,
    time: EventTime,
    by: By,
    /// The field that says which side a record is of; none: its source does.
    side: Option<Field>,
    left: Named,
    right: Named,
    late: Fate,
    others: Fate,
}

/// A side by the text of its records, and the beginning of the field that gets them: `"name":`.
#[derive(Debug)]
struct Named {
    is: Vec<u8>,
    into: Vec<u8>,
}

/// What tells the records of a side: the text of the field `side`, or the name of a source.
fn told_by<'c>(config: &'c StreamsConfig, name: &str, side: &'c SideConfig) -> Result<&'c str, String> {
    match (&config.side, &side.is, &side.source) {
        (Some(_), Some(is), None) => Ok(is),
        (None, None, Some(source)) => Ok(source),
        (Some(_), ..) => Err(format!(
            "config: with `side`, `{name}` needs `is`, the text of that field in its records, and no `source`"
        )),
        (None, ..) => Err(format!(
            "config: `{name}` needs `source`, the source that its records come from, and no `is`; or there is a field `side` \
             that says which side a record is of"
        )),
    }
}

impl Streams {
    /// Reads the config; `table` declares a table of the state by its name.
    pub fn new(
        config: &StreamsConfig,
        setup: &mut Setup,
        mut table: impl FnMut(&mut Setup, &str) -> Result<Table, String>,
    ) -> Result<Self, String> {
        if config.on.is_empty() {
            return Err("config: `on` needs a field".to_owned());
        }
        let (left, right) =
            (told_by(config, "left", &config.left)?, told_by(config, "right", &config.right)?);
        if left == right || config.left.into == config.right.into {
            let key = if config.side.is_some() { "an `is`" } else { "a `source`" };
            return Err(format!("config: `left` and `right` need {key} and an `into` of their own"));
        }
        if config.rows_max == 0 || config.rows_max > ROWS_MAX {
            return Err(format!("config: `rows_max` is not from 1 to {ROWS_MAX}"));
        }
        let named = |is: &str, into: &str| {
            let mut field = Vec::new();
            quote(into.as_bytes(), &mut field);
            field.push(b':');
            Named { is: is.as_bytes().to_vec(), into: field }
        };
        let tables = Tables {
            entries: table(setup, "sides")?,
            timers: table(setup, "timers")?,
            progress: table(setup, "progress")?,
        };
        Ok(Self {
            spec: Spec {
                tables,
                before: config.before.ns(),
                after: config.after.ns(),
                delay: config.delay.ns(),
                left: matches!(config.kind, Kind::Left | Kind::Full),
                right: matches!(config.kind, Kind::Right | Kind::Full),
                rows_max: config.rows_max,
            },
            time: EventTime::or_of_stream(config.time.as_ref(), config.time_format, config.delay, setup)?,
            by: By::new(&config.on, setup)?,
            side: config.side.as_ref().map(|side| setup.field(&side.0)),
            left: named(left, &config.left.into),
            right: named(right, &config.right.into),
            late: config.late,
            others: config.others,
        })
    }

    /// Takes a chunk; `groups` are the key groups of its rows.
    pub fn process(&self, rows: &Chunk<'_>, groups: &[u8], state: &mut impl State) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut keep = vec![0; rows.len()];
        let mut settle = |row: usize, fate: Fate, reason: &str| match fate {
            Fate::Drop => {}
            Fate::Fail => rows.fail(row, reason),
            Fate::Keep => keep.get_mut(row).into_iter().for_each(|keep| *keep = 1),
        };
        let sides = self.side.map_or_else(|| rows.attributes(SOURCE), |side| rows.text(side));
        let payloads = rows.payloads();
        let (times, watermarks) = (self.time.read(rows), self.time.watermarks(rows));
        let keys = self.by.read(rows, groups);
        let (mut records, mut of_record) = (Vec::new(), Vec::new());
        for (row, (time, key)) in times.into_iter().zip(&keys.of_row).enumerate() {
            let side = match sides.get(row) {
                Some(side) if side == self.left.is => Side::Left,
                Some(side) if side == self.right.is => Side::Right,
                _ => {
                    settle(row, self.others, "it is of neither side of the join");
                    continue;
                }
            };
            let payload = payloads.get(row);
            let record = time.and_then(|time| {
                let number = key.map_err(str::to_owned)? as usize;
                if payload.len() > PAYLOAD_MAX {
                    return Err(format!(
                        "it has more than {PAYLOAD_MAX} bytes, too many to be kept for a join"
                    ));
                }
                let key = keys.keys.get(number).cloned().unwrap_or_default();
                let has_value = parts(&key).all(|part| !matches!(part, Part::Missing | Part::Null));
                let group = keys.groups.get(number).copied().unwrap_or(0);
                let before = watermarks.as_ref().and_then(|watermarks| watermarks.get(row)).copied();
                Ok(Record {
                    address: has_value.then(|| Address::new(group, key)),
                    side,
                    time,
                    payload,
                    before,
                })
            });
            match record {
                Ok(record) => {
                    records.push(record);
                    of_record.push(row);
                }
                Err(reason) => rows.fail(row, &reason),
            }
        }
        let outcome = engine::process(&self.spec, state, &records).map_err(|fault| fault.to_string())?;
        let row_of = |number: usize| of_record.get(number).copied().unwrap_or(usize::MAX);
        for number in outcome.late {
            settle(row_of(number), self.late, "it is late: what it could meet has been forgotten");
        }
        for number in outcome.crowded {
            rows.fail(row_of(number), "too many records of its key wait for the other side (`rows_max`)");
        }
        rows.keep(&keep);
        self.emit(rows, &records, row_of, &outcome.joined);
        Ok(())
    }

    /// Gives what can meet nothing any more at the stream's watermark.
    pub fn on_watermark(&self, ns: i64, rows: &Chunk<'_>, state: &mut impl State) -> Result<(), String> {
        if !self.time.is_of_stream() {
            return Ok(());
        }
        let (outcome, more) = engine::advance(&self.spec, state, ns).map_err(|fault| fault.to_string())?;
        if more {
            wasmill_sdk::event_time::more();
        }
        self.emit(rows, &[], |_| usize::MAX, &outcome.joined);
        Ok(())
    }

    /// Pairs as rows of the record that completed them, what is alone as rows of their own.
    fn emit(
        &self,
        rows: &Chunk<'_>,
        records: &[Record<'_>],
        row_of: impl Fn(usize) -> usize,
        joined: &[Joined],
    ) {
        let (mut sources, mut pairs, mut alone) = (Vec::new(), TextColumn::new(), TextColumn::new());
        for joined in joined {
            match joined {
                Joined::Pair { record: number, other } => {
                    let Some(record) = records.get(*number) else { continue };
                    sources.push(u32::try_from(row_of(*number)).unwrap_or(u32::MAX));
                    match record.side {
                        Side::Left => self.write(record.payload, other, &mut pairs),
                        Side::Right => self.write(other, record.payload, &mut pairs),
                    }
                }
                Joined::Alone { side: Side::Left, payload } => self.write(payload, b"null", &mut alone),
                Joined::Alone { side: Side::Right, payload } => self.write(b"null", payload, &mut alone),
            }
        }
        if !sources.is_empty() {
            let derived = rows.derive(&sources);
            derived.set_payloads(&pairs);
            rows.emit(derived);
        }
        if !alone.is_empty() {
            let fresh = rows.fresh(u32::try_from(alone.len()).unwrap_or(u32::MAX));
            fresh.set_payloads(&alone);
            rows.emit(fresh);
        }
    }

    fn write(&self, left: &[u8], right: &[u8], out: &mut TextColumn) {
        let buffer = out.buffer();
        buffer.push(b'{');
        buffer.extend_from_slice(&self.left.into);
        buffer.extend_from_slice(left);
        buffer.push(b',');
        buffer.extend_from_slice(&self.right.into);
        buffer.extend_from_slice(right);
        buffer.push(b'}');
        out.finish();
    }
}
