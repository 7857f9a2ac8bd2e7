//! Disks that are full, and journals that were damaged between two runs.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::{Running, large, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::servers::Receiver;
use wasmill_tests::wait::{wait_for, wait_until};
use wasmill_tests::{client, objects};

use crate::COMPILER;
use crate::state::{self, COUNTED, counted, user};

/// A small disk of its own; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with the reason said, where mounting is not permitted.
    fn mount(at: &Path, bytes: u64) -> Option<SmallDisk> {
        fs::create_dir_all(at).unwrap();
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        match mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(options.as_c_str())) {
            Ok(()) => Some(SmallDisk(at.to_owned())),
            Err(error) => {
                println!(
                    "skipped: a small disk cannot be mounted here ({error}); it takes the right to mount"
                );
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What stays mounted goes with the machine; the test itself has passed or failed by now.
        let _stays_mounted = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Takes all that is left, down to the last block.
fn fill(file: &mut File) {
    for block in [1 << 20, 4096, 1] {
        while file.write_all(&vec![0; block]).is_ok() {}
    }
}

#[test]
fn full_disk_answers_503_and_recovers_without_a_restart() {
    let scratch = Scratch::new(
        r#"#whole
        [http]
        listen = "127.0.0.1:0"
        [buffer]
        journal_file = "1MiB"
        [streams.events]
        source = { type = "http" }
        outputs = [{ type = "directory", path = "out", interval = "0s" }]
        "#,
    );
    let Some(_disk) = SmallDisk::mount(&scratch.path("data"), 16 << 20) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    let mut next = 0;
    let mut acknowledged = Vec::new();
    let mut push = || {
        let answer = host.try_push("events", &numbered(next, 1000));
        if answer.status == 200 {
            acknowledged.extend(next..next + 1000);
        }
        next += 1000;
        answer
    };
    assert_eq!(push().status, 200);
    let stats = host.stats("events");
    wait_until("the first records are delivered", || stats.outputs[0].delivered.get() == 1000);
    // Somebody else takes all that is left.
    let filler = scratch.path("data/filler");
    let mut file = File::create(&filler).unwrap();
    let full = wait_for("the disk is full", || {
        fill(&mut file);
        let answer = push();
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(full.status, 503, "{}", full.body);
    let code = full.json()["error"]["code"].as_str().unwrap().to_owned();
    assert!(code == "unavailable" || code == "unknown", "{code}");
    drop(file);
    fs::remove_file(&filler).unwrap();
    wait_until("pushes are taken again", || push().status == 200);
    host.drain();
    let found = objects::numbers(&scratch.out(), "n");
    let unique: std::collections::HashSet<u64> = found.iter().copied().collect();
    assert_eq!(unique.len(), found.len(), "records are there twice");
    assert!(acknowledged.iter().all(|n| unique.contains(n)), "acknowledged records are lost");
}

#[test]
fn full_destination_disk_is_waited_for_and_delivered_to_without_a_restart() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        interval = "0s"
        compression = "none"
        retry = { initial = "10ms", max = "50ms" }
        "#,
    );
    let Some(_disk) = SmallDisk::mount(&scratch.out(), 2 << 20) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    let filler = scratch.out().join("filler");
    let mut file = File::create(&filler).unwrap();
    fill(&mut file);
    // Small objects, which outcomes carry, and one that has to be staged on the full disk itself.
    for n in 0..5 {
        host.push("events", &numbered(n * 10, 10));
    }
    host.push("events", &large(50));
    wait_until("deliveries fail", || stats.outputs[0].retries.get() > 3);
    drop(file);
    fs::remove_file(&filler).unwrap();
    wait_until("everything is delivered", || stats.outputs[0].delivered.get() == 450);
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..450).collect::<Vec<_>>());
    assert!(objects::staged(&scratch.out()).is_empty());
}

#[test]
fn full_data_disk_holds_letters_and_requests_back_and_loses_neither() {
    let receiver = Receiver::start(&[], 200);
    let scratch = Scratch::new(&format!(
        r#"
        [streams.events]
        source = {{ type = "http" }}
        [[streams.events.outputs]]
        type = "http"
        url = "{}"
        interval = "0s"
        retry = {{ initial = "10ms", max = "50ms" }}
        "#,
        receiver.url()
    ));
    let Some(_disk) = SmallDisk::mount(&scratch.path("data"), 16 << 20) else { return };
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.push("events", &numbered(0, 10));
    wait_until("the first records are delivered", || stats.outputs[0].delivered.get() == 10);
    let filler = scratch.path("data/filler");
    let mut file = File::create(&filler).unwrap();
    // The journal's files are there already and take some records and outcomes; a request's body and a letter are new
    // files.
    fill(&mut file);
    host.push("events", &numbered(10, 10));
    wait_until("deliveries fail", || stats.outputs[0].retries.get() > 3);
    host.push("events", "this is no JSON");
    wait_until("the letter waits", || stats.paused().is_some());
    host.push("events", &numbered(20, 10));
    assert!(scratch.letters("events").is_empty());
    assert_eq!(stats.outputs[0].delivered.get(), 10);
    drop(file);
    fs::remove_file(&filler).unwrap();
    wait_until("everything is delivered", || stats.outputs[0].delivered.get() == 30);
    assert_eq!(stats.paused(), None);
    host.drain();
    let letters = scratch.letters("events");
    let payloads: Vec<&str> = letters.iter().filter_map(|letter| letter["payload"].as_str()).collect();
    assert_eq!(payloads, ["this is no JSON"]);
    let received = receiver.received();
    let text: String = received.iter().map(|request| String::from_utf8_lossy(&request.body)).collect();
    let found: Vec<u64> = text.lines().map(|line| objects::number(line, "n")).collect();
    assert_eq!(found, (0..30).collect::<Vec<_>>());
    assert!(objects::files(&scratch.path("data/spool")).is_empty());
}

#[test]
fn data_directory_removed_under_a_running_host_answers_503_instead_of_acknowledging() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        outputs = [{ type = "directory", path = "out", interval = "0s" }]
        "#,
    );
    let host = Running::start(&scratch.config(), COMPILER);
    assert_eq!(host.push("events", &numbered(0, 10))["records"], 10);
    let stats = host.stats("events");
    wait_until("the first records are delivered", || stats.outputs[0].delivered.get() == 10);
    let (data, elsewhere) = (scratch.path("data"), scratch.path("elsewhere"));
    let ready = || client::get(host.address(), "/readyz").unwrap();
    assert_eq!(ready().status, 200);
    // Moved rather than removed, so that it can come back; to the host it is the same.
    fs::rename(&data, &elsewhere).unwrap();
    // Before anybody has pushed.
    let answer = ready();
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("was removed, moved or replaced"), "{}", answer.body);
    let code = |n: u64| {
        let answer = host.try_push("events", &numbered(n, 1));
        assert_eq!(answer.status, 503, "{}", answer.body);
        answer.json()["error"]["code"].as_str().unwrap().to_owned()
    };
    // A mark or checkpoint of the host's own may have noticed first.
    assert!(["unknown", "unavailable"].contains(&code(100).as_str()));
    for n in 101..105 {
        assert_eq!(code(n), "unavailable");
    }
    // What was made anew in its place is not it.
    fs::create_dir_all(data.join("journal")).unwrap();
    assert_eq!(code(105), "unavailable");
    assert!(objects::files(&data).iter().all(|file| file.extension().is_none_or(|e| e != "wmj")));
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&elsewhere, &data).unwrap();
    assert_eq!(ready().status, 200);
    assert_eq!(host.push("events", &numbered(10, 10))["records"], 10);
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..20).collect::<Vec<_>>());
}

#[test]
fn second_program_on_a_data_directory_is_refused_and_told_who_holds_it() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(HELD_BACK);
    let first = Program::start(&binary, &scratch.config());
    let mut command = std::process::Command::new(&binary);
    let mut second = Program::spawn(command.args(["run", "--log-format", "json"]).arg(scratch.config()));
    let status = second.ended();
    assert!(!status.success(), "{status}");
    let holder = fs::read_to_string(scratch.path("data/journal/lock")).unwrap();
    let holder = holder.trim();
    assert!(
        holder
            .split_once(" on ")
            .is_some_and(|(pid, host)| pid.parse() == Ok(first.id()) && !host.is_empty())
    );
    let log = second.log().join("\n");
    assert!(log.contains(&format!("in use by process {holder}")), "{log}");
    // The first one goes on.
    assert_eq!(client::push(first.address(), "events", &numbered(0, 5)).unwrap().status, 200);
    first.stop();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..5).collect::<Vec<_>>());
}

#[test]
fn full_data_disk_is_told_to_clients_to_the_operator_once_and_to_who_asks_whether_the_host_is_ready() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"#whole
        [http]
        listen = "127.0.0.1:0"
        [buffer]
        journal_file = "1MiB"
        [streams.events]
        source = { type = "http" }
        outputs = [{ type = "directory", path = "out", interval = "0s" }]
        "#,
    );
    let Some(_disk) = SmallDisk::mount(&scratch.path("data"), 16 << 20) else { return };
    let program = Program::start(&binary, &scratch.config());
    let ready = || client::get(program.address(), "/readyz").unwrap();
    let mut next = 0;
    let mut push = || {
        next += 1000;
        client::push(program.address(), "events", &numbered(next, 1000)).unwrap()
    };
    assert_eq!((push().status, ready().status), (200, 200));
    let filler = scratch.path("data/filler");
    let mut file = File::create(&filler).unwrap();
    let mut refused = 0;
    // What was delivered makes room at first.
    let (answer, asked) = wait_for("the disk is full", || {
        fill(&mut file);
        let (answer, asked) = (push(), ready());
        refused = if answer.status == 503 && asked.status == 503 { refused + 1 } else { 0 };
        (refused == 20).then_some((answer, asked))
    });
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("the disk is full: No space left on device"), "{message}");
    assert!(asked.body.contains("records are refused: the disk is full"), "{}", asked.body);
    drop(file);
    fs::remove_file(&filler).unwrap();
    // Nobody has to push for that.
    assert_eq!(ready().body, "ready\n");
    assert_eq!(push().status, 200);
    let said = |text: &str| program.log().into_iter().filter(|line| line.contains(text)).collect::<Vec<_>>();
    let over = wait_for("each refusal was told to be over, also by who reads the log a little later", || {
        let (begun, over) = (said("journal cannot be written"), said("journal can be written again"));
        (begun.len() == over.len()).then_some(over)
    });
    let last = over.last().unwrap();
    let counted = last.split("\"refused\":").nth(1).and_then(|rest| rest.split(['}', ',']).next());
    assert!(counted.is_some_and(|counted| counted.parse::<u64>().unwrap() >= 20), "{last}");
    assert!(said("append refused").is_empty());
    program.stop();
}

#[test]
fn host_starts_on_a_full_disk_with_state_that_only_the_journal_has_and_counts_on_once_there_is_room() {
    let plain = r#"
    [streams.plain]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "plain", interval = "0s" }]
    "#;
    let (Some(binary), Some(scratch)) = (binary(), state::scratch(&format!("{COUNTED}{plain}"))) else {
        return;
    };
    let Some(_disk) = SmallDisk::mount(&scratch.path("data"), 32 << 20) else { return };
    let program = Program::start(&binary, &scratch.config());
    let push =
        |to: &Program, stream: &str, body: &str| client::push(to.address(), stream, body).unwrap().status;
    let users = |from: usize| {
        (from..from + 100).map(|n| user(n, &format!("user-{}", n % 7), "-")).collect::<Vec<_>>()
    };
    assert_eq!(push(&program, "events", &users(0).join("\n")), 200);
    wait_until("they are counted", || counted(&scratch).len() == 100);
    assert_eq!(push(&program, "events", &users(100).join("\n")), 200);
    // Before any of it is written to the database, which is seconds later.
    program.kill();
    let filler = scratch.path("data/filler");
    let mut file = File::create(&filler).unwrap();
    fill(&mut file);
    let program = Program::start(&binary, &scratch.config());
    let told = wait_for("the stream with state says what it waits for", || {
        let stream = client::get(program.address(), "/v1/streams/events").unwrap().body;
        stream.contains("No space left on device").then_some(stream)
    });
    assert!(told.contains("state"), "{told}");
    let other = client::get(program.address(), "/v1/streams/plain").unwrap();
    assert_eq!((other.status, &other.json()["state"]), (200, &json!("running")), "{}", other.body);
    drop(file);
    fs::remove_file(&filler).unwrap();
    wait_until("both streams take records", || push(&program, "plain", &numbered(0, 1)) == 200);
    assert_eq!(push(&program, "events", &users(200).join("\n")), 200);
    program.stop();
    let all: Vec<String> = (0..300).map(|n| format!("user-{}", n % 7)).collect();
    assert_eq!(counted(&scratch), state::expected((0..).zip(all.iter().map(String::as_str))));
}

/// The journal's files, the newest last.
fn journal(scratch: &Scratch) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = objects::files(&scratch.path("data/journal"));
    files.retain(|file| file.metadata().is_ok_and(|meta| meta.len() > 0));
    assert!(
        !files.is_empty(),
        "no journal in {:?}",
        fs::read_dir(scratch.path("data")).unwrap().collect::<Vec<_>>()
    );
    files
}

/// The file that has the text, and where in it.
fn find(files: &[PathBuf], text: &str) -> (PathBuf, usize) {
    let found = files.iter().find_map(|file| {
        let bytes = fs::read(file).unwrap();
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes());
        at.map(|at| (file.clone(), at))
    });
    found.unwrap()
}

const HELD_BACK: &str = r#"
    [streams.events]
    source = { type = "http" }
    [[streams.events.outputs]]
    type = "directory"
    path = "out"
    interval = "1h"
"#;

#[test]
fn torn_tail_is_cut_and_everything_before_it_is_delivered() {
    let scratch = Scratch::new(HELD_BACK);
    let host = Running::start(&scratch.config(), COMPILER);
    for n in 0..20 {
        host.push("events", &numbered(n * 5, 5));
    }
    host.crash();
    // As a write that was cut off leaves it: the frame of the last request begins and then there is nothing. No frame
    // behind it says that it was durable.
    let (file, at) = find(&journal(&scratch), "\"n\":99}");
    let mut bytes = fs::read(&file).unwrap();
    bytes[at..].fill(0);
    fs::write(&file, &bytes).unwrap();
    let Some(binary) = binary() else { return };
    let program = Program::start(&binary, &scratch.config());
    let answer = client::push(program.address(), "events", &numbered(100, 1)).unwrap();
    assert_eq!((answer.status, answer.json()["first_offset"].as_u64()), (200, Some(95)));
    let said = program.wait_for_log("a torn tail was cut");
    assert!(said.contains(&*file.file_name().unwrap().to_string_lossy()), "{said}");
    program.stop();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..95).chain([100]).collect::<Vec<_>>());
}

/// Flips a bit of a byte on disk.
fn flip(file: &Path, at: usize) {
    let disk = File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    disk.read_exact_at(&mut byte, at as u64).unwrap();
    disk.write_all_at(&[byte[0] ^ 0x10], at as u64).unwrap();
}

#[test]
fn flipped_bit_costs_its_frame_is_reported_and_reading_goes_on_behind_it() {
    let scratch = Scratch::new(HELD_BACK);
    let host = Running::start(&scratch.config(), COMPILER);
    for n in 0..20 {
        host.push("events", &numbered(n * 5, 5));
    }
    host.crash();
    let (file, at) = find(&journal(&scratch), "\"n\":52}");
    flip(&file, at);
    let Some(binary) = binary() else { return };
    let program = Program::start(&binary, &scratch.config());
    let answer = client::push(program.address(), "events", &numbered(100, 1)).unwrap();
    assert_eq!((answer.status, answer.json()["first_offset"].as_u64()), (200, Some(100)));
    program.wait_for_log("corrupt bytes in the journal were set aside");
    let lost = || {
        let metrics = client::get(program.address(), "/metrics").unwrap().body;
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("wasmill_stream_records_lost_to_corruption_total{"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    wait_until("the lost records are counted", || lost() == 5.0);
    program.stop();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..50).chain(55..=100).collect::<Vec<_>>());
}

#[test]
fn outcome_that_is_lost_to_a_flipped_bit_is_counted_and_the_stream_goes_on() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        transforms = [{ plugin = "route" }]
        [[streams.events.outputs]]
        type = "directory"
        path = "out"
        format = "raw"
        interval = "1h"
        [[streams.events.outputs]]
        type = "directory"
        name = "a"
        path = "a"
        format = "raw"
        interval = "0s"
        [[streams.events.outputs]]
        type = "directory"
        name = "b"
        path = "b"
        format = "raw"
        "#,
    );
    scratch.deploy("route", &wasmill_tests::guest::Guest::route_by_first_byte());
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    // Each request gives an outcome of its own, which holds a row that waits for its batch.
    for n in 0..10 {
        host.push("events", &format!("a at once {n}\nwaits {n}"));
        wait_until("the outcome is durable", || stats.outputs[0].emitted.get() == n + 1);
    }
    host.crash();
    // The row stands in its record's frame, which is needed no more, and behind that in its outcome.
    let mut found = journal(&scratch).into_iter().flat_map(|file| {
        let bytes = fs::read(&file).unwrap();
        let all: Vec<usize> =
            bytes.windows(8).enumerate().filter(|(_, w)| *w == b"waits 4\n").map(|(at, _)| at).collect();
        all.into_iter().map(move |at| (file.clone(), at))
    });
    let (file, at) = found.next().unwrap();
    flip(&file, at);
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("events");
    host.push("events", "waits, too");
    host.drain();
    assert_eq!(stats.records_lost_to_corruption.get(), 2);
    let mut rows = objects::lines(&scratch.out());
    rows.sort();
    let mut expected: Vec<String> = (0..10).filter(|n| *n != 4).map(|n| format!("waits {n}")).collect();
    expected.push("waits, too".to_owned());
    expected.sort();
    assert_eq!(rows, expected);
}
