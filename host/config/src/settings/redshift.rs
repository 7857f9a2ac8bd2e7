//! Tables of Redshift.

use std::time::Duration;

use super::S3;
use crate::authority::HttpReach;
use crate::secret::Secret;

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    Require,
    VerifyFull,
}

/// By what Redshift may read objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyAuthorization {
    DefaultRole,
    /// ARN.
    Role(String),
    /// What stands behind `CREDENTIALS`.
    Credentials(Secret),
}

/// Objects in a bucket that are loaded into a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redshift {
    pub s3: S3,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Secret,
    pub tls: TlsMode,
    /// PEM of the authorities that are trusted; `None`: those of the machine.
    pub ca: Option<Secret>,
    /// As written; `deliver` reads it.
    pub table: String,
    /// The same.
    pub columns: Vec<String>,
    /// Whole, with what follows from format and compression.
    pub copy_options: String,
    pub authorization: CopyAuthorization,
    pub batches_table: String,
    pub batches_kept: Duration,
    /// Of one statement.
    pub timeout: Duration,
    /// Where it may connect to, whatever the host says; `None`: everywhere.
    pub reach: Option<HttpReach>,
}
