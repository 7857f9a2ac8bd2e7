//! HTTP POST: one request per batch, the object as its body.
//!
//! The batch id goes along as `Idempotency-Key`, so that a receiver that cares can drop what it has
//! seen: whether a request whose answer never came was taken is unknown, and it is sent again.
//! Redirects are not followed (they could carry headers and data elsewhere), and of an answer's body
//! at most a few lines are read, for the operator.

mod caller;
mod exchange;
mod reach;
mod share;
#[cfg(test)]
pub(crate) mod stand_in;

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode, Url};

use crate::destination::{Setting, Wrong, body_error, checked_url, refused};
use crate::fault::{DeliverError, Fault, Retry};
use crate::object::{Delivered, Object};
use crate::retry_after::retry_after;

pub use self::caller::{Call, Called, Caller, CallerConfig, Uncalled};
pub(crate) use self::exchange::{Answer, Exchange, Silence, client, shown};
pub use self::reach::Reach;
pub(crate) use self::reach::addresses;
pub use self::share::CallerShare;

/// Time to connect; the request's own timeout holds for the whole.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Of an answer's body, in bytes: so much is read so that the connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Of a refusal's text, in bytes: so much is shown to the operator.
const DETAIL_BYTES_MAX: usize = 512;
/// Headers that we set ourselves and settings may not. Of objects the content type is theirs to say: a body that a plugin
/// wrote may be more than its format tells.
const RESERVED: [&str; 6] =
    ["content-length", "content-encoding", "transfer-encoding", "host", "connection", "idempotency-key"];

/// Checked settings of an HTTP destination.
#[derive(Clone)]
pub struct HttpConfig {
    pub url: String,
    /// Sent with every request; values may be secrets and are never logged.
    pub headers: BTreeMap<String, String>,
    /// PEM of the authorities that the server's certificate is checked with; `None`: those of the machine.
    pub ca: Option<String>,
    /// For the whole request, answer included.
    pub timeout: Duration,
    /// Where requests may go; `None`: everywhere.
    pub reach: Option<Reach>,
}

impl std::fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpConfig")
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// An open HTTP destination.
pub struct Http {
    client: Client,
    url: Url,
    headers: HeaderMap,
    /// Scheme, host and port, for the operator: path and query may hold tokens.
    place: String,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("place", &self.place).finish_non_exhaustive()
    }
}

impl HttpConfig {
    /// Everything for which `Http::open` would refuse these settings.
    pub(crate) fn wrong_of_objects(&self) -> Vec<Wrong> {
        self.parsed(Body::Object).err().unwrap_or_default()
    }

    /// Everything that is wrong of them for a protocol, which says itself what its bodies are.
    pub(crate) fn wrong(&self) -> Vec<Wrong> {
        self.parsed(Body::Protocol).err().unwrap_or_default()
    }

    /// Where requests of a protocol go and with which headers.
    pub(crate) fn opened(&self) -> Result<(Url, HeaderMap), DeliverError> {
        self.parsed(Body::Protocol).map_err(|wrong| refused(&wrong))
    }

    /// Where requests go and with which headers, or everything that is wrong.
    fn parsed(&self, body: Body) -> Result<(Url, HeaderMap), Vec<Wrong>> {
        let mut wrong = Vec::new();
        let url = checked_url(&self.url);
        let url = url.map_err(|message| wrong.push(Wrong { at: Setting::Url, message })).ok();
        let refused = self.reach.as_ref().zip(url.as_ref()).and_then(|(reach, url)| reach.refuses(url));
        wrong.extend(refused.map(|message| Wrong { at: Setting::Url, message }));
        if let Some(ca) = &self.ca {
            let is_plain = url.as_ref().is_some_and(|url| url.scheme() == "http");
            let found = match is_plain {
                true => Err("\"ca\" has an effect with https alone".to_owned()),
                false => exchange::authorities(ca).map(drop),
            };
            wrong.extend(found.err().map(|message| Wrong { at: Setting::Ca, message }));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            match header(name, value, body) {
                Ok((header, _)) if headers.contains_key(&header) => {
                    let message = format!("the header {header} is there twice");
                    wrong.push(Wrong { at: Setting::Header(name.clone()), message });
                }
                Ok((header, value)) => {
                    headers.insert(header, value);
                }
                Err(message) => wrong.push(Wrong { at: Setting::Header(name.clone()), message }),
            }
        }
        url.filter(|_| wrong.is_empty()).map(|url| (url, headers)).ok_or(wrong)
    }
}

/// What is posted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Whole objects.
    Object,
    /// What a protocol makes of records.
    Protocol,
}

/// A header that requests may have.
fn header(name: &str, value: &str, body: Body) -> Result<(HeaderName, HeaderValue), String> {
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err(format!("{name:?} is not a header name"));
    };
    if RESERVED.contains(&header.as_str()) || header == CONTENT_TYPE && body == Body::Protocol {
        return Err(format!("the header {header} is set by the host"));
    }
    let Ok(mut value) = HeaderValue::from_str(value) else {
        return Err(format!("the value of the header {header} is not valid"));
    };
    value.set_sensitive(true);
    Ok((header, value))
}

impl Http {
    /// Checks the settings and builds the client; touches no network.
    pub fn open(config: &HttpConfig) -> Result<Http, DeliverError> {
        let (url, headers) = config.parsed(Body::Object).map_err(|wrong| refused(&wrong))?;
        let client = exchange::client(config, &url)?;
        let place = url.origin().ascii_serialization();
        Ok(Http { client, url, headers, place })
    }

    pub(crate) async fn deliver(&self, object: &Object<'_>) -> Result<Delivered, DeliverError> {
        let meta = object.meta;
        let wrong = |message: &str| DeliverError::new(Fault::Host, Retry::Never, message, meta.name.clone());
        let text = |value: &str| HeaderValue::from_str(value).ok();
        let (Some(content_type), Some(key)) = (text(&meta.content_type), text(&meta.batch_id)) else {
            return Err(wrong("the object's metadata does not fit into headers"));
        };
        let file =
            tokio::fs::File::open(object.body).await.map_err(|error| body_error(object.body, &error))?;
        let length = file.metadata().await.map_err(|error| body_error(object.body, &error))?.len();
        if length != meta.bytes {
            return Err(wrong("the staged body has another length than its metadata"));
        }
        let mut headers = self.headers.clone();
        headers.entry(CONTENT_TYPE).or_insert(content_type);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert("idempotency-key", key);
        headers.insert("wasmill-records", HeaderValue::from(meta.records));
        if let Some(encoding) = meta.content_encoding.as_deref().and_then(text) {
            headers.insert(CONTENT_ENCODING, encoding);
        }
        if let Some(digest) = text(&meta.digest_text()) {
            headers.insert("wasmill-digest", digest);
        }
        let request = self.client.post(self.url.clone()).headers(headers).body(file);
        let answer = request.send().await.map_err(|error| self.unanswered(error))?;
        self.answered(answer).await
    }

    /// What an answer means.
    async fn answered(&self, answer: Response) -> Result<Delivered, DeliverError> {
        let status = answer.status();
        let after =
            answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
        let body = read_start(answer).await;
        if status.is_success() {
            return Ok(Delivered::Created);
        }
        let detail = || {
            let start = &body[..body.len().min(DETAIL_BYTES_MAX)];
            format!("{}: {}", self.place, String::from_utf8_lossy(start).escape_debug())
        };
        let message = format!("the endpoint answered {}", status.as_u16());
        let (fault, retry) = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
                (Fault::Destination, Retry::Later { after })
            }
            status if status.is_server_error() => (Fault::Destination, Retry::Later { after }),
            status if status.is_redirection() => {
                let message =
                    format!("the endpoint answered {} and redirects are not followed", status.as_u16());
                return Err(DeliverError::new(Fault::Client, Retry::Never, message, detail()));
            }
            _ => (Fault::Client, Retry::Never),
        };
        Err(DeliverError::new(fault, retry, message, detail()))
    }

    fn unanswered(&self, error: reqwest::Error) -> DeliverError {
        let message = match Silence::of(&error) {
            Silence::Late => "the endpoint did not answer in time",
            Silence::Unreachable => "the endpoint cannot be reached",
            Silence::CutOff => "the request was cut off",
        };
        DeliverError::later(message, exchange::detail(&self.place, error))
    }
}

/// The start of the answer's body. What does not come, or comes too long, is left: the status counts.
async fn read_start(mut answer: Response) -> Vec<u8> {
    let mut body = Vec::new();
    let mut read = 0;
    while read < ANSWER_BYTES_MAX {
        match answer.chunk().await {
            Ok(Some(chunk)) => {
                read += chunk.len();
                let room = DETAIL_BYTES_MAX.saturating_sub(body.len());
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            Ok(None) | Err(_) => break,
        }
    }
    body
}

#[cfg(test)]
mod tests;
