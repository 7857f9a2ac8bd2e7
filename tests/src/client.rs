//! A blocking HTTP/1.1 client, as small as black-box tests need it: one request, one answer, with a deadline; one
//! request a connection, or many one after another.
//!
//! It shows what went over the wire; it refuses to follow, retry or pool anything.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::net::TcpSocket;

const TIMEOUT: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Header lines, as sent.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// Sends one request; `headers` are whole lines without line ends.
pub fn request(to: SocketAddr, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Result<Answer> {
    let socket = TcpStream::connect_timeout(&to, TIMEOUT).context("connect")?;
    over(socket, to, method, path, headers, body)
}

/// The same from an address of its own, for those who are counted by it.
pub fn request_from(
    from: Ipv4Addr,
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let connect = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        tokio::time::timeout(TIMEOUT, socket.connect(to)).await?
    };
    let socket = runtime.block_on(connect).context("connect")?.into_std()?;
    socket.set_nonblocking(false)?;
    over(socket, to, method, path, headers, body)
}

fn over(
    mut socket: TcpStream,
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) -> Result<Answer> {
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n");
    head.push_str(&format!("content-length: {}\r\n", body.len()));
    for line in headers {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    // A server that refuses a body early may close before it has read all of it; its answer counts.
    let sent = socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body));
    let mut answer = Vec::new();
    let read = socket.read_to_end(&mut answer);
    if answer.is_empty() {
        sent.context("send")?;
        read.context("receive")?;
        bail!("the connection was closed without an answer");
    }
    parse(&answer)
}

fn parse(answer: &[u8]) -> Result<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without an end of its head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
    if let Some(length) = answer.header("content-length").and_then(|length| length.parse::<usize>().ok())
        && answer.body.len() < length
    {
        bail!("the answer broke off: {} of {length} bytes", answer.body.len());
    }
    Ok(answer)
}

/// A connection that is kept for one request after another.
pub struct Connection {
    socket: TcpStream,
    to: SocketAddr,
}

impl Connection {
    pub fn open(to: SocketAddr) -> Result<Connection> {
        let socket = TcpStream::connect_timeout(&to, TIMEOUT).context("connect")?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        socket.set_nodelay(true)?;
        Ok(Connection { socket, to })
    }

    /// Pushes an NDJSON body. After an error nobody knows what became of it, and the connection is of no more use.
    pub fn push(&mut self, stream: &str, body: &str) -> Result<Answer> {
        self.push_as(stream, &[], body)
    }

    /// Pushes NDJSON with these header lines more.
    pub fn push_as(&mut self, stream: &str, headers: &[String], body: &str) -> Result<Answer> {
        let mut head = format!(
            "POST /v1/streams/{stream}/records HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n",
            self.to,
            body.len()
        );
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        self.socket.write_all(head.as_bytes()).and_then(|()| self.socket.write_all(body.as_bytes()))?;
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let read = self.socket.read(&mut piece).context("receive")?;
            anyhow::ensure!(read > 0, "the connection was closed without a whole answer");
            answer.extend_from_slice(piece.get(..read).unwrap_or_default());
            let ended = answer.windows(4).any(|four| four == b"\r\n\r\n");
            // It says how long its body is; what is shorter has not come whole yet.
            if ended && let Ok(answer) = parse(&answer) {
                return Ok(answer);
            }
        }
    }
}

pub fn get(to: SocketAddr, path: &str) -> Result<Answer> {
    request(to, "GET", path, &[], b"")
}

/// Pushes an NDJSON body.
pub fn push(to: SocketAddr, stream: &str, body: &str) -> Result<Answer> {
    push_as(to, stream, &["content-type: application/x-ndjson"], body.as_bytes())
}

/// Pushes a body with these header lines.
pub fn push_as(to: SocketAddr, stream: &str, headers: &[&str], body: &[u8]) -> Result<Answer> {
    request(to, "POST", &format!("/v1/streams/{stream}/records"), headers, body)
}
