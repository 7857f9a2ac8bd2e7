//! Two sides of a stream, joined by key where their times are near enough.
//!
//! A record is kept until the watermark says that nothing it could meet will come (but late). Each new record meets all
//! that are kept of the other side; what goes without having met anything is given alone where the kind of the join
//! asks for it. State is read and written once per chunk and key.

use serde::{Deserialize, Serialize};
use wasmill_keyed::{Address, Due, Entry, Progress, State, StateFault, Table, Working};

/// The tables of the state.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    /// [`Sides`] by key.
    pub entries: Table,
    /// Their timers.
    pub timers: Table,
    /// [`Progress`].
    pub progress: Table,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The left one.
    Left,
    /// The right one.
    Right,
}

/// What is joined.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Where it is kept.
    pub tables: Tables,
    /// A right record may be this much earlier than a left one, in nanoseconds.
    pub before: i64,
    /// And this much later.
    pub after: i64,
    /// How much later than newer ones records may come, in nanoseconds.
    pub delay: i64,
    /// Left records that met nothing are given.
    pub left: bool,
    /// Right ones are.
    pub right: bool,
    /// Most records that are kept of a key, on each side.
    pub rows_max: usize,
}

impl Spec {
    /// The first moment at which a record of a side can meet nothing any more.
    fn end(&self, side: Side, time: i64) -> i64 {
        let reach = if side == Side::Left { self.after } else { self.before };
        time.saturating_add(reach).saturating_add(1)
    }

    fn gives(&self, side: Side) -> bool {
        if side == Side::Left { self.left } else { self.right }
    }
}

/// A record that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    time: i64,
    has_met: bool,
    payload: Vec<u8>,
}

/// What is kept of a key: each side's records by time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides {
    left: Vec<Held>,
    right: Vec<Held>,
}

impl Entry for Sides {
    fn is_empty(&self) -> bool {
        self.left.is_empty() && self.right.is_empty()
    }
}

impl Sides {
    fn of(&mut self, side: Side) -> &mut Vec<Held> {
        if side == Side::Left { &mut self.left } else { &mut self.right }
    }

    fn wake(&self, spec: &Spec) -> Option<i64> {
        let left = self.left.first().map(|held| spec.end(Side::Left, held.time));
        let right = self.right.first().map(|held| spec.end(Side::Right, held.time));
        left.into_iter().chain(right).min()
    }
}

/// A record of a chunk.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// Its address; none where its key has no value, so that it meets nothing.
    pub address: Option<Address>,
    /// Its side.
    pub side: Side,
    /// Its time in nanoseconds.
    pub time: i64,
    /// Its payload.
    pub payload: &'a [u8],
    /// The watermark when it came, where the stream keeps one; else it moves the plugin's own.
    pub before: Option<i64>,
}

/// What the join gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// A record and one of the other side that came before it.
    Pair {
        /// The number of the record in its chunk.
        record: usize,
        /// The other one's payload.
        other: Vec<u8>,
    },
    /// A record that met nothing.
    Alone {
        /// Its side.
        side: Side,
        /// Its payload.
        payload: Vec<u8>,
    },
}

/// What became of a chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What the join gives, in order.
    pub joined: Vec<Joined>,
    /// Numbers of the records that are too late.
    pub late: Vec<usize>,
    /// Numbers of the records of whose key too many are kept.
    pub crowded: Vec<usize>,
}

/// Takes a chunk of records.
pub fn process(spec: &Spec, state: &mut impl State, records: &[Record<'_>]) -> Result<Outcome, StateFault> {
    let mut progress = Progress::load(state, spec.tables.progress)?;
    let before = progress;
    let mut last = progress;
    let mut run = Run::new(spec);
    let mut slots = Vec::with_capacity(records.len());
    for record in records {
        match record.before {
            Some(watermark) => last.reach(watermark),
            None => last.see(record.time, spec.delay),
        }
        slots.push(record.address.clone().map(|address| run.working.slot(address)));
    }
    let due = (last != progress || progress.backlog).then_some(last.watermark);
    progress.backlog = run.working.load(state, Due::timers(due), |sides| sides.wake(spec))?;
    run.expire(progress.watermark);
    for (number, (record, slot)) in records.iter().zip(slots).enumerate() {
        if let Some(watermark) = record.before {
            progress.reach(watermark);
            run.expire(progress.watermark);
        }
        if record.time < progress.watermark {
            run.outcome.late.push(number);
            continue;
        }
        match slot {
            Some(slot) => run.take(number, record, slot),
            None if spec.gives(record.side) => run.alone(record.side, record.payload.to_vec()),
            None => {}
        }
        if record.before.is_none() {
            progress.see(record.time, spec.delay);
            run.expire(progress.watermark);
        }
    }
    run.finish(state, progress, before)
}

/// The watermark has come to `watermark` without a record. Whether more is due.
pub fn advance(spec: &Spec, state: &mut impl State, watermark: i64) -> Result<(Outcome, bool), StateFault> {
    let mut progress = Progress::load(state, spec.tables.progress)?;
    let before = progress;
    progress.reach(watermark);
    let mut run = Run::new(spec);
    progress.backlog =
        run.working.load(state, Due::timers(Some(progress.watermark)), |sides| sides.wake(spec))?;
    run.expire(progress.watermark);
    let more = progress.backlog;
    // Where nothing is due nothing is written: the watermark itself is kept by whoever tells it.
    let is_idle = !more && !before.backlog && run.working.changed().next().is_none();
    let progress = if is_idle { before } else { progress };
    Ok((run.finish(state, progress, before)?, more))
}

/// One call.
struct Run<'s> {
    spec: &'s Spec,
    working: Working<Sides>,
    outcome: Outcome,
}

impl<'s> Run<'s> {
    fn new(spec: &'s Spec) -> Self {
        let working = Working::new(spec.tables.entries, spec.tables.timers);
        Self { spec, working, outcome: Outcome::default() }
    }

    fn alone(&mut self, side: Side, payload: Vec<u8>) {
        self.outcome.joined.push(Joined::Alone { side, payload });
    }

    /// Takes a record: gives it with each that it meets, and keeps it.
    fn take(&mut self, number: usize, record: &Record<'_>, slot: usize) {
        let spec = self.spec;
        let Some((_, sides)) = self.working.change(slot) else { return };
        let (other, earlier, later) = match record.side {
            Side::Left => (Side::Right, spec.before, spec.after),
            Side::Right => (Side::Left, spec.after, spec.before),
        };
        if sides.of(record.side).len() >= spec.rows_max {
            self.outcome.crowded.push(number);
            return;
        }
        let near = record.time.saturating_sub(earlier)..=record.time.saturating_add(later);
        let mut has_met = false;
        for held in sides.of(other).iter_mut().filter(|held| near.contains(&held.time)) {
            has_met = true;
            held.has_met = true;
            self.outcome.joined.push(Joined::Pair { record: number, other: held.payload.clone() });
        }
        let own = sides.of(record.side);
        let at = own.partition_point(|held| held.time <= record.time);
        own.insert(at, Held { time: record.time, has_met, payload: record.payload.to_vec() });
        let wake = sides.wake(spec);
        self.working.queue(slot, wake);
    }

    /// Gives and removes what can meet nothing any more, in order of time.
    fn expire(&mut self, watermark: i64) {
        let spec = self.spec;
        while let Some((at, slots)) = self.working.due(watermark) {
            for slot in slots {
                let Some((_, sides)) = self.working.change(slot) else { continue };
                for side in [Side::Left, Side::Right] {
                    let own = sides.of(side);
                    let gone = own.partition_point(|held| spec.end(side, held.time) <= at);
                    for held in own.drain(..gone).filter(|held| spec.gives(side) && !held.has_met) {
                        self.outcome.joined.push(Joined::Alone { side, payload: held.payload });
                    }
                }
                let wake = sides.wake(spec);
                self.working.queue(slot, wake);
            }
        }
    }

    fn finish(
        self,
        state: &mut impl State,
        progress: Progress,
        before: Progress,
    ) -> Result<Outcome, StateFault> {
        self.working.finish(state, |_, at| Some(at))?;
        if progress != before {
            progress.store(state, self.spec.tables.progress)?;
        }
        Ok(self.outcome)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasmill_keyed::Memory;

    use super::*;

    fn spec(before: i64, after: i64, delay: i64) -> Spec {
        let tables = Tables { entries: Table(0), timers: Table(1), progress: Table(2) };
        Spec { tables, before, after, delay, left: true, right: true, rows_max: 1000 }
    }

    /// Key, side, time; the payload is the record's number.
    type Row = (u8, Side, i64);

    /// The numbers of a left and a right record.
    type Given = (Option<u8>, Option<u8>);

    /// What is given, and the state at the end of time.
    fn run(spec: &Spec, rows: &[Row], cut: usize) -> (Vec<Given>, Memory) {
        play(spec, rows, cut, false)
    }

    /// The same, by a watermark of its own or by one that is told.
    fn play(spec: &Spec, rows: &[Row], cut: usize, is_told: bool) -> (Vec<Given>, Memory) {
        let mut state = Memory::default();
        let numbers: Vec<[u8; 1]> = (0..rows.len()).map(|number| [u8::try_from(number).unwrap()]).collect();
        let mut found = Vec::new();
        let of = |side, payload: &[u8], other: Option<u8>| match side {
            Side::Left => (Some(payload[0]), other),
            Side::Right => (other, Some(payload[0])),
        };
        // In front of each record, and behind the last.
        let mut watermarks = vec![i64::MIN];
        for (_, _, time) in rows {
            watermarks.push(watermarks[watermarks.len() - 1].max(time - spec.delay));
        }
        let all: Vec<Record<'_>> = rows
            .iter()
            .zip(&numbers)
            .zip(&watermarks)
            .map(|(((key, side, time), number), watermark)| Record {
                address: (*key < 9).then(|| Address::new(key % 2, [*key])),
                side: *side,
                time: *time,
                payload: number,
                before: is_told.then_some(*watermark),
            })
            .collect();
        for (part, chunk) in all.chunks(cut).enumerate() {
            for joined in process(spec, &mut state, chunk).unwrap().joined {
                found.push(match joined {
                    Joined::Pair { record, other } => {
                        of(chunk[record].side, chunk[record].payload, Some(other[0]))
                    }
                    Joined::Alone { side, payload } => of(side, &payload, None),
                });
            }
            if is_told {
                let watermark = watermarks[part * cut + chunk.len()];
                found.extend(
                    alone(spec, &mut state, watermark)
                        .into_iter()
                        .map(|(side, number)| of(side, &[number], None)),
                );
                let before = state.clone();
                assert_eq!((alone(spec, &mut state, watermark), state == before), (vec![], true));
            }
        }
        found.extend(
            alone(spec, &mut state, i64::MAX).into_iter().map(|(side, number)| of(side, &[number], None)),
        );
        (found, state)
    }

    /// What is given when the watermark has come here: sides and numbers.
    fn alone(spec: &Spec, state: &mut Memory, watermark: i64) -> Vec<(Side, u8)> {
        let (outcome, more) = advance(spec, state, watermark).unwrap();
        assert!(!more);
        let alone = |joined| match joined {
            Joined::Alone { side, payload } => (side, payload[0]),
            Joined::Pair { .. } => panic!("a pair without a record"),
        };
        outcome.joined.into_iter().map(alone).collect()
    }

    use Side::{Left, Right};

    #[test]
    fn pairs_are_those_within_the_bounds_which_are_included() {
        let rows = [
            (1, Left, 100),
            (1, Right, 89),
            (1, Right, 90),
            (1, Right, 120),
            (1, Right, 121),
            (2, Right, 100),
        ];
        let spec = Spec { left: false, right: false, ..spec(10, 20, 1000) };
        assert_eq!(run(&spec, &rows, 2).0, [(Some(0), Some(2)), (Some(0), Some(3))]);
    }

    #[test]
    fn records_that_met_nothing_are_given_when_nothing_can_come() {
        let spec = spec(0, 10, 0);
        let rows = [(1, Left, 0), (2, Left, 1), (2, Right, 5), (1, Right, 11), (3, Right, 30)];
        let (found, state) = run(&spec, &rows, 1);
        assert_eq!(found, [(Some(1), Some(2)), (Some(0), None), (None, Some(3)), (None, Some(4))]);
        assert_eq!((state.len(Table(0)), state.len(Table(1))), (0, 0));
    }

    #[test]
    fn a_key_without_value_meets_nothing() {
        let rows = [(9, Left, 0), (9, Right, 0)];
        assert_eq!(run(&spec(5, 5, 5), &rows, 9).0, [(Some(0), None), (None, Some(1))]);
    }

    #[test]
    fn silence_gives_what_waits_in_parts_that_fit_in_a_call_and_each_once() {
        let spec = Spec { right: false, ..spec(0, 10, 1000) };
        let (mut state, large) = (Memory::default(), vec![b'x'; 50_000]);
        let record = |key: u8| Record {
            address: Some(Address::new(key % 3, [key])),
            side: Left,
            time: 5,
            payload: &large,
            before: Some(i64::MIN),
        };
        for key in 0..=255 {
            let records: Vec<_> = (0..2).map(|_| record(key)).collect();
            process(&spec, &mut state, &records).unwrap();
        }
        assert_eq!(advance(&spec, &mut state, 15).unwrap(), (Outcome::default(), false));
        let (mut given, mut calls, mut more) = (0, 0, true);
        while more {
            let (outcome, is_more) = advance(&spec, &mut state, 16).unwrap();
            assert!(outcome.joined.len() * large.len() < 8 << 20, "{} at once", outcome.joined.len());
            (given, calls, more) = (given + outcome.joined.len(), calls + 1, is_more);
        }
        assert!(given == 512 && calls > 3, "{given} records in {calls} calls");
        assert_eq!((state.len(Table(0)), state.len(Table(1))), (0, 0));
    }

    #[test]
    fn more_records_of_a_key_than_are_kept_are_refused() {
        let spec = Spec { rows_max: 2, ..spec(5, 5, 100) };
        let record = |payload| Record {
            address: Some(Address::new(0, [1])),
            side: Left,
            time: 0,
            payload,
            before: None,
        };
        let outcome =
            process(&spec, &mut Memory::default(), &[record(b"a"), record(b"b"), record(b"c")]).unwrap();
        assert_eq!(outcome.crowded, [2]);
    }

    proptest! {
        /// Against every left with every right.
        #[test]
        fn every_stream_gives_the_join_however_it_is_cut(
            (before, after) in (0..15_i64, 0..15_i64),
            delay in 0..30_i64,
            rows in prop::collection::vec((0..4_u8, prop_oneof![Just(Left), Just(Right)], -20..60_i64), 0..60),
            (left, right) in (any::<bool>(), any::<bool>()),
            cut in 1..15_usize,
        ) {
            let spec = Spec { left, right, ..spec(before, after, delay) };
            let mut watermark = i64::MIN;
            let mut taken = Vec::new();
            for (number, (key, side, time)) in rows.iter().enumerate() {
                if *time >= watermark {
                    taken.push((u8::try_from(number).unwrap(), *key, *side, *time));
                }
                watermark = watermark.max(time - delay);
            }
            let side = |wanted| taken.iter().filter(move |(_, _, side, _)| *side == wanted);
            let mut expected = Vec::new();
            for (l, key, _, time) in side(Left) {
                let met: Vec<_> = side(Right)
                    .filter(|(_, other, _, at)| other == key && (time - before..=time + after).contains(at))
                    .collect();
                expected.extend(met.iter().map(|(r, ..)| (Some(*l), Some(*r))));
                if met.is_empty() && left {
                    expected.push((Some(*l), None));
                }
            }
            for (r, key, _, time) in side(Right) {
                let met = side(Left)
                    .any(|(_, other, _, at)| other == key && (at - before..=at + after).contains(time));
                if !met && right {
                    expected.push((None, Some(*r)));
                }
            }
            let (mut found, state) = run(&spec, &rows, cut);
            let whole = run(&spec, &rows, rows.len().max(1)).0;
            prop_assert_eq!(&found, &whole, "the order depends on how it is cut");
            // By a watermark that is told everything comes in the same order, whatever else it is told of.
            for cut in [cut, rows.len().max(1)] {
                let (told, state) = play(&spec, &rows, cut, true);
                prop_assert_eq!(&found, &told, "told of the watermark every {} records", cut);
                prop_assert_eq!((state.len(Table(0)), state.len(Table(1))), (0, 0));
            }
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
            prop_assert_eq!((state.len(Table(0)), state.len(Table(1))), (0, 0));
        }
    }
}
