//! S3 as destination, against a real server in this process.
//!
//! Credentials come from the environment, which a process cannot change for itself: each test runs again in a child.

use std::fs;
use std::path::Path;

use wasmill_tests::again::with_environment;
use wasmill_tests::objects;
use wasmill_tests::running::{Running, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::servers::S3Server;
use wasmill_tests::wait::wait_until;

use crate::COMPILER;

pub(crate) fn with_credentials(test: &str, body: impl FnOnce()) {
    let variables = [
        ("AWS_ACCESS_KEY_ID", S3Server::ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", S3Server::SECRET_KEY),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    with_environment(test, &variables, body);
}

/// A host that delivers into the bucket `lake`.
fn scratch(endpoint: &str, more: &str) -> Scratch {
    Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        [[streams.events.outputs]]
        type = "s3"
        endpoint = "{endpoint}"
        region = "us-east-1"
        path_style = true
        bucket = "lake"
        prefix = "raw/"
        object = "{{batch}}{{extension}}"
        compression = "none"
        retry = {{ initial = "10ms", max = "50ms" }}
        {more}
        "#
    ))
}

/// Objects in the bucket; what the server keeps about them has names that begin with a dot.
pub(crate) fn keys(bucket: &Path) -> Vec<std::path::PathBuf> {
    let hidden = |file: &std::path::PathBuf| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
    };
    objects::files(bucket).into_iter().filter(|file| !hidden(file)).collect()
}

pub(crate) fn numbers(bucket: &Path) -> Vec<u64> {
    let mut found: Vec<u64> = keys(bucket)
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            text.lines().map(|line| objects::number(line, "n")).collect::<Vec<_>>()
        })
        .collect();
    found.sort_unstable();
    found
}

#[test]
fn objects_arrive_whole_in_one_request_and_in_parts() {
    with_credentials("s3::objects_arrive_whole_in_one_request_and_in_parts", || {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("s3");
        fs::create_dir_all(root.join("lake")).unwrap();
        let server = S3Server::start(&root);
        let scratch = scratch(&server.endpoint(), "size = \"20MiB\"\nmultipart_threshold = \"5MiB\"");
        let host = Running::start(&scratch.config(), COMPILER);
        let filler = "x".repeat(1_000_000);
        let mut sent: u64 = 0;
        for _ in 0..3 {
            let lines: Vec<String> =
                (sent..sent + 7).map(|n| format!("{{\"n\":{n},\"filler\":\"{filler}\"}}")).collect();
            assert_eq!(host.try_push("events", &lines.join("\n")).status, 200);
            sent += 7;
        }
        let stats = host.stats("events");
        wait_until("the large object is delivered", || stats.outputs[0].objects.get() > 0);
        host.push("events", &numbered(sent, 5));
        host.drain();
        assert_eq!(numbers(&root.join("lake")), (0..sent + 5).collect::<Vec<_>>());
        let sizes: Vec<u64> =
            keys(&root.join("lake")).iter().map(|file| file.metadata().unwrap().len()).collect();
        assert!(sizes.iter().any(|size| *size > 16 << 20), "no object in parts: {sizes:?}");
        assert!(objects::files(&scratch.path("data/spool")).is_empty());
        assert!(keys(&root.join("lake")).iter().all(|file| file.starts_with(root.join("lake/raw"))));
    });
}

#[test]
fn store_that_was_down_gets_everything_once_without_a_restart() {
    with_credentials("s3::store_that_was_down_gets_everything_once_without_a_restart", || {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("s3");
        fs::create_dir_all(root.join("lake")).unwrap();
        let server = S3Server::start(&root);
        let (address, endpoint) = (server.address(), server.endpoint());
        let scratch = scratch(&endpoint, "interval = \"0s\"");
        let host = Running::start(&scratch.config(), COMPILER);
        let stats = host.stats("events");
        host.push("events", &numbered(0, 10));
        wait_until("the first object is delivered", || stats.outputs[0].delivered.get() == 10);
        drop(server);
        for n in 1..20 {
            host.push("events", &numbered(n * 10, 10));
        }
        wait_until("deliveries fail", || stats.outputs[0].retries.get() > 10);
        let _server = S3Server::start_at(&root, address);
        wait_until("everything is delivered", || stats.outputs[0].delivered.get() == 200);
        host.drain();
        assert_eq!(numbers(&root.join("lake")), (0..200).collect::<Vec<_>>());
    });
}

#[test]
fn object_of_somebody_else_stops_the_output_and_is_not_overwritten() {
    with_credentials("s3::object_of_somebody_else_stops_the_output_and_is_not_overwritten", || {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("s3");
        fs::create_dir_all(root.join("lake/raw")).unwrap();
        let server = S3Server::start(&root);
        let (address, endpoint) = (server.address(), server.endpoint());
        drop(server);
        let scratch = scratch(&endpoint, "interval = \"0s\"");
        let host = Running::start(&scratch.config(), COMPILER);
        // More than an outcome carries: the spooled file's name tells what the object will be called.
        let filler = "x".repeat(1_000_000);
        host.push("events", &format!("{{\"n\":0,\"filler\":\"{filler}\"}}"));
        let spool = scratch.path("data/spool");
        wait_until("the object is spooled", || objects::files(&spool).len() == 1);
        let name = objects::files(&spool)[0].file_name().unwrap().to_string_lossy().into_owned();
        let taken = root.join("lake/raw").join(format!("{name}.ndjson"));
        fs::write(&taken, "somebody else's").unwrap();
        let _server = S3Server::start_at(&root, address);
        wait_until("the output stops", || host.state("events")["outputs"][0]["stopped"] == true);
        assert_eq!(fs::read_to_string(&taken).unwrap(), "somebody else's");
        assert_eq!(host.stats("events").outputs[0].pending.get(), 1);
        assert!(scratch.letters("events").is_empty());
        host.crash();
        fs::remove_file(&taken).unwrap();
        Running::start(&scratch.config(), COMPILER).drain();
        assert_eq!(numbers(&root.join("lake")), [0]);
    });
}

#[test]
fn object_that_is_ours_already_counts_as_delivered() {
    with_credentials("s3::object_that_is_ours_already_counts_as_delivered", || {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("s3");
        fs::create_dir_all(root.join("lake")).unwrap();
        let server = S3Server::start(&root);
        let scratch = scratch(&server.endpoint(), "interval = \"0s\"");
        let mut sent = 0;
        // Crashes between an object's arrival and the note of it. (Not before its arrival: this server stores an object
        // and what is known about it one after the other, and a request that breaks off leaves the one without the
        // other.)
        for _ in 0..5 {
            let host = Running::start(&scratch.config(), COMPILER);
            let stats = host.stats("events");
            for _ in 0..5 {
                host.push("events", &numbered(sent, 2));
                sent += 2;
            }
            wait_until("everything is delivered", || {
                stats.processed.get() == 10 && stats.outputs[0].pending.get() == 0
            });
            host.crash();
        }
        Running::start(&scratch.config(), COMPILER).drain();
        assert_eq!(numbers(&root.join("lake")), (0..sent).collect::<Vec<_>>());
    });
}

#[test]
fn staged_object_is_kept_until_its_delivery_is_noted() {
    with_credentials("s3::staged_object_is_kept_until_its_delivery_is_noted", || {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("s3");
        fs::create_dir_all(root.join("lake")).unwrap();
        let server = S3Server::start(&root);
        let scratch = scratch(&server.endpoint(), "interval = \"0s\"");
        // More than an outcome carries.
        let filler = "x".repeat(600_000);
        // Each crash comes when the object has arrived, and mostly before that is noted.
        for n in 0..6 {
            let host = Running::start(&scratch.config(), COMPILER);
            let stats = host.stats("events");
            host.push("events", &format!("{{\"n\":{n},\"filler\":\"{filler}\"}}"));
            wait_until("it is delivered", || {
                stats.processed.get() == 1 && stats.outputs[0].pending.get() == 0
            });
            host.crash();
        }
        Running::start(&scratch.config(), COMPILER).drain();
        assert_eq!(numbers(&root.join("lake")), (0..6).collect::<Vec<_>>());
        assert!(objects::files(&scratch.path("data/spool")).is_empty());
    });
}
