//! The invariants of the design, each with a test that bears its name.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::running::{Running, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

use crate::COMPILER;

#[test]
fn every_record_gets_exactly_one_verdict_and_every_emitted_row_one_output() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        max_failed_percent = 100
        transforms = [{ plugin = "picky" }, { plugin = "triple" }, { plugin = "route" }]
        [[streams.events.outputs]]
        type = "directory"
        path = "out/rest"
        format = "raw"
        size = "64KiB"
        [[streams.events.outputs]]
        type = "directory"
        name = "a"
        path = "out/a"
        format = "raw"
        interval = "0s"
        [[streams.events.outputs]]
        type = "directory"
        name = "b"
        path = "out/b"
        format = "raw"
        interval = "1h"
        "#,
    );
    scratch.deploy("picky", &Guest::picky());
    scratch.deploy("triple", &Guest::triple());
    scratch.deploy("route", &Guest::route_by_first_byte());
    let host = Running::start(&scratch.config(), COMPILER);
    let mut expected = [0; 3];
    for request in 0..20 {
        let mut body = Vec::new();
        for n in 0..300 {
            let first = ["a", "c", "d", "f", "a", "g", "x"][if n == 77 { 6 } else { n % 6 }];
            match first {
                "a" => expected[1] += 3,
                "d" | "x" => {}
                _ => expected[0] += 3,
            }
            body.push(format!("{first} {request} {n}"));
        }
        // One output gets nothing at all but this.
        if request == 10 {
            body.push("b only".to_owned());
            expected[2] += 3;
        }
        host.push("events", &body.join("\n"));
    }
    let stats = host.stats("events");
    host.drain();
    assert_eq!(stats.records_in.get(), 6_001);
    assert_eq!(stats.processed.get(), 6_001);
    assert_eq!(stats.failed.get(), 20);
    assert_eq!(stats.emitted.get(), expected.iter().sum::<u64>());
    for (output, (name, expected)) in stats.outputs.iter().zip(["rest", "a", "b"].iter().zip(expected)) {
        assert_eq!((output.emitted.get(), output.delivered.get()), (expected, expected), "{name}");
        let lines = objects::lines(&scratch.path("out").join(name));
        assert_eq!(lines.len() as u64, expected, "{name}");
        // Derived rows are copies: each line is there three times, and no other line.
        let unique: HashSet<&String> = lines.iter().collect();
        assert_eq!(unique.len() as u64 * 3, expected, "{name}");
    }
    assert_eq!(scratch.letters("events").len(), 20);
}

#[test]
fn nothing_is_visible_outside_before_its_outcome_is_durable() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        outputs = [{ type = "directory", path = "out", size = "4KiB", interval = "0s" }]
        "#,
    );
    // A crash at any moment: whatever is outside then belongs to an outcome, so it is there once and for all.
    let mut sent = 0;
    let mut seen: HashSet<std::path::PathBuf> = HashSet::new();
    for round in 0..6 {
        let host = Running::start(&scratch.config(), COMPILER);
        for _ in 0..10 + round {
            host.push("events", &numbered(sent, 7));
            sent += 7;
        }
        host.crash();
        let now: HashSet<_> = objects::files(&scratch.out()).into_iter().collect();
        assert!(seen.is_subset(&now), "objects vanished");
        seen = now;
    }
    Running::start(&scratch.config(), COMPILER).drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..sent).collect::<Vec<_>>());
    assert!(objects::staged(&scratch.out()).is_empty());
}

#[test]
fn record_before_the_end_of_an_outcome_that_ends_within_an_append_is_not_run_again() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        outputs = [{ type = "directory", path = "out", size = "4KiB", interval = "1h" }]
        "#,
    );
    const RECORDS: u64 = 20_000;
    let (mut sent, mut within) = (0, 0);
    for round in 0..50 {
        let host = Running::start(&scratch.config(), COMPILER);
        host.push("events", &numbered(sent, RECORDS));
        sent += RECORDS;
        let processed = || host.stats("events").processed.get();
        wait_until("an outcome is durable", || processed() > 0);
        within += u64::from(processed() % RECORDS != 0);
        host.crash();
        if round >= 2 && within >= 3 {
            break;
        }
    }
    assert!(within > 0, "no crash came within an append");
    Running::start(&scratch.config(), COMPILER).drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..sent).collect::<Vec<_>>());
}

#[test]
fn offsets_and_batch_ids_are_never_used_again() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        object = "{batch}{extension}"
        interval = "1h"
        size = "1KiB"
        "#,
    );
    let mut next = 0;
    for round in 0..8 {
        let host = Running::start(&scratch.config(), COMPILER);
        for _ in 0..5 {
            let receipt = host.push("events", &numbered(next, 3));
            assert_eq!(
                (receipt["first_offset"].as_u64(), receipt["last_offset"].as_u64()),
                (Some(next), Some(next + 2))
            );
            next += 3;
        }
        if round % 2 == 0 { host.drain() } else { host.crash() }
    }
    Running::start(&scratch.config(), COMPILER).drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..next).collect::<Vec<_>>());
    let names: Vec<String> = objects::files(&scratch.out())
        .iter()
        .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let ids: HashSet<&str> = names.iter().map(|name| name.split('.').next().unwrap()).collect();
    assert_eq!(ids.len(), names.len());
    // In the order of their names objects hold the records in the order of their offsets, within an epoch.
    let firsts: Vec<u64> =
        names.iter().map(|name| name.split('-').nth(3).unwrap().parse().unwrap()).collect();
    let unique: HashSet<&u64> = firsts.iter().collect();
    assert_eq!(unique.len(), firsts.len(), "two batches begin at one offset");
}

#[test]
fn reload_loses_repeats_and_reorders_nothing() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        transforms = [{ plugin = "step" }]
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        object = "{batch}{extension}"
        size = "64KiB"
        "#,
    );
    scratch.deploy("step", &Guest::stamp('1'));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    let over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| {
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                host.push("events", &numbered(sent, 200));
                sent += 200;
            }
            sent
        });
        for (reloads, version) in (1..).zip('2'..='6') {
            let before = stats.processed.get();
            wait_until("records flow", || stats.processed.get() > before);
            scratch.deploy("step", &Guest::stamp(version));
            wait_until("the version takes over", || stats.reloads.get() == reloads);
        }
        over.store(true, Ordering::Relaxed);
        pushing.join().unwrap()
    });
    host.push("events", &numbered(sent, 1));
    let sent = sent + 1;
    host.drain();
    let lines = objects::lines(&scratch.out());
    let found: Vec<u64> = lines.iter().map(|line| objects::number(line, "n")).collect();
    assert_eq!(found, (0..sent).collect::<Vec<_>>(), "lost, repeated or reordered");
    // Versions take over once each, between two slices: never back, none left out at the end.
    let versions: Vec<u8> = lines.iter().map(|line| line.as_bytes()[6]).collect();
    assert!(versions.is_sorted(), "a version ran again after its successor");
    assert_eq!((versions.first(), versions.last()), (Some(&b'1'), Some(&b'6')));
}

#[test]
fn acknowledged_means_durable_for_many_clients_and_crashes() {
    let scratch = Scratch::new(
        r#"
        [streams.one]
        source = { type = "http" }
        transforms = [{ plugin = "step" }]
        outputs = [{ type = "directory", path = "out/one", size = "16KiB", interval = "1s" }]
        [streams.two]
        source = { type = "http" }
        outputs = [{ type = "directory", path = "out/two", interval = "0s" }]
        "#,
    );
    scratch.deploy("step", &Guest::stamp('1'));
    let mut acknowledged = [HashSet::new(), HashSet::new()];
    let mut next = 0_u64;
    for round in 1..=4 {
        let host = Running::start(&scratch.config(), COMPILER);
        let address = host.address();
        let acks = std::sync::Mutex::new([Vec::new(), Vec::new()]);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..4_u64 {
                let (acks, over) = (&acks, &over);
                let first = next + client * 1_000_000;
                scope.spawn(move || {
                    let stream = usize::try_from(client % 2).unwrap();
                    let mut n = first;
                    while !over.load(Ordering::Relaxed) {
                        let pushed =
                            wasmill_tests::client::push(address, ["one", "two"][stream], &numbered(n, 5));
                        if pushed.is_ok_and(|answer| answer.status == 200) {
                            acks.lock().unwrap()[stream].extend(n..n + 5);
                        }
                        n += 5;
                    }
                });
            }
            wait_until("the clients push", || acks.lock().unwrap()[0].len() > 100 * round);
            host.crash();
            over.store(true, Ordering::Relaxed);
        });
        next += 4_000_000;
        for (all, acks) in acknowledged.iter_mut().zip(acks.into_inner().unwrap()) {
            all.extend(acks);
        }
    }
    Running::start(&scratch.config(), COMPILER).drain();
    for (stream, acknowledged) in ["one", "two"].iter().zip(acknowledged) {
        let found = objects::numbers(&scratch.path("out").join(stream), "n");
        let unique: HashSet<u64> = found.iter().copied().collect();
        assert_eq!(unique.len(), found.len(), "{stream}: records are there twice");
        let lost: Vec<&u64> = acknowledged.difference(&unique).collect();
        assert!(lost.is_empty(), "{stream}: {} acknowledged records are lost", lost.len());
    }
}
