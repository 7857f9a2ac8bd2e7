//! Which records are duplicates: those whose key was let through less than a time before or after.
//!
//! For each key the times are kept at which a record of it was let through, until the watermark is that time further:
//! then only records could meet them that are late. A timer for each key removes what has become useless.

use serde::{Deserialize, Serialize};
use wasmill_keyed::watermark::crosses;
use wasmill_keyed::{Address, Due, Entry, Progress, State, StateFault, Table, Working};

/// The tables of the state.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    /// [`Passed`] by key.
    pub entries: Table,
    /// Their timers.
    pub timers: Table,
    /// [`Progress`].
    pub progress: Table,
}

/// What counts as a duplicate.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Where it is kept.
    pub tables: Tables,
    /// Nanoseconds within which a second record of a key is a duplicate.
    pub within: i64,
    /// How much later than newer ones records may come, in nanoseconds.
    pub delay: i64,
    /// A duplicate begins the time anew.
    pub extend: bool,
}

impl Spec {
    /// What is useless may stay a while: it is looked for sixteen times within the time, not whenever the watermark moves.
    fn looks(&self, from: Progress, to: Progress) -> bool {
        from.backlog || crosses(from.watermark, to.watermark, 0, self.within / 16)
    }
}

/// The times at which records of a key were let through, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed(Vec<i64>);

impl Entry for Passed {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Passed {
    /// When the oldest becomes useless.
    fn wake(&self, within: i64) -> Option<i64> {
        self.0.first().map(|time| time.saturating_add(within))
    }

    /// The place of a time that this one is a duplicate of.
    fn meets(&self, time: i64, within: i64) -> Option<usize> {
        let from = self.0.partition_point(|kept| kept.saturating_add(within) <= time);
        self.0.get(from).is_some_and(|kept| *kept < time.saturating_add(within)).then_some(from)
    }

    fn insert(&mut self, time: i64) {
        let at = self.0.partition_point(|kept| *kept < time);
        self.0.insert(at, time);
    }
}

/// A record of a chunk.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its address.
    pub address: Address,
    /// Its time in nanoseconds.
    pub time: i64,
    /// The watermark when it came, where the stream keeps one; else it moves the plugin's own.
    pub before: Option<i64>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The first of its key.
    First,
    /// A duplicate.
    Duplicate,
    /// None that is known of, but too late for all to be known.
    Late,
}

/// Takes a chunk of records; a verdict for each.
pub fn process(
    spec: &Spec,
    state: &mut impl State,
    records: Vec<Record>,
) -> Result<Vec<Verdict>, StateFault> {
    let mut progress = Progress::load(state, spec.tables.progress)?;
    let before = progress;
    let mut working = Working::<Passed>::new(spec.tables.entries, spec.tables.timers);
    let mut last = progress;
    let mut slots = Vec::with_capacity(records.len());
    for record in records {
        match record.before {
            Some(watermark) => last.reach(watermark),
            None => last.see(record.time, spec.delay),
        }
        slots.push((working.slot(record.address), record.time, record.before));
    }
    let due = spec.looks(progress, last).then_some(last.watermark);
    progress.backlog = working.load(state, Due::timers(due), |passed| passed.wake(spec.within))?;
    forget(&mut working, progress.watermark, spec);
    let mut verdicts = Vec::with_capacity(slots.len());
    for (slot, time, told) in slots {
        if let Some(watermark) = told {
            progress.reach(watermark);
            forget(&mut working, progress.watermark, spec);
        }
        let met = working.get(slot).and_then(|(_, passed)| passed.meets(time, spec.within));
        let is_late = time < progress.watermark;
        verdicts.push(match (met, is_late) {
            (Some(_), _) => Verdict::Duplicate,
            (None, true) => Verdict::Late,
            (None, false) => Verdict::First,
        });
        let replaces = met.filter(|_| spec.extend);
        if met.is_none() || replaces.is_some() {
            // What is useless already is not kept.
            if let Some((_, passed)) = working.change(slot)
                && time.saturating_add(spec.within) > progress.watermark
            {
                let longest = replaces.map(|at| passed.0.remove(at)).unwrap_or(time).max(time);
                passed.insert(longest);
            }
            requeue(&mut working, slot, spec);
        }
        if told.is_none() {
            progress.see(time, spec.delay);
            forget(&mut working, progress.watermark, spec);
        }
    }
    working.finish(state, |_, at| Some(at))?;
    if progress != before {
        progress.store(state, spec.tables.progress)?;
    }
    Ok(verdicts)
}

/// The watermark has come to `watermark` without a record. Whether more has become useless than one call forgets.
pub fn advance(spec: &Spec, state: &mut impl State, watermark: i64) -> Result<bool, StateFault> {
    let mut progress = Progress::load(state, spec.tables.progress)?;
    let before = progress;
    progress.reach(watermark);
    if !spec.looks(before, progress) {
        return Ok(false);
    }
    let mut working = Working::<Passed>::new(spec.tables.entries, spec.tables.timers);
    let due = Due::timers(Some(progress.watermark));
    progress.backlog = working.load(state, due, |passed| passed.wake(spec.within))?;
    forget(&mut working, progress.watermark, spec);
    // Where nothing was forgotten nothing is written: the watermark itself is kept by whoever tells it.
    let is_idle = !progress.backlog && !before.backlog && working.changed().next().is_none();
    working.finish(state, |_, at| Some(at))?;
    if !is_idle {
        progress.store(state, spec.tables.progress)?;
    }
    Ok(progress.backlog)
}

fn requeue(working: &mut Working<Passed>, slot: usize, spec: &Spec) {
    let wake = working.get(slot).and_then(|(_, passed)| passed.wake(spec.within));
    working.queue(slot, wake);
}

/// Removes what has become useless.
fn forget(working: &mut Working<Passed>, watermark: i64, spec: &Spec) {
    while let Some((_, slots)) = working.due(watermark) {
        for slot in slots {
            if let Some((_, passed)) = working.change(slot) {
                passed.0.retain(|time| time.saturating_add(spec.within) > watermark);
            }
            requeue(working, slot, spec);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasmill_keyed::Memory;

    use super::*;

    fn spec(within: i64, delay: i64) -> Spec {
        let tables = Tables { entries: Table(0), timers: Table(1), progress: Table(2) };
        Spec { tables, within, delay, extend: false }
    }

    fn run(spec: &Spec, records: &[(u8, i64)], cut: usize) -> (Vec<Verdict>, Memory) {
        play(spec, records, cut, false)
    }

    /// By a watermark of its own or by one that is told, behind each chunk, too.
    fn play(spec: &Spec, records: &[(u8, i64)], cut: usize, is_told: bool) -> (Vec<Verdict>, Memory) {
        let mut state = Memory::default();
        let mut verdicts = Vec::new();
        let mut watermark = i64::MIN;
        for chunk in records.chunks(cut) {
            let mut records = Vec::new();
            for (key, time) in chunk {
                let before = is_told.then_some(watermark);
                records.push(Record { address: Address::new(key % 3, [*key]), time: *time, before });
                watermark = watermark.max(time - spec.delay);
            }
            verdicts.extend(process(spec, &mut state, records).unwrap());
            if is_told {
                assert!(!advance(spec, &mut state, watermark).unwrap());
            }
        }
        (verdicts, state)
    }

    use Verdict::{Duplicate, First, Late};

    #[test]
    fn second_record_of_a_key_within_the_time_is_a_duplicate() {
        let (verdicts, _) = run(&spec(10, 0), &[(1, 0), (2, 1), (1, 9), (1, 10), (1, 19), (1, 20)], 9);
        assert_eq!(verdicts, [First, First, Duplicate, First, Duplicate, First]);
    }

    #[test]
    fn a_duplicate_begins_the_time_anew_where_asked() {
        let extend = Spec { extend: true, ..spec(10, 0) };
        let (verdicts, _) = run(&extend, &[(1, 0), (1, 9), (1, 18), (1, 28)], 1);
        assert_eq!(verdicts, [First, Duplicate, Duplicate, First]);
    }

    #[test]
    fn records_out_of_order_meet_those_before_and_after_them() {
        let records = [(1, 50), (1, 45), (1, 30), (1, 25), (1, 62), (1, 39)];
        let (verdicts, _) = run(&spec(10, 100), &records, 2);
        assert_eq!(verdicts, [First, Duplicate, First, Duplicate, First, Duplicate]);
    }

    #[test]
    fn late_records_are_told_apart_from_duplicates() {
        let (verdicts, _) = run(&spec(10, 5), &[(1, 100), (1, 94), (2, 94), (3, 95)], 1);
        assert_eq!(verdicts, [First, Duplicate, Late, First]);
    }

    #[test]
    fn keys_are_forgotten_when_the_watermark_is_past_them() {
        let records: Vec<(u8, i64)> = (0..200).map(|key| (key, i64::from(key))).collect();
        let (verdicts, state) = run(&spec(10, 0), &records, 7);
        assert!(verdicts.iter().all(|verdict| *verdict == First));
        assert_eq!((state.len(Table(0)), state.len(Table(1))), (10, 10));
    }

    #[test]
    fn keys_are_forgotten_when_the_watermark_goes_on_without_records() {
        let records: Vec<(u8, i64)> = (0..20).map(|key| (key, i64::from(key) * 100)).collect();
        let spec = spec(1_000, 2_000);
        let (_, mut state) = play(&spec, &records, 7, true);
        assert_eq!(state.len(Table(0)), 20);
        // Nothing is useless yet, and nothing is written.
        let before = state.clone();
        assert!(!advance(&spec, &mut state, -90).unwrap());
        assert_eq!(state, before);
        assert!(!advance(&spec, &mut state, 1_500).unwrap());
        assert_eq!((state.len(Table(0)), state.len(Table(1))), (14, 14));
        assert!(!advance(&spec, &mut state, 10_000).unwrap());
        assert_eq!((state.len(Table(0)), state.len(Table(1))), (0, 0));
    }

    proptest! {
        /// Against lists without state, timers and chunks.
        #[test]
        fn every_stream_gives_what_the_model_gives_however_it_is_cut(
            within in prop_oneof![1..20_i64, 40..100_i64],
            delay in 0..20_i64,
            records in prop::collection::vec((0..4_u8, -30..250_i64), 0..80),
            cut in 1..20_usize,
        ) {
            let spec = spec(within, delay);
            let (mut watermark, mut passed, mut expected) = (i64::MIN, Vec::<(u8, i64)>::new(), Vec::new());
            for (key, time) in &records {
                let met = passed.iter().any(|(other, kept)| {
                    other == key && (time - kept).abs() < within && kept + within > watermark
                });
                expected.push(if met { Duplicate } else if *time < watermark { Late } else { First });
                if !met {
                    passed.push((*key, *time));
                }
                watermark = watermark.max(time - delay);
            }
            prop_assert_eq!(&run(&spec, &records, cut).0, &expected);
            prop_assert_eq!(&play(&spec, &records, cut, true).0, &expected);
        }

        #[test]
        fn without_late_records_no_two_that_pass_are_near(
            within in 1..20_i64,
            records in prop::collection::vec((0..3_u8, -30..60_i64), 0..80),
        ) {
            let (verdicts, _) = run(&spec(within, 1000), &records, 5);
            let passed: Vec<_> =
                records.iter().zip(verdicts).filter(|(_, verdict)| *verdict == First).map(|(record, _)| record).collect();
            for (at, (key, time)) in passed.iter().enumerate() {
                let near = |(other, kept): &&&(u8, i64)| other == key && (time - kept).abs() < within;
                prop_assert!(!passed[..at].iter().any(|other| near(&other)));
            }
        }
    }
}
