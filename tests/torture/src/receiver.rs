//! The HTTP receiver: it keeps one file per idempotency key, as a receiver that cares would, and misbehaves.
//!
//! A key that comes again with another body is what must never happen; it is noted.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use tokio::runtime::Runtime;
use wasmill_tests::events::{Event, Events};
use wasmill_tests::serve::{self, Answer, Broken, Fault, answer};

use crate::weather::Weather;

/// Violations that are kept.
const WRONG_MAX: usize = 20;

struct Shared {
    dir: PathBuf,
    weather: Arc<Weather>,
    events: Arc<Events>,
    repeated: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

/// The running receiver.
pub struct Receiver {
    shared: Arc<Shared>,
    pub address: SocketAddr,
}

impl Shared {
    async fn serve(self: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Broken> {
        let fault = self.weather.draw();
        match fault {
            Fault::Refused(refusal) => return Ok(answer(refusal.status, String::new())),
            Fault::BrokenBefore => return Err(Broken),
            Fault::SlowBody(wait) => tokio::time::sleep(wait).await,
            _ => {}
        }
        let stream = request.uri().path().trim_start_matches('/').replace('/', "-");
        let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok());
        let key = key.unwrap_or_default().to_owned();
        let body = serve::whole(request.into_body()).await?;
        if fault == Fault::BrokenAfterBody {
            return Err(Broken);
        }
        self.take(&stream, &key, &body);
        self.events.happened(Event::RequestTaken);
        match fault {
            Fault::AnswerLost => return Err(Broken),
            Fault::SlowAnswer(wait) => tokio::time::sleep(wait).await,
            _ => {}
        }
        Ok(answer(200, String::new()))
    }

    fn take(&self, stream: &str, key: &str, body: &Bytes) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if key.is_empty() || !key.bytes().all(plain) {
            return self.wrong(format!("a request with the idempotency key {key:?}"));
        }
        let file = self.dir.join(stream).join(format!("{key}.ndjson"));
        let done = match OpenOptions::new().write(true).create_new(true).open(&file) {
            Ok(mut new) => new.write_all(body),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.repeated.fetch_add(1, Ordering::Relaxed);
                fs::read(&file).map(|before| {
                    if before != *body {
                        self.wrong(format!("the idempotency key {key} came with two bodies"));
                    }
                })
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            self.wrong(format!("{}: {error}", file.display()));
        }
    }

    fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.len() < WRONG_MAX {
            wrong.push(what);
        }
    }
}

impl Receiver {
    /// Keeps requests to `/STREAM` in the directory of that name in `dir`, which is there.
    pub fn start(
        runtime: &Runtime,
        dir: PathBuf,
        weather: Arc<Weather>,
        events: Arc<Events>,
    ) -> Result<Receiver> {
        let shared =
            Arc::new(Shared { dir, weather, events, repeated: AtomicU64::new(0), wrong: Mutex::default() });
        let served = Arc::clone(&shared);
        let address = serve::start(runtime, move |request| Arc::clone(&served).serve(request))?;
        Ok(Receiver { shared, address })
    }

    /// Requests whose key had come before.
    pub fn repeated(&self) -> u64 {
        self.shared.repeated.load(Ordering::Relaxed)
    }

    pub fn wrong(&self) -> Vec<String> {
        self.shared.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
