//! What a disk holds now, and what it would hold after the loss of power.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::Fault;

pub(super) const SECTOR: usize = 512;

#[derive(Clone, Default)]
pub(super) struct Inode {
    /// As a reader sees it now.
    pub(super) live: Vec<u8>,
    /// As it is after the loss of power.
    pub(super) stored: Vec<u8>,
    /// Sectors that were written since the last sync, in order.
    pub(super) dirty: Vec<usize>,
}

#[derive(Clone)]
pub(super) enum Change {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

#[derive(Clone, Default)]
pub(super) struct Directory {
    pub(super) live: BTreeMap<String, usize>,
    pub(super) stored: BTreeMap<String, usize>,
    pub(super) pending: Vec<Change>,
}

#[derive(Clone)]
pub(super) struct Inner {
    pub(super) random: u64,
    pub(super) trace: u64,
    pub(super) operations: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) off: bool,
    pub(super) boots: u64,
    pub(super) faults: Vec<Fault>,
    pub(super) fault_per_mille: u64,
    pub(super) capacity: u64,
    pub(super) inodes: Vec<Inode>,
    pub(super) directories: BTreeMap<PathBuf, Directory>,
    pub(super) locks: BTreeSet<PathBuf>,
}

impl Change {
    pub(super) fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Change::Link(name, inode) => {
                names.insert(name, inode);
            }
            Change::Unlink(name) => {
                names.remove(&name);
            }
            Change::Rename(from, to) => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
        }
    }
}

impl Inner {
    /// Of another process.
    pub(super) fn start(&mut self) {
        self.off = false;
        self.boots += 1;
        self.crash_at = None;
        self.faults.clear();
        self.locks.clear();
    }

    pub(super) fn random(&mut self) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.random() % bound.max(1)
    }

    pub(super) fn note(&mut self, what: &str, numbers: [u64; 3]) {
        let bytes = what.bytes().chain(numbers.into_iter().flat_map(u64::to_le_bytes));
        self.trace = bytes.fold(self.trace, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    }

    pub(super) fn used(&self) -> u64 {
        let linked: BTreeSet<usize> =
            self.directories.values().flat_map(|d| d.live.values().copied()).collect();
        linked.iter().filter_map(|inode| self.inodes.get(*inode)).map(|inode| inode.live.len() as u64).sum()
    }

    /// Counts an operation. `Ok(true)` if power is lost while it is done.
    pub(super) fn operation(&mut self, what: &str, numbers: [u64; 3]) -> io::Result<bool> {
        self.powered()?;
        self.operations += 1;
        self.note(what, numbers);
        self.off = self.crash_at == Some(self.operations);
        Ok(self.off)
    }

    pub(super) fn powered(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the machine is off")) } else { Ok(()) }
    }

    pub(super) fn fault(&mut self, fits: &[Fault]) -> Option<Fault> {
        if let Some(first) = self.faults.first().copied() {
            if fits.contains(&first) {
                self.faults.remove(0);
                return Some(first);
            }
            return None;
        }
        let strikes = self.fault_per_mille > 0 && self.below(1000) < self.fault_per_mille;
        let which = if strikes { self.below(fits.len() as u64) } else { return None };
        fits.get(usize::try_from(which).unwrap_or(0)).copied()
    }

    /// Stores some of the sectors that were not synced, and takes all of them as clean.
    pub(super) fn settle(&mut self, inode: usize) {
        let Some(file) = self.inodes.get_mut(inode) else { return };
        let dirty = std::mem::take(&mut file.dirty);
        let grown = file.live.len() > file.stored.len();
        let manner = self.below(4);
        let prefix = self.below(dirty.len() as u64 + 1);
        for (index, sector) in dirty.into_iter().enumerate() {
            let stored = match manner {
                0 => false,
                1 => true,
                2 => (index as u64) < prefix,
                _ => self.below(2) == 0,
            };
            if let Some(file) = self.inodes.get_mut(inode).filter(|_| stored) {
                file.store(sector);
            }
        }
        let whole_length = grown && self.below(2) == 0;
        if let Some(file) = self.inodes.get_mut(inode).filter(|_| whole_length) {
            file.stored.resize(file.live.len().max(file.stored.len()), 0);
        }
    }

    pub(super) fn file(&mut self, inode: usize) -> io::Result<&mut Inode> {
        self.inodes.get_mut(inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn directory(&mut self, path: &Path) -> io::Result<(&mut Directory, String)> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let parent = path.parent().unwrap_or(Path::new(""));
        let directory =
            self.directories.get_mut(parent).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok((directory, name))
    }

    pub(super) fn change(&mut self, path: &Path, change: impl FnOnce(String) -> Change) -> io::Result<()> {
        let (directory, name) = self.directory(path)?;
        let change = change(name);
        change.clone().apply(&mut directory.live);
        directory.pending.push(change);
        Ok(())
    }
}

impl Inode {
    /// Stores what is not clean, and nothing else: what a failed sync did not store is not stored by the next.
    pub(super) fn store_dirty(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.store(sector);
        }
        self.stored.resize(self.live.len(), 0);
    }

    pub(super) fn store(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.live.len());
        if self.stored.len() < end {
            self.stored.resize(end, 0);
        }
        if let (Some(to), Some(from)) = (self.stored.get_mut(start..end), self.live.get(start..end)) {
            to.copy_from_slice(from);
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        if let Some(to) = self.live.get_mut(at..end) {
            to.copy_from_slice(bytes);
        }
        self.dirty.extend(at / SECTOR..end.div_ceil(SECTOR));
    }
}
