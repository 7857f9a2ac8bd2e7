//! Models that streams run: taken from a directory, changed while records flow, refused when they are bad, bounded when they
//! are slow or large.
//!
//! The plugin is the first-party `score`; its models are written by hand: regressors that say one number, and hostile ones.

use std::fs;

use serde_json::Value;
use wasmill::pipeline::StartError;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::Running;
use wasmill_tests::scratch::{Scratch, apart};
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};
use wasmill_transform::Digest;

use crate::COMPILER;
use crate::granted::ran_last;

#[path = "../../../host/inference/tests/support/mod.rs"]
mod onnx;

use onnx::{Message, Node, Onnx};

/// A model over two columns that says `a * first + number`.
fn linear(a: f32, number: f32) -> Vec<u8> {
    let node = Node::new("ml.LinearRegressor", &["x"], &["y"]).int("targets", 1);
    let node = node.floats("coefficients", [a, 0.0]).floats("intercepts", [number]);
    Onnx::default().input("x", 2).node(node).output("y").bytes()
}

/// One of which each row takes more than a millisecond.
fn slow() -> Vec<u8> {
    const WIDE: usize = 300_000;
    let axes = Message::default().ints(1, [1]).int(2, 7).bytes(8, "axes").ints(7, [1]);
    Onnx::default()
        .constant("w", &[2, WIDE as i64], &vec![0.001; 2 * WIDE])
        .tensor(axes)
        .input("x", 2)
        .node(Node::new("MatMul", &["x", "w"], &["a"]))
        .node(Node::new("Exp", &["a"], &["b"]))
        .node(Node::new("ReduceSum", &["b", "axes"], &["y"]))
        .output("y")
        .bytes()
}

fn stream(transform: &str) -> String {
    format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        max_failed_percent = 100
        outputs = [{{ type = "directory", path = "out", interval = "50ms" }}]
        [[streams.events.transforms]]
        plugin = "score"
        config = {{ features = ["x", "z"] }}
        {transform}
        "#
    )
}

const GRANTED: &str = r#"models = { model = "fraud" }"#;

fn scratch(config: &str) -> Option<Scratch> {
    let Some(plugins) = std::env::var_os("WASMILL_PLUGINS").map(std::path::PathBuf::from) else {
        println!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
        return None;
    };
    let scratch = Scratch::new(config);
    fs::copy(plugins.join("score.wasm"), scratch.plugins().join("score.wasm")).unwrap();
    fs::create_dir(scratch.path("models")).unwrap();
    Some(scratch)
}

/// As a deployment does: written elsewhere, then renamed.
fn deploy(scratch: &Scratch, name: &str, bytes: &[u8]) -> String {
    let part = scratch.path(&format!("models/.{name}.part"));
    fs::write(&part, bytes).unwrap();
    fs::rename(&part, scratch.path(&format!("models/{name}.onnx"))).unwrap();
    format!("{name}.onnx={}", Digest::of(bytes))
}

fn record(n: u64) -> String {
    format!("{{\"n\":{n},\"x\":{n},\"z\":0}}\n")
}

/// What each record was told, by its number.
fn predictions(scratch: &Scratch) -> Vec<(u64, f64)> {
    let lines = objects::lines(&scratch.out());
    let rows = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut found: Vec<(u64, f64)> =
        rows.map(|row| (row["n"].as_u64().unwrap(), row["prediction"].as_f64().unwrap())).collect();
    found.sort_by_key(|(n, _)| *n);
    found
}

/// Why the host does not start.
fn unfit(scratch: &Scratch) -> String {
    match Running::try_start(&scratch.config(), COMPILER) {
        Err(StartError::Invalid(problems)) => {
            problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("\n")
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
}

#[test]
fn model_that_changes_takes_over_between_two_slices_and_outcomes_name_it() {
    model_takes_over(&stream(GRANTED));
}

#[test]
fn model_in_a_process_of_its_own_takes_over_between_two_slices() {
    model_takes_over(&apart(&stream(GRANTED)));
}

fn model_takes_over(config: &str) {
    let (Some(binary), Some(scratch)) = (binary(), scratch(config)) else { return };
    let first = deploy(&scratch, "fraud", &linear(0.0, 1.0));
    let program = Program::start(&binary, &scratch.config());
    let push = |from: u64| {
        let body: String = (from..from + 10).map(record).collect();
        assert_eq!(client::push(program.address(), "events", &body).unwrap().status, 200);
    };
    // Records flow all the time, one after another in offsets as in numbers.
    let mut n = 0;
    for _ in 0..10 {
        push(n);
        n += 10;
    }
    // What is stored may not have gone through yet; the new model would have it, too.
    wait_until("the first ones are delivered", || objects::lines(&scratch.out()).len() as u64 == n);
    let second = deploy(&scratch, "fraud", &linear(0.0, 2.0));
    while !program.says("plugins reloaded") {
        push(n);
        n += 10;
    }
    for _ in 0..10 {
        push(n);
        n += 10;
    }
    wait_until("everything is delivered", || objects::lines(&scratch.out()).len() as u64 == n);
    let reloaded: Value = serde_json::from_str(&program.wait_for_log("plugins reloaded")).unwrap();
    let fields = reloaded.get("fields").unwrap_or(&reloaded);
    assert!(fields["plugins"].as_str().unwrap().contains(&second), "{reloaded}");
    let from = fields["from"].as_u64().unwrap();
    assert!((100..n).contains(&from), "{from} of {n}");
    for (record, prediction) in predictions(&scratch) {
        // The outcome of the slices below says the first digest, that of the others the second.
        assert_eq!(
            prediction,
            if record < from { 1.0 } else { 2.0 },
            "record {record}, taken over from {from}"
        );
    }
    program.stop();
    for digest in [first, second] {
        assert!(objects::have(&scratch.path("data"), &digest), "no outcome has {digest}");
    }
}

#[test]
fn bad_models_are_refused_with_the_reason_and_the_one_before_goes_on() {
    let (Some(binary), Some(scratch)) = (binary(), scratch(&stream(GRANTED))) else { return };
    deploy(&scratch, "fraud", &linear(1.0, 0.0));
    let program = Program::start(&binary, &scratch.config());
    let whole = linear(0.0, 9.0);
    let other = Onnx::default().input("x", 2).node(Node::new("Conv", &["x"], &["y"])).output("y").bytes();
    let wide = Onnx::default().input("x", 3).node(Node::new("Relu", &["x"], &["y"])).output("y").bytes();
    let loops = Onnx::default()
        .input("x", 2)
        .node(Node::new("Loop", &["x"], &["y"]).graph("body"))
        .output("y")
        .bytes();
    let bad: [(&[u8], &str); 5] = [
        (&whole[..whole.len() / 2], "damaged or cut off"),
        (&other, "there is no operator \\\"Conv\\\" here"),
        (&loops, "there is no operator \\\"Loop\\\" here"),
        (&wide, "has the shape [0, 2]; the model takes [rows, 3]"),
        (&vec![0; (64 << 20) + 1], "over the limit of 67108864"),
    ];
    for (number, (bytes, reason)) in bad.into_iter().enumerate() {
        deploy(&scratch, "fraud", bytes);
        wait_until(reason, || {
            program
                .log()
                .iter()
                .any(|line| line.contains("changed file or model refused") && line.contains(reason))
        });
        let n = number as u64;
        assert_eq!(client::push(program.address(), "events", &record(n)).unwrap().status, 200);
    }
    wait_until("everything is delivered", || objects::lines(&scratch.out()).len() == bad.len());
    let expected: Vec<(u64, f64)> = (0..bad.len() as u64).map(|n| (n, n as f64)).collect();
    assert_eq!(predictions(&scratch), expected);
    // And a good one is taken after all of these.
    deploy(&scratch, "fraud", &whole);
    program.wait_for_log("plugins reloaded");
    assert_eq!(client::push(program.address(), "events", &record(100)).unwrap().status, 200);
    wait_until("the last one is delivered", || objects::lines(&scratch.out()).len() == bad.len() + 1);
    assert_eq!(predictions(&scratch).last(), Some(&(100, 9.0)));
    program.stop();
}

#[test]
fn start_with_a_bad_model_is_one_with_the_model_that_ran_last() {
    let Some(scratch) = scratch(&stream(GRANTED)) else { return };
    deploy(&scratch, "fraud", &linear(0.0, 4.0));
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &record(0));
    wait_until("it is delivered", || objects::lines(&scratch.out()).len() == 1);
    host.drain();
    deploy(&scratch, "fraud", b"no model");
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &record(1));
    wait_until("it is delivered", || objects::lines(&scratch.out()).len() == 2);
    // And a good one is taken again.
    deploy(&scratch, "fraud", &linear(0.0, 6.0));
    let mut n = 2;
    wait_until("the new one runs", || {
        host.push("events", &record(n));
        n += 1;
        predictions(&scratch).last().is_some_and(|(_, prediction)| *prediction == 6.0)
    });
    host.drain();
    let found = predictions(&scratch);
    assert_eq!(found[..2], [(0, 4.0), (1, 4.0)]);
    let kept = objects::files(&scratch.path("data/models"));
    assert_eq!(kept.len(), 4, "a copy and a note of what runs, and of what ran before: {kept:?}");
}

#[test]
fn model_that_made_too_many_records_fail_is_not_what_a_start_falls_back_to() {
    let config = stream(GRANTED).replace("max_failed_percent = 100", "");
    let (Some(binary), Some(scratch)) = (binary(), scratch(&config)) else { return };
    let good = deploy(&scratch, "fraud", &linear(0.0, 4.0));
    let program = Program::start(&binary, &scratch.config());
    let push = |program: &Program, numbers: std::ops::Range<u64>, all: usize| {
        let body: String = numbers.map(record).collect();
        assert_eq!(client::push(program.address(), "events", &body).unwrap().status, 200);
        wait_until("it is delivered", || objects::lines(&scratch.out()).len() == all);
    };
    push(&program, 0..1, 1);
    // What it says of most records is no number that JSON has.
    deploy(&scratch, "fraud", &linear(3e38, 0.0));
    program.wait_for_log("plugins reloaded");
    push(&program, 10..2010, 2001);
    let digest = good.strip_prefix("fraud.onnx=").unwrap();
    wait_until("it is noted", || ran_last(&scratch.path("data/models")) == digest);
    program.kill();
    fs::remove_file(scratch.path("models/fraud.onnx")).unwrap();
    let program = Program::start(&binary, &scratch.config());
    program.wait_for_log("a granted file or model is bad or missing");
    push(&program, 3000..3001, 2002);
    program.stop();
    assert!(predictions(&scratch).iter().all(|(_, prediction)| *prediction == 4.0));
}

#[test]
fn what_is_not_granted_is_not_run() {
    let Some(scratch) = scratch(&stream("")) else { return };
    deploy(&scratch, "fraud", &linear(0.0, 1.0));
    let text = unfit(&scratch);
    assert!(
        text.contains("no model \"model\" is granted") && text.contains("the transform (models) names none"),
        "{text}"
    );
    assert!(text.contains("its manifest asks for the model \"model\""), "{text}");
    scratch.configure(&stream(r#"models = { model = "fraud", other = "fraud" }"#));
    let text = unfit(&scratch);
    assert!(
        text.contains("grants the model \"other\", which the plugin's manifest does not ask for"),
        "{text}"
    );
    scratch.configure(&stream(r#"models = { model = "none" }"#));
    let text = unfit(&scratch);
    assert!(text.contains("models/none.onnx") && text.contains("No such file"), "{text}");
    scratch.configure(&stream(&format!("{GRANTED}\nlimits = {{ memory = \"1MiB\" }}")));
    deploy(&scratch, "fraud", &slow());
    let text = unfit(&scratch);
    assert!(text.contains("limits.memory"), "{text}");
}

#[test]
fn models_of_a_tenant_are_those_of_its_directory() {
    let config = stream(GRANTED).replace("streams.events", "tenants.acme.streams.events");
    let Some(scratch) = scratch(&config) else { return };
    fs::create_dir(scratch.plugins().join("acme")).unwrap();
    fs::copy(scratch.plugins().join("score.wasm"), scratch.plugins().join("acme/score.wasm")).unwrap();
    deploy(&scratch, "fraud", &linear(0.0, 1.0));
    assert!(unfit(&scratch).contains("models/acme/fraud.onnx"));
    fs::create_dir(scratch.path("models/acme")).unwrap();
    std::os::unix::fs::symlink("../fraud.onnx", scratch.path("models/acme/fraud.onnx")).unwrap();
    assert!(unfit(&scratch).contains("is not below"), "no link leads out of it");
    fs::remove_file(scratch.path("models/acme/fraud.onnx")).unwrap();
    fs::write(scratch.path("models/acme/fraud.onnx"), linear(0.0, 5.0)).unwrap();
    let host = Running::start(&scratch.config(), COMPILER);
    host.drain();
}

#[test]
fn inference_ends_with_the_time_of_its_call() {
    let Some(scratch) = scratch(&stream(&format!("{GRANTED}\nlimits = {{ deadline = \"1ms\" }}"))) else {
        return;
    };
    deploy(&scratch, "fraud", &slow());
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &(0..3).map(record).collect::<String>());
    wait_until("all of them failed", || scratch.letters("events").len() == 3);
    for letter in scratch.letters("events") {
        assert!(letter["reason"].as_str().unwrap().contains("deadline"), "{letter}");
    }
    host.drain();
}

#[test]
fn record_that_has_not_what_the_model_wants_fails_alone() {
    let Some(scratch) = scratch(&stream(GRANTED)) else { return };
    deploy(&scratch, "fraud", &linear(2.0, 1.0));
    let host = Running::start(&scratch.config(), COMPILER);
    let body = "{\"n\":0,\"x\":1,\"z\":0}\n{\"n\":1,\"z\":0}\n{\"n\":2,\"x\":\"many\",\"z\":0}\n{\"n\":3,\"x\":3,\"z\":0}\n";
    host.push("events", body);
    wait_until("two rows and two letters", || {
        scratch.letters("events").len() == 2 && objects::lines(&scratch.out()).len() == 2
    });
    assert_eq!(predictions(&scratch), [(0, 3.0), (3, 7.0)]);
    let reasons: Vec<String> =
        scratch.letters("events").iter().map(|letter| letter["reason"].to_string()).collect();
    assert!(
        reasons[0].contains("feature `x`: no value") && reasons[1].contains("is no number"),
        "{reasons:?}"
    );
    host.drain();
}
