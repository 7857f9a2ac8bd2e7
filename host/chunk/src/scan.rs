//! One validated pass over a payload: is it JSON, and where are the values of the chain's fields.
//!
//! Owns the grammar (RFC 8259, at most [`DEPTH_MAX`] levels) and the spans. UTF-8 is checked by the caller,
//! for whole columns at once. Refuses to convert values: that happens on demand.

use crate::layout::{DEPTH_MAX, Layout, Node};
use crate::marks::{Marks, Stops};
use crate::text::{ByWord, string_end, unescape_into, word_at};

/// Where a value lies in the text; `end` 0: missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

/// Set in `start` of a string that contains escapes. Texts are shorter than 2 GiB.
const ESCAPED: u32 = 1 << 31;

impl Span {
    pub(crate) const MISSING: Span = Span { start: 0, end: 0 };

    #[inline]
    fn new(start: usize, end: usize, escaped: bool) -> Span {
        Span { start: start as u32 | if escaped { ESCAPED } else { 0 }, end: end as u32 }
    }

    #[inline]
    pub(crate) fn is_missing(self) -> bool {
        self.end == 0
    }

    #[inline]
    pub(crate) fn is_escaped(self) -> bool {
        self.start & ESCAPED != 0
    }

    #[inline]
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        (self.start & !ESCAPED) as usize..self.end as usize
    }
}

/// What a scan says about a payload as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Behind the last member of the root object, or behind its brace if it is empty.
    pub(crate) append_at: u32,
    /// Valid JSON.
    pub(crate) json: bool,
    /// The root is an object.
    pub(crate) object: bool,
    /// The root object has no members.
    pub(crate) empty: bool,
    /// A key on the way to some field occurs more than once.
    pub(crate) duplicate: bool,
}

/// Keeps its buffers between payloads.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    /// Per span of an inner node: whether it was seen in this payload.
    key: Vec<u8>,
}

struct Pass<'a> {
    text: &'a [u8],
    marks: &'a Marks,
    end: usize,
    layout: &'a Layout,
    spans: &'a mut [Span],
    key: &'a mut Vec<u8>,
    shape: Shape,
}

impl Scanner {
    /// Scans `text[start..end]`, valid UTF-8 and marked. `spans` (one per span of the layout) must be all missing.
    pub(crate) fn scan(
        &mut self,
        text: &[u8],
        marks: &Marks,
        start: usize,
        end: usize,
        layout: &Layout,
        spans: &mut [Span],
    ) -> Shape {
        let mut pass = Pass { text, marks, end, layout, spans, key: &mut self.key, shape: Shape::default() };
        if pass.document(start).is_none() {
            spans.fill(Span::MISSING);
            return Shape::default();
        }
        pass.shape.json = true;
        pass.shape
    }
}

impl Pass<'_> {
    fn document(&mut self, start: usize) -> Option<usize> {
        let at = skip_space(self.text, start, self.end);
        let behind = if byte_at(self.text, at, self.end) == b'{' {
            self.shape.object = true;
            let root = &self.layout.nodes[0];
            if root.has_children() { self.object(at, root, DEPTH_MAX)? } else { self.plain_root(at)? }
        } else {
            value_end(self.marks, self.text, at, self.end, DEPTH_MAX)?
        };
        (skip_space(self.text, behind, self.end) == self.end).then_some(behind)
    }

    /// A root object of which no field is asked for.
    fn plain_root(&mut self, at: usize) -> Option<usize> {
        let (text, end) = (self.text, self.end);
        let mut at = skip_space(text, at + 1, end);
        self.shape.append_at = at as u32;
        if byte_at(text, at, end) == b'}' {
            self.shape.empty = true;
            return Some(at + 1);
        }
        loop {
            let value = key_end(self.marks, text, at, end)?;
            at = value_end(self.marks, text, value, end, DEPTH_MAX - 1)?;
            self.shape.append_at = at as u32;
            at = skip_space(text, at, end);
            match byte_at(text, at, end) {
                b',' => at = skip_space(text, at + 1, end),
                b'}' => return Some(at + 1),
                _ => return None,
            }
        }
    }

    /// From an opening brace to behind the closing one.
    fn object(&mut self, open: usize, node: &Node, depth: usize) -> Option<usize> {
        let (text, end) = (self.text, self.end);
        let depth = depth.checked_sub(1)?;
        let root = std::ptr::eq(node, &self.layout.nodes[0]);
        let mut at = skip_space(text, open + 1, end);
        if byte_at(text, at, end) == b'}' {
            if root {
                self.shape.empty = true;
                self.shape.append_at = open as u32 + 1;
            }
            return Some(at + 1);
        }
        loop {
            if byte_at(text, at, end) != b'"' {
                return None;
            }
            let key = at + 1;
            let (quote, escaped) = string_end(self.marks, text, key, end)?;
            let child = if escaped {
                self.key.clear();
                unescape_into(&text[key..quote], self.key);
                node.find(self.key)
            } else {
                let len = quote - key;
                let word = word_at(text, key);
                let head = if len < 8 { word & ((1 << (8 * len)) - 1) } else { word };
                node.child(head, &text[key..quote])
            };
            at = colon(text, quote + 1, end)?;
            at = match child {
                None => value_end(self.marks, text, at, end, depth)?,
                Some(child) => self.found(at, child, depth)?,
            };
            if root {
                self.shape.append_at = at as u32;
            }
            at = skip_space(text, at, end);
            match byte_at(text, at, end) {
                b',' => at = skip_space(text, at + 1, end),
                b'}' => return Some(at + 1),
                _ => return None,
            }
        }
    }

    /// The value of a key on the way to a field.
    fn found(&mut self, start: usize, child: u32, depth: usize) -> Option<usize> {
        let node = &self.layout.nodes[child as usize];
        let first = byte_at(self.text, start, self.end);
        let (behind, escaped) = if let Some(span) = node.span {
            if !self.spans[span as usize].is_missing() {
                self.shape.duplicate = true;
                self.forget(child);
            }
            let behind = if first == b'{' {
                self.object(start, node, depth)?
            } else {
                value_end(self.marks, self.text, start, self.end, depth)?
            };
            self.spans[span as usize] = Span::new(start, behind, false);
            if first == b'"' && node.column.is_some() {
                let (quote, escaped) = string_end(self.marks, self.text, start + 1, self.end)?;
                (quote + 1, escaped)
            } else {
                (behind, false)
            }
        } else if first == b'"' {
            let (quote, escaped) = string_end(self.marks, self.text, start + 1, self.end)?;
            (quote + 1, escaped)
        } else {
            (value_end(self.marks, self.text, start, self.end, depth)?, false)
        };
        if let Some(column) = node.column {
            let span = &mut self.spans[column as usize];
            self.shape.duplicate |= !span.is_missing();
            *span = Span::new(start, behind, escaped);
        }
        Some(behind)
    }

    /// Another value replaces that of `child`: nothing that was found inside counts.
    fn forget(&mut self, child: u32) {
        let layout = self.layout;
        let node = &layout.nodes[child as usize];
        if let Some(span) = node.span {
            self.spans[span as usize] = Span::MISSING;
        }
        for inner in node.children() {
            if let Some(column) = layout.nodes[inner as usize].column {
                self.spans[column as usize] = Span::MISSING;
            }
            self.forget(inner);
        }
    }
}

/// The byte at `at`, or 0 (which no token starts with) behind the end.
#[inline]
pub(crate) fn byte_at(text: &[u8], at: usize, end: usize) -> u8 {
    if at < end { text[at] } else { 0 }
}

#[inline]
pub(crate) fn skip_space(text: &[u8], mut at: usize, end: usize) -> usize {
    while at < end && text[at] <= b' ' && matches!(text[at], b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}

/// Over a colon and the space around it.
#[inline]
fn colon(text: &[u8], at: usize, end: usize) -> Option<usize> {
    let at = skip_space(text, at, end);
    (byte_at(text, at, end) == b':').then(|| skip_space(text, at + 1, end))
}

/// From the opening quote of a key to the start of its value.
#[inline]
fn key_end(stops: impl Stops, text: &[u8], at: usize, end: usize) -> Option<usize> {
    if byte_at(text, at, end) != b'"' {
        return None;
    }
    let (quote, _) = string_end(stops, text, at + 1, end)?;
    colon(text, quote + 1, end)
}

/// From the first byte of a value to behind it; `None` if it is not valid within `depth` levels.
#[inline]
pub(crate) fn value_end(
    stops: impl Stops,
    text: &[u8],
    at: usize,
    end: usize,
    depth: usize,
) -> Option<usize> {
    match byte_at(text, at, end) {
        b'"' => string_end(stops, text, at + 1, end).map(|(quote, _)| quote + 1),
        b'-' | b'0'..=b'9' => number_end(text, at, end),
        b'{' => object_end(stops, text, at, end, depth),
        b'[' => array_end(stops, text, at, end, depth),
        b't' => literal_end(text, at, end, b"true"),
        b'f' => literal_end(text, at, end, b"false"),
        b'n' => literal_end(text, at, end, b"null"),
        _ => None,
    }
}

fn object_end(stops: impl Stops, text: &[u8], at: usize, end: usize, depth: usize) -> Option<usize> {
    let depth = depth.checked_sub(1)?;
    let mut at = skip_space(text, at + 1, end);
    if byte_at(text, at, end) == b'}' {
        return Some(at + 1);
    }
    loop {
        at = key_end(stops, text, at, end)?;
        at = value_end(stops, text, at, end, depth)?;
        at = skip_space(text, at, end);
        match byte_at(text, at, end) {
            b',' => at = skip_space(text, at + 1, end),
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

fn array_end(stops: impl Stops, text: &[u8], at: usize, end: usize, depth: usize) -> Option<usize> {
    let depth = depth.checked_sub(1)?;
    let mut at = skip_space(text, at + 1, end);
    if byte_at(text, at, end) == b']' {
        return Some(at + 1);
    }
    loop {
        at = value_end(stops, text, at, end, depth)?;
        at = skip_space(text, at, end);
        match byte_at(text, at, end) {
            b',' => at = skip_space(text, at + 1, end),
            b']' => return Some(at + 1),
            _ => return None,
        }
    }
}

fn literal_end(text: &[u8], at: usize, end: usize, literal: &[u8]) -> Option<usize> {
    text[at..end].starts_with(literal).then(|| at + literal.len())
}

#[inline]
fn number_end(text: &[u8], at: usize, end: usize) -> Option<usize> {
    let text = &text[..end];
    let digits = |mut at: usize| {
        while at < text.len() && text[at].is_ascii_digit() {
            at += 1;
        }
        at
    };
    let whole = if text[at] == b'-' { at + 1 } else { at };
    let mut at = digits(whole);
    if at == whole || (at > whole + 1 && text[whole] == b'0') {
        return None;
    }
    if at < text.len() && text[at] == b'.' {
        let fraction = at + 1;
        at = digits(fraction);
        if at == fraction {
            return None;
        }
    }
    if at < text.len() && matches!(text[at], b'e' | b'E') {
        let sign = at + 1;
        let exponent = if matches!(text.get(sign), Some(b'+' | b'-')) { sign + 1 } else { sign };
        at = digits(exponent);
        if at == exponent {
            return None;
        }
    }
    Some(at)
}

/// The one JSON value that `text` (valid UTF-8) is, without the space around it.
pub(crate) fn one_value(text: &[u8], depth: usize) -> Option<&[u8]> {
    let start = skip_space(text, 0, text.len());
    let end = value_end(ByWord, text, start, text.len(), depth)?;
    (skip_space(text, end, text.len()) == text.len()).then(|| &text[start..end])
}
