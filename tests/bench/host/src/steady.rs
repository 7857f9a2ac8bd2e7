//! Requests at a steady rate over many connections, sent and read by one thread that waits for all of them at once: whoever
//! measures a host on the cores that it shares with it must take little of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{Timespec, epoll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::samples::Samples;

/// Longest time in which nothing is answered.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The timer among the events, which have the number of their connection.
const DUE: u64 = u64::MAX;

/// What is asked, and how often.
pub(crate) struct Load<'a> {
    pub(crate) port: u16,
    /// In turn.
    pub(crate) requests: &'a [Vec<u8>],
    /// What every answer begins with.
    pub(crate) expected: &'a [u8],
    /// Requests a second, of all connections together.
    pub(crate) rate: u32,
    pub(crate) connections: usize,
}

struct Connection {
    stream: TcpStream,
    /// Number of its next request among all.
    next: usize,
    /// When the request was due that is not answered yet.
    waits: Option<Duration>,
    read: Vec<u8>,
}

impl Load<'_> {
    fn due(&self, number: usize) -> Result<Duration> {
        Ok(Duration::from_secs(1) / self.rate * u32::try_from(number)?)
    }

    /// Seconds from when each request was due until its answer was there. A connection has one request at a time: those that
    /// come late to their turn were due all the same.
    pub(crate) fn run(&self, span: Duration) -> Result<Samples> {
        let all = usize::try_from(span.as_millis())? * self.rate as usize / 1000;
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(self.connections);
        for number in 0..self.connections {
            let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port)))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&poll, &stream, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
            connections.push(Connection { stream, next: number, waits: None, read: Vec::new() });
        }
        let started = Instant::now();
        let (mut samples, mut answered) = (Samples::default(), started);
        // A wait for events is rounded up to a millisecond: what is due would come late, and five at a time.
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        let due = epoll::EventData::new_u64(DUE);
        epoll::add(&poll, &timer, due, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        let mut events = Vec::with_capacity(self.connections + 1);
        while samples.0.len() < all {
            let mut next: Option<Duration> = None;
            for connection in &mut connections {
                if connection.waits.is_some() || connection.next >= all {
                    continue;
                }
                let due = self.due(connection.next)?;
                if due > started.elapsed() {
                    next = Some(next.map_or(due, |next| next.min(due)));
                    continue;
                }
                // It fits into the empty buffer of a socket.
                connection.stream.write_all(&self.requests[connection.next % self.requests.len()])?;
                connection.waits = Some(due);
                connection.next += self.connections;
            }
            ensure!(answered.elapsed() < ANSWER_MAX, "no answer within {ANSWER_MAX:?}");
            if let Some(next) = next {
                // Zero would stop the timer.
                let wait = next.saturating_sub(started.elapsed()).max(Duration::from_nanos(1));
                let once = Itimerspec { it_interval: Timespec::default(), it_value: wait.try_into()? };
                timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
            }
            events.clear();
            let longest = Timespec::try_from(ANSWER_MAX)?;
            epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&longest))?;
            for event in events.iter().filter(|event| event.data.u64() != DUE) {
                let number = usize::try_from(event.data.u64())?;
                let connection = connections.get_mut(number).context("an event of no connection")?;
                if let Some(due) = connection.answer(self.expected)? {
                    answered = Instant::now();
                    samples.push(answered.duration_since(started).saturating_sub(due).as_secs_f64());
                }
            }
        }
        Ok(samples)
    }
}

impl Connection {
    /// Reads what there is; when the request was due, once its answer is whole.
    fn answer(&mut self, expected: &[u8]) -> Result<Option<Duration>> {
        let mut part = [0; 4096];
        match self.stream.read(&mut part) {
            Ok(0) => bail!("the connection ended"),
            Ok(read) => self.read.extend_from_slice(&part[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let Some(head) = self.read.windows(4).position(|end| end == b"\r\n\r\n").map(|end| end + 4) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&self.read[..head])?.to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("no Content-Length")?.trim().parse()?;
        let Some(body) = self.read.get(head..head + length) else { return Ok(None) };
        if !text.starts_with("http/1.1 200") || !body.starts_with(expected) {
            bail!("{}{}", text.trim_end(), String::from_utf8_lossy(body));
        }
        self.read.clear();
        Ok(self.waits.take())
    }
}
