//! Apache and nginx access logs: the `common` and `combined` formats.
//!
//! `client ident user [time] "method path protocol" status bytes "referrer" "agent"`
//!
//! A lone `-` is null in every field that may lack a value. `\"` and `\\` inside quotes are unescaped; `\xhh` stays
//! as it is, because those bytes need not be UTF-8. A line that is cut short inside the referrer or agent still
//! gives its fields; one that ends before its status is unparsable, and the reason says what is missing.

use std::ops::Range;

use memchr::{memchr, memchr2};
use wasmill_sdk::{Chunk, Field, IntColumn, Payloads, Setup, SpanColumn};

use crate::stamp_column::{StampColumn, TimeAs};
use crate::unparsable::Unparsable;

/// Where the fields of one line are, relative to the chunk's payload bytes.
#[derive(Default)]
struct Line {
    client: Range<usize>,
    ident: Range<usize>,
    user: Range<usize>,
    time: Range<usize>,
    method: Range<usize>,
    path: Range<usize>,
    protocol: Range<usize>,
    status: i64,
    bytes: Option<i64>,
    referrer: Range<usize>,
    agent: Range<usize>,
    /// What follows the agent in extended formats.
    extra: Range<usize>,
    /// Some quoted field has a backslash.
    escaped: bool,
}

/// The columns of an access log.
pub(crate) struct Access {
    combined: bool,
    fields: [Field; 9],
    status_field: Field,
    bytes_field: Field,
    texts: [SpanColumn; 9],
    time: StampColumn,
    status: IntColumn,
    bytes: IntColumn,
    clear: Vec<u8>,
    scratch: Vec<u8>,
}

/// How many of `texts` the common format has.
const COMMON: usize = 6;
/// How many of `texts` the combined format has.
const COMBINED: usize = 8;

impl Access {
    /// Declares the fields; their order is the order of the keys in the records.
    pub(crate) fn new(combined: bool, time_as: TimeAs, setup: &mut Setup) -> Self {
        let [client, ident, user] = ["client", "ident", "user"].map(|name| setup.top(name));
        let time = setup.top("time");
        let [method, path, protocol, status, bytes, referrer, agent, extra] =
            ["method", "path", "protocol", "status", "bytes", "referrer", "agent", "extra"]
                .map(|name| setup.top(name));
        Self {
            combined,
            fields: [client, ident, user, method, path, protocol, referrer, agent, extra],
            status_field: status,
            bytes_field: bytes,
            texts: Default::default(),
            time: StampColumn::new(time, time_as),
            status: IntColumn::new(),
            bytes: IntColumn::new(),
            clear: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Parses every payload and sets the columns.
    pub(crate) fn process(&mut self, rows: &Chunk<'_>, payloads: &Payloads) {
        let count = payloads.len();
        let data = payloads.data();
        for column in &mut self.texts {
            column.start(count);
        }
        self.time.start(count);
        self.status.start(count);
        self.bytes.start(count);
        self.clear.clear();
        self.clear.resize(count, 1);
        let (mut start, mut any_extra) = (0, false);
        for (row, end) in payloads.ends().iter().enumerate() {
            let end = *end as usize;
            let parsed = parse(data, start..line_end(data, start, end), self.combined);
            let written = parsed.and_then(|line| {
                any_extra |= !line.extra.is_empty();
                self.write(row, data, &line)
            });
            if let Err(fault) = written {
                self.missing(row);
                rows.fail(row, &fault.describe(start, &data[start..end]));
            }
            start = end;
        }
        rows.clear(&self.clear);
        self.set(rows, any_extra);
    }

    fn set(&mut self, rows: &Chunk<'_>, any_extra: bool) {
        for (number, (column, field)) in self.texts.iter_mut().zip(self.fields).enumerate() {
            let used = match number {
                0..COMMON => true,
                COMMON..COMBINED => self.combined,
                _ => any_extra,
            };
            if used {
                rows.set_text(field, column.column());
            }
        }
        self.time.set(rows);
        rows.set_ints(self.status_field, &self.status);
        rows.set_ints(self.bytes_field, &self.bytes);
    }

    #[inline(always)]
    fn write(&mut self, row: usize, data: &[u8], line: &Line) -> Result<(), Unparsable> {
        self.time.write_access(row, data, &line.time)?;
        let [client, ident, user, method, path, protocol, referrer, agent, extra] = &mut self.texts;
        client.set(row, data, line.client.start, line.client.end);
        optional(ident, row, data, &line.ident);
        optional(user, row, data, &line.user);
        optional(method, row, data, &line.method);
        optional(protocol, row, data, &line.protocol);
        self.status.set(row, line.status);
        match line.bytes {
            Some(bytes) => self.bytes.set(row, bytes),
            None => self.bytes.set_null(row),
        }
        if line.escaped {
            for (column, span) in [(path, &line.path), (referrer, &line.referrer), (agent, &line.agent)] {
                unescape(&data[span.clone()], &mut self.scratch);
                optional(column, row, &self.scratch, &(0..self.scratch.len()));
            }
        } else {
            optional(path, row, data, &line.path);
            optional(referrer, row, data, &line.referrer);
            optional(agent, row, data, &line.agent);
        }
        if line.extra.is_empty() {
            extra.set_missing(row);
        } else {
            extra.set(row, data, line.extra.start, line.extra.end);
        }
        Ok(())
    }

    #[cold]
    fn missing(&mut self, row: usize) {
        for column in &mut self.texts {
            column.set_missing(row);
        }
        self.time.missing(row);
        self.status.set_missing(row);
        self.bytes.set_missing(row);
    }
}

/// The end of the line without a carriage return or line feed that ingest left.
#[inline(always)]
fn line_end(data: &[u8], start: usize, end: usize) -> usize {
    let mut end = end;
    while end > start && matches!(data[end - 1], b'\n' | b'\r') {
        end -= 1;
    }
    end
}

/// `-` and nothing are null.
#[inline(always)]
fn optional(column: &mut SpanColumn, row: usize, data: &[u8], span: &Range<usize>) {
    if span.is_empty() || (span.end - span.start == 1 && data[span.start] == b'-') {
        column.set_null(row);
    } else {
        column.set(row, data, span.start, span.end);
    }
}

/// `\"` and `\\` become the character alone.
fn unescape(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'\\', Some(&next @ (b'"' | b'\\'))) => {
                out.push(next);
                bytes.next();
            }
            _ => out.push(byte),
        }
    }
}

/// A reader of one line. Positions are those of the whole chunk, so that spans need no second translation.
struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
    start: usize,
}

impl Cursor<'_> {
    /// Up to the next space, which is skipped.
    #[inline(always)]
    fn word(&mut self, what: &'static str) -> Result<Range<usize>, Unparsable> {
        let rest = &self.line[self.at..];
        // Most of `ident` and `user` are one byte: look before calling.
        let len = match rest {
            [_, b' ', ..] => 1,
            _ => memchr(b' ', rest).ok_or_else(|| self.missing(what))?,
        };
        let span = self.at..self.at + len;
        self.at += len + 1;
        Ok(self.absolute(span))
    }

    #[inline(always)]
    fn absolute(&self, span: Range<usize>) -> Range<usize> {
        self.start + span.start..self.start + span.end
    }

    #[cold]
    fn missing(&self, what: &'static str) -> Unparsable {
        Unparsable::Missing { what, at: self.start + self.at }
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Unparsable> {
        if self.line.get(self.at) != Some(&byte) {
            return Err(self.missing(what));
        }
        self.at += 1;
        Ok(())
    }

    /// Quoted text up to its closing quote, which is skipped, and whether it was closed.
    #[inline(always)]
    fn quoted(&mut self, escaped: &mut bool) -> (Range<usize>, bool) {
        let begin = self.at;
        let mut at = begin;
        loop {
            match memchr2(b'"', b'\\', &self.line[at..]) {
                None => {
                    self.at = self.line.len();
                    return (self.absolute(begin..self.at), false);
                }
                Some(found) if self.line[at + found] == b'"' => {
                    self.at = at + found + 1;
                    return (self.absolute(begin..at + found), true);
                }
                Some(found) => {
                    *escaped = true;
                    at = (at + found + 2).min(self.line.len());
                }
            }
        }
    }
}

#[inline(always)]
fn parse(data: &[u8], span: Range<usize>, combined: bool) -> Result<Line, Unparsable> {
    let mut cursor = Cursor { line: &data[span.clone()], at: 0, start: span.start };
    let client = cursor.word("the client")?;
    let ident = cursor.word("the ident")?;
    let user = user(&mut cursor)?;
    let mut line = Line { client, ident, user, ..Line::default() };
    cursor.expect(b'[', "the time in brackets")?;
    let begin = cursor.at;
    let len = match cursor.line.get(begin + 26) {
        Some(b']') => 26,
        _ => memchr(b']', &cursor.line[begin..]).ok_or_else(|| cursor.missing("the end of the time"))?,
    };
    line.time = cursor.absolute(begin..begin + len);
    cursor.at = begin + len + 1;
    cursor.expect(b' ', "the request")?;
    cursor.expect(b'"', "the request in quotes")?;
    let (request, closed) = cursor.quoted(&mut line.escaped);
    if !closed {
        return Err(cursor.missing("the end of the request"));
    }
    request_parts(data, request, &mut line);
    cursor.expect(b' ', "the status")?;
    line.status = status(&mut cursor)?;
    if cursor.line.get(cursor.at) == Some(&b' ') {
        cursor.at += 1;
        line.bytes = bytes(&mut cursor)?;
    }
    if combined && cursor.line.get(cursor.at) == Some(&b' ') {
        for quoted in [&mut line.referrer, &mut line.agent] {
            match cursor.line.get(cursor.at..) {
                Some([b' ', b'"', ..]) => {
                    cursor.at += 2;
                    *quoted = cursor.quoted(&mut line.escaped).0;
                }
                Some([] | [b' ']) | None => break,
                Some(_) => return Err(cursor.missing("a quoted referrer or agent")),
            }
        }
    }
    line.extra = extra(&cursor)?;
    Ok(line)
}

/// The user may hold spaces: it ends where a bracket begins.
#[inline(always)]
fn user(cursor: &mut Cursor<'_>) -> Result<Range<usize>, Unparsable> {
    let begin = cursor.start + cursor.at;
    let mut user = cursor.word("the user")?;
    while cursor.line.get(cursor.at) != Some(&b'[') {
        user = begin..cursor.word("the time in brackets")?.end;
    }
    Ok(user)
}

/// Splits `GET /path HTTP/1.1`. A request that is not of this shape is a path alone: garbage that clients send is
/// still a record of what they sent.
#[inline(always)]
fn request_parts(data: &[u8], request: Range<usize>, line: &mut Line) {
    let text = &data[request.clone()];
    let path_start = match text {
        [_, _, _, b' ', ..] => 4,
        [_, _, _, _, b' ', ..] => 5,
        _ => memchr(b' ', text).map_or(0, |space| space + 1),
    };
    if path_start > 0 {
        line.method = request.start..request.start + path_start - 1;
    }
    let path_end = match text {
        [.., b' ', b'H', b'T', b'T', b'P', b'/', _, b'.', _] if text.len() >= path_start + 9 => {
            text.len() - 9
        }
        _ => odd_protocol(text, path_start),
    };
    if path_end < text.len() {
        line.protocol = request.start + path_end + 1..request.end;
    }
    line.path = request.start + path_start..request.start + path_end;
}

/// Where the path ends if what follows the last space looks like a protocol (`HTTP/2`, `RTSP/1.0`).
#[cold]
fn odd_protocol(text: &[u8], path_start: usize) -> usize {
    match memchr::memrchr(b' ', text) {
        Some(space) if space >= path_start && memchr(b'/', &text[space..]).is_some_and(|slash| slash > 1) => {
            space
        }
        _ => text.len(),
    }
}

#[inline(always)]
fn status(cursor: &mut Cursor<'_>) -> Result<i64, Unparsable> {
    let digit = |byte: u8| byte.wrapping_sub(b'0') <= 9;
    match cursor.line.get(cursor.at..) {
        Some([a, b, c, rest @ ..])
            if digit(*a) && digit(*b) && digit(*c) && matches!(rest.first(), None | Some(b' ')) =>
        {
            cursor.at += 3;
            Ok(i64::from(a - b'0') * 100 + i64::from(b - b'0') * 10 + i64::from(c - b'0'))
        }
        _ => Err(cursor.missing("a status of three digits")),
    }
}

#[inline(always)]
fn bytes(cursor: &mut Cursor<'_>) -> Result<Option<i64>, Unparsable> {
    let begin = cursor.at;
    let mut value: i64 = 0;
    while let Some(byte) = cursor.line.get(cursor.at).filter(|byte| **byte != b' ') {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 || cursor.at - begin >= 18 {
            if *byte == b'-' && cursor.at == begin && matches!(cursor.line.get(begin + 1), None | Some(b' '))
            {
                cursor.at += 1;
                return Ok(None);
            }
            return Err(cursor.missing("the number of bytes"));
        }
        value = value * 10 + i64::from(digit);
        cursor.at += 1;
    }
    Ok((cursor.at > begin).then_some(value))
}

/// Fields that extended formats have behind the standard ones.
#[inline(always)]
fn extra(cursor: &Cursor<'_>) -> Result<Range<usize>, Unparsable> {
    match cursor.line.get(cursor.at..) {
        None | Some([] | [b' ']) => Ok(0..0),
        Some([b' ', ..]) => Ok(cursor.absolute(cursor.at + 1..cursor.line.len())),
        Some(_) => Err(cursor.missing("a space between fields")),
    }
}
