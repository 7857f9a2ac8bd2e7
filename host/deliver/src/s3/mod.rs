//! S3.
use crate::destination::Capabilities;
use crate::fault::DeliverError;
use crate::object::{Delivered, Object};

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
    /// Before every object name; "" or ends with "/".
    pub prefix: String,
    /// `None` = AWS.
    pub endpoint: Option<String>,
    /// `None` = from the environment or profile, else us-east-1.
    pub region: Option<String>,
    pub path_style: bool,
    pub credentials: Credentials,
    /// Bodies of at least this many bytes go in parts.
    pub multipart_threshold: u64,
    /// Size of a part in bytes; raised where an object would need too many.
    pub part_bytes: u64,
    /// Parts of one object in flight.
    pub part_concurrency: usize,
    /// Of one request.
    pub timeout: std::time::Duration,
}

#[derive(Debug)]
pub struct S3 {}

impl S3 {
    pub(crate) async fn open(_config: &S3Config) -> Result<S3, DeliverError> {
        unimplemented!()
    }
    pub(crate) async fn probe(&self) -> Result<Capabilities, DeliverError> {
        unimplemented!()
    }
    pub(crate) async fn deliver(&self, _object: &Object<'_>) -> Result<Delivered, DeliverError> {
        unimplemented!()
    }
}
