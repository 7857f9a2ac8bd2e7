//! The `parse` plugin: log lines in, records with typed fields out.
//!
//! Every format writes columns on rows that start from `{}`; JSON text is built here only where the names of the
//! fields are data themselves. A line that cannot be parsed is failed with the reason and the position; nothing is
//! guessed. What each field means in each format stands in the README.

mod access;
mod config;
mod csv;
mod json;
mod named;
mod pairs;
mod stamp_column;
mod syslog;
mod typed;
mod unparsable;

use wasmill_sdk::{Chunk, Plugin, Setup};

enum Parser {
    Access(Box<access::Access>),
    Syslog(Box<syslog::Syslog>),
    Pairs(pairs::Pairs),
    Csv(csv::Csv),
    Named(named::Named),
}

/// The plugin.
pub struct Parse {
    parser: Parser,
}

impl Plugin for Parse {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config: config::Config = wasmill_sdk::config::read(config)?;
        Ok(Self { parser: config.parser(setup)? })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let payloads = rows.payloads();
        match &mut self.parser {
            Parser::Access(access) => access.process(rows, &payloads),
            Parser::Syslog(syslog) => syslog.process(rows, &payloads),
            Parser::Pairs(pairs) => pairs.process(rows, &payloads),
            Parser::Csv(csv) => csv.process(rows, &payloads),
            Parser::Named(named) => named.process(rows, &payloads),
        }
        Ok(())
    }
}

wasmill_sdk::export!(Parse);
