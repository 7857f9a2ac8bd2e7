//! S3 that refuses, breaks connections, loses answers, is slow, or does not know conditions: everything arrives once when
//! it is well again, without a restart, and nobody else waits for it.
//!
//! The store is a real server behind a front that injects faults. The tests run again in a child; see `s3`.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use wasmill_deliver::{Config, Credentials, Delivered, Destination, Object, ObjectMeta, Retry, S3Config};
use wasmill_tests::events::{Event, Events};
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::{Running, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::serve::{Fault, Refusal};
use wasmill_tests::servers::S3Server;
use wasmill_tests::store::{Store, Want};
use wasmill_tests::wait::{wait_for, wait_until};
use wasmill_tests::{client, objects};

use crate::COMPILER;
use crate::s3::{keys, numbers, with_credentials};

/// What ails the store: the fault, what it befalls, and how often it still does.
struct Trouble {
    fault: Fault,
    befalls: fn(&Want) -> bool,
    times: usize,
}

/// When a request met the trouble.
#[derive(Default)]
struct Health {
    trouble: Option<Trouble>,
    met: Vec<Instant>,
}

impl Health {
    fn meet(&mut self, want: &Want) -> Fault {
        match &mut self.trouble {
            Some(trouble) if trouble.times > 0 && (trouble.befalls)(want) => {
                trouble.times -= 1;
                self.met.push(Instant::now());
                trouble.fault
            }
            _ => Fault::None,
        }
    }
}

const ALWAYS: usize = usize::MAX;

fn every(_: &Want) -> bool {
    true
}

/// A store with the bucket `lake`.
struct Lake {
    dir: tempfile::TempDir,
    health: Arc<Mutex<Health>>,
    events: Arc<Events>,
    store: Store,
    _runtime: Runtime,
}

impl Lake {
    fn start() -> Lake {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lake")).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (health, events) = (Arc::new(Mutex::new(Health::default())), Arc::new(Events::default()));
        let asked = health.clone();
        let fault = move |want: &Want| asked.lock().unwrap().meet(want);
        let store = Store::start(&runtime, dir.path(), fault, events.clone()).unwrap();
        Lake { dir, health, events, store, _runtime: runtime }
    }

    fn bucket(&self) -> PathBuf {
        self.dir.path().join("lake")
    }

    fn falls_ill(&self, fault: Fault, befalls: fn(&Want) -> bool, times: usize) {
        self.health.lock().unwrap().trouble = Some(Trouble { fault, befalls, times });
    }

    fn is_well(&self) {
        self.health.lock().unwrap().trouble = None;
    }

    fn met(&self) -> Vec<Instant> {
        self.health.lock().unwrap().met.clone()
    }

    /// Uploads that somebody left open; one of a probe that a stop cut short waits for the next probe.
    fn open_uploads(&self) -> Vec<String> {
        let mut open = self.store.open_uploads();
        open.retain(|key| !key.contains(".wasmill-probe"));
        open
    }

    /// A host with an S3 output, another output, and another stream.
    fn scratch(&self) -> Scratch {
        Scratch::new(&format!(
            r#"
            [streams.events]
            source = {{ type = "http" }}
            [[streams.events.outputs]]
            type = "s3"
            endpoint = "http://{}"
            region = "us-east-1"
            path_style = true
            bucket = "lake"
            prefix = "raw/"
            object = "{{batch}}{{extension}}"
            compression = "none"
            size = "64MiB"
            interval = "1s"
            multipart_threshold = "5MiB"
            retry = {{ initial = "10ms", max = "50ms" }}
            [streams.calm]
            source = {{ type = "http" }}
            outputs = [{{ type = "directory", path = "out", interval = "0s" }}]
            "#,
            self.store.address
        ))
    }
}

/// Records of a megabyte each that make an object in two parts, with all that is pushed within a second of it.
const LARGE: u64 = 12;

fn large(from: u64) -> String {
    let filler = "x".repeat(1_000_000);
    let lines: Vec<String> =
        (from..from + LARGE).map(|n| format!("{{\"n\":{n},\"filler\":\"{filler}\"}}")).collect();
    lines.join("\n")
}

/// A host whose store has already taken something.
struct Scene {
    lake: Lake,
    scratch: Scratch,
    host: Running,
    sent: u64,
}

impl Scene {
    fn start() -> Scene {
        let lake = Lake::start();
        let scratch = lake.scratch();
        let host = Running::start(&scratch.config(), COMPILER);
        let mut scene = Scene { lake, scratch, host, sent: 0 };
        scene.push(10);
        scene.wait_for_delivery();
        let raw = scene.lake.bucket().join("raw");
        let probing =
            || objects::files(&raw).iter().any(|file| file.to_string_lossy().contains("/.wasmill-probe"));
        wait_until("the store is probed", || scene.lake.events.count(Event::UploadCreated) > 0 && !probing());
        scene
    }

    fn push(&mut self, records: u64) {
        self.host.push("events", &numbered(self.sent, records));
        self.sent += records;
    }

    fn push_large(&mut self) {
        assert_eq!(self.host.try_push("events", &large(self.sent)).status, 200);
        self.sent += LARGE;
    }

    fn wait_for_delivery(&self) {
        let stats = self.host.stats("events");
        wait_until("everything is delivered", || stats.outputs[0].delivered.get() == self.sent);
    }

    /// Pushes, and waits until deliveries have failed often, and said why; another stream goes on meanwhile.
    fn suffer(&mut self, why: &str) {
        let stats = self.host.stats("events");
        let (retries, delivered) = (stats.outputs[0].retries.get(), stats.outputs[0].delivered.get());
        self.push(10);
        // One request's answer says more than the look that goes before an upload in parts.
        wait_until("the output says why", || {
            stats.outputs[0].last_error().is_some_and(|error| error.contains(why))
        });
        self.push_large();
        self.push(10);
        wait_until("deliveries fail", || stats.outputs[0].retries.get() > retries + 8);
        self.host.push("calm", &numbered(0, 10));
        let calm = self.host.stats("calm");
        wait_until("the other stream delivers", || calm.outputs[0].delivered.get() == 10);
        assert_eq!(stats.outputs[0].delivered.get(), delivered, "the trouble troubles nobody");
    }

    /// Everything is there once; nothing is left behind.
    fn finish(self) {
        let Scene { lake, scratch, host, sent } = self;
        let stats = host.stats("events");
        wait_until("everything is delivered", || stats.outputs[0].delivered.get() == sent);
        host.drain();
        assert_eq!(stats.outputs[0].delivered.get(), sent);
        assert_eq!((stats.outputs[0].delivery_failed.get(), stats.records_in.get()), (0, sent));
        assert_eq!(numbers(&lake.bucket()), (0..sent).collect::<Vec<_>>());
        assert!(scratch.letters("events").is_empty());
        assert_eq!(lake.open_uploads(), Vec::<String>::new());
        assert!(objects::files(&scratch.path("data/spool")).is_empty());
    }
}

/// Every request meets the fault until the store is well.
fn refused_until_it_is_well(refusal: Refusal, says: &str) {
    let mut scene = Scene::start();
    scene.lake.falls_ill(Fault::Refused(refusal), every, ALWAYS);
    scene.suffer(says);
    scene.lake.is_well();
    scene.finish();
}

/// The next requests that are so meet the fault, and it passes by itself.
fn passes_by_itself(fault: Fault, befalls: fn(&Want) -> bool, times: usize) {
    let mut scene = Scene::start();
    scene.lake.falls_ill(fault, befalls, times);
    scene.push(10);
    scene.wait_for_delivery();
    scene.push_large();
    scene.wait_for_delivery();
    assert_eq!(scene.lake.met().len(), times, "the trouble was met too seldom");
    assert!(scene.host.stats("events").outputs[0].retries.get() > 0);
    scene.finish();
}

#[test]
fn s3_that_denies_access_is_asked_again_until_it_does_not() {
    with_credentials("s3_faults::s3_that_denies_access_is_asked_again_until_it_does_not", || {
        refused_until_it_is_well(Refusal::DENIED, "S3 denies access (AccessDenied)");
    });
}

#[test]
fn s3_that_finds_the_clock_wrong_is_asked_again_until_it_is_right() {
    with_credentials("s3_faults::s3_that_finds_the_clock_wrong_is_asked_again_until_it_is_right", || {
        refused_until_it_is_well(Refusal::SKEWED, "(RequestTimeTooSkewed); check credentials");
    });
}

#[test]
fn s3_that_answers_500_is_asked_again_until_it_does_not() {
    with_credentials("s3_faults::s3_that_answers_500_is_asked_again_until_it_does_not", || {
        refused_until_it_is_well(Refusal::INTERNAL, "S3 is busy or down: 500");
    });
}

#[test]
fn bucket_that_is_missing_is_waited_for_and_delivered_to_without_a_restart() {
    let name = "s3_faults::bucket_that_is_missing_is_waited_for_and_delivered_to_without_a_restart";
    with_credentials(name, || {
        refused_until_it_is_well(Refusal::NO_BUCKET, "the bucket does not exist");
    });
}

#[test]
fn s3_that_throttles_is_asked_again_after_the_time_that_it_named() {
    with_credentials("s3_faults::s3_that_throttles_is_asked_again_after_the_time_that_it_named", || {
        for status in [503, 429] {
            let mut scene = Scene::start();
            let refusal = Refusal { status, after: Some(1), ..Refusal::SLOW_DOWN };
            scene.lake.falls_ill(Fault::Refused(refusal), |want| *want == Want::Put, 2);
            scene.push(10);
            scene.wait_for_delivery();
            let met = scene.lake.met();
            assert_eq!(met.len(), 2);
            assert!(met[1].duration_since(met[0]) >= Duration::from_secs(1), "asked too soon: {met:?}");
            assert_eq!(scene.host.stats("events").outputs[0].retries.get(), 2);
            scene.finish();
        }
    });
}

#[test]
fn connection_to_s3_that_breaks_anywhere_costs_and_doubles_nothing() {
    with_credentials("s3_faults::connection_to_s3_that_breaks_anywhere_costs_and_doubles_nothing", || {
        for fault in [Fault::BrokenBefore, Fault::BrokenWithin, Fault::BrokenAfterBody] {
            passes_by_itself(fault, |want| *want == Want::Put, 3);
            passes_by_itself(fault, |want| matches!(want, Want::Part(_)), 3);
        }
    });
}

#[test]
fn put_whose_answer_was_lost_is_found_to_be_ours() {
    with_credentials("s3_faults::put_whose_answer_was_lost_is_found_to_be_ours", || {
        passes_by_itself(Fault::AnswerLost, |want| *want == Want::Put, 2);
    });
}

#[test]
fn completed_upload_whose_answer_was_lost_is_found_to_be_ours() {
    with_credentials("s3_faults::completed_upload_whose_answer_was_lost_is_found_to_be_ours", || {
        passes_by_itself(Fault::AnswerLost, |want| matches!(want, Want::Complete(_)), 1);
    });
}

#[test]
fn upload_that_somebody_aborted_starts_anew() {
    with_credentials("s3_faults::upload_that_somebody_aborted_starts_anew", || {
        passes_by_itself(Fault::UploadGone, |want| matches!(want, Want::Part(_)), 1);
        passes_by_itself(Fault::UploadGone, |want| matches!(want, Want::Complete(_)), 1);
    });
}

#[test]
fn s3_that_reads_and_answers_slowly_gets_everything_once() {
    with_credentials("s3_faults::s3_that_reads_and_answers_slowly_gets_everything_once", || {
        let mut scene = Scene::start();
        let (slow, calm) = (scene.host.stats("events"), scene.host.stats("calm"));
        let before = slow.outputs[0].retries.get();
        let wait = Duration::from_secs(2);
        for (n, fault) in (0..).zip([Fault::SlowBody(wait), Fault::SlowAnswer(wait)]) {
            scene.lake.falls_ill(fault, every, ALWAYS);
            let started = Instant::now();
            scene.push(10);
            scene.host.push("calm", &numbered(n * 10, 10));
            wait_until("the other stream delivers", || calm.outputs[0].delivered.get() == (n + 1) * 10);
            scene.wait_for_delivery();
            assert!(started.elapsed() >= wait, "nothing was slow");
        }
        assert_eq!(slow.outputs[0].retries.get(), before, "what is slow was tried again");
        scene.lake.is_well();
        scene.finish();
    });
}

#[test]
fn upload_that_was_half_written_when_the_program_died_is_aborted_and_made_anew() {
    let name = "s3_faults::upload_that_was_half_written_when_the_program_died_is_aborted_and_made_anew";
    with_credentials(name, || {
        let mut scene = Scene::start();
        // The last request hangs: all parts are there, and nothing completes them.
        let hang = Fault::SlowBody(Duration::from_secs(3600));
        scene.lake.falls_ill(hang, |want| matches!(want, Want::Complete(_)), ALWAYS);
        scene.push_large();
        wait_until("the upload is about to be completed", || !scene.lake.met().is_empty());
        assert!(scene.lake.events.count(Event::PartStored) >= 2);
        let Scene { lake, scratch, host, sent } = scene;
        host.crash();
        assert_eq!(lake.open_uploads().len(), 1);
        lake.is_well();
        let host = Running::start(&scratch.config(), COMPILER);
        let stats = host.stats("events");
        wait_until("nothing is pending", || stats.outputs[0].pending.get() == 0);
        host.drain();
        assert_eq!(lake.open_uploads(), Vec::<String>::new());
        assert_eq!(numbers(&lake.bucket()), (0..sent).collect::<Vec<_>>());
    });
}

#[test]
fn s3_that_ignores_conditions_is_named_and_gets_everything_once() {
    with_credentials("s3_faults::s3_that_ignores_conditions_is_named_and_gets_everything_once", || {
        let Some(binary) = binary() else { return };
        let lake = Lake::start();
        let scratch = lake.scratch();
        // Down at the start: what it can do is found out later.
        lake.falls_ill(Fault::Refused(Refusal::SLOW_DOWN), every, ALWAYS);
        let program = Program::start(&binary, &scratch.config());
        let push =
            |body: &str| assert_eq!(client::push(program.address(), "events", body).unwrap().status, 200);
        push(&numbered(0, 10));
        program.wait_for_log("destination cannot be probed now");
        program.wait_for_log("delivery failed, trying again");
        let weaker = "the endpoint does not honour conditional create for objects";
        assert!(!program.says(weaker));
        lake.falls_ill(Fault::Overwrites, |want| matches!(want, Want::Put | Want::Complete(_)), ALWAYS);
        program.wait_for_log(weaker);
        program.wait_for_log("the endpoint does not honour conditional create for uploads in parts");
        wait_until("the first object is there", || keys(&lake.bucket()).len() == 1);
        push(&large(10));
        wait_until("both objects are there", || keys(&lake.bucket()).len() == 2);
        // An answer that is lost is looked after, not written over.
        let written = lake.events.count(Event::PutStored);
        lake.falls_ill(Fault::AnswerLost, |want| *want == Want::Put, 1);
        push(&numbered(10 + LARGE, 10));
        wait_until("the answer is lost", || lake.events.count(Event::PutStored) > written);
        let stats = wait_for("everything is delivered", || {
            let state = client::get(program.address(), "/v1/streams").ok()?.json();
            let output =
                state.as_array()?.iter().find(|state| state["name"] == "events")?["outputs"][0].clone();
            (output["delivered"] == 20 + LARGE).then_some(output)
        });
        assert_eq!(lake.events.count(Event::PutStored), written + 1, "{stats}");
        program.stop();
        assert_eq!(numbers(&lake.bucket()), (0..20 + LARGE).collect::<Vec<_>>());
    });
}

#[test]
fn object_that_cannot_be_looked_for_is_not_written_before_the_store_is_known_to_honour_conditions() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().join("lake/object");
    fs::create_dir(dir.path().join("lake")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (looks, events) = (Arc::new(Mutex::new(Fault::None)), Arc::new(Events::default()));
    let asked = looks.clone();
    let fault =
        move |want: &Want| if *want == Want::Look { *asked.lock().unwrap() } else { Fault::Overwrites };
    let store = Store::start(&runtime, dir.path(), fault, events.clone()).unwrap();
    // Nobody probes it.
    let config = Config::S3(S3Config {
        endpoint: Some(format!("http://{}", store.address)),
        region: Some("us-east-1".to_owned()),
        path_style: true,
        credentials: Credentials::Static {
            access_key_id: S3Server::ACCESS_KEY.to_owned(),
            secret_access_key: S3Server::SECRET_KEY.to_owned(),
            session_token: None,
        },
        ..S3Config::new("lake")
    });
    let destination = runtime.block_on(Destination::open(&config)).unwrap();
    let body = dir.path().join("body");
    fs::write(&body, "ours").unwrap();
    let meta = ObjectMeta {
        name: "object".to_owned(),
        content_type: "application/x-ndjson".to_owned(),
        content_encoding: None,
        batch_id: "batch".to_owned(),
        digest: 1,
        body_digest: 1,
        raw_bytes: 4,
        bytes: 4,
        records: 1,
        stream: "events".to_owned(),
        output: "default".to_owned(),
        arrival: 0,
        first_row: 0,
    };
    let deliver = || runtime.block_on(destination.deliver(&Object { meta: &meta, body: &body }));
    fs::write(&there, "theirs").unwrap();
    for fault in [
        Fault::Refused(Refusal::INTERNAL),
        Fault::Refused(Refusal::SLOW_DOWN),
        // What has run out is told in the body of an answer, and a look has none.
        Fault::Refused(Refusal { status: 400, code: "ExpiredToken", after: None }),
        Fault::BrokenBefore,
    ] {
        *looks.lock().unwrap() = fault;
        let error = deliver().unwrap_err();
        assert!(matches!(error.retry, Retry::Later { .. }), "{fault:?}: {error:?}");
        assert_eq!(fs::read_to_string(&there).unwrap(), "theirs", "{fault:?}");
    }
    *looks.lock().unwrap() = Fault::None;
    let error = deliver().unwrap_err();
    assert_eq!((error.fault, error.retry), (wasmill_deliver::Fault::Foreign, Retry::Never), "{error:?}");
    assert_eq!(fs::read_to_string(&there).unwrap(), "theirs");
    // Whoever may only write is not kept from it.
    fs::remove_file(&there).unwrap();
    *looks.lock().unwrap() = Fault::Refused(Refusal::DENIED);
    assert_eq!(deliver(), Ok(Delivered::Created));
    assert_eq!((fs::read_to_string(&there).unwrap().as_str(), events.count(Event::PutStored)), ("ours", 1));
}

#[test]
fn upload_of_a_probe_that_was_killed_is_aborted_by_the_next_and_no_other_probe_is_disturbed() {
    let name =
        "s3_faults::upload_of_a_probe_that_was_killed_is_aborted_by_the_next_and_no_other_probe_is_disturbed";
    with_credentials(name, || {
        let lake = Lake::start();
        let s3 = |name: &str| {
            format!(
                r#"
                [[streams.events.outputs]]
                name = "{name}"
                type = "s3"
                endpoint = "http://{}"
                region = "us-east-1"
                path_style = true
                bucket = "lake"
                prefix = "raw/"
                object = "{{output}}/{{batch}}{{extension}}"
                compression = "none"
                interval = "0s"
                "#,
                lake.store.address
            )
        };
        // One bucket and prefix for both.
        let scratch = Scratch::new(&format!(
            "[streams.events]\nsource = {{ type = \"http\" }}\n{}{}",
            s3("default"),
            s3("other")
        ));
        let hang = Fault::SlowBody(Duration::from_secs(3600));
        lake.falls_ill(hang, |want| matches!(want, Want::Complete(_)), ALWAYS);
        let host = Running::start(&scratch.config(), COMPILER);
        wait_until("both probes hang", || lake.met().len() == 2);
        host.crash();
        let open = lake.store.open_uploads();
        assert!(open.len() == 2 && open[0] != open[1], "{open:?}");
        assert!(open.iter().all(|key| key.starts_with("/lake/raw/.wasmill-probe-")), "{open:?}");
        lake.is_well();
        let host = Running::start(&scratch.config(), COMPILER);
        wait_until("the probes have ended", || {
            lake.store.open_uploads().is_empty() && lake.events.count(Event::UploadCreated) == 4
        });
        host.push("events", &numbered(0, 10));
        let stats = host.stats("events");
        wait_until("everything is delivered", || stats.outputs[0].delivered.get() == 10);
        host.drain();
        assert_eq!(numbers(&lake.bucket()), (0..10).collect::<Vec<_>>());
    });
}
