//! File events of plugin directories, turned into marks.
//!
//! A watch follows the directory it was given, even when that is renamed or deleted; that the path then names another
//! one is seen by comparing [`Identity`], which is the keeper's to do.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

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

/// Follows the directories of every catalog of the process.
///
/// A watcher of its own for each would be a thread for each, and an instance of what the kernel gives a user few of: inotify's are
/// 128 by default, for all programs together.
#[derive(Default)]
struct Watches {
    /// Held while a watch is begun or ended; never by whoever handles events, for whom the watcher would wait.
    watcher: Mutex<Option<RecommendedWatcher>>,
    watched: Arc<Mutex<HashMap<PathBuf, Watched>>>,
}

/// A directory, by one of its names.
struct Watched {
    identity: Identity,
    followers: Vec<Follower>,
}

#[derive(Clone)]
struct Follower {
    signals: Arc<Signals>,
    /// The directory was deleted or renamed. A new one may well have the same inode.
    lost: Arc<AtomicBool>,
}

/// A running watch; ends when dropped.
pub(crate) struct DirectoryWatch {
    identity: Identity,
    lost: Arc<AtomicBool>,
}

static SHARED: LazyLock<Watches> = LazyLock::new(Watches::default);

impl DirectoryWatch {
    pub(crate) fn start(directory: &Path, signals: &Arc<Signals>) -> notify::Result<DirectoryWatch> {
        let lost = Arc::new(AtomicBool::new(false));
        let follower = Follower { signals: Arc::clone(signals), lost: Arc::clone(&lost) };
        let identity = SHARED.follow(directory, &follower)?;
        Ok(DirectoryWatch { identity, lost })
    }

    /// Whether it still watches what the path names.
    pub(crate) fn follows(&self, now: Identity) -> bool {
        self.identity == now && !self.lost.load(Ordering::Acquire)
    }
}

impl Drop for DirectoryWatch {
    fn drop(&mut self) {
        SHARED.leave(&self.lost);
    }
}

impl Watches {
    fn follow(&self, directory: &Path, follower: &Follower) -> notify::Result<Identity> {
        let identity = || Identity::of(directory).map_err(notify::Error::io);
        let mut watcher = locked(&self.watcher);
        let watcher = match &mut *watcher {
            Some(watcher) => watcher,
            none => {
                let watched = Arc::clone(&self.watched);
                none.insert(notify::recommended_watcher(move |event| handle(event, &watched))?)
            }
        };
        loop {
            let before = identity()?;
            {
                let mut watched = locked(&self.watched);
                if let Some(there) = watched.values_mut().find(|watched| watched.identity == before) {
                    there.followers.push(follower.clone());
                    return Ok(before);
                }
                // The path has another directory now: whoever followed the one before finds out here.
                watched.remove(directory).into_iter().for_each(|gone| gone.lose());
            }
            // Of one that was renamed the watch is left.
            drop(watcher.unwatch(directory));
            // Before the first event can come.
            let followed = Watched { identity: before, followers: vec![follower.clone()] };
            locked(&self.watched).insert(directory.to_owned(), followed);
            let begun = watcher.watch(directory, RecursiveMode::NonRecursive);
            // Which of the two it watches is unknown if the directory was replaced just now.
            if begun.is_ok() && identity().is_ok_and(|now| now == before) {
                return Ok(before);
            }
            let gone = locked(&self.watched).remove(directory);
            gone.into_iter().for_each(|gone| gone.lose_all_but(&follower.lost));
            begun?;
        }
    }

    /// Ends the watch of a directory that nobody follows any more.
    fn leave(&self, lost: &Arc<AtomicBool>) {
        let mut watcher = locked(&self.watcher);
        let left = {
            let mut watched = locked(&self.watched);
            watched.values_mut().for_each(|watched| {
                watched.followers.retain(|follower| !Arc::ptr_eq(&follower.lost, lost));
            });
            let left = watched.iter().find(|(_, watched)| watched.followers.is_empty());
            let left = left.map(|(path, _)| path.clone());
            left.inspect(|path| drop(watched.remove(path)))
        };
        if let (Some(watcher), Some(path)) = (&mut *watcher, left) {
            // It may have gone by itself, with its directory.
            drop(watcher.unwatch(&path));
        }
    }
}

impl Watched {
    fn lose(&self) {
        self.lose_all_but(&Arc::default());
    }

    /// Tells its followers to look for another one.
    fn lose_all_but(&self, lost: &Arc<AtomicBool>) {
        for follower in self.followers.iter().filter(|follower| !Arc::ptr_eq(&follower.lost, lost)) {
            follower.lost.store(true, Ordering::Release);
            follower.signals.look();
        }
    }

    fn look(&self) {
        self.followers.iter().for_each(|follower| follower.signals.look());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn handle(event: notify::Result<Event>, watched: &Mutex<HashMap<PathBuf, Watched>>) {
    let mut watched = locked(watched);
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, "an event of a plugin directory was lost");
            return watched.values().for_each(Watched::look);
        }
    };
    if event.need_rescan() {
        watched.values().for_each(Watched::look);
    }
    let Some(change) = change_of(&event.kind) else { return };
    for path in &event.paths {
        if change == Change::Settled
            && let Some(gone) = watched.remove(path)
        {
            gone.lose();
        } else if let Some(root) = watched.get(path) {
            root.look();
        }
        if let Some(root) = path.parent().and_then(|parent| watched.get(parent))
            && let Some((stem, part)) = path.file_name().and_then(scan::part_of)
        {
            root.followers.iter().for_each(|follower| follower.signals.changed(stem, part, change));
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    struct Follows {
        signals: Arc<Signals>,
        watch: DirectoryWatch,
    }

    impl Follows {
        fn start(directory: &Path) -> Follows {
            let signals = Arc::new(Signals::default());
            let watch = DirectoryWatch::start(directory, &signals).unwrap();
            Follows { signals, watch }
        }

        /// Stems of the next files that have settled.
        fn due(&self) -> Vec<String> {
            let due = self.signals.wait(soon()).due;
            due.into_iter().map(|due| due.stem.into_string().unwrap()).collect()
        }
    }

    fn inotify_instances() -> usize {
        let links =
            fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.to_str().is_some_and(|link| link.contains("inotify"))).count()
    }

    #[test]
    fn many_directories_take_one_instance_and_each_hears_of_its_own_files() {
        let root = tempfile::tempdir().unwrap();
        let directories: Vec<PathBuf> = (0..300).map(|number| root.path().join(number.to_string())).collect();
        directories.iter().for_each(|directory| fs::create_dir(directory).unwrap());
        let follows: Vec<Follows> = directories.iter().map(|directory| Follows::start(directory)).collect();
        assert!(inotify_instances() <= 1, "the kernel gives a user 128 of them");
        for (number, directory) in directories.iter().enumerate() {
            fs::write(directory.join(format!("p{number}.wasm")), "x").unwrap();
        }
        for (number, follows) in follows.iter().enumerate() {
            assert_eq!(follows.due(), [format!("p{number}")]);
        }
    }

    #[test]
    fn all_who_follow_a_directory_hear_of_it_by_whatever_name_and_one_may_leave() {
        let root = tempfile::tempdir().unwrap();
        let (directory, link) = (root.path().join("plugins"), root.path().join("link"));
        fs::create_dir(&directory).unwrap();
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        let (first, second, third) =
            (Follows::start(&directory), Follows::start(&link), Follows::start(&directory));
        fs::write(directory.join("a.wasm"), "x").unwrap();
        for follows in [&first, &second, &third] {
            assert_eq!(follows.due(), ["a"]);
        }
        drop(first);
        fs::write(directory.join("b.wasm"), "x").unwrap();
        for follows in [&second, &third] {
            assert_eq!(follows.due(), ["b"]);
        }
    }

    #[test]
    fn directory_that_is_replaced_is_lost_for_all_and_the_new_one_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("plugins");
        fs::create_dir(&directory).unwrap();
        let before = Identity::of(&directory).unwrap();
        let (old, other) = (Follows::start(&directory), Follows::start(&directory));
        fs::rename(&directory, root.path().join("away")).unwrap();
        fs::create_dir(&directory).unwrap();
        let new = Follows::start(&directory);
        assert!(!old.watch.follows(before) && !other.watch.follows(before));
        fs::write(root.path().join("away/not-here.wasm"), "x").unwrap();
        fs::write(directory.join("here.wasm"), "x").unwrap();
        assert_eq!(new.due(), ["here"]);
        drop((old, other));
        fs::write(directory.join("again.wasm"), "x").unwrap();
        assert_eq!(new.due(), ["again"]);
        fs::remove_dir_all(&directory).unwrap();
        while new.watch.follows(new.watch.identity) {
            new.signals.wait(soon());
        }
    }
}
