//! Rows that leave as columns: read by pyarrow and DuckDB, row for row, also after a host was killed; what does not fit is
//! in error objects once, and in the backup is every record once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wasmill_tests::guest::Guest;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};

use crate::firehose::{Rig, script};
use crate::s3::keys;

/// Lives of a host, and records of each.
const ROUNDS: i64 = 6;
const EACH: i64 = 900;
const READERS: [&str; 2] = ["pyarrow", "duckdb"];

/// Packages of the readers.
fn packages() -> Option<PathBuf> {
    let packages = std::env::var_os("WASMILL_READERS").map(PathBuf::from);
    if packages.is_none() {
        println!("skipped: WASMILL_READERS is not set; `cargo xtask test` sets it");
    }
    packages
}

/// One file as a reader has it.
struct Read {
    columns: BTreeMap<String, String>,
    rows: Vec<Value>,
}

fn read(packages: &Path, reader: &str, dir: &Path) -> Vec<Read> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/columns.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(reader)
        .arg(dir)
        .env("PYTHONPATH", packages)
        .output()
        .unwrap();
    assert!(output.status.success(), "{reader}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let files = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    files
        .map(|file| Read {
            columns: serde_json::from_value(file["columns"].clone()).unwrap(),
            rows: file["rows"].as_array().unwrap().clone(),
        })
        .collect()
}

/// Rows of all files by their number; none is there twice.
fn by_number(files: &[Read]) -> BTreeMap<i64, Value> {
    let rows: Vec<&Value> = files.iter().flat_map(|file| &file.rows).collect();
    let numbered: BTreeMap<i64, Value> =
        rows.iter().map(|row| (row["n"].as_i64().unwrap(), (*row).clone())).collect();
    assert_eq!(numbered.len(), rows.len(), "a row is there twice");
    numbered
}

/// Lines of all files below a directory.
fn lines(dir: &Path) -> Vec<String> {
    let texts = keys(dir).into_iter().map(|file| fs::read_to_string(file).unwrap());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// What failed to be converted, as it came in: sorted.
fn raw_data(dir: &Path) -> Vec<String> {
    let mut found: Vec<String> = lines(dir)
        .iter()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["lastErrorCode"], "DataFormatConversion.MalformedData", "{line}");
            String::from_utf8(STANDARD.decode(line["rawData"].as_str().unwrap()).unwrap()).unwrap()
        })
        .collect();
    found.sort();
    found
}

/// Every third record does not fit.
fn record(n: i64) -> String {
    match n % 3 {
        0 => format!("{{\"n\":{n},\"at\":{},\"tags\":[\"a\",null],\"more\":true}}", 1_700_000_000_000 + n),
        1 => format!("{{\"tags\":null,\"n\":{n}}}"),
        _ => format!("{{\"n\":\"{n}\"}}"),
    }
}

fn expected(count: i64) -> BTreeMap<i64, Value> {
    let fits = (0..count).filter(|n| n % 3 != 2);
    fits.map(|n| match n % 3 {
        0 => (n, json!({ "n": n, "at": 1_700_000_000_000 + n, "tags": ["a", null] })),
        _ => (n, json!({ "n": n, "at": null, "tags": null })),
    })
    .collect()
}

fn push(program: &Program, numbers: std::ops::Range<i64>) {
    let body: Vec<String> = numbers.map(record).collect();
    let answer = client::push(program.address(), "events", &body.join("\n")).unwrap();
    assert_eq!(answer.status, 200);
}

#[test]
fn parquet_letters_and_backup_have_each_record_once_whenever_the_host_is_killed() {
    let (Some(binary), Some(packages)) = (binary(), packages()) else { return };
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        max_failed_percent = 100
        backup = { type = "directory", path = "backup", compression = "none", interval = "100ms" }
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        format = "parquet"
        compression = "zstd"
        size = "8KiB"
        interval = "100ms"
        parquet = { schema = "n: int64 required, at: timestamp(ms, utc), tags: list<string>", row_group = "64KiB" }
        [streams.events.dead_letters.output]
        type = "directory"
        path = "bad"
        firehose = { prefix = "!{firehose:error-output-type}/" }
        compression = "none"
        interval = "100ms"
        "#,
    );
    for round in 0..ROUNDS {
        let before = objects::files(&scratch.out()).len();
        let program = Program::start(&binary, &scratch.config());
        let first = round * EACH;
        for at in (first..first + EACH).step_by(300) {
            push(&program, at..at + 300);
        }
        // In the middle of whatever it is about; each round at another place.
        wait_until("another object is there", || objects::files(&scratch.out()).len() > before);
        program.kill();
    }
    Program::start(&binary, &scratch.config()).stop();
    let count = ROUNDS * EACH;
    for reader in READERS {
        let files = read(&packages, reader, &scratch.out());
        assert!(files.iter().all(|file| !file.rows.is_empty()));
        assert_eq!(by_number(&files), expected(count), "{reader}");
    }
    let mut unfit: Vec<String> = (0..count).filter(|n| n % 3 == 2).map(record).collect();
    unfit.sort();
    assert_eq!(raw_data(&scratch.path("bad").join("format-conversion-failed")), unfit);
    let mut all: Vec<String> = (0..count).map(record).collect();
    all.sort();
    let mut kept = lines(&scratch.path("backup"));
    kept.sort();
    assert_eq!(kept, all);
}

#[test]
fn columns_of_the_first_batch_are_those_of_every_later_run() {
    let (Some(binary), Some(packages)) = (binary(), packages()) else { return };
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        max_failed_percent = 100
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        format = "parquet"
        interval = "100ms"
        parquet = { infer = true }
        "#,
    );
    let send = |program: &Program, body: &str| {
        assert_eq!(client::push(program.address(), "events", body).unwrap().status, 200);
    };
    let program = Program::start(&binary, &scratch.config());
    send(&program, "{\"n\":1,\"name\":\"a\"}\n{\"n\":2,\"place\":{\"x\":0.5}}\n7\n");
    wait_until("the first batch is there", || !objects::files(&scratch.out()).is_empty());
    program.kill();
    // First the outcome has the columns, later a checkpoint.
    for round in 1..4_i64 {
        let program = Program::start(&binary, &scratch.config());
        let n = 10 * round;
        send(
            &program,
            &format!(
                "{{\"n\":{n},\"fresh\":1}}\n{{\"n\":\"{n}\"}}\n{{\"place\":{{\"x\":1}},\"n\":{}}}\n",
                n + 1
            ),
        );
        let seen = usize::try_from(round).unwrap();
        wait_until("another batch is there", || objects::files(&scratch.out()).len() > seen);
        if round == 3 {
            program.stop()
        } else {
            drop(program.kill())
        };
    }
    for reader in READERS {
        let files = read(&packages, reader, &scratch.out());
        let columns: Vec<&BTreeMap<String, String>> = files.iter().map(|file| &file.columns).collect();
        assert!(columns.iter().all(|columns| *columns == columns_of(&files)), "{columns:?}");
        let names: Vec<&String> = columns_of(&files).keys().collect();
        assert_eq!(names, ["n", "name", "place"]);
        let rows = by_number(&files);
        assert_eq!(rows.keys().copied().collect::<Vec<_>>(), [1, 2, 10, 11, 20, 21, 30, 31], "{reader}");
        assert_eq!(rows[&21], json!({ "n": 21, "name": null, "place": { "x": 1.0 } }));
    }
    let mut letters: Vec<Value> = scratch.letters("events");
    letters.sort_by_key(|letter| letter["number"].as_u64());
    let payloads: Vec<&str> = letters.iter().map(|letter| letter["payload"].as_str().unwrap()).collect();
    assert_eq!(payloads, ["7", "{\"n\":\"10\"}", "{\"n\":\"20\"}", "{\"n\":\"30\"}"]);
    assert!(letters.iter().all(|letter| letter["stage"] == "encode" && letter["output"] == "default"));
    assert_eq!(letters[1]["reason"], "field \"n\" takes int64, found \"10\"");
}

fn columns_of(files: &[Read]) -> &BTreeMap<String, String> {
    &files[0].columns
}

#[test]
fn firehose_converts_records_and_backs_them_up_as_they_came_in() {
    let Some(packages) = packages() else { return };
    let schemas = "[firehose.schemas]\n\"lake.visits\" = \"n: bigint required, at: timestamp, page: string\"";
    let Some(rig) = Rig::start_with(schemas, &[]) else { return };
    let ask = |rig: &Rig, words: &[&str]| {
        rig.run(script("conversion.py").unwrap().args(words));
    };
    let bucket = rig.lake.path().join("lake");
    ask(&rig, &["create"]);
    ask(&rig, &["put", "0", "1500"]);
    wait_until("an object is there", || !keys(&bucket.join("visits")).is_empty());
    // In Firehose's words: two of ten fail, and are in the bucket for errors.
    for (name, value) in [
        ("succeed_processing_records_total", 1200.0),
        ("failed_conversion_records_total", 300.0),
        ("delivery_to_s3_records_total", 1200.0),
        ("backup_to_s3_records_total", 300.0),
        ("delivery_to_s3_success", 1.0),
        ("backup_to_s3_success", 1.0),
    ] {
        wait_until(name, || rig.metric(&format!("firehose_{name}"), "visits") == value);
    }
    ask(&rig, &["put", "1500", "2500"]);
    let rig = rig.killed();
    ask(&rig, &["put", "2500", "3000"]);
    rig.program.stop();

    // As the script makes them.
    let fits = (0..3000_i64).filter(|n| n % 5 != 3);
    let expected: BTreeMap<i64, Value> = fits
        .map(|n| {
            let page = if n % 5 == 0 { format!("{{\"id\": {n}}}") } else { format!("/{n}") };
            (n, json!({ "n": n, "at": 1_700_000_000_000 + n, "page": page }))
        })
        .collect();
    for reader in READERS {
        let mut rows = by_number(&read(&packages, reader, &bucket.join("visits")));
        // The text of an object in a column of text is that of the record: with its line feeds as spaces.
        for row in rows.values_mut() {
            let page: Vec<&str> = row["page"].as_str().unwrap().split_whitespace().collect();
            row["page"] = page.join(" ").replace("{ ", "{").replace(" }", "}").into();
        }
        assert_eq!(rows, expected, "{reader}");
    }
    let names: Vec<String> = keys(&bucket.join("visits"))
        .iter()
        .map(|path| path.strip_prefix(&bucket).unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(
        names.iter().all(|name| name.starts_with("visits/20") && name.contains("/visits-2-20")),
        "{names:?}"
    );
    assert!(names.iter().all(|name| name.ends_with(".parquet")), "{names:?}");
    let unfit = raw_data(&bucket.join("bad/format-conversion-failed"));
    let numbers = |texts: Vec<Value>| {
        let mut found: Vec<i64> =
            texts.iter().map(|record| record["timestamp"].as_i64().unwrap() - 1_700_000_000_000).collect();
        found.sort_unstable();
        found
    };
    let unfit = unfit.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(numbers(unfit), (0..3000).filter(|n| n % 5 == 3).collect::<Vec<_>>());
    // One after another, with nothing between.
    let mut kept = Vec::new();
    for file in keys(&bucket.join("source")) {
        let text = fs::read(file).unwrap();
        let values = serde_json::Deserializer::from_slice(&text).into_iter::<Value>();
        kept.extend(values.map(Result::unwrap));
    }
    assert_eq!(numbers(kept), (0..3000).collect::<Vec<_>>());
}

#[test]
fn rows_that_waited_while_their_columns_changed_are_in_the_file_or_in_a_letter() {
    let (Some(binary), Some(packages)) = (binary(), packages()) else { return };
    let config = |columns: &str| {
        format!(
            r#"
            [streams.events]
            source = {{ type = "http" }}
            backup = {{ type = "directory", path = "backup", compression = "none", interval = "10ms" }}
            [[streams.events.outputs]]
            type = "directory"
            path = "out"
            format = "parquet"
            interval = "1h"
            parquet = {{ schema = "n: {columns}" }}
            "#
        )
    };
    // Some rows fit the later columns, or none does.
    for (body, fit, unfit) in [
        ("{\"n\":\"a\"}\n{\"n\":1}\n{\"n\":\"b\"}", vec![1], ["{\"n\":\"a\"}", "{\"n\":\"b\"}"]),
        ("{\"n\":\"c\"}\n{\"n\":\"d\"}", vec![], ["{\"n\":\"c\"}", "{\"n\":\"d\"}"]),
    ] {
        let scratch = Scratch::new(&config("string"));
        let program = Program::start(&binary, &scratch.config());
        assert_eq!(client::push(program.address(), "events", body).unwrap().status, 200);
        // Its outcome has the rows that wait, framed.
        let backed_up = || !objects::files(&scratch.path("backup")).is_empty();
        wait_until("the backup is there, and with it the outcome", backed_up);
        program.kill();
        scratch.configure(&config("int64"));
        for _again in 0..2 {
            Program::start(&binary, &scratch.config()).stop();
            for reader in READERS {
                let rows = by_number(&read(&packages, reader, &scratch.out()));
                assert_eq!(rows.into_keys().collect::<Vec<_>>(), fit, "{reader}");
            }
            let letters = scratch.letters("events");
            let payloads: Vec<&str> =
                letters.iter().map(|letter| letter["payload"].as_str().unwrap()).collect();
            assert_eq!(payloads, unfit);
            assert!(letters.iter().all(|letter| letter["stage"] == "encode"), "{letters:#?}");
        }
    }
}

#[test]
fn rows_of_batches_that_are_sealed_one_after_the_other_with_nothing_new_between_all_become_letters() {
    let Some(binary) = binary() else { return };
    let config = |columns: &str, first: &str, second: &str| {
        format!(
            r#"
            [streams.events]
            source = {{ type = "http" }}
            transforms = [{{ plugin = "place" }}]
            backup = {{ type = "directory", path = "backup", compression = "none", interval = "10ms" }}
            [[streams.events.outputs]]
            type = "directory"
            path = "second"
            format = "parquet"
            interval = "{second}"
            parquet = {{ schema = "n: {columns}" }}
            [[streams.events.outputs]]
            name = "b"
            type = "directory"
            path = "first"
            format = "parquet"
            interval = "{first}"
            parquet = {{ schema = "n: {columns}" }}
            "#
        )
    };
    let scratch = Scratch::new(&config("string", "1h", "1h"));
    scratch.deploy("place", &Guest::place(6, 6, "b"));
    let program = Program::start(&binary, &scratch.config());
    let body = "{\"o\":\"a\",\"n\":\"older\"}\n{\"o\":\"b\",\"n\":\"newer\"}";
    assert_eq!(client::push(program.address(), "events", body).unwrap().status, 200);
    wait_until("the outcome is there", || !objects::files(&scratch.path("backup")).is_empty());
    program.kill();
    // The batch of the newer record is sealed first, that of the older one later.
    scratch.configure(&config("int64", "100ms", "1s"));
    let program = Program::start(&binary, &scratch.config());
    wait_until("both are letters", || scratch.letters("events").len() == 2);
    program.stop();
    let letters = scratch.letters("events");
    let payloads: Vec<&str> = letters.iter().map(|letter| letter["payload"].as_str().unwrap()).collect();
    assert_eq!(payloads, body.lines().rev().collect::<Vec<_>>());
}
