//! One file of letters: reading its lines up to what is known to be whole, and writing it anew without some of them.
//! Beside it: small files that are replaced as a whole.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::letter::DeadLetter;

/// What is known of a file without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LetterFile {
    pub(super) path: PathBuf,
    /// Whole lines.
    pub(super) bytes: u64,
    pub(super) count: u64,
    /// No letter in it has a higher number; 0 when it never had one.
    pub(super) last_number: u64,
    /// When its first letter failed, `i64::MAX` without one.
    pub(super) first_failed: i64,
}

impl LetterFile {
    pub(super) fn empty(path: PathBuf) -> LetterFile {
        LetterFile { path, bytes: 0, count: 0, last_number: 0, first_failed: i64::MAX }
    }

    pub(super) fn note(&mut self, letter: &DeadLetter, bytes: u64) {
        self.bytes += bytes;
        self.count += 1;
        self.last_number = self.last_number.max(letter.number);
        self.first_failed = self.first_failed.min(letter.failed);
    }

    /// Calls `each` with every whole line and the letter in it (`None`: nothing that this version can read) until it
    /// says false. A file that is gone has no lines.
    pub(super) fn read(&self, each: impl FnMut(&[u8], Option<DeadLetter>) -> bool) -> io::Result<()> {
        match File::open(&self.path) {
            Ok(file) => read_lines(&file, self.bytes, each),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes the file anew with what `change` makes of each line (`None`: nothing); complete or not at all.
    pub(super) fn rewrite(
        &self,
        mut change: impl FnMut(&[u8], Option<DeadLetter>) -> Option<Vec<u8>>,
    ) -> io::Result<LetterFile> {
        let part = self.path.with_extension("part");
        let mut to = BufWriter::new(File::create(&part)?);
        let mut next = LetterFile { last_number: self.last_number, ..LetterFile::empty(self.path.clone()) };
        let mut written = Ok(());
        self.read(|line, letter| {
            let failed = letter.as_ref().map(|letter| letter.failed);
            if let Some(line) = change(line, letter) {
                written = to.write_all(&line);
                next.bytes += line.len() as u64;
                next.count += u64::from(failed.is_some());
                next.first_failed = next.first_failed.min(failed.unwrap_or(i64::MAX));
            }
            written.is_ok()
        })?;
        written?;
        to.into_inner()?.sync_all()?;
        std::fs::rename(&part, &self.path)?;
        Ok(next)
    }
}

/// Calls `each` with every whole line of the first `bytes` and the letter in it, until it says false.
pub(super) fn read_lines(
    file: &File,
    bytes: u64,
    mut each: impl FnMut(&[u8], Option<DeadLetter>) -> bool,
) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, file.take(bytes));
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 || line.last() != Some(&b'\n') {
            return Ok(());
        }
        if !each(&line, serde_json::from_slice(&line).ok()) {
            return Ok(());
        }
    }
}

/// Lines of a file that are no letters.
#[derive(Default)]
pub(super) struct Unreadable {
    seen: u64,
    first: Option<u64>,
    count: u64,
}

impl Unreadable {
    pub(super) fn note(&mut self, readable: bool) {
        self.seen += 1;
        if !readable {
            self.first.get_or_insert(self.seen);
            self.count += 1;
        }
    }

    pub(super) fn tell(&self, path: &Path) {
        if let Some(first) = self.first {
            tracing::error!(
                file = %path.display(), line = first, lines = self.count,
                "lines that are no dead letters, from this one on, are left as they are; mend or remove them while no host runs"
            );
        }
    }
}

/// The letter as a line.
pub(super) fn line(letter: &DeadLetter) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(letter)?;
    line.push(b'\n');
    Ok(line)
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Replaces a small file as a whole, durably.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Reads a small file that is replaced as a whole; what a file that is missing stands for is the default.
pub(super) fn read_whole<T: Default + serde::de::DeserializeOwned>(
    path: PathBuf,
    remedy: &'static str,
) -> Result<T, StoreError> {
    match std::fs::read(&path) {
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|error| StoreError::Damaged { path, error, remedy })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(StoreError::Io { path, error }),
    }
}
