//! The moves: resolve beneath the root, rename without replacing, sync the directory.
//!
//! A directory's own entry is made durable too: whoever delivers into a directory for the first time
//! in this process syncs the one above it, because another thread, or a run that crashed, may have
//! made it without getting that far. All that is forgotten when another directory stands where the root was.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use xxhash_rust::xxh3::Xxh3;

use super::{STAGING_NAME, SyncCount};
use crate::destination::body_error;
use crate::fault::{DeliverError, Fault, Retry};
use crate::object::{Delivered, Object, ObjectMeta};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
/// `openat2` may report a race with a rename elsewhere; this often it is asked again.
const RACES_MAX: usize = 16;
/// Longest name, in bytes and in steps.
const NAME_BYTES_MAX: usize = 4096;

/// Ways kept in mind as durable; past this many all are forgotten, which costs syncs and nothing else.
const DURABLE_WAYS_MAX: usize = 65_536;

/// Which directory the root is: another may come to stand under its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RootId {
    pub(super) device: u64,
    inode: u64,
    /// Tells a directory from an earlier one that had its number, where the file system knows.
    made: Option<SystemTime>,
}

/// The root, open.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) file: File,
    pub(super) id: RootId,
}

impl Root {
    /// Whether bodies can be staged in it.
    fn has_staging(&self) -> bool {
        open_beneath(self.file.as_fd(), STAGING_NAME).is_ok()
    }
}

/// The root that was last known, and the directories below it whose entries are known to be durable.
#[derive(Debug)]
pub(super) struct DurableWays(Mutex<(RootId, HashSet<String>)>);

impl DurableWays {
    pub(super) fn below(root: RootId) -> DurableWays {
        DurableWays(Mutex::new((root, HashSet::new())))
    }

    fn lock(&self) -> MutexGuard<'_, (RootId, HashSet<String>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn root(&self) -> RootId {
        self.lock().0
    }

    /// This is the root from now on, and nothing below it is known to be durable.
    pub(super) fn forget(&self, root: RootId) {
        *self.lock() = (root, HashSet::new());
    }

    /// What a test says of the disk that the root was on.
    #[cfg(test)]
    pub(super) fn were_on(&self, device: u64) {
        self.lock().0.device = device;
    }

    fn contains(&self, root: RootId, way: &str) -> bool {
        let known = self.lock();
        known.0 == root && known.1.contains(way)
    }

    /// Of a root that has been replaced meanwhile nothing is kept.
    fn insert(&self, root: RootId, way: &str) {
        let mut known = self.lock();
        if known.0 != root {
            return;
        }
        if known.1.len() >= DURABLE_WAYS_MAX {
            known.1.clear();
        }
        known.1.insert(way.to_owned());
    }
}

/// A directory that renames of this call went into.
struct Touched<'a> {
    parent: &'a str,
    fd: OwnedFd,
    objects: Vec<usize>,
}

/// Moves every object into place and syncs each directory once; one result per object, in order.
pub(super) fn place_all(
    root: &Path,
    objects: &[Object<'_>],
    durable: &DurableWays,
    syncs: &SyncCount,
) -> Vec<Result<Delivered, DeliverError>> {
    let root = match open_known_root(root, durable) {
        Ok(root) => root,
        Err(error) => return objects.iter().map(|_| Err(error.clone())).collect(),
    };
    let mut touched: Vec<Touched<'_>> = Vec::new();
    let mut results: Vec<_> = objects
        .iter()
        .enumerate()
        .map(|(index, object)| {
            let (parent, file) = split_name(&object.meta.name)?;
            let at = match touched.iter().position(|directory| directory.parent == parent) {
                Some(at) => at,
                None => {
                    let fd = open_parent(&root, parent, object.meta, durable, syncs)?;
                    touched.push(Touched { parent, fd, objects: Vec::new() });
                    touched.len() - 1
                }
            };
            let directory = &mut touched[at];
            let delivered = place(directory.fd.as_fd(), file, object)?;
            directory.objects.push(index);
            Ok(delivered)
        })
        .collect();
    for directory in touched.iter().filter(|directory| !directory.objects.is_empty()) {
        if let Err(error) = sync(directory.fd.as_fd(), syncs) {
            for &index in &directory.objects {
                results[index] =
                    Err(destination_error("the directory cannot be synced", objects[index].meta, error));
            }
        }
    }
    results
}

/// The root, which must be there.
pub(super) fn open_root(root: &Path) -> Result<Root, DeliverError> {
    let open = || -> io::Result<Root> {
        let file = File::from(rustix::fs::open(root, DIRECTORY, Mode::empty())?);
        let found = file.metadata()?;
        let id = RootId { device: found.dev(), inode: found.ino(), made: found.created().ok() };
        Ok(Root { file, id })
    };
    open().map_err(|error| {
        DeliverError::later(
            format!("the destination directory is missing or cannot be opened: {error}"),
            root.display().to_string(),
        )
    })
}

/// The root that was last known, or another one in which there is a staging directory: somebody made it.
fn open_known_root(path: &Path, durable: &DurableWays) -> Result<Root, DeliverError> {
    let root = open_root(path)?;
    if root.id != durable.root() {
        if !root.has_staging() {
            return Err(DeliverError::later(
                format!("the destination directory is another than before and has no {STAGING_NAME}"),
                path.display().to_string(),
            ));
        }
        durable.forget(root.id);
    }
    Ok(root)
}

/// Parent ("" = the root) and file name; refuses names that no template makes.
fn split_name(name: &str) -> Result<(&str, &str), DeliverError> {
    let steps_fine = name
        .split('/')
        .all(|step| !step.is_empty() && step != "." && step != ".." && !step.bytes().any(|byte| byte == 0));
    let staging = name.split('/').next() == Some(STAGING_NAME);
    if !steps_fine || staging || name.len() > NAME_BYTES_MAX {
        return Err(DeliverError::new(
            Fault::Client,
            Retry::Never,
            "the object's name cannot be a path below the destination directory",
            name.escape_debug().to_string(),
        ));
    }
    Ok(name.rsplit_once('/').unwrap_or(("", name)))
}

/// Opens the parent, making what is missing of it. When it returns, every directory on the way has
/// a durable entry in the one above it, whoever made it.
fn open_parent(
    root: &Root,
    parent: &str,
    meta: &ObjectMeta,
    durable: &DurableWays,
    syncs: &SyncCount,
) -> Result<OwnedFd, DeliverError> {
    let (root, id) = (root.file.as_fd(), root.id);
    if parent.is_empty() || durable.contains(id, parent) {
        match open_beneath(root, parent) {
            Err(Errno::NOENT) => {}
            result => return result.map_err(|errno| way_error(meta, errno)),
        }
    }
    let mut fd = open_beneath(root, "").map_err(|errno| way_error(meta, errno))?;
    for (end, _) in parent.match_indices('/').chain([(parent.len(), "")]) {
        let way = &parent[..end];
        let step = way.rsplit('/').next().unwrap_or(way);
        let made = match rustix::fs::mkdirat(&fd, step, Mode::from_raw_mode(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(destination_error("the directory cannot be made", meta, errno)),
        };
        let next = open_beneath(root, way).map_err(|errno| way_error(meta, errno))?;
        if made || !durable.contains(id, way) {
            sync(fd.as_fd(), syncs)
                .map_err(|errno| destination_error("the directory cannot be synced", meta, errno))?;
            durable.insert(id, way);
        }
        fd = next;
    }
    Ok(fd)
}

/// Opens a directory below `root`, following no link out of it. `way` "" is the root itself.
fn open_beneath(root: BorrowedFd<'_>, way: &str) -> Result<OwnedFd, Errno> {
    let path = if way.is_empty() { "." } else { way };
    for _ in 0..RACES_MAX {
        match rustix::fs::openat2(root, path, DIRECTORY, Mode::empty(), BENEATH) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOSYS | Errno::PERM) => return open_without_links(root, way),
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Without `openat2` (old kernels, some sandboxes): step by step, following no link at all.
fn open_without_links(root: BorrowedFd<'_>, way: &str) -> Result<OwnedFd, Errno> {
    let mut fd = rustix::fs::openat(root, ".", DIRECTORY, Mode::empty())?;
    for step in way.split('/').filter(|step| !step.is_empty()) {
        fd = rustix::fs::openat(&fd, step, DIRECTORY.union(OFlags::NOFOLLOW), Mode::empty())?;
    }
    Ok(fd)
}

/// Moves one body to its name, or finds it there.
fn place(parent: BorrowedFd<'_>, file: &str, object: &Object<'_>) -> Result<Delivered, DeliverError> {
    let renamed = rustix::fs::renameat_with(CWD, object.body, parent, file, RenameFlags::NOREPLACE);
    let moved = match renamed {
        Err(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => link_and_unlink(parent, file, object.body),
        moved => moved,
    };
    match moved {
        Ok(()) => Ok(Delivered::Created),
        Err(Errno::EXIST) => match is_ours(parent, file, object.meta) {
            Ok(()) => {
                remove_body(object.body);
                Ok(Delivered::AlreadyOurs)
            }
            Err(NotOurs::Missing) => Err(DeliverError::new(
                Fault::Destination,
                Retry::Now,
                "what stood under the name has just gone",
                object.meta.name.clone(),
            )),
            Err(NotOurs::Error(error)) => Err(error),
        },
        Err(Errno::NOENT) => match is_ours(parent, file, object.meta) {
            Ok(()) => Ok(Delivered::AlreadyOurs),
            Err(NotOurs::Missing) if object.body.exists() => Err(DeliverError::later(
                "the directory vanished while an object was moved into it",
                object.meta.name.clone(),
            )),
            Err(NotOurs::Missing) => Err(body_error(object.body, &io::ErrorKind::NotFound.into())),
            Err(NotOurs::Error(error)) => Err(error),
        },
        Err(errno) => Err(destination_error("the object cannot be moved to its name", object.meta, errno)),
    }
}

/// The same where the file system has no rename without replacing.
fn link_and_unlink(parent: BorrowedFd<'_>, file: &str, body: &Path) -> Result<(), Errno> {
    rustix::fs::linkat(CWD, body, parent, file, AtFlags::empty())?;
    remove_body(body);
    Ok(())
}

/// The body of a delivered object. One that stays behind costs space until the next start, no more.
fn remove_body(body: &Path) {
    if let Err(error) = std::fs::remove_file(body)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "a delivered body cannot be removed from staging");
    }
}

enum NotOurs {
    Missing,
    Error(DeliverError),
}

/// Whether what stands under the name has our length and our digest.
fn is_ours(parent: BorrowedFd<'_>, file: &str, meta: &ObjectMeta) -> Result<(), NotOurs> {
    let foreign = |detail: String| NotOurs::Error(DeliverError::foreign(&meta.name, detail));
    let unreadable = |error: io::Error| {
        let detail = format!("{}: {error}", meta.name);
        NotOurs::Error(DeliverError::later("what stands under the name cannot be read", detail))
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd = match rustix::fs::openat(parent, file, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Err(NotOurs::Missing),
        Err(Errno::LOOP) => return Err(foreign("it is a symbolic link".to_owned())),
        Err(errno) => return Err(unreadable(errno.into())),
    };
    let file = File::from(fd);
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(foreign("it is not a file".to_owned()));
    }
    if found.len() != meta.bytes {
        return Err(foreign(format!("it has {} bytes instead of {}", found.len(), meta.bytes)));
    }
    if digest(file, meta.bytes).map_err(unreadable)? != meta.body_digest {
        return Err(foreign("its digest is another".to_owned()));
    }
    Ok(())
}

/// xxh3-128 of at most `bytes` bytes.
fn digest(file: File, bytes: u64) -> io::Result<u128> {
    let mut file = file.take(bytes);
    let (mut digest, mut buffer) = (Xxh3::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(digest.digest128()),
            Ok(read) => digest.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn sync(fd: BorrowedFd<'_>, syncs: &SyncCount) -> Result<(), Errno> {
    syncs.add_one();
    rustix::fs::fsync(fd)
}

/// A step on the way to the parent is in the way.
fn way_error(meta: &ObjectMeta, errno: Errno) -> DeliverError {
    match errno {
        Errno::XDEV | Errno::LOOP => DeliverError::new(
            Fault::Destination,
            Retry::Never,
            "a symbolic link leads out of the destination directory",
            meta.name.clone(),
        ),
        Errno::NOTDIR => DeliverError::foreign(&meta.name, "a file stands where a directory should be"),
        errno => destination_error("the directory cannot be opened", meta, errno),
    }
}

/// Errors that may pass: full, read-only, denied, gone.
fn destination_error(message: &str, meta: &ObjectMeta, errno: Errno) -> DeliverError {
    let retry = match errno {
        Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => Retry::Never,
        _ => Retry::Later { after: None },
    };
    let error = io::Error::from(errno);
    DeliverError::new(Fault::Destination, retry, format!("{message}: {error}"), meta.name.clone())
}
