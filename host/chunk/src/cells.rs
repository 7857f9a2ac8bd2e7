//! Flat columns and cells: the shapes in which values cross the plugin boundary, owned and borrowed.
//!
//! Owns the layout (one data buffer, one end per row), its check, and the meaning of the state bytes.
//! Refuses to interpret the bytes.

use crate::error::Misuse;

/// State bytes that a read returns.
pub mod state {
    /// The path leads nowhere, or the payload is not JSON.
    pub const MISSING: u8 = 0;
    /// JSON `null`.
    pub const NULL: u8 = 1;
    /// A value of another type than the one asked for.
    pub const OTHER: u8 = 2;
    /// The value is in the column.
    pub const VALUE: u8 = 3;
}

/// State bytes that a write takes.
pub mod write {
    /// The row keeps what it has.
    pub const LEAVE: u8 = 0;
    /// The row gets JSON `null`.
    pub const NULL: u8 = 1;
    /// The row loses the value, and with it the object key.
    pub const REMOVE: u8 = 2;
    /// The row gets the value in the column.
    pub const VALUE: u8 = 3;
}

/// Variable-length values; value `i` is `data[ends[i-1]..ends[i]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    pub data: Vec<u8>,
    pub ends: Vec<u32>,
}

/// A borrowed [`Column`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColumnRef<'a> {
    pub data: &'a [u8],
    pub ends: &'a [u32],
}

/// One state byte and one value per row; the value is empty unless the state is 3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cells {
    pub state: Vec<u8>,
    pub values: Column,
}

/// Borrowed [`Cells`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CellsRef<'a> {
    pub state: &'a [u8],
    pub values: ColumnRef<'a>,
}

/// One state byte and one float per row; the float is 0 unless the state is 3.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Floats {
    pub state: Vec<u8>,
    pub values: Vec<f64>,
}

/// Borrowed [`Floats`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FloatsRef<'a> {
    pub state: &'a [u8],
    pub values: &'a [f64],
}

/// One state byte and one integer per row; the integer is 0 unless the state is 3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ints {
    pub state: Vec<u8>,
    pub values: Vec<i64>,
}

/// Borrowed [`Ints`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntsRef<'a> {
    pub state: &'a [u8],
    pub values: &'a [i64],
}

impl Column {
    pub fn as_ref(&self) -> ColumnRef<'_> {
        ColumnRef { data: &self.data, ends: &self.ends }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
    }

    /// Appends one value. The caller keeps the column below 4 GiB.
    pub fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.end_row();
    }

    /// Ends the row whose bytes were appended to `data` directly.
    pub fn end_row(&mut self) {
        self.ends.push(self.data.len() as u32);
    }
}

impl<'a> ColumnRef<'a> {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Byte range of value `row`. The column must have been [checked](ColumnRef::check).
    #[inline]
    pub fn range(&self, row: usize) -> std::ops::Range<usize> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        start..self.ends[row] as usize
    }

    /// Value `row`. The column must have been [checked](ColumnRef::check).
    #[inline]
    pub fn get(&self, row: usize) -> &'a [u8] {
        &self.data[self.range(row)]
    }

    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        (0..self.len()).map(move |row| self.get(row))
    }

    /// Whether there is one end per row, none smaller than the one before, the last the length of the data.
    pub fn check(&self, rows: usize) -> Result<(), Misuse> {
        if self.ends.len() != rows {
            return Err(Misuse::Length { expected: rows, got: self.ends.len() });
        }
        if self.ends.last().map_or(0, |&end| end as usize) != self.data.len() {
            return Err(Misuse::Ends);
        }
        // A fold without an early exit, so that it is vectorised.
        let falling = self.ends.windows(2).fold(false, |falling, pair| falling | (pair[1] < pair[0]));
        if falling { Err(Misuse::Ends) } else { Ok(()) }
    }
}

impl Cells {
    pub fn as_ref(&self) -> CellsRef<'_> {
        CellsRef { state: &self.state, values: self.values.as_ref() }
    }

    pub fn len(&self) -> usize {
        self.state.len()
    }

    pub fn is_empty(&self) -> bool {
        self.state.is_empty()
    }

    pub fn clear(&mut self) {
        self.state.clear();
        self.values.clear();
    }

    /// Appends a cell; `value` must be empty unless `state` is 3.
    pub fn push(&mut self, state: u8, value: &[u8]) {
        self.state.push(state);
        self.values.push(value);
    }

    /// Appends a value (state 3), or leaves alone / missing (state 0).
    pub fn push_option(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.push(state::VALUE, value),
            None => self.push(state::MISSING, b""),
        }
    }
}

impl<'a> CellsRef<'a> {
    pub fn len(&self) -> usize {
        self.state.len()
    }

    pub fn is_empty(&self) -> bool {
        self.state.is_empty()
    }

    /// The value of `row` if its state is 3.
    #[inline]
    pub fn get(&self, row: usize) -> Option<&'a [u8]> {
        (self.state[row] == state::VALUE).then(|| self.values.get(row))
    }

    /// What `get-strings` returns: values, and `None` for states 0 to 2.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Option<&'a [u8]>> {
        (0..self.len()).map(move |row| self.get(row))
    }

    /// Checks lengths, ends, and that no state is above `state_max`.
    pub fn check(&self, rows: usize) -> Result<(), Misuse> {
        check_states(self.state, rows)?;
        self.values.check(rows)
    }
}

impl Floats {
    pub fn as_ref(&self) -> FloatsRef<'_> {
        FloatsRef { state: &self.state, values: &self.values }
    }
}

impl Ints {
    pub fn as_ref(&self) -> IntsRef<'_> {
        IntsRef { state: &self.state, values: &self.values }
    }
}

/// One state per row, none above 3.
pub(crate) fn check_states(states: &[u8], rows: usize) -> Result<(), Misuse> {
    if states.len() != rows {
        return Err(Misuse::Length { expected: rows, got: states.len() });
    }
    let max = states.iter().fold(0, |max, &state| max.max(state));
    if max > 3 { Err(Misuse::State { state: max }) } else { Ok(()) }
}
