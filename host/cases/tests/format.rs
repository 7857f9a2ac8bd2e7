//! What a case folder means: the folders that every SDK's runner is held to, through this one, without a plugin.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;
use wasmill_cases::{Case, Got};

fn folders(part: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/sdk/conformance/format").join(part);
    Case::folders(&dir).unwrap()
}

/// What the plugin of `plugins/sdk/conformance/README.md` does, in chunks of so many rows.
fn format(case: &Case, chunk_rows: usize) -> Got {
    let config: Value = serde_json::from_str(&case.config).unwrap();
    if let Some(refusal) = config["refuse"].as_str() {
        return Got::Refused(refusal.to_owned());
    }
    if let Some(name) = config["file"].as_str() {
        let content = std::fs::read(case.dir.join("files").join(name)).unwrap();
        assert!(case.files.contains_key(name), "{name} is granted");
        return Got::Refused(String::from_utf8(content).unwrap());
    }
    let (mut rows, mut letters, mut remembers) = (Vec::new(), Vec::new(), false);
    let records: Vec<String> =
        case.records.as_ref().iter().map(|record| String::from_utf8(record.to_vec()).unwrap()).collect();
    for (number, chunk) in records.chunks(chunk_rows).enumerate() {
        let remembered = remembers;
        for (row, record) in chunk.iter().enumerate() {
            let offset = i64::try_from(number * chunk_rows + row).unwrap();
            remembers |= record == "remember";
            if let Some(reason) = record.strip_prefix("fail ") {
                letters.push((offset, reason.to_owned()));
            } else if record == "remember" && remembered {
                letters.push((offset, "there was one in an earlier call".to_owned()));
            } else if record != "drop" {
                rows.push(record.clone());
            }
        }
    }
    Got::Records { rows, letters }
}

/// As `wasmill plugin test`: every way is compared with what is expected.
fn run(dir: &Path) -> Result<()> {
    let case = Case::read(dir)?;
    for chunk_rows in [500, 1] {
        case.compare(&format(&case, chunk_rows))?;
    }
    Ok(())
}

#[test]
fn folders_mean_what_the_format_says() {
    let passing = folders("pass");
    assert!(passing.len() > 20, "{}", passing.len());
    for dir in passing {
        run(&dir).unwrap_or_else(|error| panic!("{}: {error:#}", dir.display()));
    }
    let failing = folders("fail");
    assert!(failing.len() > 30, "{}", failing.len());
    for dir in failing {
        let says = std::fs::read_to_string(dir.join("says.txt")).unwrap();
        let Err(error) = run(&dir.join("case")) else { panic!("{} fits, wanted {says}", dir.display()) };
        // That ways differ is seen here by what is expected of all.
        let says =
            if dir.ends_with("remembers-between-chunks") { "expected.ndjson" } else { says.trim_end() };
        assert!(format!("{error:#}").contains(says), "{}: {error:#}, wanted {says}", dir.display());
    }
}
