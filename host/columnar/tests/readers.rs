//! Files read row for row by pyarrow, duckdb and Apache Spark.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says what it left out")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use wasmill_columnar::{Compression, Options, WriterVersion};

mod reading;

const SCHEMA: &str = "flag: boolean, small: int32 required, large: int64, single: float, double: double, \
     price: decimal(9, 2), sum: decimal(38, 10), day: date, at_ms: timestamp(ms, utc), at_us: timestamp(us), \
     at_ns: timestamp(ns, utc), text: string, bytes: binary, tags: list<string>, \
     place: struct<city: string, point: struct<x: double, y: double>>, counts: map<string, int64>, \
     runs: list<struct<name: string required, steps: list<int32>>>";

/// Prints rows as JSON: timestamps as microseconds, decimals and dates as text, binary in base64.
const PROGRAM: &str = r#"
import base64, datetime, decimal, json, sys
_, path, reader = sys.argv

def plain(value, key=None):
    if key == "counts" and isinstance(value, list):
        value = dict(value)
    if isinstance(value, dict):
        return {name: plain(of) for name, of in value.items()}
    if isinstance(value, list):
        return [plain(of) for of in value]
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        zone = value.tzinfo or datetime.timezone.utc
        since = value.replace(tzinfo=zone) - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        return since // datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    return value

if reader == "pyarrow":
    import pyarrow.parquet
    rows = pyarrow.parquet.read_table(path).to_pylist()
else:
    import duckdb
    query = "select * replace (epoch_us(at_ms) as at_ms, epoch_us(at_us) as at_us, epoch_ns(at_ns) // 1000 as at_ns)"
    found = duckdb.connect().execute(query + " from read_parquet(?)", [path])
    names = [column[0] for column in found.description]
    rows = [dict(zip(names, row)) for row in found.fetchall()]
for row in rows:
    print(json.dumps({name: plain(value, name) for name, value in row.items()}))
"#;

/// What the columns are to Spark when it takes nanoseconds as numbers.
const SPARK_COLUMNS: &str = "flag BOOLEAN,small INT,large BIGINT,single FLOAT,double DOUBLE,price DECIMAL(9,2),\
     sum DECIMAL(38,10),day DATE,at_ms TIMESTAMP,at_us TIMESTAMP_NTZ,at_ns BIGINT,text STRING,bytes BINARY,\
     tags ARRAY<STRING>,place STRUCT<city: STRING, point: STRUCT<x: DOUBLE, y: DOUBLE>>,\
     counts MAP<STRING, BIGINT>,runs ARRAY<STRUCT<name: STRING, steps: ARRAY<INT>>>";

/// A row, and as the programs print it.
fn row(n: i64) -> (String, Value) {
    if n % 11 == 3 {
        let mut none: Value = Value::Object(
            [
                "flag", "large", "single", "double", "price", "sum", "day", "at_ms", "at_us", "at_ns",
                "text", "bytes",
            ]
            .into_iter()
            .chain(["tags", "place", "counts", "runs"])
            .map(|name| (name.to_owned(), Value::Null))
            .collect(),
        );
        none["small"] = json!(n);
        return (format!("{{\"small\":{n}}}"), none);
    }
    let written = json!({
        "flag": n % 2 == 0, "small": n, "large": n * 1_000_000_007, "single": 0.25 * n as f64,
        "double": n as f64 / 1024.0, "price": format!("{n}.05"), "sum": format!("-{n}.0000000001"),
        "day": "2024-02-29", "at_ms": 1_700_000_000_000 + n, "at_us": "2023-11-14 22:13:20.000001",
        "at_ns": "2023-11-14T22:13:20.000001Z", "text": format!("é \"{}\"", n % 100), "bytes": "AAECw+k=",
        "tags": (0..n % 4).map(|t| if t == 2 { Value::Null } else { json!(format!("t{t}")) }).collect::<Vec<_>>(),
        "place": { "city": "Åre", "point": if n % 3 == 0 { Value::Null } else { json!({"x": n, "y": -0.5}) } },
        "counts": { "a": n, "b": null },
        "runs": [{ "name": "r", "steps": [n, null] }, { "name": "", "steps": [] }, null, { "name": "s" }],
    });
    let mut read = written.clone();
    read["at_ms"] = json!((1_700_000_000_000 + n) * 1000);
    read["at_us"] = json!(1_700_000_000_000_001_i64);
    read["at_ns"] = json!(1_700_000_000_000_001_i64);
    if n % 3 != 0 {
        read["place"]["point"]["x"] = json!(n as f64);
    }
    read["runs"][3]["steps"] = Value::Null;
    (written.to_string(), read)
}

/// Files of these rows, with what is special about each.
fn files(dir: &Path, rows: &[String]) -> Vec<(String, PathBuf)> {
    let manners = [
        (WriterVersion::V1, Compression::Snappy),
        (WriterVersion::V2, Compression::Zstd { level: 3 }),
        (WriterVersion::V1, Compression::Gzip { level: 6 }),
    ];
    let write = |(n, (version, compression))| {
        let options = Options {
            version,
            compression,
            row_group_bytes: 256 << 10,
            page_bytes: 16 << 10,
            ..Options::default()
        };
        let (file, report) = reading::file(SCHEMA, &options, rows);
        assert!(report.rejected.is_empty() && report.written.row_groups > 1, "{report:?}");
        assert_eq!(reading::read(&file).len(), rows.len());
        let path = dir.join(format!("{n}.parquet"));
        std::fs::write(&path, file).unwrap();
        (format!("{version:?} {compression:?}"), path)
    };
    manners.into_iter().enumerate().map(write).collect()
}

/// What a program says that must end well.
fn said(program: &mut Command) -> String {
    let output = program.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn same<'a>(read: impl Iterator<Item = &'a str>, expected: &[Value], what: &str) {
    let read: Vec<Value> = read.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read.len(), expected.len(), "{what}");
    for (read, expected) in read.iter().zip(expected) {
        assert_eq!(read, expected, "{what}");
    }
}

#[test]
fn rows_are_what_pyarrow_and_duckdb_read() {
    let Some(readers) = std::env::var_os("WASMILL_READERS") else {
        println!("skipped: WASMILL_READERS is not set; `cargo xtask test` sets it");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (rows, expected): (Vec<_>, Vec<_>) = (0..3000).map(row).unzip();
    for (manner, path) in files(dir.path(), &rows) {
        for reader in ["pyarrow", "duckdb"] {
            let mut python = Command::new("python3");
            python.arg("-c").arg(PROGRAM).arg(&path).arg(reader).env("PYTHONPATH", &readers);
            same(said(&mut python).lines(), &expected, &format!("{reader} {manner}"));
        }
    }
}

#[test]
fn rows_are_what_spark_reads() {
    let Some(spark) = std::env::var_os("WASMILL_SPARK").map(PathBuf::from) else {
        println!("skipped: WASMILL_SPARK is not set; `cargo xtask test` sets it where there is Java");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (rows, expected): (Vec<_>, Vec<_>) = (0..3000).map(row).unzip();
    let files = files(dir.path(), &rows);
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-XX:TieredStopAtLevel=1"]);
    java.arg(format!("-Djava.io.tmpdir={}", dir.path().display())).arg("-cp");
    java.arg(format!("{}:{}", spark.join("classes").display(), spark.join("lib/*").display()));
    java.arg("Rows").args(files.iter().map(|(_manner, path)| path));
    java.current_dir(&dir).env("SPARK_LOCAL_IP", "127.0.0.1").env_remove("SPARK_LOCAL_DIRS");
    let text = said(&mut java);
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("PARQUET_TYPE_ILLEGAL"),
        "docs/parquet.md says that Spark refuses nanoseconds"
    );
    for (manner, _path) in &files {
        for reader in ["vectors", "rows"] {
            let what = format!("Spark, by {reader}, {manner}");
            assert_eq!(lines.next(), Some(SPARK_COLUMNS), "{what}");
            same(lines.by_ref().take(expected.len()), &expected, &what);
        }
    }
    assert_eq!(lines.next(), None);
}
