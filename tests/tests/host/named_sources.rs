//! Several sources of one stream: each record knows which one it came from, whatever ends the program or is done with the record.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::{Value, json};
use wasmill::pipeline::moment_text;
use wasmill::pipeline::stats::wall_clock_ns;
use wasmill_tests::client::{self, Answer};
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::Running;
use wasmill_tests::scratch::{Scratch, apart};
use wasmill_tests::wait::{wait_for, wait_until};

use crate::COMPILER;

const NDJSON: &str = "content-type: application/x-ndjson";

/// Records that are told where they came from.
const FOUR: &str = r#"
    [streams.events]
    outputs = [{ type = "directory", path = "out", interval = "50ms" }]
    transforms = [{ plugin = "derive", config = { set = "from = source()" } }]
    [streams.events.sources]
    web = { type = "http" }
    app = { type = "http" }
    lines = { type = "tcp", listen = "127.0.0.1:0" }
    logs = { type = "file", paths = ["logs/*.log"], follow = true }
"#;

/// With components of first-party plugins; `None`, with the reason said, where nobody has built them.
fn scratch(config: &str, names: &[&str]) -> Option<Scratch> {
    let Some(plugins) = std::env::var_os("WASMILL_PLUGINS").map(PathBuf::from) else {
        println!("skipped: WASMILL_PLUGINS is not set; `cargo xtask test` sets it");
        return None;
    };
    let scratch = Scratch::new(config);
    fs::create_dir(scratch.path("logs")).unwrap();
    for name in names {
        scratch.deploy_bytes(name, &fs::read(plugins.join(format!("{name}.wasm"))).unwrap());
    }
    Some(scratch)
}

fn record(of: &str, n: usize) -> String {
    json!({ "of": of, "n": n }).to_string()
}

fn body(of: &str, numbers: std::ops::Range<usize>) -> String {
    numbers.map(|n| record(of, n) + "\n").collect()
}

fn push(to: SocketAddr, query: &str, headers: &[&str], body: &str) -> anyhow::Result<Answer> {
    let path = format!("/v1/streams/events/records{query}");
    client::request(to, "POST", &path, &[&[NDJSON], headers].concat(), body.as_bytes())
}

fn append(scratch: &Scratch, file: &str, text: &str) {
    let mut log = OpenOptions::new().create(true).append(true).open(scratch.path(file)).unwrap();
    log.write_all(text.as_bytes()).unwrap();
}

/// Records that each source has brought since the start.
fn brought(to: SocketAddr) -> BTreeMap<String, u64> {
    let streams = client::get(to, "/v1/streams").unwrap().json();
    let sources = streams[0]["sources"].as_array().unwrap().iter();
    sources
        .map(|source| (source["name"].as_str().unwrap().to_owned(), source["records"].as_u64().unwrap()))
        .collect()
}

/// By source, as the records themselves say it: what they say they are of, and their number.
fn delivered(scratch: &Scratch) -> BTreeMap<(String, String), Vec<u64>> {
    let mut found: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    for line in objects::lines(&scratch.out()) {
        let row: Value = serde_json::from_str(&line).unwrap();
        let from = row["from"].as_str().unwrap_or("-").to_owned();
        found
            .entry((from, row["of"].as_str().unwrap().to_owned()))
            .or_default()
            .push(row["n"].as_u64().unwrap());
    }
    found.values_mut().for_each(|numbers| numbers.sort_unstable());
    found
}

/// Where the TCP source listens.
fn tcp(program: &Program) -> SocketAddr {
    let line: Value = serde_json::from_str(&program.wait_for_log("source takes connections")).unwrap();
    let line = line.to_string();
    let rest = line.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next());
    rest.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("no address in {line}"))
}

#[test]
fn every_record_of_four_sources_is_there_once_with_its_source_however_often_the_host_is_killed() {
    const KILLS: usize = 8;
    const BODIES: usize = 400;
    const EACH: usize = 20;
    let (Some(binary), Some(scratch)) = (binary(), scratch(FOUR, &["derive"])) else { return };
    let mut random = StdRng::seed_from_u64(7);
    // Bodies of each source that are acknowledged, or will be sent again under their number.
    let mut next = [0; 2];
    let (mut lines, mut logs) = (0, 0);
    for round in 0..=KILLS {
        let program = Program::start(&binary, &scratch.config());
        let to = program.address();
        let mut socket = TcpStream::connect(tcp(&program)).unwrap();
        socket.write_all(body("lines", lines..lines + 50).as_bytes()).unwrap();
        lines += 50;
        // What a connection has sent is lost with the host unless it is stored: nobody tells its sender.
        wait_until("the lines are stored", || brought(to)["lines"] == 50);
        append(&scratch, &format!("logs/{}.log", round % 3), &body("logs", logs..logs + 300));
        logs += 300;
        let answered = AtomicUsize::new(0);
        let last = round == KILLS;
        next = std::thread::scope(|scope| {
            let answered = &answered;
            let pushing = |of: &'static str, mut next: usize| {
                move || {
                    while next < BODIES {
                        let headers =
                            [format!("wasmill-producer: {of}"), format!("wasmill-sequence: {next}")];
                        let headers = headers.each_ref().map(String::as_str);
                        let body = body(of, next * EACH..(next + 1) * EACH);
                        match push(to, &format!("?source={of}"), &headers, &body) {
                            Ok(answer) if answer.status == 200 => next += 1,
                            Ok(answer) => panic!("{answer:?}"),
                            Err(_) if !last => break,
                            Err(error) => panic!("{error}"),
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    next
                }
            };
            let threads = [scope.spawn(pushing("web", next[0])), scope.spawn(pushing("app", next[1]))];
            if !last {
                let left = 2 * BODIES - next[0] - next[1];
                let until = random.random_range(0..=left / (KILLS - round) * 2).min(left);
                wait_until("some are answered", || answered.load(Ordering::Relaxed) >= until);
                program.signal(Signal::KILL);
            }
            threads.map(|thread| thread.join().unwrap())
        });
        if last {
            let expected = 2 * BODIES * EACH + lines + logs;
            wait_until("all are delivered", || objects::lines(&scratch.out()).len() >= expected);
            // Whatever would come twice comes before what is pushed behind it.
            assert_eq!(
                push(to, "?source=web", &[], &body("web", BODIES * EACH..BODIES * EACH + 1)).unwrap().status,
                200
            );
            program.stop();
        } else {
            program.kill();
        }
    }
    assert_eq!(next, [BODIES; 2]);
    let up_to = |end: usize| (0..end as u64).collect::<Vec<_>>();
    let of = |name: &str, end: usize| ((name.to_owned(), name.to_owned()), up_to(end));
    let expected =
        [of("app", BODIES * EACH), of("lines", lines), of("logs", logs), of("web", BODIES * EACH + 1)];
    assert!(
        delivered(&scratch) == BTreeMap::from(expected),
        "records are lost, doubled, or of another source"
    );
    assert!(scratch.letters("events").is_empty());
}

/// Records whose eighth byte decides pass `step`, and are told where they came from.
const JUDGED: &str = r#"
    [streams.events]
    max_failed_percent = 100
    retention = { age = "1h", size = "64MiB" }
    outputs = [{ type = "directory", path = "out", interval = "50ms" }]
    transforms = [{ plugin = "step" }, { plugin = "derive", config = { set = "from = source()" } }]
    [streams.events.sources]
    web = { type = "http" }
    logs = { type = "file", paths = ["logs/*.log"], follow = true }
"#;

fn judged(fate: char, of: &str, n: usize) -> String {
    format!("{{\"do\":\"{fate}\",\"of\":\"{of}\",\"n\":{n}}}\n")
}

fn letters_and_replays_keep_sources(config: &str) {
    if binary().is_none() {
        return;
    }
    let Some(scratch) = scratch(config, &["derive"]) else { return };
    scratch.deploy("step", &Guest::obey(7));
    let host = Running::start(&scratch.config(), COMPILER);
    let all =
        |of: &str| (0..60).map(|n| judged(if n % 3 == 2 { 'f' } else { 'k' }, of, n)).collect::<String>();
    append(&scratch, "logs/a.log", &all("logs"));
    // One source can be pushed to: it need not be named.
    assert_eq!(push(host.address(), "", &[], &all("web")).unwrap().status, 200);
    wait_until("a third has failed", || scratch.letters("events").len() == 40);
    host.crash();
    let by_source = |letters: &[Value]| {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for letter in letters {
            let record: Value = serde_json::from_str(letter["payload"].as_str().unwrap()).unwrap();
            assert_eq!(letter["source"], record["of"], "{letter}");
            *count.entry(letter["source"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        count
    };
    let halves = BTreeMap::from([("logs".to_owned(), 20), ("web".to_owned(), 20)]);
    assert_eq!(by_source(&scratch.letters("events")), halves);

    let host = Running::start(&scratch.config(), COMPILER);
    let replay = || {
        let path = "/v1/streams/events/dead-letters/replay";
        client::request(host.address(), "POST", path, &[], b"").unwrap().json()
    };
    let listed = client::get(host.address(), "/v1/streams/events/dead-letters?source=web").unwrap().json();
    assert_eq!(by_source(listed["letters"].as_array().unwrap()), BTreeMap::from([("web".to_owned(), 20)]));
    // They fail again, and are of their sources still.
    assert_eq!(replay()["failed"], 40);
    assert_eq!(by_source(&scratch.letters("events")), halves);
    scratch.deploy("step", &Guest::pass(1));
    wait_until("the plugin is mended", || host.stats("events").reloads.get() == 1);
    assert_eq!(replay()["passed"], 40);
    wait_until("all are delivered", || objects::lines(&scratch.out()).len() >= 120);
    let expected = ["logs", "web"].map(|of| ((of.to_owned(), of.to_owned()), (0..60).collect::<Vec<u64>>()));
    let expected = BTreeMap::from(expected);
    assert_eq!(delivered(&scratch), expected);

    // History knows them, too.
    let mut command = Command::new(binary().unwrap());
    let now = moment_text(wall_clock_ns());
    command.args(["replay", "events", "--from", "-1h", "--to", &now, "--output", "again", "--host"]);
    command.arg(format!("http://{}", host.address())).arg("--config").arg(scratch.config());
    let done = command.current_dir(scratch.dir()).stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut again: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in objects::lines(&scratch.path("again/events")) {
        let row: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        *again.entry((text("from"), text("of"))).or_default() += 1;
    }
    assert_eq!(again, expected.into_keys().map(|of| (of, 60)).collect());
    host.drain();
}

#[test]
fn dead_letters_their_replays_and_history_keep_the_source() {
    letters_and_replays_keep_sources(JUDGED);
}

#[test]
fn plugins_in_a_process_of_their_own_see_the_source() {
    letters_and_replays_keep_sources(&apart(JUDGED));
}

#[test]
fn join_of_two_sources_gives_the_pairs_of_their_records_across_kills() {
    let config = r#"
        [streams.events]
        outputs = [{ type = "directory", path = "out", interval = "50ms" }]
        [streams.events.sources]
        orders = { type = "http" }
        payments = { type = "http" }
        clicks = { type = "http" }
        [[streams.events.transforms]]
        plugin = "join"
        [streams.events.transforms.config.streams]
        on = ["id"]
        left = { source = "orders", into = "order" }
        right = { source = "payments", into = "payment" }
        before = "1h"
        after = "1h"
        others = "drop"
    "#;
    let (Some(binary), Some(scratch)) = (binary(), scratch(config, &["join"])) else { return };
    let mut expected = BTreeSet::new();
    // Orders, payments and clicks look the same; every third order is paid twice, every fifth not at all.
    let line = |id: u64, n: u64| json!({ "id": id, "n": n }).to_string();
    for round in 0..4_u64 {
        let program = Program::start(&binary, &scratch.config());
        let send = |source: &str, lines: &[String]| {
            let answer =
                push(program.address(), &format!("?source={source}"), &[], &lines.join("\n")).unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
        };
        let ids = round * 100..(round + 1) * 100;
        send("orders", &ids.clone().map(|id| line(id, 0)).collect::<Vec<_>>());
        send("clicks", &ids.clone().map(|id| line(id, 9)).collect::<Vec<_>>());
        // The orders of the round before are paid, which were kept while the host was down.
        let paid = round.saturating_sub(1) * 100..ids.end - 100 * u64::from(round < 3);
        let mut payments = Vec::new();
        for id in paid.filter(|id| round > 0 && id % 5 > 0) {
            for n in 1..=1 + u64::from(id % 3 == 0) {
                payments.push(line(id, n));
                expected.insert(format!("{{\"order\":{},\"payment\":{}}}", line(id, 0), line(id, n)));
            }
        }
        if !payments.is_empty() {
            send("payments", &payments);
        }
        if round < 3 {
            program.kill();
        } else {
            wait_until("the pairs have left", || objects::lines(&scratch.out()).len() >= expected.len());
            program.stop();
        }
    }
    let lines = objects::lines(&scratch.out());
    assert_eq!(lines.len(), expected.len());
    assert_eq!(lines.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn join_of_a_source_that_the_stream_lacks_is_refused_with_the_names_that_there_are() {
    let config = |sources: &str, right: &str| {
        format!(
            r#"
            [policy]
            directories = ["made"]
            state = true
            [streams.events]
            outputs = [{{ type = "directory", path = "out", interval = "50ms" }}]
            {sources}
            [[streams.events.transforms]]
            plugin = "join"
            name = "pairs"
            [streams.events.transforms.config.streams]
            on = ["id"]
            left = {{ source = "orders", into = "order" }}
            right = {{ source = "{right}", into = "payment" }}
            "#
        )
    };
    let two = r#"sources = { orders = { type = "http" }, payments = { type = "http" } }"#;
    let good = config(two, "payments");
    for (is_apart, good) in [(false, good.clone()), (true, apart(&good))] {
        let (Some(binary), Some(scratch)) = (binary(), scratch(&good, &["join"])) else { return };
        let run = |args: &[&str]| {
            let mut command = Command::new(&binary);
            command.args(args).arg(scratch.config()).current_dir(scratch.dir()).stdin(Stdio::null());
            let done = command.output().unwrap();
            (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
        };
        let (taken, told) = run(&["check"]);
        assert!(taken, "apart {is_apart}: {told}");
        let wanted = [
            "transform \"pairs\"",
            "/streams/right/source",
            "the stream has no source \"paymens\"; its sources are \"orders\", \"payments\"",
        ];
        scratch.configure(&good.replace("source = \"payments\"", "source = \"paymens\""));
        for args in [&["check"][..], &["run"]] {
            let (taken, told) = run(args);
            assert!(
                !taken && wanted.iter().all(|part| told.contains(part)),
                "apart {is_apart}, {args:?}: {told}"
            );
        }
        scratch.configure(&good.replace(two, "source = { type = \"http\" }"));
        let (taken, told) = run(&["check"]);
        assert!(!taken && told.contains("no source \"orders\": it has one without a name"), "{told}");
        if is_apart {
            continue;
        }
        // Who makes a stream over HTTP is told the same.
        scratch.configure(&good);
        let host = Running::start(&scratch.config(), COMPILER);
        let definition = json!({
            "sources": { "web": { "type": "http" } },
            "outputs": [{ "type": "directory", "path": "made" }],
            "transforms": [{ "plugin": "join", "name": "pairs", "config": { "streams": {
                "on": ["id"],
                "left": { "source": "web", "into": "a" },
                "right": { "source": "paymens", "into": "b" },
            } } }],
        });
        let headers = ["content-type: application/json"];
        let body = serde_json::to_vec(&definition).unwrap();
        let refused = client::request(host.address(), "PUT", "/v1/streams/made", &headers, &body).unwrap();
        assert_eq!(refused.status, 422, "{refused:?}");
        let told = refused.json().to_string().replace("\\\"", "\"");
        assert!(told.contains("no source \"paymens\"; its sources are \"web\""), "{refused:?}");
        host.drain();
    }
}

#[test]
fn requests_say_which_source_they_mean_and_are_told_what_there_is() {
    let config =
        FOUR.replace("[streams.events]\n", "[streams.events]\n    decide = { deadline = \"20s\" }\n");
    let single = "[streams.single]\nsource = { type = \"http\" }\noutputs = [{ type = \"directory\", path = \"single\" }]\n";
    let Some(scratch) = scratch(&format!("{config}{single}"), &["derive"]) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    let to = host.address();
    let refused = |query: &str, status: u16, code: &str, told: &str| {
        for path in ["records", "decide"] {
            let path = format!("/v1/streams/events/{path}{query}");
            let answer = client::request(to, "POST", &path, &[NDJSON], b"{}").unwrap();
            assert_eq!(
                (answer.status, answer.json()["error"]["code"].as_str()),
                (status, Some(code)),
                "{answer:?}"
            );
            assert!(answer.body.contains(told), "{answer:?}");
        }
    };
    refused("", 400, "bad_query", "one of app, web");
    refused("?source=lines", 404, "no_source", "one of app, web");
    refused("?source=", 400, "bad_query", "one of app, web");
    refused("?source=app&source=web", 400, "bad_query", "twice");
    let unnamed =
        client::request(to, "POST", "/v1/streams/single/records?source=web", &[NDJSON], b"{}").unwrap();
    assert_eq!(unnamed.status, 400, "{unnamed:?}");
    assert!(unnamed.body.contains("has no name"), "{unnamed:?}");
    let decided = client::request(
        to,
        "POST",
        "/v1/streams/events/decide?source=web&deadline_ms=20000",
        &[NDJSON],
        record("web", 0).as_bytes(),
    )
    .unwrap();
    assert_eq!(decided.json()["records"][0]["rows"][0]["record"]["from"], "web", "{decided:?}");
    assert_eq!(push(to, "?source=app", &[], &body("app", 0..3)).unwrap().status, 200);
    let delivery =
        json!({ "requestId": "r1", "timestamp": 1, "records": [{ "data": "eyJvZiI6IndlYiIsIm4iOjF9" }] });
    let delivery = serde_json::to_vec(&delivery).unwrap();
    let json = ["content-type: application/json"];
    let taken =
        client::request(to, "POST", "/v1/streams/events/firehose?source=web", &json, &delivery).unwrap();
    assert_eq!(taken.status, 200, "{taken:?}");
    let refused = client::request(to, "POST", "/v1/streams/events/firehose", &json, &delivery).unwrap();
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.body.contains("one of app, web"), "{refused:?}");
    // Of the Firehose API nobody can say it: the first one by name.
    let put = json!({ "DeliveryStreamName": "events", "Record": { "Data": "eyJvZiI6ImFwcCIsIm4iOjN9" } });
    let headers = ["content-type: application/x-amz-json-1.1", "x-amz-target: Firehose_20150804.PutRecord"];
    let put = client::request(to, "POST", "/", &headers, &serde_json::to_vec(&put).unwrap()).unwrap();
    assert_eq!(put.status, 200, "{put:?}");
    append(&scratch, "logs/a.log", &body("logs", 0..7));
    let expected = [("app", 4), ("lines", 0), ("logs", 7), ("web", 2)];
    wait_until("the file is read", || brought(to)["logs"] == 7);
    assert_eq!(brought(to), expected.map(|(name, records)| (name.to_owned(), records)).into());
    let metrics = client::get(to, "/metrics").unwrap().body;
    assert!(
        metrics.contains("wasmill_source_records_total{stream=\"events\",source=\"logs\"} 7"),
        "{metrics}"
    );
    assert!(metrics.contains("wasmill_source_open{stream=\"events\",source=\"logs\"} 1"), "{metrics}");
    assert_eq!(host.state("single")["sources"][0]["type"], "http");
    host.drain();
    let found = delivered(&scratch);
    let counted = found.iter().map(|((from, of), numbers)| (from.as_str(), of.as_str(), numbers.len()));
    assert_eq!(counted.collect::<Vec<_>>(), [("app", "app", 4), ("logs", "logs", 7), ("web", "web", 2)]);
}

#[test]
fn positions_are_those_of_a_name_and_a_single_source_goes_on_without_one() {
    let config = |sources: &str| {
        format!(
            r#"
            [streams.events]
            outputs = [{{ type = "directory", path = "out", interval = "50ms" }}]
            transforms = [{{ plugin = "derive", config = {{ set = "from = source()" }} }}]
            {sources}
            "#
        )
    };
    let file =
        |name: &str, path: &str| format!("{name} = {{ type = \"file\", paths = [\"logs/{path}\"] }}\n");
    let Some(scratch) = scratch(&config(&file("source", "*.log")), &["derive"]) else { return };
    append(&scratch, "logs/a.log", &body("a", 0..10));
    append(&scratch, "logs/b.log", &body("b", 0..10));
    let run = |sources: &str| {
        scratch.configure(&config(sources));
        let host = Running::start(&scratch.config(), COMPILER);
        // Both files are read once, and the stream ends when all of its sources have.
        host.ended();
        host.drain();
        delivered(&scratch)
            .into_iter()
            .map(|((from, of), numbers)| (from, of, numbers.len()))
            .collect::<Vec<_>>()
    };
    let of = |from: &str, of: &str, count: usize| (from.to_owned(), of.to_owned(), count);
    let single = file("source", "*.log");
    assert_eq!(run(&single), [of("-", "a", 10), of("-", "b", 10)]);
    append(&scratch, "logs/a.log", &body("a", 10..15));
    assert_eq!(run(&single), [of("-", "a", 15), of("-", "b", 10)]);
    // As if they were new: each has read the file once.
    let two = format!("[streams.events.sources]\n{}{}", file("files", "a.log"), file("both", "*.log"));
    let first =
        [of("-", "a", 15), of("-", "b", 10), of("both", "a", 15), of("both", "b", 10), of("files", "a", 15)];
    assert_eq!(run(&two), first);
    append(&scratch, "logs/a.log", &body("a", 15..16));
    let second =
        [of("-", "a", 15), of("-", "b", 10), of("both", "a", 16), of("both", "b", 10), of("files", "a", 16)];
    assert_eq!(run(&two), second);
    // Back again: it goes on where it was.
    let third =
        [of("-", "a", 16), of("-", "b", 10), of("both", "a", 16), of("both", "b", 10), of("files", "a", 16)];
    assert_eq!(run(&single), third);
}

#[test]
fn stream_with_several_sources_is_made_over_http_and_each_is_judged_by_the_policy() {
    let config = r#"
        [policy]
        directories = ["out"]
        [streams.other]
        source = { type = "http" }
        outputs = [{ type = "directory", path = "other" }]
    "#;
    let scratch = Scratch::new(config);
    let host = Running::start(&scratch.config(), COMPILER);
    let put = |sources: Value| {
        let definition = json!({
            "sources": sources,
            "outputs": [{ "type": "directory", "path": "out", "interval": "0s" }],
        });
        let body = serde_json::to_vec(&definition).unwrap();
        client::request(
            host.address(),
            "PUT",
            "/v1/streams/events",
            &["content-type: application/json"],
            &body,
        )
        .unwrap()
    };
    let refused = put(json!({
        "web": { "type": "http" },
        "lines": { "type": "tcp", "listen": "127.0.0.1:0" },
        "files": { "type": "file", "paths": ["/etc/*"] },
    }));
    assert_eq!(refused.status, 422, "{refused:?}");
    for told in ["sources.lines.listen", "sources.files.type"] {
        assert!(refused.body.contains(told), "no {told}: {refused:?}");
    }
    let made = put(json!({ "web": { "type": "http" }, "app": { "type": "http" } }));
    assert_eq!(made.status, 201, "{made:?}");
    let answer = wait_for("the stream", || {
        let answer = push(host.address(), "?source=app", &[], "{\"n\":1}").unwrap();
        (answer.status != 503).then_some(answer)
    });
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(brought_by(&host, "events"), json!([["app", 1], ["web", 0]]));
    host.drain();
    assert_eq!(objects::lines(&scratch.out()), ["{\"n\":1}"]);
}

fn brought_by(host: &Running, stream: &str) -> Value {
    let state = host.state(stream);
    let sources = state["sources"].as_array().unwrap().iter();
    sources.map(|source| json!([source["name"], source["records"]])).collect()
}
