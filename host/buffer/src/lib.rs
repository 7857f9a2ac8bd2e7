//! The durable buffer: one journal per data directory, which everything durable passes through.
//!
//! A dedicated thread group-commits: whatever was submitted while the last sync ran becomes one
//! vectored write and one `fdatasync`, and every waiting [`Stream::append`] returns only then.
//! [`mod@format`] documents the bytes on disk well enough to write another reader.
//!
//! This crate owns frames, recovery, checkpoints and their space. It never parses a payload
//! or an entry's body, knows no Wasm, and never touches the network.
//!
//! As a record meets the modules: [`Stream`] encodes columns on the caller's thread, `queue` bounds what
//! waits, `writer` commits groups and finds out what was sent before (`producers`), `state` indexes what is durable, `recovery` rebuilds it at open.
//!
//! Disk use is bounded: what slow streams still need of the oldest journal files moves to segments (`segment`,
//! `mover`), so that the journal stays near `max_journal_bytes` and segments below about twice what
//! `max_total_bytes` lets in. Entries are never refused for want of room, and count too. History (`retention`) has bounds
//! of its own.

mod disk;
mod early;
mod entries;
mod error;
pub mod format;
mod frame;
mod journal;
mod limits;
mod mover;
mod producers;
mod queue;
mod records;
mod recovery;
mod retention;
mod scan;
mod segment;
mod snapshot;
mod state;
mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod wire;
mod writer;

pub use disk::{Disk, DiskFile, DiskLock, RealDisk};
pub use early::Voided;
pub use entries::{Entry, EntryKind};
pub use error::{AppendError, OpenError, ReadError, StreamError};
pub use frame::Frame;
pub use journal::{Corrupt, Damage, Durability, Journal, Options, Place, Recovery, Stats, Torn};
pub use limits::ONCE_PREFIX;
pub use records::{Cells, Numbered, Producer, Receipt, Records, SourcePosition};
pub use retention::{History, Retention};
pub use stream::{Frames, Pending, Position, Stream, StreamKey, StreamOptions};
