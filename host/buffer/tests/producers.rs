//! Requests that their producer numbered: sent again after any crash or failure, they are there exactly once and get
//! the receipt of the first time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use wasmill_buffer::testing::{Fault, FaultyDisk};
use wasmill_buffer::{
    AppendError, Journal, Numbered, OpenError, Options, Position, Receipt, Records, Stream, StreamKey,
    StreamOptions,
};

const FILE: u64 = 16 << 10;

fn try_open(disk: &FaultyDisk) -> Result<(Journal, Stream), AppendError> {
    let options = Options { file_bytes: FILE, max_journal_bytes: 4 * FILE, ..Options::default() };
    let (journal, recovery) = match Journal::open_stepped(Arc::new(disk.clone()), Path::new("/data"), options)
    {
        Ok(opened) => opened,
        Err(OpenError::Disk { .. }) if disk.is_off() => return Err(AppendError::Closed),
        Err(error) => panic!("{error}"),
    };
    assert!(recovery.lost.is_empty() && recovery.corrupt.is_empty(), "{recovery:?}");
    let key = StreamKey { tenant: "t".into(), name: "s".into() };
    let stream = journal.drive(journal.stream(&key, StreamOptions { max_bytes: 1 << 20, retention: None }));
    match stream {
        Ok(stream) => Ok((journal, stream)),
        Err(_) if disk.is_off() => Err(AppendError::Closed),
        Err(error) => panic!("{error}"),
    }
}

fn open(disk: &FaultyDisk) -> (Journal, Stream) {
    try_open(disk).unwrap()
}

fn reopen(disk: &FaultyDisk, journal: Journal) -> (Journal, Stream) {
    disk.crash();
    drop(journal);
    disk.reboot();
    open(disk)
}

/// A request of two records.
fn request(producer: &str, sequence: u64, text: &str) -> Records {
    let end = text.len() as u32;
    let mut digest = [0; 16];
    digest[..4].copy_from_slice(&crc32c::crc32c(text.as_bytes()).to_le_bytes());
    let mut records = Records::new(format!("{text}."), vec![end, end + 1], 1);
    records.numbered = Some(Numbered { producer: producer.into(), sequence, digest });
    records
}

fn send(journal: &Journal, stream: &Stream, records: Records) -> Result<Receipt, AppendError> {
    journal.drive(stream.append(records))
}

fn firsts(stream: &Stream) -> Vec<(u64, String)> {
    let found = stream.try_frames(0, usize::MAX).unwrap();
    assert!(found.lost.is_empty(), "{:?}", found.lost);
    let text = |frame: &wasmill_buffer::Frame| String::from_utf8(frame.record(0).unwrap().to_vec()).unwrap();
    found.frames.iter().map(|frame| (frame.base_offset, text(frame))).collect()
}

fn again(receipt: Receipt) -> Receipt {
    Receipt { duplicate: true, ..receipt }
}

#[test]
fn request_sent_again_after_a_crash_gets_its_first_receipt_and_appends_nothing() {
    for seed in 0..20 {
        let disk = FaultyDisk::new(seed);
        let (journal, stream) = open(&disk);
        let first = send(&journal, &stream, request("p", 5, "a")).unwrap();
        assert_eq!((first.first_offset, first.count, first.duplicate), (0, 2, false));
        let second = send(&journal, &stream, request("p", 3, "b")).unwrap();
        assert_eq!(send(&journal, &stream, request("p", 5, "a")).unwrap(), again(first));
        let (journal, stream) = reopen(&disk, journal);
        assert_eq!(send(&journal, &stream, request("p", 5, "a")).unwrap(), again(first));
        assert_eq!(send(&journal, &stream, request("p", 3, "b")).unwrap(), again(second));
        let conflict = send(&journal, &stream, request("p", 3, "other"));
        assert!(
            matches!(
                conflict,
                Err(AppendError::Conflict { sequence: 3, first_offset: 2, count: 2, ref producer }) if &**producer == "p"
            ),
            "{conflict:?}"
        );
        assert_eq!(firsts(&stream), [(0, "a".to_owned()), (2, "b".to_owned())]);
    }
}

#[test]
fn request_whose_frame_was_freed_is_still_known_after_many_restarts() {
    let disk = FaultyDisk::new(1);
    let (mut journal, mut stream) = open(&disk);
    let first = send(&journal, &stream, request("p", 1, "first")).unwrap();
    let filling = "x".repeat(3000);
    for round in 0..5 {
        let position = stream.journal_end();
        for n in 0..12 {
            // Of other producers, and of nobody.
            let mut records = request(&format!("q{n}"), round, &filling);
            if n % 2 == 0 {
                records.numbered = None;
            }
            send(&journal, &stream, records).unwrap();
        }
        journal.drive(stream.checkpoint("", stream.durable_end(), position, true)).unwrap();
        (journal, stream) = reopen(&disk, journal);
        assert_eq!(send(&journal, &stream, request("p", 1, "first")).unwrap(), again(first));
        assert!(matches!(
            send(&journal, &stream, request("p", 1, "second")),
            Err(AppendError::Conflict { .. })
        ));
    }
    assert!(firsts(&stream).is_empty(), "everything was released");
    assert_eq!(stream.durable_end(), 2 + 5 * 12 * 2);
    // A new stream of this name knows nobody.
    let key = stream.key().clone();
    journal.drive(stream.delete()).unwrap();
    let stream =
        journal.drive(journal.stream(&key, StreamOptions { max_bytes: 1 << 20, retention: None })).unwrap();
    assert!(!send(&journal, &stream, request("p", 1, "first")).unwrap().duplicate);
}

#[test]
fn sequence_that_is_forgotten_is_refused_and_never_appended() {
    let disk = FaultyDisk::new(2);
    let (journal, stream) = open(&disk);
    for sequence in 10..20 {
        send(&journal, &stream, request("p", sequence, "x")).unwrap();
    }
    let (journal, stream) = reopen(&disk, journal);
    for sequence in [0, 10, 11] {
        let refused = send(&journal, &stream, request("p", sequence, "x"));
        assert!(matches!(refused, Err(AppendError::Forgotten { floor: 11, .. })), "{refused:?}");
    }
    assert!(send(&journal, &stream, request("p", 12, "x")).unwrap().duplicate);
    assert_eq!(stream.durable_end(), 20);
}

#[test]
fn same_request_twice_at_a_moment_is_appended_once_and_both_get_its_receipt() {
    let disk = FaultyDisk::new(3);
    let (journal, stream) = open(&disk);
    let pending: Vec<_> = ["a", "a", "b", "a"]
        .map(|text| stream.submit(request("p", 1, text)).unwrap())
        .into_iter()
        .chain([stream.submit(request("other", 1, "a")).unwrap()])
        .collect();
    journal.step();
    assert_eq!(journal.stats().largest_group_frames, 5, "one group");
    let mut answers: Vec<_> = pending.into_iter().map(|pending| journal.drive(pending.wait())).collect();
    let other = answers.pop().unwrap().unwrap();
    assert_eq!((other.first_offset, other.duplicate), (2, false));
    assert!(matches!(answers.remove(2), Err(AppendError::Conflict { first_offset: 0, .. })));
    let first = answers.remove(0).unwrap();
    assert!(!first.duplicate);
    for answer in answers {
        assert_eq!(answer.unwrap(), again(first));
    }
    assert_eq!(firsts(&stream), [(0, "a".to_owned()), (2, "a".to_owned())]);
}

#[test]
fn group_that_fails_answers_every_copy_with_the_failure_and_a_later_one_is_appended() {
    for seed in 0..20 {
        for fault in [Fault::Write, Fault::Sync] {
            let disk = FaultyDisk::new(seed);
            let (journal, stream) = open(&disk);
            let pending =
                [(); 3].map(|()| stream.submit(request("p", 1, &"a".repeat(700))).unwrap()).into_iter();
            disk.fail_next(&[fault]);
            journal.step();
            for pending in pending {
                let answer = journal.drive(pending.wait());
                match fault {
                    Fault::Sync => assert!(matches!(answer, Err(AppendError::Unknown)), "{answer:?}"),
                    _ => assert!(matches!(answer, Err(AppendError::Storage { .. })), "{answer:?}"),
                }
            }
            let stored = send(&journal, &stream, request("p", 1, &"a".repeat(700))).unwrap();
            assert!(!stored.duplicate);
            let (journal, stream) = reopen(&disk, journal);
            assert_eq!(send(&journal, &stream, request("p", 1, &"a".repeat(700))).unwrap(), again(stored));
            assert_eq!(firsts(&stream).len(), 1);
        }
    }
}

#[test]
fn stored_request_is_answered_while_the_stream_is_full_and_the_disk_too() {
    let disk = FaultyDisk::new(4);
    let (journal, stream) = open(&disk);
    let first = send(&journal, &stream, request("p", 1, "a")).unwrap();
    disk.set_capacity(disk.used());
    let mut sequence = 2;
    while send(&journal, &stream, request("p", sequence, &"x".repeat(3000))).is_ok() {
        sequence += 1;
    }
    assert_eq!(send(&journal, &stream, request("p", 1, "a")).unwrap(), again(first));
    // What was refused was not stored, and may come again.
    disk.set_capacity(u64::MAX);
    assert!(!send(&journal, &stream, request("p", sequence, &"x".repeat(3000))).unwrap().duplicate);
    let full =
        journal.drive(journal.stream(stream.key(), StreamOptions { max_bytes: 1, retention: None })).unwrap();
    assert!(matches!(
        send(&journal, &full, request("p", sequence + 1, "b")),
        Err(AppendError::StreamFull { .. })
    ));
    assert!(send(&journal, &full, request("p", sequence, &"x".repeat(3000))).unwrap().duplicate);
}

#[test]
fn producer_without_a_name_or_with_a_long_one_is_refused() {
    let disk = FaultyDisk::new(5);
    let (journal, stream) = open(&disk);
    for name in ["", &"n".repeat(129)] {
        let refused = send(&journal, &stream, request(name, 1, "a"));
        assert!(matches!(refused, Err(AppendError::Invalid { .. })), "{refused:?}");
    }
    assert!(send(&journal, &stream, request(&"n".repeat(128), 1, "a")).is_ok());
}

/// A client that sends its requests one by one, each until it has a receipt, whatever happens. Receipts must agree.
struct Client {
    sent: usize,
    texts: Vec<String>,
    receipts: Vec<Receipt>,
}

impl Client {
    fn go_on(&mut self, journal: &Journal, stream: &Stream) {
        while let Some(text) = self.texts.get(self.sent) {
            let Ok(receipt) = send(journal, stream, request("p", self.sent as u64, text)) else { return };
            // Its answer is lost as often as not.
            self.receipts.push(receipt);
            self.sent += 1;
            if self.sent.is_multiple_of(3) {
                let point =
                    stream.checkpoint("", receipt.first_offset, Position(0), self.sent.is_multiple_of(2));
                if journal.drive(point).is_err() {
                    return;
                }
            }
            let twice = send(journal, stream, request("p", self.sent as u64 - 1, text));
            assert!(twice.is_ok_and(|twice| twice == again(receipt)), "a stored request is known at once");
        }
    }
}

#[test]
fn crash_at_every_operation_and_resend_gives_every_request_exactly_once() {
    // Some larger than a journal file: a request is a frame, and that is there or not.
    let texts: Vec<String> =
        (0..14u64).map(|n| format!("{n} {}", "y".repeat(if n % 5 == 4 { 20_000 } else { 1500 }))).collect();
    for power_is_lost in [true, false] {
        let mut duplicates = 0;
        let mut operation = 0;
        loop {
            operation += 1;
            let disk = FaultyDisk::new(operation);
            let mut client = Client { sent: 0, texts: texts.clone(), receipts: Vec::new() };
            disk.crash_at(Some(operation));
            if let Ok((journal, stream)) = try_open(&disk) {
                client.go_on(&journal, &stream);
                if !disk.is_off() {
                    break;
                }
            }
            if power_is_lost {
                disk.reboot()
            } else {
                disk.restart()
            }
            let (journal, stream) = open(&disk);
            let before = client.sent;
            client.go_on(&journal, &stream);
            assert_eq!(client.sent, texts.len());
            duplicates += u64::from(client.receipts.get(before).is_some_and(|receipt| receipt.duplicate));
            // Receipts are of distinct, growing places, and what is still there is what they say.
            let places: Vec<u64> = client.receipts.iter().map(|receipt| receipt.first_offset).collect();
            assert!(places.windows(2).all(|pair| pair[0] + 2 <= pair[1]), "{operation}: {places:?}");
            let there = firsts(&stream);
            let told: Vec<(u64, String)> =
                places.into_iter().zip(texts.clone()).filter(|(at, _)| *at >= there[0].0).collect();
            assert_eq!(there, told, "operation {operation}");
            assert!(there.len() >= 2);
        }
        assert!(operation > 60, "{operation}");
        // Among the crashes are some between the append and its answer.
        assert!(duplicates > 5, "{duplicates}");
    }
}
