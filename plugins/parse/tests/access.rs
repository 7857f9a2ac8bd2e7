//! Access logs: real lines, escapes, odd requests, and what is said of lines that cannot be parsed.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::path::Path;

use wasmill_parse::Parse;
use wasmill_sdk::testing::{Verdict, run};

const COMBINED: &str = r#"{"format":"combined"}"#;

fn one(config: &str, line: &str) -> Result<String, String> {
    let outcome = run::<Parse>(config, &[line]);
    match &outcome.verdicts[0] {
        Verdict::Passed => Ok(outcome.emitted[0].payload.clone()),
        Verdict::Failed(reason) => Err(reason.clone()),
        Verdict::Dropped => Err("dropped".to_owned()),
    }
}

#[test]
fn combined_real_log_every_line_is_valid_json() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/apache-access.log");
    let Ok(log) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no {}", path.display());
        return;
    };
    let lines: Vec<&str> = log.lines().collect();
    let outcome = run::<Parse>(COMBINED, &lines);
    assert_eq!(outcome.reasons(), []);
    assert_eq!(outcome.emitted.len(), lines.len());
    let mut kept = 0;
    for (line, row) in lines.iter().zip(&outcome.emitted) {
        let record: serde_json::Value = serde_json::from_str(&row.payload).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(record["client"], words[0]);
        assert_eq!(record["path"], words[6]);
        assert_eq!(record["status"].as_i64(), words[8].parse().ok());
        assert_eq!(record["bytes"].as_i64(), words[9].parse().ok());
        let agent = line.rsplit_once(" \"").unwrap().1.trim_end_matches('"');
        match record["agent"].as_str() {
            Some(shown) => assert_eq!(shown, agent.replace("\\\"", "\"").replace("\\\\", "\\")),
            None => assert_eq!(agent, "-"),
        }
        kept += usize::from(!words[6].starts_with("/images/"));
    }
    assert_eq!(kept, 8757);
}

#[test]
fn combined_fields_are_typed_and_dashes_are_null() {
    let line = r#"1.2.3.4 - ann [17/May/2015:10:05:03 +0200] "GET /a?b=c HTTP/1.1" 304 - "-" "x \"y\" \\ z""#;
    assert_eq!(
        one(COMBINED, line).unwrap(),
        concat!(
            r#"{"client":"1.2.3.4","ident":null,"user":"ann","time":"2015-05-17T10:05:03+02:00","method":"GET","#,
            r#""path":"/a?b=c","protocol":"HTTP/1.1","status":304,"bytes":null,"referrer":null,"#,
            r#""agent":"x \"y\" \\ z"}"#
        )
    );
}

#[test]
fn combined_odd_requests_keep_what_was_sent() {
    for (request, method, path, protocol) in [
        ("GET /a b HTTP/1.0", "GET", "/a b", "HTTP/1.0"),
        ("GET /a", "GET", "/a", "null"),
        ("-", "null", "null", "null"),
        ("", "null", "null", "null"),
        ("GET /x HTTP/2", "GET", "/x", "HTTP/2"),
        ("PROPFIND /x HTTP/1.1", "PROPFIND", "/x", "HTTP/1.1"),
        ("\\x16\\x03\\x01", "null", "\\x16\\x03\\x01", "null"),
    ] {
        let line = format!(r#"::1 - - [17/May/2015:10:05:03 +0000] "{request}" 200 1 "r" "a""#);
        let record: serde_json::Value = serde_json::from_str(&one(COMBINED, &line).unwrap()).unwrap();
        let shown = |name: &str| record[name].as_str().unwrap_or("null").to_owned();
        assert_eq!(
            [shown("method"), shown("path"), shown("protocol")],
            [method, path, protocol],
            "{request}"
        );
    }
}

#[test]
fn combined_cut_line_is_parsed_as_far_as_it_goes() {
    let line = r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "http://x/" "Mozilla"#;
    for cut in line.rfind("200 5").unwrap() + 3..=line.len() {
        let record: serde_json::Value = serde_json::from_str(&one(COMBINED, &line[..cut]).unwrap()).unwrap();
        assert_eq!(record["status"], 200, "cut at {cut}");
    }
    for (cut, missing) in [
        (0, "missing the client at column 1: the line ends there"),
        (9, "missing the ident"),
        (20, "missing the end of the time"),
        (50, "missing the end of the request"),
        (57, "missing the status"),
        (59, "missing a status of three digits"),
    ] {
        let reason = one(COMBINED, &line[..cut]).unwrap_err();
        assert!(reason.starts_with(missing), "cut at {cut}: {reason}");
    }
}

#[test]
fn combined_any_bytes_never_panic() {
    let line =
        br#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "http://x/" "Mo\"zi" extra"#;
    let mut lines = Vec::new();
    for at in 0..line.len() {
        for byte in [b' ', b'"', b'\\', b'[', b']', b'-', 0xff, b'\n'] {
            let mut line = line.to_vec();
            line[at] = byte;
            lines.push(line.clone());
            line.truncate(at + 1);
            lines.push(line);
        }
    }
    let outcome = run::<Parse>(COMBINED, &lines);
    assert_eq!(outcome.verdicts.len(), lines.len());
    for row in &outcome.emitted {
        serde_json::from_str::<serde_json::Value>(&row.payload).unwrap();
    }
}

#[test]
fn time_is_written_as_the_config_says() {
    let line = r#"h - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5"#;
    let time = |choice: &str| {
        let record = one(&format!(r#"{{"format":"common","time":"{choice}"}}"#), line).unwrap();
        serde_json::from_str::<serde_json::Value>(&record).unwrap()["time"].clone()
    };
    assert_eq!(time("text"), "17/May/2015:10:05:03 +0000");
    assert_eq!(time("rfc3339"), "2015-05-17T10:05:03Z");
    assert_eq!(time("epoch_ms"), 1_431_857_103_000_i64);
}
