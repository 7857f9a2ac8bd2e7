//! Syslog: RFC 5424 with its structured data, and RFC 3164 as it is found in the wild.
//!
//! Fields: `facility`, `severity`, `time`, `host`, `app`, `procid`, `msgid`, `structured_data`, `message`. A `-` is
//! null. RFC 3164 has no year and no zone: the year is the latest that does not lie ahead of the arrival time, the zone is taken as UTC.
//! Lines of log files, which carry no priority, are read as RFC 3164 without facility and severity.

use std::ops::Range;

use memchr::memchr;
use wasmill_sdk::{Chunk, Field, Payloads, Setup, SpanColumn, TextColumn, time};

use crate::json::quote;
use crate::stamp_column::{StampColumn, TimeAs};
use crate::unparsable::Unparsable;

const FACILITIES: [&str; 24] = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "security",
    "console",
    "solaris-cron",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// Which of the two is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// RFC 5424 where the version 1 follows the priority, else RFC 3164.
    Either,
    Rfc3164,
    Rfc5424,
}

// Places of the text columns.
const HOST: usize = 0;
const APP: usize = 1;
const PROCID: usize = 2;
const MSGID: usize = 3;
const MESSAGE: usize = 4;

pub(crate) struct Syslog {
    kind: Kind,
    facility: (Field, SpanColumn),
    severity: (Field, SpanColumn),
    time: StampColumn,
    texts: [(Field, SpanColumn); 5],
    structured: (Field, TextColumn),
    clear: Vec<u8>,
}

/// Where the parts of a line are; `None` is null.
#[derive(Default)]
struct Line {
    priority: Option<u8>,
    time: Option<Range<usize>>,
    bsd_time: bool,
    texts: [Option<Range<usize>>; 5],
    structured: Option<Range<usize>>,
}

impl Syslog {
    pub(crate) fn new(kind: Kind, time_as: TimeAs, setup: &mut Setup) -> Self {
        let mut column = |name| (setup.top(name), SpanColumn::new());
        let (facility, severity) = (column("facility"), column("severity"));
        let time = StampColumn::new(column("time").0, time_as);
        let [host, app, procid, msgid] = ["host", "app", "procid", "msgid"].map(&mut column);
        let structured = (column("structured_data").0, TextColumn::new());
        let message = column("message");
        let texts = [host, app, procid, msgid, message];
        Self { kind, facility, severity, time, texts, structured, clear: Vec::new() }
    }

    pub(crate) fn process(&mut self, rows: &Chunk<'_>, payloads: &Payloads) {
        let count = payloads.len();
        let arrivals = rows.arrival_times();
        self.facility.1.start(count);
        self.severity.1.start(count);
        self.time.start(count);
        for (_, column) in &mut self.texts {
            column.start(count);
        }
        self.structured.1.clear();
        self.clear.clear();
        self.clear.resize(count, 1);
        for (row, line) in payloads.iter().enumerate() {
            let parsed = parse(line, self.kind);
            if let Err(fault) = parsed.and_then(|parts| self.write(row, line, &parts, arrivals[row])) {
                self.missing(row);
                rows.fail(row, &fault.describe(0, line));
            }
        }
        rows.clear(&self.clear);
        rows.set_text(self.facility.0, self.facility.1.column());
        rows.set_text(self.severity.0, self.severity.1.column());
        self.time.set(rows);
        for (number, (field, column)) in self.texts.iter_mut().enumerate() {
            if number == MESSAGE {
                rows.set_raw(self.structured.0, &self.structured.1);
            }
            rows.set_text(*field, column.column());
        }
    }

    fn write(&mut self, row: usize, line: &[u8], parts: &Line, arrival: i64) -> Result<(), Unparsable> {
        match &parts.time {
            None => self.time.null(row),
            Some(span) if parts.bsd_time => {
                // The year hangs on the arrival time, so an earlier conversion of the same text does not count.
                self.time.forget();
                self.time.write(row, line, span, |text| time::bsd(text, arrival))?;
            }
            Some(span) => self.time.write_rfc3339(row, line, span)?,
        }
        let named =
            |names: &[&'static str], number: u8| names.get(usize::from(number)).copied().unwrap_or_default();
        match parts.priority {
            Some(priority) => {
                self.facility.1.set_bytes(row, named(&FACILITIES, priority >> 3).as_bytes());
                self.severity.1.set_bytes(row, named(&SEVERITIES, priority & 7).as_bytes());
            }
            None => {
                self.facility.1.set_null(row);
                self.severity.1.set_null(row);
            }
        }
        for ((_, column), span) in self.texts.iter_mut().zip(&parts.texts) {
            match span {
                Some(span) => column.set(row, line, span.start, span.end),
                None => column.set_null(row),
            }
        }
        match &parts.structured {
            Some(span) => {
                structured_json(&line[span.clone()], self.structured.1.buffer());
                self.structured.1.finish();
            }
            None => self.structured.1.push_null(),
        }
        Ok(())
    }

    fn missing(&mut self, row: usize) {
        self.facility.1.set_missing(row);
        self.severity.1.set_missing(row);
        self.time.missing(row);
        for (_, column) in &mut self.texts {
            column.set_missing(row);
        }
        self.structured.1.push_missing();
    }
}

fn parse(line: &[u8], kind: Kind) -> Result<Line, Unparsable> {
    let end = line.len() - line.iter().rev().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
    let line = &line[..end];
    let (priority, at) = priority(line)?;
    let versioned = line.get(at..at + 2) == Some(b"1 ");
    match kind {
        Kind::Rfc3164 => bsd(line, priority, at),
        Kind::Either if !(versioned && priority.is_some()) => bsd(line, priority, at),
        Kind::Either | Kind::Rfc5424 => {
            if priority.is_none() {
                return Err(Unparsable::Missing { what: "the priority", at });
            }
            if !versioned {
                return Err(Unparsable::Missing { what: "the version 1", at });
            }
            modern(line, priority, at + 2)
        }
    }
}

/// `<34>` and the place behind it.
fn priority(line: &[u8]) -> Result<(Option<u8>, usize), Unparsable> {
    if line.first() != Some(&b'<') {
        return Ok((None, 0));
    }
    let bad = Unparsable::Bad { what: "priority, which goes from 0 to 191", at: 0 };
    let close = line.iter().take(5).position(|byte| *byte == b'>').ok_or(bad.clone())?;
    let digits =
        std::str::from_utf8(&line[1..close]).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let value: Option<u8> = digits.and_then(|digits| digits.parse().ok()).filter(|value| *value <= 191);
    value.map(|value| (Some(value), close + 1)).ok_or(bad)
}

/// The next word and the place behind the space that ends it.
fn word(line: &[u8], at: usize, what: &'static str) -> Result<(Range<usize>, usize), Unparsable> {
    let rest = line.get(at..).unwrap_or_default();
    if rest.is_empty() || rest[0] == b' ' {
        return Err(Unparsable::Missing { what, at });
    }
    let len = memchr(b' ', rest).unwrap_or(rest.len());
    Ok((at..at + len, (at + len + 1).min(line.len())))
}

fn nil(line: &[u8], span: Range<usize>) -> Option<Range<usize>> {
    (line[span.clone()] != *b"-").then_some(span)
}

fn modern(line: &[u8], priority: Option<u8>, at: usize) -> Result<Line, Unparsable> {
    let mut parts = Line { priority, ..Line::default() };
    let (time, at) = word(line, at, "the time")?;
    parts.time = nil(line, time);
    let mut at = at;
    for (column, what) in
        [(HOST, "the host"), (APP, "the app name"), (PROCID, "the process id"), (MSGID, "the message id")]
    {
        let (span, next) = word(line, at, what)?;
        parts.texts[column] = nil(line, span);
        at = next;
    }
    match line.get(at) {
        Some(b'-') => at += 1,
        Some(b'[') => {
            let end = structured_end(line, at)?;
            parts.structured = Some(at..end);
            at = end;
        }
        _ => return Err(Unparsable::Missing { what: "the structured data", at }),
    }
    match line.get(at) {
        None => {}
        Some(b' ') => {
            let begin = at + 1;
            let bom = if line[begin..].starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
            parts.texts[MESSAGE] = Some(begin + bom..line.len());
        }
        Some(_) => return Err(Unparsable::Missing { what: "a space before the message", at }),
    }
    Ok(parts)
}

/// Checks `[id name="value" ...]...` and gives the place behind it.
fn structured_end(line: &[u8], begin: usize) -> Result<usize, Unparsable> {
    let name_end = |from: usize| {
        let name = |byte: &u8| matches!(byte, 33..=126) && !matches!(byte, b'=' | b']' | b'"');
        from + line[from..].iter().take_while(|byte| name(byte)).count()
    };
    let mut at = begin;
    while line.get(at) == Some(&b'[') {
        let id_end = name_end(at + 1);
        if id_end == at + 1 {
            return Err(Unparsable::Missing { what: "the id of structured data", at: at + 1 });
        }
        at = id_end;
        while line.get(at) == Some(&b' ') {
            let end = name_end(at + 1);
            if end == at + 1 || line.get(end..end + 2) != Some(b"=\"") {
                return Err(Unparsable::Missing { what: "a parameter of structured data", at: at + 1 });
            }
            at = end + 2;
            while let Some(byte) = line.get(at).filter(|byte| **byte != b'"') {
                at += if *byte == b'\\' { 2 } else { 1 };
            }
            if at >= line.len() {
                return Err(Unparsable::Missing { what: "the closing quote of a parameter", at: end + 1 });
            }
            at += 1;
        }
        if line.get(at) != Some(&b']') {
            return Err(Unparsable::Missing { what: "the end of structured data", at });
        }
        at += 1;
    }
    Ok(at)
}

/// Writes checked structured data as an object of objects. Its names are data, so they cannot be declared as
/// fields beforehand.
fn structured_json(text: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    let mut value = Vec::new();
    out.push(b'{');
    while text.get(at) == Some(&b'[') {
        if at > 0 {
            out.push(b',');
        }
        let end = at + text[at..].iter().position(|byte| matches!(byte, b' ' | b']')).unwrap_or(0);
        quote(&text[at + 1..end], out);
        out.extend_from_slice(b":{");
        at = end;
        let mut first = true;
        while text.get(at) == Some(&b' ') {
            let equals = at + memchr(b'=', &text[at..]).unwrap_or(0);
            if !first {
                out.push(b',');
            }
            first = false;
            quote(&text[at + 1..equals], out);
            out.push(b':');
            at = equals + 2;
            value.clear();
            while let Some(byte) = text.get(at).filter(|byte| **byte != b'"') {
                let escaped = text.get(at + 1).filter(|next| matches!(next, b'"' | b'\\' | b']'));
                match (byte, escaped) {
                    (b'\\', Some(next)) => {
                        value.push(*next);
                        at += 2;
                    }
                    _ => {
                        value.push(*byte);
                        at += 1;
                    }
                }
            }
            quote(&value, out);
            at += 1;
        }
        out.push(b'}');
        at += 1;
    }
    out.push(b'}');
}

fn bsd(line: &[u8], priority: Option<u8>, at: usize) -> Result<Line, Unparsable> {
    let mut parts = Line { priority, ..Line::default() };
    let rest = &line[at..];
    let mut at = at;
    if rest.len() > 15 && time::month(&rest[..3]).is_some() && rest[15] == b' ' {
        parts.time = Some(at..at + 15);
        parts.bsd_time = true;
        at += 16;
    } else if rest.first().is_some_and(u8::is_ascii_digit) && rest.get(4) == Some(&b'-') {
        // Newer daemons write RFC 3339 in the old frame.
        let (span, next) = word(line, at, "the time")?;
        parts.time = Some(span);
        at = next;
    } else {
        return Err(Unparsable::Missing { what: "the time", at });
    }
    let (host, next) = word(line, at, "the host")?;
    if line[host.clone()].ends_with(b":") || line[host.clone()].ends_with(b"]:") {
        // No host: the word is the tag.
    } else {
        parts.texts[HOST] = nil(line, host);
        at = next;
    }
    let rest = &line[at..];
    let tag = rest.iter().position(|byte| matches!(byte, b':' | b'[' | b' ')).unwrap_or(rest.len());
    let (mut after, mut known) = (at + tag, tag > 0);
    if known && line.get(after) == Some(&b'[') {
        match memchr(b']', &line[after..]) {
            Some(close) => {
                parts.texts[PROCID] = Some(after + 1..after + close);
                after += close + 1;
            }
            None => known = false,
        }
    }
    if known && line.get(after) == Some(&b':') {
        parts.texts[APP] = Some(at..at + tag);
        at = after + 1;
        if line.get(at) == Some(&b' ') {
            at += 1;
        }
    } else {
        parts.texts[PROCID] = None;
    }
    parts.texts[MESSAGE] = Some(at..line.len());
    Ok(parts)
}
