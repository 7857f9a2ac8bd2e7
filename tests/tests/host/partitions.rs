//! Partitions whose values come from data: many of them, and hostile ones.

use std::collections::BTreeMap;
use std::fs;

use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::running::Running;
use wasmill_tests::scratch::Scratch;

use crate::COMPILER;

fn scratch(more: &str) -> Scratch {
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        transforms = [{{ plugin = "by-payload" }}]
        [[streams.events.outputs]]
        type = "directory"
        path = "deep/inside/out"
        object = "{{partition.k}}/{{batch}}{{extension}}"
        format = "raw"
        compression = "none"
        {more}
        "#
    ));
    scratch.deploy("by-payload", &Guest::partition_by_payload());
    scratch
}

#[test]
fn hostile_partition_values_stay_inside_the_directory_and_apart() {
    let scratch = scratch("interval = \"1h\"");
    let host = Running::start(&scratch.config(), COMPILER);
    let long = "long".repeat(300);
    let mut values = vec![
        "../../x",
        "..",
        ".",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "CON",
        ".wasmill-staging",
        "%2e%2e",
        "a\u{0}b",
        "_",
        "ä ö",
        "_overflow",
        "line\ttab",
        "a",
        "A",
        &long,
    ];
    let longer = format!("{long}!");
    values.push(&longer);
    let body = values.join("\n");
    host.push("events", &body);
    // Of an empty record there is nothing to write but its line end.
    let empty = wasmill_tests::client::push_as(
        host.address(),
        "events",
        &["content-type: application/vnd.wasmill.length-delimited"],
        &[0, 0, 0, 0],
    );
    assert_eq!(empty.unwrap().json()["records"], 1);
    host.drain();
    let root = scratch.path("deep/inside/out");
    let mut found: Vec<String> = Vec::new();
    let mut directories = BTreeMap::new();
    for file in objects::files(&root) {
        let inside = file.strip_prefix(&root).unwrap();
        assert_eq!(inside.components().count(), 2, "{}", inside.display());
        let text = fs::read_to_string(&file).unwrap();
        let directory = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let before = directories.insert(directory.clone(), text.clone());
        assert_eq!(before, None, "two partitions share {directory}");
        found.push(text.strip_suffix('\n').unwrap().to_owned());
    }
    let mut expected: Vec<String> =
        values.iter().map(|value| (*value).to_owned()).chain([String::new()]).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    // Nothing came to be beside the directory.
    let beside: Vec<_> = fs::read_dir(scratch.path("deep"))
        .unwrap()
        .chain(fs::read_dir(scratch.path("deep/inside")).unwrap())
        .collect();
    assert_eq!(beside.len(), 2, "{beside:?}");
    assert!(!scratch.path("x").exists() && !scratch.path("deep/x").exists());
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn partition_values_that_are_no_text_lose_no_record() {
    let scratch = scratch("interval = \"1h\"");
    let host = Running::start(&scratch.config(), COMPILER);
    let records: [&[u8]; 4] = [b"\xff", b"\xfe", b"\xff\xfe", b"\xed\xa0\x80"];
    let mut body = Vec::new();
    for record in records {
        body.extend(u32::try_from(record.len()).unwrap().to_be_bytes());
        body.extend(record);
    }
    let headers = ["content-type: application/vnd.wasmill.length-delimited"];
    assert_eq!(
        wasmill_tests::client::push_as(host.address(), "events", &headers, &body).unwrap().status,
        200
    );
    host.drain();
    let mut found: Vec<Vec<u8>> = Vec::new();
    for file in objects::files(&scratch.path("deep/inside/out")) {
        found.extend(
            fs::read(file)
                .unwrap()
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(<[u8]>::to_vec),
        );
    }
    found.sort();
    let mut expected: Vec<Vec<u8>> = records.iter().map(|record| record.to_vec()).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn several_hundred_partitions_are_delivered_each_into_its_own_object() {
    let scratch = scratch("interval = \"1h\"");
    for round in 0..2 {
        let host = Running::start(&scratch.config(), COMPILER);
        let lines: Vec<String> = (0..400).map(|n| format!("partition-{n}")).collect();
        host.push("events", &lines.join("\n"));
        host.push("events", &lines.join("\n"));
        if round == 0 { host.crash() } else { host.drain() }
    }
    let files = objects::files(&scratch.path("deep/inside/out"));
    assert_eq!(files.len(), 400);
    for file in files {
        let partition = file.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{partition}\n").repeat(4));
    }
}

#[test]
fn partitions_past_the_bound_go_to_the_overflow_partition_and_are_counted() {
    let scratch = scratch("interval = \"1h\"\nmax_partitions = 10");
    let host = Running::start(&scratch.config(), COMPILER);
    let lines: Vec<String> = (0..30).map(|n| format!("{n}")).collect();
    host.push("events", &lines.join("\n"));
    let stats = host.stats("events");
    host.drain();
    assert_eq!(stats.overflowed.get(), 20);
    let root = scratch.path("deep/inside/out");
    assert_eq!(objects::lines(&root).len(), 30);
    let overflow = objects::lines(&root.join("_overflow"));
    assert_eq!(overflow.len(), 20, "{overflow:?}");
}

#[test]
fn fewer_partitions_after_a_restart_repeat_nothing() {
    let text = |max: u32| {
        format!(
            r#"
            [streams.events]
            source = {{ type = "http" }}
            transforms = [{{ plugin = "by-payload" }}]
            [[streams.events.outputs]]
            type = "directory"
            path = "out"
            object = "{{partition.k}}/{{batch}}{{extension}}"
            format = "raw"
            size = "100B"
            interval = "1h"
            max_partitions = {max}
            [[streams.events.outputs]]
            type = "directory"
            name = "other"
            path = "other"
            interval = "0s"
            "#
        )
    };
    let scratch = Scratch::new(&text(100));
    scratch.deploy("by-payload", &Guest::partition_by_payload());
    let host = Running::start(&scratch.config(), COMPILER);
    let lines: Vec<String> = (0..20).map(|n| format!("partition-{n}")).collect();
    let stats = host.stats("events");
    // Outcomes that leave batches open, then one that seals some of them.
    host.push("events", &lines.join("\n"));
    wasmill_tests::wait::wait_until("an outcome is durable", || stats.commits.get() > 0);
    host.push("events", &["partition-17"; 9].join("\n"));
    wasmill_tests::wait::wait_until("a batch is delivered", || stats.outputs[0].delivered.get() == 10);
    host.crash();
    scratch.configure(&text(2));
    Running::start(&scratch.config(), COMPILER).drain();
    let mut found = objects::lines(&scratch.out());
    let mut expected: Vec<String> =
        lines.into_iter().chain(std::iter::repeat_n("partition-17".to_owned(), 9)).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}
