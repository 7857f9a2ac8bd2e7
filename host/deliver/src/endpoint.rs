//! HTTP endpoints that are delivered to as Amazon Data Firehose does it.
//!
//! A batch is one request, or several where it has more than one may have; each has an id made of the batch and its first row,
//! so that the endpoint can drop what it has seen, also after a restart of the host. The protocol is the `firehose` crate's;
//! here is who is sent to, and what an answer means: 200 with the request's id is success, 413 is final, everything else is
//! tried again. What Firehose loses on a 413 is given up here like anything else, and kept.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use wasmill_firehose::endpoint as protocol;

use crate::destination::{Setting, Wrong, refused};
use crate::fault::{DeliverError, Fault, Retry};
use crate::http::{Answer, Exchange, HttpConfig, Silence, shown};
use crate::object::{Delivered, Object, ObjectMeta};
use crate::records::{Fit, Part, Rest, Underway, deliver_parts, make_body, unmade};
use crate::sent::Sent;

const FIT: Fit = Fit {
    records: protocol::RECORDS_MAX,
    bytes: protocol::BODY_BYTES_MAX - 256,
    cost: protocol::record_bytes,
};
/// Headers that the protocol has begin so.
const RESERVED: &str = "x-amz-firehose-";

/// Checked settings of such an endpoint.
#[derive(Clone)]
pub struct EndpointConfig {
    pub http: HttpConfig,
    /// In the header of that name.
    pub source_arn: String,
    /// Sent as it is, and never shown.
    pub access_key: Option<String>,
    /// Of all records.
    pub common_attributes: BTreeMap<String, String>,
    /// Level of gzip; `None`: bodies are not compressed.
    pub gzip: Option<u32>,
}

impl fmt::Debug for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointConfig")
            .field("http", &self.http)
            .field("source_arn", &self.source_arn)
            .field("gzip", &self.gzip)
            .finish_non_exhaustive()
    }
}

impl EndpointConfig {
    /// Everything for which `Endpoint::open` would refuse these settings.
    pub(crate) fn wrong(&self) -> Vec<Wrong> {
        let mut wrong = self.http.wrong();
        for name in self.http.headers.keys().filter(|name| name.to_ascii_lowercase().starts_with(RESERVED)) {
            let message = format!("the header {name} belongs to the protocol");
            wrong.push(Wrong { at: Setting::Header(name.clone()), message });
        }
        if let Err((at, message)) = self.protocol_headers() {
            wrong.push(Wrong { at, message });
        }
        wrong
    }

    fn protocol_headers(&self) -> Result<Vec<(&'static str, HeaderValue)>, (Setting, String)> {
        let mut headers = vec![
            (protocol::VERSION_HEADER, HeaderValue::from_static(protocol::VERSION)),
            ("content-type", HeaderValue::from_static(protocol::CONTENT_TYPE)),
        ];
        let arn = HeaderValue::from_str(&self.source_arn);
        let arn =
            arn.map_err(|_other| (Setting::SourceArn, "the ARN does not fit into a header".to_owned()))?;
        headers.push((protocol::SOURCE_ARN_HEADER, arn));
        if let Some(key) = &self.access_key {
            let key = HeaderValue::from_str(key);
            let mut key =
                key.map_err(|_other| (Setting::AccessKey, "the key does not fit into a header".to_owned()))?;
            key.set_sensitive(true);
            headers.push((protocol::ACCESS_KEY_HEADER, key));
        }
        if !self.common_attributes.is_empty() {
            let attributes = protocol::common_attributes(&self.common_attributes);
            let value = HeaderValue::from_str(&attributes);
            let value = value.map_err(|_other| {
                (Setting::CommonAttributes, "the attributes do not fit into a header".to_owned())
            })?;
            headers.push((protocol::COMMON_ATTRIBUTES_HEADER, value));
        }
        Ok(headers)
    }
}

/// An open endpoint.
#[derive(Debug)]
pub struct Endpoint {
    exchange: Exchange,
    url: Url,
    headers: HeaderMap,
    gzip: Option<u32>,
    underway: Underway,
    sent: Arc<Sent>,
}

impl Endpoint {
    /// Checks the settings and builds the client; touches no network.
    pub fn open(config: &EndpointConfig) -> Result<Endpoint, DeliverError> {
        let wrong = config.wrong();
        if !wrong.is_empty() {
            return Err(refused(&wrong));
        }
        let (url, mut headers) = config.http.opened()?;
        let of_protocol = config.protocol_headers();
        let of_protocol = of_protocol.map_err(|(at, message)| refused(&[Wrong { at, message }]))?;
        headers.extend(of_protocol.into_iter().map(|(name, value)| (HeaderName::from_static(name), value)));
        if config.gzip.is_some() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let exchange = Exchange::open(&config.http, &url)?;
        let (underway, sent) = (Underway::default(), Arc::default());
        Ok(Endpoint { exchange, url, headers, gzip: config.gzip, underway, sent })
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
        let id = protocol::request_id(&meta.batch_id, part.row);
        let timestamp = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        let (gzip, own) = (self.gzip, id.clone());
        let made = make_body(part.cost, move || body(&own, timestamp, &part, gzip)).await?;
        let body = made.map_err(|error| unmade(&error))?;
        let mut headers = self.headers.clone();
        let value = HeaderValue::from_str(&id);
        headers.extend(value.ok().map(|value| (HeaderName::from_static(protocol::REQUEST_ID_HEADER), value)));
        let answer = self.exchange.post(self.url.clone(), headers, body, protocol::ANSWER_BYTES_MAX).await;
        self.answered(&id, answer)
    }

    /// What an answer means. Messages begin with Firehose's code of the error.
    fn answered(&self, id: &str, answer: Result<Answer, (Silence, String)>) -> Result<(), DeliverError> {
        let answer = answer.map_err(|(silence, detail)| {
            DeliverError::later(
                match silence {
                    Silence::Late => "HttpEndpoint.RequestTimeout: the endpoint did not answer in time",
                    Silence::Unreachable => "HttpEndpoint.ConnectionFailed: the endpoint cannot be reached",
                    Silence::CutOff => "HttpEndpoint.ConnectionFailed: the request was cut off",
                },
                detail,
            )
        })?;
        let detail = format!("{}: {}", self.exchange.place(), answer.shown());
        if answer.is_too_long {
            let max = protocol::ANSWER_BYTES_MAX;
            let message = format!("HttpEndpoint.ResponseTooLarge: the answer has more than {max} bytes");
            return Err(DeliverError::later(message, detail));
        }
        if answer.status == StatusCode::OK {
            let fits = protocol::check(
                id,
                answer.header(CONTENT_TYPE.as_str()),
                answer.header(CONTENT_ENCODING.as_str()),
                &answer.body,
            );
            return fits.map_err(|unfit| {
                DeliverError::later(format!("HttpEndpoint.InvalidResponseFromDestination: {unfit}"), detail)
            });
        }
        let mut message =
            format!("HttpEndpoint.DestinationException: the endpoint answered {}", answer.status.as_u16());
        if let Ok(Refusal { error_message: Some(told) }) = serde_json::from_slice(&answer.body) {
            message.push_str(": ");
            message.push_str(&shown(&told));
        }
        let (fault, retry) = match answer.status {
            StatusCode::PAYLOAD_TOO_LARGE => (Fault::Client, Retry::Never),
            _ => (Fault::Destination, Retry::Later { after: answer.retry_after() }),
        };
        Err(DeliverError::new(fault, retry, message, detail))
    }
}

/// What an endpoint says of a request that it does not take.
#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "errorMessage")]
    error_message: Option<String>,
}

fn body(id: &str, timestamp: u64, part: &Part, gzip: Option<u32>) -> io::Result<Bytes> {
    let mut body = Vec::with_capacity(protocol::body_bytes(part.cost));
    protocol::write_body(&mut body, id, timestamp, part.iter());
    let Some(level) = gzip else { return Ok(body.into()) };
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    packed.write_all(&body)?;
    Ok(packed.finish()?.into())
}

#[cfg(test)]
mod tests;
