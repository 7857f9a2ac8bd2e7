//! A function that was written for Firehose's Lambda contract, compiled to a plugin: what becomes of a record by what it
//! answers.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Rig, component, script, texts};

#[test]
fn function_decides_what_becomes_of_each_record_and_in_which_partition() {
    let (Some(function), Some(mut client)) = (component("WASMILL_GUESTS", "lambda"), script("functions.py"))
    else {
        return;
    };
    let Some(rig) = Rig::start_with("", &[("clean", &function)]) else { return };
    rig.run(&mut client);
    rig.program.stop();

    // Rows by their partition, each once.
    let mut rows: BTreeMap<u64, String> = BTreeMap::new();
    let cleaned = texts(&rig.lake, "cleaned");
    assert_eq!(cleaned.len(), 2, "{cleaned:?}");
    for (name, text) in cleaned {
        let steps: Vec<&str> = name.split('/').collect();
        assert!(steps.len() == 3 && steps[2].starts_with("cleaned-1-20"), "{name}");
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            assert!(row["arrived"].as_u64().unwrap() > 1_700_000_000_000, "{row}");
            let before = rows.insert(row["n"].as_u64().unwrap(), steps[1].to_owned());
            assert_eq!(before, None, "{row} is there twice");
        }
    }
    let area = |n: u64| match n {
        n if n % 2 == 1 || n >= 25 => "north",
        // What a path would take for two steps is one.
        _ => "south%2Feast",
    };
    let expected: BTreeMap<u64, String> = (0..20).chain(25..30).map(|n| (n, area(n).to_owned())).collect();
    assert_eq!(rows, expected);

    // What failed, a record a line, by its code.
    let mut failed: BTreeMap<String, (String, String)> = BTreeMap::new();
    for (name, text) in texts(&rig.lake, "bad") {
        assert!(name.starts_with("bad/processing-failed/"), "{name}");
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let text =
                |member: &str| line[member].as_str().unwrap_or_else(|| panic!("{member}: {line}")).to_owned();
            let raw = String::from_utf8(STANDARD.decode(text("rawData")).unwrap()).unwrap();
            assert!(line["attemptsMade"].as_u64().unwrap() >= 1, "{line}");
            assert!(line["arrivalTimestamp"].as_u64() <= line["attemptEndingTimestamp"].as_u64(), "{line}");
            let before = failed.insert(raw, (text("errorCode"), text("errorMessage")));
            assert_eq!(before, None, "{line} is there twice");
        }
    }
    let mut found =
        failed.iter().map(|(raw, (code, message))| (raw.as_str(), code.as_str(), message.as_str()));
    for (raw, code, message) in [
        ("no object", "Lambda.FunctionError", "expected"),
        (
            r#"{"n": 21, "answer": "ProcessingFailed"}"#,
            "Lambda.ProcessingFailedStatus",
            "ProcessingFailed status set",
        ),
        (r#"{"n": 22, "answer": "nothing"}"#, "Lambda.MissingRecordId", "nothing with the recordId"),
        (r#"{"n": 23, "answer": "twice"}"#, "Lambda.DuplicatedRecordId", "more than once"),
        (r#"{"n": 24, "answer": "surprise"}"#, "Lambda.FunctionError", "no answer is called surprise"),
    ] {
        let found = found.next().unwrap_or_else(|| panic!("{raw} did not fail"));
        assert_eq!((found.0, found.1), (raw, code));
        assert!(found.2.contains(message), "{found:?}");
    }
    assert_eq!(found.next(), None);
}
