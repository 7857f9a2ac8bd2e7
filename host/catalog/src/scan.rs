//! What is in the plugin directory: `NAME.wasm`, and perhaps `NAME.json` and `NAME.wasm.sig` beside it.
//!
//! Owns the reading of files that others may be writing: what it hands over did not change while it was read. Hidden
//! files and other extensions are not looked at; symbolic links are followed; nothing but a regular file is opened.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::signing::SIGNATURE_BYTES_MAX;

/// Plugin files that a directory may hold.
pub(crate) const FILES_MAX: usize = 4096;
const SIDECAR_BYTES_MAX: u64 = 1 << 20;

/// Changes whenever a file's contents may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    pub(crate) bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Of a plugin file, of its sidecar and of its signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamps {
    pub(crate) wasm: Stamp,
    pub(crate) sidecar: Option<Stamp>,
    pub(crate) signature: Option<Stamp>,
}

impl Stamps {
    /// Seconds since 1970 of the last change of any.
    pub(crate) fn changed(&self) -> i64 {
        let beside = [self.sidecar, self.signature].into_iter().flatten().map(|stamp| stamp.changed.0);
        beside.fold(self.wasm.changed.0, i64::max)
    }
}

/// Which of the files of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Wasm,
    Sidecar,
    Signature,
}

/// The stem under which a file of the directory counts, if it does.
pub(crate) fn part_of(file_name: &OsStr) -> Option<(&OsStr, Part)> {
    if file_name.as_bytes().starts_with(b".") {
        return None;
    }
    let path = Path::new(file_name);
    let part = match path.extension()?.as_bytes() {
        b"sig" => {
            let wasm = Path::new(path.file_stem()?);
            return (wasm.extension()?.as_bytes() == b"wasm").then_some((wasm.file_stem()?, Part::Signature));
        }
        b"wasm" => Part::Wasm,
        b"json" => Part::Sidecar,
        _ => return None,
    };
    Some((path.file_stem()?, part))
}

pub(crate) fn wasm_path(directory: &Path, stem: &OsStr) -> PathBuf {
    with_extension(directory, stem, ".wasm")
}

pub(crate) fn signature_path(directory: &Path, stem: &OsStr) -> PathBuf {
    with_extension(directory, stem, ".wasm.sig")
}

pub(crate) fn sidecar_path(directory: &Path, stem: &OsStr) -> PathBuf {
    with_extension(directory, stem, ".json")
}

fn with_extension(directory: &Path, stem: &OsStr, extension: &str) -> PathBuf {
    let mut name = stem.to_owned();
    name.push(extension);
    directory.join(name)
}

/// Why a directory could not be listed.
#[derive(Debug)]
pub(crate) enum ListError {
    Io(io::Error),
    TooMany,
}

/// Every plugin file, by stem.
pub(crate) fn list(directory: &Path) -> Result<BTreeMap<OsString, Stamps>, ListError> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(ListError::Io)? {
        let name = entry.map_err(ListError::Io)?.file_name();
        let Some((stem, Part::Wasm)) = part_of(&name) else { continue };
        // One that is gone again, or cannot be looked at, is seen as such when it is read.
        if let Ok(Some(stamps)) = stamps(directory, stem) {
            if found.len() == FILES_MAX {
                return Err(ListError::TooMany);
            }
            found.insert(stem.to_owned(), stamps);
        }
    }
    Ok(found)
}

/// As the files are now; `None` if there is no plugin file.
pub(crate) fn stamps(directory: &Path, stem: &OsStr) -> io::Result<Option<Stamps>> {
    let Some(wasm) = stamp(&wasm_path(directory, stem))? else { return Ok(None) };
    let sidecar = stamp(&sidecar_path(directory, stem))?;
    Ok(Some(Stamps { wasm, sidecar, signature: stamp(&signature_path(directory, stem))? }))
}

fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(Stamp::from(&metadata))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// All files as they were at one moment.
pub(crate) struct Contents {
    pub(crate) stamps: Stamps,
    pub(crate) wasm: Vec<u8>,
    /// `None` if there is none.
    pub(crate) sidecar: Option<Result<Vec<u8>, ReadError>>,
    pub(crate) signature: Option<Result<Vec<u8>, ReadError>>,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the file has gone")]
    Gone,
    #[error("the file is being written")]
    Changing,
    #[error("{file} of {bytes} bytes is over the limit of {max}", file = .what)]
    TooLarge { what: &'static str, bytes: u64, max: u64 },
    #[error("{what} is not a regular file")]
    NotAFile { what: &'static str },
    #[error("read the {what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

/// Reads a plugin file and what is beside it, if nothing of it changes meanwhile.
pub(crate) fn read(directory: &Path, stem: &OsStr, wasm_bytes_max: u64) -> Result<Contents, ReadError> {
    let before = stamps(directory, stem).map_err(|source| ReadError::Io { what: "plugin file", source })?;
    let before = before.ok_or(ReadError::Gone)?;
    let wasm = read_file(&wasm_path(directory, stem), "plugin file", wasm_bytes_max)?;
    let sidecar = match read_sidecar(directory, stem) {
        Some(Err(ReadError::Changing)) => return Err(ReadError::Changing),
        sidecar => sidecar,
    };
    let signature = match read_signature(directory, stem) {
        Some(Err(ReadError::Changing)) => return Err(ReadError::Changing),
        signature => signature,
    };
    match stamps(directory, stem) {
        Ok(Some(now)) if now == before => Ok(Contents { stamps: now, wasm, sidecar, signature }),
        Ok(Some(_)) => Err(ReadError::Changing),
        Ok(None) => Err(ReadError::Gone),
        Err(source) => Err(ReadError::Io { what: "plugin file", source }),
    }
}

/// `None` if there is none.
pub(crate) fn read_signature(directory: &Path, stem: &OsStr) -> Option<Result<Vec<u8>, ReadError>> {
    match read_file(&signature_path(directory, stem), "signature file", SIGNATURE_BYTES_MAX) {
        Err(ReadError::Gone) => None,
        signature => Some(signature),
    }
}

/// `None` if there is none.
pub(crate) fn read_sidecar(directory: &Path, stem: &OsStr) -> Option<Result<Vec<u8>, ReadError>> {
    match read_file(&sidecar_path(directory, stem), "sidecar", SIDECAR_BYTES_MAX) {
        Err(ReadError::Gone) => None,
        sidecar => Some(sidecar),
    }
}

fn read_file(path: &Path, what: &'static str, max: u64) -> Result<Vec<u8>, ReadError> {
    let failed =
        |source: io::Error| if is_gone(&source) { ReadError::Gone } else { ReadError::Io { what, source } };
    // A pipe must not hold up the thread, neither here nor if it takes the place of a file right now.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(ReadError::NotAFile { what });
    }
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
    let before = look(&file).map_err(failed)?.ok_or(ReadError::NotAFile { what })?;
    if before.bytes > max {
        return Err(ReadError::TooLarge { what, bytes: before.bytes, max });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.bytes).unwrap_or_default() + 1);
    file.by_ref().take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    let after = look(&file).map_err(failed)?.ok_or(ReadError::NotAFile { what })?;
    if after != before || bytes.len() as u64 != before.bytes {
        return Err(ReadError::Changing);
    }
    Ok(bytes)
}

fn look(file: &File) -> io::Result<Option<Stamp>> {
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then(|| Stamp::from(&metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_of_hidden_temporary_and_foreign_files_is_none() {
        for name in [
            ".parse.wasm",
            ".wasm",
            "parse.wasm.tmp",
            "parse.tmp",
            "parse",
            "parse.WASM",
            "README.md",
            "parse.sig",
            ".wasm.sig",
        ] {
            assert_eq!(part_of(OsStr::new(name)), None, "{name}");
        }
        assert_eq!(part_of(OsStr::new("parse.wasm")), Some((OsStr::new("parse"), Part::Wasm)));
        assert_eq!(part_of(OsStr::new("parse.json")), Some((OsStr::new("parse"), Part::Sidecar)));
        assert_eq!(part_of(OsStr::new("a.b.wasm")), Some((OsStr::new("a.b"), Part::Wasm)));
        assert_eq!(part_of(OsStr::new("a.b.wasm.sig")), Some((OsStr::new("a.b"), Part::Signature)));
    }

    #[test]
    fn read_directory_or_pipe_in_place_of_a_file_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("a.wasm")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, directory.path().join("b.wasm"), 0o600.into()).unwrap();
        for stem in ["a", "b"] {
            let read = read(directory.path(), OsStr::new(stem), 100);
            assert!(matches!(read, Err(ReadError::NotAFile { .. })), "{stem}");
        }
    }

    #[test]
    fn read_file_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.wasm"), [7; 100]).unwrap();
        fs::write(directory.path().join("a.json"), "{}").unwrap();
        let contents = read(directory.path(), OsStr::new("a"), 100).unwrap();
        assert_eq!((contents.wasm.len(), contents.sidecar.unwrap().unwrap()), (100, b"{}".to_vec()));
        let over = read(directory.path(), OsStr::new("a"), 99);
        assert!(matches!(over, Err(ReadError::TooLarge { bytes: 100, max: 99, .. })));
        assert!(matches!(read(directory.path(), OsStr::new("c"), 99), Err(ReadError::Gone)));
    }
}
