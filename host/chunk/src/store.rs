//! A column of cells of one type, one per row, with the operation that each row's cell stands for.
//!
//! Owns: checked copies of what a guest wrote, with the rows whose value is refused, and the conversion of
//! single cells. Refuses to know payloads or paths.

use crate::cells::{Cells, CellsRef, Column, FloatsRef, IntsRef, check_states, state, write};
use crate::error::Misuse;
use crate::number;
use crate::scan::one_value;
use crate::text::{clean_and_ascii, quote_into, unescape_into};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Unescaped text; also bytes of any kind outside of payloads.
    #[default]
    Text,
    /// JSON text of one value.
    Raw,
    Floats,
    Ints,
}

/// Why a row cannot take what was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Utf8,
    NotOneValue,
    NotFinite,
    NoObject,
    WayBlocked,
}

/// A column of cells; `state` holds the operations of [`write`](crate::write).
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) kind: Kind,
    pub(crate) state: Vec<u8>,
    pub(crate) values: Column,
    pub(crate) floats: Vec<f64>,
    pub(crate) ints: Vec<i64>,
    /// Text of which nothing needs escaping.
    pub(crate) clean: bool,
    /// Bit `1 << state` for every state that occurs.
    pub(crate) mask: u8,
    /// The turn whose rows index this column.
    pub(crate) epoch: usize,
    /// Rows in rising order.
    pub(crate) faults: Vec<(u32, Fault)>,
}

/// One cell, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Text(&'a [u8]),
    Raw(&'a [u8]),
    Float(f64),
    Int(i64),
}

pub(crate) const fn bit(state: u8) -> u8 {
    1 << state
}

fn mask_of(states: &[u8]) -> u8 {
    states.iter().fold(0, |mask, &state| mask | (1u8 << (state & 7)))
}

impl Store {
    pub(crate) fn reset(&mut self, kind: Kind) {
        self.kind = kind;
        self.state.clear();
        self.values.clear();
        self.floats.clear();
        self.ints.clear();
        self.clean = kind == Kind::Text;
        self.mask = 0;
        self.epoch = 0;
        self.faults.clear();
    }

    /// Makes room for cells that are pushed.
    pub(crate) fn reserve(&mut self, rows: usize, bytes: usize) {
        self.state.reserve(rows);
        match self.kind {
            Kind::Text | Kind::Raw => {
                self.values.ends.reserve(rows);
                self.values.data.reserve(bytes);
            }
            Kind::Floats => self.floats.reserve(rows),
            Kind::Ints => self.ints.reserve(rows),
        }
    }

    /// Size for the limits, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.state.len() + self.values.data.len() + 8 * (self.floats.len() + self.ints.len())
    }

    /// Bytes as they are: keys, attributes, partitions, payloads.
    pub(crate) fn fill_bytes(&mut self, values: CellsRef<'_>, rows: usize) -> Result<(), Misuse> {
        values.check(rows)?;
        self.reset(Kind::Text);
        self.copy_cells(values);
        Ok(())
    }

    /// Text of JSON strings.
    pub(crate) fn fill_text(&mut self, values: CellsRef<'_>, rows: usize) -> Result<(), Misuse> {
        self.fill_bytes(values, rows)?;
        let (clean, ascii) = clean_and_ascii(&self.values.data);
        if !ascii && !whole_utf8(&self.values) {
            for row in 0..rows {
                if std::str::from_utf8(self.values.as_ref().get(row)).is_err() {
                    self.faults.push((row as u32, Fault::Utf8));
                }
            }
        }
        self.clean = clean;
        Ok(())
    }

    /// JSON values of at most `depth` levels.
    pub(crate) fn fill_raw(&mut self, values: CellsRef<'_>, rows: usize, depth: usize) -> Result<(), Misuse> {
        values.check(rows)?;
        self.reset(Kind::Raw);
        self.mask = mask_of(values.state);
        self.state.extend_from_slice(values.state);
        let utf8 = simdutf8::basic::from_utf8(values.values.data).is_ok();
        for row in 0..rows {
            if let Some(text) = values.get(row) {
                let valid = utf8 && !starts_inside(text) || std::str::from_utf8(text).is_ok();
                match one_value(text, depth).filter(|_| valid) {
                    Some(value) => self.values.data.extend_from_slice(value),
                    None => self.faults.push((row as u32, Fault::NotOneValue)),
                }
            }
            self.values.end_row();
        }
        Ok(())
    }

    pub(crate) fn fill_floats(&mut self, values: FloatsRef<'_>, rows: usize) -> Result<(), Misuse> {
        check_states(values.state, rows)?;
        if values.values.len() != rows {
            return Err(Misuse::Length { expected: rows, got: values.values.len() });
        }
        self.reset(Kind::Floats);
        self.mask = mask_of(values.state);
        self.state.extend_from_slice(values.state);
        self.floats.extend_from_slice(values.values);
        for (row, (value, &state)) in self.floats.iter_mut().zip(values.state).enumerate() {
            if state != write::VALUE {
                *value = 0.0;
            } else if !value.is_finite() {
                self.faults.push((row as u32, Fault::NotFinite));
            }
        }
        Ok(())
    }

    pub(crate) fn fill_ints(&mut self, values: IntsRef<'_>, rows: usize) -> Result<(), Misuse> {
        check_states(values.state, rows)?;
        if values.values.len() != rows {
            return Err(Misuse::Length { expected: rows, got: values.values.len() });
        }
        self.reset(Kind::Ints);
        self.mask = mask_of(values.state);
        self.state.extend_from_slice(values.state);
        self.ints.extend_from_slice(values.values);
        if self.mask != bit(write::VALUE) {
            for (value, &state) in self.ints.iter_mut().zip(values.state) {
                if state != write::VALUE {
                    *value = 0;
                }
            }
        }
        Ok(())
    }

    /// Copies checked cells; what stands in a row without a value is left out.
    fn copy_cells(&mut self, values: CellsRef<'_>) {
        self.mask = mask_of(values.state);
        self.state.extend_from_slice(values.state);
        let column = values.values;
        let idle = self.mask != bit(write::VALUE)
            && (0..values.len())
                .any(|row| values.state[row] != write::VALUE && !column.range(row).is_empty());
        if idle {
            for row in 0..values.len() {
                self.values.push(values.get(row).unwrap_or_default());
            }
        } else {
            self.values.data.extend_from_slice(column.data);
            self.values.ends.extend_from_slice(column.ends);
        }
    }

    /// Null and remove mean the same as missing outside of payloads.
    pub(crate) fn only_values(&mut self) {
        if self.mask & !(bit(write::LEAVE) | bit(write::VALUE)) != 0 {
            for state in self.state.iter_mut().filter(|state| **state != write::VALUE) {
                *state = state::MISSING;
            }
            self.mask = mask_of(&self.state);
        }
    }

    pub(crate) fn cells(&self) -> CellsRef<'_> {
        CellsRef { state: &self.state, values: self.values.as_ref() }
    }

    /// The value of a row with state 3.
    #[inline]
    pub(crate) fn value(&self, row: usize) -> Value<'_> {
        match self.kind {
            Kind::Text => Value::Text(self.values.as_ref().get(row)),
            Kind::Raw => Value::Raw(self.values.as_ref().get(row)),
            Kind::Floats => Value::Float(self.floats[row]),
            Kind::Ints => Value::Int(self.ints[row]),
        }
    }

    /// Appends a cell; converts the value if this column is raw and the value is not.
    pub(crate) fn push(&mut self, op: u8, value: Option<Value<'_>>) {
        self.state.push(op);
        self.mask |= bit(op);
        match self.kind {
            Kind::Text | Kind::Raw => {
                match (self.kind, value) {
                    (Kind::Text, Some(Value::Text(text))) => self.values.data.extend_from_slice(text),
                    (Kind::Raw, Some(value)) => value.write_json(&mut self.values.data),
                    _ => {}
                }
                self.values.end_row();
            }
            Kind::Floats => self.floats.push(if let Some(Value::Float(value)) = value { value } else { 0.0 }),
            Kind::Ints => self.ints.push(if let Some(Value::Int(value)) = value { value } else { 0 }),
        }
    }
}

impl Value<'_> {
    /// Appends the value as JSON text.
    pub(crate) fn write_json(self, out: &mut Vec<u8>) {
        match self {
            Value::Text(text) => quote_into(text, out),
            Value::Raw(raw) => out.extend_from_slice(raw),
            Value::Float(value) => number::float_into(value, out),
            Value::Int(value) => number::int_into(value, out),
        }
    }

    pub(crate) fn push_text(self, cells: &mut Cells) {
        match self {
            Value::Text(text) => cells.push(state::VALUE, text),
            Value::Raw(raw) => push_text_of(raw, raw.contains(&b'\\'), cells),
            Value::Float(_) | Value::Int(_) => cells.push(state::OTHER, b""),
        }
    }

    pub(crate) fn push_raw(self, cells: &mut Cells) {
        if let Value::Raw(raw) = self {
            return push_raw_of(raw, cells);
        }
        cells.state.push(state::VALUE);
        self.write_json(&mut cells.values.data);
        cells.values.end_row();
    }

    pub(crate) fn float(self) -> (u8, f64) {
        match self {
            Value::Text(_) => (state::OTHER, 0.0),
            Value::Raw(raw) => float_of(raw),
            Value::Float(value) => (state::VALUE, value),
            Value::Int(value) => (state::VALUE, value as f64),
        }
    }

    pub(crate) fn int(self) -> (u8, i64) {
        match self {
            Value::Text(_) => (state::OTHER, 0),
            Value::Raw(raw) => int_of(raw),
            Value::Int(value) => (state::VALUE, value),
            Value::Float(value) => {
                // The range of s64 in floats: -2^63 is exact, 2^63 is the first one too large.
                let fits = value.trunc() == value && (-(2f64.powi(63))..2f64.powi(63)).contains(&value);
                if fits { (state::VALUE, value as i64) } else { (state::OTHER, 0) }
            }
        }
    }
}

/// Appends the JSON text of a value as text.
#[inline]
pub(crate) fn push_text_of(raw: &[u8], escaped: bool, cells: &mut Cells) {
    match raw.first() {
        Some(b'"') => {
            let inner = &raw[1..raw.len() - 1];
            if escaped {
                cells.state.push(state::VALUE);
                unescape_into(inner, &mut cells.values.data);
                cells.values.end_row();
            } else {
                cells.push(state::VALUE, inner);
            }
        }
        Some(b'n') => cells.push(state::NULL, b""),
        _ => cells.push(state::OTHER, b""),
    }
}

#[inline]
pub(crate) fn push_raw_of(raw: &[u8], cells: &mut Cells) {
    if raw == b"null" { cells.push(state::NULL, b"") } else { cells.push(state::VALUE, raw) }
}

#[inline]
pub(crate) fn float_of(raw: &[u8]) -> (u8, f64) {
    match raw.first() {
        Some(b'-' | b'0'..=b'9') => match number::float(raw) {
            Some(value) => (state::VALUE, value),
            None => (state::OTHER, 0.0),
        },
        Some(b'n') => (state::NULL, 0.0),
        _ => (state::OTHER, 0.0),
    }
}

#[inline]
pub(crate) fn int_of(raw: &[u8]) -> (u8, i64) {
    match raw.first() {
        Some(b'-' | b'0'..=b'9') => match number::int(raw) {
            Some(value) => (state::VALUE, value),
            None => (state::OTHER, 0),
        },
        Some(b'n') => (state::NULL, 0),
        _ => (state::OTHER, 0),
    }
}

/// Whether a value starts with a continuation byte: then a character is cut in two before it.
#[inline]
pub(crate) fn starts_inside(text: &[u8]) -> bool {
    matches!(text.first(), Some(0x80..=0xBF))
}

/// Whether every value is UTF-8: the whole is, and no value starts inside a character.
fn whole_utf8(values: &Column) -> bool {
    simdutf8::basic::from_utf8(&values.data).is_ok()
        && values.ends.iter().all(|&end| !starts_inside(values.data.get(end as usize..).unwrap_or(&[])))
}
