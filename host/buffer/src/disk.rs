//! The few file operations that the journal needs, behind a trait, so that tests can fail them.
//!
//! Owns paths, preallocation, syncs and the lock. Knows nothing of frames.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, AtFlags, CWD, FlockOperation, Statx, StatxFlags, statx};
use rustix::io::Errno;

/// A directory tree to keep a journal in.
pub trait Disk: Send + Sync + 'static {
    /// Creates the directory and its parents, durably.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names of the files and directories in `path`, sorted; empty if there is no such directory.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates or truncates a file and reserves `bytes` for it. With `zeroed` they are also written and
    /// synced: slower now, but later syncs of the content change no metadata, which makes them faster.
    fn create(&self, path: &Path, bytes: u64, zeroed: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Atomic; durable only after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; durable only after `sync_dir`.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes an exclusive lock, held until the value is dropped; the error is the holder's text.
    fn lock(&self, path: &Path) -> io::Result<Result<Box<dyn DiskLock>, String>>;
    /// Random bytes for identities.
    fn entropy(&self, bytes: &mut [u8]) -> io::Result<()>;
}

/// An open file. It stays readable after it was removed.
pub trait DiskFile: Send + Sync + 'static {
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads some bytes; 0 at the end of the file.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes some of the bytes and says how many.
    fn write_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize>;
    /// Makes everything written so far durable.
    fn sync(&self) -> io::Result<()>;
    /// True while `path` names this file: it was not removed, moved or replaced.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
    /// Forgets clean cached pages, so that the next read shows what the device holds: after a failed sync
    /// the cache may hold what was never stored.
    fn forget_cache(&self) -> io::Result<()>;
}

/// Held while the journal is open.
pub trait DiskLock: Send + Sync {
    /// True while others would meet this lock: its file was not removed, moved or replaced.
    fn is_in_place(&self) -> io::Result<bool>;
}

/// Reads exactly `bytes.len()` bytes, or says how many there were.
pub(crate) fn read_full(file: &dyn DiskFile, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..)
        && !rest.is_empty()
    {
        match file.read_at(rest, at + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all slices, in as many calls as it takes.
pub(crate) fn write_full(file: &dyn DiskFile, mut slices: &mut [IoSlice<'_>], mut at: u64) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let batch = slices.get(..crate::limits::IO_SLICES_MAX).unwrap_or(slices);
        match file.write_at(batch, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                at += n as u64;
                IoSlice::advance_slices(&mut slices, n);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// True of what passes once there is space again.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

struct RealLock {
    file: File,
    path: PathBuf,
}

impl DiskLock for RealLock {
    fn is_in_place(&self) -> io::Result<bool> {
        self.file.is_at(&self.path)
    }
}

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent()
            && !parent.as_os_str().is_empty()
        {
            self.create_dir(parent)?;
        }
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent),
            _ => self.sync_dir(Path::new(".")),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is no UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn create(&self, path: &Path, bytes: u64, zeroed: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        if bytes > 0 {
            // Space is reserved first, so that a full disk is found at once. Not every file system can.
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if zeroed {
            let zeros = vec![0; 1 << 20];
            let mut at = 0;
            while at < bytes {
                let len = (bytes - at).min(zeros.len() as u64);
                file.write_all_at(zeros.get(..usize::try_from(len).unwrap_or(0)).unwrap_or(&zeros), at)?;
                at += len;
            }
            file.sync_all()?;
        }
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Result<Box<dyn DiskLock>, String>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = [0; 128];
                let len = FileExt::read_at(&file, &mut text, 0)?;
                let text = text.get(..len).unwrap_or(&text);
                return Ok(Err(String::from_utf8_lossy(text).trim().to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        file.set_len(0)?;
        let host = rustix::system::uname();
        let text = format!("{} on {}\n", std::process::id(), host.nodename().to_string_lossy());
        file.write_all_at(text.as_bytes(), 0)?;
        Ok(Ok(Box::new(RealLock { file, path: path.to_owned() })))
    }

    fn entropy(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..)
            && !rest.is_empty()
        {
            done += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
        }
        Ok(())
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, at)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, slices, at)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        // Only these: whoever asks for the time of a change has the file system note the next one exactly, with a write of its
        // own for each sync.
        let file_of = |statx: Statx| (statx.stx_dev_major, statx.stx_dev_minor, statx.stx_ino);
        let named = match statx(CWD, path, AtFlags::empty(), StatxFlags::INO) {
            Ok(named) => named,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            // Some sandboxes know no such call.
            Err(Errno::NOSYS | Errno::PERM) => {
                let (own, named) = (self.metadata()?, std::fs::metadata(path)?);
                return Ok((own.dev(), own.ino()) == (named.dev(), named.ino()));
            }
            Err(error) => return Err(error.into()),
        };
        let own = statx(self, "", AtFlags::EMPTY_PATH, StatxFlags::INO)?;
        Ok(file_of(own) == file_of(named))
    }

    fn forget_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(self, 0, None, Advice::DontNeed)?)
    }
}
