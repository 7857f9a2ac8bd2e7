//! The torture of the real program: load from several clients, SIGKILL at random and chosen moments, destinations that
//! misbehave, plugins that are replaced; and then every record is accounted for.
//!
//! - `record`: what a record asks for follows from the seed, so that anything that comes out can be checked byte for byte
//! - `account`: what clients were told
//! - `clients`, `plugins`, `replays`, `weather`: what goes on all the time
//! - `receiver`, and the store of `wasmill_tests`: the destinations
//! - `moment`: when a life of the host ends
//! - `check`: what must hold in the end
//!
//! Choices follow from the seed; when things happen is up to threads, so a seed finds the same trouble often, not always.

pub mod account;
pub mod check;
pub mod clients;
pub mod moment;
pub mod plugins;
pub mod receiver;
pub mod record;
pub mod replays;
pub mod run;
pub mod scene;
pub mod weather;

pub use run::{Options, Report, run};
