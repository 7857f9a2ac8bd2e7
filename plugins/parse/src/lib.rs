//! The `parse` plugin: log lines in, records with typed fields out.
//!
//! Every format writes columns on rows that start from `{}`; no JSON text is built here except where the names of
//! the fields are not known beforehand. A line that cannot be parsed is failed with the reason and the position;
//! nothing is guessed. What each field means in each format stands in the README.

mod access;
mod stamp_column;
mod unparsable;

use serde::Deserialize;
use wasmill_sdk::{Chunk, Plugin, Setup};

use access::Access;
use stamp_column::TimeAs;

/// The transform's config.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    format: Format,
    #[serde(default)]
    time: TimeAs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    Common,
    Combined,
}

enum Parser {
    Access(Access),
}

/// The plugin.
pub struct Parse {
    parser: Parser,
}

impl Plugin for Parse {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config: Config = wasmill_sdk::config::read(config)?;
        let parser = match config.format {
            Format::Common => Parser::Access(Access::new(false, config.time, setup)),
            Format::Combined => Parser::Access(Access::new(true, config.time, setup)),
        };
        Ok(Self { parser })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let payloads = rows.payloads();
        match &mut self.parser {
            Parser::Access(access) => access.process(rows, &payloads),
        }
        Ok(())
    }
}

wasmill_sdk::export!(Parse);
