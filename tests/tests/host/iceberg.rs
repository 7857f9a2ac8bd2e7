//! Iceberg tables at Iceberg's own REST catalog: read by pyiceberg, pyarrow and DuckDB, row for row, also after hosts were
//! killed, requests and answers of the catalog were lost, and others wrote in between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use wasmill_tests::catalogue::{Catalogue, Client, Lost, front};
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::servers::S3Server;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};

use crate::firehose::metric;
use crate::s3::with_credentials;

const KILLS: u64 = 12;
const EACH: u64 = 120;
const COLUMNS: &str = "n: int64 required, at: timestamp(us, utc), wall: timestamp(us), day: date, price: decimal(9, 2), \
    large: decimal(30, 3), ok: boolean, small: int32, half: float, ratio: double, text: string, bytes: binary, \
    tags: list<string>, place: struct<city: string, zip: int32>, counts: map<string, int64>";

/// A host that appends to `lake.events`.
fn config(catalog: &str, more: &str, columns: &str) -> String {
    format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        max_failed_percent = 100
        [[streams.events.outputs]]
        type = "iceberg"
        catalog = {{ type = "rest", url = "{catalog}", timeout = "20s" }}
        namespace = "lake"
        table = "events"
        size = "4KiB"
        interval = "50ms"
        retry = {{ initial = "10ms", max = "100ms" }}
        parquet = {{ schema = "{columns}" }}
        {more}
        "#
    )
}

/// A record, and the row that it is.
fn record(n: u64) -> (Value, Value) {
    let time = 1_700_000_000_000_000 + n * 1_000_001;
    let (hundreds, cents) = (n % 1000, n % 100);
    let full = json!({
        "n": n, "at": time, "wall": time, "day": "2024-02-29", "price": format!("{hundreds}.{cents:02}"),
        "large": format!("-123456789012345678901234567.{:03}", n % 1000), "ok": n.is_multiple_of(2), "small": -7, "half": 0.5,
        "ratio": 1.25, "text": format!("row {n} ä"), "bytes": "0aff", "tags": ["a", null, "b"],
        "place": { "city": "x", "zip": n }, "counts": { "one": 1, "two": null },
    });
    if n.is_multiple_of(5) {
        let mut row = full;
        for (name, value) in row.as_object_mut().unwrap() {
            if name != "n" {
                *value = Value::Null;
            }
        }
        return (json!({ "n": n }), row);
    }
    let mut record = full.clone();
    for name in ["at", "wall"] {
        let micros = i64::try_from(time).unwrap();
        let at = jiff_text(micros);
        record[name] = Value::String(at);
    }
    record["bytes"] = json!("Cv8=");
    (record, full)
}

/// ISO 8601 with microseconds, of a day in November 2023.
fn jiff_text(micros: i64) -> String {
    let (seconds, part) = (micros / 1_000_000, micros % 1_000_000);
    // 1700000000 is 2023-11-14T22:13:20Z.
    let of_day = seconds - 1_699_920_000;
    let (day, rest) = (14 + of_day / 86_400, of_day % 86_400);
    format!("2023-11-{day:02}T{:02}:{:02}:{:02}.{part:06}", rest / 3600, rest / 60 % 60, rest % 60)
}

fn push(program: &Program, numbers: impl Iterator<Item = u64>) {
    let body: Vec<String> = numbers.map(|n| record(n).0.to_string()).collect();
    let answer = client::push(program.address(), "events", &body.join("\n")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// The largest number that `of` finds in a version of the table's metadata below `dir`.
fn largest(dir: &Path, of: impl Fn(&Value) -> Option<u64>) -> u64 {
    let files =
        objects::files(dir).into_iter().filter(|path| path.to_string_lossy().ends_with(".metadata.json"));
    let metadata = files.filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok());
    metadata.filter_map(|metadata: Value| of(&metadata)).max().unwrap_or(0)
}

/// Rows that some version of the table's metadata below `dir` counts: the largest number.
fn counted(dir: &Path) -> u64 {
    largest(dir, |metadata| {
        let current = &metadata["current-snapshot-id"];
        let snapshot = metadata["snapshots"].as_array()?.iter().find(|one| one["snapshot-id"] == *current)?;
        snapshot["summary"]["total-records"].as_str()?.parse().ok()
    })
}

/// Of these, rows that came with batches of ours.
fn counted_ours(dir: &Path) -> u64 {
    largest(dir, |metadata| {
        let summaries = metadata["snapshots"].as_array()?.iter().map(|one| &one["summary"]);
        let ours = summaries.filter(|summary| summary["wasmill.batch-id"].is_string());
        ours.map(|summary| summary["added-records"].as_str()?.parse::<u64>().ok()).sum()
    })
}

/// By their number; none is there twice.
fn by_number(rows: &Value) -> BTreeMap<u64, &Value> {
    let rows = rows.as_array().unwrap();
    let numbered: BTreeMap<u64, &Value> = rows.iter().map(|row| (row["n"].as_u64().unwrap(), row)).collect();
    assert_eq!(numbered.len(), rows.len(), "a row is there twice");
    numbered
}

/// Each of the readers has these rows of ours and nothing else, those that `others` wrote aside.
fn same(read: &Value, readers: &[&str], ours: &[u64], others: &[u64]) {
    for reader in readers {
        let found = by_number(&read[*reader]);
        let numbers: Vec<u64> = found.keys().copied().collect();
        let mut expected = [ours, others].concat();
        expected.sort_unstable();
        assert_eq!(numbers, expected, "{reader}");
        for n in ours {
            assert_eq!(*found[n], record(*n).1, "{reader}");
        }
    }
}

#[test]
fn table_has_each_row_once_whatever_is_killed_or_lost_and_whoever_writes_besides() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new("");
    let lake = scratch.path("lake");
    let Some(catalogue) = Catalogue::start(scratch.dir(), &format!("file://{}", lake.display()), &lake)
    else {
        return;
    };
    let Some(other) = Client::of(&catalogue, "lake.events", json!({})) else { return };
    // Of all requests some do not arrive; of commits, the answers to some are lost.
    let (requests, commits) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let counted_commits = Arc::clone(&commits);
    let address = front(catalogue.address(), move |line| {
        if requests.fetch_add(1, Ordering::Relaxed) % 11 == 7 {
            return Lost::Request;
        }
        if !line.starts_with("POST") || !line.contains("/tables/events") {
            return Lost::Nothing;
        }
        match counted_commits.fetch_add(1, Ordering::Relaxed) % 3 {
            1 => Lost::Answer,
            _ => Lost::Nothing,
        }
    });
    scratch.configure(&config(&format!("http://{address}"), "path = \"lake\"\ncreate = true", COLUMNS));

    let dir = lake.join("lake/events");
    let mut beside = None;
    for kill in 0..KILLS {
        let program = Program::start(&binary, &scratch.config());
        let (first, half) = (kill * EACH, kill * EACH + EACH / 2);
        push(&program, first..half);
        // So that it is in batches of its own.
        wait_until("the first half is there", || counted_ours(&dir) >= half);
        let enough = commits.load(Ordering::Relaxed) + usize::try_from(kill % 2).unwrap();
        push(&program, half..first + EACH);
        // Somewhere in the middle of what follows.
        wait_until("some commits came", || commits.load(Ordering::Relaxed) >= enough);
        if kill == 3 {
            beside = Some(other.begin("append", json!({ "from": 1_000_000, "times": 15 })));
        }
        drop(program.kill());
    }
    let program = Program::start(&binary, &scratch.config());
    push(&program, KILLS * EACH..KILLS * EACH + 1);
    Client::end(beside.unwrap());
    let ours: Vec<u64> = (0..=KILLS * EACH).collect();
    let others: Vec<u64> = (1_000_000..1_000_015).collect();
    wait_until("all rows are counted", || counted(&dir) >= (ours.len() + others.len()) as u64);
    program.stop();

    let read = other.rows();
    same(&read, &["pyiceberg", "pyarrow", "duckdb"], &ours, &others);
    assert_eq!(by_number(&read["filtered"]).into_keys().collect::<Vec<_>>(), (100..110).collect::<Vec<_>>());
    // Each file of ours has bounds of `n`, and each snapshot of ours its own batch.
    assert_eq!(read["bounded"], read["files"]);
    let snapshots = read["snapshots"].as_array().unwrap();
    let ids: Vec<&str> = snapshots.iter().filter_map(|one| one["wasmill.batch-id"].as_str()).collect();
    assert_eq!(ids.len() + others.len(), snapshots.len());
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "a batch was committed twice: {ids:?}");
    assert!(ids.len() >= 13, "{ids:?}");
    let listed = read["properties"]["wasmill.batches.events.default"].as_str().unwrap();
    assert_eq!(listed.split(',').next_back(), ids.last().copied());
    assert!(listed.split(',').count() <= 32);
    assert!(scratch.letters("events").is_empty(), "{:?}", scratch.letters("events"));
    assert_eq!(read["types"]["at"], "timestamptz");
    assert_eq!(read["types"]["price"], "decimal(9, 2)");
}

#[test]
fn batch_is_found_although_the_snapshot_that_it_came_with_has_expired() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new("");
    let lake = scratch.path("lake");
    let Some(catalogue) = Catalogue::start(scratch.dir(), &format!("file://{}", lake.display()), &lake)
    else {
        return;
    };
    let Some(other) = Client::of(&catalogue, "lake.events", json!({})) else { return };
    // The answer to the first commit is lost, and then nothing gets there any more.
    let done = Arc::new(AtomicUsize::new(0));
    let first = Arc::clone(&done);
    let deaf = front(catalogue.address(), move |line| {
        let is_commit = line.starts_with("POST") && line.contains("/tables/events");
        match first.load(Ordering::Relaxed) {
            0 if is_commit => {
                first.store(1, Ordering::Relaxed);
                Lost::Answer
            }
            0 => Lost::Nothing,
            _ => Lost::Request,
        }
    });
    let more = "path = \"lake\"\ncreate = true";
    scratch.configure(&config(&format!("http://{deaf}"), more, COLUMNS));
    let program = Program::start(&binary, &scratch.config());
    push(&program, 0..10);
    let dir = lake.join("lake/events");
    wait_until("the rows are there", || counted(&dir) == 10);
    wait_until("its answer was lost", || done.load(Ordering::Relaxed) == 1);
    program.kill();
    other.run("append", json!({ "from": 1000, "times": 1 }));
    other.run("change", json!({ "expire": true }));
    scratch.configure(&config(&catalogue.url(), more, COLUMNS));
    let program = Program::start(&binary, &scratch.config());
    push(&program, 10..20);
    wait_until("the others are there", || counted(&dir) >= 21);
    program.stop();
    let read = other.rows();
    same(&read, &["pyiceberg"], &(0..20).collect::<Vec<_>>(), &[1000]);
    let snapshots = read["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 2, "{snapshots:?}");
}

#[test]
fn what_does_not_fit_is_told_and_delivered_once_it_does() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new("");
    let lake = scratch.path("lake");
    let Some(catalogue) = Catalogue::start(scratch.dir(), &format!("file://{}", lake.display()), &lake)
    else {
        return;
    };
    let Some(other) = Client::of(&catalogue, "lake.events", json!({})) else { return };
    let columns = "n: int64 required, text: string, more: string";
    scratch.configure(&config(&catalogue.url(), "path = \"lake\"", columns));
    let program = Program::start(&binary, &scratch.config());
    program.wait_for_log("there is no table lake.events at the catalog");
    // A record that does not fit the columns is a letter, as in any file of Parquet.
    let push = |body: &str| assert_eq!(client::push(program.address(), "events", body).unwrap().status, 200);
    push("{\"n\":1,\"text\":\"a\",\"more\":\"b\"}\n{\"n\":\"many\"}");
    other.run("create", json!({ "schema": { "n": "int64", "text": "string" } }));
    program.wait_for_log("the table has no column \\\"more\\\" (here of type string)");
    other.run("change", json!({ "column": "more" }));
    wait_until("the row is there", || counted(&lake.join("lake/events")) == 1);
    // In Firehose's words.
    let told = |name: &str| {
        let text = client::get(program.address(), "/metrics").unwrap().body;
        metric(&text, &format!("firehose_delivery_to_iceberg_{name}"), "events")
    };
    wait_until("its commit is counted", || told("successful_row_count_total") == 1.0);
    assert_eq!((told("incoming_row_count_total"), told("failed_row_count_total")), (1.0, 0.0));
    assert!(told("bytes_total") > 0.0);
    assert!((0.0..1.0).contains(&told("success")), "commits failed before: {}", told("success"));
    assert_eq!(scratch.letters("events").len(), 1);
    let read = other.rows();
    assert_eq!(read["pyiceberg"], json!([{ "n": 1, "text": "a", "more": "b" }]));
    // A table that is partitioned is refused.
    other.run("change", json!({ "drop": true }));
    other.run(
        "create",
        json!({ "schema": { "n": "int64", "text": "string", "more": "string" }, "partition": "text" }),
    );
    push("{\"n\":2}");
    program.wait_for_log("is partitioned");
    program.kill();
}

#[test]
fn table_in_s3_is_read_by_others() {
    with_credentials("iceberg::table_in_s3_is_read_by_others", || {
        let Some(binary) = binary() else { return };
        let scratch = Scratch::new("");
        let buckets = scratch.path("buckets");
        std::fs::create_dir_all(buckets.join("lake")).unwrap();
        let Some(catalogue) = Catalogue::start(scratch.dir(), "s3://lake/warehouse", &buckets) else {
            return;
        };
        let server = S3Server::start(&buckets);
        let s3 = json!({
            "s3.endpoint": server.endpoint(), "s3.access-key-id": S3Server::ACCESS_KEY,
            "s3.secret-access-key": S3Server::SECRET_KEY, "s3.region": "us-east-1",
            "s3.force-virtual-addressing": "false",
        });
        let Some(other) = Client::of(&catalogue, "lake.events", s3) else { return };
        let store = format!(
            "create = true\nendpoint = \"{}\"\nregion = \"us-east-1\"\npath_style = true",
            server.endpoint()
        );
        scratch.configure(&config(&catalogue.url(), &store, COLUMNS));
        for round in 0..3 {
            let program = Program::start(&binary, &scratch.config());
            push(&program, round * EACH..(round + 1) * EACH);
            if round < 2 {
                program.kill();
                continue;
            }
            let dir = buckets.join("lake/warehouse/lake/events");
            wait_until("all rows are counted", || counted(&dir) >= 3 * EACH);
            program.stop();
        }
        let read = other.rows();
        same(&read, &["pyiceberg", "pyarrow"], &(0..3 * EACH).collect::<Vec<_>>(), &[]);
    });
}
