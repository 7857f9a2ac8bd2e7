//! The real access log that figures and counts refer to, and the job that is done to it.
//!
//! The log is data, not code: it lies beside the checkout, and who needs it says so when it is not there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wasmill_chunk::Column;

/// Lines of the log that the figures below refer to.
pub const LINES: usize = 10_000;
/// Lines that do not ask for something below `/images/`.
pub const KEPT: usize = 8_757;
/// Kept lines whose agent says that it is a bot.
pub const BOTS: usize = 1_250;

/// The access-log job: plugin and config of each transform.
pub const JOB: [(&str, &str); 3] = [
    ("parse", r#"{"format":"combined"}"#),
    ("filter", r#"{"drop":"path =~ \"^/images/\""}"#),
    ("derive", r#"{"set":"class = if agent ~ \"bot|spider\" then \"bot\" else \"human\""}"#),
];

/// Where the log is.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/apache-access.log")
}

/// The first [`LINES`] lines as records; `None` (and a note on stderr) where the log is not there.
pub fn records() -> Result<Option<Column>> {
    let path = path();
    if !path.exists() {
        #[expect(clippy::print_stderr, reason = "a skipped test says why")]
        {
            eprintln!("skipped: no {}", path.display());
        }
        return Ok(None);
    }
    let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let mut records = Column::default();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(LINES) {
        records.push(line);
    }
    Ok(Some(records))
}
