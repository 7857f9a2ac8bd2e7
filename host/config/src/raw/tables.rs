//! The keys of outputs that are tables.

use schemars::JsonSchema;
use serde::Deserialize;

use super::output::{Batching, HeaderValue, HttpPlace};
use super::{Parquet, SecretSource};

/// A table in the format of Apache Iceberg.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct IcebergOutput {
    /// The catalog that has the table.
    pub(crate) catalog: Catalog,
    /// Namespace of the table; with dots between its steps.
    #[schemars(extend("examples" = ["analytics"]))]
    pub(crate) namespace: String,
    /// Name of the table.
    pub(crate) table: String,
    /// Whether a table that is missing is made, with the columns of the first batch, and its namespace.
    #[serde(default)]
    pub(crate) create: bool,
    /// The directory that the table's files are below, where they are files and no objects in S3; it is created if missing at the start. Relative to this file.
    pub(crate) path: Option<String>,
    /// URL of the table's S3. By default as the catalog says, else AWS.
    #[schemars(extend("format" = "url", "examples" = ["http://127.0.0.1:9000"]))]
    pub(crate) endpoint: Option<String>,
    /// Region of the table's S3. By default as the catalog says, else from the environment.
    pub(crate) region: Option<String>,
    /// Put the bucket into the path instead of the host name; most stores other than AWS want it.
    #[serde(default)]
    pub(crate) path_style: bool,
    /// How rows become columns.
    #[serde(default)]
    pub(crate) parquet: Option<Parquet>,
    #[serde(flatten)]
    pub(crate) batching: Batching,
}

/// A catalog of tables.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[schemars(title = "catalog", inline)]
pub(crate) enum Catalog {
    /// One with the REST interface of Iceberg. `url` is where it is, without `/v1`.
    #[schemars(title = "rest catalog")]
    Rest(RestCatalog),
}

/// A catalog with the REST interface of Iceberg.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct RestCatalog {
    #[serde(flatten)]
    pub(crate) place: HttpPlace,
    /// Which of its warehouses.
    pub(crate) warehouse: Option<String>,
    /// A token that is sent with every request.
    pub(crate) token: Option<HeaderValue>,
    /// `ID:SECRET` of a client, for which a token is asked for (OAuth2, client credentials).
    pub(crate) credential: Option<SecretSource>,
    /// Where that token is asked for. By default at the catalog.
    #[schemars(extend("format" = "url"))]
    pub(crate) oauth2_url: Option<String>,
    /// Scope of that token. By default `catalog`.
    pub(crate) scope: Option<String>,
}
