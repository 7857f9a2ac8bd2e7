//! Event time of a stream in a whole host: windows close when records stop coming, late records go where the stream says, and
//! all of it is the same whatever ends the program.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::Running;
use wasmill_tests::scratch::{Scratch, apart};
use wasmill_tests::wait::{wait_for, wait_until};
use wasmill_tests::{client, objects};

use crate::COMPILER;

/// Counts of users by window; `EVENT_TIME` is the rest of that table.
pub(crate) const WINDOWED: &str = r#"
    [streams.events]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "out", interval = "50ms" }]
    event_time = { field = "t", format = "ms", EVENT_TIME }
    [[streams.events.transforms]]
    plugin = "window"
    key = ["user"]
    [streams.events.transforms.config]
    window = { kind = "tumbling", size = "600ms" }
    time_format = "ms"
    by = ["user"]
    lateness = "300ms"
    aggregates = { n = { op = "count" }, sum = { op = "sum", field = "id" } }
"#;

/// With the window plugin; `None`, with the reason said, where nobody has built it.
fn scratch(event_time: &str) -> Option<Scratch> {
    configured(&WINDOWED.replace("EVENT_TIME", event_time), &["window"])
}

fn configured(config: &str, deployed: &[&str]) -> Option<Scratch> {
    let Some(plugins) = std::env::var_os("WASMILL_PLUGINS").map(PathBuf::from) else {
        println!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
        return None;
    };
    let scratch = Scratch::new(config);
    for name in deployed {
        scratch.deploy_bytes(name, &std::fs::read(plugins.join(format!("{name}.wasm"))).unwrap());
    }
    Some(scratch)
}

/// A host that has these records, the newest of this time, and was killed behind them, and again as soon as event time went on
/// without any.
fn killed_while_silent(binary: &Path, scratch: &Scratch, body: &[String], newest: i64) -> Program {
    let program = Program::start(binary, &scratch.config());
    assert!(send(program.address(), 0, &body.join("\n")), "{:#?}", program.log());
    drop(program.kill());
    let program = Program::start(binary, &scratch.config());
    wait_until("event time goes on without records", || {
        metric(program.address(), WATERMARK).is_some_and(|seconds| seconds * 1000.0 > newest as f64)
    });
    drop(program.kill());
    Program::start(binary, &scratch.config())
}

/// Pushes under the producer's number until it is answered; whether it was.
fn send(to: SocketAddr, sequence: usize, body: &str) -> bool {
    let sequence = format!("wasmill-sequence: {sequence}");
    let headers = ["content-type: application/x-ndjson", "wasmill-producer: p", &sequence];
    client::push_as(to, "events", &headers, body.as_bytes()).is_ok_and(|answer| answer.status == 200)
}

fn record(id: i64, user: &str, time: i64) -> String {
    json!({ "id": id, "user": user, "t": time }).to_string()
}

/// Records in the order in which they are sent: most of them within 200 ms of the newest, some within the lateness besides, some later.
fn records() -> Vec<(String, i64, i64)> {
    (0..4000)
        .map(|id| {
            let behind = if id % 11 == 0 { 190 + id * 7919 % 1300 } else { id * 7919 % 190 };
            (format!("u{}", id % 5), 1_000_000 + id * 10 - behind, id)
        })
        .collect()
}

/// User and window -> records and the sum of their ids.
type Counts = BTreeMap<(String, i64), (u64, i64)>;

fn window(time: i64) -> i64 {
    time.div_euclid(600) * 600
}

/// What a computation over the whole input gives: only records are not in it for which the window of their time had ended
/// 300 ms before by the watermark.
fn expected(records: &[(String, i64, i64)]) -> Counts {
    let mut counts = Counts::new();
    let mut newest = i64::MIN;
    for (user, time, id) in records {
        let watermark = newest.saturating_sub(200);
        newest = newest.max(*time);
        if window(*time) + 600 + 300 > watermark {
            let of = counts.entry((user.clone(), window(*time))).or_default();
            *of = (of.0 + 1, of.1 + id);
        }
    }
    counts
}

/// What was given last of each window, and how many rows there are.
fn found(scratch: &Scratch) -> (Counts, usize) {
    let mut found = Counts::new();
    let lines = objects::lines(&scratch.out());
    for line in &lines {
        let row: Value = serde_json::from_str(line).unwrap();
        let of = (row["user"].as_str().unwrap().to_owned(), row["window_start"].as_i64().unwrap());
        let counted = (row["n"].as_u64().unwrap(), row["sum"].as_i64().unwrap());
        let before = found.entry(of).or_insert((0, 0));
        assert!(before.0 != counted.0, "a window was given twice with the same records: {line}");
        *before = counted.max(*before);
    }
    (found, lines.len())
}

fn metric(to: SocketAddr, series: &str) -> Option<f64> {
    let body = client::get(to, "/metrics").ok()?.body;
    body.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

const WATERMARK: &str = "wasmill_stream_watermark_seconds{stream=\"events\"}";

#[test]
fn windows_equal_a_computation_over_the_whole_input_after_kills() {
    windows_equal_a_computation(&WINDOWED.replace("EVENT_TIME", r#"delay = "200ms", lateness = "300ms""#));
}

#[test]
fn windows_of_a_plugin_in_a_process_of_its_own_equal_a_computation_after_kills() {
    let config = WINDOWED.replace("EVENT_TIME", r#"delay = "200ms", lateness = "300ms""#);
    windows_equal_a_computation(&apart(&config));
}

pub(crate) fn windows_equal_a_computation(config: &str) {
    const KILLS: usize = 5;
    let (Some(binary), Some(scratch)) = (binary(), configured(config, &["window"])) else { return };
    let mut records = records();
    let expected = expected(&records);
    assert!(expected.len() > 300);
    // One from far ahead closes all windows but its own.
    records.push(("last".to_owned(), 9_000_000, -1));
    let lines: Vec<String> = records.iter().map(|(user, time, id)| record(*id, user, *time)).collect();
    let bodies: Vec<String> = lines.chunks(60).map(|lines| lines.join("\n")).collect();
    let mut next = 0;
    for kill in 0..KILLS {
        let program = Program::start(&binary, &scratch.config());
        while next < bodies.len() * (kill + 1) / (KILLS + 1) {
            assert!(send(program.address(), next, &bodies[next]), "{:#?}", program.log());
            next += 1;
        }
        drop(program.kill());
    }
    let program = Program::start(&binary, &scratch.config());
    for (sequence, body) in bodies.iter().enumerate().skip(next) {
        assert!(send(program.address(), sequence, body), "{:#?}", program.log());
    }
    wait_until("all windows have left", || found(&scratch).0.len() >= expected.len());
    program.stop();
    assert_eq!(found(&scratch).0, expected);
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn windows_close_without_a_record_after_the_idle_timeout_and_once_whatever_ends_the_program() {
    windows_close_without_a_record(&WINDOWED.replace("EVENT_TIME", IDLE));
}

/// For `windows_close_without_a_record`.
pub(crate) const IDLE: &str = r#"delay = "200ms", lateness = "300ms", idle_timeout = "1s""#;

pub(crate) fn windows_close_without_a_record(config: &str) {
    let (Some(binary), Some(scratch)) = (binary(), configured(config, &["window"])) else { return };
    let records: Vec<_> = records().into_iter().take(200).collect();
    let expected = expected(&records);
    let newest = records.iter().map(|(_, time, _)| *time).max().unwrap();
    let body: Vec<String> = records.iter().map(|(user, time, id)| record(*id, user, *time)).collect();
    let program = killed_while_silent(&binary, &scratch, &body, newest);
    wait_until("all windows have left", || found(&scratch).0 == expected);
    drop(program.kill());
    // Nothing of it is given again, also when event time goes on further.
    let (_, rows) = found(&scratch);
    let program = Program::start(&binary, &scratch.config());
    let started = wait_for("a watermark", || metric(program.address(), WATERMARK));
    wait_until("event time goes on", || {
        metric(program.address(), WATERMARK).is_some_and(|seconds| seconds > started + 1.0)
    });
    program.stop();
    assert_eq!(found(&scratch), (expected, rows));
    assert!(scratch.letters("events").is_empty());
}

/// Orders and payments, each of which comes twice, joined by the event time of the stream alone.
const JOINED: &str = r#"
    [streams.events]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "out", interval = "50ms" }]
    event_time = { field = "t", format = "ms", delay = "200ms", idle_timeout = "1s" }
    [[streams.events.transforms]]
    plugin = "dedupe"
    config = { by = ["id"], within = "500ms" }
    [[streams.events.transforms]]
    plugin = "join"
    key = ["user"]
    [streams.events.transforms.config.streams]
    on = ["user"]
    side = "type"
    left = { is = "order", into = "order" }
    right = { is = "payment", into = "payment" }
    after = "60ms"
    kind = "full"
"#;

fn is_payment(id: i64) -> bool {
    id % 3 == 0
}

/// Ids of an order and a payment.
type Pair = (Option<i64>, Option<i64>);

/// Each order with each payment of its user, and what met nothing; those that are late are left out.
fn pairs(records: &[(String, i64, i64)]) -> Vec<Pair> {
    let (mut taken, mut watermark) = (Vec::new(), i64::MIN);
    for record in records {
        if record.1 >= watermark {
            taken.push(record);
        }
        watermark = watermark.max(record.1 - 200);
    }
    let (payments, orders): (Vec<_>, Vec<_>) = taken.into_iter().partition(|(_, _, id)| is_payment(*id));
    let mut pairs = Vec::new();
    let mut is_met = std::collections::BTreeSet::new();
    for (user, time, order) in orders {
        let near = payments.iter().filter(|(of, at, _)| of == user && (*time..=time + 60).contains(at));
        let met: Vec<i64> = near.map(|(_, _, payment)| *payment).collect();
        pairs.extend(met.iter().map(|payment| (Some(*order), Some(*payment))));
        if met.is_empty() {
            pairs.push((Some(*order), None));
        }
        is_met.extend(met);
    }
    pairs.extend(payments.iter().filter(|of| !is_met.contains(&of.2)).map(|of| (None, Some(of.2))));
    pairs.sort_unstable();
    pairs
}

fn delivered_pairs(scratch: &Scratch) -> Vec<Pair> {
    let pair = |line: &String| {
        let row: Value = serde_json::from_str(line).unwrap();
        (row["order"]["id"].as_i64(), row["payment"]["id"].as_i64())
    };
    let mut pairs: Vec<Pair> = objects::lines(&scratch.out()).iter().map(pair).collect();
    pairs.sort_unstable();
    pairs
}

#[test]
fn full_join_gives_what_met_nothing_after_the_idle_timeout_and_once_whatever_ends_the_program() {
    let (Some(binary), Some(scratch)) = (binary(), configured(JOINED, &["dedupe", "join"])) else { return };
    let records: Vec<_> = records().into_iter().take(200).collect();
    let expected = pairs(&records);
    let alone = |side: fn(&Pair) -> bool| expected.iter().filter(|pair| side(pair)).count();
    assert!(alone(|pair| pair.0.is_none()) > 10 && alone(|pair| pair.1.is_none()) > 10, "{expected:?}");
    let newest = records.iter().map(|(_, time, _)| *time).max().unwrap();
    let line = |(user, time, id): &(String, i64, i64)| {
        let kind = if is_payment(*id) { "payment" } else { "order" };
        json!({ "id": id, "user": user, "t": time, "type": kind }).to_string()
    };
    let body: Vec<String> = records.iter().map(line).flat_map(|line| [line.clone(), line]).collect();
    let program = killed_while_silent(&binary, &scratch, &body, newest);
    wait_until("all have left", || delivered_pairs(&scratch) == expected);
    for table in [r#"transform="join",table="sides""#, r#"transform="dedupe",table="passed""#] {
        wait_until("nothing is kept of what is over", || {
            let series = format!("wasmill_state_entries{{stream=\"events\",{table}}}");
            metric(program.address(), &series) == Some(0.0)
        });
    }
    drop(program.kill());
    // Nothing of it is given again, also when event time goes on further.
    let program = Program::start(&binary, &scratch.config());
    let started = wait_for("a watermark", || metric(program.address(), WATERMARK));
    wait_until("event time goes on", || {
        metric(program.address(), WATERMARK).is_some_and(|seconds| seconds > started + 1.0)
    });
    program.stop();
    assert_eq!(delivered_pairs(&scratch), expected);
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn sender_that_is_broken_or_behind_keeps_no_window_open() {
    let options = r#"idle_timeout = "1s", late = "drop", unreadable = "drop""#;
    let (Some(binary), Some(scratch)) = (binary(), scratch(options)) else { return };
    let program = Program::start(&binary, &scratch.config());
    assert!(send(program.address(), 0, &record(1, "u", 6_100)), "{:#?}", program.log());
    let mut sequence = 0;
    wait_until("the window closes although such records come all the time", || {
        sequence += 1;
        let bad = [record(2, "u", 100), r#"{"t":"broken"}"#.to_owned()].join("\n");
        assert!(send(program.address(), sequence, &bad), "{:#?}", program.log());
        !objects::lines(&scratch.out()).is_empty()
    });
    program.stop();
    assert_eq!(found(&scratch), (Counts::from([(("u".to_owned(), 6_000), (1, 1))]), 1));
}

#[test]
fn watermark_is_the_same_after_a_crash_and_after_a_stop() {
    let (Some(binary), Some(scratch)) = (binary(), scratch(r#"late = "drop""#)) else { return };
    let late = |program: &Program| {
        metric(program.address(), "wasmill_stream_records_late_total{stream=\"events\",fate=\"dropped\"}")
    };
    let program = Program::start(&binary, &scratch.config());
    assert!(send(program.address(), 0, &record(1, "u", 5_000)));
    wait_until("a watermark", || metric(program.address(), WATERMARK) == Some(5.0));
    // Only what is durable is there after a crash.
    wait_until("an outcome", || {
        metric(program.address(), "wasmill_stream_records_processed_total{stream=\"events\"}") == Some(1.0)
    });
    drop(program.kill());
    for sequence in 1..3 {
        let program = Program::start(&binary, &scratch.config());
        assert!(send(program.address(), sequence, &record(2, "u", 4_999)), "{:#?}", program.log());
        wait_until("it is late", || late(&program) == Some(1.0));
        assert_eq!(metric(program.address(), WATERMARK), Some(5.0));
        program.stop();
    }
}

/// Without plugins: what the host does with late records.
fn policy(event_time: &str) -> Scratch {
    Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        outputs = [
            {{ type = "directory", path = "out/all", interval = "50ms" }},
            {{ type = "directory", name = "late", path = "out/late", interval = "50ms" }},
        ]
        event_time = {{ field = "t", format = "s", delay = "10s", {event_time} }}
        "#
    ))
}

fn ids(scratch: &Scratch, output: &str) -> Vec<u64> {
    let mut ids = objects::numbers(&scratch.out().join(output), "id");
    ids.sort_unstable();
    ids
}

#[test]
fn late_records_go_where_the_stream_says_and_are_counted() {
    // The watermark is 90 behind the second one: the third is late, the fourth by less than the lateness.
    let times = [("1", "50"), ("2", "100"), ("3", "80"), ("4", "86"), ("5", "100")];
    let body = times.map(|(id, time)| format!("{{\"id\":{id},\"t\":{time}}}")).join("\n");
    for (options, all, late) in [
        (r#"lateness = "5s""#, vec![1, 2, 3, 4, 5], vec![]),
        (r#"lateness = "5s", late = "drop""#, vec![1, 2, 4, 5], vec![]),
        (r#"lateness = "5s", late = "route", late_output = "late""#, vec![1, 2, 4, 5], vec![3]),
    ] {
        let scratch = policy(options);
        let running = Running::start(&scratch.config(), COMPILER);
        running.push("events", &body);
        let stats = running.stats("events");
        wait_until("all have a verdict", || stats.processed.get() == 5);
        let counted: Vec<u64> = stats.event_time.late().iter().map(|(_, count)| *count).collect();
        let expected = match (all.len(), late.len()) {
            (5, _) => [1, 0, 0],
            (_, 0) => [0, 1, 0],
            _ => [0, 0, 1],
        };
        assert_eq!(counted, expected, "{options}");
        assert_eq!(stats.passed.get() + stats.dropped.get(), 5);
        wait_until("the watermark is told", || {
            running.state("events")["event_time"]["watermark_ns"] == 90_000_000_000_i64
        });
        running.drain();
        assert_eq!((ids(&scratch, "all"), ids(&scratch, "late")), (all, late), "{options}");
    }
}

#[test]
fn records_without_a_time_become_dead_letters_unless_the_stream_says_otherwise() {
    let body = "{\"id\":1,\"t\":7}\n{\"id\":2}\n{\"id\":3,\"t\":\"x\"}\n{\"id\":4,\"t\":8}";
    for (options, all, letters) in [
        ("", vec![1, 4], 2),
        (r#"unreadable = "drop""#, vec![1, 4], 0),
        (r#"unreadable = "keep""#, vec![1, 2, 3, 4], 0),
    ] {
        let scratch = policy(options);
        let running = Running::start(&scratch.config(), COMPILER);
        running.push("events", body);
        let stats = running.stats("events");
        wait_until("all have a verdict", || stats.processed.get() == 4);
        assert_eq!((stats.event_time.unreadable.get(), stats.failed.get()), (2, letters));
        running.drain();
        assert_eq!(ids(&scratch, "all"), all, "{options}");
        let found = scratch.letters("events");
        assert_eq!(found.len() as u64, letters);
        if let Some(letter) = found.first() {
            assert_eq!(
                letter["reason"],
                "no event time: field \"t\" is missing or null, or the record is no JSON object"
            );
            assert_eq!(letter["payload"], "{\"id\":2}");
        }
    }
}

/// The guest that numbers how often it was told, or fails then.
fn counting(told: &str, idle_timeout: &str) -> String {
    format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        outputs = [{{ type = "directory", path = "out", interval = "50ms" }}]
        event_time = {{ field = "t", format = "s", idle_timeout = "{idle_timeout}" }}
        [[streams.events.transforms]]
        plugin = "counter"
        config = {{ key = "user", told = "{told}" }}
        "#
    )
}

/// The numbers of the rows that it gave when it was told, and how many other rows there are.
fn told(scratch: &Scratch) -> (Vec<u64>, usize) {
    let lines = objects::lines(&scratch.out());
    let rows: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut numbers: Vec<u64> = rows.iter().filter_map(|row| row["told"].as_u64()).collect();
    numbers.sort_unstable();
    (numbers, rows.iter().filter(|row| row["told"].is_null()).count())
}

#[test]
fn what_plugins_give_and_change_without_records_is_there_once_after_kills() {
    const KILLS: usize = 5;
    let (Some(binary), Some(scratch)) = (binary(), crate::state::scratch(&counting("number", "50ms"))) else {
        return;
    };
    for kill in 0..=KILLS {
        let program = Program::start(&binary, &scratch.config());
        assert!(send(program.address(), kill, &format!("{{\"user\":\"u\",\"t\":{kill}}}")));
        let before = told(&scratch).0.len();
        // At least one of them was given by the idle timeout.
        wait_until("it was told", || told(&scratch).0.len() > before + 2);
        if kill < KILLS {
            drop(program.kill());
        } else {
            program.stop();
        }
    }
    let (numbers, others) = told(&scratch);
    let all: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!((numbers, others), (all, KILLS + 1));
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn plugin_that_fails_when_it_is_told_holds_up_the_stream_and_loses_nothing() {
    let Some(scratch) = crate::state::scratch(&counting("fail", "1h")) else { return };
    let running = Running::start(&scratch.config(), COMPILER);
    running.push("events", "{\"user\":\"u\",\"t\":7}");
    let stats = running.stats("events");
    wait_until("the stream is paused", || {
        stats.paused().is_some_and(|reason| reason.contains("counter") && reason.contains("told to fail"))
    });
    assert_eq!((stats.processed.get(), stats.failed.get()), (0, 0));
    running.crash();
    assert!(objects::lines(&scratch.out()).is_empty() && scratch.letters("events").is_empty());
    // With another config it goes on, and what failed was never there.
    scratch.configure(&counting("number", "1h"));
    let running = Running::start(&scratch.config(), COMPILER);
    wait_until("it goes on", || told(&scratch) == (vec![1], 1));
    running.drain();
    assert_eq!(told(&scratch), (vec![1], 1));
}
