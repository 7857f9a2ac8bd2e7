//! Keyed state of plugins: exactly once, whatever ends the program, fails, is withdrawn or runs again.
//!
//! The plugin is `tests/guests/counter`, which numbers the records of each key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use wasmill::pipeline::StartError;
use wasmill_tests::access_log;
use wasmill_tests::guest::Guest;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::Running;
use wasmill_tests::scratch::{Scratch, apart};
use wasmill_tests::wait::{wait_for, wait_until};
use wasmill_tests::{client, objects};

use crate::COMPILER;

pub(crate) const COUNTED: &str = r#"
    [streams.events]
    source = { type = "http" }
    max_failed_percent = 100
    outputs = [{ type = "directory", path = "out", interval = "50ms" }]
    [[streams.events.transforms]]
    plugin = "counter"
    config = { key = "user" }
    key = ["user"]
"#;

/// A component of the tests' guests; `None`, with the reason said, where nobody has built it.
pub(crate) fn guest(name: &str) -> Option<Vec<u8>> {
    let Some(guests) = std::env::var_os("WASMILL_GUESTS").map(PathBuf::from) else {
        println!("skipped: WASMILL_GUESTS is not set; `cargo xtask test` sets it");
        return None;
    };
    Some(std::fs::read(guests.join(format!("{name}.wasm"))).unwrap())
}

fn counter() -> Option<Vec<u8>> {
    guest("counter")
}

pub(crate) fn scratch(config: &str) -> Option<Scratch> {
    let counter = counter()?;
    let scratch = Scratch::new(config);
    scratch.deploy_bytes("counter", &counter);
    Some(scratch)
}

pub(crate) fn user(n: usize, name: &str, order: &str) -> String {
    json!({ "user": name, "n": n, "do": order }).to_string()
}

/// Keys and counts of rows, by their numbers.
pub(crate) type Counted = BTreeMap<u64, (String, u64)>;

/// What was delivered.
pub(crate) fn counted(scratch: &Scratch) -> Counted {
    let mut found = BTreeMap::new();
    for line in objects::lines(&scratch.out()) {
        let row: Value = serde_json::from_str(&line).unwrap();
        let (n, count) = (row["n"].as_u64().unwrap(), row["count"].as_u64().unwrap());
        let before = found.insert(n, (row["user"].as_str().unwrap_or_default().to_owned(), count));
        assert_eq!(before, None, "record {n} was delivered twice");
    }
    found
}

/// What a counter that saw each once would have said.
pub(crate) fn expected<'a>(users: impl Iterator<Item = (u64, &'a str)>) -> Counted {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    users
        .map(|(n, user)| {
            let count = counts.entry(user).or_default();
            *count += 1;
            (n, (user.to_owned(), *count))
        })
        .collect()
}

/// Pushes under the producer's number until it is answered; whether it was.
pub(crate) fn send(to: SocketAddr, sequence: u64, body: &str) -> bool {
    let headers = [
        "content-type: application/x-ndjson".to_owned(),
        "wasmill-producer: p".to_owned(),
        format!("wasmill-sequence: {sequence}"),
    ];
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    client::push_as(to, "events", &headers, body.as_bytes()).is_ok_and(|answer| answer.status == 200)
}

#[test]
fn counts_of_a_real_log_are_exact_after_twenty_kills() {
    counts_are_exact_after_kills(20, COUNTED);
}

#[test]
fn counts_of_a_real_log_are_exact_with_the_plugin_in_a_process_of_its_own() {
    counts_are_exact_after_kills(5, &apart(COUNTED));
}

pub(crate) fn counts_are_exact_after_kills(kills: usize, config: &str) {
    const BATCH: usize = 100;
    let (Some(binary), Some(scratch)) = (binary(), scratch(config)) else { return };
    let Some(records) = access_log::records().unwrap() else { return };
    let users: Vec<String> = records
        .as_ref()
        .iter()
        .map(|line| {
            String::from_utf8_lossy(line.split(|byte| *byte == b' ').next().unwrap_or_default()).into_owned()
        })
        .collect();
    let bodies: Vec<String> = users
        .chunks(BATCH)
        .enumerate()
        .map(|(batch, users)| {
            let lines = users.iter().enumerate().map(|(row, name)| user(batch * BATCH + row, name, "-"));
            lines.collect::<Vec<_>>().join("\n")
        })
        .collect();
    let mut random = StdRng::seed_from_u64(20);
    let mut next = 0;
    for kill in 0..kills {
        let program = Program::start(&binary, &scratch.config());
        let address = program.address();
        // Some more each time, and the end comes while they are on their way.
        let until = bodies.len() * (kill + 1) / (kills + 1);
        while next < until {
            assert!(send(address, next as u64, &bodies[next]), "{:#?}", program.log());
            next += 1;
        }
        let moment = random.random_range(0..120);
        std::thread::scope(|scope| {
            // One more that may be answered, stored without an answer, or never come.
            let last = scope.spawn(|| send(address, next as u64, &bodies[next]));
            // Nothing is waited for: the kill comes whenever it comes.
            std::thread::park_timeout(std::time::Duration::from_millis(moment));
            program.kill();
            let _answered: bool = last.join().unwrap();
        });
    }
    let program = Program::start(&binary, &scratch.config());
    for (sequence, body) in bodies.iter().enumerate().skip(next) {
        assert!(send(program.address(), sequence as u64, body), "{:#?}", program.log());
    }
    wait_until("all have left", || objects::lines(&scratch.out()).len() >= users.len());
    let keys: std::collections::BTreeSet<&String> = users.iter().collect();
    let entries = format!(
        "wasmill_state_entries{{stream=\"events\",transform=\"counter\",table=\"counts\"}} {}",
        keys.len()
    );
    wait_until("the state is stored", || {
        client::get(program.address(), "/metrics").unwrap().body.contains(&entries)
    });
    program.stop();
    assert_eq!(counted(&scratch), expected((0..).zip(users.iter().map(String::as_str))));
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn poison_records_cost_themselves_and_no_count() {
    poison_costs_itself(COUNTED);
    poison_costs_itself(&apart(COUNTED));
}

pub(crate) fn poison_costs_itself(config: &str) {
    let Some(scratch) = scratch(config) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    let orders = ["-", "trap", "-", "fail", "err", "-", "-", "trap"];
    let body: Vec<String> = (0..400).map(|n| user(n, ["a", "b", "c"][n % 3], orders[n % 8])).collect();
    for lines in body.chunks(90) {
        host.push("events", &lines.join("\n"));
    }
    host.drain();
    let good = (0..400).filter(|n| orders[n % 8] == "-");
    assert_eq!(counted(&scratch), expected(good.map(|n| (n as u64, ["a", "b", "c"][n % 3]))));
    assert_eq!(scratch.letters("events").len(), 200);
    // They go on where they were.
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &user(1000, "a", "-"));
    host.drain();
    let all = (0..400).filter(|n| orders[n % 8] == "-").map(|n| (n as u64, ["a", "b", "c"][n % 3]));
    assert_eq!(counted(&scratch), expected(all.chain([(1000, "a")])));
}

#[test]
fn version_that_is_judged_bad_takes_nothing_of_the_state_with_it() {
    // Outcomes come late, so that slices of both versions wait for one. The bad version keeps no state, and has no key.
    let config =
        COUNTED.replace("max_failed_percent = 100", "max_failed_percent = 5").replace("50ms", "300ms");
    let Some(scratch) = scratch(&config.replace("key = [\"user\"]", "")) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    let push = |from: usize, to: usize| {
        let lines: Vec<String> = (from..to).map(|n| user(n, ["a", "b"][n % 2], "-")).collect();
        host.push("events", &lines.join("\n"));
    };
    push(0, 2000);
    scratch.deploy("counter", &Guest::reject_all());
    let stats = host.stats("events");
    wait_until("the bad version takes over", || stats.reloads.get() > 0);
    for round in 1..5 {
        push(round * 2000, (round + 1) * 2000);
    }
    wait_until("it is demoted", || stats.demotions.get() > 0);
    wait_until("all are processed", || stats.processed.get() == 10_000);
    host.drain();
    assert_eq!(counted(&scratch), expected((0..10_000).map(|n| (n, ["a", "b"][n as usize % 2]))));
}

#[test]
fn history_and_candidates_of_a_chain_that_keeps_state_are_refused_with_the_reason() {
    let Some(scratch) = scratch(
        &COUNTED.replace("max_failed_percent", "retention = { age = \"1h\" }\n    max_failed_percent"),
    ) else {
        return;
    };
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &user(0, "a", "-"));
    wait_until("it has left", || counted(&scratch).len() == 1);
    let plan = json!({ "from": "-1h", "to": "now", "destination": "default" });
    let answer = client::request(
        host.address(),
        "POST",
        "/v1/streams/events/replays",
        &["content-type: application/json"],
        plan.to_string().as_bytes(),
    );
    let answer = answer.unwrap();
    assert!(answer.status == 400 && answer.body.contains("keeps state"), "{} {}", answer.status, answer.body);
    host.drain();
}

#[test]
fn state_ends_with_its_stream() {
    let host = "[policy]\nstate = true\ndirectories = [\"out\"]\n[streams.filed]\nsource = { type = \"http\" }\noutputs = [{ type = \"directory\", path = \"filed\" }]\n";
    let Some(scratch) = scratch(host) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    let definition = |path: &str| {
        json!({
            "source": { "type": "http" },
            "transforms": [{ "plugin": "counter", "config": { "key": "user" } }],
            "outputs": [{ "type": "directory", "path": path, "format": "ndjson", "interval": "0s" }],
        })
    };
    let ask = |host: &Running, method: &str, path: &str, body: &Value| {
        let headers = ["content-type: application/json"];
        client::request(
            host.address(),
            method,
            &format!("/v1/streams/{path}"),
            &headers,
            body.to_string().as_bytes(),
        )
        .unwrap()
    };
    let rows = |path: &str| objects::lines(&scratch.path(path));
    assert_eq!(ask(&host, "PUT", "events", &definition("out/one")).status, 201);
    host.push("events", &[user(0, "a", "-"), user(1, "a", "-")].join("\n"));
    wait_until("they have left", || rows("out/one").len() == 2);
    host.drain();
    // After a restart it is there, and goes on.
    let host = Running::start(&scratch.config(), COMPILER);
    // What was defined over HTTP is opened behind the start.
    wait_until("its stream runs", || host.state("events")["state"] == "running");
    let kept: Vec<_> = host
        .stats("events")
        .kept()
        .into_iter()
        .map(|table| (table.transform, table.table, table.entries))
        .collect();
    assert_eq!(kept, ["counts", "last"].map(|table| ("counter".to_owned(), table.to_owned(), 1)));
    host.push("events", &user(2, "a", "-"));
    wait_until("it has left", || rows("out/one").len() == 3);
    assert!(rows("out/one").iter().any(|row| row.contains("\"count\":3")));
    let removed = ask(&host, "DELETE", "events?force=true", &Value::Null);
    assert!(removed.status < 300, "{removed:?}");
    // Another one of its name begins without.
    assert_eq!(ask(&host, "PUT", "events", &definition("out/two")).status, 201);
    assert_eq!(host.stats("events").kept(), []);
    host.push("events", &user(3, "a", "-"));
    wait_until("it has left", || rows("out/two").len() == 1);
    assert!(rows("out/two")[0].contains("\"count\":1"));
    host.drain();
}

#[test]
fn tenants_with_streams_and_plugins_of_the_same_names_have_state_and_quota_of_their_own() {
    let Some(counter) = counter() else { return };
    let stream = |tenant: &str| {
        format!(
            r#"
            [tenants.{tenant}.grants]
            state = true
            [tenants.{tenant}.streams.events]
            source = {{ type = "file", paths = ["{tenant}.ndjson"] }}
            max_failed_percent = 100
            transforms = [{{ plugin = "counter", config = {{ key = "user" }} }}]
            outputs = [{{ type = "directory", path = "{tenant}", interval = "0s" }}]
            "#
        )
    };
    let quota = "[tenants.small.quota]\nstate_bytes = \"4KiB\"\n";
    let scratch = Scratch::new(&format!("{quota}{}{}", stream("large"), stream("small")));
    let lines: Vec<String> = (0..120).map(|n| user(n, &format!("user-{}", n % 60), "-")).collect();
    for tenant in ["large", "small"] {
        std::fs::create_dir(scratch.plugins().join(tenant)).unwrap();
        std::fs::write(scratch.plugins().join(tenant).join("counter.wasm"), &counter).unwrap();
        std::fs::write(scratch.path(&format!("{tenant}.ndjson")), lines.join("\n") + "\n").unwrap();
    }
    let host = Running::start(&scratch.config(), COMPILER);
    host.ended();
    host.drain();
    let counts = |tenant: &str| {
        let rows = objects::lines(&scratch.path(tenant));
        let mut counts: Vec<u64> = rows
            .iter()
            .map(|row| serde_json::from_str::<Value>(row).unwrap()["count"].as_u64().unwrap())
            .collect();
        counts.sort_unstable();
        counts
    };
    // Each user twice, whatever the other tenant has counted of the same name.
    assert_eq!(counts("large"), [[1; 60], [2; 60]].concat());
    let small = counts("small");
    assert!(!small.is_empty() && small.len() < 120, "{small:?}");
    assert_eq!(small.iter().filter(|count| **count == 1).count() * 2, small.len(), "{small:?}");
}

#[test]
fn state_that_the_policy_does_not_grant_is_refused_with_the_key_that_would() {
    let Some(counter) = counter() else { return };
    let filed = |grants: &str| {
        let scratch = Scratch::new(&format!(
            r#"
            [tenants.acme.grants]
            {grants}
            [tenants.acme.streams.events]
            source = {{ type = "http" }}
            transforms = [{{ plugin = "counter", config = {{ key = "user" }} }}]
            outputs = [{{ type = "directory", path = "out", interval = "0s" }}]
            "#
        ));
        std::fs::create_dir(scratch.plugins().join("acme")).unwrap();
        std::fs::write(scratch.plugins().join("acme/counter.wasm"), &counter).unwrap();
        scratch
    };
    let without = filed("");
    match Running::try_start(&without.config(), COMPILER) {
        Err(StartError::Invalid(problems)) => {
            let told = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert_eq!(problems.len(), 1, "{told}");
            let text = std::fs::read_to_string(without.config()).unwrap();
            let line = text.lines().position(|line| line.contains("transforms =")).unwrap() + 1;
            assert_eq!(problems[0].line, line, "{told}");
            for part in ["counter", "state is not granted", "[tenants.acme.grants] has no \"state = true\""] {
                assert!(told.contains(part), "{part}: {told}");
            }
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
    // A sidecar with which it does not ask needs no grant, and the plugin is told so when it declares a table.
    std::fs::write(without.plugins().join("acme/counter.json"), r#"{"grants": {"state": false}}"#).unwrap();
    match Running::try_start(&without.config(), COMPILER) {
        Err(StartError::Invalid(problems)) => {
            assert!(problems[0].message.contains("manifest does not ask for it"), "{problems:?}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
    Running::start(&filed("state = true").config(), COMPILER).drain();

    // Streams over HTTP are bound by the policy, those of the operator's own tenant, too.
    let host = |state: &str| {
        let filed = "[streams.filed]\nsource = { type = \"http\" }\noutputs = [{ type = \"directory\", path = \"filed\" }]\n";
        let scratch = scratch(&format!("[policy]\n{state}directories = [\"out\"]\n{filed}")).unwrap();
        (Running::start(&scratch.config(), COMPILER), scratch)
    };
    let put = |host: &Running| {
        let definition = json!({
            "source": { "type": "http" },
            "transforms": [{ "plugin": "counter", "config": { "key": "user" } }],
            "outputs": [{ "type": "directory", "path": "out/one", "interval": "0s" }],
        });
        let headers = ["content-type: application/json"];
        let body = definition.to_string();
        client::request(host.address(), "PUT", "/v1/streams/events", &headers, body.as_bytes()).unwrap()
    };
    let (bound, _scratch) = host("");
    let answer = put(&bound);
    assert_eq!(answer.status, 422, "{answer:?}");
    let problem = &answer.json()["error"]["problems"][0];
    assert_eq!(problem["key"], "transforms[0].plugin");
    let told = problem["message"].as_str().unwrap();
    assert!(told.contains("the tenant's policy, [policy], has no \"state = true\""), "{told}");
    bound.drain();
    let (free, _scratch) = host("state = true\n");
    assert_eq!(put(&free).status, 201);
    free.drain();
}

/// `wasmill state …` of this host: exit code, stdout, stderr.
pub(crate) fn state(address: SocketAddr, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary().unwrap());
    command.arg("state").args(arguments).args(["--host", &format!("http://{address}")]).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn commands_list_show_export_and_drop_what_is_kept() {
    let (Some(binary), Some(scratch)) = (binary(), scratch(COUNTED)) else { return };
    let program = Program::start(&binary, &scratch.config());
    let address = program.address();
    let body: Vec<String> = (0..30).map(|n| user(n, &format!("user-{}", n % 10), "-")).collect();
    assert_eq!(client::push(address, "events", &body.join("\n")).unwrap().status, 200);
    let listed = wait_for("the state is stored", || {
        let (code, text, told) = state(address, &["list", "events"]);
        assert_eq!(code, Some(0), "{told}");
        text.contains("10 entries").then_some(text)
    });
    assert!(listed.contains("counter/counts") && listed.contains("counter/last"), "{listed}");
    let json = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let (_, one, _) = state(address, &["get", "events", "counter/counts", "user-3"]);
    let one = json(&one);
    assert_eq!((&one["key"], &one["sum"]), (&json!("user-3"), &json!(3)));
    assert_eq!(state(address, &["get", "events", "counter/counts", "user-33"]).0, Some(1));
    let (_, some, _) = state(address, &["list", "events", "counter/last", "--prefix", "user-7"]);
    assert_eq!((json(&some)["key"].clone(), json(&some)["value"].clone()), (json!("user-7"), json!("3")));
    let file = scratch.path("counts.ndjson");
    let (code, _, told) =
        state(address, &["export", "events", "counter/counts", "--to", file.to_str().unwrap()]);
    assert!(code == Some(0) && told.contains("10 entries"), "{told}");
    let exported = std::fs::read_to_string(&file).unwrap();
    let mut keys: Vec<String> =
        exported.lines().map(|line| json(line)["key"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    assert_eq!(keys, (0..10).map(|n| format!("user-{n}")).collect::<Vec<_>>());
    // What nobody knows is named, and leaves no file.
    let (code, _, told) = state(address, &["list", "event"]);
    assert!(code == Some(1) && told.contains("there is no stream \"event\""), "{told}");
    let none = scratch.path("none.ndjson");
    let (code, _, told) =
        state(address, &["export", "events", "counter/other", "--to", none.to_str().unwrap()]);
    assert!(code == Some(1) && told.contains("keeps no table \"other\""), "{told}");
    assert!(!none.exists() && !told.contains("exported"), "{told}");
    // Pages go on where the one before ended, each entry once.
    let mut paged = Vec::new();
    let mut next = String::new();
    loop {
        let path = format!("/v1/streams/events/state/counter/counts?limit=3{next}");
        let page = client::get(address, &path).unwrap().json();
        paged.extend(
            page["entries"].as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap().to_owned()),
        );
        let Some(after) = page["next"].as_str() else { break };
        next = format!("&after={after}");
    }
    paged.sort();
    assert_eq!(paged, keys);
    let missing = client::get(address, "/v1/streams/events/state/counter/other").unwrap();
    assert_eq!((missing.status, missing.json()["error"]["code"].as_str()), (404, Some("no_table")));
    // Without an answer nothing goes, and what is dropped stays so after a kill.
    let (code, _, told) = state(address, &["drop", "events", "counter/counts"]);
    assert!(code == Some(1) && told.contains("nothing was dropped"), "{told}");
    let (code, text, told) = state(address, &["drop", "events", "counter/counts", "--yes"]);
    assert!(code == Some(0) && text.contains("10 entries"), "{text} {told}");
    // It is not told of any more, neither at once nor after the next start.
    let listed = |address| {
        let (code, text, told) = state(address, &["list", "events"]);
        assert_eq!(code, Some(0), "{told}");
        (text.contains("counter/last"), text.contains("counter/counts"))
    };
    wait_until("the drop is applied", || listed(address) == (true, false));
    let tables = client::get(address, "/v1/streams/events/state").unwrap().json();
    assert_eq!(tables["tables"].as_array().unwrap().len(), 1, "{tables}");
    program.kill();
    let program = Program::start(&binary, &scratch.config());
    wait_until("what is stored is told", || listed(program.address()) == (true, false));
    let last = user(100, "user-3", "last");
    assert_eq!(client::push(program.address(), "events", &last).unwrap().status, 200);
    wait_until("it has left", || objects::lines(&scratch.out()).len() == 31);
    program.stop();
    let row = objects::lines(&scratch.out()).into_iter().find(|line| line.contains("\"n\":100")).unwrap();
    assert!(row.contains("\"count\":1") && row.contains("\"before\":\"3\""), "{row}");
}

#[test]
fn drop_takes_what_no_outcome_carries_and_no_list_tells_of_yet() {
    // No outcome comes of itself within the hour.
    let (Some(binary), Some(scratch)) = (binary(), scratch(&COUNTED.replace("50ms", "1h"))) else { return };
    let program = Program::start(&binary, &scratch.config());
    let push = |address, records: &[String], in_all: usize| {
        assert_eq!(client::push(address, "events", &records.join("\n")).unwrap().status, 200);
        wait_until("they have run", || {
            let metrics = client::get(address, "/metrics").unwrap().body;
            let mut of = metrics.lines().filter(|line| line.starts_with("wasmill_transform_records_total"));
            of.any(|line| line.contains("\"in\"") && line.ends_with(&format!(" {in_all}")))
        });
    };
    let dropped = |address, what: &str| {
        let (code, text, told) = state(address, &["drop", "events", what, "--yes"]);
        assert_eq!(code, Some(0), "{told}");
        text
    };
    let list = |address| state(address, &["list", "events"]).1;
    let address = program.address();
    push(address, &(0..30).map(|n| user(n, &format!("user-{}", n % 10), "-")).collect::<Vec<_>>(), 30);
    assert_eq!(list(address), "");
    assert_eq!(dropped(address, "counter/counts"), "10 entries dropped\n");
    let (code, _, told) = state(address, &["drop", "events", "counter/other", "--yes"]);
    assert!(code == Some(1) && told.contains("keeps no table \"other\""), "{told}");
    assert_eq!(dropped(address, "--all"), "10 entries dropped\n");
    wait_until("the drop is applied", || list(address).is_empty());
    program.kill();
    let program = Program::start(&binary, &scratch.config());
    let address = program.address();
    // Some in the store, some of the same and others on their way to it.
    push(address, &(100..105).map(|n| user(n, &format!("user-{n}"), "-")).collect::<Vec<_>>(), 5);
    assert_eq!(dropped(address, "counter/last"), "5 entries dropped\n");
    push(address, &(102..112).map(|n| user(n + 100, &format!("user-{n}"), "-")).collect::<Vec<_>>(), 15);
    assert_eq!(dropped(address, "--all"), "22 entries dropped\n");
    push(address, &[user(300, "user-103", "last")], 16);
    program.stop();
    let row = objects::lines(&scratch.out()).into_iter().find(|line| line.contains("\"n\":300")).unwrap();
    assert!(row.contains("\"count\":1") && !row.contains("\"before\""), "{row}");
}

#[test]
fn drop_of_nothing_in_particular_names_both_ways_to_say_what() {
    let Some(binary) = binary() else { return };
    let said = Command::new(binary).args(["state", "drop", "events"]).stdin(Stdio::null()).output().unwrap();
    let told = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(2), "{told}");
    assert!(told.contains("<TABLE|--all>"), "{told}");
}

#[test]
fn key_without_state_is_refused_at_its_place() {
    let Some(scratch) = scratch(
        &COUNTED
            .replace("plugin = \"counter\"", "plugin = \"pass\"")
            .replace("config = { key = \"user\" }", ""),
    ) else {
        return;
    };
    scratch.deploy("pass", &Guest::pass(1));
    let Err(error) = Running::try_start(&scratch.config(), COMPILER) else { panic!("it runs") };
    let text = format!("{error:?}");
    assert!(text.contains("asks for no state"), "{text}");
}
