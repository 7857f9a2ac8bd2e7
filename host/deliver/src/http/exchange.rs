//! Requests whose answers are read, up to a bound: what destinations with a protocol of their own send.
//!
//! Redirects are not followed, nothing is decompressed, and of what goes wrong the URL is left out: it may hold tokens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, Response, StatusCode, Url, redirect};

use super::reach::Guide;
use super::{CONNECT_TIMEOUT, HttpConfig};
use crate::fault::{DeliverError, Fault, Retry};
use crate::retry_after::retry_after;

/// Of a text of the endpoint's, in characters: so much is shown.
const SHOWN_CHARS_MAX: usize = 512;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    Late,
    Unreachable,
    CutOff,
}

impl Silence {
    pub(crate) fn of(error: &reqwest::Error) -> Silence {
        match error {
            error if error.is_connect() => Silence::Unreachable,
            error if error.is_timeout() => Silence::Late,
            _ => Silence::CutOff,
        }
    }
}

/// A client for requests to one URL; touches no network.
pub(crate) fn client(config: &HttpConfig, url: &Url) -> Result<Client, DeliverError> {
    let mut client = Client::builder();
    if let Some(reach) = config.reach.clone() {
        // A proxy would look names up by itself.
        let port = url.port_or_known_default().unwrap_or(0);
        client = client.no_proxy().dns_resolver(Arc::new(Guide { reach, port, look_ups: None }));
    }
    if let Some(ca) = &config.ca {
        client = trusting(
            client,
            authorities(ca)
                .map_err(|message| DeliverError::new(Fault::Client, Retry::Never, message, String::new()))?,
        );
    }
    client
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(config.timeout)
        .user_agent(concat!("wasmill/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| {
            DeliverError::new(
                Fault::Host,
                Retry::Later { after: None },
                "the HTTP client cannot be made",
                error.without_url().to_string(),
            )
        })
}

/// The certificates of a PEM, each of which a client can trust.
pub(super) fn authorities(pem: &str) -> Result<Vec<Certificate>, String> {
    let found = Certificate::from_pem_bundle(pem.as_bytes()).unwrap_or_default();
    if found.is_empty() {
        return Err("\"ca\" has no certificate, expected PEM".to_owned());
    }
    match trusting(Client::builder(), found.clone()).build() {
        Ok(_works) => Ok(found),
        Err(_unfit) => Err("\"ca\" has a certificate that cannot be read".to_owned()),
    }
}

/// Nobody but these.
fn trusting(client: ClientBuilder, authorities: Vec<Certificate>) -> ClientBuilder {
    authorities.into_iter().fold(client.tls_built_in_root_certs(false), ClientBuilder::add_root_certificate)
}

/// An error with its causes, for the operator.
pub(super) fn detail(place: &str, error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut detail = format!("{place}: {error}");
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        detail.push_str(": ");
        detail.push_str(&error.to_string());
        cause = error.source();
    }
    detail
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// It has more bytes than were to be read.
    pub(crate) is_too_long: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The endpoint's own wish.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.header(RETRY_AFTER.as_str()).and_then(retry_after)
    }

    /// The start of the body as text, for people.
    pub(crate) fn shown(&self) -> String {
        shown(&String::from_utf8_lossy(&self.body))
    }
}

/// The start of a text that is not ours, for people.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect::<String>().escape_debug().to_string()
}

/// Sends to one host.
pub(crate) struct Exchange {
    client: Client,
    /// Scheme, host and port, for the operator.
    place: String,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Exchange {
    /// For requests to the host of this URL.
    pub(crate) fn open(config: &HttpConfig, url: &Url) -> Result<Exchange, DeliverError> {
        Ok(Exchange { client: client(config, url)?, place: url.origin().ascii_serialization() })
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Sends a request and reads at most `answer_bytes` of its answer. An error has the details for the operator.
    pub(crate) async fn post(
        &self,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
        answer_bytes: usize,
    ) -> Result<Answer, (Silence, String)> {
        let silent = |error: reqwest::Error| (Silence::of(&error), detail(&self.place, error));
        let answer = self.client.post(url).headers(headers).body(body).send().await.map_err(silent)?;
        let status = answer.status();
        let headers = answer.headers().clone();
        let (body, is_too_long) = read(answer, answer_bytes).await.map_err(silent)?;
        Ok(Answer { status, headers, body, is_too_long })
    }
}

async fn read(mut answer: Response, max: usize) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        let room = max.saturating_sub(body.len());
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if chunk.len() > room {
            return Ok((body, true));
        }
    }
    Ok((body, false))
}
