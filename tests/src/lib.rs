//! What the tests of the whole share: first-party plugins as components and natively, case folders, a slice run; whole
//! hosts in this process, small plugins out of text, a blocking client, servers that hosts deliver to.
//!
//! Owns no expectation of its own: each test says what it expects.

pub mod access_log;
pub mod again;
mod asker;
pub mod case;
pub mod catalogue;
pub mod client;
pub mod cluster;
pub mod components;
pub mod copy_stand_in;
pub mod events;
pub mod guest;
pub mod hostile;
pub mod kinesis;
pub mod native;
pub mod objects;
pub mod postgres;
pub mod program;
pub mod running;
pub mod scratch;
pub mod serve;
pub mod servers;
pub mod stand_in;
pub mod store;
pub mod wait;
