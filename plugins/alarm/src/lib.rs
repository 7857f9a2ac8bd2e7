//! The `alarm` plugin: watches a condition by key, and tells when it begins to hold for long enough and when it no longer does.
//!
//! Pending, firing, resolved, as in Prometheus; repeated after an interval, held back by rates of a key and of all. Notices
//! are rows of their own with a body made of a template, for an output that posts them; records pass on. Where each
//! alarm stands, and what was told of it, is in the transform's keyed state: nothing is told twice because something
//! ran again. An alarm for silence is none of this plugin's: only records move it.

pub mod config;
pub mod engine;
pub mod rate;
pub mod template;
pub mod told;
pub mod transform;

use std::time::Duration;

use wasmill_keyed::Host;
use wasmill_sdk::{Chunk, Plugin, Setup};

use crate::config::Config;
use crate::transform::Keeps;

pub use transform::Alarms;

/// Layout of what is kept; a higher one reads the lower ones or declares other tables.
const LAYOUT: u32 = 1;

/// The plugin: [`Alarms`] over the host's state.
#[derive(Debug)]
pub struct Alarm {
    transform: Alarms,
    state: Host,
}

impl Plugin for Alarm {
    fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
        let config: Config = wasmill_sdk::config::read(config)?;
        let mut state = Host::default();
        let forget = Duration::from_nanos(config.forget.ns().unsigned_abs());
        let transform = Alarms::new(&config, setup, |setup, name, keeps| {
            state.declare_for(setup, name, LAYOUT, (keeps == Keeps::Keys).then_some(forget))
        })?;
        Ok(Self { transform, state })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        let groups = rows.groups();
        self.transform.process(rows, &groups, &mut self.state)
    }
}

wasmill_sdk::export!(Alarm);
