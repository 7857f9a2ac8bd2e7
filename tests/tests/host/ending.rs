//! How a run ends when something is left: what it says, its exit code, and that the next start goes on.

use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use wasmill_tests::guest::Guest;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::{Running, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};

use crate::COMPILER;

/// `wasmill run` from stdin to its end, which has to come by itself; its exit code and its log.
fn run_to_its_end(scratch: &Scratch, input: &str) -> (Option<i32>, Vec<String>) {
    let mut command = Command::new(binary().unwrap());
    command.args(["run", "--log-format", "json", "--drain-timeout", "1s"]).arg(scratch.config());
    let mut program = Program::spawn(command.stdin(Stdio::piped()));
    program.stdin().write_all(input.as_bytes()).unwrap();
    let status = program.ended();
    (status.code(), program.log())
}

/// The one line with this text.
fn line<'a>(log: &'a [String], text: &str) -> &'a str {
    let found: Vec<_> = log.iter().filter(|line| line.contains(text)).collect();
    assert_eq!(found.len(), 1, "{text:?} in {log:#?}");
    found[0]
}

#[test]
fn stop_that_leaves_records_behind_a_pause_says_so_and_is_no_success() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        transforms = [{ plugin = "step" }]
        outputs = [{ type = "directory", path = "out" }]
        "#,
    );
    scratch.deploy("step", &Guest::reject_all());
    let mut program = Program::start(&binary, &scratch.config());
    assert_eq!(client::push(program.address(), "events", &numbered(0, 2000)).unwrap().status, 200);
    let cure = program.wait_for_log("plugins fail too many records");
    assert!(cure.contains("another version") && cure.contains("max_failed_percent"), "{cure}");
    program.signal(Signal::TERM);
    let status = program.ended();
    let log = program.log();
    assert_eq!(status.code(), Some(1), "{log:#?}");
    let last = line(&log, "not everything is delivered");
    assert!(
        last.contains("2000 records of stream events") && last.contains("2000 of 2000 records failed"),
        "{last}"
    );
    assert!(!log.iter().any(|line| line.contains("everything is delivered\"")), "{log:#?}");
    scratch.deploy("step", &Guest::stamp('2'));
    Program::start(&binary, &scratch.config()).stop();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..2000).collect::<Vec<_>>());
}

const FROM_STDIN: &str = r#"
    [streams.events]
    source = { type = "stdin" }
    transforms = [{ plugin = "step" }]
    outputs = [{ type = "directory", path = "out" }]
"#;

#[test]
fn run_of_a_finite_source_that_its_plugins_pause_ends_with_3_and_the_next_goes_on() {
    if binary().is_none() {
        return;
    }
    let scratch = Scratch::new(FROM_STDIN);
    scratch.deploy("step", &Guest::reject_all());
    let (code, log) = run_to_its_end(&scratch, &(numbered(0, 2000) + "\n"));
    assert_eq!(code, Some(3), "{log:#?}");
    let begun = line(&log, "every source has ended, and what is left is held up");
    assert!(begun.contains("records failed (100.0 %)"), "{begun}");
    let last = line(&log, "not everything could be delivered");
    assert!(last.contains("2000 records of stream events"), "{last}");
    scratch.deploy("step", &Guest::stamp('2'));
    let (code, log) = run_to_its_end(&scratch, "");
    assert_eq!(code, Some(0), "{log:#?}");
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..2000).collect::<Vec<_>>());
}

#[test]
fn run_of_a_finite_source_whose_dead_letters_are_full_ends_with_3_and_the_next_goes_on() {
    if binary().is_none() {
        return;
    }
    let text = |max: &str| {
        format!(
            r#"
            [streams.events]
            source = {{ type = "stdin" }}
            max_failed_percent = 100
            dead_letters = {{ max_bytes = "{max}" }}
            transforms = [{{ plugin = "picky" }}]
            outputs = [{{ type = "directory", path = "out", format = "raw" }}]
            "#
        )
    };
    let scratch = Scratch::new(&text("2KiB"));
    scratch.deploy("picky", &Guest::picky());
    let input: String = (0..30).map(|n| format!("error {n}\nfine {n}\n")).collect();
    let (code, log) = run_to_its_end(&scratch, &input);
    assert_eq!(code, Some(3), "{log:#?}");
    let last = line(&log, "not everything could be delivered");
    assert!(last.contains("60 records of stream events") && last.contains("dead letters in"), "{last}");
    scratch.configure(&text("2MiB"));
    let (code, log) = run_to_its_end(&scratch, "");
    assert_eq!(code, Some(0), "{log:#?}");
    assert_eq!((scratch.letters("events").len(), objects::lines(&scratch.out()).len()), (30, 30));
}

#[test]
fn records_that_do_not_fit_their_output_are_never_the_plugins_failure() {
    let streams = ["pass", "none"].map(|name| {
        let transforms = if name == "pass" { "transforms = [{ plugin = \"pass\" }]" } else { "" };
        format!(
            r#"
            [streams.{name}]
            source = {{ type = "http" }}
            {transforms}
            outputs = [{{ type = "directory", path = "out/{name}", interval = "0s" }}]
            "#
        )
    });
    let scratch = Scratch::new(&streams.join("\n"));
    scratch.deploy("pass", &Guest::pass(1));
    let host = Running::start(&scratch.config(), COMPILER);
    let lines: Vec<String> = (0..3000).map(|n| format!("line {n}")).collect();
    for stream in ["pass", "none"] {
        host.push(stream, &lines.join("\n"));
        let stats = host.stats(stream);
        wait_until("every record has its letter", || {
            assert_eq!(stats.paused(), None, "{stream}");
            stats.dead_letters.encode.get() == 3000
        });
    }
    host.drain();
}

#[test]
fn stream_that_was_full_of_letters_says_that_it_goes_on_and_the_end_tells_new_letters_from_kept_ones() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        dead_letters = { max_bytes = "1KiB" }
        outputs = [{ type = "directory", path = "out", interval = "0s" }]
        "#,
    );
    let mut program = Program::start(&binary, &scratch.config());
    let address = program.address();
    assert_eq!(client::push(address, "events", "one\ntwo\nthree\nfour\nfive\nsix").unwrap().status, 200);
    let paused = program.wait_for_log("stream paused");
    assert!(paused.contains("bytes more do not fit"), "{paused}");
    wait_until("all letters have come and gone", || {
        let purged =
            client::request(address, "DELETE", "/v1/streams/events/dead-letters?all=true", &[], b"").unwrap();
        assert_eq!(purged.status, 200, "{}", purged.body);
        let state = client::get(address, "/v1/streams").unwrap().json()[0].clone();
        state["dead_letters"] == 6 && state["dead_letters_kept"] == 0 && state["paused"].is_null()
    });
    program.signal(Signal::TERM);
    let status = program.ended();
    let log = program.log();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    line(&log, "dead letters are kept again, stream goes on");
    let last = line(&log, "everything is delivered but records that became dead letters in this run");
    assert!(last.contains("\"dead_letters\":6") && last.contains("\"dead_letters_kept\":0"), "{last}");
}
