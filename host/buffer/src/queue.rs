//! What waits for the writer: bounded by bytes, and by count through a least price per item.
//!
//! While several tenants append, a group is short and takes from each in its turn ([`fair`]), and one may fill no more than
//! half of the queue (by items that are no longer than that): however much one of them appends, another waits for two short
//! groups. A tenant alone gets groups as long as what waits, which cost least.
//!
//! Checkpoints that nobody waits for do not wake the writer; the latest of each stream rides along with the
//! next group.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use self::fair::Turns;
use crate::early::{self, Voided};
use crate::error::AppendError;
use crate::format::Header;
use crate::frame::Body;
use crate::limits;
use crate::records::{Receipt, Records};
use crate::state::{Shared, StreamCore, lock};

mod fair;

/// Bytes from which on a group is long enough while several tenants append.
const GROUP_BYTES: u64 = 1 << 20;
/// Tenants whose appends are so close to each other append at the same time.
const TOGETHER: Duration = Duration::from_secs(1);

/// Whom to tell what becomes of an append: called once, by the writer; with [`AppendError::Unknown`] where nobody says it.
pub(crate) struct Reply(Option<Told>);

type Told = Box<dyn FnOnce(Result<Receipt, AppendError>) + Send>;

impl Reply {
    pub(crate) fn new(told: impl FnOnce(Result<Receipt, AppendError>) + Send + 'static) -> Reply {
        Reply(Some(Box::new(told)))
    }

    pub(crate) fn say(mut self, what: Result<Receipt, AppendError>) {
        if let Some(told) = self.0.take() {
            told(what);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(told) = self.0.take() {
            told(Err(AppendError::Unknown));
        }
    }
}

/// What becomes of a frame once it is durable.
#[expect(clippy::large_enum_variant, reason = "a queue entry is moved once, and most are the large kind")]
pub(crate) enum Work {
    Create,
    Records(Records),
    /// What was void when it was made, of one that speaks of records that are not durable.
    Entry(Option<Voided>),
    Checkpoint(Bytes),
    Delete,
    Close,
}

/// One frame on its way to the writer.
pub(crate) struct Item {
    /// None for the journal's own frames.
    pub(crate) stream: Option<Arc<StreamCore>>,
    pub(crate) header: Header,
    pub(crate) body: Body,
    pub(crate) work: Work,
    pub(crate) reply: Option<Reply>,
    pub(crate) charge: Option<Charge>,
    pub(crate) room: Option<Room>,
}

impl Item {
    /// Empty for the journal's own.
    fn tenant(&self) -> &str {
        self.stream.as_ref().map_or("", |stream| &stream.key.tenant)
    }
}

/// What an item takes of the queue: of its tenant's part, and of all.
pub(crate) struct Room {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// Bytes counted against a stream; given back on drop unless kept.
pub(crate) struct Charge {
    shared: Arc<Shared>,
    core: Arc<StreamCore>,
    bytes: u64,
}

impl Charge {
    pub(crate) fn new(shared: &Arc<Shared>, core: &Arc<StreamCore>, bytes: u64) -> Charge {
        shared.charge(core, bytes);
        Charge { shared: Arc::clone(shared), core: Arc::clone(core), bytes }
    }

    /// The frame is durable: it counts until it is released.
    pub(crate) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shared.discharge(&self.core, self.bytes);
    }
}

#[derive(Default)]
struct Inner {
    items: Vec<Item>,
    riders: BTreeMap<u32, Item>,
    kicked: bool,
    asked: bool,
    closed: bool,
    /// Since the writer took what waited, something came for whose sync somebody waits, or somebody waits for that of what it took.
    awaited: bool,
    /// The writer waits for that.
    lingers: bool,
    turns: Turns,
    /// Whose item came last.
    last: Option<Arc<StreamCore>>,
    /// When items of two tenants came one after the other.
    together: Option<Instant>,
}

impl Inner {
    fn is_shared(&self) -> bool {
        self.together.is_some_and(|together| together.elapsed() < TOGETHER)
    }
}

/// What the writer has to do next.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) items: Vec<Item>,
    /// Somebody wants to know whether the disk takes appends, and hears of it when that is found out.
    pub(crate) asked: bool,
}

pub(crate) struct Queue {
    inner: Mutex<Inner>,
    filled: Condvar,
    room: Arc<Semaphore>,
    room_bytes: u32,
    /// By tenant.
    parts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Queue {
    pub(crate) fn new(bytes: u64) -> Queue {
        let room_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Queue {
            inner: Mutex::default(),
            filled: Condvar::new(),
            room: Arc::new(Semaphore::new(room_bytes as usize)),
            room_bytes,
            parts: Mutex::default(),
        }
    }

    /// Of the queue, what one tenant may fill.
    fn part_bytes(&self) -> u32 {
        (self.room_bytes / 2).max(1)
    }

    fn part(&self, tenant: &str) -> Arc<Semaphore> {
        let mut parts = lock(&self.parts);
        if let Some(part) = parts.get(tenant) {
            return Arc::clone(part);
        }
        // Nobody waits for, or has, one that only the map holds.
        parts.retain(|_, part| Arc::strong_count(part) > 1);
        let part = Arc::new(Semaphore::new(self.part_bytes() as usize));
        parts.insert(tenant.to_owned(), Arc::clone(&part));
        part
    }

    /// What an item of `bytes` takes of the queue; one that is larger than the queue takes all of it.
    fn price(&self, bytes: u64) -> u32 {
        let least = (self.room_bytes / limits::QUEUE_COUNT_MAX as u32).max(1);
        u32::try_from(bytes).unwrap_or(u32::MAX).clamp(least, self.room_bytes)
    }

    /// For an item of this tenant; waits behind its own first.
    pub(crate) async fn room(&self, tenant: &str, bytes: u64) -> Result<Room, AppendError> {
        let price = self.price(bytes);
        let own = self.part(tenant).acquire_many_owned(price.min(self.part_bytes())).await;
        let own = own.map_err(|_closed| AppendError::Closed)?;
        let all = Arc::clone(&self.room).acquire_many_owned(price).await;
        Ok(Room { _own: own, _all: all.map_err(|_closed| AppendError::Closed)? })
    }

    pub(crate) fn try_room(&self, tenant: &str, bytes: u64) -> Result<Room, AppendError> {
        let refusal = |error| match error {
            TryAcquireError::Closed => AppendError::Closed,
            TryAcquireError::NoPermits => AppendError::Busy,
        };
        let price = self.price(bytes);
        let own = self.part(tenant).try_acquire_many_owned(price.min(self.part_bytes())).map_err(refusal)?;
        let all = Arc::clone(&self.room).try_acquire_many_owned(price).map_err(refusal)?;
        Ok(Room { _own: own, _all: all })
    }

    /// Hands an item to the writer. A checkpoint replaces the stream's waiting rider, which is older.
    pub(crate) fn push(&self, mut item: Item) -> Result<(), AppendError> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            drop(inner);
            item.reply.take().into_iter().for_each(|reply| reply.say(Err(AppendError::Closed)));
            return Err(AppendError::Closed);
        }
        if let (Work::Checkpoint(_), Some(stream)) = (&item.work, &item.stream) {
            inner.riders.remove(&stream.id);
        }
        // Nothing may follow the mark of an orderly end.
        inner.closed = matches!(item.work, Work::Close);
        if let Some(stream) = &item.stream {
            if inner.last.as_ref().is_some_and(|last| last.key.tenant != stream.key.tenant) {
                inner.together = Some(Instant::now());
            }
            inner.last = Some(Arc::clone(stream));
        }
        let early = early::is_early(&item);
        inner.awaited |= !early;
        inner.items.push(item);
        // The writer waits only while the list is empty, or for others than early records.
        let wake = if inner.lingers { !early } else { inner.items.len() == 1 };
        drop(inner);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Leaves a checkpoint for the next group.
    pub(crate) fn ride(&self, stream: u32, item: Item) -> Result<(), AppendError> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(AppendError::Closed);
        }
        inner.riders.insert(stream, item);
        Ok(())
    }

    /// Makes the writer take the riders now: space depends on them.
    pub(crate) fn kick(&self) {
        let mut inner = lock(&self.inner);
        inner.kicked |= !inner.riders.is_empty();
        drop(inner);
        self.filled.notify_one();
    }

    /// Makes the writer look for files to free.
    pub(crate) fn poke(&self) {
        lock(&self.inner).kicked = true;
        self.filled.notify_one();
    }

    /// Has the writer ask the disk whether it takes appends, before it writes what waits.
    pub(crate) fn ask(&self) -> Result<(), AppendError> {
        let mut inner = lock(&self.inner);
        // Behind the mark of an orderly end the files may be another's.
        if inner.closed {
            return Err(AppendError::Closed);
        }
        inner.asked = true;
        drop(inner);
        self.filled.notify_one();
        Ok(())
    }

    /// Everything that waits now, or nothing.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn try_take(&self, into: &mut Taken) {
        Queue::drain(&mut lock(&self.inner), into);
    }

    /// What waits (nothing after `poke`), or a part of it while several tenants append; false once the queue is closed and
    /// empty.
    pub(crate) fn take(&self, into: &mut Taken) -> bool {
        let mut inner = lock(&self.inner);
        while inner.items.is_empty() && !inner.kicked && !inner.asked {
            if inner.closed {
                return false;
            }
            inner = self.filled.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        Queue::drain(&mut inner, into);
        true
    }

    fn drain(inner: &mut Inner, into: &mut Taken) {
        let close = inner.items.pop_if(|item| matches!(item.work, Work::Close));
        if inner.is_shared() && close.is_none() {
            inner.turns.take(&mut inner.items, GROUP_BYTES, &mut into.items);
        } else {
            into.items.append(&mut inner.items);
        }
        into.items.extend(std::mem::take(&mut inner.riders).into_values());
        into.items.extend(close);
        into.asked = std::mem::take(&mut inner.asked);
        inner.kicked = false;
        inner.awaited = inner.items.iter().any(|item| !early::is_early(item));
    }

    /// Somebody waits until what is written is durable.
    pub(crate) fn await_sync(&self) {
        lock(&self.inner).awaited = true;
        self.filled.notify_one();
    }

    /// Waits until somebody waits for a sync or the writer has something else to do, and for no longer than `at_most`.
    pub(crate) fn linger(&self, at_most: Duration) {
        let until = Instant::now() + at_most;
        let mut inner = lock(&self.inner);
        inner.lingers = true;
        while !(inner.awaited || inner.kicked || inner.asked || inner.closed)
            && let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            inner = self.filled.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        inner.lingers = false;
    }

    /// Whether several tenants append.
    pub(crate) fn is_shared(&self) -> bool {
        lock(&self.inner).is_shared()
    }

    /// Whether somebody waits for a write, and for no sync.
    pub(crate) fn has_early(&self) -> bool {
        lock(&self.inner).items.iter().any(early::is_early)
    }

    /// The first of what waits, as many as `count` says of those that are about as long as a group.
    pub(crate) fn take_first(&self, count: impl FnOnce(&[Item]) -> usize) -> Vec<Item> {
        let mut inner = lock(&self.inner);
        let mut bytes = 0;
        let is_short = |item: &&Item| {
            let before = bytes;
            bytes += item.header.frame_len();
            before < GROUP_BYTES
        };
        let group = inner.items.iter().take_while(is_short).count();
        let count = inner.items.get(..group).map_or(0, count);
        inner.items.drain(..count.min(group)).collect()
    }

    /// Refuses everything from now on; what waits is dropped, so that those who wait learn `Unknown`.
    pub(crate) fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        let dropped = (std::mem::take(&mut inner.items), std::mem::take(&mut inner.riders));
        drop(inner);
        drop(dropped);
        self.room.close();
        lock(&self.parts).values().for_each(|part| part.close());
        self.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writer_lingers_until_somebody_waits_for_a_sync() {
        let queue = Queue::new(1 << 20);
        let began = Instant::now();
        let long = Duration::from_secs(600);
        std::thread::scope(|scope| {
            let lingers = scope.spawn(|| queue.linger(long));
            while !lock(&queue.inner).lingers {
                std::thread::yield_now();
            }
            queue.await_sync();
            lingers.join().unwrap();
            // Also where that was said in front of it.
            queue.linger(long);
            queue.try_take(&mut Taken::default());
            queue.linger(Duration::from_millis(1));
        });
        assert!(began.elapsed() < long);
        assert!(!lock(&queue.inner).awaited);
    }
}
