//! As much of an HTTP client as a load generator needs: one keep-alive connection, little CPU.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// One connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// A push request, ready to be sent again and again.
pub(crate) fn push_request(stream: &str, body: &[u8]) -> Vec<u8> {
    push_with("", stream, body)
}

/// The same that waits for what becomes of the records.
pub(crate) fn decide_request(stream: &str, body: &[u8]) -> Vec<u8> {
    post("", stream, "decide", body)
}

/// The same with the key of a tenant.
pub(crate) fn push_as(key: &str, stream: &str, body: &[u8]) -> Vec<u8> {
    push_with(&format!("Authorization: Bearer {key}\r\n"), stream, body)
}

fn push_with(headers: &str, stream: &str, body: &[u8]) -> Vec<u8> {
    post(headers, stream, "records", body)
}

fn post(headers: &str, stream: &str, what: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "POST /v1/streams/{stream}/{what} HTTP/1.1\r\nHost: bench\r\n{headers}\
         Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

impl Client {
    pub(crate) fn connect(port: u16) -> Result<Client> {
        let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> Result<()> {
        Ok(self.stream.get_mut().write_all(request)?)
    }

    pub(crate) fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("no HTTP answer: {line:?}"))?;
        let mut length = 0;
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                bail!("the answer ends in its headers");
            }
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().context("bad Content-Length")?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, body })
    }

    /// Sends a request and takes its answer, which must be a success.
    pub(crate) fn call(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        self.send(request)?;
        let answer = self.answer()?;
        if answer.status != 200 {
            bail!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(answer.body)
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.call(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes())
    }
}
