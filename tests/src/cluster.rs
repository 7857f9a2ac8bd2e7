//! A real node of OpenSearch, as `cargo xtask test` installs it.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::client::{self, Answer};

/// See the head of this file. Killed when dropped.
pub struct Cluster {
    child: Child,
    address: SocketAddr,
    _home: tempfile::TempDir,
}

impl Cluster {
    /// Starts one of its own that is empty, and waits until it answers. `None`, with the reason said, where it is not installed.
    pub fn start() -> Option<Cluster> {
        let Some(dir) = std::env::var_os("WASMILL_OPENSEARCH").map(PathBuf::from) else {
            #[expect(clippy::print_stdout, reason = "a test says why it skips")]
            {
                println!(
                    "skipped: WASMILL_OPENSEARCH is not set; `cargo xtask test` sets it where there is Java"
                );
            }
            return None;
        };
        let home = tempfile::tempdir().expect("a temporary directory");
        let log = home.path().join("stderr");
        let mut java = Command::new("java");
        // It lives for one test: what starts it soon is worth more than what makes it fast.
        java.args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp"]);
        java.arg(format!("{}:{}", dir.join("classes").display(), dir.join("lib/*").display()));
        java.arg("Cluster").arg(home.path().join("node"));
        java.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log).expect("a log"));
        let mut child = java.spawn().expect("java on PATH");
        let mut port = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("its stdout"));
        said.read_line(&mut port).expect("a line");
        let port = port.trim().parse().unwrap_or_else(|_none| {
            panic!("OpenSearch has not started: {}", std::fs::read_to_string(&log).unwrap_or_default())
        });
        Some(Cluster { child, address: SocketAddr::from(([127, 0, 0, 1], port)), _home: home })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        let json = ["content-type: application/json"];
        client::request(self.address, method, path, &json, body.as_bytes()).expect("an answer")
    }

    /// What it answers, which must be a success.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.request(method, path, body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.body);
        answer.json()
    }

    /// All documents of these indices, with their indices; none while one of them is only being made.
    pub fn documents(&self, indices: &str) -> Vec<(String, Value)> {
        let refreshed = self.request("POST", &format!("/{indices}/_refresh"), "");
        let found = self.request("GET", &format!("/{indices}/_search?size=10000"), "");
        if [404, 503].contains(&refreshed.status) || [404, 503].contains(&found.status) {
            return Vec::new();
        }
        assert_eq!((refreshed.status, found.status), (200, 200), "{}", found.body);
        let found = found.json();
        let hits = found["hits"]["hits"].as_array().cloned().unwrap_or_default();
        let text = |hit: &Value| hit["_index"].as_str().unwrap_or_default().to_owned();
        hits.iter().map(|hit| (text(hit), hit["_source"].clone())).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Of what it had, nothing is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
