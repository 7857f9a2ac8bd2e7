//! `cargo xtask generate`: an access log for whoever wants one, to a file or down a pipe.
//!
//! What the lines are is the business of `wasmill-access-log`.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use wasmill_access_log::write_lines;

/// Writes `records` lines to a file, or to stdout when there is none.
pub(crate) fn write_to(records: u64, seed: u64, file: Option<&Path>) -> Result<()> {
    match file {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
            write_lines(records, seed, file).with_context(|| format!("write {}", path.display()))
        }
        None => match write_lines(records, seed, std::io::stdout().lock()) {
            // The reader has seen enough (`| head`).
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.context("write to stdout"),
        },
    }
}
