//! The catalog's thread: waits for changes, follows the directory, and has one file after the other examined.
//!
//! So at most one compile runs here. It decides nothing about a file itself.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::CatalogError;
use crate::scan::{self, ListError, Stamps};
use crate::shared::Shared;
use crate::signals::{Due, Mode, SETTLE, SETTLE_FOUND, SETTLE_OPEN};
use crate::watch::{DirectoryWatch, Identity};

/// How often the directory is asked whether it is still the same one; in poll mode every file is looked at.
const TICK: Duration = Duration::from_secs(1);
/// The same while there is no directory.
const TICK_MISSING: Duration = Duration::from_millis(200);
/// Every so many ticks all files are looked at, events or not: some file systems report nothing.
const TICKS_PER_LOOK: u32 = 10;

pub(crate) struct Keeper {
    shared: Arc<Shared>,
    watch: Option<DirectoryWatch>,
    ticks: u32,
    /// The directory holds more files than it may, and the log has said so.
    crowded: bool,
}

/// Why the directory cannot be looked at.
fn why(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

/// Tells everybody that the thread has ended, however it ended.
struct Farewell(Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.known().stopped = true;
        self.0.news.notify_all();
        self.0.changed();
    }
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Keeper {
        Keeper { shared, watch: None, ticks: 0, crowded: false }
    }

    /// The thread's body. `opened` is told once everything that is `wanted` (all, if `None`) has been looked at.
    pub(crate) fn run(mut self, wanted: Option<&[String]>, opened: &SyncSender<Result<(), CatalogError>>) {
        let _farewell = Farewell(Arc::clone(&self.shared));
        let rest = match self.open(wanted) {
            Ok(rest) => rest,
            Err(error) => {
                // Whoever opens waits for exactly this.
                let _told = opened.send(Err(error));
                return;
            }
        };
        let _told = opened.send(Ok(()));
        for stem in rest {
            if self.shared.signals.stopping() {
                return;
            }
            self.shared.examine(&stem);
        }
        self.shared.known().scanned = true;
        self.shared.news.notify_all();
        self.observe();
    }

    /// Looks at the wanted files of the directory; returns the others.
    fn open(&self, wanted: Option<&[String]>) -> Result<Vec<OsString>, CatalogError> {
        let path = &self.shared.options.plugin_dir;
        let files = match scan::list(path) {
            Ok(files) => files,
            Err(ListError::Io(error)) => {
                // Nothing is found then but what was kept, until there is a directory.
                self.shared.known().missing = Some(why(&error));
                return Ok(Vec::new());
            }
            Err(ListError::TooMany) => {
                return Err(CatalogError::TooManyFiles { path: path.clone(), max: scan::FILES_MAX });
            }
        };
        let is_wanted = |stem: &OsStr| {
            wanted
                .is_none_or(|wanted| stem.to_str().is_some_and(|stem| wanted.iter().any(|name| name == stem)))
        };
        let (first, rest): (Vec<OsString>, Vec<OsString>) =
            files.into_keys().partition(|stem| is_wanted(stem));
        first.iter().for_each(|stem| self.shared.examine(stem));
        // A name that is not its file's can be in any of the others.
        let found = wanted
            .is_none_or(|wanted| wanted.iter().all(|name| self.shared.known().names.contains_key(name)));
        if found {
            return Ok(rest);
        }
        rest.iter().for_each(|stem| self.shared.examine(stem));
        Ok(Vec::new())
    }

    fn observe(&mut self) {
        let mut tick = Instant::now() + TICK;
        loop {
            let work = self.shared.signals.wait(tick);
            if work.stop {
                return;
            }
            let Some(mode) = work.mode else {
                work.due.iter().for_each(|due| self.settle(due));
                continue;
            };
            let (mut look, mut retry) = (work.look, false);
            if tick <= Instant::now() {
                self.ticks = self.ticks.wrapping_add(1);
                retry = self.ticks.is_multiple_of(TICKS_PER_LOOK);
                look |= retry || mode == Mode::Poll || self.watch.is_none();
                tick = Instant::now() + TICK;
            }
            look |= self.follow_directory(mode);
            // What has gone first, so that its name is free for what came.
            let (gone, there): (Vec<Due>, Vec<Due>) =
                work.due.into_iter().partition(|due| self.shared.stamps(&due.stem).is_none());
            gone.iter().chain(&there).for_each(|due| self.settle(due));
            if look {
                self.look(retry);
            }
            if self.shared.known().missing.is_some() {
                tick = Instant::now() + TICK_MISSING;
            }
        }
    }

    /// Watches whatever directory the path names now. True if it has to be looked at.
    fn follow_directory(&mut self, mode: Mode) -> bool {
        let directory = &self.shared.options.plugin_dir;
        let identity = match Identity::of(directory) {
            Ok(identity) => identity,
            Err(error) => {
                self.watch = None;
                let news = self.shared.known().missing.replace(why(&error)).is_none();
                if news {
                    tracing::warn!(
                        directory = %directory.display(), %error,
                        "plugin directory cannot be reached, its versions stay in use"
                    );
                }
                return news;
            }
        };
        let back = std::mem::take(&mut self.shared.known().missing);
        if back.is_some() {
            tracing::info!(directory = %directory.display(), "plugin directory is back");
        }
        if mode == Mode::Poll || self.watch.as_ref().is_some_and(|watch| watch.follows(identity)) {
            return back.is_some();
        }
        self.watch = None;
        match DirectoryWatch::start(directory, &self.shared.signals) {
            Ok(watch) => {
                self.watch = Some(watch);
                self.set_polling(false);
            }
            Err(error) => {
                if self.set_polling(true) {
                    tracing::warn!(
                        directory = %directory.display(), %error,
                        "no file events for the plugin directory, looking every second instead"
                    );
                }
            }
        }
        true
    }

    /// Whether that is news.
    fn set_polling(&self, polling: bool) -> bool {
        std::mem::replace(&mut self.shared.known().polling, polling) != polling
    }

    /// Compares all files with what is known and marks those that differ, and with `retry` those that were refused for
    /// trouble of the host's own.
    fn look(&mut self, retry: bool) {
        let directory = &self.shared.options.plugin_dir;
        let files = match scan::list(directory) {
            Ok(files) => files,
            Err(ListError::Io(_)) if self.shared.known().missing.is_some() => BTreeMap::new(),
            Err(ListError::Io(error)) => {
                tracing::warn!(directory = %directory.display(), %error, "plugin directory cannot be listed");
                return;
            }
            Err(ListError::TooMany) => {
                if !std::mem::replace(&mut self.crowded, true) {
                    tracing::warn!(
                        directory = %directory.display(), max = scan::FILES_MAX,
                        "plugin directory holds too many plugin files, new ones are not looked at"
                    );
                }
                return;
            }
        };
        self.crowded = false;
        let known = self.shared.known();
        let gone: Vec<OsString> =
            known.files.keys().filter(|stem| !files.contains_key(*stem)).cloned().collect();
        let differs = |stem: &OsString, stamps: &Stamps| {
            known.files.get(stem).is_none_or(|file| {
                let passing = file.refused.as_ref().is_some_and(|refused| refused.refusal.passing);
                (retry && passing) || file.stamps != Some(*stamps)
            })
        };
        let changed: Vec<_> = files.iter().filter(|(stem, stamps)| differs(stem, stamps)).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        for stem in gone {
            self.shared.signals.found(&stem, None, SETTLE);
        }
        for (stem, stamps) in changed {
            // What changed this very second may go on changing; events would tell.
            let delay = match &self.watch {
                _ if stamps.changed() + 1 < now => SETTLE,
                Some(_) => SETTLE_FOUND,
                None => SETTLE_OPEN,
            };
            self.shared.signals.found(stem, Some(*stamps), delay);
        }
    }

    fn settle(&self, due: &Due) {
        let now = self.shared.stamps(&due.stem);
        if due.seen.is_some() && now.is_some() && now != due.seen {
            return self.shared.signals.found(&due.stem, now, SETTLE_OPEN);
        }
        self.shared.examine(&due.stem);
    }
}
