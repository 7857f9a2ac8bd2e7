//! Dead letters: what they say, and what a run that leaves some says at its end.

use std::io::Write;
use std::process::{Command, Stdio};

use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::Running;
use wasmill_tests::scratch::Scratch;

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
