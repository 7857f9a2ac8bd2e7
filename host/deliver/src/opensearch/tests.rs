//! A cluster with the documented answers of `_bulk`, played here: no OpenSearch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::http::stand_in::{Got, Says, StandIn};
use crate::staged::{Staged, framed_at};

/// 2016-02-25T13:00:00Z, the guide's example.
const DOCUMENTED: i64 = 1_456_405_200_000_000_000;

/// Documents by index and id, as a cluster keeps them, and how often each was sent.
#[derive(Default)]
struct Cluster {
    documents: BTreeMap<(String, String), (Value, usize)>,
    /// Requests so far.
    asked: usize,
}

/// Of documents that have a member `"once"` the first request fails, of those with `"never"` each.
fn bulk(cluster: &Mutex<Cluster>, got: &Got) -> Says {
    let mut cluster = cluster.lock().unwrap();
    cluster.asked += 1;
    assert!(got.body.ends_with(b"\n"));
    let text = std::str::from_utf8(&got.body).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut items = Vec::new();
    for pair in lines.chunks(2) {
        let (action, what) = pair[0].as_object().unwrap().iter().next().unwrap();
        let key = (
            what["_index"].as_str().unwrap().to_owned(),
            what["_id"].as_str().unwrap_or_default().to_owned(),
        );
        let document = &pair[1];
        let item = if document.get("never").is_some() {
            json!({"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "failed to parse field [n]"}})
        } else if document.get("once").is_some() && cluster.asked == 1 {
            json!({"status": 429, "error": {"type": "rejected_execution_exception", "reason": "queue is full"}})
        } else if action == "create" && cluster.documents.contains_key(&key) {
            json!({"status": 409, "error": {"type": "version_conflict_engine_exception"}})
        } else {
            let known = cluster.documents.entry(key).or_insert((document.clone(), 0));
            known.1 += 1;
            json!({"status": if known.1 == 1 { 201 } else { 200 }})
        };
        items.push(json!({ action: item }));
    }
    Says::json(200, json!({"errors": true, "items": items}))
}

struct Test {
    cluster: Arc<Mutex<Cluster>>,
    server: StandIn,
    staged: Staged,
}

impl Test {
    async fn start(next: Vec<Says>) -> Test {
        let cluster: Arc<Mutex<Cluster>> = Arc::default();
        let own = Arc::clone(&cluster);
        let server = StandIn::start(next, move |got| bulk(&own, got)).await;
        Test { cluster, server, staged: Staged::new() }
    }

    fn open(&self, action: Action, ids: bool) -> OpenSearch {
        let (index, rotation) = ("logs".to_owned(), Rotation::Day);
        OpenSearch::open(&OpenSearchConfig { http: self.server.config("/es/"), index, rotation, action, ids })
            .unwrap()
    }

    fn object(&self, rows: &[&[u8]]) -> (ObjectMeta, std::path::PathBuf) {
        let rows: Vec<(&[u8], i64)> = rows.iter().map(|row| (*row, DOCUMENTED)).collect();
        self.arrived(&rows)
    }

    fn arrived(&self, rows: &[(&[u8], i64)]) -> (ObjectMeta, std::path::PathBuf) {
        let body: Vec<u8> = rows.iter().flat_map(|(row, arrival)| framed_at(row, *arrival)).collect();
        let (meta, body) = self.staged.object("batch", &body);
        let content_type = format!("{}+json", crate::records::FRAMED_CONTENT_TYPE);
        (ObjectMeta { content_type, ..meta }, body)
    }

    fn documents(&self) -> Vec<String> {
        self.cluster.lock().unwrap().documents.keys().map(|(index, id)| format!("{index}/{id}")).collect()
    }
}

#[tokio::test]
async fn documents_have_an_index_of_their_batch_and_ids_of_their_rows() {
    let test = Test::start(vec![]).await;
    let (meta, body) = test.object(&[b"{\"n\":1}\n", b"{\"n\":\n2}\n"]);
    let cluster = test.open(Action::Index, true);
    assert_eq!(cluster.deliver(&Object { meta: &meta, body: &body }).await, Ok(Delivered::Created));
    let [got] = &test.server.got()[..] else { panic!() };
    assert!(got.path.starts_with("/es/_bulk?filter_path=errors,items"), "{}", got.path);
    assert_eq!((got.header("content-type"), got.header("x-own")), ("application/x-ndjson", "mine"));
    let text = std::str::from_utf8(&got.body).unwrap();
    assert_eq!(
        text,
        "{\"index\":{\"_id\":\"batch-of-batch-0\",\"_index\":\"logs-2016-02-25\"}}\n{\"n\":1}\n\
         {\"index\":{\"_id\":\"batch-of-batch-1\",\"_index\":\"logs-2016-02-25\"}}\n{\"n\": 2}\n"
    );
    // Sent again, whoever sends it, nothing is there twice.
    for (action, ids) in [(Action::Index, true), (Action::Create, true)] {
        let again = test.open(action, ids).deliver(&Object { meta: &meta, body: &body }).await;
        assert_eq!(again, Ok(Delivered::Created), "{action:?}");
    }
    assert_eq!(test.documents(), ["logs-2016-02-25/batch-of-batch-0", "logs-2016-02-25/batch-of-batch-1"]);
    let without = test.open(Action::Create, false);
    assert_eq!(without.document(&meta, 1, DOCUMENTED), (None, "logs-2016-02-25".to_owned()));
    without.deliver(&Object { meta: &meta, body: &body }).await.unwrap();
    assert!(!String::from_utf8_lossy(&test.server.got()[3].body).contains("_id"));
}

#[tokio::test]
async fn batch_that_crosses_midnight_has_documents_in_the_indices_of_both_days() {
    let test = Test::start(vec![]).await;
    let midnight = DOCUMENTED + 11 * 3_600_000_000_000;
    let rows =
        [(&b"{\"n\":0}\n"[..], midnight - 1), (b"{\"n\":1}\n", midnight), (b"{\"never\":2}\n", midnight)];
    let (meta, body) = test.arrived(&rows);
    let object = Object { meta: &meta, body: &body };
    let cluster = test.open(Action::Index, true);
    assert_eq!(cluster.deliver(&object).await, Ok(Delivered::InPart));
    let refused = cluster.refused(&meta);
    assert_eq!(cluster.document(&meta, 2, refused[0].arrival).1, "logs-2016-02-26");
    assert_eq!(test.documents(), ["logs-2016-02-25/batch-of-batch-0", "logs-2016-02-26/batch-of-batch-1"]);
    let sent = cluster.sent();
    assert_eq!((sent.records.tried(), sent.records.taken(), sent.bytes.taken()), (3, 2, 16));
}

#[tokio::test]
async fn documents_that_found_no_room_go_again_alone_and_those_that_fit_nowhere_are_handed_back() {
    let test = Test::start(vec![]).await;
    let rows: [&[u8]; 4] = [b"{\"n\":0}\n", b"{\"once\":1}\n", b"{\"never\":2}\n", b"{\"n\":3}\n"];
    let (meta, body) = test.object(&rows);
    let object = Object { meta: &meta, body: &body };
    let cluster = test.open(Action::Index, true);
    let error = cluster.deliver(&object).await.unwrap_err();
    assert_eq!((error.fault, error.retry), (Fault::Destination, Retry::Later { after: None }));
    assert!(error.message.starts_with("OpenSearch.429: rejected_execution_exception: queue"), "{error}");
    let refused = cluster.refused(&meta);
    assert_eq!(
        refused,
        [RefusedRow {
            row: 2,
            arrival: DOCUMENTED,
            message: "OpenSearch.400: mapper_parsing_exception: failed to parse field [n]".to_owned(),
            bytes: b"{\"never\":2}".to_vec(),
        }]
    );
    assert_eq!(cluster.refused(&meta), []);
    assert_eq!(cluster.deliver(&object).await, Ok(Delivered::Created));
    let second = String::from_utf8_lossy(&test.server.got()[1].body).into_owned();
    assert_eq!(second.lines().count(), 2, "{second}");
    let ids: Vec<String> =
        [0, 1, 3].iter().map(|row| format!("logs-2016-02-25/batch-of-batch-{row}")).collect();
    assert_eq!(test.documents(), ids);
    let cluster = test.cluster.lock().unwrap();
    assert!(cluster.documents.values().all(|(_, sent)| *sent == 1));
}

#[tokio::test]
async fn refused_documents_are_asked_for_before_the_batch_goes_on() {
    let test = Test::start(vec![]).await;
    let (meta, body) = test.object(&[b"{\"never\":0}\n", b"{\"n\":1}\n"]);
    let object = Object { meta: &meta, body: &body };
    let cluster = test.open(Action::Index, true);
    assert_eq!(cluster.deliver(&object).await, Ok(Delivered::InPart));
    assert_eq!(cluster.refused(&meta).len(), 1);
    assert_eq!(cluster.deliver(&object).await, Ok(Delivered::Created));
    assert_eq!(test.server.got().len(), 1);
}

#[tokio::test]
async fn of_a_batch_that_is_given_up_only_documents_that_were_not_taken_are_left() {
    let test = Test::start(vec![]).await;
    let mut rows = vec![&b"{\"n\":0}\n"[..]; FIT.records + 2];
    rows[0] = b"{\"once\":0}\n";
    let (meta, body) = test.object(&rows);
    let object = Object { meta: &meta, body: &body };
    let cluster = test.open(Action::Index, true);
    cluster.deliver(&object).await.unwrap_err();
    let rest = cluster.give_up(&object, "OpenSearch.429: no").await;
    assert_eq!(
        rest.refused.iter().map(|row| (row.row, row.message.as_str())).collect::<Vec<_>>(),
        [(0, "OpenSearch.429: no")]
    );
    let bytes: usize = rows[..FIT.records].iter().map(|row| row.len() + 12).sum();
    assert_eq!(rest.done, (bytes as u64, FIT.records as u64));
    // Where nothing was taken, all is left.
    let error = StandIn::start(vec![], |_| Says::json(503, "")).await;
    let down = OpenSearch::open(&OpenSearchConfig {
        http: error.config(""),
        index: "logs".to_owned(),
        rotation: Rotation::Never,
        action: Action::Index,
        ids: true,
    })
    .unwrap();
    down.deliver(&object).await.unwrap_err();
    assert_eq!(down.give_up(&object, "down").await, Rest::default());
}

#[tokio::test]
async fn answers_for_a_whole_request_say_whether_it_is_tried_again() {
    let json = |status, body: &str| Says::json(status, body);
    for (says, part, is_final) in [
        (json(503, ""), "OpenSearch.503: ", false),
        (
            json(403, r#"{"error":{"type":"security_exception","reason":"no permissions"},"status":403}"#),
            "security_exception: no permissions",
            false,
        ),
        (json(401, "Unauthorized"), "OpenSearch.401: ", false),
        (json(400, r#"{"error":"malformed"}"#), "answered 400: malformed", true),
        (json(413, ""), "OpenSearch.413: ", true),
        (json(200, "ok"), "is none of _bulk", false),
        (json(200, r#"{"errors":false,"items":[]}"#), "tells of 0 documents instead of 1", false),
        (
            json(200, r#"{"errors":false,"items":[{"index":{"status":201}},{"index":{"status":201}}]}"#),
            "2 documents instead of 1",
            false,
        ),
        (json(200, &" ".repeat(ANSWER_BYTES_MAX + 1)), "more than", false),
    ] {
        let test = Test::start(vec![says]).await;
        let (meta, body) = test.object(&[b"{}\n"]);
        let error =
            test.open(Action::Index, true).deliver(&Object { meta: &meta, body: &body }).await.unwrap_err();
        assert!(error.message.contains(part), "{part}: {error}");
        assert_eq!(error.retry == Retry::Never, is_final, "{part}");
        assert!(error.detail.len() < 5000);
    }
}

#[test]
fn index_is_named_by_the_arrival_in_the_manner_of_firehose() {
    let at = |text: &str| i64::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap();
    let of = |rotation, text: &str| index("idx", rotation, at(text));
    let documented = "2016-02-25T13:59:59Z";
    assert_eq!(of(Rotation::Never, documented), "idx");
    assert_eq!(of(Rotation::Hour, documented), "idx-2016-02-25-13");
    assert_eq!(of(Rotation::Day, documented), "idx-2016-02-25");
    assert_eq!(of(Rotation::Month, documented), "idx-2016-02");
    for (day, expected) in [
        ("2016-02-25", "idx-2016-w09"),
        // The first Saturday is the second of January.
        ("2016-01-02", "idx-2016-w01"),
        ("2016-01-03", "idx-2016-w02"),
        ("2015-12-27", "idx-2016-w01"),
        ("2015-12-26", "idx-2015-w52"),
        ("2023-12-31", "idx-2024-w01"),
        ("2022-12-31", "idx-2022-w53"),
    ] {
        assert_eq!(of(Rotation::Week, &format!("{day}T00:00:00Z")), expected, "{day}");
    }
}
