//! Starts that meet something wrong: plugins that are bad or missing, wrong configurations, relative paths.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use wasmill_tests::guest::Guest;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::numbered;
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};

const ONE_STEP: &str = r#"
    [streams.events]
    source = { type = "http" }
    transforms = [{ plugin = "step" }]
    outputs = [{ type = "directory", path = "out", interval = "0s" }]
"#;

fn wasmill(arguments: &[&str], scratch: &Scratch) -> Option<Output> {
    let mut command = Command::new(binary()?);
    Some(command.args(arguments).arg("wasmill.toml").current_dir(scratch.dir()).output().unwrap())
}

/// What `check` says, which `run` must say too, both ending with 2.
fn problems(scratch: &Scratch) -> Option<String> {
    let [checked, ran] = [wasmill(&["check"], scratch)?, wasmill(&["run", "--log-level", "error"], scratch)?];
    let said = String::from_utf8(checked.stderr).unwrap();
    assert_eq!((checked.status.code(), ran.status.code()), (Some(2), Some(2)), "{said}");
    assert_eq!(said, String::from_utf8(ran.stderr).unwrap(), "check and run differ");
    Some(said.replace(&scratch.dir().display().to_string(), "DIR"))
}

#[test]
fn relative_configuration_reloads_without_waiting_for_the_next_look_at_the_directory() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(ONE_STEP);
    scratch.deploy("step", &Guest::stamp('1'));
    let mut command = Command::new(binary);
    command.args(["run", "--log-format", "json", "wasmill.toml"]).current_dir(scratch.dir());
    let program = Program::spawn(&mut command);
    let address = program.address();
    let reloads = || client::get(address, "/v1/streams").unwrap().json()[0]["reloads"].as_u64();
    // The directory is looked at every ten seconds, and once when the watch begins: without events, five reloads one
    // after the other take more than thirty.
    let begun = Instant::now();
    for n in 1..=5 {
        scratch.deploy("step", &Guest::pass(n));
        wait_until("the new version takes over", || reloads() == Some(u64::from(n)));
    }
    assert!(begun.elapsed() < Duration::from_secs(25), "only the look found them: {:?}", begun.elapsed());
    program.stop();
}

#[test]
fn bad_or_missing_plugin_at_start_runs_the_version_before_until_there_is_a_good_one() {
    let Some(binary) = binary() else { return };
    let whole = Guest::stamp('9').wasm();
    let bad: [(&str, Option<Vec<u8>>); 4] = [
        ("not a WebAssembly file", Some(b"#!/bin/sh".to_vec())),
        ("a section ends past the end of the file", Some(whole[..whole.len() / 2].to_vec())),
        ("I have had none", Some(Guest::unconfigurable().wasm())),
        ("put step.wasm there", None),
    ];
    for (reason, bytes) in bad {
        let scratch = Scratch::new(ONE_STEP);
        let first = scratch.deploy("step", &Guest::stamp('1'));
        Program::start(&binary, &scratch.config()).stop();
        match &bytes {
            Some(bytes) => scratch.deploy_bytes("step", bytes),
            None => fs::remove_file(scratch.plugins().join("step.wasm")).unwrap(),
        }
        let checked = wasmill(&["check"], &scratch).unwrap();
        let said = String::from_utf8(checked.stderr).unwrap();
        assert_eq!(checked.status.code(), Some(2), "{said}");
        assert!(said.contains(reason), "{reason}: {said}");

        // Twice: that it fell back once must not be forgotten.
        Program::start(&binary, &scratch.config()).stop();
        let program = Program::start(&binary, &scratch.config());
        let address = program.address();
        let log = program.wait_for_log("the version that it ran last");
        assert!(log.contains("ERROR") && log.contains(reason) && log.contains(&first), "{log}");
        let plugins = client::get(address, "/v1/plugins").unwrap().json();
        let state = |digest: &str| {
            plugins.as_array().unwrap().iter().find(|plugin| plugin["digest"] == digest).unwrap().clone()
        };
        wait_until("the version that runs is told", || {
            let plugins = client::get(address, "/v1/plugins").unwrap().json();
            plugins.as_array().unwrap().iter().any(|state| {
                state["digest"] == first.as_str() && state["streams"] == serde_json::json!(["events"])
            })
        });
        if let Some(bytes) = &bytes {
            let refused = state(&wasmill_transform::Digest::of(bytes).to_string()).to_string();
            assert!(refused.contains(reason), "{reason}: {refused}");
        }
        let metrics = client::get(address, "/metrics").unwrap().body;
        let refused = "wasmill_stream_reloads_refused_total{stream=\"events\"} 1";
        assert!(metrics.lines().any(|line| line == refused), "{metrics}");

        assert_eq!(client::push(address, "events", &numbered(0, 10)).unwrap().status, 200);
        wait_until("the records are delivered", || objects::lines(&scratch.out()).len() == 10);
        scratch.deploy("step", &Guest::stamp('2'));
        wait_until("the good version takes over", || {
            client::get(address, "/v1/streams").unwrap().json()[0]["reloads"] == 1
        });
        assert_eq!(client::push(address, "events", &numbered(10, 5)).unwrap().status, 200);
        program.stop();
        let lines = objects::lines(&scratch.out());
        let of = |version: char| lines.iter().filter(|line| line.as_bytes()[6] == version as u8).count();
        assert_eq!((lines.len(), of('1'), of('2')), (15, 10, 5), "{reason}");
    }
}

#[test]
fn bad_plugin_without_a_version_before_is_refused_by_check_and_run_alike() {
    let scratch = Scratch::new(ONE_STEP);
    scratch.deploy_bytes("step", b"#!/bin/sh");
    let Some(said) = problems(&scratch) else { return };
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains("step.wasm") && said.contains("not a WebAssembly file"), "{said}");
}

#[test]
fn missing_plugin_directory_is_one_problem_that_says_what_to_do() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        transforms = [{ plugin = "one" }, { plugin = "two" }]
        outputs = [{ type = "stdout" }]
        "#,
    );
    fs::remove_dir(scratch.plugins()).unwrap();
    let Some(said) = problems(&scratch) else { return };
    assert_eq!(
        said,
        "wasmill.toml:1:1: plugin directory DIR/plugins does not exist; make it and put plugins there as NAME.wasm, or \
         name another one with plugin_dir\nerror: 1 problem in wasmill.toml\n"
    );
}

#[test]
fn every_problem_of_every_stream_is_told_at_once_and_nothing_is_made() {
    let scratch = Scratch::new(
        r#"#whole
[http]
lisen = "127.0.0.1:0"
[streams.a]
source = { type = "http" }
transforms = [
    { plugin = "unwilling", config = { some = "thing" } },
    { plugin = "pass", limits = { memory = "1B" } },
    { plugin = "missing" },
    { plugin = "unwilling", name = "again" },
    { plugin = 7 },
    { plugin = "text" },
    { plugin = "unwilling", name = "granted", files = { db = "nowhere.csv" } },
]
outputs = [
    { type = "stdout", size = "5 parsecs" },
    { type = "directory", path = "wasmill.toml/x" },
]
[streams.b]
source = { type = "tpc" }
transforms = [{ plugin = "unwilling" }]
outputs = [{ type = "s4" }]
"#,
    );
    scratch.deploy("unwilling", &Guest::unconfigurable());
    scratch.deploy("pass", &Guest::pass(1));
    scratch.deploy_bytes("text", b"#!/bin/sh");
    let Some(said) = problems(&scratch) else { return };
    let expected = [
        (3, 1, "unknown key \"lisen\""),
        (7, 38, "refuses its config: I have had none"),
        (8, 44, "\"memory\" must be"),
        (9, 16, "no plugin \"missing\" in DIR/plugins"),
        (10, 5, "\"again\" (plugin \"unwilling\""),
        (11, 16, "\"plugin\" is the integer 7"),
        (12, 16, "not a WebAssembly file"),
        (13, 62, "nowhere.csv: No such file"),
        (16, 31, "5 parsecs"),
        (17, 34, "wasmill.toml is a file, expected a directory"),
        (20, 19, "unknown source type \"tpc\"; did you mean \"tcp\"?"),
        (21, 15, "refuses its config: I have had none"),
        (22, 21, "unknown output type \"s4\"; did you mean \"s3\"?"),
    ];
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), expected.len() + 1, "{said}");
    for ((line, column, text), said) in expected.into_iter().zip(lines) {
        assert!(
            said.starts_with(&format!("wasmill.toml:{line}:{column}: ")) && said.contains(text),
            "{text}: {said}"
        );
    }
    assert!(!scratch.path("data").exists(), "a check made a data directory");
}

#[test]
fn check_of_a_good_configuration_makes_nothing() {
    let scratch = Scratch::new(ONE_STEP);
    scratch.deploy("step", &Guest::pass(1));
    let Some(checked) = wasmill(&["check"], &scratch) else { return };
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let mut names: Vec<_> = fs::read_dir(scratch.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["plugins", "wasmill.toml"]);
}

#[test]
fn inspect_says_in_one_sentence_what_a_host_would_do() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new("");
    let core = b"\0asm\x01\0\0\0";
    let component = b"\0asm\x0d\0\x01\0";
    let whole = Guest::pass(1).wasm();
    let cases: [(&str, &[u8], i32, &str); 6] = [
        ("good", &whole, 0, "a host would load it"),
        ("text", b"#!/bin/sh", 1, "a host would refuse it: not a WebAssembly file"),
        (
            "core",
            core,
            1,
            "a host would refuse it: a core module without component metadata that is none of what this host runs",
        ),
        ("cut", &whole[..whole.len() / 2], 1, "a host would refuse it: damaged or cut off: unexpected end"),
        ("foreign", component, 1, "a host would refuse it: does not export"),
        ("none", b"", 1, "a host would refuse it: the file is empty"),
    ];
    for (name, bytes, code, verdict) in cases {
        let file = scratch.path(&format!("{name}.wasm"));
        fs::write(&file, bytes).unwrap();
        let said = Command::new(&binary).args(["plugin", "inspect"]).arg(&file).output().unwrap();
        let text = String::from_utf8(said.stdout).unwrap();
        assert_eq!(said.status.code(), Some(code), "{name}: {text}");
        let verdicts: Vec<&str> = text.lines().filter(|line| line.starts_with("  verdict")).collect();
        assert!(verdicts.len() == 1 && verdicts[0].contains(verdict), "{name}: {text}");
        let json = Command::new(&binary).args(["plugin", "inspect", "--json"]).arg(&file).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(json["refused"].as_array().unwrap().is_empty(), code == 0, "{json}");
    }
}

#[test]
fn settings_that_a_destination_refuses_are_all_told_by_check_as_by_run() {
    let scratch = Scratch::new(
        r#"#whole
[streams.events]
source = { type = "http" }
[[streams.events.outputs]]
type = "http"
url = "http://[::1"
[streams.events.outputs.headers]
content-length = "3"
Host = "x"
x-fine = "1"
X-Fine = "2"
"x.note y" = "1"
[[streams.events.outputs]]
type = "s3"
bucket = "lake"
endpoint = "http://user:sekret@host:99999"
[[streams.events.outputs]]
type = "directory"
path = "elsewhere/../data/out"
[streams.events.dead_letters.output]
type = "http"
url = "http://127.0.0.1:1/"
headers = { transfer-encoding = "chunked", Idempotency-Key = "1", Content-Type = "a/b", connection = "close" }
[streams.files]
source = { type = "file", paths = ["in/*.log", "./out/**/*.gz"] }
outputs = [{ type = "directory", path = "out", compression = "gzip" }]
[streams.staged]
source = { type = "file", paths = ["b/*/*"] }
outputs = [{ type = "directory", path = "b", object = "{batch}" }]
[streams.apart]
source = { type = "file", paths = ["out/*/*.ndjson"] }
outputs = [{ type = "directory", path = "out", compression = "gzip" }]
"#,
    );
    let Some(said) = problems(&scratch) else { return };
    assert!(!said.contains("sekret"), "{said}");
    let expected = [
        (6, "the URL is not valid: invalid IPv6 address"),
        (8, "the header content-length is set by the host"),
        (9, "the header host is set by the host"),
        (10, "the header x-fine is there twice"),
        (12, "\"x.note y\" is no valid header name"),
        (16, "the URL is not valid: invalid port number"),
        (19, "elsewhere/../data/out is inside the data directory data"),
        (23, "the header transfer-encoding is set by the host"),
        (23, "the header idempotency-key is set by the host"),
        (23, "the header connection is set by the host"),
        (26, "the stream would read its own objects"),
        (29, "the stream would read its own objects"),
    ];
    for (line, text) in expected {
        let place = format!("wasmill.toml:{line}:");
        let found = said.lines().any(|said| said.starts_with(&place) && said.contains(text));
        assert!(found, "nothing like {place} {text}: {said}");
    }
    assert_eq!(said.lines().count(), expected.len() + 1, "{said}");
}

#[test]
fn check_shows_no_password_and_no_query_of_a_url() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        outputs = [{ type = "http", url = "http://user:sekret@host/h?token=t0ken" }]
        dead_letters = { output = { type = "http", url = "https://sekret@host:1?t0ken" } }
        "#,
    );
    let Some(checked) = wasmill(&["check"], &scratch) else { return };
    let json = wasmill(&["check", "--json"], &scratch).unwrap();
    for checked in [&checked, &json] {
        let said = format!("{checked:?}");
        assert!(checked.status.success() && !said.contains("sekret") && !said.contains("t0ken"), "{said}");
    }
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains("http http://***@host/h?*** (ndjson)"), "{text}");
    assert!(text.contains("http https://***@host:1?*** (ndjson)"), "{text}");

    scratch.configure(
        "[streams.events]\nsource = { type = \"http\" }\noutputs = [{ type = \"http\", url = \"ftp://user:sekret@host/?t0ken\" }]\n",
    );
    let said = problems(&scratch).unwrap();
    assert!(said.contains("ftp://***@host/?***") && !said.contains("sekret"), "{said}");
}
