//! Streams that are made over HTTP, with the real binary: they last, two clients do not overwrite one another, nothing is
//! lost by a change, and nobody reaches what the policy does not list.

use std::net::SocketAddr;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use wasmill_tests::client::{self, Answer};
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::{wait_for, wait_until};

const HOST: &str = r#"
    [policy]
    directories = ["out"]
    http = ["127.0.0.1:9"]
    secrets = { token = { file = "token" } }
    [streams.filed]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "filed" }]
"#;

fn scratch(config: &str) -> Scratch {
    let scratch = Scratch::new(config);
    std::fs::write(scratch.path("token"), "sesame\n").unwrap();
    scratch
}

fn to(path: &str) -> Value {
    json!({
        "source": {"type": "http"},
        "outputs": [{"type": "directory", "path": path, "format": "ndjson", "interval": "0s"}],
    })
}

/// A stream that never delivers: nobody listens there.
fn nowhere() -> Value {
    json!({
        "source": {"type": "http"},
        "outputs": [{"type": "http", "url": "http://127.0.0.1:9/", "interval": "0s", "headers": {"a": {"secret": "token"}}}],
    })
}

fn ask(at: SocketAddr, method: &str, path: &str, condition: &str, body: &Value) -> Answer {
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    let mut headers = vec!["content-type: application/json"];
    headers.extend((!condition.is_empty()).then_some(condition));
    client::request(at, method, path, &headers, &body).unwrap()
}

fn put(at: SocketAddr, name: &str, condition: &str, body: &Value) -> Answer {
    ask(at, "PUT", &format!("/v1/streams/{name}"), condition, body)
}

fn delete(at: SocketAddr, path: &str) -> Answer {
    ask(at, "DELETE", &format!("/v1/streams/{path}"), "", &Value::Null)
}

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

fn push(at: SocketAddr, stream: &str, record: &str) {
    // While it changes it says so, and it comes again.
    wait_until("the push is taken", || {
        let answer = client::push(at, stream, record).unwrap();
        assert!(answer.status == 200 || code(&answer) == "changing", "{answer:?}");
        answer.status == 200
    });
}

fn lines_in(scratch: &Scratch, path: &str, count: usize) -> Vec<String> {
    wait_for(&format!("{count} records in {path}"), || {
        let lines = objects::lines(&scratch.path(path));
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn stream_that_was_made_over_http_is_there_after_a_kill_with_everything_that_was_acknowledged() {
    let Some(binary) = binary() else { return };
    let scratch = scratch(HOST);
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    let made = put(at, "events", "", &to("out/one"));
    assert_eq!((made.status, made.header("etag")), (201, Some("\"1\"")), "{made:?}");
    push(at, "events", "{\"n\":1}");
    lines_in(&scratch, "out/one", 1);
    let stuck = put(at, "stuck", "if-none-match: *", &nowhere());
    assert_eq!(stuck.status, 201, "{stuck:?}");
    push(at, "stuck", "{\"n\":1}");
    program.kill();

    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    push(at, "events", "{\"n\":2}");
    assert_eq!(lines_in(&scratch, "out/one", 2), ["{\"n\":1}", "{\"n\":2}"]);
    let shown = wait_for("the streams have started", || {
        let shown = client::get(at, "/v1/streams/stuck").unwrap();
        (shown.json()["state"] == "running").then_some(shown)
    });
    assert_eq!((shown.header("etag"), &shown.json()["owner"]), (Some("\"1\""), &json!("api")));
    assert!(!shown.body.contains("sesame"), "{}", shown.body);
    // What is not delivered holds up its removal, unless it is to go.
    let refused = delete(at, "stuck?within=1s");
    assert_eq!((refused.status, code(&refused).as_str()), (409, "not_drained"), "{refused:?}");
    let listed = client::get(at, "/v1/streams").unwrap().json();
    assert!(listed.to_string().contains("\"pending\":1"), "it goes on as it was: {listed}");
    assert_eq!(delete(at, "stuck?force=true").status, 200);
    assert_eq!(client::get(at, "/v1/streams/stuck").unwrap().status, 404);
    assert_eq!(client::push(at, "stuck", "{}").unwrap().status, 404);
    let tombstone = std::fs::read_to_string(scratch.path("data/control/streams/default/stuck.json")).unwrap();
    assert!(tombstone.contains("\"forced\":true") && tombstone.contains("\"undelivered\":1"), "{tombstone}");
    // The next one of the name has nothing of it, and counts on.
    let again = put(at, "stuck", "", &to("out/again"));
    assert_eq!(again.header("etag"), Some("\"3\""), "{again:?}");
    push(at, "stuck", "{\"n\":9}");
    assert_eq!(lines_in(&scratch, "out/again", 1), ["{\"n\":9}"]);
    program.stop();
}

#[test]
fn change_needs_the_version_that_was_seen_and_one_of_two_wins() {
    let Some(binary) = binary() else { return };
    let scratch = scratch(HOST);
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    assert_eq!(put(at, "events", "", &to("out/0")).status, 201);
    push(at, "events", "{\"n\":0}");
    let unsaid = put(at, "events", "", &to("out/1"));
    assert_eq!((unsaid.status, code(&unsaid).as_str()), (428, "condition_needed"), "{unsaid:?}");
    assert_eq!(put(at, "events", "if-none-match: *", &to("out/1")).status, 412);
    assert_eq!(put(at, "events", "if-match: \"7\"", &to("out/1")).status, 412);
    let tried = ask(at, "PUT", "/v1/streams/events?dry_run=true", "if-match: \"1\"", &to("out/1"));
    assert_eq!((tried.status, &tried.json()["would"]), (200, &json!("replace")), "{tried:?}");
    for round in 1..=5 {
        let condition = format!("if-match: \"{round}\"");
        let one = |path: String| {
            let condition = condition.clone();
            std::thread::spawn(move || put(at, "events", &condition, &to(&path)).status)
        };
        let (a, b) = (one(format!("out/{round}")), one(format!("out/{round}x")));
        let mut both = [a.join().unwrap(), b.join().unwrap()];
        both.sort_unstable();
        assert_eq!(both, [200, 412], "round {round}");
        push(at, "events", &format!("{{\"n\":{round}}}"));
    }
    let versions = client::get(at, "/v1/streams/events/versions").unwrap().json();
    assert_eq!(versions["versions"].as_array().unwrap().len(), 6, "{versions}");
    let first = client::get(at, "/v1/streams/events?version=1").unwrap().json();
    assert_eq!(first["definition"]["outputs"][0]["path"], "out/0", "{first}");
    let same = put(at, "events", "if-match: *", &first["definition"]);
    assert_eq!(same.header("etag"), Some("\"7\""), "{same:?}");
    let unchanged = put(at, "events", "if-match: *", &first["definition"]);
    assert_eq!(unchanged.header("etag"), Some("\"7\""), "nothing changed: {unchanged:?}");
    program.stop();
    let mut all = objects::lines(&scratch.out());
    all.sort();
    assert_eq!(all, (0..=5).map(|n| format!("{{\"n\":{n}}}")).collect::<Vec<_>>(), "each once");
}

#[test]
fn nobody_reaches_what_the_policy_does_not_list() {
    let Some(binary) = binary() else { return };
    let scratch = scratch(HOST);
    std::fs::create_dir_all(scratch.path("out")).unwrap();
    std::fs::create_dir_all(scratch.path("outside")).unwrap();
    std::os::unix::fs::symlink(scratch.path("outside"), scratch.path("out/link")).unwrap();
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    let output = |output: Value| json!({"source": {"type": "http"}, "outputs": [output]});
    let post = |url: &str| output(json!({"type": "http", "url": url}));
    for (definition, key) in [
        (to("outside"), "outputs[0].path"),
        (to("out/../outside"), "outputs[0].path"),
        (to("out/link/x"), "outputs[0].path"),
        (to("/etc"), "outputs[0].path"),
        (to("data/x"), "outputs[0].path"),
        (output(json!({"type": "stdout"})), "outputs[0].type"),
        (output(json!({"type": "s3", "bucket": "any"})), "outputs[0].bucket"),
        (post("http://127.0.0.1:10/"), "outputs[0].url"),
        (post("http://localhost:9/"), "outputs[0].url"),
        (post("http://[::1]:9/"), "outputs[0].url"),
        (post("http://169.254.169.254/latest/meta-data/"), "outputs[0].url"),
        (post("file:///etc/passwd"), "outputs[0].url"),
        (
            output(json!({"type": "http", "url": "http://127.0.0.1:9/", "headers": {"a": {"env": "HOME"}}})),
            "outputs[0].headers.a",
        ),
        (
            json!({"source": {"type": "file", "paths": ["/etc/passwd"]}, "outputs": to("out")["outputs"]}),
            "source.type",
        ),
        (
            json!({"source": {"type": "tcp", "listen": "127.0.0.1:0"}, "outputs": to("out")["outputs"]}),
            "source.listen",
        ),
        (json!({"sauce": {"type": "http"}, "outputs": to("out")["outputs"]}), "sauce"),
    ] {
        let refused = put(at, "events", "", &definition);
        let problems = &refused.json()["error"]["problems"];
        assert_eq!((refused.status, code(&refused).as_str()), (422, "bad_definition"), "{definition}");
        let named = problems.as_array().unwrap().iter().any(|problem| problem["key"] == key);
        assert!(named && !refused.body.contains("sesame"), "{definition}: {problems}");
    }
    for name in [".a", "-a", "..", "%2e%2e"] {
        let refused = put(at, name, "", &to("out"));
        assert!([404, 422].contains(&refused.status), "{name}: {refused:?}");
    }
    assert_eq!(client::get(at, "/v1/streams/events").unwrap().status, 404);
    assert_eq!(std::fs::read_dir(scratch.path("outside")).unwrap().count(), 0);
    // The file's streams are the file's.
    for refused in [put(at, "filed", "if-match: *", &to("out")), delete(at, "filed?force=true")] {
        assert_eq!((refused.status, code(&refused).as_str()), (409, "owned_by_file"), "{refused:?}");
    }
    let filed = client::get(at, "/v1/streams/filed").unwrap();
    assert_eq!((filed.header("etag"), &filed.json()["owner"]), (None, &json!("file")));
    assert_eq!(filed.json()["definition"]["outputs"][0]["path"], "filed");
    program.stop();
}

#[test]
fn stream_that_cannot_start_does_not_keep_the_host_from_starting_and_starts_when_its_plugin_comes() {
    let Some(binary) = binary() else { return };
    let scratch = scratch(HOST);
    scratch.deploy("pass", &Guest::pass(1));
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    let mut definition = to("out");
    definition["transforms"] = json!([{"plugin": "pass"}]);
    let made = put(at, "events", "", &definition);
    assert_eq!(made.status, 201, "{made:?}");
    definition["transforms"] = json!([{"plugin": "pas"}]);
    let missing = put(at, "events", "if-match: *", &definition);
    let problem = &missing.json()["error"]["problems"][0];
    assert_eq!(problem["key"], "transforms[0].plugin", "{missing:?}");
    program.stop();
    // Everything that is known of the plugin goes.
    std::fs::remove_file(scratch.plugins().join("pass.wasm")).unwrap();
    for kept in ["plugins", "code"] {
        std::fs::remove_dir_all(scratch.path("data").join(kept)).unwrap();
    }
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    let shown = wait_for("the stream has failed", || {
        let shown = client::get(at, "/v1/streams/events").unwrap().json();
        (shown["state"] == "failed").then_some(shown)
    });
    assert!(shown["reason"].as_str().unwrap().contains("pass"), "{shown}");
    let refused = client::push(at, "events", "{}").unwrap();
    assert_eq!((refused.status, code(&refused).as_str()), (503, "not_running"), "{refused:?}");
    assert_eq!(client::get(at, "/readyz").unwrap().status, 200);
    scratch.deploy("pass", &Guest::pass(1));
    wait_until("the stream runs", || client::push(at, "events", "{\"n\":1}").unwrap().status == 200);
    lines_in(&scratch, "out", 1);
    program.stop();
}

#[test]
fn stream_of_the_file_with_the_name_of_another_is_not_started_and_the_other_goes_on() {
    let Some(binary) = binary() else { return };
    let scratch = scratch(HOST);
    let program = Program::start(&binary, &scratch.config());
    assert_eq!(put(program.address(), "events", "", &to("out")).status, 201);
    program.kill();
    scratch.configure(&format!(
        "{HOST}[streams.events]\nsource = {{ type = \"http\" }}\noutputs = [{{ type = \"directory\", path = \"stolen\" }}]\n"
    ));
    let mut program = Program::start(&binary, &scratch.config());
    let at = program.address();
    program.wait_for_log("was made over HTTP before");
    push(at, "events", "{\"n\":1}");
    lines_in(&scratch, "out", 1);
    assert!(!Path::new(&scratch.path("stolen")).exists());
    assert_eq!(delete(at, "events").status, 200);
    assert!(program.insist(Signal::TERM).success());
}

#[test]
fn change_right_after_a_restart_delivers_first_what_was_stored() {
    let Some(binary) = binary() else { return };
    let scratch = scratch(HOST);
    let program = Program::start(&binary, &scratch.config());
    // So many that the last ones wait for their turn when the host starts.
    for n in 0..30 {
        let made = put(program.address(), &format!("a{n:02}"), "", &to(&format!("out/a{n:02}")));
        assert_eq!(made.status, 201, "{made:?}");
    }
    for name in ["y", "z"] {
        let mut definition = to(&format!("out/{name}"));
        definition["outputs"][0]["interval"] = json!("1h");
        assert_eq!(put(program.address(), name, "", &definition).status, 201);
        push(program.address(), name, "{\"n\":1}");
    }
    program.kill();
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    let changed = put(at, "z", "if-match: \"1\"", &to("out/new"));
    assert_eq!(changed.status, 200, "{changed:?}");
    let removed = delete(at, "y");
    assert_eq!(removed.status, 200, "{removed:?}");
    for name in ["y", "z"] {
        assert_eq!(lines_in(&scratch, &format!("out/{name}"), 1), ["{\"n\":1}"]);
    }
    push(at, "z", "{\"n\":2}");
    assert_eq!(lines_in(&scratch, "out/new", 1), ["{\"n\":2}"], "what came before is where it belongs");
    program.stop();
}

#[test]
fn stream_that_is_removed_by_force_leaves_nothing_staged_in_its_destination() {
    let Some(binary) = binary() else { return };
    let scratch = scratch(HOST);
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    let staging = scratch.path("out/one/.wasmill-staging");
    let staged = || std::fs::read_dir(&staging).unwrap().count();
    // Where its objects are to go there is a file in the way of the directory.
    std::fs::create_dir_all(scratch.path("out/one")).unwrap();
    std::fs::write(scratch.path("out/one/sub"), "in the way").unwrap();
    let definition = json!({
        "source": {"type": "http"},
        "outputs": [{
            "type": "directory", "path": "out/one", "object": "sub/{batch}", "format": "ndjson",
            "compression": "none", "interval": "0s",
        }],
    });
    assert_eq!(put(at, "stuck", "", &definition).status, 201);
    // So large that it is in a file of its own, and not in its outcome.
    let record = format!("{{\"text\":\"{}\"}}\n", "y".repeat(1000));
    push(at, "stuck", &record.repeat(400));
    wait_until("an object is staged", || staged() == 1);
    // What somebody else stages there is not its own.
    let other = format!("{}-00000001-37a8eec1-{}-{}", "7f".repeat(16), "0".repeat(20), "0".repeat(20));
    std::fs::write(staging.join(other), "").unwrap();
    assert_eq!(delete(at, "stuck?force=true&within=1s").status, 200);
    assert_eq!(staged(), 1, "bytes that nobody delivers any more");
    program.stop();
}
