//! Every source into a whole host: framings, encodings and limits of pushes, files that rotate, TCP, a full buffer.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use wasmill::pipeline::DrainError;
use wasmill_encode::{Compression, Encoder, Format};
use wasmill_tests::client::{self, push_as};
use wasmill_tests::objects;
use wasmill_tests::running::{Running, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::servers::Receiver;
use wasmill_tests::wait::{wait_for, wait_until};

use crate::COMPILER;

const PUSH: &str = r#"#whole
    [http]
    listen = "127.0.0.1:0"
    max_body = "64KiB"
    max_record = "1KiB"
    max_records = 1000
    [streams.events]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "out", format = "raw", compression = "none" }]
"#;

fn append_to(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn compressed(compression: Compression, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let mut pieces = std::iter::once(Ok::<_, std::io::Error>(text.as_bytes()));
    Encoder::default()
        .encode(Format::Raw, compression, Some(text.len() as u64), &mut pieces, &mut body)
        .unwrap();
    body
}

#[test]
fn every_framing_and_encoding_gives_its_records() {
    let scratch = Scratch::new(PUSH);
    let host = Running::start(&scratch.config(), COMPILER);
    let push = |content: &str, encoding: &str, body: &[u8], records: u64| {
        let headers = [format!("content-type: {content}"), format!("content-encoding: {encoding}")];
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let answer = push_as(host.address(), "events", &headers, body).unwrap();
        assert_eq!(
            (answer.status, answer.json()["records"].as_u64()),
            (200, Some(records)),
            "{content}: {}",
            answer.body
        );
    };
    push("application/x-ndjson", "identity", b"one\r\ntwo\n\nthree", 3);
    push("application/json", "identity", b" [ {\"four\": 1.0}, \"five\" ] ", 2);
    push("text/plain", "identity", b"six", 1);
    push("application/octet-stream", "identity", b"seven", 1);
    push("application/vnd.wasmill.length-delimited", "identity", b"\0\0\0\x05eight\0\0\0\x04nine", 2);
    push("application/x-ndjson", "gzip", &compressed(Compression::Gzip { level: 6 }, "ten\neleven\n"), 2);
    push("application/x-ndjson", "zstd", &compressed(Compression::Zstd { level: 3 }, "twelve\n"), 1);
    push("application/x-ndjson", "identity", b"\n\r\n", 0);
    host.drain();
    assert_eq!(
        objects::lines(&scratch.out()),
        [
            "one",
            "two",
            "three",
            "{\"four\": 1.0}",
            "\"five\"",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve"
        ]
    );
}

#[test]
fn push_over_a_limit_is_413_and_nothing_of_it_is_stored() {
    let scratch = Scratch::new(PUSH);
    let host = Running::start(&scratch.config(), COMPILER);
    let ndjson = "content-type: application/x-ndjson";
    let bomb = compressed(Compression::Zstd { level: 3 }, &"x\n".repeat(1 << 20));
    assert!(bomb.len() < 1000);
    let large = format!("fine\n{}\n", "x".repeat(1025));
    for (headers, body, code) in [
        (vec![ndjson], "x\n".repeat(40_000).into_bytes(), "body_too_large"),
        (vec![ndjson], large.into_bytes(), "record_too_large"),
        (vec![ndjson], "x\n".repeat(1001).into_bytes(), "too_many_records"),
        (vec![ndjson, "content-encoding: zstd"], bomb, "body_too_large"),
        (
            vec!["content-type: application/vnd.wasmill.length-delimited"],
            b"\xff\xff\xff\xff".to_vec(),
            "record_too_large",
        ),
    ] {
        let answer = push_as(host.address(), "events", &headers, &body).unwrap();
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (413, Some(code)),
            "{}",
            answer.body
        );
    }
    let unknown = client::push(host.address(), "other", "x").unwrap();
    assert_eq!(unknown.status, 404);
    host.push("events", "the only one");
    host.drain();
    assert_eq!(objects::lines(&scratch.out()), ["the only one"]);
}

#[test]
fn full_buffer_answers_429_and_what_was_acknowledged_is_delivered_afterwards() {
    let receiver = Receiver::start(&[], 503);
    let scratch = Scratch::new(&format!(
        r#"#whole
        [http]
        listen = "127.0.0.1:0"
        [buffer]
        max_bytes = "1MiB"
        journal_file = "1MiB"
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
    let host = Running::start(&scratch.config(), COMPILER);
    let mut acknowledged = Vec::new();
    let mut next = 0;
    let refused = wait_for("the buffer is full", || {
        let answer = host.try_push("events", &numbered(next, 1000));
        match answer.status {
            200 => acknowledged.extend(next..next + 1000),
            429 => return Some(answer),
            other => panic!("{other}: {}", answer.body),
        }
        next += 1000;
        None
    });
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(refused.json()["error"]["code"], "buffer_full");
    receiver.answer(200);
    wait_until("there is room again", || host.try_push("events", "{\"n\":4000000000}").status == 200);
    host.drain();
    let taken = receiver.received().into_iter().filter(|request| request.status == 200);
    let mut found: Vec<u64> = taken
        .flat_map(|request| {
            let text = String::from_utf8(request.body.to_vec()).unwrap();
            text.lines().map(|line| objects::number(line, "n")).collect::<Vec<_>>()
        })
        .collect();
    acknowledged.push(4_000_000_000);
    found.sort_unstable();
    assert_eq!(found, acknowledged);
}

#[test]
fn open_batches_that_fill_the_buffer_are_sealed_before_they_are_full() {
    let scratch = Scratch::new(
        r#"#whole
        [http]
        listen = "127.0.0.1:0"
        [buffer]
        max_bytes = "2MiB"
        journal_file = "1MiB"
        [streams.events]
        source = { type = "http" }
        outputs = [{ type = "directory", path = "out", size = "1GiB", interval = "1h" }]
        "#,
    );
    let host = Running::start(&scratch.config(), COMPILER);
    for n in 0..200 {
        let body = numbered(n * 1000, 1000);
        wait_until("there is room", || host.try_push("events", &body).status == 200);
    }
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..200_000).collect::<Vec<_>>());
}

#[test]
fn file_larger_than_what_a_source_may_run_ahead_is_read_without_waiting_for_an_interval() {
    let scratch = Scratch::new(
        r#"
        [streams.files]
        source = { type = "file", paths = ["in.log"] }
        outputs = [{ type = "directory", path = "out", size = "1GiB", interval = "1h", format = "raw", compression = "none" }]
        "#,
    );
    let line = format!("{}\n", "x".repeat(4095));
    fs::write(scratch.path("in.log"), line.repeat(12 << 10)).unwrap();
    let host = Running::start(&scratch.config(), COMPILER);
    host.ended();
    host.drain();
    let sizes: u64 = objects::files(&scratch.out()).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(sizes, 48 << 20);
}

#[test]
fn followed_files_that_rotate_and_shrink_over_restarts_are_read_exactly_once() {
    let scratch = Scratch::new(
        r#"
        [streams.logs]
        source = { type = "file", paths = ["logs/*.log"], follow = true }
        outputs = [{ type = "directory", path = "out", interval = "0s" }]
        "#,
    );
    fs::create_dir(scratch.path("logs")).unwrap();
    let log = scratch.path("logs/app.log");
    let mut sent = 0;
    let mut write = |path: &Path| {
        append_to(path, &format!("{}\n", numbered(sent, 50)));
        sent += 50;
        sent
    };
    let delivered = |sent: u64| {
        wait_until("the lines are delivered", || objects::lines(&scratch.out()).len() as u64 >= sent);
    };
    for round in 0..6 {
        let host = Running::start(&scratch.config(), COMPILER);
        write(&log);
        // Renamed away while it is read, and written to once more before the writer notices.
        if round % 2 == 0 {
            let old = scratch.path(&format!("logs/app-{round}.log"));
            fs::rename(&log, &old).unwrap();
            write(&old);
            write(&log);
        }
        if round == 3 {
            delivered(write(&log));
            // Copied away and emptied.
            fs::write(&log, "").unwrap();
            write(&log);
        }
        let sent = write(&log);
        if round != 4 {
            delivered(sent);
        }
        if round % 2 == 0 { host.crash() } else { host.drain() }
    }
    let host = Running::start(&scratch.config(), COMPILER);
    delivered(sent);
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..sent).collect::<Vec<_>>());
}

#[test]
fn file_source_waits_for_a_better_plugin_although_the_file_has_ended() {
    let scratch = Scratch::new(
        r#"
        [streams.files]
        source = { type = "file", paths = ["in.ndjson"] }
        transforms = [{ plugin = "step" }]
        outputs = [{ type = "directory", path = "out" }]
        "#,
    );
    fs::write(scratch.path("in.ndjson"), numbered(0, 5000)).unwrap();
    scratch.deploy("step", &wasmill_tests::guest::Guest::reject_all());
    let host = Running::start(&scratch.config(), COMPILER);
    let stats = host.stats("files");
    wait_until("the stream pauses", || stats.paused().is_some());
    wait_until("the source has ended", || {
        stats.sources().all(|source| source.own().is_some_and(|own| own.open() == 0))
    });
    scratch.deploy("step", &wasmill_tests::guest::Guest::stamp('2'));
    host.ended();
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..5000).collect::<Vec<_>>());
}

#[test]
fn paused_stream_stops_in_order_and_goes_on_at_the_next_start() {
    let scratch = Scratch::new(
        r#"
        [streams.events]
        source = { type = "http" }
        transforms = [{ plugin = "step" }]
        outputs = [{ type = "directory", path = "out" }]
        "#,
    );
    scratch.deploy("step", &wasmill_tests::guest::Guest::reject_all());
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &numbered(0, 2000));
    let stats = host.stats("events");
    wait_until("the stream pauses", || stats.paused().is_some());
    let stopped = host.drain_within(Duration::from_secs(20));
    assert!(matches!(stopped, Err(DrainError::Left { .. })), "{stopped:?}");
    assert!(objects::files(&scratch.out()).is_empty());
    scratch.deploy("step", &wasmill_tests::guest::Guest::stamp('2'));
    Running::start(&scratch.config(), COMPILER).drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..2000).collect::<Vec<_>>());
}

#[test]
fn lines_over_tcp_are_delivered_and_a_stop_takes_what_was_read() {
    let scratch = Scratch::new(
        r#"
        [streams.syslog]
        source = { type = "tcp", listen = "127.0.0.1:0", max_record = "1KiB" }
        outputs = [{ type = "directory", path = "out", format = "raw", compression = "none" }]
        "#,
    );
    let host = Running::start(&scratch.config(), COMPILER);
    let address = host.host.tcp_address("syslog").unwrap();
    let mut expected = Vec::new();
    let connections: Vec<TcpStream> = (0..4)
        .map(|client| {
            let mut socket = TcpStream::connect(address).unwrap();
            for n in 0..500 {
                let line = format!("client {client} line {n}");
                socket.write_all(format!("{line}\n").as_bytes()).unwrap();
                expected.push(line);
            }
            socket
        })
        .collect();
    let stats = host.stats("syslog");
    wait_until("the lines are stored", || stats.records_in.get() == 2000);
    // One connection that says too much is closed; the others are not.
    let mut too_long = TcpStream::connect(address).unwrap();
    drop(too_long.write_all(&[b'x'; 4096]));
    wait_until("it is closed", || {
        std::io::Read::read(&mut too_long, &mut [0; 1]).map_or(true, |read| read == 0)
    });
    host.drain();
    drop(connections);
    let mut found = objects::lines(&scratch.out());
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}
