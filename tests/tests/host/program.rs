//! The real binary: killed, stopped, asked, and given wrong configurations.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use wasmill_tests::guest::Guest;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::numbered;
use wasmill_tests::scratch::Scratch;
use wasmill_tests::servers::Receiver;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};

#[test]
fn acknowledged_means_durable_when_the_program_is_killed_under_load() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"
        [streams.one]
        source = { type = "http" }
        transforms = [{ plugin = "step" }]
        outputs = [{ type = "directory", path = "out/one", size = "64KiB", interval = "500ms" }]
        [streams.two]
        source = { type = "http" }
        outputs = [{ type = "directory", path = "out/two", interval = "0s" }]
        "#,
    );
    scratch.deploy("step", &Guest::stamp('1'));
    let mut acknowledged = [HashSet::new(), HashSet::new()];
    let mut last_offset = [None, None];
    for round in 0..10_u64 {
        let program = Program::start(&binary, &scratch.config());
        let address = program.address();
        let acks = Mutex::new([Vec::new(), Vec::new()]);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..4_u64 {
                let (acks, over) = (&acks, &over);
                let mut n = round * 4_000_000 + client * 1_000_000;
                scope.spawn(move || {
                    let stream = usize::try_from(client % 2).unwrap();
                    while !over.load(Ordering::Relaxed) {
                        let pushed = client::push(address, ["one", "two"][stream], &numbered(n, 20));
                        if let Ok(answer) = pushed
                            && answer.status == 200
                        {
                            let receipt = answer.json();
                            let first = receipt["first_offset"].as_u64().unwrap();
                            acks.lock().unwrap()[stream].push((n, first));
                        }
                        n += 20;
                    }
                });
            }
            // Another moment each time: early in the first appends, between batches, late.
            let enough = usize::try_from((round * 7919) % 97).unwrap();
            wait_until("the clients push", || acks.lock().unwrap().iter().all(|acks| acks.len() > enough));
            program.kill();
            over.store(true, Ordering::Relaxed);
        });
        for (stream, acks) in acks.into_inner().unwrap().into_iter().enumerate() {
            let first = acks.iter().map(|(_, offset)| *offset).min().unwrap();
            assert!(last_offset[stream].is_none_or(|last| first > last), "an offset was used again");
            last_offset[stream] = acks.iter().map(|(_, offset)| *offset).max();
            acknowledged[stream].extend(acks.iter().flat_map(|(n, _)| *n..n + 20));
        }
    }
    Program::start(&binary, &scratch.config()).stop();
    for (stream, acknowledged) in ["one", "two"].iter().zip(acknowledged) {
        let found = objects::numbers(&scratch.path("out").join(stream), "n");
        let unique: HashSet<u64> = found.iter().copied().collect();
        assert_eq!(unique.len(), found.len(), "{stream}: records are there twice");
        let lost = acknowledged.difference(&unique).count();
        assert_eq!(lost, 0, "{stream}: acknowledged records are lost");
    }
    assert!(objects::staged(&scratch.path("out/one")).is_empty());
}

#[test]
fn sigterm_drains_and_ends_with_0() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        outputs = [{ type = "directory", path = "out", interval = "1h" }]
        "#,
    );
    let program = Program::start(&binary, &scratch.config());
    let address = program.address();
    for n in 0..20 {
        assert_eq!(client::push(address, "events", &numbered(n * 10, 10)).unwrap().status, 200);
    }
    assert!(objects::files(&scratch.out()).is_empty());
    program.stop();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..200).collect::<Vec<_>>());
}

#[test]
fn second_signal_ends_at_once_and_nothing_acknowledged_is_lost() {
    let Some(binary) = binary() else { return };
    let receiver = Receiver::start(&[], 503);
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        [[streams.events.outputs]]
        type = "http"
        url = "{}"
        interval = "0s"
        retry = {{ initial = "10ms", max = "50ms" }}
        "#,
        receiver.url()
    ));
    let mut program = Program::start(&binary, &scratch.config());
    let address = program.address();
    for n in 0..10 {
        assert_eq!(client::push(address, "events", &numbered(n * 10, 10)).unwrap().status, 200);
    }
    program.signal(Signal::TERM);
    program.wait_for_log("stopping when everything is delivered");
    let status = program.insist(Signal::TERM);
    assert_eq!(status.code(), Some(1));
    receiver.answer(200);
    Program::start(&binary, &scratch.config()).stop();
    let taken = receiver.received().into_iter().filter(|request| request.status == 200);
    let bodies: Vec<u8> = taken.flat_map(|request| request.body.to_vec()).collect();
    let numbers: Vec<u64> =
        String::from_utf8(bodies).unwrap().lines().map(|line| objects::number(line, "n")).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
}

#[test]
fn standard_input_passes_to_standard_output_and_the_program_ends() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"
        [streams.pipe]
        source = { type = "stdin" }
        outputs = [{ type = "stdout", format = "raw" }]
        "#,
    );
    let mut command = Command::new(binary);
    command
        .arg("run")
        .arg(scratch.config())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    let mut input = child.stdin.take().unwrap();
    let text = lines.clone();
    let writing = std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == lines.as_bytes(), "{} bytes of {}", output.stdout.len(), lines.len());
}

#[test]
fn check_reports_every_problem_with_its_place_and_ends_with_2() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"#whole
[http]
lisen = "127.0.0.1:0"
[streams.events]
source = { type = "http" }
fallback = "nowhere"
[[streams.events.outputs]]
type = "directory"
path = "out"
size = "5 parsecs"
"#,
    );
    let checked = Command::new(&binary).arg("check").arg(scratch.config()).output().unwrap();
    assert_eq!(checked.status.code(), Some(2));
    let said = String::from_utf8(checked.stderr).unwrap();
    let file = scratch.config().display().to_string();
    for (line, what) in [(3, "listen"), (6, "nowhere"), (10, "5 parsecs")] {
        let place = format!("{file}:{line}:");
        let found = said.lines().find(|said| said.starts_with(&place));
        let found = found.unwrap_or_else(|| panic!("nothing about line {line}: {said}"));
        let column = found[place.len()..].split(':').next().unwrap();
        assert!(column.parse::<u32>().is_ok_and(|column| column >= 1) && found.contains(what), "{found}");
    }
    assert_eq!(said.lines().filter(|line| line.starts_with(&file)).count(), 3, "{said}");
    let run = Command::new(&binary).arg("run").arg(scratch.config()).output().unwrap();
    assert_eq!(run.status.code(), Some(2));
    assert!(!scratch.path("data").exists(), "a wrong configuration made a data directory");
}

#[test]
fn missing_plugin_is_refused_with_the_directory_that_was_searched() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        transforms = [{ plugin = "prase" }, { plugin = "parse@sha256:0000000000000000000000000000000000000000000000000000000000000000" }]
        outputs = [{ type = "directory", path = "out" }]
        "#,
    );
    scratch.deploy("parse", &Guest::pass(1));
    for command in ["check", "run"] {
        let refused = Command::new(&binary).arg(command).arg(scratch.config()).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{command}");
        let said = String::from_utf8(refused.stderr).unwrap();
        let directory = scratch.plugins().display().to_string();
        let problems: Vec<&str> = said.lines().filter(|line| line.contains("wasmill.toml:8:")).collect();
        assert_eq!(problems.len(), 2, "{command}: {said}");
        assert!(problems[0].contains(&directory) && problems[0].contains("prase"), "{said}");
        assert!(
            problems[0].contains("parse\"?") || problems[0].contains("\"parse\""),
            "no near name: {said}"
        );
        assert!(problems[1].contains("sha256:0000"), "{said}");
    }
}

/// Series of Prometheus text by name and labels; the text must follow the format.
fn series(text: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let mut typed = HashSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let words: Vec<&str> = comment.splitn(3, ' ').collect();
            match words[..] {
                ["TYPE", name, kind] => {
                    assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
                    assert!(typed.insert(name.to_owned()), "{name} has two types");
                }
                ["HELP", _, help] => assert!(!help.is_empty(), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let name = series.split('{').next().unwrap();
        assert!(name.starts_with("wasmill_") || name.starts_with("process_"), "{line}");
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
        assert!(name == series || series.ends_with('}'), "{line}");
        let value = value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
        assert!(found.insert(series.to_owned(), value).is_none(), "{series} is there twice");
    }
    found
}

#[test]
fn metrics_health_and_state_answer_and_add_up() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        max_failed_percent = 100
        transforms = [{ plugin = "picky" }]
        outputs = [{ type = "directory", path = "out", format = "raw", interval = "0s" }]
        "#,
    );
    scratch.deploy("picky", &Guest::picky());
    let program = Program::start(&binary, &scratch.config());
    let address = program.address();
    assert_eq!(client::get(address, "/healthz").unwrap().status, 200);
    assert_eq!(client::get(address, "/readyz").unwrap().status, 200);
    assert_eq!(client::push(address, "events", "one\ndrop\nxtrap\ntwo").unwrap().status, 200);
    let state = || client::get(address, "/v1/streams").unwrap().json()[0].clone();
    wait_until("two records are delivered", || state()["outputs"][0]["delivered"] == 2);
    let state = state();
    for (name, value) in [
        ("records_in", 4),
        ("processed", 4),
        ("passed", 2),
        ("dropped", 1),
        ("failed", 1),
        ("dead_letters", 1),
    ] {
        assert_eq!(state[name], value, "{name}");
    }
    let metrics = client::get(address, "/metrics").unwrap();
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let series = series(&metrics.body);
    let of = |part: &str| series.iter().filter(|(name, _)| name.contains(part)).collect::<Vec<_>>();
    assert!(!of("stream=\"events\"").is_empty(), "{}", metrics.body);
    assert!(!of("picky").is_empty(), "nothing about the plugin: {}", metrics.body);
    let letters = of("dead_letter");
    assert!(letters.iter().any(|(_, value)| **value == 1.0), "{letters:?}");
    let plugins = client::get(address, "/v1/plugins").unwrap().body;
    assert!(plugins.contains("picky") && plugins.contains("sha256:"), "{plugins}");
    program.stop();
}
