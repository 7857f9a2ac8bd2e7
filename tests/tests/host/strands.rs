//! Streams whose keys run in strands: what comes of each key is what comes of it without, whatever ends the program or fails; and
//! how a stream is parted stays as it is while there is state.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::Running;
use wasmill_tests::scratch::apart;
use wasmill_tests::wait::{wait_for, wait_until};
use wasmill_tests::{client, objects};

use crate::COMPILER;
use crate::event_time::{IDLE, WINDOWED, windows_close_without_a_record, windows_equal_a_computation};
use crate::state::{
    COUNTED, counted, counts_are_exact_after_kills, expected, poison_costs_itself, scratch, state, user,
};
use crate::state_letters::counted_within_a_quota;

/// The same stream in so many strands.
fn stranded(config: &str, strands: usize) -> String {
    let parallel = format!("[streams.events]\nparallel = {{ key = \"user\", strands = {strands} }}");
    let text = config.replace("[streams.events]", &parallel);
    assert_ne!(text, config);
    text
}

#[test]
fn counts_in_strands_are_exact_and_in_order_after_twenty_kills() {
    counts_are_exact_after_kills(20, &stranded(COUNTED, 4));
}

#[test]
fn counts_in_strands_are_exact_with_the_plugin_in_processes_of_their_own() {
    counts_are_exact_after_kills(5, &apart(&stranded(COUNTED, 3)));
}

#[test]
fn poison_in_a_strand_costs_itself_and_no_count() {
    poison_costs_itself(&stranded(COUNTED, 2));
    poison_costs_itself(&apart(&stranded(COUNTED, 7)));
}

#[test]
fn windows_in_strands_equal_a_computation_over_the_whole_input_after_kills() {
    let config = WINDOWED.replace("EVENT_TIME", r#"delay = "200ms", lateness = "300ms""#);
    windows_equal_a_computation(&stranded(&config, 4));
    windows_equal_a_computation(&apart(&stranded(&config, 4)));
}

#[test]
fn windows_of_all_strands_close_without_a_record_after_the_idle_timeout_and_once() {
    windows_close_without_a_record(&stranded(&WINDOWED.replace("EVENT_TIME", IDLE), 4));
}

#[test]
fn every_record_is_in_the_backup_once_and_in_order_and_answers_are_in_the_order_of_their_records() {
    let backup = "backup = { type = \"directory\", path = \"raw\", interval = \"50ms\" }\n    decide = {}\n    max_failed_percent";
    let config = stranded(COUNTED, 4).replace("max_failed_percent", backup);
    let Some(scratch) = scratch(&config) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    let name = |n: usize| format!("user-{}", n * 7 % 9);
    let body: Vec<String> =
        (0..90).map(|n| user(n, &name(n), if n % 10 == 9 { "fail" } else { "-" })).collect();
    let answer = client::request(
        host.address(),
        "POST",
        "/v1/streams/events/decide",
        &["content-type: application/x-ndjson"],
        body.join("\n").as_bytes(),
    );
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let names: Vec<String> = (0..90).map(name).collect();
    let good = (0..90).filter(|n| n % 10 != 9).map(|n| (n as u64, names[n].as_str()));
    let expected = expected(good);
    let records = answer["records"].as_array().unwrap();
    assert_eq!(records.len(), 90);
    for (n, record) in (0_u64..).zip(records) {
        assert_eq!(record["offset"], n);
        match expected.get(&n) {
            Some((_, count)) => {
                let row = &record["rows"][0]["record"];
                assert_eq!(
                    (&record["verdict"], &row["n"], &row["count"]),
                    (&json!("kept"), &json!(n), &json!(count))
                );
            }
            None => assert_eq!(record["verdict"], "failed", "{record}"),
        }
    }
    host.drain();
    assert_eq!(counted(&scratch), expected);
    assert_eq!(objects::lines(&scratch.path("raw")), body);
    assert_eq!(scratch.letters("events").len(), 9);
}

#[test]
fn letters_go_on_in_the_strand_of_their_key_and_the_quota_is_that_of_all_strands() {
    let config = stranded(COUNTED, 4);
    // As many as without strands.
    let Some((scratch, _, letters)) = counted_within_a_quota(&config) else { return };
    scratch.configure(&config);
    let host = Running::start(&scratch.config(), COMPILER);
    let answer =
        client::request(host.address(), "POST", "/v1/streams/events/dead-letters/replay", &[], b"").unwrap();
    assert_eq!((answer.status, &answer.json()["passed"]), (200, &json!(letters.len())), "{}", answer.body);
    // Each goes on where its letter was counted.
    let again: Vec<String> = (0..100).map(|n| user(300 + n, &format!("user-{n}"), "-")).collect();
    host.push("events", &again.join("\n"));
    host.drain();
    let after = counted(&scratch);
    let of_user_0 = after[&0].1.max(after[&200].1) + 1;
    assert_eq!(after[&300].1, of_user_0);
    let wrong: Vec<u64> = (1..100).filter(|n| (after[n].1, after[&(300 + n)].1) != (1, 2)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn how_a_stream_is_parted_stays_while_there_is_state() {
    let policy = "[policy]\nstate = true\ndirectories = [\"out\"]\n[streams.filed]\nsource = { type = \"http\" }\noutputs = [{ type = \"directory\", path = \"filed\" }]\n";
    let Some(scratch) = scratch(policy) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    let put = |parallel: Value| {
        let mut definition = json!({
            "source": { "type": "http" },
            "transforms": [{ "plugin": "counter", "config": { "key": "user" } }],
            "outputs": [{ "type": "directory", "path": "out/one", "format": "ndjson", "interval": "0s" }],
        });
        if !parallel.is_null() {
            definition["parallel"] = parallel;
        }
        let body = definition.to_string();
        let there = client::get(host.address(), "/v1/streams/events").unwrap().status == 200;
        let headers = ["content-type: application/json", "if-match: *"];
        let headers = if there { &headers[..] } else { &headers[..1] };
        client::request(host.address(), "PUT", "/v1/streams/events", headers, body.as_bytes()).unwrap()
    };
    let four = || json!({ "key": "user", "strands": 4 });
    assert_eq!(put(four()).status, 201);
    // Nothing is there yet.
    let answer = put(json!({ "key": "user", "strands": 5 }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(put(four()).status, 200);
    let body: Vec<String> = (0..40).map(|n| user(n, &format!("user-{}", n % 20), "-")).collect();
    host.push("events", &body.join("\n"));
    // Nothing of what was pushed is state yet, and all of it once the stream has stopped.
    let answer = put(json!({ "key": "user", "strands": 5 }));
    assert_eq!(answer.status, 422, "{}", answer.body);
    let stats = host.stats("events");
    wait_until("the state is stored", || stats.kept_whole().first().is_some_and(|table| table.entries == 20));
    for (parallel, told) in [
        (Value::Null, "is to run without \"parallel\""),
        (json!({ "key": "user", "strands": 5 }), "is to run in 5 strands by \"user\""),
        (json!({ "key": "n", "strands": 4 }), "is to run in 4 strands by \"n\""),
    ] {
        let answer = put(parallel);
        assert_eq!(answer.status, 422, "{}", answer.body);
        let problem = &answer.json()["error"]["problems"][0];
        let message = problem["message"].as_str().unwrap();
        assert_eq!(problem["key"], "parallel");
        for part in ["\"counter/counts\" was kept in 4 strands by \"user\"", told, "drop the state first"] {
            assert!(message.contains(part), "{message}");
        }
    }
    // It goes on as it was.
    host.push("events", &user(40, "user-0", "-"));
    let lines = || objects::lines(&scratch.path("out/one"));
    wait_until("it has left", || lines().len() == 41);
    assert!(lines().iter().any(|line| line.contains("\"n\":40") && line.contains("\"count\":3")));
    let dropped = client::request(host.address(), "DELETE", "/v1/streams/events/state?all=true", &[], b"");
    assert_eq!(dropped.unwrap().json()["dropped"], 40);
    wait_until("the state is gone", || stats.kept_whole().iter().all(|table| table.entries == 0));
    let answer = put(json!({ "key": "user", "strands": 5 }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    host.push("events", &user(41, "user-0", "-"));
    wait_until("it has left", || lines().len() == 42);
    assert!(lines().iter().any(|line| line.contains("\"n\":41") && line.contains("\"count\":1")));
    host.drain();
}

#[test]
fn stream_of_the_file_that_is_parted_otherwise_pauses_until_its_state_is_dropped() {
    let Some(scratch) = scratch(&stranded(COUNTED, 4)) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &[user(0, "a", "-"), user(1, "b", "-"), user(2, "a", "-")].join("\n"));
    host.drain();
    assert_eq!(counted(&scratch).len(), 3);
    scratch.configure(&stranded(COUNTED, 3));
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &user(3, "a", "-"));
    let told = wait_for("it pauses", || {
        host.state("events").to_string().contains("was kept in 4 strands").then(|| host.state("events"))
    });
    let told = told.to_string();
    assert!(told.contains("is to run in 3 strands by"), "{told}");
    // Put back it would go on; without its state it begins anew.
    let dropped = client::request(host.address(), "DELETE", "/v1/streams/events/state?all=true", &[], b"");
    assert_eq!(dropped.unwrap().json()["dropped"], 4);
    wait_until("it goes on", || counted(&scratch).len() == 4);
    host.drain();
    assert_eq!(counted(&scratch)[&3], ("a".to_owned(), 1));
}

#[test]
fn commands_find_a_key_in_whatever_strand_it_is() {
    let (Some(binary), Some(scratch)) = (binary(), scratch(&stranded(COUNTED, 4))) else { return };
    let program = Program::start(&binary, &scratch.config());
    let address = program.address();
    let body: Vec<String> = (0..60).map(|n| user(n, &format!("user-{}", n % 30), "-")).collect();
    assert_eq!(client::push(address, "events", &body.join("\n")).unwrap().status, 200);
    let tables = wait_for("the state is stored", || {
        let tables = client::get(address, "/v1/streams/events/state").unwrap().json()["tables"].clone();
        let counts = tables.as_array().unwrap().iter().filter(|table| table["table"] == "counts");
        let entries: u64 = counts.map(|table| table["entries"].as_u64().unwrap()).sum();
        (entries == 30).then_some(tables)
    });
    let strands: Vec<(&str, u64)> = tables
        .as_array()
        .unwrap()
        .iter()
        .map(|table| (table["table"].as_str().unwrap(), table["strand"].as_u64().unwrap()))
        .collect();
    let each = |table| (0..4).map(move |strand| (table, strand));
    assert_eq!(strands, each("counts").chain(each("last")).collect::<Vec<_>>());
    let (code, listed, told) = state(address, &["list", "events"]);
    assert!(code == Some(0) && listed.contains("strand 3") && listed.lines().count() == 8, "{listed} {told}");
    let json = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let (_, rows, _) = state(address, &["list", "events", "counter/counts"]);
    let rows: BTreeMap<String, u64> = rows
        .lines()
        .map(json)
        .map(|row| (row["key"].as_str().unwrap().to_owned(), row["strand"].as_u64().unwrap()))
        .collect();
    assert_eq!(rows.len(), 30);
    for (key, strand) in &rows {
        let (code, one, told) = state(address, &["get", "events", "counter/counts", key]);
        assert_eq!(code, Some(0), "{told}");
        let one = json(&one);
        assert_eq!((&one["key"], &one["sum"], &one["strand"]), (&json!(key), &json!(2), &json!(strand)));
    }
    assert_eq!(state(address, &["get", "events", "counter/counts", "user-33"]).0, Some(1));
    let (_, some, _) = state(address, &["list", "events", "counter/last", "--prefix", "user-2"]);
    assert_eq!(some.lines().count(), 11);
    // Pages go on in the next strand, each entry once.
    for limit in [1, 7, 30] {
        let (mut paged, mut next) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/streams/events/state/counter/counts?limit={limit}{next}");
            let page = client::get(address, &path).unwrap().json();
            let keys = page["entries"].as_array().unwrap().iter();
            paged.extend(keys.map(|entry| entry["key"].as_str().unwrap().to_owned()));
            let Some(after) = page["next"].as_str() else { break };
            next = format!("&after={after}");
        }
        paged.sort();
        assert_eq!(paged, rows.keys().cloned().collect::<Vec<_>>(), "{limit} at a time");
    }
    let file = scratch.path("counts.ndjson");
    let (code, _, told) =
        state(address, &["export", "events", "counter/counts", "--to", file.to_str().unwrap()]);
    assert!(code == Some(0) && told.contains("30 entries"), "{told}");
    // A table goes as a whole.
    let (code, text, told) = state(address, &["drop", "events", "counter/counts", "--yes"]);
    assert!(code == Some(0) && text.contains("30 entries"), "{text} {told}");
    assert_eq!(client::push(address, "events", &user(100, "user-3", "last")).unwrap().status, 200);
    wait_until("it has left", || objects::lines(&scratch.out()).len() == 61);
    program.stop();
    let row = objects::lines(&scratch.out()).into_iter().find(|line| line.contains("\"n\":100")).unwrap();
    assert!(row.contains("\"count\":1") && row.contains("\"before\":\"2\""), "{row}");
}
