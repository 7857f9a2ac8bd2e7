//! Windows and joins of a whole host against DuckDB over the whole input: records out of order, some too late, and a host that
//! is killed twenty times at random moments, with pushes on their way, give the same rows.
//!
//! DuckDB knows no watermarks: what is late is said in SQL, by the largest time of all records before. Which session a record is
//! in depends on what was closed when it came, so sessions are made record by record, in a recursive query.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};

const KILLS: usize = 20;
const STREAMS: [&str; 5] = ["tumbling", "sliding", "sessions", "joined", "tabled"];

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

/// The delay is shorter than the disorder: some are late, and some begin a session behind one that was closed.
const SESSIONS: &str = r#"
    [[streams.sessions.transforms]]
    plugin = "window"
    key = ["user"]
    [streams.sessions.transforms.config]
    window = { kind = "session", gap = "1500ms" }
    time = "t"
    time_format = "ms"
    by = ["user"]
    delay = "1s"
"#;

/// By the event time of the stream.
const JOINED: &str = r#"
    event_time = { field = "t", format = "ms", delay = "1s" }
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
"#;

const TABLED: &str = r#"
    [[streams.tabled.transforms]]
    plugin = "join"
    files = { table = "users.csv" }
    config = { table = { on = { user = "id" }, file = "table", into = "row", kind = "left" } }
"#;

/// Some users stand in it twice, and some do not.
const USERS: &str =
    "id,city\nu0,Ulm\nu1,Bonn\nu1,Kiel\nu3,\nu5,Jena\nu8,Trier\nu8,Gera\nu8,Hof\nu13,Suhl\nu99,Rom\n";

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
        let more = if matches!(*stream, "joined" | "tabled") { "" } else { &aggregates };
        format!("{}{text}{more}", HEAD.replace("STREAM", stream))
    };
    STREAMS.iter().zip([TUMBLING, SLIDING, SESSIONS, JOINED, TABLED]).map(of).collect()
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

/// Of each user record by record: the sessions that are open when it comes, and those that have been closed since the one before.
/// One that meets none and would be over is late.
fn sessions(gap: i64, delay: i64) -> String {
    format!(
        "WITH RECURSIVE seen AS (SELECT *, row_number() OVER (PARTITION BY user ORDER BY id) AS k, coalesce(max(t) OVER (
                ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - {delay}, -1000000) AS mark FROM RECORDS),
        steps AS (
            SELECT DISTINCT user, 0::BIGINT AS k, []::STRUCT(s BIGINT, e BIGINT, ids BIGINT[])[] AS open,
                []::STRUCT(s BIGINT, e BIGINT, ids BIGINT[])[] AS closed FROM seen
            UNION ALL
            SELECT user, k, CASE WHEN e > mark THEN list_append(others, struct_pack(s := s, e := e, ids := ids)) ELSE open END,
                closed
            FROM (SELECT user, k, mark, open, closed, others,
                    least(t, coalesce(list_min(list_transform(met, lambda x: x.s)), t)) AS s,
                    greatest(t + {gap}, coalesce(list_max(list_transform(met, lambda x: x.e)), t)) AS e,
                    list_append(flatten(list_transform(met, lambda x: x.ids)), id) AS ids
                FROM (SELECT *, list_filter(open, lambda x: x.s <= t + {gap} AND t <= x.e) AS met,
                        list_filter(open, lambda x: x.s > t + {gap} OR t > x.e) AS others
                    FROM (SELECT seen.user, seen.k, seen.t, seen.id, seen.mark,
                            list_filter(steps.open, lambda x: x.e > seen.mark) AS open,
                            list_filter(steps.open, lambda x: x.e <= seen.mark) AS closed
                        FROM steps JOIN seen ON seen.user = steps.user AND seen.k = steps.k + 1)))),
        ended AS (SELECT unnest(closed) AS x FROM steps
            UNION ALL SELECT unnest(open) FROM (SELECT arg_max(open, k) AS open FROM steps GROUP BY user)),
        members AS (SELECT x.s AS s, x.e AS e, unnest(x.ids) AS member FROM ended)
        SELECT user, s AS window_start, e AS window_end, {} FROM members JOIN RECORDS AS r ON r.id = member GROUP BY user, s, e",
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

/// Each record with each row of its user, or with none.
fn tabled(users: &Path) -> String {
    format!(
        "SELECT r.id, u.city FROM RECORDS AS r LEFT JOIN read_csv('{}', header = true, force_not_null = ['city'],
            columns = {{'id': 'VARCHAR', 'city': 'VARCHAR'}}) AS u ON r.user = u.id",
        users.display()
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
        "tabled" => {
            let of_records = rows.filter(|row| row["id"] != -1);
            of_records.map(|row| json!({ "id": row["id"], "city": row["row"]["city"] })).collect()
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

/// To all streams at once, under the producer's number, which makes it once. Whether all of them took it.
fn send(to: SocketAddr, sequence: usize, body: &str) -> bool {
    let number = format!("wasmill-sequence: {sequence}");
    let headers = ["content-type: application/x-ndjson", "wasmill-producer: p", &number];
    std::thread::scope(|scope| {
        let push = |stream: &'static str| move || client::push_as(to, stream, &headers, body.as_bytes());
        let pushes = STREAMS.map(|stream| scope.spawn(push(stream)));
        let answers = pushes.map(|push| push.join().unwrap());
        answers.into_iter().all(|answer| answer.is_ok_and(|answer| answer.status == 200))
    })
}

/// Of the moments of the kills: that of the environment, which repeats those of another run, or a new one.
fn seed() -> u64 {
    let asked =
        std::env::var_os("WASMILL_KILL_SEED").map(|seed| seed.into_string().unwrap().parse().unwrap());
    asked.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into())
}

/// Sends until the host is killed, at a random moment: what is not answered then may be stored or not, and is sent again under
/// its number. Whether anything was on its way.
fn send_until_killed(program: Program, random: &mut StdRng, next: &mut usize, bodies: &[String]) -> bool {
    let address = program.address();
    // Up to three quarters of what is left, so that the kills are all over the input.
    let answered: usize = random.random_range(0..=(bodies.len() - *next) * 3 / 4);
    let moment = Duration::from_millis(random.random_range(0..60));
    for _ in 0..answered {
        assert!(send(address, *next, &bodies[*next]), "{:#?}", program.log());
        *next += 1;
    }
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let sent = (*next..bodies.len()).take_while(|next| send(address, *next, &bodies[*next])).count();
            *next += sent;
            *next < bodies.len()
        });
        // Nothing is waited for: the kill comes whenever it comes.
        std::thread::park_timeout(moment);
        program.kill();
        sender.join().unwrap()
    })
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
    let (file, users) = (scratch.path("records.ndjson"), scratch.path("users.csv"));
    std::fs::write(&file, records.join("\n")).unwrap();
    std::fs::write(&users, USERS).unwrap();
    let sql = [
        windows(2000, 2000, 1000, 4000),
        windows(7000, 2000, 1500, 0),
        sessions(1500, 1000),
        joined(1000, 3000, 1000),
        tabled(&users),
    ];
    let expected = sql.map(|sql| texts(duckdb(&packages, &file, &sql)));
    assert!(expected.iter().all(|rows| rows.len() > 1000), "{:?}", expected.each_ref().map(Vec::len));
    let in_sessions =
        expected[2].iter().map(|row| serde_json::from_str::<Value>(row).unwrap()["n"].as_f64().unwrap());
    assert!(in_sessions.sum::<f64>() < 5900.0, "some are late for their session");
    // One of each side from far ahead closes all but its own, 4096 windows at a time.
    let last = |kind: &str| json!({ "id": -1, "user": kind, "t": 100_000_000, "type": kind }).to_string();
    let bodies: Vec<String> = records.chunks(10).map(|lines| lines.join("\n")).collect();
    let ends: Vec<String> = (0..4).map(|_| format!("{}\n{}", last("order"), last("payment"))).collect();
    let seed = seed();
    println!("WASMILL_KILL_SEED={seed}");
    let (mut random, mut next, mut in_flight) = (StdRng::seed_from_u64(seed), 0, 0);
    for kill in 0..KILLS {
        let program = Program::start(&binary, &scratch.config());
        // Some are left for each of the others.
        let until = bodies.len() * (kill + 1) / KILLS;
        in_flight += usize::from(send_until_killed(program, &mut random, &mut next, &bodies[..until]));
    }
    println!(
        "{in_flight} of {KILLS} kills had pushes on their way, {next} of {} were answered before",
        bodies.len()
    );
    assert!(in_flight >= KILLS / 2, "{in_flight} of {KILLS} kills had pushes on their way");
    assert!(next > bodies.len() / 2, "{next} of {} were answered before the last kill", bodies.len());
    let program = Program::start(&binary, &scratch.config());
    for (sequence, body) in bodies.iter().chain(&ends).enumerate().skip(next) {
        assert!(send(program.address(), sequence, body), "{:#?}", program.log());
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
            "{stream}: {} rows, DuckDB has {}: {differs:?}; WASMILL_KILL_SEED={seed}",
            found.len(),
            expected.len()
        );
        assert!(scratch.letters(stream).is_empty());
    }
}
