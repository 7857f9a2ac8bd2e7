//! Types of columns: their names in the config, what SQLite stores for them, and what is written for them.
//!
//! A value is of its type or it is not; nothing is rounded, cut or guessed.

use std::str::FromStr;

use rusqlite::types::Value;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;
use wasmill_sdk::config::nearest;

/// Types by their names.
const NAMES: [(&str, Kind); 9] = [
    ("text", Kind::Text),
    ("varchar", Kind::Text),
    ("bigint", Kind::Int),
    ("integer", Kind::Int),
    ("double", Kind::Float),
    ("real", Kind::Float),
    ("boolean", Kind::Bool),
    ("decimal", Kind::Decimal),
    ("json", Kind::Json),
];

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// A whole number that fits 64 bits with sign.
    Int,
    /// A number, as the nearest double.
    Float,
    /// `true` or `false`, which are 1 and 0 in the query.
    Bool,
    /// A number as it stands in the JSON, text in the query: whatever its size, it leaves as it came.
    Decimal,
    /// Any value, as its JSON text.
    Json,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim().to_ascii_lowercase();
        if let Some((_, kind)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(*kind);
        }
        let names = NAMES.iter().map(|(name, _)| *name);
        let hint = match nearest(&name, names.clone()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => String::new(),
        };
        Err(format!("no type is called {text:?}; there are {}{hint}", names.collect::<Vec<_>>().join(", ")))
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Kind {
    /// The type that its columns are declared with. SQLite makes numbers of what looks like numbers unless the type has TEXT
    /// in its name.
    pub(crate) fn declared(self) -> &'static str {
        match self {
            Kind::Text => "TEXT",
            Kind::Int => "INTEGER",
            Kind::Float => "REAL",
            Kind::Bool => "BOOLEAN",
            Kind::Decimal => "DECIMAL_TEXT",
            Kind::Json => "JSON_TEXT",
        }
    }

    /// The type of a column of the result that was declared so.
    pub(crate) fn of_declared(declared: &str) -> Option<Kind> {
        NAMES.iter().map(|(_, kind)| *kind).find(|kind| kind.declared() == declared)
    }

    /// What a value should be, for messages.
    pub(crate) fn wanted(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Int => "whole number that fits bigint",
            Kind::Float => "number",
            Kind::Bool => "boolean",
            Kind::Decimal => "JSON number",
            Kind::Json => "JSON value",
        }
    }

    /// A value of JSON as SQLite stores it. `None`: it is not of the type.
    pub(crate) fn of_json(self, json: &str) -> Option<Value> {
        if json == "null" {
            return Some(Value::Null);
        }
        match self {
            Kind::Text => serde_json::from_str(json).ok().map(Value::Text),
            Kind::Int => serde_json::from_str(json).ok().map(Value::Integer),
            Kind::Float => serde_json::from_str(json).ok().map(Value::Real),
            Kind::Bool => json.parse::<bool>().ok().map(|is| Value::Integer(is.into())),
            Kind::Decimal => is_number(json).then(|| Value::Text(json.to_owned())),
            Kind::Json => serde_json::from_str::<&RawValue>(json).ok().map(|_| Value::Text(json.to_owned())),
        }
    }

    /// A cell of CSV: text is what stands there, an empty cell of another type is no value.
    pub(crate) fn of_cell(self, text: &str) -> Option<Value> {
        match (self, text) {
            (Kind::Text, text) => Some(Value::Text(text.to_owned())),
            (_, "") => Some(Value::Null),
            (Kind::Json, text) => self.of_json(text),
            (_, "null") => None,
            (_, text) => self.of_json(text),
        }
    }
}

/// Whether a text is a number of JSON.
pub(crate) fn is_number(json: &str) -> bool {
    json.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && serde_json::from_str::<&RawValue>(json).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_of_their_type_or_none() {
        let of = |kind: Kind, json: &str| kind.of_json(json);
        assert_eq!(of(Kind::Int, "9223372036854775807"), Some(Value::Integer(i64::MAX)));
        assert_eq!(of(Kind::Int, "9223372036854775808"), None);
        assert_eq!(of(Kind::Int, "1.5"), None);
        assert_eq!(of(Kind::Int, "\"1\""), None);
        assert_eq!(of(Kind::Float, "1"), Some(Value::Real(1.0)));
        assert_eq!(of(Kind::Float, "true"), None);
        assert_eq!(of(Kind::Bool, "true"), Some(Value::Integer(1)));
        assert_eq!(of(Kind::Bool, "1"), None);
        assert_eq!(of(Kind::Text, "\"\\u00e9\""), Some(Value::Text("é".to_owned())));
        assert_eq!(of(Kind::Text, "1"), None);
        let large = "123456789012345678901234567890.10";
        assert_eq!(of(Kind::Decimal, large), Some(Value::Text(large.to_owned())));
        assert_eq!(of(Kind::Decimal, "\"1\""), None);
        assert_eq!(of(Kind::Json, "[1,null]"), Some(Value::Text("[1,null]".to_owned())));
        assert_eq!(of(Kind::Json, "null"), Some(Value::Null));
    }

    #[test]
    fn cells_that_are_empty_are_null_but_for_text() {
        assert_eq!(Kind::Text.of_cell(""), Some(Value::Text(String::new())));
        assert_eq!(Kind::Int.of_cell(""), Some(Value::Null));
        assert_eq!(Kind::Int.of_cell("null"), None);
        assert_eq!(Kind::Int.of_cell("x"), None);
        assert_eq!(Kind::Float.of_cell("1.5"), Some(Value::Real(1.5)));
    }

    #[test]
    fn types_that_are_none_are_named_with_the_nearest() {
        let error = "bigin".parse::<Kind>().unwrap_err();
        assert!(error.ends_with("did you mean `bigint`?"), "{error}");
    }
}
