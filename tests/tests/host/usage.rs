//! Usage of the real binary: counted once, through restarts and kills, and answered by tenant, stream and plugin.

use std::process::Command;

use serde_json::Value;
use wasmill_tests::client::{self, get};
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

const STREAMS: &str = r#"
    [streams.events]
    source = { type = "http" }
    transforms = [{ plugin = "pass" }]
    outputs = [{ type = "directory", path = "out", interval = "0s" }]
    [streams.other]
    source = { type = "http" }
    transforms = [{ plugin = "pass", name = "again" }]
    outputs = [{ type = "directory", path = "out2", interval = "0s" }]
"#;

fn usage(program: &Program, query: &str) -> Vec<Value> {
    let answer = get(program.address(), &format!("/v1/usage?from=-2d&{query}")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["usage"].as_array().unwrap().clone()
}

fn sum(rows: &[Value], field: &str) -> u64 {
    rows.iter().map(|row| row[field].as_u64().unwrap()).sum()
}

/// Records that came in, as the files of the tenant say.
fn stored(scratch: &Scratch) -> u64 {
    let files = objects::files(&scratch.path("data/usage/default")).into_iter();
    let texts: Vec<String> = files.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let lines = texts.iter().flat_map(|text| text.lines()).filter_map(|line| serde_json::from_str(line).ok());
    // Those of a plugin are of its stream, too.
    let of_streams = lines.filter(|row: &Value| row["plugin"].as_str().unwrap_or_default().is_empty());
    of_streams.map(|row| row["records_in"].as_u64().unwrap_or(0)).sum()
}

fn push(program: &Program, stream: &str, records: usize) {
    let answer = client::push(program.address(), stream, &"{\"n\":1}\n".repeat(records)).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn usage_counts_once_through_restarts_and_a_kill_takes_no_more_than_the_last_seconds() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(STREAMS);
    scratch.deploy("pass", &Guest::pass(0));
    let mut program = Program::start(&binary, &scratch.config());
    push(&program, "events", 100);
    push(&program, "other", 10);
    wait_until("everything is delivered", || {
        objects::lines(&scratch.out()).len() == 100 && objects::lines(&scratch.path("out2")).len() == 10
    });
    wait_until("it is counted", || sum(&usage(&program, "by=tenant&interval=day"), "records_out") == 110);
    let by_stream = usage(&program, "by=stream&interval=day");
    let events: Vec<Value> = by_stream.iter().filter(|row| row["stream"] == "events").cloned().collect();
    assert_eq!((sum(&events, "records_in"), sum(&events, "bytes_in")), (100, 700));
    assert!(sum(&events, "calls") >= 1 && sum(&events, "cpu_ns") > 0, "{events:?}");
    let by_plugin = usage(&program, "by=plugin&interval=day");
    assert!(by_plugin.iter().all(|row| row["plugin"] == "pass"), "{by_plugin:?}");
    assert_eq!(sum(&by_plugin, "calls"), sum(&by_stream, "calls"));
    let flow = ["records_in", "bytes_in", "records_out", "bytes_out", "dead_letters"];
    assert_eq!(flow.map(|field| sum(&by_plugin, field)), [110, 770, 110, 770, 0], "{by_plugin:?}");
    let out: u64 = [scratch.out(), scratch.path("out2")]
        .iter()
        .flat_map(|dir| objects::files(dir))
        .map(|file| std::fs::metadata(file).unwrap().len())
        .sum();
    assert_eq!(sum(&by_stream, "bytes_out"), out, "bytes of the objects");
    let by_tenant = usage(&program, "by=tenant&interval=day");
    assert_eq!(flow.map(|field| sum(&by_tenant, field)), [110, 770, 110, out, 0], "{by_tenant:?}");
    assert!(sum(&by_tenant, "compile_cpu_ns") > 0, "a plugin was compiled: {by_tenant:?}");
    // At a stop everything is stored, however little time has passed.
    push(&program, "events", 5);
    program.stop();

    program = Program::start(&binary, &scratch.config());
    assert_eq!(sum(&usage(&program, "by=stream"), "records_in"), 115);
    push(&program, "events", 20);
    wait_until("it is counted", || sum(&usage(&program, "by=stream"), "records_in") == 135);
    wait_until("it is stored", || stored(&scratch) == 135);
    push(&program, "events", 1000);
    program.kill();

    // Of what came last some may be missing; of all else nothing is, and nothing counts twice.
    program = Program::start(&binary, &scratch.config());
    wait_until("everything is delivered", || objects::lines(&scratch.out()).len() >= 1125);
    let counted = sum(&usage(&program, "by=stream"), "records_in");
    assert!(counted == 135 || counted == 1135, "{counted}");
    program.stop();
}

#[test]
fn usage_is_exported_a_line_each_and_page_by_page() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(STREAMS);
    scratch.deploy("pass", &Guest::pass(0));
    let program = Program::start(&binary, &scratch.config());
    push(&program, "events", 3);
    push(&program, "other", 4);
    wait_until("it is counted", || sum(&usage(&program, "by=stream"), "records_in") == 7);
    let host = format!("http://{}", program.address());
    let run = |arguments: &[&str]| {
        let output = Command::new(&binary).args(["usage", "--host", &host]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for arguments in [&["--format", "ndjson"][..], &["--format", "ndjson", "--of", "*"]] {
        let lines = run(arguments);
        let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(sum(&rows, "records_in"), 7, "{lines}");
        assert!(rows.iter().all(|row| row["tenant"] == "default" && row["seconds"] == 3600), "{lines}");
    }
    let table = run(&["--from", "-1h"]);
    assert!(table.contains("events") && table.contains("records in"), "{table}");
    let accepts = ["accept: application/x-ndjson"];
    let answer = client::request(program.address(), "GET", "/v1/usage", &accepts, b"").unwrap();
    assert!(answer.header("content-type") == Some("application/x-ndjson"), "{}", answer.head);
    let nobody = get(program.address(), "/v1/usage?tenant=*").unwrap();
    assert_eq!((nobody.status, nobody.body.contains("ndjson")), (400, true), "{}", nobody.body);
    for page in ["limit=1", "limit=10000"] {
        let answer = get(program.address(), &format!("/v1/usage?{page}")).unwrap().json();
        let rows = answer["usage"].as_array().unwrap();
        assert!(
            rows.len() >= 2 && rows.iter().take(2).all(|row| row["from"] == rows[0]["from"]),
            "a span is on one page: {answer}"
        );
    }
    program.stop();
}

#[test]
fn streams_that_come_and_go_between_two_flushes_are_counted_to_their_end() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new("[policy]\ndirectories = [\"out\"]\n");
    let program = Program::start(&binary, &scratch.config());
    let ask = |method: &str, path: &str, headers: &[&str], body: &str| {
        let headers = [&["content-type: application/json"], headers].concat();
        let answer = client::request(program.address(), method, path, &headers, body.as_bytes()).unwrap();
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.body);
    };
    let to = |path: &str| {
        serde_json::json!({
            "source": {"type": "http"},
            "outputs": [{"type": "directory", "path": path, "format": "ndjson", "interval": "0s"}],
        })
        .to_string()
    };
    for round in 0..5 {
        ask("PUT", "/v1/streams/short", &["if-none-match: *"], &to("out/one"));
        push(&program, "short", 100);
        // It is opened anew, and removed.
        ask("PUT", "/v1/streams/short", &["if-match: *"], &to("out/other"));
        push(&program, "short", 10);
        ask("DELETE", "/v1/streams/short", &[], "");
        if round == 2 {
            assert_eq!(sum(&usage(&program, "by=stream"), "records_in"), 330);
        }
    }
    program.stop();
    let program = Program::start(&binary, &scratch.config());
    let rows = usage(&program, "by=stream&interval=day");
    assert_eq!((sum(&rows, "records_in"), sum(&rows, "records_out")), (550, 550), "{rows:?}");
    program.stop();
}

#[test]
fn each_plugin_of_a_chain_has_its_own_records_bytes_and_letters() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        max_failed_percent = 100
        transforms = [{ plugin = "first" }, { plugin = "second" }]
        outputs = [{ type = "directory", path = "out", interval = "2s" }]
        "#,
    );
    scratch.deploy("first", &Guest::obey(6));
    scratch.deploy("second", &Guest::obey(7));
    let mut program = Program::start(&binary, &scratch.config());
    // Four pass, one is dropped and two fail in the first, one of them by a trap; one fails in the second.
    let orders = ["--", "--", "--", "--", "d-", "f-", "x-", "-f"];
    let records: Vec<String> = orders.iter().map(|order| format!("{{\"v\":\"{order}\"}}")).collect();
    let bytes = records[0].len() as u64;
    assert_eq!(client::push(program.address(), "events", &records.join("\n")).unwrap().status, 200);
    let flows = |program: &Program| {
        let mut rows = usage(program, "by=plugin&interval=day");
        rows.sort_by_key(|row| row["plugin"].as_str().unwrap().to_owned());
        let of = |row: &Value| {
            ["records_in", "bytes_in", "records_out", "bytes_out", "dead_letters"]
                .map(|field| row[field].as_u64().unwrap())
        };
        rows.iter().map(of).collect::<Vec<_>>()
    };
    let expected = [[8, 8 * bytes, 5, 5 * bytes, 2], [5, 5 * bytes, 4, 4 * bytes, 1]];
    wait_until("both are counted", || flows(&program) == expected);
    wait_until("the letters are written", || {
        sum(&usage(&program, "by=stream&interval=day"), "dead_letters") == 3
    });
    wait_until("what waited for its batch was seen", || {
        sum(&usage(&program, "by=tenant&interval=day"), "buffered_bytes_max") > 0
    });
    let metrics = get(program.address(), "/metrics").unwrap().body;
    for (name, labels, count) in [
        ("records_total", ",direction=\"in\"", 8),
        ("records_total", ",direction=\"out\"", 5),
        ("bytes_total", ",direction=\"in\"", 8 * bytes),
        ("dead_letters_total", "", 2),
    ] {
        let line = format!(
            "wasmill_transform_{name}{{stream=\"events\",transform=\"first\",plugin=\"first\"{labels}}} {count}\n"
        );
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    program.stop();
    program = Program::start(&binary, &scratch.config());
    assert_eq!(flows(&program), expected, "it is kept");
    program.stop();
}
