//! The engine over the columns of a chunk: reads times, keys and values, fails what cannot be read, writes results.

use std::collections::HashSet;
use std::fmt;

use wasmill_keyed::key::{Part, part, quote};
use wasmill_keyed::{By, EventTime, Fate, State, Table, TimeFormat};
use wasmill_sdk::path::Path;
use wasmill_sdk::{Chunk, Field, Output, Setup, TextColumn};

use crate::aggregate::number::Number;
use crate::aggregate::{Aggregate, Value};
use crate::config::{AGGREGATES_MAX, Config, Emit};
use crate::engine::{self, Fired, Outcome, Record, Spec, Tables};

/// Most bytes of a value that `first` and `last` keep.
pub const VALUE_BYTES: usize = 4096;
/// Most bytes of a value that `approx_top_k` keeps, of which there are many.
pub const ITEM_BYTES: usize = 256;

/// The configured transform.
#[derive(Debug)]
pub struct Windows {
    spec: Spec,
    time: EventTime,
    time_format: TimeFormat,
    by: By,
    /// Field and name of the values of each aggregate; a count of rows has none.
    inputs: Vec<Option<(Field, String)>>,
    outputs: Vec<Field>,
    start: Field,
    end: Field,
    timing: Option<Field>,
    late: Fate,
    late_output: Option<Output>,
    ahead: Option<i64>,
    pass: bool,
}

/// A fingerprint of what state holds, as part of names that must change with it.
fn fingerprint(of: &str) -> u32 {
    xxhash_rust::xxh3::xxh3_64(of.as_bytes()) as u32
}

impl Windows {
    /// Reads the config; `table` declares a table of the state by its name.
    pub fn new(
        config: &Config,
        setup: &mut Setup,
        mut table: impl FnMut(&mut Setup, &str) -> Result<Table, String>,
    ) -> Result<Self, String> {
        let shape = config.window.shape()?;
        if config.aggregates.is_empty() || config.aggregates.len() > AGGREGATES_MAX {
            return Err(format!("config: `aggregates` needs 1 to {AGGREGATES_MAX} entries"));
        }
        let (early_every, early_records) = early(config)?;
        if config.late_output.is_some() && config.late != Fate::Keep {
            return Err("config: `late_output` needs `late = \"keep\"`".to_owned());
        }
        // Fields of a result stand in the order in which they are declared.
        let by = By::new(&config.by, setup)?;
        let (start, end) = (setup.field(&config.start.0), setup.field(&config.end.0));
        let timing = config.timing.as_ref().map(|path| setup.field(&path.0));
        // Keys of other fields would be read as those of these: they have a table of their own.
        let kind = if let crate::shape::Shape::Session { .. } = shape { "session" } else { "by end" };
        let print = fingerprint(&format!("{:?}{kind}", config.by));
        let tables = Tables {
            entries: table(setup, &format!("windows-{print:08x}"))?,
            timers: table(setup, &format!("timers-{print:08x}"))?,
            progress: table(setup, "progress")?,
        };
        let mut written = Written::default();
        config.by.iter().try_for_each(|path| written.add(path, Writer::Key))?;
        written.add(&config.start, Writer::Named("start"))?;
        written.add(&config.end, Writer::Named("end"))?;
        config.timing.iter().try_for_each(|path| written.add(path, Writer::Named("timing")))?;
        let (mut aggregates, mut inputs, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for (name, wanted) in &config.aggregates {
            let wrong = |what| format!("config: aggregate `{name}`: {what}");
            let aggregate = wanted.aggregate().map_err(wrong)?;
            let target = Path(name.split('.').map(str::to_owned).collect());
            if target.0.iter().any(String::is_empty) {
                return Err(wrong("a field has no empty keys".to_owned()));
            }
            written.add(&target, Writer::Aggregate(name))?;
            outputs.push(setup.field(&target.0));
            inputs.push(wanted.field.as_ref().map(|path| (setup.field(&path.0), path.shown())));
            // Quantiles and top-k need state of their own kind by error and counters; how they are shown does not.
            let definition = match &aggregate {
                Aggregate::ApproxPercentile { error, .. } => format!("percentile {error}"),
                Aggregate::ApproxTopK { counters, .. } => format!("top {counters}"),
                Aggregate::Variance { .. } => "variance".to_owned(),
                other => format!("{other:?}"),
            };
            aggregates.push((fingerprint(&format!("{name} {:?} {definition}", wanted.field)), aggregate));
        }
        // Results have the format whatever the time is from.
        let format = config.time.as_ref().map(|_| config.time_format);
        let time = EventTime::or_of_stream(config.time.as_ref(), format, config.delay, setup)?;
        Ok(Self {
            spec: Spec {
                tables,
                shape,
                aggregates,
                delay: config.delay.ns(),
                lateness: config.lateness.ns(),
                updates: config.emit == Emit::Update,
                early_every,
                early_records,
            },
            time_format: config.time_format,
            time,
            by,
            inputs,
            outputs,
            start,
            end,
            timing,
            late: config.late,
            late_output: config.late_output.as_deref().map(|name| setup.output(name)).transpose()?,
            ahead: config.ahead.map(wasmill_keyed::Span::ns),
            pass: config.pass,
        })
    }

    /// Takes a chunk; `groups` are the key groups of its rows.
    pub fn process(&self, rows: &Chunk<'_>, groups: &[u8], state: &mut impl State) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut failed = HashSet::new();
        let times = self.time.read(rows);
        let watermarks = self.time.watermarks(rows);
        let arrivals = self.ahead.map(|_| rows.arrival_times());
        let keys = self.by.read(rows, groups);
        let values = self.values(rows, &mut failed);
        let mut records = Vec::with_capacity(times.len());
        for (row, (time, key)) in times.into_iter().zip(&keys.of_row).enumerate() {
            if failed.contains(&row) {
                continue;
            }
            let record = time.and_then(|time| {
                let number = key.map_err(str::to_owned)? as usize;
                self.not_ahead(time, row, arrivals.as_deref())?;
                let key = keys.keys.get(number).map(Vec::as_slice).unwrap_or_default();
                let before = watermarks.as_ref().and_then(|watermarks| watermarks.get(row)).copied();
                Ok(Record { group: keys.groups.get(number).copied().unwrap_or(0), key, time, row, before })
            });
            match record {
                Ok(record) => records.push(record),
                Err(reason) => {
                    rows.fail(row, &reason);
                    failed.insert(row);
                }
            }
        }
        let outcome =
            engine::process(&self.spec, state, &records, &values).map_err(|fault| fault.to_string())?;
        for row in &outcome.crowded {
            rows.fail(*row, "its key has more than 1000 open sessions");
            failed.insert(*row);
        }
        self.settle(rows, &outcome, &failed);
        self.emit(rows, &outcome.fired);
        Ok(())
    }

    /// Gives what is due at the stream's watermark.
    pub fn on_watermark(&self, ns: i64, rows: &Chunk<'_>, state: &mut impl State) -> Result<(), String> {
        if !self.time.is_of_stream() {
            return Ok(());
        }
        let outcome = engine::advance(&self.spec, state, ns).map_err(|fault| fault.to_string())?;
        if outcome.more {
            wasmill_sdk::event_time::more();
        }
        self.emit(rows, &outcome.fired);
        Ok(())
    }

    /// What becomes of the records themselves.
    fn settle(&self, rows: &Chunk<'_>, outcome: &Outcome, failed: &HashSet<usize>) {
        let mut keep = vec![u8::from(self.pass); rows.len()];
        let mut routes = vec![0; rows.len()];
        for row in outcome.late.iter().filter(|row| !failed.contains(row)) {
            match self.late {
                Fate::Drop => {}
                Fate::Fail => rows.fail(*row, "it is late: the windows of its time have been closed"),
                Fate::Keep => {
                    if let (Some(keep), Some(route)) = (keep.get_mut(*row), routes.get_mut(*row)) {
                        *keep = 1;
                        *route = self.late_output.map_or(0, Output::number);
                    }
                }
            }
        }
        if routes.iter().any(|route| *route > 0) {
            rows.route(&routes);
        }
        rows.keep(&keep);
    }

    fn not_ahead(&self, time: i64, row: usize, arrivals: Option<&[i64]>) -> Result<(), String> {
        let (Some(ahead), Some(arrivals)) = (self.ahead, arrivals) else { return Ok(()) };
        let arrival = arrivals.get(row).copied().unwrap_or(i64::MAX);
        if time > arrival.saturating_add(ahead) {
            return Err("its time is further ahead of its arrival than `ahead` allows".to_owned());
        }
        Ok(())
    }

    /// A column of values for each aggregate; rows with a value of the wrong kind fail.
    fn values(&self, rows: &Chunk<'_>, failed: &mut HashSet<usize>) -> Vec<Vec<Value>> {
        let mut columns = Vec::with_capacity(self.inputs.len());
        for ((_, aggregate), input) in self.spec.aggregates.iter().zip(&self.inputs) {
            let Some((field, name)) = input else {
                columns.push(vec![Value::Number(Number::Int(1)); rows.len()]);
                continue;
            };
            let mut fail = |row: usize, reason: String| {
                if failed.insert(row) {
                    rows.fail(row, &reason);
                }
                Value::Absent
            };
            columns.push(if aggregate.wants_numbers() {
                let (ints, floats) = (rows.ints(*field), rows.floats(*field));
                let states = floats.states();
                (0..ints.len())
                    .map(|row| match (ints.get(row), floats.get(row)) {
                        (Some(number), _) => Value::Number(Number::Int(number)),
                        (None, Some(number)) => Value::Number(Number::Float(number)),
                        (None, None) if states.get(row) == Some(&2) => {
                            fail(row, format!("the value of `{name}` is no number"))
                        }
                        (None, None) => Value::Absent,
                    })
                    .collect()
            } else {
                let longest = match aggregate {
                    Aggregate::First | Aggregate::Last => VALUE_BYTES,
                    Aggregate::ApproxTopK { .. } => ITEM_BYTES,
                    _ => usize::MAX,
                };
                let texts = rows.text(*field);
                let raws = texts.states().contains(&2).then(|| rows.raw_json(*field));
                (0..texts.len())
                    .map(|row| {
                        let json = match part(&texts, raws.as_ref(), row) {
                            Part::Missing | Part::Null => return Value::Absent,
                            Part::Json(json) => json.to_vec(),
                            Part::Text(text) => {
                                let mut json = Vec::with_capacity(text.len() + 2);
                                quote(text, &mut json);
                                json
                            }
                        };
                        if json.len() > longest {
                            return fail(row, format!("the value of `{name}` has more than {longest} bytes"));
                        }
                        Value::Json(json)
                    })
                    .collect()
            });
        }
        columns
    }

    /// Writes results as rows of their own.
    fn emit(&self, rows: &Chunk<'_>, fired: &[Fired]) {
        if fired.is_empty() {
            return;
        }
        let fresh = rows.fresh(u32::try_from(fired.len()).unwrap_or(u32::MAX));
        self.by.write(&fresh, fired.iter().map(|fired| fired.key.as_slice()));
        let (mut starts, mut ends) = (TextColumn::new(), TextColumn::new());
        let mut timings = TextColumn::new();
        for fired in fired {
            self.time_format.write(fired.window.start, starts.buffer());
            starts.finish();
            self.time_format.write(fired.window.end, ends.buffer());
            ends.finish();
            timings.push(fired.timing.name());
        }
        fresh.set_raw(self.start, &starts);
        fresh.set_raw(self.end, &ends);
        if let Some(field) = self.timing {
            fresh.set_text(field, &timings);
        }
        for (at, field) in self.outputs.iter().enumerate() {
            let mut column = TextColumn::new();
            for fired in fired {
                column.push_option(fired.values.get(at).map(Vec::as_slice));
            }
            fresh.set_raw(*field, &column);
        }
        rows.emit(fresh);
    }
}

fn early(config: &Config) -> Result<(Option<i64>, Option<u64>), String> {
    let Some(early) = &config.early else { return Ok((None, None)) };
    if config.emit == Emit::Update {
        return Err("config: `early` says nothing beside `emit = \"update\"`".to_owned());
    }
    let (every, records) = (early.every.map(wasmill_keyed::Span::ns), early.records);
    match (every, records) {
        (None, None) => Err("config: `early` needs `every` or `records`".to_owned()),
        (Some(0), _) | (_, Some(0)) => {
            Err("config: `every` and `records` of `early` must not be 0".to_owned())
        }
        found => Ok(found),
    }
}

/// Who writes a field of the result.
#[derive(Clone, Copy)]
enum Writer<'a> {
    /// `by`.
    Key,
    /// The key of the config that names the field.
    Named(&'a str),
    /// The aggregate of this name.
    Aggregate(&'a str),
}

impl fmt::Display for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => write!(f, "the key (`by`)"),
            Self::Named(name) => write!(f, "`{name}`"),
            Self::Aggregate(name) => write!(f, "the aggregate `{name}`"),
        }
    }
}

impl Writer<'_> {
    /// What gives it another field.
    fn otherwise(self) -> String {
        match self {
            Self::Key => "leave one of them out of `by`".to_owned(),
            Self::Named(name) => format!("name another field in `{name}`"),
            Self::Aggregate(_) => "give the aggregate another name".to_owned(),
        }
    }
}

/// Fields of the result: none may be written twice.
#[derive(Default)]
struct Written<'a>(Vec<(Path, Writer<'a>)>);

impl<'a> Written<'a> {
    fn add(&mut self, path: &Path, writer: Writer<'a>) -> Result<(), String> {
        let clash =
            |(other, _): &&(Path, Writer<'_>)| other.0.starts_with(&path.0) || path.0.starts_with(&other.0);
        if let Some((other, its)) = self.0.iter().find(clash) {
            return Err(format!(
                "config: {writer} writes the field `{}` of the result, where {its} writes `{}`: {}",
                path.shown(),
                other.shown(),
                writer.otherwise()
            ));
        }
        self.0.push((path.clone(), writer));
        Ok(())
    }
}
