//! The `join` plugin: records with the rows of a table, or two kinds of records of one stream with each other.
//!
//! A table comes with the config or from a granted file. Of two sides, records wait for each other in the transform's
//! keyed state for as long as the bounds of their times say.

pub mod config;
pub mod engine;
pub mod streams;
pub mod table;
pub mod with_table;

use wasmill_keyed::{State, Table};
use wasmill_sdk::{Chunk, Setup};

use config::Config;
use streams::Streams;
use with_table::WithTable;

/// The configured plugin.
#[derive(Debug)]
pub enum Join {
    /// With a table.
    Table(WithTable),
    /// Of two sides.
    Streams(Streams),
}

impl Join {
    /// Reads the config; `table` declares a table of the state by its name.
    pub fn new(
        config: &Config,
        setup: &mut Setup,
        table: impl FnMut(&mut Setup, &str) -> Result<Table, String>,
    ) -> Result<Self, String> {
        match (&config.table, &config.streams) {
            (Some(with), None) => WithTable::new(with, setup).map(Self::Table),
            (None, Some(streams)) => Streams::new(streams, setup, table).map(Self::Streams),
            _ => Err("config: exactly one of `table` and `streams` is needed".to_owned()),
        }
    }

    /// Takes a chunk; `groups` are the key groups of its rows.
    pub fn process(&self, rows: &Chunk<'_>, groups: &[u8], state: &mut impl State) -> Result<(), String> {
        match self {
            Self::Table(table) => {
                table.process(rows);
                Ok(())
            }
            Self::Streams(streams) => streams.process(rows, groups, state),
        }
    }
}
