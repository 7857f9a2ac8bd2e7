//! Streams that come, change and go while their host runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasmill::pipeline::ChangeError;
use wasmill_config::{Settings, Stream};

use crate::support::{Running, read_objects, write_config};

const DRAIN: Duration = Duration::from_secs(20);

fn stream(dir: &Path, tenant: &str, output: &str) -> Stream {
    let text = format!(
        "data_dir = \"data\"\n[tenants.other]\n[{tenant}streams.events]\nsource = {{ type = \"http\" }}\n\
         retention = {{ age = \"1h\" }}\n[[{tenant}streams.events.outputs]]\n{output}"
    );
    Settings::from_toml(&text, &dir.join("wasmill.toml")).unwrap().streams.remove(0)
}

fn directory(path: &str) -> String {
    format!("type = \"directory\"\npath = \"{path}\"\nformat = \"ndjson\"\n")
}

async fn host(dir: &Path) -> Running {
    let config = write_config(
        dir,
        "[streams.idle]\nsource = { type = \"http\" }\n[[streams.idle.outputs]]\ntype = \"directory\"\npath = \"idle\"",
    );
    Running::start(&config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_is_added_changed_and_removed_and_every_record_is_where_it_was_to_go() {
    let dir = tempfile::tempdir().unwrap();
    let running = host(dir.path()).await;
    let host = &running.host;
    host.add_stream(stream(dir.path(), "", &directory("one"))).await.unwrap();
    running.push("events", "{\"n\":1}\n{\"n\":2}").await;
    let again = host.add_stream(stream(dir.path(), "", &directory("one"))).await;
    assert!(matches!(again, Err(ChangeError::Exists { .. })), "{again:?}");

    host.replace_stream(stream(dir.path(), "", &directory("two")), DRAIN).await.unwrap();
    assert_eq!(read_objects(&dir.path().join("one")).len(), 2);
    let receipt = running.push("events", "{\"n\":3}").await;
    assert_eq!(receipt["first_offset"], 2, "offsets go on: {receipt}");

    host.remove_stream("default", "events", DRAIN, false).await.unwrap();
    assert_eq!(read_objects(&dir.path().join("two")), ["{\"n\":3}"]);
    let gone = host.remove_stream("default", "events", DRAIN, false).await;
    assert!(matches!(gone, Err(ChangeError::NoStream { .. })), "{gone:?}");
    assert!(!dir.path().join("data/dead-letters/default/events").exists());

    host.add_stream(stream(dir.path(), "", &directory("three"))).await.unwrap();
    let receipt = running.push("events", "{\"n\":4}").await;
    assert_eq!(receipt["first_offset"], 0, "another stream of the same name: {receipt}");
    host.drain(DRAIN).await.unwrap();
    assert_eq!(read_objects(&dir.path().join("three")), ["{\"n\":4}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_whose_only_stream_changes_or_goes_has_not_ended() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(
        dir.path(),
        &format!(
            "[streams.events]\nsource = {{ type = \"http\" }}\n[[streams.events.outputs]]\n{}",
            directory("one")
        ),
    );
    let running = Running::start(&config).await;
    let host = &running.host;
    let change = async {
        host.replace_stream(stream(dir.path(), "", &directory("two")), DRAIN).await.unwrap();
        host.remove_stream("default", "events", DRAIN, false).await.unwrap();
        host.add_stream(stream(dir.path(), "", &directory("three"))).await.unwrap();
    };
    tokio::select! {
        biased;
        () = host.ended() => panic!("it ended by itself"),
        () = change => {}
    }
    host.drain(DRAIN).await.unwrap();
    let late = host.add_stream(stream(dir.path(), "tenants.other.", &directory("four"))).await;
    assert!(late.is_err(), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_that_cannot_deliver_goes_on_as_it_was_unless_what_waits_is_to_be_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let running = host(dir.path()).await;
    let host = &running.host;
    let sink = Sink::start();
    let there = format!(
        "type = \"http\"\nurl = \"http://{}/\"\ninterval = \"0s\"\nretry = {{ initial = \"10ms\", max = \"50ms\" }}\n",
        sink.address
    );
    host.add_stream(stream(dir.path(), "", &there)).await.unwrap();
    running.push("events", "{\"n\":1}").await;
    let soon = Duration::from_millis(300);
    let refused = host.replace_stream(stream(dir.path(), "", &directory("out")), soon).await;
    assert!(matches!(refused, Err(ChangeError::NotDrained { .. })), "{refused:?}");
    let receipt = running.push("events", "{\"n\":2}").await;
    assert_eq!(receipt["first_offset"], 1, "{receipt}");
    let refused = host.remove_stream("default", "events", soon, false).await;
    assert!(matches!(refused, Err(ChangeError::NotDrained { .. })), "{refused:?}");
    sink.up.store(true, Ordering::Relaxed);
    host.replace_stream(stream(dir.path(), "", &there), DRAIN).await.unwrap();
    let mut taken = sink.taken.lock().unwrap().clone();
    taken.sort();
    assert_eq!(taken, ["{\"n\":1}", "{\"n\":2}"], "each once, whatever was tried before");
    sink.up.store(false, Ordering::Relaxed);
    running.push("events", "{\"n\":3}").await;
    host.remove_stream("default", "events", soon, true).await.unwrap();
    host.drain(DRAIN).await.unwrap();
}

/// A destination that takes requests only while it is up.
struct Sink {
    address: SocketAddr,
    up: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<String>>>,
}

impl Sink {
    /// Its thread ends with the test program.
    fn start() -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (up, taken): (Arc<AtomicBool>, Arc<Mutex<Vec<String>>>) = Default::default();
        let sink = Sink { address: listener.local_addr().unwrap(), up: up.clone(), taken: taken.clone() };
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = BufReader::new(connection.unwrap());
                let mut length = 0;
                let mut line = String::new();
                while connection.read_line(&mut line).unwrap_or(0) > 2 {
                    if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = text.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                if connection.read_exact(&mut body).is_err() {
                    continue;
                }
                let status = if up.load(Ordering::Relaxed) { "200 OK" } else { "503 Service Unavailable" };
                if status.starts_with("200") {
                    let lines = String::from_utf8(body).unwrap();
                    taken.lock().unwrap().extend(lines.lines().map(str::to_owned));
                }
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                // Who asked may have been cut off.
                drop(connection.get_mut().write_all(answer.as_bytes()));
            }
        });
        sink
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_that_keeps_dead_letters_is_not_removed_unless_they_are_to_be_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let running = host(dir.path()).await;
    let host = &running.host;
    host.add_stream(stream(dir.path(), "", &directory("out"))).await.unwrap();
    running.push("events", "no json").await;
    let kept = || host.stats().iter().map(|stream| stream.dead_letters.kept.get()).sum::<u64>();
    // The stream is drained before it is looked at again; the letter is there in any case.
    let refused = host.remove_stream("default", "events", DRAIN, false).await;
    assert!(matches!(refused, Err(ChangeError::Letters { letters: 1, .. })), "{refused:?}");
    assert_eq!(kept(), 1, "it goes on with its letter");
    running.push("events", "{\"n\":1}").await;
    host.remove_stream("default", "events", DRAIN, true).await.unwrap();
    assert_eq!(read_objects(&dir.path().join("out")), ["{\"n\":1}"]);
    host.drain(DRAIN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn definition_that_cannot_run_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = host(dir.path()).await;
    let host = &running.host;
    host.add_stream(stream(dir.path(), "", &directory("out"))).await.unwrap();
    let wrong = format!("{}[[streams.events.transforms]]\nplugin = \"nothere\"", directory("out"));
    let refused = host.replace_stream(stream(dir.path(), "", &wrong), DRAIN).await;
    assert!(
        matches!(&refused, Err(ChangeError::Invalid(flaws)) if flaws[0].message.contains("nothere")),
        "{refused:?}"
    );
    let refused = host.replace_stream(stream(dir.path(), "", &directory("data/out")), DRAIN).await;
    assert!(
        matches!(&refused, Err(ChangeError::Invalid(flaws)) if flaws[0].message.contains("data directory")),
        "{refused:?}"
    );
    let receipt = running.push("events", "{\"n\":1}").await;
    assert_eq!(receipt["first_offset"], 0, "{receipt}");
    host.drain(DRAIN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_name_in_two_tenants_have_nothing_in_common() {
    let dir = tempfile::tempdir().unwrap();
    let running = host(dir.path()).await;
    let host = &running.host;
    host.add_stream(stream(dir.path(), "", &directory("mine"))).await.unwrap();
    host.add_stream(stream(dir.path(), "tenants.other.", &directory("theirs"))).await.unwrap();
    running.push("events", "{\"n\":1}").await;
    host.remove_stream("other", "events", DRAIN, false).await.unwrap();
    assert_eq!(read_objects(&dir.path().join("theirs")), Vec::<String>::new());
    host.drain(DRAIN).await.unwrap();
    assert_eq!(read_objects(&dir.path().join("mine")), ["{\"n\":1}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_of_the_configuration_runs_past_the_quota_of_its_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(
        dir.path(),
        "[tenants.default.quota]\nstreams = 1\n[streams.idle]\nsource = { type = \"http\" }\n\
         [[streams.idle.outputs]]\ntype = \"directory\"\npath = \"idle\"",
    );
    let running = Running::start(&config).await;
    // It is for those over HTTP: who writes the configuration has set it.
    running.host.add_stream(stream(dir.path(), "", &directory("one"))).await.unwrap();
    running.host.add_stream(stream(dir.path(), "tenants.other.", &directory("two"))).await.unwrap();
    running.host.drain(DRAIN).await.unwrap();
}
