//! A whole host inside the test's process, on a runtime of its own, so that it can end like a crash.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;
use wasmill::pipeline::stats::StreamStats;
use wasmill::pipeline::{DrainError, Host, HostOptions, StartError};
use wasmill_config::Settings;

use crate::client::{self, Answer};

const DRAIN: Duration = Duration::from_secs(20);
const CRASH: Duration = Duration::from_secs(5);

/// See the head of this file. Dropped, it ends like a crash that nobody waits for.
pub struct Running {
    pub host: Host,
    runtime: Option<Runtime>,
}

impl Running {
    /// Starts the configuration; `compiler` is the program with the compile child.
    pub fn try_start(config: &Path, compiler: &str) -> Result<Running, StartError> {
        let settings = Settings::load(config).unwrap_or_else(|error| panic!("{error}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let options = HostOptions { compiler: compiler.into() };
        let host = runtime.block_on(async { tokio::spawn(Host::start(settings, options)).await });
        Ok(Running { host: host.expect("a start that does not panic")?, runtime: Some(runtime) })
    }

    /// The same, where nothing is wrong.
    pub fn start(config: &Path, compiler: &str) -> Running {
        Running::try_start(config, compiler).unwrap_or_else(|error| match error {
            StartError::Invalid(problems) => panic!("{problems:#?}"),
            error => panic!("{error}: {:?}", std::error::Error::source(&error)),
        })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("a host that has not crashed")
    }

    /// On the threads of the host.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }

    pub fn address(&self) -> SocketAddr {
        self.host.http_address().expect("a listener")
    }

    /// Pushes NDJSON; whatever the answer is.
    pub fn try_push(&self, stream: &str, body: &str) -> Answer {
        client::push(self.address(), stream, body).expect("an answer")
    }

    /// Pushes NDJSON, which must be acknowledged; the receipt.
    pub fn push(&self, stream: &str, body: &str) -> Value {
        let answer = self.try_push(stream, body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    pub fn stats(&self, stream: &str) -> Arc<StreamStats> {
        let stats = self.host.stats();
        stats.into_iter().find(|stats| stats.name == stream).expect("a stream of this name")
    }

    /// What `GET /v1/streams` says of a stream.
    pub fn state(&self, stream: &str) -> Value {
        let all = client::get(self.address(), "/v1/streams").expect("an answer").json();
        let found = all.as_array().and_then(|all| all.iter().find(|state| state["name"] == stream));
        found.cloned().expect("a stream of this name")
    }

    /// Waits until sources have ended and everything is delivered.
    pub fn ended(&self) {
        let ended = async { tokio::time::timeout(DRAIN, self.host.ended()).await };
        self.runtime().block_on(ended).expect("the streams to end");
    }

    /// Stops in order; every record that it took has its verdict, and every emitted row its place.
    pub fn drain(self) {
        self.drain_within(DRAIN).expect("an orderly stop");
        for stream in self.host.stats() {
            let verdicts =
                stream.passed.get() + stream.dropped.get() + stream.failed.get() + stream.absorbed.get();
            assert_eq!(stream.processed.get(), verdicts, "{} has records without a verdict", stream.name);
            for output in &stream.outputs {
                assert!(output.balanced(), "{}/{} does not balance", stream.name, output.name);
                assert_eq!(output.pending.get(), 0, "{}/{} has something left", stream.name, output.name);
            }
        }
    }

    pub fn drain_within(&self, deadline: Duration) -> Result<(), DrainError> {
        let host = self.host.clone();
        self.runtime().block_on(async move { host.drain(deadline).await })
    }

    /// Ends every task where it stands; nothing is drained, sealed or closed.
    pub fn crash(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(CRASH);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// 400 records with a number `n` each, from `from` on: more bytes than an outcome carries, so that their object is a
/// file.
pub fn large(from: u64) -> String {
    let filler = "x".repeat(1000);
    let lines: Vec<String> =
        (from..from + 400).map(|n| format!("{{\"n\":{n},\"filler\":\"{filler}\"}}")).collect();
    lines.join("\n")
}

/// `n` records `{"v":"-","n":N}` from `from` on.
pub fn numbered(from: u64, n: u64) -> String {
    let lines: Vec<String> = (from..from + n).map(|n| format!("{{\"v\":\"-\",\"n\":{n}}}")).collect();
    lines.join("\n")
}
