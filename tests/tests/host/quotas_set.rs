//! Quotas that an operator sets while the real binary runs, and those of what is kept and delivered.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use wasmill_tests::client::{self, Answer, get, push_as};
use wasmill_tests::guest::Guest;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::serve::{self, answer};
use wasmill_tests::stand_in::{Says, StandIn};
use wasmill_tests::wait::wait_until;

const TEAM: &str = r#"#whole
    [http]
    listen = "127.0.0.1:0"
    auth = { mode = "keys" }
    [buffer]
    journal_file = "1MiB"
    [streams.idle]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "idle" }]
    [tenants.team]
    quota = { requests = 9 }
    [tenants.team.streams.events]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "out", interval = "0s" }]
"#;

fn wasmill(binary: &Path, scratch: &Scratch, key: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary);
    command.args(arguments).current_dir(scratch.dir()).env_remove("WASMILL_KEY");
    if !key.is_empty() {
        command.env("WASMILL_KEY", key);
    }
    command.output().unwrap()
}

fn line(output: &Output) -> String {
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complained}");
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

fn bearer(key: &str) -> String {
    format!("authorization: Bearer {key}")
}

#[test]
fn quota_that_is_set_counts_at_once_and_after_a_restart() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(TEAM);
    let operator = line(&wasmill(&binary, &scratch, "", &["key", "create", "--operator", "--name", "first"]));
    let mut program = Program::start(&binary, &scratch.config());
    let host = format!("http://{}", program.address());
    let run = |arguments: &[&str], host: &str| {
        wasmill(&binary, &scratch, &operator, &[arguments, &["--host", host]].concat())
    };
    let key = ["key", "create", "--name", "test", "--scope", "push,read", "--tenant", "team"];
    let theirs = line(&run(&key, &host));
    let push = |program: &Program, records: usize| {
        let headers = ["content-type: application/x-ndjson", &bearer(&theirs)];
        push_as(program.address(), "events", &headers, "{\"n\":1}\n".repeat(records).as_bytes()).unwrap()
    };
    assert_eq!(push(&program, 100).status, 200);
    let set =
        line(&run(&["tenant", "quota", "team", "--set", "records_per_second=10", "--set", "cpu=0.5"], &host));
    assert!(set.contains("records_per_second") && set.contains("0.5"), "{set}");
    assert_eq!(push(&program, 11).status, 413);
    let one = line(&run(&["tenant", "quota", "team", "--unset", "cpu"], &host));
    assert!(!one.contains("cpu") && one.contains("records_per_second"), "{one}");

    let shown = |program: &Program| -> Answer {
        client::request(program.address(), "GET", "/v1/quotas", &[&bearer(&theirs)], b"").unwrap()
    };
    let of = |answer: &Answer, name: &str| -> Value {
        let quotas = answer.json();
        let found = quotas["quotas"].as_array().unwrap().iter().find(|quota| quota["quota"] == name).cloned();
        found.unwrap_or_else(|| panic!("{}", answer.body))
    };
    let answer = shown(&program);
    let rate = of(&answer, "records_per_second");
    assert_eq!(
        (&rate["limit"], &rate["set_by"], &rate["refused"]),
        (&10.into(), &"operator".into(), &1.into())
    );
    let requests = of(&answer, "requests");
    assert_eq!((&requests["limit"], &requests["set_by"]), (&9.into(), &"configuration".into()));
    assert_eq!(
        (&of(&answer, "streams")["used"], &of(&answer, "deliveries")["limit"]),
        (&1.into(), &Value::Null)
    );

    // What the file says is changed in the file.
    let refused = run(&["tenant", "quota", "team", "--set", "requests=3"], &host);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && told.contains("[tenants.team.quota]") && told.contains("requests"),
        "{told}"
    );
    // And what somebody else has changed since is looked at first.
    let put = |headers: &[&str], body: &str| {
        let key = bearer(&operator);
        let headers = [&[key.as_str(), "content-type: application/json"], headers].concat();
        client::request(program.address(), "PUT", "/v1/tenants/team/quotas", &headers, body.as_bytes())
            .unwrap()
    };
    let stale = put(&["if-match: \"00000000\""], "{}");
    assert_eq!(
        (stale.status, stale.json()["error"]["code"].as_str()),
        (412, Some("changed")),
        "{}",
        stale.body
    );
    for bad in ["{\"record_per_second\":1}", "{\"requests\":0}", "{\"cpu\":-1}", "[]"] {
        assert_eq!(put(&[], bad).status, if bad.contains("requests") { 409 } else { 400 }, "{bad}");
    }
    let empty = put(&[], "");
    assert!(empty.status == 400 && empty.body.contains("it is empty"), "{}", empty.body);
    assert_eq!(of(&shown(&program), "records_per_second")["limit"], 10, "nothing was unset by that");
    assert_eq!(put(&[], "{\"streams\":0,\"records_per_second\":10}").status, 200);

    program = {
        program.kill();
        Program::start(&binary, &scratch.config())
    };
    assert_eq!(push(&program, 11).status, 413);
    assert_eq!(of(&shown(&program), "records_per_second")["limit"], 10);
    program.stop();
}

#[test]
fn another_tenant_of_a_name_has_none_of_the_quotas_that_were_set_for_the_one_before() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(TEAM);
    let operator = line(&wasmill(&binary, &scratch, "", &["key", "create", "--operator", "--name", "first"]));
    let mut program = Program::start(&binary, &scratch.config());
    let ask = |program: &Program, key: &str, method: &str, path: &str, body: &str| {
        let headers = [&*bearer(key), "content-type: application/json"];
        client::request(program.address(), method, path, &headers, body.as_bytes()).unwrap()
    };
    let done = |program: &Program, method: &str, path: &str, body: &str| {
        let answer = ask(program, &operator, method, path, body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.body);
        answer
    };
    let make = |program: &Program| {
        done(program, "POST", "/v1/tenants", "{\"name\":\"short\"}");
        let host = format!("http://{}", program.address());
        let create =
            ["key", "create", "--name", "k", "--scope", "read", "--tenant", "short", "--host", &host];
        line(&wasmill(&binary, &scratch, &operator, &create))
    };
    let limit = |program: &Program, key: &str| {
        let quotas = ask(program, key, "GET", "/v1/quotas", "").json();
        let found =
            quotas["quotas"].as_array().unwrap().iter().find(|quota| quota["quota"] == "streams").cloned();
        let found = found.unwrap();
        (found["limit"].clone(), found["set_by"].clone())
    };
    let first = make(&program);
    done(&program, "PUT", "/v1/tenants/short/quotas", "{\"streams\":3}");
    assert_eq!(limit(&program, &first), (3.into(), "operator".into()));
    done(&program, "POST", "/v1/tenants/short/disable", "");
    done(&program, "DELETE", "/v1/tenants/short", "");
    let second = make(&program);
    assert_eq!(limit(&program, &second), (Value::Null, Value::Null));
    assert_eq!(done(&program, "GET", "/v1/tenants/short/quotas", "").json()["quotas"], serde_json::json!({}));
    program = {
        program.kill();
        Program::start(&binary, &scratch.config())
    };
    assert_eq!(limit(&program, &second), (Value::Null, Value::Null));
    program.stop();
}

#[test]
fn dead_letters_are_bounded_over_the_streams_of_a_tenant() {
    let Some(binary) = binary() else { return };
    let streams: String = ["one", "other"]
        .iter()
        .map(|name| {
            format!(
                "[streams.{name}]\nsource = {{ type = \"http\" }}\nmax_failed_percent = 100\n\
                 transforms = [{{ plugin = \"no\" }}]\n\
                 outputs = [{{ type = \"directory\", path = \"{name}\", interval = \"0s\" }}]\n"
            )
        })
        .collect();
    let scratch = Scratch::new(&format!("[quota]\ndead_letter_bytes = \"64KiB\"\n{streams}"));
    scratch.deploy("no", &Guest::reject_all());
    let program = Program::start(&binary, &scratch.config());
    let filler = format!("{{\"filler\":\"{}\"}}\n", "x".repeat(10_000));
    assert_eq!(client::push(program.address(), "one", &filler.repeat(4)).unwrap().status, 200);
    wait_until("four letters are kept", || scratch.letters("one").len() == 4);
    assert_eq!(client::push(program.address(), "other", &filler.repeat(4)).unwrap().status, 200);
    wait_until("the other stream is paused", || {
        let streams = get(program.address(), "/v1/streams").unwrap().json();
        let other = streams.as_array().unwrap().iter().find(|stream| stream["name"] == "other").cloned();
        other.is_some_and(|other| {
            other["paused"].as_str().is_some_and(|why| why.contains("dead_letter_bytes"))
        })
    });
    assert!(scratch.letters("other").len() < 4);
    let purged =
        client::request(program.address(), "DELETE", "/v1/streams/one/dead-letters?all=true", &[], b"")
            .unwrap();
    assert_eq!(purged.status, 200, "{}", purged.body);
    wait_until("it goes on", || scratch.letters("other").len() == 4);
    program.stop();
}

#[test]
fn instance_has_no_more_memory_than_the_quota_of_its_tenant() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        "[quota]\nplugin_memory = \"2MiB\"\n[streams.events]\nsource = { type = \"http\" }\nmax_failed_percent = 100\n\
         transforms = [{ plugin = \"picky\" }]\noutputs = [{ type = \"directory\", path = \"out\", interval = \"0s\" }]\n",
    );
    scratch.deploy("picky", &Guest::picky());
    let program = Program::start(&binary, &scratch.config());
    // It takes memory until there is none.
    assert_eq!(client::push(program.address(), "events", "m\n").unwrap().status, 200);
    wait_until("the letter is kept", || scratch.letters("events").len() == 1);
    let metrics = get(program.address(), "/metrics").unwrap().body;
    let peak = metrics.lines().find(|line| line.starts_with("wasmill_transform_memory_peak_bytes")).unwrap();
    let peak: f64 = peak.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((262_144.0..=2_097_152.0).contains(&peak), "{peak} bytes");
    program.stop();
}

/// A host where these tenants have these quotas; uploads one's plugin.
struct Uploads {
    program: Program,
    operator: String,
    _scratch: Scratch,
}

impl Uploads {
    fn start(binary: &Path, quotas: &str) -> Uploads {
        let scratch = Scratch::new(&format!(
            "#whole\n[http]\nlisten = \"127.0.0.1:0\"\nauth = {{ mode = \"keys\" }}\n[buffer]\njournal_file = \"1MiB\"\n\
             [streams.idle]\nsource = {{ type = \"http\" }}\noutputs = [{{ type = \"directory\", path = \"idle\" }}]\n{quotas}"
        ));
        let create = ["key", "create", "--operator", "--name", "first"];
        let operator = bearer(&line(&wasmill(binary, &scratch, "", &create)));
        Uploads { program: Program::start(binary, &scratch.config()), operator, _scratch: scratch }
    }

    fn upload(&self, tenant: &str, name: &str, wasm: &[u8]) -> Answer {
        let (path, acting) = (format!("/v1/plugins?name={name}"), format!("wasmill-tenant: {tenant}"));
        let headers = [self.operator.as_str(), "content-type: application/wasm", &acting];
        client::request(self.program.address(), "POST", &path, &headers, wasm).unwrap()
    }
}

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn plugins_of_a_tenant_are_bounded_in_number_and_those_of_another_are_not() {
    let Some(binary) = binary() else { return };
    let host = Uploads::start(&binary, "[tenants.acme.quota]\nplugins = 2\n");
    let wasm = |salt: u32| Guest::pass(salt).wasm();
    for name in ["one", "two"] {
        assert_eq!(host.upload("acme", name, &wasm(1)).status, 201);
    }
    let full = host.upload("acme", "three", &wasm(1));
    assert_eq!((full.status, code(&full).as_str()), (409, "quota_full"), "{full:?}");
    assert!(full.body.contains('2'), "{}", full.body);
    // Another version is no other plugin.
    let newer = host.upload("acme", "two", &wasm(2));
    assert_eq!(newer.status, 201, "{newer:?}");
    for name in ["one", "two", "three"] {
        assert_eq!(host.upload("default", name, &wasm(1)).status, 201);
    }
    host.program.stop();
}

#[test]
fn compiler_s_time_is_charged_and_refuses_the_next_plugin_of_that_tenant_alone() {
    let Some(binary) = binary() else { return };
    let host = Uploads::start(
        &binary,
        "[tenants.acme.quota]\ncompile_seconds = 1\n[tenants.near.quota]\ncompile_seconds = 600\n",
    );
    // What there is is spent by a plugin or several, and no more than a compile beyond it.
    let mut taken = 0;
    let refused = loop {
        let answer = host.upload("acme", "heavy", &Guest::heavy(400).salted(taken).wasm());
        if answer.status != 201 {
            break answer;
        }
        taken += 1;
        assert!(taken < 50, "fifty large plugins cost less than a second");
    };
    assert!(taken > 0, "refused before anything was spent: {refused:?}");
    assert_eq!((refused.status, code(&refused).as_str()), (429, "over_quota"), "{refused:?}");
    assert!(refused.body.contains("compile_seconds"), "{}", refused.body);
    // An hour has a second.
    let again: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..24 * 3600).contains(&again), "{again} s");
    // A small one is one too many; what was compiled before costs nothing; and the neighbour has his own.
    assert_eq!(host.upload("acme", "small", &Guest::pass(7).wasm()).status, 429);
    assert_eq!(host.upload("acme", "again", &Guest::heavy(400).salted(0).wasm()).status, 201);
    assert_eq!(host.upload("near", "heavy", &Guest::heavy(400).salted(0).wasm()).status, 201);
    host.program.stop();
}

#[test]
fn deliveries_of_a_tenant_over_the_network_are_bounded_at_a_time() {
    let Some(binary) = binary() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (served_now, served_most) = (Arc::clone(&now), Arc::clone(&most));
    let (answering, answers) = tokio::sync::watch::channel(false);
    let endpoint = serve::start(&runtime, move |request| {
        let (now, most, mut answers) = (Arc::clone(&served_now), Arc::clone(&served_most), answers.clone());
        async move {
            serve::whole(request.into_body()).await?;
            let at_once = now.fetch_add(1, Ordering::Relaxed) + 1;
            most.fetch_max(at_once, Ordering::Relaxed);
            // The sender outlives the server.
            drop(answers.wait_for(|answering| *answering).await);
            now.fetch_sub(1, Ordering::Relaxed);
            Ok(answer(200, String::new()))
        }
    })
    .unwrap();
    let streams: String = (0..6)
        .map(|n| {
            format!(
                "[streams.s{n}]\nsource = {{ type = \"http\" }}\n\
                 outputs = [{{ type = \"http\", url = \"http://{endpoint}/\", interval = \"0s\" }}]\n"
            )
        })
        .collect();
    let near = StandIn::start(|_, _| Says::Json(200, Value::Null));
    let near_url = near.url();
    let scratch = Scratch::new(&format!(
        "[quota]\ndeliveries = 2\n{streams}[streams.d]\nsource = {{ type = \"http\" }}\n\
         outputs = [{{ type = \"directory\", path = \"d\", interval = \"0s\" }}]\n\
         [tenants.near.streams.s]\nsource = {{ type = \"file\", paths = [\"near.ndjson\"], follow = true }}\n\
         outputs = [{{ type = \"http\", url = \"{near_url}/\", interval = \"0s\" }}]\n"
    ));
    let program = Program::start(&binary, &scratch.config());
    let push = |stream: &str| {
        assert_eq!(client::push(program.address(), stream, "{\"n\":1}").unwrap().status, 200);
    };
    let sum = |field: &str| -> u64 {
        let streams = get(program.address(), "/v1/streams").unwrap().json();
        let of = |stream: &Value| stream["outputs"][0][field].as_u64().unwrap();
        streams.as_array().unwrap().iter().map(of).sum()
    };
    let used = || {
        let quotas = get(program.address(), "/v1/quotas").unwrap().json();
        let of =
            quotas["quotas"].as_array().unwrap().iter().find(|quota| quota["quota"] == "deliveries").cloned();
        of.unwrap()["used"].as_u64().unwrap()
    };
    for n in 0..60 {
        push(&format!("s{}", n % 6));
    }
    // Every output has something to deliver, two do, and no answer comes.
    wait_until("two are asked", || now.load(Ordering::Relaxed) == 2 && sum("pending") == 60);
    assert_eq!((used(), sum("delivered")), (2, 0));
    // Another tenant has turns of its own.
    std::fs::write(scratch.path("near.ndjson"), "{\"n\":1}\n").unwrap();
    wait_until("the neighbour delivers", || !near.got().is_empty());
    // A directory waits for no such turn.
    push("d");
    wait_until("the directory has its own", || sum("delivered") == 1);
    assert_eq!((used(), now.load(Ordering::Relaxed), sum("pending")), (2, 2, 60));
    answering.send_replace(true);
    wait_until("all are delivered", || sum("delivered") == 61);
    assert_eq!(most.load(Ordering::Relaxed), 2, "at a time");
    program.stop();
}

#[test]
fn quota_of_the_file_counts_as_soon_as_it_changes_and_goes_before_what_was_set() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(TEAM);
    let operator = line(&wasmill(&binary, &scratch, "", &["key", "create", "--operator", "--name", "first"]));
    let program = Program::start(&binary, &scratch.config());
    let host = format!("http://{}", program.address());
    let run =
        |arguments: &[&str]| wasmill(&binary, &scratch, &operator, &[arguments, &["--host", &host]].concat());
    let key = bearer(&operator);
    let mut reloads = 0;
    let mut configure = |text: &str| {
        scratch.configure(text);
        reloads += 1;
        let told = || client::request(program.address(), "GET", "/v1/config", &[&key], b"").unwrap().json();
        wait_until("the file is applied", || told()["reloads"] == reloads);
        assert_eq!(told()["state"], "applied", "{}", told());
    };
    let push = || {
        let headers = ["content-type: application/x-ndjson", &key, "wasmill-tenant: team"];
        push_as(program.address(), "events", &headers, "{}\n".repeat(50).as_bytes()).unwrap()
    };
    line(&run(&["tenant", "quota", "team", "--set", "records_per_second=1000"]));
    assert_eq!(push().status, 200);
    // More than come in a second, so that nobody has to wait for it.
    configure(&TEAM.replace("requests = 9", "records_per_second = 10"));
    let refused = push();
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (413, Some("larger_than_quota")));
    let refused = run(&["tenant", "quota", "team", "--set", "records_per_second=2000"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("[tenants.team.quota]"), "{told}");
    // Without a word of the file on it, what was set counts again; a table for all comes behind that.
    configure(&TEAM.replace("[http]", "[quota]\n    records_per_second = 10\n    [http]"));
    // What may be pushed grows from what was left of the ten.
    wait_until("what was set counts again", || push().status == 200);
    line(&run(&["tenant", "quota", "team", "--unset", "records_per_second"]));
    assert_eq!(push().status, 413);
    configure(TEAM);
    assert_eq!(push().status, 200);
    program.stop();
}
