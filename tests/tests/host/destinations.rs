//! Directories and HTTP endpoints that are down, slow, denying or taken by somebody else, and what takes their place.

use std::fs;
use std::time::Duration;

use wasmill_tests::objects;
use wasmill_tests::running::{Running, large, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::servers::Receiver;
use wasmill_tests::wait::wait_until;

use crate::COMPILER;

#[test]
fn endpoint_that_answers_503_is_asked_again_after_the_time_that_it_named() {
    let receiver = Receiver::start(&[(503, Some(1)), (429, None)], 200);
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        [[streams.events.outputs]]
        type = "http"
        url = "{}"
        interval = "0s"
        retry = {{ initial = "10ms", max = "20ms" }}
        "#,
        receiver.url()
    ));
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &numbered(0, 3));
    let stats = host.stats("events");
    wait_until("the batch is delivered", || stats.outputs[0].delivered.get() == 3);
    assert_eq!(stats.outputs[0].retries.get(), 2);
    host.drain();
    let received = receiver.received();
    assert_eq!(received.iter().map(|request| request.status).collect::<Vec<_>>(), [503, 429, 200]);
    assert!(received[1].at.duration_since(received[0].at) >= Duration::from_secs(1));
    let keys: Vec<_> = received.iter().map(|request| &request.headers["idempotency-key"]).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "a batch got another key");
    assert_eq!(received[2].body, format!("{}\n", numbered(0, 3)));
}

#[test]
fn requests_of_an_ordered_output_come_in_the_order_of_their_records() {
    let receiver = Receiver::start(&[(200, None), (500, None), (200, None), (503, None)], 200);
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        [[streams.events.outputs]]
        type = "http"
        url = "{}"
        interval = "0s"
        retry = {{ initial = "5ms", max = "10ms" }}
        "#,
        receiver.url()
    ));
    let host = Running::start(&scratch.config(), COMPILER);
    for n in 0..30 {
        host.push("events", &numbered(n, 1));
    }
    host.drain();
    let taken = receiver.received().into_iter().filter(|request| request.status == 200);
    let bodies: Vec<String> =
        taken.map(|request| String::from_utf8(request.body.to_vec()).unwrap()).collect();
    let numbers: Vec<u64> = bodies.concat().lines().map(|line| objects::number(line, "n")).collect();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
}

#[test]
fn batch_that_is_given_up_becomes_a_dead_letter_with_its_object_once() {
    let receiver = Receiver::start(&[], 503);
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        [[streams.events.outputs]]
        type = "http"
        url = "{}"
        size = "1KiB"
        interval = "1h"
        retry = {{ initial = "10ms", max = "50ms", for = "900ms" }}
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        interval = "0s"
        "#,
        receiver.url()
    ));
    // The first outcome holds rows of a batch that the second one seals: the letter's offset lies before both, when it
    // is written and perhaps, after the crash, written again.
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &numbered(0, 20));
    host.push("events", &numbered(20, 80));
    wait_until("the letter is kept", || !scratch.letters("events").is_empty());
    host.crash();
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.drain();
    let letters = scratch.letters("events");
    let mut kept = Vec::new();
    for letter in &letters {
        assert_eq!(
            (&letter["stage"], &letter["reason"]),
            (&"delivery".into(), &"the endpoint answered 503".into())
        );
        let object = letter["object"]["file"].as_str().unwrap();
        let file = scratch.path("data/dead-letters/default/events").join(object);
        kept.extend(fs::read_to_string(file).unwrap().lines().map(|line| objects::number(line, "n")));
    }
    kept.sort_unstable();
    assert_eq!(kept, (0..100).collect::<Vec<_>>(), "{letters:#?}");
    assert_eq!(stats.outputs[0].delivered.get(), 0);
    assert!(objects::files(&scratch.path("data/spool")).is_empty());
}

#[test]
fn refused_batches_go_to_the_fallback_output_whole() {
    let receiver = Receiver::start(&[], 400);
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        fallback = "rescue"
        [[streams.events.outputs]]
        type = "http"
        url = "{}"
        interval = "0s"
        [[streams.events.outputs]]
        type = "directory"
        name = "rescue"
        path = "out"
        "#,
        receiver.url()
    ));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.push("events", &numbered(1000, 10));
    host.push("events", &large(0));
    host.drain();
    let mut expected: Vec<u64> = (0..400).chain(1000..1010).collect();
    expected.sort_unstable();
    assert_eq!(objects::numbers(&scratch.out(), "n"), expected);
    assert_eq!((stats.outputs[0].fallen_back.get(), stats.outputs[0].delivery_failed.get()), (410, 410));
    assert!(scratch.letters("events").is_empty());
    assert!(objects::staged(&scratch.out()).is_empty());
    assert!(objects::files(&scratch.path("data/spool")).is_empty());
}

#[test]
fn stop_during_the_fallback_leaves_the_staged_object_for_the_next_start() {
    let receiver = Receiver::start(&[], 400);
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        fallback = "rescue"
        [[streams.events.outputs]]
        type = "http"
        url = "{}"
        interval = "0s"
        [[streams.events.outputs]]
        type = "directory"
        name = "rescue"
        path = "out"
        retry = {{ initial = "10ms", max = "20ms" }}
        "#,
        receiver.url()
    ));
    let host = Running::start(&scratch.config(), COMPILER);
    fs::rename(scratch.out(), scratch.path("unmounted")).unwrap();
    host.push("events", &large(0));
    let rescue = host.stats("events");
    wait_until("the fallback is tried", || rescue.outputs[1].retries.get() > 2);
    host.drain_within(Duration::from_millis(100)).unwrap_err();
    drop(host);
    fs::rename(scratch.path("unmounted"), scratch.out()).unwrap();
    Running::start(&scratch.config(), COMPILER).drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..400).collect::<Vec<_>>());
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn fallback_that_fails_too_leaves_a_dead_letter_and_no_staged_file() {
    let receiver = Receiver::start(&[], 400);
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        fallback = "rescue"
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        interval = "0s"
        object = "in-the-way/{{batch}}{{extension}}"
        retry = {{ initial = "10ms", max = "20ms", for = "50ms" }}
        [[streams.events.outputs]]
        type = "http"
        name = "rescue"
        url = "{}"
        "#,
        receiver.url()
    ));
    let host = Running::start(&scratch.config(), COMPILER);
    // A link that leads out of the directory: refused for good.
    fs::create_dir(scratch.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(scratch.path("elsewhere"), scratch.out().join("in-the-way")).unwrap();
    host.push("events", &large(0));
    host.drain();
    assert_eq!(scratch.letters("events").len(), 1);
    assert_eq!(fs::read_dir(scratch.path("elsewhere")).unwrap().count(), 0);
    assert!(objects::staged(&scratch.out()).is_empty());
    assert!(objects::files(&scratch.path("data/spool")).is_empty(), "the fallback's copy is left");
    assert_eq!(receiver.received().len(), 1);
}

#[test]
fn directory_that_vanished_is_waited_for_and_delivered_to_without_a_restart() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        interval = "0s"
        retry = { initial = "10ms", max = "20ms" }
        [[streams.events.outputs]]
        type = "directory"
        name = "other"
        path = "other"
        interval = "0s"
        "#,
    );
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.push("events", &numbered(0, 10));
    wait_until("the first records are delivered", || stats.outputs[0].delivered.get() == 10);
    fs::rename(scratch.out(), scratch.path("unmounted")).unwrap();
    for n in 1..20 {
        host.push("events", &numbered(n * 10, 10));
    }
    host.push("events", &large(1000));
    wait_until("deliveries fail", || stats.outputs[0].retries.get() > 20);
    assert!(!scratch.out().exists(), "a directory was made where a disk should be mounted");
    // A write that fails says its own part in between.
    wait_until("the directory is called missing", || {
        stats.outputs[0].last_error().is_some_and(|error| error.contains("missing"))
    });
    fs::rename(scratch.path("unmounted"), scratch.out()).unwrap();
    wait_until("everything is delivered", || stats.outputs[0].delivered.get() == 600);
    host.drain();
    let expected: Vec<u64> = (0..200).chain(1000..1400).collect();
    assert_eq!(objects::numbers(&scratch.out(), "n"), expected);
    assert!(objects::staged(&scratch.out()).is_empty());
}

#[test]
fn foreign_object_stops_its_output_and_nothing_is_overwritten() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        object = "{stream}/{batch}{extension}"
        interval = "0s"
        [streams.others]
        source = { type = "http" }
        outputs = [{ type = "directory", path = "out", object = "others-{batch}{extension}", interval = "0s" }]
        "#,
    );
    fs::create_dir(scratch.out()).unwrap();
    fs::write(scratch.out().join("events"), "a file where a directory should be").unwrap();
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.push("events", &numbered(0, 10));
    wait_until("the output stops", || host.state("events")["outputs"][0]["stopped"] == true);
    host.push("others", &numbered(0, 1));
    let others = host.stats("others");
    wait_until("the other stream delivers", || others.outputs[0].delivered.get() == 1);
    assert_eq!(stats.outputs[0].pending.get(), 10);
    assert_eq!(
        fs::read_to_string(scratch.out().join("events")).unwrap(),
        "a file where a directory should be"
    );
    assert!(scratch.letters("events").is_empty());
    host.crash();
    fs::remove_file(scratch.out().join("events")).unwrap();
    Running::start(&scratch.config(), COMPILER).drain();
    assert_eq!(objects::numbers(&scratch.out().join("events"), "n"), (0..10).collect::<Vec<_>>());
}

#[test]
fn output_that_is_down_holds_up_no_other() {
    let receiver = Receiver::start(&[], 503);
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        transforms = [{{ plugin = "route" }}]
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        format = "raw"
        interval = "0s"
        [[streams.events.outputs]]
        type = "http"
        name = "a"
        url = "{}"
        format = "raw"
        interval = "0s"
        retry = {{ initial = "10ms", max = "20ms" }}
        [[streams.events.outputs]]
        type = "directory"
        name = "b"
        path = "b"
        "#,
        receiver.url()
    ));
    scratch.deploy("route", &wasmill_tests::guest::Guest::route_by_first_byte());
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    for n in 0..200 {
        host.push("events", &format!("a {n}\nc {n}"));
    }
    wait_until("the output that is up has everything", || stats.outputs[0].delivered.get() == 200);
    assert_eq!((stats.outputs[1].delivered.get(), stats.outputs[1].pending.get()), (0, 200));
    receiver.answer(200);
    host.drain();
    let taken = receiver.received().into_iter().filter(|request| request.status == 200);
    let text: Vec<u8> = taken.flat_map(|request| request.body.to_vec()).collect();
    let lines: Vec<String> = String::from_utf8(text).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines, (0..200).map(|n| format!("a {n}")).collect::<Vec<_>>());
}

#[test]
fn request_that_was_answered_is_not_sent_again_by_a_crash_much_later() {
    let receiver = Receiver::start(&[], 200);
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        outputs = [{{ type = "http", url = "{}", interval = "0s" }}]
        "#,
        receiver.url()
    ));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.push("events", &numbered(0, 10));
    wait_until("the batch is delivered", || stats.outputs[0].delivered.get() == 10);
    // Nothing else happens in the stream, and yet what happened is noted before long.
    let written = host.host.journal_stats().frames;
    wait_until("the delivery is noted", || host.host.journal_stats().frames > written);
    host.crash();
    Running::start(&scratch.config(), COMPILER).drain();
    assert_eq!(receiver.received().len(), 1);
}

#[test]
fn batch_that_is_given_up_stops_an_output_that_is_to_pause_until_it_is_delivered() {
    // Given up because time is over, and because it is refused for good.
    for status in [503, 400] {
        let receiver = Receiver::start(&[], status);
        let scratch = Scratch::new(&format!(
            r#"
            [streams.events]
            source = {{ type = "http" }}
            [[streams.events.outputs]]
            type = "http"
            url = "{}"
            interval = "0s"
            retry = {{ initial = "10ms", max = "50ms", for = "300ms", then = "pause" }}
            [streams.calm]
            source = {{ type = "http" }}
            outputs = [{{ type = "directory", path = "out", interval = "0s" }}]
            "#,
            receiver.url()
        ));
        let host = Running::start(&scratch.config(), COMPILER);
        host.push("events", &numbered(0, 10));
        wait_until("the output stops", || host.state("events")["outputs"][0]["stopped"] == true);
        for n in 1..10 {
            host.push("events", &numbered(n * 10, 10));
        }
        host.push("calm", &numbered(0, 10));
        let (stats, calm) = (host.stats("events"), host.stats("calm"));
        wait_until("the other stream delivers", || calm.outputs[0].delivered.get() == 10);
        // A crash changes nothing of it.
        host.crash();
        let host = Running::start(&scratch.config(), COMPILER);
        wait_until("the output stops again", || host.state("events")["outputs"][0]["stopped"] == true);
        assert_eq!((stats.outputs[0].delivered.get(), stats.outputs[0].delivery_failed.get()), (0, 0));
        receiver.answer(200);
        let stats = host.stats("events");
        wait_until("everything is delivered", || stats.outputs[0].pending.get() == 0);
        assert_eq!(host.state("events")["outputs"][0]["stopped"], false);
        host.drain();
        let taken = receiver.received().into_iter().filter(|request| request.status == 200);
        let bodies: Vec<String> =
            taken.map(|request| String::from_utf8(request.body.to_vec()).unwrap()).collect();
        let found: Vec<u64> = bodies.concat().lines().map(|line| objects::number(line, "n")).collect();
        assert_eq!(found, (0..100).collect::<Vec<_>>());
        assert!(scratch.letters("events").is_empty());
        assert!(objects::files(&scratch.path("data/spool")).is_empty());
    }
}
