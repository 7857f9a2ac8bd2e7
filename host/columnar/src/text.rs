//! The text of a schema: written and read.

use std::fmt::{self, Display, Formatter, Write};
use std::str::FromStr;

use crate::schema::{DEPTH_MAX, Field, Schema, SchemaError, TimeUnit, Type};

const TYPES: &str = "boolean, int32, int64, float, double, decimal(p, s), date, timestamp(ms|us|ns[, utc]), string, \
                     binary, list<T>, struct<NAME: T, ...>, map<string, T>";

impl Display for Schema {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fields(self.fields(), f)
    }
}

fn fields(fields: &[Field], f: &mut Formatter<'_>) -> fmt::Result {
    for (index, field) in fields.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { ", " })?;
        if field.name.is_empty() || field.name.contains(|c: char| !bare(c)) {
            f.write_str(&serde_json::to_string(&field.name).map_err(|_| fmt::Error)?)?;
        } else {
            f.write_str(&field.name)?;
        }
        f.write_str(": ")?;
        value(field, f)?;
    }
    Ok(())
}

fn value(field: &Field, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "{}{}", field.kind, if field.required { " required" } else { "" })
}

impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Boolean => "boolean",
            Type::Int32 => "int32",
            Type::Int64 => "int64",
            Type::Float => "float",
            Type::Double => "double",
            Type::Date => "date",
            Type::String => "string",
            Type::Binary => "binary",
            Type::Decimal { precision, scale } => return write!(f, "decimal({precision}, {scale})"),
            Type::Timestamp { unit, utc } => {
                let unit = match unit {
                    TimeUnit::Millisecond => "ms",
                    TimeUnit::Microsecond => "us",
                    TimeUnit::Nanosecond => "ns",
                };
                return write!(f, "timestamp({unit}{})", if *utc { ", utc" } else { "" });
            }
            Type::List(element) => {
                f.write_str("list<")?;
                value(element, f)?;
                return f.write_char('>');
            }
            Type::Map(of) => {
                f.write_str("map<string, ")?;
                value(of, f)?;
                return f.write_char('>');
            }
            Type::Struct(members) => {
                f.write_str("struct<")?;
                fields(members, f)?;
                return f.write_char('>');
            }
        })
    }
}

/// Whether it may stand in a word.
fn bare(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !",:<>()\"".contains(c)
}

impl FromStr for Schema {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Schema, SchemaError> {
        let mut parser = Parser { text, rest: text };
        let fields = parser.fields(0)?;
        match parser.rest {
            "" => Schema::new(fields),
            _ => Err(parser.wrong("expected `,` or the end")),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn wrong(&self, message: impl Into<String>) -> SchemaError {
        self.wrong_at(self.rest, message)
    }

    /// `at`: the rest of the text from there on.
    fn wrong_at(&self, at: &str, message: impl Into<String>) -> SchemaError {
        let bytes = self.text.len() - at.len();
        let at = self.text.char_indices().take_while(|(start, _)| *start < bytes).count();
        SchemaError::Syntax { at, message: message.into() }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Whether `token` stood next; it and the white space behind it are passed then.
    fn takes(&mut self, token: char) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else { return false };
        self.rest = rest;
        self.space();
        true
    }

    fn expect(&mut self, token: char) -> Result<(), SchemaError> {
        if self.takes(token) { Ok(()) } else { Err(self.wrong(format!("expected `{token}`"))) }
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c| !bare(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.space();
        word
    }

    /// Fields up to something that is none; a comma may follow the last.
    fn fields(&mut self, depth: usize) -> Result<Vec<Field>, SchemaError> {
        self.space();
        let mut fields = Vec::new();
        while !self.rest.is_empty() && !self.rest.starts_with('>') {
            let name = self.name()?;
            self.expect(':')?;
            fields.push(Field { name, ..self.value(depth)? });
            if !self.takes(',') {
                break;
            }
        }
        Ok(fields)
    }

    fn name(&mut self) -> Result<String, SchemaError> {
        if !self.rest.starts_with('"') {
            let word = self.word();
            return if word.is_empty() { Err(self.wrong("expected a name")) } else { Ok(word.to_owned()) };
        }
        let mut strings = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
        match strings.next() {
            Some(Ok(name)) => {
                self.rest = self.rest.get(strings.byte_offset()..).unwrap_or_default();
                self.space();
                Ok(name)
            }
            _ => Err(self.wrong("the name in quotes is no JSON string")),
        }
    }

    /// A type and whether it is required, as a field without a name.
    fn value(&mut self, depth: usize) -> Result<Field, SchemaError> {
        if depth > DEPTH_MAX {
            return Err(self.wrong(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let start = self.rest;
        let kind = match self.word() {
            "boolean" => Type::Boolean,
            "int32" | "int" => Type::Int32,
            "int64" | "bigint" => Type::Int64,
            "float" => Type::Float,
            "double" => Type::Double,
            "date" => Type::Date,
            "string" => Type::String,
            "binary" => Type::Binary,
            "decimal" => {
                self.expect('(')?;
                let precision = self.number()?;
                self.expect(',')?;
                let scale = self.number()?;
                self.expect(')')?;
                Type::Decimal { precision, scale }
            }
            "timestamp" => self.timestamp()?,
            "list" | "array" => {
                self.expect('<')?;
                let element = self.value(depth + 1)?;
                self.expect('>')?;
                Type::list(element)
            }
            "struct" => {
                self.expect('<')?;
                let fields = self.fields(depth + 1)?;
                self.expect('>')?;
                Type::Struct(fields)
            }
            "map" => {
                self.expect('<')?;
                let key = self.rest;
                if self.word() != "string" {
                    return Err(self.wrong_at(key, "a map's keys are `string`"));
                }
                self.expect(',')?;
                let value = self.value(depth + 1)?;
                self.expect('>')?;
                Type::map(value)
            }
            word => {
                return Err(self.wrong_at(start, format!("unknown type {word:?}, expected one of {TYPES}")));
            }
        };
        let word = self.rest;
        match self.word() {
            "" => Ok(Field { name: String::new(), kind, required: false }),
            "required" => Ok(Field { name: String::new(), kind, required: true }),
            found => {
                Err(self.wrong_at(word, format!("{found:?} after a type, expected `required` or nothing")))
            }
        }
    }

    fn timestamp(&mut self) -> Result<Type, SchemaError> {
        if !self.takes('(') {
            return Ok(Type::Timestamp { unit: TimeUnit::Millisecond, utc: true });
        }
        let start = self.rest;
        let unit = match self.word() {
            "ms" => TimeUnit::Millisecond,
            "us" => TimeUnit::Microsecond,
            "ns" => TimeUnit::Nanosecond,
            unit => {
                return Err(
                    self.wrong_at(start, format!("unknown unit {unit:?}, expected `ms`, `us` or `ns`"))
                );
            }
        };
        let utc = self.takes(',');
        let start = self.rest;
        if utc && self.word() != "utc" {
            return Err(self.wrong_at(start, "expected `utc`"));
        }
        self.expect(')')?;
        Ok(Type::Timestamp { unit, utc })
    }

    fn number(&mut self) -> Result<u8, SchemaError> {
        let start = self.rest;
        self.word().parse().map_err(|_| self.wrong_at(start, "expected a number of digits, 0 to 38"))
    }
}
