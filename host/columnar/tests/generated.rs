//! Generated schemas and rows: what is written is read back equal, whatever stands between the rows; and any bytes
//! leave the rows beside them alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};
use wasmill_columnar::{Compression, Field, Options, Schema, TimeUnit, Type, WriterVersion};

mod reading;

fn kind() -> impl Strategy<Value = Type> {
    let leaf = prop::sample::select(vec![
        Type::Boolean,
        Type::Int32,
        Type::Int64,
        Type::Float,
        Type::Double,
        Type::Decimal { precision: 9, scale: 2 },
        Type::Decimal { precision: 18, scale: 0 },
        Type::Decimal { precision: 38, scale: 20 },
        Type::Date,
        Type::Timestamp { unit: TimeUnit::Millisecond, utc: true },
        Type::Timestamp { unit: TimeUnit::Microsecond, utc: false },
        Type::Timestamp { unit: TimeUnit::Nanosecond, utc: true },
        Type::String,
        Type::Binary,
    ]);
    leaf.prop_recursive(3, 16, 4, |inner| {
        let field =
            (inner, any::<bool>()).prop_map(|(kind, required)| Field { required, ..Field::new("x", kind) });
        prop_oneof![
            field.clone().prop_map(Type::list),
            field.clone().prop_map(Type::map),
            prop::collection::vec(field, 1..4).prop_map(|fields| Type::Struct(named(fields))),
        ]
    })
}

fn named(fields: Vec<Field>) -> Vec<Field> {
    let name = |(number, field)| Field { name: format!("f{number}"), ..field };
    fields.into_iter().enumerate().map(name).collect()
}

fn schema() -> impl Strategy<Value = Schema> {
    let field =
        (kind(), any::<bool>()).prop_map(|(kind, required)| Field { required, ..Field::new("x", kind) });
    prop::collection::vec(field, 1..5).prop_map(|fields| Schema::new(named(fields)).unwrap())
}

/// Choices out of numbers that proptest drew.
struct Draw(Vec<u64>, usize);

impl Draw {
    fn next(&mut self) -> u64 {
        self.1 += 1;
        // Further rounds give other numbers.
        let round = (self.1 / self.0.len()) as u64;
        self.0[self.1 % self.0.len()]
            .wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .rotate_left(round as u32)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 7) % end
    }
}

/// A value as JSON, and as it is read back.
fn value(field: &Field, draw: &mut Draw) -> (String, Value) {
    if !field.required && draw.below(5) == 0 {
        return ("null".to_owned(), Value::Null);
    }
    match &field.kind {
        Type::Boolean => same(json!(draw.below(2) == 0)),
        Type::Int32 => same(json!(draw.next() as i32)),
        Type::Int64 => same(json!(draw.next() as i64)),
        Type::Float => {
            let number = f32::from_bits(draw.next() as u32);
            let number = if number.is_finite() { number } else { 0.1 };
            (format!("{number:e}"), json!(f64::from(number)))
        }
        Type::Double => {
            let number = f64::from_bits(draw.next());
            let number = if number.is_finite() { number } else { -0.1 };
            (format!("{number:e}"), json!(number))
        }
        Type::Decimal { precision, scale } => {
            let units = (i128::from(draw.next()) << 64 | i128::from(draw.next()))
                % 10_i128.pow(u32::from(*precision));
            let units = units.unsigned_abs();
            let sign = if units != 0 && draw.below(2) == 0 { "-" } else { "" };
            let digits = format!("{units:0>width$}", width = usize::from(*scale) + 1);
            let (whole, fraction) = digits.split_at(digits.len() - usize::from(*scale));
            let text = format!("{sign}{whole}.{fraction}");
            let text = text.trim_end_matches('.').to_owned();
            let json = if draw.below(2) == 0 { text.clone() } else { format!("\"{text}\"") };
            (json, json!(text))
        }
        Type::Date => {
            let days = draw.below(60_000) as i32 - 30_000;
            let date = jiff::civil::date(1970, 1, 1) + jiff::Span::new().days(days);
            (format!("\"{date}\""), json!(days))
        }
        Type::Timestamp { unit, .. } => {
            let milliseconds = draw.below(4_000_000_000_000) as i64 - 1_000_000_000_000;
            let count = milliseconds
                * match unit {
                    TimeUnit::Millisecond => 1,
                    TimeUnit::Microsecond => 1_000,
                    TimeUnit::Nanosecond => 1_000_000,
                };
            let instant = jiff::Timestamp::from_millisecond(milliseconds).unwrap();
            (format!("\"{instant}\""), json!(count))
        }
        Type::String => same(json!(text(draw))),
        Type::Binary => same(json!(STANDARD.encode(text(draw)))),
        Type::List(element) => {
            let (texts, values): (Vec<_>, Vec<_>) = (0..draw.below(4)).map(|_| value(element, draw)).unzip();
            (format!("[{}]", texts.join(",")), Value::Array(values))
        }
        Type::Map(of) => {
            let mut texts = Vec::new();
            let mut values = serde_json::Map::new();
            for number in 0..draw.below(4) {
                let key = format!("{}{number}", text(draw));
                let (text, value) = value(of, draw);
                texts.push(format!("{}:{text}", json!(key)));
                values.insert(key, value);
            }
            (format!("{{{}}}", texts.join(",")), Value::Object(values))
        }
        Type::Struct(fields) => object(fields, draw),
    }
}

fn same(value: Value) -> (String, Value) {
    (value.to_string(), value)
}

fn text(draw: &mut Draw) -> String {
    let characters = ['a', 'é', '"', '\\', '\n', '😀', '\u{0}', '/'];
    (0..draw.below(6)).map(|_| characters[draw.below(8) as usize]).collect()
}

/// Fields in any order, those that are null sometimes missing, with others between.
fn object(fields: &[Field], draw: &mut Draw) -> (String, Value) {
    let mut texts = Vec::new();
    let mut values = serde_json::Map::new();
    for field in fields {
        let (text, value) = value(field, draw);
        if !value.is_null() || draw.below(2) == 0 {
            let at = draw.below(texts.len() as u64 + 1) as usize;
            texts.insert(at, format!("\"{}\":{text}", field.name));
        }
        if draw.below(8) == 0 {
            texts.push("\"unknown\":[{\"f0\":1}]".to_owned());
        }
        values.insert(field.name.clone(), value);
    }
    (format!("{{{}}}", texts.join(" , ")), Value::Object(values))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn generated_rows_are_read_back_equal(
        schema in schema(),
        numbers in prop::collection::vec(any::<u64>(), 50..300),
        count in 0..40_usize,
        damage in any::<prop::sample::Index>(),
        version in prop::sample::select(vec![WriterVersion::V1, WriterVersion::V2]),
    ) {
        prop_assert_eq!(&schema.to_string().parse::<Schema>().unwrap(), &schema);
        let mut draw = Draw(numbers, 0);
        let mut rows = Vec::new();
        let mut expected = Vec::new();
        let mut refused = Vec::new();
        for _ in 0..count {
            let (row, value) = object(schema.fields(), &mut draw);
            if draw.below(3) == 0 {
                // The same row, cut in the middle of something.
                let cut = damage.index(row.len());
                refused.push(rows.len() as u64);
                rows.push(row.as_bytes()[..cut].to_vec());
            }
            rows.push(row.into_bytes());
            expected.push(value);
        }
        let options = Options { version, compression: Compression::Zstd { level: 1 }, ..Options::default() };
        let (file, report) = reading::file(&schema.to_string(), &options, &rows);
        prop_assert_eq!(reading::read(&file), expected);
        let found: Vec<u64> = report.rejected.iter().map(|rejected| rejected.row).collect();
        prop_assert_eq!(found, refused);
    }

    #[test]
    fn any_bytes_between_rows_change_nothing(
        schema in schema(),
        numbers in prop::collection::vec(any::<u64>(), 50..300),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        garbage: Vec<u8>,
    ) {
        let mut draw = Draw(numbers, 0);
        let good: Vec<(String, Value)> = (0..4).map(|_| object(schema.fields(), &mut draw)).collect();
        let mut damaged = good[1].0.clone().into_bytes();
        let at = at.index(damaged.len());
        damaged[at] = byte;
        let rows = [good[0].0.as_bytes(), &damaged, good[2].0.as_bytes(), &garbage, good[3].0.as_bytes()];
        let (file, report) = reading::file(&schema.to_string(), &Options::default(), &rows);
        let read = reading::read(&file);
        prop_assert_eq!(read.len() + report.rejected.len(), rows.len());
        prop_assert_eq!((&read[0], read.last().unwrap()), (&good[0].1, &good[3].1));
        prop_assert!(read.contains(&good[2].1));
    }
}
