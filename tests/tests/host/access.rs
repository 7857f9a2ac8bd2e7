//! Keys from the first one on: made before the host runs, asked for by the real binary, used by its commands.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use wasmill_tests::client;
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

const KEYS: &str = r#"
    [http.auth]
    mode = "keys"
    [streams.events]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "out", interval = "0s" }]
"#;

fn wasmill(binary: &Path, scratch: &Scratch, key: Option<&str>, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary);
    command.args(arguments).current_dir(scratch.dir()).env_remove("WASMILL_KEY");
    if let Some(key) = key {
        command.env("WASMILL_KEY", key);
    }
    command.output().unwrap()
}

fn line(output: &Output) -> String {
    let (said, complained) =
        (String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complained}");
    said.trim().to_owned()
}

#[test]
fn plugins_of_a_tenant_are_there_after_a_restart_and_not_for_the_next_of_its_name() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(KEYS);
    let create = &["key", "create", "--operator", "--name", "first"][..];
    let bearer = format!("authorization: Bearer {}", line(&wasmill(&binary, &scratch, None, create)));
    let ask = |at: SocketAddr, method: &str, path: &str, tenant: &str, body: &[u8]| {
        let kind = if path == "/v1/plugins" {
            "content-type: application/wasm"
        } else {
            "content-type: application/json"
        };
        let headers = [bearer.as_str(), kind, tenant];
        let headers = if tenant.is_empty() { &headers[..2] } else { &headers[..] };
        client::request(at, method, path, headers, body).unwrap()
    };
    let team = "wasmill-tenant: team";
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    assert_eq!(ask(at, "POST", "/v1/tenants", "", b"{\"name\":\"team\"}").status, 201);
    let path = "/v1/plugins?name=mine";
    let headers = [bearer.as_str(), "content-type: application/wasm", team];
    let sent = client::request(at, "POST", path, &headers, &Guest::pass(1).wasm()).unwrap();
    assert_eq!(sent.status, 201, "{sent:?}");
    program.stop();

    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    let listed = |at| ask(at, "GET", "/v1/plugins", team, b"");
    let plugins = listed(at);
    assert!(plugins.status == 200 && plugins.json()[0]["name"] == "mine", "{}", plugins.body);
    // Where the host keeps it is not for the tenant to know.
    assert!(!plugins.body.contains(scratch.dir().to_str().unwrap()), "{}", plugins.body);
    assert_eq!(ask(at, "POST", "/v1/tenants/team/disable", "", b"").status, 200);
    assert_eq!(ask(at, "DELETE", "/v1/tenants/team", "", b"").status, 200);
    assert_eq!(ask(at, "POST", "/v1/tenants", "", b"{\"name\":\"team\"}").status, 201);
    assert_eq!(listed(at).body, "[]");
    assert_eq!(ask(at, "GET", "/v1/plugins/mine", team, b"").status, 404);
    // Nothing is thrown away.
    let kept = std::fs::read_dir(scratch.path("data/tenants")).unwrap();
    let kept: Vec<_> = kept.map(|dir| dir.unwrap().path()).collect();
    assert!(
        kept.iter().any(|dir| dir.to_str().unwrap().contains("/team@") && dir.join("plugins").exists()),
        "{kept:?}"
    );
    program.stop();
}

#[test]
fn first_key_is_made_offline_and_others_by_asking_the_host() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(KEYS);
    let create = &["key", "create", "--operator", "--name", "first"][..];
    let operator = line(&wasmill(&binary, &scratch, None, create));
    assert!(operator.starts_with("wm_") && operator.len() == 65, "{operator:?}");

    let program = Program::start(&binary, &scratch.config());
    let address = program.address();
    let host = format!("http://{address}");
    // Who has no key gets nowhere; who asks for one beside a running host is told how.
    assert_eq!(client::push(address, "events", "{}\n").unwrap().status, 401);
    let refused = wasmill(&binary, &scratch, None, create);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("/v1/keys"), "{told}");
    let unasked = wasmill(&binary, &scratch, None, &["plugin", "versions", "--host", &host]);
    assert!(String::from_utf8_lossy(&unasked.stderr).contains("WASMILL_KEY"), "{unasked:?}");

    let ask = |arguments: &[&str]| {
        let whole = [arguments, &["--host", &host]].concat();
        wasmill(&binary, &scratch, Some(&operator), &whole)
    };
    let edge = line(&ask(&["key", "create", "--name", "edge", "--scope", "push"]));
    let bearer = |key: &str| format!("authorization: Bearer {key}");
    let push = |key: &str| {
        let headers = ["content-type: application/x-ndjson", &bearer(key)];
        client::push_as(address, "events", &headers, b"{\"a\":1}\n").unwrap().status
    };
    let get = |key: &str, path: &str| client::request(address, "GET", path, &[&bearer(key)], b"").unwrap();
    assert_eq!((push(&edge), get(&edge, "/v1/streams").status), (200, 403));
    wait_until("the record is delivered", || objects::lines(&scratch.out()).len() == 1);

    line(&ask(&["tenant", "create", "team-a"]));
    let boss = line(&ask(&["key", "create", "--tenant", "team-a", "--name", "boss", "--scope", "admin"]));
    assert_eq!(push(&boss), 404, "a stream of another tenant is there");
    assert_eq!(get(&boss, "/v1/streams").body, "[]");
    assert!(get(&boss, "/v1/audit").body.contains("/v1/keys/"));

    let id = edge.split('_').nth(1).unwrap();
    assert!(line(&ask(&["key", "list"])).contains(id));
    let newer = line(&ask(&["key", "rotate", id, "--grace", "10m"]));
    assert_eq!((push(&edge), push(&newer)), (200, 200));
    line(&ask(&["key", "revoke", id]));
    assert_eq!((push(&edge), push(&newer)), (401, 401));
    line(&ask(&["tenant", "delete", "team-a"]));
    assert_eq!(get(&boss, "/v1/whoami").status, 401);

    // Nothing of it is forgotten, and no secret is in what the host says of itself.
    let log = program.log().join("\n");
    program.stop();
    let program = Program::start(&binary, &scratch.config());
    let address = program.address();
    let who = client::request(address, "GET", "/v1/whoami", &[&bearer(&operator)], b"").unwrap();
    assert!(who.status == 200 && who.body.contains("\"name\":\"first\""), "{}", who.body);
    assert_eq!(client::request(address, "GET", "/v1/whoami", &[&bearer(&newer)], b"").unwrap().status, 401);
    let text = format!("{log}{}", program.log().join("\n"));
    program.stop();
    for key in [&operator, &edge, &newer, &boss] {
        assert!(!text.contains(&key[16..40]), "a secret is in the log");
    }
}
