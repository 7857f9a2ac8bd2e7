//! S3 and what speaks its protocol.
//!
//! Every object is created with `If-None-Match: *` and carries batch id, digest and record count as
//! metadata. "Exists" is success only when what is there carries ours. Endpoints that ignore the
//! condition are found by `probe`; with them, and before it is known, each delivery looks before it writes. The SDK's own
//! retries are off: `RetryPolicy` rules. Bodies travel as bytes in memory, one part at a time and a
//! bounded number of parts at once, so that their signature covers them.
//!
//! One TLS stack: rustls with ring, the same as the HTTP destination's.

mod answer;
mod files;
mod multipart;
mod object;
mod probe;
mod put;
#[cfg(test)]
mod tests;

pub use object::{ObjectRead, S3Object};

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

use crate::batch_id::BatchOwner;
use crate::destination::{Capabilities, Setting, Wrong, checked_url, refused};
use crate::fault::{DeliverError, Fault, Retry};
use crate::object::{Delivered, Object, ObjectMeta};

/// Smallest part that S3 takes (the last one aside).
pub(crate) const PART_BYTES_MIN: u64 = 5 << 20;
/// Most parts that S3 takes.
const PARTS_MAX: u64 = 10_000;
/// Largest body that goes in one piece, in bytes: it is held in memory.
pub(crate) const MULTIPART_THRESHOLD_MAX: u64 = 64 << 20;
/// Region where none is named anywhere: endpoints that are not AWS mostly take this one.
const DEFAULT_REGION: &str = "us-east-1";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where credentials come from.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Environment, profile, web identity, ECS, IMDS: what the SDK looks through.
    Chain,
    Static {
        access_key_id: String,
        secret_access_key: String,
        session_token: Option<String>,
    },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credentials::Chain => "Chain",
            Credentials::Static { .. } => "Static(..)",
        })
    }
}

/// Checked settings of an S3 destination.
#[derive(Clone, Debug)]
pub struct S3Config {
    pub bucket: String,
    /// Before every object name, as it is: mostly "" or something that ends with "/".
    pub prefix: String,
    /// `None` = AWS.
    pub endpoint: Option<String>,
    /// `None` = from the environment or profile, else us-east-1.
    pub region: Option<String>,
    pub path_style: bool,
    pub credentials: Credentials,
    /// Bodies of at least this many bytes go in parts; clamped to 64 MiB.
    pub multipart_threshold: u64,
    /// Size of a part in bytes; raised to 5 MiB, and where an object would need too many.
    pub part_bytes: u64,
    /// Parts of one object in flight.
    pub part_concurrency: usize,
    /// Of one request.
    pub timeout: Duration,
    /// Of all objects; `None` = that of the object's format.
    pub content_type: Option<&'static str>,
}

impl S3Config {
    /// Settings with the defaults: AWS, virtual-host style, usual credentials, 16 MiB threshold, 8 MiB parts.
    pub fn new(bucket: impl Into<String>) -> S3Config {
        S3Config {
            bucket: bucket.into(),
            prefix: String::new(),
            endpoint: None,
            region: None,
            path_style: false,
            credentials: Credentials::Chain,
            multipart_threshold: 16 << 20,
            part_bytes: 8 << 20,
            part_concurrency: 4,
            timeout: Duration::from_secs(60),
            content_type: None,
        }
    }

    /// Everything for which no request could ever succeed and that shows without one.
    pub(crate) fn wrong(&self) -> Vec<Wrong> {
        let endpoint = self.endpoint.as_deref().map(checked_url);
        let wrong = endpoint.and_then(Result::err).map(|message| Wrong { at: Setting::Endpoint, message });
        wrong.into_iter().collect()
    }
}

/// Whether the endpoint honours `If-None-Match: *`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// Not known yet: the endpoint was down when it was asked.
    Unknown,
    Honoured,
    /// It takes the header and writes all the same.
    Ignored,
    /// It answers "not implemented": the header must not be sent.
    Refused,
}

/// An atomic `Condition`.
#[derive(Debug, Default)]
struct ConditionCell(AtomicU8);

impl ConditionCell {
    fn get(&self) -> Condition {
        match self.0.load(Ordering::Relaxed) {
            0 => Condition::Unknown,
            1 => Condition::Honoured,
            2 => Condition::Ignored,
            _ => Condition::Refused,
        }
    }

    fn set(&self, condition: Condition) {
        self.0.store(condition as u8, Ordering::Relaxed);
    }
}

/// An open S3 destination.
#[derive(Debug)]
pub struct S3 {
    client: Client,
    config: S3Config,
    /// Of single requests.
    put_condition: ConditionCell,
    /// Of completed uploads.
    complete_condition: ConditionCell,
}

impl S3 {
    /// How an object is told what it is.
    fn content_type<'a>(&self, meta: &'a ObjectMeta) -> &'a str {
        self.config.content_type.unwrap_or(&meta.content_type)
    }

    /// Builds the client. Reads environment and profile files; touches no network.
    pub async fn open(config: &S3Config) -> Result<S3, DeliverError> {
        let wrong = config.wrong();
        if !wrong.is_empty() {
            return Err(refused(&wrong));
        }
        let http = Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(config.timeout)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(region) = &config.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Credentials::Static { access_key_id, secret_access_key, session_token } = &config.credentials {
            loader = loader.credentials_provider(aws_credential_types::Credentials::new(
                access_key_id.clone(),
                secret_access_key.clone(),
                session_token.clone(),
                None,
                "wasmill config",
            ));
        }
        let shared = loader.load().await;
        let mut builder = aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(config.path_style)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if shared.region().is_none() {
            builder = builder.region(Region::new(DEFAULT_REGION));
        }
        if let Some(endpoint) = &config.endpoint {
            // Other endpoints often refuse the newer checksum headers; the signature covers the body.
            builder = builder
                .endpoint_url(endpoint.clone())
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        }
        let config = S3Config {
            multipart_threshold: config.multipart_threshold.min(MULTIPART_THRESHOLD_MAX),
            part_bytes: config.part_bytes.clamp(PART_BYTES_MIN, MULTIPART_THRESHOLD_MAX),
            part_concurrency: config.part_concurrency.clamp(1, 64),
            ..config.clone()
        };
        Ok(S3 {
            client: Client::from_conf(builder.build()),
            config,
            put_condition: ConditionCell::default(),
            complete_condition: ConditionCell::default(),
        })
    }

    pub(crate) async fn probe(&self, owner: &BatchOwner) -> Result<Capabilities, DeliverError> {
        probe::probe(self, owner).await
    }

    pub(crate) async fn deliver(&self, object: &Object<'_>) -> Result<Delivered, DeliverError> {
        if object.meta.bytes >= self.config.multipart_threshold && object.meta.bytes > 0 {
            multipart::deliver(self, object).await
        } else {
            put::deliver(self, object).await
        }
    }

    /// Creates an object that is nobody's batch, but goes with one.
    pub(crate) async fn create(
        &self,
        meta: &ObjectMeta,
        body: bytes::Bytes,
    ) -> Result<Delivered, DeliverError> {
        put::create(self, meta, body).await
    }

    /// Whether the object is there, and ours.
    pub(crate) async fn has(&self, meta: &ObjectMeta) -> Result<bool, DeliverError> {
        Ok(put::look(self, meta).await? == put::Found::Ours)
    }

    /// By which others of AWS know an object.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("s3://{}/{}", self.config.bucket, self.key(name))
    }

    /// Aborts unfinished uploads under our prefix whose key `owns` (see `BatchOwner`): what a run
    /// that crashed left behind. Call it before the first delivery of the output; gives how many.
    pub async fn abort_orphans(&self, owns: impl Fn(&str) -> bool) -> Result<u64, DeliverError> {
        multipart::abort_orphans(self, &self.config.prefix, owns).await
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.config.prefix)
    }
}

/// The staged body does not fit its metadata.
fn body_mismatch(name: &str) -> DeliverError {
    let message = "the staged body has another length than its metadata";
    DeliverError::new(Fault::Host, Retry::Never, message, name)
}
