//! Alarms from a stream to a webhook: each notice is one request with its own body, whatever ends the program.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::servers::{Received, Receiver};
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};

const MACHINES: i64 = 16;
/// Steps of ten seconds.
const STEPS: i64 = 200;

fn config(url: &str) -> String {
    format!(
        r#"
    [streams.machines]
    source = {{ type = "http" }}
    [[streams.machines.outputs]]
    type = "directory"
    path = "out"
    interval = "50ms"
    [[streams.machines.outputs]]
    name = "alarms"
    type = "http"
    url = "{url}"
    interval = "0s"
    headers = {{ authorization = "Bearer t", content-type = "application/json" }}
    retry = {{ initial = "5ms", max = "20ms" }}
    [[streams.machines.transforms]]
    plugin = "alarm"
    key = ["machine"]
    [streams.machines.transforms.config]
    name = "hot"
    condition = "temperature > 90"
    by = ["machine"]
    time = "t"
    time_format = "s"
    for = "20s"
    repeat_interval = "5m"
    output = "alarms"
    body = '''
    {{
      "text": "\"{{{{machine}}}}\" is {{{{alarm.status}}}} at {{{{temperature}}}} °C",
      "at": {{{{t}}}}, "since": {{{{epoch(alarm.starts_at)}}}}, "notice": {{{{alarm.notice}}}}
    }}
    '''
"#
    )
}

/// How long a machine is hot, in steps, once in a hundred: some for too short to be an alarm, some for long enough to be
/// told twice.
fn hot_steps(machine: i64) -> i64 {
    1 + machine * 5 % 45
}

/// Since which step it has been hot at this one.
fn hot_since(machine: i64, step: i64) -> Option<i64> {
    let phase = (step + 7 * machine) % 100;
    let began = step - phase + 40;
    (40..40 + hot_steps(machine)).contains(&phase).then_some(began.max(0))
}

fn temperature(machine: i64, step: i64) -> i64 {
    if hot_since(machine, step).is_some() { 95 } else { 60 }
}

/// Records in the order of their times, and what must be posted, in order.
fn records() -> (Vec<String>, Vec<Value>) {
    let (mut records, mut notices) = (Vec::new(), Vec::new());
    for step in 0..STEPS {
        for machine in 0..MACHINES {
            let (name, degrees) = (format!("m\"{machine}"), temperature(machine, step));
            records.push(json!({"machine": name, "t": step * 10, "temperature": degrees}).to_string());
            let is_hot_for = hot_since(machine, step).map(|since| (since, step - since));
            let was_hot_for = hot_since(machine, step - 1).map(|since| (since, step - since));
            let (status, since, notice) = match (is_hot_for, was_hot_for) {
                (Some((since, 2)), _) => ("firing", since, 1),
                (Some((since, 32)), _) => ("firing", since, 2),
                (None, Some((since, steps))) if step > 0 && steps >= 3 => {
                    ("resolved", since, if steps > 32 { 3 } else { 2 })
                }
                _ => continue,
            };
            notices.push(json!({
                "text": format!("\"{name}\" is {status} at {degrees} °C"), "at": step * 10, "since": since * 10,
                "notice": notice,
            }));
        }
    }
    (records, notices)
}

/// Of requests that were taken, one for each idempotency key, in the order of the first.
fn taken(received: Vec<Received>) -> Vec<Received> {
    let mut bodies = HashMap::new();
    let mut first = Vec::new();
    for request in received.into_iter().filter(|request| request.status == 200) {
        let key = request.headers["idempotency-key"].clone();
        // What was delivered shortly before a crash is sent again, and says so by its key.
        let body = bodies.entry(key).or_insert_with(|| {
            first.push(request.clone());
            request.body.clone()
        });
        assert_eq!(*body, request.body, "another body under the same key");
    }
    first
}

#[test]
fn webhook_gets_each_notice_once_whatever_ends_the_program() {
    const KILLS: usize = 5;
    let Some(binary) = binary() else { return };
    let Some(plugins) = std::env::var_os("WASMILL_PLUGINS").map(PathBuf::from) else {
        println!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
        return;
    };
    // Also one that fails at first: trying again is no other notice.
    let receiver = Receiver::start(&[(500, None), (429, None)], 200);
    let scratch = Scratch::new(&config(&receiver.url()));
    scratch.deploy_bytes("alarm", &std::fs::read(plugins.join("alarm.wasm")).unwrap());
    let (records, expected) = records();
    let told =
        |text: &str| expected.iter().filter(|body| body["text"].as_str().unwrap().contains(text)).count();
    assert!(told("firing") > 20 && told("resolved") > 10);
    assert!(expected.iter().any(|body| body["notice"] == 3), "none is repeated");
    // Large enough for several notices of one slice.
    let bodies: Vec<String> = records.chunks(250).map(|lines| lines.join("\n")).collect();
    let mut next = 0;
    let send = |program: &Program, sequence: usize| {
        let number = format!("wasmill-sequence: {sequence}");
        let headers = ["content-type: application/x-ndjson", "wasmill-producer: p", &number];
        let body = bodies[sequence].as_bytes();
        let answer = client::push_as(program.address(), "machines", &headers, body).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    for kill in 0..KILLS {
        // In every second run nothing can be delivered: what waits at its end is delivered after it, in its order.
        let status = if kill % 2 == 0 { 503 } else { 200 };
        receiver.answer(status);
        let answered = || receiver.received().iter().filter(|request| request.status == status).count();
        let before = answered();
        let program = Program::start(&binary, &scratch.config());
        while next < bodies.len() * (kill + 1) / (KILLS + 1) {
            send(&program, next);
            next += 1;
        }
        // Something of this run is on its way: what the plugin made is durable, and not all of it is delivered.
        wait_until("a notice has come", || answered() > before);
        drop(program.kill());
    }
    receiver.answer(200);
    let program = Program::start(&binary, &scratch.config());
    for sequence in next..bodies.len() {
        send(&program, sequence);
    }
    wait_until("all notices have come", || taken(receiver.received()).len() >= expected.len());
    program.stop();
    let received = receiver.received();
    let sent = received.len();
    let taken = taken(received);
    println!("{} notices in {sent} requests", taken.len());
    for request in &taken {
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.headers["wasmill-records"], "1");
        assert_eq!(request.headers["authorization"], "Bearer t");
    }
    let found: Vec<Value> =
        taken.iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect();
    assert_eq!(found, expected);
    // Records pass on as they are, each once.
    let mut passed = objects::lines(&scratch.out());
    let mut records = records;
    passed.sort();
    records.sort();
    assert!(passed == records, "{} records passed of {}", passed.len(), records.len());
    assert!(scratch.letters("machines").is_empty());
}

/// Notices whose text no output of JSON takes, and results that a later transform refuses: their letters have the rows.
#[test]
fn notice_that_is_refused_is_a_dead_letter_with_its_bytes() {
    let Some(binary) = binary() else { return };
    let Some(plugins) = std::env::var_os("WASMILL_PLUGINS").map(PathBuf::from) else {
        println!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
        return;
    };
    let derive = "[[streams.machines.transforms]]\nplugin = \"derive\"\nconfig = { set = 'seen = true' }";
    for (after, stage) in [("", "encode"), (derive, "transform")] {
        let text = format!(
            r#"
    [streams.machines]
    source = {{ type = "http" }}
    [[streams.machines.outputs]]
    type = "directory"
    path = "out"
    interval = "50ms"
    [[streams.machines.transforms]]
    plugin = "alarm"
    key = ["machine"]
    [streams.machines.transforms.config]
    condition = "temperature > 90"
    by = ["machine"]
    body = "machine {{{{machine}}}} is hot"
    body_format = "text"
    {after}
"#
        );
        let scratch = Scratch::new(&text);
        for name in ["alarm", "derive"] {
            scratch.deploy_bytes(name, &std::fs::read(plugins.join(format!("{name}.wasm"))).unwrap());
        }
        let program = Program::start(&binary, &scratch.config());
        let lines = r#"{"machine":"m1","temperature":95}
{"machine":"m2","temperature":20}"#;
        assert_eq!(client::push(program.address(), "machines", lines).unwrap().status, 200);
        wait_until("the notice is refused", || scratch.letters("machines").len() == 1);
        let letters = scratch.letters("machines");
        assert_eq!(
            (&letters[0]["stage"], &letters[0]["offset"], &letters[0]["payload"]),
            (&json!(stage), &json!(-1), &json!("machine m1 is hot")),
            "{}",
            letters[0]
        );
        let path = "/v1/streams/machines/dead-letters/replay";
        let answer = client::request(program.address(), "POST", path, &[], b"").unwrap().json();
        assert_eq!((&answer["tried"], &answer["skipped"]), (&json!(0), &json!(1)), "{answer}");
        assert_eq!(scratch.letters("machines").len(), 1);
        program.stop();
    }
}
