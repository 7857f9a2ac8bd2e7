//! Dead letters: what they say, the commands about them, and what a run that leaves some says at its end.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use wasmill_tests::client;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::Running;
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

use crate::COMPILER;

#[test]
fn record_that_does_not_fit_its_outputs_format_is_a_letter_of_stage_encode() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        max_failed_percent = 100
        outputs = [{ type = "directory", name = "archive", path = "out", interval = "0s" }]
        "#,
    );
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", "{\"n\":1}\nplain text\n{\"n\":2}");
    let stats = host.stats("events");
    host.drain();
    let letters = scratch.letters("events");
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((&letter["stage"], &letter["output"]), (&"encode".into(), &"archive".into()));
    assert_eq!(letter["payload"], "plain text");
    assert_eq!((stats.dead_letters.encode.get(), stats.dead_letters.get()), (1, 1));
}

/// Runs a stream from stdin to its end; its exit code and its log.
fn run_to_its_end(config: &str, input: &str, reader_gone: bool) -> (Option<i32>, Vec<String>) {
    let binary = binary().unwrap();
    let scratch = Scratch::new(config);
    let mut command = Command::new(binary);
    command.args(["run", "--log-format", "json"]).arg(scratch.config());
    command.stdin(Stdio::piped());
    if reader_gone {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(writer);
    } else {
        command.stdout(Stdio::null());
    }
    let mut program = Program::spawn(&mut command);
    drop(command);
    program.stdin().write_all(input.as_bytes()).unwrap();
    let status = program.ended();
    (status.code(), program.log())
}

const FROM_STDIN: &str = r#"
    [streams.events]
    source = { type = "stdin" }
    max_failed_percent = 100
    outputs = [{ type = "stdout" }]
"#;

#[test]
fn run_whose_reader_went_away_ends_with_3_and_counts_what_is_left() {
    if binary().is_none() {
        return;
    }
    let (code, log) = run_to_its_end(FROM_STDIN, "{\"n\":1}\n{\"n\":2}\n", true);
    assert_eq!(code, Some(3), "{log:#?}");
    let last = log.iter().find(|line| line.contains("not everything could be delivered")).unwrap();
    assert!(last.contains("\"records_not_delivered\":2") && last.contains("\"delivery\":1"), "{last}");
}

#[test]
fn run_with_records_that_do_not_fit_warns_once_and_ends_with_0() {
    if binary().is_none() {
        return;
    }
    let input: String = (0..50).map(|n| format!("line {n}\n")).collect();
    let (code, log) = run_to_its_end(FROM_STDIN, &input, false);
    assert_eq!(code, Some(0), "{log:#?}");
    let warnings = log.iter().filter(|line| line.contains("do not fit the format")).count();
    assert_eq!(warnings, 1, "{log:#?}");
    let last = log.iter().find(|line| line.contains("everything is delivered but")).unwrap();
    assert!(last.contains("\"encode\":50"), "{last}");
}

/// `wasmill dead-letters …`: exit code, stdout, stderr.
fn dead_letters(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary().unwrap());
    let output = command.arg("dead-letters").args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn commands_work_on_the_files_when_no_host_runs_and_through_the_host_when_one_does() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        max_failed_percent = 100
        outputs = [{ type = "directory", name = "archive", path = "out", interval = "0s" }]
        "#,
    );
    let config = scratch.config();
    let config = config.to_str().unwrap();
    let (code, _, told) = dead_letters(&["list", config, "events"]);
    assert!(code == Some(1) && told.contains("nothing has ever run"), "{told}");
    let program = Program::start(&binary, &scratch.config());
    let address = program.address();
    assert_eq!(client::push(address, "events", "one\ntwo\nthree\nfour").unwrap().status, 200);
    wait_until("the letters are kept", || scratch.letters("events").len() == 4);
    // The configuration asks for any port, so it does not say where the host is.
    let (code, _, told) = dead_letters(&["list", config, "events"]);
    assert!(code == Some(1) && told.contains("give its address"), "{told}");
    let url = format!("http://{address}");
    let listed = |from: &str, more: &[&str]| {
        let (code, text, told) = dead_letters(&[&["list", from, "events"][..], more].concat());
        assert_eq!(code, Some(0), "{told}");
        let payload =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["payload"].as_str().unwrap().to_owned();
        text.lines().map(payload).collect::<Vec<_>>()
    };
    assert_eq!(listed(&url, &[]), ["one", "two", "three", "four"]);
    assert_eq!(listed(&url, &["--limit", "1", "--after", "1"]), ["two"]);
    // Other commands say it by options; so can these.
    let (code, text, told) = dead_letters(&["show", "events", "2", "--host", &url]);
    assert!(code == Some(0) && text.contains("\"two\""), "{text} {told}");
    let (code, _, told) = dead_letters(&["list", "events", "--config", config]);
    assert!(code == Some(1) && told.contains("--host URL"), "{told}");
    let (code, _, told) = dead_letters(&["list", config, "events", "--host", &url]);
    assert!(code == Some(2) && told.contains("give one of them"), "{told}");
    let (code, _, told) = dead_letters(&["show", "events", "--host", &url]);
    assert!(code == Some(2) && told.contains("there is 1 word\n"), "{told}");
    for wrong in [
        &["show", "events", "two", "--host", &url][..],
        &["list", "events", "--host", &url, "--config", config],
        &["list", &url, "events", "more"],
    ] {
        assert_eq!(dead_letters(wrong).0, Some(2), "{wrong:?}");
    }
    assert_eq!(
        listed(&url, &["--stage", "encode", "--at", "archive", "--from-offset", "2"]),
        ["three", "four"]
    );
    let (_, text, told) = dead_letters(&["list", &url, "events", "--at", "archiv"]);
    assert!(text.is_empty() && told.contains("now, it has archive"), "{told}");
    assert_eq!(dead_letters(&["replay", &url, "events", "--plugin", "step"]).0, Some(2));
    let query = |query: &str| {
        client::get(address, &format!("/v1/streams/events/dead-letters?{query}")).unwrap().status
    };
    assert_eq!(["limit=0", "number=9-7", "number=9"].map(query), [400, 400, 200]);
    let (code, text, told) = dead_letters(&["replay", &url, "events", "--number", "1-2"]);
    assert_eq!(
        (code, text.as_str()),
        (Some(3), "2 tried: 0 passed, 0 dropped by a plugin, 2 failed again\n"),
        "{told}"
    );
    let (code, text, _) = dead_letters(&["show", &url, "events", "2"]);
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &shown["payload"], &shown["attempts"]), (Some(0), &"two".into(), &2.into()));
    assert_eq!(dead_letters(&["show", &url, "events", "77"]).0, Some(1));
    let (code, text, _) = dead_letters(&["purge", &url, "events", "--number", "1", "--yes"]);
    assert_eq!((code, text.as_str()), (Some(0), "1 dead letters removed\n"));
    program.stop();

    assert_eq!(listed(config, &["--reason", "JSON"]), ["two", "three", "four"]);
    let (code, _, told) = dead_letters(&["replay", config, "events"]);
    assert!(code == Some(1) && told.contains("no host runs"), "{told}");
    let (code, _, told) = dead_letters(&["purge", config, "events"]);
    assert!(code == Some(2) && told.contains("--yes"), "{told}");
    let (code, _, told) = dead_letters(&["list", config, "event"]);
    assert!(code == Some(1) && told.contains("it has events"), "{told}");
    assert_eq!(dead_letters(&["list", config, "events", "--stage", "parse"]).0, Some(2));
    for wrong in [
        &["--limit", "0"][..],
        &["--number", "0"],
        &["--number", "9-7"],
        &["--from-offset", "9", "--to-offset", "3"],
        &["--older-than", "5"],
    ] {
        let (code, text, told) = dead_letters(&[&["list", config, "events"][..], wrong].concat());
        assert!(code == Some(2) && text.is_empty() && told.contains("error: "), "{wrong:?}: {told}");
    }
    assert_eq!(listed(config, &["--newer-than", "-1h"]).len(), 3);
    let (code, text, told) = dead_letters(&["list", config, "events", "--at", "archiv"]);
    assert_eq!((code, text.as_str()), (Some(0), ""));
    assert!(told.contains("has no transform or output \"archiv\" now, it has archive"), "{told}");
    let file = scratch.path("exported.ndjson");
    let exported = file.to_str().unwrap();
    let (code, _, told) =
        dead_letters(&["export", config, "events", "--number", "2,4", "--to", exported, "--remove"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2);
    assert_eq!(listed(config, &[]), ["three"]);
    let (code, _, told) = dead_letters(&["export", config, "events", "--to", exported]);
    assert!(code == Some(1) && told.contains("exported.ndjson"), "{told}");
    let (code, text, _) = dead_letters(&["export", config, "events"]);
    assert_eq!((code, text.lines().count()), (Some(0), 1));
    // What was removed while no host ran stays removed.
    let program = Program::start(&binary, &scratch.config());
    program.stop();
    assert_eq!(listed(config, &[]), ["three"]);
}

#[test]
fn letters_that_are_too_old_go_by_themselves_and_are_counted() {
    let text = |age: &str| {
        format!(
            r#"
            [streams.events]
            source = {{ type = "http" }}
            max_failed_percent = 100
            {age}
            outputs = [{{ type = "directory", path = "out", interval = "0s" }}]
            "#
        )
    };
    let scratch = Scratch::new(&text(""));
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", "one\ntwo");
    host.drain();
    assert_eq!(scratch.letters("events").len(), 2);
    scratch.configure(&text("dead_letters = { max_age = \"1ms\" }"));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    wait_until("the letters are gone", || stats.dead_letters.expired.get() == 2);
    host.drain();
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn damaged_files_of_letters_are_named_with_the_line() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        max_failed_percent = 100
        outputs = [{ type = "directory", path = "out", interval = "0s" }]
        dead_letters = { output = { type = "directory", path = "letters" } }
        "#,
    );
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", "one\ntwo\nthree");
    host.drain();
    let dir = scratch.path("data/dead-letters/default/events");
    let file = dir.join("letters.ndjson");
    let lines = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    std::fs::write(&file, format!("{}\nno letter\n{}\n{{}}\n", lines[0], lines[2])).unwrap();
    let program = Program::start(&binary, &scratch.config());
    let said = program.wait_for_log("lines that are no dead letters");
    assert!(said.contains("letters.ndjson\"") && said.contains("\"line\":2,\"lines\":2"), "{said}");
    program.stop();
    for (name, remedy) in [("delivery/cursor.json", "leave once more"), ("state.json", "may come again")] {
        std::fs::write(dir.join(name), "{").unwrap();
        let ran = Command::new(&binary).arg("run").arg(scratch.config()).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        let named = said.contains(&format!("{name} is damaged")) && said.contains("at line 1 column 1");
        assert!(ran.status.code() == Some(1) && named && said.contains(remedy), "{said}");
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    Program::start(&binary, &scratch.config()).stop();
}
