//! Tables that are loaded by COPY, in a real PostgreSQL; only the COPY itself has a stand-in.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use wasmill_tests::client;
use wasmill_tests::copy_stand_in::{CopyStandIn, Cut};
use wasmill_tests::events::Events;
use wasmill_tests::postgres::Postgres;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::{Running, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::serve::Fault;
use wasmill_tests::store::Store;
use wasmill_tests::wait::{wait_for, wait_until};

use crate::COMPILER;
use crate::firehose::metric;
use crate::s3::{keys, with_credentials};

/// A warehouse: a server, the stand-in in front of it, and a store.
struct Warehouse {
    postgres: Postgres,
    copy: CopyStandIn,
    root: PathBuf,
    store: Store,
    _runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Warehouse {
    fn start(cut: impl Fn() -> Cut + Send + Sync + 'static) -> Option<Warehouse> {
        let postgres = Postgres::start()?;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("s3");
        fs::create_dir_all(root.join("lake")).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let store = Store::start(&runtime, &root, |_want| Fault::None, Arc::new(Events::default())).unwrap();
        let copy = CopyStandIn::start(postgres.address(), &root, cut);
        Some(Warehouse { postgres, copy, root, store, _runtime: runtime, _dir: dir })
    }

    /// A host that loads the stream `events` into `public.events`; `more` is of the output.
    fn scratch(&self, more: &str) -> Scratch {
        let place = format!("host = \"127.0.0.1\"\nport = {}\ntls = \"disable\"", self.copy.port());
        let retry = if more.contains("retry") { "" } else { "retry = { initial = \"5ms\", max = \"50ms\" }" };
        let output = format!("{place}\n{retry}\n{more}");
        let scratch = Scratch::new(&stream(&format!("http://{}", self.store.address), &output));
        fs::write(scratch.path("password"), Postgres::PASSWORD).unwrap();
        scratch
    }

    fn make_table(&self) {
        self.postgres.ask("CREATE TABLE events (n bigint NOT NULL, v text)");
    }

    /// All rows, in order; as often as they are there.
    fn numbers(&self) -> Vec<u64> {
        self.postgres.numbers("SELECT n FROM events ORDER BY n")
    }

    fn batches(&self) -> Vec<Vec<String>> {
        self.postgres.ask("SELECT batch, stream, output, records FROM wasmill_batches ORDER BY batch")
    }

    /// Objects below a prefix of the bucket.
    fn objects(&self, prefix: &str) -> Vec<PathBuf> {
        keys(&self.root.join("lake").join(prefix))
    }
}

fn stream(endpoint: &str, output: &str) -> String {
    let columns = if output.contains("columns") { "" } else { "columns = [\"n\", \"v\"]" };
    format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        [[streams.events.outputs]]
        type = "redshift"
        endpoint = "{endpoint}"
        region = "us-east-1"
        path_style = true
        bucket = "lake"
        prefix = "raw/"
        object = "it's {{batch}}{{extension}}"
        database = "postgres"
        user = "loader"
        password = {{ file = "password" }}
        table = "public.events"
        iam_role = "arn:aws:iam::123456789012:role/reads-lake"
        interval = "0s"
        {columns}
        {output}
        "#
    )
}

/// What `/metrics` says of its loads, in Firehose's words.
fn told(host: &Running, expected: [(&str, f64); 3]) {
    let text = client::get(host.address(), "/metrics").unwrap().body;
    for (name, value) in expected {
        assert_eq!(
            metric(&text, &format!("firehose_delivery_to_redshift_{name}"), "events"),
            value,
            "{name}"
        );
    }
}

fn push(program: &Program, body: &str) {
    let answer = client::push(program.address(), "events", body).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn rows_arrive_as_they_are_and_each_batch_is_noted_with_them() {
    with_credentials("redshift::rows_arrive_as_they_are_and_each_batch_is_noted_with_them", || {
        let Some(warehouse) = Warehouse::start(|| Cut::Never) else { return };
        warehouse.make_table();
        let scratch = warehouse.scratch("");
        let host = Running::start(&scratch.config(), COMPILER);
        let stats = host.stats("events");
        host.push("events", "{\"n\":1,\"v\":\"a\\tb\\\\\"}\n{\"n\":2,\"v\":null,\"other\":1}\n{\"n\":3,\"v\":\"größe ü 'x' \\\"y\\\"\"}");
        wait_until("they are loaded", || stats.outputs[0].delivered.get() == 3);
        let bytes = stats.outputs[0].bytes_raw.get() as f64;
        assert!(bytes > 0.0);
        told(&host, [("records_total", 3.0), ("bytes_total", bytes), ("success", 1.0)]);
        host.drain();
        let rows = warehouse.postgres.ask("SELECT n, v FROM events ORDER BY n");
        assert_eq!(rows, [["1", "a\tb\\"], ["2", ""], ["3", "größe ü 'x' \"y\""]]);
        let batches = warehouse.batches();
        assert_eq!(batches.len(), 1);
        let batch = &batches[0][0];
        assert_eq!(batches[0][1..], ["events", "default", "3"]);
        // What Redshift would have read.
        let copies = warehouse.copy.copies();
        let manifest = format!("s3://lake/raw/manifests/{batch}.manifest");
        assert_eq!(
            copies,
            [format!(
                "COPY \"public\".\"events\" (\"n\", \"v\") FROM '{manifest}' IAM_ROLE \
                 'arn:aws:iam::123456789012:role/reads-lake' MANIFEST GZIP JSON 'auto'"
            )]
        );
        let manifest: Value =
            serde_json::from_slice(&fs::read(warehouse.root.join(&manifest["s3://".len()..])).unwrap())
                .unwrap();
        let url = format!("s3://lake/raw/it's {batch}.ndjson.gz");
        assert_eq!(manifest, serde_json::json!({ "entries": [{ "url": url, "mandatory": true }] }));

        // Text of other kinds, by options of one's own, into columns in another order.
        let scratch = warehouse.scratch(
            "format = \"raw\"\ncompression = \"none\"\ncopy_options = \"CSV\"\ncolumns = [\"V\", \"n\"]\nname = \"csv\"",
        );
        let host = Running::start(&scratch.config(), COMPILER);
        let stats = host.stats("events");
        host.push("events", "\"a, b\",10\nc,11");
        wait_until("they are loaded", || stats.outputs[0].delivered.get() == 2);
        host.drain();
        let rows = warehouse.postgres.ask("SELECT n, v FROM events WHERE n >= 10 ORDER BY n");
        assert_eq!(rows, [["10", "a, b"], ["11", "c"]]);
        assert!(warehouse.copy.copies()[1].ends_with("MANIFEST CSV"), "{:?}", warehouse.copy.copies());
        assert!(warehouse.objects("raw/errors").is_empty());
    });
}

#[test]
fn batch_is_loaded_once_whenever_the_host_is_killed_and_connections_break() {
    with_credentials(
        "redshift::batch_is_loaded_once_whenever_the_host_is_killed_and_connections_break",
        || {
            let Some(binary) = binary() else { return };
            let turns: Mutex<VecDeque<Cut>> = Mutex::default();
            let cut = move || {
                let mut turns = turns.lock().unwrap();
                // Of each kind often enough, and now and then none.
                if turns.is_empty() {
                    let all = [
                        Cut::AfterCommit,
                        Cut::Never,
                        Cut::BeforeCommit,
                        Cut::AfterCommit,
                        Cut::AfterCommit,
                        Cut::Never,
                    ];
                    turns.extend(all);
                }
                turns.pop_front().unwrap()
            };
            let Some(warehouse) = Warehouse::start(cut) else { return };
            warehouse.make_table();
            let scratch = warehouse.scratch("");
            let mut sent = 0;
            for round in 0..12 {
                let program = Program::start(&binary, &scratch.config());
                let before = warehouse.numbers().len();
                for _ in 0..4 {
                    push(&program, &numbered(sent, 25));
                    sent += 25;
                }
                // At some moment of it, another one each time: at once, or when something has been loaded.
                if round % 3 > 0 {
                    wait_until("something is loaded", || warehouse.numbers().len() > before);
                }
                drop(program.kill());
            }
            let program = Program::start(&binary, &scratch.config());
            // One load after another, each with its failures: as long as there are more.
            for some in (0..=sent).step_by(100) {
                wait_until("more are there", || warehouse.numbers().len() as u64 >= some);
            }
            wait_until("all are there", || warehouse.numbers().len() as u64 >= sent);
            program.stop();
            assert_eq!(warehouse.numbers(), (0..sent).collect::<Vec<_>>());
            let noted: u64 = warehouse.batches().iter().map(|batch| batch[3].parse::<u64>().unwrap()).sum();
            assert_eq!(noted, sent);
            assert!(warehouse.copy.cuts() >= 10, "{} connections were broken", warehouse.copy.cuts());
            assert!(scratch.letters("events").is_empty() && warehouse.objects("raw/errors").is_empty());
        },
    );
}

#[test]
fn second_session_waits_until_it_is_known_what_became_of_the_first() {
    with_credentials("redshift::second_session_waits_until_it_is_known_what_became_of_the_first", || {
        let Some(warehouse) = Warehouse::start(|| Cut::Never) else { return };
        warehouse.make_table();
        let scratch = warehouse.scratch("timeout = \"1s\"");
        let host = Running::start(&scratch.config(), COMPILER);
        let stats = host.stats("events");
        host.push("events", &numbered(0, 2));
        wait_until("the first are loaded", || stats.outputs[0].delivered.get() == 2);
        // A session whose host has gone, in the middle of its load.
        let (begun, wait_begun) = std::sync::mpsc::sync_channel(1);
        let (end, wait_end) = std::sync::mpsc::sync_channel::<()>(1);
        std::thread::scope(|scope| {
            let postgres = &warehouse.postgres;
            scope.spawn(move || {
                postgres.within("BEGIN; LOCK TABLE wasmill_batches", "ROLLBACK", || {
                    begun.send(()).unwrap();
                    wait_end.recv().unwrap();
                });
            });
            wait_begun.recv().unwrap();
            host.push("events", &numbered(2, 2));
            let told = wait_for("it is told what it waits for", || {
                let said = host.state("events")["outputs"][0]["last_error"].as_str().map(str::to_owned);
                said.filter(|said| said.contains("lock"))
            });
            assert!(told.contains("another session holds the lock of \"wasmill_batches\""), "{told}");
            assert_eq!(warehouse.numbers(), [0, 1]);
            end.send(()).unwrap();
        });
        wait_until("the others are loaded", || stats.outputs[0].delivered.get() == 4);
        host.drain();
        assert_eq!(warehouse.numbers(), [0, 1, 2, 3]);
    });
}

#[test]
fn what_the_server_refuses_is_told_and_tried_again_until_it_is_mended() {
    with_credentials("redshift::what_the_server_refuses_is_told_and_tried_again_until_it_is_mended", || {
        let Some(warehouse) = Warehouse::start(|| Cut::Never) else { return };
        let scratch = warehouse.scratch("");
        fs::write(scratch.path("password"), "wrong").unwrap();
        let error = |host: &Running, part: &str| {
            wait_for(&format!("the error {part:?}"), || {
                let said = host.state("events")["outputs"][0]["last_error"].as_str().map(str::to_owned);
                said.filter(|said| said.contains(part))
            })
        };
        let host = Running::start(&scratch.config(), COMPILER);
        host.push("events", &numbered(0, 3));
        let told = error(&host, "28P01");
        assert!(told.contains("Redshift denies access") && told.contains("127.0.0.1"), "{told}");
        assert!(!told.contains("wrong"), "{told}");
        host.crash();
        fs::write(scratch.path("password"), Postgres::PASSWORD).unwrap();
        let host = Running::start(&scratch.config(), COMPILER);
        let told = error(&host, "42P01");
        assert!(
            told.contains("into \"public\".\"events\" is refused") && told.contains("s3://lake/raw/it's "),
            "{told}"
        );
        warehouse.postgres.ask("CREATE TABLE events (n bigint NOT NULL)");
        let told = error(&host, "42703");
        assert!(told.contains("column \"v\"") && told.contains("does not exist"), "{told}");
        warehouse.postgres.ask("ALTER TABLE events ADD COLUMN v text");
        let stats = host.stats("events");
        wait_until("they are loaded", || stats.outputs[0].delivered.get() == 3);
        // Rows that do not fit, as PostgreSQL says it and as Redshift does; neither shows what is in them.
        host.push("events", "{\"n\":\"hush\",\"v\":null}");
        let told = error(&host, "do not fit the table \"public\".\"events\"");
        assert!(told.contains("22P02") && !told.contains("hush"), "{told}");
        warehouse.postgres.ask(
            "CREATE VIEW stl_load_errors AS SELECT pg_backend_pid() AS session, now() AS starttime, 7 AS line_number, \
             'n   ' AS colname, 'Invalid digit' AS err_reason",
        );
        host.push("events", "{\"unfit\":true}");
        let told = error(&host, "line 7, column n: Invalid digit");
        assert!(told.contains("rows of s3://lake/raw/it's "), "{told}");
        // Others go on.
        host.push("events", &numbered(3, 1));
        wait_until("another one is loaded", || stats.outputs[0].delivered.get() == 4);
        host.crash();
        assert_eq!(warehouse.numbers(), [0, 1, 2, 3]);
    });
}

#[test]
fn batch_that_is_given_up_stays_in_the_bucket_is_listed_and_can_be_replayed_once() {
    let name = "redshift::batch_that_is_given_up_stays_in_the_bucket_is_listed_and_can_be_replayed_once";
    with_credentials(name, || {
        let Some(warehouse) = Warehouse::start(|| Cut::Never) else { return };
        let scratch = warehouse.scratch("retry = { initial = \"5ms\", max = \"20ms\", for = \"100ms\" }");
        let host = Running::start(&scratch.config(), COMPILER);
        let stats = host.stats("events");
        host.push("events", &numbered(0, 3));
        wait_until("the batch is a letter", || stats.dead_letters.delivery.get() == 1);
        told(&host, [("records_total", 0.0), ("bytes_total", 0.0), ("success", 0.0)]);
        let listed = warehouse.objects("raw/errors/manifests");
        assert_eq!(listed.len(), 1, "{listed:?}");
        let manifest: Value = serde_json::from_slice(&fs::read(&listed[0]).unwrap()).unwrap();
        let url = manifest["entries"][0]["url"].as_str().unwrap();
        assert!(warehouse.root.join(url.strip_prefix("s3://").unwrap()).is_file(), "{url}");
        let letters = scratch.letters("events");
        assert!(letters[0]["reason"].as_str().unwrap().contains("42P01"), "{letters:?}");
        warehouse.make_table();
        let replay = || {
            let address = host.address();
            let answer =
                client::request(address, "POST", "/v1/streams/events/dead-letters/replay", &[], b"").unwrap();
            assert_eq!(answer.status, 200, "{}", answer.body);
            answer.json()
        };
        let told = replay();
        assert_eq!(warehouse.numbers(), [0, 1, 2], "{told}");
        drop(replay());
        host.drain();
        assert_eq!(warehouse.numbers(), [0, 1, 2]);
        assert!(scratch.letters("events").is_empty());
    });
}

#[test]
fn old_batches_are_forgotten_and_young_ones_are_not() {
    with_credentials("redshift::old_batches_are_forgotten_and_young_ones_are_not", || {
        let Some(warehouse) = Warehouse::start(|| Cut::Never) else { return };
        warehouse.make_table();
        let scratch = warehouse.scratch("batches_table = \"public.loaded\"\nbatches_kept = \"2d\"");
        let load = |from: u64| {
            let host = Running::start(&scratch.config(), COMPILER);
            let stats = host.stats("events");
            host.push("events", &numbered(from, 1));
            wait_until("it is loaded", || stats.outputs[0].delivered.get() == 1);
            host.drain();
        };
        load(0);
        warehouse.postgres.ask(
            "INSERT INTO loaded SELECT 'old-' || i, 'events', 'default', 1, now() - interval '3 days' FROM generate_series(1, 7) i; \
             INSERT INTO loaded VALUES ('young', 'events', 'default', 1, now() - interval '1 day'), \
             ('other', 'events', 'other', 1, now() - interval '3 days')",
        );
        load(1);
        let left = warehouse.postgres.ask("SELECT batch FROM loaded WHERE length(batch) < 20 ORDER BY batch");
        assert_eq!(left, [["other"], ["young"]]);
        assert_eq!(warehouse.numbers(), [0, 1]);
    });
}

#[test]
fn connection_is_protected_as_it_is_asked_for() {
    with_credentials("redshift::connection_is_protected_as_it_is_asked_for", || {
        let rcgen::CertifiedKey { cert, signing_key: key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = cert.pem();
        let made = |home: &std::path::Path| {
            fs::write(home.join("server.crt"), &certificate).unwrap();
            let file = home.join("server.key");
            fs::write(&file, key.serialize_pem()).unwrap();
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let home = home.display();
            vec![
                "ssl=on".to_owned(),
                format!("ssl_cert_file={home}/server.crt"),
                format!("ssl_key_file={home}/server.key"),
            ]
        };
        let Some(postgres) = Postgres::start_with(made) else { return };
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("lake")).unwrap();
        let server = wasmill_tests::servers::S3Server::start(dir.path());
        let port = postgres.address().port();
        // Without the stand-in, the COPY is what fails.
        let copied = "is refused: syntax error";
        for (tls, part) in [
            ("tls = \"require\"", copied),
            ("tls = \"verify-full\"\nca = { file = \"ca.pem\" }", copied),
            ("", "invalid peer certificate"),
        ] {
            postgres.ask("DROP TABLE IF EXISTS wasmill_batches");
            let output = format!(
                "host = \"localhost\"\nport = {port}\n{tls}\nretry = {{ initial = \"5ms\", max = \"50ms\" }}"
            );
            let scratch = Scratch::new(&stream(&server.endpoint(), &output));
            fs::write(scratch.path("password"), Postgres::PASSWORD).unwrap();
            fs::write(scratch.path("ca.pem"), &certificate).unwrap();
            let host = Running::start(&scratch.config(), COMPILER);
            host.push("events", &numbered(0, 1));
            wait_until(&format!("{tls}: {part}"), || {
                let said = host.state("events")["outputs"][0]["last_error"].to_string();
                said.contains(part)
            });
            let is_made = postgres.try_ask("SELECT 1 FROM wasmill_batches").is_ok();
            assert_eq!(is_made, part == copied, "{tls}");
            host.crash();
        }
    });
}
