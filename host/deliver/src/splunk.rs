//! Splunk's HTTP Event Collector, with indexer acknowledgement.
//!
//! Source: Splunk's documentation of the HTTP Event Collector, and Amazon's of Splunk as a destination. A request of records,
//! one after another, is answered with the number of an acknowledgement, which is then asked about until Splunk says that the
//! records are indexed. One that does not come in time is sent again: Splunk drops nothing that it has seen, so that such
//! records may be there twice. Nothing says so durably, either: a host that ends while it waits sends again.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use tokio::time::Instant;

use crate::destination::{Setting, Wrong, refused};
use crate::fault::{DeliverError, Fault, Retry};
use crate::http::{Answer, Exchange, HttpConfig, Silence, shown};
use crate::object::{Delivered, Object, ObjectMeta};
use crate::records::{Fit, Part, Rest, Underway, deliver_parts, make_body};
use crate::sent::Sent;

/// What Firehose sends at most, and every collector takes.
const FIT: Fit = Fit { records: usize::MAX, bytes: 5 << 20, cost: |bytes| bytes };
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Pauses between two questions about an acknowledgement.
const ASK_MIN: Duration = Duration::from_millis(200);
const ASK_MAX: Duration = Duration::from_secs(10);
/// By which Splunk tells senders apart.
const CHANNEL: &str = "x-splunk-request-channel";
/// Digits of a batch id that are the stream's own.
const INCARNATION_DIGITS: usize = 32;

/// What records are to Splunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplunkEndpoint {
    /// Text, which Splunk cuts into events.
    Raw,
    /// Events in JSON, with their own metadata.
    Event,
}

/// Checked settings of a collector.
#[derive(Clone)]
pub struct SplunkConfig {
    /// Where it is, without the path of its endpoints.
    pub http: HttpConfig,
    pub endpoint: SplunkEndpoint,
    pub token: String,
    /// How long an acknowledgement is waited for.
    pub acknowledged_within: Duration,
}

impl fmt::Debug for SplunkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplunkConfig")
            .field("http", &self.http)
            .field("endpoint", &self.endpoint)
            .field("acknowledged_within", &self.acknowledged_within)
            .finish_non_exhaustive()
    }
}

impl SplunkConfig {
    /// Everything for which `Splunk::open` would refuse these settings.
    pub(crate) fn wrong(&self) -> Vec<Wrong> {
        let mut wrong = self.http.wrong();
        let own = |name: &&String| ["authorization", CHANNEL].contains(&name.to_ascii_lowercase().as_str());
        for name in self.http.headers.keys().filter(own) {
            let message = format!("the header {name} is set by the host");
            wrong.push(Wrong { at: Setting::Header(name.clone()), message });
        }
        if HeaderValue::from_str(&self.token).is_err() {
            let message = "the token does not fit into a header".to_owned();
            wrong.push(Wrong { at: Setting::Token, message });
        }
        wrong
    }
}

/// An open collector.
#[derive(Debug)]
pub struct Splunk {
    exchange: Exchange,
    send: Url,
    ask: Url,
    headers: HeaderMap,
    acknowledged_within: Duration,
    underway: Underway,
    sent: Arc<Sent>,
}

/// What a collector answers.
#[derive(Default, Deserialize)]
struct Said {
    text: Option<String>,
    code: Option<i64>,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

#[derive(Deserialize)]
struct Acks {
    acks: HashMap<String, bool>,
}

impl Splunk {
    /// Checks the settings and builds the client; touches no network.
    pub fn open(config: &SplunkConfig) -> Result<Splunk, DeliverError> {
        let wrong = config.wrong();
        if !wrong.is_empty() {
            return Err(refused(&wrong));
        }
        let (url, mut headers) = config.http.opened()?;
        if let Ok(mut value) = HeaderValue::from_str(&format!("Splunk {}", config.token)) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let below = |path: &str| {
            let mut below = url.clone();
            below.set_path(&format!("{}/services/collector/{path}", url.path().trim_end_matches('/')));
            below
        };
        let send = below(match config.endpoint {
            SplunkEndpoint::Raw => "raw",
            SplunkEndpoint::Event => "event",
        });
        Ok(Splunk {
            exchange: Exchange::open(&config.http, &url)?,
            send,
            ask: below("ack"),
            headers,
            acknowledged_within: config.acknowledged_within,
            underway: Underway::default(),
            sent: Arc::default(),
        })
    }

    pub(crate) async fn deliver(&self, object: &Object<'_>) -> Result<Delivered, DeliverError> {
        deliver_parts(object, &self.underway, &self.sent, FIT, |part| self.send(object.meta, part)).await
    }

    /// What was sent so far.
    pub(crate) fn sent(&self) -> &Arc<Sent> {
        &self.sent
    }

    pub(crate) fn give_up(&self, meta: &ObjectMeta) -> Rest {
        self.underway.give_up(meta)
    }

    async fn send(&self, meta: &ObjectMeta, part: Part) -> Result<(), DeliverError> {
        let mut headers = self.headers.clone();
        let channel = HeaderValue::from_str(&channel(meta));
        headers.extend(channel.ok().map(|channel| (HeaderName::from_static(CHANNEL), channel)));
        let joined = make_body(part.cost, move || part.iter().collect::<Vec<_>>().concat());
        let body = Bytes::from(joined.await?);
        let answer = self.exchange.post(self.send.clone(), headers.clone(), body, ANSWER_BYTES_MAX).await;
        let (answer, said) = self.said(answer)?;
        let detail = || format!("{}: {}", self.exchange.place(), answer.shown());
        if answer.status != StatusCode::OK || said.code.is_some_and(|code| code != 0) {
            return Err(self.refusal(&answer, &said));
        }
        let Some(ack_id) = said.ack_id else {
            // What it has taken it would take twice.
            let message =
                "Splunk.DisabledAck: the token has no indexer acknowledgement; the records may be indexed";
            return Err(DeliverError::new(Fault::Client, Retry::Never, message, detail()));
        };
        self.acknowledged(ack_id, headers).await
    }

    /// Asks until the records are indexed.
    async fn acknowledged(&self, ack_id: u64, mut headers: HeaderMap) -> Result<(), DeliverError> {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let asked_at = Instant::now();
        let until = asked_at + self.acknowledged_within;
        let body = Bytes::from(format!(r#"{{"acks":[{ack_id}]}}"#));
        let (mut pause, mut why) = (ASK_MIN, String::new());
        while Instant::now() < until {
            tokio::time::sleep_until(until.min(Instant::now() + pause)).await;
            pause = (pause * 2).min(ASK_MAX);
            let asked = self.exchange.post(self.ask.clone(), headers.clone(), body.clone(), ANSWER_BYTES_MAX);
            let Ok(answer) = tokio::time::timeout_at(until, asked).await else { break };
            match answer {
                Ok(answer) if answer.status == StatusCode::OK => {
                    let acks = serde_json::from_slice::<Acks>(&answer.body);
                    match acks.map(|found| found.acks.get(&ack_id.to_string()).copied()) {
                        Ok(Some(true)) => {
                            self.sent.acknowledged(asked_at.elapsed());
                            return Ok(());
                        }
                        Ok(_not_yet) => {}
                        Err(_other) => why = format!(": {}", answer.shown()),
                    }
                }
                // It may be busy, or be started again.
                Ok(answer) => why = format!(": it answered {} ({})", answer.status.as_u16(), answer.shown()),
                Err((_, detail)) => why = format!(": {detail}"),
            }
        }
        Err(DeliverError::later(
            "Splunk.AckTimeout: the records were not acknowledged in time; they may be indexed",
            format!("{}{why}", self.exchange.place()),
        ))
    }

    fn said(&self, answer: Result<Answer, (Silence, String)>) -> Result<(Answer, Said), DeliverError> {
        let answer = answer.map_err(|(silence, detail)| {
            DeliverError::later(
                match silence {
                    Silence::Late => "Splunk.ConnectionTimeout: the collector did not answer in time",
                    Silence::Unreachable => "Splunk.ConnectionTimeout: the collector cannot be reached",
                    Silence::CutOff => "Splunk.ConnectionClosed: the request was cut off",
                },
                detail,
            )
        })?;
        let detail = format!("{}: {}", self.exchange.place(), answer.shown());
        if answer.is_too_long {
            let message = format!(
                "Splunk.InvalidHecResponseCharacter: the answer has more than {ANSWER_BYTES_MAX} bytes"
            );
            return Err(DeliverError::later(message, detail));
        }
        let said = serde_json::from_slice(&answer.body);
        match said {
            Ok(said) => Ok((answer, said)),
            // What stands in front of a collector answers as it likes.
            Err(_other) if answer.status != StatusCode::OK => Ok((answer, Said::default())),
            Err(_other) => {
                let message = "Splunk.InvalidHecResponseCharacter: the answer is no JSON of a collector";
                Err(DeliverError::later(message, detail))
            }
        }
    }

    fn refusal(&self, answer: &Answer, said: &Said) -> DeliverError {
        let (code, is_final) = match (said.code, answer.status) {
            (Some(1), _) => ("DisabledToken", false),
            (Some(2..=4), _) => ("InvalidToken", false),
            (Some(5 | 6 | 12 | 13 | 15), _) => ("InvalidDataFormat", true),
            (Some(7), _) => ("InvalidIndex", false),
            (Some(10 | 11), _) => ("InvalidDataChannel", true),
            (Some(14), _) => ("DisabledAck", true),
            (_, StatusCode::PAYLOAD_TOO_LARGE) => ("ServerError.ContentTooLarge", true),
            (_, StatusCode::NOT_FOUND) => ("URLNotFound", false),
            (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => ("InvalidToken", false),
            _ => ("ServerError", false),
        };
        let mut message = format!("Splunk.{code}: the collector answered {}", answer.status.as_u16());
        if let Some(text) = &said.text {
            message.push_str(": ");
            message.push_str(&shown(text));
        }
        let detail = format!("{}: {}", self.exchange.place(), answer.shown());
        match is_final {
            true => DeliverError::new(Fault::Client, Retry::Never, message, detail),
            false => {
                let retry = Retry::Later { after: answer.retry_after() };
                DeliverError::new(Fault::Destination, retry, message, detail)
            }
        }
    }
}

/// One of each output of a stream, for ever: Splunk counts acknowledgements by it.
fn channel(meta: &ObjectMeta) -> String {
    let incarnation: String = meta.batch_id.chars().take(INCARNATION_DIGITS).collect();
    wasmill_firehose::endpoint::request_id(&format!("channel {incarnation} {}", meta.output), 0)
}

#[cfg(test)]
mod tests;
