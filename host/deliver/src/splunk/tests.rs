//! A collector as its documentation describes it, played here: no Splunk.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::http::stand_in::{Got, Says, StandIn};
use crate::staged::{Staged, framed};

fn config(server: &StandIn, endpoint: SplunkEndpoint) -> SplunkConfig {
    SplunkConfig {
        http: server.config("/base/"),
        endpoint,
        token: "t0ken".to_owned(),
        acknowledged_within: Duration::from_secs(10),
    }
}

async fn send(splunk: &Splunk) -> Result<Delivered, DeliverError> {
    let staged = Staged::new();
    let (meta, body) = staged.object("batch", &framed(&[b"one\n", b"", b"two\n"]));
    let meta = ObjectMeta { content_type: crate::records::FRAMED_CONTENT_TYPE.to_owned(), ..meta };
    splunk.deliver(&Object { meta: &meta, body: &body }).await
}

fn taken(got: &Got) -> Says {
    if got.path.ends_with("/ack") { Says::json(200, json!({"acks": {"7": true}})) } else { sent() }
}

fn sent() -> Says {
    Says::json(200, json!({"text": "Success", "code": 0, "ackId": 7}))
}

#[tokio::test]
async fn records_are_sent_one_after_another_and_asked_about_until_they_are_indexed() {
    for (endpoint, path) in [(SplunkEndpoint::Raw, "raw"), (SplunkEndpoint::Event, "event")] {
        let not_yet = Says::json(200, json!({"acks": {"7": false}}));
        let busy = Says::json(503, json!({"text": "Server is busy", "code": 9}));
        let server = StandIn::start(vec![sent(), not_yet, busy], taken).await;
        let splunk = Splunk::open(&config(&server, endpoint)).unwrap();
        assert_eq!(send(&splunk).await, Ok(Delivered::Created));
        let got = server.got();
        let paths: Vec<&str> = got.iter().map(|got| got.path.as_str()).collect();
        let ack = "/base/services/collector/ack";
        assert_eq!(paths, [&format!("/base/services/collector/{path}"), ack, ack, ack]);
        assert_eq!(got[0].body, "one\ntwo\n");
        let channel = got[0].header("x-splunk-request-channel");
        assert_eq!(channel.len(), 36);
        for got in &got {
            assert_eq!(got.header("authorization"), "Splunk t0ken");
            assert_eq!((got.header("x-splunk-request-channel"), got.header("x-own")), (channel, "mine"));
        }
        assert_eq!(got[1].json(), json!({"acks": [7]}));
    }
}

#[tokio::test]
async fn records_that_are_not_acknowledged_in_time_are_tried_again() {
    let never = |got: &Got| {
        if got.path.ends_with("/ack") { Says::json(200, json!({"acks": {"7": false}})) } else { sent() }
    };
    for hangs in [false, true] {
        let answers = if hangs { vec![sent(), Says::Nothing] } else { vec![] };
        let server = StandIn::start(answers, never).await;
        let within = SplunkConfig {
            acknowledged_within: Duration::from_millis(500),
            ..config(&server, SplunkEndpoint::Raw)
        };
        let error = send(&Splunk::open(&within).unwrap()).await.unwrap_err();
        assert!(error.message.starts_with("Splunk.AckTimeout: "), "{error}");
        assert_eq!((error.fault, error.retry), (Fault::Destination, Retry::Later { after: None }));
        assert!(server.got().len() >= 2);
    }
}

#[tokio::test]
async fn refusals_have_the_codes_of_firehose_and_only_those_that_may_end_are_tried_again() {
    let said = |status, code: i64| Says::json(status, json!({"text": "no", "code": code}));
    for (says, code, is_final) in [
        (said(403, 1), "Splunk.DisabledToken", false),
        (said(401, 2), "Splunk.InvalidToken", false),
        (said(403, 4), "Splunk.InvalidToken", false),
        (said(400, 5), "Splunk.InvalidDataFormat", true),
        (said(400, 6), "Splunk.InvalidDataFormat", true),
        (said(400, 7), "Splunk.InvalidIndex", false),
        (said(400, 10), "Splunk.InvalidDataChannel", true),
        (said(400, 14), "Splunk.DisabledAck", true),
        (said(503, 9), "Splunk.ServerError", false),
        (said(200, 8), "Splunk.ServerError", false),
        (Says::json(413, ""), "Splunk.ServerError.ContentTooLarge", true),
        (Says::json(404, "<html>"), "Splunk.URLNotFound", false),
        (Says::json(200, "<html>"), "Splunk.InvalidHecResponseCharacter", false),
        (Says::json(200, " ".repeat(70_000)), "Splunk.InvalidHecResponseCharacter", false),
        // It has taken them, and will not say more.
        (Says::json(200, json!({"text": "Success", "code": 0})), "Splunk.DisabledAck", true),
    ] {
        let server = StandIn::start(vec![says], taken).await;
        let error = send(&Splunk::open(&config(&server, SplunkEndpoint::Raw)).unwrap()).await.unwrap_err();
        assert!(error.message.starts_with(&format!("{code}: ")), "{code}: {error}");
        assert_eq!(error.retry == Retry::Never, is_final, "{code}");
        assert_eq!(server.got().len(), 1, "{code}");
        assert!(!format!("{error:?}").contains("t0ken"));
    }
    let server = StandIn::start(vec![], taken).await;
    let mut wrong = config(&server, SplunkEndpoint::Raw);
    wrong.token = "a\nb".to_owned();
    assert_eq!(wrong.wrong()[0].at, Setting::Token);
    wrong.http.headers.insert("Authorization".to_owned(), "x".to_owned());
    assert!(wrong.wrong()[0].message.contains("set by the host"));
    assert!(!format!("{:?}", config(&server, SplunkEndpoint::Raw)).contains("t0ken"));
}
