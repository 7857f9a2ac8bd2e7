//! The `features` plugin: turns fields of a record into a feature vector for machine learning and writes it beside
//! them.
//!
//! The vector depends on the config and the record alone, to the last bit, on every machine: sines and logarithms
//! come from `libm`, hashes are those of scikit-learn. What must be learned from data (means, ranges, vocabularies) is
//! given in the config; nothing is learned here. Values of another type than a feature wants are missing values.

pub mod config;
pub mod extract;
pub mod murmur;
pub mod plan;
pub mod text;
pub mod time;
pub mod vector;

use config::Config;
use extract::{Columns, Fault};
use plan::Plan;
use text::Scratch;
use vector::Vector;
use wasmill_sdk::{Chunk, Field, Plugin, Setup, TextColumn, is_object, log};

/// Longest list of names in the log, in bytes.
const NAMES_LOG_MAX: usize = 2048;

/// The configured plugin.
pub struct Features {
    plan: Plan,
    output: Field,
    vector: Vector,
    scratch: Scratch,
    column: TextColumn,
}

impl Features {
    /// The names of the vector's positions in order; empty if there are more than [`plan::DENSE_MAX`].
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.plan.names
    }
}

impl Plugin for Features {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config: Config = wasmill_sdk::config::read(config)?;
        let plan = plan::plan(&config, setup)?;
        let output = setup.field(&config.output.0);
        let mut names = plan.names.join(" ");
        names.truncate(names.floor_char_boundary(NAMES_LOG_MAX));
        log::write(log::Level::Info, &format!("feature vector of {} positions: {names}", plan.size));
        let vector = Vector::new(config.form, config.precision, plan.size, &plan.names);
        Ok(Self { plan, output, vector, scratch: Scratch::default(), column: TextColumn::new() })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        let Self { plan, output, vector, scratch, column } = self;
        let columns: Vec<Columns> =
            plan.features.iter().map(|feature| Columns::read(rows, &feature.kind)).collect();
        let arrivals = rows.arrival_times();
        let mut payloads = None;
        column.clear();
        'rows: for (row, arrival) in arrivals.iter().enumerate() {
            vector.clear();
            for (feature, columns) in plan.features.iter().zip(&columns) {
                if let Err(fault) = feature.fill(columns, row, *arrival, vector, scratch) {
                    let what = match fault {
                        Fault::Missing => "no value",
                        Fault::Unknown => "the value is none of `values`",
                    };
                    let payloads = payloads.get_or_insert_with(|| rows.payloads());
                    let reason = match is_object(payloads.get(row)) {
                        true => format!("feature `{}`: {what}", feature.name),
                        false => "the record is not a JSON object".to_owned(),
                    };
                    rows.fail(row, &reason);
                    column.push_missing();
                    continue 'rows;
                }
            }
            vector.write(column.buffer());
            column.finish();
        }
        rows.set_raw(*output, column);
        Ok(())
    }
}

wasmill_sdk::export!(Features);

#[cfg(test)]
#[path = "sklearn_tests.rs"]
mod sklearn_tests;
