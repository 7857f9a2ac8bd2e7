//! Lines by a regular expression of the user's: its named groups become fields.

use wasmill_sdk::{Chunk, Payloads, Setup};

use crate::typed::{Typed, Types};
use crate::unparsable::Unparsable;

/// Bytes of a pattern.
const PATTERN_MAX: usize = 8 << 10;
/// Memory of the compiled expression.
const COMPILED_MAX: usize = 1 << 20;

pub(crate) struct Named {
    regex: regex_lite::Regex,
    /// Number of the group of each column.
    groups: Vec<usize>,
    columns: Typed,
    clear: Vec<u8>,
}

impl Named {
    pub(crate) fn new(pattern: &str, types: &Types, setup: &mut Setup) -> Result<Self, String> {
        if pattern.len() > PATTERN_MAX {
            return Err(format!("config: a pattern of more than {PATTERN_MAX} bytes"));
        }
        let regex = regex_lite::RegexBuilder::new(pattern).size_limit(COMPILED_MAX).build();
        let regex = regex.map_err(|error| format!("config: pattern: {error}"))?;
        let (mut names, mut groups) = (Vec::new(), Vec::new());
        for (number, name) in regex.capture_names().enumerate() {
            if let Some(name) = name {
                names.push(name.to_owned());
                groups.push(number);
            }
        }
        if names.is_empty() {
            return Err("config: the pattern has no named group, such as `(?<name>\\w+)`".to_owned());
        }
        let columns = Typed::new(&names, types, setup)?;
        Ok(Self { regex, groups, columns, clear: Vec::new() })
    }

    pub(crate) fn process(&mut self, rows: &Chunk<'_>, payloads: &Payloads) {
        self.columns.start();
        self.clear.clear();
        self.clear.resize(payloads.len(), 1);
        for (row, line) in payloads.iter().enumerate() {
            match self.row(line) {
                Ok(()) => self.columns.end_row(),
                Err(fault) => {
                    self.columns.void_row();
                    rows.fail(row, &fault.describe(0, line));
                }
            }
        }
        rows.clear(&self.clear);
        self.columns.write(rows);
    }

    fn row(&mut self, line: &[u8]) -> Result<(), Unparsable> {
        let Ok(text) = std::str::from_utf8(line) else {
            return Err(Unparsable::Bad { what: "line: it is not UTF-8", at: 0 });
        };
        let Some(found) = self.regex.captures(text) else {
            return Err(Unparsable::Bad { what: "line: the pattern does not match", at: 0 });
        };
        for (column, group) in self.groups.iter().enumerate() {
            match found.get(*group) {
                Some(part) => self.columns.set(column, part.as_str().as_bytes(), part.start())?,
                None => self.columns.set_null(column),
            }
        }
        Ok(())
    }
}
