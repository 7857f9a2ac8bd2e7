//! The `join` plugin: records with the rows of a table, or two kinds of records of one stream with each other.
//!
//! A table comes with the config or from a granted file. Of two sides, records wait for each other in the transform's
//! keyed state for as long as the bounds of their times say: by times of their own, or in streams that have it by the stream's
//! event time, which goes on when no records come.

pub mod config;
pub mod engine;
pub mod streams;
pub mod table;
pub mod with_table;

use wasmill_keyed::Host;
use wasmill_sdk::{Chunk, Plugin, Setup};

use config::Config;
use streams::Streams;
use with_table::WithTable;

/// Layout of what is kept; a higher one reads the lower ones or declares other tables.
const LAYOUT: u32 = 1;

/// The configured plugin.
#[derive(Debug)]
pub enum Join {
    /// With a table.
    Table(WithTable),
    /// Of two sides, with the host's state.
    Streams(Streams, Host),
}

impl Plugin for Join {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config: Config = wasmill_sdk::config::read(config)?;
        match (&config.table, &config.streams) {
            (Some(with), None) => WithTable::new(with, setup).map(Self::Table),
            (None, Some(streams)) => {
                let mut state = Host::default();
                let streams = Streams::new(streams, setup, |setup, name| state.declare(setup, name, LAYOUT))?;
                Ok(Self::Streams(streams, state))
            }
            _ => Err("config: exactly one of `table` and `streams` is needed".to_owned()),
        }
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        match self {
            Self::Table(table) => {
                table.process(rows);
                Ok(())
            }
            Self::Streams(streams, state) => {
                let groups = rows.groups();
                streams.process(rows, &groups, state)
            }
        }
    }

    fn on_watermark(&mut self, ns: i64, rows: &mut Chunk<'_>) -> Result<(), String> {
        match self {
            Self::Table(_) => Ok(()),
            Self::Streams(streams, state) => streams.on_watermark(ns, rows, state),
        }
    }
}

wasmill_sdk::export_windower!(Join);
