//! File events of one directory, turned into marks.
//!
//! A watch follows the directory it was given, even when that is renamed or deleted; that the path then names another
//! one is seen by comparing [`Identity`], which is the keeper's to do.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use crate::scan;
use crate::signals::{Change, Signals};

/// Which directory a path names at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(crate) fn of(directory: &Path) -> io::Result<Identity> {
        let metadata = fs::metadata(directory)?;
        if !metadata.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Identity { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// A running watch; ends when dropped.
pub(crate) struct DirectoryWatch {
    identity: Identity,
    /// The directory was deleted or renamed. A new one may well have the same inode.
    lost: Arc<AtomicBool>,
    _watcher: RecommendedWatcher,
}

impl DirectoryWatch {
    pub(crate) fn start(directory: &Path, signals: &Arc<Signals>) -> notify::Result<DirectoryWatch> {
        let identity = || Identity::of(directory).map_err(notify::Error::io);
        loop {
            let before = identity()?;
            let signals = Arc::clone(signals);
            let root = directory.to_owned();
            let lost = Arc::new(AtomicBool::new(false));
            let handler = {
                let lost = Arc::clone(&lost);
                move |event| handle(&root, event, &signals, &lost)
            };
            let mut watcher = notify::recommended_watcher(handler)?;
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
            // Which of the two it watches is unknown if the directory was replaced just now.
            if identity()? == before {
                return Ok(DirectoryWatch { identity: before, lost, _watcher: watcher });
            }
        }
    }

    /// Whether it still watches what the path names.
    pub(crate) fn follows(&self, now: Identity) -> bool {
        self.identity == now && !self.lost.load(Ordering::Acquire)
    }
}

fn handle(root: &Path, event: notify::Result<Event>, signals: &Signals, lost: &AtomicBool) {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, "an event of the plugin directory was lost");
            return signals.look();
        }
    };
    if event.need_rescan() {
        signals.look();
    }
    let Some(change) = change_of(&event.kind) else { return };
    for path in &event.paths {
        if path == root {
            if change == Change::Settled {
                lost.store(true, Ordering::Release);
            }
            signals.look();
        } else if path.parent() == Some(root)
            && let Some((stem, part)) = path.file_name().and_then(scan::part_of)
        {
            signals.changed(stem, part, change);
        }
    }
}

/// `None` for what changes nothing, such as the catalog's own reading.
fn change_of(kind: &EventKind) -> Option<Change> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => {
            Some(Change::Settled)
        }
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::To | RenameMode::Both)) => {
            Some(Change::Settled)
        }
        EventKind::Modify(ModifyKind::Metadata(_)) => Some(Change::Touched),
        // Only some systems say when a file is closed.
        EventKind::Create(_) | EventKind::Modify(_) => Some(Change::Writing),
        EventKind::Any | EventKind::Other => Some(Change::Touched),
    }
}
