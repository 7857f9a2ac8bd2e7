//! The guest `counter` with the second layout of what it keeps: another file of the same plugin.

#[path = "../../counter/src/counter.rs"]
mod counter;

pub use counter::Counter;

wasmill_sdk::export_windower!(Counter<2>);
