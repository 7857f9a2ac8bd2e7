//! What a query gave, as the JSON texts of its cells, and how it is written into rows. SQL's NULL is written as null.

use rusqlite::types::ValueRef;
use wasmill_keyed::key::quote;
use wasmill_sdk::{Chunk, Field, TextColumn};

use crate::kind::{Kind, is_number};

/// Rows of the result that the rows of a chunk get their fields from; `None`: the row is left alone.
pub(crate) type Picks = Vec<Option<usize>>;

/// Rows of a result.
#[derive(Default)]
pub(crate) struct Results {
    columns: usize,
    text: Vec<u8>,
    /// Where each cell ends, row after row; one without text is null.
    ends: Vec<usize>,
    /// The record of each row, where one stands behind it.
    pub(crate) sources: Vec<usize>,
}

impl Results {
    pub(crate) fn new(columns: usize) -> Self {
        Self { columns, ..Self::default() }
    }

    pub(crate) fn rows(&self) -> usize {
        self.ends.len() / self.columns.max(1)
    }

    /// Appends a cell. `Err`: why there is nothing in JSON for it.
    pub(crate) fn push(&mut self, value: ValueRef<'_>, kind: Option<Kind>) -> Result<(), String> {
        match (value, kind) {
            (ValueRef::Null, _) => {}
            (ValueRef::Integer(is @ (0 | 1)), Some(Kind::Bool)) => {
                self.text.extend_from_slice(if is == 1 { b"true" } else { b"false" });
            }
            (ValueRef::Text(text), Some(Kind::Json)) => {
                let json = std::str::from_utf8(text).map_err(|_| "it is no UTF-8".to_owned())?;
                if Kind::Json.of_json(json).is_none() {
                    return Err("it is no JSON".to_owned());
                }
                self.text.extend_from_slice(text);
            }
            (ValueRef::Text(text), Some(Kind::Decimal)) => {
                let is_decimal = std::str::from_utf8(text).is_ok_and(is_number);
                if !is_decimal {
                    return Err("it is no number".to_owned());
                }
                self.text.extend_from_slice(text);
            }
            (_, Some(Kind::Bool)) => return Err("it is neither 0 nor 1, as a boolean is".to_owned()),
            (ValueRef::Integer(number), _) => self.text.extend_from_slice(number.to_string().as_bytes()),
            (ValueRef::Real(number), _) => {
                let number = serde_json::Number::from_f64(number).ok_or("the number is infinite")?;
                self.text.extend_from_slice(number.to_string().as_bytes());
            }
            (ValueRef::Text(text), _) => {
                std::str::from_utf8(text).map_err(|_| "it is no UTF-8".to_owned())?;
                quote(text, &mut self.text);
            }
            (ValueRef::Blob(_), _) => {
                return Err("it is a blob, for which JSON has nothing: use hex()".to_owned());
            }
        }
        self.ends.push(self.text.len());
        Ok(())
    }

    /// Takes the cells of an unfinished row away.
    pub(crate) fn undo(&mut self) {
        self.ends.truncate(self.rows() * self.columns);
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
    }

    fn cell(&self, row: usize, column: usize) -> &[u8] {
        let at = row * self.columns + column;
        let begin = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(at).and_then(|end| self.text.get(begin..*end)).unwrap_or_default()
    }

    /// Writes the picked rows into fields.
    pub(crate) fn write(&self, rows: &Chunk<'_>, fields: &[Field], picks: &Picks) {
        for (number, field) in fields.iter().enumerate() {
            let mut column = TextColumn::new();
            for pick in picks {
                match pick.map(|row| self.cell(row, number)) {
                    None => column.push_missing(),
                    Some([]) => column.push_null(),
                    Some(json) => column.push_bytes(json),
                }
            }
            rows.set_raw(*field, &column);
        }
    }
}
