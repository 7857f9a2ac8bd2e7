//! Plugins compiled into the program, in place of components: the same chain, turns and verdicts with native code, so
//! that what the sandbox costs can be measured. Behind the feature `native`, which the product never has.
//!
//! Owns the seam through which such code is handed in; this crate depends on no plugin. Refuses nothing that a sandbox
//! would: no memory cap, no deadline, and a panic unwinds through the worker.

use std::collections::BTreeMap;

use wasmill_chunk::Chunk;
use wasmill_state::SliceState;

use crate::fault::{PluginFault, reason_of};
use crate::grants::GrantedFile;
use crate::state::Keeping;
use crate::step::{Declared, Step, Table};

/// Makes a configured instance; `Err` is the refusal of `configure`.
pub type NativePlugin = dyn Fn(&NativeSetup<'_>) -> Result<Box<dyn NativeInstance>, String> + Send + Sync;

/// What `configure` is told and may ask for.
#[derive(Clone, Copy)]
pub struct NativeSetup<'a> {
    /// JSON.
    pub config: &'a str,
    /// The stream's outputs; the first is the default.
    pub outputs: &'a [String],
    pub files: &'a BTreeMap<String, GrantedFile>,
    pub secrets: &'a BTreeMap<String, String>,
}

/// A configured plugin, ready for chunks.
pub trait NativeInstance: Send {
    /// The declared fields in the order of their slots.
    fn fields(&self) -> &[Vec<String>];
    /// Stages what it writes; on `Err` nothing of it is applied.
    fn process(&mut self, chunk: &mut Chunk) -> Result<(), String>;
    /// The declared tables of state, by name.
    fn tables(&self) -> Vec<String> {
        Vec::new()
    }
    /// As `process`, with state and the numbers of its tables; what it writes is taken back on `Err`.
    fn process_keeping(
        &mut self,
        chunk: &mut Chunk,
        _state: &mut SliceState,
        _tables: &[usize],
    ) -> Result<(), String> {
        self.process(chunk)
    }
}

/// The native counterpart of an instance of a component.
pub(crate) struct Configured {
    instance: Box<dyn NativeInstance>,
    declared: Declared,
    calls: u64,
}

impl Configured {
    pub(crate) fn start(step: &Step, plugin: &NativePlugin) -> Result<Configured, PluginFault> {
        let setup = NativeSetup {
            config: &step.config,
            outputs: &step.outputs,
            files: &step.grants.files,
            secrets: &step.grants.secrets,
        };
        let instance =
            plugin(&setup).map_err(|message| PluginFault::Returned { message: reason_of(message) })?;
        let table = |name| Table { name, version: 1, ttl_ns: 0 };
        let tables = instance.tables().into_iter().map(table).collect();
        let declared = Declared { fields: instance.fields().to_vec(), tables, ..Declared::default() };
        Ok(Configured { instance, declared, calls: 0 })
    }

    pub(crate) fn declared(&self) -> &Declared {
        &self.declared
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }

    pub(crate) fn process(
        &mut self,
        mut chunk: Box<Chunk>,
        keeping: &mut Option<Box<Keeping>>,
    ) -> (Option<Box<Chunk>>, Result<(), PluginFault>) {
        self.calls += 1;
        let result = match keeping {
            Some(keeping) => {
                let Keeping { state, tables, .. } = &mut **keeping;
                self.instance.process_keeping(&mut chunk, state, tables)
            }
            None => self.instance.process(&mut chunk),
        };
        let result = result.map_err(|message| PluginFault::Returned { message: reason_of(message) });
        (Some(chunk), result)
    }
}
