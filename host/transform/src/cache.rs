//! Compiled code on disk, keyed by the plugin's digest and the engine's compatibility.
//!
//! File name: `<digest>-<compatibility>-<sha256 of the code>.cwasm`. The digest of the code is in the name, so that one
//! atomic rename publishes code and proof together, and a file that was damaged, cut or swapped is seen before it is
//! mapped as executable. The directory is private (0700); files are never changed in place. Who can write there as this
//! user can run code as this user anyway.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use crate::engine::Engine;
use crate::plugin::Digest;

const EXTENSION: &str = "cwasm";
const TEMPORARY: &str = ".new-";

/// A private directory of compiled code.
#[derive(Clone, Debug)]
pub struct CodeCache {
    directory: PathBuf,
}

/// Why compiled code could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("{action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is damaged or was not written by this cache")]
    Corrupt { path: PathBuf },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    move |source| CacheError::Io { action, path: path.to_owned(), source }
}

impl CodeCache {
    /// Opens or makes the directory, and makes it private.
    pub fn open(directory: &Path) -> Result<CodeCache, CacheError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed("create directory", directory))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
            .map_err(failed("make private", directory))?;
        Ok(CodeCache { directory: directory.to_owned() })
    }

    /// The file of this digest and engine, verified; `None` when there is none. A damaged one is removed and reported as
    /// `Corrupt`; the next call then finds none.
    pub fn get(&self, engine: &Engine, digest: Digest) -> Result<Option<PathBuf>, CacheError> {
        let prefix = prefix(engine, digest);
        let entries = fs::read_dir(&self.directory).map_err(failed("list", &self.directory))?;
        for entry in entries {
            let path = entry.map_err(failed("list", &self.directory))?.path();
            let ours =
                path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix));
            if !ours {
                continue;
            }
            return match verify(&path) {
                Ok(()) => Ok(Some(path)),
                Err(error) => {
                    fs::remove_file(&path).map_err(failed("remove damaged", &path))?;
                    Err(error)
                }
            };
        }
        Ok(None)
    }

    /// Removes all code of this digest, whichever engine it is for. Who has mapped it keeps it.
    pub fn remove(&self, digest: Digest) -> Result<(), CacheError> {
        let prefix = format!("{}-", digest.hex());
        for entry in fs::read_dir(&self.directory).map_err(failed("list", &self.directory))? {
            let path = entry.map_err(failed("list", &self.directory))?.path();
            let ours =
                path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix));
            if ours {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Writes compiled code (temporary file, sync, rename) and returns its path.
    pub fn put(&self, engine: &Engine, digest: Digest, code: &[u8]) -> Result<PathBuf, CacheError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}{}.{EXTENSION}", prefix(engine, digest), Digest::of(code).hex());
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let path = self.directory.join(name);
        let written = (|| {
            let mut file = File::create_new(&temporary).map_err(failed("create", &temporary))?;
            file.write_all(code).map_err(failed("write", &temporary))?;
            file.sync_data().map_err(failed("sync", &temporary))?;
            fs::rename(&temporary, &path).map_err(failed("rename to", &path))
        })();
        if written.is_err() {
            // Whatever is left is only in the way; the error that counts is the first.
            let _ignored = fs::remove_file(&temporary);
        }
        written.map(|()| path)
    }
}

fn prefix(engine: &Engine, digest: Digest) -> String {
    format!("{}-{}-", digest.hex(), engine.compatibility())
}

/// Whether the file's contents are what its name says that the cache wrote.
pub(crate) fn verify(path: &Path) -> Result<(), CacheError> {
    check(path, |_piece| {})
}

/// The file's contents, if they are what its name says.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CacheError> {
    let mut code = Vec::new();
    check(path, |piece| code.extend_from_slice(piece))?;
    Ok(code)
}

fn check(path: &Path, mut see: impl FnMut(&[u8])) -> Result<(), CacheError> {
    let corrupt = || CacheError::Corrupt { path: path.to_owned() };
    let stem = path
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_suffix(EXTENSION)?.strip_suffix('.'))
        .ok_or_else(corrupt)?;
    let (_, code_hex) = stem.rsplit_once('-').ok_or_else(corrupt)?;
    let mut file = File::open(path).map_err(failed("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                hasher.update(&buffer[..read]);
                see(&buffer[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read", path)(error)),
        }
    }
    if Digest(hasher.finalize().into()).hex() == code_hex { Ok(()) } else { Err(corrupt()) }
}
