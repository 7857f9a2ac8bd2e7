//! Kinesis Data Streams as kinesis-local plays it, which `cargo xtask test` installs, and a proxy in front of it that refuses
//! requests as the service does when it is asked for too much.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client;
use crate::stand_in::{Got, Says, StandIn};
use crate::wait::wait_for;

/// The form of a signature; who plays the service does not look whose it is.
const SIGNED: &str = "authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/kinesis/aws4_request, \
                      SignedHeaders=host;x-amz-date, Signature=0";
const TARGET: &str = "Kinesis_20131202";

/// See the head of this file. Ends when dropped.
pub struct Kinesis {
    child: Child,
    address: SocketAddr,
    _open: ChildStdin,
}

impl Kinesis {
    /// Starts one of its own that is empty. `None`, with the reason said, where it is not installed.
    pub fn start() -> Option<Kinesis> {
        let Some(packages) = std::env::var_os("WASMILL_KINESIS").map(PathBuf::from) else {
            #[expect(clippy::print_stdout, reason = "a test says why it skips")]
            {
                println!(
                    "skipped: WASMILL_KINESIS is not set; `cargo xtask test` sets it where there is Node"
                );
            }
            return None;
        };
        let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/kinesis/server.cjs");
        let mut node = Command::new("node");
        node.arg(server).env("NODE_PATH", packages).env("LOG_LEVEL", "ERROR");
        for change in ["CREATE_STREAM", "DELETE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS"] {
            node.env(format!("{change}_DURATION"), "0ms");
        }
        // On a busy machine it complains of that there.
        node.stderr(Stdio::null());
        let mut child = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node on PATH");
        let open = child.stdin.take().expect("its stdin");
        let mut said = BufReader::new(child.stdout.take().expect("its stdout")).lines();
        let port = said.find_map(|line| line.ok()?.strip_prefix("port ")?.parse().ok());
        let port = port.expect("the port that kinesis-local listens on");
        // Whatever else it says is to find a reader.
        std::thread::spawn(move || said.for_each(drop));
        Some(Kinesis { child, address: SocketAddr::from(([127, 0, 0, 1], port)), _open: open })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Status and body of an answer.
    fn request(&self, operation: &str, body: &[u8]) -> (u16, Value) {
        let target = format!("x-amz-target: {TARGET}.{operation}");
        let headers =
            ["content-type: application/x-amz-json-1.1", "x-amz-date: 20260101T000000Z", SIGNED, &target];
        let answer = client::request(self.address, "POST", "/", &headers, body).expect("an answer");
        (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
    }

    /// What it answers, which must be a success.
    pub fn ask(&self, operation: &str, body: &Value) -> Value {
        let (status, answer) = self.request(operation, body.to_string().as_bytes());
        assert_eq!(status, 200, "{operation} {body}: {answer}");
        answer
    }

    /// Makes a stream, and waits until it takes records.
    pub fn create(&self, stream: &str, shards: u32) {
        self.ask("CreateStream", &json!({ "StreamName": stream, "ShardCount": shards }));
        self.settled(stream);
    }

    /// Waits until nothing of the stream is changing.
    fn settled(&self, stream: &str) {
        wait_for("a stream that is active", || {
            let summary = self.ask("DescribeStreamSummary", &json!({ "StreamName": stream }));
            (summary["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE").then_some(())
        });
    }

    /// Puts records, each under the begin of its text as the key, and gives the shards that took them.
    pub fn put(&self, stream: &str, records: &[String]) -> Vec<String> {
        let mut shards = Vec::new();
        for records in records.chunks(500) {
            // A key has 256 characters at most.
            let key = |text: &String| text.chars().take(6).collect::<String>();
            let entry = |text: &String| json!({ "Data": STANDARD.encode(text), "PartitionKey": key(text) });
            let entries: Vec<Value> = records.iter().map(entry).collect();
            let body = json!({ "StreamName": stream, "Records": entries }).to_string();
            // A shard takes 1 MB in a second.
            let answer = wait_for("a put that is taken", || {
                let (status, answer) = self.request("PutRecords", body.as_bytes());
                assert!(status == 200 || answer["__type"].to_string().contains("Exceeded"), "{answer}");
                (status == 200).then_some(answer)
            });
            assert_eq!(answer["FailedRecordCount"], 0, "{answer}");
            let took = |entry: &Value| entry["ShardId"].as_str().expect("a shard").to_owned();
            shards.extend(answer["Records"].as_array().expect("entries").iter().map(took));
        }
        shards
    }

    /// Puts records as the Kinesis Producer Library does, `size` of them in one of Kinesis; how many of these there are.
    pub fn put_aggregated(&self, stream: &str, records: &[String], size: usize) -> usize {
        let packages = std::env::var_os("WASMILL_KINESIS").expect("what has started it");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/kinesis/aggregate.cjs");
        let mut node = Command::new("node");
        node.arg(script).arg(size.to_string()).env("NODE_PATH", packages);
        let mut child = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node on PATH");
        let mut texts = child.stdin.take().expect("its stdin");
        texts.write_all(records.join("\n").as_bytes()).expect("texts");
        drop(texts);
        let made = child.wait_with_output().expect("aggregates");
        assert!(made.status.success(), "{}", made.status);
        let made = String::from_utf8(made.stdout).expect("base64");
        for aggregate in made.lines() {
            self.ask("PutRecord", &json!({ "StreamName": stream, "Data": aggregate, "PartitionKey": "a" }));
        }
        made.lines().count()
    }

    /// Shards that take records, in order of their hash keys, with the first and the last of these.
    pub fn open_shards(&self, stream: &str) -> Vec<(String, u128, u128)> {
        let listed = self.ask("ListShards", &json!({ "StreamName": stream }));
        let listed = listed["Shards"].as_array().expect("shards").clone();
        let is_open =
            |shard: &&Value| shard["SequenceNumberRange"]["EndingSequenceNumber"].as_str().is_none();
        let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).expect("a hash key");
        let mut open: Vec<_> = listed
            .iter()
            .filter(is_open)
            .map(|shard| {
                let range = &shard["HashKeyRange"];
                let id = shard["ShardId"].as_str().expect("an id").to_owned();
                (id, number(&range["StartingHashKey"]), number(&range["EndingHashKey"]))
            })
            .collect();
        open.sort_by_key(|(_, start, _)| *start);
        open
    }

    /// Splits a shard in halves.
    pub fn split(&self, stream: &str, shard: &str) {
        let open = self.open_shards(stream);
        let (_, start, end) = open.iter().find(|(id, ..)| id == shard).expect("an open shard");
        let middle = (start + (end - start) / 2).to_string();
        self.ask(
            "SplitShard",
            &json!({ "StreamName": stream, "ShardToSplit": shard, "NewStartingHashKey": middle }),
        );
        self.settled(stream);
    }

    /// Merges two shards that are neighbours.
    pub fn merge(&self, stream: &str, shard: &str, other: &str) {
        self.ask(
            "MergeShards",
            &json!({ "StreamName": stream, "ShardToMerge": shard, "AdjacentShardToMerge": other }),
        );
        self.settled(stream);
    }
}

impl Drop for Kinesis {
    fn drop(&mut self) {
        // Of what it had, nothing is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// In place of a code: an answer that says nothing, as a proxy may give that does not know what it is in front of.
pub const NOTHING: &str = "{}";

/// Stands in front of a Kinesis: asks it for what `refuses` lets through, and refuses the rest with the code that it gives.
pub struct FaultProxy {
    server: StandIn,
}

impl FaultProxy {
    /// `refuses` gets the operation and its body, and how many requests there were before.
    pub fn start(
        kinesis: &std::sync::Arc<Kinesis>,
        mut refuses: impl FnMut(&str, &Value, usize) -> Option<&'static str> + Send + 'static,
    ) -> FaultProxy {
        let behind = std::sync::Arc::clone(kinesis);
        let server = StandIn::start(move |got, before| {
            let operation = operation(got);
            let refused = refuses(&operation, &got.json(), before);
            if refused == Some(NOTHING) {
                return Says::Json(200, json!({}));
            }
            if let Some(code) = refused {
                return Says::Json(400, json!({ "__type": code, "message": "as the test wants it" }));
            }
            let (status, answer) = behind.request(&operation, &got.body);
            Says::Json(status, answer)
        });
        FaultProxy { server }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The operations that were asked for, with their bodies.
    pub fn got(&self) -> Vec<(String, Value)> {
        self.server.got().iter().map(|got| (operation(got), got.json())).collect()
    }
}

fn operation(got: &Got) -> String {
    let target = got.header("x-amz-target");
    target.strip_prefix(TARGET).map(|rest| rest.trim_start_matches('.').to_owned()).unwrap_or(target)
}
