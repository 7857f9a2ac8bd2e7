//! Plugins that ask servers: what is granted by all three sides is asked for and answered once, anything else is not, and a
//! server that does not answer costs its own stream alone.

use std::fs;
use std::future::pending;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::HeaderMap;
use tokio::runtime::Runtime;
use wasmill::pipeline::StartError;
use wasmill_config::Settings;
use wasmill_tests::client::{self, push};
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::Running;
use wasmill_tests::scratch::Scratch;
use wasmill_tests::serve;
use wasmill_tests::wait::{wait_for, wait_until};
use wasmill_transform::{Grants, Manifest, embed_manifest};

use crate::COMPILER;

const SECRET: &str = "sesame-that-no-plugin-may-see";

/// A server that notes what it is asked: `/hang` never answers, `/away` sends elsewhere, `/large` answers 8 MiB, anything
/// else answers what was asked for.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, HeaderMap)>>>,
    _runtime: Runtime,
}

impl Server {
    fn start() -> Server {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let asked: Arc<Mutex<Vec<(String, HeaderMap)>>> = Arc::default();
        let noted = asked.clone();
        let address = serve::start(&runtime, move |request| {
            let noted = noted.clone();
            async move {
                let path = request.uri().to_string();
                noted.lock().unwrap().push((path.clone(), request.headers().clone()));
                match path.as_str() {
                    path if path.starts_with("/hang") => pending().await,
                    "/large" => Ok(serve::answer(200, "1".repeat(8 << 20))),
                    "/away" => {
                        let mut answer = serve::answer(307, "{\"moved\":true}".to_owned());
                        let to = format!("http://{}/elsewhere", request.headers()["host"].to_str().unwrap());
                        answer.headers_mut().insert("location", to.parse().unwrap());
                        Ok(answer)
                    }
                    path => Ok(serve::answer(200, format!("{{\"asked\":{path:?}}}"))),
                }
            }
        });
        Server { address: address.unwrap(), asked, _runtime: runtime }
    }

    fn asked(&self) -> Vec<(String, HeaderMap)> {
        self.asked.lock().unwrap().clone()
    }

    /// As a record.
    fn url(&self, path: &str) -> String {
        format!("\"http://{}{path}\"", self.address)
    }
}

fn asker(hosts: &[&str]) -> Vec<u8> {
    let hosts = hosts.iter().map(|host| (*host).to_owned());
    let manifest = Manifest {
        name: "asker".to_owned(),
        version: "1.0.0".to_owned(),
        wit: Some("0.1.2".to_owned()),
        grants: Grants { http: hosts.collect(), ..Grants::default() },
        ..Manifest::default()
    };
    embed_manifest(&Guest::asker().wasm(), &manifest).unwrap()
}

fn stream(name: &str, transform: &str) -> String {
    format!(
        "[streams.{name}]
         source = {{ type = \"http\" }}
         max_failed_percent = 100
         transforms = [{transform}]
         outputs = [{{ type = \"directory\", path = \"out/{name}\", interval = \"0s\" }}]\n"
    )
}

fn reasons(scratch: &Scratch, stream: &str, count: usize) -> Vec<String> {
    let letters = wait_for("letters", || {
        let letters = scratch.letters(stream);
        (letters.len() >= count).then_some(letters)
    });
    assert_eq!(letters.len(), count, "{letters:#?}");
    letters.iter().map(|letter| letter["reason"].as_str().unwrap().to_owned()).collect()
}

fn asks_once(isolation: &str) {
    let Some(binary) = binary() else { return };
    let server = Server::start();
    let host =
        format!("{{ host = \"{}\", headers = {{ authorization = {{ file = \"key\" }} }} }}", server.address);
    let scratch = Scratch::new(&format!(
        "#whole\nisolation = \"{isolation}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[buffer]\njournal_file = \"1MiB\"\n{}",
        stream("events", &format!("{{ plugin = \"asker\", http = [{host}] }}"))
    ));
    fs::write(scratch.path("key"), format!("{SECRET}\n")).unwrap();
    scratch.deploy_bytes("asker", &asker(&["127.0.0.1"]));
    let program = Program::start(&binary, &scratch.config());
    let to = program.address();
    assert_eq!(server.asked().len(), 0, "a probe has asked");
    let paths: Vec<String> = (0..40).map(|number| format!("/?n={number}")).collect();
    let body = paths.iter().map(|path| server.url(path)).collect::<Vec<_>>().join("\n");
    assert_eq!(push(to, "events", &body).unwrap().status, 200);
    wait_until("all answers are delivered", || objects::lines(&scratch.out().join("events")).len() == 40);
    let mut expected: Vec<String> = paths.iter().map(|path| format!("{{\"asked\":{path:?}}}")).collect();
    let mut lines = objects::lines(&scratch.out().join("events"));
    expected.sort();
    lines.sort();
    assert_eq!(lines, expected);
    let asked = server.asked();
    assert_eq!(asked.len(), 40);
    assert!(asked.iter().all(|(_, headers)| headers["authorization"] == SECRET
        && headers["host"] == server.address.to_string().as_str()));

    // Its own host alone, and nobody else's headers.
    let other = Server::start();
    let body = [
        other.url("/"),
        "\"http://[::ffff:169.254.169.254]/\"".to_owned(),
        "\"file:///etc/passwd\"".to_owned(),
    ];
    assert_eq!(push(to, "events", &body.join("\n")).unwrap().status, 200);
    let reasons = reasons(&scratch, "events", 3);
    assert!(
        reasons[0].contains(&other.address.to_string()) && reasons[0].contains("not granted"),
        "{reasons:?}"
    );
    assert!(reasons[1].contains("not granted") && reasons[2].contains("scheme"), "{reasons:?}");
    assert_eq!(other.asked().len(), 0);

    let metrics = client::get(to, "/metrics").unwrap().body;
    for (result, count) in [("answered", 40), ("refused", 3), ("failed", 0)] {
        let line = metrics.lines().find(|line| {
            line.starts_with("wasmill_plugin_http_requests_total")
                && line.contains(&format!("result=\"{result}\""))
        });
        assert!(line.unwrap().ends_with(&format!(" {count}")), "{line:?}");
    }
    let shown = client::get(to, "/v1/streams").unwrap().body + &client::get(to, "/v1/plugins").unwrap().body;
    assert!(!shown.contains(SECRET) && !metrics.contains(SECRET));
    let log = program.kill();
    assert!(log.iter().all(|line| !line.contains(SECRET)), "{log:#?}");
    for file in objects::files(&scratch.path("data")) {
        let bytes = fs::read(&file).unwrap();
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "the secret is in {}", file.display());
    }
    assert!(!format!("{:?}", Settings::load(&scratch.config()).unwrap()).contains(SECRET));
}

#[test]
fn granted_server_is_asked_once_for_each_record_and_the_header_that_the_host_adds_is_seen_nowhere() {
    asks_once("thread");
}

#[test]
fn plugin_in_a_process_without_network_asks_through_the_host() {
    asks_once("process");
}

#[test]
fn what_one_of_the_three_sides_leaves_out_is_not_asked_for_and_the_side_is_named() {
    let server = Server::start();
    for (asked, listed, part) in [
        (&[][..], "[]", "manifest does not name it"),
        (&["*"][..], "[]", "the transform's \"http\" does not list it"),
        (&["*"][..], "[\"127.0.0.1:1\"]", "the transform's \"http\" does not list it (127.0.0.1:1)"),
    ] {
        let scratch = Scratch::new(&stream("events", &format!("{{ plugin = \"asker\", http = {listed} }}")));
        scratch.deploy_bytes("asker", &asker(asked));
        let host = Running::start(&scratch.config(), COMPILER);
        host.push("events", &server.url("/"));
        let reasons = reasons(&scratch, "events", 1);
        assert!(reasons[0].contains("not granted") && reasons[0].contains(part), "{part}: {reasons:?}");
        assert!(reasons[0].contains("[tenants.NAME.grants]"), "{reasons:?}");
        host.drain();
    }
    // The transform lists what the manifest does not ask for.
    let scratch = Scratch::new(&stream("events", "{ plugin = \"asker\", http = [\"b.example\"] }"));
    scratch.deploy_bytes("asker", &asker(&["a.example"]));
    match Running::try_start(&scratch.config(), COMPILER) {
        Err(StartError::Invalid(problems)) => {
            assert!(
                problems[0].message.contains("\"b.example\", which the plugin's manifest does not ask for"),
                "{problems:#?}"
            );
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
    // And what the tenant's policy does not have.
    for (policy, part) in
        [("", "grants none"), ("[tenants.acme.grants]\nhttp = [\"10.0.0.0/8\"]", "has 10.0.0.0/8")]
    {
        let stream = stream("events", "{ plugin = \"asker\", http = [\"127.0.0.1\"] }")
            .replace("[streams", "[tenants.acme.streams");
        let scratch = Scratch::new(&format!("{policy}\n{stream}"));
        let refused = Settings::load(&scratch.config()).unwrap_err().to_string();
        assert!(
            refused.contains("not granted")
                && refused.contains("[tenants.acme.grants.http]")
                && refused.contains(part),
            "{refused}"
        );
    }
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn tenant_asks_what_its_policy_has_and_a_name_stands_for_nothing_inside() {
    let server = Server::start();
    let port = server.address.port();
    for (networks, delivered) in [("", 0), (", \"127.0.0.0/8\", \"::1\"", 1)] {
        let scratch = Scratch::new(&format!(
            "[tenants.acme.grants]
             http = [\"localhost\"{networks}]
             [tenants.acme.streams.events]
             source = {{ type = \"file\", paths = [\"in.ndjson\"] }}
             max_failed_percent = 100
             transforms = [{{ plugin = \"asker\", http = [\"localhost:{port}\"] }}]
             outputs = [{{ type = \"directory\", path = \"out\", interval = \"0s\" }}]"
        ));
        fs::create_dir(scratch.plugins().join("acme")).unwrap();
        fs::write(scratch.plugins().join("acme/asker.wasm"), asker(&["localhost"])).unwrap();
        fs::write(scratch.path("in.ndjson"), format!("\"http://localhost:{port}/\"\n")).unwrap();
        let host = Running::start(&scratch.config(), COMPILER);
        host.ended();
        host.drain();
        assert_eq!(objects::lines(&scratch.out()).len(), delivered);
        let letters = objects::files(&scratch.path("data/dead-letters/acme/events"));
        let texts = letters.iter().map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned());
        let told = texts.collect::<String>().contains("stands for no address");
        assert_eq!((told, server.asked().len()), (delivered == 0, delivered));
    }
}

#[test]
fn redirect_is_an_answer_and_what_is_too_large_is_none() {
    let server = Server::start();
    let transform = format!("{{ plugin = \"asker\", http = [\"{}\", \"localhost\"] }}", server.address);
    let scratch = Scratch::new(&stream("events", &transform));
    scratch.deploy_bytes("asker", &asker(&["*"]));
    let host = Running::start(&scratch.config(), COMPILER);
    // The address of the server is listed with its port alone.
    let inside = "\"http://localhost:1/inside\"".to_owned();
    let named = format!("\"http://user:pass@{}/named\"", server.address);
    host.push("events", &[server.url("/away"), server.url("/large"), inside, named].join("\n"));
    let reasons = reasons(&scratch, "events", 3);
    for (reason, part) in
        reasons.iter().zip(["more than 4194304 bytes", "stands for no address", "user or a password"])
    {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    wait_until("the redirect's own answer is delivered", || {
        objects::lines(&scratch.out().join("events")) == ["{\"moved\":true}"]
    });
    let mut paths: Vec<String> = server.asked().into_iter().map(|(path, _)| path).collect();
    paths.sort();
    assert_eq!(paths, ["/away", "/large"]);
    host.drain();
}

fn hangs(isolation: &str) {
    let Some(binary) = binary() else { return };
    let server = Server::start();
    let asks =
        format!("plugin = \"asker\", http = [\"{}\"], limits = {{ http_deadline = \"6s\" }}", server.address);
    // The pool that all share has one thread.
    let scratch = Scratch::new(&format!(
        "#whole\nworkers = 1\nisolation = \"{isolation}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[buffer]\njournal_file = \"1MiB\"\n\
         [tenants.acme.grants]\nhttp = [\"127.0.0.1\"]\n{}{}{}{}",
        stream("hangs", &format!("{{ {asks} }}")),
        stream("asks", &format!("{{ {asks} }}")),
        stream("plain", "{ plugin = \"pass\" }"),
        // Hangs from the start on, at the same server.
        stream("hangs", &format!("{{ {asks} }}"))
            .replace("[streams", "[tenants.acme.streams")
            .replace("type = \"http\"", "type = \"file\", paths = [\"in.ndjson\"]")
            .replace("out/", "acme/"),
    ));
    scratch.deploy_bytes("asker", &asker(&["*"]));
    scratch.deploy("pass", &Guest::pass(1));
    fs::create_dir(scratch.plugins().join("acme")).unwrap();
    fs::write(scratch.plugins().join("acme/asker.wasm"), asker(&["*"])).unwrap();
    fs::write(scratch.path("in.ndjson"), format!("{}\n", server.url("/hang?acme"))).unwrap();
    let program = Program::start(&binary, &scratch.config());
    let to = program.address();
    for _ in 0..6 {
        assert_eq!(push(to, "hangs", &server.url("/hang")).unwrap().status, 200);
    }
    wait_until("the server hangs for both tenants", || {
        let asked = server.asked();
        ["/hang", "/hang?acme"].iter().all(|path| asked.iter().any(|(asked, _)| asked == path))
    });
    for (stream, body) in [("plain", "{\"n\":1}".to_owned()), ("asks", server.url("/fine"))] {
        assert_eq!(push(to, stream, &body).unwrap().status, 200);
    }
    wait_until("the neighbours are delivered", || {
        ["plain", "asks"].iter().all(|name| objects::lines(&scratch.out().join(name)).len() == 1)
    });
    assert_eq!(scratch.letters("hangs").len(), 0, "the neighbours have waited for it");
    let reasons = reasons(&scratch, "hangs", 6);
    assert!(reasons.iter().all(|reason| reason.contains("no answer in time")), "{reasons:?}");
    program.stop();
}

#[test]
fn server_that_hangs_costs_its_own_stream_and_holds_up_no_other_of_any_tenant() {
    hangs("thread");
}

#[test]
fn server_that_hangs_holds_up_nobody_else_where_plugins_run_in_processes() {
    hangs("process");
}

#[test]
fn candidate_beside_the_live_version_asks_nobody() {
    let server = Server::start();
    let transform = format!("{{ plugin = \"asker\", http = [\"{}\"] }}", server.address);
    let scratch = Scratch::new(&stream("events", &transform));
    scratch.deploy_bytes("asker", &asker(&["*"]));
    let host = Running::start(&scratch.config(), COMPILER);
    let to = host.address();
    let path = "/v1/plugins/asker/shadow?sample_percent=100";
    let candidate = asker(&["127.0.0.1"]);
    let started = client::request(to, "POST", path, &["content-type: application/wasm"], &candidate).unwrap();
    assert_eq!(started.status, 200, "{}", started.body);
    host.push("events", &[server.url("/a"), server.url("/b")].join("\n"));
    let report = wait_for("the records are compared", || {
        let report = client::get(to, "/v1/plugins/asker/shadow").unwrap().json()["reports"][0].clone();
        (report["records"] == 2).then_some(report)
    });
    assert_eq!(report["differences"]["failed"], 2, "{report}");
    assert!(report.to_string().contains("nothing is sent while a version is tried beside"), "{report}");
    wait_until("the live version's answers are delivered", || {
        objects::lines(&scratch.out().join("events")).len() == 2
    });
    assert_eq!(server.asked().len(), 2);
    host.drain();
}

#[test]
fn file_without_a_manifest_asks_nobody() {
    let scratch = Scratch::new(&stream("events", "{ plugin = \"asker\", http = [\"127.0.0.1\"] }"));
    scratch.deploy("asker", &Guest::asker());
    match Running::try_start(&scratch.config(), COMPILER) {
        Err(StartError::Invalid(problems)) => {
            assert!(problems[0].message.contains("to a file without a manifest"), "{problems:#?}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
}

#[test]
fn stream_ends_without_what_its_plugin_waits_for() {
    // Nobody is there at first, and then somebody who says nothing.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let transform =
        format!("{{ plugin = \"asker\", http = [\"{address}\"], limits = {{ http_deadline = \"1h\" }} }}");
    let scratch = Scratch::new(&stream("events", &transform));
    scratch.deploy_bytes("asker", &asker(&["*"]));
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &format!("\"http://{address}/\""));
    assert!(reasons(&scratch, "events", 1)[0].contains("cannot be reached"));
    let server = TcpListener::bind(address).unwrap();
    let to = host.address();
    let replay = std::thread::spawn(move || {
        let path = "/v1/streams/events/dead-letters/replay";
        client::request(to, "POST", path, &["content-type: application/json"], b"{}")
    });
    let _asked = server.accept().unwrap();
    let within = Duration::from_millis(200);
    let removed = host.block_on(async {
        let removed = host.host.remove_stream("default", "events", within, true);
        tokio::time::timeout(Duration::from_secs(30), removed).await
    });
    removed.expect("it waits for the server").unwrap();
    assert!(replay.join().unwrap().is_ok_and(|answer| answer.status != 200));
    host.drain();
}
