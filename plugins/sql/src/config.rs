//! The transform's config: the query, the columns of the batch, tables to look up in.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use wasmill_sdk::path::Path;

use crate::kind::Kind;

/// Most columns of the batch, and of a table.
const COLUMNS_MAX: usize = 1000;
/// Most tables.
const TABLES_MAX: usize = 8;
/// The table of the records.
pub(crate) const BATCH: &str = "batch";
/// Names that SQLite and this plugin have for the number of a row.
const TAKEN: [&str; 2] = [crate::lineage::ROW, "_rowid_"];

/// The transform's config.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// One `SELECT`, with or without `WITH`.
    pub(crate) query: String,
    /// Columns of the table `batch`, in the order in which `SELECT *` has them.
    pub(crate) columns: Named<Column>,
    /// Tables by the name that the query has for them.
    #[serde(default)]
    pub(crate) tables: BTreeMap<String, Table>,
    /// Types of columns of the result, where they are not seen from what was selected.
    #[serde(default)]
    pub(crate) types: BTreeMap<String, Kind>,
    /// Records keep their other fields; what is selected is set in them.
    #[serde(default)]
    pub(crate) keep: bool,
}

impl Config {
    /// Reads and checks it.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let config: Self = wasmill_sdk::config::read(text)?;
        if config.columns.0.is_empty() {
            return Err("config: `columns` is empty: it says which fields of the records the query may use"
                .to_owned());
        }
        if config.tables.len() > TABLES_MAX {
            return Err(format!("config: {} tables; at most {TABLES_MAX} can be", config.tables.len()));
        }
        for (name, kind) in &config.types {
            if !matches!(kind, Kind::Bool | Kind::Json | Kind::Decimal) {
                return Err(format!(
                    "config: `types`: `{name}`: the type can be boolean, json or decimal; other columns are written as the \
                     query makes them (CAST makes others)"
                ));
            }
        }
        for name in config.tables.keys() {
            if name.eq_ignore_ascii_case(BATCH) {
                return Err(format!("config: `tables`: `{BATCH}` is the name of the records"));
            }
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let begins = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
            if !is_name || !begins || name.to_ascii_lowercase().starts_with("sqlite_") {
                return Err(format!(
                    "config: `tables`: {name:?} is no name of a table: letters, digits and `_`, no digit first, not sqlite_"
                ));
            }
        }
        Ok(config)
    }
}

/// A column of the batch: `"bigint"` or `{ type = "bigint", path = "a.b" }`.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) kind: Kind,
    /// The field; none = the one of the column's name.
    pub(crate) path: Option<Path>,
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            #[serde(rename = "type")]
            kind: Kind,
            path: Option<Path>,
        }
        struct ColumnVisitor;
        impl<'de> Visitor<'de> for ColumnVisitor {
            type Value = Column;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a type such as \"bigint\", or a table of `type` and `path`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Column, E> {
                Ok(Column { kind: text.parse().map_err(E::custom)?, path: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Column, A::Error> {
                let written = Written::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(Column { kind: written.kind, path: written.path })
            }
        }
        deserializer.deserialize_any(ColumnVisitor)
    }
}

/// A table to look up in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// The name under which a data file was granted.
    pub(crate) file: Option<String>,
    /// Its format.
    #[serde(default)]
    pub(crate) format: Format,
    /// The table itself as CSV text.
    pub(crate) csv: Option<String>,
    /// The table itself as NDJSON text.
    pub(crate) ndjson: Option<String>,
    /// What stands between CSV fields; one ASCII character.
    #[serde(default = "comma")]
    pub(crate) separator: char,
    /// Types of the columns. Columns of CSV that are not named are text; of NDJSON only these are read.
    #[serde(default = "Named::none")]
    pub(crate) columns: Named<Kind>,
    /// Columns by which its rows are looked up.
    #[serde(default)]
    pub(crate) key: Vec<String>,
}

fn comma() -> char {
    ','
}

/// The format of a granted file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// RFC 4180 with a header line.
    #[default]
    Csv,
    /// One JSON object per line.
    Ndjson,
}

/// Values by name, in the order in which they were written. SQLite tells names apart without regard to case, so these are.
#[derive(Debug)]
pub(crate) struct Named<T>(pub(crate) Vec<(String, T)>);

impl<T> Named<T> {
    fn none() -> Self {
        Self(Vec::new())
    }

    /// The value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Whether a column can be called so; `names` are those that there are.
pub(crate) fn check_name<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    if name.is_empty() || name.contains('\0') {
        return Err("a column without a name".to_owned());
    }
    if TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(name)) {
        return Err(format!("no column can be called {name}"));
    }
    let (count, twice) = names.into_iter().fold((0, None), |(count, twice), known| {
        (count + 1, twice.or(known.eq_ignore_ascii_case(name).then(|| known.to_owned())))
    });
    match twice {
        Some(known) if known == name => Err(format!("column `{name}` is there twice")),
        Some(known) => Err(format!("columns `{known}` and `{name}` are one to SQL: call one otherwise")),
        None if count >= COLUMNS_MAX => Err(format!("more than {COLUMNS_MAX} columns")),
        None => Ok(()),
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamedVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
            type Value = Named<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a table of columns and their types")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut named = Named::none();
                while let Some((name, value)) = map.next_entry::<String, T>()? {
                    let names = named.0.iter().map(|(known, _)| known.as_str());
                    check_name(&name, names).map_err(A::Error::custom)?;
                    named.0.push((name, value));
                }
                Ok(named)
            }
        }
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}
