//! The workers of the real binary between tenants: CPU time, and instances that are kept warm.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use wasmill_tests::client::{self, get, push_as};
use wasmill_tests::guest::Guest;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

/// The sum over all series of a metric that have these labels.
fn metric(program: &Program, name: &str, labels: &[&str]) -> f64 {
    let text = get(program.address(), "/metrics").unwrap().body;
    let of = |line: &&str| {
        line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| line.contains(label))
    };
    text.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// A file source of the tenant `acme`, whose plugin loops on every record until its deadline, and a stream of `default`.
fn burning(quota: &str) -> Scratch {
    let scratch = Scratch::new(&format!(
        r#"#whole
        workers = 2
        [http]
        listen = "127.0.0.1:0"
        [buffer]
        journal_file = "1MiB"
        {quota}
        [streams.events]
        source = {{ type = "http" }}
        transforms = [{{ plugin = "pass" }}]
        outputs = [{{ type = "directory", path = "out", interval = "0s" }}]
        [tenants.acme]
        plugin_dir = "plugins"
        [tenants.acme.streams.burns]
        source = {{ type = "file", paths = ["burns.log"], follow = true }}
        max_failed_percent = 100
        outputs = [{{ type = "directory", path = "burnt", interval = "0s" }}]
        [[tenants.acme.streams.burns.transforms]]
        plugin = "picky"
        limits = {{ deadline = "100ms" }}
        "#
    ));
    scratch.deploy("pass", &Guest::pass(0));
    scratch.deploy("picky", &Guest::picky());
    std::fs::write(scratch.path("burns.log"), "l\n".repeat(200)).unwrap();
    scratch
}

/// More that the plugin loops on.
fn append(scratch: &Scratch, records: usize) {
    let mut file = OpenOptions::new().append(true).open(scratch.path("burns.log")).unwrap();
    file.write_all("l\n".repeat(records).as_bytes()).unwrap();
}

const OF_ACME: &[&str] = &["tenant=\"acme\""];

#[test]
fn tenant_whose_plugin_burns_its_deadline_slows_itself_alone() {
    let Some(binary) = binary() else { return };
    let scratch = burning("");
    let program = Program::start(&binary, &scratch.config());
    wait_until("the burner burns", || metric(&program, "wasmill_transform_traps_total", OF_ACME) >= 2.0);
    let mut given = 200.0;
    let left = |given: f64| given - metric(&program, "wasmill_stream_records_processed_total", OF_ACME);
    for _ in 0..100 {
        // However slow the other one is, this one does not run dry meanwhile.
        if left(given) < 150.0 {
            append(&scratch, 100);
            given += 100.0;
        }
        let answer =
            push_as(program.address(), "events", &["content-type: application/x-ndjson"], b"{\"n\":1}\n")
                .unwrap();
        assert_eq!(answer.status, 200);
    }
    wait_until("the other tenant's records are delivered", || objects::lines(&scratch.out()).len() == 100);
    assert!(left(given) >= 1.0, "the burner ran dry");
    drop(program.kill());
}

#[test]
fn tenant_uses_no_more_cpu_than_its_quota_although_threads_idle() {
    let Some(binary) = binary() else { return };
    let scratch = burning("[tenants.acme.quota]\ncpu = 0.1");
    std::fs::write(scratch.path("burns.log"), "").unwrap();
    let started = Instant::now();
    let program = Program::start(&binary, &scratch.config());
    let used = || metric(&program, "wasmill_tenant_cpu_seconds_total", OF_ACME);
    // A record at a time, so that a job is short: it burns its deadline, and alone once more.
    let mut given = 0.0;
    while started.elapsed() < Duration::from_secs(8) {
        if metric(&program, "wasmill_stream_records_processed_total", OF_ACME) >= given {
            append(&scratch, 1);
            given += 1.0;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let (used, elapsed) = (used(), started.elapsed().as_secs_f64());
    // What comes in the time, the burst at first, and what the last job has used beyond.
    assert!(used <= 0.1 * elapsed + 0.1 + 0.5, "{used} s of CPU time in {elapsed} s");
    assert!(used >= 0.3, "{used} s of CPU time: it has not run");
    assert_eq!(client::push(program.address(), "events", "{\"n\":1}").unwrap().status, 200);
    assert!(metric(&program, "wasmill_quota_refusals_total", &["acme", "\"cpu\""]) >= 1.0);
    drop(program.kill());
}

#[test]
fn warm_instances_are_bounded_however_many_streams_there_are() {
    let Some(binary) = binary() else { return };
    let streams: String = (0..12)
        .map(|n| {
            format!(
                "[streams.s{n}]\nsource = {{ type = \"http\" }}\ntransforms = [{{ plugin = \"p{n}\" }}]\n\
                 outputs = [{{ type = \"directory\", path = \"out{n}\", interval = \"0s\" }}]\n"
            )
        })
        .collect();
    let scratch = Scratch::new(&format!(
        "#whole\nworkers = 2\nwarm_instances = 4\n[http]\nlisten = \"127.0.0.1:0\"\n[buffer]\njournal_file = \"1MiB\"\n{streams}"
    ));
    for n in 0..12 {
        scratch.deploy(&format!("p{n}"), &Guest::pass(n));
    }
    let program = Program::start(&binary, &scratch.config());
    for round in 0..3 {
        for n in 0..12 {
            let answer = client::push(program.address(), &format!("s{n}"), "{\"n\":1}").unwrap();
            assert_eq!(answer.status, 200);
        }
        wait_until("all are delivered", || {
            (0..12).all(|n| objects::lines(&scratch.path(&format!("out{n}"))).len() == round + 1)
        });
        let warm = metric(&program, "wasmill_tenant_warm_instances", &[]);
        assert!((1.0..=4.0).contains(&warm), "{warm} instances are warm");
    }
    assert!(metric(&program, "wasmill_transform_instances_total", &[]) > 4.0);
    // As many streams as there is room for find theirs, whichever thread ran them last.
    let before = metric(&program, "wasmill_transform_instances_total", &[]);
    for round in 3..13 {
        for n in 0..4 {
            assert_eq!(client::push(program.address(), &format!("s{n}"), "{\"n\":1}").unwrap().status, 200);
        }
        wait_until("all are delivered", || {
            (0..4).all(|n| objects::lines(&scratch.path(&format!("out{n}"))).len() == round + 1)
        });
    }
    let fresh = metric(&program, "wasmill_transform_instances_total", &[]) - before;
    assert!(fresh <= 6.0, "{fresh} fresh instances for 40 slices of 4 streams");
    program.stop();
}
