//! Columns: what a chunk hands out for one field ([`Text`], [`Floats`], [`Ints`], [`Payloads`]) and what a plugin
//! fills to write one ([`TextColumn`], [`FloatColumn`], [`IntColumn`], [`Strings`]).
//!
//! All are flat: one buffer of bytes plus ends, one state byte per row. Writers keep their buffers when cleared,
//! so a plugin that holds them allocates nothing per chunk once warm. Nothing here coerces: a field of another
//! JSON type is [`Cell::Other`], and the plugin decides.

pub(crate) mod raw {
    //! The plain structs behind the columns: generated from the WIT in a guest, the host's own elsewhere.
    #[cfg(target_arch = "wasm32")]
    pub(crate) use crate::face::bindings::wasmill::plugin::records::{Cells, Column, Floats, Ints};
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) use wasmill_chunk::{Cells, Column, Floats, Ints};
}

/// The field is absent.
const MISSING: u8 = 0;
/// Read: JSON null. Written: JSON null.
const NULL: u8 = 1;
/// Read: a value of another type. Written: remove the field.
const OTHER: u8 = 2;
/// A value.
const VALUE: u8 = 3;

/// What one row has in a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<T> {
    /// The field is absent.
    Missing,
    /// The field is JSON null.
    Null,
    /// The field has a value of another JSON type.
    Other,
    /// The value.
    Value(T),
}

impl<T> Cell<T> {
    /// The value, if there is one.
    pub fn value(self) -> Option<T> {
        match self {
            Cell::Value(value) => Some(value),
            Cell::Missing | Cell::Null | Cell::Other => None,
        }
    }
}

#[inline]
fn span(column: &raw::Column, row: usize) -> &[u8] {
    let start = if row == 0 { 0 } else { column.ends[row - 1] as usize };
    &column.data[start..column.ends[row] as usize]
}

/// The length as an end. A chunk is far below 4 GiB: the host refuses more long before this saturates.
#[inline]
fn end_of(data: &[u8]) -> u32 {
    u32::try_from(data.len()).unwrap_or(u32::MAX)
}

/// Texts (or raw JSON values, or keys) of one field, one cell per row.
#[derive(Debug)]
pub struct Text(pub(crate) raw::Cells);

impl Text {
    /// Rows in the column.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.state.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.state.is_empty()
    }

    /// The value's bytes (UTF-8), or `None` where the field is missing, null or of another type.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        (self.0.state[row] == VALUE).then(|| span(&self.0.values, row))
    }

    /// The value's bytes, empty where there is no value.
    #[inline]
    #[must_use]
    pub fn bytes(&self, row: usize) -> &[u8] {
        span(&self.0.values, row)
    }

    /// The value as `str`, or `None` where there is none.
    #[inline]
    #[must_use]
    pub fn str(&self, row: usize) -> Option<&str> {
        self.get(row).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The whole cell.
    #[inline]
    #[must_use]
    pub fn cell(&self, row: usize) -> Cell<&[u8]> {
        match self.0.state[row] {
            MISSING => Cell::Missing,
            NULL => Cell::Null,
            VALUE => Cell::Value(span(&self.0.values, row)),
            _ => Cell::Other,
        }
    }

    /// One state byte per row: 0 missing, 1 null, 2 other type, 3 value.
    #[must_use]
    pub fn states(&self) -> &[u8] {
        &self.0.state
    }

    /// All values one after the other: value `i` is `data()[ends()[i - 1]..ends()[i]]`.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.0.values.data
    }

    /// The end of each row's value in [`Text::data`].
    #[must_use]
    pub fn ends(&self) -> &[u32] {
        &self.0.values.ends
    }

    /// All cells in order.
    pub fn iter(&self) -> impl Iterator<Item = Cell<&[u8]>> {
        (0..self.len()).map(|row| self.cell(row))
    }
}

/// The payloads of a chunk, one per row.
#[derive(Debug)]
pub struct Payloads(pub(crate) raw::Column);

impl Payloads {
    /// Rows in the column.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.ends.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    /// The bytes of one payload.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> &[u8] {
        span(&self.0, row)
    }

    /// All payloads one after the other.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.0.data
    }

    /// The end of each payload in [`Payloads::data`].
    #[must_use]
    pub fn ends(&self) -> &[u32] {
        &self.0.ends
    }

    /// All payloads in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|row| self.get(row))
    }
}

macro_rules! numbers {
    ($read:ident, $write:ident, $raw:ident, $number:ty, $zero:expr, $what:literal) => {
        #[doc = concat!("The ", $what, " of one field, one cell per row.")]
        #[derive(Debug)]
        pub struct $read(pub(crate) raw::$raw);

        impl $read {
            /// Rows in the column.
            #[must_use]
            pub fn len(&self) -> usize {
                self.0.state.len()
            }

            /// Whether there are no rows.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.state.is_empty()
            }

            /// The value, or `None` where the field is missing, null or of another type.
            #[inline]
            #[must_use]
            pub fn get(&self, row: usize) -> Option<$number> {
                (self.0.state[row] == VALUE).then(|| self.0.values[row])
            }

            /// The whole cell.
            #[inline]
            #[must_use]
            pub fn cell(&self, row: usize) -> Cell<$number> {
                match self.0.state[row] {
                    MISSING => Cell::Missing,
                    NULL => Cell::Null,
                    VALUE => Cell::Value(self.0.values[row]),
                    _ => Cell::Other,
                }
            }

            /// One state byte per row: 0 missing, 1 null, 2 other type, 3 value.
            #[must_use]
            pub fn states(&self) -> &[u8] {
                &self.0.state
            }

            /// One number per row; 0 where there is no value.
            #[must_use]
            pub fn values(&self) -> &[$number] {
                &self.0.values
            }

            /// All cells in order.
            pub fn iter(&self) -> impl Iterator<Item = Cell<$number>> {
                (0..self.len()).map(|row| self.cell(row))
            }
        }

        #[doc = concat!("A column of ", $what, " to write: push one cell per row.")]
        #[derive(Debug)]
        pub struct $write(pub(crate) raw::$raw);

        impl Default for $write {
            fn default() -> Self {
                Self::new()
            }
        }

        impl $write {
            /// An empty column.
            #[must_use]
            pub const fn new() -> Self {
                Self(raw::$raw { state: Vec::new(), values: Vec::new() })
            }

            /// Forgets the cells, keeps the buffers.
            pub fn clear(&mut self) {
                self.0.state.clear();
                self.0.values.clear();
            }

            /// Rows so far.
            #[must_use]
            pub fn len(&self) -> usize {
                self.0.state.len()
            }

            /// Whether there are no rows yet.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.state.is_empty()
            }

            /// The next row gets this value.
            #[inline]
            pub fn push(&mut self, value: $number) {
                self.0.state.push(VALUE);
                self.0.values.push(value);
            }

            #[inline]
            fn push_state(&mut self, state: u8) {
                self.0.state.push(state);
                self.0.values.push($zero);
            }

            /// The next row's field is left alone.
            #[inline]
            pub fn push_missing(&mut self) {
                self.push_state(MISSING);
            }

            /// The next row's field becomes JSON null.
            #[inline]
            pub fn push_null(&mut self) {
                self.push_state(NULL);
            }

            /// The next row's field is removed.
            #[inline]
            pub fn push_remove(&mut self) {
                self.push_state(OTHER);
            }

            /// `Some` is a value, `None` leaves the field alone.
            #[inline]
            pub fn push_option(&mut self, value: Option<$number>) {
                match value {
                    Some(value) => self.push(value),
                    None => self.push_missing(),
                }
            }

            /// Leaves the field alone in this and all following rows up to `rows` rows.
            pub fn pad(&mut self, rows: usize) {
                if rows > self.len() {
                    self.0.state.resize(rows, MISSING);
                    self.0.values.resize(rows, $zero);
                }
            }

            /// Starts a chunk of `rows` rows that are then set by number; those not set are 0.
            pub fn start(&mut self, rows: usize) {
                self.clear();
                self.0.state.resize(rows, VALUE);
                self.0.values.resize(rows, $zero);
            }

            /// After `start`: row `row` gets this value.
            #[inline(always)]
            pub fn set(&mut self, row: usize, value: $number) {
                self.0.values[row] = value;
            }

            /// After `start`: row `row`'s field is left alone.
            #[inline(always)]
            pub fn set_missing(&mut self, row: usize) {
                self.0.state[row] = MISSING;
            }

            /// After `start`: row `row`'s field becomes JSON null.
            #[inline(always)]
            pub fn set_null(&mut self, row: usize) {
                self.0.state[row] = NULL;
            }

            /// Takes back the last row.
            pub fn pop(&mut self) {
                self.0.state.pop();
                self.0.values.pop();
            }

            /// What was pushed for a row.
            #[must_use]
            pub fn get(&self, row: usize) -> Option<$number> {
                (self.0.state[row] == VALUE).then(|| self.0.values[row])
            }
        }
    };
}

numbers!(Floats, FloatColumn, Floats, f64, 0.0, "floating-point numbers");
numbers!(Ints, IntColumn, Ints, i64, 0, "integers");

/// A column of texts (or raw JSON values, or payloads) to write: push one cell per row.
#[derive(Debug)]
pub struct TextColumn(pub(crate) raw::Cells);

impl Default for TextColumn {
    fn default() -> Self {
        Self::new()
    }
}

impl TextColumn {
    /// An empty column.
    #[must_use]
    pub const fn new() -> Self {
        Self(raw::Cells { state: Vec::new(), values: raw::Column { data: Vec::new(), ends: Vec::new() } })
    }

    /// Forgets the cells, keeps the buffers.
    pub fn clear(&mut self) {
        self.0.state.clear();
        self.0.values.data.clear();
        self.0.values.ends.clear();
    }

    /// Makes room for so many further rows and bytes, so that pushing them does not allocate.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        self.0.state.reserve(rows);
        self.0.values.ends.reserve(rows);
        self.0.values.data.reserve(bytes);
    }

    /// Rows so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.state.len()
    }

    /// Whether there are no rows yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.state.is_empty()
    }

    /// The next row gets this value.
    #[inline]
    pub fn push(&mut self, value: &str) {
        self.push_bytes(value.as_bytes());
    }

    /// The next row gets this value. Bytes that are not UTF-8 make the host fail that row.
    #[inline]
    pub fn push_bytes(&mut self, value: &[u8]) {
        self.0.values.data.extend_from_slice(value);
        self.finish();
    }

    /// The buffer of the values, to append a value piece by piece; [`TextColumn::finish`] closes the cell.
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0.values.data
    }

    /// Closes a value that was appended to [`TextColumn::buffer`].
    #[inline]
    pub fn finish(&mut self) {
        self.0.state.push(VALUE);
        self.0.values.ends.push(end_of(&self.0.values.data));
    }

    /// Appends a value in the manner of `format!`, without an intermediate `String`.
    pub fn push_fmt(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a `Vec` cannot fail; a `Display` that reports an error leaves what it wrote.
        let written = std::io::Write::write_fmt(&mut self.0.values.data, arguments);
        debug_assert!(written.is_ok());
        self.finish();
    }

    #[inline]
    fn push_state(&mut self, state: u8) {
        // Bytes of an unfinished value would belong to this cell: drop them.
        let end = self.0.values.ends.last().copied().unwrap_or(0);
        self.0.values.data.truncate(end as usize);
        self.0.state.push(state);
        self.0.values.ends.push(end);
    }

    /// The next row's field is left alone.
    #[inline]
    pub fn push_missing(&mut self) {
        self.push_state(MISSING);
    }

    /// The next row's field becomes JSON null.
    #[inline]
    pub fn push_null(&mut self) {
        self.push_state(NULL);
    }

    /// The next row's field is removed.
    #[inline]
    pub fn push_remove(&mut self) {
        self.push_state(OTHER);
    }

    /// `Some` is a value, `None` leaves the field alone.
    #[inline]
    pub fn push_option(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.push_bytes(value),
            None => self.push_missing(),
        }
    }

    /// Leaves the field alone in all following rows up to `rows` rows.
    pub fn pad(&mut self, rows: usize) {
        if rows > self.len() {
            let end = self.0.values.ends.last().copied().unwrap_or(0);
            self.0.values.data.truncate(end as usize);
            self.0.state.resize(rows, MISSING);
            self.0.values.ends.resize(rows, end);
        }
    }

    /// Takes back the last row.
    pub fn pop(&mut self) {
        self.0.state.pop();
        self.0.values.ends.pop();
        let end = self.0.values.ends.last().copied().unwrap_or(0);
        self.0.values.data.truncate(end as usize);
    }

    /// What was pushed for a row, as bytes.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        (self.0.state[row] == VALUE).then(|| span(&self.0.values, row))
    }
}

/// Plain byte strings one after the other, for reasons of failures and keys of state.
#[derive(Debug)]
pub struct Strings(pub(crate) raw::Column);

impl Default for Strings {
    fn default() -> Self {
        Self::new()
    }
}

impl Strings {
    /// No strings.
    #[must_use]
    pub const fn new() -> Self {
        Self(raw::Column { data: Vec::new(), ends: Vec::new() })
    }

    /// Forgets the strings, keeps the buffers.
    pub fn clear(&mut self) {
        self.0.data.clear();
        self.0.ends.clear();
    }

    /// Strings so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    /// Appends one string.
    pub fn push(&mut self, value: &str) {
        self.push_bytes(value.as_bytes());
    }

    /// Appends one string of any bytes.
    pub fn push_bytes(&mut self, value: &[u8]) {
        self.0.data.extend_from_slice(value);
        self.0.ends.push(end_of(&self.0.data));
    }
}
