//! Dead letters with a destination of their own: each leaves once, whatever ends or fails, and nobody waits for it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;
use wasmill::pipeline::StartError;
use wasmill_tests::client;
use wasmill_tests::events::Events;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::{Running, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::serve::Fault;
use wasmill_tests::servers::{Receiver, S3Server};
use wasmill_tests::store::Store;
use wasmill_tests::wait::wait_until;

use crate::COMPILER;
use crate::s3::{keys, with_credentials};

/// Text is no JSON: each line of it becomes a letter.
fn config(letters: &str) -> String {
    format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        max_failed_percent = 100
        outputs = [{{ type = "directory", path = "out", compression = "none", interval = "0s" }}]
        {letters}
        "#
    )
}

/// Letters that go into a directory.
fn into_directory(more: &str) -> String {
    config(&format!(
        r#"
        [streams.events.dead_letters.output]
        type = "directory"
        path = "letters"
        object = "{{batch}}{{extension}}"
        retry = {{ initial = "5ms", max = "20ms" }}
        {more}
        "#
    ))
}

/// Letters that are posted.
fn posted(url: &str, more: &str) -> String {
    config(&format!(
        r#"
        [streams.events.dead_letters.output]
        type = "http"
        url = "{url}"
        interval = "0s"
        retry = {{ initial = "5ms", max = "20ms" }}
        {more}
        "#
    ))
}

/// Letters that go into the bucket `lake`.
fn into_s3(endpoint: &str, more: &str) -> String {
    config(&format!(
        r#"
        [streams.events.dead_letters.output]
        type = "s3"
        endpoint = "{endpoint}"
        region = "us-east-1"
        path_style = true
        bucket = "lake"
        object = "{{batch}}{{extension}}"
        compression = "none"
        interval = "0s"
        retry = {{ initial = "5ms", max = "20ms" }}
        {more}
        "#
    ))
}

/// `count` lines of text from `line FROM` on.
fn text(from: usize, count: usize) -> String {
    (from..from + count).map(|n| format!("line {n}\n")).collect()
}

/// Numbers of letters in the lines of objects, in their order.
fn numbers(lines: &[String]) -> Vec<u64> {
    lines.iter().map(|line| objects::number(line, "number")).collect()
}

fn payloads(lines: &[String]) -> Vec<String> {
    let payload =
        |line: &String| serde_json::from_str::<Value>(line).unwrap()["payload"].as_str().unwrap().to_owned();
    lines.iter().map(payload).collect()
}

/// Payloads of the lines, sorted by their numbers; each once.
fn expected(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("line {n}")).collect()
}

/// Lines of the objects in a bucket, in the order of the objects' names.
fn in_bucket(bucket: &Path) -> Vec<String> {
    let texts = keys(bucket).into_iter().map(|file| fs::read_to_string(file).unwrap());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn letters_leave_once_as_they_are_kept_also_those_from_before() {
    let scratch = Scratch::new(&config(""));
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &text(0, 3));
    host.drain();
    assert_eq!(scratch.letters("events").len(), 3);

    scratch.configure(&into_directory("interval = \"0s\""));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.push("events", &format!("{}{}", text(3, 2), numbered(0, 5)));
    wait_until("all letters are delivered", || stats.letters_output.delivered.get() == 5);
    let state = host.state("events")["dead_letters_output"].clone();
    assert_eq!((&state["delivered"], &state["last_error"]), (&5.into(), &Value::Null));
    wait_until("none is waiting", || stats.letters_output.undelivered_age_s(i64::MAX) == 0.0);
    let metrics = client::get(host.address(), "/metrics").unwrap().body;
    assert!(
        metrics.contains("wasmill_stream_dead_letters_delivered_total{stream=\"events\"} 5"),
        "{metrics}"
    );
    assert!(metrics.contains("wasmill_stream_dead_letters_undelivered_seconds{stream=\"events\"} 0"));
    host.drain();
    let lines = objects::lines(&scratch.path("letters"));
    assert_eq!(payloads(&lines), expected(5));
    let kept: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(scratch.letters("events"), kept, "they stay as they are");
    assert_eq!(objects::numbers(&scratch.out(), "n"), [0, 1, 2, 3, 4]);

    let before = objects::files(&scratch.path("letters"));
    let host = Running::start(&scratch.config(), COMPILER);
    host.drain();
    assert_eq!(objects::files(&scratch.path("letters")), before, "nothing leaves again");
    assert!(objects::staged(&scratch.path("letters")).is_empty());
}

#[test]
fn letters_wait_for_others_and_what_is_there_leaves_when_the_host_stops() {
    let scratch = Scratch::new(&into_directory("interval = \"1h\""));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.push("events", &text(0, 4));
    wait_until("the letters are seen", || stats.letters_output.undelivered_age_s(i64::MAX) > 0.0);
    // What is gone before its object is made is left out.
    let removed = client::request(host.address(), "DELETE", "/v1/streams/events/dead-letters/2", &[], b"");
    assert_eq!(removed.unwrap().status, 200);
    assert!(objects::files(&scratch.path("letters")).is_empty());
    host.drain();
    let lines = objects::lines(&scratch.path("letters"));
    assert_eq!(numbers(&lines), [1, 3, 4]);
    assert_eq!(objects::files(&scratch.path("letters")).len(), 1);
}

#[test]
fn objects_are_bounded_and_in_the_order_of_the_letters_over_all_files_of_the_store() {
    let scratch = Scratch::new(&into_directory("interval = \"1h\"\nsize = \"2MiB\"\nthen = \"remove\""));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    let filler = "x".repeat(900_000);
    for n in 0..25 {
        host.push("events", &format!("{n} {filler}"));
    }
    // More than one file of the store, and all but the last objects are due by size.
    wait_until("what fills objects is delivered", || stats.letters_output.delivered.get() >= 22);
    host.drain();
    let files = objects::files(&scratch.path("letters"));
    let counts: Vec<usize> =
        files.iter().map(|file| String::from_utf8_lossy(&objects::open(file)).lines().count()).collect();
    assert!(counts.iter().all(|count| *count <= 2) && files.len() >= 12, "{counts:?}");
    assert_eq!(numbers(&objects::lines(&scratch.path("letters"))), (1..=25).collect::<Vec<_>>());
    assert!(scratch.letters("events").is_empty());
}

/// Two records are given up by an endpoint, as one object; text becomes letters of their own.
fn refused(refusing: &Receiver, letters: &str) -> String {
    format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        max_failed_percent = 100
        outputs = [{{ type = "http", url = "{}", interval = "0s" }}]
        [streams.events.dead_letters.output]
        interval = "0s"
        then = "remove"
        retry = {{ initial = "5ms", max = "20ms" }}
        {letters}
        "#,
        refusing.url()
    )
}

fn replay(host: &Running) -> Value {
    let path = "/v1/streams/events/dead-letters/replay";
    client::request(host.address(), "POST", path, &[], b"").unwrap().json()
}

/// Lines of letters, and the bytes of what lies in `objects/` beside them.
fn letters_and_objects(dir: &Path) -> (Vec<String>, Vec<Vec<u8>>) {
    let (kept, letters): (Vec<_>, Vec<_>) = keys(dir)
        .into_iter()
        .partition(|file| file.parent().is_some_and(|parent| parent.ends_with("objects")));
    let texts = letters.iter().map(|file| String::from_utf8(objects::open(file)).unwrap());
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    (lines, kept.iter().map(|file| fs::read(file).unwrap()).collect())
}

#[test]
fn letters_that_left_over_http_are_removed_but_for_those_whose_object_has_not_left() {
    let (refusing, taking) = (Receiver::start(&[], 400), Receiver::start(&[], 200));
    let scratch = Scratch::new(&refused(&refusing, &format!("type = \"http\"\nurl = \"{}\"", taking.url())));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.push("events", &format!("{}{}", text(0, 3), numbered(0, 2)));
    wait_until("all are delivered", || stats.letters_output.delivered.get() == 4);
    let letters = scratch.letters("events");
    assert_eq!(letters.len(), 1, "{letters:#?}");
    assert_eq!(letters[0]["stage"], "delivery");
    assert_eq!(stats.dead_letters.kept.get(), 1);
    refusing.answer(200);
    assert_eq!(replay(&host)["passed"], 1);
    host.drain();
    assert_eq!(stats.dead_letter_bytes.get(), 0);
    let lines: usize =
        taking.received().iter().map(|r| String::from_utf8_lossy(&r.body).lines().count()).sum();
    assert_eq!(lines, 4);
}

#[test]
fn object_of_a_letter_leaves_beside_it_once_and_then_nothing_is_left() {
    let refusing = Receiver::start(&[], 400);
    let scratch = Scratch::new(&refused(&refusing, "type = \"directory\"\npath = \"letters\""));
    let store = scratch.path("data/dead-letters/default/events");
    let (letters, away, saved) = (scratch.path("letters"), scratch.path("away"), scratch.path("saved"));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    fs::rename(&letters, &away).unwrap();
    host.push("events", &numbered(0, 2));
    wait_until("its letter is on its way", || stats.letters_output.retries.get() > 1);
    host.crash();
    copy(&store, &saved);
    fs::rename(&away, &letters).unwrap();
    for round in 0..3 {
        if round > 0 {
            // As if the crash had come before the letter went and the cursor moved.
            copy(&saved, &store);
        }
        let host = Running::start(&scratch.config(), COMPILER);
        let stats = host.stats("events");
        wait_until("it has left", || stats.letters_output.delivered.get() == 1);
        host.crash();
        let (lines, kept) = letters_and_objects(&letters);
        assert_eq!(numbers(&lines), [1]);
        assert_eq!(kept, [refusing.received()[0].body.to_vec()]);
    }
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.push("events", &format!("{}{}", text(0, 3), numbered(2, 2)));
    wait_until("all have left", || stats.letters_output.delivered.get() == 4);
    host.drain();
    assert_eq!((stats.dead_letters.kept.get(), stats.dead_letter_bytes.get()), (0, 0));
    let (lines, mut kept) = letters_and_objects(&letters);
    let mut found = numbers(&lines);
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3, 4, 5]);
    let mut refused: Vec<_> = refusing.received().iter().map(|request| request.body.to_vec()).collect();
    kept.sort();
    refused.sort();
    assert_eq!(kept, refused);
    assert!(objects::files(&store.join("objects")).is_empty() && objects::staged(&letters).is_empty());
}

#[test]
fn object_that_a_replay_took_first_does_not_hold_up_the_letters() {
    let refusing = Receiver::start(&[], 400);
    let scratch = Scratch::new(&refused(&refusing, "type = \"directory\"\npath = \"letters\""));
    let (letters, away) = (scratch.path("letters"), scratch.path("away"));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    fs::rename(&letters, &away).unwrap();
    host.push("events", &numbered(0, 2));
    wait_until("its letter is on its way", || stats.letters_output.retries.get() > 1);
    refusing.answer(200);
    assert_eq!(replay(&host)["passed"], 1);
    fs::rename(&away, &letters).unwrap();
    wait_until("it has left all the same", || stats.letters_output.delivered.get() == 1);
    host.drain();
    let (lines, kept) = letters_and_objects(&letters);
    assert_eq!((numbers(&lines), kept.len()), (vec![1], 0));
}

#[test]
fn destination_that_is_down_holds_up_nobody_and_is_told_of_once() {
    let Some(binary) = binary() else { return };
    let receiver = Receiver::start(&[], 503);
    let scratch = Scratch::new(&posted(&receiver.url(), ""));
    let program = Program::start(&binary, &scratch.config());
    let address = program.address();
    let state = || {
        let all = client::get(address, "/v1/streams").unwrap().json();
        all[0].clone()
    };
    assert_eq!(
        client::push(address, "events", &format!("{}{}", text(0, 10), numbered(0, 5))).unwrap().status,
        200
    );
    wait_until("it fails again and again", || state()["dead_letters_output"]["retries"].as_u64() > Some(5));
    assert!(state()["dead_letters_output"]["last_error"].as_str().unwrap().contains("503"), "{}", state());
    assert!(state()["dead_letters_output"]["undelivered_seconds"].as_f64() > Some(0.0));
    assert_eq!(
        client::push(address, "events", &format!("{}{}", text(10, 10), numbered(5, 5))).unwrap().status,
        200
    );
    wait_until("records go on", || objects::numbers(&scratch.out(), "n").len() == 10);
    assert!(state()["paused"].is_null());
    receiver.answer(200);
    wait_until("all letters are there", || state()["dead_letters_output"]["delivered"] == 20);
    assert!(state()["dead_letters_output"]["last_error"].is_null());
    receiver.answer(503);
    assert_eq!(client::push(address, "events", &text(20, 1)).unwrap().status, 200);
    wait_until("it fails again", || state()["dead_letters_output"]["last_error"].is_string());
    let log = program.log();
    let count = |what: &str| log.iter().filter(|line| line.contains(what)).count();
    assert!(count("dead letters cannot be delivered") <= 2 && count("are delivered again") == 1, "{log:#?}");
    // And nothing is lost by a stop.
    program.stop();
    receiver.answer(200);
    let program = Program::start(&binary, &scratch.config());
    let taken = || {
        let received = receiver.received().into_iter().filter(|received| received.status == 200);
        let texts = received.map(|received| String::from_utf8(received.body.to_vec()).unwrap());
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    wait_until("the last letter is there", || taken().len() == 21);
    program.stop();
    assert_eq!(payloads(&taken()), expected(21));
}

#[test]
fn destination_that_never_answers_does_not_hold_up_a_stop() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/take", silent.local_addr().unwrap());
    let scratch = Scratch::new(&posted(&url, "timeout = \"1h\""));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.push("events", &text(0, 2));
    wait_until("the letters are seen", || stats.letters_output.undelivered_age_s(i64::MAX) > 0.0);
    let begun = Instant::now();
    host.drain_within(Duration::from_secs(60)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(scratch.letters("events").len(), 2);
}

#[test]
fn store_that_was_full_empties_when_the_destination_is_back() {
    let receiver = Receiver::start(&[], 503);
    let bounded = "then = \"remove\"\n[streams.events.dead_letters]\nmax_bytes = \"4KiB\"";
    let scratch = Scratch::new(&posted(&receiver.url(), bounded));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    let filler = "x".repeat(900);
    for n in 0..10 {
        host.push("events", &format!("{n} {filler}"));
    }
    wait_until("the stream is paused", || host.state("events")["paused"].is_string());
    receiver.answer(200);
    wait_until("all letters have left", || stats.letters_output.delivered.get() == 10);
    wait_until("the stream goes on", || host.state("events")["paused"].is_null());
    wait_until("the store is empty", || stats.dead_letters.kept.get() == 0);
    host.drain();
    let bodies: Vec<_> = receiver.received().into_iter().filter(|received| received.status == 200).collect();
    let lines: Vec<String> = bodies
        .iter()
        .flat_map(|body| String::from_utf8_lossy(&body.body).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(numbers(&lines), (1..=10).collect::<Vec<_>>());
}

#[test]
fn letters_that_have_not_left_are_never_too_old() {
    let receiver = Receiver::start(&[], 503);
    let aged = "[streams.events.dead_letters]\nmax_age = \"1ms\"";
    let scratch = Scratch::new(&posted(&receiver.url(), aged));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.push("events", &text(0, 2));
    // The stream looks after such letters many times meanwhile.
    wait_until("it fails again and again", || stats.letters_output.retries.get() > 100);
    assert_eq!((stats.dead_letters.expired.get(), stats.dead_letters.kept.get()), (0, 2));
    receiver.answer(200);
    wait_until("they have left and are gone", || stats.dead_letters.expired.get() == 2);
    host.drain();
    assert_eq!(stats.letters_output.delivered.get(), 2);
}

#[test]
fn object_that_arrived_before_a_crash_is_known_again_whatever_became_of_its_letters() {
    with_credentials(
        "letters_output::object_that_arrived_before_a_crash_is_known_again_whatever_became_of_its_letters",
        || {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("s3");
            fs::create_dir_all(root.join("lake")).unwrap();
            let server = S3Server::start(&root);
            let (address, endpoint) = (server.address(), server.endpoint());
            drop(server);
            let scratch = Scratch::new(&into_s3(&endpoint, "then = \"remove\""));
            let store = scratch.path("data/dead-letters/default/events");
            let saved = scratch.path("saved");
            let host = Running::start(&scratch.config(), COMPILER);
            host.push("events", &text(0, 5));
            let stats = host.stats("events");
            wait_until("an object is on its way", || stats.letters_output.retries.get() > 1);
            host.crash();
            copy(&store, &saved);
            let _server = S3Server::start_at(&root, address);
            let host = Running::start(&scratch.config(), COMPILER);
            let stats = host.stats("events");
            wait_until("all have left", || stats.dead_letters.kept.get() == 0);
            wait_until("and are noted", || {
                stats.letters_output.oldest_undelivered.load(Ordering::Relaxed) == 0
            });
            host.crash();
            let there = in_bucket(&root.join("lake"));
            assert_eq!(payloads(&there), expected(5));
            // As if the crash had come before the letters went and the cursor moved; and one letter more is gone by then.
            copy(&saved, &store);
            let letters = store.join("letters.ndjson");
            let kept = fs::read_to_string(&letters).unwrap();
            fs::write(&letters, kept.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>())
                .unwrap();
            let host = Running::start(&scratch.config(), COMPILER);
            let stats = host.stats("events");
            wait_until("all have left", || stats.dead_letters.kept.get() == 0);
            host.push("events", &text(5, 1));
            wait_until("and the next one", || in_bucket(&root.join("lake")).len() == 6);
            host.drain();
            assert_eq!(payloads(&in_bucket(&root.join("lake"))), expected(6));
        },
    );
}

#[test]
fn object_in_a_directory_that_arrived_before_a_crash_is_known_again() {
    let scratch = Scratch::new(&into_directory("interval = \"0s\""));
    let store = scratch.path("data/dead-letters/default/events");
    // A root that is not there: nothing can be staged.
    let host = Running::start(&scratch.config(), COMPILER);
    let (letters, away) = (scratch.path("letters"), scratch.path("away"));
    fs::rename(&letters, &away).unwrap();
    host.push("events", &text(0, 5));
    let stats = host.stats("events");
    wait_until("an object is on its way", || stats.letters_output.retries.get() > 1);
    host.crash();
    let saved = scratch.path("saved");
    copy(&store, &saved);
    fs::rename(&away, &letters).unwrap();
    for _ in 0..3 {
        let host = Running::start(&scratch.config(), COMPILER);
        let stats = host.stats("events");
        wait_until("all have left", || stats.letters_output.delivered.get() == 5);
        host.crash();
        assert_eq!(payloads(&objects::lines(&letters)), expected(5));
        assert!(objects::staged(&letters).is_empty());
        // As if the crash had come before the cursor moved.
        copy(&saved, &store);
    }
}

/// Kills the real program again and again while letters come and leave; each is at the destination once in the end.
fn killed(config: &str, delivered: impl Fn(&Scratch) -> Vec<String>) {
    let Some(binary) = binary() else { return };
    const ROUNDS: usize = 10;
    const LINES: usize = 40;
    let scratch = Scratch::new(config);
    for round in 0..ROUNDS {
        let program = Program::start(&binary, &scratch.config());
        for n in 0..LINES {
            let answer = client::push(program.address(), "events", &text(round * LINES + n, 1));
            assert_eq!(answer.unwrap().status, 200);
        }
        // Further in each round.
        let some = round * LINES + round * 4;
        wait_until("some have left", || delivered(&scratch).len() >= some);
        program.kill();
    }
    let program = Program::start(&binary, &scratch.config());
    wait_until("all have left", || delivered(&scratch).len() >= ROUNDS * LINES);
    program.stop();
    let lines = delivered(&scratch);
    let mut sorted = numbers(&lines);
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=(ROUNDS * LINES) as u64).collect::<Vec<_>>());
    let mut found = payloads(&lines);
    found.sort_by_key(|line| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()));
    assert_eq!(found, expected(ROUNDS * LINES));
    assert!(scratch.letters("events").is_empty());
}

#[test]
fn program_that_is_killed_anywhere_puts_each_letter_into_the_directory_once() {
    killed(&into_directory("interval = \"0s\"\nthen = \"remove\""), |scratch| {
        objects::lines(&scratch.path("letters"))
    });
}

#[test]
fn program_that_is_killed_anywhere_puts_each_letter_into_s3_once() {
    with_credentials("letters_output::program_that_is_killed_anywhere_puts_each_letter_into_s3_once", || {
        let dir = tempfile::tempdir().unwrap();
        let lake = dir.path().join("lake");
        fs::create_dir(&lake).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // One that takes whole requests only, whatever becomes of the client.
        let store = Store::start(&runtime, dir.path(), |_| Fault::None, Arc::new(Events::default())).unwrap();
        let endpoint = format!("http://{}", store.address);
        killed(&into_s3(&endpoint, "then = \"remove\""), |_| in_bucket(&lake));
    });
}

#[test]
fn output_of_letters_that_is_wrong_is_told_with_its_place() {
    let scratch = Scratch::new(&into_directory("").replace("{batch}{extension}", ".hidden/{batch}"));
    let line = fs::read_to_string(scratch.config()).unwrap();
    let line = line.lines().position(|line| line.contains(".hidden")).unwrap() + 1;
    let Err(StartError::Invalid(problems)) = Running::try_start(&scratch.config(), COMPILER) else {
        panic!("it started")
    };
    assert!(problems.iter().any(|problem| problem.line == line), "{problems:?}");
    let Some(binary) = binary() else { return };
    let checked = Command::new(binary).arg("check").arg(scratch.config()).output().unwrap();
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(2), "{told}");
    assert!(told.contains(&format!(":{line}:")) && told.contains("dot"), "{told}");
}

#[test]
fn directory_of_letters_that_was_made_anew_is_used_again_without_a_restart() {
    let scratch = Scratch::new(&into_directory("interval = \"0s\""));
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    let letters = scratch.path("letters");
    fs::remove_dir_all(&letters).unwrap();
    host.push("events", &text(0, 3));
    wait_until("deliveries fail", || stats.letters_output.retries.get() > 3);
    let told = host.state("events")["dead_letters_output"]["last_error"].as_str().unwrap().to_owned();
    assert!(told.contains("destination directory is missing") && told.contains("No such file"), "{told}");
    fs::create_dir(&letters).unwrap();
    wait_until("letters leave", || stats.letters_output.delivered.get() == 3);
    assert_eq!(host.state("events")["dead_letters_output"]["last_error"], Value::Null);
    fs::remove_dir_all(&letters).unwrap();
    fs::create_dir(&letters).unwrap();
    // What else is in the way is told too.
    fs::write(letters.join(".wasmill-staging"), "").unwrap();
    host.push("events", &text(3, 1));
    let told = || host.state("events")["dead_letters_output"]["last_error"].clone();
    wait_until("the cause is told", || told().as_str().is_some_and(|told| told.contains("Not a directory")));
    fs::remove_file(letters.join(".wasmill-staging")).unwrap();
    wait_until("letters leave", || stats.letters_output.delivered.get() == 4);
    host.drain();
    assert_eq!(objects::files(&letters).len(), 1);
}
