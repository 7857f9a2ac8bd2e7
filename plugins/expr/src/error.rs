//! What is wrong with an expression, shown with a caret under the place.

use std::ops::Range;

use thiserror::Error;

/// An expression that does not compile. Displays over three lines: message, line of the source, caret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message} (line {line}, column {column})\n  {source_line}\n  {caret}")]
pub struct ExprError {
    /// What is wrong, and the nearest valid name where there is one.
    pub message: String,
    /// Line of the expression, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line itself.
    pub source_line: String,
    /// Spaces and carets under the place.
    pub caret: String,
}

/// A fault before its place is turned into line and column.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) at: Range<usize>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>, at: Range<usize>) -> Self {
        Self { message: message.into(), at }
    }

    /// Finds line and column in `source`.
    pub(crate) fn show(self, source: &str) -> ExprError {
        let start = floor(source, self.at.start);
        let end = floor(source, self.at.end).max(start);
        let (before, after) = source.split_at(start);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let prefix = before.get(line_start..).unwrap_or_default();
        let rest = after.lines().next().unwrap_or_default();
        let width = source.get(start..end).unwrap_or_default().lines().next().unwrap_or_default();
        let column = prefix.chars().count();
        ExprError {
            message: self.message,
            line: before.matches('\n').count() + 1,
            column: column + 1,
            source_line: format!("{prefix}{rest}"),
            caret: format!("{}{}", " ".repeat(column), "^".repeat(width.chars().count().max(1))),
        }
    }
}

fn floor(source: &str, at: usize) -> usize {
    let mut at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}
