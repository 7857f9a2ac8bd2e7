//! Programs and plugins of other systems, as their own toolchains and SDKs built them, in the real binary.
//!
//! The modules are those that `cargo xtask plugins --guests` builds of `tests/guests`.

use std::path::PathBuf;
use std::process::Command;

use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

/// The built modules; nothing, with the reason said, when it is not set where they are.
fn guests() -> Option<PathBuf> {
    let guests = std::env::var_os("WASMILL_GUESTS").map(PathBuf::from);
    if guests.is_none() {
        println!("skipped: WASMILL_GUESTS is not set; `cargo xtask test` sets it");
    }
    guests
}

fn module(guests: &std::path::Path, name: &str) -> Vec<u8> {
    let file = guests.join(format!("{name}.wasm"));
    std::fs::read(&file).unwrap_or_else(|error| {
        panic!("{}: {error}; `cargo xtask plugins --guests` builds it", file.display())
    })
}

/// A stream `s` of this one plugin, with two outputs.
fn config(plugin: &str, config: &str) -> String {
    format!(
        r#"
        [streams.s]
        source = {{ type = "http" }}
        max_failed_percent = 100
        transforms = [{{ plugin = "{plugin}", config = {{ {config} }} }}]
        [[streams.s.outputs]]
        name = "main"
        type = "directory"
        path = "out"
        format = "raw"
        compression = "none"
        interval = "0s"
        [[streams.s.outputs]]
        name = "side"
        type = "directory"
        path = "side"
        format = "raw"
        compression = "none"
        interval = "0s"
        "#
    )
}

struct Ran {
    main: Vec<String>,
    side: Vec<String>,
    /// Payload and reason of each dead letter.
    letters: Vec<(String, String)>,
    log: String,
    /// What `GET /v1/plugins` calls the ABI.
    door: String,
}

/// Takes records through the real binary; every one must have its verdict at the end.
fn run(plugin: &str, settings: &str, records: &[&str]) -> Option<Ran> {
    let (Some(binary), Some(guests)) = (binary(), guests()) else { return None };
    let scratch = Scratch::new(&config(plugin, settings));
    scratch.deploy_bytes(plugin, &module(&guests, plugin));
    let program = Program::start(&binary, &scratch.config());
    let answer = wasmill_tests::client::push(program.address(), "s", &records.join("\n")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let state = || {
        let all = wasmill_tests::client::get(program.address(), "/v1/streams").unwrap().json();
        all.as_array().unwrap().iter().find(|state| state["name"] == "s").unwrap().clone()
    };
    let count = |name: &str| state()[name].as_u64().unwrap_or_default();
    let expected = u64::try_from(records.len()).unwrap();
    wait_until("all records have their verdicts", || {
        count("passed") + count("dropped") + count("failed") == expected
    });
    let plugins = wasmill_tests::client::get(program.address(), "/v1/plugins").unwrap().json();
    let found = plugins.as_array().or_else(|| plugins["plugins"].as_array()).unwrap();
    let door = found.iter().find(|state| state["name"] == plugin).unwrap()["door"].clone();
    let log = program.log().join("\n");
    program.stop();
    let letters = scratch.letters("s").into_iter().map(|letter| {
        let text = |key: &str| letter[key].as_str().unwrap_or_default().to_owned();
        (text("payload"), text("reason"))
    });
    Some(Ran {
        main: objects::lines(&scratch.path("out")),
        side: objects::lines(&scratch.path("side")),
        letters: letters.collect(),
        log,
        door: door.as_str().unwrap_or_default().to_owned(),
    })
}

#[test]
fn plain_program_of_an_ordinary_toolchain_is_a_plugin_as_it_is() {
    let records = ["one", "drop this", "twice over", "two", "exit now", "three"];
    let Some(ran) = run("command", "", &records) else { return };
    assert_eq!(ran.door, "wasi-command");
    assert_eq!(ran.main, ["ONE", "TWO", "THREE"]);
    let payloads: Vec<_> = ran.letters.iter().map(|(payload, _)| payload.as_str()).collect();
    assert_eq!(payloads, ["twice over", "exit now"]);
    assert!(ran.letters[0].1.contains("wrote 2 lines for 1 record"), "{:?}", ran.letters);
    assert_eq!(ran.letters[1].1, "exit code 7: asked to exit");
    assert!(ran.log.contains("asked to exit"));
}

#[test]
fn plain_program_with_free_mapping_makes_rows_of_its_own() {
    let Some(ran) = run("command", r#"mapping = "free""#, &["one", "drop this", "twice over"]) else {
        return;
    };
    assert_eq!(ran.main, ["ONE", "twice over", "twice over"]);
    assert!(ran.letters.is_empty());
}

#[test]
fn smartmodules_of_fluvio_run_unmodified() {
    let records = ["keep 1", "other", "keep bad", "keep 2", "panic", "keep 3"];
    let Some(filter) = run("fluvio-filter", r#"params = { keep = "keep" }"#, &records) else { return };
    assert_eq!(filter.door, "fluvio-filter");
    assert_eq!(filter.main, ["keep 1", "keep 2", "keep 3"]);
    assert_eq!(filter.letters.len(), 2, "{:?}", filter.letters);
    assert_eq!(filter.letters[0].0, "keep bad");
    assert!(filter.letters[0].1.starts_with("a bad record at offset 2"), "{:?}", filter.letters);
    assert_eq!(filter.letters[1].0, "panic");

    let map = run("fluvio-map", "", &["one", "two"]).unwrap();
    assert_eq!(map.door, "fluvio-map");
    for (line, word) in map.main.iter().zip(["ONE", "TWO"]) {
        let (key, rest) = line.split_once(' ').unwrap();
        let (time, value) = rest.split_once(' ').unwrap();
        assert_eq!((key, value), ("-", word));
        assert!(time.parse::<u64>().unwrap() > 1_600_000_000_000, "{line}");
    }
    assert_eq!(map.main.len(), 2);

    let filter_map = run("fluvio-filter-map", "", &["4", "5", "six", "8"]).unwrap();
    assert_eq!(filter_map.main, ["2", "4"]);
    assert!(filter_map.letters[0].1.contains("invalid digit"), "{:?}", filter_map.letters);

    let array_map = run("fluvio-array-map", "", &["a b", "bad c", "d"]).unwrap();
    assert_eq!(array_map.main, ["a", "b", "d"]);
    assert_eq!(array_map.letters.len(), 1);
    assert!(array_map.letters[0].1.starts_with("a bad record"), "{:?}", array_map.letters);
}

#[test]
fn smartmodule_that_refuses_its_params_or_aggregates_is_told_before_anything_runs() {
    let (Some(binary), Some(guests)) = (binary(), guests()) else { return };
    for (plugin, reason) in [
        ("fluvio-filter", "the parameter `keep` is missing"),
        ("fluvio-aggregate", "no keyed state to keep it in yet"),
    ] {
        let scratch = Scratch::new(&config(plugin, ""));
        scratch.deploy_bytes(plugin, &module(&guests, plugin));
        let output = Command::new(&binary).arg("check").arg(scratch.config()).output().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success() && said.contains(reason), "{said}");
    }
}

#[test]
fn data_transform_of_redpanda_runs_unmodified() {
    let records = [
        "plain",
        "drop",
        "twice x",
        "to side",
        "to nowhere",
        "error",
        "panic",
        "key",
        "time",
        "loop",
        "last",
    ];
    let Some(ran) = run("redpanda", r#"env = { UNIT = "K" }"#, &records) else { return };
    assert_eq!(ran.door, "redpanda-transform-2");
    assert_eq!(ran.main, ["plain", "twice x", "twice x", "key", "the record's time K", "last"]);
    assert_eq!(ran.side, ["to side"]);
    let payloads: Vec<_> = ran.letters.iter().map(|(payload, _)| payload.as_str()).collect();
    assert_eq!(payloads, ["to nowhere", "error", "panic", "loop"]);
    let reasons: Vec<_> = ran.letters.iter().map(|(_, reason)| reason.as_str()).collect();
    assert!(reasons[0].contains("topic `nowhere`") && reasons[0].contains("`main`, `side`"), "{reasons:?}");
    assert!(reasons[1].contains("no error, please"), "{reasons:?}");
    assert!(reasons[2].contains("as asked"), "{reasons:?}");
    assert!(reasons[3].starts_with("deadline: "), "{reasons:?}");
    assert!(ran.log.contains("transform of redpanda"));
}

#[test]
fn data_transform_for_the_first_abi_runs_and_is_told_what_a_record_is() {
    let records =
        ["plain", "drop", "twice x", "key", "null", "headers", "time", "panic", "exit", "loop", "last"];
    let Some(ran) = run("redpanda-1", "", &records) else { return };
    assert_eq!(ran.door, "redpanda-transform-1");
    // Headers are not kept, and a record without a value is an empty one.
    assert_eq!(ran.main, ["plain", "twice x", "twice x", "key", "", "headers", "the record's time", "last"]);
    let payloads: Vec<_> = ran.letters.iter().map(|(payload, _)| payload.as_str()).collect();
    assert_eq!(payloads, ["panic", "exit", "loop"]);
    let reasons: Vec<_> = ran.letters.iter().map(|(_, reason)| reason.as_str()).collect();
    assert!(reasons[0].contains("as asked"), "{reasons:?}");
    assert!(reasons[1].contains("called exit(0)"), "{reasons:?}");
    assert!(reasons[2].starts_with("deadline: "), "{reasons:?}");
    assert!(ran.log.contains("transform of redpanda-1"));

    let told = run("redpanda-1", "", &["told", "told"]).unwrap();
    let line = |offset| format!("key \"\", offset {offset}, (0, 0, 0, 0), (-1, -1, -1)");
    assert_eq!(told.main, [line(0), line(1)], "{:?}", told.letters);
}

#[test]
fn filter_of_fluent_bit_runs_unmodified_as_json_and_as_msgpack() {
    let records = [r#"{"a":1}"#, r#"{"drop":1}"#, r#"{"panic":1}"#, "no object", r#"{"b":"ü"}"#];
    let Some(ran) = run("fluent-bit", r#"tag = "app""#, &records) else { return };
    assert_eq!(ran.door, "fluent-bit-filter");
    assert_eq!(ran.main, [r#"{"tag":"app","timed":true,"a":1}"#, r#"{"tag":"app","timed":true,"b":"ü"}"#]);
    let payloads: Vec<_> = ran.letters.iter().map(|(payload, _)| payload.as_str()).collect();
    assert_eq!(payloads, [r#"{"panic":1}"#, "no object"]);
    assert!(ran.letters[0].1.starts_with("trap: "), "{:?}", ran.letters);

    let ran = run("fluent-bit-msgpack", r#"format = "msgpack", function = "stamp""#, &records).unwrap();
    assert_eq!(ran.main, [r#"{"stamped":true,"a":1}"#, r#"{"stamped":true,"b":"ü"}"#]);
    assert_eq!(ran.letters.len(), 2, "{:?}", ran.letters);
}

#[test]
fn sidecar_limits_what_came_through_a_door() {
    let (Some(binary), Some(guests)) = (binary(), guests()) else { return };
    let scratch = Scratch::new(&config("redpanda", ""));
    scratch.deploy_bytes("redpanda", &module(&guests, "redpanda"));
    std::fs::write(scratch.plugins().join("redpanda.json"), r#"{"limits": {"deadline_ms": 60}}"#).unwrap();
    let program = Program::start(&binary, &scratch.config());
    wasmill_tests::client::push(program.address(), "s", "loop").unwrap();
    wait_until("the loop is ended", || !scratch.letters("s").is_empty());
    program.stop();
    let reason = scratch.letters("s")[0]["reason"].as_str().unwrap().to_owned();
    assert_eq!(reason, "deadline: used more than 60ms of CPU time");
}

#[test]
fn plugin_test_and_inspect_take_what_needs_no_project() {
    let (Some(binary), Some(guests)) = (binary(), guests()) else { return };
    let file = guests.join("command.wasm");
    let dir = tempfile::tempdir().unwrap();
    let case = dir.path().join("cases/upper");
    std::fs::create_dir_all(&case).unwrap();
    std::fs::write(case.join("config.json"), "{}").unwrap();
    std::fs::write(case.join("input.txt"), "one\ndrop\nexit\ntwo\n").unwrap();
    std::fs::write(case.join("expected.ndjson"), "ONE\nTWO\n").unwrap();
    let letters = r#"{"offset":2,"reason":"exit code 7: asked to exit"}"#;
    std::fs::write(case.join("dead-letters.ndjson"), format!("{letters}\n")).unwrap();
    let run = |expected: bool, arguments: &[&str]| {
        let output = Command::new(&binary).arg("plugin").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), expected, "{said}{stderr}");
        said
    };
    let (file, dir) = (file.to_str().unwrap(), dir.path().to_str().unwrap());
    assert!(run(true, &["test", "--component", file, dir]).contains("1 case, 0 failed"));
    std::fs::write(case.join("expected.ndjson"), "ONE\nTHREE\n").unwrap();
    assert!(run(false, &["test", "--component", file, dir]).contains("THREE"));
    assert!(run(true, &["inspect", file]).contains("wasi-command"));
    let json: serde_json::Value = serde_json::from_str(&run(true, &["inspect", "--json", file])).unwrap();
    assert_eq!((json["door"].as_str(), json["kind"].as_str()), (Some("wasi-command"), Some("door")));
}
