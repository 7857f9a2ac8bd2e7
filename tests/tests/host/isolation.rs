//! A tenant whose plugins run in a process of their own: what that process has, and what its end costs.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use wasmill_tests::client::{self, push};
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::{wait_for, wait_until};

const STREAMS: &str = r#"#whole
    isolation = "process"
    [http]
    listen = "127.0.0.1:0"
    [buffer]
    journal_file = "1MiB"
    [streams.events]
    source = { type = "http" }
    max_failed_percent = 100
    transforms = [{ plugin = "picky", limits = { memory = "8MiB", deadline = "100ms" } }]
    outputs = [{ type = "directory", path = "out", interval = "0s" }]
    [tenants.near]
    plugin_dir = "plugins"
    isolation = "thread"
    [tenants.near.streams.events]
    source = { type = "http" }
    transforms = [{ plugin = "picky" }]
    outputs = [{ type = "directory", path = "near", interval = "0s" }]
"#;

/// Processes that run plugins for this program.
fn processes(program: &Program) -> Vec<u32> {
    let children = |parent: u32| {
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
        let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        lists.flat_map(|list| list.split(' ').filter_map(|pid| pid.trim().parse().ok()).collect::<Vec<u32>>())
    };
    let runs_plugins = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"run-plugins")
    };
    children(program.id()).filter(runs_plugins).collect()
}

fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// Soft and hard, of those that are bounded.
fn limits(pid: u32) -> BTreeMap<String, (u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = |line: &str| {
        let (name, rest) = line.split_at_checked(26)?;
        let mut bounds = rest.split_whitespace().map(|bound| bound.parse().ok());
        Some((name.trim().to_owned(), (bounds.next()??, bounds.next()??)))
    };
    text.lines().filter_map(limit).collect()
}

/// It may be gone already.
fn end(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let ended = kill_process(pid, Signal::KILL);
    assert!(ended.is_ok() || ended == Err(rustix::io::Errno::SRCH), "{ended:?}");
}

#[test]
fn process_has_nothing_but_its_socket_and_its_end_costs_no_record() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(STREAMS);
    scratch.deploy("picky", &Guest::picky());
    let program = Program::start(&binary, &scratch.config());
    let to = program.address();

    let mut expected = Vec::new();
    let mut number = 0;
    let mut some = |kinds: &[&str]| -> String {
        let lines = kinds.iter().map(|kind| {
            number += 1;
            let line = format!("{{\"n\":{number}}}");
            match *kind {
                "" => {
                    expected.push(number);
                    line
                }
                kind => format!("{kind}{line}"),
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    // What fails in the sandbox fails there as it does here.
    assert_eq!(
        push(to, "events", &some(&["", "x", "", "d", "l", "", "m", "z", "e", ""])).unwrap().status,
        200
    );
    wait_until("what passes is delivered", || objects::lines(&scratch.out()).len() == 4);
    let letters = wait_for("five letters", || {
        let letters = scratch.letters("events");
        (letters.len() >= 5).then_some(letters)
    });
    let mut reasons: Vec<_> = letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons.len(), 5);
    assert!(reasons.iter().any(|reason| reason.contains("unreachable")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("CPU time")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("memory limit")), "{reasons:?}");

    let pids = processes(&program);
    assert!(!pids.is_empty(), "no process runs plugins");
    for pid in &pids {
        let status = status(*pid);
        assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"));
        let limits = limits(*pid);
        for (what, bound) in [
            ("Max data size", 1 << 30),
            ("Max file size", 64 << 10),
            ("Max core file size", 0),
            ("Max open files", 3),
        ] {
            assert_eq!(limits[what], (bound, bound), "{what}");
        }
        assert_eq!(fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
        let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let files: Vec<_> = files.map(|file| fs::read_link(file.unwrap().path()).unwrap()).collect();
        let known = |file: &&std::path::PathBuf| {
            let file = file.to_string_lossy();
            file.starts_with("socket:") || file.starts_with("/memfd:")
        };
        assert_eq!(files.iter().filter(known).count(), files.len(), "{files:?}");
    }

    // Ended again and again while it works, it costs nothing, and the tenant beside it does not notice.
    for round in 0..10 {
        assert_eq!(push(to, "events", &some(&[""; 200])).unwrap().status, 200);
        if round % 2 == 0 {
            for pid in processes(&program) {
                end(pid);
            }
        }
    }
    // The last record that came is not to blame for a process that is gone.
    for _ in 0..3 {
        for pid in processes(&program) {
            end(pid);
        }
        assert_eq!(push(to, "events", &some(&[""])).unwrap().status, 200);
    }
    wait_until("everything is delivered", || objects::lines(&scratch.out()).len() >= expected.len());
    let mut delivered = objects::numbers(&scratch.out(), "n");
    delivered.sort_unstable();
    assert_eq!(delivered, expected);
    assert_eq!(scratch.letters("events").len(), 5);
    let metrics = client::get(to, "/metrics").unwrap().body;
    let value = |name: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    assert!(value("wasmill_plugin_processes_started_total ") > value("wasmill_plugin_processes_lost_total "));
    program.stop();
}

#[test]
fn tenant_that_comes_with_the_file_runs_where_the_file_says_and_one_that_is_open_where_it_was_opened() {
    let Some(binary) = binary() else { return };
    let host = "#whole\n[http]\nlisten = \"127.0.0.1:0\"\n[buffer]\njournal_file = \"1MiB\"\n";
    let tenant = |isolation: &str, plugin: &str| {
        format!(
            "[tenants.far]\nplugin_dir = \"plugins\"\nisolation = \"{isolation}\"\n[tenants.far.streams.events]\n\
             source = {{ type = \"http\" }}\ntransforms = [{{ plugin = \"{plugin}\" }}]\n\
             outputs = [{{ type = \"directory\", path = \"far\", interval = \"0s\" }}]\n"
        )
    };
    let ours = "[streams.events]\nsource = { type = \"http\" }\ntransforms = [{ plugin = \"picky\" }]\n\
        outputs = [{ type = \"directory\", path = \"out\", interval = \"0s\" }]\n";
    let scratch = Scratch::new(&format!("{host}{ours}"));
    scratch.deploy("picky", &Guest::picky());
    let program = Program::start(&binary, &scratch.config());
    let to = program.address();
    let state = || client::get(to, "/v1/config").unwrap().json();
    // Refused as a whole: the tenant that was opened to look at it is not open.
    scratch.configure(&format!("{host}{ours}{}", tenant("thread", "missing")));
    wait_until("the file is refused", || state()["state"] == "refused");
    scratch.configure(&format!("{host}{ours}{}", tenant("process", "picky")));
    wait_until("the file is applied", || state()["state"] == "applied");
    assert!(!processes(&program).is_empty(), "the chain of a new tenant was built on the host's threads");
    // Both are open by now.
    let turned = format!("{host}{ours}{}", tenant("thread", "picky"))
        .replace("[http]", "isolation = \"process\"\n[http]");
    scratch.configure(&turned);
    wait_until("the file is partly applied", || state()["state"] == "partly");
    assert_eq!(state()["at_next_start"], serde_json::json!(["isolation", "tenants.far.isolation"]));
    assert_eq!(push(to, "events", "{}").unwrap().status, 200);
    wait_until("it is delivered", || objects::lines(&scratch.out()).len() == 1);
    program.stop();
}

#[test]
fn processes_end_with_the_host() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(STREAMS);
    scratch.deploy("picky", &Guest::picky());
    let program = Program::start(&binary, &scratch.config());
    assert_eq!(push(program.address(), "events", "{}").unwrap().status, 200);
    wait_until("it is delivered", || objects::lines(&scratch.out()).len() == 1);
    let pids = processes(&program);
    assert!(!pids.is_empty());
    program.kill();
    wait_until("they see that it has gone", || {
        pids.iter().all(|pid| {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        })
    });
}
