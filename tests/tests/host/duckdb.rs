//! Windows and joins of a whole host against DuckDB over the whole input: records out of order, some too late, and a host that
//! is killed twenty times in the middle give the same rows.
//!
//! DuckDB knows no watermarks: what is late is said in SQL, by the largest time of all records before.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};

const KILLS: usize = 20;
const STREAMS: [&str; 4] = ["tumbling", "sliding", "sessions", "joined"];

/// `STREAM` gets the same records as the others.
const HEAD: &str = r#"
    [streams.STREAM]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "out/STREAM", interval = "50ms" }]
"#;

/// By the event time of the stream, with late records that change what was given.
const TUMBLING: &str = r#"
    event_time = { field = "t", format = "ms", delay = "1s", lateness = "4s" }
    [[streams.tumbling.transforms]]
    plugin = "window"
    key = ["user"]
    [streams.tumbling.transforms.config]
    window = { kind = "tumbling", size = "2s" }
    time_format = "ms"
    by = ["user"]
    lateness = "4s"
"#;

const SLIDING: &str = r#"
    [[streams.sliding.transforms]]
    plugin = "window"
    key = ["user"]
    [streams.sliding.transforms.config]
    window = { kind = "sliding", size = "7s", slide = "2s" }
    time = "t"
    time_format = "ms"
    by = ["user"]
    delay = "1500ms"
"#;

/// The delay is longer than the input: no record is late.
const SESSIONS: &str = r#"
    [[streams.sessions.transforms]]
    plugin = "window"
    key = ["user"]
    [streams.sessions.transforms.config]
    window = { kind = "session", gap = "1500ms" }
    time = "t"
    time_format = "ms"
    by = ["user"]
    delay = "1000s"
"#;

const JOINED: &str = r#"
    [[streams.joined.transforms]]
    plugin = "join"
    key = ["user"]
    [streams.joined.transforms.config.streams]
    on = ["user"]
    side = "type"
    left = { is = "order", into = "order" }
    right = { is = "payment", into = "payment" }
    before = "1s"
    after = "3s"
    kind = "full"
    time = "t"
    time_format = "ms"
    delay = "1s"
"#;

/// Field of the result, aggregate, and what it is in SQL. Sums of these numbers are exact.
const AGGREGATES: [(&str, &str, &str); 9] = [
    ("n", r#"op = "count""#, "count(*)"),
    ("ws", r#"op = "count", field = "w""#, "count(w)"),
    ("sum_w", r#"op = "sum", field = "w""#, "sum(w)"),
    ("sum_f", r#"op = "sum", field = "f""#, "sum(f)"),
    ("min_w", r#"op = "min", field = "w""#, "min(w)"),
    ("max_f", r#"op = "max", field = "f""#, "max(f)"),
    ("avg_f", r#"op = "avg", field = "f""#, "avg(f)"),
    ("first_w", r#"op = "first", field = "w""#, "first(w ORDER BY t, id) FILTER (w IS NOT NULL)"),
    ("last_w", r#"op = "last", field = "w""#, "last(w ORDER BY t, id) FILTER (w IS NOT NULL)"),
];

fn config() -> String {
    let aggregates: Vec<String> =
        AGGREGATES.iter().map(|(name, op, _)| format!("{name} = {{ {op} }}")).collect();
    let aggregates = format!("    aggregates = {{ {} }}\n", aggregates.join(", "));
    let of = |(stream, text): (&&str, &str)| {
        let more = if *stream == "joined" { "" } else { &aggregates };
        format!("{}{text}{more}", HEAD.replace("STREAM", stream))
    };
    STREAMS.iter().zip([TUMBLING, SLIDING, SESSIONS, JOINED]).map(of).collect()
}

/// Records of ten minutes, in the order in which they are sent: most within three seconds of the newest, some far behind.
fn records() -> Vec<Value> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: i64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33).cast_signed() % bound
    };
    let record = |id: i64| {
        let behind = if below(50) == 0 { 60_000 } else { below(3000) };
        let mut record = json!({
            "id": id, "user": format!("u{}", below(23)), "t": 1_000_000 + id * 100 - behind,
            "type": if below(3) == 0 { "payment" } else { "order" },
        });
        if below(10) > 0 {
            record["w"] = json!(below(2_000_000) - 1_000_000);
        }
        if below(10) > 0 {
            record["f"] = json!((below(1 << 20) - (1 << 19)) as f64 / 64.0);
        }
        record
    };
    (0..6000).map(record).collect()
}

const PROGRAM: &str = "
import duckdb, json, sys
table = \"read_json('%s', format = 'newline_delimited', columns = {id: 'BIGINT', user: 'VARCHAR', t: 'BIGINT', type: 'VARCHAR', \
    w: 'BIGINT', f: 'DOUBLE'})\" % sys.argv[1]
found = duckdb.sql(sys.argv[2].replace('RECORDS', table))
print(json.dumps([dict(zip(found.columns, row)) for row in found.fetchall()]))
";

fn duckdb(packages: &Path, file: &Path, sql: &str) -> Vec<Value> {
    let mut python = Command::new("python3");
    python.args(["-c", PROGRAM]).arg(file).arg(sql).env("PYTHONPATH", packages);
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn select() -> String {
    AGGREGATES.map(|(name, _, sql)| format!("{sql} AS {name}")).join(", ")
}

/// Windows of `size` every `slide` milliseconds, late records left out.
fn windows(size: i64, slide: i64, delay: i64, lateness: i64) -> String {
    format!(
        "WITH seen AS (SELECT *, max(t) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - {delay} AS mark
            FROM RECORDS),
        placed AS (SELECT *, t - t % {slide} - i * {slide} AS s FROM seen, range(({size} + {slide} - 1) // {slide}) AS steps(i)),
        kept AS (SELECT * FROM placed WHERE t < s + {size} AND (mark IS NULL OR s + {size} + {lateness} > mark))
        SELECT user, s AS window_start, s + {size} AS window_end, {} FROM kept GROUP BY user, s",
        select()
    )
}

fn sessions(gap: i64) -> String {
    format!(
        "WITH gaps AS (SELECT *, t - lag(t) OVER (PARTITION BY user ORDER BY t, id) > {gap} AS begins FROM RECORDS),
        numbered AS (SELECT *, count(*) FILTER (begins) OVER (PARTITION BY user ORDER BY t, id) AS session FROM gaps)
        SELECT user, min(t) AS window_start, max(t) + {gap} AS window_end, {} FROM numbered GROUP BY user, session",
        select()
    )
}

/// Pairs of ids, and those that are alone.
fn joined(before: i64, after: i64, delay: i64) -> String {
    format!(
        "WITH seen AS (SELECT *, max(t) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - {delay} AS mark
            FROM RECORDS),
        kept AS (SELECT * FROM seen WHERE mark IS NULL OR t >= mark)
        SELECT l.id AS \"order\", r.id AS payment FROM (FROM kept WHERE type = 'order') AS l
        FULL JOIN (FROM kept WHERE type = 'payment') AS r ON l.user = r.user AND r.t BETWEEN l.t - {before} AND l.t + {after}"
    )
}

/// Rows as texts to compare, whatever the order of their fields and whether a number is whole.
fn texts(rows: impl IntoIterator<Item = Value>) -> Vec<String> {
    let plain = |row: Value| {
        let fields = row.as_object().unwrap().iter();
        let number = |value: &Value| value.as_f64().map_or(value.clone(), |number| json!(number));
        let fields: BTreeMap<&String, Value> = fields.map(|(name, value)| (name, number(value))).collect();
        serde_json::to_string(&fields).unwrap()
    };
    let mut texts: Vec<String> = rows.into_iter().map(plain).collect();
    texts.sort_unstable();
    texts
}

/// What a stream has delivered; of a window the last result, of a pair the ids.
fn found(scratch: &Scratch, stream: &str) -> Vec<Value> {
    let rows = objects::lines(&scratch.out().join(stream));
    let rows = rows.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    match stream {
        "joined" => {
            rows.map(|row| json!({ "order": row["order"]["id"], "payment": row["payment"]["id"] })).collect()
        }
        "tumbling" => {
            let mut last = BTreeMap::<String, Value>::new();
            for row in rows {
                let of =
                    last.entry(format!("{} {}", row["user"], row["window_start"])).or_insert(Value::Null);
                assert_ne!(of["n"], row["n"], "a window was given twice with the same records: {row}");
                if of["n"].as_u64() < row["n"].as_u64() {
                    *of = row;
                }
            }
            last.into_values().collect()
        }
        _ => rows.collect(),
    }
}

/// To all streams, under the producer's number, which makes it once.
fn send(to: SocketAddr, sequence: usize, body: &str) {
    let number = format!("wasmill-sequence: {sequence}");
    let headers = ["content-type: application/x-ndjson", "wasmill-producer: p", &number];
    for stream in STREAMS {
        let answer = client::push_as(to, stream, &headers, body.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[test]
fn windows_and_joins_are_those_of_duckdb_after_twenty_kills() {
    let Some(binary) = binary() else { return };
    let of_environment = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(plugins), Some(packages)) =
        (of_environment("WASMILL_PLUGINS"), of_environment("WASMILL_READERS"))
    else {
        println!("skipped: WASMILL_PLUGINS or WASMILL_READERS is not set; `cargo xtask test` sets them");
        return;
    };
    let scratch = Scratch::new(&config());
    for name in ["window", "join"] {
        scratch.deploy_bytes(name, &std::fs::read(plugins.join(format!("{name}.wasm"))).unwrap());
    }
    let records: Vec<String> = records().iter().map(Value::to_string).collect();
    let file = scratch.path("records.ndjson");
    std::fs::write(&file, records.join("\n")).unwrap();
    let sql = [
        windows(2000, 2000, 1000, 4000),
        windows(7000, 2000, 1500, 0),
        sessions(1500),
        joined(1000, 3000, 1000),
    ];
    let expected = sql.map(|sql| texts(duckdb(&packages, &file, &sql)));
    assert!(expected.iter().all(|rows| rows.len() > 1000), "{:?}", expected.each_ref().map(Vec::len));
    // One of each side from far ahead closes all but its own, 4096 windows at a time.
    let last = |kind: &str| json!({ "id": -1, "user": kind, "t": 100_000_000, "type": kind }).to_string();
    let mut bodies: Vec<String> = records.chunks(60).map(|lines| lines.join("\n")).collect();
    bodies.extend((0..4).map(|_| format!("{}\n{}", last("order"), last("payment"))));
    let mut next = 0;
    for kill in 0..KILLS {
        let program = Program::start(&binary, &scratch.config());
        while next < bodies.len() * (kill + 1) / (KILLS + 1) {
            send(program.address(), next, &bodies[next]);
            next += 1;
        }
        drop(program.kill());
    }
    let program = Program::start(&binary, &scratch.config());
    for (sequence, body) in bodies.iter().enumerate().skip(next) {
        send(program.address(), sequence, body);
    }
    for (stream, expected) in STREAMS.iter().zip(&expected) {
        wait_until("all results have left", || found(&scratch, stream).len() >= expected.len());
    }
    program.stop();
    for (stream, expected) in STREAMS.iter().zip(&expected) {
        let found = texts(found(&scratch, stream));
        let differs = found.iter().zip(expected).find(|(found, expected)| found != expected);
        assert!(
            found == *expected,
            "{stream}: {} rows, DuckDB has {}: {differs:?}",
            found.len(),
            expected.len()
        );
        assert!(scratch.letters(stream).is_empty());
    }
}
