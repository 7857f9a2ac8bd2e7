//! Which shards are read, from where and when, after splits, merges, restarts and refusals.

use super::*;

const POLL: Duration = Duration::from_secs(1);
const NOW_MS: i64 = 1_000_000;

fn listed(id: &str, parents: &[&str], closed: bool) -> Listed {
    Listed { id: id.to_owned(), parents: parents.iter().map(|parent| (*parent).to_owned()).collect(), closed }
}

fn saved(shard: &str, identity: u64, ended: bool) -> Saved {
    Saved { identity, began_ms: 77, ended, shard: shard.to_owned(), sequence: "5".to_owned() }
}

fn shards(from: KinesisStart, known: Vec<(u32, Saved)>) -> Shards {
    Shards::new(1, from, known, None, NOW_MS, POLL)
}

/// Everything that is due, with where it begins.
fn due(shards: &mut Shards, now: Instant) -> Vec<(String, Place)> {
    let mut all: Vec<_> = std::iter::from_fn(|| shards.due(now)).map(|due| (due.shard, due.place)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn ended() -> Told {
    Told { last: Some("9".to_owned()), records: 1, bytes: 10, next: None, behind_ms: 0 }
}

fn more(behind_ms: u64, bytes: u64) -> Told {
    let next = Some("iterator".to_owned());
    Told { last: Some("9".to_owned()), records: 10, bytes, next, behind_ms }
}

fn oldest(id: &str) -> (String, Place) {
    (id.to_owned(), Place::Oldest)
}

fn behind(id: &str) -> (String, Place) {
    (id.to_owned(), Place::Behind("5".to_owned()))
}

#[test]
fn children_are_read_when_all_that_they_came_of_has_ended() {
    let now = Instant::now();
    let mut shards = shards(KinesisStart::TrimHorizon, Vec::new());
    let all = || {
        vec![
            listed("a", &[], true),
            listed("b", &[], true),
            listed("merged", &["a", "b"], true),
            listed("left", &["merged"], false),
            listed("orphan", &["gone"], false),
        ]
    };
    shards.list(all(), now).unwrap();
    assert_eq!(due(&mut shards, now), [oldest("a"), oldest("b"), oldest("orphan")]);
    assert!(shards.page("a", &ended()));
    assert_eq!(due(&mut shards, now), []);
    assert!(shards.page("b", &ended()));
    assert_eq!(due(&mut shards, now), [oldest("merged")]);
    assert!(shards.page("merged", &ended()));
    shards.list(all(), now).unwrap();
    assert_eq!(due(&mut shards, now), [oldest("left")]);
    assert!(!shards.all_ended());
}

#[test]
fn restart_goes_on_behind_positions_and_reads_nothing_that_was_read_to_its_end() {
    let now = Instant::now();
    // In whatever order they are listed.
    for reverse in [false, true] {
        let known = vec![(0, saved("left", 1, false)), (3, saved("ended", 1, true))];
        let mut shards = shards(KinesisStart::TrimHorizon, known);
        let mut all = vec![
            listed("ended", &[], true),
            listed("after", &["ended"], false),
            listed("grand", &[], true),
            listed("merged", &["grand"], true),
            listed("left", &["merged"], false),
            listed("right", &["merged"], false),
        ];
        if reverse {
            all.reverse();
        }
        shards.list(all, now).unwrap();
        assert_eq!(due(&mut shards, now), [oldest("after"), behind("left"), oldest("right")]);
        assert_eq!(shards.position("left", "6", false).unwrap().0, 0);
        let fresh = shards.position("right", "6", true).unwrap();
        assert!(![0, 3].contains(&fresh.0), "a slot that is taken");
        assert_eq!((fresh.1.began_ms, fresh.1.ended, fresh.1.sequence.as_str()), (77, true, "6"));
    }
}

#[test]
fn positions_of_another_stream_of_that_name_count_for_nothing() {
    let now = Instant::now();
    let mut shards = shards(KinesisStart::TrimHorizon, vec![(0, saved("a", 2, false))]);
    shards.list(vec![listed("a", &[], false)], now).unwrap();
    assert_eq!(due(&mut shards, now), [oldest("a")]);
    // And their slots are free.
    assert_eq!(shards.position("a", "1", false).unwrap().0, 0);
}

#[test]
fn latest_is_what_comes_after_the_first_start_in_every_shard() {
    let now = Instant::now();
    let mut first = shards(KinesisStart::Latest, Vec::new());
    first.list(vec![listed("closed", &[], true), listed("open", &["closed"], false)], now).unwrap();
    assert_eq!(due(&mut first, now), [("open".to_owned(), Place::Latest)]);
    assert!(first.page("open", &ended()));
    let split =
        vec![listed("closed", &[], true), listed("open", &["closed"], true), listed("new", &["open"], false)];
    first.list(split.clone(), now).unwrap();
    assert_eq!(due(&mut first, now), [oldest("new")]);
    // A start later, of a shard of which nothing is stored.
    let known = vec![(0, saved("open", 1, true))];
    let mut later = shards(KinesisStart::Latest, known);
    later.list(split, now).unwrap();
    assert_eq!(due(&mut later, now), [("new".to_owned(), Place::Since(77))]);
    // The same process, before anything was stored.
    let mut again = Shards::new(1, KinesisStart::Latest, Vec::new(), Some(99), NOW_MS, POLL);
    again.list(vec![listed("open", &[], false)], now).unwrap();
    assert_eq!(due(&mut again, now), [("open".to_owned(), Place::Since(99))]);
}

#[test]
fn expired_iterator_is_had_anew_where_it_was() {
    let now = Instant::now();
    let mut shards = shards(KinesisStart::Latest, Vec::new());
    shards.list(vec![listed("a", &[], false)], now).unwrap();
    assert_eq!(due(&mut shards, now).len(), 1);
    assert!(!shards.page("a", &Told { last: None, ..more(0, 0) }));
    let later = now + POLL;
    assert_eq!(shards.due(later).unwrap().iterator.as_deref(), Some("iterator"));
    shards.failed("a", true, later, 0.0);
    // Not at the latest again: what came meanwhile is new.
    let again = shards.due(later).unwrap();
    assert_eq!((again.iterator, again.place), (None, Place::Since(NOW_MS)));
    shards.page("a", &more(0, 10));
    let last = shards.due(later + POLL).unwrap();
    shards.failed("a", true, later + POLL, 0.0);
    assert_eq!(last.place, Place::Behind("9".to_owned()));
    assert_eq!(shards.due(later + POLL).unwrap().iterator, None);
}

#[test]
fn requests_keep_within_what_a_shard_gives() {
    let now = Instant::now();
    let mut shards = shards(KinesisStart::TrimHorizon, Vec::new());
    shards.list(vec![listed("a", &[], false)], now).unwrap();
    // Behind: five in a second. With nothing more: as the configuration says. Many bytes: 2 MB in a second.
    let mut at = now;
    for (behind_ms, bytes, wait) in
        [(5, 1000, 200), (0, 1000, 1000), (5, 10_000_000, 5000), (0, 4_000_000, 2000)]
    {
        assert_eq!(shards.due(at).map(|due| due.shard).as_deref(), Some("a"));
        assert_eq!(shards.state().0, 1);
        shards.page("a", &more(behind_ms, bytes));
        let next = at + Duration::from_millis(wait);
        assert_eq!(shards.next_due(), Some(next));
        assert_eq!(shards.due(next - Duration::from_millis(1)), None);
        at = next;
    }
    assert_eq!(shards.due(at).unwrap().limit, 100, "records of 400 kB");
}

#[test]
fn refused_requests_are_sent_again_later_each_time() {
    let mut now = Instant::now();
    let mut shards = shards(KinesisStart::TrimHorizon, Vec::new());
    shards.list(vec![listed("a", &[], false)], now).unwrap();
    for wait in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
        assert!(shards.due(now).is_some());
        assert_eq!(shards.failed("a", false, now, 1.0), wait == 500);
        now += Duration::from_millis(wait);
        assert_eq!(shards.next_due(), Some(now));
    }
    assert!(pause(0, 0.0) >= Duration::from_millis(250) && pause(u32::MAX, 1.0) <= PAUSE_LONGEST);
    assert!(shards.due(now).is_some());
    shards.page("a", &more(0, 10));
    shards.due(now + POLL);
    assert!(shards.failed("a", false, now + POLL, 1.0), "the first in a row again");
}

#[test]
fn slots_of_shards_that_are_gone_are_taken_again_and_no_more_than_there_are() {
    let now = Instant::now();
    let most = PARTITIONS_MAX as usize;
    let many = |from: usize, count: usize| -> Vec<Listed> {
        (from..from + count).map(|n| listed(&format!("{n:06}"), &[], false)).collect()
    };
    let mut shards = shards(KinesisStart::TrimHorizon, Vec::new());
    shards.list(many(0, most), now).unwrap();
    assert_eq!(shards.list(many(0, most + 1), now), Err(TooMany));
    shards.list(many(1, most), now).unwrap();
    assert_eq!(shards.position(&format!("{most:06}"), "1", false).unwrap().0, 0);
    assert_eq!(shards.position("000000", "1", false), None);
}
