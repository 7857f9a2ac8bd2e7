//! Every first-party plugin as a component in a real chain: all of its case folders, and the access-log job.
//!
//! `cargo xtask test` builds the components and says where they are (`WASMILL_PLUGINS`); without it these tests say
//! that they are skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use anyhow::Context;
use serde_json::Value;
use wasmill_cases::{Rows, slice, worker};
use wasmill_tests::components::Components;
use wasmill_tests::{access_log, case, native};
use wasmill_transform::{ChainOptions, Plugin, SliceReport, TransformSpec};

fn components() -> Option<Components> {
    let found = Components::open().unwrap();
    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    if found.is_none() {
        eprintln!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
    }
    found
}

#[test]
fn components_every_case_folder_agrees_warm_fresh_and_cut_differently() {
    let plugins = case::plugins().unwrap();
    for known in [
        "alarm", "anomaly", "dedupe", "derive", "enrich", "features", "filter", "join", "jq", "parse",
        "redact", "rolling", "score", "sql", "unpack", "window",
    ] {
        assert!(plugins.iter().any(|directory| case::name(directory) == known), "plugins/{known} is missing");
    }
    let mut faults = Vec::new();
    let components = components();
    for directory in plugins {
        let name = case::name(&directory);
        let cases = case::directories(&directory.join("cases")).unwrap();
        assert!(!cases.is_empty(), "plugins/{name} has no case");
        let Some(components) = &components else { continue };
        let plugin = components.plugin(&name).unwrap();
        for folder in cases {
            if let Err(fault) = case::check(&components.engine, &plugin, &folder) {
                faults.push(format!("{name}/{}: {fault:#}", case::name(&folder)));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// The access-log job with plugins from `plugin`.
fn job(
    components: &Components,
    chunk_bytes: usize,
    plugin: impl Fn(&str) -> Arc<Plugin>,
) -> Option<(Rows, SliceReport)> {
    let records = access_log::records().unwrap()?;
    let specs =
        access_log::JOB.iter().map(|(name, config)| TransformSpec::new(plugin(name), config)).collect();
    let options = ChainOptions { chunk_bytes, ..ChainOptions::default() };
    let mut worker = worker(&components.engine, specs, options).unwrap();
    Some(slice(&mut worker, records.as_ref(), 1_431_849_903_000_000_000, 1_000))
}

#[test]
fn access_log_job_in_wasm_keeps_what_it_must() {
    let Some(components) = components() else { return };
    let Some((rows, report)) = job(&components, 128 << 10, |name| components.plugin(name).unwrap()) else {
        return;
    };
    assert_eq!(report.faults.len(), 0);
    assert_eq!((report.failures.len(), report.unrunnable.is_some()), (0, false));
    assert_eq!(report.dropped as usize, access_log::LINES - access_log::KEPT);
    assert_eq!(rows.payloads.len(), access_log::KEPT);
    let mut bots = 0;
    for line in rows.payloads.as_ref().iter() {
        let record: Value =
            serde_json::from_slice(line).with_context(|| String::from_utf8_lossy(line).into_owned()).unwrap();
        assert!(!record["path"].as_str().unwrap().starts_with("/images/"));
        match record["class"].as_str() {
            Some("bot") => bots += 1,
            Some("human") => {}
            other => panic!("class {other:?}"),
        }
    }
    assert_eq!(bots, access_log::BOTS);
}

#[test]
fn access_log_job_native_and_differently_cut_is_byte_identical() {
    let Some(components) = components() else { return };
    let wasm = |name: &str| components.plugin(name).unwrap();
    let Some((rows, report)) = job(&components, 128 << 10, wasm) else { return };
    for chunk_bytes in [1 << 10, 13_000, 1 << 20] {
        let (other, _) = job(&components, chunk_bytes, wasm).unwrap();
        assert!(rows == other, "chunks of {chunk_bytes} bytes give other rows");
    }
    let (natively, native_report) =
        job(&components, 128 << 10, |name| native::plugin(name).unwrap()).unwrap();
    assert_eq!(rows.payloads.len(), natively.payloads.len());
    for (row, (wasm, native)) in
        rows.payloads.as_ref().iter().zip(natively.payloads.as_ref().iter()).enumerate()
    {
        assert_eq!(String::from_utf8_lossy(wasm), String::from_utf8_lossy(native), "row {row}");
    }
    assert_eq!(rows, natively);
    assert_eq!(
        (report.passed, report.dropped, report.emitted, report.failures),
        (native_report.passed, native_report.dropped, native_report.emitted, native_report.failures)
    );
}

#[test]
fn sql_takes_the_largest_slice_at_once_within_the_memory_of_a_plugin_and_more_in_parts() {
    const CHUNK_ROWS: usize = 32_768;
    let Some(components) = components() else { return };
    let query = "SELECT city, count(*) AS n, group_concat(DISTINCT substr(text, 1, 4)) AS texts FROM batch GROUP BY city";
    let wide =
        "SELECT b.*, row_number() OVER (PARTITION BY city ORDER BY text DESC) AS place FROM batch AS b";
    let groups = |query: &str, records: usize| {
        let columns = serde_json::json!({ "city": "text", "v": "bigint", "text": "text" });
        let config = serde_json::json!({ "query": query, "columns": columns }).to_string();
        let mut payloads = wasmill_cases::Column::default();
        for row in 0..records {
            // 128 bytes each.
            let city = row % 3;
            payloads
                .push(format!(r#"{{"city":"c{city}","v":{row:>7},"text":"{:x<93}"}}"#, row % 5).as_bytes());
        }
        let specs = vec![TransformSpec::new(components.plugin("sql").unwrap(), &config)];
        let mut worker = worker(&components.engine, specs, ChainOptions::default()).unwrap();
        let (rows, report) = slice(&mut worker, payloads.as_ref(), 0, 0);
        assert!(report.faults.is_empty() && report.unrunnable.is_none(), "{:?}", report.faults);
        assert_eq!((report.failures.len(), report.chunks_bisected), (0, 0));
        (payloads.data.len() / records, rows.payloads.len(), report.chunks)
    };
    assert_eq!(groups(query, CHUNK_ROWS), (128, 3, 1));
    assert_eq!(groups(query, CHUNK_ROWS + 1), (128, 4, 2), "the last record is a batch of its own");
    assert_eq!(groups(wide, CHUNK_ROWS), (128, CHUNK_ROWS, 1));
}
