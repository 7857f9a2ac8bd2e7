//! Plugins that are uploaded, with the real binary: they last, what is bad is refused with the reason, and the plugin
//! directory goes before them.

use std::net::SocketAddr;

use wasmill_tests::client::{self, Answer};
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

const HOST: &str = r#"
    [policy]
    directories = ["out"]
    [streams.filed]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "filed" }]
"#;

fn upload(at: SocketAddr, query: &str, body: &[u8]) -> Answer {
    let path = format!("/v1/plugins{query}");
    client::request(at, "POST", &path, &["content-type: application/wasm"], body).unwrap()
}

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

fn put(at: SocketAddr, condition: &str) -> Answer {
    let body = br#"{"source":{"type":"http"},"transforms":[{"plugin":"mine"}],
        "outputs":[{"type":"directory","path":"out","format":"raw","interval":"0s"}]}"#;
    client::request(at, "PUT", "/v1/streams/events", &["content-type: application/json", condition], body)
        .unwrap()
}

fn pushed(at: SocketAddr) {
    // The plugin writes its version over the seventh byte.
    let record = "{\"v\":\"-\"}";
    wait_until("the push is taken", || client::push(at, "events", record).unwrap().status == 200);
}

#[test]
fn uploaded_plugin_is_used_at_once_and_after_a_kill_and_a_newer_one_takes_over() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(HOST);
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    assert_eq!(put(at, "if-none-match: *").status, 422, "there is no such plugin");
    let first = upload(at, "?name=mine", &Guest::stamp('1').wasm());
    assert_eq!(first.status, 201, "{first:?}");
    let digest = first.json()["digest"].as_str().unwrap().to_owned();
    assert_eq!(put(at, "if-none-match: *").status, 201);
    pushed(at);
    wait_until("the record is there", || objects::lines(&scratch.out()).len() == 1);
    program.kill();

    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    pushed(at);
    wait_until("the plugin is there, too", || objects::lines(&scratch.out()).len() == 2);
    let shown = client::get(at, "/v1/plugins/mine").unwrap();
    assert!(shown.body.contains(&digest) && shown.body.contains("\"uploaded\":true"), "{}", shown.body);
    let used =
        client::request(at, "DELETE", &format!("/v1/plugins/mine/versions/{digest}"), &[], b"").unwrap();
    assert_eq!((used.status, code(&used).as_str()), (409, "in_use"), "{used:?}");
    let second = upload(at, "?name=mine", &Guest::stamp('2').wasm());
    assert_eq!(second.status, 201, "{second:?}");
    wait_until("the newer one has taken over", || {
        pushed(at);
        objects::lines(&scratch.out()).iter().any(|line| line == "{\"v\":\"2\"}")
    });
    let gone =
        || client::request(at, "DELETE", &format!("/v1/plugins/mine/versions/{digest}"), &[], b"").unwrap();
    wait_until("nobody uses the first one any more", || gone().status == 200);
    assert_eq!(gone().status, 404);
    program.stop();
}

#[test]
fn file_that_is_bad_is_refused_and_the_plugin_directory_goes_before_uploads() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(HOST);
    scratch.deploy("owned", &Guest::pass(1));
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    for (query, body, status) in [
        ("?name=bad", &b"this is no component"[..], 422),
        ("?name=bad", &b"\0asm\x01\0\0\0"[..], 422),
        ("?name=bad", &b""[..], 422),
        ("?name=..%2Fbad", &Guest::pass(1).wasm()[..], 422),
        ("", &Guest::pass(1).wasm()[..], 400),
    ] {
        let refused = upload(at, query, body);
        assert_eq!(refused.status, status, "{query}: {refused:?}");
    }
    let large = client::request(
        at,
        "POST",
        "/v1/plugins",
        &["content-type: application/wasm"],
        &vec![0; (64 << 20) + 1],
    );
    // It may close the connection before all of that has come.
    assert!(large.is_err() || large.unwrap().status == 413);
    let owned = upload(at, "?name=owned", &Guest::pass(2).wasm());
    assert_eq!((owned.status, code(&owned).as_str()), (409, "owned_by_file"), "{owned:?}");
    assert_eq!(upload(at, "?name=mine", &Guest::stamp('1').wasm()).status, 201);
    assert_eq!(put(at, "if-none-match: *").status, 201);
    scratch.deploy("mine", &Guest::stamp('2'));
    program.wait_for_log("goes before it");
    wait_until("the file has taken over", || {
        pushed(at);
        objects::lines(&scratch.out()).iter().any(|line| line == "{\"v\":\"2\"}")
    });
    program.stop();
}
