//! Documents for OpenSearch and Elasticsearch, by their `_bulk` interface.
//!
//! Each record is a document, whose id is made of its batch and its row, so that one that is sent again is the same document.
//! Of a request each document has a verdict of its own: those that the cluster has no room for now (429, 5xx) are sent again,
//! the others alone; those that it will never take (a field that does not fit its mapping) are handed back as refused rows.
//! The index is named by the arrival of the record, so that it is the same whenever it is tried.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::destination::{Wrong, refused};
use crate::fault::{DeliverError, Fault, Retry};
use crate::http::{Answer, Exchange, HttpConfig, Silence, shown};
use crate::object::{Delivered, Object, ObjectMeta};
use crate::records::{Fit, Part, PartRow, RefusedRow, Rest, Underway, make_body, next_part};
use crate::sent::Sent;

/// Far below what clusters take of one request. Beside a document stand some 200 bytes of what is to be done with it.
const FIT: Fit = Fit { records: 5_000, bytes: 5 << 20, cost: |bytes| bytes + 200 };
/// Of an answer: some bytes for each document, and what is wrong with it.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Nothing of an answer is wanted but this.
const FILTER: &str = "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason";

/// How often documents go to another index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    Never,
    Hour,
    Day,
    /// From Sunday on; the first of a year has its first Saturday.
    Week,
    Month,
}

/// What is done with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It takes the place of one with its id.
    Index,
    /// It is made where there is none with its id: the only one that data streams know.
    Create,
}

/// Checked settings of a cluster.
#[derive(Clone, Debug)]
pub struct OpenSearchConfig {
    /// Where it is, without `/_bulk`.
    pub http: HttpConfig,
    pub index: String,
    pub rotation: Rotation,
    pub action: Action,
    /// Whether documents have ids of ours; without them one that is sent again is another document.
    pub ids: bool,
}

impl OpenSearchConfig {
    /// Everything for which `OpenSearch::open` would refuse these settings.
    pub(crate) fn wrong(&self) -> Vec<Wrong> {
        self.http.wrong()
    }
}

/// An open cluster.
#[derive(Debug)]
pub struct OpenSearch {
    exchange: Exchange,
    url: Url,
    headers: HeaderMap,
    documents: Arc<Documents>,
    underway: Underway,
    sent: Arc<Sent>,
}

/// What becomes of records.
#[derive(Debug)]
struct Documents {
    index: String,
    rotation: Rotation,
    action: Action,
    ids: bool,
}

#[derive(Deserialize)]
struct Bulk {
    #[serde(default)]
    items: Vec<std::collections::BTreeMap<String, Item>>,
}

#[derive(Deserialize)]
struct Item {
    status: u16,
    #[serde(default)]
    error: Option<Value>,
}

enum Verdict {
    Taken,
    Again(String),
    Refused(String),
}

impl Documents {
    fn index(&self, arrival: i64) -> String {
        index(&self.index, self.rotation, arrival)
    }

    fn body<'a>(&self, batch: &str, rows: impl Iterator<Item = PartRow<'a>>) -> Bytes {
        let action = match self.action {
            Action::Index => "index",
            Action::Create => "create",
        };
        let mut body = Vec::new();
        for found in rows {
            let mut what = json!({ "_index": self.index(found.arrival) });
            if self.ids {
                what["_id"] = id(batch, found.row).into();
            }
            body.extend_from_slice(json!({ action: what }).to_string().as_bytes());
            body.push(b'\n');
            // Within JSON it is nothing but space.
            body.extend(
                text(found.bytes).iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }),
            );
            body.push(b'\n');
        }
        body.into()
    }
}

impl OpenSearch {
    /// Checks the settings and builds the client; touches no network.
    pub fn open(config: &OpenSearchConfig) -> Result<OpenSearch, DeliverError> {
        let wrong = config.wrong();
        if !wrong.is_empty() {
            return Err(refused(&wrong));
        }
        let (url, mut headers) = config.http.opened()?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        let exchange = Exchange::open(&config.http, &url)?;
        let mut bulk = url.clone();
        bulk.set_path(&format!("{}/_bulk", url.path().trim_end_matches('/')));
        bulk.set_query(Some(FILTER));
        Ok(OpenSearch {
            exchange,
            url: bulk,
            headers,
            documents: Arc::new(Documents {
                index: config.index.clone(),
                rotation: config.rotation,
                action: config.action,
                ids: config.ids,
            }),
            underway: Underway::default(),
            sent: Arc::default(),
        })
    }

    /// One attempt. Rows that the cluster refuses are in `refused` afterwards, whatever comes of the others.
    pub(crate) async fn deliver(&self, object: &Object<'_>) -> Result<Delivered, DeliverError> {
        let meta = object.meta;
        loop {
            let part = next_part(object, self.underway.at(meta), FIT).await?;
            if part.is_empty() {
                self.underway.done(meta);
                return Ok(Delivered::Created);
            }
            let has_refused = self.part(meta, Arc::new(part)).await?;
            if has_refused {
                return Ok(Delivered::InPart);
            }
        }
    }

    /// Sends what is left of a part: whether rows of it were refused, and all others are taken.
    async fn part(&self, meta: &ObjectMeta, part: Arc<Part>) -> Result<bool, DeliverError> {
        let settled: HashSet<u64> =
            self.underway.with(meta, |progress| progress.taken.iter().copied().collect());
        let settled = Arc::new(settled);
        let left: Vec<PartRow<'_>> = left_of(&part, &settled).collect();
        self.sent.tried(left.len() as u64, left.iter().map(|found| found.bytes.len() as u64).sum());
        let (documents, batch) = (Arc::clone(&self.documents), meta.batch_id.clone());
        let (whole, without) = (Arc::clone(&part), Arc::clone(&settled));
        let body = make_body(part.cost, move || documents.body(&batch, left_of(&whole, &without)));
        let items = self.send(body.await?, left.len()).await?;
        let (mut done, mut refused, mut again) = (Vec::new(), Vec::new(), None);
        let (mut taken_records, mut taken_bytes) = (0, 0);
        for (found, item) in left.iter().zip(&items) {
            match self.verdict(item) {
                Verdict::Taken => {
                    done.push(found.row);
                    taken_records += 1;
                    taken_bytes += found.bytes.len() as u64;
                }
                Verdict::Again(message) => again = again.or(Some(message)),
                Verdict::Refused(message) => {
                    done.push(found.row);
                    refused.push(refused_row(found, message));
                }
            }
        }
        self.sent.taken(taken_records, taken_bytes);
        let (taken, has_refused) = (done.len(), !refused.is_empty());
        self.underway.with(meta, |progress| {
            progress.refused.extend(refused);
            progress.taken.extend(done);
            if again.is_none() {
                progress.taken.clear();
                progress.at = Some((part.next, part.row + part.len() as u64));
            }
        });
        match again {
            None => Ok(has_refused),
            Some(message) => {
                let detail =
                    format!("{}: {} of {} documents", self.exchange.place(), left.len() - taken, left.len());
                Err(DeliverError::later(message, detail))
            }
        }
    }

    /// Rows that were refused since it was asked last.
    pub(crate) fn refused(&self, meta: &ObjectMeta) -> Vec<RefusedRow> {
        self.underway.refused(meta)
    }

    /// What is left of a batch that is given up for `message`: of a part that has begun, documents that were not taken, as rows.
    pub(crate) async fn give_up(&self, object: &Object<'_>, message: &str) -> Rest {
        let meta = object.meta;
        let (at, taken) =
            (self.underway.at(meta), self.underway.with(meta, |progress| progress.taken.clone()));
        if !taken.is_empty()
            && let Ok(part) = next_part(object, at, FIT).await
        {
            let taken: HashSet<u64> = taken.into_iter().collect();
            let left = left_of(&part, &taken);
            let left: Vec<RefusedRow> = left.map(|found| refused_row(&found, message.to_owned())).collect();
            self.underway.with(meta, |progress| {
                progress.refused.extend(left);
                progress.at = Some((part.next, part.row + part.len() as u64));
            });
        }
        self.underway.give_up(meta)
    }

    /// Id and index of a row's document.
    pub(crate) fn document(&self, meta: &ObjectMeta, row: u64, arrival: i64) -> (Option<String>, String) {
        let documents = &self.documents;
        (documents.ids.then(|| id(&meta.batch_id, row)), documents.index(arrival))
    }

    /// What was sent so far.
    pub(crate) fn sent(&self) -> &Arc<Sent> {
        &self.sent
    }

    async fn send(&self, body: Bytes, documents: usize) -> Result<Vec<Item>, DeliverError> {
        let answer = self.exchange.post(self.url.clone(), self.headers.clone(), body, ANSWER_BYTES_MAX).await;
        let answer = answer.map_err(|(silence, detail)| {
            DeliverError::later(
                match silence {
                    Silence::Late => "OpenSearch.RequestTimeout: the cluster did not answer in time",
                    Silence::Unreachable => "OpenSearch.ConnectionFailed: the cluster cannot be reached",
                    Silence::CutOff => "OpenSearch.ConnectionFailed: the request was cut off",
                },
                detail,
            )
        })?;
        let detail = || format!("{}: {}", self.exchange.place(), answer.shown());
        if answer.status != StatusCode::OK {
            return Err(self.refusal(&answer));
        }
        let wrong = |what: &str| {
            DeliverError::later(format!("OpenSearch.InvalidResponse: the answer {what}"), detail())
        };
        if answer.is_too_long {
            return Err(wrong(&format!("has more than {ANSWER_BYTES_MAX} bytes")));
        }
        let bulk: Bulk = serde_json::from_slice(&answer.body).map_err(|_other| wrong("is none of _bulk"))?;
        let items: Vec<Item> = bulk.items.into_iter().filter_map(|item| item.into_values().next()).collect();
        if items.len() != documents {
            return Err(wrong(&format!("tells of {} documents instead of {documents}", items.len())));
        }
        Ok(items)
    }

    /// Of a whole request.
    fn refusal(&self, answer: &Answer) -> DeliverError {
        let status = answer.status.as_u16();
        let told = serde_json::from_slice::<Value>(&answer.body).ok();
        let told = told.as_ref().map(|told| reason(told.get("error").unwrap_or(told)));
        let told = told.filter(|told| !told.is_empty()).map(|told| format!(": {told}")).unwrap_or_default();
        let message = format!("OpenSearch.{status}: the cluster answered {status}{told}");
        let detail = format!("{}: {}", self.exchange.place(), answer.shown());
        match answer.status {
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
                DeliverError::new(Fault::Client, Retry::Never, message, detail)
            }
            _ => {
                let retry = Retry::Later { after: answer.retry_after() };
                DeliverError::new(Fault::Destination, retry, message, detail)
            }
        }
    }

    fn verdict(&self, item: &Item) -> Verdict {
        let message = || {
            let told = item.error.as_ref().map(reason).unwrap_or_default();
            format!("OpenSearch.{}: {told}", item.status)
        };
        match item.status {
            200..=299 => Verdict::Taken,
            // Nobody else has ids of this batch.
            409 if self.documents.ids && self.documents.action == Action::Create => Verdict::Taken,
            429 | 500..=599 => Verdict::Again(message()),
            _ => Verdict::Refused(message()),
        }
    }
}

/// Rows of a part without those that need no other try.
fn left_of<'a>(part: &'a Part, settled: &'a HashSet<u64>) -> impl Iterator<Item = PartRow<'a>> {
    part.rows().filter(|found| !settled.contains(&found.row))
}

fn refused_row(found: &PartRow<'_>, message: String) -> RefusedRow {
    let PartRow { row, arrival, bytes } = *found;
    RefusedRow { row, arrival, message, bytes: text(bytes).to_vec() }
}

/// A row without its line feed.
fn text(row: &[u8]) -> &[u8] {
    row.strip_suffix(b"\n").unwrap_or(row)
}

/// What is wrong, in one line.
fn reason(error: &Value) -> String {
    let told = |value: &Value| value.as_str().map(str::to_owned);
    let parts = [told(&error["type"]), told(&error["reason"]), told(&error["caused_by"]["reason"])];
    let found: Vec<String> = parts.into_iter().flatten().collect();
    match (found.is_empty(), error) {
        (true, Value::String(whole)) => shown(whole),
        (true, _) => String::new(),
        (false, _) => shown(&found.join(": ")),
    }
}

/// The same whenever the row is sent.
fn id(batch: &str, row: u64) -> String {
    format!("{batch}-{row}")
}

/// `arrival` in nanoseconds since the Unix epoch.
fn index(name: &str, rotation: Rotation, arrival: i64) -> String {
    let at = Timestamp::from_nanosecond(arrival.into()).unwrap_or_default().to_zoned(TimeZone::UTC);
    match rotation {
        Rotation::Never => name.to_owned(),
        Rotation::Hour => format!("{name}-{}", at.strftime("%Y-%m-%d-%H")),
        Rotation::Day => format!("{name}-{}", at.strftime("%Y-%m-%d")),
        Rotation::Week => {
            let (year, week) = week(at.date());
            format!("{name}-{year:04}-w{week:02}")
        }
        Rotation::Month => format!("{name}-{}", at.strftime("%Y-%m")),
    }
}

/// Year and number of a week as the United States count them. (The guide's example of 2016-02-25 as week 8 is not by the rule
/// that it states, which is the one here.)
fn week(date: Date) -> (i16, i16) {
    let to_saturday = 6 - i64::from(date.weekday().to_sunday_zero_offset());
    let saturday = date.checked_add(jiff::Span::new().days(to_saturday)).unwrap_or(date);
    (saturday.year(), (saturday.day_of_year() - 1) / 7 + 1)
}

#[cfg(test)]
mod tests;
