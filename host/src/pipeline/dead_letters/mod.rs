//! The dead letters of one stream: records that could not be transformed, encoded or delivered, kept durably.
//!
//! | file in `DATA/dead-letters/<tenant>/<stream>/` | what |
//! |---|---|
//! | `letters.ndjson`, then `letters-<number>.ndjson` | the letters, one JSON object a line (`letter`) |
//! | `state.json` | what must not be forgotten when letters go: see `store` |
//! | `objects/<batch id>` | objects that could not be delivered |
//! | `delivery/` | how far letters were delivered to a destination of their own: see `cursor` |
//!
//! `store` owns the files and their bounds, `letter` the line, `filter` which letters somebody means, `cursor`
//! what has left. Nothing here knows outcomes, plugins or destinations.

mod cursor;
mod error;
mod filter;
mod letter;
mod lines;
mod store;

pub(crate) use cursor::{Cursor, Underway};
pub use error::{Bound, StoreError};
pub use filter::Filter;
pub use letter::{Change, Changes, DeadLetter, KeptObject, LetterRow, Stage};
pub use store::{Appended, Applied, Snapshot, Store, View};
