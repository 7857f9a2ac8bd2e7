//! The `rolling` plugin: writes beside each record what the records of its key before it say, as features of a model want it.
//!
//! Over the last records or the last stretch of time of a key: counts, sums, means, deviations, slopes, different values; and
//! what lies between a record and the one before. Every record passes, with what was known when it came: nothing waits for
//! a window to end, as in the plugin `window`. What is kept is in the transform's keyed state.

pub mod config;
pub mod engine;
pub mod measure;
pub mod transform;

use std::time::Duration;

use wasmill_keyed::Host;
use wasmill_sdk::{Chunk, Plugin, Setup};

use crate::config::Config;

pub use transform::Features;

/// Layout of what is kept; a higher one reads the lower ones or declares other tables.
const LAYOUT: u32 = 1;

/// The plugin: [`Features`] over the host's state.
#[derive(Debug)]
pub struct Rolling {
    transform: Features,
    state: Host,
}

impl Plugin for Rolling {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config: Config = wasmill_sdk::config::read(config)?;
        let mut state = Host::default();
        let forget = Duration::from_nanos(config.forget.ns().unsigned_abs());
        let table = state.declare_for(setup, "keys", LAYOUT, Some(forget))?;
        Ok(Self { transform: Features::new(&config, setup, table)?, state })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let groups = rows.groups();
        self.transform.process(rows, &groups, &mut self.state)
    }
}

wasmill_sdk::export!(Rolling);
