//! A candidate beside the live version: what the report says to the record, and that the stream does not notice.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};
use wasmill_tests::client::{self, Answer};
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::{Running, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::{wait_for, wait_until};
use wasmill_transform::Digest;

use crate::COMPILER;

/// Records need not be JSON.
const RAW: &str = r#"
    [streams.events]
    source = { type = "http" }
    max_failed_percent = 100
    transforms = [{ plugin = "step", limits = { memory = "8MiB", deadline = "50ms" } }]
    outputs = [{ type = "directory", path = "out", format = "raw", interval = "0s" }]
"#;

fn upload(to: SocketAddr, sample: u8, wasm: &[u8]) -> Answer {
    let path = format!("/v1/plugins/step/shadow?sample_percent={sample}");
    client::request(to, "POST", &path, &["content-type: application/wasm"], wasm).unwrap()
}

fn post(to: SocketAddr, path: &str, body: &Value) -> Answer {
    let path = format!("/v1/plugins/{path}");
    client::request(to, "POST", &path, &["content-type: application/json"], body.to_string().as_bytes())
        .unwrap()
}

fn done(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn report(to: SocketAddr) -> Value {
    done(&client::get(to, "/v1/plugins/step/shadow").unwrap())["reports"][0].clone()
}

/// The report once it covers so many records.
fn report_of(to: SocketAddr, records: u64) -> Value {
    wait_for("the records are compared", || {
        let report = report(to);
        (report["records"] == records).then_some(report)
    })
}

fn differences(report: &Value) -> [u64; 6] {
    ["kept", "dropped", "changed", "elsewhere", "failed", "mended"]
        .map(|kind| report["differences"][kind].as_u64().unwrap())
}

fn runs(to: SocketAddr) -> Value {
    client::get(to, "/v1/streams").unwrap().json()[0]["transforms"][0]["digest"].clone()
}

#[test]
fn report_counts_every_record_that_the_candidate_drops_or_fails_and_the_stream_does_not_notice() {
    let scratch = Scratch::new(RAW);
    scratch.deploy("step", &Guest::pass(1));
    let host = Running::start(&scratch.config(), COMPILER);
    let to = host.address();
    let started = done(&upload(to, 100, &Guest::obey(0).wasm()));
    assert!(started["message"].as_str().unwrap().contains("100 % of the slices"), "{started}");
    let kind = |n: u32| match n % 100 {
        0..10 => 'd',
        10..15 => 'f',
        20 | 60 => 'x',
        _ => 'o',
    };
    let records: Vec<String> = (0..100).map(|n| format!("{}-{n}", kind(n))).collect();
    host.push("events", &records.join("\n"));
    let report = report_of(to, 100);
    assert_eq!((&report["same"], differences(&report)), (&json!(83), [0, 10, 0, 0, 7, 0]), "{report}");
    assert_eq!(report["slices"], json!({ "seen": 1, "compared": 1, "skipped": 0, "unfinished": 0 }));
    let samples = report["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 10, "{report}");
    assert_eq!(
        samples[0],
        json!({ "difference": "dropped", "offset": 0, "before": "d-0",
                "live": { "fate": "kept", "rows": ["default: d-0"] }, "candidate": { "fate": "dropped" } })
    );
    let failed = samples.iter().find(|sample| sample["difference"] == "failed").unwrap();
    assert_eq!((&failed["before"], &failed["candidate"]["reason"]), (&json!("f-10"), &json!("step: no")));
    assert!(report["cost_candidate"]["traps"].as_u64().unwrap() >= 2, "{report}");
    assert_eq!(report["cost_live"]["traps"], 0);
    for side in ["cost_live", "cost_candidate"] {
        assert!(report[side]["cpu_ns"].as_u64().unwrap() > 0, "{report}");
        assert!(report[side]["memory_bytes_peak"].as_u64().unwrap() >= 64 << 10, "{report}");
    }
    assert!(report["faults"][0].as_str().unwrap().starts_with("step: "), "{report}");
    let metrics = client::get(to, "/metrics").unwrap().body;
    let counted = "wasmill_shadow_records_total{stream=\"events\",plugin=\"step\",result=\"dropped\"} 10";
    assert!(metrics.contains(counted), "{metrics}");
    let path = "/v1/plugins/step/shadow";
    let last = done(&client::request(to, "DELETE", path, &[], b"").unwrap());
    assert_eq!(last["reports"][0]["records"], 100, "{last}");
    let none = client::get(to, path).unwrap();
    assert_eq!((none.status, &none.json()["error"]["code"]), (404, &json!("no_shadow")), "{}", none.body);
    let stats = host.stats("events");
    host.drain();
    assert_eq!((stats.passed.get(), stats.dropped.get(), stats.failed.get()), (100, 0, 0));
    let (mut found, mut records) = (objects::lines(&scratch.out()), records);
    found.sort();
    records.sort();
    assert_eq!(found, records);
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn report_counts_what_the_candidate_keeps_and_mends() {
    let scratch = Scratch::new(RAW);
    scratch.deploy("step", &Guest::obey(0));
    let host = Running::start(&scratch.config(), COMPILER);
    done(&upload(host.address(), 100, &Guest::pass(1).wasm()));
    host.push("events", "d-1\nf-2\nok\nd-3");
    assert_eq!(differences(&report_of(host.address(), 4)), [2, 0, 0, 0, 0, 1]);
    host.drain();
}

#[test]
fn candidate_outlives_a_crash_as_a_shadow_and_goes_live_by_promotion() {
    let scratch = Scratch::new(RAW);
    scratch.deploy("step", &Guest::stamp('1'));
    let host = Running::start(&scratch.config(), COMPILER);
    let candidate = Digest::of(&Guest::stamp('2').wasm()).to_string();
    done(&upload(host.address(), 100, &Guest::stamp('2').wasm()));
    host.push("events", &numbered(0, 20));
    assert_eq!(differences(&report_of(host.address(), 20)), [0, 0, 20, 0, 0, 0]);
    host.crash();
    let host = Running::start(&scratch.config(), COMPILER);
    let to = host.address();
    // It is taken up again beside the stream, which does not wait for it.
    wait_until("the shadow is there again", || {
        let shadow = client::get(to, "/v1/plugins/step/shadow").unwrap().json();
        shadow["reports"].as_array().is_some_and(|reports| !reports.is_empty())
    });
    host.push("events", &numbered(20, 20));
    // Those of before may run again.
    wait_until("the shadow goes on", || report(to)["differences"]["changed"].as_u64() >= Some(20));
    let promoted = done(&post(to, "step/promote", &json!({})));
    assert_eq!((&promoted["pinned"], &promoted["shadow"]), (&json!(candidate), &Value::Null), "{promoted}");
    wait_until("the candidate is live", || runs(to) == candidate);
    assert_eq!(client::get(to, "/v1/plugins/step/shadow").unwrap().status, 404);
    host.push("events", &numbered(40, 20));
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..60).collect::<Vec<_>>());
    let lines = objects::lines(&scratch.out());
    let of = |version: char| lines.iter().filter(|line| line.as_bytes()[6] == version as u8).count();
    assert_eq!((of('1'), of('2')), (40, 20));
}

#[test]
fn candidate_that_is_the_same_differs_in_nothing_and_is_sampled() {
    let scratch = Scratch::new(RAW);
    scratch.deploy("step", &Guest::pass(1));
    let host = Running::start(&scratch.config(), COMPILER);
    let to = host.address();
    done(&upload(to, 50, &Guest::pass(2).wasm()));
    let stats = host.stats("events");
    for n in 0..10 {
        host.push("events", &format!("record {n}"));
        wait_until("the slice ran", || stats.outputs[0].delivered.get() == n + 1);
    }
    let report = report_of(to, 5);
    assert_eq!(report["slices"], json!({ "seen": 10, "compared": 5, "skipped": 0, "unfinished": 0 }));
    assert_eq!((&report["same"], differences(&report)), (&json!(5), [0; 6]));
    host.drain();
}

#[test]
fn candidate_that_traps_loops_and_takes_memory_leaves_the_stream_alone() {
    let scratch = Scratch::new(RAW);
    scratch.deploy("step", &Guest::pass(1));
    let host = Running::start(&scratch.config(), COMPILER);
    let to = host.address();
    done(&upload(to, 100, &Guest::picky().wasm()));
    let mut sent = Vec::new();
    for round in 0..20 {
        let poison = ["xtrap", "loop", "memory bomb", "zero answer", "error"];
        let records: Vec<String> = poison.iter().map(|poison| format!("{poison} {round}")).collect();
        host.push("events", &records.join("\n"));
        sent.extend(records);
    }
    let stats = host.stats("events");
    wait_until("everything is delivered", || stats.outputs[0].delivered.get() == 100);
    wait_until("something was compared", || report(to)["differences"]["failed"].as_u64() >= Some(5));
    let report = report(to);
    assert_eq!(report["records"], report["differences"]["failed"], "{report}");
    let slices = &report["slices"];
    assert!(slices["seen"].as_u64() >= Some(1) && slices["unfinished"] == 0, "{report}");
    assert!(host.state("events")["paused"].is_null());
    assert_eq!((stats.passed.get(), stats.failed.get()), (100, 0));
    let traps = stats.with_transforms(|transforms| transforms[0].traps);
    assert_eq!(traps, 0, "what the candidate did is counted for the live version");
    host.drain();
    let mut found = objects::lines(&scratch.out());
    found.sort();
    sent.sort();
    assert_eq!(found, sent);
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn wrong_candidates_are_refused_and_nothing_runs_beside() {
    let scratch = Scratch::new(RAW);
    let live = scratch.deploy("step", &Guest::pass(1));
    scratch.deploy("idle", &Guest::pass(9));
    let host = Running::start(&scratch.config(), COMPILER);
    let to = host.address();
    let nowhere = format!("sha256:{}", "ab".repeat(32));
    for (answer, status, code, says) in [
        (upload(to, 10, b"#!/bin/sh"), 422, "refused", "not a WebAssembly file"),
        (upload(to, 10, &Guest::unconfigurable().wasm()), 422, "refused", "I have had none"),
        (upload(to, 0, &Guest::pass(2).wasm()), 400, "bad_query", "1 to 100"),
        (upload(to, 10, &Guest::pass(1).wasm()), 409, "already_live", "is the live version"),
        (post(to, "step/shadow", &json!({ "digest": nowhere })), 404, "no_version", &*live),
        (post(to, "step/shadow", &json!({})), 400, "bad_query", "digest"),
        (
            post(to, "step/shadow", &json!({ "digest": live, "sample_percent": 101 })),
            400,
            "bad_query",
            "1 to 100",
        ),
        (post(to, "idle/shadow", &json!({ "digest": nowhere })), 422, "refused", "no stream follows"),
        (post(to, "nobody/shadow", &json!({ "digest": nowhere })), 404, "no_plugin", "no plugin"),
        (
            client::request(to, "DELETE", "/v1/plugins/step/shadow", &[], b"").unwrap(),
            404,
            "no_shadow",
            "no shadow",
        ),
    ] {
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (status, &json!(code)), "{says}: {}", answer.body);
        assert!(error["message"].as_str().unwrap().contains(says), "{says}: {}", answer.body);
    }
    assert_eq!(client::get(to, "/v1/plugins/step/shadow").unwrap().status, 404);
    // What was kept of them is listed as what it is.
    let unfit = wasmill_transform::Digest::of(&Guest::unconfigurable().wasm()).to_string();
    let all = client::get(to, "/v1/plugins").unwrap().json();
    let known = all.as_array().unwrap().iter().find(|version| version["digest"] == unfit).unwrap();
    assert_eq!(known["state"], "refused", "{known}");
    assert!(known["reason"].as_str().unwrap().contains("I have had none"), "{known}");
    host.drain();
}

#[test]
fn uploads_are_refused_where_the_configuration_does_not_want_them() {
    let scratch =
        Scratch::new(&format!("#whole\n[http]\nlisten = \"127.0.0.1:0\"\nplugin_uploads = false\n{RAW}"));
    scratch.deploy("step", &Guest::pass(1));
    let host = Running::start(&scratch.config(), COMPILER);
    let answer = upload(host.address(), 10, &Guest::pass(2).wasm());
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (403, &json!("uploads_off")),
        "{}",
        answer.body
    );
    assert!(answer.body.contains("plugin_uploads"), "{}", answer.body);
    host.drain();
}

#[test]
fn command_line_shadows_promotes_and_rolls_back() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(RAW);
    let first = scratch.deploy("step", &Guest::pass(1));
    let file = scratch.path("candidate.wasm");
    std::fs::write(&file, Guest::obey(0).wasm()).unwrap();
    let candidate = Digest::of(&Guest::obey(0).wasm()).to_string();
    let host = Program::start(&binary, &scratch.config());
    let to = host.address();
    let url = format!("http://{to}");
    let run = |arguments: &[&str], code: i32| {
        let mut command = Command::new(&binary);
        let ran = command.arg("plugin").args(arguments).args(["--host", &url]).output().unwrap();
        let both =
            [&ran.stdout[..], &ran.stderr[..]].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {both:?}");
        both.concat()
    };
    let file = file.to_str().unwrap();
    let started = run(&["shadow", "step", "--candidate", file, "--sample", "100"], 0);
    assert!(started.contains(&candidate), "{started}");
    assert_eq!(client::push(to, "events", "d-1\nok\nf-2").unwrap().status, 200);
    report_of(to, 3);
    let report = run(&["shadow", "step"], 0);
    for says in ["3 compared, 1 the same, 2 differ", "1 dropped", "1 failed", "before     d-1"] {
        assert!(report.contains(says), "{says}: {report}");
    }
    let json: Value = serde_json::from_str(&run(&["shadow", "step", "--json"], 0)).unwrap();
    assert_eq!(json["reports"][0]["records"], 3, "{json}");
    run(&["promote", "step"], 0);
    wait_until("the candidate is live", || runs(to) == candidate);
    let versions = run(&["versions", "step"], 0);
    assert!(versions.contains("pinned, runs in events"), "{versions}");
    run(&["rollback", "step"], 0);
    wait_until("the first one is live", || runs(to) == first);
    assert!(run(&["versions"], 0).contains(&first));
    run(&["pin", &format!("step@{candidate}")], 0);
    wait_until("the candidate is live", || runs(to) == candidate);
    run(&["unpin", "step"], 0);
    wait_until("what the directory has is live", || runs(to) == first);
    assert!(run(&["shadow", "step", "--stop"], 1).contains("no shadow"));
    assert!(run(&["pin", "nobody"], 1).contains("no plugin \"nobody\""));
    run(&["pin", "step@latest"], 2);
    run(&["shadow", "step", "--candidate", "/nowhere.wasm"], 1);
    host.stop();
}
