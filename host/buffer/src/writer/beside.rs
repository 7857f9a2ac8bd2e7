//! Early records are written behind the group whose sync is on its way, or is waited for by nobody yet.
//!
//! Whoever reads early waits for no sync: neither for that of the group in front, however long the disk pauses, nor for a thread
//! that writes. Who queues such a record writes it, and what waits in front of it. It does only what needs nothing
//! else done: records and entries, in the order in which they wait, under numbers that nobody has used, as far as they fit
//! into the file. All else waits for the writer. That takes what was written meanwhile for its next group when its sync has ended; if
//! the sync failed, nothing of it is durable either.
//!
//! A group that has only early records is synced once somebody waits for a sync, or after [`UNSYNCED_MAX`]: what comes until then
//! shares that sync, and wakes nobody.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use super::group::{self, Aheads};
use super::{count, numbered, refuse};
use crate::early;
use crate::error::AppendError;
use crate::producers::Judgement;
use crate::queue::{Item, Work};
use crate::state::{Shared, Store, lock};

/// How long what nobody waits for is written before it is synced.
pub(super) const UNSYNCED_MAX: Duration = Duration::from_millis(5);

/// Stream, producer and number of a request.
type Number = (u32, Arc<str>, u64);

/// A sync that is on its way or will be, and what is written behind the group that it is for.
pub(crate) struct Syncing {
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

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Beside {
    syncing: Mutex<Option<Syncing>>,
    /// There is one; whoever calls takes no lock else.
    is_syncing: AtomicBool,
    /// There has been an early record.
    wanted: AtomicBool,
}

impl Beside {
    /// There will be early records.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// An early record was queued: writes what can be written beside the sync.
    pub(crate) fn call(&self, shared: &Shared) {
        if !self.is_begun() {
            return;
        }
        loop {
            let mut syncing = match self.syncing.try_lock() {
                Ok(syncing) => syncing,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // Who holds it looks again when it has let go.
                Err(TryLockError::WouldBlock) => return,
            };
            // Without one the writer takes what waits.
            let Some(open) = &mut *syncing else { return };
            let wrote = open.write(shared, false);
            drop(syncing);
            if !shared.queue.has_early() {
                return;
            }
            if !wrote {
                // It needs the writer.
                return shared.queue.poke();
            }
        }
    }

    /// Whether there is a sync that others write beside.
    pub(super) fn is_begun(&self) -> bool {
        self.is_syncing.load(Ordering::SeqCst)
    }

    /// Writes what can be written beside the sync.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn write(&self, shared: &Shared) {
        if let Some(syncing) = &mut *lock(&self.syncing) {
            syncing.write(shared, false);
        }
    }

    /// A group is written, and its sync is to come.
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
        self.call_missed(shared);
    }

    /// Those that came while there was no sync, or somebody else looked at it, have called in vain.
    fn call_missed(&self, shared: &Shared) {
        if shared.threaded && shared.queue.has_early() {
            self.call(shared);
        }
    }

    /// The sync begins: what was written until now belongs to its group, and what waits for a sync. The journal position behind it.
    pub(super) fn join(&self, shared: &Shared, items: &mut Vec<Item>) -> Option<u64> {
        let end = lock(&self.syncing).as_mut().map(|syncing| {
            syncing.write(shared, true);
            items.append(&mut syncing.items);
            syncing.end
        });
        self.call_missed(shared);
        end
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

    /// Of items in their order, how many can be written now.
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
                Work::Records(_) => true,
                Work::Entry(_) => !early::is_void(item),
                Work::Create | Work::Checkpoint(_) | Work::Delete | Work::Close => false,
            };
            may && fits && is_new(&mut numbers)
        };
        items.iter().take_while(may).count()
    }

    /// Writes what waits up to the last early record, or `all`; true if there was something that could be written.
    fn write(&mut self, shared: &Shared, all: bool) -> bool {
        // Others wait for no more than two short groups.
        if self.failed || (!self.items.is_empty() && shared.queue.is_shared()) {
            return false;
        }
        let mut items = shared.queue.take_first(|items| {
            let count = self.count(shared, items);
            if all || items.iter().take(count).any(early::is_early) { count } else { 0 }
        });
        if items.is_empty() {
            return false;
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
            refuse(items, Vec::new(), &refused);
            return true;
        }
        early::show(&mut items);
        self.note(&items);
        self.end += items.iter().map(|item| item.header.frame_len()).sum::<u64>();
        self.items.append(&mut items);
        true
    }
}
