//! Rows as columns.

use std::collections::BTreeMap;

/// How rows become a Parquet file. What a schema's text means is judged by who writes the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parquet {
    pub schema: SchemaSource,
    /// Where the schema stands in the text, for [`crate::Settings::problem`].
    pub schema_key: String,
    /// Decoded bytes that close a row group.
    pub row_group: u64,
    /// Encoded bytes that close a page.
    pub page: u64,
    /// Pages and encodings of version 2.
    pub v2: bool,
    pub case_insensitive: bool,
    pub dots_to_underscores: bool,
    /// JSON keys by column.
    pub keys: BTreeMap<String, String>,
    /// Patterns of Joda-Time; `None`: the rules of the OpenX JSON SerDe.
    pub timestamps: Option<Vec<String>>,
}

/// Where columns come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaSource {
    /// Their text.
    Columns(String),
    /// The rows of the first batch.
    Infer,
}
