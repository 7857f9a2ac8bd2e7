//! The transform's config.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use wasmill_sdk::path::Path;

/// Columns that a model may have here.
pub(crate) const FEATURES_MAX: usize = 4000;

/// The transform's config.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Name under which the transform's `models` have the model.
    #[serde(default = "model")]
    pub(crate) model: String,
    /// Fields of numbers, in the order of the model's columns.
    #[serde(default)]
    pub(crate) features: Vec<Path>,
    /// In place of these: a field that holds all of them as a list.
    pub(crate) vector: Option<Path>,
    /// How many numbers that list has.
    pub(crate) columns: Option<usize>,
    /// What becomes of a record without a number where one is wanted.
    #[serde(default)]
    pub(crate) missing: Missing,
    /// Field for what the first output of the model says: a value, or a label.
    pub(crate) prediction: Option<Path>,
    /// Field for the scores: an object by label where these are known, else a list.
    pub(crate) scores: Option<Path>,
    /// Fields for the scores of single labels.
    #[serde(default)]
    pub(crate) score_of: BTreeMap<String, Path>,
}

fn model() -> String {
    "model".to_owned()
}

/// See [`Config::missing`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Missing {
    /// It fails.
    #[default]
    Fail,
    /// The model gets this.
    Value(f32),
}

impl<'de> Deserialize<'de> for Missing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Word(String),
            Number(f64),
        }
        match Written::deserialize(deserializer) {
            Ok(Written::Word(word)) if word == "fail" => Ok(Missing::Fail),
            Ok(Written::Word(word)) if word == "nan" => Ok(Missing::Value(f32::NAN)),
            Ok(Written::Number(number)) => Ok(Missing::Value(number as f32)),
            _ => Err(D::Error::custom("missing is \"fail\", \"nan\" or a number")),
        }
    }
}

impl Config {
    pub(crate) fn read(text: &str) -> Result<Config, String> {
        let mut config: Config = wasmill_sdk::config::read(text)?;
        match (config.features.len(), &config.vector) {
            (0, None) => {
                return Err("config: `features` or `vector` is needed: what the model gets".to_owned());
            }
            (1.., Some(_)) => return Err("config: `features` and `vector`; only one can be".to_owned()),
            (count, _) if count > FEATURES_MAX => {
                return Err(format!("config: {count} features; at most {FEATURES_MAX} can be"));
            }
            _ => {}
        }
        match (&config.vector, config.columns) {
            (Some(_), Some(1..=FEATURES_MAX)) | (None, None) => {}
            (Some(_), _) => {
                return Err(format!(
                    "config: `vector` needs `columns`: how many numbers it has, 1 to {FEATURES_MAX}"
                ));
            }
            (None, Some(_)) => return Err("config: `columns` goes with `vector`".to_owned()),
        }
        if config.prediction.is_none() && config.scores.is_none() && config.score_of.is_empty() {
            config.prediction = Some(Path(vec!["prediction".to_owned()]));
        }
        Ok(config)
    }
}
