//! Event time of a stream that says where its records have it: which times the records of a slice have, what of them is late, and
//! how far that takes the watermark.
//!
//! Records are judged in the order of the stream, before any plugin sees them, each by the watermark as it was when the record came:
//! nothing here depends on how the stream is cut into slices. The watermark is the largest time seen less the delay, of several
//! sources the least of theirs, and never falls. Where it stands is part of outcomes and checkpoints.

mod late;
mod marks;
mod read;
mod stats;

use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wasmill_config as config;
use wasmill_transform::{RowTimes, Times};

pub(crate) use self::late::route_late;
pub(crate) use self::marks::Marks;
use self::read::{Reader, Why};
pub(super) use self::stats::EventTimeStats;
use super::outcome::Letter;
use super::slice::Part;

/// Stands for a time that a record does not have, and for a watermark before there is one.
pub(crate) const NO_TIME: i64 = i64::MIN;

/// How a stream tells time. See the head of this file.
#[derive(Debug)]
pub(crate) struct EventTime {
    reader: Reader,
    /// Nanoseconds, as all spans here.
    delay: i64,
    lateness: i64,
    ahead: Option<i64>,
    late: config::Late,
    unreadable: config::Unreadable,
    /// Time without records after which the watermark goes on with the clock, and without those of a source after which it is
    /// not waited for.
    pub(crate) idle_timeout: Option<Duration>,
    /// Names of several; empty of a stream with one.
    pub(crate) sources: Arc<[String]>,
}

/// What a slice, or all slices since a commit, had of records that were late, or of which the time could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LateCounts {
    pub(crate) kept: u64,
    pub(crate) dropped: u64,
    pub(crate) routed: u64,
    /// Whatever becomes of them.
    pub(crate) unreadable: u64,
}

impl AddAssign for LateCounts {
    fn add_assign(&mut self, other: LateCounts) {
        self.kept += other.kept;
        self.dropped += other.dropped;
        self.routed += other.routed;
        self.unreadable += other.unreadable;
    }
}

/// How far event time has come behind a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) watermark: i64,
    /// Of a stream with several sources.
    pub(crate) marks: Option<Marks>,
    /// It had records whose time can be read and which are not late: others say nothing of how far event time has come.
    pub(crate) timely: bool,
    /// Transforms have more to do at it than the slice did.
    pub(crate) owed: bool,
    pub(crate) late: LateCounts,
}

/// What a slice is judged by.
#[derive(Clone)]
pub(crate) struct SliceClock {
    pub(crate) rules: Arc<EventTime>,
    /// In front of its first record.
    pub(crate) watermark: i64,
    /// The same, of a stream with several sources.
    pub(crate) marks: Option<Marks>,
    /// Transforms are to be told of it even where it does not move.
    pub(crate) due: bool,
    /// Times are read, and nothing is judged or moved: a replay.
    pub(crate) frozen: bool,
}

/// The records of a slice, judged.
pub(crate) struct Judged {
    /// Those that go through the chain.
    pub(crate) parts: Vec<Part>,
    /// Their times and watermarks, by part.
    pub(crate) times: Vec<(Vec<i64>, Vec<i64>)>,
    /// Those that go to the output of late ones.
    pub(crate) late: Vec<Part>,
    /// Of those whose time cannot be read.
    pub(crate) letters: Vec<(Letter, Bytes)>,
    /// Records that are gone.
    pub(crate) dropped: u64,
    pub(crate) counts: LateCounts,
    before: i64,
    pub(crate) watermark: i64,
    pub(crate) marks: Option<Marks>,
    pub(crate) timely: bool,
    due: bool,
}

/// What becomes of one record.
enum Fate {
    Passes(i64),
    Late,
    Fails(Why),
    Dropped,
}

fn nanoseconds(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

impl EventTime {
    /// # Errors
    /// What of it is wrong that the configuration has not refused.
    pub(crate) fn new(written: &config::EventTime) -> Result<EventTime, String> {
        Ok(EventTime {
            reader: Reader::new(written)?,
            delay: nanoseconds(written.delay),
            lateness: nanoseconds(written.lateness),
            ahead: written.ahead.map(nanoseconds),
            late: written.late,
            unreadable: written.unreadable,
            idle_timeout: written.idle_timeout,
            sources: Arc::default(),
        })
    }

    /// Of a stream with these sources.
    pub(crate) fn of_sources(self, sources: &[config::StreamSource]) -> EventTime {
        let names = sources.iter().filter_map(|source| source.name.clone());
        let several = if sources.len() > 1 { names.collect() } else { Arc::default() };
        EventTime { sources: several, ..self }
    }

    /// Number of the output of late records.
    pub(crate) fn late_output(&self) -> Option<u32> {
        match self.late {
            config::Late::Route(index) => u32::try_from(index).ok(),
            config::Late::Keep | config::Late::Drop => None,
        }
    }

    /// The time of one record that runs again, and whether it may run: else why it stays a letter.
    pub(crate) fn of_letter(&self, part: &wasmill_chunk::Input<'_>) -> Result<i64, String> {
        let read = self.reader.read(part).pop().unwrap_or(Err(Why::Unread));
        match (read, self.unreadable) {
            (Ok(time), _) => Ok(time),
            (Err(why), config::Unreadable::Fail) => Err(self.reader.reason(why)),
            (Err(_), config::Unreadable::Drop | config::Unreadable::Keep) => Ok(NO_TIME),
        }
    }

    /// What becomes of a record of this time that arrived then, of the source with this number.
    fn fate(
        &self,
        read: Result<i64, Why>,
        (arrival, source): (i64, Option<usize>),
        judged: &mut Judged,
        frozen: bool,
    ) -> Fate {
        let ahead = |time: &i64| self.ahead.is_some_and(|ahead| *time > arrival.saturating_add(ahead));
        let time = match read {
            Ok(time) if ahead(&time) => Err(Why::Ahead),
            read => read,
        };
        let time = match time {
            Ok(time) => time,
            Err(why) => {
                judged.counts.unreadable += 1;
                return match self.unreadable {
                    config::Unreadable::Fail => Fate::Fails(why),
                    config::Unreadable::Drop => Fate::Dropped,
                    config::Unreadable::Keep => Fate::Passes(NO_TIME),
                };
            }
        };
        let on_time = frozen || time >= judged.watermark.saturating_sub(self.lateness);
        if let Some(marks) = &mut judged.marks {
            marks.bring(source, time.saturating_sub(self.delay), on_time);
        }
        if on_time {
            judged.timely = true;
            return Fate::Passes(time);
        }
        match self.late {
            config::Late::Keep => {
                judged.counts.kept += 1;
                Fate::Passes(time)
            }
            config::Late::Drop => {
                judged.counts.dropped += 1;
                Fate::Dropped
            }
            config::Late::Route(_) => {
                judged.counts.routed += 1;
                Fate::Late
            }
        }
    }
}

impl SliceClock {
    /// Reads and judges the records of a slice.
    pub(crate) fn judge(&self, parts: &[Part]) -> Judged {
        let rules = &self.rules;
        let mut judged = Judged {
            parts: Vec::with_capacity(parts.len()),
            times: Vec::with_capacity(parts.len()),
            late: Vec::new(),
            letters: Vec::new(),
            dropped: 0,
            counts: LateCounts::default(),
            before: self.watermark,
            watermark: self.watermark,
            marks: self.marks.clone().filter(|_| !self.frozen),
            timely: false,
            due: self.due && !self.frozen,
        };
        judged.marks.iter_mut().for_each(Marks::begin);
        for part in parts {
            let read = rules.reader.read(&part.input());
            let source = judged.marks.as_ref().and_then(|marks| marks.number_of(part.source()));
            let rows = read.len();
            let mut first = 0;
            let (mut times, mut watermarks) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
            for (row, read) in read.into_iter().enumerate() {
                let arrival = part.arrival(row);
                if let Some(marks) = &mut judged.marks {
                    marks.arrive(arrival);
                    judged.watermark = judged.watermark.max(marks.least());
                }
                let fate = rules.fate(read, (arrival, source), &mut judged, self.frozen);
                if let Fate::Passes(time) = fate {
                    times.push(time);
                    watermarks.push(judged.watermark);
                    let reached = match &judged.marks {
                        Some(marks) => marks.least(),
                        None if time == NO_TIME || self.frozen => NO_TIME,
                        None => time.saturating_sub(rules.delay),
                    };
                    judged.watermark = judged.watermark.max(reached);
                    continue;
                }
                // The rows before it go on together.
                judged.pass(part, first..row, (std::mem::take(&mut times), std::mem::take(&mut watermarks)));
                first = row + 1;
                match fate {
                    Fate::Late => judged.late.push(part.some(row..row + 1)),
                    Fate::Fails(why) => judged.letters.push(part.letter(row, rules.reader.reason(why))),
                    Fate::Dropped | Fate::Passes(_) => judged.dropped += 1,
                }
            }
            judged.pass(part, first..rows, (times, watermarks));
        }
        judged
    }
}

impl Judged {
    fn pass(&mut self, part: &Part, rows: std::ops::Range<usize>, times: (Vec<i64>, Vec<i64>)) {
        if !rows.is_empty() {
            self.parts.push(part.some(rows));
            self.times.push(times);
        }
    }

    /// The same of other records of the slice, of which there are none yet: what does not go through the chain is not theirs.
    pub(crate) fn beside(&self) -> Judged {
        Judged {
            parts: Vec::new(),
            times: Vec::new(),
            late: Vec::new(),
            letters: Vec::new(),
            dropped: 0,
            counts: LateCounts::default(),
            // Of the slice, as what else is not theirs.
            marks: None,
            ..*self
        }
    }

    /// By part.
    pub(crate) fn rows(&self) -> Vec<RowTimes<'_>> {
        let rows = self.times.iter();
        rows.map(|(times, watermarks)| RowTimes { times, watermarks }).collect()
    }

    /// For the chain.
    pub(crate) fn times<'a>(&self, rows: &'a [RowTimes<'a>], arrival: i64) -> Times<'a> {
        Times { rows, before: self.before, after: self.watermark, due: self.due, arrival }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
