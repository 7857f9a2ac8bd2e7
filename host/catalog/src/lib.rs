//! The plugin directory: which plugins there are, and which version of each is the current one.
//!
//! Owns: scanning and watching the directory, digests, manifests and the sidecars that narrow them, signatures, compiled code on
//! disk, copies of every accepted plugin file, the choice of the current version under each name, and what was decided about
//! versions: pins, shadows, demotions.
//!
//! Refuses: it never runs a guest. Building and probing chains is the pipeline's, which reports back with
//! [`Catalog::note_probe`]. A version that does not inspect, compile, load or link never becomes current; the one
//! before stays.

mod candidate;
mod catalog;
mod control;
mod error;
mod examine;
mod gate;
mod keeper;
mod known;
mod load;
mod rejudge;
mod scan;
mod shared;
mod sidecar;
mod signals;
mod signing;
mod state;
mod store;
mod upload;
mod view;
mod watch;

pub use catalog::{Catalog, CatalogOptions};
pub use control::{Control, Demotion, Live, ShadowOf};
pub use error::{AddError, CatalogError, FindError, RemoveError};
pub use gate::{CompileGate, OpenGate};
pub use signing::{
    KeyError, PublicKey, SignatureError, SigningKey, SigningPolicy, message as signed_message,
};
pub use state::{CatalogStats, PluginState, ProbeFailure, VersionState};
