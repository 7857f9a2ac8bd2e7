//! What a key's records make of its alarm, one letter for each: `.` nothing, `p` pending, `f` firing, `r` resolved; in
//! capitals where something is told, and `h` where it was held back.

use proptest::prelude::*;
use wasmill_keyed::Memory;

use super::*;

const TABLES: Tables = Tables { keys: Table(0), overall: Table(1) };

fn spec() -> Spec {
    Spec {
        tables: TABLES,
        pending: 0,
        records: 1,
        keep_firing_for: 0,
        repeat_interval: None,
        send_resolved: true,
        key_rate: None,
        overall_rate: None,
    }
}

/// `!` = the condition holds, `-` = neither it nor the recovery, anything else = the recovery.
fn record(key: &str, time: i64, what: char) -> Record {
    Record { address: Address::new(0, key), time, holds: what == '!', recovers: what != '-' && what != '!' }
}

fn letter(outcome: &Outcome) -> char {
    let letter = match (outcome.status, outcome.held_back) {
        (Some(Status::Firing), true) => 'h',
        (None, _) => '.',
        (Some(Status::Pending), _) => 'p',
        (Some(Status::Firing), _) => 'f',
        (Some(Status::Resolved), _) => 'r',
    };
    if outcome.notice.is_some() { letter.to_ascii_uppercase() } else { letter }
}

/// Records of one key, one a unit of time.
fn run(spec: &Spec, records: &str) -> String {
    let mut state = Memory::default();
    let records: Vec<Record> =
        records.chars().enumerate().map(|(time, what)| record("k", time as i64, what)).collect();
    let outcomes = process(spec, &mut state, &records).unwrap();
    outcomes.iter().map(letter).collect()
}

#[test]
fn alarm_fires_once_and_is_resolved_once() {
    assert_eq!(run(&spec(), "..!!!..!.."), "..FffR.FR.");
    assert_eq!(run(&Spec { send_resolved: false, ..spec() }, ".!!."), ".Ffr");
}

#[test]
fn alarm_is_pending_until_it_has_its_time_and_its_records() {
    let long = Spec { pending: 3, ..spec() };
    assert_eq!(run(&long, "!!!.!!!!!."), "ppp.pppFfR");
    let many = Spec { records: 3, ..spec() };
    assert_eq!(run(&many, "!!.!!!!"), "pp.ppFf");
    let both = Spec { records: 4, pending: 2, ..spec() };
    assert_eq!(run(&both, "!!!!"), "pppF");
}

#[test]
fn alarm_ends_when_the_recovery_has_held_for_long_enough() {
    let slow = Spec { keep_firing_for: 2, ..spec() };
    assert_eq!(run(&slow, "!..!...."), "FfffffR.");
    // Between both thresholds it goes on, and the recovery begins anew.
    assert_eq!(run(&slow, "!.-..-..."), "FfffffffR");
    assert_eq!(run(&spec(), "!---.-"), "FfffR.");
    // What was pending needs the condition alone.
    assert_eq!(run(&Spec { records: 2, ..spec() }, "!-!!"), "p.pF");
}

#[test]
fn alarm_is_told_again_after_the_interval_while_it_fires() {
    let repeats = Spec { repeat_interval: Some(3), ..spec() };
    assert_eq!(run(&repeats, "!!!!!!!.!!"), "FffFffFRFf");
    // Also between both thresholds, where it fires on.
    assert_eq!(run(&repeats, "!---."), "FffFR");
}

#[test]
fn notices_past_the_rate_are_held_back_until_there_is_room() {
    let rare = Spec { key_rate: Rate::new(1, 5), ..spec() };
    // The second alarm is told late; the third ends untold, and so does nobody hear of its end.
    assert_eq!(run(&rare, "!..!!!!.!."), "FR.hhFfRhr");
    let all = Spec { overall_rate: Rate::new(2, 10), ..spec() };
    let mut state = Memory::default();
    let records: Vec<Record> = ["a", "b", "c"].into_iter().map(|key| record(key, 0, '!')).collect();
    let first: String = process(&all, &mut state, &records).unwrap().iter().map(letter).collect();
    let next = [record("c", 4, '!'), record("c", 5, '!'), record("a", 5, ' ')];
    let next: String = process(&all, &mut state, &next).unwrap().iter().map(letter).collect();
    assert_eq!((first.as_str(), next.as_str()), ("FFh", "hFR"));
}

#[test]
fn notices_say_since_when_how_often_and_the_how_manieth_they_are() {
    let spec = Spec { pending: 1, repeat_interval: Some(2), ..spec() };
    let mut state = Memory::default();
    let records: Vec<Record> =
        ".!!!!..".chars().enumerate().map(|(time, what)| record("k", time as i64, what)).collect();
    let outcomes = process(&spec, &mut state, &records).unwrap();
    let notices: Vec<Notice> = outcomes.iter().filter_map(|outcome| outcome.notice).collect();
    let first = Notice {
        status: Status::Firing,
        starts_at: 1,
        fired_at: 2,
        ends_at: None,
        at: 2,
        records: 2,
        number: 1,
        sequence: 1,
    };
    let second = Notice { at: 4, records: 4, number: 2, sequence: 2, ..first };
    let end = Notice { status: Status::Resolved, ends_at: Some(5), at: 5, number: 3, sequence: 3, ..second };
    assert_eq!(notices, [first, second, end]);
}

#[test]
fn records_that_come_late_move_no_clock_back() {
    let spec = Spec { pending: 10, keep_firing_for: 10, ..spec() };
    let mut state = Memory::default();
    let records = [(100, '!'), (90, '!'), (110, '!'), (111, '.'), (105, '.'), (120, '.'), (121, '.')];
    let records: Vec<Record> = records.into_iter().map(|(time, what)| record("k", time, what)).collect();
    let outcomes: String = process(&spec, &mut state, &records).unwrap().iter().map(letter).collect();
    assert_eq!(outcomes, "ppFfffR");
}

#[test]
fn keys_that_are_inactive_keep_nothing() {
    let rated = Spec { key_rate: Rate::new(1, 5), ..spec() };
    let mut state = Memory::default();
    let kept = |state: &mut Memory, time, what| {
        process(&rated, state, &[record("k", time, what)]).unwrap();
        state.len(TABLES.keys)
    };
    assert_eq!(kept(&mut state, 0, '.'), 0);
    assert_eq!(kept(&mut state, 1, '!'), 1);
    // What it may still not send.
    assert_eq!(kept(&mut state, 2, '.'), 1);
    assert_eq!(kept(&mut state, 6, '.'), 0);
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        records in prop::collection::vec((0_usize..3, 0_i64..4, "[!.-]"), 0..80),
        cut in 1_usize..9,
        pending in 0_i64..4,
        repeat in prop::option::of(1_i64..5),
    ) {
        let spec = Spec {
            pending,
            repeat_interval: repeat,
            keep_firing_for: 1,
            key_rate: Rate::new(2, 6),
            overall_rate: Rate::new(3, 7),
            ..spec()
        };
        let mut time = 0;
        let records: Vec<Record> = records
            .into_iter()
            .map(|(key, step, what)| {
                time += step - 1;
                record(["a", "b", "c"][key], time, what.chars().next().unwrap())
            })
            .collect();
        let (mut whole, mut parts) = (Memory::default(), Memory::default());
        let at_once = process(&spec, &mut whole, &records).unwrap();
        let cut: Vec<Outcome> =
            records.chunks(cut).flat_map(|part| process(&spec, &mut parts, part).unwrap()).collect();
        prop_assert_eq!(&at_once, &cut);
        prop_assert_eq!(whole, parts);
        // Of each key: told in turns, never an end without a beginning.
        let mut open = std::collections::HashMap::new();
        for (record, outcome) in records.iter().zip(&at_once) {
            let Some(notice) = outcome.notice else { continue };
            let before = open.insert(record.address.clone(), notice).filter(|n| n.status == Status::Firing);
            prop_assert_eq!(notice.number, before.map_or(1, |before| before.number + 1));
            prop_assert!(notice.status == Status::Firing || before.is_some());
        }
    }
}
