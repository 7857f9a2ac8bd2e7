//! The end of recovery: what segments and journal files held comes together in the streams, and is counted.
//!
//! Says which offsets are lost, and whether the journal was closed in order. Reads and changes no file but to set aside what
//! belongs to nobody.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::{Found, Pass, set_aside};
use crate::disk::read_full;
use crate::format::Kind;
use crate::journal::{Corrupt, Damage};
use crate::segment;
use crate::state::FrameRef;

impl Pass<'_> {
    /// Everything was read.
    pub(super) fn finish(mut self) -> Found {
        for (_, frames) in std::mem::take(&mut self.orphans) {
            for (header, frame, _) in frames {
                let offsets = (header.kind == Kind::Records).then_some(header.base..header.until);
                self.orphan(&frame, offsets);
            }
        }
        self.merge();
        let Found { state, recovery, .. } = &mut self.found;
        for stream in state.streams.values_mut() {
            // What came out of segments, and what a snapshot let go of with nothing of the stream behind it.
            stream.release(|_, _| {});
            // Records that are gone may still be spoken of: a new one under such an offset would count as settled.
            let mut spoken_of = stream.records_from;
            if !recovery.corrupt.is_empty() {
                spoken_of = stream.entries.iter().fold(spoken_of, |most, entry| most.max(entry.until));
            }
            stream.end = stream.end.max(spoken_of);
            stream.next_offset = stream.next_offset.max(stream.end);
            let mut expected = stream.records_from;
            for frame in &stream.records {
                if frame.after > expected {
                    recovery.lost.push((stream.core.key.clone(), expected..frame.after));
                }
                expected = expected.max(frame.until);
            }
            if stream.end > expected {
                recovery.lost.push((stream.core.key.clone(), expected..stream.end));
            }
            let mut charge = 0;
            for frame in stream.records.iter().chain(&stream.entries) {
                charge += frame.charge();
                frame.store.live.fetch_add(u64::from(frame.len), Ordering::Relaxed);
            }
            stream.core.buffered.store(charge, Ordering::Relaxed);
            let mut retained = 0;
            for frame in &stream.retained {
                retained += frame.charge();
                frame.store.live.fetch_add(u64::from(frame.len), Ordering::Relaxed);
            }
            stream.core.retained.store(retained, Ordering::Relaxed);
            stream.core.durable_end.send_replace(stream.end);
            recovery.streams.push(stream.core.key.clone());
        }
        let first = self.found.journal_id.is_none();
        let whole = self.found.recovery.torn.is_empty() && self.found.recovery.corrupt.is_empty();
        self.found.recovery.clean = (self.closed || first) && whole;
        if first {
            self.found.epoch = 1;
        } else if !self.found.recovery.clean {
            // Not by one: a directory that was put back to an earlier state must not count the same way again.
            let mut jump = [0; 2];
            let _fixed = self.disk.entropy(&mut jump);
            self.found.epoch = self.found.epoch.saturating_add(1 + u32::from(u16::from_le_bytes(jump) >> 2));
        }
        self.found
    }

    /// Reports a frame of a stream that nobody knows.
    fn orphan(&mut self, frame: &FrameRef, offsets: Option<Range<u64>>) {
        let mut bytes = vec![0; frame.len as usize];
        let len = read_full(frame.store.file.as_ref(), &mut bytes, frame.at).unwrap_or(0);
        let bytes = bytes.get(..len).unwrap_or_default();
        let set_aside = set_aside(self.disk, self.dir, &frame.store.path, frame.at, bytes);
        let file = frame.store.path.clone();
        let (damage, bytes) = (Damage::Content, u64::from(frame.len));
        self.corrupt(Corrupt { damage, file, at: frame.at, bytes, set_aside, stream: None, offsets });
    }

    /// Puts frames from segments where they belong: before and between those of the journal. One that is in several files
    /// is taken from the newest segment, because the others are about to be freed, but not from where it is corrupt: it
    /// would be lost until that segment is freed, and then found again.
    fn merge(&mut self) {
        let mut moved: BTreeMap<u32, BTreeMap<u64, FrameRef>> = BTreeMap::new();
        let take = |frames: &mut BTreeMap<u64, FrameRef>, frame: FrameRef| match frames.entry(frame.position)
        {
            Entry::Vacant(place) => drop(place.insert(frame)),
            Entry::Occupied(mut place) if !segment::is_stored(place.get()) => drop(place.insert(frame)),
            Entry::Occupied(_) => {}
        };
        for (id, frame) in std::mem::take(&mut self.moved).into_iter().rev() {
            take(moved.entry(id).or_default(), frame);
        }
        for (id, mut frames) in moved {
            let Some(stream) = self.found.state.streams.get_mut(&id) else {
                // Deleted, unless what named it may be corrupt.
                if !self.tombs.contains(&id) && !self.found.recovery.corrupt.is_empty() {
                    for frame in frames.values() {
                        self.orphan(frame, None);
                    }
                }
                continue;
            };
            let known = stream.retained.drain(..).chain(stream.records.drain(..));
            for frame in known.chain(stream.entries.drain(..)) {
                take(&mut frames, frame);
            }
            for frame in frames.into_values() {
                match frame.kind {
                    Kind::Records => {
                        stream.end = stream.end.max(frame.until);
                        stream.next_offset = stream.next_offset.max(frame.until);
                        stream.records.push_back(frame);
                    }
                    _ => stream.entries.push_back(frame),
                }
            }
        }
    }
}
