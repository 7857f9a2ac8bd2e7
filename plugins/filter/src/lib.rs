//! The `filter` plugin: keeps or drops records by a condition and by sampling.
//!
//! A record is kept if `keep` holds (where given), `drop` does not (where given), and the sample takes it. What the
//! condition language says about missing fields decides: a comparison with a missing field is false.

use serde::Deserialize;
use wasmill_expr::{Fields, Program, Value, hash};
use wasmill_sdk::{Chunk, Plugin, Setup};

/// The transform's config.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Only records for which this condition holds are kept.
    keep: Option<String>,
    /// Records for which this condition holds are dropped.
    drop: Option<String>,
    sample: Option<SampleConfig>,
}

/// Which part of the records is kept.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SampleConfig {
    /// From 0 (none) to 1 (all).
    rate: f64,
    /// An expression: records with the same value are kept or dropped together.
    key: Option<String>,
    /// Another seed takes another sample.
    #[serde(default)]
    seed: u64,
}

struct Sample {
    /// Hashes below this are kept; `None` keeps all.
    below: Option<u64>,
    key: Option<Program>,
    seed: u64,
}

/// The plugin.
pub struct Filter {
    fields: Fields,
    keep: Option<Program>,
    drop: Option<Program>,
    sample: Option<Sample>,
    kept: Vec<u8>,
    dropped: Vec<u8>,
}

impl Plugin for Filter {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config: Config = wasmill_sdk::config::read(config)?;
        if config.keep.is_none() && config.drop.is_none() && config.sample.is_none() {
            return Err("config: one of `keep`, `drop` and `sample` is needed".to_owned());
        }
        let mut fields = Fields::new();
        let keep = condition("keep", config.keep.as_deref(), &mut fields)?;
        let drop = condition("drop", config.drop.as_deref(), &mut fields)?;
        let sample = config.sample.map(|sample| Sample::new(sample, &mut fields)).transpose()?;
        fields.declare(setup);
        Ok(Self { fields, keep, drop, sample, kept: Vec::new(), dropped: Vec::new() })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let columns = self.fields.load(rows);
        match &self.keep {
            Some(keep) => keep.mask(&columns, &mut self.kept),
            None => {
                self.kept.clear();
                self.kept.resize(columns.rows(), 1);
            }
        }
        if let Some(drop) = &self.drop {
            drop.mask(&columns, &mut self.dropped);
            for (kept, dropped) in self.kept.iter_mut().zip(&self.dropped) {
                *kept &= 1 ^ dropped;
            }
        }
        if let Some(sample) = &self.sample {
            let offsets = rows.offsets();
            for (row, kept) in self.kept.iter_mut().enumerate() {
                let key = sample.key.as_ref().map(|key| key.value(&columns, row));
                *kept &= u8::from(sample.takes(key, offsets[row]));
            }
        }
        rows.keep(&self.kept);
        Ok(())
    }
}

fn condition(name: &str, source: Option<&str>, fields: &mut Fields) -> Result<Option<Program>, String> {
    let compile = |source| Program::condition(source, fields).map_err(|error| format!("{name}: {error}"));
    source.map(compile).transpose()
}

impl Sample {
    fn new(config: SampleConfig, fields: &mut Fields) -> Result<Self, String> {
        if !(0.0..=1.0).contains(&config.rate) {
            return Err(format!("config: sample.rate is {}, it goes from 0 to 1", config.rate));
        }
        let key = config.key.as_deref().map(|key| Program::compile(key, fields)).transpose();
        let key = key.map_err(|error| format!("sample.key: {error}"))?;
        let below = (config.rate < 1.0).then_some((config.rate * 2_f64.powi(64)) as u64);
        Ok(Self { below, key, seed: config.seed })
    }

    /// Decides by the key, or by the offset where there is none: the same for every attempt at a record, however
    /// the stream is cut into chunks.
    fn takes(&self, key: Option<Value<'_>>, offset: i64) -> bool {
        let Some(below) = self.below else { return true };
        let mut bytes = [0; 17];
        bytes[..8].copy_from_slice(&self.seed.to_le_bytes());
        let hashed = match key {
            None | Some(Value::Missing | Value::Null) => {
                bytes[9..].copy_from_slice(&offset.to_le_bytes());
                hash(&bytes)
            }
            Some(Value::Text(text)) => hash(text.as_bytes()) ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            Some(other) => {
                hash(format!("{other:?}").as_bytes()) ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            }
        };
        // Once more through the mixer, so that another seed is another sample.
        hash(&hashed.to_le_bytes()) < below
    }
}

wasmill_sdk::export!(Filter);
