//! The temperature of a real machine before its failure (Numenta Anomaly Benchmark), through the engine alone.
//!
//! The data is not part of the project: the test looks for it in `shared/data` beside the checkout or one directory
//! higher, and says when it is not there.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why it skips"
)]

use std::path::{Path, PathBuf};

use wasmill_anomaly::config::Config;
use wasmill_anomaly::engine::{Detector, Record, process};
use wasmill_keyed::moment::read_rfc3339;
use wasmill_keyed::{Address, Memory, Table};

/// The labelled windows; the last is the failure.
const LABELLED: [(&str, &str); 4] = [
    ("2013-12-10 06:25", "2013-12-12 05:35"),
    ("2013-12-15 17:50", "2013-12-17 17:00"),
    ("2014-01-27 14:20", "2014-01-29 13:30"),
    ("2014-02-07 14:55", "2014-02-09 14:05"),
];

fn time(text: &str) -> i64 {
    let seconds = if text.len() == 16 { ":00" } else { "" };
    read_rfc3339(format!("{}{seconds}Z", text.replace(' ', "T")).as_bytes()).unwrap()
}

fn data() -> Option<Vec<(i64, f64)>> {
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .skip(2)
        .take(3)
        .map(|above| above.join("shared/data/machine-temperature.csv"))
        .find(|file| file.exists())?;
    let text = std::fs::read_to_string(file).unwrap();
    let rows = text.lines().skip(1).filter_map(|line| line.split_once(','));
    Some(rows.map(|(stamp, value)| (time(stamp), value.parse().unwrap())).collect())
}

/// The beginnings of alarms.
fn alarms(config: &str, data: &[(i64, f64)]) -> Vec<i64> {
    let config: Config = serde_json::from_str(config).unwrap();
    let (method, rule) = config.detectors["temperature"].detector().unwrap();
    let detectors = [Detector { print: 0, method, rule }];
    let (mut state, mut found) = (Memory::default(), Vec::new());
    for chunk in data.chunks(1000) {
        let records: Vec<Record> = chunk
            .iter()
            .map(|(time, value)| Record {
                address: Address::new(0, []),
                time: *time,
                values: vec![Some(vec![*value])],
            })
            .collect();
        let said = process(&detectors, Table(0), &mut state, &records).unwrap();
        let starts = chunk.iter().zip(said).filter(|(_, said)| said[0].raised.starts);
        found.extend(starts.map(|((time, _), _)| *time));
    }
    found
}

/// A week of values, after five days; 2.5 (not the usual 3.5) too cold for eight hours; alarms less than a day apart
/// are one. Windows and labels last days: what lasts an hour is the machine at work.
const CONFIG: &str = r#"{"detectors": {"temperature": {
    "method": "robust", "field": "value", "window": 2016, "warmup": 1440, "limit": 2.5, "direction": "low",
    "records": 96, "quiet": "1d", "floor": 0.5
}}}"#;

#[test]
fn machine_temperature_failure_is_announced_with_few_false_alarms() {
    let Some(data) = data() else {
        eprintln!("skipped: shared/data/machine-temperature.csv is not beside this checkout");
        return;
    };
    assert_eq!(data.len(), 22_695);
    let alarms = alarms(CONFIG, &data);
    let within = |alarm: &i64, window: &(&str, &str)| (time(window.0)..=time(window.1)).contains(alarm);
    let hit = LABELLED.map(|window| alarms.iter().any(|alarm| within(alarm, &window)));
    let is_false = |alarm: &&i64| !LABELLED.iter().any(|window| within(alarm, window));
    let false_alarms = alarms.iter().filter(is_false).count();
    eprintln!("windows hit: {hit:?}, false alarms: {false_alarms}");
    assert!(hit[3], "the failure was not announced: {alarms:?}");
    assert!(hit.iter().filter(|hit| **hit).count() >= 3, "{hit:?}");
    assert!(false_alarms <= 5, "{false_alarms} false alarms");
}
