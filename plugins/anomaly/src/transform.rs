//! The engine over the columns of a chunk: reads values, writes what the detectors say.

use wasmill_keyed::{Address, By, EventTime, State, Table};
use wasmill_sdk::{Chunk, Field, FloatColumn, Floats, Setup, TextColumn};

use crate::config::{Config, DETECTORS_MAX, Pass};
use crate::engine::{self, Detector, Record, Said};

/// The configured transform.
#[derive(Debug)]
pub struct Detection {
    table: Table,
    time: EventTime,
    by: By,
    detectors: Vec<Detector>,
    /// For each detector the fields that it reads, with their names.
    inputs: Vec<Vec<(Field, String)>>,
    outputs: Vec<Written>,
    pass: Pass,
}

/// Where a detector's words go.
#[derive(Clone, Copy, Debug)]
struct Written {
    score: Field,
    expected: Field,
    alarm: Field,
    starts: Field,
}

impl Detection {
    /// Reads the config; `table` declares a table of the state by its name.
    pub fn new(
        config: &Config,
        setup: &mut Setup,
        mut table: impl FnMut(&mut Setup, &str) -> Result<Table, String>,
    ) -> Result<Self, String> {
        if config.detectors.is_empty() || config.detectors.len() > DETECTORS_MAX {
            return Err(format!("config: `detectors` needs 1 to {DETECTORS_MAX} entries"));
        }
        let (mut detectors, mut inputs, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for (name, wanted) in &config.detectors {
            if name.is_empty() {
                return Err("config: a detector has no name".to_owned());
            }
            let (method, rule) =
                wanted.detector().map_err(|what| format!("config: detector `{name}`: {what}"))?;
            let definition = format!("{name} {:?} {}", wanted.fields(), method.name());
            let print = xxhash_rust::xxh3::xxh3_64(definition.as_bytes()) as u32;
            detectors.push(Detector { print, method, rule });
            inputs.push(wanted.fields().iter().map(|path| (setup.field(&path.0), path.shown())).collect());
            let mut field = |what: &str| {
                let mut path = config.into.0.clone();
                path.extend([name.clone(), what.to_owned()]);
                setup.field(&path)
            };
            outputs.push(Written {
                score: field("score"),
                expected: field("expected"),
                alarm: field("alarm"),
                starts: field("starts"),
            });
        }
        Ok(Self {
            table: table(setup, "keys")?,
            time: EventTime::new(config.time.as_ref(), config.time_format, setup)?,
            by: By::new(&config.by, setup)?,
            detectors,
            inputs,
            outputs,
            pass: config.pass,
        })
    }

    /// Takes a chunk; `groups` are the key groups of its rows.
    pub fn process(&self, rows: &Chunk<'_>, groups: &[u8], state: &mut impl State) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        let keys = self.by.read(rows, groups);
        let columns: Vec<Vec<Floats>> = self
            .inputs
            .iter()
            .map(|fields| fields.iter().map(|(field, _)| rows.floats(*field)).collect())
            .collect();
        let (mut records, mut of_row) = (Vec::new(), vec![None; rows.len()]);
        for (row, (time, key)) in self.time.read(rows).into_iter().zip(&keys.of_row).enumerate() {
            let record = time.and_then(|time| {
                let number = key.map_err(str::to_owned)? as usize;
                let key = keys.keys.get(number).cloned().unwrap_or_default();
                let group = keys.groups.get(number).copied().unwrap_or(0);
                let values = self.values(&columns, row)?;
                Ok(Record { address: Address::new(group, key), time, values })
            });
            match record {
                Ok(record) => {
                    if let Some(of_row) = of_row.get_mut(row) {
                        *of_row = Some(records.len());
                    }
                    records.push(record);
                }
                Err(reason) => rows.fail(row, &reason),
            }
        }
        let said = engine::process(&self.detectors, self.table, state, &records)
            .map_err(|fault| fault.to_string())?;
        let said: Vec<Option<&Vec<Said>>> =
            of_row.into_iter().map(|record| record.and_then(|record| said.get(record))).collect();
        self.write(rows, &said);
        if self.pass != Pass::All {
            let passes =
                |said: &Said| if self.pass == Pass::Alarms { said.raised.alarm } else { said.raised.starts };
            let keep = said.iter().map(|said| u8::from(said.is_some_and(|said| said.iter().any(passes))));
            rows.keep(&keep.collect::<Vec<u8>>());
        }
        Ok(())
    }

    /// The values of a row for each detector; none where one is missing or null.
    fn values(&self, columns: &[Vec<Floats>], row: usize) -> Result<Vec<Option<Vec<f64>>>, String> {
        let mut all = Vec::with_capacity(columns.len());
        for (fields, columns) in self.inputs.iter().zip(columns) {
            for ((_, name), column) in fields.iter().zip(columns) {
                if column.states().get(row) == Some(&2) {
                    return Err(format!("the value of `{name}` is no number"));
                }
            }
            all.push(columns.iter().map(|column| column.get(row)).collect());
        }
        Ok(all)
    }

    fn write(&self, rows: &Chunk<'_>, said: &[Option<&Vec<Said>>]) {
        for (at, output) in self.outputs.iter().enumerate() {
            let (mut scores, mut expected) = (FloatColumn::new(), FloatColumn::new());
            let (mut alarms, mut starts) = (TextColumn::new(), TextColumn::new());
            for said in said {
                let said = said.and_then(|said| said.get(at)).filter(|said| said.judged.is_some());
                scores.push_option(said.and_then(|said| said.judged).map(|judged| judged.score));
                expected.push_option(said.and_then(|said| said.judged?.expected));
                let flag = |is: bool| if is { &b"true"[..] } else { b"false" };
                alarms.push_option(said.map(|said| flag(said.raised.alarm)));
                // Said only where it is so: nearly no record begins an alarm.
                starts.push_option(said.filter(|said| said.raised.starts).map(|_| flag(true)));
            }
            rows.set_floats(output.score, &scores);
            rows.set_floats(output.expected, &expected);
            rows.set_raw(output.alarm, &alarms);
            rows.set_raw(output.starts, &starts);
        }
    }
}
