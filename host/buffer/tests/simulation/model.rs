//! What a stream was told, and what may therefore be found of it.

use std::collections::{BTreeMap, BTreeSet};

use wasmill_buffer::{Position, Recovery, Stream, StreamKey};

/// One checkpoint that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Point {
    pub(crate) body: String,
    pub(crate) records_from: u64,
    pub(crate) entries_from: Position,
}

/// A stream as its user knows it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) incarnation: Option<[u8; 16]>,
    /// The fate of its creation or deletion is unknown.
    pub(crate) may_be_gone: bool,
    pub(crate) records: BTreeMap<u64, String>,
    /// Appends whose fate is unknown: nothing of them, or all.
    pub(crate) unknown: BTreeSet<String>,
    /// Offset behind what was acknowledged.
    pub(crate) end: u64,
    /// Offsets behind that which an unknown append of this life may have.
    pub(crate) passed: u64,
    pub(crate) entries: BTreeMap<Position, String>,
    pub(crate) unknown_entries: BTreeSet<String>,
    /// The last one that is known to be durable, if any, then those whose fate is unknown, in order.
    pub(crate) points: Vec<Point>,
    pub(crate) first_is_known: bool,
}

impl Told {
    pub(crate) fn append_acknowledged(&mut self, first: u64, texts: Vec<String>) {
        assert!(
            first >= self.end + self.passed,
            "offset {first} was given away: {} + {}",
            self.end,
            self.passed
        );
        self.end = first + texts.len() as u64;
        self.passed = 0;
        self.records.extend((first..).zip(texts));
    }

    pub(crate) fn append_unknown(&mut self, texts: Vec<String>) {
        self.passed += texts.len() as u64;
        self.unknown.extend(texts);
    }

    pub(crate) fn point_acknowledged(&mut self, point: Point) {
        self.points = vec![point];
        self.first_is_known = true;
    }

    /// Compares with what is there while nothing is unknown but what was not answered.
    pub(crate) fn check(&mut self, stream: &Stream) {
        let body = stream.latest_checkpoint().map(|body| String::from_utf8(body.to_vec()).unwrap());
        let found = self.points.iter().position(|point| Some(&point.body) == body.as_ref());
        let none = body.is_none() && !self.first_is_known;
        assert!(found.is_some() || none, "checkpoint {body:?}, told {:?}", self.points);
        let point = found.map(|index| self.points[index].clone()).unwrap_or_default();
        self.check_records(stream, &point);
        self.check_entries(stream, &point);
    }

    fn check_records(&mut self, stream: &Stream, point: &Point) {
        let mut at = 0;
        let mut there = BTreeMap::new();
        loop {
            let found = stream.try_frames(at, 4000).unwrap();
            assert!(found.lost.is_empty(), "lost {:?}", found.lost);
            for frame in &found.frames {
                assert!(frame.base_offset >= at, "{} before {at}", frame.base_offset);
                for (row, bytes) in frame.records().enumerate() {
                    there.insert(frame.base_offset + row as u64, String::from_utf8(bytes.to_vec()).unwrap());
                }
                at = frame.end_offset();
            }
            if found.frames.is_empty() {
                break;
            }
            assert!(found.next_offset >= at);
            at = found.next_offset;
        }
        for (offset, text) in self.records.range(point.records_from..) {
            assert_eq!(there.get(offset), Some(text), "record {offset} was acknowledged");
        }
        for (offset, text) in there {
            match self.records.get(&offset) {
                Some(told) => assert_eq!(*told, text, "record {offset} is another"),
                None => {
                    assert!(self.unknown.remove(&text), "record {offset} was refused or released: {text}");
                    assert!(offset >= self.end, "unknown record {offset} lies before {}", self.end);
                    self.end = offset + 1;
                    self.records.insert(offset, text);
                }
            }
        }
        assert_eq!(stream.durable_end(), at.max(self.end));
        assert!(stream.next_offset() >= self.end, "{} < {}", stream.next_offset(), self.end);
    }

    /// Of history everything is there, or a part that is what it was, or nothing.
    pub(crate) fn check_history(&self, stream: &Stream, kept: u8) {
        let end = stream.durable_end();
        let mut there = BTreeMap::new();
        let mut at = 0;
        while at < end {
            let found = stream.read_history(at..end, 4000).unwrap();
            assert!(found.lost.is_empty() || kept > 0, "lost {:?}", found.lost);
            for frame in &found.frames {
                assert!(frame.base_offset >= at, "{} before {at}", frame.base_offset);
                for (row, bytes) in frame.records().enumerate() {
                    there.insert(frame.base_offset + row as u64, String::from_utf8(bytes.to_vec()).unwrap());
                }
            }
            assert!(found.next_offset > at, "{} at {at}", found.next_offset);
            at = found.next_offset;
        }
        assert!(kept == 0 || stream.retained_bytes() <= 20_000);
        assert!(kept < 2 || stream.retained_bytes() == 0);
        for (offset, text) in &there {
            assert_eq!(self.records.get(offset), Some(text), "record {offset} of history is another");
        }
        assert!(kept > 0 || there.len() == self.records.len(), "{} of {}", there.len(), self.records.len());
    }

    fn check_entries(&mut self, stream: &Stream, point: &Point) {
        let there: BTreeMap<Position, String> = stream
            .entries()
            .iter()
            .map(|entry| {
                let body = stream.read_entry(entry.position).unwrap();
                (entry.position, String::from_utf8(body.to_vec()).unwrap())
            })
            .collect();
        for (position, body) in self.entries.range(point.entries_from..) {
            assert_eq!(there.get(position), Some(body), "entry {position:?} was acknowledged");
        }
        for (position, body) in there {
            match self.entries.get(&position) {
                Some(told) => assert_eq!(*told, body),
                None => {
                    assert!(self.unknown_entries.remove(&body), "entry {position:?} was refused: {body}");
                    self.entries.insert(position, body);
                }
            }
        }
    }

    /// After a reopen: what is there is all that there is, and nothing is unknown any more.
    pub(crate) fn settle(&mut self, stream: &Stream) {
        if let Some(incarnation) = self.incarnation {
            assert_eq!(stream.incarnation(), incarnation);
        }
        self.incarnation = Some(stream.incarnation());
        self.check(stream);
        let last = self.records.last_key_value().map(|(_, text)| text.clone());
        let position = stream.source_position("source", 3).map(|p| String::from_utf8(p).unwrap());
        if let Some(last) = last {
            let position = position.expect("a position was stored with every record");
            assert!(last.starts_with(&position), "position {position} with record {last}");
        }
        let body = stream.latest_checkpoint().map(|body| String::from_utf8(body.to_vec()).unwrap());
        self.points.retain(|point| Some(&point.body) == body.as_ref());
        self.points.truncate(1);
        self.first_is_known = body.is_some();
        self.unknown.clear();
        self.unknown_entries.clear();
        self.passed = 0;
        self.may_be_gone = false;
    }
}

/// What recovery may never say after a mere loss of power.
pub(crate) fn check_recovery(recovery: &Recovery, told: &BTreeMap<StreamKey, Told>) {
    assert!(recovery.corrupt.is_empty(), "{:?}", recovery.corrupt);
    assert!(recovery.lost.is_empty(), "{:?}", recovery.lost);
    for key in &recovery.streams {
        assert!(told.contains_key(key), "{key:?} was never created, or deleted");
    }
    for (key, told) in told {
        assert!(told.may_be_gone || recovery.streams.contains(key), "{key:?} is gone");
    }
}
