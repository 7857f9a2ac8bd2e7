//! Plugins that trap, loop, take memory without end or lie, in whole hosts: what it costs, and whom.

use wasmill_tests::guest::Guest;
use wasmill_tests::running::{Running, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};

use crate::COMPILER;

const TWO_STREAMS: &str = r#"
    [streams.poisoned]
    source = { type = "http" }
    max_failed_percent = 100
    transforms = [{ plugin = "picky", limits = { memory = "8MiB", deadline = "50ms" } }]
    outputs = [{ type = "directory", path = "out/poisoned", format = "raw", compression = "none" }]
    [streams.healthy]
    source = { type = "http" }
    transforms = [{ plugin = "picky" }]
    outputs = [{ type = "directory", path = "out/healthy", format = "raw", compression = "none", interval = "0s" }]
"#;

#[test]
fn poison_records_become_dead_letters_and_nothing_else_does() {
    let scratch = Scratch::new(TWO_STREAMS);
    let digest = scratch.deploy("picky", &Guest::picky());
    let host = Running::start(&scratch.config(), COMPILER);
    let poison = ["xtrap", "loop", "memory bomb", "zero answer", "error"];
    let mut body = Vec::new();
    let mut good = Vec::new();
    for n in 0..500 {
        if n % 100 == 50 {
            body.push(poison[n / 100].to_owned());
        }
        let line = if n % 10 == 0 { format!("drop {n}") } else { format!("record {n}") };
        if n % 10 != 0 {
            good.push(line.clone());
        }
        body.push(line);
    }
    host.push("poisoned", &body.join("\n"));
    // Another stream of the same plugin goes on meanwhile.
    host.push("healthy", "fine");
    wait_until("the other stream delivers", || !objects::lines(&scratch.path("out/healthy")).is_empty());
    let stats = host.stats("poisoned");
    host.drain();
    let mut found = objects::lines(&scratch.path("out/poisoned"));
    let by_number = |line: &String| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
    found.sort_by_key(by_number);
    good.sort_by_key(by_number);
    assert_eq!(found, good);
    assert_eq!((stats.passed.get(), stats.dropped.get(), stats.failed.get()), (450, 50, 5));
    let letters = scratch.letters("poisoned");
    let payloads: Vec<_> = letters.iter().map(|letter| letter["payload"].as_str().unwrap()).collect();
    assert_eq!(payloads, poison);
    for letter in &letters {
        assert_eq!(letter["plugin"], digest, "{letter}");
        let offset = usize::try_from(letter["offset"].as_u64().unwrap()).unwrap();
        assert_eq!(body[offset], letter["payload"].as_str().unwrap(), "{letter}");
        assert!(!letter["reason"].as_str().unwrap().is_empty(), "{letter}");
    }
    assert!(scratch.letters("healthy").is_empty());
}

#[test]
fn dead_letters_are_not_repeated_by_a_rerun() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        max_failed_percent = 100
        transforms = [{ plugin = "picky" }]
        outputs = [{ type = "directory", path = "out", format = "raw", interval = "1h" }]
        "#,
    );
    scratch.deploy("picky", &Guest::picky());
    for round in 0..4 {
        let host = Running::start(&scratch.config(), COMPILER);
        host.push("events", &format!("ok {round}\nerror {round}\nok again {round}"));
        if round % 2 == 0 {
            let stats = host.stats("events");
            wait_until("the records ran", || stats.slices.get() > 0);
        }
        host.crash();
    }
    Running::start(&scratch.config(), COMPILER).drain();
    let letters = scratch.letters("events");
    let payloads: Vec<_> = letters.iter().map(|letter| letter["payload"].as_str().unwrap()).collect();
    assert_eq!(payloads, ["error 0", "error 1", "error 2", "error 3"]);
    assert_eq!(objects::lines(&scratch.out()).len(), 8);
}

#[test]
fn plugin_without_a_version_before_pauses_its_stream_until_there_is_a_good_one() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        transforms = [{ plugin = "step" }]
        outputs = [{ type = "directory", path = "out", interval = "0s" }]
        "#,
    );
    scratch.deploy("step", &Guest::reject_all());
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &numbered(0, 2_000));
    wait_until("the stream pauses", || host.state("events")["paused"].is_string());
    let reason = host.state("events")["paused"].as_str().unwrap().to_owned();
    assert!(reason.contains("2000 of 2000 records failed"), "{reason}");
    assert!(scratch.letters("events").is_empty(), "letters of a version that was judged bad");
    scratch.deploy("step", &Guest::stamp('2'));
    wait_until("the stream goes on", || host.stats("events").outputs[0].delivered.get() == 2_000);
    assert!(host.state("events")["paused"].is_null());
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..2_000).collect::<Vec<_>>());
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn version_past_the_failure_rate_is_demoted_and_its_records_run_again() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        transforms = [{ plugin = "step" }]
        outputs = [{ type = "directory", path = "out", interval = "0s" }]
        "#,
    );
    scratch.deploy("step", &Guest::stamp('1'));
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &numbered(0, 10));
    scratch.deploy("step", &Guest::reject_all());
    let stats = host.stats("events");
    wait_until("the bad version takes over", || stats.reloads.get() == 1);
    host.push("events", &numbered(10, 3_000));
    wait_until("everything is delivered", || stats.outputs[0].delivered.get() == 3_010);
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..3_010).collect::<Vec<_>>());
    let lines = objects::lines(&scratch.out());
    assert!(lines.iter().all(|line| line.starts_with("{\"v\":\"1\"")), "{:?}", lines.first());
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn bad_versions_are_refused_and_the_one_before_goes_on() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        transforms = [{ plugin = "step" }]
        outputs = [{ type = "directory", path = "out", interval = "0s" }]
        "#,
    );
    scratch.deploy("step", &Guest::stamp('1'));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    let mut sent = 0;
    let mut push = || {
        host.push("events", &numbered(sent, 10));
        sent += 10;
        wait_until("the records are delivered", || stats.outputs[0].delivered.get() == sent);
    };
    push();
    let told = |reason: &str| {
        let plugins = client::get(host.address(), "/v1/plugins").unwrap().body;
        plugins.contains(reason)
    };
    scratch.deploy_bytes("step", b"#!/bin/sh");
    wait_until("the reason is told", || told("not a WebAssembly file"));
    push();
    scratch.deploy("step", &Guest::unconfigurable());
    wait_until("the unwilling version is refused", || stats.reloads_refused.get() == 1);
    wait_until("the reason is told", || told("I have had none"));
    push();
    scratch.deploy("step", &Guest::stamp('2'));
    wait_until("the good version takes over", || stats.reloads.get() == 1);
    push();
    host.drain();
    let lines = objects::lines(&scratch.out());
    let of = |version: char| lines.iter().filter(|line| line.as_bytes()[6] == version as u8).count();
    assert_eq!((lines.len(), of('1'), of('2')), (40, 30, 10));
}

#[test]
fn pinned_version_stays_whatever_lies_in_the_directory() {
    let first = Guest::stamp('1');
    let digest = wasmill_transform::Digest::of(&first.wasm()).to_string();
    let scratch = Scratch::new(&format!(
        r#"
        [streams.pinned]
        source = {{ type = "http" }}
        transforms = [{{ plugin = "step@{digest}" }}]
        outputs = [{{ type = "directory", path = "out/pinned", interval = "0s" }}]
        [streams.free]
        source = {{ type = "http" }}
        transforms = [{{ plugin = "step" }}]
        outputs = [{{ type = "directory", path = "out/free", interval = "0s" }}]
        "#
    ));
    assert_eq!(scratch.deploy("step", &first), digest);
    let host = Running::start(&scratch.config(), COMPILER);
    scratch.deploy("step", &Guest::stamp('2'));
    let free = host.stats("free");
    wait_until("the other stream reloads", || free.reloads.get() == 1);
    for stream in ["pinned", "free"] {
        host.push(stream, &numbered(0, 5));
    }
    assert_eq!(host.stats("pinned").reloads.get(), 0);
    host.drain();
    // After a restart the file of that digest is no longer there, but the host has kept it.
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("pinned", &numbered(5, 5));
    host.drain();
    let versions = |stream: &str| {
        let lines = objects::lines(&scratch.path("out").join(stream));
        lines.iter().map(|line| char::from(line.as_bytes()[6])).collect::<String>()
    };
    assert_eq!((versions("pinned"), versions("free")), ("1".repeat(10), "2".repeat(5)));
}

#[test]
fn full_store_of_dead_letters_pauses_its_stream_alone_also_over_a_restart() {
    let text = |max: &str| {
        format!(
            r#"
            [streams.poisoned]
            source = {{ type = "http" }}
            max_failed_percent = 100
            dead_letters = {{ max_bytes = "{max}" }}
            transforms = [{{ plugin = "picky" }}]
            outputs = [{{ type = "directory", path = "out/poisoned", format = "raw", interval = "0s" }}]
            [streams.healthy]
            source = {{ type = "http" }}
            outputs = [{{ type = "directory", path = "out/healthy", format = "raw", interval = "0s" }}]
            "#
        )
    };
    let scratch = Scratch::new(&text("2KiB"));
    scratch.deploy("picky", &Guest::picky());
    let host = Running::start(&scratch.config(), COMPILER);
    let mut sent = 0;
    wait_until("the store is full", || {
        host.push("poisoned", &format!("error {sent}\nfine {sent}"));
        sent += 1;
        host.state("poisoned")["paused"].is_string()
    });
    host.crash();
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("healthy", "fine");
    wait_until("the other stream delivers", || host.stats("healthy").outputs[0].delivered.get() == 1);
    wait_until("the stream says why it waits", || {
        host.state("poisoned")["paused"].as_str().is_some_and(|reason| reason.contains("dead letters"))
    });
    host.crash();
    scratch.configure(&text("2MiB"));
    Running::start(&scratch.config(), COMPILER).drain();
    let letters = scratch.letters("poisoned");
    let payloads: Vec<_> =
        letters.iter().map(|letter| letter["payload"].as_str().unwrap().to_owned()).collect();
    assert_eq!(payloads, (0..sent).map(|n| format!("error {n}")).collect::<Vec<_>>());
    assert_eq!(objects::lines(&scratch.path("out/poisoned")).len(), sent);
}
