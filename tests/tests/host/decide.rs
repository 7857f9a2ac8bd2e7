//! Clients that wait for what becomes of their records: the answer is what is delivered, also beside a flood of pushes, by
//! many at once, and across a crash; and what they get when there is no answer in time.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wasmill_tests::guest::Guest;
use wasmill_tests::running::Running;
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};

use crate::COMPILER;

const JSON_LINES: &str = "content-type: application/x-ndjson";

fn config(decide: &str) -> String {
    format!(
        r#"
    [streams.payments]
    source = {{ type = "http" }}
    max_failed_percent = 100
    transforms = [{{ plugin = "step" }}]
    outputs = [{{ type = "directory", path = "out", interval = "3600s" }}]
    {decide}
"#
    )
}

fn ask(host: &Running, query: &str, body: &str) -> client::Answer {
    let path = format!("/v1/streams/payments/decide{query}");
    client::request(host.address(), "POST", &path, &[JSON_LINES], body.as_bytes()).unwrap()
}

/// A record whose eighth byte says what becomes of it.
fn record(fate: char, n: u64) -> String {
    format!("{{\"do\":\"{fate}\",\"n\":{n}}}\n")
}

/// Numbers of the records that an answer says are kept, by what it shows of them.
fn kept(answer: &Value) -> Vec<u64> {
    let records = answer["records"].as_array().unwrap().iter();
    records
        .filter(|record| record["verdict"] == "kept")
        .map(|record| record["rows"][0]["record"]["n"].as_u64().unwrap())
        .collect()
}

#[test]
fn answer_is_what_is_delivered_although_no_batch_is_due() {
    let scratch = Scratch::new(&config("decide = {}"));
    scratch.deploy("step", &Guest::obey(7));
    let host = Running::start(&scratch.config(), COMPILER);
    let body = [record('k', 1), record('d', 2), record('f', 3), record('k', 4)].concat();
    let answer = ask(&host, "", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let expected = json!({ "fallback": false, "durable": true, "records": [
        { "offset": 0, "verdict": "kept", "rows": [{ "output": "default", "record": { "do": "k", "n": 1 } }] },
        { "offset": 1, "verdict": "dropped" },
        { "offset": 2, "verdict": "failed", "reason": "step: no" },
        { "offset": 3, "verdict": "kept", "rows": [{ "output": "default", "record": { "do": "k", "n": 4 } }] },
    ] });
    assert_eq!(answer.json(), expected);
    assert_eq!(scratch.letters("payments").len(), 1);
    let none = ask(&host, "", "");
    assert_eq!((none.status, none.json()["records"].clone()), (200, json!([])));
    let state = host.state("payments");
    assert_eq!((&state["decisions"], &state["decisions_late"]), (&json!(1), &json!(0)));
    // What was answered is durable: a crash changes nothing of it, and delivers it once.
    host.crash();
    scratch.deploy("step", &Guest::obey(7).salted(2));
    let host = Running::start(&scratch.config(), COMPILER);
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), [1, 4]);
}

#[test]
fn many_who_wait_beside_a_flood_each_get_their_own() {
    let scratch = Scratch::new(&config("decide = {}"));
    scratch.deploy("step", &Guest::obey(7));
    let host = Running::start(&scratch.config(), COMPILER);
    let answered: BTreeMap<u64, Vec<u64>> = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            for round in 0..40 {
                let lines: String = (0..500).map(|n| record('k', 1_000_000 + round * 500 + n)).collect();
                host.push("payments", &lines);
            }
        });
        let askers: Vec<_> = (0..8_u64)
            .map(|asker| {
                let host = &host;
                scope.spawn(move || {
                    let mut answered = Vec::new();
                    for round in 0..25 {
                        let first = asker * 1000 + round * 10;
                        let fates = [('k', first), ('d', first + 1), ('k', first + 2)];
                        let body: String = fates.iter().map(|(fate, n)| record(*fate, *n)).collect();
                        let answer = ask(host, "", &body);
                        assert_eq!(answer.status, 200, "{answer:?}");
                        assert_eq!(kept(&answer.json()), [first, first + 2]);
                        answered.extend(kept(&answer.json()));
                    }
                    (asker, answered)
                })
            })
            .collect();
        flood.join().unwrap();
        askers.into_iter().map(|asker| asker.join().unwrap()).collect()
    });
    host.drain();
    let mut expected: Vec<u64> = answered.into_values().flatten().chain(1_000_000..1_020_000).collect();
    expected.sort_unstable();
    let mut delivered = objects::numbers(&scratch.out(), "n");
    delivered.sort_unstable();
    assert_eq!(delivered, expected);
}

#[test]
fn no_answer_in_time_is_the_fallback_and_the_records_are_delivered_all_the_same() {
    let decide = "decide = { deadline = \"300ms\", fallback = { action = \"pass\" } }";
    let scratch = Scratch::new(&config(decide));
    // Loops until its own deadline of a second, and longer than anybody waits.
    scratch.deploy("step", &Guest::picky());
    let host = Running::start(&scratch.config(), COMPILER);
    let answer = ask(&host, "", "late\n");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json(), json!({ "fallback": true, "answer": { "action": "pass" } }));
    let late = ask(&host, "?deadline_ms=1", "{\"n\":1}\n");
    assert_eq!(late.json()["fallback"], true, "{late:?}");
    assert_eq!(host.state("payments")["decisions_late"], 2);
    host.drain();
    // The loop was a failure, and became a letter.
    assert_eq!(objects::numbers(&scratch.out(), "n"), [1]);
    assert_eq!(scratch.letters("payments").len(), 1);
}

#[test]
fn whoever_waits_is_on_its_way_for_the_quota_of_requests() {
    let decide = "decide = { deadline = \"30s\" }\n[tenants.default.quota]\nrequests = 1";
    let scratch = Scratch::new(&config(decide));
    scratch.deploy("step", &Guest::picky());
    let host = Running::start(&scratch.config(), COMPILER);
    std::thread::scope(|scope| {
        // Loops until its own deadline of a second.
        let asked = scope.spawn(|| ask(&host, "", "late\n"));
        wait_until("it is stored", || host.stats("payments").records_in.get() == 1);
        let path = "/v1/streams/payments/records";
        let beside = client::request(host.address(), "POST", path, &[JSON_LINES], b"{}\n").unwrap();
        assert_eq!((beside.status, beside.json()["error"]["code"].clone()), (429, json!("over_quota")));
        assert_eq!(asked.join().unwrap().json()["records"][0]["verdict"], "failed");
    });
    host.push("payments", "{}\n");
}

#[test]
fn what_cannot_be_answered_is_refused_with_what_would_help() {
    let scratch = Scratch::new(&config(""));
    scratch.deploy("step", &Guest::pass(1));
    let host = Running::start(&scratch.config(), COMPILER);
    let refused = ask(&host, "", "{}\n");
    assert_eq!((refused.status, refused.json()["error"]["code"].clone()), (409, json!("no_decisions")));
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("\"decide\""), "{refused:?}");
    drop(host);

    let scratch = Scratch::new(&config("decide = { deadline = \"200ms\" }"));
    scratch.deploy("step", &Guest::picky());
    let host = Running::start(&scratch.config(), COMPILER);
    for query in ["?deadline_ms=201", "?deadline_ms=x", "?wait=3"] {
        let refused = ask(&host, query, "{}\n");
        assert_eq!(
            (refused.status, refused.json()["error"]["code"].clone()),
            (400, json!("bad_query")),
            "{query}"
        );
    }
    let headers = [JSON_LINES, "wasmill-producer: p", "wasmill-sequence: 1"];
    let path = "/v1/streams/payments/decide";
    let numbered = client::request(host.address(), "POST", path, &headers, b"{}\n").unwrap();
    assert_eq!((numbered.status, numbered.json()["error"]["code"].clone()), (400, json!("bad_producer")));
    let many = ask(&host, "", &"{}\n".repeat(1001));
    assert_eq!((many.status, many.json()["error"]["code"].clone()), (413, json!("too_many_records")));
    assert_eq!(host.stats("payments").records_in.get(), 0);
    let late = ask(&host, "", "late\n");
    assert_eq!((late.status, late.json()["error"]["code"].clone()), (504, json!("no_answer")), "{late:?}");
    let other =
        client::request(host.address(), "POST", "/v1/streams/other/decide", &[JSON_LINES], b"{}\n").unwrap();
    assert_eq!(other.status, 404);
}

#[test]
fn answer_before_it_is_durable_is_asked_for_and_says_so() {
    for answer in ["computed", "early"] {
        let scratch = Scratch::new(&config(&format!("decide = {{ answer = {answer:?} }}")));
        scratch.deploy("step", &Guest::obey(7));
        let host = Running::start(&scratch.config(), COMPILER);
        // Some at once, and pushes among them: each is answered with its own, and delivered once.
        std::thread::scope(|scope| {
            for client in 0..4 {
                let host = &host;
                scope.spawn(move || {
                    for number in (client..100).step_by(4) {
                        if number % 5 == 0 {
                            host.push("payments", &record('k', number));
                            continue;
                        }
                        let answer = ask(host, "", &record('k', number)).json();
                        assert_eq!((&answer["durable"], kept(&answer)), (&json!(false), vec![number]));
                    }
                });
            }
        });
        // An outcome of all that an hour brings would hold up whoever asks then.
        wait_until("outcomes wait for no batch", || host.stats("payments").processed.get() == 100);
        host.drain();
        assert_eq!(objects::numbers(&scratch.out(), "n"), (0..100).collect::<Vec<_>>(), "{answer}");
    }
}
