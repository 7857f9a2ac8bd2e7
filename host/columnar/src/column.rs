//! Columns in the making, which can be cut back to an earlier length: what a refused row left behind goes that way.

use std::mem::take;
use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, StringArray, StructArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, TimeUnit};

/// One column: a mark for each value, whether there is one, and the values.
pub(crate) struct Column {
    valid: BooleanBufferBuilder,
    pub(crate) data: Data,
}

pub(crate) enum Data {
    Boolean(BooleanBufferBuilder),
    /// Also dates.
    Int32(Vec<i32>),
    /// Also timestamps.
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Decimal(Vec<i128>),
    /// Text and binary: one after another, and where each ends.
    Bytes(Vec<i32>, Vec<u8>),
    /// Where each list ends.
    List(Vec<i32>, Box<Column>),
    /// Where each map ends, keys, values.
    Map(Vec<i32>, Box<Column>, Box<Column>),
    Struct(Vec<Column>),
}

impl Column {
    pub(crate) fn new(of: &DataType) -> Column {
        let data = match of {
            DataType::Boolean => Data::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int32 | DataType::Date32 => Data::Int32(Vec::new()),
            DataType::Int64 | DataType::Timestamp(..) => Data::Int64(Vec::new()),
            DataType::Float32 => Data::Float(Vec::new()),
            DataType::Float64 => Data::Double(Vec::new()),
            DataType::Decimal128(..) => Data::Decimal(Vec::new()),
            DataType::List(element) => Data::List(vec![0], Box::new(Column::new(element.data_type()))),
            DataType::Map(entry, _) => {
                let part = |index: usize| match entry.data_type() {
                    DataType::Struct(parts) => {
                        parts.get(index).map_or(DataType::Utf8, |f| f.data_type().clone())
                    }
                    _ => DataType::Utf8,
                };
                Data::Map(vec![0], Box::new(Column::new(&part(0))), Box::new(Column::new(&part(1))))
            }
            DataType::Struct(fields) => Column::members(fields),
            _ => Data::Bytes(vec![0], Vec::new()),
        };
        Column { valid: BooleanBufferBuilder::new(0), data }
    }

    /// The row of a schema.
    pub(crate) fn row(fields: &arrow_schema::Fields) -> Column {
        Column { valid: BooleanBufferBuilder::new(0), data: Column::members(fields) }
    }

    fn members(fields: &arrow_schema::Fields) -> Data {
        Data::Struct(fields.iter().map(|field| Column::new(field.data_type())).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.valid.len()
    }

    /// Notes that a value was appended to `data`.
    pub(crate) fn mark(&mut self) {
        self.valid.append(true);
    }

    /// Appends text or binary.
    pub(crate) fn push_bytes(&mut self, value: &[u8]) {
        if let Data::Bytes(ends, bytes) = &mut self.data {
            bytes.extend_from_slice(value);
            ends.push(end(bytes.len()));
            self.valid.append(true);
        }
    }

    /// Text or binary of value `index`.
    pub(crate) fn bytes(&self, index: usize) -> &[u8] {
        let Data::Bytes(ends, bytes) = &self.data else { return &[] };
        let place = |index: usize| ends.get(index).and_then(|end| usize::try_from(*end).ok()).unwrap_or(0);
        bytes.get(place(index)..place(index + 1)).unwrap_or_default()
    }

    pub(crate) fn push_null(&mut self) {
        match &mut self.data {
            Data::Boolean(values) => values.append(false),
            Data::Int32(values) => values.push(0),
            Data::Int64(values) => values.push(0),
            Data::Float(values) => values.push(0.0),
            Data::Double(values) => values.push(0.0),
            Data::Decimal(values) => values.push(0),
            Data::Bytes(ends, bytes) => ends.push(end(bytes.len())),
            Data::List(ends, elements) => ends.push(end(elements.len())),
            Data::Map(ends, keys, _) => ends.push(end(keys.len())),
            Data::Struct(members) => members.iter_mut().for_each(Column::push_null),
        }
        self.valid.append(false);
    }

    /// Takes away everything from value `len` on, half a value included.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.valid.truncate(len);
        match &mut self.data {
            Data::Boolean(values) => values.truncate(len),
            Data::Int32(values) => values.truncate(len),
            Data::Int64(values) => values.truncate(len),
            Data::Float(values) => values.truncate(len),
            Data::Double(values) => values.truncate(len),
            Data::Decimal(values) => values.truncate(len),
            Data::Bytes(ends, bytes) => bytes.truncate(cut(ends, len)),
            Data::List(ends, elements) => elements.truncate(cut(ends, len)),
            Data::Map(ends, keys, values) => {
                let inside = cut(ends, len);
                keys.truncate(inside);
                values.truncate(inside);
            }
            Data::Struct(members) => members.iter_mut().for_each(|member| member.truncate(len)),
        }
    }

    /// The columns of all rows; there are none then.
    pub(crate) fn take_rows(&mut self, fields: &arrow_schema::Fields) -> Result<Vec<ArrayRef>, ArrowError> {
        self.valid.truncate(0);
        let Data::Struct(members) = &mut self.data else { return Err(unlike(&DataType::Null)) };
        members.iter_mut().zip(fields).map(|(member, field)| member.take(field.data_type())).collect()
    }

    /// Everything, as Arrow has it; the column is empty then.
    pub(crate) fn take(&mut self, of: &DataType) -> Result<ArrayRef, ArrowError> {
        let nulls = Some(NullBuffer::new(self.valid.finish())).filter(|nulls| nulls.null_count() > 0);
        Ok(match (&mut self.data, of) {
            (Data::Boolean(values), _) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            (Data::Int32(values), DataType::Date32) => primitive::<Date32Type>(take(values), nulls, of)?,
            (Data::Int32(values), _) => primitive::<Int32Type>(take(values), nulls, of)?,
            (Data::Int64(values), DataType::Timestamp(TimeUnit::Microsecond, _)) => {
                primitive::<TimestampMicrosecondType>(take(values), nulls, of)?
            }
            (Data::Int64(values), DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
                primitive::<TimestampNanosecondType>(take(values), nulls, of)?
            }
            (Data::Int64(values), DataType::Timestamp(..)) => {
                primitive::<TimestampMillisecondType>(take(values), nulls, of)?
            }
            (Data::Int64(values), _) => primitive::<Int64Type>(take(values), nulls, of)?,
            (Data::Float(values), _) => primitive::<Float32Type>(take(values), nulls, of)?,
            (Data::Double(values), _) => primitive::<Float64Type>(take(values), nulls, of)?,
            (Data::Decimal(values), _) => primitive::<Decimal128Type>(take(values), nulls, of)?,
            (Data::Bytes(ends, bytes), DataType::Binary) => {
                Arc::new(BinaryArray::try_new(offsets(ends), Buffer::from_vec(take(bytes)), nulls)?)
            }
            (Data::Bytes(ends, bytes), _) => {
                Arc::new(StringArray::try_new(offsets(ends), Buffer::from_vec(take(bytes)), nulls)?)
            }
            (Data::List(ends, elements), DataType::List(element)) => {
                let elements = elements.take(element.data_type())?;
                Arc::new(ListArray::try_new(Arc::clone(element), offsets(ends), elements, nulls)?)
            }
            (Data::Map(ends, keys, values), DataType::Map(entry, sorted)) => {
                let DataType::Struct(parts) = entry.data_type() else { return Err(unlike(of)) };
                let [key, value] = &parts[..] else { return Err(unlike(of)) };
                let arrays = vec![keys.take(key.data_type())?, values.take(value.data_type())?];
                let entries = StructArray::try_new(parts.clone(), arrays, None)?;
                Arc::new(MapArray::try_new(Arc::clone(entry), offsets(ends), entries, nulls, *sorted)?)
            }
            (Data::Struct(members), DataType::Struct(fields)) => {
                let arrays =
                    members.iter_mut().zip(fields).map(|(member, field)| member.take(field.data_type()));
                Arc::new(StructArray::try_new(fields.clone(), arrays.collect::<Result<_, _>>()?, nulls)?)
            }
            _ => return Err(unlike(of)),
        })
    }
}

fn primitive<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    nulls: Option<NullBuffer>,
    of: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let array = PrimitiveArray::<T>::try_new(ScalarBuffer::from(values), nulls)?;
    Ok(Arc::new(array.with_data_type(of.clone())))
}

fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(ends, vec![0])))
}

/// Leaves the ends of `len` values, and tells where the last is.
fn cut(ends: &mut Vec<i32>, len: usize) -> usize {
    ends.truncate(len + 1);
    ends.last().map_or(0, |end| usize::try_from(*end).unwrap_or(0))
}

/// What is decoded at a time is far below 2 GiB: `ROW_BYTES_MAX`.
pub(crate) fn end(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

fn unlike(of: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("the column was not made for {of}"))
}
