//! Whole hosts in this process: records in, objects out, restarts in between.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod changes;
mod support;

use std::time::Duration;

use support::{Running, read_objects, write_config};

const DRAIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn pushed_records_are_in_objects_exactly_once_after_a_drain() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(
        dir.path(),
        r#"
        [streams.events]
        source = { type = "http" }
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        "#,
    );
    let host = Running::start(&config).await;
    let mut sent = Vec::new();
    for request in 0..20 {
        let lines: Vec<String> = (0..50).map(|line| format!("{{\"n\":{}}}", request * 50 + line)).collect();
        let receipt = host.push("events", &lines.join("\n")).await;
        assert_eq!(receipt["records"], 50, "{receipt}");
        assert_eq!(receipt["first_offset"], request * 50, "{receipt}");
        sent.extend(lines);
    }
    host.host.drain(DRAIN).await.unwrap();
    let mut found = read_objects(&dir.path().join("out"));
    found.sort_by_key(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_u64());
    assert_eq!(found, sent);
    let stats = &host.host.stats()[0];
    assert_eq!(
        (stats.processed.get(), stats.passed.get(), stats.outputs[0].delivered.get()),
        (1000, 1000, 1000)
    );
    assert!(stats.outputs[0].balanced());
}

#[tokio::test(flavor = "multi_thread")]
async fn file_read_once_ends_by_itself_and_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..30_000).map(|n| format!("{{\"n\":{n},\"text\":\"some words\"}}")).collect();
    std::fs::write(dir.path().join("in.ndjson"), lines.join("\n")).unwrap();
    let config = write_config(
        dir.path(),
        r#"
        [streams.files]
        source = { type = "file", paths = ["in.ndjson"] }
        [[streams.files.outputs]]
        type = "directory"
        path = "out"
        size = "256KiB"
        "#,
    );
    for _ in 0..2 {
        let host = Running::start(&config).await;
        tokio::time::timeout(DRAIN, host.host.ended()).await.unwrap();
        host.host.drain(DRAIN).await.unwrap();
        assert_eq!(read_objects(&dir.path().join("out")), lines);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interval_zero_delivers_each_record_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(
        dir.path(),
        r#"
        [streams.alarms]
        source = { type = "http" }
        [[streams.alarms.outputs]]
        type = "directory"
        path = "out"
        interval = "0s"
        compression = "none"
        "#,
    );
    let host = Running::start(&config).await;
    for n in 0..20_u64 {
        host.push("alarms", &format!("{{\"n\":{n}}}")).await;
        let delivered = || host.host.stats()[0].outputs[0].delivered.get() > n;
        support::wait_until(delivered).await;
        assert_eq!(read_objects(&dir.path().join("out")).len() as u64, n + 1);
    }
    host.host.drain(DRAIN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn host_that_ends_like_a_crash_goes_on_and_delivers_everything_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(
        dir.path(),
        r#"
        [streams.events]
        source = { type = "http" }
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        size = "2KiB"
        interval = "1h"
        "#,
    );
    let mut sent = 0;
    for _ in 0..5 {
        let host = Running::start(&config).await;
        for _ in 0..40 {
            host.push("events", &format!("{{\"n\":{sent}}}\n{{\"n\":{}}}", sent + 1)).await;
            sent += 2;
        }
        host.crash().await;
    }
    let host = Running::start(&config).await;
    host.host.drain(DRAIN).await.unwrap();
    let mut found: Vec<u64> = read_objects(&dir.path().join("out"))
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_u64().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, (0..sent).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_is_not_json_fails_records_into_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(
        dir.path(),
        r#"
        [streams.events]
        source = { type = "http" }
        max_failed_percent = 100
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        "#,
    );
    let host = Running::start(&config).await;
    host.push("events", "{\"n\":1}\nno json\n{\"n\":2}").await;
    host.host.drain(DRAIN).await.unwrap();
    assert_eq!(read_objects(&dir.path().join("out")), ["{\"n\":1}", "{\"n\":2}"]);
    let letters =
        std::fs::read_to_string(dir.path().join("data/dead-letters/default/events/letters.ndjson")).unwrap();
    let letter: serde_json::Value = serde_json::from_str(letters.trim()).unwrap();
    assert_eq!((&letter["payload"], &letter["offset"]), (&"no json".into(), &1.into()), "{letter}");
}
