//! The plugin directory: which plugins there are, and which version of each is the current one.
//!
//! Owns: scanning and watching the directory, digests, manifests and the sidecars that narrow them, compiled code on
//! disk, copies of every accepted plugin file, and the choice of the current version under each name.
//!
//! Refuses: it never runs a guest. Building and probing chains is the pipeline's, which reports back with
//! [`Catalog::note_probe`]. A version that does not inspect, compile, load or link never becomes current; the one
//! before stays.

mod catalog;
mod error;
mod examine;
mod keeper;
mod known;
mod load;
mod scan;
mod shared;
mod sidecar;
mod signals;
mod state;
mod store;
mod view;
mod watch;

pub use catalog::{Catalog, CatalogOptions};
pub use error::{CatalogError, FindError};
pub use state::{CatalogStats, PluginState, ProbeFailure, VersionState};
