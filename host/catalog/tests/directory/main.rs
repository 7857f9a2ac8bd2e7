//! A catalog over a real directory, with real file events and the real compile child.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod decisions;
mod files;
mod first_party;
mod refusals;
mod replacement;
mod sidecars;
mod support;
mod versions;
