//! The configuration file, changed while the real binary runs.

use rustix::process::Signal;
use wasmill_tests::client;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

fn stream(name: &str, path: &str) -> String {
    format!(
        "[streams.{name}]\nsource = {{ type = \"http\" }}\n\
         outputs = [{{ type = \"directory\", path = \"{path}\", interval = \"0s\" }}]\n"
    )
}

const POLICY: &str = "[policy]\ndirectories = [\"out\"]\n";

#[test]
fn streams_of_the_file_come_change_and_go_with_it_and_a_bad_file_changes_nothing() {
    let Some(binary) = binary() else { return };
    let text = |streams: &[String]| format!("{POLICY}{}", streams.concat());
    let scratch =
        Scratch::new(&text(&[stream("stays", "stays"), stream("changes", "one"), stream("goes", "goes")]));
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    let push = |name: &str, record: &str| {
        wait_until("the push is taken", || client::push(at, name, record).unwrap().status == 200);
    };
    let state = || client::get(at, "/v1/config").unwrap().json();
    for name in ["stays", "changes", "goes"] {
        push(name, "{\"n\":1}");
    }
    scratch.configure(&text(&[stream("stays", "stays"), stream("changes", "two"), stream("comes", "comes")]));
    wait_until("the file is applied", || state()["reloads"] == 1);
    assert_eq!(state()["state"], "applied", "{}", state());
    for name in ["stays", "changes", "comes"] {
        push(name, "{\"n\":2}");
    }
    assert_eq!(client::push(at, "goes", "{}").unwrap().status, 404);
    assert_eq!(objects::lines(&scratch.path("goes")), ["{\"n\":1}"]);
    for (path, count) in [("stays", 2), ("one", 1), ("two", 1), ("comes", 1)] {
        wait_until(path, || objects::lines(&scratch.path(path)).len() == count);
    }

    // Bad: nothing of it is taken, not even what is good.
    scratch.configure(&text(&[stream("stays", "elsewhere"), "[streams.bad]\nsauce = 1\n".to_owned()]));
    wait_until("the file is refused", || state()["state"] == "refused");
    let problems = state()["problems"].to_string();
    assert!(problems.contains("sauce") && problems.contains("\"line\""), "{problems}");
    push("changes", "{\"n\":3}");
    push("stays", "{\"n\":3}");
    wait_until("it goes on as it was", || objects::lines(&scratch.path("stays")).len() == 3);
    assert!(!scratch.path("elsewhere").exists());

    // Partly: what cannot change is said and goes on; the rest is taken.
    scratch.configure(&format!(
        "max_bytes = \"1GiB\"\n{}",
        text(&[stream("stays", "stays"), stream("late", "late")])
    ));
    wait_until("the file is partly applied", || state()["state"] == "partly");
    assert_eq!(state()["at_next_start"], serde_json::json!(["buffer"]), "{}", state());
    push("late", "{\"n\":4}");
    // SIGHUP reads it again.
    let before = state()["reloads"].as_u64().unwrap();
    program.signal(Signal::HUP);
    wait_until("the file is read again", || state()["reloads"].as_u64().unwrap() > before);
    program.stop();
}

#[test]
fn stream_that_could_not_go_on_says_so_and_comes_back_with_a_later_reload() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(&format!("{POLICY}{}", stream("events", "one")));
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    let state = || client::get(at, "/v1/config").unwrap().json();
    let shown = || client::get(at, "/v1/streams/events").unwrap().json();
    // Neither the new definition nor the one before finds a place for its dead letters.
    let letters = scratch.path("data/dead-letters/default/events");
    std::fs::rename(&letters, scratch.path("away")).unwrap();
    std::fs::write(&letters, "").unwrap();
    scratch.configure(&format!("{POLICY}{}", stream("events", "two")));
    wait_until("it is said", || state()["pending"].to_string().contains("streams.events is to change"));
    let told = shown();
    assert_eq!((&told["state"], &told["owner"]), (&"failed".into(), &"file".into()), "{told}");
    assert!(told["reason"].to_string().contains("dead letters"), "{told}");
    let tried = of_file(&scratch, "default").pop().unwrap();
    assert_eq!((&*tried.0, &*tried.1, tried.2), ("CHANGE", "[streams.events]", 409));
    let listed = client::get(at, "/v1/streams").unwrap().json();
    assert_eq!((&listed[0]["state"], &listed[0]["owner"]), (&"failed".into(), &"file".into()), "{listed}");
    assert_eq!(client::push(at, "events", "{}").unwrap().status, 503);
    let body = br#"{"source":{"type":"http"},"outputs":[{"type":"directory","path":"out"}]}"#;
    let put = client::request(at, "PUT", "/v1/streams/events", &["content-type: application/json"], body);
    assert_eq!(put.unwrap().status, 409);
    // As the file is, whatever it was: first as it was before, then changed once more.
    for path in ["one", "three"] {
        let reloads = state()["reloads"].as_u64().unwrap();
        if path == "three" {
            std::fs::remove_file(&letters).unwrap();
        }
        scratch.configure(&format!("{POLICY}{}", stream("events", path)));
        wait_until("the file is read", || state()["reloads"].as_u64().unwrap() > reloads);
        assert_eq!(state()["state"], if path == "three" { "applied" } else { "partly" }, "{}", state());
    }
    assert_eq!(shown()["state"], "running");
    assert_eq!(client::push(at, "events", "{\"n\":1}").unwrap().status, 200);
    wait_until("it is delivered", || objects::lines(&scratch.path("three")).len() == 1);
    program.stop();
}

/// Method, table and status of what the file changed, out of the audit log of a tenant.
fn of_file(scratch: &Scratch, tenant: &str) -> Vec<(String, String, u64)> {
    let mut files = objects::files(&scratch.path("data/audit").join(tenant));
    files.retain(|file| file.to_string_lossy().ends_with("-changes.ndjson"));
    files.sort();
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let entries = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let text = |entry: &serde_json::Value, field: &str| entry[field].as_str().unwrap().to_owned();
    entries
        .filter(|entry| entry["who"]["address"] == "configuration file")
        .map(|entry| (text(&entry, "method"), text(&entry, "target"), entry["status"].as_u64().unwrap()))
        .collect()
}

#[test]
fn what_the_file_changes_is_in_the_audit_log_of_whom_it_concerns() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(&format!(
        "{POLICY}[tenants.gone]\n{}{}",
        stream("changes", "one"),
        stream("goes", "goes")
    ));
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    let made = |list: &[(&str, &str)]| -> Vec<(String, String, u64)> {
        list.iter().map(|(method, target)| ((*method).to_owned(), (*target).to_owned(), 200)).collect()
    };
    assert_eq!(of_file(&scratch, "default"), made(&[("ADD", "[tenants.gone]")]), "it was made at the start");
    scratch.configure(&format!(
        "[policy]\ndirectories = [\"out\", \"other\"]\n[quota]\nrequests = 99\n[tenants.team.quota]\nrequests = 7\n{}{}{}",
        stream("changes", "two"),
        stream("comes", "comes"),
        stream("theirs", "theirs").replace("[streams", "[tenants.team.streams"),
    ));
    wait_until("the file is applied", || client::get(at, "/v1/config").unwrap().json()["reloads"] == 1);
    let ours = made(&[
        ("ADD", "[tenants.gone]"),
        ("ADD", "[tenants.team]"),
        ("REMOVE", "[tenants.gone]"),
        ("CHANGE", "[quota]"),
        ("CHANGE", "[policy]"),
        ("REMOVE", "[streams.goes]"),
        ("CHANGE", "[streams.changes]"),
        ("ADD", "[streams.comes]"),
    ]);
    assert_eq!(of_file(&scratch, "default"), ours);
    let theirs = made(&[("CHANGE", "[tenants.team.quota]"), ("ADD", "[tenants.team.streams.theirs]")]);
    assert_eq!(of_file(&scratch, "team"), theirs);
    let shown = client::get(at, "/v1/audit?limit=1000").unwrap().json();
    let last = shown["entries"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["route"], &last["target"]), (&"[streams.NAME]".into(), &"[streams.comes]".into()));
    // A file that says nothing new changes nothing.
    program.signal(Signal::HUP);
    wait_until("the file is read again", || client::get(at, "/v1/config").unwrap().json()["reloads"] == 2);
    assert_eq!((of_file(&scratch, "default"), of_file(&scratch, "team")), (ours, theirs));
    program.stop();
}

#[test]
fn file_and_api_do_not_take_one_another_s_streams() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(&format!("{POLICY}{}", stream("filed", "filed")));
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    let put = |name: &str| {
        let body =
            br#"{"source":{"type":"http"},"outputs":[{"type":"directory","path":"out","interval":"0s"}]}"#;
        let headers = ["content-type: application/json"];
        client::request(at, "PUT", &format!("/v1/streams/{name}"), &headers, body).unwrap().status
    };
    assert_eq!((put("events"), put("filed")), (201, 409));
    scratch.configure(&format!("{POLICY}{}{}", stream("filed", "filed"), stream("events", "stolen")));
    let state = || client::get(at, "/v1/config").unwrap().json();
    wait_until("it is said", || state()["pending"].to_string().contains("streams.events"));
    assert_eq!(client::push(at, "events", "{\"n\":1}").unwrap().status, 200);
    wait_until("the other goes on", || objects::lines(&scratch.out()).len() == 1);
    assert!(!scratch.path("stolen").exists());
    // What the policy allows changes with the file, too.
    scratch.configure(&stream("filed", "filed"));
    wait_until("it is applied", || state()["state"] == "applied");
    assert_eq!(put("another"), 422);
    program.stop();
}

#[test]
fn stream_that_was_lost_and_is_taken_out_is_no_reason_not_to_be_ready() {
    let Some(binary) = binary() else { return };
    let (policy, quota) = (POLICY, "[quota]\nstreams = 1\n");
    let scratch = Scratch::new(&format!("{policy}{quota}{}", stream("events", "one")));
    let program = Program::start(&binary, &scratch.config());
    let at = program.address();
    let state = || client::get(at, "/v1/config").unwrap().json();
    let ready = || client::get(at, "/readyz").unwrap().status;
    let letters = scratch.path("data/dead-letters/default/events");
    std::fs::rename(&letters, scratch.path("away")).unwrap();
    std::fs::write(&letters, "").unwrap();
    scratch.configure(&format!("{policy}{quota}{}", stream("events", "two")));
    wait_until("it is said", || state()["pending"].to_string().contains("streams.events is to change"));
    assert_eq!(ready(), 503);
    scratch.configure(&format!("{policy}{quota}"));
    wait_until("the file is applied", || state()["state"] == "applied");
    assert_eq!(ready(), 200);
    // The quota is of those that are made over HTTP: those of the file all run.
    scratch.configure(&format!("{policy}{quota}{}{}", stream("one", "one"), stream("two", "two")));
    for name in ["one", "two"] {
        wait_until(name, || client::push(at, name, "{\"n\":1}").unwrap().status == 200);
    }
    assert_eq!(state()["state"], "applied", "{}", state());
    let body = br#"{"source":{"type":"http"},"outputs":[{"type":"directory","path":"out"}]}"#;
    let put = client::request(at, "PUT", "/v1/streams/third", &["content-type: application/json"], body);
    assert_eq!(put.unwrap().status, 409);
    program.stop();
}
