//! Streams that come, change and go while their host runs.

use std::path::Path;
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
async fn stream_that_cannot_deliver_goes_on_as_it_was_unless_what_waits_is_to_be_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let running = host(dir.path()).await;
    let host = &running.host;
    // Nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nowhere = format!("type = \"http\"\nurl = \"http://127.0.0.1:{port}/\"\ninterval = \"0s\"\n");
    host.add_stream(stream(dir.path(), "", &nowhere)).await.unwrap();
    running.push("events", "{\"n\":1}").await;
    let soon = Duration::from_millis(300);
    let refused = host.replace_stream(stream(dir.path(), "", &directory("out")), soon).await;
    assert!(matches!(refused, Err(ChangeError::NotDrained { .. })), "{refused:?}");
    let receipt = running.push("events", "{\"n\":2}").await;
    assert_eq!(receipt["first_offset"], 1, "{receipt}");
    let refused = host.remove_stream("default", "events", soon, false).await;
    assert!(matches!(refused, Err(ChangeError::NotDrained { .. })), "{refused:?}");
    host.remove_stream("default", "events", soon, true).await.unwrap();
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
        matches!(&refused, Err(ChangeError::Invalid(texts)) if texts[0].contains("nothere")),
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
