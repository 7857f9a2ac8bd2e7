//! The clients: pushes over kept connections, lines over TCP, a file that is appended to and rotated.
//!
//! They never wait for the host to be there: what they send while it is down or dying fails as it would for anybody,
//! and they note what they were answered. They keep to a pace, so that a run fits on a disk.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use wasmill_tests::client::Connection;

use crate::account::{Account, Known};
use crate::record::{Id, Record};

const TCP_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes after which a file is rotated, at least and at most.
const FILE_BYTES: std::ops::Range<u64> = 100_000..1_500_000;

/// How much clients may still send.
#[derive(Debug, Default)]
pub struct Pace {
    bytes: AtomicI64,
    over: AtomicBool,
}

impl Pace {
    pub fn allow(&self, bytes: i64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Allows nothing more than `most` at a time.
    pub fn cap(&self, most: i64) {
        self.bytes.fetch_min(most, Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    fn ended(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Takes what is about to be sent; waits while there is nothing to take. `false`: it is over.
    fn take(&self, bytes: usize) -> bool {
        while self.bytes.load(Ordering::Relaxed) <= 0 {
            if self.ended() {
                return false;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        self.bytes.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
        !self.ended()
    }
}

/// Records that are pushed together.
struct Request {
    first: u32,
    records: u32,
    headers: Vec<String>,
    body: String,
}

/// What a client knows after an attempt.
enum Sent {
    Stored,
    Refused,
    Unknown,
}

/// What a client has.
pub struct Client<'a> {
    pub seed: u64,
    pub account: &'a Account,
    pub pace: &'a Pace,
}

impl Client<'_> {
    fn rng(&self) -> SmallRng {
        SmallRng::seed_from_u64(self.seed ^ (u64::from(self.account.client) << 32))
    }

    /// Appends records, a line each.
    fn write(&self, first: u32, records: u32, into: &mut String) {
        for number in first..first + records {
            Record::new(self.seed, Id { client: self.account.client, number }).write(into);
            into.push('\n');
        }
    }

    /// Pushes until it is over. A client that `numbers` its requests sends each until it is acknowledged, and some once
    /// more; the others send again what was refused, and leave open what got no answer.
    pub fn push(&self, to: SocketAddr, numbers: bool) -> Result<()> {
        let mut rng = self.rng();
        let mut connection = None;
        let (mut first, mut sequence) = (0, 0_u64);
        loop {
            let records = rng.random_range(1..120);
            let mut request = Request { first, records, headers: Vec::new(), body: String::new() };
            self.write(first, records, &mut request.body);
            if !self.pace.take(request.body.len()) {
                return Ok(());
            }
            if numbers {
                sequence += rng.random_range(1..3);
                request.headers.push(format!("wasmill-producer: client-{}", self.account.client));
                request.headers.push(format!("wasmill-sequence: {sequence}"));
            }
            // As if the answer had been lost, now and then.
            let mut answers = if numbers && rng.random_ratio(1, 10) { 2 } else { 1 };
            while answers > 0 {
                match self.send(to, &mut connection, &request, &mut rng)? {
                    Sent::Stored => answers -= 1,
                    Sent::Unknown if !numbers => break,
                    Sent::Unknown | Sent::Refused => {
                        std::thread::park_timeout(Duration::from_millis(rng.random_range(2..50)));
                        if self.pace.ended() && !numbers {
                            return Ok(());
                        }
                    }
                }
            }
            first += records;
        }
    }

    /// Sends a request once and notes what it was answered.
    fn send(
        &self,
        to: SocketAddr,
        connection: &mut Option<Connection>,
        request: &Request,
        rng: &mut SmallRng,
    ) -> Result<Sent> {
        let Request { first, records, headers, body } = request;
        // Now and then another connection, although this one works.
        let kept = connection.take().filter(|_| rng.random_ratio(19, 20));
        let Some(mut open) = kept.or_else(|| Connection::open(to).ok()) else { return Ok(Sent::Refused) };
        let before = self.account.note(*first, *records, Known::Unknown);
        let Ok(answer) = open.push_as(self.account.stream, headers, body) else { return Ok(Sent::Unknown) };
        *connection = Some(open);
        let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
        match (answer.status, code.as_str()) {
            (200, _) => {
                let receipt = answer.json();
                let (count, offset) = (&receipt["records"], receipt["first_offset"].as_u64());
                ensure!(*count == *records, "{records} records, and the receipt is {receipt}");
                let offset = offset.with_context(|| format!("no offset in {receipt}"))?;
                if let Some(earlier) = self.account.offset(*first) {
                    ensure!(
                        offset == earlier,
                        "first acknowledged at {earlier}, the second receipt is {receipt}"
                    );
                }
                let duplicate = receipt["duplicate"] == true;
                self.account.receipt(*first, *records, offset, duplicate);
                Ok(Sent::Stored)
            }
            // Nothing of this request is stored: all is as it was before it.
            (429, "buffer_full") | (503, "unavailable" | "closed") => {
                self.account.note(*first, *records, before);
                Ok(Sent::Refused)
            }
            (503, "unknown") => Ok(Sent::Unknown),
            _ => bail!("unexpected answer to a push: {} {}", answer.status, answer.body),
        }
    }

    /// Sends lines over one connection after another until it is over; what is sent is never acknowledged, save in the
    /// end: lines of a connection that the host, which nobody kills any more, has read to its end.
    pub fn lines(&self, to: SocketAddr) -> Result<()> {
        let mut rng = self.rng();
        let mut first = 0;
        let mut body = String::new();
        while !self.pace.ended() {
            let Ok(mut socket) = TcpStream::connect(to) else {
                std::thread::park_timeout(Duration::from_millis(3));
                continue;
            };
            socket.set_write_timeout(Some(TCP_TIMEOUT))?;
            for _ in 0..rng.random_range(1..40) {
                let records = rng.random_range(1..60);
                body.clear();
                self.write(first, records, &mut body);
                if !self.pace.take(body.len()) {
                    break;
                }
                self.account.note(first, records, Known::Unknown);
                first += records;
                // Cut anywhere: a line is whole with its line feed only.
                let cut = rng.random_range(0..=body.len());
                let (one, other) = body.as_bytes().split_at(cut);
                if socket.write_all(one).and_then(|()| socket.write_all(other)).is_err() {
                    break;
                }
            }
        }
        let mut socket = TcpStream::connect(to).context("connect for the last lines")?;
        socket.set_read_timeout(Some(TCP_TIMEOUT))?;
        body.clear();
        self.write(first, 100, &mut body);
        self.account.note(first, 100, Known::Unknown);
        socket.write_all(body.as_bytes())?;
        socket.shutdown(Shutdown::Write)?;
        socket.read_to_end(&mut Vec::new()).context("wait until the last lines are read")?;
        self.account.note(first, 100, Known::Acknowledged);
        Ok(())
    }

    /// Appends to `dir/app.log` until it is over, and renames it now and then. What is in a file must come in.
    pub fn files(&self, dir: &Path) -> Result<()> {
        let mut rng = self.rng();
        let (mut first, mut rotations) = (0, 0);
        let mut body = String::new();
        let path = dir.join("app.log");
        let mut file = append_to(&path)?;
        let (mut bytes, mut bytes_max) = (0, rng.random_range(FILE_BYTES));
        loop {
            let records = rng.random_range(1..80);
            body.clear();
            self.write(first, records, &mut body);
            if !self.pace.take(body.len()) {
                return Ok(());
            }
            // Sometimes a line comes in two pieces.
            let cut = if rng.random_ratio(1, 5) { rng.random_range(0..=body.len()) } else { 0 };
            let (one, other) = body.as_bytes().split_at(cut);
            file.write_all(one)?;
            if cut > 0 {
                std::thread::park_timeout(Duration::from_millis(rng.random_range(0..5)));
            }
            file.write_all(other)?;
            self.account.note(first, records, Known::Acknowledged);
            first += records;
            bytes += body.len() as u64;
            if bytes > bytes_max {
                fs::rename(&path, rotated(dir, rotations))?;
                rotations += 1;
                // For a moment there may be no file of that name.
                if rng.random_ratio(1, 3) {
                    std::thread::park_timeout(Duration::from_millis(rng.random_range(0..30)));
                }
                file = append_to(&path)?;
                (bytes, bytes_max) = (0, rng.random_range(FILE_BYTES));
            }
            std::thread::park_timeout(Duration::from_millis(rng.random_range(0..8)));
        }
    }
}

fn rotated(dir: &Path, rotation: u32) -> PathBuf {
    dir.join(format!("app-{rotation:05}.log"))
}

fn append_to(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("open {}", path.display()))
}
