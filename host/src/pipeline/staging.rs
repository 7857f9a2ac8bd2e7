//! Where the objects of one output lie until they are delivered.
//!
//! A directory destination has a staging directory inside its root, so that delivery is one rename. When nothing can
//! be made there (it is full, read-only or gone), objects are made in the spool below the data directory instead: a
//! destination in trouble must hold up its own deliveries, never the outcome that all outputs of the stream share.
//! Other destinations have the spool as their staging directory. Nothing here decides when an object is made or sent.

use std::collections::HashSet;
use std::io::{self, IoSlice, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmill_buffer::{Disk, DiskFile, RealDisk};
use wasmill_config as config;
use wasmill_deliver::{BatchOwner, DeliverError, Fault, Retry, STAGING_NAME, SyncCount, incarnation_in};

use super::outcome::Sealed;

/// Directory below the data directory; see the head of this file.
pub(crate) const SPOOL_NAME: &str = "spool";
/// Bytes copied at a time.
const COPY_BYTES: usize = 256 << 10;

/// See the head of this file.
pub(crate) struct Staging {
    disk: Arc<dyn Disk>,
    /// Where the destination takes objects from.
    directory: PathBuf,
    /// Below the data directory; the same as `directory` for most destinations.
    spool: PathBuf,
    /// Nothing could be made in `directory` when it was last tried.
    failing: AtomicBool,
    syncs: SyncCount,
}

/// An object was made.
pub(crate) struct Made<T> {
    pub(crate) result: T,
    /// In the spool although the destination has a staging directory of its own; with why.
    pub(crate) spooled: bool,
    pub(crate) error: Option<io::Error>,
}

/// Writes one thing after the other into a file.
struct Appending<'a> {
    file: &'a dyn DiskFile,
    at: u64,
}

impl Write for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(&[IoSlice::new(bytes)], self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Staging {
    /// Where the destination takes objects from.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes both directories where they are missing.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        spool: PathBuf,
        syncs: SyncCount,
    ) -> Result<Staging, (PathBuf, io::Error)> {
        for path in [&directory, &spool] {
            disk.create_dir(path).map_err(|error| (path.clone(), error))?;
        }
        Ok(Staging { disk, directory, spool, failing: AtomicBool::new(false), syncs })
    }

    /// Where the destination expects the file.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// Where the file of a sealed batch is that its outcome does not carry.
    pub(crate) fn made(&self, sealed: &Sealed) -> PathBuf {
        if sealed.spooled { self.spool.join(&sealed.staged) } else { self.directory.join(&sealed.staged) }
    }

    /// Makes a synced file, in the spool if it cannot be made where the destination would take it from.
    /// An error is one of the spool, and names the path.
    pub(crate) fn make<T>(
        &self,
        file: &str,
        mut write: impl FnMut(&mut (dyn Write + Send)) -> io::Result<T>,
    ) -> Result<Made<T>, (PathBuf, io::Error)> {
        let own = self.spool == self.directory;
        let mut error = None;
        if !own && !self.failing.load(Ordering::Relaxed) {
            match self.write(&self.directory.join(file), true, &mut write) {
                Ok(result) => return Ok(Made { result, spooled: false, error: None }),
                Err(failed) => {
                    self.failing.store(true, Ordering::Relaxed);
                    error = Some(failed);
                }
            }
        }
        let path = self.spool.join(file);
        let result = self.write(&path, true, &mut write).map_err(|error| (path, error))?;
        Ok(Made { result, spooled: !own, error })
    }

    /// Makes a synced file where the destination takes it from, and nowhere else.
    pub(crate) fn make_in_place<T>(
        &self,
        file: &str,
        mut write: impl FnMut(&mut (dyn Write + Send)) -> io::Result<T>,
    ) -> io::Result<T> {
        self.write(&self.directory.join(file), true, &mut write)
    }

    /// Makes the names of files durable that were made in the spool or in the staging directory.
    pub(crate) fn sync(&self, spooled: bool) -> Result<(), (PathBuf, io::Error)> {
        let directory = if spooled { &self.spool } else { &self.directory };
        let synced = self.disk.sync_dir(directory);
        if synced.is_err() && !spooled {
            self.failing.store(true, Ordering::Relaxed);
        }
        synced.map_err(|error| (directory.clone(), error))?;
        self.syncs.add_one();
        Ok(())
    }

    /// The destination works (again).
    pub(crate) fn works(&self) {
        self.failing.store(false, Ordering::Relaxed);
    }

    /// Brings a file that was made elsewhere to where the destination takes it from; under its name only when it is
    /// whole.
    pub(crate) fn fetch(&self, from: &Path, file: &str) -> Result<(), DeliverError> {
        let to = self.directory.join(file);
        if from == to || self.disk.open(&to).is_ok() {
            return Ok(());
        }
        let part = self.directory.join(format!("{file}.copy"));
        let copied = self.disk.open(from).and_then(|source| {
            self.write(&part, true, &mut |made| copy(&*source, made))?;
            self.disk.rename(&part, &to)
        });
        copied.map_err(|error| {
            host_error(
                "cannot copy the staged object",
                &error,
                format!("{} to {}", from.display(), to.display()),
            )
        })
    }

    /// Writes a small object that its outcome carries to where the destination takes it from.
    pub(crate) fn materialise(&self, object: &[u8], file: &str, sync: bool) -> Result<(), DeliverError> {
        let path = self.directory.join(file);
        self.write(&path, sync, &mut |made| made.write_all(object))
            .map_err(|error| host_error("cannot write the staged object", &error, path.display().to_string()))
    }

    /// Writes a small object into the spool, whatever state the destination is in.
    pub(crate) fn spool(&self, object: &[u8], file: &str) -> Result<PathBuf, (PathBuf, io::Error)> {
        let path = self.spool.join(file);
        match self.write(&path, false, &mut |made| made.write_all(object)) {
            Ok(()) => Ok(path),
            Err(error) => Err((path, error)),
        }
    }

    /// Copies what is left to be read into a file of the spool.
    pub(crate) fn spool_from(
        &self,
        from: &mut dyn Read,
        file: &str,
    ) -> Result<PathBuf, (PathBuf, io::Error)> {
        let path = self.spool.join(file);
        match self.write(&path, false, &mut |made| io::copy(from, made)) {
            Ok(_bytes) => Ok(path),
            Err(error) => Err((path, error)),
        }
    }

    /// Removes what is left of a file in both directories.
    pub(crate) fn discard(&self, file: &str) -> Result<(), (PathBuf, io::Error)> {
        for directory in self.directories() {
            let path = directory.join(file);
            match self.disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err((path, error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes copies of a file of another output, which stays where it was made.
    pub(crate) fn discard_copy(&self, file: &str, made: &Path) {
        for path in self.directories().map(|directory| directory.join(file)).filter(|path| path != made) {
            // The next start removes what cannot be removed now.
            drop(self.disk.remove(&path));
        }
    }

    /// Removes files that belong to `owners` and are not `needed`; the rest goes to `failed`.
    pub(crate) fn clean(
        &self,
        owners: &[BatchOwner],
        needed: &HashSet<PathBuf>,
        mut failed: impl FnMut(&Path, io::Error),
    ) {
        for directory in self.directories() {
            clean(&*self.disk, directory, owners, needed, &mut failed);
        }
    }

    fn directories(&self) -> impl Iterator<Item = &Path> {
        let spool = (self.spool != self.directory).then_some(self.spool.as_path());
        std::iter::once(self.directory.as_path()).chain(spool)
    }

    fn write<T>(
        &self,
        path: &Path,
        sync: bool,
        write: &mut dyn FnMut(&mut (dyn Write + Send)) -> io::Result<T>,
    ) -> io::Result<T> {
        let written = self.disk.create(path, 0, false).and_then(|file| {
            let result = write(&mut Appending { file: &*file, at: 0 })?;
            if sync {
                file.sync()?;
                self.syncs.add_one();
            }
            Ok(result)
        });
        if written.is_err() {
            // A file cut short may be what fills the disk; when it cannot be removed, the next start does.
            drop(self.disk.remove(path));
        }
        written
    }
}

/// Removes whatever the spool has of a stream that is gone, and calls `failed` for what stays. Blocks.
pub(crate) fn remove_spooled(data_dir: &Path, incarnation: [u8; 16], failed: impl FnMut(&Path, io::Error)) {
    let owners = [BatchOwner::of_stream(incarnation)];
    let spool = data_dir.join(SPOOL_NAME);
    // There is none where no output was ever opened.
    if spool.exists() {
        clean(&RealDisk, &spool, &owners, &HashSet::new(), failed);
    }
}

/// Removes what the spool has of streams that are none of these: a crash came between the end of a stream and that of its
/// objects, or they could not be removed. How many files went; what stays goes to `failed`. Blocks.
pub(crate) fn remove_spooled_of_others(
    data_dir: &Path,
    known: &[[u8; 16]],
    mut failed: impl FnMut(&Path, io::Error),
) -> usize {
    let spool = data_dir.join(SPOOL_NAME);
    if !spool.exists() {
        return 0;
    }
    let names = match RealDisk.list(&spool) {
        Ok(names) => names,
        Err(error) => {
            failed(&spool, error);
            return 0;
        }
    };
    let foreign = |name: &String| incarnation_in(name).is_some_and(|of| !known.contains(&of));
    let mut removed = 0;
    for path in names.iter().filter(|name| foreign(name)).map(|name| spool.join(name)) {
        match RealDisk.remove(&path) {
            Ok(()) => removed += 1,
            Err(error) => failed(&path, error),
        }
    }
    removed
}

/// Where outputs of a stream stage objects within their destinations.
pub(crate) fn staging_dirs(stream: &config::Stream) -> Vec<PathBuf> {
    let letters = stream.dead_letters.output.iter().map(|letters| &letters.output);
    let roots = stream.outputs.iter().chain(letters).filter_map(|output| match &output.destination {
        config::Destination::Directory(directory) => Some(directory.path.join(STAGING_NAME)),
        _ => None,
    });
    roots.collect()
}

/// Removes whatever such a directory has of a stream that is gone, and calls `failed` for what stays. Blocks.
pub(crate) fn remove_staged(directory: &Path, incarnation: [u8; 16], failed: impl FnMut(&Path, io::Error)) {
    // Whoever took the destination away took it with what was in it.
    if directory.exists() {
        clean(&RealDisk, directory, &[BatchOwner::of_stream(incarnation)], &HashSet::new(), failed);
    }
}

/// Removes files that belong to `owners` and are not `needed`; the rest goes to `failed`.
fn clean(
    disk: &dyn Disk,
    directory: &Path,
    owners: &[BatchOwner],
    needed: &HashSet<PathBuf>,
    mut failed: impl FnMut(&Path, io::Error),
) {
    let names = match disk.list(directory) {
        Ok(names) => names,
        Err(error) => return failed(directory, error),
    };
    for path in names
        .iter()
        .filter(|name| owners.iter().any(|owner| owner.owns(name)))
        .map(|name| directory.join(name))
        .filter(|path| !needed.contains(path))
    {
        if let Err(error) = disk.remove(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            failed(&path, error);
        }
    }
}

fn copy(from: &dyn DiskFile, to: &mut dyn Write) -> io::Result<()> {
    let mut bytes = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let read = from.read_at(&mut bytes, at)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&bytes[..read])?;
        at += read as u64;
    }
}

/// With its cause, which names no path.
fn host_error(message: &str, error: &io::Error, detail: String) -> DeliverError {
    DeliverError::new(Fault::Host, Retry::Later { after: None }, format!("{message}: {error}"), detail)
}
