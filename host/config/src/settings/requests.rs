//! Destinations that requests are sent to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::authority::HttpReach;
use crate::secret::{Secret, masked_url};

/// Where requests go, and with what.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpPost {
    /// May hold secrets: [`Destination::shown`](super::Destination::shown).
    pub url: String,
    /// Values may be secrets, so all are held as such.
    pub headers: Vec<(String, Secret)>,
    /// PEM of the authorities that are trusted; `None`: those of the machine.
    pub ca: Option<Secret>,
    /// Of one request.
    pub timeout: Duration,
    /// Where it may go, whatever the URL says; `None`: everywhere.
    pub reach: Option<HttpReach>,
}

impl fmt::Debug for HttpPost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPost")
            .field("url", &masked_url(&self.url))
            .field("headers", &self.headers)
            .field("timeout", &self.timeout)
            .field("reach", &self.reach)
            .finish()
    }
}

/// An endpoint that is delivered to as Amazon Data Firehose does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub post: HttpPost,
    /// `None`: as the Firehose API names the stream.
    pub source_arn: Option<String>,
    pub access_key: Option<Secret>,
    /// Of all records.
    pub common_attributes: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplunkEndpoint {
    Event,
    Raw,
}

/// An HTTP event collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splunk {
    pub post: HttpPost,
    pub endpoint: SplunkEndpoint,
    pub token: Secret,
    pub acknowledged_within: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    None,
    Hour,
    Day,
    Week,
    Month,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Index,
    Create,
}

/// A cluster with a `_bulk` interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSearch {
    pub post: HttpPost,
    pub index: String,
    pub rotation: Rotation,
    pub action: Action,
    /// Whether documents have ids made of batch and row.
    pub document_ids: bool,
}
