//! The `window` plugin: aggregates of records by key and window of event time.
//!
//! Tumbling, sliding and session windows; results at a window's end, early, or whenever they change. What it keeps is
//! in the transform's keyed state, written with the outcome of the records that it came of, so that every record
//! counts once whatever is run again. Records themselves do not leave unless `pass` says so.

pub mod aggregate;
pub mod config;
pub mod engine;
pub mod pane;
pub mod shape;
pub mod transform;

use wasmill_keyed::Host;
use wasmill_sdk::{Chunk, Plugin, Setup};

pub use transform::Windows;

/// Layout of what is kept; a higher one reads the lower ones or declares other tables.
const LAYOUT: u32 = 1;

/// The plugin: [`Windows`] over the host's state.
#[derive(Debug)]
pub struct Window {
    transform: Windows,
    state: Host,
}

impl Plugin for Window {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config = wasmill_sdk::config::read(config)?;
        let mut state = Host::default();
        let transform = Windows::new(&config, setup, |setup, name| state.declare(setup, name, LAYOUT))?;
        Ok(Self { transform, state })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let groups = rows.groups();
        self.transform.process(rows, &groups, &mut self.state)
    }

    fn on_watermark(&mut self, ns: i64, rows: &mut Chunk<'_>) -> Result<(), String> {
        self.transform.on_watermark(ns, rows, &mut self.state)
    }
}

wasmill_sdk::export_windower!(Window);
