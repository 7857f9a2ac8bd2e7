//! The `dedupe` plugin: of records that are the same within a time, the first passes.
//!
//! Same means: the same values of some fields, or the same bytes. Times are those of the records, of the stream's event time or of
//! their arrival.
//! What has passed is in the transform's keyed state, so that a record that is run again is not its own duplicate.

pub mod config;
pub mod engine;
pub mod transform;

use wasmill_keyed::Host;
use wasmill_sdk::{Chunk, Plugin, Setup};

pub use transform::Deduplication;

/// Layout of what is kept; a higher one reads the lower ones or declares other tables.
const LAYOUT: u32 = 1;

/// The plugin: [`Deduplication`] over the host's state.
#[derive(Debug)]
pub struct Dedupe {
    transform: Deduplication,
    state: Host,
}

impl Plugin for Dedupe {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config = wasmill_sdk::config::read(config)?;
        let mut state = Host::default();
        let transform = Deduplication::new(&config, setup, |setup, name| state.declare(setup, name, LAYOUT))?;
        Ok(Self { transform, state })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let groups = rows.groups();
        self.transform.process(rows, &groups, &mut self.state)
    }

    fn on_watermark(&mut self, ns: i64, _rows: &mut Chunk<'_>) -> Result<(), String> {
        self.transform.on_watermark(ns, &mut self.state)
    }
}

wasmill_sdk::export_windower!(Dedupe);
