//! A detector on the data of its paper: half-space trees on Shuttle, against the published area under the curve.
//!
//! The data is the UCI repository's Statlog (Shuttle), prepared as the papers do it that use it for anomalies: without class 4 (`High`),
//! class 1 (`Rad.Flow`) is normal, all others are not. Its order is random.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wasmill_tests::objects;
use wasmill_tests::running::Running;
use wasmill_tests::scratch::Scratch;

use crate::COMPILER;

/// Tan, Ting, Liu: "Fast Anomaly Detection for Streaming Data", IJCAI 2011.
const PUBLISHED: f64 = 0.999;

/// Writes its records as NDJSON: the nine fields, and whether a record is normal.
const READER: &str = r#"
import json, sys, rdata
rows = rdata.read_rda(sys.argv[1])["Shuttle"]
rows = rows[rows["Class"] != "High"]
with open(sys.argv[2], "w") as out:
    for *values, kind in rows.itertuples(index=False):
        record = {f"v{n}": float(value) for n, value in enumerate(values, 1)}
        record["normal"] = str(kind) == "Rad.Flow"
        out.write(json.dumps(record) + "\n")
"#;

fn read(packages: &Path, file: &Path, to: &Path) {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", packages).args(["-W", "ignore", "-c", READER]).args([file, to]);
    let read = python.output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
}

/// Share of the pairs of an anomaly and a normal record in which the anomaly scores higher, ties by half: by ranks (Mann, Whitney).
fn area(mut scores: Vec<(f64, bool)>) -> f64 {
    scores.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (mut below, mut right, mut anomalies) = (0, 0.0, 0);
    for same in scores.chunk_by(|(one, _), (other, _)| one == other) {
        let normal = same.iter().filter(|(_, normal)| *normal).count();
        right += (same.len() - normal) as f64 * (below as f64 + normal as f64 / 2.0);
        (below, anomalies) = (below + normal, anomalies + same.len() - normal);
    }
    right / (below * anomalies) as f64
}

#[test]
fn half_space_trees_find_the_anomalies_of_shuttle_as_published_to_a_hundredth() {
    let of_environment = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(plugins), Some(packages), Some(file)) = (
        of_environment("WASMILL_PLUGINS"),
        of_environment("WASMILL_TRAINERS"),
        of_environment("WASMILL_SHUTTLE"),
    ) else {
        println!(
            "skipped: WASMILL_PLUGINS, WASMILL_TRAINERS or WASMILL_SHUTTLE is not set; `cargo xtask test` sets them"
        );
        return;
    };
    let fields: Vec<String> = (1..=9).map(|n| format!("\"v{n}\"")).collect();
    let scratch = Scratch::new(&format!(
        r#"
        [streams.shuttle]
        source = {{ type = "http" }}
        outputs = [{{ type = "directory", path = "out", interval = "1s" }}]
        [[streams.shuttle.transforms]]
        plugin = "anomaly"
        [streams.shuttle.transforms.config.detectors.forest]
        method = "forest"
        fields = [{}]
        "#,
        fields.join(", ")
    ));
    scratch.deploy_bytes("anomaly", &std::fs::read(plugins.join("anomaly.wasm")).unwrap());
    let records = scratch.path("shuttle.ndjson");
    read(&packages, &file, &records);
    let records = std::fs::read_to_string(&records).unwrap();
    let records: Vec<&str> = records.lines().collect();
    let host = Running::start(&scratch.config(), COMPILER);
    records.chunks(5000).for_each(|some| _ = host.push("shuttle", &some.join("\n")));
    host.drain();
    let rows: Vec<Value> =
        objects::lines(&scratch.out()).iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    let is_normal = |row: &Value| row["normal"].as_bool().unwrap();
    // As the papers count them: 49,097 records, of which 7 in 100 are anomalies.
    assert_eq!((rows.len(), rows.iter().filter(|row| !is_normal(row)).count()), (49_097, 3511));
    let score = |row: &Value| Some((row["anomaly"]["forest"]["score"].as_f64()?, is_normal(row)));
    let scores: Vec<(f64, bool)> = rows.iter().filter_map(score).collect();
    // Two windows of 250 are seen before anything is judged.
    assert_eq!(scores.len(), 49_097 - 500);
    let area = area(scores);
    println!("area under the curve: {area:.4}; published: {PUBLISHED}");
    assert!(area > PUBLISHED - 0.01, "{area}");
}
