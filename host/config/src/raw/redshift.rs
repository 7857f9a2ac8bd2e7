//! The keys of a Redshift output.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::default;
use super::output::{Batching, FirehoseNames, HeaderValue, S3Place};
use crate::units::Span;

/// A table of Amazon Redshift.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct RedshiftOutput {
    #[serde(flatten)]
    pub(crate) place: S3Place,
    /// Name of an object; the same names as in a directory output. Manifests are beside, in `manifests/` and `errors/manifests/`.
    #[serde(default = "default::object")]
    pub(crate) object: String,
    /// Names of objects as Amazon Data Firehose gives them, in the place of `object`.
    #[serde(default)]
    pub(crate) firehose: Option<FirehoseNames>,
    /// Name or address of the cluster or workgroup.
    #[schemars(extend("examples" = ["warehouse.abc123.eu-west-1.redshift.amazonaws.com"]))]
    pub(crate) host: String,
    /// Port of the cluster.
    #[schemars(range(min = 1))]
    #[serde(default = "default::redshift_port")]
    pub(crate) port: u16,
    /// Database that is connected to.
    pub(crate) database: String,
    /// Who logs in; may insert into the table, and make or write the table of batches.
    pub(crate) user: String,
    /// Password of the user.
    pub(crate) password: HeaderValue,
    /// How the connection is protected.
    #[serde(default)]
    pub(crate) tls: TlsMode,
    /// Certificates (PEM) of authorities that the server's certificate is checked with, in place of those of the machine.
    pub(crate) ca: Option<HeaderValue>,
    /// Table that is loaded: `table`, `schema.table` or `database.schema.table`, as SQL reads names.
    pub(crate) table: String,
    /// Columns that are loaded, in the order in which they stand in records. By default all.
    #[serde(default)]
    pub(crate) columns: Vec<String>,
    /// Options of COPY, as Redshift documents them, without `;`. By default `JSON 'auto'` where the format is ndjson. What tells the compression is added.
    #[serde(default)]
    #[schemars(extend("examples" = ["CSV TRUNCATECOLUMNS"]))]
    pub(crate) copy_options: String,
    /// Role by which Redshift reads the objects: its ARN, or `default` for that of the cluster.
    #[schemars(extend("examples" = ["arn:aws:iam::123456789012:role/redshift-reads-lake"]))]
    pub(crate) iam_role: Option<String>,
    /// In place of a role, what stands behind `CREDENTIALS` in a COPY.
    pub(crate) credentials: Option<HeaderValue>,
    /// Table in which each batch that was loaded is noted, so that it is loaded once; it is made where it is missing. Outputs with tables of their own load beside each other.
    #[serde(default = "default::batches_table")]
    pub(crate) batches_table: String,
    /// How long a batch is remembered there; longer than it is tried (`retry`).
    #[serde(default = "default::batches_kept")]
    pub(crate) batches_kept: Span,
    /// Longest time of one statement, COPY included.
    #[serde(default = "default::statement_timeout")]
    pub(crate) timeout: Span,
    #[serde(flatten)]
    pub(crate) batching: Batching,
}

/// How a connection is protected.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TlsMode {
    /// By a certificate of an authority that is trusted, for this host.
    #[default]
    VerifyFull,
    /// By whatever certificate the server has: nobody can listen, but anybody could answer.
    Require,
    /// Not at all.
    Disable,
}
