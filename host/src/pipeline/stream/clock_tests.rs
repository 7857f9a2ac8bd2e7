//! How event time goes on while no records come.

use std::sync::Arc;

use super::*;

const S: i64 = 1_000_000_000;
const TIMEOUT: Duration = Duration::from_secs(8);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn single(idle_timeout: Option<Duration>, watermark: Option<i64>) -> Clock {
    Clock::new(idle_timeout, watermark, None)
}

/// Of the sources `a` and `b`.
fn several(idle_timeout: Option<Duration>, watermark: Option<i64>, known: &[(&str, i64)]) -> Clock {
    let names: Arc<[String]> = ["a".to_owned(), "b".to_owned()].into();
    let known = known.iter().map(|(name, watermark)| ((*name).to_owned(), *watermark)).collect();
    Clock::new(idle_timeout, watermark, Some(Marks::new(names, idle_timeout, &known)))
}

/// As behind a slice in which this source has come so far.
fn bring(clock: &mut Clock, source: usize, watermark: i64) {
    let mut marks = clock.marks.clone().unwrap();
    marks.begin();
    marks.bring(Some(source), watermark, true);
    let (watermark, late) = (clock.watermark.max(marks.least()), LateCounts::default());
    let progress = Progress { watermark, marks: Some(marks), timely: true, owed: false, late };
    clock.gather(progress, Instant::now());
}

#[tokio::test(start_paused = true)]
async fn watermark_goes_on_with_the_clock_once_no_record_has_come_for_the_timeout() {
    let mut clock = single(Some(TIMEOUT), Some(100 * S));
    clock.due = false;
    let begin = Instant::now();
    assert_eq!(clock.next(), Some(begin + TIMEOUT));
    assert_eq!(clock.idle(begin + seconds(7)), (100 * S, None));
    assert_eq!(clock.idle(begin + TIMEOUT), (108 * S, None));
    clock.told = Some(begin + TIMEOUT);
    assert_eq!(clock.next(), Some(begin + seconds(10)));
    // It never falls.
    clock.reach(500 * S);
    assert_eq!(clock.idle(begin + seconds(20)).0, 500 * S);
}

#[tokio::test(start_paused = true)]
async fn watermark_waits_for_records_without_a_timeout_and_before_the_first_one() {
    let mut clock = single(None, Some(5 * S));
    let begin = Instant::now();
    assert_eq!(clock.next(), Some(begin), "a new start tells once");
    (clock.due, clock.told) = (false, Some(begin));
    assert_eq!(clock.next(), None);
    assert_eq!(clock.idle(begin + seconds(1_000)).0, 5 * S);
    assert_eq!(single(Some(seconds(1)), None).next(), None);
    assert_eq!(several(Some(seconds(1)), None, &[]).next(), None);
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_later_and_later() {
    let mut clock = single(Some(Duration::from_millis(10)), Some(0));
    let begin = Instant::now();
    clock.told = Some(begin);
    let mut last = Duration::ZERO;
    for failures in 1..20 {
        clock.failures = failures;
        let wait = clock.next().unwrap().saturating_duration_since(begin);
        assert!(wait >= last && wait >= RETRY_AFTER && wait <= COMMIT_RETRY_MAX, "{wait:?}");
        last = wait;
    }
    assert_eq!(last, COMMIT_RETRY_MAX);
}

#[tokio::test(start_paused = true)]
async fn source_that_falls_silent_is_not_waited_for_and_once_all_have_time_goes_on_from_the_furthest() {
    let mut clock = several(Some(TIMEOUT), None, &[]);
    let begin = Instant::now();
    bring(&mut clock, 1, 50 * S);
    assert_eq!((clock.watermark, clock.next()), (NO_TIME, Some(begin + TIMEOUT)), "nothing came of `a`");
    tokio::time::advance(seconds(5)).await;
    bring(&mut clock, 0, 100 * S);
    assert_eq!((clock.watermark, clock.next()), (50 * S, Some(begin + TIMEOUT)));
    // `b` has been silent for the timeout, `a` for three seconds.
    assert_eq!(clock.idle(begin + seconds(7)).0, 50 * S);
    let (watermark, marks) = clock.idle(begin + TIMEOUT);
    assert_eq!((watermark, marks.as_ref().unwrap().waited_for().collect::<Vec<_>>()), (100 * S, vec![0]));
    (clock.marks, clock.told) = (marks, Some(begin + TIMEOUT));
    clock.reach(watermark);
    // Then `a` is, too: it came last, five seconds after the beginning.
    assert_eq!(clock.next(), Some(begin + seconds(13)));
    assert_eq!(clock.idle(begin + seconds(12)).0, 100 * S);
    assert_eq!(clock.idle(begin + seconds(13)).0, 108 * S);
    assert_eq!(clock.idle(begin + seconds(15)).0, 110 * S);
}

#[tokio::test(start_paused = true)]
async fn source_that_has_brought_nothing_holds_the_watermark_unless_it_is_silent_or_has_ended() {
    let mut clock = several(Some(TIMEOUT), None, &[("a", 70 * S), ("gone", 1)]);
    clock.due = false;
    let begin = Instant::now();
    assert_eq!((clock.least(), clock.furthest()), (NO_TIME, 70 * S));
    assert_eq!(clock.idle(begin + seconds(7)).0, NO_TIME);
    assert_eq!(clock.idle(begin + TIMEOUT).0, 78 * S, "neither has brought anything since the start");
    let mut clock = several(None, Some(60 * S), &[("a", 70 * S)]);
    (clock.due, clock.told) = (false, Some(begin));
    assert_eq!((clock.next(), clock.idle(begin + seconds(9_000)).0), (None, 60 * S));
    clock.marks.as_mut().unwrap().end(1);
    assert!(clock.next().is_some());
    assert_eq!(clock.idle(begin).0, 70 * S);
}

#[tokio::test(start_paused = true)]
async fn what_no_outcome_has_of_sources_is_not_durable() {
    let mut clock = several(None, Some(5 * S), &[("a", 5 * S), ("b", 9 * S)]);
    let before = clock.durable.clone();
    bring(&mut clock, 0, 7 * S);
    assert_eq!((clock.watermark, &clock.durable), (7 * S, &before));
    let (watermark, marks) = (clock.watermark, clock.marks.clone());
    let reached = Reached { watermark, marks, late: LateCounts::default() };
    assert_eq!(reached.by_source(), BTreeMap::from([("a".to_owned(), 7 * S), ("b".to_owned(), 9 * S)]));
    clock.make_durable(reached.watermark, reached.marks);
    assert_eq!(clock.durable, (clock.watermark, clock.marks.clone()));
    // A telling has moved none of them.
    clock.make_durable(8 * S, None);
    assert_eq!(clock.durable, (8 * S, clock.marks));
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_back_falls_below_nothing_that_is_durable_or_on_its_way() {
    let reached = |watermark| Reached { watermark, marks: None, late: LateCounts::default() };
    let taken_back = |commit: Option<i64>, checkpoint: Option<i64>| {
        let mut clock = single(None, Some(5 * S));
        clock.make_durable(7 * S, None);
        clock.watermark = 20 * S;
        clock.take_back(commit.map(reached).as_ref(), checkpoint.map(reached).as_ref());
        assert_eq!(clock.since.1, clock.watermark);
        clock.watermark
    };
    assert_eq!(taken_back(None, None), 7 * S);
    assert_eq!(taken_back(Some(9 * S), None), 9 * S);
    // It began before the outcome that made 7 durable, or while nothing else was on its way.
    assert_eq!(taken_back(None, Some(6 * S)), 7 * S);
    assert_eq!(taken_back(None, Some(8 * S)), 8 * S);
    assert_eq!(taken_back(Some(9 * S), Some(6 * S)), 9 * S);
    assert_eq!(taken_back(Some(9 * S), Some(8 * S)), 9 * S);
}
