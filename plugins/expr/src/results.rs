//! The values that an expression gives for a chunk, as the column that writes them.
//!
//! As long as all values are of one type the column is typed; at the first of another type what was gathered is
//! turned into JSON texts.

use wasmill_sdk::{Chunk, Field, FloatColumn, IntColumn, TextColumn};

use crate::value::{Value, float_text};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    /// Nothing but nulls so far.
    #[default]
    Nulls,
    Text,
    Ints,
    Floats,
    Raw,
}

/// A column of results; keeps its buffers between chunks.
#[derive(Debug, Default)]
pub struct Results {
    shape: Shape,
    rows: usize,
    text: TextColumn,
    ints: IntColumn,
    floats: FloatColumn,
    raw: TextColumn,
}

impl Results {
    /// Empty results.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the values.
    pub fn clear(&mut self) {
        self.shape = Shape::Nulls;
        self.rows = 0;
        self.text.clear();
        self.ints.clear();
        self.floats.clear();
        self.raw.clear();
    }

    /// The next row's value; missing and null both write null.
    pub fn push(&mut self, value: &Value<'_>) {
        let shape = match value {
            Value::Missing | Value::Null => self.shape,
            Value::Text(_) => Shape::Text,
            Value::Int(_) => Shape::Ints,
            Value::Float(_) => Shape::Floats,
            Value::Bool(_) | Value::Json(_) => Shape::Raw,
        };
        if shape != self.shape {
            self.reshape(shape);
        }
        match (self.shape, value) {
            (Shape::Text, Value::Text(text)) => self.text.push(text),
            (Shape::Ints, Value::Int(value)) => self.ints.push(*value),
            (Shape::Floats, Value::Float(value)) => self.floats.push(*value),
            (Shape::Text, _) => self.text.push_null(),
            (Shape::Ints, _) => self.ints.push_null(),
            (Shape::Floats, _) => self.floats.push_null(),
            (Shape::Raw, value) => push_json(&mut self.raw, value),
            (Shape::Nulls, _) => {}
        }
        self.rows += 1;
    }

    fn reshape(&mut self, wanted: Shape) {
        match self.shape {
            Shape::Nulls => {
                self.shape = wanted;
                for _ in 0..self.rows {
                    match wanted {
                        Shape::Text => self.text.push_null(),
                        Shape::Ints => self.ints.push_null(),
                        Shape::Floats => self.floats.push_null(),
                        Shape::Raw | Shape::Nulls => self.raw.push_null(),
                    }
                }
                return;
            }
            Shape::Raw => return,
            Shape::Text => {
                for row in 0..self.rows {
                    match self.text.get(row) {
                        Some(text) => push_text(&mut self.raw, text),
                        None => self.raw.push_null(),
                    }
                }
            }
            Shape::Ints => {
                for row in 0..self.rows {
                    let value = self.ints.get(row).map_or(Value::Null, Value::Int);
                    push_json(&mut self.raw, &value);
                }
            }
            Shape::Floats => {
                for row in 0..self.rows {
                    let value = self.floats.get(row).map_or(Value::Null, Value::Float);
                    push_json(&mut self.raw, &value);
                }
            }
        }
        self.shape = Shape::Raw;
    }

    /// The rows' values, for expressions that read them later in the same transform.
    #[must_use]
    pub fn values(&self) -> Vec<Value<'static>> {
        let text = |text: &[u8]| Value::Text(String::from_utf8_lossy(text).into_owned().into());
        (0..self.rows)
            .map(|row| match self.shape {
                Shape::Nulls => Value::Null,
                Shape::Text => self.text.get(row).map_or(Value::Null, text),
                Shape::Ints => self.ints.get(row).map_or(Value::Null, Value::Int),
                Shape::Floats => self.floats.get(row).map_or(Value::Null, Value::Float),
                Shape::Raw => match self.raw.get(row) {
                    None => Value::Null,
                    Some(b"true") => Value::Bool(true),
                    Some(b"false") => Value::Bool(false),
                    Some(json) => from_json(json),
                },
            })
            .collect()
    }

    /// Writes the column to a field.
    pub fn write(&mut self, rows: &Chunk<'_>, field: Field) {
        match self.shape {
            Shape::Text => rows.set_text(field, &self.text),
            Shape::Ints => rows.set_ints(field, &self.ints),
            Shape::Floats => rows.set_floats(field, &self.floats),
            Shape::Raw => rows.set_raw(field, &self.raw),
            Shape::Nulls => {
                self.reshape(Shape::Raw);
                rows.set_raw(field, &self.raw);
                self.raw.clear();
                self.shape = Shape::Nulls;
            }
        }
    }
}

fn from_json(json: &[u8]) -> Value<'static> {
    let text = String::from_utf8_lossy(json);
    if json.first() == Some(&b'"') {
        return unescape(&text).map_or(Value::Null, |text| Value::Text(text.into()));
    }
    let exact = text.parse().ok().map(Value::Int);
    exact.or_else(|| text.parse().ok().map(Value::float)).unwrap_or(Value::Json(b""))
}

/// Reverses [`push_text`]: only the escapes that it writes.
fn unescape(text: &str) -> Option<String> {
    let mut chars = text.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut out = String::new();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'u' => char::from(u8::from_str_radix(&chars.by_ref().take(4).collect::<String>(), 16).ok()?),
                other => other,
            },
            c => c,
        });
    }
    Some(out)
}

fn push_json(column: &mut TextColumn, value: &Value<'_>) {
    match value {
        Value::Missing | Value::Null => column.push_null(),
        Value::Bool(value) => column.push(if *value { "true" } else { "false" }),
        Value::Int(value) => column.push(itoa::Buffer::new().format(*value)),
        Value::Float(value) => column.push(&float_text(*value)),
        Value::Text(text) => push_text(column, text.as_bytes()),
        Value::Json(b"") => column.push_null(),
        Value::Json(json) => column.push_bytes(json),
    }
}

/// A JSON string: quotes, backslashes and control characters escaped.
fn push_text(column: &mut TextColumn, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let out = column.buffer();
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
    column.finish();
}
