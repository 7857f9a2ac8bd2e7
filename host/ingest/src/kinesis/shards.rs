//! The shards of a stream: which of them may be read, from where, and when.
//!
//! A shard is read only when what it was split from or merged of was read to its end. That a child has a position says so of
//! its parents: its records were stored behind theirs. It knows no network, and no clock but what it is handed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::KinesisStart;
use super::client::{Listed, Place};
use super::saved::Saved;
use crate::file::PARTITIONS_MAX;

/// Requests to one shard are at least so far apart: it answers five in a second, to all who read it.
const REQUESTS_APART: Duration = Duration::from_millis(200);
/// What one shard gives in a second, in bytes.
const BYTES_PER_SECOND: f64 = 2_000_000.0;
/// What one answer should carry, in bytes: as much as a shard gives between two requests, and some more.
const PAGE_BYTES: u64 = 1 << 20;
/// Most records of one answer, as the API has it.
const PAGE_RECORDS_MAX: u64 = 10_000;
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LONGEST: Duration = Duration::from_secs(10);

/// A request that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) shard: String,
    pub(super) place: Place,
    pub(super) iterator: Option<String>,
    /// Most records of the answer.
    pub(super) limit: i32,
}

/// More shards than positions are kept for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

struct Shard {
    parents: Vec<String>,
    /// Under which its position is kept.
    slot: u32,
    place: Place,
    iterator: Option<String>,
    ended: bool,
    is_asked: bool,
    due: Instant,
    /// In a row.
    failures: u32,
    limit: u64,
    behind_ms: u64,
}

/// See the head of this file.
pub(super) struct Shards {
    identity: u64,
    from: KinesisStart,
    /// When the stream was first read, in milliseconds since the Unix epoch.
    began_ms: i64,
    poll_interval: Duration,
    shards: BTreeMap<String, Shard>,
    /// Positions that were there at the start, by shard.
    known: BTreeMap<String, (u32, Saved)>,
    used: BTreeSet<u32>,
}

impl Shards {
    /// `known`: durable positions by slot; `began_ms`: when this process began to read the stream, if it is not the first
    /// time that its shards are listed, else `None`.
    pub(super) fn new(
        identity: u64,
        from: KinesisStart,
        known: Vec<(u32, Saved)>,
        began_ms: Option<i64>,
        now_ms: i64,
        poll_interval: Duration,
    ) -> Shards {
        // Those of a stream that is gone give way.
        let ours: Vec<_> = known.into_iter().filter(|(_, saved)| saved.identity == identity).collect();
        let began = began_ms.or_else(|| ours.iter().map(|(_, saved)| saved.began_ms).min());
        Shards {
            identity,
            // What came since then is not left out, whatever shard it is in.
            from: match (from, began) {
                (KinesisStart::Latest, Some(began)) => KinesisStart::AtTimestamp(began),
                (from, _) => from,
            },
            began_ms: began.unwrap_or(now_ms),
            poll_interval,
            shards: BTreeMap::new(),
            used: ours.iter().map(|(slot, _)| *slot).collect(),
            known: ours.into_iter().map(|(slot, saved)| (saved.shard.clone(), (slot, saved))).collect(),
        }
    }

    pub(super) fn began_ms(&self) -> i64 {
        self.began_ms
    }

    /// Takes in a whole list of shards: new ones come, and those that are gone make room.
    pub(super) fn list(&mut self, listed: Vec<Listed>, now: Instant) -> Result<(), TooMany> {
        let there: BTreeSet<&str> = listed.iter().map(|shard| shard.id.as_str()).collect();
        let is_first = self.shards.is_empty();
        // An answer that is on its way has nowhere to go then.
        let used = &mut self.used;
        self.shards.retain(|id, shard| {
            let stays = there.contains(id.as_str()) || shard.is_asked;
            if !stays {
                used.remove(&shard.slot);
                if !shard.ended {
                    tracing::warn!(
                        shard = id,
                        "a shard is no longer listed: what of it was not read is gone"
                    );
                }
            }
            stays
        });
        self.known.retain(|id, (slot, _)| {
            let stays = there.contains(id.as_str());
            if !stays {
                used.remove(slot);
            }
            stays
        });
        for Listed { id, parents, closed } in listed {
            if self.shards.contains_key(&id) {
                continue;
            }
            let known = self.known.remove(&id);
            let slot = match &known {
                Some((slot, _)) => *slot,
                None => (0..PARTITIONS_MAX).find(|slot| !self.used.contains(slot)).ok_or(TooMany)?,
            };
            self.used.insert(slot);
            let is_known = known.is_some();
            let (place, ended) = match known {
                Some((_, saved)) => (Place::Behind(saved.sequence), saved.ended),
                None => match self.from {
                    KinesisStart::TrimHorizon => (Place::Oldest, false),
                    KinesisStart::AtTimestamp(ms) => (Place::Since(ms), false),
                    // Of a shard that is closed there is no latest; one that comes later is all new.
                    KinesisStart::Latest if is_first => (Place::Latest, closed),
                    KinesisStart::Latest => (Place::Oldest, false),
                },
            };
            if is_known {
                self.end_parents(&parents);
            }
            let ended = ended || self.has_read_child(&id);
            if ended {
                self.end_parents(&parents);
            }
            let shard = Shard {
                parents,
                slot,
                place,
                iterator: None,
                ended,
                is_asked: false,
                due: now,
                failures: 0,
                limit: PAGE_RECORDS_MAX,
                behind_ms: 0,
            };
            self.shards.insert(id, shard);
        }
        Ok(())
    }

    /// Whether something of a child is stored.
    fn has_read_child(&self, id: &str) -> bool {
        self.shards.values().any(|child| {
            let is_read = child.ended || matches!(child.place, Place::Behind(_));
            is_read && child.parents.iter().any(|parent| parent == id)
        })
    }

    /// Whatever these came from was read to its end, and what that came from.
    fn end_parents(&mut self, parents: &[String]) {
        let mut left = parents.to_vec();
        while let Some(id) = left.pop() {
            if let Some(shard) = self.shards.get_mut(&id).filter(|shard| !shard.ended) {
                shard.ended = true;
                left.extend(shard.parents.iter().cloned());
            }
        }
    }

    fn may_be_read(&self, shard: &Shard) -> bool {
        let is_read = |id: &String| self.shards.get(id).is_none_or(|parent| parent.ended);
        !shard.ended && !shard.is_asked && shard.parents.iter().all(is_read)
    }

    /// The request that is due first, if it is by now. It is answered by [`Shards::page`] or [`Shards::failed`].
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        let readable = self.shards.iter().filter(|(_, shard)| self.may_be_read(shard) && shard.due <= now);
        let id = readable.min_by_key(|(_, shard)| shard.due).map(|(id, _)| id.clone())?;
        let shard = self.shards.get_mut(&id)?;
        shard.is_asked = true;
        shard.due = now;
        Some(Due {
            shard: id,
            place: shard.place.clone(),
            iterator: shard.iterator.clone(),
            limit: i32::try_from(shard.limit).unwrap_or(i32::MAX),
        })
    }

    /// When the next request is due; `None`: none is to be sent.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.shards.values().filter(|shard| self.may_be_read(shard)).map(|shard| shard.due).min()
    }

    /// The position behind a record of a shard, and where it is kept. `None`: nobody asked for the shard.
    pub(super) fn position(&self, id: &str, sequence: &str, ended: bool) -> Option<(u32, Saved)> {
        let shard = self.shards.get(id)?;
        let saved = Saved {
            identity: self.identity,
            began_ms: self.began_ms,
            ended,
            shard: id.to_owned(),
            sequence: sequence.to_owned(),
        };
        Some((shard.slot, saved))
    }

    /// An answer, whose records are on their way into the buffer. Whether the shard has ended.
    pub(super) fn page(&mut self, id: &str, told: &Told) -> bool {
        let Some(shard) = self.shards.get_mut(id) else { return false };
        shard.is_asked = false;
        shard.failures = 0;
        shard.behind_ms = told.behind_ms;
        if let Some(last) = &told.last {
            shard.place = Place::Behind(last.clone());
        }
        shard.iterator.clone_from(&told.next);
        shard.ended = told.next.is_none();
        if let Some(mean) = told.bytes.checked_div(told.records).filter(|mean| *mean > 0) {
            shard.limit = (PAGE_BYTES / mean).clamp(100, PAGE_RECORDS_MAX);
        }
        let apart = if told.behind_ms > 0 { REQUESTS_APART } else { self.poll_interval.max(REQUESTS_APART) };
        let given = Duration::from_secs_f64(told.bytes as f64 / BYTES_PER_SECOND);
        shard.due += apart.max(given);
        shard.ended
    }

    /// A request that was refused: it is sent again, later each time. `jitter` from 0 to 1. Whether it is the first in a row.
    pub(super) fn failed(&mut self, id: &str, is_expired: bool, now: Instant, jitter: f64) -> bool {
        let Some(shard) = self.shards.get_mut(id) else { return false };
        shard.is_asked = false;
        if is_expired {
            shard.iterator = None;
            // What came meanwhile is new, too.
            if shard.place == Place::Latest {
                shard.place = Place::Since(self.began_ms);
            }
        }
        // With a new iterator it is answered.
        shard.due = if is_expired && shard.failures == 0 { now } else { now + pause(shard.failures, jitter) };
        shard.failures = shard.failures.saturating_add(1);
        shard.failures == 1
    }

    /// Shards that are being read, and how far the last of them is behind, in milliseconds.
    pub(super) fn state(&self) -> (u64, u64) {
        let is_read = |shard: &&Shard| shard.is_asked || self.may_be_read(shard);
        let read = self.shards.values().filter(is_read);
        read.fold((0, 0), |(count, behind), shard| (count + 1, behind.max(shard.behind_ms)))
    }

    /// Whether every shard was read to its end, so that new ones must be there.
    pub(super) fn all_ended(&self) -> bool {
        self.shards.values().all(|shard| shard.ended)
    }
}

/// What an answer said, without its records.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// The sequence number of the last record.
    pub(super) last: Option<String>,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) next: Option<String>,
    pub(super) behind_ms: u64,
}

/// How long to wait after this many failures in a row; `jitter` from 0 to 1.
pub(super) fn pause(failures: u32, jitter: f64) -> Duration {
    let whole = PAUSE_FIRST.saturating_mul(1 << failures.min(8)).min(PAUSE_LONGEST);
    whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests;
