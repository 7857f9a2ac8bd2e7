//! Two tenants on one host, each with a stream of the same name: what a key may do ends at its tenant.

use std::process::Command;

use wasmill_tests::client::{self, push_as};
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

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
