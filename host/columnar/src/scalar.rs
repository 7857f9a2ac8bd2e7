//! One JSON token as a value of a column.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::column::{Column, Data};
use crate::decimal::{Surplus, scaled};
use crate::plan::Scalar;
use crate::timestamp::{Formats, days};

/// Most characters of a value that are told.
const SHOWN_CHARACTERS: usize = 64;

/// A JSON value as it was written, without white space around it.
#[derive(Clone, Copy)]
pub(crate) enum Token<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    /// With its quotes.
    Text(&'a str),
    /// An array or an object.
    Nested(&'a str),
}

/// Why a token is no value of a column.
pub(crate) enum Unfit {
    /// It is of another kind or out of range.
    Value,
    /// Its escapes are no text.
    Json(serde_json::Error),
}

impl<'a> Token<'a> {
    pub(crate) fn of(json: &'a str) -> Token<'a> {
        match json.as_bytes().first() {
            Some(b'"') => Token::Text(json),
            Some(b'{' | b'[') => Token::Nested(json),
            Some(b't') => Token::Bool(true),
            Some(b'f') => Token::Bool(false),
            Some(b'n') => Token::Null,
            _ => Token::Number(json),
        }
    }
}

/// What is told of a value.
pub(crate) fn shown(json: &str) -> String {
    match json.as_bytes().first() {
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "an array".to_owned(),
        _ => match json.char_indices().nth(SHOWN_CHARACTERS) {
            Some((end, _)) => format!("{}...", json.get(..end).unwrap_or_default()),
            None => json.to_owned(),
        },
    }
}

fn unescaped(quoted: &str) -> Result<Cow<'_, str>, Unfit> {
    let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if inside.as_bytes().contains(&b'\\') {
        serde_json::from_str(quoted).map(Cow::Owned).map_err(Unfit::Json)
    } else {
        Ok(Cow::Borrowed(inside))
    }
}

/// Appends a value that is not null; the bytes that it takes besides the column's width.
pub(crate) fn push(
    column: &mut Column,
    scalar: Scalar,
    token: Token<'_>,
    formats: &Formats,
) -> Result<u64, Unfit> {
    match (&mut column.data, scalar) {
        (Data::Boolean(values), Scalar::Boolean) => match token {
            Token::Bool(value) => values.append(value),
            _ => return Err(Unfit::Value),
        },
        (Data::Int32(values), Scalar::Int32) => {
            values.push(integer(token).and_then(|value| value.try_into().ok()).ok_or(Unfit::Value)?);
        }
        (Data::Int64(values), Scalar::Int64) => values.push(integer(token).ok_or(Unfit::Value)?),
        (Data::Float(values), Scalar::Float) => values.push(number(token)?),
        (Data::Double(values), Scalar::Double) => values.push(number(token)?),
        (Data::Decimal(values), Scalar::Decimal { bound, scale }) => {
            let value = match token {
                Token::Number(text) => scaled(text, scale, Surplus::Refuse),
                Token::Text(text) => scaled(&unescaped(text)?, scale, Surplus::Refuse),
                _ => None,
            };
            values.push(value.filter(|value| (1 - bound..bound).contains(value)).ok_or(Unfit::Value)?);
        }
        (Data::Int32(values), Scalar::Date) => match token {
            Token::Text(text) => values.push(days(&unescaped(text)?).ok_or(Unfit::Value)?),
            _ => return Err(Unfit::Value),
        },
        (Data::Int64(values), Scalar::Timestamp(unit)) => {
            let instant = match token {
                Token::Number(text) => formats.read(text, true),
                Token::Text(text) => formats.read(&unescaped(text)?, false),
                _ => None,
            };
            let count = instant.and_then(|instant| instant.div_euclid(unit.nanoseconds()).try_into().ok());
            values.push(count.ok_or(Unfit::Value)?);
        }
        (_, Scalar::Binary) => {
            let Token::Text(text) = token else { return Err(Unfit::Value) };
            let bytes = STANDARD.decode(unescaped(text)?.as_bytes()).map_err(|_| Unfit::Value)?;
            column.push_bytes(&bytes);
            return Ok(bytes.len() as u64);
        }
        (_, Scalar::String) => {
            let text = match token {
                Token::Text(text) => unescaped(text)?,
                Token::Number(text) | Token::Nested(text) => Cow::Borrowed(text),
                Token::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
                Token::Null => return Err(Unfit::Value),
            };
            column.push_bytes(text.as_bytes());
            return Ok(text.len() as u64);
        }
        _ => return Err(Unfit::Value),
    }
    column.mark();
    Ok(0)
}

fn integer(token: Token<'_>) -> Option<i64> {
    let Token::Number(text) = token else { return None };
    if let Ok(value) = text.parse() {
        return Some(value);
    }
    if !text.contains(['.', 'e', 'E']) {
        return None;
    }
    scaled(text, 0, Surplus::Refuse)?.try_into().ok()
}

fn number<T: std::str::FromStr + Into<f64> + Copy>(token: Token<'_>) -> Result<T, Unfit> {
    let Token::Number(text) = token else { return Err(Unfit::Value) };
    let value: T = text.parse().map_err(|_| Unfit::Value)?;
    if value.into().is_finite() { Ok(value) } else { Err(Unfit::Value) }
}
