//! Files read row for row by pyarrow and by duckdb.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says what it left out")]

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

/// A row, and as the program prints it.
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

#[test]
fn rows_are_what_pyarrow_and_duckdb_read() {
    let Some(readers) = std::env::var_os("WASMILL_READERS") else {
        println!("skipped: WASMILL_READERS is not set; `cargo xtask test` sets it");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (rows, expected): (Vec<_>, Vec<_>) = (0..3000).map(row).unzip();
    for (version, compression) in [
        (WriterVersion::V1, Compression::Snappy),
        (WriterVersion::V2, Compression::Zstd { level: 3 }),
        (WriterVersion::V1, Compression::Gzip { level: 6 }),
    ] {
        let options = Options {
            version,
            compression,
            row_group_bytes: 256 << 10,
            page_bytes: 16 << 10,
            ..Options::default()
        };
        let (file, report) = reading::file(SCHEMA, &options, &rows);
        assert!(report.rejected.is_empty() && report.written.row_groups > 1, "{report:?}");
        assert_eq!(reading::read(&file).len(), rows.len());
        let path = dir.path().join("rows.parquet");
        std::fs::write(&path, file).unwrap();
        for reader in ["pyarrow", "duckdb"] {
            let mut python = Command::new("python3");
            python.arg("-c").arg(PROGRAM).arg(&path).arg(reader).env("PYTHONPATH", &readers);
            let output = python.output().unwrap();
            assert!(output.status.success(), "{reader}: {}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8(output.stdout).unwrap();
            let read: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(read.len(), expected.len(), "{reader}");
            for (read, expected) in read.iter().zip(&expected) {
                assert_eq!(read, expected, "{reader} {version:?} {compression:?}");
            }
        }
    }
}
