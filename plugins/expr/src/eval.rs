//! Evaluation of one row. Total: what cannot be computed is null.

use std::borrow::Cow;

use crate::columns::{Columns, SOURCE};
use crate::function::Function;
use crate::moment;
use crate::syntax::{Kind, Node, Operator};
use crate::value::Value;

/// Bytes of a text that an expression computes; a longer one is null.
const TEXT_MAX: usize = 1 << 20;

pub(crate) fn eval<'a>(node: &'a Node, columns: &'a Columns, row: usize) -> Value<'a> {
    match &node.kind {
        Kind::Literal(literal) => Value::of(literal),
        Kind::Field(field) => columns.value(*field, row),
        Kind::Not(inner) => Value::Bool(!truth(inner, columns, row)),
        Kind::And(left, right) => Value::Bool(truth(left, columns, row) && truth(right, columns, row)),
        Kind::Or(left, right) => Value::Bool(truth(left, columns, row) || truth(right, columns, row)),
        Kind::Compare { op, left, right } => {
            Value::Bool(eval(left, columns, row).compare(*op, &eval(right, columns, row)))
        }
        Kind::Match { text, pattern, negated } => {
            let found = matches!(eval(text, columns, row), Value::Text(text) if pattern.is_match(&text));
            Value::Bool(found != *negated)
        }
        Kind::In { value, list, negated } => {
            let value = eval(value, columns, row);
            let equal = |literal| value.compare(crate::syntax::Comparison::Equal, &Value::of(literal));
            Value::Bool(list.iter().any(equal) != *negated)
        }
        Kind::Arithmetic { op, left, right } => {
            arithmetic(*op, eval(left, columns, row), eval(right, columns, row))
        }
        Kind::Negate(inner) => match eval(inner, columns, row) {
            Value::Int(value) => value.checked_neg().map_or(Value::Null, Value::Int),
            Value::Float(value) => Value::Float(-value),
            _ => Value::Null,
        },
        Kind::Call { function, arguments } => call(*function, arguments, columns, row).unwrap_or(Value::Null),
        Kind::If { condition, then, otherwise } => {
            eval(if truth(condition, columns, row) { then } else { otherwise }, columns, row)
        }
    }
}

/// Only `true` is true.
pub(crate) fn truth(node: &Node, columns: &Columns, row: usize) -> bool {
    eval(node, columns, row) == Value::Bool(true)
}

fn arithmetic<'a>(op: Operator, left: Value<'a>, right: Value<'a>) -> Value<'a> {
    if let (Value::Int(left), Value::Int(right)) = (&left, &right) {
        let exact = match op {
            Operator::Add => left.checked_add(*right),
            Operator::Subtract => left.checked_sub(*right),
            Operator::Multiply => left.checked_mul(*right),
            Operator::Divide if *right != 0 && left.checked_rem(*right) == Some(0) => {
                left.checked_div(*right)
            }
            Operator::Divide => None,
            Operator::Remainder => return left.checked_rem_euclid(*right).map_or(Value::Null, Value::Int),
        };
        if let Some(exact) = exact {
            return Value::Int(exact);
        }
    }
    if let (Some(left), Some(right)) = (left.number(), right.number()) {
        return Value::float(match op {
            Operator::Add => left + right,
            Operator::Subtract => left - right,
            Operator::Multiply => left * right,
            Operator::Divide => left / right,
            Operator::Remainder => left.rem_euclid(right),
        });
    }
    let is_text = |value: &Value<'_>| matches!(value, Value::Text(_));
    if op == Operator::Add
        && (is_text(&left) || is_text(&right))
        && let (Some(left), Some(right)) = (left.into_text(), right.into_text())
    {
        return bounded(left.into_owned() + &right);
    }
    Value::Null
}

fn bounded<'a>(text: String) -> Value<'a> {
    if text.len() > TEXT_MAX { Value::Null } else { Value::Text(Cow::Owned(text)) }
}

/// A text argument; `None` where it is no text.
fn text<'a>(node: &'a Node, columns: &'a Columns, row: usize) -> Option<Cow<'a, str>> {
    match eval(node, columns, row) {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn integer(node: &Node, columns: &Columns, row: usize) -> Option<i64> {
    match eval(node, columns, row) {
        Value::Int(value) => Some(value),
        Value::Float(value) => Some(value as i64),
        _ => None,
    }
}

/// Applies `part` to borrowed or owned text alike.
fn slice<'a>(text: Cow<'a, str>, part: impl Fn(&str) -> &str) -> Value<'a> {
    Value::Text(match text {
        Cow::Borrowed(text) => {
            let found = part(text);
            // The part lies inside `text`, so it can be borrowed as long as `text`.
            let start = found.as_ptr() as usize - text.as_ptr() as usize;
            Cow::Borrowed(text.get(start..start + found.len()).unwrap_or_default())
        }
        Cow::Owned(text) => Cow::Owned(part(&text).to_owned()),
    })
}

fn call<'a>(
    function: Function,
    arguments: &'a [Node],
    columns: &'a Columns,
    row: usize,
) -> Option<Value<'a>> {
    let any = |number: usize| eval(&arguments[number], columns, row);
    let text = |number: usize| text(&arguments[number], columns, row);
    let optional_text = |number: usize| arguments.get(number).map(|_| text(number));
    let integer = |number: usize| integer(&arguments[number], columns, row);
    let number = |at: usize| any(at).number();
    let stamp = || moment::of(&any(0));
    Some(match function {
        Function::Lower => bounded(text(0)?.to_lowercase()),
        Function::Upper => bounded(text(0)?.to_uppercase()),
        Function::Trim => slice(text(0)?, str::trim),
        Function::Len => Value::Int(i64::try_from(text(0)?.chars().count()).ok()?),
        Function::Substr => {
            let (start, count) = (integer(1)?, if arguments.len() > 2 { integer(2)? } else { i64::MAX });
            let text = text(0)?;
            let chars = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
            let start = if start < 0 { (chars() + start).max(0) } else { start };
            // In Wasm a usize has 32 bits; no text is that long, so what does not fit means "to the end".
            let small = |number: i64| usize::try_from(number.max(0)).unwrap_or(usize::MAX);
            let (start, count) = (small(start), small(count));
            slice(text, |text| substring(text, start, count))
        }
        Function::Split => {
            let (separator, index) = (text(1)?, integer(2)?);
            let text = text(0)?;
            if separator.is_empty() {
                return None;
            }
            let index =
                if index < 0 { i64::try_from(text.split(&*separator).count()).ok()? + index } else { index };
            let index = usize::try_from(index).ok()?;
            text.split(&*separator).nth(index)?;
            slice(text, |text| text.split(&*separator).nth(index).unwrap_or_default())
        }
        Function::Replace => {
            let (text, from, to) = (text(0)?, text(1)?, text(2)?);
            if from.is_empty() {
                return Some(Value::Text(text));
            }
            let hits = text.matches(&*from).count();
            if text.len() + hits.saturating_mul(to.len()) > TEXT_MAX {
                return None;
            }
            Value::Text(Cow::Owned(text.replace(&*from, &to)))
        }
        Function::Contains => Value::Bool(test(text(0), text(1), |text, part| text.contains(part))),
        Function::StartsWith => Value::Bool(test(text(0), text(1), |text, part| text.starts_with(part))),
        Function::EndsWith => Value::Bool(test(text(0), text(1), |text, part| text.ends_with(part))),
        Function::Concat => {
            let mut joined = String::new();
            for at in 0..arguments.len() {
                joined.push_str(&any(at).into_text().unwrap_or_default());
                if joined.len() > TEXT_MAX {
                    return None;
                }
            }
            bounded(joined)
        }
        Function::ParseTime => {
            let format = optional_text(1);
            let format = match &format {
                Some(format) => Some(format.as_deref()?),
                None => None,
            };
            Value::Int(moment::parse(&text(0)?, format)?)
        }
        Function::FormatTime => {
            let format = optional_text(1);
            let format = match &format {
                Some(format) => Some(format.as_deref()?),
                None => None,
            };
            bounded(moment::format(&stamp()?, format)?)
        }
        Function::Epoch => Value::Int(stamp()?.epoch_ms().div_euclid(1000)),
        Function::Year => Value::Int(stamp()?.year),
        Function::Month => Value::Int(i64::from(stamp()?.month)),
        Function::Day => Value::Int(i64::from(stamp()?.day)),
        Function::Hour => Value::Int(i64::from(stamp()?.hour)),
        Function::Minute => Value::Int(i64::from(stamp()?.minute)),
        Function::Weekday => Value::Int(i64::from(stamp()?.weekday())),
        Function::Now => Value::Int(columns.times[row].div_euclid(1_000_000)),
        Function::Offset => Value::Int(columns.offsets[row]),
        Function::Source => columns.attribute(SOURCE, row)?,
        Function::Attribute => columns.attribute(&text(0)?, row)?,
        Function::Hash => {
            let hash = hash(any(0).into_text()?.as_bytes());
            let hash =
                if arguments.len() > 1 { hash % u64::try_from(integer(1)?.max(1)).ok()? } else { hash >> 1 };
            Value::Int(i64::try_from(hash).ok()?)
        }
        Function::Coalesce => {
            (0..arguments.len()).map(any).find(|value| !value.is_null()).unwrap_or(Value::Null)
        }
        Function::Exists => Value::Bool(any(0) != Value::Missing),
        Function::IsNull => Value::Bool(any(0).is_null()),
        Function::Int => to_int(any(0))?,
        Function::Float => match any(0) {
            Value::Text(text) => text.trim().parse().ok().map(Value::float)?,
            other => Value::float(other.number()?),
        },
        Function::Text => Value::Text(any(0).into_text()?),
        Function::Abs => match any(0) {
            Value::Int(value) => Value::Int(value.checked_abs()?),
            other => Value::float(other.number()?.abs()),
        },
        Function::Round if arguments.len() > 1 => {
            let scale = 10_f64.powi(i32::try_from(integer(1)?.clamp(0, 15)).ok()?);
            Value::float((number(0)? * scale).round() / scale)
        }
        Function::Round => whole(number(0)?.round()),
        Function::Floor => whole(number(0)?.floor()),
        Function::Ceil => whole(number(0)?.ceil()),
        Function::Min => extreme((0..arguments.len()).map(any), crate::syntax::Comparison::Less)?,
        Function::Max => extreme((0..arguments.len()).map(any), crate::syntax::Comparison::Greater)?,
    })
}

fn test(text: Option<Cow<'_, str>>, part: Option<Cow<'_, str>>, holds: impl Fn(&str, &str) -> bool) -> bool {
    matches!((text, part), (Some(text), Some(part)) if holds(&text, &part))
}

fn substring(text: &str, start: usize, count: usize) -> &str {
    let from = text.char_indices().nth(start).map_or(text.len(), |(at, _)| at);
    let rest = text.get(from..).unwrap_or_default();
    let len = rest.char_indices().nth(count).map_or(rest.len(), |(at, _)| at);
    rest.get(..len).unwrap_or_default()
}

fn extreme<'a>(
    values: impl Iterator<Item = Value<'a>>,
    better: crate::syntax::Comparison,
) -> Option<Value<'a>> {
    let mut best: Option<Value<'a>> = None;
    for value in values.filter(|value| value.number().is_some()) {
        if best.as_ref().is_none_or(|best| value.compare(better, best)) {
            best = Some(value);
        }
    }
    best
}

/// A float without fraction as an integer where it fits.
fn whole<'a>(value: f64) -> Value<'a> {
    if value.abs() < 9e15 { Value::Int(value as i64) } else { Value::float(value) }
}

fn to_int(value: Value<'_>) -> Option<Value<'_>> {
    match value {
        Value::Int(value) => Some(Value::Int(value)),
        Value::Float(value) => (value.abs() < 9.2e18).then_some(Value::Int(value as i64)),
        Value::Bool(value) => Some(Value::Int(i64::from(value))),
        Value::Text(text) => {
            let text = text.trim();
            let exact = text.parse().ok().map(Value::Int);
            exact.or_else(|| text.parse::<f64>().ok().and_then(|value| to_int(Value::float(value))))
        }
        Value::Missing | Value::Null | Value::Json(_) => None,
    }
}

/// FNV-1a of 64 bits, its bits mixed afterwards. The result is part of the language: it never changes.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
