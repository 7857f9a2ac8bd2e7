//! Files that commands read whole.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// What is in a file of at most `most` bytes; `-` is standard input.
pub(super) fn read(file: &Path, most: u64) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(most + 1).read_to_end(&mut text)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(most + 1).read_to_end(&mut text))
    };
    read.with_context(|| format!("read {}", file.display()))?;
    if text.len() as u64 > most {
        bail!("{} has more than {most} bytes", file.display());
    }
    Ok(text)
}
