//! The dead letters of a replay: a file beside its objects, and never among those of the stream.
//!
//! Lines like those of the stream's own dead letters. It is written beside its name and gets it when the replay is done,
//! and it is not there when nothing failed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::pipeline::commit::dead_letter;
use crate::pipeline::outcome::Letter;

const NAME: &str = "dead-letters.ndjson";
const PART: &str = ".dead-letters.ndjson.part";

/// See the head of this file.
pub(super) struct LettersFile {
    dir: PathBuf,
    file: Option<BufWriter<File>>,
    count: u64,
}

impl LettersFile {
    pub(super) fn new(dir: &Path) -> LettersFile {
        LettersFile { dir: dir.to_owned(), file: None, count: 0 }
    }

    /// Appends the letters of the slice that begins at `slice`. Blocks.
    pub(super) fn append(&mut self, slice: u64, letters: &[(Letter, Bytes)], now: i64) -> io::Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                std::fs::create_dir_all(&self.dir)?;
                self.file.insert(BufWriter::with_capacity(64 << 10, File::create(self.dir.join(PART))?))
            }
        };
        for (letter, payload) in letters {
            self.count += 1;
            let mut line = dead_letter(slice, letter, payload);
            (line.number, line.failed) = (self.count, now);
            serde_json::to_writer(&mut *file, &line)?;
            file.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Gives the file its name, durably; `None` if there are no letters. Blocks.
    pub(super) fn finish(mut self) -> io::Result<Option<PathBuf>> {
        let path = self.dir.join(NAME);
        let Some(file) = self.file.take() else {
            // An earlier run of the same replay may have got further before it was cut off, but it was not done.
            return Ok(None);
        };
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        std::fs::rename(self.dir.join(PART), &path)?;
        File::open(&self.dir)?.sync_all()?;
        Ok(Some(path))
    }
}

impl Drop for LettersFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Of a replay that was cut off: nothing half is left behind.
            let _gone = std::fs::remove_file(self.dir.join(PART));
        }
    }
}
