//! Files written and read back, row by row, by the row reader of the `parquet` crate, which shares nothing with the
//! writer that is used here but the format.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Value, json};
use wasmill_columnar::{Converter, Options, Report, Schema};

/// The file of these rows.
pub(crate) fn file<R: AsRef<[u8]>>(schema: &str, options: &Options, rows: &[R]) -> (Vec<u8>, Report) {
    let schema = Schema::from_config(schema).unwrap();
    let mut out = Vec::new();
    let report = Converter::new(&schema, options).unwrap().convert(rows, &mut out).unwrap();
    assert_eq!(report.written.bytes, out.len() as u64);
    (out, report)
}

pub(crate) fn open(file: &[u8]) -> SerializedFileReader<Bytes> {
    SerializedFileReader::new(Bytes::copy_from_slice(file)).unwrap()
}

/// Its rows: decimals as text, binary in base64, dates and timestamps as counts.
pub(crate) fn read(file: &[u8]) -> Vec<Value> {
    open(file).get_row_iter(None).unwrap().map(|row| object(&row.unwrap())).collect()
}

fn object(row: &Row) -> Value {
    Value::Object(row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect())
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => json!(value),
        Field::Int(value) | Field::Date(value) => json!(value),
        Field::Long(value) | Field::TimestampMillis(value) | Field::TimestampMicros(value) => json!(value),
        Field::Float(value) => json!(f64::from(*value)),
        Field::Double(value) => json!(value),
        Field::Decimal(_) => json!(field.to_string().trim_end_matches('.')),
        Field::Str(value) => json!(value),
        Field::Bytes(value) => json!(STANDARD.encode(value.data())),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => {
            let entry = |(key, of): &(Field, Field)| match key {
                Field::Str(key) => (key.clone(), value(of)),
                other => panic!("a key that is {other:?}"),
            };
            Value::Object(map.entries().iter().map(entry).collect())
        }
        other => panic!("nothing here writes {other:?}"),
    }
}
