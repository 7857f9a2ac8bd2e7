//! Watches granted files: one thread for all streams of the process.
//!
//! What counts is the state of the file that a path leads to, which is looked at every few seconds; events of directories only
//! make that sooner. So nothing is lost where there are none (files of the network, directories that are removed and made anew,
//! links that lead elsewhere), and a file is told of once it has rested.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use wasmill_transform::FileState;

use super::reading::{REST, has_rested};
use crate::pipeline::stats::wall_clock_ns;

/// How often files are looked at of which no event tells.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two looks, however many events there are.
const PAUSE: Duration = Duration::from_millis(20);

/// Says that something changed; false if nobody could take it now, who is told again then.
type Tell = Arc<dyn Fn() -> bool + Send + Sync>;

/// A file as it was when its followers heard of it.
#[derive(Clone, Copy, Default)]
struct Looked {
    /// `None` in it: it was missing.
    told: Option<Option<FileState>>,
    /// Since when it is missing, by the clock: it may be about to be written anew.
    missing: Option<i64>,
}

struct Follower {
    tell: Tell,
    files: BTreeMap<PathBuf, Looked>,
}

#[derive(Default)]
struct Followers {
    next: u64,
    by_number: BTreeMap<u64, Follower>,
}

struct Shared {
    followers: Mutex<Followers>,
    wake: SyncSender<()>,
}

impl Shared {
    fn followers(&self) -> MutexGuard<'_, Followers> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // A full channel has one that nobody has taken yet.
        let _woken = self.wake.try_send(());
    }
}

/// Lives as long as the process.
static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();

fn shared() -> io::Result<Arc<Shared>> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = SHARED.get() {
        return Ok(Arc::clone(shared));
    }
    let (wake, woken) = sync_channel(1);
    let shared = Arc::new(Shared { followers: Mutex::default(), wake });
    let watched = Arc::clone(&shared);
    std::thread::Builder::new().name("granted-files".to_owned()).spawn(move || serve(&watched, &woken))?;
    Ok(Arc::clone(SHARED.get_or_init(|| shared)))
}

/// Follows some files. Ends when dropped.
pub(in crate::pipeline) struct GrantWatch {
    shared: Arc<Shared>,
    number: u64,
}

impl GrantWatch {
    /// Calls `changed` whenever one of these files is another one and has rested, and once at first.
    pub(in crate::pipeline) fn start(
        files: Vec<PathBuf>,
        changed: impl Fn() -> bool + Send + Sync + 'static,
    ) -> io::Result<GrantWatch> {
        let shared = shared()?;
        let files = files.into_iter().map(|file| (file, Looked::default())).collect();
        let follower = Follower { tell: Arc::new(changed), files };
        let number = {
            let mut followers = shared.followers();
            followers.next += 1;
            let number = followers.next;
            followers.by_number.insert(number, follower);
            number
        };
        shared.wake();
        Ok(GrantWatch { shared, number })
    }
}

impl Drop for GrantWatch {
    fn drop(&mut self) {
        self.shared.followers().by_number.remove(&self.number);
        self.shared.wake();
    }
}

fn serve(shared: &Arc<Shared>, woken: &Receiver<()>) {
    let mut directories = Directories::default();
    loop {
        let files: BTreeSet<PathBuf> =
            shared.followers().by_number.values().flat_map(|of| of.files.keys().cloned()).collect();
        // Before the look: what changes behind it is told by an event.
        directories.follow(&files, shared);
        let again = look(shared, &files);
        std::thread::park_timeout(PAUSE);
        let heard = match files.is_empty() {
            true => woken.recv().map_err(|_gone| RecvTimeoutError::Disconnected),
            false => woken.recv_timeout(if again { REST } else { LOOK_EVERY }),
        };
        if heard == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Looks at files, without a lock, because that may take long, and tells followers; true: again soon.
fn look(shared: &Shared, files: &BTreeSet<PathBuf>) -> bool {
    let states: HashMap<&PathBuf, Option<FileState>> =
        files.iter().map(|file| (file, FileState::of(file).ok())).collect();
    let now = wall_clock_ns();
    let mut again = false;
    let mut changed: Vec<(u64, Tell)> = Vec::new();
    for (number, follower) in &mut shared.followers().by_number {
        let mut is_other = false;
        for (file, looked) in &mut follower.files {
            let Some(state) = states.get(file) else { continue };
            let since = state.is_none().then(|| *looked.missing.get_or_insert(now));
            looked.missing = since;
            if looked.told == Some(*state) {
                continue;
            }
            let gone = || since.is_some_and(|since| u128::from(now.abs_diff(since)) >= REST.as_nanos());
            match state.as_ref().map_or_else(gone, has_rested) {
                true => {
                    looked.told = Some(*state);
                    is_other = true;
                }
                false => again = true,
            }
        }
        if is_other {
            changed.push((*number, Arc::clone(&follower.tell)));
        }
    }
    for (number, tell) in changed {
        if !tell() {
            again = true;
            if let Some(follower) = shared.followers().by_number.get_mut(&number) {
                follower.files.values_mut().for_each(|looked| looked.told = None);
            }
        }
    }
    again
}

/// Which directory a path names, by device and inode.
type Identity = (u64, u64);

/// Directories that are watched, and whether they were deleted or renamed since: a new one may have the same inode.
type Lost = Mutex<BTreeMap<PathBuf, bool>>;

fn locked(lost: &Lost) -> MutexGuard<'_, BTreeMap<PathBuf, bool>> {
    lost.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches of the directories in which files are.
#[derive(Default)]
struct Directories {
    watcher: Option<RecommendedWatcher>,
    /// Also those that cannot be: it is not tried again until the path names another.
    followed: BTreeMap<PathBuf, Identity>,
    /// Never held while a watch is begun or ended: the watcher waits for whoever handles its events.
    lost: Arc<Lost>,
    /// Nothing can be watched.
    failed: bool,
}

impl Directories {
    fn follow(&mut self, files: &BTreeSet<PathBuf>, shared: &Arc<Shared>) {
        let parents = files.iter().filter_map(|file| file.parent());
        let named = parents.map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
        let wanted: BTreeSet<&Path> = named.collect();
        let mut left: Vec<PathBuf> = {
            let lost = locked(&self.lost);
            lost.iter().filter(|(_, lost)| **lost).map(|(directory, _)| directory.clone()).collect()
        };
        left.extend(self.followed.keys().filter(|directory| !wanted.contains(directory.as_path())).cloned());
        left.iter().for_each(|directory| self.leave(directory));
        for directory in wanted {
            let there = FileState::of(directory).ok().map(|state| (state.device, state.inode));
            if self.followed.get(directory) == there.as_ref() {
                continue;
            }
            self.leave(directory);
            if let Some(identity) = there {
                self.followed.insert(directory.to_owned(), identity);
                self.watch(directory, shared);
            }
        }
    }

    fn watch(&mut self, directory: &Path, shared: &Arc<Shared>) {
        if self.watcher.is_none() && !self.failed {
            let (lost, shared) = (Arc::clone(&self.lost), Arc::clone(shared));
            match notify::recommended_watcher(move |event| handle(event, &lost, &shared)) {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => {
                    self.failed = true;
                    tracing::warn!(%error, "directories of granted files cannot be watched; they are looked at every 2 s");
                }
            }
        }
        let Some(watcher) = &mut self.watcher else { return };
        locked(&self.lost).insert(directory.to_owned(), false);
        if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
            locked(&self.lost).remove(directory);
            let directory = directory.display();
            tracing::warn!(%error, %directory, "a directory of granted files cannot be watched; they are looked at every 2 s");
        }
    }

    fn leave(&mut self, directory: &Path) {
        self.followed.remove(directory);
        let watched = locked(&self.lost).remove(directory).is_some();
        if let Some(watcher) = self.watcher.as_mut().filter(|_| watched) {
            // It may have gone by itself, with its directory.
            drop(watcher.unwatch(directory));
        }
    }
}

fn handle(event: notify::Result<Event>, lost: &Lost, shared: &Shared) {
    match event {
        Ok(event) if !matters(&event) => return,
        Ok(event) => {
            if matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))) {
                let mut lost = locked(lost);
                for path in &event.paths {
                    if let Some(lost) = lost.get_mut(path) {
                        *lost = true;
                    }
                }
            }
        }
        Err(error) => tracing::warn!(%error, "an event of a directory of granted files was lost"),
    }
    shared.wake();
}

/// Whether a file may be another one now: it was closed behind a writer, moved, linked or removed.
fn matters(event: &Event) -> bool {
    let settled = match &event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(_)
        | EventKind::Remove(_)
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Any
        | EventKind::Other => true,
        EventKind::Access(_) | EventKind::Modify(_) => false,
    };
    settled || event.need_rescan()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    /// What a file had at each time that its follower was told.
    struct Follows {
        file: PathBuf,
        told: Receiver<()>,
        _watch: GrantWatch,
    }

    impl Follows {
        fn start(file: &Path) -> Follows {
            let (tell, told) = sync_channel(100);
            let watch = GrantWatch::start(vec![file.to_owned()], move || tell.send(()).is_ok()).unwrap();
            let follows = Follows { file: file.to_owned(), told, _watch: watch };
            follows.next();
            follows
        }

        fn next(&self) {
            self.told.recv_timeout(Duration::from_secs(60)).unwrap();
        }

        /// Waits until it is told of this content.
        fn until(&self, content: Option<&str>) {
            while fs::read_to_string(&self.file).ok().as_deref() != content {
                self.next();
            }
        }
    }

    #[test]
    fn file_is_told_of_however_it_changes_and_whoever_removes_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let tables = dir.path().join("tables");
        let file = tables.join("table");
        fs::create_dir(&tables).unwrap();
        fs::write(&file, "one").unwrap();
        let follows = Follows::start(&file);
        let told = |content: Option<&str>| {
            follows.next();
            follows.until(content);
        };
        fs::write(&file, "two").unwrap();
        told(Some("two"));
        fs::write(tables.join("part"), "three").unwrap();
        fs::rename(tables.join("part"), &file).unwrap();
        told(Some("three"));
        fs::remove_file(&file).unwrap();
        told(None);
        fs::remove_dir(&tables).unwrap();
        fs::create_dir(&tables).unwrap();
        fs::write(&file, "four").unwrap();
        told(Some("four"));
        // And the new directory is watched like the one before.
        fs::write(&file, "five").unwrap();
        told(Some("five"));
        fs::rename(&tables, dir.path().join("away")).unwrap();
        told(None);
        fs::create_dir(&tables).unwrap();
        fs::write(&file, "six").unwrap();
        told(Some("six"));
    }

    #[test]
    fn link_that_leads_elsewhere_is_another_file() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["one", "two"] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("table"), version).unwrap();
        }
        // As a volume of a ConfigMap changes: the link of a link.
        let point = |version: &str| {
            std::os::unix::fs::symlink(version, dir.path().join("next")).unwrap();
            fs::rename(dir.path().join("next"), dir.path().join("data")).unwrap();
        };
        point("one");
        std::os::unix::fs::symlink("data/table", dir.path().join("table")).unwrap();
        let follows = Follows::start(&dir.path().join("table"));
        point("two");
        follows.next();
        follows.until(Some("two"));
    }

    #[test]
    fn whoever_could_not_take_it_is_told_again_and_who_left_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("table");
        fs::write(&file, "one").unwrap();
        let (tell, told) = sync_channel(100);
        let times = std::sync::atomic::AtomicUsize::new(0);
        let watch = GrantWatch::start(vec![file.clone()], move || {
            tell.send(()).unwrap();
            times.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 2
        });
        for _ in 0..3 {
            told.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        drop(watch.unwrap());
        // The end of the channel: its sender is gone with the follower.
        let limit = Instant::now() + Duration::from_secs(60);
        while told.recv_timeout(Duration::from_secs(1)) != Err(RecvTimeoutError::Disconnected) {
            assert!(Instant::now() < limit);
        }
    }
}
