//! Two tenants on one host, each with a stream of the same name: what a key may do ends at its tenant.

use std::process::Command;

use wasmill_tests::client::{self, push_as};
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::stand_in::{Says, StandIn};
use wasmill_tests::wait::{wait_for, wait_until};

const STREAMS: &str = r#"#whole
    [http]
    listen = "127.0.0.1:0"
    [buffer]
    journal_file = "1MiB"
    [http.auth]
    mode = "keys"
    [streams.events]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "ours", interval = "0s" }]
    [tenants.acme.streams.events]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "theirs", interval = "0s" }]
    [tenants.acme.streams.own]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "own", interval = "0s" }]
"#;

/// What the command prints, which must succeed.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn key_reaches_the_streams_of_its_tenant_and_no_others_also_after_a_kill() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(STREAMS);
    let operator = said(
        Command::new(&binary)
            .args(["key", "create", "--operator", "--name", "first", "--config"])
            .arg(scratch.config()),
    );
    let mut program = Program::start(&binary, &scratch.config());
    let host = format!("http://{}", program.address());
    let make = |tenant: &str, scope: &str| {
        let mut command = Command::new(&binary);
        command
            .args(["key", "create", "--name", "test", "--scope", scope, "--tenant", tenant, "--host", &host]);
        said(command.env("WASMILL_KEY", &operator))
    };
    let (ours, theirs) = (make("default", "push"), make("acme", "push"));
    let push = |program: &Program, stream: &str, key: &str, body: &str| {
        let key = format!("authorization: Bearer {key}");
        let headers = ["content-type: application/x-ndjson", key.as_str()];
        push_as(program.address(), stream, &headers, body.as_bytes()).unwrap()
    };
    assert_eq!(push(&program, "events", "nothing", "{}").status, 401);
    let first = push(&program, "events", &ours, "{\"n\":1}\n{\"n\":2}");
    assert_eq!((first.status, first.json()["first_offset"].as_u64()), (200, Some(0)), "{}", first.body);
    let first = push(&program, "events", &theirs, "{\"n\":3}");
    assert_eq!((first.status, first.json()["first_offset"].as_u64()), (200, Some(0)), "{}", first.body);
    // What belongs to another tenant is not there, whatever it is asked for.
    let missing = push(&program, "nowhere", &ours, "{}");
    let foreign = push(&program, "own", &ours, "{}");
    assert_eq!((missing.status, foreign.status), (404, 404));
    assert_eq!(foreign.body.replace("own", "nowhere"), missing.body);

    // Its admin may replay beside its objects, and not into whatever directory of the host.
    let admin = format!("authorization: Bearer {}", make("acme", "admin"));
    let outside = scratch.path("outside");
    let plan = format!("{{\"from\":\"1h\",\"to\":\"now\",\"output\":{outside:?}}}");
    let headers = ["content-type: application/json", admin.as_str()];
    let replay =
        client::request(program.address(), "POST", "/v1/streams/events/replays", &headers, plan.as_bytes())
            .unwrap();
    assert_eq!((replay.status, outside.exists()), (403, false), "{}", replay.body);

    program = {
        program.kill();
        Program::start(&binary, &scratch.config())
    };
    assert_eq!(push(&program, "own", &theirs, "{\"n\":4}").status, 200);
    let read = |dir: &str| {
        let mut numbers = objects::numbers(&scratch.path(dir), "n");
        numbers.sort_unstable();
        numbers
    };
    wait_until("everything is delivered", || {
        read("ours").len() == 2 && read("theirs").len() == 1 && read("own").len() == 1
    });
    assert_eq!((read("ours"), read("theirs"), read("own")), (vec![1, 2], vec![3], vec![4]));
    program.stop();
}

const BARE: &str = r#"#whole
    [http]
    listen = "127.0.0.1:0"
    auth = { mode = "keys" }
    [buffer]
    journal_file = "1MiB"
    [streams.idle]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "idle" }]
"#;
const TEAM: &str = r#"
    [tenants.team.policy]
    directories = ["out"]
"#;
/// Delivers, and keeps both history and what does not fit.
const SECRET: &str = r#"
    [tenants.team.streams.s]
    source = { type = "http" }
    max_failed_percent = 100
    retention = { age = "1h", size = "1MiB" }
    outputs = [{ type = "directory", path = "secret", interval = "0s" }]
"#;
/// Nobody listens there.
const STUCK: &str = r#"
    [tenants.team.streams.stuck]
    source = { type = "http" }
    outputs = [{ type = "http", url = "http://127.0.0.1:9/", interval = "0s" }]
"#;

#[test]
fn next_tenant_of_a_name_has_nothing_of_the_streams_that_another_one_had_in_the_file() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(&format!("{BARE}{TEAM}{SECRET}{STUCK}"));
    let operator = said(
        Command::new(&binary)
            .args(["key", "create", "--operator", "--name", "first", "--config"])
            .arg(scratch.config()),
    );
    let operator = format!("authorization: Bearer {operator}");
    let ask = |program: &Program, method: &str, path: &str, kind: &str, body: &str| {
        let (kind, acting) = (format!("content-type: {kind}"), "wasmill-tenant: team");
        let headers = match path.starts_with("/v1/streams") {
            true => vec![operator.as_str(), &kind, acting],
            false => vec![operator.as_str(), &kind],
        };
        client::request(program.address(), method, path, &headers, body.as_bytes()).unwrap()
    };
    let json = "application/json";
    let push = |program: &Program, stream: &str, body: &str| {
        let path = format!("/v1/streams/{stream}/records");
        let answer = ask(program, "POST", &path, "application/x-ndjson", body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    let streams = |program: &Program| ask(program, "GET", "/v1/streams", json, "").json();
    let letters = |program: &Program| {
        let letters = ask(program, "GET", "/v1/streams/s/dead-letters", json, "");
        assert_eq!(letters.status, 200, "{}", letters.body);
        letters.json()
    };
    let retained = |program: &Program| {
        let told = streams(program);
        let told = told.as_array().unwrap().iter().find(|told| told["name"] == "s").unwrap();
        told["retained_bytes"].as_u64().unwrap()
    };
    let program = Program::start(&binary, &scratch.config());
    push(&program, "s", "{\"n\":1}\nmy password\n{\"n\":2}");
    push(&program, "stuck", "{\"n\":3}");
    wait_until("one is a letter, and the others are history", || {
        letters(&program)["count"] == 1 && retained(&program) > 0
    });
    assert!(letters(&program).to_string().contains("my password"));

    // `s` goes while the host runs, the other one while it does not, with a record that was not delivered.
    let applied = |program: &Program, text: &str, reloads: u64| {
        scratch.configure(text);
        wait_until("the file is applied", || {
            ask(program, "GET", "/v1/config", json, "").json()["reloads"] == reloads
        });
    };
    applied(&program, &format!("{BARE}{TEAM}{STUCK}"), 1);
    program.kill();
    scratch.configure(&format!("{BARE}{TEAM}"));
    // What a crash has left of a stream that nobody knows any more, beside what is nobody's to know.
    let foreign = format!("{}-00000001-37a8eec1-{}-{}", "7f".repeat(16), "0".repeat(20), "0".repeat(20));
    for name in [foreign.as_str(), "note"] {
        std::fs::write(scratch.path("data/spool").join(name), "bytes of theirs").unwrap();
    }
    let program = Program::start(&binary, &scratch.config());
    assert!(!scratch.path("data/spool").join(&foreign).exists(), "it stays for ever");
    std::fs::remove_file(scratch.path("data/spool/note")).unwrap();
    assert_eq!(streams(&program).as_array().unwrap().len(), 0);
    assert_eq!(ask(&program, "POST", "/v1/tenants/team/disable", json, "").status, 200);
    // It is the file's while that names it, also by force.
    let refused = ask(&program, "DELETE", "/v1/tenants/team?force=true", json, "");
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (409, Some("owned_by_file")));
    assert!(
        refused.body.contains("[tenants.team]") && refused.body.contains("wasmill.toml"),
        "{}",
        refused.body
    );
    let team = |program: &Program| {
        let told = ask(program, "GET", "/v1/tenants/team", json, "").json()["tenant"].clone();
        (told["owner"].as_str().unwrap().to_owned(), told["left_file"].as_bool().unwrap())
    };
    assert_eq!(team(&program), ("file".to_owned(), false));
    applied(&program, BARE, 1);
    assert_eq!(team(&program), ("api".to_owned(), true));
    let refused = ask(&program, "DELETE", "/v1/tenants/team", json, "");
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (409, Some("not_drained")));
    assert!(refused.body.contains("\\\"stuck\\\": 1 record"), "{}", refused.body);
    assert!(!refused.body.contains("\\\"s\\\""), "everything of it was delivered: {}", refused.body);
    assert!(scratch.path("data/dead-letters/team").exists(), "nothing is changed by a refusal");
    let wrong = ask(&program, "DELETE", "/v1/tenants/team?force=yes", json, "");
    assert_eq!(wrong.status, 400, "{}", wrong.body);
    let spooled = || std::fs::read_dir(scratch.path("data/spool")).unwrap().count();
    assert_eq!(spooled(), 1, "what waits for nobody");
    let deleted = ask(&program, "DELETE", "/v1/tenants/team?force=true", json, "");
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    assert_eq!(spooled(), 0, "it goes with its stream");
    // For whoever keeps it.
    let aside = std::fs::read_dir(scratch.path("data/dead-letters")).unwrap();
    let mut aside = aside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(aside.any(|name| name.starts_with("team@")));

    assert_eq!(ask(&program, "POST", "/v1/tenants", json, "{\"name\":\"team\"}").status, 201);
    assert_eq!(team(&program), ("api".to_owned(), false));
    applied(&program, &format!("{BARE}{TEAM}"), 2);
    for (name, path) in [("s", "out/s"), ("stuck", "out/stuck")] {
        let definition = serde_json::json!({
            "source": {"type": "http"}, "retention": {"age": "1h", "size": "1MiB"},
            "outputs": [{"type": "directory", "path": path, "interval": "0s"}],
        });
        let made = ask(&program, "PUT", &format!("/v1/streams/{name}"), json, &definition.to_string());
        assert_eq!(made.status, 201, "{}", made.body);
    }
    assert_eq!((letters(&program)["count"].as_u64(), retained(&program)), (Some(0), 0));
    for name in ["s", "stuck"] {
        assert_eq!(push(&program, name, "{\"n\":9}")["first_offset"], 0, "its journal begins anew");
    }
    wait_until("what is new is delivered", || {
        objects::numbers(&scratch.path("out/s"), "n") == [9]
            && objects::numbers(&scratch.path("out/stuck"), "n") == [9]
    });
    program.stop();
}

#[test]
fn stream_that_was_taken_out_of_the_file_and_cannot_deliver_goes_by_force_while_the_host_runs() {
    let Some(binary) = binary() else { return };
    let other = STUCK.replace("stuck", "other");
    let scratch = Scratch::new(&format!("{BARE}{TEAM}{STUCK}{other}"));
    let operator = said(
        Command::new(&binary)
            .args(["key", "create", "--operator", "--name", "first", "--config"])
            .arg(scratch.config()),
    );
    let bearer = format!("authorization: Bearer {operator}");
    let program = Program::start(&binary, &scratch.config());
    let ask = |method: &str, path: &str| {
        let headers = [bearer.as_str(), "content-type: application/x-ndjson", "wasmill-tenant: team"];
        let headers = if path.starts_with("/v1/streams") { &headers[..] } else { &headers[..2] };
        client::request(program.address(), method, path, headers, b"{\"n\":1}").unwrap()
    };
    for name in ["stuck", "other"] {
        assert_eq!(ask("POST", &format!("/v1/streams/{name}/records")).status, 200);
    }
    let names = || {
        let told = ask("GET", "/v1/streams").json();
        let told = told.as_array().unwrap().iter();
        told.map(|told| told["name"].as_str().unwrap().to_owned()).collect::<Vec<String>>()
    };
    scratch.configure(BARE);
    // It ends one after the other, for half a minute each, and neither is lost sight of meanwhile.
    let refused = wait_for("the first is being ended", || {
        let refused = ask("DELETE", "/v1/streams/other");
        refused.body.contains("was taken out of").then_some(refused)
    });
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (409, Some("owned_by_file")));
    assert_eq!(names().len(), 2, "{:?}", names());
    let deleted = ask("DELETE", "/v1/streams/other?force=true");
    assert_eq!((deleted.status, names()), (200, vec!["stuck".to_owned()]), "{}", deleted.body);

    let tenant = |words: &[&str]| {
        let host = format!("http://{}", program.address());
        let mut command = Command::new(&binary);
        command.arg("tenant").args(words).args(["--host", &host]).env("WASMILL_KEY", &operator);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (deleted, why) = tenant(&["delete", "team"]);
    assert!(!deleted && why.contains("\"stuck\"") && why.contains("--force"), "{why}");
    let (_, list) = tenant(&["list"]);
    assert!(
        list.contains("no longer in the file") && !list.contains("disabled"),
        "a refusal leaves it as it was: {list}"
    );
    let (disabled, line) = tenant(&["disable", "team"]);
    assert!(disabled && line.contains("disabled"), "{line}");
    let (enabled, line) = tenant(&["enable", "team"]);
    assert!(enabled && !line.contains("disabled"), "{line}");
    let (deleted, why) = tenant(&["delete", "team", "--force"]);
    assert!(deleted, "{why}");
    let (_, list) = tenant(&["list"]);
    assert!(!list.contains("team"), "{list}");
    program.stop();
}

#[test]
fn replays_of_one_tenant_that_do_not_end_hold_up_those_of_no_other() {
    let Some(binary) = binary() else { return };
    // Takes requests, and answers none.
    let silent = StandIn::start(|_, _| Says::Nothing);
    let scratch = Scratch::new(&format!(
        r#"#whole
        [http]
        listen = "127.0.0.1:0"
        auth = {{ mode = "keys" }}
        [buffer]
        journal_file = "1MiB"
        [streams.events]
        source = {{ type = "http" }}
        retention = {{ age = "1h", size = "1MiB" }}
        outputs = [{{ type = "http", url = "{}/", interval = "0s" }}]
        [tenants.acme.streams.events]
        source = {{ type = "http" }}
        retention = {{ age = "1h", size = "1MiB" }}
        outputs = [{{ type = "directory", path = "theirs", interval = "0s" }}]
        "#,
        silent.url()
    ));
    let operator = said(
        Command::new(&binary)
            .args(["key", "create", "--operator", "--name", "first", "--config"])
            .arg(scratch.config()),
    );
    let operator = format!("authorization: Bearer {operator}");
    let program = Program::start(&binary, &scratch.config());
    let ask = |tenant: &str, method: &str, path: &str, kind: &str, body: &str| {
        let (kind, acting) = (format!("content-type: {kind}"), format!("wasmill-tenant: {tenant}"));
        let path = format!("/v1/streams/events/{path}");
        client::request(program.address(), method, &path, &[&operator, &kind, &acting], body.as_bytes())
            .unwrap()
    };
    for tenant in ["default", "acme"] {
        let pushed = ask(tenant, "POST", "records", "application/x-ndjson", "{\"n\":1}");
        assert_eq!(pushed.status, 200, "{pushed:?}");
    }
    let start = |tenant: &str, id: u32| {
        let plan =
            format!("{{\"id\":\"{id:032x}\",\"from\":\"-1h\",\"to\":\"now\",\"destination\":\"default\"}}");
        ask(tenant, "POST", "replays", "application/json", &plan)
    };
    let asked = || silent.got().len();
    wait_until("what was pushed is on its way", || asked() == 1);
    for id in [1, 2] {
        let started = start("default", id);
        assert_eq!(started.status, 202, "{started:?}");
    }
    let busy = start("default", 3);
    assert_eq!((busy.status, busy.json()["error"]["code"].as_str()), (409, Some("busy")), "{busy:?}");
    // Under the same id as one that runs.
    for id in [1, 3] {
        let started = start("acme", id);
        assert_eq!(started.status, 202, "{started:?}");
        let path = format!("replays/{id:032x}");
        wait_until("the other tenant's has ended", || {
            ask("acme", "GET", &path, "application/json", "").json()["state"] == "done"
        });
    }
    let replayed = objects::numbers(&scratch.path("theirs/replays"), "n");
    assert_eq!(replayed, [1, 1]);
    let own = ask("default", "GET", "replays", "application/json", "").json();
    let states: Vec<_> = own["replays"].as_array().unwrap().iter().map(|replay| &replay["state"]).collect();
    assert_eq!(states, ["running", "running"]);
    program.kill();
}

#[test]
fn tenant_that_the_file_makes_has_nothing_of_one_whose_removal_a_crash_cut_short() {
    let Some(binary) = binary() else { return };
    for by_reload in [true, false] {
        let scratch = Scratch::new(BARE);
        let operator = said(
            Command::new(&binary)
                .args(["key", "create", "--operator", "--name", "first", "--config"])
                .arg(scratch.config()),
        );
        let operator = format!("authorization: Bearer {operator}");
        let ask = |program: &Program, method: &str, path: &str, kind: &str, body: &[u8]| {
            let kind = format!("content-type: {kind}");
            let headers = [operator.as_str(), &kind, "wasmill-tenant: team"];
            let tenants = path.starts_with("/v1/tenants") || path == "/v1/config";
            client::request(program.address(), method, path, &headers[..if tenants { 2 } else { 3 }], body)
                .unwrap()
        };
        let plugins = |program: &Program| {
            let told = ask(program, "GET", "/v1/plugins", "application/json", b"");
            told.json().as_array().unwrap().len()
        };
        let program = Program::start(&binary, &scratch.config());
        let made = ask(&program, "POST", "/v1/tenants", "application/json", b"{\"name\":\"team\"}");
        assert_eq!(made.status, 201, "{}", made.body);
        assert_eq!(
            ask(&program, "POST", "/v1/plugins?name=mine", "application/wasm", &Guest::pass(1).wasm()).status,
            201
        );
        assert_eq!(plugins(&program), 1);
        program.stop();
        // As a kill behind the removal of the tenant, and before that of its plugins, leaves it.
        std::fs::remove_file(scratch.path("data/control/tenants/team.json")).unwrap();
        assert!(
            scratch.path("data/tenants/team/plugins").exists() && scratch.path("data/usage/team").exists()
        );
        let named = format!("{BARE}{TEAM}");
        if !by_reload {
            scratch.configure(&named);
        }
        let program = Program::start(&binary, &scratch.config());
        if by_reload {
            scratch.configure(&named);
        }
        wait_until("the tenant is there", || {
            ask(&program, "GET", "/v1/tenants/team", "application/json", b"").status == 200
        });
        assert_eq!(plugins(&program), 0, "by a reload: {by_reload}");
        for of in ["tenants", "usage"] {
            let entries = std::fs::read_dir(scratch.path("data").join(of)).unwrap();
            let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            assert!(names.any(|name| name.starts_with("team@") || name.starts_with("team.removed-")), "{of}");
        }
        program.stop();
    }
}
