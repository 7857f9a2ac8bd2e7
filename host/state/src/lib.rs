//! Keyed state of the transforms of streams.
//!
//! Owns what a plugin's state is: tables, key groups, strands, addresses of entries ([`TableId`], [`group_of`], [`Strands`]), what a slice sees and
//! changes ([`SliceState`]), its changes on their way ([`Layer`]) and over what is stored ([`View`]), the store of a data
//! directory ([`Store`]), which is in memory first and in a database behind that ([`StreamStore`]), and what of a tenant's quota is used ([`Usage`]). Refuses nothing of Wasm, of outcomes and of
//! journals: it knows none of them. Everything that touches files blocks.
//!
//! # Which store
//!
//! Measured with `tests/bench/stores` on a machine with 2 cores (an fsync takes about 4 ms): one million keys of 16 bytes with
//! values of 100 bytes, then 400 batches of 5,000 random keys, each read and then written anew in one atomic batch, a sync
//! after every 20 batches, 64 MiB of cache:
//!
//! | | fjall 3.1.13 | redb 4.6.0 |
//! |---|---|---|
//! | load | 4.8 s | 13.7 s |
//! | read one | 10.4 us | 7.0 us |
//! | write one | 3.1 us | 14.1 us |
//! | longest batch | 0.26 s | 0.75 s |
//! | scan of all | 0.90 s | 0.34 s |
//! | bytes written | 791 MiB | 5,153 MiB |
//! | on disk | 291 MiB | 543 MiB |
//! | peak memory | 252 MiB | 74 MiB |
//!
//! A slice reads and writes each key about once, and the disk is shared with the journal: fjall takes two thirds of the time
//! and a sixth of the writes. Its memory is bounded here by smaller tables in memory (16 MiB). Most entries are changed many times
//! before they are written to it, or are gone by then. Once more:
//! `cargo run --release -- fjall DIRECTORY` and `redb` in `tests/bench/stores`.

mod changes;
mod engine;
mod error;
mod layer;
mod limits;
mod pair;
mod places;
mod resident;
mod slice;
mod store;
mod stored;
mod strand;
mod stream;
mod table;
mod usage;
mod view;

pub use changes::Wanted;
pub use error::{StateError, StoreError};
pub use layer::{Growth, Layer, LayerError, Written, WrittenTable};
pub use limits::{
    KEY_BYTES_MAX, SCAN_BYTES_MAX, SCAN_ENTRIES_MAX, SLICE_BYTES_MAX, TABLES_MAX, VALUE_BYTES_MAX,
};
pub use resident::Held;
pub use slice::{Changing, Scan, Scanned, SliceState};
pub use store::{Crashing, Incarnation, Mark, Store, TableUse};
pub use strand::{Strand, Strands};
pub use stream::{StreamMemory, StreamStore};
pub use table::{Entry, TableId, TableSpec, group_of};
pub use usage::Usage;
pub use view::{Base, Range, Shown, View};
