//! Event time of a stream with several sources: none of one that lags is late, and windows wait for all that are waited for.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::Running;
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};

use crate::COMPILER;

const HOUR: i64 = 3_600_000;

/// Records by windows of a second; `EVENT_TIME` is the rest of that table, `SOURCES` what is in the table of sources.
const WINDOWED: &str = r#"
    [streams.events]
    outputs = [{ type = "directory", path = "out", interval = "50ms" }]
    event_time = { field = "t", format = "ms", late = "drop", EVENT_TIME }
    [[streams.events.transforms]]
    plugin = "window"
    key = ["user"]
    [streams.events.transforms.config]
    window = { kind = "tumbling", size = "1s" }
    time_format = "ms"
    by = ["user"]
    aggregates = { n = { op = "count" } }
    [streams.events.sources]
    SOURCES
"#;

const TWO: &str = r#"
    live = { type = "http" }
    slow = { type = "http" }
"#;

/// With the window plugin; `None`, with the reason said, where nobody has built it.
fn scratch(event_time: &str, sources: &str) -> Option<Scratch> {
    let Some(plugins) = std::env::var_os("WASMILL_PLUGINS").map(PathBuf::from) else {
        println!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
        return None;
    };
    let config = WINDOWED.replace("EVENT_TIME", event_time).replace("SOURCES", sources);
    let scratch = Scratch::new(&config);
    scratch.deploy_bytes("window", &fs::read(plugins.join("window.wasm")).unwrap());
    Some(scratch)
}

fn record(user: &str, time: i64) -> String {
    json!({ "user": user, "t": time }).to_string() + "\n"
}

/// Pushes to a source, under the producer's number.
fn send(to: SocketAddr, source: &str, sequence: usize, body: &str) {
    let path = format!("/v1/streams/events/records?source={source}");
    let sequence = format!("wasmill-sequence: {sequence}");
    let headers = ["content-type: application/x-ndjson", "wasmill-producer: p", &sequence];
    let answer = client::request(to, "POST", &path, &headers, body.as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// Users, begins of windows and counts, as they were given.
fn windows(scratch: &Scratch) -> Vec<(String, i64, u64)> {
    let window = |line: &String| {
        let row: Value = serde_json::from_str(line).unwrap();
        let (start, n) = (row["window_start"].as_i64().unwrap(), row["n"].as_u64().unwrap());
        (row["user"].as_str().unwrap().to_owned(), start, n)
    };
    let mut windows: Vec<_> = objects::lines(&scratch.out()).iter().map(window).collect();
    windows.sort();
    windows
}

/// What the stream says of event time.
fn event_time(to: SocketAddr) -> Value {
    client::get(to, "/v1/streams").unwrap().json()[0]["event_time"].clone()
}

/// The watermarks of the stream and its sources by name, and whether they are waited for.
fn marks(to: SocketAddr) -> (Value, Vec<(String, Value, bool)>) {
    let told = event_time(to);
    let sources = told["sources"].as_array().unwrap().iter().map(|source| {
        let name = source["name"].as_str().unwrap().to_owned();
        (name, source["watermark_ns"].clone(), source["waited_for"].as_bool().unwrap())
    });
    (told["watermark_ns"].clone(), sources.collect())
}

#[test]
fn source_that_lags_by_an_hour_has_no_late_record_and_windows_wait_for_it_also_after_kills() {
    const ROUNDS: i64 = 24;
    let (Some(binary), Some(scratch)) = (binary(), scratch(r#"delay = "100ms""#, TWO)) else { return };
    let mut program = Program::start(&binary, &scratch.config());
    for round in 0..ROUNDS {
        if round % 8 == 5 {
            drop(program.kill());
            program = Program::start(&binary, &scratch.config());
        }
        // Half a second of each, and of both within the delay.
        let body = |user: &str, from: i64| -> String {
            [20, 10, 200, 150, 499].iter().map(|more| record(user, from + round * 500 + more)).collect()
        };
        let sequence = usize::try_from(round).unwrap() * 2;
        send(program.address(), "live", sequence, &body("live", HOUR));
        send(program.address(), "slow", sequence + 1, &body("slow", 0));
    }
    let (of_slow, of_live): (Vec<_>, Vec<_>) = (0..ROUNDS / 2)
        .map(|second| (("slow".to_owned(), second * 1000, 10), ("live".to_owned(), HOUR + second * 1000, 10)))
        .unzip();
    // The last window of `slow` is open: its newest record is 11,999, less the delay.
    let closed = of_slow.split_last().unwrap().1;
    wait_until("windows of the one that lags close", || windows(&scratch).len() >= closed.len());
    wait_until("its watermark is the stream's", || {
        let slow = 11_899_000_000_i64;
        let sources = vec![
            ("live".to_owned(), json!(HOUR * 1_000_000 + slow), true),
            ("slow".to_owned(), json!(slow), true),
        ];
        marks(program.address()) == (json!(slow), sources)
    });
    assert_eq!(windows(&scratch), closed);
    drop(program.kill());
    let program = Program::start(&binary, &scratch.config());
    let last = usize::try_from(ROUNDS).unwrap() * 2;
    send(program.address(), "live", last, &record("last", 2 * HOUR));
    send(program.address(), "slow", last + 1, &record("last", 2 * HOUR));
    let all: Vec<_> = of_live.into_iter().chain(of_slow).collect();
    wait_until("all have closed once both have passed", || windows(&scratch).len() >= all.len());
    assert_eq!(event_time(program.address())["late"]["dropped"], 0);
    program.stop();
    assert_eq!(windows(&scratch), all);
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn windows_close_once_the_source_that_they_wait_for_is_silent_while_the_other_one_is_not() {
    let Some(scratch) = scratch(r#"idle_timeout = "4s""#, TWO) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    send(host.address(), "slow", 0, &record("u", 1_000));
    send(host.address(), "live", 1, &record("u", HOUR));
    wait_until("both have come", || {
        let of = |ms: i64| json!(ms * 1_000_000);
        let sources = vec![("live".to_owned(), of(HOUR), true), ("slow".to_owned(), of(1_000), true)];
        marks(host.address()) == (of(1_000), sources)
    });
    let (mut sequence, mut last) = (2, HOUR);
    wait_until("`live` goes on alone", || {
        sequence += 1;
        last += 10;
        send(host.address(), "live", sequence, &record("u", last));
        windows(&scratch).contains(&("u".to_owned(), 1_000, 1))
    });
    wait_until("`slow` is not waited for", || {
        let (reached, sources) = marks(host.address());
        let slow = ("slow".to_owned(), json!(1_000_000_000), false);
        reached.as_i64().unwrap() >= HOUR * 1_000_000 && sources[1] == slow
    });
    wait_until("without records the rest closes too", || {
        windows(&scratch).iter().any(|(_, start, _)| *start == last / 1000 * 1000)
    });
    assert_eq!(windows(&scratch).first(), Some(&("u".to_owned(), 1_000, 1)));
    host.drain();
}

#[test]
fn file_that_is_read_behind_live_records_has_no_late_one_and_is_not_waited_for_once_it_has_ended() {
    const LINES: i64 = 20_000;
    let sources = r#"
        archive = { type = "file", paths = ["archive.ndjson"], follow = false }
        live = { type = "http" }
    "#;
    let Some(scratch) = scratch("", sources) else { return };
    let lines: String = (0..LINES).map(|n| record("archive", n)).collect();
    fs::write(scratch.path("archive.ndjson"), lines).unwrap();
    let host = Running::start(&scratch.config(), COMPILER);
    send(host.address(), "live", 0, &record("live", HOUR));
    send(host.address(), "live", 1, &record("live", HOUR + 5_000));
    let of_archive = (0..LINES / 1000).map(|second| ("archive".to_owned(), second * 1000, 1000));
    let closed: Vec<_> = of_archive.chain([("live".to_owned(), HOUR, 1)]).collect();
    // What closes without a record has an object of its own, which may be there before those of windows that closed earlier.
    wait_until("all windows close but the last of `live`", || windows(&scratch).len() >= closed.len());
    assert_eq!(windows(&scratch), closed);
    let stats = host.stats("events");
    assert_eq!(stats.event_time.late().map(|(_, count)| count), [0; 3]);
    wait_until("it is told that it has ended", || !marks(host.address()).1[0].2);
    host.drain();
}

#[test]
fn source_that_is_taken_out_is_not_waited_for() {
    let Some(scratch) = scratch("", &format!("{TWO}\nold = {{ type = \"http\" }}")) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    for (sequence, source) in ["old", "slow", "live"].into_iter().enumerate() {
        send(host.address(), source, sequence, &record("u", 1_000 + 10 * i64::try_from(sequence).unwrap()));
    }
    send(host.address(), "live", 3, &record("u", 9_000));
    send(host.address(), "slow", 4, &record("u", 8_000));
    wait_until("`old` holds the watermark", || {
        let (reached, sources) = marks(host.address());
        let newest = sources.iter().filter_map(|(_, watermark, _)| watermark.as_i64()).max();
        reached == json!(1_000_000_000) && newest == Some(9_000_000_000)
    });
    let stats = host.stats("events");
    wait_until("all have an outcome", || stats.processed.get() == 5);
    host.drain();
    assert_eq!(windows(&scratch), []);
    scratch.configure(&WINDOWED.replace("EVENT_TIME", "").replace("SOURCES", TWO));
    let host = Running::start(&scratch.config(), COMPILER);
    wait_until("the window closes without a record", || {
        windows(&scratch).contains(&("u".to_owned(), 1_000, 3))
    });
    wait_until("two are left", || {
        let (reached, sources) = marks(host.address());
        reached == json!(8_000_000_000_i64) && sources.len() == 2
    });
    host.drain();
}
