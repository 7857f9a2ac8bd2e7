//! A table whose rows are found by the values of some columns; a value may stand in several rows.
//!
//! It is read once, when the transform is configured. Whatever is wrong with it is refused with its line; a table is
//! never used in part. Values are compared as text: a string by its text, a number or boolean by its JSON text. Null,
//! arrays and objects are no keys, and neither is a value that is missing.

use std::collections::HashMap;

use serde_json::value::RawValue;
use wasmill_csv::{Fields, Scan, scan};
use wasmill_keyed::key::quote;
use wasmill_sdk::config::nearest;

use crate::config::{CellType, TableConfig};

/// Most rows with the same key.
pub const ROWS_MAX: usize = 1000;

/// Rows as JSON objects, by key.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Box<[u8]>>,
    by_key: HashMap<Vec<u8>, Vec<u32>>,
}

/// What is wrong with a table.
#[derive(Debug, thiserror::Error)]
pub enum TableFault {
    /// No header line.
    #[error("the table is empty; its first line names the columns")]
    NoHeader,
    /// A column that the config names is not there.
    #[error("no column `{name}`{hint}")]
    NoColumn {
        /// The name.
        name: String,
        /// A name that is there.
        hint: String,
    },
    /// Something on a line.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: u32,
        /// What.
        what: String,
    },
}

/// Appends a value to a key.
pub fn push_key(key: &mut Vec<u8>, value: &[u8]) {
    key.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    key.extend_from_slice(value);
}

impl Table {
    /// The rows of a key, as JSON objects.
    pub fn find(&self, key: &[u8]) -> impl ExactSizeIterator<Item = &[u8]> {
        let found = self.by_key.get(key).map(Vec::as_slice).unwrap_or_default();
        found.iter().map(|row| self.rows.get(*row as usize).map(AsRef::as_ref).unwrap_or_default())
    }

    fn push(&mut self, key: Option<Vec<u8>>, row: Vec<u8>, line: u32) -> Result<(), TableFault> {
        let Some(key) = key else { return Ok(()) };
        let number = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        let rows = self.by_key.entry(key).or_default();
        if rows.len() >= ROWS_MAX {
            return Err(TableFault::Line { line, what: format!("more than {ROWS_MAX} rows have this key") });
        }
        rows.push(number);
        self.rows.push(row.into_boxed_slice());
        Ok(())
    }

    /// Reads CSV; the first line names the columns.
    pub fn csv(text: &[u8], config: &TableConfig) -> Result<Self, TableFault> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let separator = u8::try_from(config.separator).unwrap_or(b',');
        let (mut table, mut fields) = (Self::default(), Fields::default());
        let mut header: Option<Columns> = None;
        let (mut at, mut line) = (0, 1);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let scanned = scan(rest, true, separator, line, &mut fields);
            let Ok(Scan::Row { consumed, lines }) = scanned else {
                let what = scanned.err().map_or_else(String::new, |(_, fault)| fault.to_string());
                return Err(TableFault::Line { line, what });
            };
            if !fields.is_empty() {
                match &header {
                    None => header = Some(columns(&fields, config, line)?),
                    Some((names, types, keys)) => {
                        let (key, row) = row(&fields, names, types, keys, line)?;
                        table.push(key, row, line)?;
                    }
                }
            }
            at += consumed;
            line += lines;
        }
        if header.is_none() {
            return Err(TableFault::NoHeader);
        }
        Ok(table)
    }

    /// Reads NDJSON; empty lines are skipped.
    pub fn ndjson(text: &[u8], config: &TableConfig) -> Result<Self, TableFault> {
        let mut table = Self::default();
        let lines = text.split(|byte| *byte == b'\n').zip(1..);
        for (row, line) in lines.filter(|(row, _)| !row.iter().all(u8::is_ascii_whitespace)) {
            let wrong = |error: serde_json::Error| TableFault::Line { line, what: error.to_string() };
            let object: HashMap<String, &RawValue> = serde_json::from_slice(row).map_err(wrong)?;
            let mut key = Some(Vec::new());
            for column in config.on.values() {
                let value = object.get(column).and_then(|value| key_text(value.get()));
                key = key.zip(value).map(|(mut key, value)| {
                    push_key(&mut key, &value);
                    key
                });
            }
            table.push(key, row.trim_ascii().to_vec(), line)?;
        }
        Ok(table)
    }
}

/// The text by which a JSON value is compared; none for null, arrays and objects.
fn key_text(json: &str) -> Option<Vec<u8>> {
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(json).ok().map(String::into_bytes),
        b'n' | b'[' | b'{' => None,
        _ => Some(json.as_bytes().to_vec()),
    }
}

/// Names as JSON, types, and the numbers of those that are the key.
type Columns = (Vec<Vec<u8>>, Vec<CellType>, Vec<usize>);

/// The columns of a header line: names, types, and which are the key.
fn columns(fields: &Fields, config: &TableConfig, line: u32) -> Result<Columns, TableFault> {
    let wrong = |what: String| TableFault::Line { line, what };
    let mut names = Vec::new();
    for at in 0..fields.len() {
        let name = std::str::from_utf8(fields.get(at)).map_err(|_| wrong("not UTF-8".to_owned()))?;
        if names.iter().any(|known| known == name) {
            return Err(wrong(format!("column `{name}` is there twice")));
        }
        names.push(name.to_owned());
    }
    let find = |name: &String| {
        names.iter().position(|known| known == name).ok_or_else(|| TableFault::NoColumn {
            name: name.clone(),
            hint: nearest(name, names.iter().map(String::as_str))
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?")),
        })
    };
    let keys = config.on.values().map(&find).collect::<Result<_, _>>()?;
    config.types.keys().map(&find).collect::<Result<Vec<_>, _>>()?;
    let types = names.iter().map(|name| config.types.get(name).copied().unwrap_or_default()).collect();
    let quoted = names.iter().map(|name| {
        let mut quoted = Vec::new();
        quote(name.as_bytes(), &mut quoted);
        quoted
    });
    Ok((quoted.collect(), types, keys))
}

/// A row as key and JSON object.
fn row(
    fields: &Fields,
    names: &[Vec<u8>],
    types: &[CellType],
    keys: &[usize],
    line: u32,
) -> Result<(Option<Vec<u8>>, Vec<u8>), TableFault> {
    let wrong = |what: String| TableFault::Line { line, what };
    if fields.len() != names.len() {
        let (found, wanted) = (fields.len(), names.len());
        return Err(wrong(format!("the row has {found} fields, the table has {wanted} columns")));
    }
    let mut object = vec![b'{'];
    for (at, (name, kind)) in names.iter().zip(types).enumerate() {
        if at > 0 {
            object.push(b',');
        }
        object.extend_from_slice(name);
        object.push(b':');
        let text = std::str::from_utf8(fields.get(at)).map_err(|_| wrong("not UTF-8".to_owned()))?;
        cell(text, *kind, &mut object).map_err(|kind| {
            let name = String::from_utf8_lossy(name);
            wrong(format!("`{}` in column {name} is no {kind}", text.chars().take(40).collect::<String>()))
        })?;
    }
    object.push(b'}');
    let mut key = Vec::new();
    for at in keys {
        // An empty cell of another type than text is null, which is no key.
        if fields.get(*at).is_empty() && types.get(*at) != Some(&CellType::Text) {
            return Ok((None, object));
        }
        push_key(&mut key, fields.get(*at));
    }
    Ok((Some(key), object))
}

/// Appends a cell as JSON. `Err`: what it should be.
fn cell(text: &str, kind: CellType, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if kind == CellType::Text {
        quote(text.as_bytes(), out);
        return Ok(());
    }
    if text.is_empty() {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let is_right = match kind {
        CellType::Number => serde_json::from_str::<serde_json::Number>(text).is_ok(),
        CellType::Boolean => matches!(text, "true" | "false"),
        CellType::Text | CellType::Json => serde_json::from_str::<&RawValue>(text).is_ok(),
    };
    if !is_right {
        return Err(match kind {
            CellType::Number => "JSON number",
            CellType::Boolean => "`true` or `false`",
            CellType::Text | CellType::Json => "JSON value",
        });
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extra: &str) -> TableConfig {
        serde_json::from_str(&format!(r#"{{"on": {{"user": "id"}}, "into": "row"{extra}}}"#)).unwrap()
    }

    fn found(table: &Table, value: &str) -> Vec<String> {
        let mut key = Vec::new();
        push_key(&mut key, value.as_bytes());
        table.find(&key).map(|row| String::from_utf8(row.to_vec()).unwrap()).collect()
    }

    #[test]
    fn csv_rows_are_objects_in_the_types_of_their_columns() {
        let config = config(r#", "types": {"n": "number"}"#);
        let table = Table::csv(b"id,n,name\n1,1.50,\"a \"\"b\"\"\"\n2,,x\n1,3,y\n", &config).unwrap();
        assert_eq!(
            found(&table, "1"),
            [r#"{"id":"1","n":1.50,"name":"a \"b\""}"#, r#"{"id":"1","n":3,"name":"y"}"#]
        );
        assert_eq!(found(&table, "2"), [r#"{"id":"2","n":null,"name":"x"}"#]);
        assert!(found(&table, "3").is_empty());
    }

    #[test]
    fn ndjson_keys_are_texts_and_numbers_but_never_null() {
        let text = br#"{"id":"a","x":1}

{"id":7}
{"id":null}
{"x":2}"#;
        let table = Table::ndjson(text, &config("")).unwrap();
        assert_eq!(found(&table, "a"), [r#"{"id":"a","x":1}"#]);
        assert_eq!(found(&table, "7"), [r#"{"id":7}"#]);
        assert_eq!(table.rows.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let csv =
            |text: &str, extra: &str| Table::csv(text.as_bytes(), &config(extra)).unwrap_err().to_string();
        assert_eq!(csv("idd,n\n", ""), "no column `id`; did you mean `idd`?");
        assert_eq!(csv("", ""), "the table is empty; its first line names the columns");
        assert_eq!(csv("id,n\n1\n", ""), "line 2: the row has 1 fields, the table has 2 columns");
        let wrong = csv("id,n\n1,\"a\nb\"\n2,x\n", r#", "types": {"n": "number"}"#);
        assert!(
            wrong.starts_with("line 2: ") && wrong.ends_with("in column \"n\" is no JSON number"),
            "{wrong}"
        );
        let wrong = Table::ndjson(b"{}\n[1]", &config("")).unwrap_err().to_string();
        assert!(wrong.starts_with("line 2: "), "{wrong}");
    }
}
