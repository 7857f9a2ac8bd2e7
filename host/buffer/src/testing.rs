//! A disk in memory that fails, fills up and loses power as a seed says, and a journal without threads on it.
//!
//! Owns the model of what a disk may do: a write is stored only by a sync; when power is lost, or a sync fails,
//! any of its 512-byte sectors may be stored or not; directory changes are kept in order, up to some point, unless
//! the directory was synced. The same seed and the same calls give the same trace. Knows nothing of frames.

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use self::model::{Change, Inner, Inode};
use crate::disk::{Disk, DiskFile, DiskLock};
use crate::journal::Journal;
use crate::state::lock;

/// What goes wrong next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The next write stores a part in the cache and says so; the one after it fails.
    ShortWrite,
    /// The next write fails, and may have changed some of its bytes.
    Write,
    /// The next sync of a file fails: what it was to store is stored in part, and counts as clean.
    Sync,
}

/// See the module.
#[derive(Clone)]
pub struct FaultyDisk {
    inner: Arc<Mutex<Inner>>,
}

struct FaultyFile {
    disk: FaultyDisk,
    inode: usize,
    boot: u64,
}

struct FaultyLock {
    disk: FaultyDisk,
    path: PathBuf,
    boot: u64,
}

impl FaultyDisk {
    pub fn new(seed: u64) -> FaultyDisk {
        let inner = Inner {
            random: seed,
            trace: 0xcbf2_9ce4_8422_2325,
            operations: 0,
            crash_at: None,
            off: false,
            boots: 0,
            faults: Vec::new(),
            fault_per_mille: 0,
            capacity: u64::MAX,
            inodes: Vec::new(),
            directories: BTreeMap::new(),
            locks: BTreeSet::new(),
        };
        FaultyDisk { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Another disk with the same content, whose chances are its own.
    pub fn copy(&self, seed: u64) -> FaultyDisk {
        let mut inner = lock(&self.inner).clone();
        inner.random = seed;
        FaultyDisk { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Bytes of all files together before the disk is full.
    pub fn set_capacity(&self, bytes: u64) {
        lock(&self.inner).capacity = bytes;
    }

    /// Bytes of all files together.
    pub fn used(&self) -> u64 {
        lock(&self.inner).used()
    }

    /// Queues faults; each strikes at the next operation that it fits, in this order.
    pub fn fail_next(&self, faults: &[Fault]) {
        lock(&self.inner).faults.extend_from_slice(faults);
    }

    /// How many of 1,000 writes and syncs fail of themselves.
    pub fn fail_at_random(&self, per_mille: u64) {
        lock(&self.inner).fault_per_mille = per_mille;
    }

    /// Dies in the midst of this operation, counted as `operations` counts: `reboot` makes it a loss of power,
    /// `restart` the end of the process.
    pub fn crash_at(&self, operation: Option<u64>) {
        lock(&self.inner).crash_at = operation;
    }

    /// Dies now.
    pub fn crash(&self) {
        lock(&self.inner).off = true;
    }

    pub fn is_off(&self) -> bool {
        lock(&self.inner).off
    }

    /// Operations so far that changed something, or were to.
    pub fn operations(&self) -> u64 {
        lock(&self.inner).operations
    }

    /// A digest of all operations so far and their results.
    pub fn trace(&self) -> u64 {
        lock(&self.inner).trace
    }

    /// A random number below `bound` from the disk's own sequence.
    pub fn random(&self, bound: u64) -> u64 {
        lock(&self.inner).below(bound)
    }

    /// Goes on with what the cache holds, as another process does. Files that were open are gone.
    pub fn restart(&self) {
        lock(&self.inner).start();
    }

    /// Decides what is left after the loss of power, and goes on with that. Files that were open are gone.
    pub fn reboot(&self) {
        let mut guard = lock(&self.inner);
        let inner = &mut *guard;
        inner.start();
        for inode in 0..inner.inodes.len() {
            inner.settle(inode);
            if let Some(inode) = inner.inodes.get_mut(inode) {
                inode.live.clone_from(&inode.stored);
            }
        }
        let paths: Vec<PathBuf> = inner.directories.keys().cloned().collect();
        for path in paths {
            let pending = inner.directories.get(&path).map_or(0, |d| d.pending.len());
            let kept = usize::try_from(inner.below(pending as u64 + 1)).unwrap_or(0);
            if let Some(directory) = inner.directories.get_mut(&path) {
                for change in directory.pending.drain(..).take(kept) {
                    change.apply(&mut directory.stored);
                }
                directory.live.clone_from(&directory.stored);
            }
        }
    }
}

fn failure() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl Disk for FaultyDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        inner.powered()?;
        for part in path.ancestors() {
            inner.directories.entry(part.to_owned()).or_default();
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let inner = lock(&self.inner);
        inner.powered()?;
        Ok(inner.directories.get(path).map(|d| d.live.keys().cloned().collect()).unwrap_or_default())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = lock(&self.inner);
        inner.powered()?;
        let (directory, name) = inner.directory(path)?;
        let inode = *directory.live.get(&name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Arc::new(FaultyFile { disk: self.clone(), inode, boot: inner.boots }))
    }

    fn create(&self, path: &Path, bytes: u64, zeroed: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = lock(&self.inner);
        let dies = inner.operation("create", [bytes, u64::from(zeroed), 0])?;
        let inode = inner.inodes.len();
        inner.inodes.push(Inode::default());
        inner.change(path, |name| Change::Link(name, inode))?;
        if inner.used().saturating_add(bytes) > inner.capacity {
            inner.note("full", [0; 3]);
            return Err(full());
        }
        let file = inner.file(inode)?;
        file.live.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
        if zeroed {
            file.stored.clone_from(&file.live);
        }
        if dies {
            return Err(failure());
        }
        Ok(Arc::new(FaultyFile { disk: self.clone(), inode, boot: inner.boots }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        let dies = inner.operation("rename", [0; 3])?;
        let target = to.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if from.parent() != to.parent() || !inner.directory(from).is_ok_and(|(d, n)| d.live.contains_key(&n))
        {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.change(from, |name| Change::Rename(name, target))?;
        if dies { Err(failure()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        let dies = inner.operation("remove", [0; 3])?;
        if !inner.directory(path).is_ok_and(|(d, n)| d.live.contains_key(&n)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.change(path, Change::Unlink)?;
        if dies { Err(failure()) } else { Ok(()) }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        inner.powered()?;
        inner.directories.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        let dies = inner.operation("sync-dir", [0; 3])?;
        if dies && inner.below(2) == 0 {
            return Err(failure());
        }
        if let Some(directory) = inner.directories.get_mut(path) {
            directory.stored.clone_from(&directory.live);
            directory.pending.clear();
        }
        if dies { Err(failure()) } else { Ok(()) }
    }

    fn lock(&self, path: &Path) -> io::Result<Result<Box<dyn DiskLock>, String>> {
        let mut inner = lock(&self.inner);
        inner.powered()?;
        if !inner.locks.insert(path.to_owned()) {
            return Ok(Err("this one".to_owned()));
        }
        Ok(Ok(Box::new(FaultyLock { disk: self.clone(), path: path.to_owned(), boot: inner.boots })))
    }

    fn entropy(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        for byte in bytes {
            *byte = inner.random().to_le_bytes()[0];
        }
        Ok(())
    }
}

impl DiskLock for FaultyLock {
    fn is_in_place(&self) -> io::Result<bool> {
        let inner = lock(&self.disk.inner);
        inner.powered()?;
        Ok(inner.boots == self.boot)
    }
}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut inner = lock(&self.disk.inner);
        if inner.boots == self.boot {
            inner.locks.remove(&self.path);
        }
    }
}

impl FaultyFile {
    fn inner(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = lock(&self.disk.inner);
        inner.powered()?;
        if inner.boots != self.boot {
            return Err(io::Error::other("opened before the machine went off"));
        }
        Ok(inner)
    }
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner()?.file(self.inode)?.live.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let mut inner = self.inner()?;
        let live = &inner.file(self.inode)?.live;
        let from = live.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default();
        let len = from.len().min(bytes.len());
        if let (Some(to), Some(from)) = (bytes.get_mut(..len), from.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], at: u64) -> io::Result<usize> {
        let mut inner = self.inner()?;
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let dies = inner.operation("write", [self.inode as u64, at, bytes.len() as u64])?;
        let room = inner.capacity.saturating_sub(inner.used());
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let len = inner.file(self.inode)?.live.len() as u64;
        let fault = inner.fault(&[Fault::ShortWrite, Fault::Write]);
        if dies || fault.is_some() {
            let kept = inner.below(bytes.len() as u64 + 1);
            bytes.truncate(usize::try_from(kept).unwrap_or(0));
        }
        if fault == Some(Fault::ShortWrite) && !bytes.is_empty() {
            inner.faults.insert(0, Fault::Write);
        }
        let most = len.max(at).saturating_add(room).saturating_sub(at);
        let short = most < bytes.len() as u64;
        bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        inner.file(self.inode)?.write(&bytes, start);
        match fault {
            _ if dies => Err(failure()),
            Some(Fault::ShortWrite) if !bytes.is_empty() => Ok(bytes.len()),
            Some(_) => Err(failure()),
            None if short && bytes.is_empty() => Err(full()),
            None => Ok(bytes.len()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.inner()?;
        let dies = inner.operation("sync", [self.inode as u64, 0, 0])?;
        let failed = inner.fault(&[Fault::Sync]).is_some();
        if failed {
            inner.settle(self.inode);
        }
        // One that is cut off leaves what it has not stored as it was.
        if failed || (dies && inner.below(2) == 0) {
            return Err(failure());
        }
        inner.file(self.inode)?.store_dirty();
        if dies { Err(failure()) } else { Ok(()) }
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let mut inner = self.inner()?;
        let Ok((directory, name)) = inner.directory(path) else { return Ok(false) };
        Ok(directory.live.get(&name) == Some(&self.inode))
    }

    fn forget_cache(&self) -> io::Result<()> {
        let mut inner = self.inner()?;
        let file = inner.file(self.inode)?;
        if file.dirty.is_empty() {
            file.live.clone_from(&file.stored);
        }
        Ok(())
    }
}

impl Journal {
    /// Polls a future of this journal and does the writer's work in between, until it is ready. The journal must
    /// have been opened with `open_stepped`.
    pub fn drive<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        for _ in 0..1000 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return output;
            }
            self.step();
        }
        panic!("the future waits for something that the journal's writer does not do");
    }
}
