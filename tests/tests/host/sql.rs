//! The plugin `sql` in a whole host: what its aggregates are of.

use std::path::PathBuf;

use serde_json::{Value, json};
use wasmill_tests::objects;
use wasmill_tests::running::Running;
use wasmill_tests::scratch::{Scratch, apart};
use wasmill_tests::wait::wait_until;

use crate::COMPILER;

const GROUPED: &str = r#"
    [streams.events]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "out", interval = "1s" }]
    [[streams.events.transforms]]
    plugin = "sql"
    [streams.events.transforms.config]
    query = "SELECT city, count(*) AS n, sum(v) AS total FROM batch GROUP BY city"
    columns = { city = "text", v = "bigint" }
"#;

#[test]
fn groups_are_those_of_a_slice_although_it_is_many_chunks() {
    const RECORDS: u64 = 30_000;
    const CITIES: u64 = 7;
    let Some(plugins) = std::env::var_os("WASMILL_PLUGINS").map(PathBuf::from) else {
        println!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
        return;
    };
    let body: Vec<String> =
        (0..RECORDS).map(|v| json!({ "city": format!("c{}", v % CITIES), "v": v }).to_string()).collect();
    for config in [GROUPED.to_owned(), apart(GROUPED)] {
        let scratch = Scratch::new(&config);
        scratch.deploy_bytes("sql", &std::fs::read(plugins.join("sql.wasm")).unwrap());
        let host = Running::start(&scratch.config(), COMPILER);
        // Durable at once, and so of one slice, which would be eight chunks of 4,096 records.
        host.push("events", &body.join("\n"));
        let stats = host.stats("events");
        wait_until("all have a verdict", || stats.processed.get() == RECORDS);
        host.drain();
        let mut rows: Vec<Value> =
            objects::lines(&scratch.out()).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        rows.sort_by_key(|row| row["city"].as_str().unwrap().to_owned());
        let expected = (0..CITIES).map(|city| {
            let of: Vec<u64> = (0..RECORDS).filter(|v| v % CITIES == city).collect();
            json!({ "city": format!("c{city}"), "n": of.len(), "total": of.iter().sum::<u64>() })
        });
        assert_eq!(rows, expected.collect::<Vec<_>>());
        assert!(scratch.letters("events").is_empty());
    }
}
