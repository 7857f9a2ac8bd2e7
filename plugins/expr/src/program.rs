//! A compiled expression.

use std::borrow::Cow;

use wasmill_sdk::Chunk;

use crate::check::check;
use crate::columns::{Columns, Fields};
use crate::error::{ExprError, Fault};
use crate::eval::eval;
use crate::lexer::{Token, tokens};
use crate::mask::mask;
use crate::parser::parse;
use crate::results::Results;
use crate::syntax::{Kind, Node, Type};
use crate::value::Value;

/// A compiled expression. Its fields are numbered in the [`Fields`] that it was compiled with.
#[derive(Debug)]
pub struct Program {
    root: Node,
}

impl Program {
    /// Compiles an expression that gives any value.
    pub fn compile(source: &str, fields: &mut Fields) -> Result<Self, ExprError> {
        Self::typed(source, Type::Any, fields)
    }

    /// Compiles an expression that must be a condition.
    pub fn condition(source: &str, fields: &mut Fields) -> Result<Self, ExprError> {
        Self::typed(source, Type::Bool, fields)
    }

    /// Compiles `path = expression`. Gives the path of the target.
    pub fn assignment(source: &str, fields: &mut Fields) -> Result<(Vec<String>, Self), ExprError> {
        let equals = split_assignment(source).map_err(|fault| fault.show(source))?;
        let (target, rest) = source.split_at(equals);
        let expression = rest.get(1..).unwrap_or_default();
        // The expression keeps its place in the source, so that carets point right.
        let shift =
            |fault: Fault| Fault::new(fault.message, fault.at.start + equals + 1..fault.at.end + equals + 1);
        let program = compile(expression, Type::Any, fields).map_err(|fault| shift(fault).show(source))?;
        Ok((path(target).map_err(|fault| fault.show(source))?, program))
    }

    /// Whether the expression reads this field.
    #[must_use]
    pub fn reads(&self, field: usize) -> bool {
        reads(&self.root, field)
    }

    fn typed(source: &str, wanted: Type, fields: &mut Fields) -> Result<Self, ExprError> {
        compile(source, wanted, fields).map_err(|fault| fault.show(source))
    }

    /// 1 for every row where the condition holds, 0 for the others. Fills `out`, which keeps its buffer.
    pub fn mask(&self, columns: &Columns, out: &mut Vec<u8>) {
        mask(&self.root, columns, out);
    }

    /// The value for one row.
    #[must_use]
    pub fn value<'a>(&'a self, columns: &'a Columns, row: usize) -> Value<'a> {
        eval(&self.root, columns, row)
    }

    /// The values for all rows. A chain of `if`s at the top has its conditions evaluated column by column.
    pub fn results(&self, columns: &Columns, out: &mut Results) {
        out.clear();
        let (mut branches, mut node) = (Vec::new(), &self.root);
        while let Kind::If { condition, then, otherwise } = &node.kind {
            let mut chosen = Vec::new();
            mask(condition, columns, &mut chosen);
            branches.push((chosen, &**then));
            node = otherwise;
        }
        for row in 0..columns.rows() {
            let branch = branches.iter().find(|(chosen, _)| chosen[row] == 1).map_or(node, |(_, then)| then);
            out.push(&eval(branch, columns, row));
        }
    }

    /// Evaluates the expression over a chunk that holds nothing but these rows: for tests and tools.
    #[must_use]
    pub fn evaluate(&self, fields: &Fields, rows: &Chunk<'_>) -> Vec<Value<'static>> {
        let columns = fields.load(rows);
        let own = |value: Value<'_>| match value {
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Missing => Value::Missing,
            Value::Null | Value::Json(_) => Value::Null,
            Value::Bool(value) => Value::Bool(value),
            Value::Int(value) => Value::Int(value),
            Value::Float(value) => Value::Float(value),
        };
        (0..columns.rows()).map(|row| own(self.value(&columns, row))).collect()
    }
}

fn compile(source: &str, wanted: Type, fields: &mut Fields) -> Result<Program, Fault> {
    let root = parse(source, fields)?;
    check(&root, wanted, fields)?;
    Ok(Program { root })
}

/// Where the `=` of an assignment is.
fn split_assignment(source: &str) -> Result<usize, Fault> {
    let tokens = tokens(source)?;
    let equals = tokens.iter().find(|(token, _)| *token == Token::Sign("="));
    equals.map(|(_, at)| at.start).ok_or_else(|| Fault::new("expected `name = expression`", 0..source.len()))
}

fn path(source: &str) -> Result<Vec<String>, Fault> {
    let mut fields = Fields::new();
    match parse(source, &mut fields)?.kind {
        Kind::Field(0) => Ok(fields.paths.remove(0)),
        _ => Err(Fault::new("expected the name of a field", 0..source.len())),
    }
}

/// Reads a field's path as expressions write it: `a.b`, `` `key.with.dots`.c ``.
pub fn field_path(source: &str) -> Result<Vec<String>, ExprError> {
    path(source).map_err(|fault| fault.show(source))
}

fn reads(node: &Node, field: usize) -> bool {
    match &node.kind {
        Kind::Literal(_) => false,
        Kind::Field(read) => *read == field,
        Kind::Not(inner) | Kind::Negate(inner) => reads(inner, field),
        Kind::And(left, right)
        | Kind::Or(left, right)
        | Kind::Compare { left, right, .. }
        | Kind::Arithmetic { left, right, .. } => reads(left, field) || reads(right, field),
        Kind::Match { text, .. } => reads(text, field),
        Kind::In { value, .. } => reads(value, field),
        Kind::Call { arguments, .. } => arguments.iter().any(|argument| reads(argument, field)),
        Kind::If { condition, then, otherwise } => {
            reads(condition, field) || reads(then, field) || reads(otherwise, field)
        }
    }
}

/// A stable 64-bit hash of bytes, as the language's `hash` uses it: for sampling by key.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    crate::eval::hash(bytes)
}
