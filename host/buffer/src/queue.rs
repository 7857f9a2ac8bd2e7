//! What waits for the writer: bounded by bytes, and by count through a least price per item.
//!
//! Checkpoints that nobody waits for do not wake the writer; the latest of each stream rides along with the
//! next group.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot};

use crate::error::AppendError;
use crate::format::Header;
use crate::frame::Body;
use crate::limits;
use crate::records::{Receipt, Records};
use crate::state::{Shared, StreamCore, lock};

pub(crate) type Reply = oneshot::Sender<Result<Receipt, AppendError>>;

/// What becomes of a frame once it is durable.
#[expect(clippy::large_enum_variant, reason = "a queue entry is moved once, and most are the large kind")]
pub(crate) enum Work {
    Create,
    Records(Records),
    Entry,
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
    pub(crate) room: Option<OwnedSemaphorePermit>,
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
}

impl Queue {
    pub(crate) fn new(bytes: u64) -> Queue {
        let room_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Queue {
            inner: Mutex::default(),
            filled: Condvar::new(),
            room: Arc::new(Semaphore::new(room_bytes as usize)),
            room_bytes,
        }
    }

    /// What an item of `bytes` takes of the queue; one that is larger than the queue takes all of it.
    fn price(&self, bytes: u64) -> u32 {
        let least = (self.room_bytes / limits::QUEUE_COUNT_MAX as u32).max(1);
        u32::try_from(bytes).unwrap_or(u32::MAX).clamp(least, self.room_bytes)
    }

    pub(crate) async fn room(&self, bytes: u64) -> Result<OwnedSemaphorePermit, AppendError> {
        let room = Arc::clone(&self.room).acquire_many_owned(self.price(bytes)).await;
        room.map_err(|_closed| AppendError::Closed)
    }

    pub(crate) fn try_room(&self, bytes: u64) -> Result<OwnedSemaphorePermit, AppendError> {
        Arc::clone(&self.room).try_acquire_many_owned(self.price(bytes)).map_err(|error| match error {
            TryAcquireError::Closed => AppendError::Closed,
            TryAcquireError::NoPermits => AppendError::Busy,
        })
    }

    /// Hands an item to the writer. A checkpoint replaces the stream's waiting rider, which is older.
    pub(crate) fn push(&self, item: Item) -> Result<(), AppendError> {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(AppendError::Closed);
        }
        if let (Work::Checkpoint(_), Some(stream)) = (&item.work, &item.stream) {
            inner.riders.remove(&stream.id);
        }
        // Nothing may follow the mark of an orderly end.
        inner.closed = matches!(item.work, Work::Close);
        inner.items.push(item);
        // The writer waits only while the list is empty.
        let wake = inner.items.len() == 1;
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
        inner.kicked = !inner.riders.is_empty();
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

    /// Everything that waits (nothing after `poke`); false once the queue is closed and empty.
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
        into.items.append(&mut inner.items);
        into.items.extend(std::mem::take(&mut inner.riders).into_values());
        into.items.extend(close);
        into.asked = std::mem::take(&mut inner.asked);
        inner.kicked = false;
    }

    /// Refuses everything from now on; what waits is dropped, so that those who wait learn `Unknown`.
    pub(crate) fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        let dropped = (std::mem::take(&mut inner.items), std::mem::take(&mut inner.riders));
        drop(inner);
        drop(dropped);
        self.room.close();
        self.filled.notify_all();
    }
}
