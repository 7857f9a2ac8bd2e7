//! Tables to look up in: CSV or NDJSON, read once when the transform is configured. Whatever is wrong with one is refused with
//! its line; a table is never used in part.

use std::collections::HashMap;

use rusqlite::types::Value;
use serde_json::value::RawValue;
use wasmill_csv::{Fields, Scan, scan};
use wasmill_sdk::config::nearest;

use crate::config::{Format, Table, check_name};
use crate::kind::Kind;

/// Columns and rows of a table.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<(String, Kind)>,
    pub(crate) values: Vec<Vec<Value>>,
}

impl Rows {
    /// Reads the table that the config names; `file` gives a granted file.
    pub(crate) fn read(
        table: &Table,
        file: impl FnOnce(&str) -> Result<Vec<u8>, String>,
    ) -> Result<Rows, String> {
        let (text, format) = match (&table.file, &table.csv, &table.ndjson) {
            (Some(name), None, None) => (file(name)?, table.format),
            (None, Some(csv), None) => (csv.clone().into_bytes(), Format::Csv),
            (None, None, Some(ndjson)) => (ndjson.clone().into_bytes(), Format::Ndjson),
            _ => return Err("exactly one of `file`, `csv` and `ndjson` is needed".to_owned()),
        };
        let rows = match format {
            Format::Csv => csv(&text, table)?,
            Format::Ndjson => ndjson(&text, table)?,
        };
        for name in &table.key {
            rows.has(name)?;
        }
        Ok(rows)
    }

    fn has(&self, name: &str) -> Result<(), String> {
        if self.columns.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            return Ok(());
        }
        let hint = nearest(name, self.columns.iter().map(|(name, _)| name.as_str()))
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Err(format!("no column `{name}`{hint}"))
    }
}

fn wrong(name: &str, kind: Kind, line: u32, value: &str) -> String {
    let shown: String = value.chars().take(40).collect();
    format!("line {line}: `{shown}` in column `{name}` is no {}", kind.wanted())
}

/// Reads CSV; the first line names the columns.
fn csv(text: &[u8], table: &Table) -> Result<Rows, String> {
    if !table.separator.is_ascii() || matches!(table.separator, '"' | '\n' | '\r') {
        return Err("`separator` is one ASCII character, no quote and no line end".to_owned());
    }
    let separator = u8::try_from(table.separator).unwrap_or(b',');
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut fields = Fields::default();
    let mut rows: Option<Rows> = None;
    let (mut at, mut line) = (0, 1);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let scanned = scan(rest, true, separator, line, &mut fields);
        let Ok(Scan::Row { consumed, lines }) = scanned else {
            let what = scanned.err().map_or_else(String::new, |(_, fault)| fault.to_string());
            return Err(format!("line {line}: {what}"));
        };
        if !fields.is_empty() {
            match &mut rows {
                None => rows = Some(header(&fields, table)?),
                Some(rows) => rows.values.push(row(&fields, &rows.columns, line)?),
            }
        }
        at += consumed;
        line += lines;
    }
    rows.ok_or_else(|| "it is empty; its first line names the columns".to_owned())
}

fn header(fields: &Fields, table: &Table) -> Result<Rows, String> {
    let mut rows = Rows::default();
    for at in 0..fields.len() {
        let name = std::str::from_utf8(fields.get(at)).map_err(|_| "its names are no UTF-8".to_owned())?;
        check_name(name, rows.columns.iter().map(|(known, _)| known.as_str()))?;
        rows.columns.push((name.to_owned(), table.columns.get(name).copied().unwrap_or(Kind::Text)));
    }
    for (name, _) in &table.columns.0 {
        rows.has(name)?;
    }
    Ok(rows)
}

fn row(fields: &Fields, columns: &[(String, Kind)], line: u32) -> Result<Vec<Value>, String> {
    if fields.len() != columns.len() {
        let (found, wanted) = (fields.len(), columns.len());
        return Err(format!("line {line}: the row has {found} fields, the table has {wanted} columns"));
    }
    let of = |(at, (name, kind)): (usize, &(String, Kind))| {
        let text = std::str::from_utf8(fields.get(at)).map_err(|_| format!("line {line}: it is no UTF-8"))?;
        kind.of_cell(text).ok_or_else(|| wrong(name, *kind, line, text))
    };
    columns.iter().enumerate().map(of).collect()
}

/// Reads NDJSON; empty lines are skipped.
fn ndjson(text: &[u8], table: &Table) -> Result<Rows, String> {
    if table.columns.0.is_empty() {
        return Err("`columns` is needed: which fields of the NDJSON are columns, and their types".to_owned());
    }
    let mut rows = Rows { columns: table.columns.0.clone(), values: Vec::new() };
    let lines = text.split(|byte| *byte == b'\n').zip(1_u32..);
    for (row, line) in lines.filter(|(row, _)| !row.iter().all(u8::is_ascii_whitespace)) {
        let object: HashMap<String, &RawValue> =
            serde_json::from_slice(row).map_err(|error| format!("line {line}: {error}"))?;
        let of = |(name, kind): &(String, Kind)| {
            let json = object.get(name).map_or("null", |value| value.get());
            kind.of_json(json).ok_or_else(|| wrong(name, *kind, line, json))
        };
        rows.values.push(rows.columns.iter().map(of).collect::<Result<_, _>>()?);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(extra: &str) -> Table {
        serde_json::from_str(&format!("{{{extra}}}")).unwrap()
    }

    #[test]
    fn tables_are_read_in_the_types_of_their_columns() {
        let of = table(r#""columns": {"n": "double", "ok": "boolean"}"#);
        let read = csv(b"id,n,ok\n01,1.5,true\n\n2,,\n", &of).unwrap();
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(
            read.values,
            [
                vec![text("01"), Value::Real(1.5), Value::Integer(1)],
                vec![text("2"), Value::Null, Value::Null]
            ]
        );
        let of = table(r#""columns": {"id": "bigint", "tags": "json"}"#);
        let read = ndjson(b"{\"id\":1,\"tags\":[1, 2],\"x\":0}\n\n{\"id\":null}\n", &of).unwrap();
        assert_eq!(read.values, [vec![Value::Integer(1), text("[1, 2]")], vec![Value::Null, Value::Null]]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let wrong = |text: &str, extra: &str| csv(text.as_bytes(), &table(extra)).unwrap_err();
        assert_eq!(wrong("", ""), "it is empty; its first line names the columns");
        assert_eq!(wrong("a,a\n", ""), "column `a` is there twice");
        assert_eq!(wrong("a,A\n", ""), "columns `a` and `A` are one to SQL: call one otherwise");
        assert_eq!(wrong("id,n\n1\n", ""), "line 2: the row has 1 fields, the table has 2 columns");
        assert_eq!(wrong("idd\n", r#""columns": {"id": "text"}"#), "no column `id`; did you mean `idd`?");
        assert_eq!(
            wrong("id\n1\nx\n", r#""columns": {"id": "bigint"}"#),
            "line 3: `x` in column `id` is no whole number that fits bigint"
        );
        let of = table(r#""columns": {"id": "bigint"}"#);
        assert_eq!(
            ndjson(b"{\"id\":1}\n{\"id\":\"1\"}", &of).unwrap_err(),
            "line 2: `\"1\"` in column `id` is no whole number that fits bigint"
        );
        assert!(ndjson(b"[1]", &of).unwrap_err().starts_with("line 1: "));
        assert!(ndjson(b"{}", &table("")).unwrap_err().starts_with("`columns` is needed"));
    }
}
