//! The config: a table or two sides of the stream, by which key, and what is given.

use std::collections::BTreeMap;

use serde::Deserialize;
use wasmill_keyed::{Fate, Span, TimeFormat};
use wasmill_sdk::path::Path;

/// The transform's config: exactly one of the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Records with the rows of a table.
    pub table: Option<TableConfig>,
    /// Records with records.
    pub streams: Option<StreamsConfig>,
}

/// Which records or rows are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Pairs.
    #[default]
    Inner,
    /// And what is left without a right.
    Left,
    /// And what is right without a left.
    Right,
    /// And both.
    Full,
}

/// A table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// Field of the record -> column of the table; all must be the same.
    pub on: BTreeMap<String, String>,
    /// The name under which a data file was granted.
    pub file: Option<String>,
    /// Its format.
    #[serde(default)]
    pub format: Format,
    /// The table itself as CSV text.
    pub csv: Option<String>,
    /// The table itself as NDJSON text.
    pub ndjson: Option<String>,
    /// What stands between CSV fields; one ASCII character.
    #[serde(default = "comma")]
    pub separator: char,
    /// Types of CSV columns; by default text.
    #[serde(default)]
    pub types: BTreeMap<String, CellType>,
    /// Inner or left.
    #[serde(default)]
    pub kind: Kind,
    /// The field that gets the row.
    pub into: Path,
    /// A longer table is refused.
    #[serde(default = "table_max")]
    pub max_bytes: usize,
}

fn comma() -> char {
    ','
}

fn table_max() -> usize {
    64 << 20
}

/// The format of a granted file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// RFC 4180 with a header line.
    #[default]
    Csv,
    /// One JSON object per line.
    Ndjson,
}

/// How the texts of a CSV column become JSON. An empty cell is `""` as text and null otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellType {
    /// A JSON string.
    #[default]
    Text,
    /// A JSON number, written as it stands.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Any JSON value.
    Json,
}

/// Two sides of the stream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamsConfig {
    /// The fields that must be the same.
    pub on: Vec<Path>,
    /// The field that says which side a record is of; none = its source says it.
    pub side: Option<Path>,
    /// The left one.
    pub left: SideConfig,
    /// The right one.
    pub right: SideConfig,
    /// A right record may be this much earlier than a left one.
    #[serde(default)]
    pub before: Span,
    /// And this much later.
    #[serde(default)]
    pub after: Span,
    /// What is given.
    #[serde(default)]
    pub kind: Kind,
    /// The field with the event time; none = that of the stream, or of arrival.
    pub time: Option<Path>,
    /// How it stands there.
    pub time_format: Option<TimeFormat>,
    /// How much later than newer ones records may come.
    #[serde(default)]
    pub delay: Span,
    /// What becomes of late records.
    #[serde(default)]
    pub late: Fate,
    /// What becomes of records of neither side.
    #[serde(default = "Fate::keep")]
    pub others: Fate,
    /// Most records that are kept of a key, on each side.
    #[serde(default = "rows_max")]
    pub rows_max: usize,
}

/// One side.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SideConfig {
    /// The text of the field `side` in its records.
    pub is: Option<String>,
    /// The source that its records come from, where the stream has several.
    pub source: Option<String>,
    /// The field that gets the record.
    pub into: String,
}

fn rows_max() -> usize {
    1000
}
