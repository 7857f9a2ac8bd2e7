//! Case folders: what goes into a plugin and what must come out, as files that people read.
//!
//! | file | what |
//! |---|---|
//! | `config.json` | the transform's config |
//! | `input.ndjson` or `input.txt` | a record a line; none when the file is absent. Not both |
//! | `files/` | granted files, by name |
//! | `expected.ndjson` | the rows that leave, in the order of their records; none when the file is absent |
//! | `dead-letters.ndjson` | for each record that fails `{"offset":2,"reason":"…"}`; `reason_contains` in its place asks for a part, neither for any reason |
//! | `error.txt` | in place of the two: the refusal of the config, or with a line that begins with `~` a part of it |
//!
//! A case runs in several [`Way`]s, which must all give the same: memory of a guest is a cache, and how records are cut
//! into chunks is the host's business. Nothing here builds a plugin or decides where cases are.

mod case;
mod load;
mod run;
mod stranger;

pub use case::{ARRIVAL, ARRIVAL_STEP, Case, Difference, Letter};
pub use load::load;
pub use run::{Got, Ran, Rows, Way, run, slice, worker};
pub use stranger::strangers;
pub use wasmill_chunk::Column;
