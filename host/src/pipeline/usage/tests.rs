//! What is counted counts once, whenever it is stored, read or added up.

use super::super::stats::TransformStats;
use super::*;
use wasmill_buffer::StreamKey;

fn stats(tenant: &str, name: &str) -> Arc<StreamStats> {
    let key = StreamKey { tenant: tenant.to_owned(), name: name.to_owned() };
    Arc::new(StreamStats::new(&key, ["out".to_owned()]))
}

/// As `Usage::flush`, at a moment of one's own.
fn flush_at(usage: &Usage, streams: &[Arc<StreamStats>], tenants: &[Arc<TenantQuota>], now: u64) {
    usage.flush_at(&mut usage.writing.try_lock().unwrap(), streams, tenants, now);
}

fn ask(usage: &Usage, tenant: &str, by: UsageBy, seconds: u64) -> Vec<Value> {
    let query = UsageQuery { from: 0, to: u64::MAX / 2, by, seconds };
    let mut found = Vec::new();
    let pending = usage.pending().rows.get(tenant).cloned().unwrap_or_default();
    let stopped = usage.answer(tenant, &query, pending, |_, rows| {
        found.extend(rows);
        true
    });
    assert_eq!(stopped.unwrap(), None);
    found
}

fn sum(rows: &[Value], field: &str) -> u64 {
    rows.iter().map(|row| row[field].as_u64().unwrap()).sum()
}

#[test]
fn what_is_counted_counts_once_through_streams_that_are_opened_anew_and_hosts_that_start_again() {
    let dir = tempfile::tempdir().unwrap();
    let usage = Usage::new(dir.path());
    let stream = stats("team", "s");
    stream.records_in.add(5);
    flush_at(&usage, std::slice::from_ref(&stream), &[], 1000);
    flush_at(&usage, std::slice::from_ref(&stream), &[], 1010);
    stream.records_in.add(2);
    usage.count_at(std::slice::from_ref(&stream), &[], 1020);
    let anew = stats("team", "s");
    anew.records_in.add(10);
    flush_at(&usage, std::slice::from_ref(&anew), &[], 1020);
    anew.records_in.add(100);
    flush_at(&usage, &[], &[], 1030);
    // It has ended, and its last records came while it did.
    usage.count_at(std::slice::from_ref(&anew), &[], 1030);
    flush_at(&usage, &[], &[], 1040);
    let rows = ask(&usage, "team", UsageBy::Stream, 60);
    assert_eq!(sum(&rows, "records_in"), 117);
    assert_eq!((rows.len(), rows[0]["stream"].as_str()), (2, Some("s")));
    let again = Usage::new(dir.path());
    let stream = stats("team", "s");
    stream.records_in.add(3);
    flush_at(&again, std::slice::from_ref(&stream), &[], 3 * HOUR_S);
    assert_eq!(sum(&ask(&again, "team", UsageBy::Stream, HOUR_S), "records_in"), 120);
    assert_eq!(sum(&ask(&again, "team", UsageBy::Tenant, DAY_S), "records_in"), 120);
    assert!(ask(&again, "other", UsageBy::Tenant, DAY_S).is_empty());
}

#[test]
fn stream_that_ends_between_two_flushes_counts_once_whoever_counts_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let usage = Usage::new(dir.path());
    let stream = stats("team", "s");
    stream.records_in.add(5);
    flush_at(&usage, std::slice::from_ref(&stream), &[], 1000);
    stream.records_in.add(7);
    flush_at(&usage, &[], &[], 1010);
    usage.ended(&stream);
    // Three of a name come and go, and one flush comes late, with an older list.
    for records in [10, 100, 1000] {
        let short = stats("team", "s");
        short.records_in.add(records);
        short.with_transforms(|transforms| {
            transforms.push(TransformStats {
                plugin: "p".to_owned(),
                calls: records,
                ..TransformStats::default()
            });
        });
        usage.ended(&short);
        flush_at(&usage, std::slice::from_ref(&short), &[], 1012);
    }
    flush_at(&usage, std::slice::from_ref(&stream), &[], 1014);
    flush_at(&usage, &[], &[], 1020);
    let day = ask(&usage, "team", UsageBy::Stream, DAY_S);
    assert_eq!(
        (sum(&day, "records_in"), sum(&ask(&usage, "team", UsageBy::Plugin, DAY_S), "calls")),
        (1122, 1110)
    );
}

#[tokio::test]
async fn who_asks_gets_what_is_not_stored_yet_and_has_nothing_written() {
    let dir = tempfile::tempdir().unwrap();
    let usage = Arc::new(Usage::new(dir.path()));
    let (own, other) = (stats("own", "s"), stats("other", "s"));
    let query = UsageQuery { from: 0, to: u64::MAX / 2, by: UsageBy::Stream, seconds: 60 };
    let reader = UsageReader { tenant: "own".to_owned(), waits: false };
    let read = async || {
        let turn = usage.turn(&reader).await.unwrap();
        let counting = (vec![Arc::clone(&own)], Vec::new());
        let page = usage.read("own", counting, query.clone(), 100, turn).await.unwrap();
        sum(&page.rows, "records_in")
    };
    usage.ended(&other);
    for records in 1..=3 {
        own.records_in.add(1);
        other.records_in.add(1);
        assert_eq!(read().await, records);
    }
    assert!(!dir.path().join("usage").exists(), "nothing is written for who asks");
    usage.flush((vec![Arc::clone(&own), Arc::clone(&other)], Vec::new())).await;
    own.records_in.add(1);
    assert_eq!(read().await, 4, "what is stored and what is not");
    let stored = || {
        let mut stored = 0;
        let count = |rows: Vec<Row>| {
            stored += rows.iter().map(|row| row.counts.records_in).sum::<u64>();
            true
        };
        usage.store("own").each(0, u64::MAX, count).unwrap();
        stored
    };
    assert_eq!(stored(), 3);
    let tenants = usage.read_tenants((vec![stats("third", "s"), Arc::clone(&own)], Vec::new())).await;
    assert_eq!(tenants.unwrap(), ["other", "own"], "who used nothing is not among them");
    usage.flush((vec![Arc::clone(&own)], Vec::new())).await;
    assert_eq!((stored(), read().await), (4, 4));
    usage.put_aside("own", 7).await.unwrap();
    assert!(dir.path().join("usage/own.removed-7").exists());
    assert_eq!((read().await, usage.tenants().unwrap().len()), (0, 2));
}

#[test]
fn plugins_add_up_over_streams_and_memory_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let usage = Usage::new(dir.path());
    let streams = [stats("team", "a"), stats("team", "b")];
    for (stream, memory) in streams.iter().zip([100, 70]) {
        stream.with_transforms(|transforms| {
            transforms.push(TransformStats {
                name: "t".to_owned(),
                plugin: "parse".to_owned(),
                calls: 3,
                cpu_ns: 7,
                records_in: 5,
                bytes_in: 50,
                records_out: 4,
                bytes_out: 44,
                dead_letters: 1,
                memory_bytes_peak: memory,
                ..TransformStats::default()
            });
        });
    }
    let quota = TenantQuota::without_limits();
    quota.charge_cpu(5, 0);
    flush_at(&usage, &streams, &[quota], 1000);
    let rows = ask(&usage, "team", UsageBy::Plugin, HOUR_S);
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    let of = |field: &str| row[field].as_u64().unwrap();
    assert_eq!((of("calls"), of("cpu_ns"), of("memory_bytes_max"), of("seconds")), (6, 14, 100, 3600));
    let flow = |row: &Value| {
        ["records_in", "bytes_in", "records_out", "bytes_out", "dead_letters"]
            .map(|field| row[field].as_u64().unwrap())
    };
    assert_eq!(flow(row), [10, 100, 8, 88, 2]);
    // They are records of the streams, which count themselves.
    for by in [UsageBy::Stream, UsageBy::Tenant] {
        let rows = ask(&usage, "team", by, HOUR_S);
        assert!(rows.iter().all(|row| flow(row) == [0; 5]) && sum(&rows, "calls") == 6, "{rows:?}");
    }
    assert_eq!((row["plugin"].as_str(), row["from"].as_str()), (Some("parse"), Some("1970-01-01T00:00:00Z")));
    assert_eq!(store::tenants(&usage.dir).unwrap(), ["team"], "nobody's usage is of no tenant");
}

#[test]
fn answer_stops_between_spans_and_goes_on_there() {
    let dir = tempfile::tempdir().unwrap();
    let usage = Usage::new(dir.path());
    let stream = stats("team", "s");
    for hour in 1..6 {
        stream.records_in.add(hour);
        flush_at(&usage, std::slice::from_ref(&stream), &[], hour * HOUR_S + 30);
    }
    let mut query = UsageQuery { from: 0, to: u64::MAX / 2, by: UsageBy::Stream, seconds: HOUR_S };
    let mut found = Vec::new();
    loop {
        let page = usage.page("team", &query, 2, 9 * HOUR_S).unwrap();
        assert!(page.rows.len() <= 2);
        found.extend(page.rows.iter().map(|row| row["records_in"].as_u64().unwrap()));
        let Some(next) = page.next else { break };
        query.from = next;
    }
    assert_eq!(found, [1, 2, 3, 4, 5]);
}

#[test]
fn export_by_minute_loses_none_when_its_day_is_added_up_between_two_pages() {
    let dir = tempfile::tempdir().unwrap();
    let usage = Usage::new(dir.path());
    let stream = stats("team", "s");
    for minute in 0..6 * 60 {
        stream.records_in.add(1);
        flush_at(&usage, std::slice::from_ref(&stream), &[], minute * 60 + 30);
    }
    for pages in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let copy = Usage::new(dir.path());
        std::fs::create_dir_all(dir.path().join("usage/team")).unwrap();
        for file in std::fs::read_dir(usage.dir.join("team")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.dir.join("team").join(file.file_name())).unwrap();
        }
        let mut query = UsageQuery { from: 0, to: u64::MAX / 2, by: UsageBy::Stream, seconds: 60 };
        let mut found = 0;
        for page in 0.. {
            if page == pages {
                copy.roll(9 * DAY_S);
            }
            let page = copy.page("team", &query, 100, 9 * DAY_S).unwrap();
            found += sum(&page.rows, "records_in");
            let Some(next) = page.next else { break };
            assert_eq!(next % HOUR_S, 0);
            query.from = next;
        }
        assert_eq!(found, 360, "added up before page {pages}");
    }
    // What stays by minute for days may be cut anywhere.
    let query = UsageQuery { from: 0, to: u64::MAX / 2, by: UsageBy::Stream, seconds: 60 };
    let page = usage.page("team", &query, 100, 6 * HOUR_S).unwrap();
    assert_eq!((page.rows.len(), page.next), (100, Some(100 * 60)));
}

#[test]
fn usage_that_the_disk_does_not_take_is_stored_when_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let usage = Usage::new(dir.path());
    std::fs::write(dir.path().join("usage"), "in the way").unwrap();
    let stream = stats("team", "s");
    stream.records_in.add(1);
    flush_at(&usage, std::slice::from_ref(&stream), &[], 1000);
    stream.records_in.add(1);
    flush_at(&usage, std::slice::from_ref(&stream), &[], 1010);
    std::fs::remove_file(dir.path().join("usage")).unwrap();
    flush_at(&usage, std::slice::from_ref(&stream), &[], 8000);
    assert_eq!(sum(&ask(&usage, "team", UsageBy::Tenant, HOUR_S), "records_in"), 2);
}
