//! The `anomaly` plugin: how far the values of a key are from what is usual for it, and when that is an alarm.
//!
//! Detectors for one value (control chart, robust z-score, baseline by season) and for several at once (half-space
//! trees). What a detector has learnt of a key is in the transform's keyed state.

pub mod alarm;
pub mod config;
pub mod detect;
pub mod engine;
pub mod transform;

use wasmill_keyed::Host;
use wasmill_sdk::{Chunk, Plugin, Setup};

pub use transform::Detection;

/// Layout of what is kept; a higher one reads the lower ones or declares other tables.
const LAYOUT: u32 = 1;

/// The plugin: [`Detection`] over the host's state.
#[derive(Debug)]
pub struct Anomaly {
    transform: Detection,
    state: Host,
}

impl Plugin for Anomaly {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config = wasmill_sdk::config::read(config)?;
        let mut state = Host::default();
        let transform = Detection::new(&config, setup, |setup, name| state.declare(setup, name, LAYOUT))?;
        Ok(Self { transform, state })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let groups = rows.groups();
        self.transform.process(rows, &groups, &mut self.state)
    }
}

wasmill_sdk::export!(Anomaly);
