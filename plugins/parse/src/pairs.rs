//! Lines of pairs: `logfmt` (`level=info msg="a b" flag`) and pairs with separators of the user's choice.
//!
//! With a list of fields those become typed columns and other keys are left out, or gathered in the field that
//! `rest` names. Without a list every key becomes a text, in the order of the line; of a key that occurs twice the
//! first value counts.

use std::ops::Range;

use wasmill_sdk::{Chunk, Field, Payloads, Setup, TextColumn};

use crate::json::Object;
use crate::typed::{Typed, Types};
use crate::unparsable::Unparsable;

/// Pairs of one line; more make it unparsable.
const PAIRS_MAX: usize = 1000;

/// What separates pairs, and names from values.
pub(crate) struct Separators {
    /// Between pairs. Runs of it count as one.
    pub(crate) pair: u8,
    /// Between name and value.
    pub(crate) value: u8,
    /// A name alone is a pair with the value `true`.
    pub(crate) bare: bool,
}

pub(crate) struct Pairs {
    separators: Separators,
    columns: Option<Typed>,
    rest: Option<Field>,
    texts: TextColumn,
    clear: Vec<u8>,
    /// Names and values of the current line, and whether the value has escapes.
    found: Vec<(Range<usize>, Option<Range<usize>>, bool)>,
    scratch: Vec<u8>,
}

impl Pairs {
    pub(crate) fn new(
        separators: Separators,
        fields: Option<&[String]>,
        types: &Types,
        rest: Option<&str>,
        setup: &mut Setup,
    ) -> Result<Self, String> {
        let columns = match fields {
            Some(fields) => Some(Typed::new(fields, types, setup)?),
            None if !types.is_empty() => return Err("config: `types` needs `fields`".to_owned()),
            None if rest.is_some() => return Err("config: `rest` needs `fields`".to_owned()),
            None => None,
        };
        if let (Some(rest), Some(fields)) = (rest, fields)
            && fields.iter().any(|field| field == rest)
        {
            return Err(format!("config: `rest` names the field `{rest}`, which has a value of its own"));
        }
        Ok(Self {
            separators,
            columns,
            rest: rest.map(|rest| setup.top(rest)),
            texts: TextColumn::new(),
            clear: Vec::new(),
            found: Vec::new(),
            scratch: Vec::new(),
        })
    }

    pub(crate) fn process(&mut self, rows: &Chunk<'_>, payloads: &Payloads) {
        self.texts.clear();
        if let Some(columns) = &mut self.columns {
            columns.start();
        }
        let mut start = 0;
        for (row, line) in payloads.iter().enumerate() {
            let done = self.split(line).and_then(|()| self.row(line));
            if let Err(fault) = done {
                if let Some(columns) = &mut self.columns {
                    columns.void_row();
                }
                self.texts.push_missing();
                rows.fail(row, &fault.describe(0, line));
            }
            start += line.len();
        }
        debug_assert_eq!(start, payloads.data().len());
        match (&self.columns, self.rest) {
            (None, _) => rows.set_payloads(&self.texts),
            (Some(columns), rest) => {
                self.clear.clear();
                self.clear.resize(payloads.len(), 1);
                rows.clear(&self.clear);
                columns.write(rows);
                if let Some(rest) = rest {
                    rows.set_raw(rest, &self.texts);
                }
            }
        }
    }

    /// Finds the pairs of a line.
    fn split(&mut self, line: &[u8]) -> Result<(), Unparsable> {
        self.found.clear();
        let Separators { pair, value, bare } = self.separators;
        let blank = |byte: u8| byte == pair || matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let mut at = 0;
        loop {
            while at < line.len() && blank(line[at]) {
                at += 1;
            }
            if at == line.len() {
                break;
            }
            if self.found.len() == PAIRS_MAX {
                return Err(Unparsable::Bad { what: "line: more than 1000 pairs", at });
            }
            let begin = at;
            while at < line.len() && line[at] != value && line[at] != pair {
                at += 1;
            }
            let name = begin..trimmed(line, begin, at);
            if name.is_empty() {
                return Err(Unparsable::Missing { what: "the name of a pair", at: begin });
            }
            if line.get(at) != Some(&value) {
                if !bare {
                    return Err(Unparsable::Missing { what: "the value of a pair", at: begin });
                }
                self.found.push((name, None, false));
                continue;
            }
            at += 1;
            let begin = at;
            if line.get(at) == Some(&b'"') {
                let (end, escaped) = quoted(line, at + 1)?;
                self.found.push((name, Some(at + 1..end), escaped));
                at = end + 1;
                if at < line.len() && !blank(line[at]) {
                    return Err(Unparsable::Missing { what: "a separator behind a quoted value", at });
                }
            } else {
                while at < line.len() && line[at] != pair {
                    at += 1;
                }
                self.found.push((name, Some(begin..trimmed(line, begin, at)), false));
            }
        }
        if self.found.is_empty() {
            return Err(Unparsable::Missing { what: "a pair", at: 0 });
        }
        Ok(())
    }

    /// Writes the pairs that were found.
    fn row(&mut self, line: &[u8]) -> Result<(), Unparsable> {
        let Self { columns, rest, texts, found, scratch, .. } = self;
        if std::str::from_utf8(line).is_err() {
            return Err(Unparsable::Bad { what: "line: it is not UTF-8", at: 0 });
        }
        let mut object = (columns.is_none() || rest.is_some()).then(|| Object::new(texts.buffer()));
        for (number, (name, value, escaped)) in found.iter().enumerate() {
            let name = &line[name.clone()];
            let text = match value {
                Some(value) if *escaped => unescape(&line[value.clone()], scratch),
                Some(value) => &line[value.clone()],
                None => b"true",
            };
            let at = value.as_ref().map_or(0, |value| value.start);
            match columns.as_mut().and_then(|columns| columns.find(name).map(|number| (columns, number))) {
                Some((columns, number)) => columns.set(number, text, at)?,
                None => {
                    let again = found.iter().take(number).any(|(earlier, ..)| line[earlier.clone()] == *name);
                    match &mut object {
                        Some(object) if !again && value.is_none() => object.raw(name, "true"),
                        Some(object) if !again => object.text(name, text),
                        _ => {}
                    }
                }
            }
        }
        if let Some(columns) = columns {
            columns.end_row();
        }
        match object {
            Some(object) => {
                object.end();
                texts.finish();
            }
            None => texts.push_missing(),
        }
        Ok(())
    }
}

fn trimmed(line: &[u8], begin: usize, end: usize) -> usize {
    let mut end = end;
    while end > begin && matches!(line[end - 1], b' ' | b'\t' | b'\r' | b'\n') {
        end -= 1;
    }
    end
}

/// The closing quote of a text that begins at `at`, and whether it has escapes.
fn quoted(line: &[u8], begin: usize) -> Result<(usize, bool), Unparsable> {
    let (mut at, mut escaped) = (begin, false);
    while let Some(byte) = line.get(at) {
        match byte {
            b'"' => return Ok((at, escaped)),
            b'\\' => {
                escaped = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
    Err(Unparsable::Missing { what: "the closing quote", at: begin.saturating_sub(1) })
}

/// `\n`, `\t` and `\r` become their characters, any other escaped character itself.
fn unescape<'a>(text: &[u8], out: &'a mut Vec<u8>) -> &'a [u8] {
    out.clear();
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(match (byte, byte == &b'\\') {
            (_, true) => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(other) => *other,
                None => b'\\',
            },
            (byte, false) => *byte,
        });
    }
    out
}
