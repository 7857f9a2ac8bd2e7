//! Early records are written beside the sync of the group in front of them.
//!
//! A disk that pauses holds up a sync, and whoever comes behind it. Who reads early waits for no sync: once one takes longer
//! than [`PATIENCE`], a second thread writes such records behind the group whose sync it is. It does only what needs nothing
//! else done: records and entries, in the order in which they wait, under numbers that nobody has used, as far as they fit
//! into the file. All else waits for the writer. That takes what was written meanwhile for its next group when its sync has ended; if
//! the sync failed, nothing of it is durable either.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, mem};

use super::group::{self, Aheads};
use super::{count, numbered, refuse};
use crate::early;
use crate::error::AppendError;
use crate::producers::Judgement;
use crate::queue::{Item, Work};
use crate::state::{Shared, Store, lock};

/// How long a sync takes on a disk that does not pause, and some more.
const PATIENCE: Duration = Duration::from_millis(1);

/// Stream, producer and number of a request.
type Number = (u32, Arc<str>, u64);

/// A sync that is on its way, and what is written behind the group that it is for.
pub(crate) struct Syncing {
    began: Instant,
    file: Arc<Store>,
    /// Journal position behind all that is written.
    pub(super) end: u64,
    durable: u64,
    pub(super) ahead: Aheads,
    /// Of requests that are written and not applied.
    numbers: HashSet<Number>,
    /// Streams with records that are written and shown to nobody: who reads on behind them would pass them over.
    unshown: HashSet<u32>,
    pub(super) items: Vec<Item>,
    /// A write failed: what comes goes to another file.
    pub(super) failed: bool,
    /// A sync failed beside this one: the error is told once, so that this one may succeed although what it is for is lost.
    pub(super) doubt: Option<Arc<io::Error>>,
}

/// What the thread is told.
#[derive(Default)]
struct Calls {
    /// An early record waits.
    called: bool,
    stopped: bool,
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Beside {
    syncing: Mutex<Option<Syncing>>,
    /// There is one; whoever calls does not wait for a write.
    is_syncing: AtomicBool,
    calls: Mutex<Calls>,
    called: Condvar,
    /// There has been an early record.
    wanted: AtomicBool,
}

impl Beside {
    /// Starts the thread.
    pub(crate) fn start(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name("wasmill-early".into())
            .spawn(move || while shared.beside.turn(&shared) {})
    }

    pub(crate) fn stop(&self) {
        lock(&self.calls).stopped = true;
        self.called.notify_all();
    }

    /// There will be early records.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// An early record was queued.
    pub(crate) fn call(&self) {
        if self.is_syncing.load(Ordering::SeqCst) && !mem::replace(&mut lock(&self.calls).called, true) {
            self.called.notify_all();
        }
    }

    fn began(&self) -> Option<Instant> {
        lock(&self.syncing).as_ref().map(|syncing| syncing.began)
    }

    /// Waits for an early record that waits for a sync, and writes what it can; `false` once it is stopped.
    fn turn(&self, shared: &Shared) -> bool {
        let mut calls = lock(&self.calls);
        while !calls.called && !calls.stopped {
            calls = self.called.wait(calls).unwrap_or_else(PoisonError::into_inner);
        }
        calls.called = false;
        drop(calls);
        let Some(since) = self.began() else { return !lock(&self.calls).stopped };
        let mut calls = lock(&self.calls);
        while let Some(left) = (since + PATIENCE).checked_duration_since(Instant::now())
            && !left.is_zero()
            && !calls.stopped
        {
            calls = self.called.wait_timeout(calls, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if calls.stopped {
            return false;
        }
        drop(calls);
        let mut syncing = lock(&self.syncing);
        match &mut *syncing {
            Some(syncing) if syncing.began == since => syncing.write(shared),
            // Who called may wait for another one that has begun meanwhile.
            Some(_) => lock(&self.calls).called = true,
            None => {}
        }
        true
    }

    /// Writes what can be written beside the sync, however long it has taken.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn write(&self, shared: &Shared) {
        lock(&self.syncing).iter_mut().for_each(|syncing| syncing.write(shared));
    }

    /// The sync of a group begins.
    pub(super) fn begin(
        &self,
        shared: &Shared,
        file: &Arc<Store>,
        items: &[Item],
        (end, durable): (u64, u64),
        ahead: &Aheads,
    ) {
        if !self.wanted.load(Ordering::Acquire) {
            return;
        }
        let mut syncing = Syncing {
            began: Instant::now(),
            file: Arc::clone(file),
            end,
            durable,
            ahead: ahead.clone(),
            numbers: HashSet::new(),
            unshown: HashSet::new(),
            items: Vec::new(),
            failed: false,
            doubt: None,
        };
        syncing.note(items);
        *lock(&self.syncing) = Some(syncing);
        self.is_syncing.store(true, Ordering::SeqCst);
        // Those that came since the group was taken have called in vain.
        if shared.queue.has_early() {
            self.call();
        }
    }

    /// The sync has ended.
    pub(crate) fn end(&self) -> Option<Syncing> {
        self.is_syncing.store(false, Ordering::SeqCst);
        lock(&self.syncing).take()
    }
}

impl Syncing {
    /// Keeps what has to be known of written items.
    fn note(&mut self, items: &[Item]) {
        for item in items.iter().filter(|item| matches!(item.work, Work::Records(_))) {
            let Some(stream) = &item.stream else { continue };
            if let Some(numbered) = numbered(item) {
                self.numbers.insert((stream.id, Arc::clone(&numbered.producer), numbered.sequence));
            }
            if !stream.early().shows(item.header.base) {
                self.unshown.insert(stream.id);
            }
        }
    }

    /// Of items in their order, how many can be written now: none if nobody is early among them.
    fn count(&self, shared: &Shared, items: &[Item]) -> usize {
        let state = shared.state();
        let mut numbers: HashSet<Number> = HashSet::new();
        let mut len = 0;
        let may = |item: &&Item| {
            let Some(stream) = item.stream.as_ref().and_then(|core| state.streams.get(&core.id)) else {
                return false;
            };
            let id = stream.core.id;
            len += item.header.frame_len();
            let is_new = |numbers: &mut HashSet<Number>| match numbered(item) {
                None => true,
                Some(numbered) => {
                    let key = (id, Arc::clone(&numbered.producer), numbered.sequence);
                    let arrival = item.header.arrival.max(stream.last_arrival);
                    matches!(stream.producers.judge(numbered, arrival), Judgement::New)
                        && !self.numbers.contains(&key)
                        && numbers.insert(key)
                }
            };
            let fits = self.end - self.file.start + len <= self.file.bytes;
            let may = match &item.work {
                Work::Records(records) if records.early => !self.unshown.contains(&id),
                Work::Records(_) | Work::Entry => true,
                Work::Create | Work::Checkpoint(_) | Work::Delete | Work::Close => false,
            };
            may && fits && is_new(&mut numbers)
        };
        let count = items.iter().take_while(may).count();
        if items.iter().take(count).any(early::is_early) { count } else { 0 }
    }

    fn write(&mut self, shared: &Shared) {
        // Others wait for no more than two short groups.
        if self.failed || (!self.items.is_empty() && shared.queue.is_shared()) {
            return;
        }
        let mut items = shared.queue.take_first(|items| self.count(shared, items));
        if items.is_empty() {
            return;
        }
        count(&shared.counters.groups, 1);
        shared.counters.largest_group_frames.fetch_max(items.len() as u64, Ordering::Relaxed);
        group::place(shared, &mut items, (self.end, self.durable), &mut self.ahead);
        if let Err(error) = group::write(&self.file, &items, &mut Vec::new()) {
            self.failed = true;
            let error = Arc::new(error);
            shared.refuses(&error, items.len() as u64);
            let refused = group::undo(shared, &self.file, self.end, Arc::clone(&error));
            self.doubt = matches!(refused, AppendError::Unknown).then_some(error);
            return refuse(items, Vec::new(), &refused);
        }
        early::show(&mut items);
        self.note(&items);
        self.end += items.iter().map(|item| item.header.frame_len()).sum::<u64>();
        self.items.append(&mut items);
    }
}
