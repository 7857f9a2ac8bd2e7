//! Destinations that are tables.

use std::path::PathBuf;

use super::HttpPost;
use crate::secret::Secret;

/// A table in the format of Apache Iceberg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iceberg {
    pub catalog: RestCatalog,
    /// Its steps, the outermost first.
    pub namespace: Vec<String>,
    pub table: String,
    /// Whether a table that is missing is made.
    pub create: bool,
    /// What files of the table are below, where they are files.
    pub path: Option<PathBuf>,
    /// Of S3; `None`: as the catalog says.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub path_style: bool,
}

/// A catalog with the REST interface of Iceberg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestCatalog {
    pub post: HttpPost,
    pub warehouse: Option<String>,
    pub token: Option<Secret>,
    /// `ID:SECRET`.
    pub credential: Option<Secret>,
    pub oauth2_url: Option<String>,
    pub scope: Option<String>,
}
