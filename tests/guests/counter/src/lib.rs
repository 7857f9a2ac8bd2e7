//! The guest that counts, with the first layout of what it keeps.

mod counter;

pub use counter::Counter;

wasmill_sdk::export_windower!(Counter);
