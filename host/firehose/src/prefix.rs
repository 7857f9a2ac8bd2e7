//! Names of objects: the expression language of `Prefix` and `ErrorOutputPrefix`.
//!
//! A template is parsed once ([`Template::parse`]), held to the rules of its place together with its sibling
//! ([`check`]), and rendered for each object ([`Layout`]) out of a [`Context`]: nothing else has a say in the name, so that
//! a name can be fixed before the object is written and found again after a crash.
//!
//! `!{` may stand only where a whole expression follows, and an expression ends at the next `}`. Sources: the Developer
//! Guide's chapter on custom prefixes, and the documentation of Java's `DateTimeFormatter` for patterns of time.
//!
//! Not certain, and decided here: nothing is appended to a prefix that has any expression (the guide says that the time is
//! appended where no expression has one; the service was seen not to). An `ErrorOutputPrefix` without expressions gets the
//! type of error and the time appended, as a `Prefix` does that stands for it. Weeks are those of the United States, which
//! Java has by default.

mod check;
mod key;
mod pattern;
mod query;
mod template;
mod zone;

pub use check::{Partitioning, check};
pub use key::{
    Compression, Context, ErrorOutputType, Layout, PartitionKeys, Randomness, RenderError, Seeded,
};
pub use pattern::{Pattern, PatternError};
pub use query::check_query;
pub use template::{NotATemplate, Part, Place, Template};
pub use zone::time_zone;

#[cfg(test)]
mod tests;
