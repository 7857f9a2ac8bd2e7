//! Dead letters of plugins that keep state: what failed was never there, and what is replayed counts once.

use std::net::SocketAddr;

use serde_json::{Value, json};
use wasmill_tests::client;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::Running;
use wasmill_tests::scratch::{Scratch, apart};
use wasmill_tests::wait::wait_until;

use crate::COMPILER;
use crate::state::{COUNTED, Counted, counted, scratch, user};

/// A hundred users, and the first of them once more, where the tenant has room for some: what was counted, and the letters of the
/// others.
pub(crate) fn counted_within_a_quota(config: &str) -> Option<(Scratch, Counted, Vec<Value>)> {
    let scratch = scratch(&format!("[quota]\nstate_bytes = \"4KiB\"\n{config}"))?;
    let host = Running::start(&scratch.config(), COMPILER);
    let body: Vec<String> = (0..100).map(|n| user(n, &format!("user-{n}"), "-")).collect();
    host.push("events", &body.join("\n"));
    host.push("events", &user(200, "user-0", "-"));
    let stats = host.stats("events");
    wait_until("all are processed", || stats.processed.get() == 101);
    host.drain();
    let before = counted(&scratch);
    assert!((20..60).contains(&before.len()), "{}", before.len());
    let letters = scratch.letters("events");
    assert_eq!(letters.len() + before.len(), 101);
    Some((scratch, before, letters))
}

#[test]
fn letters_that_are_replayed_go_on_where_the_state_is_and_quota_is_one_of_the_tenants() {
    let Some((scratch, before, letters)) = counted_within_a_quota(COUNTED) else { return };
    assert_eq!(before[&200], ("user-0".to_owned(), 2));
    let reason = letters[0]["reason"].as_str().unwrap();
    assert!(reason.contains("quota of state (state_bytes, 4096 bytes)"), "{reason}");
    // With room they pass, and each is counted once.
    scratch.configure(COUNTED);
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &user(201, "user-99", "-"));
    wait_until("it has left", || counted(&scratch).contains_key(&201));
    let answer =
        client::request(host.address(), "POST", "/v1/streams/events/dead-letters/replay", &[], b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["passed"], letters.len(), "{}", answer.body);
    host.push("events", &user(202, "user-99", "-"));
    host.drain();
    let after = counted(&scratch);
    assert_eq!(after.len(), 103);
    let of = |n: u64| after[&n].1;
    assert_eq!((of(201), of(99), of(202)), (1, 2, 3));
    assert!(before.iter().all(|(n, counted)| after[n] == *counted));
    assert!((1..99).all(|n| of(n) == 1));
}

#[test]
fn records_whose_changes_find_no_room_count_as_refusals_of_the_quota() {
    for config in [COUNTED.to_owned(), apart(COUNTED)] {
        let Some(scratch) = scratch(&format!("{config}[quota]\nstate_bytes = \"4KiB\"\n")) else { return };
        let host = Running::start(&scratch.config(), COMPILER);
        let body: Vec<String> = (0..100).map(|n| user(n, &format!("user-{n}"), "-")).collect();
        host.push("events", &body.join("\n"));
        let stats = host.stats("events");
        wait_until("all are processed", || stats.processed.get() == 100);
        let refused = stats.failed.get();
        assert!((40..80).contains(&refused), "{refused}");
        let shown = client::get(host.address(), "/v1/quotas").unwrap().json();
        let of_state =
            shown["quotas"].as_array().unwrap().iter().find(|quota| quota["quota"] == "state_bytes");
        assert_eq!(of_state.unwrap()["refused"], refused, "{shown}");
        let metrics = client::get(host.address(), "/metrics").unwrap().body;
        let of_state = |line: &&str| {
            line.starts_with("wasmill_quota_refusals_total") && line.contains("quota=\"state_bytes\"")
        };
        let line = metrics.lines().find(of_state).unwrap();
        assert!(line.ends_with(&format!(" {refused}")), "{line}");
        host.drain();
    }
}

/// What the counter has of this key, as the store tells it.
fn sum(address: SocketAddr, key: &str) -> i64 {
    let path = format!("/v1/streams/events/state/counter/counts?key={key}");
    let page = client::get(address, &path).unwrap();
    if page.status == 404 { 0 } else { page.json()["entries"][0]["sum"].as_i64().unwrap_or(0) }
}

fn replay(address: SocketAddr) -> Value {
    let path = "/v1/streams/events/dead-letters/replay";
    let answer = client::request(address, "POST", path, &[], b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// The counter before columns.
fn in_columns(columns: &str, more: &str) -> String {
    let parquet = format!(
        "format = \"parquet\", parquet = {{ schema = \"user: string, n: {columns}, count: int64\" }}"
    );
    COUNTED.replace("interval = \"50ms\" }", &format!("interval = \"50ms\", {parquet} }}{more}"))
}

#[test]
fn record_that_does_not_fit_its_columns_counts_when_it_is_replayed_and_once() {
    let Some(scratch) = scratch(&in_columns("int64", "")) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    let text = |name: &str| json!({ "user": name, "n": "none", "do": "-" }).to_string();
    let lines: Vec<String> =
        (0..40).map(|n| if n % 4 == 3 { text("a") } else { user(n, "a", "-") }).collect();
    host.push("events", &lines.join("\n"));
    wait_until("what fits is counted", || sum(host.address(), "a") == 30);
    host.drain();
    let letters = scratch.letters("events");
    assert_eq!(letters.len(), 10);
    assert!(letters.iter().all(|letter| letter["stage"] == "encode" && letter["payload"] == text("a")));
    // As long as they do not fit nothing is counted, however often they are tried.
    let host = Running::start(&scratch.config(), COMPILER);
    for _ in 0..2 {
        let answer = replay(host.address());
        assert_eq!((&answer["passed"], &answer["failed"]), (&json!(0), &json!(10)), "{answer}");
    }
    host.push("events", &user(100, "b", "-"));
    wait_until("the state has come that far", || sum(host.address(), "b") == 1);
    assert_eq!(sum(host.address(), "a"), 30);
    host.drain();
    scratch.configure(&in_columns("string", ""));
    let host = Running::start(&scratch.config(), COMPILER);
    let answer = replay(host.address());
    assert_eq!((&answer["passed"], &answer["failed"]), (&json!(10), &json!(0)), "{answer}");
    wait_until("they are counted", || sum(host.address(), "a") == 40);
    assert_eq!(replay(host.address())["tried"], 0);
    host.drain();
    let host = Running::start(&scratch.config(), COMPILER);
    assert_eq!(sum(host.address(), "a"), 40);
    host.drain();
}

#[test]
fn row_that_does_not_fit_when_it_is_sealed_is_not_counted_again_by_a_replay() {
    let Some(binary) = binary() else { return };
    // Outcomes come as often as the other output wants them, and the rows wait.
    let other = ", { name = \"often\", type = \"directory\", path = \"often\", interval = \"50ms\" }";
    let config =
        |columns: &str| in_columns(columns, other).replacen("interval = \"50ms\"", "interval = \"1h\"", 1);
    let Some(scratch) = scratch(&config("string")) else { return };
    let program = Program::start(&binary, &scratch.config());
    let lines: Vec<String> = (0..20)
        .map(|n| json!({ "user": "a", "n": if n % 4 == 3 { "none".to_owned() } else { n.to_string() }, "do": "-" }))
        .map(|line| line.to_string())
        .collect();
    assert_eq!(client::push(program.address(), "events", &lines.join("\n")).unwrap().status, 200);
    wait_until("their outcome is durable", || sum(program.address(), "a") == 20);
    program.kill();
    // These columns take none of the rows that wait.
    scratch.configure(&config("int64"));
    Program::start(&binary, &scratch.config()).stop();
    assert_eq!(scratch.letters("events").len(), 20);
    let program = Program::start(&binary, &scratch.config());
    let answer = replay(program.address());
    assert_eq!((&answer["passed"], &answer["failed"]), (&json!(0), &json!(20)), "{answer}");
    assert_eq!(client::push(program.address(), "events", &user(100, "b", "-")).unwrap().status, 200);
    wait_until("the state has come that far", || sum(program.address(), "b") == 1);
    assert_eq!(sum(program.address(), "a"), 20);
    program.stop();
    let letters = scratch.letters("events");
    assert_eq!(letters.len(), 20);
    let reason = letters[0]["reason"].as_str().unwrap();
    assert!(reason.contains("keep state") && letters[0]["attempts"] == 2, "{reason}");
}

#[test]
fn replay_and_drop_that_would_wait_for_room_among_dead_letters_are_refused() {
    let small = "max_failed_percent = 100\n    dead_letters = { max_bytes = \"64KiB\" }";
    let Some(scratch) = scratch(&COUNTED.replace("max_failed_percent = 100", small)) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &user(0, "a", "-"));
    wait_until("it is counted", || sum(host.address(), "a") == 1);
    let long = "x".repeat(1000);
    let lines: Vec<String> =
        (1..80).map(|n| json!({ "user": "a", "n": n, "do": "fail", "long": long }).to_string()).collect();
    host.push("events", &lines.join("\n"));
    wait_until("the letters are full", || host.stats("events").paused().is_some());
    let replay = client::request(host.address(), "POST", "/v1/streams/events/dead-letters/replay", &[], b"");
    let dropped = client::request(host.address(), "DELETE", "/v1/streams/events/state?all=true", &[], b"");
    for answer in [replay.unwrap(), dropped.unwrap()] {
        assert!(
            answer.status >= 500 && answer.body.contains("purge some"),
            "{} {}",
            answer.status,
            answer.body
        );
    }
    // With room it goes on.
    let purge =
        client::request(host.address(), "DELETE", "/v1/streams/events/dead-letters?all=true", &[], b"");
    assert_eq!(purge.unwrap().status, 200);
    wait_until("it goes on", || host.stats("events").paused().is_none());
    let dropped = client::request(host.address(), "DELETE", "/v1/streams/events/state?all=true", &[], b"");
    assert_eq!(dropped.unwrap().json()["dropped"], 2);
    host.drain();
}
