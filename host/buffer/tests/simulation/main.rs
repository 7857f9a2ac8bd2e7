//! Seeded lives of a journal on a disk that fails and loses power: appends, entries, checkpoints, rotation, segments,
//! deletion, then a crash in the midst of any operation, and again. What was acknowledged must be there, and what a
//! producer numbered must be there once.
//!
//! `WASMILL_SIMULATION_SEEDS=A..B` runs other seeds than the usual few hundred.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod model;
mod requests;
mod world;

use world::{Plan, run};

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("WASMILL_SIMULATION_SEEDS") else { return 0..300 };
    let (from, to) = text.split_once("..").expect("WASMILL_SIMULATION_SEEDS is like 0..1000");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn what_was_acknowledged_survives_crashes_and_faults() {
    let mut crashes = 0;
    let mut acknowledged = 0;
    let mut segments = 0;
    let (mut requests, mut early) = ([0; 3], [0; 2]);
    for seed in seeds() {
        let outcome = run(seed, Plan::Lives(6));
        crashes += outcome.crashes;
        acknowledged += outcome.acknowledged;
        segments += u64::from(outcome.segments);
        early.iter_mut().zip([outcome.beside, outcome.voided]).for_each(|(sum, of)| *sum += of);
        for (sum, of) in
            requests.iter_mut().zip([outcome.duplicates_after_crash, outcome.forgotten, outcome.conflicts])
        {
            *sum += of;
        }
    }
    // The simulation must have simulated something.
    let seeds = seeds().count() as u64;
    assert!(
        crashes > seeds && acknowledged > 10 * seeds && segments > seeds / 10,
        "{crashes} {acknowledged} {segments}"
    );
    // Stored although nobody was told; too old; with another body.
    assert!(requests.iter().all(|count| *count > seeds / 10), "{requests:?}");
    assert!(early.iter().all(|count| *count > seeds / 4), "{early:?}");
}

#[test]
fn a_crash_at_every_operation_loses_nothing() {
    for seed in 1000..1003 {
        let whole = run(seed, Plan::OneLife(None));
        assert!(whole.operations > 100, "{}", whole.operations);
        for operation in 1..=whole.operations {
            run(seed, Plan::OneLife(Some(operation)));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let traces: Vec<u64> = (0..10).map(|seed| run(seed, Plan::Lives(4)).trace).collect();
    let again: Vec<u64> = (0..10).map(|seed| run(seed, Plan::Lives(4)).trace).collect();
    assert_eq!(traces, again);
    assert!(traces.windows(2).all(|pair| pair[0] != pair[1]));
}
