//! Replays of history, beside a host that runs and without one: other versions, other places, and live delivery as if
//! nothing were.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use wasmill::pipeline::moment_text;
use wasmill::pipeline::stats::wall_clock_ns;
use wasmill_tests::guest::Guest;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::{Running, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;
use wasmill_tests::{client, objects};

use crate::COMPILER;

const KEPT: &str = r#"
    [streams.events]
    source = { type = "http" }
    retention = { age = "1h", size = "64MiB" }
    max_failed_percent = 100
    transforms = [{ plugin = "step" }]
    outputs = [{ type = "directory", path = "out", interval = "0s", size = "4KiB" }]
"#;

/// A stream with history whose plugin is `now`, and the digest of `before`, which was the plugin earlier.
fn scene(config: &str, before: &Guest, now: &Guest) -> (Scratch, Running, String) {
    let scratch = Scratch::new(config);
    let digest = scratch.deploy("step", before);
    let host = Running::start(&scratch.config(), COMPILER);
    scratch.deploy("step", now);
    wait_until("the version of today", || host.stats("events").reloads.get() == 1);
    (scratch, host, digest)
}

fn push_delivered(host: &Running, from: u64, n: u64) {
    host.push("events", &numbered(from, n));
    wait_until("delivery", || host.stats("events").outputs[0].delivered.get() == from + n);
}

/// `wasmill replay events …`: exit code, the JSON objects or lines of stdout, stderr.
fn replay(scratch: &Scratch, arguments: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let mut command = Command::new(binary().unwrap());
    command.args(["replay", "events", "--config"]).arg(scratch.config()).args(arguments);
    let output = command.current_dir(scratch.dir()).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout).lines().map(str::to_owned).collect(), text(&output.stderr))
}

fn last_json((code, lines, told): (Option<i32>, Vec<String>, String)) -> Value {
    assert_eq!(code, Some(0), "{told}");
    serde_json::from_str(lines.last().unwrap()).unwrap()
}

/// Names and bytes of everything below a directory.
fn contents(dir: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    objects::files(dir).into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

fn stamps(dir: &std::path::Path) -> Vec<String> {
    let lines = objects::lines(dir).into_iter();
    lines
        .map(|line| serde_json::from_str::<Value>(&line).unwrap()["v"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn half_of_history_runs_through_another_version_while_live_pushes_go_on() {
    if binary().is_none() {
        return;
    }
    let (scratch, host, other) = scene(KEPT, &Guest::stamp('2'), &Guest::stamp('1'));
    push_delivered(&host, 0, 300);
    let half = moment_text(wall_clock_ns());
    push_delivered(&host, 300, 300);
    let before = contents(&scratch.out());
    wait_until("history is counted", || host.state("events")["retained_bytes"].as_u64().unwrap() > 0);
    let address = format!("http://{}", host.address());
    let version = format!("step@{other}");
    let mut pushed = 600;
    let done = std::thread::scope(|scope| {
        let replaying = scope.spawn(|| {
            let to = ["--from", "-1h", "--to", &half, "--plugin", &version, "--output", "again"];
            last_json(replay(&scratch, &[&to[..], &["--host", &address, "--json"]].concat()))
        });
        while !replaying.is_finished() {
            host.push("events", &numbered(pushed, 50));
            pushed += 50;
        }
        replaying.join().unwrap()
    });
    assert_eq!((&done["state"], &done["records"]), (&"done".into(), &300.into()), "{done}");
    assert_eq!((&done["passed"], &done["delivered"]), (&300.into(), &300.into()), "{done}");
    assert_eq!((&done["failed"], &done["missing"]), (&0.into(), &0.into()), "{done}");
    assert_eq!(done["plugins"], json!([other]));
    let again = scratch.path("again/events");
    assert_eq!(objects::numbers(&again, "n"), (0..300).collect::<Vec<_>>());
    assert!(stamps(&again).iter().all(|stamp| stamp == "2"));
    assert_eq!(objects::files(&again).len() as u64, done["objects"].as_u64().unwrap());
    assert!(
        !scratch.path("again/.wasmill-staging").exists()
            && !scratch.path("again/dead-letters.ndjson").exists()
    );
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..pushed).collect::<Vec<_>>());
    assert!(stamps(&scratch.out()).iter().all(|stamp| stamp == "1"));
    let after = contents(&scratch.out());
    assert!(before.iter().all(|object| after.contains(object)), "an object of live delivery has changed");
}

#[test]
fn without_a_host_history_is_replayed_from_the_data_directory_and_what_is_wrong_is_said() {
    if binary().is_none() {
        return;
    }
    let (scratch, host, other) = scene(KEPT, &Guest::stamp('2'), &Guest::stamp('1'));
    // Several slices, and so several objects.
    push_delivered(&host, 0, 8_000);
    host.drain();
    let before = contents(&scratch.out());
    let all = ["--from", "-1h", "--to", "now"];
    let run = |more: &[&str]| replay(&scratch, &[&all[..], more].concat());

    // What does not start leaves nothing behind.
    let unknown = format!("step@sha256:{}", "0".repeat(64));
    let (code, _, told) = run(&["--output", "none", "--plugin", &unknown]);
    assert!(
        code == Some(1) && told.contains("known versions of \"step\"") && told.contains(&other),
        "{told}"
    );
    let (code, _, told) = run(&["--output", "none", "--plugin", &format!("stop@{other}")]);
    assert!(code == Some(1) && told.contains("its plugins are: step"), "{told}");
    let early = ["--from", "2001-01-01T00:00:00Z", "--to", "2001-01-02T00:00:00Z", "--output", "none"];
    let (code, _, told) = replay(&scratch, &early);
    assert!(
        code == Some(1) && told.contains("no records of stream \"events\" arrived from 2001-01-01"),
        "{told}"
    );
    assert!(told.contains("what is kept arrived from 20"), "{told}");
    assert!(!scratch.path("none").exists());
    let (code, _, told) = replay(&scratch, &["--from", "yesterday", "--to", "now", "--output", "none"]);
    assert!(code == Some(2) && told.contains("--from: \"yesterday\" is no time, expected"), "{told}");
    let far = ["--from", "-1h", "--to", "9999-12-31T23:59:59Z", "--output", "none"];
    let (code, _, told) = replay(&scratch, &far);
    assert!(code == Some(2) && told.contains("is out of range"), "{told}");
    let (code, _, told) = run(&["--output", "none", "--plugin", "step@sha256:12"]);
    assert!(code == Some(2) && told.contains("expected name@sha256:"), "{told}");
    std::fs::create_dir(scratch.path("full")).unwrap();
    std::fs::write(scratch.path("full/mine"), "x").unwrap();
    let (code, _, told) = run(&["--output", "full"]);
    assert!(code == Some(1) && told.contains("is not empty and holds no replay"), "{told}");

    let done = last_json(run(&["--output", "again", "--json"]));
    assert_eq!((&done["records"], &done["delivered"]), (&8_000.into(), &8_000.into()), "{done}");
    assert_eq!(done["kept_from"], Value::Null, "nothing was let go of: {done}");
    assert_eq!(objects::numbers(&scratch.path("again/events"), "n"), (0..8_000).collect::<Vec<_>>());
    // The version of today, since no other was asked for.
    assert!(stamps(&scratch.path("again/events")).iter().all(|stamp| stamp == "1"));

    // The same again, after some of it was lost: nothing is written twice, and what is missing is added.
    let (code, _, told) = run(&["--output", "again"]);
    let id = done["id"].as_str().unwrap();
    assert!(code == Some(1) && told.contains(&format!("--id {id}")), "{told}");
    let written = contents(&scratch.path("again/events"));
    assert!(written.len() >= 2);
    std::fs::remove_file(&written[0].0).unwrap();
    let text = |key: &str| done[key].as_str().unwrap().to_owned();
    let (from, to) = (text("from"), text("to"));
    let same = ["--id", id, "--from", &from, "--to", &to, "--output", "again", "--json"];
    let second = last_json(replay(&scratch, &same));
    assert_eq!((&second["objects"], &second["records"]), (&1.into(), &8_000.into()), "{second}");
    assert_eq!(second["objects_there"].as_u64().unwrap() as usize, written.len() - 1, "{second}");
    assert_eq!(contents(&scratch.path("again/events")), written);

    // A kept copy that is damaged is no version that is known.
    let digits = other.trim_start_matches("sha256:");
    let copies = objects::files(&scratch.path("data/plugins"));
    let copy =
        copies.iter().find(|file| file.to_string_lossy().ends_with(&format!("{digits}.wasm"))).unwrap();
    std::fs::write(copy, "damaged").unwrap();
    let (code, _, told) = run(&["--output", "none", "--plugin", &format!("step@{other}")]);
    let (missing, known) = told.split_once("known versions of").unwrap_or_else(|| panic!("{told}"));
    assert!(code == Some(1) && missing.contains(&format!("no version {other}")), "{told}");
    assert!(known.contains("(current)") && !known.contains(&other), "{told}");

    // Nothing of it concerns the stream.
    assert_eq!(contents(&scratch.out()), before);
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &numbered(8_000, 10));
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..8_010).collect::<Vec<_>>());
}

#[test]
fn replay_beside_live_objects_keeps_its_dead_letters_to_itself() {
    if binary().is_none() {
        return;
    }
    let config = KEPT.replace("size = \"4KiB\"", "format = \"raw\"");
    let (scratch, host, picky) = scene(&config, &Guest::picky(), &Guest::pass(1));
    host.push("events", "ok 1\nerror 2\ndrop 3\nok 4");
    wait_until("delivery", || host.stats("events").outputs[0].delivered.get() == 4);
    let before = contents(&scratch.out());
    let address = format!("http://{}", host.address());
    let version = format!("step@{picky}");
    let done = last_json(replay(
        &scratch,
        &[
            "--from",
            "-1h",
            "--to",
            "now",
            "--plugin",
            &version,
            "--destination",
            "default",
            "--host",
            &address,
            "--json",
        ],
    ));
    let counts =
        ["records", "passed", "dropped", "failed", "delivered"].map(|name| done[name].as_u64().unwrap());
    assert_eq!(counts, [4, 2, 1, 1, 2], "{done}");
    let id = done["id"].as_str().unwrap();
    let beside = scratch.out().join("replays").join(id);
    assert_eq!(objects::lines(&beside), ["ok 1", "ok 4"]);
    assert!(objects::files(&beside)[0].to_string_lossy().contains(id), "the batch id is the replay's own");
    let letters = std::fs::read_to_string(done["dead_letters"].as_str().unwrap()).unwrap();
    let letter: Value = serde_json::from_str(letters.trim()).unwrap();
    assert_eq!((&letter["payload"], &letter["plugin"]), (&"error 2".into(), &picky.into()));
    assert!(scratch.letters("events").is_empty());
    let after = contents(&scratch.out());
    assert!(before.iter().all(|object| after.contains(object)));
    let unknown = ["--from", "-1h", "--to", "now", "--destination", "nowhere", "--host", &address];
    let (code, _, told) = replay(&scratch, &unknown);
    assert!(code == Some(2) && told.contains("has no output \"nowhere\", it has default"), "{told}");
    host.drain();
}

#[test]
fn cancelled_replay_ends_within_moments_and_leaves_nothing_half() {
    let config = KEPT
        .replace("plugin = \"step\"", "plugin = \"step\", limits = { deadline = \"50ms\" }")
        .replace("size = \"4KiB\"", "format = \"raw\"");
    let (scratch, host, picky) = scene(&config, &Guest::picky(), &Guest::pass(1));
    // Each costs its deadline, several times over.
    let records: Vec<String> = (0..60).map(|n| format!("loop {n}")).collect();
    host.push("events", &records.join("\n"));
    wait_until("delivery", || host.stats("events").outputs[0].delivered.get() == 60);
    let routes = "/v1/streams/events/replays";
    let body =
        json!({ "from": "-1h", "to": "now", "plugins": [format!("step@{picky}")], "destination": "default" });
    let ask = |method: &str, path: &str, body: &str| {
        client::request(host.address(), method, path, &["content-type: application/json"], body.as_bytes())
            .unwrap()
    };
    let started = ask("POST", routes, &body.to_string());
    assert_eq!(started.status, 202, "{}", started.body);
    let id = started.json()["id"].as_str().unwrap().to_owned();
    let one = format!("{routes}/{id}");
    let again = json!({ "id": id, "from": "-1h", "to": "now", "destination": "default" });
    assert_eq!(ask("POST", routes, &again.to_string()).status, 409);
    assert_eq!(ask("GET", &one, "").json()["state"], "running");
    assert_eq!(ask("DELETE", &one, "").status, 200);
    wait_until("the end of the replay", || ask("GET", &one, "").json()["state"] == "cancelled");
    assert_eq!(ask("GET", routes, "").json()["replays"][0]["id"], json!(id));
    let beside = scratch.out().join("replays").join(&id);
    assert!(objects::files(&beside).is_empty() && objects::staged(&beside).is_empty());
    assert!(!scratch.path("data/replays").join(&id).join("dead-letters.ndjson").exists());

    // A directory is for those who can write into it themselves.
    let foreign = json!({ "from": "-1h", "to": "now", "output": scratch.path("stolen") }).to_string();
    let refused = ask("POST", routes, &foreign);
    assert!(refused.status == 400 && refused.body.contains("has no replay.json"), "{}", refused.body);
    assert!(!scratch.path("stolen").exists());
    for body in ["[]", "[\"a\",\"b\",\"c\",[],null,null]", "7"] {
        let refused = ask("POST", routes, body);
        assert!(refused.status == 400 && refused.body.contains("expected a JSON object"), "{}", refused.body);
    }
    let bare = client::request(host.address(), "POST", routes, &[], b"{}").unwrap();
    assert!(bare.status == 400 && bare.body.contains("header content-type is missing"), "{}", bare.body);
    assert_eq!(ask("GET", &format!("{routes}/{}", "0".repeat(32)), "").status, 404);
    assert_eq!(ask("GET", "/v1/streams/other/replays", "").status, 404);
    host.drain();
}

#[test]
fn history_outlives_a_killed_host_and_is_replayed_whole() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(KEPT);
    scratch.deploy("step", &Guest::stamp('1'));
    let program = Program::start(&binary, &scratch.config());
    for n in 0..40 {
        assert_eq!(client::push(program.address(), "events", &numbered(n * 50, 50)).unwrap().status, 200);
    }
    wait_until("delivery", || objects::lines(&scratch.out()).len() == 2_000);
    program.kill();
    let done = last_json(replay(&scratch, &["--from", "-1h", "--to", "now", "--output", "again", "--json"]));
    assert_eq!((&done["records"], &done["missing"]), (&2_000.into(), &0.into()), "{done}");
    assert_eq!(objects::numbers(&scratch.path("again/events"), "n"), (0..2_000).collect::<Vec<_>>());
    let program = Program::start(&binary, &scratch.config());
    program.stop();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..2_000).collect::<Vec<_>>());
}

#[test]
fn replay_of_a_span_whose_start_retention_let_go_of_says_from_when_on_there_is_history() {
    if binary().is_none() {
        return;
    }
    let config = KEPT.replace("64MiB", "1MiB").replace("4KiB", "1MiB");
    let (scratch, host, _) = scene(&config, &Guest::stamp('2'), &Guest::stamp('1'));
    for n in 0..12 {
        push_delivered(&host, n * 8_000, 8_000);
    }
    host.drain();
    let all = ["--from", "-1h", "--to", "now", "--output"];
    let done = last_json(replay(&scratch, &[&all[..], &["again", "--json"]].concat()));
    let records = done["records"].as_u64().unwrap();
    assert!((1..96_000).contains(&records) && done["missing"] == 0, "{done}");
    let kept_from = done["kept_from"].as_str().unwrap();
    assert!(kept_from > done["from"].as_str().unwrap() && kept_from < done["to"].as_str().unwrap(), "{done}");
    let (code, lines, told) = replay(&scratch, &[&all[..], &["more"]].concat());
    let said = format!("history is kept from {kept_from} on");
    assert!(code == Some(0) && lines.iter().any(|line| line.starts_with(&said)), "{lines:#?} {told}");
    // What begins where history begins misses nothing.
    let rest = ["--from", kept_from, "--to", "now", "--output", "rest", "--json"];
    let done = last_json(replay(&scratch, &rest));
    assert!(done["kept_from"].is_null() && done["records"] == records, "{done}");
}

/// The command that a replay said it goes on with.
fn said_again(told: &str) -> String {
    let again = told.split("goes on with: ").nth(1).and_then(|rest| rest.lines().next());
    again.unwrap_or_else(|| panic!("no command in {told}")).to_owned()
}

#[test]
fn command_that_a_replay_says_at_its_start_goes_on_with_it() {
    let Some(binary) = binary() else { return };
    let (scratch, host, other) = scene(KEPT, &Guest::stamp('2'), &Guest::stamp('1'));
    push_delivered(&host, 0, 500);
    host.drain();
    let version = format!("step@{other}");
    let arguments = ["--from", "-1h", "--to", "now", "--plugin", &version, "--output", "a new one's"];
    let (code, _, told) = replay(&scratch, &arguments);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.lines().next().unwrap().contains("that arrived from 20"), "{told}");
    let again = said_again(&told).replacen("wasmill ", &format!("{} ", binary.display()), 1);
    let written = contents(&scratch.path("a new one's/events"));
    std::fs::remove_file(&written[0].0).unwrap();
    let ran = Command::new("sh").args(["-c", &again]).current_dir(scratch.dir()).output().unwrap();
    assert!(ran.status.success(), "{again}: {}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(contents(&scratch.path("a new one's/events")), written);
}

#[test]
fn replay_whose_host_goes_away_says_how_to_go_on() {
    if binary().is_none() {
        return;
    }
    let config = KEPT
        .replace("plugin = \"step\"", "plugin = \"step\", limits = { deadline = \"50ms\" }")
        .replace("size = \"4KiB\"", "format = \"raw\"");
    let (scratch, host, picky) = scene(&config, &Guest::picky(), &Guest::pass(1));
    let records: Vec<String> = (0..400).map(|n| format!("loop {n}")).collect();
    host.push("events", &records.join("\n"));
    wait_until("delivery", || host.stats("events").outputs[0].delivered.get() == 400);
    let (address, version) = (format!("http://{}", host.address()), format!("step@{picky}"));
    let mut command = Command::new(binary().unwrap());
    command.args(["replay", "events", "--from", "-1h", "--to", "now", "--output", "again"]);
    command.args(["--plugin", &version, "--host", &address, "--config"]).arg(scratch.config());
    let mut replaying = Program::spawn(command.current_dir(scratch.dir()).stdin(Stdio::null()));
    replaying.wait_for_log("goes on with: ");
    host.crash();
    assert_eq!(replaying.ended().code(), Some(1));
    let said = replaying.log().join("\n");
    let end = said.split("does not answer any more").nth(1).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(said_again(end), said_again(&said));
    assert!(said_again(end).contains(&format!("--plugin {version} --output /")), "{said}");
}
