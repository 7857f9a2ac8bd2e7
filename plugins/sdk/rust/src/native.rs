//! A plugin run natively inside the host's chain: the same code as in the component, compiled for this machine.
//!
//! For benchmarks that weigh the sandbox against native code, and for tests. No isolation: a panic unwinds, an
//! endless loop does not end.

use std::cell::RefCell;

use wasmill_chunk::RowsId;

pub use crate::face::Grants;
use crate::{Chunk, Plugin, Setup};

/// A configured plugin and the fields that it declared.
pub struct Native<P> {
    plugin: P,
    fields: Vec<Vec<String>>,
}

impl<P: Plugin> Native<P> {
    /// Configures the plugin as the host would.
    pub fn configure(config: &str, grants: &Grants) -> Result<Self, String> {
        let mut setup = Setup::new(grants.clone());
        let plugin = P::configure(config, &mut setup)?;
        Ok(Self { plugin, fields: setup.fields })
    }

    /// The declared fields in the order of their slots: this transform's part of the chain's layout.
    #[must_use]
    pub fn fields(&self) -> &[Vec<String>] {
        &self.fields
    }

    /// Runs the plugin over the chunk's current rows. The caller has called `enter` and calls `apply` or
    /// `discard` after it.
    pub fn process(&mut self, chunk: &mut wasmill_chunk::Chunk) -> Result<(), String> {
        let host = RefCell::new(chunk);
        self.plugin.process(&mut Chunk::new(&host, RowsId::MAIN))
    }

    /// Tells the plugin how far event time has come; the chunk has no rows. As with `process`.
    pub fn on_watermark(&mut self, ns: i64, chunk: &mut wasmill_chunk::Chunk) -> Result<(), String> {
        let host = RefCell::new(chunk);
        self.plugin.on_watermark(ns, &mut Chunk::new(&host, RowsId::MAIN))
    }
}
