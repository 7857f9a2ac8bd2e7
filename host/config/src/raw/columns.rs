//! The keys of columnar formats, and of what tables are called in the Firehose API.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Size;

mod default {
    use crate::units::Size;

    pub(super) fn row_group() -> Size {
        Size(128 << 20)
    }
    pub(super) fn page() -> Size {
        Size(1 << 20)
    }
    pub(super) fn yes() -> bool {
        true
    }
}

/// How rows become columns, where `format` is `"parquet"`. One of `schema`, `schema_file` and `infer` says which columns there are.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(crate) struct Parquet {
    /// The columns: `NAME: TYPE` or `NAME: TYPE required`, with commas between.
    #[schemars(extend("examples" = ["id: int64 required, at: timestamp(ms, utc), tags: list<string>"]))]
    pub(crate) schema: Option<String>,
    /// A file with such a text, which is read with the configuration. Relative to this file; only for streams of this file.
    pub(crate) schema_file: Option<String>,
    /// Take the columns from the rows of the first batch, and keep them from then on.
    #[serde(default)]
    pub(crate) infer: bool,
    /// Decoded bytes from which a row group is closed: 64KiB to 1GiB.
    #[serde(default = "default::row_group")]
    pub(crate) row_group: Size,
    /// Encoded bytes, before compression, from which a page is closed: 4KiB to 64MiB.
    #[serde(default = "default::page")]
    pub(crate) page: Size,
    /// Version of the writer: of pages and encodings.
    #[serde(default)]
    pub(crate) version: ParquetVersion,
    /// Whether the key `ClientIP` fills the column `clientip`, and the other way round.
    #[serde(default = "default::yes")]
    pub(crate) case_insensitive: bool,
    /// Whether the key `client.ip` fills the column `client_ip`.
    #[serde(default)]
    pub(crate) dots_to_underscores: bool,
    /// JSON keys by the column that they fill, where that is not the column's name.
    #[serde(default)]
    pub(crate) keys: BTreeMap<String, String>,
    /// Patterns of Joda-Time in which timestamps are read, in turn; `millis` for milliseconds since 1970; none for `yyyy-MM-dd HH:mm:ss[.f]`. By default ISO 8601, seconds or milliseconds since 1970.
    #[schemars(extend("examples" = [["yyyy-MM-dd'T'HH:mm:ss.SSS", "millis"]]))]
    pub(crate) timestamps: Option<Vec<String>>,
}

/// Version of the writer of Parquet.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ParquetVersion {
    /// Every reader knows it.
    #[default]
    V1,
    /// Smaller for some data.
    V2,
}

/// The columns of a table that delivery streams name: the text of `schema` in a `parquet` table, or where it is.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(crate) enum TableSchema {
    /// The columns.
    Plain(String),
    /// Where they come from.
    From(TableSchemaSource),
}

/// Where the columns of a table come from.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(title = "table", inline)]
pub(crate) enum TableSchemaSource {
    /// A file with the text of a `schema`. Relative to this file.
    #[schemars(title = "table")]
    File(String),
    /// Take them from the rows of the first batch of each stream, and keep them from then on: `true`.
    #[schemars(title = "table")]
    Infer(bool),
}
