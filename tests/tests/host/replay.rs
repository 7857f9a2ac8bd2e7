//! Dead letters are listed, purged and replayed: nothing is lost and nothing is there twice, whenever the host ends.

use std::fs;

use serde_json::Value;
use wasmill_tests::client::{self, Answer};
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::running::Running;
use wasmill_tests::scratch::Scratch;
use wasmill_tests::servers::Receiver;
use wasmill_tests::wait::wait_until;

use crate::COMPILER;

const LETTERS: &str = "/v1/streams/events/dead-letters";

fn ask(host: &Running, method: &str, path: &str) -> Answer {
    client::request(host.address(), method, &format!("{LETTERS}{path}"), &[], b"").unwrap()
}

/// The same, which must succeed.
fn asked(host: &Running, method: &str, path: &str) -> Value {
    let answer = ask(host, method, path);
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
    answer.json()
}

fn told(answer: &Value) -> (u64, u64, u64, u64) {
    let count = |name: &str| answer[name].as_u64().unwrap();
    (count("tried"), count("passed"), count("dropped"), count("failed"))
}

/// A stream whose plugin is `step`.
const EVENTS: &str = r#"
    [streams.events]
    source = { type = "http" }
    max_failed_percent = 100
    transforms = [{ plugin = "step" }]
    outputs = [{ type = "directory", path = "out", format = "raw", compression = "none", interval = "0s" }]
"#;

/// Records that `Guest::picky` fails on.
fn poison(from: u64, n: u64) -> String {
    (from..from + n).map(|n| format!("error {n}")).collect::<Vec<_>>().join("\n")
}

fn sorted(dir: &std::path::Path) -> Vec<String> {
    let mut lines = objects::lines(dir);
    lines.sort_by_key(|line| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()));
    lines
}

fn expected(n: u64) -> Vec<String> {
    (0..n).map(|n| format!("error {n}")).collect()
}

#[test]
fn letters_outlive_a_restart_and_are_read_in_pages() {
    let scratch = Scratch::new(EVENTS);
    let digest = scratch.deploy("step", &Guest::picky());
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &format!("{}\nfine", poison(0, 7)));
    wait_until("the letters are kept", || scratch.letters("events").len() == 7);
    host.crash();
    let host = Running::start(&scratch.config(), COMPILER);
    let page = asked(&host, "GET", "?limit=3");
    let numbers: Vec<_> =
        page["letters"].as_array().unwrap().iter().map(|l| l["number"].as_u64().unwrap()).collect();
    assert_eq!((numbers, &page["next"], &page["count"]), (vec![1, 2, 3], &3.into(), &7.into()));
    let page = asked(&host, "GET", "?limit=100&after=3");
    assert_eq!((page["letters"].as_array().unwrap().len(), &page["next"]), (4, &Value::Null));
    let letter = asked(&host, "GET", "/5");
    assert_eq!((&letter["payload"], &letter["plugin"]), (&"error 4".into(), &digest.as_str().into()));
    assert_eq!(
        (&letter["stage"], &letter["transform"], &letter["attempts"]),
        (&"transform".into(), &"step".into(), &1.into())
    );
    assert_eq!(asked(&host, "GET", "?from_offset=2&to_offset=3")["letters"].as_array().unwrap().len(), 2);
    // What is wrong is refused, and says so.
    for (method, path, status, word) in [
        ("GET", "/99", 404, "no dead letter 99"),
        ("GET", "?colour=red", 400, "colour"),
        ("GET", "?limit=100000", 400, "at most"),
        ("DELETE", "", 400, "all=true"),
        ("POST", "/replay?plugin=other%40sha256:00", 400, "name@sha256"),
    ] {
        let answer = ask(&host, method, path);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert!(answer.body.contains(word), "{method} {path}: {}", answer.body);
    }
    let nowhere = client::get(host.address(), "/v1/streams/nowhere/dead-letters").unwrap();
    assert_eq!(nowhere.status, 404, "{}", nowhere.body);
    assert_eq!(asked(&host, "DELETE", "/5")["removed"], 1);
    assert_eq!(asked(&host, "DELETE", "?number=1-3")["removed"], 3);
    assert_eq!(asked(&host, "DELETE", "?all=true")["removed"], 3);
    host.crash();
    assert!(scratch.letters("events").is_empty());
    Running::start(&scratch.config(), COMPILER).drain();
    assert!(scratch.letters("events").is_empty(), "letters came back");
}

#[test]
fn replay_runs_a_mended_plugin_and_removes_what_succeeds() {
    let scratch = Scratch::new(EVENTS);
    scratch.deploy("step", &Guest::picky());
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &poison(0, 50));
    let stats = host.stats("events");
    wait_until("the letters are kept", || stats.dead_letters.kept.get() == 50);
    // Nothing is mended yet: each stays under its number, with one attempt more.
    assert_eq!(told(&asked(&host, "POST", "/replay?number=1-10")), (10, 0, 0, 10));
    let letters = scratch.letters("events");
    assert_eq!(letters.len(), 50);
    assert_eq!((&letters[9]["attempts"], &letters[10]["attempts"]), (&2.into(), &1.into()));
    scratch.deploy("step", &Guest::pass(7));
    wait_until("the plugin is reloaded", || stats.reloads.get() == 1);
    let answer = asked(&host, "POST", "/replay?limit=20");
    assert_eq!((told(&answer), &answer["next"]), ((20, 20, 0, 0), &20.into()));
    let answer = asked(&host, "POST", "/replay");
    assert_eq!((told(&answer), &answer["next"]), ((30, 30, 0, 0), &Value::Null));
    assert!(scratch.letters("events").is_empty());
    host.push("events", "error 50");
    host.drain();
    assert_eq!(sorted(&scratch.out()), expected(51));
    assert_eq!(stats.dead_letters.replayed.get(), 50);
    assert_eq!((stats.failed.get(), stats.emitted.get()), (50, 51));
}

#[test]
fn replay_runs_a_named_version_and_leaves_the_current_one_in_place() {
    let scratch = Scratch::new(EVENTS);
    let mended = scratch.deploy("step", &Guest::pass(3));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    let failing = scratch.deploy("step", &Guest::reject_all());
    wait_until("the plugin is reloaded", || stats.reloads.get() == 1);
    host.push("events", &poison(0, 5));
    wait_until("the letters are kept", || stats.dead_letters.kept.get() == 5);
    let unknown = ask(&host, "POST", &format!("/replay?plugin=step@sha256:{}", "0".repeat(64)));
    assert_eq!(unknown.status, 400, "{}", unknown.body);
    assert_eq!(told(&asked(&host, "POST", &format!("/replay?plugin=step@{mended}"))), (5, 5, 0, 0));
    host.push("events", "error 5");
    wait_until("the current version still fails", || stats.dead_letters.kept.get() == 1);
    host.drain();
    let letters = scratch.letters("events");
    assert_eq!((letters.len(), &letters[0]["plugin"]), (1, &failing.as_str().into()));
    assert_eq!(sorted(&scratch.out()), expected(5));
}

#[test]
fn object_that_was_given_up_is_sent_again_under_its_name() {
    let receiver = Receiver::start(&[], 400);
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        [[streams.events.outputs]]
        type = "http"
        url = "{}"
        format = "raw"
        compression = "none"
        interval = "0s"
        "#,
        receiver.url()
    ));
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", "error 0\nerror 1");
    let stats = host.stats("events");
    wait_until("the object is a letter", || stats.dead_letters.delivery.get() == 1);
    assert_eq!(told(&asked(&host, "POST", "/replay")), (1, 0, 0, 1));
    let letter = asked(&host, "GET", "/1");
    assert_eq!((&letter["attempts"], &letter["stage"]), (&2.into(), &"delivery".into()));
    host.crash();
    receiver.answer(200);
    let host = Running::start(&scratch.config(), COMPILER);
    assert_eq!(told(&asked(&host, "POST", "/replay")), (1, 1, 0, 0));
    host.drain();
    let received = receiver.received();
    let taken: Vec<_> = received.iter().filter(|received| received.status == 200).collect();
    assert_eq!(taken.len(), 1);
    // The same request as before, batch id and all.
    assert_eq!(taken[0].headers, received[0].headers);
    assert_eq!(taken[0].body, "error 0\nerror 1\n");
    assert!(scratch.letters("events").is_empty());
    let kept = fs::read_dir(scratch.path("data/dead-letters/default/events/objects")).unwrap();
    assert_eq!(kept.count(), 0);
}

#[test]
fn object_that_found_no_place_is_put_into_the_directory_once_it_can_be_written() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        object = "sub/{batch}{extension}"
        format = "raw"
        compression = "none"
        interval = "0s"
        retry = { initial = "5ms", max = "10ms", for = "100ms" }
        "#,
    );
    // A way that leads nowhere.
    fs::create_dir_all(scratch.out()).unwrap();
    std::os::unix::fs::symlink("sub", scratch.path("out/sub")).unwrap();
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", "error 0\nerror 1");
    let stats = host.stats("events");
    wait_until("the object is a letter", || stats.dead_letters.delivery.get() == 1);
    assert_eq!(told(&asked(&host, "POST", "/replay")), (1, 0, 0, 1));
    let letter = asked(&host, "GET", "/1");
    fs::remove_file(scratch.path("out/sub")).unwrap();
    assert_eq!(told(&asked(&host, "POST", "/replay")), (1, 1, 0, 0));
    host.drain();
    let files = objects::files(&scratch.out());
    assert_eq!(files.len(), 1);
    assert!(files[0].ends_with(letter["object"]["name"].as_str().unwrap()), "{files:?}");
    assert_eq!(sorted(&scratch.out()), expected(2));
    assert!(scratch.letters("events").is_empty() && objects::staged(&scratch.out()).is_empty());
}

#[test]
fn full_store_goes_on_by_itself_when_letters_are_purged_or_replayed() {
    let scratch = Scratch::new(
        &EVENTS.replace("max_failed", "dead_letters = { max_bytes = \"4KiB\" }\n    max_failed"),
    );
    scratch.deploy("step", &Guest::picky());
    let mut host = Running::start(&scratch.config(), COMPILER);
    let mut sent = 0;
    let mut purged = 0;
    for round in 0..3 {
        // One after another, so that what waits for room is one letter.
        let paused = || host.state("events")["paused"].is_string();
        let stats = host.stats("events");
        while !paused() {
            host.push("events", &format!("error {} {sent}", "x".repeat(900)));
            sent += 1;
            let before = stats.processed.get();
            wait_until("the record has its verdict", || stats.processed.get() > before || paused());
        }
        let metrics = client::get(host.address(), "/metrics").unwrap().body;
        assert!(metrics.contains("wasmill_stream_paused{stream=\"events\"} 1"), "{metrics}");
        match round {
            0 => purged = asked(&host, "DELETE", "?all=true")["removed"].as_u64().unwrap(),
            _ => {
                if round == 2 {
                    // Also when the letters of an earlier run are what waits for room.
                    host.crash();
                    host = Running::start(&scratch.config(), COMPILER);
                    wait_until("the store is full still", || host.state("events")["paused"].is_string());
                }
                replay_through(&scratch, &host, round);
            }
        }
        wait_until("the stream goes on", || host.state("events")["paused"].is_null());
    }
    replay_through(&scratch, &host, 9);
    host.drain();
    let left = scratch.letters("events").len() as u64;
    assert_eq!(objects::lines(&scratch.out()).len() as u64 + left + purged, sent);
}

/// Replays everything through a version that lets it pass, and puts the one that fails back.
fn replay_through(scratch: &Scratch, host: &Running, salt: u32) {
    let version = scratch.deploy("step", &Guest::pass(salt));
    let path = format!("/replay?plugin=step@{version}");
    wait_until("the host knows the version", || ask(host, "POST", &path).status == 200);
    scratch.deploy("step", &Guest::picky());
}

#[test]
fn replay_that_crashed_before_its_letters_were_removed_runs_nothing_twice() {
    // The batch of the replay cannot be delivered yet, so its outcome is what the next start finds.
    let receiver = Receiver::start(&[], 503);
    let text = format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        max_failed_percent = 100
        transforms = [{{ plugin = "step" }}]
        [[streams.events.outputs]]
        type = "http"
        url = "{}"
        format = "raw"
        compression = "none"
        interval = "0s"
        retry = {{ initial = "5ms", max = "20ms", for = "1h" }}
        "#,
        receiver.url()
    );
    let scratch = Scratch::new(&text);
    scratch.deploy("step", &Guest::picky());
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &poison(0, 30));
    let stats = host.stats("events");
    wait_until("the letters are kept", || stats.dead_letters.kept.get() == 30);
    scratch.deploy("step", &Guest::pass(1));
    wait_until("the plugin is reloaded", || stats.reloads.get() == 1);
    let file = scratch.path("data/dead-letters/default/events/letters.ndjson");
    let before = fs::read(&file).unwrap();
    assert_eq!(told(&asked(&host, "POST", "/replay?limit=20")), (20, 20, 0, 0));
    host.crash();
    // As if the crash had come between the outcome and the change of the file.
    fs::write(&file, before).unwrap();
    // Where the file is written anew there is something else, so that the change fails.
    let part = file.with_extension("part");
    fs::create_dir(&part).unwrap();
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    for (method, path) in [("POST", "/replay"), ("GET", ""), ("DELETE", "?all=true")] {
        let answer = ask(&host, method, path);
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert!(answer.body.contains("cannot be removed yet"), "{}", answer.body);
    }
    fs::remove_dir(&part).unwrap();
    wait_until("the letters are gone", || stats.dead_letters.kept.get() == 10);
    assert_eq!(told(&asked(&host, "POST", "/replay")), (10, 10, 0, 0));
    receiver.answer(200);
    wait_until("everything is delivered", || stats.outputs[0].pending.get() == 0);
    host.drain();
    let mut lines: Vec<String> = receiver
        .received()
        .iter()
        .filter(|received| received.status == 200)
        .flat_map(|received| {
            String::from_utf8_lossy(&received.body).lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    lines.sort_by_key(|line| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()));
    assert_eq!(lines, expected(30));
}

#[test]
fn replays_that_are_cut_off_anywhere_deliver_each_record_once() {
    let scratch = Scratch::new(EVENTS);
    scratch.deploy("step", &Guest::picky());
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &poison(0, 400));
    let stats = host.stats("events");
    wait_until("the letters are kept", || stats.dead_letters.kept.get() == 400);
    host.drain();
    scratch.deploy("step", &Guest::pass(1));
    for round in 0..8_u64 {
        let host = Running::start(&scratch.config(), COMPILER);
        let stats = host.stats("events");
        let address = host.address();
        let client = std::thread::spawn(move || {
            // Cut off somewhere.
            while let Ok(answer) =
                client::request(address, "POST", &format!("{LETTERS}/replay?limit=7"), &[], b"")
                && answer.status == 200
                && answer.json()["next"].is_u64()
            {}
        });
        wait_until("some are replayed", || {
            stats.dead_letters.replayed.get() >= round * 3 || stats.dead_letters.kept.get() == 0
        });
        host.crash();
        client.join().unwrap();
    }
    let host = Running::start(&scratch.config(), COMPILER);
    asked(&host, "POST", "/replay");
    host.drain();
    assert!(scratch.letters("events").is_empty());
    assert_eq!(sorted(&scratch.out()), expected(400));
}

#[test]
fn row_that_no_record_stands_behind_is_never_lost_to_a_replay() {
    let events = EVENTS.replace("format = \"raw\"", "format = \"ndjson\"");
    let scratch = Scratch::new(&events);
    scratch.deploy("step", &Guest::row_of_its_own());
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", r#"{"n":0}"#);
    wait_until("the letter of the row", || scratch.letters("events").len() == 1);
    let row = scratch.letters("events");
    assert_eq!((&row[0]["offset"], &row[0]["stage"]), (&(-1).into(), &"encode".into()), "{row:#?}");
    // It has no bytes that could run: it stays, and is not counted as tried.
    assert_eq!(told(&asked(&host, "POST", "/replay")), (0, 0, 0, 0));
    scratch.deploy("step", &Guest::reject_all());
    wait_until("the version that rejects", || host.stats("events").reloads.get() == 1);
    host.push("events", r#"{"n":1}"#);
    wait_until("its letter", || scratch.letters("events").len() == 2);
    scratch.deploy("step", &Guest::row_of_its_own().salted(1));
    wait_until("the version with a row of its own", || host.stats("events").reloads.get() == 2);
    let before = scratch.letters("events");
    // The record would pass; but its row fails, and no letter could be kept of that.
    let answer = ask(&host, "POST", "/replay");
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body.contains("which no letter stands for"), "{}", answer.body);
    assert_eq!(scratch.letters("events"), before);
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), [0]);
}
