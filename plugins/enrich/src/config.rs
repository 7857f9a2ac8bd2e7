//! What the transform's config says: look-ups, each with its table, its key, the columns that it copies and what
//! happens where nothing matches.
//!
//! Only shapes are checked here; whether a table is right is known when it has been read (`table`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use wasmill_sdk::path::Path;

/// Most look-ups of one transform.
pub const LOOKUPS_MAX: usize = 64;

/// The whole config.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Done in order; all of them read the record as it came in.
    pub lookups: Vec<Lookup>,
}

/// One look-up.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// For messages; by default the field's name.
    pub name: Option<String>,
    /// The record's field whose value is looked up.
    pub field: Path,
    /// How the value meets the table's keys.
    #[serde(default, rename = "match")]
    pub matching: Matching,
    /// Where the table comes from.
    pub table: Source,
    /// The table's column that holds the keys; by default the first CSV column.
    pub key: Option<String>,
    /// The columns to copy: column of the table -> field of the record.
    pub copy: Copied,
    /// An object of the record under which copied fields are put.
    pub into: Option<Path>,
    /// What happens to a record whose value is not in the table.
    #[serde(default)]
    pub otherwise: Otherwise,
    /// With `otherwise = "default"`: a value per column.
    #[serde(default)]
    pub defaults: BTreeMap<String, Box<RawValue>>,
    /// What happens when a key stands twice in the table.
    #[serde(default)]
    pub duplicates: Duplicates,
    /// `A` to `Z` are taken as `a` to `z` in table and record.
    #[serde(default)]
    pub ignore_case: bool,
}

/// How a value meets the table's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matching {
    /// The same bytes.
    #[default]
    Exact,
    /// The value is an IP address, keys are networks; the longest network wins.
    Cidr,
    /// Keys are beginnings of the value; the longest wins.
    Prefix,
}

/// What happens where nothing matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// The record stays as it is.
    #[default]
    Leave,
    /// Copied fields become null.
    Null,
    /// Copied fields get the values of `defaults`.
    Default,
    /// The record becomes a dead letter.
    Fail,
}

/// What happens when a key stands twice in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// The table is refused.
    #[default]
    Refuse,
    /// The first one counts.
    First,
    /// The last one counts.
    Last,
}

/// Where a table comes from: exactly one of `file`, `csv`, `ndjson`, `rows`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The name under which a data file was granted.
    pub file: Option<String>,
    /// The file's format; by default CSV.
    pub format: Option<Format>,
    /// The table itself as CSV text.
    pub csv: Option<String>,
    /// The table itself as NDJSON text.
    pub ndjson: Option<String>,
    /// The table itself as a list of objects.
    pub rows: Option<Vec<Box<RawValue>>>,
    /// What stands between CSV fields; one ASCII character, by default a comma.
    pub separator: Option<char>,
    /// Names of the columns of a CSV table without a header.
    pub columns: Option<Vec<String>>,
    /// Types of CSV columns; by default `text`.
    #[serde(default)]
    pub types: BTreeMap<String, CsvType>,
    /// A longer table is refused.
    pub max_bytes: Option<u64>,
}

/// The format of a granted file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// RFC 4180 with a header line.
    Csv,
    /// One JSON object per line.
    Ndjson,
}

/// How the texts of a CSV column become JSON values. An empty cell is `""` as text and null otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CsvType {
    /// A JSON string.
    Text,
    /// A JSON number, written as it stands.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Any JSON value.
    Json,
    /// A number or boolean where the text is exactly one, else a string.
    Auto,
}

/// Columns to copy.
#[derive(Debug, PartialEq, Eq)]
pub struct Copied(pub Vec<(String, Path)>);

impl<'de> Deserialize<'de> for Copied {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Copied;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a list of columns or an object {column: field}")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut sequence: A) -> Result<Copied, A::Error> {
                let mut copied = Vec::new();
                while let Some(column) = sequence.next_element::<String>()? {
                    copied.push((column.clone(), Path(vec![column])));
                }
                Ok(Copied(copied))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Copied, A::Error> {
                let mut copied = Vec::new();
                while let Some(entry) = map.next_entry::<String, Path>()? {
                    copied.push(entry);
                }
                Ok(Copied(copied))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
