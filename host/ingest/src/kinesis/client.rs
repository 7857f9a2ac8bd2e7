//! Kinesis Data Streams as AWS's SDK speaks to it: what is asked of it, and what its refusals mean.
//!
//! The SDK's own retries are off: who reads decides when to ask again.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Record, Shard, ShardIteratorType};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

use super::saved::identity;
use super::{KinesisError, KinesisOptions};

/// Region at an endpoint of one's own where none is named anywhere: endpoints that are not AWS mostly take this one.
const DEFAULT_REGION: &str = "us-east-1";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Shards that are listed; positions are kept for fewer.
const LISTED_MAX: usize = 20_000;

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("{0}")]
    Throttled(String),
    /// The iterator is older than five minutes.
    #[error("{0}")]
    Expired(String),
    /// The stream or the shard is not there.
    #[error("{0}")]
    Gone(String),
    #[error("{0}")]
    Other(String),
}

/// Where reading a shard begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Oldest,
    Latest,
    /// Milliseconds since the Unix epoch.
    Since(i64),
    /// Behind the record with this sequence number.
    Behind(String),
}

/// A shard as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: String,
    /// What it was split from or merged of.
    pub(super) parents: Vec<String>,
    /// Nothing is put into it any more.
    pub(super) closed: bool,
}

/// One answer to `GetRecords`.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) records: Vec<Record>,
    /// `None`: the shard was read to its end.
    pub(super) next: Option<String>,
    pub(super) behind_ms: u64,
}

/// One stream of Kinesis.
#[derive(Clone, Debug)]
pub(super) struct Client {
    sdk: aws_sdk_kinesis::Client,
    /// Where requests go, for errors.
    place: Arc<str>,
    name: Option<String>,
    arn: Option<String>,
}

impl Client {
    /// Reads environment and profile files; touches no network.
    ///
    /// # Errors
    /// No region: taken for another one than it is in, a stream would not be there, or be another one of its name.
    pub(super) async fn open(options: &KinesisOptions) -> Result<Client, KinesisError> {
        let http = Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(REQUEST_TIMEOUT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        let shared = loader.load().await;
        let mut builder = aws_sdk_kinesis::config::Builder::from(&shared);
        let place = match (&options.endpoint, shared.region()) {
            (Some(endpoint), region) => {
                if region.is_none() {
                    builder = builder.region(Region::new(DEFAULT_REGION));
                }
                builder = builder.endpoint_url(endpoint.clone());
                without_user(endpoint)
            }
            (None, Some(region)) => format!("kinesis.{region}"),
            (None, None) => return Err(KinesisError::NoRegion { stream: options.stream.clone() }),
        };
        let is_arn = options.stream.starts_with("arn:");
        let stream = Some(options.stream.clone());
        let (name, arn) = if is_arn { (None, stream) } else { (stream, None) };
        Ok(Client {
            sdk: aws_sdk_kinesis::Client::from_conf(builder.build()),
            place: place.into(),
            name,
            arn,
        })
    }

    /// What tells the stream apart from another one of its name; the role of a Firehose stream is allowed to ask for it.
    pub(super) async fn identity(&self) -> Result<u64, Refused> {
        let ask = self.sdk.describe_stream().limit(1);
        let ask = ask.set_stream_name(self.name.clone()).set_stream_arn(self.arn.clone());
        let answer = ask.send().await.map_err(|error| self.refused("describe the stream", error))?;
        let Some(described) = answer.stream_description else {
            return Err(Refused::Other("describe the stream: the answer has no description".to_owned()));
        };
        let created = described.stream_creation_timestamp.to_millis().unwrap_or_default();
        Ok(identity(&described.stream_arn, created))
    }

    /// Every shard that still has records or takes some.
    pub(super) async fn shards(&self) -> Result<Vec<Listed>, Refused> {
        let mut listed: Vec<Listed> = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut ask = self.sdk.list_shards();
            ask = match token {
                // The token names the stream.
                Some(token) => ask.next_token(token),
                None => ask.set_stream_name(self.name.clone()).set_stream_arn(self.arn.clone()),
            };
            let answer = ask.send().await.map_err(|error| self.refused("list shards", error))?;
            listed.extend(answer.shards.into_iter().flatten().map(Listed::from));
            if listed.len() > LISTED_MAX {
                return Err(Refused::Other(format!("list shards: there are more than {LISTED_MAX}")));
            }
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() && listed.is_empty() {
                // A stream has at least one. Taken for true, every position would be forgotten.
                return Err(Refused::Other("list shards: the answer has none".to_owned()));
            }
            if token.is_none() {
                return Ok(listed);
            }
        }
    }

    /// What follows an iterator, or a place where there is none yet.
    pub(super) async fn read(
        &self,
        shard: &str,
        place: &Place,
        iterator: Option<String>,
        limit: i32,
    ) -> Result<Page, Refused> {
        let iterator = match iterator {
            Some(iterator) => iterator,
            None => match self.iterator(shard, place).await? {
                Some(iterator) => iterator,
                None => return Ok(Page { records: Vec::new(), next: None, behind_ms: 0 }),
            },
        };
        let ask = self.sdk.get_records().shard_iterator(iterator).limit(limit);
        let ask = ask.set_stream_arn(self.arn.clone());
        let answer = ask.send().await.map_err(|error| self.refused("get records", error))?;
        let next = answer.next_shard_iterator.filter(|next| !next.is_empty());
        // At the end of a shard there is no iterator, but every answer says how far it is behind.
        let Some(behind_ms) = answer.millis_behind_latest.or(next.as_ref().map(|_| 0)) else {
            let missing = "get records: the answer has neither NextShardIterator nor MillisBehindLatest";
            return Err(Refused::Other(missing.to_owned()));
        };
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(other) = answer.records.iter().find(|record| !is_number(&record.sequence_number)) {
            // It would be kept as a position that nobody can read again.
            let shown: String = other.sequence_number.chars().take(40).collect();
            return Err(Refused::Other(format!("get records: the sequence number {shown:?} is no number")));
        }
        Ok(Page { records: answer.records, next, behind_ms: u64::try_from(behind_ms).unwrap_or_default() })
    }

    /// `None`: the shard is closed, and nothing of it follows.
    async fn iterator(&self, shard: &str, place: &Place) -> Result<Option<String>, Refused> {
        let ask = self.sdk.get_shard_iterator().shard_id(shard);
        let ask = ask.set_stream_name(self.name.clone()).set_stream_arn(self.arn.clone());
        let ask = match place {
            Place::Oldest => ask.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Place::Latest => ask.shard_iterator_type(ShardIteratorType::Latest),
            Place::Since(ms) => {
                ask.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(*ms))
            }
            Place::Behind(sequence) => ask
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .starting_sequence_number(sequence),
        };
        let answer = ask.send().await.map_err(|error| self.refused("get an iterator", error))?;
        Ok(answer.shard_iterator.filter(|iterator| !iterator.is_empty()))
    }
}

impl From<Shard> for Listed {
    fn from(shard: Shard) -> Listed {
        let range = shard.sequence_number_range;
        Listed {
            closed: range.is_some_and(|range| range.ending_sequence_number.is_some()),
            parents: shard.parent_shard_id.into_iter().chain(shard.adjacent_parent_shard_id).collect(),
            id: shard.shard_id,
        }
    }
}

/// A URL without the user and password that it may have.
fn without_user(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => url.rsplit_once('@').map_or(url, |(_, rest)| rest).to_owned(),
    }
}

impl Client {
    /// Reads an error of the SDK by its code, as the API Reference of Kinesis Data Streams names them.
    fn refused<E>(&self, what: &str, error: SdkError<E, HttpResponse>) -> Refused
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| format!(" {}", response.status().as_u16()));
        let asked = format!("{what}: {}{}", self.place, status.as_deref().unwrap_or_default());
        let Some(code) = error.code() else {
            let mut text = format!("{asked}: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(": ");
                text.push_str(&error.to_string());
                cause = error.source();
            }
            return Refused::Other(text);
        };
        let message = error.message().unwrap_or_default();
        let text = format!("{asked} {code}: {message}");
        match code {
            "ProvisionedThroughputExceededException"
            | "LimitExceededException"
            | "KMSThrottlingException"
            | "ThrottlingException" => Refused::Throttled(text),
            "ExpiredIteratorException" => Refused::Expired(text),
            "ResourceNotFoundException" => Refused::Gone(text),
            _ => Refused::Other(text),
        }
    }
}
