//! A value of one row while an expression is evaluated.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::syntax::{Comparison, Literal};

/// A value. `Missing` and `Other` only come from fields.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// The field is absent.
    Missing,
    /// JSON null, and whatever could not be computed.
    Null,
    /// A truth value.
    Bool(bool),
    /// An exact integer.
    Int(i64),
    /// Any other number; always finite.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// An object or array as its JSON text; empty where the expression never needs the text.
    Json(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn of(literal: &'a Literal) -> Self {
        match literal {
            Literal::Null => Value::Null,
            Literal::Bool(value) => Value::Bool(*value),
            Literal::Int(value) => Value::Int(*value),
            Literal::Float(value) => Value::Float(*value),
            Literal::Text(value) => Value::Text(Cow::Borrowed(value)),
        }
    }

    /// A float, or null where it is none that JSON can hold.
    pub(crate) fn float(value: f64) -> Self {
        if value.is_finite() { Value::Float(value) } else { Value::Null }
    }

    /// Whether there is nothing: missing or null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Missing | Value::Null)
    }

    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// Order of two values of one kind; `None` where they cannot be compared. Null equals null only.
    fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
            (Value::Text(left), Value::Text(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
            (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            _ => self.number()?.partial_cmp(&other.number()?),
        }
    }

    /// A comparison of the language: false where the values cannot be compared, `!=` the opposite of `==`.
    pub(crate) fn compare(&self, op: Comparison, other: &Self) -> bool {
        let equal = || match (self.is_null(), other.is_null()) {
            (true, true) => true,
            (false, false) => self.order(other) == Some(Ordering::Equal) || self.same_json(other),
            _ => false,
        };
        match op {
            Comparison::Equal => equal(),
            Comparison::NotEqual => !equal(),
            Comparison::Less => self.order(other) == Some(Ordering::Less),
            Comparison::LessEqual => matches!(self.order(other), Some(Ordering::Less | Ordering::Equal)),
            Comparison::Greater => self.order(other) == Some(Ordering::Greater),
            Comparison::GreaterEqual => {
                matches!(self.order(other), Some(Ordering::Greater | Ordering::Equal))
            }
        }
    }

    fn same_json(&self, other: &Self) -> bool {
        matches!((self, other), (Value::Json(left), Value::Json(right)) if !left.is_empty() && left == right)
    }

    /// The value as text: texts as they are, numbers in shortest form, null as nothing.
    #[must_use]
    pub fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Value::Missing | Value::Null => None,
            Value::Bool(value) => Some(Cow::Borrowed(if value { "true" } else { "false" })),
            Value::Int(value) => Some(Cow::Owned(itoa::Buffer::new().format(value).to_owned())),
            Value::Float(value) => Some(Cow::Owned(float_text(value))),
            Value::Text(text) => Some(text),
            Value::Json(text) => Some(String::from_utf8_lossy(text)),
        }
    }
}

/// The shortest text that reads back as the same number, whole numbers without `.0`.
pub(crate) fn float_text(value: f64) -> String {
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format(value);
    text.strip_suffix(".0").unwrap_or(text).to_owned()
}
