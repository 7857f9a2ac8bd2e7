//! What the plugins that remember have in common: keyed state as they see it, keys made of fields, event time,
//! watermarks and timers.
//!
//! State is reached through [`State`] alone: addresses and values in, no clock, no order but that of bytes. [`Memory`]
//! is the same in memory. Whatever a plugin keeps between two calls is there and nowhere else, so that a chunk that
//! is run again, cut differently or run by another instance gives the same rows.

pub mod fate;
pub mod front;
pub mod host;
pub mod key;
pub mod moment;
pub mod places;
pub mod span;
pub mod state;
pub mod watermark;
pub mod working;

pub use fate::Fate;
pub use front::Front;
pub use host::Host;
pub use key::{By, Part};
pub use moment::{EventTime, TimeFormat};
pub use places::Places;
pub use span::Span;
pub use state::{Address, Memory, Range, State, StateFault, Table, number_of, ordered};
pub use watermark::{Progress, Timer};
pub use working::{Due, Entry, Working};
