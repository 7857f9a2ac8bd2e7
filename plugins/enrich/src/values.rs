//! The table's columns as they are written into records: every cell is prepared once, when the table is read.
//!
//! A column of strings is written as text (the host escapes), one of whole numbers as integers, any other as JSON
//! verbatim. The last cell of a column is what a record without a match gets.

use wasmill_sdk::{Chunk, Field, IntColumn, TextColumn};

/// One cell of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// The record's field is left alone.
    Missing,
    /// JSON null.
    Null,
    /// A string, unescaped.
    Text(&'a [u8]),
    /// Any other JSON value as its text.
    Json(&'a [u8]),
}

const MISSING: u8 = 0;
const NULL: u8 = 1;
const TEXT: u8 = 2;
const JSON: u8 = 3;

/// Bytes that may be read behind the last cell: short cells are copied in one step of this size.
const STEP: usize = 16;

/// A column that is being read.
#[derive(Debug, Default)]
pub struct Builder {
    tags: Vec<u8>,
    data: Vec<u8>,
    ends: Vec<u32>,
}

impl Builder {
    /// Appends a cell; `false` if the column would exceed 4 GiB.
    #[must_use]
    pub fn push(&mut self, cell: Cell<'_>) -> bool {
        let (tag, bytes): (u8, &[u8]) = match cell {
            Cell::Missing => (MISSING, b""),
            Cell::Null => (NULL, b""),
            Cell::Text(bytes) => (TEXT, bytes),
            Cell::Json(bytes) => (JSON, bytes),
        };
        self.tags.push(tag);
        self.data.extend_from_slice(bytes);
        match u32::try_from(self.data.len()) {
            Ok(end) => self.ends.push(end),
            Err(_) => return false,
        }
        true
    }

    fn spans(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.tags.iter().enumerate().map(|(row, tag)| {
            let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
            (*tag, &self.data[start..self.ends[row] as usize])
        })
    }

    /// The column in its cheapest form.
    #[must_use]
    pub fn finish(self) -> Values {
        let has = |tag| self.tags.contains(&tag);
        let bare = |(tag, _): (u8, &[u8])| (tag != MISSING).then_some(tag == NULL);
        if has(JSON) && !has(TEXT) {
            let ints: Option<Vec<i64>> =
                self.spans().map(|(tag, bytes)| if tag == JSON { integer(bytes) } else { Some(0) }).collect();
            if let Some(values) = ints {
                return Values::Ints { state: self.tags, values };
            }
        }
        if !has(JSON) {
            let states = self
                .spans()
                .map(bare)
                .map(|null| null.map_or(MISSING, |null| if null { NULL } else { TEXT }));
            let state = states.collect();
            return Values::Text(Texts::new(state, self.data, &self.ends));
        }
        let (mut data, mut ends) = (Vec::with_capacity(self.data.len()), Vec::with_capacity(self.ends.len()));
        for (tag, bytes) in self.spans() {
            match tag {
                TEXT => quote(bytes, &mut data),
                _ => data.extend_from_slice(bytes),
            }
            // Quoting at most sixfolds, and `u32` saturates only behind 4 GiB, which a guest cannot hold.
            ends.push(u32::try_from(data.len()).unwrap_or(u32::MAX));
        }
        Values::Json(Texts::new(self.tags, data, &ends))
    }
}

/// A whole number that is written exactly as it stands in the table.
fn integer(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.parse::<i64>().ok().filter(|number| *number != 0 || text == "0")
}

fn quote(text: &[u8], out: &mut Vec<u8>) {
    // Cells are UTF-8: the reader of the table refuses others. Writing to a `Vec` cannot fail.
    let written = serde_json::to_writer(&mut *out, &String::from_utf8_lossy(text));
    debug_assert!(written.is_ok());
}

/// Cells of bytes with their spans.
#[derive(Debug)]
pub struct Texts {
    state: Vec<u8>,
    data: Vec<u8>,
    spans: Vec<(u32, u32)>,
}

impl Texts {
    fn new(state: Vec<u8>, mut data: Vec<u8>, ends: &[u32]) -> Self {
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let spans = starts.zip(ends).map(|(start, end)| (start, end - start)).collect();
        data.extend_from_slice(&[0; STEP]);
        data.shrink_to_fit();
        Self { state, data, spans }
    }

    #[inline]
    fn push(&self, row: usize, column: &mut TextColumn) {
        match self.state[row] {
            MISSING => column.push_missing(),
            NULL => column.push_null(),
            _ => {
                let (start, length) = (self.spans[row].0 as usize, self.spans[row].1 as usize);
                let buffer = column.buffer();
                if length <= STEP {
                    let end = buffer.len() + length;
                    if let Some(step) = self.data[start..].first_chunk::<STEP>() {
                        buffer.extend_from_slice(step);
                    }
                    buffer.truncate(end);
                } else {
                    buffer.extend_from_slice(&self.data[start..start + length]);
                }
                column.finish();
            }
        }
    }
}

/// A column ready to be written.
#[derive(Debug)]
pub enum Values {
    /// Strings.
    Text(Texts),
    /// Whole numbers.
    Ints {
        /// A tag per row; anything but missing and null is a value.
        state: Vec<u8>,
        /// The numbers.
        values: Vec<i64>,
    },
    /// JSON values as text.
    Json(Texts),
}

/// Columns that are filled anew for every chunk.
#[derive(Debug, Default)]
pub struct Scratch {
    text: TextColumn,
    ints: IntColumn,
}

impl Values {
    /// Rows, the one for records without a match included.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Values::Text(texts) | Values::Json(texts) => texts.state.len(),
            Values::Ints { state, .. } => state.len(),
        }
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes for each record the cell of the row that it hit.
    pub fn write(&self, hits: &[u32], field: Field, rows: &Chunk<'_>, scratch: &mut Scratch) {
        match self {
            Values::Text(texts) | Values::Json(texts) => {
                scratch.text.clear();
                for row in hits {
                    texts.push(*row as usize, &mut scratch.text);
                }
                match self {
                    Values::Text(_) => rows.set_text(field, &scratch.text),
                    _ => rows.set_raw(field, &scratch.text),
                }
            }
            Values::Ints { state, values } => {
                scratch.ints.clear();
                for row in hits {
                    match state[*row as usize] {
                        MISSING => scratch.ints.push_missing(),
                        NULL => scratch.ints.push_null(),
                        _ => scratch.ints.push(values[*row as usize]),
                    }
                }
                rows.set_ints(field, &scratch.ints);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(cells: &[Cell<'_>]) -> Values {
        let mut builder = Builder::default();
        assert!(cells.iter().all(|cell| builder.push(*cell)));
        builder.finish()
    }

    #[test]
    fn finish_chooses_the_cheapest_form_that_changes_nothing() {
        assert!(matches!(column(&[Cell::Text(b"a"), Cell::Null]), Values::Text(_)));
        assert!(matches!(column(&[Cell::Json(b"7"), Cell::Missing]), Values::Ints { .. }));
        assert!(matches!(column(&[Cell::Json(b"7"), Cell::Json(b"7.50")]), Values::Json(_)));
        assert!(matches!(column(&[Cell::Json(b"-0")]), Values::Json(_)));
        assert!(matches!(column(&[Cell::Json(b"7"), Cell::Text(b"a")]), Values::Json(_)));
    }

    #[test]
    fn push_cells_of_every_length_are_exact() {
        let texts: Vec<String> = (0..40).map(|length| "x".repeat(length)).collect();
        let cells: Vec<Cell<'_>> = texts.iter().map(|text| Cell::Text(text.as_bytes())).collect();
        let Values::Text(values) = column(&cells) else { panic!("strings make a text column") };
        let mut out = TextColumn::new();
        for (row, text) in texts.iter().enumerate() {
            values.push(row, &mut out);
            assert_eq!(out.get(row), Some(text.as_bytes()));
        }
    }
}
