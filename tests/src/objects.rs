//! What a directory destination holds: objects by name, and the lines in them.

use std::fs;
use std::path::{Path, PathBuf};

use wasmill_encode::{Encoding, decompress};

const OBJECT_BYTES_MAX: usize = 1 << 30;

/// Every file below `dir` in the order of its path; hidden directories (staging) are left out.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !hidden => found.extend(files(&path)),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

/// The bytes of an object, opened as its extension says. An object that vanished meanwhile is empty.
pub fn open(file: &Path) -> Vec<u8> {
    let Ok(bytes) = fs::read(file) else { return Vec::new() };
    let encoding = match file.extension().and_then(|extension| extension.to_str()) {
        Some("zst") => Encoding::Zstd,
        Some("gz") => Encoding::Gzip,
        _ => return bytes,
    };
    let mut opened = Vec::new();
    match decompress(encoding, &bytes, OBJECT_BYTES_MAX, &mut opened) {
        Ok(()) => opened,
        Err(error) => panic!("{}: {error}", file.display()),
    }
}

/// Whether a file below `dir` has this text.
pub fn have(dir: &Path, text: &str) -> bool {
    let has = |file: &PathBuf| {
        let bytes = fs::read(file).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    files(dir).iter().any(has)
}

/// Lines of all objects, in the order of the objects' names.
pub fn lines(dir: &Path) -> Vec<String> {
    let text = |file: &PathBuf| String::from_utf8_lossy(&open(file)).into_owned();
    let texts: Vec<String> = files(dir).iter().map(text).collect();
    texts.iter().flat_map(|text| text.lines().map(str::to_owned)).collect()
}

/// The numbers under `key` in NDJSON objects, sorted.
pub fn numbers(dir: &Path, key: &str) -> Vec<u64> {
    let mut found: Vec<u64> = lines(dir).iter().map(|line| number(line, key)).collect();
    found.sort_unstable();
    found
}

/// The number under `key` of one line.
pub fn number(line: &str, key: &str) -> u64 {
    let row: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    row[key].as_u64().unwrap_or_else(|| panic!("{line:?} has no number {key:?}"))
}

/// Staged files that nothing has moved away.
pub fn staged(dir: &Path) -> Vec<PathBuf> {
    files(&dir.join(".wasmill-staging"))
}
