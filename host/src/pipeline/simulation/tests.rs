//! What holds for every seed, and what the simulation finds when a bug is planted.

use super::Mutant;
use super::seen::Seen;
use super::world::{Plan, run};

/// Lives of a seed.
const LIVES: u64 = 5;

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("WASMILL_SIMULATION_SEEDS") else { return 0..usual };
    let (from, to) = text.split_once("..").expect("WASMILL_SIMULATION_SEEDS is like 0..1000");
    from.parse().unwrap()..to.parse().unwrap()
}

fn plan(seed: u64) -> Plan {
    Plan { seed, lives: LIVES, crash_at: None, restore: false, mutant: Mutant::None }
}

/// All of them, or the first bug.
fn all_right(plans: impl Iterator<Item = Plan> + Send + 'static) -> Vec<Seen> {
    let results = run(plans);
    results
        .into_iter()
        .map(|(plan, result)| result.unwrap_or_else(|bug| panic!("{bug}\nin {plan:?}")))
        .collect()
}

#[test]
fn crashes_and_faults_lose_nothing_and_double_nothing() {
    let seeds = seeds(3000);
    let lives = seeds.end - seeds.start;
    let seen = all_right(seeds.map(plan));
    let sum = |number: fn(&Seen) -> u64| seen.iter().map(number).sum::<u64>();
    // The simulation must have simulated something.
    assert!(sum(|seen| seen.crashes) >= lives * (LIVES - 1), "{}", sum(|seen| seen.crashes));
    assert!(sum(|seen| seen.acknowledged) > 50 * lives, "{}", sum(|seen| seen.acknowledged));
    assert!(sum(|seen| seen.objects) > 20 * lives, "{}", sum(|seen| seen.objects));
    assert!(sum(|seen| seen.staged) > lives && sum(|seen| seen.letters) > 5 * lives);
    assert!(sum(|seen| seen.voided) > lives / 4, "{}", sum(|seen| seen.voided));
    assert!(sum(|seen| seen.counted) > 10 * lives, "{}", sum(|seen| seen.counted));
}

#[test]
fn crash_at_every_operation_of_the_disk_loses_nothing_and_doubles_nothing() {
    for seed in 5000..5004 {
        let whole = Plan { lives: 2, crash_at: Some(u64::MAX), ..plan(seed) };
        let operations = all_right(std::iter::once(whole))[0].operations;
        assert!(operations > 60, "{operations}");
        let plans = (1..=operations).map(move |at| Plan { lives: 2, crash_at: Some(at), ..plan(seed) });
        assert_eq!(all_right(plans).len() as u64, operations);
    }
}

#[test]
fn data_directory_put_back_to_an_earlier_state_loses_nothing_of_it_and_names_no_batch_twice() {
    let seen = all_right((20_000..20_300).map(|seed| Plan { restore: true, ..plan(seed) }));
    assert!(seen.iter().filter(|seen| seen.restored).count() > 100);
}

#[test]
fn same_seed_gives_the_same_trace() {
    let traces = || -> Vec<u64> { all_right((0..12).map(plan)).iter().map(|seen| seen.trace).collect() };
    let (first, again) = (traces(), traces());
    assert_eq!(first, again);
    assert!(first.windows(2).all(|pair| pair[0] != pair[1]));
}

/// Whether one of some seeds finds the bug.
fn found(mutant: Mutant, restore: bool) -> bool {
    (0..40).any(|ten| {
        let seeds = ten * 10..(ten + 1) * 10;
        let results = run(seeds.map(move |seed| Plan { mutant, restore, ..plan(seed) }));
        results.iter().any(|(_, result)| result.is_err())
    })
}

#[test]
fn checkpoint_before_delivery_is_found() {
    assert!(found(Mutant::CheckpointBeforeDelivery, false));
}

#[test]
fn object_that_is_visible_before_its_outcome_is_found() {
    assert!(found(Mutant::VisibleBeforeOutcome, false));
}

#[test]
fn epoch_that_is_not_raised_is_found() {
    assert!(found(Mutant::EpochNotRaised, true));
}

#[test]
fn staged_file_that_is_not_synced_is_found() {
    assert!(found(Mutant::StagedNotSynced, false));
}

#[test]
fn open_rows_that_are_forgotten_are_found() {
    assert!(found(Mutant::OpenRowsForgotten, false));
}

#[test]
fn state_that_is_changed_before_its_outcome_is_found() {
    assert!(found(Mutant::StateAppliedTwice, false));
}

#[test]
fn state_that_the_journal_lets_go_of_too_soon_is_found() {
    assert!(found(Mutant::StateLost, false));
}

#[test]
fn rows_that_the_journal_lets_go_of_while_their_batch_is_encoded_are_found() {
    assert!(found(Mutant::AsideLost, false));
}

#[test]
fn later_batch_that_is_sealed_before_an_earlier_one_is_found() {
    assert!(found(Mutant::AsidePassed, false));
}

#[test]
fn batches_that_get_another_name_after_a_restart_are_found() {
    assert!(found(Mutant::RenamedAfterRestart, false));
}
