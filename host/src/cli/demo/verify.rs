//! Reads back what the demo has delivered, with nothing but the files.
//!
//! Every object is opened and every line must be JSON; what comes out is counted, never believed.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::de::IgnoredAny;
use wasmill_encode::{Decompressor, Encoding};

/// Most bytes of one object, uncompressed: several times what makes a batch due.
const OBJECT_BYTES_MAX: usize = 512 << 20;

/// What lies in the output directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) records: u64,
    /// Uncompressed.
    pub(super) raw_bytes: u64,
    pub(super) bytes: u64,
    /// In the order of their names.
    pub(super) objects: Vec<PathBuf>,
}

/// Reads every object below `dir`. Blocks.
pub(super) fn objects(dir: &Path) -> Result<Delivered> {
    let mut delivered = Delivered::default();
    let mut found = Vec::new();
    files(dir, &mut found)?;
    found.sort();
    let mut decompressor = Decompressor::new();
    let mut lines = Vec::new();
    for path in found {
        let object = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        lines.clear();
        decompressor
            .decompress(Encoding::Zstd, &object, OBJECT_BYTES_MAX, &mut lines)
            .with_context(|| format!("decompress {}", path.display()))?;
        if !lines.is_empty() && !lines.ends_with(b"\n") {
            bail!("{} does not end with a whole line", path.display());
        }
        for (number, line) in lines.split_inclusive(|byte| *byte == b'\n').enumerate() {
            serde_json::from_slice::<IgnoredAny>(line)
                .with_context(|| format!("line {} of {} is no JSON", number + 1, path.display()))?;
            delivered.records += 1;
        }
        delivered.bytes += object.len() as u64;
        delivered.raw_bytes += lines.len() as u64;
        delivered.objects.push(path);
    }
    Ok(delivered)
}

/// Lines of a file; none if there is no file.
pub(super) fn lines(path: &Path) -> Result<u64> {
    if !path.exists() {
        return Ok(0);
    }
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut reader = BufReader::new(file);
    let mut lines = 0;
    loop {
        let piece = reader.fill_buf().with_context(|| format!("read {}", path.display()))?;
        if piece.is_empty() {
            return Ok(lines);
        }
        lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        let read = piece.len();
        reader.consume(read);
    }
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry.with_context(|| format!("read {}", dir.display()))?;
        let kind = entry.file_type().with_context(|| format!("read {}", entry.path().display()))?;
        // Names that begin with a dot are being written.
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if kind.is_dir() && !hidden {
            files(&entry.path(), found)?;
        } else if kind.is_file() && !hidden {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasmill_encode::{Compression, Encoder, Format};

    use super::*;

    fn object(lines: &[&str]) -> Vec<u8> {
        let mut object = Vec::new();
        let rows = lines.iter().map(|line| Ok(format!("{line}\n")));
        Encoder::new()
            .encode(Format::Ndjson, Compression::Zstd { level: 3 }, None, rows, &mut object)
            .unwrap();
        object
    }

    #[test]
    fn objects_are_read_back_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("access/2026")).unwrap();
        std::fs::write(dir.path().join("access/2026/b.ndjson.zst"), object(&["{\"a\":1}", "{}"])).unwrap();
        std::fs::write(dir.path().join("access/a.ndjson.zst"), object(&["[]"])).unwrap();
        std::fs::write(dir.path().join("access/.half"), "nonsense").unwrap();
        let delivered = objects(dir.path()).unwrap();
        assert_eq!((delivered.records, delivered.raw_bytes, delivered.objects.len()), (3, 14, 2));
        assert_eq!(objects(&dir.path().join("nowhere")).unwrap(), Delivered::default());
    }

    #[test]
    fn object_that_is_damaged_or_holds_no_json_is_an_error_that_names_it() {
        for bytes in [object(&["{}", "{\"a\":"]), object(&["{}"])[..6].to_vec(), b"{}\n".to_vec()] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("x.zst"), bytes).unwrap();
            let error = objects(dir.path()).unwrap_err();
            assert!(error.to_string().contains("x.zst"), "{error:#}");
        }
    }

    #[test]
    fn lines_of_a_missing_file_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("letters.ndjson");
        assert_eq!(lines(&path).unwrap(), 0);
        std::fs::write(&path, "{}\n{}\n").unwrap();
        assert_eq!(lines(&path).unwrap(), 2);
    }
}
