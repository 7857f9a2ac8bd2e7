//! Windows against DuckDB: the same records, out of order and with some too late, must give the same rows.
//!
//! DuckDB knows no watermarks: what is late is said in SQL, by the largest time of all records before. It comes with the
//! readers that `cargo xtask test` installs (`WASMILL_READERS`); without them these tests say that they are skipped.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value as Json;
use wasmill_keyed::{Memory, Table};
use wasmill_window::aggregate::number::Number;
use wasmill_window::aggregate::{Aggregate, Value};
use wasmill_window::engine::{Fired, Record, Spec, Tables, advance, process};
use wasmill_window::shape::Shape;

/// Time in nanoseconds, key, a whole number, another number; both may be missing.
type Row = (i64, u8, Option<i64>, Option<f64>);

/// Records of ten minutes at most out of order by `jitter`; numbers are such that sums of floats are exact.
fn records(count: i64, jitter: i64) -> Vec<Row> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: i64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33).cast_signed() % bound
    };
    let row = |at: i64| {
        // Once in a while a burst that is much too late.
        let late = if below(50) == 0 { 20 * jitter } else { below(jitter) };
        let whole = (below(10) > 0).then(|| below(2_000_000) - 1_000_000);
        let float = (below(10) > 0).then(|| (below(1 << 20) - (1 << 19)) as f64 / 64.0);
        (at * 100 - late, u8::try_from(below(23)).unwrap(), whole, float)
    };
    (0..count).map(row).collect()
}

/// The aggregates, and what they are in SQL.
fn aggregates() -> Vec<(Aggregate, &'static str)> {
    let variance = |sample, root| Aggregate::Variance { sample, root };
    vec![
        (Aggregate::Count, "count(*)"),
        (Aggregate::Count, "count(w)"),
        (Aggregate::Sum, "sum(w)"),
        (Aggregate::Sum, "sum(f)"),
        (Aggregate::Min, "min(w)"),
        (Aggregate::Max, "max(f)"),
        (Aggregate::Avg, "avg(f)"),
        (Aggregate::First, "first(w ORDER BY t, n) FILTER (w IS NOT NULL)"),
        (Aggregate::Last, "last(w ORDER BY t, n) FILTER (w IS NOT NULL)"),
        (Aggregate::ApproxCountDistinct, "count(DISTINCT w)"),
        (variance(true, false), "var_samp(f)"),
        (variance(false, true), "stddev_pop(f)"),
        (Aggregate::ApproxPercentile { percentages: vec![0.0], list: false, error: 0.01 }, "min(f)"),
    ]
}

/// Columns of [`aggregates`] that are equal to the last bit; in the others the order of values rounds.
const EXACT: usize = 10;

fn values(rows: &[Row]) -> Vec<Vec<Value>> {
    let whole = |row: &Row| row.2.map_or(Value::Absent, |number| Value::Number(Number::Int(number)));
    let float = |row: &Row| row.3.map_or(Value::Absent, |number| Value::Number(Number::Float(number)));
    let json = |row: &Row| row.2.map_or(Value::Absent, |number| Value::Json(number.to_string().into_bytes()));
    let one = |_: &Row| Value::Number(Number::Int(1));
    let column = |of: &dyn Fn(&Row) -> Value| rows.iter().map(of).collect();
    let columns: [&dyn Fn(&Row) -> Value; 13] =
        [&one, &whole, &whole, &float, &whole, &float, &float, &json, &json, &json, &float, &float, &float];
    columns.into_iter().map(column).collect()
}

/// The last result of each window, by key and start, and how many records were late.
fn windows(shape: Shape, delay: i64, lateness: i64, rows: &[Row]) -> (Vec<Vec<Json>>, usize) {
    let spec = Spec {
        tables: Tables { entries: Table(0), timers: Table(1), progress: Table(2) },
        shape,
        aggregates: aggregates().into_iter().zip(0..).map(|((what, _), print)| (print, what)).collect(),
        delay,
        lateness,
        updates: false,
        early_every: None,
        early_records: None,
    };
    let (mut state, mut last, mut late) = (Memory::default(), BTreeMap::new(), 0);
    let mut keep = |fired: Vec<Fired>| {
        for fired in fired {
            let mut row = vec![Json::from(fired.key[0]), fired.window.start.into(), fired.window.end.into()];
            row.extend(fired.values.iter().map(|value| serde_json::from_slice::<Json>(value).unwrap()));
            last.insert((fired.key[0], fired.window.start), row);
        }
    };
    for chunk in rows.chunks(97) {
        let keys: Vec<[u8; 1]> = chunk.iter().map(|row| [row.1]).collect();
        let records = chunk.iter().zip(&keys).enumerate();
        let records: Vec<Record<'_>> = records
            .map(|(row, (of, key))| Record { group: key[0] % 7, key, time: of.0, row, before: None })
            .collect();
        let outcome = process(&spec, &mut state, &records, &values(chunk)).unwrap();
        late += outcome.late.len();
        keep(outcome.fired);
    }
    loop {
        let outcome = advance(&spec, &mut state, i64::MAX).unwrap();
        keep(outcome.fired);
        if !outcome.more {
            break;
        }
    }
    assert_eq!((state.len(Table(0)), state.len(Table(1))), (0, 0), "something is left in state");
    (last.into_values().collect(), late)
}

const PROGRAM: &str = "
import duckdb, json, sys
rows = duckdb.sql(sys.argv[1]).fetchall()
print(json.dumps([[float(c) if type(c).__name__ == 'Decimal' else c for c in row] for row in rows]))
";

/// What DuckDB says; `None` where it is not there.
fn duckdb(sql: &str, rows: &[Row]) -> Option<Vec<Vec<Json>>> {
    let Some(readers) = std::env::var_os("WASMILL_READERS") else {
        eprintln!("skipped: WASMILL_READERS is not set; `cargo xtask test` sets it");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rows.csv");
    let mut text = String::from("n,t,k,w,f\n");
    let shown = |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
    for (at, (time, key, whole, float)) in rows.iter().enumerate() {
        let whole = whole.map_or_else(String::new, |number| number.to_string());
        writeln!(text, "{at},{time},{key},{whole},{}", shown(*float)).unwrap();
    }
    std::fs::write(&file, text).unwrap();
    let columns = "{'n': 'BIGINT', 't': 'BIGINT', 'k': 'BIGINT', 'w': 'BIGINT', 'f': 'DOUBLE'}";
    let table = format!("read_csv('{}', header = true, columns = {columns})", file.display());
    let output = Command::new("python3")
        .args(["-c", PROGRAM, &sql.replace("ROWS_OF_FILE", &table)])
        .env("PYTHONPATH", readers)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn same(ours: &[Vec<Json>], theirs: &[Vec<Json>]) {
    assert_eq!(ours.len(), theirs.len(), "windows");
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours.len(), theirs.len());
        for (at, (one, other)) in ours.iter().zip(theirs).enumerate() {
            let is_same = match (one.as_f64(), other.as_f64()) {
                (Some(one), Some(other)) if at < 3 + EXACT => one == other,
                (Some(one), Some(other)) => (one - other).abs() <= 1e-9 * (1.0 + other.abs()),
                _ => one == other,
            };
            assert!(is_same, "column {at}: {one}, DuckDB has {other}\n{ours:?}\n{theirs:?}");
        }
    }
}

/// Windows of `size` every `slide` as SQL: rows by key and start, with late records left out.
fn aligned(size: i64, slide: i64, delay: i64, lateness: i64, count: i64, jitter: i64) {
    let rows = records(count, jitter);
    let (ours, late) = windows(Shape::Aligned { size, slide, offset: 0 }, delay, lateness, &rows);
    let select: Vec<&str> = aggregates().iter().map(|(_, sql)| *sql).collect();
    let select = select.join(", ");
    let with = format!(
        "WITH seen AS (SELECT *, max(t) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - {delay} AS mark
            FROM ROWS_OF_FILE),
        placed AS (SELECT *, t - ((t % {slide}) + {slide}) % {slide} - i * {slide} AS s
            FROM seen, range(({size} + {slide} - 1) // {slide}) AS steps(i)),
        kept AS (SELECT * FROM placed WHERE t < s + {size} AND (mark IS NULL OR s + {size} + {lateness} > mark))"
    );
    let sql = format!("{with} SELECT k, s, s + {size}, {select} FROM kept GROUP BY k, s ORDER BY k, s");
    let Some(theirs) = duckdb(&sql, &rows) else { return };
    same(&ours, &theirs);
    let sql = format!("{with} SELECT (SELECT count(*) FROM seen) - count(DISTINCT n) FROM kept");
    let theirs = duckdb(&sql, &rows).unwrap();
    assert_eq!(theirs, [vec![Json::from(late)]], "late records");
    assert!(late > 0, "the records show nothing about lateness");
}

#[test]
fn tumbling_windows_are_those_of_duckdb() {
    aligned(10_000, 10_000, 1_000, 0, 6_000, 3_000);
}

#[test]
fn tumbling_windows_with_lateness_are_those_of_duckdb() {
    aligned(2_000, 2_000, 500, 4_000, 6_000, 3_000);
}

#[test]
fn sliding_windows_are_those_of_duckdb() {
    aligned(7_000, 2_000, 1_500, 0, 4_000, 2_500);
    aligned(6_000, 1_500, 0, 3_000, 4_000, 2_500);
}

#[test]
fn session_windows_are_those_of_duckdb() {
    let (gap, rows) = (1_500, records(6_000, 3_000));
    let (ours, late) = windows(Shape::Session { gap }, 1_000_000, 0, &rows);
    assert_eq!(late, 0);
    let select: Vec<&str> = aggregates().iter().map(|(_, sql)| *sql).collect();
    let sql = format!(
        "WITH gaps AS (SELECT *, t - lag(t) OVER (PARTITION BY k ORDER BY t, n) > {gap} AS begins FROM ROWS_OF_FILE),
        numbered AS (SELECT *, count(*) FILTER (begins) OVER (PARTITION BY k ORDER BY t, n) AS session FROM gaps)
        SELECT k, min(t), max(t) + {gap}, {} FROM numbered GROUP BY k, session ORDER BY k, min(t)",
        select.join(", ")
    );
    let Some(theirs) = duckdb(&sql, &rows) else { return };
    assert!(theirs.len() > 500, "{} sessions", theirs.len());
    same(&ours, &theirs);
}
