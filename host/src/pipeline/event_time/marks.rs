//! How far each source of a stream with several has come, and which of them are waited for.
//!
//! The stream's watermark is the least of theirs. A source that has brought nothing yet holds it where it is: nobody knows how
//! far back its records begin. Not waited for is a source that has ended, and one that is silent: that has brought nothing on
//! time for the idle timeout, until it does again. Silence is counted by the arrivals of the stream's records, so that it is the
//! same however the stream is cut; while no records come at all, the stream's clock counts it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{NO_TIME, nanoseconds};

/// Time in which nobody brought anything counts at most as this part of the timeout: the buffer was full, or the host down, and
/// not each goes on at once.
const GAPS_PER_TIMEOUT: i64 = 4;

/// See the head of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marks {
    names: Arc<[String]>,
    /// By source.
    marks: Vec<Mark>,
    /// Nanoseconds.
    idle_timeout: Option<i64>,
    /// Arrival of the record before.
    arrived: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    /// Its largest time less the delay.
    watermark: i64,
    /// Nanoseconds since it last brought a record on time.
    silent: i64,
    /// In the slice at hand it has.
    spoke: bool,
    ended: bool,
}

impl Marks {
    /// Of these sources; what is `known` of others is forgotten.
    pub(crate) fn new(
        names: Arc<[String]>,
        idle_timeout: Option<Duration>,
        known: &BTreeMap<String, i64>,
    ) -> Marks {
        let mark = |name| Mark {
            watermark: known.get(name).copied().unwrap_or(NO_TIME),
            silent: 0,
            spoke: false,
            ended: false,
        };
        let marks = names.iter().map(mark).collect();
        Marks { names, marks, idle_timeout: idle_timeout.map(nanoseconds), arrived: None }
    }

    /// None of one that the stream no longer has: its records move nothing.
    pub(super) fn number_of(&self, source: Option<&str>) -> Option<usize> {
        self.names.iter().position(|name| Some(name.as_str()) == source)
    }

    /// A slice begins.
    pub(crate) fn begin(&mut self) {
        self.marks.iter_mut().for_each(|mark| mark.spoke = false);
    }

    /// A record of the stream has arrived, whoever brought it.
    pub(super) fn arrive(&mut self, arrival: i64) {
        let before = self.arrived.replace(arrival);
        let (Some(before), Some(timeout)) = (before, self.idle_timeout) else { return };
        let gone = arrival.saturating_sub(before).clamp(0, timeout / GAPS_PER_TIMEOUT);
        if gone > 0 {
            self.marks.iter_mut().for_each(|mark| mark.silent = mark.silent.saturating_add(gone));
        }
    }

    /// A source has brought a record with this time less the delay.
    pub(crate) fn bring(&mut self, source: Option<usize>, watermark: i64, on_time: bool) {
        let Some(mark) = source.and_then(|number| self.marks.get_mut(number)) else { return };
        mark.watermark = mark.watermark.max(watermark);
        if on_time {
            (mark.silent, mark.spoke) = (0, true);
        }
    }

    /// The watermark of those that are waited for.
    pub(crate) fn least(&self) -> i64 {
        let waited_for = self.marks.iter().filter(|mark| self.waits_for(mark));
        waited_for.map(|mark| mark.watermark).min().unwrap_or(NO_TIME)
    }

    /// How far any has come.
    pub(crate) fn furthest(&self) -> i64 {
        self.marks.iter().map(|mark| mark.watermark).max().unwrap_or(NO_TIME)
    }

    fn waits_for(&self, mark: &Mark) -> bool {
        !mark.ended && self.idle_timeout.is_none_or(|timeout| mark.silent < timeout)
    }

    /// Numbers of those that are waited for.
    pub(crate) fn waited_for(&self) -> impl Iterator<Item = usize> {
        self.marks.iter().enumerate().filter(|(_, mark)| self.waits_for(mark)).map(|(number, _)| number)
    }

    /// Numbers of those that have brought something on time in the slice at hand.
    pub(crate) fn spoke(&self) -> impl Iterator<Item = usize> {
        self.marks.iter().enumerate().filter(|(_, mark)| mark.spoke).map(|(number, _)| number)
    }

    /// So long a time has gone by that a source is no longer waited for.
    pub(crate) fn fall_silent(&mut self, source: usize) {
        if let Some((mark, timeout)) = self.marks.get_mut(source).zip(self.idle_timeout) {
            mark.silent = timeout;
        }
    }

    /// A source brings nothing more.
    pub(crate) fn end(&mut self, source: usize) {
        if let Some(mark) = self.marks.get_mut(source) {
            mark.ended = true;
        }
    }

    /// Name, watermark, and whether it is waited for.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, i64, bool)> {
        let each = self.names.iter().zip(&self.marks);
        each.map(|(name, mark)| (name.as_str(), mark.watermark, self.waits_for(mark)))
    }

    /// For outcomes and checkpoints: of those that have brought something.
    pub(crate) fn by_name(&self) -> BTreeMap<String, i64> {
        let each = self.each().filter(|(_, watermark, _)| *watermark != NO_TIME);
        each.map(|(name, watermark, _)| (name.to_owned(), watermark)).collect()
    }
}
