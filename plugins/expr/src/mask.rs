//! Conditions column by column: one byte per row, 1 where the condition holds.
//!
//! Fields against literals and patterns are loops over flat columns; what has no such loop is evaluated row by row.

use crate::columns::{Columns, View};
use crate::eval::truth;
use crate::syntax::{Comparison, Kind, Literal, Node};
use crate::value::Value;

const VALUE: u8 = 3;
const OTHER: u8 = 2;

/// Evaluates `node` for every row into `out`, which is made as long as the chunk.
pub(crate) fn mask(node: &Node, columns: &Columns, out: &mut Vec<u8>) {
    out.clear();
    out.resize(columns.rows, 0);
    match &node.kind {
        Kind::Literal(literal) => out.fill(u8::from(*literal == Literal::Bool(true))),
        Kind::Not(inner) => {
            mask(inner, columns, out);
            invert(out);
        }
        Kind::And(left, right) | Kind::Or(left, right) => {
            mask(left, columns, out);
            let mut other = Vec::new();
            mask(right, columns, &mut other);
            let is_and = matches!(node.kind, Kind::And(..));
            for (out, other) in out.iter_mut().zip(other) {
                *out = if is_and { *out & other } else { *out | other };
            }
        }
        Kind::Match { text, pattern, negated } => match view(text, columns) {
            Some(View { text: Some(text), .. }) => {
                pattern.mark(text, out);
                if *negated {
                    invert(out);
                }
            }
            _ => by_row(node, columns, out),
        },
        Kind::Compare { op, left, right } => {
            let done = match (&left.kind, &right.kind) {
                (_, Kind::Literal(literal)) => compare(*op, left, literal, columns, out),
                (Kind::Literal(literal), _) => compare(op.mirrored(), right, literal, columns, out),
                _ => false,
            };
            if !done {
                by_row(node, columns, out);
            }
        }
        Kind::In { value, list, negated } => {
            let texts: Option<Vec<&[u8]>> = list
                .iter()
                .map(|literal| if let Literal::Text(text) = literal { Some(text.as_bytes()) } else { None })
                .collect();
            match (view(value, columns), texts) {
                (Some(View { text: Some(text), .. }), Some(texts)) => {
                    for (row, out) in out.iter_mut().enumerate() {
                        let found = text.get(row).is_some_and(|value| texts.contains(&value));
                        *out = u8::from(found != *negated);
                    }
                }
                _ => by_row(node, columns, out),
            }
        }
        _ => by_row(node, columns, out),
    }
}

fn invert(mask: &mut [u8]) {
    for byte in mask {
        *byte ^= 1;
    }
}

fn by_row(node: &Node, columns: &Columns, out: &mut [u8]) {
    for (row, out) in out.iter_mut().enumerate() {
        *out = u8::from(truth(node, columns, row));
    }
}

/// The columns of a node that is a field read from the chunk.
fn view<'a>(node: &Node, columns: &'a Columns) -> Option<&'a View> {
    match node.kind {
        Kind::Field(field) => Some(&columns.views[field]).filter(|view| view.computed.is_none()),
        _ => None,
    }
}

/// A field against a literal; false where there is no loop for it.
fn compare(op: Comparison, node: &Node, literal: &Literal, columns: &Columns, out: &mut [u8]) -> bool {
    match (view(node, columns), literal) {
        (Some(View { text: Some(text), .. }), Literal::Text(literal)) => {
            let literal = literal.as_bytes();
            for (row, out) in out.iter_mut().enumerate() {
                *out = u8::from(match (op, text.get(row)) {
                    (Comparison::NotEqual, None) => true,
                    (_, None) => false,
                    (Comparison::Equal, Some(value)) => value == literal,
                    (Comparison::NotEqual, Some(value)) => value != literal,
                    (Comparison::Less, Some(value)) => value < literal,
                    (Comparison::LessEqual, Some(value)) => value <= literal,
                    (Comparison::Greater, Some(value)) => value > literal,
                    (Comparison::GreaterEqual, Some(value)) => value >= literal,
                });
            }
            true
        }
        (Some(View { ints: Some(ints), floats, text: None, .. }), Literal::Int(literal)) => {
            let literal = *literal;
            let cells = ints.values().iter().zip(ints.states()).zip(out.iter_mut());
            match op {
                Comparison::Equal => loop_over(cells, |value| value == literal, false),
                Comparison::NotEqual => loop_over(cells, |value| value != literal, true),
                Comparison::Less => loop_over(cells, |value| value < literal, false),
                Comparison::LessEqual => loop_over(cells, |value| value <= literal, false),
                Comparison::Greater => loop_over(cells, |value| value > literal, false),
                Comparison::GreaterEqual => loop_over(cells, |value| value >= literal, false),
            }
            if let Some(floats) = floats {
                for (row, out) in out.iter_mut().enumerate() {
                    if let (OTHER, Some(value)) = (ints.states()[row], floats.get(row)) {
                        *out = u8::from(Value::Float(value).compare(op, &Value::Int(literal)));
                    }
                }
            }
            true
        }
        _ => false,
    }
}

/// `absent` is the result where there is no integer.
fn loop_over<'a>(
    cells: impl Iterator<Item = ((&'a i64, &'a u8), &'a mut u8)>,
    holds: impl Fn(i64) -> bool,
    absent: bool,
) {
    for ((value, state), out) in cells {
        *out = u8::from(if *state == VALUE { holds(*value) } else { absent });
    }
}
