//! The engine over the columns of a chunk.

use wasmill_keyed::{Address, By, EventTime, State, Table};
use wasmill_sdk::{Chunk, Field, FloatColumn, Floats, IntColumn, Setup, Text};

use crate::config::Config;
use crate::engine::{self, Kept, Record, Spec};

/// The configured transform.
#[derive(Debug)]
pub struct Features {
    spec: Spec,
    time: EventTime,
    by: By,
    /// The fields that are kept, with their names; `true`: a print of the value.
    inputs: Vec<(Field, String, bool)>,
    outputs: Vec<Field>,
}

/// A column that is read.
enum Column {
    Numbers(Floats),
    Values(Text),
}

impl Features {
    /// Reads the config; what is kept goes to `table`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(config: &Config, setup: &mut Setup, table: Table) -> Result<Self, String> {
        let plan = config.plan()?;
        let named: Vec<_> = plan.fields.iter().map(|(path, print)| (path.0.clone(), *print)).collect();
        let print = xxhash_rust::xxh3::xxh3_64(format!("{named:?}").as_bytes()) as u32;
        let inputs = plan.fields.iter();
        let inputs = inputs.map(|(path, print)| (setup.field(&path.0), path.shown(), *print)).collect();
        let outputs = plan.features.iter().map(|feature| {
            let mut path = config.into.0.clone();
            path.push(feature.name.clone());
            setup.field(&path)
        });
        Ok(Self {
            outputs: outputs.collect(),
            inputs,
            time: EventTime::new(config.time.as_ref(), config.time_format, setup)?,
            by: By::new(&config.by, setup)?,
            spec: Spec { table, features: plan.features, print, keep: config.keep },
        })
    }

    /// Takes a chunk; `groups` are the key groups of its rows.
    ///
    /// # Errors
    /// State that cannot be read or kept.
    pub fn process(&self, rows: &Chunk<'_>, groups: &[u8], state: &mut impl State) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        let keys = self.by.read(rows, groups);
        let columns: Vec<Column> = self
            .inputs
            .iter()
            .map(|(field, _, is_print)| match is_print {
                true => Column::Values(rows.raw_json(*field)),
                false => Column::Numbers(rows.floats(*field)),
            })
            .collect();
        let (mut records, mut of_row) = (Vec::new(), vec![None; rows.len()]);
        for (row, (time, key)) in self.time.read(rows).into_iter().zip(&keys.of_row).enumerate() {
            let record = time.and_then(|time| {
                let number = key.map_err(str::to_owned)? as usize;
                let key = keys.keys.get(number).cloned().unwrap_or_default();
                let group = keys.groups.get(number).copied().unwrap_or(0);
                let kept = Kept::new(time, self.values(&columns, row)?);
                Ok(Record { address: Address::new(group, key), kept })
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
        let found = engine::process(&self.spec, state, records).map_err(|fault| fault.to_string())?;
        for (at, (feature, field)) in self.spec.features.iter().zip(&self.outputs).enumerate() {
            let of = |record: &Option<usize>| found.get((*record)?)?.get(at).copied();
            if feature.measure.is_count() {
                let mut column = IntColumn::new();
                of_row.iter().for_each(|record| column.push_option(of(record).flatten().map(whole)));
                rows.set_ints(*field, &column);
                continue;
            }
            let mut column = FloatColumn::new();
            for record in &of_row {
                match of(record) {
                    None => column.push_missing(),
                    Some(None) => column.push_null(),
                    Some(Some(value)) => column.push(value),
                }
            }
            rows.set_floats(*field, &column);
        }
        Ok(())
    }

    /// What is kept of a row; none where a value is missing or null.
    fn values(&self, columns: &[Column], row: usize) -> Result<Vec<Option<u64>>, String> {
        let value = |(column, (_, name, _)): (&Column, &(Field, String, bool))| match column {
            Column::Numbers(numbers) if numbers.states().get(row) == Some(&2) => {
                Err(format!("the value of `{name}` is no number"))
            }
            Column::Numbers(numbers) => Ok(numbers.get(row).map(f64::to_bits)),
            Column::Values(values) => Ok(values.get(row).map(xxhash_rust::xxh3::xxh3_64)),
        };
        columns.iter().zip(&self.inputs).map(value).collect()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "counts of a few thousand")]
fn whole(count: f64) -> i64 {
    count as i64
}
