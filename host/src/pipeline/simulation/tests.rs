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
    assert!(sum(|seen| seen.in_strands) > 4 * lives, "{}", sum(|seen| seen.in_strands));
    assert!(sum(|seen| seen.late) > 4 * lives, "{}", sum(|seen| seen.late));
    assert!(sum(|seen| seen.resumed) > lives, "{}", sum(|seen| seen.resumed));
}

#[test]
fn crash_at_every_operation_of_the_disk_loses_nothing_and_doubles_nothing() {
    // The last three have event time: of records, with early answers and in strands; with idle time; of sources.
    for seed in (5000..5004).chain([5016, 5034, 5049]) {
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
    let traces =
        || -> Vec<u64> { all_right((0..64).step_by(5).map(plan)).iter().map(|seen| seen.trace).collect() };
    let (first, again) = (traces(), traces());
    assert_eq!(first, again);
    assert!(first.windows(2).all(|pair| pair[0] != pair[1]));
}

/// Whether one of some seeds finds the bug.
fn found(mutant: Mutant, restore: bool) -> bool {
    found_among(mutant, restore, 0..400)
}

/// The same of these.
fn found_among(mutant: Mutant, restore: bool, seeds: impl Iterator<Item = u64>) -> bool {
    let seeds: Vec<u64> = seeds.collect();
    seeds.chunks(10).any(|ten| {
        let plans: Vec<Plan> = ten.iter().map(|&seed| Plan { mutant, restore, ..plan(seed) }).collect();
        let results = run(plans.into_iter());
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

#[test]
fn state_of_one_strand_that_the_outcome_lacks_is_found() {
    assert!(found(Mutant::StrandStateLost, false));
}

#[test]
fn strand_that_runs_twice_is_found() {
    assert!(found(Mutant::StrandTwice, false));
}

#[test]
fn records_in_strands_that_do_not_have_their_key_are_found() {
    assert!(found(Mutant::StrandsMixed, false));
}

#[test]
fn sources_that_are_further_after_a_crash_than_they_were_are_found() {
    assert!(found(Mutant::SourcesMixed, false));
}

#[test]
fn checkpoint_that_forgets_the_watermark_is_found() {
    assert!(found(Mutant::WatermarkForgotten, false));
}

#[test]
fn checkpoint_that_is_ahead_of_outcomes_in_event_time_is_found() {
    assert!(found(Mutant::WatermarkAhead, false));
}

#[test]
fn event_time_that_is_taken_back_below_an_outcome_on_its_way_is_found() {
    // Where records run before they are durable, and may become void.
    let seeds = (16..3000).filter(|seed| [0, 1, 8, 9].contains(&(seed % 16)) && seed / 16 % 4 != 0);
    assert!(found_among(Mutant::WatermarkFalls, false, seeds));
}

#[test]
fn void_records_that_are_taken_back_before_their_outcome_is_known_to_be_void_are_found() {
    let seeds = (0..3000).filter(|seed| seed / 2 % 4 == 0);
    assert!(found_among(Mutant::VoidTakenBackAtOnce, false, seeds));
}
