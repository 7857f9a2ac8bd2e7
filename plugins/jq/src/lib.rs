//! The `jq` plugin: a jq program over each record, to change the record or to say which partition it belongs to.
//!
//! The program is compiled in `configure`, by jaq; nothing of it reaches files, the environment or a clock. What a record
//! may become is bounded here, how long a program may run and what memory it takes by the host.

mod config;
mod json;
mod map;
mod partition;
mod program;

use wasmill_sdk::{Chunk, Plugin, Setup};

enum Use {
    Map(map::Map),
    Partition(partition::Partition),
}

/// The plugin.
pub struct Jq {
    does: Use,
}

impl Plugin for Jq {
    fn configure(config: &str, _setup: &mut Setup) -> Result<Self, String> {
        Ok(Self { does: wasmill_sdk::config::read::<config::Config>(config)?.does()? })
    }

    fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
        match &mut self.does {
            Use::Map(map) => map.process(rows),
            Use::Partition(partition) => partition.process(rows),
        }
    }
}

wasmill_sdk::export!(Jq);
