//! Which version of a plugin is live, and who decides it: pins, rollback, promotion, demotion.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use wasmill_tests::client::{self, Answer};
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::{Running, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

use crate::COMPILER;

const STAMPED: &str = r#"
    [streams.events]
    source = { type = "http" }
    transforms = [{ plugin = "step" }]
    outputs = [{ type = "directory", path = "out", interval = "0s" }]
"#;
/// Records need not be JSON.
const RAW: &str = r#"
    [streams.events]
    source = { type = "http" }
    transforms = [{ plugin = "step" }]
    outputs = [{ type = "directory", path = "out", format = "raw", interval = "0s" }]
"#;

fn post(to: SocketAddr, path: &str, body: &str) -> Answer {
    let path = format!("/v1/plugins/{path}");
    client::request(to, "POST", &path, &["content-type: application/json"], body.as_bytes()).unwrap()
}

fn done(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn named(digest: &str) -> String {
    format!("{{\"digest\":\"{digest}\"}}")
}

/// Digest of the plugin that a stream runs.
fn runs(to: SocketAddr) -> String {
    let streams = client::get(to, "/v1/streams").unwrap().json();
    streams[0]["transforms"][0]["digest"].as_str().unwrap().to_owned()
}

fn versions(to: SocketAddr) -> Value {
    done(&client::get(to, "/v1/plugins/step").unwrap())
}

/// Pushes so many records and waits until they have passed, `total` with those before of this process.
fn through(to: SocketAddr, from: u64, n: u64, total: u64) {
    assert_eq!(client::push(to, "events", &numbered(from, n)).unwrap().status, 200);
    wait_until("the records pass", || passed(to) == total);
}

fn passed(to: SocketAddr) -> u64 {
    client::get(to, "/v1/streams").unwrap().json()[0]["passed"].as_u64().unwrap()
}

/// The version that wrote each record, by its number.
fn stamps(scratch: &Scratch) -> String {
    let mut lines: Vec<Value> =
        objects::lines(&scratch.out()).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["n"].as_u64());
    let numbers: Vec<_> = lines.iter().map(|line| line["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..lines.len() as u64).collect::<Vec<_>>(), "lost or doubled");
    lines.iter().map(|line| line["v"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn pin_survives_a_kill_and_new_files_are_tried_but_do_not_go_live_until_unpinned() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(STAMPED);
    let first = scratch.deploy("step", &Guest::stamp('1'));
    let host = Program::start(&binary, &scratch.config());
    through(host.address(), 0, 3, 3);
    let pinned = done(&post(host.address(), "step/pin", ""));
    assert_eq!(pinned["pinned"], first, "{pinned}");
    host.kill();

    scratch.deploy("step", &Guest::stamp('2'));
    let host = Program::start(&binary, &scratch.config());
    through(host.address(), 3, 3, 3);
    let third = scratch.deploy("step", &Guest::stamp('3'));
    wait_until("the new file is known", || versions(host.address())["newest"] == third);
    host.wait_for_log("new plugin version could go live");
    through(host.address(), 6, 3, 6);
    // What could not go live is told although nobody asked it to.
    scratch.deploy("step", &Guest::unconfigurable());
    wait_until("the failed probe is told", || {
        versions(host.address()).to_string().contains("I have had none")
    });
    assert_eq!(runs(host.address()), first);

    scratch.deploy("step", &Guest::stamp('4'));
    let fourth = wasmill_transform::Digest::of(&Guest::stamp('4').wasm()).to_string();
    wait_until("the good file is known", || versions(host.address())["newest"] == fourth);
    let path = "/v1/plugins/step/pin";
    let unpinned = done(&client::request(host.address(), "DELETE", path, &[], b"").unwrap());
    assert!(unpinned["message"].as_str().unwrap().contains(&fourth), "{unpinned}");
    wait_until("the newest is live", || runs(host.address()) == fourth);
    through(host.address(), 9, 3, 9);
    host.stop();
    assert_eq!(stamps(&scratch), "111111111444");
}

#[test]
fn rollback_goes_to_the_version_live_before_pins_it_and_goes_on_from_there() {
    let scratch = Scratch::new(STAMPED);
    let digests: Vec<String> = ['1', '2', '3']
        .iter()
        .map(|version| wasmill_transform::Digest::of(&Guest::stamp(*version).wasm()).to_string())
        .collect();
    scratch.deploy("step", &Guest::stamp('1'));
    let host = Running::start(&scratch.config(), COMPILER);
    let to = host.address();
    let nothing = post(to, "step/rollback", "");
    assert_eq!(nothing.status, 409, "{}", nothing.body);
    assert!(nothing.body.contains("no version of step was live before"), "{}", nothing.body);
    for (at, version) in [(1, '2'), (2, '3')] {
        scratch.deploy("step", &Guest::stamp(version));
        wait_until("the version is live", || runs(to) == digests[at]);
    }
    through(to, 0, 2, 2);
    let back = done(&post(to, "step/rollback", ""));
    assert_eq!(back["pinned"], digests[1], "{back}");
    assert!(back["message"].as_str().unwrap().contains("live and pinned"), "{back}");
    wait_until("the version before is live", || runs(to) == digests[1]);
    through(to, 2, 2, 4);
    let back = done(&post(to, "step/rollback", ""));
    // Nothing of what was live is forgotten; the last one is first.
    let live = back["live"].as_array().unwrap().iter();
    let live: Vec<_> = live.map(|live| (live["digest"].as_str().unwrap(), live["left"] == true)).collect();
    assert_eq!(live, [(&*digests[0], false), (&*digests[1], true), (&*digests[2], true)], "{back}");
    wait_until("the version before that is live", || runs(to) == digests[0]);
    through(to, 4, 2, 6);
    let promoted = done(&post(to, "step/promote", &named(&digests[2])));
    assert!(promoted["message"].as_str().unwrap().contains("the pin moved to it"), "{promoted}");
    wait_until("the promoted version is live", || runs(to) == digests[2]);
    through(to, 6, 2, 8);
    host.drain();
    assert_eq!(stamps(&scratch), "33221133");
}

#[test]
fn promotion_under_load_gives_each_record_to_one_version_and_loses_none() {
    let scratch = Scratch::new(STAMPED);
    let first = scratch.deploy("step", &Guest::stamp('1'));
    let host = Running::start(&scratch.config(), COMPILER);
    let to = host.address();
    scratch.deploy("step", &Guest::stamp('2'));
    let second = wasmill_transform::Digest::of(&Guest::stamp('2').wasm()).to_string();
    wait_until("the second version is live", || runs(to) == second);
    let enough = Arc::new(AtomicBool::new(false));
    let pushing = std::thread::spawn({
        let enough = Arc::clone(&enough);
        move || {
            let mut n = 0;
            while n < 200 || !enough.load(Ordering::Relaxed) {
                assert_eq!(client::push(to, "events", &numbered(n * 50, 50)).unwrap().status, 200);
                n += 1;
            }
            n * 50
        }
    });
    let mut promoted = 0;
    while !pushing.is_finished() {
        let digest = if promoted % 2 == 0 { &first } else { &second };
        done(&post(to, "step/promote", &named(digest)));
        wait_until("it is live", || runs(to) == *digest);
        // Records that come now pass under it.
        let before = passed(to);
        wait_until("records pass", || pushing.is_finished() || passed(to) > before + 100);
        promoted += 1;
        enough.store(promoted >= 4, Ordering::Relaxed);
    }
    let pushed = pushing.join().unwrap();
    wait_until("everything passes", || passed(to) == pushed);
    host.drain();
    let stamps = stamps(&scratch);
    assert_eq!(stamps.len() as u64, pushed);
    assert!(promoted >= 4 && stamps.contains('1') && stamps.contains('2'), "{promoted} promotions");
    assert!(stamps.chars().all(|version| "12".contains(version)));
}

#[test]
fn demoted_version_is_told_and_not_taken_again_after_a_restart_unless_promoted() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(RAW);
    let good = scratch.deploy("step", &Guest::pass(1));
    let host = Program::start(&binary, &scratch.config());
    // Fails what begins with `f`, drops what begins with `d`.
    let bad = scratch.deploy("step", &Guest::obey(0));
    wait_until("the fresh version is live", || runs(host.address()) == bad);
    let fail: Vec<String> = (0..2_000).map(|n| format!("f{n}")).collect();
    assert_eq!(client::push(host.address(), "events", &fail.join("\n")).unwrap().status, 200);
    wait_until("everything passes", || passed(host.address()) == 2_000);
    assert_eq!(runs(host.address()), good);
    let told = versions(host.address());
    let demoted =
        told["versions"].as_array().unwrap().iter().find(|version| version["digest"] == *bad).unwrap();
    assert_eq!(demoted["demoted"][0]["stream"], "events", "{told}");
    assert!(
        demoted["demoted"][0]["reason"].as_str().unwrap().contains("2000 of 2000 records failed"),
        "{told}"
    );
    let metrics = client::get(host.address(), "/metrics").unwrap().body;
    assert!(metrics.contains("wasmill_stream_demotions_total{stream=\"events\"} 1"), "{metrics}");
    assert!(host.says("plugin version is demoted in this stream"));
    host.kill();

    let host = Program::start(&binary, &scratch.config());
    assert_eq!(runs(host.address()), good);
    // The same file once more is no reason either; another one is.
    scratch.deploy("step", &Guest::obey(0));
    assert_eq!(client::push(host.address(), "events", "d1\nd2").unwrap().status, 200);
    wait_until("the good version passes them", || passed(host.address()) == 2);
    let promoted = done(&post(host.address(), "step/promote", &named(&bad)));
    assert_eq!(promoted["demoted"], serde_json::json!([]), "{promoted}");
    wait_until("the promoted version is live", || runs(host.address()) == bad);
    assert_eq!(client::push(host.address(), "events", "d3\nx-not\nok").unwrap().status, 200);
    wait_until("it drops", || client::get(host.address(), "/v1/streams").unwrap().json()[0]["dropped"] == 1);
    host.stop();
    let mut lines = objects::lines(&scratch.out());
    lines.retain(|line| !line.starts_with('f'));
    lines.sort();
    assert_eq!(lines, ["d1", "d2", "ok"]);
}

#[test]
fn version_that_is_old_is_not_blamed_for_what_its_input_does() {
    let scratch = Scratch::new(RAW);
    scratch.deploy("step", &Guest::pass(1));
    let host = Running::start(&scratch.config(), COMPILER);
    let second = scratch.deploy("step", &Guest::obey(0));
    wait_until("the second version is live", || runs(host.address()) == second);
    host.crash();
    // Live since 1970.
    let note = scratch.path("data/plugins/versions-step.json");
    let mut control: Value = serde_json::from_slice(&std::fs::read(&note).unwrap()).unwrap();
    control["live"][1]["since_ms"] = 0.into();
    std::fs::write(&note, control.to_string()).unwrap();
    let host = Running::start(&scratch.config(), COMPILER);
    let fail: Vec<String> = (0..2_000).map(|n| format!("f{n}")).collect();
    host.push("events", &fail.join("\n"));
    wait_until("the stream pauses", || host.state("events")["paused"].is_string());
    assert_eq!(versions(host.address())["demoted"], serde_json::json!([]));
    assert_eq!(runs(host.address()), second);
    // A human knows better.
    done(&post(host.address(), "step/rollback", ""));
    wait_until("everything passes", || passed(host.address()) == 2_000);
    assert!(host.state("events")["paused"].is_null());
    host.drain();
}

#[test]
fn wrong_requests_say_what_would_be_right_and_change_nothing() {
    let scratch = Scratch::new(STAMPED);
    let first = scratch.deploy("step", &Guest::stamp('1'));
    let other = scratch.deploy("other", &Guest::pass(7));
    let host = Running::start(&scratch.config(), COMPILER);
    let to = host.address();
    scratch.deploy("step", &Guest::unconfigurable());
    let unfit = wasmill_transform::Digest::of(&Guest::unconfigurable().wasm()).to_string();
    wait_until("the unwilling version is refused", || host.stats("events").reloads_refused.get() == 1);
    let nowhere = format!("sha256:{}", "ab".repeat(32));
    for (path, body, status, code, says) in [
        ("stepp/pin", String::new(), 404, "no_plugin", "did you mean \"step\"?"),
        ("step/pin", named(&nowhere), 404, "no_version", &*first),
        ("step/promote", named(&nowhere), 404, "no_version", &*first),
        ("step/promote", named(&other), 422, "refused", "is a version of plugin \"other\""),
        ("step/promote", named(&unfit), 422, "refused", "I have had none"),
        ("step/promote", String::new(), 404, "no_shadow", "no shadow"),
        ("step/rollback", String::new(), 409, "no_version_before", "no version of step was live before"),
        ("step/pin", named("latest"), 400, "bad_query", "64 hexadecimal digits"),
    ] {
        let answer = post(to, path, &body);
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (status, Some(code)),
            "{}",
            answer.body
        );
        assert!(
            answer.body.contains(says.trim_matches('"'))
                || answer.json()["error"]["message"].as_str().unwrap().contains(says),
            "{}",
            answer.body
        );
    }
    assert_eq!(versions(to)["pinned"], Value::Null);
    assert_eq!(runs(to), first);
    // Nobody uses it, and it is pinned all the same, for the stream to come.
    let pinned = done(&post(to, "other/pin", ""));
    assert_eq!(pinned["pinned"], other, "{pinned}");
    assert!(pinned["message"].as_str().unwrap().contains("no stream follows it"), "{pinned}");
    host.drain();
}
