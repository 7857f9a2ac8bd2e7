//! The transform's config: one program, and what it is for.

use serde::Deserialize;

use crate::Use;
use crate::map::Map;
use crate::partition::Partition;
use crate::program::Program;

const PROGRAM_MAX: usize = 65_536;
/// Outputs of one record, if nothing is said, and at most: the host takes no more rows of one call.
const OUTPUTS: usize = 10_000;
const OUTPUTS_MAX: usize = 1_000_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    map: Option<String>,
    partition: Option<String>,
    max_outputs: Option<usize>,
}

impl Config {
    pub(crate) fn does(self) -> Result<Use, String> {
        match (&self.map, &self.partition) {
            (Some(source), None) => {
                let outputs = self.max_outputs.unwrap_or(OUTPUTS);
                if outputs == 0 || outputs > OUTPUTS_MAX {
                    return Err(format!(
                        "config: `max_outputs` is {outputs}, it goes from 1 to {OUTPUTS_MAX}"
                    ));
                }
                Ok(Use::Map(Map::new(compile("map", source)?, outputs)))
            }
            (None, Some(_)) if self.max_outputs.is_some() => {
                Err("config: `max_outputs` has no meaning for `partition`, which gives one object".to_owned())
            }
            (None, Some(source)) => Ok(Use::Partition(Partition::new(compile("partition", source)?))),
            (None, None) => Err("config: one of `map` and `partition` is needed".to_owned()),
            (Some(_), Some(_)) => {
                Err("config: `map` and `partition` are two transforms, one after the other".to_owned())
            }
        }
    }
}

fn compile(key: &str, source: &str) -> Result<Program, String> {
    if source.len() > PROGRAM_MAX {
        return Err(format!(
            "{key}: the program has {} bytes, at most {PROGRAM_MAX} are taken",
            source.len()
        ));
    }
    Program::compile(source).map_err(|error| format!("{key}: {error}"))
}
