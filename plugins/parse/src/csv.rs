//! CSV as RFC 4180 has it, one row per record: quotes, doubled quotes, a delimiter of one byte.
//!
//! The names come from the config. Rows that repeat the header are dropped. A quoted value with a line break in it
//! only stays whole if the source delivers it as one record.

use wasmill_sdk::{Chunk, Payloads, Setup};

use crate::typed::{Typed, Types};
use crate::unparsable::Unparsable;

pub(crate) struct Csv {
    delimiter: u8,
    header: Vec<u8>,
    columns: Typed,
    clear: Vec<u8>,
    keep: Vec<u8>,
    scratch: Vec<u8>,
}

impl Csv {
    pub(crate) fn new(
        delimiter: u8,
        names: &[String],
        types: &Types,
        setup: &mut Setup,
    ) -> Result<Self, String> {
        let header = names.join(&char::from(delimiter).to_string()).into_bytes();
        let columns = Typed::new(names, types, setup)?;
        let (clear, keep, scratch) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { delimiter, header, columns, clear, keep, scratch })
    }

    pub(crate) fn process(&mut self, rows: &Chunk<'_>, payloads: &Payloads) {
        self.columns.start();
        self.keep.clear();
        self.clear.clear();
        self.clear.resize(payloads.len(), 1);
        for (row, line) in payloads.iter().enumerate() {
            let line = trim_end(line);
            let is_header = self.is_header(line);
            self.keep.push(u8::from(!is_header));
            let done = if is_header { Ok(()) } else { self.row(line) };
            match done {
                Ok(()) => self.columns.end_row(),
                Err(fault) => {
                    self.columns.void_row();
                    rows.fail(row, &fault.describe(0, line));
                }
            }
        }
        rows.clear(&self.clear);
        self.columns.write(rows);
        rows.keep(&self.keep);
    }

    /// Whether the line is the header again, with or without quotes and a byte order mark.
    fn is_header(&self, line: &[u8]) -> bool {
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        line == self.header
            || (line.first() == Some(&b'"') && line.iter().filter(|byte| **byte != b'"').eq(&self.header))
    }

    fn row(&mut self, line: &[u8]) -> Result<(), Unparsable> {
        let (mut at, mut number) = (0, 0);
        loop {
            let begin = at;
            let value = if line.get(at) == Some(&b'"') {
                at = unquote(line, at + 1, &mut self.scratch)?;
                if at < line.len() && line[at] != self.delimiter {
                    return Err(Unparsable::Missing { what: "a delimiter behind a quoted value", at });
                }
                self.scratch.as_slice()
            } else {
                at += memchr::memchr(self.delimiter, &line[at..]).unwrap_or(line.len() - at);
                &line[begin..at]
            };
            if number < self.columns.len() {
                self.columns.set(number, value, begin)?;
            }
            number += 1;
            if at == line.len() {
                break;
            }
            at += 1;
        }
        if number != self.columns.len() {
            return Err(Unparsable::Count { expected: self.columns.len(), got: number, at: line.len() });
        }
        Ok(())
    }
}

fn trim_end(line: &[u8]) -> &[u8] {
    let mut line = line;
    while let Some(rest) = line.strip_suffix(b"\n").or_else(|| line.strip_suffix(b"\r")) {
        line = rest;
    }
    line
}

/// Takes a quoted value whose first byte is at `begin` into `out`; gives the place behind the closing quote.
fn unquote(line: &[u8], begin: usize, out: &mut Vec<u8>) -> Result<usize, Unparsable> {
    out.clear();
    let mut at = begin;
    loop {
        let rest = &line[at..];
        let Some(quote) = memchr::memchr(b'"', rest) else {
            return Err(Unparsable::Missing { what: "the closing quote", at: begin - 1 });
        };
        out.extend_from_slice(&rest[..quote]);
        at += quote + 1;
        if line.get(at) != Some(&b'"') {
            return Ok(at);
        }
        out.push(b'"');
        at += 1;
    }
}
