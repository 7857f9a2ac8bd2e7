//! Streaming plugins in a whole host: what they give is exact, whatever ends the program.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};

const WINDOWED: &str = r#"
    [streams.events]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "out", interval = "50ms" }]
    [[streams.events.transforms]]
    plugin = "dedupe"
    config = { by = ["id"], within = "1h", time = "t", time_format = "s", delay = "20s" }
    [[streams.events.transforms]]
    plugin = "window"
    key = ["user"]
    [streams.events.transforms.config]
    window = { kind = "tumbling", size = "1m" }
    time = "t"
    time_format = "s"
    by = ["user"]
    delay = "20s"
    aggregates = { n = { op = "count" }, sum = { op = "sum", field = "id" } }
"#;

/// Components of first-party plugins; `None`, with the reason said, where nobody has built them.
fn scratch(names: &[&str]) -> Option<Scratch> {
    let Some(plugins) = std::env::var_os("WASMILL_PLUGINS").map(PathBuf::from) else {
        println!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
        return None;
    };
    let scratch = Scratch::new(WINDOWED);
    for name in names {
        scratch.deploy_bytes(name, &std::fs::read(plugins.join(format!("{name}.wasm"))).unwrap());
    }
    Some(scratch)
}

/// Pushes under the producer's number until it is answered; whether it was.
fn send(to: SocketAddr, sequence: usize, body: &str) -> bool {
    let sequence = format!("wasmill-sequence: {sequence}");
    let headers = ["content-type: application/x-ndjson", "wasmill-producer: p", &sequence];
    client::push_as(to, "events", &headers, body.as_bytes()).is_ok_and(|answer| answer.status == 200)
}

/// User, time and the record itself: out of order by less than the delay, every fifth one a second time.
fn records() -> Vec<(String, i64, Value)> {
    let record = |id: i64| {
        let (user, time) = (format!("u{}", id % 7), id - id * 7919 % 13);
        (user.clone(), time, json!({ "id": id, "user": user, "t": time }))
    };
    (0..6000).flat_map(|id| std::iter::repeat_n(record(id), if id % 5 == 0 { 2 } else { 1 })).collect()
}

#[test]
fn windows_of_records_without_their_duplicates_are_exact_after_kills() {
    const KILLS: usize = 6;
    let (Some(binary), Some(scratch)) = (binary(), scratch(&["dedupe", "window"])) else { return };
    let records = records();
    let mut expected: BTreeMap<(String, i64), (u64, i64)> = BTreeMap::new();
    let mut last = None;
    for (user, time, record) in &records {
        let id = record["id"].as_i64();
        if id != last {
            let of = expected.entry((user.clone(), time.div_euclid(60) * 60)).or_default();
            *of = (of.0 + 1, of.1 + id.unwrap());
        }
        last = id;
    }
    // A record from far ahead closes all windows but its own.
    let closing = json!({ "id": -1, "user": "last", "t": 1_000_000 });
    let lines: Vec<String> =
        records.iter().map(|(.., record)| record.to_string()).chain([closing.to_string()]).collect();
    let bodies: Vec<String> = lines.chunks(90).map(|lines| lines.join("\n")).collect();
    let mut next = 0;
    for kill in 0..KILLS {
        let program = Program::start(&binary, &scratch.config());
        let until = bodies.len() * (kill + 1) / (KILLS + 1);
        while next < until {
            assert!(send(program.address(), next, &bodies[next]), "{:#?}", program.log());
            next += 1;
        }
        drop(program.kill());
    }
    let program = Program::start(&binary, &scratch.config());
    for (sequence, body) in bodies.iter().enumerate().skip(next) {
        assert!(send(program.address(), sequence, body), "{:#?}", program.log());
    }
    wait_until("all windows have left", || objects::lines(&scratch.out()).len() >= expected.len());
    program.stop();
    let mut found = BTreeMap::new();
    for line in objects::lines(&scratch.out()) {
        let row: Value = serde_json::from_str(&line).unwrap();
        let window = (row["user"].as_str().unwrap().to_owned(), row["window_start"].as_i64().unwrap());
        let before = found.insert(window, (row["n"].as_u64().unwrap(), row["sum"].as_i64().unwrap()));
        assert_eq!(before, None, "a window was given twice: {line}");
    }
    assert_eq!(found, expected);
    assert!(scratch.letters("events").is_empty());
}
