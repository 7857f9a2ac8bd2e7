//! Reading a table, piece by piece, and finding rows in it.
//!
//! Only the key column and the copied columns are kept. Whatever is wrong with a table is refused with its line and
//! column when the transform is configured; a table is never used in part.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use wasmill_sdk::config::nearest;

use crate::cidr::{Cidr, network};
use crate::config::{CsvType, Duplicates, Format, Lookup, Matching, Otherwise};
use crate::csv::{Fields, Place, Scan, scan};
use crate::exact::{Exact, Inserted, Keys, NONE};
use crate::fault::{RowFault, TableFault};
use crate::prefix::Prefix;
use crate::values::{Builder, Cell, Values};

/// Longest row in bytes.
pub const ROW_MAX: usize = 1 << 20;
/// Longest table in bytes, where the config says nothing.
pub const TABLE_MAX: u64 = 64 << 20;
/// Bytes asked for at a time.
pub const PART: u32 = 256 << 10;

enum Index {
    Exact(Exact),
    Cidr(Cidr),
    Prefix(Prefix),
}

/// A table that was read.
pub struct Table {
    index: Index,
    keys: Keys,
    ignore_case: bool,
    folded: Vec<u8>,
    /// The copied columns, in the config's order; one more row than the table, for records without a match.
    pub columns: Vec<Values>,
    /// The row for records without a match.
    pub otherwise: u32,
}

impl Table {
    /// The row that a value hits, or [`NONE`].
    #[inline]
    pub fn find(&mut self, value: &[u8]) -> u32 {
        if !self.ignore_case {
            return Self::search(&self.index, &self.keys, value);
        }
        self.folded.clear();
        self.folded.extend(value.iter().map(u8::to_ascii_lowercase));
        Self::search(&self.index, &self.keys, &self.folded)
    }

    #[inline]
    fn search(index: &Index, keys: &Keys, value: &[u8]) -> u32 {
        match index {
            Index::Exact(exact) => exact.find(keys, value),
            Index::Cidr(cidr) => cidr.find(value),
            Index::Prefix(prefix) => prefix.find(keys, value),
        }
    }
}

/// Reads the table of a look-up. `read(offset)` gives the next piece of its text, empty at its end.
pub fn load(
    lookup: &Lookup,
    format: Format,
    read: &mut dyn FnMut(u64) -> Result<Vec<u8>, String>,
) -> Result<Table, TableFault> {
    let max = lookup.table.max_bytes.unwrap_or(TABLE_MAX);
    let mut loader = Loader::new(lookup)?;
    let mut reader = Reader { format, separator: separator(lookup), line: 1, fields: Fields::default() };
    let (mut pending, mut offset) = (Vec::new(), 0u64);
    loop {
        let part = read(offset).map_err(TableFault::Read)?;
        offset += part.len() as u64;
        if offset > max {
            return Err(TableFault::TooLong { max });
        }
        let at_end = part.is_empty();
        pending.extend_from_slice(&part);
        if reader.line == 1 && pending.starts_with(b"\xef\xbb\xbf") {
            pending.drain(..3);
        }
        let consumed = reader.rows(&pending, at_end, &mut loader)?;
        if at_end {
            return loader.finish();
        }
        pending.drain(..consumed);
        if pending.len() > ROW_MAX {
            return Err(RowFault::TooLong.at(Place { line: reader.line, column: 1 }));
        }
    }
}

fn separator(lookup: &Lookup) -> u8 {
    // Checked to be ASCII before a table is read.
    lookup.table.separator.and_then(|separator| u8::try_from(separator).ok()).unwrap_or(b',')
}

/// Cuts text into rows.
struct Reader {
    format: Format,
    separator: u8,
    line: u32,
    fields: Fields,
}

impl Reader {
    /// Hands all whole rows on and says how many bytes they took.
    fn rows(&mut self, text: &[u8], at_end: bool, loader: &mut Loader<'_>) -> Result<usize, TableFault> {
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            match self.format {
                Format::Csv => {
                    let scanned = scan(rest, at_end, self.separator, self.line, &mut self.fields);
                    match scanned.map_err(|(place, fault)| RowFault::Csv(fault).at(place))? {
                        Scan::Incomplete => return Ok(at),
                        Scan::Row { consumed, lines } => {
                            if !self.fields.is_empty() {
                                loader.csv_row(&self.fields)?;
                            }
                            at += consumed;
                            self.line += lines;
                        }
                    }
                }
                Format::Ndjson => {
                    let length = match rest.iter().position(|byte| *byte == b'\n') {
                        Some(length) => length,
                        None if at_end => rest.len(),
                        None => return Ok(at),
                    };
                    loader.json_row(&rest[..length], self.line)?;
                    at += length + 1;
                    self.line += 1;
                }
            }
        }
        Ok(at)
    }
}

/// Gathers the columns that are needed.
struct Loader<'c> {
    lookup: &'c Lookup,
    /// Names of CSV columns; empty before the header.
    header: Vec<String>,
    key_at: usize,
    copy_at: Vec<usize>,
    types: Vec<CsvType>,
    keys: Keys,
    places: Vec<Place>,
    columns: Vec<Builder>,
    folded: Vec<u8>,
}

impl<'c> Loader<'c> {
    fn new(lookup: &'c Lookup) -> Result<Self, TableFault> {
        let columns = lookup.copy.0.iter().map(|_| Builder::default()).collect();
        let mut loader = Self {
            lookup,
            header: Vec::new(),
            key_at: 0,
            copy_at: Vec::new(),
            types: Vec::new(),
            keys: Keys::default(),
            places: Vec::new(),
            columns,
            folded: Vec::new(),
        };
        if let Some(columns) = &lookup.table.columns {
            loader.header.clone_from(columns);
            loader.resolve()?;
        }
        for name in lookup.defaults.keys() {
            if !lookup.copy.0.iter().any(|(column, _)| column == name) {
                return Err(no_column(name, lookup.copy.0.iter().map(|(column, _)| column.as_str())));
            }
        }
        Ok(loader)
    }

    /// Finds the columns that the config names in the header.
    fn resolve(&mut self) -> Result<(), TableFault> {
        let find = |name: &str| {
            let at = self.header.iter().position(|column| column == name);
            at.ok_or_else(|| no_column(name, self.header.iter().map(String::as_str)))
        };
        self.key_at = self.lookup.key.as_deref().map_or(Ok(0), find)?;
        let copy_at: Result<Vec<usize>, _> = self.lookup.copy.0.iter().map(|(name, _)| find(name)).collect();
        self.copy_at = copy_at?;
        for name in self.lookup.table.types.keys() {
            find(name)?;
        }
        let kind = |column: &usize| self.lookup.table.types.get(&self.header[*column]).copied();
        self.types = self.copy_at.iter().map(|column| kind(column).unwrap_or(CsvType::Text)).collect();
        Ok(())
    }

    fn csv_row(&mut self, fields: &Fields) -> Result<(), TableFault> {
        for field in 0..fields.len() {
            if std::str::from_utf8(fields.get(field)).is_err() {
                return Err(RowFault::Utf8.at(fields.place(field)));
            }
        }
        if self.header.is_empty() {
            for field in 0..fields.len() {
                let name = String::from_utf8_lossy(fields.get(field)).into_owned();
                if self.header.contains(&name) {
                    return Err(RowFault::ColumnTwice(name).at(fields.place(field)));
                }
                self.header.push(name);
            }
            return self.resolve();
        }
        if fields.len() != self.header.len() {
            let fault = RowFault::Fields { found: fields.len(), expected: self.header.len() };
            return Err(fault.at(fields.place(fields.len().min(self.header.len() + 1) - 1)));
        }
        self.push_key(fields.get(self.key_at), fields.place(self.key_at))?;
        for (index, column) in self.copy_at.iter().enumerate() {
            let (text, place) = (fields.get(*column), fields.place(*column));
            let cell = csv_cell(text, self.types[index]).map_err(|kind| {
                let column = self.header[*column].clone();
                RowFault::Type { text: shortened(text), column, kind }.at(place)
            })?;
            if !self.columns[index].push(cell) {
                return Err(RowFault::Full.at(place));
            }
        }
        Ok(())
    }

    fn json_row(&mut self, text: &[u8], line: u32) -> Result<(), TableFault> {
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let place = Place { line, column: 1 };
        let row: BTreeMap<String, &RawValue> = serde_json::from_slice(text).map_err(|error| {
            let column = u32::try_from(error.column()).unwrap_or(u32::MAX).max(1);
            let message = error.to_string();
            let what = message.split(" at line ").next().unwrap_or_default();
            RowFault::Json(what.to_owned()).at(Place { line, column })
        })?;
        let name = self.lookup.key.as_deref().unwrap_or_default();
        let key = row.get(name).map(|key| json_cell(key.get()));
        match key {
            Some(JsonCell::Text(text)) => self.push_key(text.as_bytes(), place)?,
            Some(JsonCell::Json(text)) if !text.starts_with(['{', '[']) => {
                self.push_key(text.as_bytes(), place)?;
            }
            _ => return Err(RowFault::NoKey(name.to_owned()).at(place)),
        }
        for (column, (name, _)) in self.columns.iter_mut().zip(&self.lookup.copy.0) {
            let pushed = match row.get(name.as_str()).map(|cell| json_cell(cell.get())) {
                None => column.push(Cell::Missing),
                Some(JsonCell::Null) => column.push(Cell::Null),
                Some(JsonCell::Text(text)) => column.push(Cell::Text(text.as_bytes())),
                Some(JsonCell::Json(text)) => column.push(Cell::Json(text.as_bytes())),
            };
            if !pushed {
                return Err(RowFault::Full.at(place));
            }
        }
        Ok(())
    }

    fn push_key(&mut self, key: &[u8], place: Place) -> Result<(), TableFault> {
        self.folded.clear();
        let key = if self.lookup.ignore_case {
            self.folded.extend(key.iter().map(u8::to_ascii_lowercase));
            &self.folded
        } else {
            key
        };
        // The last number says "none", the one before it may be the row for records without a match.
        if self.places.len() >= (NONE - 2) as usize || !self.keys.push(key) {
            return Err(RowFault::Full.at(place));
        }
        self.places.push(place);
        Ok(())
    }

    fn finish(mut self) -> Result<Table, TableFault> {
        let csv = self.lookup.table.ndjson.is_none()
            && self.lookup.table.rows.is_none()
            && self.lookup.table.format != Some(Format::Ndjson);
        if csv && self.header.is_empty() {
            return Err(TableFault::NoHeader);
        }
        for ((name, _), column) in self.lookup.copy.0.iter().zip(&mut self.columns) {
            let default = self.lookup.defaults.get(name).map(|value| json_cell(value.get()));
            let cell = match (self.lookup.otherwise, &default) {
                (Otherwise::Leave | Otherwise::Fail, _) | (Otherwise::Default, None) => Cell::Missing,
                (Otherwise::Null, _) | (Otherwise::Default, Some(JsonCell::Null)) => Cell::Null,
                (Otherwise::Default, Some(JsonCell::Text(text))) => Cell::Text(text.as_bytes()),
                (Otherwise::Default, Some(JsonCell::Json(text))) => Cell::Json(text.as_bytes()),
            };
            if !column.push(cell) {
                return Err(RowFault::Full.at(Place { line: 1, column: 1 }));
            }
        }
        let columns = std::mem::take(&mut self.columns).into_iter().map(Builder::finish).collect();
        // Bounded by `push_key`.
        let otherwise = self.places.len() as u32;
        let index = self.index()?;
        let ignore_case = self.lookup.ignore_case;
        Ok(Table { index, keys: self.keys, ignore_case, folded: self.folded, columns, otherwise })
    }

    fn index(&mut self) -> Result<Index, TableFault> {
        let rows = 0..self.places.len() as u32;
        match self.lookup.matching {
            Matching::Exact => Ok(Index::Exact(self.distinct(&self.keys)?.0)),
            Matching::Prefix => Ok(Index::Prefix(Prefix::new(&self.keys, self.distinct(&self.keys)?.1))),
            Matching::Cidr => {
                let mut networks = Vec::with_capacity(self.places.len());
                let mut plain = Keys::default();
                for row in rows {
                    let key = self.keys.get(row as usize);
                    let place = self.places[row as usize];
                    let network = network(key)
                        .map_err(|fault| RowFault::Network { text: shortened(key), fault }.at(place))?;
                    let mut bytes = [0; 18];
                    bytes[0] = u8::from(network.six);
                    bytes[1] = network.length;
                    bytes[2..].copy_from_slice(&network.start.to_be_bytes());
                    if !plain.push(&bytes) {
                        return Err(RowFault::Full.at(place));
                    }
                    networks.push(network);
                }
                let winners = self.distinct(&plain)?.1;
                Ok(Index::Cidr(Cidr::new(
                    winners.iter().map(|row| (networks[*row as usize], *row)).collect(),
                )))
            }
        }
    }

    /// The rows that count, one per key.
    fn distinct(&self, keys: &Keys) -> Result<(Exact, Vec<u32>), TableFault> {
        let mut exact = Exact::with_capacity(keys.len());
        let replace = self.lookup.duplicates == Duplicates::Last;
        let mut counts = vec![true; keys.len()];
        for row in 0..keys.len() as u32 {
            match exact.insert(keys, row, replace) {
                Inserted::New => {}
                Inserted::Before(before) => match self.lookup.duplicates {
                    Duplicates::Refuse => {
                        let key = shortened(self.keys.get(row as usize));
                        let line = self.places[before as usize].line;
                        return Err(RowFault::Duplicate { key, line }.at(self.places[row as usize]));
                    }
                    Duplicates::First => counts[row as usize] = false,
                    Duplicates::Last => counts[before as usize] = false,
                },
            }
        }
        let rows = (0..keys.len() as u32).filter(|row| counts[*row as usize]).collect();
        Ok((exact, rows))
    }
}

fn no_column<'a>(name: &str, there: impl Iterator<Item = &'a str>) -> TableFault {
    let hint = nearest(name, there).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    TableFault::NoColumn { name: name.to_owned(), hint }
}

/// At most 60 characters, for messages.
fn shortened(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().take(60).collect()
}

enum JsonCell<'a> {
    Null,
    Text(Cow<'a, str>),
    Json(Cow<'a, str>),
}

/// Takes valid JSON apart: strings unescaped, everything else verbatim but for white space.
fn json_cell(text: &str) -> JsonCell<'_> {
    let text = text.trim();
    match text.as_bytes().first() {
        Some(b'n') => JsonCell::Null,
        Some(b'"') => match serde_json::from_str::<Cow<'_, str>>(text) {
            Ok(text) => JsonCell::Text(text),
            Err(_) => JsonCell::Json(Cow::Borrowed(text)),
        },
        Some(b'{' | b'[') => JsonCell::Json(Cow::Owned(compact(text))),
        _ => JsonCell::Json(Cow::Borrowed(text)),
    }
}

/// Valid JSON without white space between its tokens: a config may be spread over lines, a record is not.
fn compact(text: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let keep = |character: &char| {
        let keep = quoted || !character.is_ascii_whitespace();
        quoted ^= *character == '"' && !escaped;
        escaped = quoted && *character == '\\' && !escaped;
        keep
    };
    text.chars().filter(keep).collect()
}

fn csv_cell(text: &[u8], kind: CsvType) -> Result<Cell<'_>, &'static str> {
    let json =
        || std::str::from_utf8(text).ok().filter(|text| serde_json::from_str::<&RawValue>(text).is_ok());
    let number = || {
        text.first().is_some_and(|byte| *byte == b'-' || byte.is_ascii_digit())
            && text.last().is_some_and(u8::is_ascii_digit)
            && json().is_some()
    };
    let boolean = || text == b"true" || text == b"false";
    match kind {
        CsvType::Text => Ok(Cell::Text(text)),
        _ if text.is_empty() => Ok(Cell::Null),
        CsvType::Number if number() => Ok(Cell::Json(text)),
        CsvType::Number => Err("JSON number"),
        CsvType::Boolean if boolean() => Ok(Cell::Json(text)),
        CsvType::Boolean => Err("`true` or `false`"),
        CsvType::Json => match json() {
            Some("null") => Ok(Cell::Null),
            Some(json) => Ok(Cell::Json(json.as_bytes())),
            None => Err("JSON value"),
        },
        CsvType::Auto if number() || boolean() => Ok(Cell::Json(text)),
        CsvType::Auto => Ok(Cell::Text(text)),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
