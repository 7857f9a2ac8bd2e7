//! The keys of the API of Amazon Data Firehose, and of what failed in its manner.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{FirehoseNames, TableSchema};

mod default {
    pub(super) fn region() -> String {
        "us-east-1".to_owned()
    }
    pub(super) fn account() -> String {
        "000000000000".to_owned()
    }
    pub(super) fn latest() -> String {
        "LATEST".to_owned()
    }
}

/// The API of Amazon Data Firehose, at `POST /` of the listener: what it says of streams, and where the buckets are that they name.
#[derive(Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(title = "firehose")]
pub(crate) struct Firehose {
    /// Region in the ARNs of streams, and of the buckets.
    #[schemars(extend("default" = default::region()))]
    pub(crate) region: String,
    /// Account in the ARNs of streams: 12 digits.
    #[schemars(extend("default" = default::account()))]
    pub(crate) account: String,
    /// URL of a store other than AWS, in which the buckets are. A tenant's `policy` lists them with the same one.
    #[schemars(extend("format" = "url", "examples" = ["http://127.0.0.1:9000"]))]
    pub(crate) endpoint: Option<String>,
    /// Put the bucket into the path instead of the host name; most stores other than AWS want it.
    pub(crate) path_style: bool,
    /// URL of a service other than AWS, in which the streams of Kinesis are that delivery streams read. A tenant's `policy` lists them with the same one.
    #[schemars(extend("format" = "url", "examples" = ["http://127.0.0.1:4568"]))]
    pub(crate) kinesis_endpoint: Option<String>,
    /// Whether `data_dir` is on an encrypted disk. Only then is a stream taken that is to be encrypted at rest: the host itself encrypts nothing.
    pub(crate) encrypted_disk: bool,
    /// The columns of the tables that `DataFormatConversionConfiguration` names, by `DATABASE.TABLE`: they stand for the tables of AWS Glue. Streams take them when they are made or updated.
    #[schemars(extend("examples" = [{ "lake.clicks": "id: int64 required, at: timestamp(ms, utc)" }]))]
    pub(crate) schemas: BTreeMap<String, TableSchema>,
}

impl Default for Firehose {
    fn default() -> Firehose {
        Firehose {
            region: default::region(),
            account: default::account(),
            endpoint: None,
            path_style: false,
            kinesis_endpoint: None,
            encrypted_disk: false,
            schemas: BTreeMap::new(),
        }
    }
}

/// Names and lines of what failed, as Amazon Data Firehose has them.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct FirehoseErrors {
    #[serde(flatten)]
    pub(crate) names: FirehoseNames,
    /// ARNs of the Lambda functions that transforms stand for, by the name of the transform: the `lambdaArn` of records that they failed.
    #[serde(default)]
    #[schemars(extend("examples" = [{ "enrich": "arn:aws:lambda:us-east-1:000000000000:function:enrich" }]))]
    pub(crate) functions: BTreeMap<String, String>,
    /// The table whose columns records are converted into: the `dataCatalogTable` of records that do not fit them.
    pub(crate) table: Option<CatalogTable>,
}

/// A table as AWS Glue knows it.
#[derive(Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct CatalogTable {
    /// Catalog; in AWS the account's number.
    pub(crate) catalog: Option<String>,
    /// Database.
    pub(crate) database: String,
    /// Table.
    pub(crate) table: String,
    /// Region of the catalog.
    pub(crate) region: Option<String>,
    /// Version of the table.
    #[serde(default = "default::latest")]
    pub(crate) version: String,
}
