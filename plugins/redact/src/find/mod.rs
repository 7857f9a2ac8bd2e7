//! Finding personal data in text: one file per kind, each a function from bytes to spans.
//!
//! Texts are bytes, since raw lines need not be UTF-8; bytes from 0x80 on count as letters. Where a rule must err it
//! errs on the side of finding: a masked number that was none costs less than a leak. Each finder takes time linear
//! in the text.

mod card;
mod email;
mod ipv4;
mod ipv6;

use regex::bytes::{Regex, RegexBuilder};

use crate::config::Find;

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte behind the last.
    pub end: usize,
}

/// What bounds the compiled size of a regular expression, in bytes.
const REGEX_MAX: usize = 1 << 20;

/// Everything that one rule looks for.
#[derive(Debug)]
pub struct Finder {
    email: bool,
    card: bool,
    ipv4: bool,
    ipv6: bool,
    regexes: Vec<(Regex, Option<usize>)>,
}

impl Finder {
    /// Compiles what a rule looks for.
    pub fn new(find: &[Find]) -> Result<Self, String> {
        let mut finder = Self { email: false, card: false, ipv4: false, ipv6: false, regexes: Vec::new() };
        if find.is_empty() {
            return Err("`find` is empty".to_owned());
        }
        for find in find {
            match find {
                Find::Email => finder.email = true,
                Find::Card => finder.card = true,
                Find::Ipv4 => finder.ipv4 = true,
                Find::Ipv6 => finder.ipv6 = true,
                Find::Regex(pattern) => finder.regexes.push(compile(pattern)?),
            }
        }
        Ok(finder)
    }

    /// Everything found, in order, without overlaps: finds that overlap are one.
    pub fn all(&self, text: &[u8], spans: &mut Vec<Span>) {
        self.built_in(text, spans);
        for (regex, group) in &self.regexes {
            match group {
                None => spans.extend(
                    regex.find_iter(text).map(|found| Span { start: found.start(), end: found.end() }),
                ),
                Some(group) => spans.extend(
                    regex
                        .captures_iter(text)
                        .filter_map(|captures| captures.get(*group))
                        .map(|found| Span { start: found.start(), end: found.end() }),
                ),
            }
        }
        merge(spans);
    }

    /// As [`Finder::all`], without regular expressions.
    pub fn built_in(&self, text: &[u8], spans: &mut Vec<Span>) {
        spans.clear();
        if self.email {
            email::find(text, spans);
        }
        if self.card {
            card::find(text, spans);
        }
        if self.ipv6 {
            ipv6::find(text, spans);
        }
        if self.ipv4 {
            ipv4::find(text, spans);
        }
        merge(spans);
    }
}

fn compile(pattern: &str) -> Result<(Regex, Option<usize>), String> {
    let regex = RegexBuilder::new(pattern)
        .size_limit(REGEX_MAX)
        .dfa_size_limit(REGEX_MAX)
        .build()
        .map_err(|error| format!("regex `{pattern}`: {error}"))?;
    if regex.is_match(b"") {
        return Err(format!("regex `{pattern}` matches the empty text"));
    }
    let group = regex.capture_names().position(|name| name == Some("redact"));
    Ok((regex, group))
}

fn merge(spans: &mut Vec<Span>) {
    spans.retain(|span| span.end > span.start);
    if spans.is_sorted_by(|left, right| left.end <= right.start) {
        return;
    }
    spans.sort_unstable();
    spans.dedup_by(|next, kept| {
        let overlaps = next.start < kept.end;
        if overlaps {
            kept.end = kept.end.max(next.end);
        }
        overlaps
    });
}

/// The first digit at or behind `at`; looks at eight bytes a step.
#[inline]
fn next_digit(text: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    while let Some(step) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        // A digit is a byte that differs from `0` by less than 10; borrows reach only bytes behind the first hit.
        let difference = u64::from_le_bytes(*step) ^ (ONES * u64::from(b'0'));
        let hits = difference.wrapping_sub(ONES * 10) & !difference & (ONES * 0x80);
        if hits != 0 {
            return Some(at + (hits.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let rest = text.get(at..)?;
    rest.iter().position(u8::is_ascii_digit).map(|found| at + found)
}

/// ASCII letters, digits, and every byte of a character beyond ASCII.
#[inline]
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

#[cfg(test)]
pub(crate) fn found(kind: Find, text: &str) -> Vec<String> {
    let mut spans = Vec::new();
    Finder::new(&[kind]).unwrap().all(text.as_bytes(), &mut spans);
    let piece = |span: &Span| String::from_utf8_lossy(&text.as_bytes()[span.start..span.end]).into_owned();
    spans.iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_overlapping_finds_are_one() {
        let find = [Find::Regex("b.*d".to_owned()), Find::Email, Find::Regex("x".to_owned())];
        let mut spans = Vec::new();
        Finder::new(&find).unwrap().all(b"x a@b.cd x", &mut spans);
        let want = [(0, 1), (2, 8), (9, 10)].map(|(start, end)| Span { start, end });
        assert_eq!(spans, want);
    }

    #[test]
    fn all_group_named_redact_is_what_counts() {
        let find = Find::Regex("password=(?<redact>\\S+)".to_owned());
        assert_eq!(found(find, "user=a password=b c"), ["b"]);
    }

    proptest::proptest! {
        #[test]
        fn next_digit_agrees_with_looking_at_every_byte(
            text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
            at in 0usize..40,
        ) {
            let want = (at..text.len()).find(|at| text[*at].is_ascii_digit());
            proptest::prop_assert_eq!(next_digit(&text, at), want);
        }
    }

    #[test]
    fn new_bad_regexes_are_refused() {
        for wrong in ["(", "a*", "\\w{1000}{1000}"] {
            assert!(Finder::new(&[Find::Regex(wrong.to_owned())]).is_err(), "{wrong}");
        }
    }
}
