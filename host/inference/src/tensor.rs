//! Values that pass between operators: numbers or texts in rows, row after row.

use std::sync::Arc;

use crate::error::ModelError;
use crate::limits::{LABEL_MEMORY_BYTES, MODEL_MEMORY_BYTES_MAX, NODES_MAX, RANK_MAX};
use crate::proto::{element, floats, ints};
use crate::wire::{Damaged, Fields, Value};

/// The elements. All integers are kept as 64 bits.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
    Text(Vec<Arc<str>>),
}

impl Data {
    /// How many elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Data::F32(data) => data.len(),
            Data::F64(data) => data.len(),
            Data::I64(data) => data.len(),
            Data::Bool(data) => data.len(),
            Data::Text(data) => data.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In words, for refusals.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Data::F32(_) => "float32",
            Data::F64(_) => "float64",
            Data::I64(_) => "integers",
            Data::Bool(_) => "bool",
            Data::Text(_) => "texts",
        }
    }

    /// Bytes of one element; texts are shared.
    pub(crate) fn width(&self) -> usize {
        match self {
            Data::F32(_) => 4,
            Data::F64(_) | Data::I64(_) => 8,
            Data::Bool(_) => 1,
            Data::Text(_) => 16,
        }
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len().saturating_mul(self.width())
    }

    /// The elements at these places, all of which there are.
    pub(crate) fn pick(&self, places: &[usize]) -> Data {
        fn each<T: Clone>(data: &[T], places: &[usize]) -> Vec<T> {
            places.iter().filter_map(|place| data.get(*place).cloned()).collect()
        }
        match self {
            Data::F32(data) => Data::F32(each(data, places)),
            Data::F64(data) => Data::F64(each(data, places)),
            Data::I64(data) => Data::I64(each(data, places)),
            Data::Bool(data) => Data::Bool(each(data, places)),
            Data::Text(data) => Data::Text(each(data, places)),
        }
    }

    /// The same elements from `start` on, `len` of them.
    pub(crate) fn part(&self, start: usize, len: usize) -> Data {
        fn each<T: Clone>(data: &[T], start: usize, len: usize) -> Vec<T> {
            data.get(start..).unwrap_or_default().iter().take(len).cloned().collect()
        }
        match self {
            Data::F32(data) => Data::F32(each(data, start, len)),
            Data::F64(data) => Data::F64(each(data, start, len)),
            Data::I64(data) => Data::I64(each(data, start, len)),
            Data::Bool(data) => Data::Bool(each(data, start, len)),
            Data::Text(data) => Data::Text(each(data, start, len)),
        }
    }

    /// Puts others of the same kind behind these; whether they are.
    pub(crate) fn append(&mut self, others: Data) -> bool {
        match (self, others) {
            (Data::F32(data), Data::F32(others)) => data.extend(others),
            (Data::F64(data), Data::F64(others)) => data.extend(others),
            (Data::I64(data), Data::I64(others)) => data.extend(others),
            (Data::Bool(data), Data::Bool(others)) => data.extend(others),
            (Data::Text(data), Data::Text(others)) => data.extend(others),
            _ => return false,
        }
        true
    }
}

/// Labels of the columns of scores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Classes {
    Numbers(Vec<i64>),
    Names(Vec<Arc<str>>),
}

impl Classes {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Classes::Numbers(numbers) => numbers.len(),
            Classes::Names(names) => names.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels at these places, all of which there are.
    pub(crate) fn pick(&self, places: &[usize]) -> Data {
        match self {
            Classes::Numbers(numbers) => Data::I64(numbers.clone()).pick(places),
            Classes::Names(names) => Data::Text(names.clone()).pick(places),
        }
    }
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    /// As many as the dimensions make.
    pub data: Data,
    /// Its first dimension is that of the rows that are scored; else it is the same whichever rows these are.
    pub rows: bool,
    /// What its last dimension stands for, where a classifier says so.
    pub classes: Option<Arc<Classes>>,
}

impl Tensor {
    /// Rows of `columns` numbers each.
    #[must_use]
    pub fn rows(columns: usize, data: Vec<f32>) -> Tensor {
        let rows = data.len() / columns.max(1);
        Tensor { shape: vec![rows, columns], data: Data::F32(data), rows: true, classes: None }
    }

    pub(crate) fn new(shape: Vec<usize>, data: Data, rows: bool) -> Tensor {
        Tensor { shape, data, rows, classes: None }
    }

    /// The first dimension; 1 of a single value.
    pub(crate) fn first(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// All but the last dimension, and that one; a single value is one row of one.
    pub(crate) fn matrix(&self) -> (usize, usize) {
        let columns = self.shape.last().copied().unwrap_or(1);
        let rows = self.shape.iter().rev().skip(1).product();
        (rows, columns)
    }

    /// `"[3, 4]"`.
    pub(crate) fn shown(&self) -> String {
        format!("{:?} of {}", self.shape, self.data.kind())
    }
}

/// How many elements a shape has, if that can be said. Of several dimensions none may be empty: loops over the others would go
/// round as often as a file likes, for nothing.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    if shape.len() > 1 && shape.contains(&0) {
        return None;
    }
    shape.iter().try_fold(1_usize, |product, length| product.checked_mul(*length))
}

/// A constant of the file with its name. What it takes is taken from `left`.
pub(crate) fn constant<'a>(body: &'a [u8], left: &mut usize) -> Result<(&'a str, Tensor), ModelError> {
    read(body, left).map_err(|trouble| match trouble {
        Trouble::Damaged => ModelError::Damaged { what: "a constant" },
        Trouble::Memory => ModelError::Memory { max: MODEL_MEMORY_BYTES_MAX },
        Trouble::Refused(reason) => ModelError::Graph(reason),
    })
}

enum Trouble {
    Damaged,
    Memory,
    Refused(String),
}

impl From<Damaged> for Trouble {
    fn from(Damaged: Damaged) -> Trouble {
        Trouble::Damaged
    }
}

fn read<'a>(body: &'a [u8], left: &mut usize) -> Result<(&'a str, Tensor), Trouble> {
    let (mut name, mut kind, mut raw, mut outside) = ("", 0, None, false);
    for field in Fields::of(body) {
        match field? {
            (2, value) => kind = value.int()?,
            (8, value) => name = value.text()?,
            (9, value) => raw = Some(value.bytes()?),
            (13, _) | (14, Value::Varint(1..)) => outside = true,
            _ => {}
        }
    }
    if outside {
        let reason = format!("constant {name:?} is in another file; export the model as one file");
        return Err(Trouble::Refused(reason));
    }
    let dimensions = ints(Fields::of(body), 1, RANK_MAX)?;
    let shape: Option<Vec<usize>> = dimensions.iter().map(|length| usize::try_from(*length).ok()).collect();
    let shape = shape.ok_or(Trouble::Damaged)?;
    let wanted = elements(&shape).ok_or(Trouble::Damaged)?;
    // No element is smaller than a byte of the file.
    let each = match kind {
        element::FLOAT => 4,
        element::STRING => LABEL_MEMORY_BYTES,
        _ => 8,
    };
    let charge = wanted.checked_mul(each).ok_or(Trouble::Memory)?;
    *left = left.checked_sub(charge).ok_or(Trouble::Memory)?;
    if wanted > body.len() {
        return Err(Trouble::Damaged);
    }
    let data = data_of(name, kind, raw, body, wanted)?;
    if data.len() != wanted {
        return Err(Trouble::Damaged);
    }
    Ok((name, Tensor::new(shape, data, false)))
}

fn data_of(name: &str, kind: i64, raw: Option<&[u8]>, body: &[u8], wanted: usize) -> Result<Data, Trouble> {
    fn of_raw<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Result<Vec<T>, Trouble> {
        let (chunks, rest) = raw.as_chunks::<N>();
        if rest.is_empty() {
            Ok(chunks.iter().map(|bytes| read(*bytes)).collect())
        } else {
            Err(Trouble::Damaged)
        }
    }
    let fields = || Fields::of(body);
    Ok(match (kind, raw) {
        (element::FLOAT, Some(raw)) => Data::F32(of_raw(raw, f32::from_le_bytes)?),
        (element::FLOAT, None) => Data::F32(floats(fields(), 4)?),
        (element::DOUBLE, Some(raw)) => Data::F64(of_raw(raw, f64::from_le_bytes)?),
        (element::DOUBLE, None) => {
            let mut numbers = Vec::new();
            for field in fields() {
                match field? {
                    (10, Value::Bytes(packed)) => numbers.extend(of_raw(packed, f64::from_le_bytes)?),
                    (10, Value::Fixed64(bytes)) => numbers.push(f64::from_le_bytes(bytes)),
                    _ => {}
                }
            }
            Data::F64(numbers)
        }
        (element::INT64, Some(raw)) => Data::I64(of_raw(raw, i64::from_le_bytes)?),
        (element::INT64, None) => Data::I64(ints(fields(), 7, wanted)?),
        (element::INT32, Some(raw)) => Data::I64(of_raw(raw, |bytes| i64::from(i32::from_le_bytes(bytes)))?),
        (element::UINT8, Some(raw)) => Data::I64(raw.iter().map(|byte| i64::from(*byte)).collect()),
        (element::INT8, Some(raw)) => {
            Data::I64(raw.iter().map(|byte| i64::from(byte.cast_signed())).collect())
        }
        (element::INT32 | element::UINT8 | element::INT8, None) => Data::I64(ints(fields(), 5, wanted)?),
        (element::BOOL, Some(raw)) => Data::Bool(raw.iter().map(|byte| *byte != 0).collect()),
        (element::BOOL, None) => {
            Data::Bool(ints(fields(), 5, wanted)?.into_iter().map(|number| number != 0).collect())
        }
        (element::STRING, _) => {
            let mut texts = Vec::new();
            for field in fields() {
                if let (6, value) = field? {
                    let text = value.text()?;
                    if texts.len() >= NODES_MAX.min(wanted) {
                        let reason = format!("constant {name:?} has too many texts");
                        return Err(Trouble::Refused(reason));
                    }
                    texts.push(Arc::from(text));
                }
            }
            Data::Text(texts)
        }
        (kind, _) => {
            let reason = format!(
                "constant {name:?} has elements of {}; float32, float64, integers, bool and texts are read here",
                element::name(kind)
            );
            return Err(Trouble::Refused(reason));
        }
    })
}
