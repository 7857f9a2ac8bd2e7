//! Large objects when nothing can be written where their destination takes them from, or nowhere at all.

use std::fs;

use wasmill_tests::objects;
use wasmill_tests::running::{Running, large, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::servers::Receiver;
use wasmill_tests::wait::wait_until;

use crate::COMPILER;

/// Two outputs that get every record by turns of the plugin: `out`, and `b`.
fn routed(settings: &str) -> Scratch {
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        transforms = [{{ plugin = "route" }}]
        {settings}
        [[streams.events.outputs]]
        type = "directory"
        name = "b"
        path = "b"
        format = "raw"
        interval = "0s"
        "#
    ));
    scratch.deploy("route", &wasmill_tests::guest::Guest::route_by_first_byte());
    scratch
}

/// Records for the output `b`: the plugin routes by the first byte.
fn for_b(n: usize) -> String {
    vec!["b"; n].join("\n")
}

fn large_raw() -> String {
    let line = format!("x{}", "y".repeat(1000));
    vec![line; 400].join("\n")
}

#[test]
fn large_batch_for_a_directory_that_is_gone_delays_nobody_else_and_says_so() {
    let scratch = routed(
        r#"
        [[streams.events.outputs]]
        type = "directory"
        name = "a"
        path = "out"
        format = "raw"
        interval = "0s"
        retry = { initial = "10ms", max = "20ms" }
        "#,
    );
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    fs::rename(scratch.out(), scratch.path("unmounted")).unwrap();
    host.push("events", &large_raw());
    wait_until("the delivery fails", || stats.outputs[0].retries.get() > 3);
    host.push("events", &for_b(7));
    wait_until("the other output delivers", || stats.outputs[1].delivered.get() == 7);
    let state = host.state("events");
    let output = &state["outputs"][0];
    assert_eq!((&output["pending"], &state["paused"]), (&400.into(), &serde_json::Value::Null), "{state:#}");
    let told = output["last_error"].as_str().unwrap();
    assert!(told.contains("directory is missing") && told.contains("No such file"), "{output:#}");
    wait_until("the delay is seen", || host.state("events")["freshness_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(stats.commit_retries.get(), 0);
    // The object waits in the data directory, and is there for the next start too.
    assert_eq!(objects::files(&scratch.path("data/spool")).len(), 1);
    host.crash();
    fs::rename(scratch.path("unmounted"), scratch.out()).unwrap();
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    wait_until("it is delivered", || stats.outputs[0].delivered.get() == 400);
    host.drain();
    let lines: Vec<String> = objects::lines(&scratch.out());
    assert_eq!(lines.len(), 400);
    assert!(objects::files(&scratch.path("data/spool")).is_empty());
    assert!(objects::staged(&scratch.out()).is_empty());
}

#[test]
fn large_batch_that_its_directory_does_not_take_in_time_goes_to_the_fallback() {
    let scratch = routed(
        r#"
        fallback = "b"
        [[streams.events.outputs]]
        type = "directory"
        name = "a"
        path = "out"
        format = "raw"
        interval = "0s"
        retry = { initial = "10ms", max = "20ms", for = "100ms" }
        "#,
    );
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    fs::rename(scratch.out(), scratch.path("unmounted")).unwrap();
    host.push("events", &large_raw());
    wait_until("the fallback takes it", || stats.outputs[0].fallen_back.get() == 400);
    host.drain();
    assert_eq!(objects::lines(&scratch.path("b")).len(), 400);
    assert!(scratch.letters("events").is_empty());
    assert!(objects::files(&scratch.path("data/spool")).is_empty());
}

#[test]
fn batches_that_their_directory_does_not_take_in_time_become_dead_letters_with_their_objects() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        interval = "0s"
        compression = "none"
        retry = { initial = "10ms", max = "20ms", for = "100ms" }
        "#,
    );
    let host = Running::start(&scratch.config(), COMPILER);
    fs::rename(scratch.out(), scratch.path("unmounted")).unwrap();
    let stats = host.stats("events");
    host.push("events", &numbered(0, 10));
    wait_until("the small batch is given up", || stats.outputs[0].delivery_failed.get() == 10);
    host.push("events", &large(10));
    wait_until("the large batch is given up", || stats.outputs[0].delivery_failed.get() == 410);
    host.drain();
    let mut kept = Vec::new();
    for letter in scratch.letters("events") {
        let file =
            scratch.path("data/dead-letters/default/events").join(letter["object"]["file"].as_str().unwrap());
        kept.extend(fs::read_to_string(file).unwrap().lines().map(|line| objects::number(line, "n")));
    }
    assert_eq!(kept, (0..410).collect::<Vec<_>>());
    assert!(objects::files(&scratch.path("data/spool")).is_empty());
}

#[test]
fn stream_whose_outcomes_cannot_be_stored_says_that_it_is_paused_and_goes_on() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        interval = "0s"
        "#,
    );
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    // Neither the destination nor the data directory takes a large object.
    fs::rename(scratch.out(), scratch.path("unmounted")).unwrap();
    fs::rename(scratch.path("data/spool"), scratch.path("data/elsewhere")).unwrap();
    host.push("events", &large(0));
    wait_until("the commit is tried again", || stats.commit_retries.get() > 1);
    let state = host.state("events");
    let reason = state["paused"].as_str().unwrap();
    assert!(reason.contains("outcomes cannot be stored") && reason.contains("spool"), "{reason}");
    wait_until("the delay is seen", || host.state("events")["freshness_seconds"].as_f64().unwrap() > 0.0);
    fs::rename(scratch.path("data/elsewhere"), scratch.path("data/spool")).unwrap();
    fs::rename(scratch.path("unmounted"), scratch.out()).unwrap();
    wait_until("everything is delivered", || stats.outputs[0].delivered.get() == 400);
    assert_eq!(host.state("events")["paused"], serde_json::Value::Null);
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..400).collect::<Vec<_>>());
}

#[test]
fn file_of_a_delivered_batch_goes_although_an_older_outcome_is_still_needed() {
    let (down, slow) = (Receiver::start(&[], 503), Receiver::start(&[(503, Some(2))], 200));
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        transforms = [{{ plugin = "route" }}]
        [[streams.events.outputs]]
        type = "http"
        name = "a"
        url = "{}"
        format = "raw"
        interval = "0s"
        retry = {{ initial = "10ms", max = "50ms" }}
        [[streams.events.outputs]]
        type = "http"
        name = "b"
        url = "{}"
        format = "raw"
        interval = "0s"
        "#,
        down.url(),
        slow.url()
    ));
    scratch.deploy("route", &wasmill_tests::guest::Guest::route_by_first_byte());
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.push("events", "a");
    wait_until("the first output is down", || stats.outputs[0].retries.get() > 0);
    let spool = scratch.path("data/spool");
    let small = objects::files(&spool);
    host.push("events", &vec![format!("b{}", "y".repeat(1000)); 400].join("\n"));
    // By then nothing has happened for two seconds that a checkpoint would have to say.
    wait_until("the second output delivers", || stats.outputs[1].delivered.get() == 400);
    wait_until("its file is gone", || objects::files(&spool) == small);
    assert_eq!(stats.outputs[0].pending.get(), 1);
    down.answer(200);
    host.drain();
    assert!(objects::files(&spool).is_empty());
}

#[test]
fn directory_that_was_made_anew_is_used_again_without_a_restart() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        [[streams.events.outputs]]
        type = "directory"
        path = "mount/out"
        compression = "none"
        interval = "0s"
        retry = { initial = "10ms", max = "20ms" }
        "#,
    );
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    let out = scratch.path("mount/out");
    host.push("events", &numbered(0, 10));
    wait_until("delivery", || stats.outputs[0].delivered.get() == 10);
    fs::remove_dir_all(&out).unwrap();
    host.push("events", &numbered(10, 10));
    host.push("events", &large(20));
    wait_until("deliveries fail", || stats.outputs[0].retries.get() > 3);
    // Nothing is written where the directory is not.
    assert!(!out.exists());
    let told = stats.outputs[0].last_error().unwrap();
    assert!(told.contains("destination directory is missing") && told.contains("No such file"), "{told}");
    fs::create_dir(&out).unwrap();
    wait_until("delivery goes on", || stats.outputs[0].delivered.get() == 420);
    assert_eq!(stats.outputs[0].last_error(), None);
    host.push("events", &large(420));
    host.drain();
    let mut numbers = objects::numbers(&out, "n");
    numbers.sort_unstable();
    assert_eq!(numbers, (10..820).collect::<Vec<_>>());
    assert!(objects::staged(&out).is_empty() && objects::files(&scratch.path("data/spool")).is_empty());
}
