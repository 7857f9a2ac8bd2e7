//! What a stream knows of the requests that producers have numbered, so that one that is sent again is a no-op.
//!
//! # Meaning
//! A producer gives itself a name and every request a number (its *sequence*) that it uses for no other one; later
//! requests have greater numbers. Gaps are allowed, and so is arrival out of order over several connections. Of each
//! producer a stream remembers the receipts and digests of the [`limits::PRODUCER_REQUESTS_MAX`] (8) greatest
//! sequences that it has stored, and the greatest that it has forgotten, the *floor*. So a request is one of these:
//!
//! | sequence | records | answer |
//! |---|---|---|
//! | remembered | the same | the receipt of the first time, marked as a duplicate; nothing is appended |
//! | remembered | others | refused as a conflict |
//! | above the floor | any | never seen: appended |
//! | at or below the floor | any | refused as forgotten: stored long ago, or later than 8 greater ones; nobody knows which |
//!
//! Nothing that a producer sends is ever dropped in silence, and nothing is appended twice. A producer with at most 8
//! requests under way never meets the last row.
//!
//! # Durability
//! Name, sequence and digest are a column of the frame that holds the request's records. A request is one frame, so
//! it is there as a whole, with its number, or not at all; there is no second write. Every journal file begins with
//! the whole table in each stream's snapshot, so that it outlives the frames. Recovery takes the snapshot and then
//! the frames behind it, in the order in which the writer did; the result is the same table.
//!
//! # Bounds
//! A stream remembers [`limits::PRODUCERS_MAX`] (10,000) producers, and as many more as one group of appends brings.
//! When it is full, a new one takes the place of the one that has been silent longest, if for at least
//! [`limits::PRODUCER_AGE_MIN_NS`] (one hour, by arrival times); else it is refused until then. So a producer is
//! known for an hour after its last request at the least. Whose name begins with [`limits::ONCE_PREFIX`] sends one request,
//! whose own name it is, and need not be known for longer than [`limits::ONCE_AGE_MIN_NS`] (10 minutes): whoever tries again
//! does so sooner. A full table takes about 6 MB in memory and 4 MB of each
//! journal file.
//!
//! Judges and remembers; the writer alone decides when something is durable.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::error::AppendError;
use crate::limits;
use crate::records::{Numbered, Receipt};
use crate::wire::{Take, put_bytes, put_u32, put_u64};

/// What to do with a request.
#[derive(Debug)]
pub(crate) enum Judgement {
    /// Append it.
    New,
    /// It is durable since this receipt.
    Stored(Receipt),
    Refused(AppendError),
}

/// A request that is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    sequence: u64,
    digest: [u8; 16],
    first_offset: u64,
    count: u32,
    position: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    /// Greatest sequence that was stored and is forgotten.
    floor: Option<u64>,
    /// Arrival of the last request.
    last: i64,
    /// By sequence.
    requests: Vec<Stored>,
}

/// See the head of this file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    known: HashMap<Arc<str>, Known>,
    /// The same by when they may be forgotten.
    silent: BTreeSet<(i64, Arc<str>)>,
}

/// When a producer may be forgotten that was heard of last at `last`.
fn until(name: &str, last: i64) -> i64 {
    let once = name.starts_with(limits::ONCE_PREFIX);
    last.saturating_add(if once { limits::ONCE_AGE_MIN_NS } else { limits::PRODUCER_AGE_MIN_NS })
}

impl Producers {
    /// What to do with a request that arrives at `now`.
    pub(crate) fn judge(&self, numbered: &Numbered, now: i64) -> Judgement {
        let sequence = numbered.sequence;
        let Some(known) = self.known.get(&numbered.producer) else {
            return match self.room(now) {
                None => Judgement::New,
                Some(retry_after) => {
                    Judgement::Refused(AppendError::Producers { max: limits::PRODUCERS_MAX, retry_after })
                }
            };
        };
        let found = known.requests.binary_search_by_key(&sequence, |stored| stored.sequence);
        match (found.ok().and_then(|index| known.requests.get(index)), known.floor) {
            (Some(stored), _) => {
                let receipt = stored.receipt();
                match stored.digest == numbered.digest {
                    true => Judgement::Stored(receipt),
                    false => Judgement::Refused(AppendError::conflict(numbered, receipt)),
                }
            }
            (None, Some(floor)) if sequence <= floor => Judgement::Refused(AppendError::Forgotten {
                producer: Arc::clone(&numbered.producer),
                sequence,
                floor,
            }),
            (None, _) => Judgement::New,
        }
    }

    /// How long a new producer has to wait for a place; `None` if there is one.
    fn room(&self, now: i64) -> Option<Duration> {
        if self.known.len() < limits::PRODUCERS_MAX {
            return None;
        }
        let (until, _) = self.silent.first()?;
        let wait = until.saturating_sub(now);
        u64::try_from(wait).ok().filter(|wait| *wait > 0).map(Duration::from_nanos)
    }

    /// A request has become durable.
    pub(crate) fn remember(&mut self, numbered: &Numbered, receipt: Receipt, arrival: i64) {
        let name = &numbered.producer;
        let known = self.known.entry(Arc::clone(name)).or_insert_with(|| Known {
            floor: None,
            last: i64::MIN,
            requests: Vec::new(),
        });
        self.silent.remove(&(until(name, known.last), Arc::clone(name)));
        known.last = known.last.max(arrival);
        self.silent.insert((until(name, known.last), Arc::clone(name)));
        known.insert(Stored {
            sequence: numbered.sequence,
            digest: numbered.digest,
            first_offset: receipt.first_offset,
            count: receipt.count,
            position: receipt.position,
        });
        while self.known.len() > limits::PRODUCERS_MAX && self.room(arrival).is_none() {
            let Some((_, oldest)) = self.silent.pop_first() else { break };
            self.known.remove(&oldest);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Appends the table as a snapshot holds it.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_u32(out, u32::try_from(self.known.len()).unwrap_or(0));
        for (_, name) in &self.silent {
            let Some(known) = self.known.get(name) else { continue };
            put_bytes(out, name.as_bytes());
            put_u64(out, known.last.cast_unsigned());
            out.push(u8::from(known.floor.is_some()));
            put_u64(out, known.floor.unwrap_or(0));
            put_u32(out, u32::try_from(known.requests.len()).unwrap_or(0));
            for stored in &known.requests {
                put_u64(out, stored.sequence);
                out.extend_from_slice(&stored.digest);
                put_u64(out, stored.first_offset);
                put_u32(out, stored.count);
                put_u64(out, stored.position);
            }
        }
    }

    /// Reads what `put` wrote.
    pub(crate) fn take(take: &mut Take<'_>) -> Option<Producers> {
        let mut producers = Producers::default();
        for _ in 0..take.u32()? {
            let name: Arc<str> = std::str::from_utf8(take.prefixed()?).ok()?.into();
            let last = take.u64()?.cast_signed();
            let has_floor = take.bytes(1)? == [1];
            let floor = Some(take.u64()?).filter(|_| has_floor);
            let mut known = Known { floor: None, last, requests: Vec::new() };
            for _ in 0..take.u32()? {
                known.insert(Stored {
                    sequence: take.u64()?,
                    digest: *take.bytes(16)?.first_chunk()?,
                    first_offset: take.u64()?,
                    count: take.u32()?,
                    position: take.u64()?,
                });
            }
            known.floor = known.floor.max(floor);
            producers.silent.insert((until(&name, last), Arc::clone(&name)));
            producers.known.insert(name, known);
        }
        Some(producers)
    }
}

impl Known {
    /// Puts a request in its place; one at or below the floor is forgotten already.
    fn insert(&mut self, stored: Stored) {
        if self.floor.is_some_and(|floor| stored.sequence <= floor) {
            return;
        }
        match self.requests.binary_search_by_key(&stored.sequence, |known| known.sequence) {
            Ok(_) => return,
            Err(index) => self.requests.insert(index, stored),
        }
        if self.requests.len() > limits::PRODUCER_REQUESTS_MAX {
            self.floor = Some(self.requests.remove(0).sequence);
        }
    }
}

impl Stored {
    fn receipt(&self) -> Receipt {
        let Stored { first_offset, count, position, .. } = *self;
        Receipt { first_offset, count, position, duplicate: true }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn numbered(producer: &str, sequence: u64, digest: u8) -> Numbered {
        Numbered { producer: producer.into(), sequence, digest: [digest; 16] }
    }

    fn receipt(first_offset: u64) -> Receipt {
        Receipt { first_offset, count: 3, position: first_offset * 64, duplicate: false }
    }

    fn reread(producers: &Producers) -> Producers {
        let mut bytes = Vec::new();
        producers.put(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(Producers::take(&mut Take(&bytes[..cut])).is_none(), "cut at {cut}");
        }
        let mut take = Take(&bytes);
        let read = Producers::take(&mut take).unwrap();
        assert!(take.0.is_empty());
        read
    }

    #[test]
    fn request_sent_again_gets_the_first_receipt_and_another_body_a_conflict() {
        let mut producers = Producers::default();
        assert!(matches!(producers.judge(&numbered("a", 7, 1), 0), Judgement::New));
        producers.remember(&numbered("a", 7, 1), receipt(40), 0);
        match producers.judge(&numbered("a", 7, 1), 0) {
            Judgement::Stored(found) => assert_eq!(found, Receipt { duplicate: true, ..receipt(40) }),
            other => panic!("{other:?}"),
        }
        match producers.judge(&numbered("a", 7, 2), 0) {
            Judgement::Refused(AppendError::Conflict { producer, sequence, first_offset, count }) => {
                assert_eq!((&*producer, sequence, first_offset, count), ("a", 7, 40, 3));
            }
            other => panic!("{other:?}"),
        }
        // Numbers are each producer's own.
        assert!(matches!(producers.judge(&numbered("b", 7, 1), 0), Judgement::New));
    }

    #[test]
    fn sequences_out_of_order_and_with_gaps_are_new_until_eight_greater_ones_are_stored() {
        let mut producers = Producers::default();
        for sequence in [0, 100, 50, 101, 102, 103, 104] {
            assert!(matches!(producers.judge(&numbered("a", sequence, 0), 0), Judgement::New), "{sequence}");
            producers.remember(&numbered("a", sequence, 0), receipt(sequence), 0);
        }
        assert!(matches!(producers.judge(&numbered("a", 49, 0), 0), Judgement::New));
        producers.remember(&numbered("a", 105, 0), receipt(105), 0);
        // Eight are remembered, 0 among them; one more and it is forgotten, but nothing above it is.
        assert!(matches!(producers.judge(&numbered("a", 0, 0), 0), Judgement::Stored(_)));
        producers.remember(&numbered("a", 49, 0), receipt(49), 0);
        let forgotten = producers.judge(&numbered("a", 0, 0), 0);
        assert!(
            matches!(forgotten, Judgement::Refused(AppendError::Forgotten { floor: 0, .. })),
            "{forgotten:?}"
        );
        assert!(matches!(producers.judge(&numbered("a", 1, 0), 0), Judgement::New));
        assert!(matches!(producers.judge(&numbered("a", u64::MAX, 0), 0), Judgement::New));
    }

    #[test]
    fn producers_of_one_request_make_room_after_ten_minutes_and_others_stay() {
        let mut producers = Producers::default();
        producers.remember(&numbered("regular", 1, 1), receipt(0), 0);
        for n in 1..limits::PRODUCERS_MAX {
            let name = format!("{}{n}", limits::ONCE_PREFIX);
            producers.remember(&numbered(&name, 0, 1), receipt(n as u64), 1);
        }
        let new = numbered("once new", 0, 1);
        let early = limits::ONCE_AGE_MIN_NS;
        assert!(matches!(producers.judge(&new, early), Judgement::Refused(AppendError::Producers { .. })));
        assert!(matches!(producers.judge(&new, early + 1), Judgement::New));
        producers.remember(&new, receipt(0), early + 1);
        assert_eq!(producers.known.len(), limits::PRODUCERS_MAX);
        assert!(producers.known.contains_key("regular") && !producers.known.contains_key("once 1"));
        assert_eq!(reread_whole(&producers), producers);
    }

    fn reread_whole(producers: &Producers) -> Producers {
        let mut bytes = Vec::new();
        producers.put(&mut bytes);
        Producers::take(&mut Take(&bytes)).unwrap()
    }

    #[test]
    fn table_full_of_young_producers_refuses_a_new_one_until_the_oldest_has_been_silent_for_an_hour() {
        let mut producers = Producers::default();
        for n in 0..limits::PRODUCERS_MAX {
            producers.remember(&numbered(&format!("p{n}"), 1, 0), receipt(n as u64), n as i64);
        }
        // The first one speaks again, so that the second is the oldest.
        producers.remember(&numbered("p0", 2, 0), receipt(1), 20_000);
        let age = limits::PRODUCER_AGE_MIN_NS;
        match producers.judge(&numbered("new", 1, 0), 20_000) {
            Judgement::Refused(AppendError::Producers { max: 10_000, retry_after }) => {
                assert_eq!(retry_after, Duration::from_nanos(age as u64 - 19_999));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(producers.judge(&numbered("p0", 3, 0), 20_000), Judgement::New));
        assert!(matches!(producers.judge(&numbered("new", 1, 0), age), Judgement::Refused(_)));
        assert!(matches!(producers.judge(&numbered("new", 1, 0), age + 1), Judgement::New));
        producers.remember(&numbered("new", 1, 0), receipt(9), age + 1);
        assert_eq!(producers.known.len(), limits::PRODUCERS_MAX);
        assert!(!producers.known.contains_key("p1") && producers.known.contains_key("p2"));
        // Several new ones in one group: no young one has to go for them.
        producers.remember(&numbered("next", 1, 0), receipt(9), age + 1);
        assert!(producers.known.contains_key("p2") && producers.known.contains_key("next"));
        assert_eq!(producers.known.len(), limits::PRODUCERS_MAX + 1);
        producers.remember(&numbered("p9", 2, 0), receipt(9), 3 * age);
        assert_eq!(producers.known.len(), limits::PRODUCERS_MAX);
    }

    proptest! {
        #[test]
        fn table_agrees_with_a_model_that_forgets_nothing(
            requests in prop::collection::vec((0u8..3, 0u64..30, 0u8..2, any::<bool>()), 0..120),
        ) {
            let mut producers = Producers::default();
            let mut model: BTreeMap<u8, BTreeMap<u64, (u8, u64)>> = BTreeMap::new();
            for (at, (producer, sequence, digest, reread_it)) in (0..).zip(requests) {
                let stored = model.entry(producer).or_default();
                let greater = stored.range(sequence + 1..).count();
                let request = numbered(&producer.to_string(), sequence, digest);
                match producers.judge(&request, 0) {
                    Judgement::New => {
                        prop_assert!(stored.insert(sequence, (digest, at)).is_none(), "appended twice");
                        producers.remember(&request, receipt(at), 0);
                    }
                    Judgement::Stored(found) => {
                        prop_assert_eq!(stored.get(&sequence), Some(&(digest, found.first_offset)));
                    }
                    Judgement::Refused(AppendError::Conflict { first_offset, .. }) => {
                        prop_assert_eq!(stored.get(&sequence), Some(&(1 - digest, first_offset)));
                    }
                    Judgement::Refused(AppendError::Forgotten { floor, .. }) => {
                        prop_assert!(sequence <= floor && greater >= limits::PRODUCER_REQUESTS_MAX);
                        prop_assert!(stored.contains_key(&floor));
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
                if reread_it {
                    let read = reread(&producers);
                    prop_assert_eq!(&read, &producers);
                    producers = read;
                }
            }
        }
    }
}
