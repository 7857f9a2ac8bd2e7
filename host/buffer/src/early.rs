//! Records that can be read before they are durable, because somebody waits for what becomes of them and wants no more.
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
    /// Of the group that is being synced.
    frames: Vec<Arc<Frame>>,
    voided: Voided,
}

/// What could be read and did not become durable.
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

    /// Those with records at or after an offset.
    pub(crate) fn frames(&self, from: u64) -> Vec<Arc<Frame>> {
        let wanted = |frame: &&Arc<Frame>| frame.base_offset + u64::from(frame.count) > from;
        self.frames.iter().filter(wanted).cloned().collect()
    }

    /// They are durable, and found elsewhere.
    pub(crate) fn settle(&mut self) {
        self.frames.clear();
    }

    /// They are not, and never will be.
    fn void(&mut self) {
        for frame in self.frames.drain(..) {
            self.voided.records += u64::from(frame.count);
            self.voided.bytes += frame.payload.len() as u64;
        }
    }
}

impl StreamCore {
    pub(crate) fn early(&self) -> MutexGuard<'_, Early> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_early(item: &Item) -> bool {
    matches!(&item.work, Work::Records(records) if records.early)
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
            // Nobody waits any more: the append stands all the same.
            drop(reply.send(Ok(Receipt::of(&item.header))));
        }
    }
}

/// The group did not become durable.
pub(crate) fn void(items: &[Item]) {
    for stream in items.iter().filter(|item| is_early(item)).filter_map(|item| item.stream.as_ref()) {
        stream.early().void();
        stream.wake();
    }
}

impl Stream {
    /// For who reads early: waits until a record at or after `read` can be read, until all before `made` are durable, or until
    /// more is void than was `seen`. Either may be left out.
    ///
    /// Returns or waits for ever as [`Stream::durable_past`] does if the stream or the journal ends.
    pub async fn early_past(&self, read: Option<u64>, made: Option<u64>, seen: Voided) {
        let mut end = self.watch_durable_end();
        loop {
            let durable = *end.borrow_and_update();
            let (readable, voided) = {
                let early = self.core.early();
                (early.end().map_or(durable, |early| early.max(durable)), early.voided)
            };
            let is_readable = read.is_some_and(|read| readable > read);
            if is_readable || made.is_some_and(|made| durable >= made) || voided != seen {
                return;
            }
            if self.has_ended() {
                return std::future::pending().await;
            }
            if end.changed().await.is_err() || self.has_ended() {
                return;
            }
        }
    }

    /// What could be read early and is void, since the stream was opened.
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
