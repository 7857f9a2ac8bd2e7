//! What columns there are: names, types, and which must have a value.
//!
//! A schema that exists is sound: names are there and distinct, decimals possible, nesting and number bounded.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_schema::DataType;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Most fields of a schema, those inside others included.
pub const FIELDS_MAX: usize = 2_000;
/// Deepest nesting of lists, structs and maps.
pub const DEPTH_MAX: usize = 32;
/// Longest name of a field.
pub const NAME_BYTES_MAX: usize = 255;

/// The columns of a file. Its text (`Display`, `FromStr`, and what serde sees) is a list such as
/// `id: int64 required, tags: list<string>, place: struct<city: string, zip: int32>, at: timestamp(ms, utc)`; see
/// [`Schema::from_config`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    fields: Vec<Field>,
}

/// One column, or one part of a nested one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Of a list's elements `element`, of a map's values `value`.
    pub name: String,
    pub kind: Type,
    /// Rows without a value are refused.
    pub required: bool,
}

/// What a column holds, and what it is in Parquet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Boolean,
    /// INT32.
    Int32,
    /// INT64.
    Int64,
    /// FLOAT, 32 bits.
    Float,
    /// DOUBLE, 64 bits.
    Double,
    /// DECIMAL of 1 to 38 digits, of which `scale` stand behind the point; INT32 up to 9 digits, INT64 up to 18, else
    /// as few bytes as hold it.
    Decimal {
        precision: u8,
        scale: u8,
    },
    /// DATE, days since 1970-01-01.
    Date,
    /// TIMESTAMP in INT64; `utc`: an instant (`isAdjustedToUTC`), else what a clock on a wall shows.
    Timestamp {
        unit: TimeUnit,
        utc: bool,
    },
    /// STRING, UTF-8.
    String,
    /// BYTE_ARRAY.
    Binary,
    /// LIST of three levels; see [`Type::list`].
    List(Box<Field>),
    /// A group.
    Struct(Vec<Field>),
    /// MAP whose keys are strings; see [`Type::map`].
    Map(Box<Field>),
}

/// Unit of a timestamp. Parquet has no seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    Millisecond,
    Microsecond,
    Nanosecond,
}

impl TimeUnit {
    pub(crate) fn nanoseconds(self) -> i128 {
        match self {
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1_000,
            TimeUnit::Nanosecond => 1,
        }
    }
}

/// Why there is no such schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Where the text stops being a schema, in characters from its start.
    #[error("schema, at character {at}: {message}")]
    Syntax { at: usize, message: String },
    #[error("schema: {0}")]
    Unsound(String),
    /// Of an inferred one.
    #[error("no row has a field that could be a column")]
    Empty,
}

impl Schema {
    /// Of these fields, in this order.
    pub fn new(fields: Vec<Field>) -> Result<Schema, SchemaError> {
        let mut count = 0;
        members("", &fields, 0, &mut count)?;
        Ok(Schema { fields })
    }

    /// Of its text, as it stands in a configuration.
    ///
    /// `NAME: TYPE` or `NAME: TYPE required`, separated by commas; white space is free. Types are those of the crate's
    /// table, `timestamp(ms)`, `timestamp(us)` and `timestamp(ns)`, each also with `, utc`; Hive's and Glue's words
    /// `int`, `bigint`, `array<...>` and plain `timestamp` stand for `int32`, `int64`, `list<...>` and
    /// `timestamp(ms, utc)`. Inside `<...>` of a struct are fields again, of a list and a map types, which may be
    /// `required`. A name with white space or one of `,:<>()"` is written as a JSON string.
    pub fn from_config(text: &str) -> Result<Schema, SchemaError> {
        text.parse()
    }

    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub(crate) fn arrow(&self) -> arrow_schema::Schema {
        arrow_schema::Schema::new(self.fields.iter().map(Field::arrow).collect::<Vec<_>>())
    }
}

/// Checks fields that stand beside each other.
fn members(path: &str, fields: &[Field], depth: usize, count: &mut usize) -> Result<(), SchemaError> {
    if fields.is_empty() {
        let of = if path.is_empty() { "a schema".to_owned() } else { format!("the struct {path:?}") };
        return Err(SchemaError::Unsound(format!("{of} has no fields, expected at least one")));
    }
    let mut names = HashSet::with_capacity(fields.len());
    for field in fields {
        let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
        if field.name.is_empty() || field.name.len() > NAME_BYTES_MAX {
            let bytes = field.name.len();
            return Err(SchemaError::Unsound(format!(
                "the name of field {path:?} has {bytes} bytes, expected 1 to {NAME_BYTES_MAX}"
            )));
        }
        if !names.insert(field.name.as_str()) {
            return Err(SchemaError::Unsound(format!("field {path:?} is there twice")));
        }
        value(&path, field, depth, count)?;
    }
    Ok(())
}

fn value(path: &str, field: &Field, depth: usize, count: &mut usize) -> Result<(), SchemaError> {
    *count += 1;
    if *count > FIELDS_MAX {
        return Err(SchemaError::Unsound(format!("more than {FIELDS_MAX} fields")));
    }
    if depth > DEPTH_MAX {
        return Err(SchemaError::Unsound(format!("field {path:?} is nested deeper than {DEPTH_MAX} levels")));
    }
    match &field.kind {
        Type::Decimal { precision, scale } if !(1..=38).contains(precision) || scale > precision => {
            Err(SchemaError::Unsound(format!(
                "decimal({precision}, {scale}) of field {path:?} is not possible, expected 1 to 38 digits and no more of \
                 them behind the point"
            )))
        }
        Type::List(of) | Type::Map(of) if of.name != inner_name(&field.kind) => Err(SchemaError::Unsound(
            format!("what is in {path:?} is called {:?}, expected {:?}", of.name, inner_name(&field.kind)),
        )),
        Type::List(element) => value(&format!("{path}[]"), element, depth + 1, count),
        Type::Map(of) => value(&format!("{path}{{}}"), of, depth + 1, count),
        Type::Struct(fields) => members(path, fields, depth + 1, count),
        _ => Ok(()),
    }
}

/// What the field inside a list or a map is called.
fn inner_name(kind: &Type) -> &'static str {
    if matches!(kind, Type::Map(_)) { "value" } else { "element" }
}

impl Field {
    /// One that may be null.
    pub fn new(name: impl Into<String>, kind: Type) -> Field {
        Field { name: name.into(), kind, required: false }
    }

    pub(crate) fn arrow(&self) -> arrow_schema::Field {
        arrow_schema::Field::new(&self.name, self.kind.arrow(), !self.required)
    }
}

impl Type {
    /// A list of such elements, whatever the field is called.
    pub fn list(element: Field) -> Type {
        Type::List(Box::new(Field { name: "element".to_owned(), ..element }))
    }

    /// A map from strings to such values, whatever the field is called.
    pub fn map(value: Field) -> Type {
        Type::Map(Box::new(Field { name: "value".to_owned(), ..value }))
    }

    pub(crate) fn arrow(&self) -> DataType {
        match self {
            Type::Boolean => DataType::Boolean,
            Type::Int32 => DataType::Int32,
            Type::Int64 => DataType::Int64,
            Type::Float => DataType::Float32,
            Type::Double => DataType::Float64,
            Type::Decimal { precision, scale } => {
                DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(i8::MAX))
            }
            Type::Date => DataType::Date32,
            Type::Timestamp { unit, utc } => {
                let unit = match unit {
                    TimeUnit::Millisecond => arrow_schema::TimeUnit::Millisecond,
                    TimeUnit::Microsecond => arrow_schema::TimeUnit::Microsecond,
                    TimeUnit::Nanosecond => arrow_schema::TimeUnit::Nanosecond,
                };
                DataType::Timestamp(unit, utc.then(|| "UTC".into()))
            }
            Type::String => DataType::Utf8,
            Type::Binary => DataType::Binary,
            Type::List(element) => DataType::List(Arc::new(element.arrow())),
            Type::Struct(fields) => DataType::Struct(fields.iter().map(Field::arrow).collect()),
            Type::Map(value) => {
                let key = arrow_schema::Field::new("key", DataType::Utf8, false);
                let entry = DataType::Struct([Arc::new(key), Arc::new(value.arrow())].into_iter().collect());
                DataType::Map(Arc::new(arrow_schema::Field::new("key_value", entry, false)), false)
            }
        }
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Schema, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
