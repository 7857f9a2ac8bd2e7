//! Destinations that take records one by one, played by servers in this process: endpoints in the protocol of Firehose, a
//! collector of Splunk's, a cluster of OpenSearch's. No Splunk and no OpenSearch is asked; each answers as its documentation
//! says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wasmill_tests::client;
use wasmill_tests::objects;
use wasmill_tests::program::{Program, binary};
use wasmill_tests::running::{Running, large, numbered};
use wasmill_tests::scratch::Scratch;
use wasmill_tests::stand_in::{Got, Says, StandIn};
use wasmill_tests::wait::wait_until;

use crate::COMPILER;

const REQUEST_ID: &str = "x-amz-firehose-request-id";

fn taken(got: &Got) -> Says {
    Says::Json(200, json!({ "requestId": got.header(REQUEST_ID), "timestamp": 1_578_090_903_599_u64 }))
}

/// Records of a request in the protocol of Firehose.
fn records(got: &Got) -> Vec<String> {
    let body = got.json();
    let decoded = |record: &Value| STANDARD.decode(record["data"].as_str().unwrap()).unwrap();
    let records = body["records"].as_array().unwrap().iter();
    records.map(|record| String::from_utf8(decoded(record)).unwrap()).collect()
}

fn push(program: &Program, body: &str) {
    let answer = client::push(program.address(), "events", body).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// Numbers `n` of the texts, in order.
fn numbers<'t>(texts: impl IntoIterator<Item = &'t String>) -> Vec<u64> {
    let mut found: Vec<u64> = texts.into_iter().map(|text| objects::number(text, "n")).collect();
    found.sort_unstable();
    found
}

fn stream(output: &str) -> Scratch {
    Scratch::new(&format!(
        "[streams.events]\nsource = {{ type = \"http\" }}\n[[streams.events.outputs]]\n{output}\n\
         [streams.events.dead_letters.output]\ntype = \"directory\"\npath = \"failed\"\ninterval = \"0s\"\n\
         firehose = {{ prefix = \"!{{firehose:error-output-type}}/\" }}\ncompression = \"none\"\n"
    ))
}

/// Lines of the error output, by the type of error that stands in the names of their objects.
fn failed(scratch: &Scratch) -> BTreeMap<String, Vec<Value>> {
    let root = scratch.path("failed");
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for file in objects::files(&root) {
        let name = file.strip_prefix(&root).unwrap().components().next().unwrap();
        let lines = std::fs::read_to_string(&file).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap());
        found.entry(name.as_os_str().to_string_lossy().into_owned()).or_default().extend(lines);
    }
    found.retain(|kind, _| !kind.starts_with('.'));
    found
}

fn raw(line: &Value) -> String {
    String::from_utf8(STANDARD.decode(line["rawData"].as_str().unwrap()).unwrap()).unwrap()
}

#[test]
fn endpoint_gets_each_record_once_although_the_host_is_killed_between_request_and_answer() {
    let Some(binary) = binary() else { return };
    let server = StandIn::start(|got, before| if before < 2 { Says::Nothing } else { taken(got) });
    let scratch = stream(&format!(
        "type = \"http\"\nprotocol = \"firehose\"\nurl = \"{}/in\"\ninterval = \"0s\"\naccess_key = \"k3y\"\n\
         common_attributes = {{ deployment = \"pre\" }}\ncompression = \"gzip\"\nformat = \"verbatim\"",
        server.url()
    ));
    let mut program = Program::start(&binary, &scratch.config());
    push(&program, &numbered(0, 3));
    // Twice: the second life ends like the first.
    for requests in 1..3 {
        wait_until("the request has arrived", || server.got().len() == requests);
        drop(program.kill());
        program = Program::start(&binary, &scratch.config());
    }
    // A batch that is a file, and not a part of an outcome.
    push(&program, &large(100));
    wait_until("all of it is delivered", || {
        let got = server.got();
        let mut seen = BTreeSet::new();
        let all: usize =
            got.iter().filter(|got| seen.insert(got.header(REQUEST_ID))).map(|got| unpacked(got).len()).sum();
        got.len() > 2 && all == 403
    });
    program.stop();
    let got = server.got();
    let ids: Vec<String> = got.iter().take(3).map(|got| got.header(REQUEST_ID)).collect();
    assert!(ids.iter().all(|id| *id == ids[0] && id.len() == 36), "{ids:?}");
    assert!(got.iter().take(3).all(|got| numbers(&unpacked(got)) == [0, 1, 2]));
    let by_id: BTreeMap<String, Vec<String>> =
        got.iter().map(|got| (got.header(REQUEST_ID), unpacked(got))).collect();
    let expected: Vec<u64> = (0..3).chain(100..500).collect();
    assert_eq!(
        numbers(by_id.values().flatten()),
        expected,
        "whoever drops ids that he has seen has each once"
    );
    for got in &got {
        assert_eq!(got.header("x-amz-firehose-protocol-version"), "1.0");
        assert_eq!(got.header("x-amz-firehose-access-key"), "k3y");
        assert_eq!(
            got.header("x-amz-firehose-common-attributes"),
            r#"{"commonAttributes":{"deployment":"pre"}}"#
        );
        let arn = "arn:aws:firehose:us-east-1:000000000000:deliverystream/events";
        assert_eq!(got.header("x-amz-firehose-source-arn"), arn);
        assert_eq!(got.header("content-encoding"), "gzip");
    }
    assert!(scratch.letters("events").is_empty());
}

fn unpacked(got: &Got) -> Vec<String> {
    use std::io::Read as _;
    let mut body = Vec::new();
    flate2::read::GzDecoder::new(&got.body[..]).read_to_end(&mut body).unwrap();
    records(&Got { body: body.into(), ..got.clone() })
}

#[test]
fn records_that_an_endpoint_does_not_take_are_error_records_of_firehose_and_can_be_sent_again() {
    let down = Arc::new(AtomicBool::new(true));
    let own = Arc::clone(&down);
    let server = StandIn::start(move |got, _| match own.load(Ordering::Relaxed) {
        true => Says::Json(500, json!({ "requestId": "?", "timestamp": 1, "errorMessage": "out of order" })),
        false => taken(got),
    });
    let scratch = stream(&format!(
        "type = \"http\"\nprotocol = \"firehose\"\nurl = \"{}\"\ninterval = \"0s\"\nretry = {{ initial = \"1ms\", for = \"5ms\" }}",
        server.url()
    ));
    let host = Running::start(&scratch.config(), COMPILER);
    let before = wall_clock_ms();
    host.push("events", &numbered(7, 2));
    wait_until("both are error records", || failed(&scratch).values().flatten().count() == 2);
    let found = failed(&scratch);
    let lines = &found["http-endpoint-failed"];
    assert_eq!(numbers(&lines.iter().map(raw).collect::<Vec<_>>()), [7, 8]);
    for (row, line) in lines.iter().enumerate() {
        assert_eq!(line["errorCode"], "HttpEndpoint.DestinationException", "{line}");
        assert_eq!(line["errorMessage"], "the endpoint answered 500: out of order");
        assert_eq!(line["subsequenceNumber"], row);
        assert!(line["attemptsMade"].as_u64().unwrap() >= 2 && line["dataId"].is_string());
        let times = [
            before,
            line["arrivalTimestamp"].as_u64().unwrap(),
            line["attemptEndingTimestamp"].as_u64().unwrap(),
        ];
        assert!(times.is_sorted(), "{times:?}");
    }
    let stats = host.stats("events");
    assert_eq!((stats.outputs[0].delivered.get(), stats.outputs[0].delivery_failed.get()), (0, 2));
    let first = server.got()[0].header(REQUEST_ID);
    down.store(false, Ordering::Relaxed);
    let replayed =
        client::request(host.address(), "POST", "/v1/streams/events/dead-letters/replay", &[], b"").unwrap();
    assert_eq!(replayed.status, 200, "{}", replayed.body);
    let last = server.got().pop().unwrap();
    assert_eq!((numbers(&records(&last)), last.header(REQUEST_ID)), (vec![7, 8], first));
    assert!(scratch.letters("events").is_empty());
    let metrics = client::request(host.address(), "GET", "/metrics", &[], b"").unwrap().body;
    let value = |name: &str| -> f64 {
        let name = format!("firehose_delivery_to_http_endpoint_{name}{{stream=\"events\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {name}in {metrics}")).parse().unwrap()
    };
    assert_eq!((value("records_total"), value("bytes_total")), (2.0, 32.0));
    assert_eq!(value("processed_records_total"), 2.0 * server.got().len() as f64);
    assert_eq!(value("success"), 1.0 / server.got().len() as f64);
    host.drain();
}

fn wall_clock_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

#[test]
fn one_host_delivers_to_another_as_to_any_endpoint_and_what_is_sent_twice_is_there_once() {
    let there = Scratch::new(
        "[streams.landing]\nsource = { type = \"http\" }\n[[streams.landing.outputs]]\ntype = \"directory\"\npath = \"out\"\ninterval = \"0s\"\n",
    );
    let receiver = Running::start(&there.config(), COMPILER);
    let here = stream(&format!(
        "type = \"http\"\nprotocol = \"firehose\"\nurl = \"http://{}/v1/streams/landing/firehose\"\ninterval = \"0s\"\ncompression = \"gzip\"",
        receiver.address()
    ));
    let sender = Running::start(&here.config(), COMPILER);
    sender.push("events", &numbered(0, 50));
    sender.push("events", &large(100));
    sender.drain();
    // As Firehose tries again when an answer is lost: the same id and records, another time.
    let body = |timestamp: u64, n: u64| {
        let data = STANDARD.encode(format!("{{\"n\":{n}}}"));
        json!({ "requestId": "ed4acda5-034f-9f42-bba1-f29aea6d7d8f", "timestamp": timestamp, "records": [{ "data": data }] })
    };
    let deliver = |host: &Running, body: &Value| {
        let path = "/v1/streams/landing/firehose";
        client::request(
            host.address(),
            "POST",
            path,
            &["content-type: application/json"],
            body.to_string().as_bytes(),
        )
        .unwrap()
    };
    let taken = deliver(&receiver, &body(1, 9000));
    assert_eq!(taken.status, 200, "{}", taken.body);
    assert_eq!(taken.json()["requestId"], body(1, 9000)["requestId"]);
    assert_eq!(deliver(&receiver, &body(2, 9000)).status, 200);
    // Other records under an id that was used are refused.
    assert_eq!(deliver(&receiver, &body(3, 9001)).status, 409);
    receiver.crash();
    let receiver = Running::start(&there.config(), COMPILER);
    assert_eq!(deliver(&receiver, &body(4, 9000)).status, 200);
    receiver.drain();
    let expected: Vec<u64> = (0..50).chain(100..500).chain([9000]).collect();
    assert_eq!(objects::numbers(&there.out(), "n"), expected);
}

/// A certificate of `127.0.0.1` that is its own authority: its PEM and that of its key.
fn certified() -> (String, String) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

#[test]
fn endpoint_is_known_by_the_authority_of_its_output_and_by_no_other() {
    let (own, other) = (certified(), certified());
    let there = Scratch::new(
        "#whole\n[http]\nlisten = \"127.0.0.1:0\"\n[http.tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"\n\
         [streams.landing]\nsource = { type = \"http\" }\n[[streams.landing.outputs]]\ntype = \"directory\"\npath = \"out\"\ninterval = \"0s\"\n",
    );
    std::fs::write(there.path("server.crt"), &own.0).unwrap();
    std::fs::write(there.path("server.key"), &own.1).unwrap();
    let receiver = Running::start(&there.config(), COMPILER);
    let url = format!("https://{}/v1/streams/landing/firehose", receiver.address());
    for (ca, n) in [(&own.0, 3), (&other.0, 4)] {
        let here = stream(&format!(
            "type = \"http\"\nprotocol = \"firehose\"\nurl = \"{url}\"\ninterval = \"0s\"\nca = {{ file = \"ca.crt\" }}\n\
             retry = {{ initial = \"1ms\", for = \"0s\" }}",
        ));
        std::fs::write(here.path("ca.crt"), ca).unwrap();
        let sender = Running::start(&here.config(), COMPILER);
        sender.push("events", &numbered(n, 1));
        if n == 4 {
            wait_until("it is an error record", || failed(&here).values().flatten().count() == 1);
            let line = &failed(&here)["http-endpoint-failed"][0];
            assert_eq!(line["errorCode"], "HttpEndpoint.ConnectionFailed", "{line}");
        }
        sender.drain();
        assert_eq!(failed(&here).values().flatten().count(), usize::from(n == 4));
    }
    receiver.drain();
    assert_eq!(objects::numbers(&there.out(), "n"), [3]);
}

/// What a cluster knows: documents by their ids, and how often each was written.
type Documents = Arc<Mutex<BTreeMap<String, (Value, usize)>>>;

/// Answers `_bulk`; documents for which `refuses` has something get that.
fn bulk(documents: &Documents, got: &Got, refuses: &dyn Fn(&Value) -> Option<(u16, &'static str)>) -> Says {
    let text = String::from_utf8(got.body.to_vec()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut all = documents.lock().unwrap();
    let items: Vec<Value> = lines
        .chunks(2)
        .map(|pair| {
            let id = pair[0]["index"]["_id"].as_str().unwrap().to_owned();
            if let Some((status, kind)) = refuses(&pair[1]) {
                return json!({ "index": { "status": status, "error": { "type": kind, "reason": "as the test wants it" } } });
            }
            let known = all.entry(id).or_insert((pair[1].clone(), 0));
            known.1 += 1;
            assert_eq!(known.0, pair[1], "another document under an id that is used");
            json!({ "index": { "status": if known.1 == 1 { 201 } else { 200 } } })
        })
        .collect();
    Says::Json(200, json!({ "errors": true, "items": items }))
}

fn cluster(server: &StandIn) -> Scratch {
    stream(&format!(
        "type = \"opensearch\"\nurl = \"{}\"\nindex = \"logs\"\nrotation = \"day\"\ninterval = \"0s\"\nretry = {{ initial = \"1ms\", max = \"5ms\" }}",
        server.url()
    ))
}

#[test]
fn documents_are_in_the_cluster_once_and_those_that_do_not_fit_are_error_records_one_by_one() {
    let documents = Documents::default();
    let mends = Arc::new(AtomicBool::new(false));
    let (own, mended) = (Arc::clone(&documents), Arc::clone(&mends));
    let server = StandIn::start(move |got, before| {
        let refuses = |document: &Value| match document["n"].as_u64().unwrap() {
            // No room, twice.
            n if n % 3 == 1 && before < 2 => Some((429, "es_rejected_execution_exception")),
            n if n % 3 == 2 && !mended.load(Ordering::Relaxed) => Some((400, "mapper_parsing_exception")),
            _ => None,
        };
        bulk(&own, got, &refuses)
    });
    let scratch = cluster(&server);
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &numbered(0, 9));
    let stats = host.stats("events");
    wait_until("the batch has ended", || {
        stats.outputs[0].pending.get() == 0 && stats.outputs[0].emitted.get() == 9
    });
    assert_eq!((stats.outputs[0].delivered.get(), stats.outputs[0].delivery_failed.get()), (6, 3));
    let there = |documents: &Documents| {
        let documents = documents.lock().unwrap();
        assert!(documents.values().all(|(_, times)| *times == 1), "{documents:?}");
        let mut found: Vec<u64> =
            documents.values().map(|(document, _)| document["n"].as_u64().unwrap()).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(there(&documents), [0, 1, 3, 4, 6, 7]);
    wait_until("they are error records", || failed(&scratch).values().flatten().count() == 3);
    let found = failed(&scratch);
    let lines = &found["AmazonOpenSearchService-failed"];
    assert_eq!(numbers(&lines.iter().map(raw).collect::<Vec<_>>()), [2, 5, 8]);
    for line in lines {
        assert_eq!(
            (line["errorCode"].as_str(), line["esTypeName"].as_str()),
            (Some("400"), Some("")),
            "{line}"
        );
        assert!(line["errorMessage"].as_str().unwrap().starts_with("mapper_parsing_exception: "));
        assert!(line["esIndexName"].as_str().unwrap().starts_with("logs-20"));
        let row = objects::number(&raw(line), "n");
        assert!(line["esDocumentId"].as_str().unwrap().ends_with(&format!("-{row}")), "{line}");
    }
    // A letter is a record, with the id that it had.
    let letters = scratch.letters("events");
    assert_eq!(letters.len(), 3);
    assert_eq!(
        (letters[0]["stage"].as_str(), letters[0]["row"]["row"].as_u64()),
        (Some("delivery"), Some(2))
    );
    mends.store(true, Ordering::Relaxed);
    let replayed =
        client::request(host.address(), "POST", "/v1/streams/events/dead-letters/replay", &[], b"").unwrap();
    assert_eq!((replayed.status, replayed.json()["passed"].as_u64()), (200, Some(3)), "{}", replayed.body);
    assert_eq!(there(&documents), (0..9).collect::<Vec<_>>());
    assert!(scratch.letters("events").is_empty());
    host.drain();
}

#[test]
fn documents_are_doubled_by_no_kill_between_request_and_answer_and_neither_are_their_letters() {
    let Some(binary) = binary() else { return };
    let documents = Documents::default();
    let own = Arc::clone(&documents);
    let server = StandIn::start(move |got, before| {
        let refuses = |document: &Value| (document["n"] == 4).then_some((400, "mapper_parsing_exception"));
        // What it does is done, whether anybody hears of it or not.
        let says = bulk(&own, got, &refuses);
        if before == 0 { Says::Nothing } else { says }
    });
    let scratch = cluster(&server);
    let program = Program::start(&binary, &scratch.config());
    push(&program, &numbered(0, 6));
    wait_until("the request has arrived", || server.got().len() == 1);
    drop(program.kill());
    let program = Program::start(&binary, &scratch.config());
    wait_until("the letter is kept", || !scratch.letters("events").is_empty());
    drop(program.kill());
    let program = Program::start(&binary, &scratch.config());
    wait_until("the refused document is an error record", || failed(&scratch).values().flatten().count() > 0);
    program.stop();
    let documents = documents.lock().unwrap();
    let mut found: Vec<u64> =
        documents.values().map(|(document, _)| document["n"].as_u64().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2, 3, 5]);
    assert_eq!(scratch.letters("events").len(), 1, "{:#?}", scratch.letters("events"));
    assert_eq!(failed(&scratch).values().flatten().count(), 1);
}

#[test]
fn splunk_is_asked_for_its_acknowledgement_and_what_it_refuses_is_an_error_record() {
    let server = StandIn::start(|got, before| match got.path.as_str() {
        "/services/collector/ack" => Says::Json(200, json!({ "acks": { "3": before > 3 } })),
        _ if got.body.starts_with(b"{\"v\":\"-\",\"n\":100}") => {
            Says::Json(400, json!({ "text": "Invalid data format", "code": 6, "invalid-event-number": 0 }))
        }
        _ => Says::Json(200, json!({ "text": "Success", "code": 0, "ackId": 3 })),
    });
    let scratch = stream(&format!(
        "type = \"splunk\"\nurl = \"{}\"\ntoken = \"t0ken\"\ninterval = \"0s\"\nacknowledged_within = \"20s\"",
        server.url()
    ));
    let host = Running::start(&scratch.config(), COMPILER);
    host.push("events", &numbered(0, 3));
    let stats = host.stats("events");
    wait_until("the records are acknowledged", || stats.outputs[0].delivered.get() == 3);
    let got = server.got();
    assert_eq!(got[0].path, "/services/collector/event");
    assert_eq!(got[0].header("authorization"), "Splunk t0ken");
    assert_eq!(got[0].body, format!("{}\n", numbered(0, 3)));
    assert!(got.len() >= 4 && got[1..].iter().all(|got| got.json() == json!({ "acks": [3] })), "{got:?}");
    let channels: BTreeSet<String> = got.iter().map(|got| got.header("x-splunk-request-channel")).collect();
    assert_eq!(channels.len(), 1);
    host.push("events", &numbered(100, 2));
    wait_until("both are error records", || failed(&scratch).values().flatten().count() == 2);
    let found = failed(&scratch);
    let lines = &found["splunk-failed"];
    assert_eq!(numbers(&lines.iter().map(raw).collect::<Vec<_>>()), [100, 101]);
    for (row, line) in lines.iter().enumerate() {
        assert_eq!(line["errorCode"], "Splunk.InvalidDataFormat", "{line}");
        assert!(line["EventId"].as_str().unwrap().ends_with(&format!(".{row}")), "{line}");
    }
    host.drain();
}
