//! Random rows and a set of queries: what the plugin gives is, row for row, what DuckDB gives.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says what it left out")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use wasmill_sdk::testing::Run;
use wasmill_sql::Sql;

/// The same to both. SQLite has no type for truth, has nulls first, divides whole numbers whole, and knows letters of ASCII alone in `upper`.
const QUERIES: [&str; 16] = [
    "SELECT id, upper(name) AS name, v * 2 - 1 AS v, f / 2 AS f FROM batch WHERE v > 10 OR v IS NULL",
    "SELECT id, coalesce(name, 'none') || '-' || id AS label, length(name) AS n, substr(name, 2, 2) AS s FROM batch",
    "SELECT id, CASE WHEN v < 0 THEN 'low' WHEN v BETWEEN 0 AND 50 THEN 'mid' ELSE 'high' END AS class, abs(v) AS a FROM batch",
    "SELECT id, nullif(name, 'ada') AS name, CAST(f AS TEXT) AS f, v % 7 AS m FROM batch WHERE name IN ('ada', 'bob') AND NOT v = 3",
    "SELECT id, replace(trim('  ' || name || ' '), 'a', 'A') AS r, instr(name, 'o') AS i FROM batch WHERE name GLOB '[a-c]*'",
    "SELECT id, row_number() OVER (PARTITION BY name ORDER BY v NULLS FIRST, id) AS n, sum(f) OVER (ORDER BY id ROWS 3 PRECEDING) AS s,
        lag(v) OVER (ORDER BY id) AS before FROM batch",
    "SELECT name, count(*) AS n, count(v) AS vs, sum(v) AS s, min(v) AS low, max(f) AS high, avg(f) AS mean FROM batch GROUP BY name",
    "SELECT v % 5 AS k, count(DISTINCT name) AS names, sum(f) FILTER (WHERE f > 0) AS pos FROM batch WHERE v IS NOT NULL
        GROUP BY v % 5 HAVING count(*) > 3",
    "SELECT count(*) AS n, sum(f) AS s FROM batch WHERE f > 1000000",
    "SELECT DISTINCT name, v % 3 AS m FROM batch",
    "SELECT b.id, u.level FROM batch AS b JOIN users AS u ON u.name = b.name",
    "SELECT b.id, u.level, u.name AS who FROM batch AS b LEFT JOIN users AS u ON u.name = b.name AND u.level > 1",
    "SELECT id FROM batch AS b WHERE EXISTS (SELECT 1 FROM users AS u WHERE u.name = b.name AND u.level = b.v % 3)",
    "WITH busy AS (SELECT name, count(*) AS n FROM batch GROUP BY name), large AS (SELECT id, name FROM batch WHERE f > 0)
        SELECT l.id, b.n FROM large AS l JOIN busy AS b ON b.name = l.name",
    "SELECT name, v FROM batch WHERE v > 90 UNION SELECT name, level AS v FROM users",
    "SELECT id, (SELECT max(level) FROM users AS u WHERE u.name = b.name) AS top FROM batch AS b ORDER BY f DESC NULLS LAST, id LIMIT 40",
];

const USERS: &str = "name,level\nada,1\nada,2\nbob,3\ndan,1\n";

const PROGRAM: &str = "
import duckdb, json, sys
_, records, users, queries = sys.argv
c = duckdb.connect()
c.execute(\"CREATE TABLE batch AS SELECT * FROM read_json('%s', format = 'newline_delimited', columns = {id: 'BIGINT', name: 'VARCHAR', \
    v: 'BIGINT', f: 'DOUBLE'})\" % records)
c.execute(\"CREATE TABLE users AS SELECT * FROM read_csv('%s', columns = {name: 'VARCHAR', level: 'BIGINT'}, header = true)\" % users)
all = []
for query in json.loads(queries):
    found = c.execute(query)
    names = [column[0] for column in found.description]
    all.append([dict(zip(names, row)) for row in found.fetchall()])
print(json.dumps(all))
";

/// The same on every run.
fn records() -> Vec<String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: i64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33).cast_signed() % bound
    };
    let record = |id: i64| {
        let mut record = json!({ "id": id });
        if below(8) > 0 {
            record["name"] =
                json!(["ada", "bob", "cyd", "dan", "eve", ""][usize::try_from(below(6)).unwrap()]);
        }
        if below(8) > 0 {
            record["v"] = json!(below(200) - 100);
        }
        if below(8) > 0 {
            // Sums are exact, in whatever order.
            record["f"] = json!((below(1 << 20) - (1 << 19)) as f64 / 64.0);
        }
        record.to_string()
    };
    (0..2000).map(record).collect()
}

fn duckdb(packages: &Path, records: &[String]) -> Vec<Vec<Value>> {
    let dir = std::env::temp_dir().join(format!("wasmill-sql-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("records.ndjson"), records.join("\n")).unwrap();
    std::fs::write(dir.join("users.csv"), USERS).unwrap();
    let mut python = Command::new("python3");
    python.args(["-c", PROGRAM]).arg(dir.join("records.ndjson")).arg(dir.join("users.csv"));
    python.arg(json!(QUERIES).to_string()).env("PYTHONPATH", packages);
    let output = python.output().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// In an order that both have; a sum of whole numbers that DuckDB gives as a double is the same number.
fn sorted(rows: Vec<Value>) -> Vec<String> {
    let text = |row: Value| {
        let cells: Vec<String> = row
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| match value.as_f64() {
                Some(number) => format!("{name}={number}"),
                None => format!("{name}={value}"),
            })
            .collect();
        cells.join(" ")
    };
    let mut rows: Vec<String> = rows.into_iter().map(text).collect();
    rows.sort();
    rows
}

#[test]
fn queries_give_row_for_row_what_duckdb_gives() {
    let Some(packages) = std::env::var_os("WASMILL_READERS").map(PathBuf::from) else {
        println!("skipped: WASMILL_READERS is not set; `cargo xtask test` sets it");
        return;
    };
    let records = records();
    let expected = duckdb(&packages, &records);
    for (query, expected) in QUERIES.into_iter().zip(expected) {
        let config = json!({
            "query": query,
            "columns": { "id": "bigint", "name": "text", "v": "bigint", "f": "double" },
            "tables": { "users": { "csv": USERS, "columns": { "level": "bigint" }, "key": ["name"] } },
        });
        // Aggregates are of a batch: all records are one.
        let outcome = Run::new(&config.to_string()).chunk_rows(4000).records::<Sql>(&records).unwrap();
        assert_eq!(outcome.reasons(), [], "{query}");
        let rows = outcome.rows().into_iter().map(|row| serde_json::from_str(row).unwrap()).collect();
        assert!(!expected.is_empty(), "{query}: gives nothing, which proves nothing");
        let (rows, expected) = (sorted(rows), sorted(expected));
        let first = rows.iter().zip(&expected).find(|(row, expected)| row != expected);
        assert_eq!(first, None, "{query}");
        assert_eq!(rows.len(), expected.len(), "{query}");
    }
}
