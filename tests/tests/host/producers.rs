//! Clients that number their requests and send them again until they are answered: everything is there exactly once,
//! through kills, lost answers and several connections at a time.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use wasmill_tests::client::{Answer, push_as};
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::{Running, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::wait::{wait_for, wait_until};
use wasmill_tests::{client, objects};

use crate::COMPILER;

const NDJSON: &str = "content-type: application/x-ndjson";

const EVENTS: &str = r#"
    [streams.events]
    source = { type = "http" }
    outputs = [{ type = "directory", path = "out", interval = "50ms" }]
"#;

fn try_send(to: SocketAddr, producer: &str, sequence: u64, body: &str) -> anyhow::Result<Answer> {
    let (producer, sequence) =
        (format!("Wasmill-Producer: {producer}"), format!("Wasmill-Sequence: {sequence}"));
    push_as(to, "events", &[NDJSON, &producer, &sequence], body.as_bytes())
}

fn send(to: SocketAddr, producer: &str, sequence: u64, body: &str) -> Answer {
    try_send(to, producer, sequence, body).unwrap()
}

#[test]
fn request_sent_again_is_answered_with_its_receipt_and_stored_once() {
    let scratch = Scratch::new(EVENTS);
    let host = Running::start(&scratch.config(), COMPILER);
    let to = host.address();
    let first = send(to, "p", 7, &numbered(0, 3));
    assert_eq!(
        (first.status, first.json()),
        (200, json!({ "records": 3, "first_offset": 0, "last_offset": 2, "duplicate": false }))
    );
    assert_eq!(
        host.push("events", &numbered(3, 1)),
        json!({ "records": 1, "first_offset": 3, "last_offset": 3 })
    );
    let receipt = json!({ "records": 3, "first_offset": 0, "last_offset": 2, "duplicate": true });
    assert_eq!(send(to, "p", 7, &numbered(0, 3)).json(), receipt);
    // The same records in another framing are the same request.
    let array = format!("[{}]", numbered(0, 3).replace('\n', ","));
    let headers = ["content-type: application/json", "wasmill-producer: p", "wasmill-sequence: 7"];
    assert_eq!(push_as(to, "events", &headers, array.as_bytes()).unwrap().json(), receipt);
    // Other records are not, and nothing of them is stored.
    let conflict = send(to, "p", 7, &numbered(100, 3));
    assert_eq!((conflict.status, &conflict.json()["error"]["code"]), (409, &json!("sequence_conflict")));
    assert!(
        conflict.body.contains("sequence 7") && conflict.body.contains("offsets 0 to 2"),
        "{}",
        conflict.body
    );
    // Late, with a gap before it: stored. Eight greater ones later it is forgotten, and says so.
    for sequence in [3, 8, 9, 10, 11, 12, 13, 14, 15] {
        let answer = send(to, "p", sequence, &numbered(sequence, 1));
        assert_eq!(answer.json()["duplicate"], json!(false), "{}", answer.body);
    }
    let forgotten = send(to, "p", 3, &numbered(3, 1));
    assert_eq!((forgotten.status, &forgotten.json()["error"]["code"]), (409, &json!("sequence_forgotten")));
    let stats = host.stats("events");
    assert_eq!((stats.records_in.get(), stats.records_duplicate.get()), (13, 6));
    host.drain();
    let mut expected: Vec<u64> = vec![0, 1, 2, 3, 3, 8, 9, 10, 11, 12, 13, 14, 15];
    expected.sort_unstable();
    assert_eq!(objects::numbers(&scratch.out(), "n"), expected);
}

#[test]
fn request_on_many_connections_at_once_is_stored_once_and_each_gets_the_receipt() {
    let scratch = Scratch::new(EVENTS);
    let host = Running::start(&scratch.config(), COMPILER);
    let to = host.address();
    for round in 0..20 {
        let body = numbered(round * 10, 10);
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let sent: Vec<_> = (0..4).map(|_| scope.spawn(|| send(to, "p", round, &body))).collect();
            sent.into_iter().map(|sent| sent.join().unwrap()).collect()
        });
        let appended = answers.iter().filter(|answer| answer.json()["duplicate"] == json!(false)).count();
        assert_eq!(appended, 1, "{answers:?}");
        for answer in answers {
            assert_eq!(answer.json()["first_offset"], json!(round * 10), "{}", answer.body);
        }
    }
    host.drain();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..200).collect::<Vec<_>>());
}

#[test]
fn request_whose_answer_was_lost_with_the_program_gets_its_receipt_from_the_next_one() {
    let Some(binary) = binary() else { return };
    let scratch = Scratch::new(EVENTS);
    for round in 0..5 {
        let program = Program::start(&binary, &scratch.config());
        let body = numbered(round * 10, 10);
        let to = program.address();
        let mut socket = TcpStream::connect(to).unwrap();
        let length = body.len();
        let head = format!(
            "POST /v1/streams/events/records HTTP/1.1\r\nhost: {to}\r\ncontent-length: {length}\r\n{NDJSON}\r\n\
             wasmill-producer: p\r\nwasmill-sequence: {round}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body.as_bytes()).unwrap();
        // Its last record is in the journal; the answer is never read.
        let last = format!("\"n\":{}}}", round * 10 + 9);
        wait_until("the request is in the journal", || {
            objects::files(&scratch.path("data/journal")).iter().any(|file| {
                // A file may be recycled at this moment.
                let bytes = std::fs::read(file).unwrap_or_default();
                bytes.windows(last.len()).any(|window| window == last.as_bytes())
            })
        });
        program.kill();
        let program = Program::start(&binary, &scratch.config());
        let receipt = json!({
            "records": 10, "first_offset": round * 10, "last_offset": round * 10 + 9, "duplicate": true
        });
        for _ in 0..2 {
            let answer = send(program.address(), "p", round, &body);
            assert_eq!((answer.status, answer.json()), (200, receipt.clone()));
        }
        program.kill();
    }
    Program::start(&binary, &scratch.config()).stop();
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..50).collect::<Vec<_>>());
}

#[test]
fn clients_that_resend_have_everything_exactly_once_when_the_program_is_killed_again_and_again() {
    let Some(binary) = binary() else { return };
    const CLIENTS: u64 = 4;
    const REQUESTS: u64 = 400;
    let scratch = Scratch::new(EVENTS);
    let address: Mutex<Option<SocketAddr>> = Mutex::new(None);
    let (done, duplicates) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (address, done, duplicates) = (&address, &done, &duplicates);
            scope.spawn(move || {
                for sequence in 0..REQUESTS {
                    let body = numbered((client * REQUESTS + sequence) * 5, 5);
                    // Until it is answered, by whichever program.
                    let answer = wait_for("an answer", || {
                        let to = (*address.lock().unwrap())?;
                        let answer = try_send(to, &format!("client-{client}"), sequence, &body).ok()?;
                        (answer.status == 200).then_some(answer)
                    });
                    duplicates
                        .fetch_add(u64::from(answer.json()["duplicate"] == json!(true)), Ordering::Relaxed);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for kill in 1..=8 {
            let program = Program::start(&binary, &scratch.config());
            *address.lock().unwrap() = Some(program.address());
            wait_until("the clients push", || done.load(Ordering::Relaxed) > kill * CLIENTS * REQUESTS / 10);
            program.kill();
        }
        let program = Program::start(&binary, &scratch.config());
        *address.lock().unwrap() = Some(program.address());
        wait_until("all clients are done", || done.load(Ordering::Relaxed) == CLIENTS * REQUESTS);
        program.stop();
    });
    println!("{} requests were stored before they were answered", duplicates.load(Ordering::Relaxed));
    assert_eq!(objects::numbers(&scratch.out(), "n"), (0..CLIENTS * REQUESTS * 5).collect::<Vec<_>>());
}

#[test]
fn headers_that_are_wrong_are_refused_and_named() {
    let scratch = Scratch::new(EVENTS);
    let host = Running::start(&scratch.config(), COMPILER);
    for (headers, what) in [
        (&["wasmill-producer: p"][..], "needs Wasmill-Sequence"),
        (&["wasmill-sequence: 1"], "needs Wasmill-Producer"),
        (&["wasmill-producer: p q", "wasmill-sequence: 1"], "printable"),
        (&["wasmill-producer: p", "wasmill-sequence: one"], "\\\"one\\\""),
    ] {
        let headers = [&[NDJSON][..], headers].concat();
        let answer = client::push_as(host.address(), "events", &headers, b"{}").unwrap();
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!("bad_producer")));
        assert!(answer.body.contains(what), "{}", answer.body);
    }
    assert_eq!(host.stats("events").records_in.get(), 0);
    host.drain();
}
