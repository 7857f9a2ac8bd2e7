//! Records that can be read before they are durable, because somebody waits for what becomes of them.
//!
//! Such records have their receipt, and readers that ask for them have their frames, once they are written and before they
//! are synced. They are in the journal in front of everything that is appended afterwards, so whatever is durable of what was
//! made of them, they are, too. Should the sync fail, they are void: they never were, and who has read them is told.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::frame::Frame;
use crate::queue::{Item, Work};
use crate::records::Receipt;
use crate::state::StreamCore;
use crate::stream::{Frames, Stream};

/// What of a stream is written and not durable, where somebody wants to read it.
#[derive(Default)]
pub(crate) struct Early {
    /// Of the group that is being synced, and of those behind it.
    frames: Vec<Arc<Frame>>,
    voided: Voided,
}

/// Records with an early receipt that did not become durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Voided {
    pub records: u64,
    /// Of their payloads.
    pub bytes: u64,
}

impl Early {
    fn end(&self) -> Option<u64> {
        self.frames.last().map(|frame| frame.base_offset + u64::from(frame.count))
    }

    /// Those with records at or after an offset, up to `max_bytes` of payloads; one at least if there `must` be one.
    pub(crate) fn frames(&self, from: u64, max_bytes: usize, must: bool) -> Vec<Arc<Frame>> {
        let wanted = |frame: &&Arc<Frame>| frame.base_offset + u64::from(frame.count) > from;
        let (mut bytes, mut must) = (0, must);
        let fits = |frame: &&Arc<Frame>| {
            bytes += frame.payload.len();
            std::mem::take(&mut must) || bytes <= max_bytes
        };
        self.frames.iter().filter(wanted).take_while(fits).cloned().collect()
    }

    /// Whether the record at an offset can be read.
    pub(crate) fn shows(&self, offset: u64) -> bool {
        self.frames.last().is_some_and(|frame| frame.base_offset >= offset)
    }

    /// Those before an offset are durable, and found elsewhere.
    pub(crate) fn settle(&mut self, until: u64) {
        self.frames.retain(|frame| frame.base_offset >= until);
    }
}

impl StreamCore {
    pub(crate) fn early(&self) -> MutexGuard<'_, Early> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn is_early(item: &Item) -> bool {
    matches!(&item.work, Work::Records(records) if records.early)
}

/// Of an entry that speaks of records that are void by now.
pub(crate) fn is_void(item: &Item) -> bool {
    match (&item.work, &item.stream) {
        (Work::Entry(Some(seen)), Some(stream)) => stream.early().voided != *seen,
        _ => false,
    }
}

/// A group is written: shows what readers may have of it, and gives its early records their receipts. With one such record
/// of a stream all of its frames in the group are shown, because readers read in order.
pub(crate) fn show(items: &mut [Item]) {
    let mut streams: HashMap<u32, Arc<StreamCore>> = HashMap::new();
    for item in items.iter().filter(|item| is_early(item)) {
        if let Some(stream) = &item.stream {
            streams.entry(stream.id).or_insert_with(|| Arc::clone(stream));
        }
    }
    if streams.is_empty() {
        return;
    }
    for item in items.iter() {
        let Some(stream) = item.stream.as_ref().and_then(|stream| streams.get(&stream.id)) else { continue };
        if let Work::Records(records) = &item.work {
            stream.early().frames.push(Arc::new(Frame::from_records(&item.header, records.clone())));
        }
    }
    streams.values().for_each(|stream| stream.wake());
    for item in items.iter_mut().filter(|item| is_early(item)) {
        if let Some(reply) = item.reply.take() {
            reply.say(Ok(Receipt::of(&item.header)));
        }
    }
}

/// A group that was shown did not become durable.
pub(crate) fn void(items: &[Item]) {
    for item in items.iter().filter(|item| is_early(item)) {
        let (Some(stream), Work::Records(records)) = (&item.stream, &item.work) else { continue };
        let early = &mut *stream.early();
        early.frames.clear();
        early.voided.records += u64::from(item.header.count);
        early.voided.bytes += records.payload.len() as u64;
    }
    let woken = items.iter().filter(|item| is_early(item)).filter_map(|item| item.stream.as_ref());
    woken.for_each(|stream| stream.wake());
}

impl Stream {
    /// For who reads early: waits until a record at or after `read` can be read, until all before `made` are durable, or until
    /// more is void than was `seen`. Either may be left out.
    ///
    /// Returns or waits for ever as [`Stream::durable_past`] does if the stream or the journal ends.
    pub async fn early_past(&self, read: Option<u64>, made: Option<u64>, seen: Voided) {
        let is = |durable: u64| {
            let early = self.core.early();
            let readable = early.end().unwrap_or(0).max(durable);
            read.is_some_and(|read| readable > read)
                || made.is_some_and(|made| durable >= made)
                || early.voided != seen
        };
        if made.is_some_and(|made| self.durable_end() < made) {
            self.shared.queue.await_sync();
        }
        self.wait_until(is).await;
    }

    /// What had an early receipt and is void, since the stream was opened.
    pub fn voided(&self) -> Voided {
        self.core.early().voided
    }
}

impl Frames {
    /// Behind all that are durable.
    pub(crate) fn add_early(&mut self, frames: Vec<Arc<Frame>>) {
        for frame in frames {
            self.next_offset = frame.base_offset + u64::from(frame.count);
            self.frames.push(frame);
        }
    }
}
