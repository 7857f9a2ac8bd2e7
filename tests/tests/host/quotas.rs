//! Quotas of what arrives, of the real binary: what is refused, what the client is told, and that another tenant notices
//! nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use wasmill_tests::client::{self, Answer, push_as};
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::wait_until;

/// What the command prints, which must succeed.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A host with the tenants `default` and `acme`, each with a stream `events`, where requests need keys.
struct Two {
    program: Program,
    scratch: Scratch,
    operator: String,
    ours: String,
    theirs: String,
}

impl Two {
    fn start(binary: &Path, tables: &str) -> Two {
        let scratch = Scratch::new(&format!(
            r#"#whole
            [http]
            listen = "127.0.0.1:0"
            auth = {{ mode = "keys" }}
            [buffer]
            journal_file = "1MiB"
            [streams.events]
            source = {{ type = "http" }}
            outputs = [{{ type = "directory", path = "ours", interval = "0s" }}]
            [tenants.acme.streams.events]
            source = {{ type = "http" }}
            outputs = [{{ type = "directory", path = "theirs", interval = "0s" }}]
            {tables}
            "#
        ));
        let config = scratch.config();
        let create = ["key", "create", "--operator", "--name", "first", "--config"];
        let operator = said(Command::new(binary).args(create).arg(&config));
        let program = Program::start(binary, &config);
        let host = format!("http://{}", program.address());
        let make = |tenant: &str| {
            let create = ["key", "create", "--name", "test", "--scope", "push,read", "--tenant", tenant];
            said(Command::new(binary).args(create).args(["--host", &host]).env("WASMILL_KEY", &operator))
        };
        let (ours, theirs) = (make("default"), make("acme"));
        Two { program, scratch, operator, ours, theirs }
    }

    fn push(&self, key: &str, body: &str) -> Answer {
        let key = bearer(key);
        let headers = ["content-type: application/x-ndjson", key.as_str()];
        push_as(self.program.address(), "events", &headers, body.as_bytes()).unwrap()
    }
}

fn bearer(key: &str) -> String {
    format!("authorization: Bearer {key}")
}

fn lines(count: usize) -> String {
    (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// Waits until a time has passed, and not less.
fn wait_out(seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    wait_until("the time has passed", || Instant::now() >= end);
}

#[test]
fn request_past_the_rate_is_told_when_to_come_again_and_another_tenant_is_not() {
    let Some(binary) = binary() else { return };
    let two =
        Two::start(&binary, "[tenants.acme.quota]\nrecords_per_second = 10\nbytes_per_second = \"1MB\"");
    let large = two.push(&two.theirs, &lines(11));
    assert_eq!((large.status, code(&large).as_str()), (413, "larger_than_quota"), "{}", large.body);
    assert!(
        large.body.contains("records_per_second") && large.body.contains("which is 10"),
        "{}",
        large.body
    );
    let started = Instant::now();
    assert_eq!(two.push(&two.theirs, &lines(10)).status, 200);
    let mut refused = 0;
    let mut stored = 10;
    while refused < 3 {
        let answer = two.push(&two.theirs, &lines(10));
        if answer.status == 200 {
            stored += 10;
            continue;
        }
        assert_eq!((answer.status, code(&answer).as_str()), (429, "over_quota"), "{}", answer.body);
        refused += 1;
        // Whoever comes again when he was told to is let in.
        wait_out(answer.header("retry-after").unwrap().parse().unwrap());
        let again = two.push(&two.theirs, &lines(10));
        assert_eq!(again.status, 200, "{}", again.body);
        stored += 10;
        assert_eq!(two.push(&two.ours, &lines(5000)).status, 200);
    }
    let most = 10.0 * started.elapsed().as_secs_f64() + 10.0;
    assert!(f64::from(stored) <= most, "{stored} records, and at most {most} may come");
    wait_until("what was acknowledged is delivered", || {
        objects::numbers(&two.scratch.path("theirs"), "n").len() == stored as usize
    });
    assert!(two.program.says("a tenant is past its quota"));
    let metrics =
        client::request(two.program.address(), "GET", "/metrics", &[&bearer(&two.operator)], b"").unwrap();
    let counted = metrics.body.lines().find(|line| {
        line.starts_with("wasmill_quota_refusals_total")
            && line.contains("acme")
            && line.contains("records_per_second")
    });
    assert!(counted.is_some_and(|line| line.ends_with(" 4")), "{counted:?}");
    two.program.stop();
}

#[test]
fn bytes_past_the_rate_are_told_when_to_come_again_and_another_tenant_is_not() {
    let Some(binary) = binary() else { return };
    let two = Two::start(&binary, "[tenants.acme.quota]\nbytes_per_second = \"64KiB\"");
    let filler = |bytes: usize| format!("{{\"n\":1,\"filler\":\"{}\"}}", "x".repeat(bytes));
    let large = two.push(&two.theirs, &filler(64 << 10));
    assert_eq!((large.status, code(&large).as_str()), (413, "larger_than_quota"), "{}", large.body);
    assert!(large.body.contains("bytes_per_second"), "{}", large.body);
    let (body, started) = (filler(60_000), Instant::now());
    assert_eq!(two.push(&two.theirs, &body).status, 200);
    let (mut refused, mut stored) = (0, 1);
    while refused < 3 {
        let answer = two.push(&two.theirs, &body);
        if answer.status == 200 {
            stored += 1;
            continue;
        }
        assert_eq!((answer.status, code(&answer).as_str()), (429, "over_quota"), "{}", answer.body);
        assert!(answer.body.contains("bytes_per_second"), "{}", answer.body);
        refused += 1;
        assert_eq!(two.push(&two.ours, &lines(20_000)).status, 200, "a neighbour is held up");
        wait_out(answer.header("retry-after").unwrap().parse().unwrap());
        let again = two.push(&two.theirs, &body);
        assert_eq!(again.status, 200, "who comes when he was told to is let in: {}", again.body);
        stored += 1;
    }
    let most = 65_536.0 * (started.elapsed().as_secs_f64() + 1.0);
    assert!(f64::from(stored) * 60_000.0 <= most, "{stored} bodies, and at most {most} bytes may come");
    wait_until("what was acknowledged is delivered", || {
        objects::numbers(&two.scratch.path("theirs"), "n").len() == stored as usize
    });
    two.program.stop();
}

/// A request that has been let in, of which no more than a part of the body has been sent.
fn begin(to: SocketAddr, key: &str, announced: usize, sent: usize) -> TcpStream {
    let mut socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!(
        "POST /v1/streams/events/records HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ncontent-length: {announced}\r\nexpect: 100-continue\r\n{}\r\n\r\n",
        bearer(key)
    );
    socket.write_all(head.as_bytes()).unwrap();
    // Said when the body is wanted.
    let mut go_on = [0; 25];
    socket.read_exact(&mut go_on).unwrap();
    assert_eq!(String::from_utf8_lossy(&go_on), "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(&vec![b'x'; sent]).unwrap();
    socket
}

fn status(socket: &mut TcpStream) -> u16 {
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[9..12]).parse().unwrap()
}

#[test]
fn slow_senders_of_one_tenant_hold_up_none_of_another() {
    let Some(binary) = binary() else { return };
    let two = Two::start(&binary, "[quota]\nrequests = 20\nbody_bytes = \"400MiB\"");
    let address = two.program.address();
    // More than fits into all the memory for bodies, were it taken by what is announced; twenty are let in.
    let mut slow: Vec<TcpStream> = (0..20).map(|_| begin(address, &two.theirs, 15 << 20, 1000)).collect();
    let refused = || {
        let answer = two.push(&two.theirs, "{}");
        assert!(answer.status == 429, "{}", answer.body);
        (code(&answer), answer.header("retry-after").unwrap().to_owned())
    };
    assert_eq!(refused(), ("over_quota".to_owned(), "1".to_owned()));
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(two.push(&two.ours, &lines(100)).status, 200);
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // They were not cut off either.
    let mut first = slow.remove(0);
    let rest: Vec<u8> = (0..(15 << 20) - 1000).map(|at| if at % 65536 == 0 { b'\n' } else { b'y' }).collect();
    first.write_all(&rest).unwrap();
    assert_eq!(status(&mut first), 200);
    drop(slow);
    two.program.stop();
}

#[test]
fn what_waits_is_bounded_over_the_streams_of_a_tenant_and_goes_on_when_it_has_left() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"
        [quota]
        buffered_bytes = "256KiB"
        [streams.one]
        source = { type = "http" }
        outputs = [{ type = "directory", path = "out", interval = "1s", size = "64MiB" }]
        [streams.other]
        source = { type = "http" }
        outputs = [{ type = "directory", path = "out2", interval = "1s", size = "64MiB" }]
        "#,
    );
    let program = Program::start(&binary, &scratch.config());
    let body = format!("{{\"filler\":\"{}\"}}", "x".repeat(60_000));
    let large = client::push(program.address(), "one", &format!("{body}\n").repeat(5)).unwrap();
    assert_eq!((large.status, code(&large).as_str()), (413, "larger_than_quota"), "{}", large.body);
    let mut taken = 0;
    let full = loop {
        let answer =
            client::push(program.address(), if taken % 2 == 0 { "one" } else { "other" }, &body).unwrap();
        match answer.status {
            200 => taken += 1,
            _ => break answer,
        }
        assert!(taken < 1000, "nothing was ever refused");
    };
    assert_eq!((full.status, code(&full).as_str()), (429, "over_quota"), "{}", full.body);
    assert!(full.body.contains("buffered_bytes") && full.header("retry-after") == Some("1"), "{}", full.body);
    wait_until("there is room again", || {
        client::push(program.address(), "other", &body).unwrap().status == 200
    });
    program.stop();
}

#[test]
fn source_of_the_hosts_own_is_slowed_down_and_loses_nothing() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(
        r#"
        [tenants.default.quota]
        records_per_second = 50_000
        [streams.file]
        source = { type = "file", paths = ["input.log"], follow = true }
        outputs = [{ type = "directory", path = "out2", interval = "0s" }]
        "#,
    );
    std::fs::write(scratch.path("input.log"), lines(200_000)).unwrap();
    let started = Instant::now();
    let program = Program::start(&binary, &scratch.config());
    wait_until("every line is delivered", || objects::numbers(&scratch.path("out2"), "n").len() == 200_000);
    // A burst at once, or one batch where that is more, and the others as the rate allows.
    assert!(started.elapsed() >= Duration::from_millis(1500), "{:?}", started.elapsed());
    let mut numbers = objects::numbers(&scratch.path("out2"), "n");
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200_000).collect::<Vec<_>>());
    program.stop();
}
