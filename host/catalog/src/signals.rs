//! What the catalog's thread waits for: files that changed and have settled, a look at the whole directory, the end.
//!
//! Marks are merged per plugin, so any number of events costs one slot, and are bounded: past the bound the whole
//! directory is looked at instead. A file that was closed or renamed is due after [`SETTLE`]; one that is still open for
//! writing after [`SETTLE_OPEN`] without a change, in case nobody says that it was closed. A plugin that changes all the time
//! is due [`PACE_BURST`] times at once and then every [`PACE`]: each look at it may compile, sync and probe, which others on
//! the machine would feel; what is skipped between two looks was replaced before anybody could have used it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::scan::{FILES_MAX, Part, Stamps};

pub(crate) const SETTLE: Duration = Duration::from_millis(25);
/// For a recent change that was found by looking while there is a watch, as right after it was set up.
pub(crate) const SETTLE_FOUND: Duration = Duration::from_millis(100);
pub(crate) const SETTLE_OPEN: Duration = Duration::from_secs(1);
/// See the head of this file.
pub(crate) const PACE: Duration = Duration::from_secs(1);
pub(crate) const PACE_BURST: u32 = 8;

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Written to or created: its writer has it open.
    Writing,
    /// Closed after writing, renamed, removed.
    Settled,
    /// Something else, such as its permissions.
    Touched,
}

/// How the directory is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By events, and every now and then by looking.
    Watch,
    /// By looking alone.
    Poll,
}

/// A plugin whose files changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) stem: OsString,
    /// If it was found by looking: as it was then. It has settled if it still is so.
    pub(crate) seen: Option<Stamps>,
}

struct Mark {
    due: Instant,
    writing: [bool; 3],
    seen: Option<Stamps>,
}

#[derive(Default)]
struct Inner {
    marks: BTreeMap<OsString, Mark>,
    /// When the last of the looks that a plugin had would have been due, had they come at [`PACE`]; only those in the future.
    paced: BTreeMap<OsString, Instant>,
    look: bool,
    mode: Option<Mode>,
    stop: bool,
}

/// What there is to do.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) due: Vec<Due>,
    /// The directory itself changed, or events were lost.
    pub(crate) look: bool,
    pub(crate) mode: Option<Mode>,
    pub(crate) stop: bool,
}

#[derive(Default)]
pub(crate) struct Signals {
    inner: Mutex<Inner>,
    wake: Condvar,
}

impl Signals {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event of a file.
    pub(crate) fn changed(&self, stem: &OsStr, part: Part, change: Change) {
        let mut inner = self.inner();
        let Some(mark) = inner.mark(stem) else { return self.wake.notify_all() };
        let writing = &mut mark.writing[part as usize];
        match change {
            Change::Writing => *writing = true,
            Change::Settled => *writing = false,
            Change::Touched => {}
        }
        mark.seen = None;
        mark.due = Instant::now() + if mark.writing.contains(&true) { SETTLE_OPEN } else { SETTLE };
        self.wake.notify_all();
    }

    /// A plugin that was found changed by looking; due after `delay`. An event that came before counts more.
    pub(crate) fn found(&self, stem: &OsStr, seen: Option<Stamps>, delay: Duration) {
        let mut inner = self.inner();
        if !inner.marks.contains_key(stem)
            && let Some(mark) = inner.mark(stem)
        {
            mark.seen = seen;
            mark.due = Instant::now() + delay;
        }
        self.wake.notify_all();
    }

    /// Look at the whole directory.
    pub(crate) fn look(&self) {
        self.inner().look = true;
        self.wake.notify_all();
    }

    pub(crate) fn observe(&self, mode: Mode) {
        let mut inner = self.inner();
        inner.mode = Some(mode);
        inner.look = true;
        self.wake.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.inner().stop = true;
        self.wake.notify_all();
    }

    pub(crate) fn stopping(&self) -> bool {
        self.inner().stop
    }

    /// Waits until something is due, `tick` at the latest if the directory is observed.
    pub(crate) fn wait(&self, tick: Instant) -> Work {
        let mut inner = self.inner();
        loop {
            let now = Instant::now();
            inner.paced.retain(|_, until| *until > now);
            let first = inner.marks.iter().map(|(stem, mark)| inner.due(stem, mark)).min();
            let ticking = inner.mode.map(|_| tick);
            let next = first.into_iter().chain(ticking).min();
            if inner.stop || inner.look || next.is_some_and(|next| next <= now) {
                let due = inner.take_due(now);
                let look = std::mem::take(&mut inner.look);
                return Work { due, look, mode: inner.mode, stop: inner.stop };
            }
            inner = match next {
                Some(next) => {
                    let waited = self.wake.wait_timeout(inner, next - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Inner {
    /// When it is its turn.
    fn due(&self, stem: &OsStr, mark: &Mark) -> Instant {
        let paced = self.paced.get(stem).and_then(|until| until.checked_sub(PACE * (PACE_BURST - 1)));
        paced.map_or(mark.due, |paced| mark.due.max(paced))
    }

    fn take_due(&mut self, now: Instant) -> Vec<Due> {
        let stems: Vec<OsString> = self
            .marks
            .iter()
            .filter(|(stem, mark)| self.due(stem, mark) <= now)
            .map(|(stem, _)| stem.clone())
            .collect();
        let mut taken = Vec::with_capacity(stems.len());
        for stem in stems {
            let Some(mark) = self.marks.remove(&stem) else { continue };
            let until = self.paced.entry(stem.clone()).or_insert(now);
            *until = (*until).max(now) + PACE;
            taken.push(Due { stem, seen: mark.seen });
        }
        taken
    }

    fn mark(&mut self, stem: &OsStr) -> Option<&mut Mark> {
        if !self.marks.contains_key(stem) {
            if self.marks.len() == FILES_MAX {
                self.look = true;
                return None;
            }
            let mark = Mark { due: Instant::now(), writing: [false; 3], seen: None };
            self.marks.insert(stem.to_owned(), mark);
        }
        self.marks.get_mut(stem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn wait_many_events_of_one_file_is_one_mark_when_it_settles() {
        let signals = Signals::default();
        let started = Instant::now();
        for _ in 0..1000 {
            signals.changed(OsStr::new("a"), Part::Wasm, Change::Writing);
        }
        signals.changed(OsStr::new("a"), Part::Wasm, Change::Settled);
        let work = signals.wait(soon());
        assert_eq!(work.due, [Due { stem: "a".into(), seen: None }]);
        assert!(started.elapsed() >= SETTLE);
    }

    #[test]
    fn wait_closed_sidecar_does_not_close_the_plugin_file() {
        let signals = Signals::default();
        let started = Instant::now();
        signals.changed(OsStr::new("a"), Part::Wasm, Change::Writing);
        signals.changed(OsStr::new("a"), Part::Sidecar, Change::Writing);
        signals.changed(OsStr::new("a"), Part::Sidecar, Change::Settled);
        assert_eq!(signals.wait(soon()).due.len(), 1);
        assert!(started.elapsed() >= SETTLE_OPEN);
    }

    #[test]
    fn wait_more_marks_than_the_bound_looks_at_the_directory_instead() {
        let signals = Signals::default();
        for number in 0..FILES_MAX {
            signals.changed(OsStr::new(&number.to_string()), Part::Wasm, Change::Writing);
        }
        assert!(!signals.inner().look);
        signals.changed(OsStr::new("one more"), Part::Wasm, Change::Writing);
        let work = signals.wait(soon());
        assert!(work.look && work.due.is_empty());
        assert_eq!(signals.inner().marks.len(), FILES_MAX);
    }

    #[test]
    fn wait_plugin_that_changes_all_the_time_is_due_at_a_pace_and_others_at_once() {
        let mut inner = Inner::default();
        let start = Instant::now();
        let mark = |inner: &mut Inner, stem: &str, due: Instant| {
            inner.marks.insert(stem.into(), Mark { due, writing: [false; 3], seen: None });
        };
        let stems = |taken: Vec<Due>| taken.into_iter().map(|due| due.stem).collect::<Vec<_>>();
        let mut taken = 0;
        // Ten times a second, for ten seconds.
        for tick in 0..100 {
            let now = start + Duration::from_millis(100) * tick;
            mark(&mut inner, "storm", now);
            taken += inner.take_due(now).len();
        }
        assert_eq!(taken, 8 + 9);
        let end = start + Duration::from_secs(10);
        mark(&mut inner, "storm", end);
        mark(&mut inner, "calm", end);
        inner.paced.insert("storm".into(), end + PACE * PACE_BURST);
        assert_eq!(stems(inner.take_due(end)), ["calm"]);
        assert_eq!(inner.due(OsStr::new("storm"), &inner.marks[OsStr::new("storm")]), end + PACE);
        // The last version is not forgotten.
        assert_eq!(stems(inner.take_due(end + PACE)), ["storm"]);
    }

    #[test]
    fn found_never_hastens_a_file_that_is_being_written() {
        let signals = Signals::default();
        signals.changed(OsStr::new("a"), Part::Wasm, Change::Writing);
        signals.found(OsStr::new("a"), None, Duration::ZERO);
        signals.found(OsStr::new("b"), None, Duration::ZERO);
        assert_eq!(signals.wait(soon()).due, [Due { stem: "b".into(), seen: None }]);
    }
}
