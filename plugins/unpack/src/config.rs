//! The transform's config: the steps in their order, and what may come of one record.

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::Step;
use crate::cloudwatch::CloudwatchLogs;
use crate::decompress::Decompress;
use crate::delimited::Delimited;
use crate::json::Json;

/// Steps of one config.
const STEPS_MAX: usize = 16;
/// The host takes no more rows of one call.
const RECORDS_MAX: usize = 1_000_000;
const DELIMITER_MAX: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    steps: Vec<StepConfig>,
    #[serde(default = "max_bytes")]
    max_bytes: usize,
    #[serde(default = "max_ratio")]
    max_ratio: usize,
    #[serde(default = "max_records")]
    max_records: usize,
}

fn max_bytes() -> usize {
    10 << 20
}

fn max_ratio() -> usize {
    1000
}

fn max_records() -> usize {
    10_000
}

/// What may come of one record at any step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Of all pieces together.
    pub(crate) max_bytes: usize,
    pub(crate) max_ratio: usize,
    pub(crate) max_records: usize,
}

impl Limits {
    #[cold]
    pub(crate) fn too_large(&self) -> String {
        format!("more than {} bytes come of one record (`max_bytes`)", self.max_bytes)
    }

    #[cold]
    pub(crate) fn too_many(&self) -> String {
        format!("more than {} records come of one (`max_records`)", self.max_records)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StepConfig {
    Decompress(Compression),
    CloudwatchLogs(CloudwatchLogsConfig),
    Kpl(Nothing),
    Json(JsonConfig),
    Delimited(DelimitedConfig),
    Append(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Compression {
    Gzip,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CloudwatchLogsConfig {
    messages: Messages,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonConfig {
    leave_whole_beyond: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DelimitedConfig {
    #[serde(default = "newline")]
    delimiter: String,
    leave_whole_beyond: Option<usize>,
}

fn newline() -> String {
    "\n".to_owned()
}

/// What leaves of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Messages {
    /// `false`: the envelope.
    Envelope,
    /// `true`: the text of each event, and nothing else.
    Text,
    /// `"with_metadata"`: each event as an object.
    WithMetadata,
}

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl Visitor<'_> for Choice {
            type Value = Messages;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false or \"with_metadata\" for `messages`")
            }

            fn visit_bool<E: de::Error>(self, texts: bool) -> Result<Messages, E> {
                Ok(if texts { Messages::Text } else { Messages::Envelope })
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Messages, E> {
                match name {
                    "with_metadata" => Ok(Messages::WithMetadata),
                    _ => Err(E::invalid_value(de::Unexpected::Str(name), &self)),
                }
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

impl Config {
    pub(crate) fn steps(self) -> Result<(Vec<Step>, Limits), String> {
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            return Err(format!("config: `steps` has {} steps, it needs 1 to {STEPS_MAX}", self.steps.len()));
        }
        for (key, value) in [("max_bytes", self.max_bytes), ("max_ratio", self.max_ratio)] {
            if value == 0 {
                return Err(format!("config: `{key}` is 0, it needs at least 1"));
            }
        }
        if self.max_records == 0 || self.max_records > RECORDS_MAX {
            return Err(format!(
                "config: `max_records` is {}, it goes from 1 to {RECORDS_MAX}",
                self.max_records
            ));
        }
        let limits =
            Limits { max_bytes: self.max_bytes, max_ratio: self.max_ratio, max_records: self.max_records };
        let steps =
            self.steps.into_iter().map(|step| step.step(&limits)).collect::<Result<Vec<Step>, String>>()?;
        Ok((steps, limits))
    }
}

impl StepConfig {
    fn step(self, limits: &Limits) -> Result<Step, String> {
        Ok(match self {
            StepConfig::Decompress(Compression::Gzip) => Step::Decompress(Decompress),
            StepConfig::CloudwatchLogs(config) => Step::CloudwatchLogs(CloudwatchLogs::new(config.messages)),
            StepConfig::Kpl(Nothing {}) => Step::Kpl,
            StepConfig::Json(config) => {
                Step::Json(Json::new(whole_beyond(config.leave_whole_beyond, limits)?))
            }
            StepConfig::Delimited(config) => {
                let whole_beyond = whole_beyond(config.leave_whole_beyond, limits)?;
                let delimited = Delimited::new(text("delimiter", config.delimiter)?, whole_beyond);
                Step::Delimited(Box::new(delimited))
            }
            StepConfig::Append(end) => Step::Append(text("append", end)?),
        })
    }
}

/// Pieces beyond which a record passes whole.
fn whole_beyond(count: Option<usize>, limits: &Limits) -> Result<usize, String> {
    let most = limits.max_records;
    match count {
        Some(count) if count == 0 || count > most => {
            Err(format!("config: `leave_whole_beyond` is {count}, it goes from 1 to `max_records`, {most}"))
        }
        Some(count) => Ok(count),
        None => Ok(usize::MAX),
    }
}

/// A text of some bytes.
fn text(key: &str, text: String) -> Result<Vec<u8>, String> {
    if text.is_empty() || text.len() > DELIMITER_MAX {
        return Err(format!("config: `{key}` has {} bytes, it needs 1 to {DELIMITER_MAX}", text.len()));
    }
    Ok(text.into_bytes())
}
