//! Text on stdout and stderr.
//!
//! A reader that has seen enough (`| head`) is success, and text that others wrote (plugins, configurations) never
//! moves the terminal's cursor.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// Writes text to stdout as it is.
pub(crate) fn print(text: &str) -> Result<ExitCode> {
    print_bytes(text.as_bytes())
}

/// Writes bytes to stdout as they are.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<ExitCode> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("write to stdout"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Writes a value to stdout as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<ExitCode> {
    let mut text = serde_json::to_string(value).context("write JSON")?;
    text.push('\n');
    print(&text)
}

/// A line for the user on stderr. Where stderr is gone, nobody is there to be told.
pub(crate) fn complain(line: fmt::Arguments<'_>) {
    let _nobody_listens = writeln!(std::io::stderr(), "{line}");
}

/// Text from elsewhere on one line: control characters are shown as escapes.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            // Writing to a string does not fail.
            let _written = write!(plain, "{}", c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// `131.2 KiB`.
pub(crate) fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(size.fract() >= 0.05);
    format!("{size:.digits$} {}", UNITS.get(unit).copied().unwrap_or_default())
}

/// A file that is to be written. One that is there is left alone.
pub(super) fn new_file(path: &Path) -> Result<File> {
    match File::create_new(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} exists already and is left as it is: name another file, or remove it", path.display())
        }
        file => file.with_context(|| format!("create {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_shows_control_characters() {
        assert_eq!(plain("a\x1b[2Jb\nä"), "a\\u{1b}[2Jb\\nä");
    }

    #[test]
    fn binary_size_is_short_and_exact_where_it_can_be() {
        for (bytes, text) in
            [(17, "17 bytes"), (1024, "1 KiB"), (1536, "1.5 KiB"), (64 << 20, "64 MiB"), (3 << 40, "3 TiB")]
        {
            assert_eq!(binary_size(bytes), text);
        }
    }
}
