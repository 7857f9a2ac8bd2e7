//! What a plugin file is, without running or compiling it.

use serde::Serialize;

use crate::fault::PluginFault;
use crate::manifest::Manifest;
use crate::plugin::Digest;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Component,
    /// A core module with component metadata: made a component at load.
    CoreModule,
}

/// One imported or exported interface and its functions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    pub interface: String,
    pub functions: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    pub digest: Digest,
    pub bytes: u64,
    pub kind: Kind,
    pub imports: Vec<Item>,
    pub exports: Vec<Item>,
    pub manifest: Option<Manifest>,
    /// Optional interfaces of the ABI that it exports, such as `event-time`.
    pub optional: Vec<String>,
    /// Why this host would not load it; empty = it would.
    pub refused: Vec<String>,
}

/// Looks into a plugin file. An `Err` means that it is no plugin file at all.
pub fn inspect(_wasm: &[u8]) -> Result<Inspection, PluginFault> {
    unimplemented!()
}
