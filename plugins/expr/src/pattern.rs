//! Patterns of `=~`: a plain search where the pattern is only literals, a regular expression otherwise.
//!
//! `bot|spider`, `^/images/`, `\.png$`, `^(GET|HEAD)$` and the like, with or without `(?i)`, are searched as byte
//! strings over the whole column at once. Everything else runs in linear time in `regex-lite`.

use memchr::memmem::Finder;
use wasmill_sdk::Text;

/// Bytes of a pattern.
const PATTERN_MAX: usize = 8 << 10;
/// Memory of a compiled regular expression.
const REGEX_MAX: usize = 1 << 20;
/// Literals searched one by one; more are left to the regular expression.
const LITERALS_MAX: usize = 64;

const VALUE: u8 = 3;

#[derive(Debug)]
pub(crate) struct Pattern(Matcher);

#[derive(Debug)]
enum Matcher {
    Literals { literals: Vec<Literal>, ignore_case: bool },
    Regex(Box<regex_lite::Regex>),
}

/// One alternative: a byte string, free or tied to the beginning or end.
#[derive(Debug)]
struct Literal {
    at_start: bool,
    at_end: bool,
    finder: Finder<'static>,
}

impl Literal {
    fn is_match(&self, text: &[u8]) -> bool {
        let needle = self.finder.needle();
        match (self.at_start, self.at_end) {
            (true, true) => text == needle,
            (true, false) => text.starts_with(needle),
            (false, true) => text.ends_with(needle),
            (false, false) => self.finder.find(text).is_some(),
        }
    }

    /// Marks every row of the column that holds the literal, searching across rows in one go.
    fn mark(&self, data: &[u8], ends: &[u32], states: &[u8], out: &mut [u8]) {
        let needle = self.finder.needle();
        if self.at_start || self.at_end || needle.is_empty() {
            let mut start = 0;
            for ((end, state), out) in ends.iter().zip(states).zip(out) {
                let end = *end as usize;
                if *state == VALUE && self.is_match(&data[start..end]) {
                    *out = 1;
                }
                start = end;
            }
            return;
        }
        let (mut from, mut row) = (0, 0);
        while let Some(found) = self.finder.find(&data[from..]) {
            let at = from + found;
            while ends[row] as usize <= at {
                row += 1;
            }
            let end = ends[row] as usize;
            if at + needle.len() <= end {
                out[row] = 1;
                from = end;
            } else {
                // It lies across two rows: none of them has it there.
                from = at + 1;
            }
        }
    }
}

impl Pattern {
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        if source.len() > PATTERN_MAX {
            return Err(format!("a pattern of more than {PATTERN_MAX} bytes"));
        }
        let (ignore_case, body) = match source.strip_prefix("(?i)") {
            Some(body) => (true, body),
            None => (false, source),
        };
        if let Some(literals) = literals(body, ignore_case) {
            return Ok(Self(Matcher::Literals { literals, ignore_case }));
        }
        regex_lite::RegexBuilder::new(source)
            .size_limit(REGEX_MAX)
            .build()
            .map(|regex| Self(Matcher::Regex(Box::new(regex))))
            .map_err(|error| format!("bad pattern: {error}"))
    }

    pub(crate) fn is_match(&self, text: &str) -> bool {
        match &self.0 {
            Matcher::Literals { literals, ignore_case: false } => {
                literals.iter().any(|literal| literal.is_match(text.as_bytes()))
            }
            Matcher::Literals { literals, ignore_case: true } => {
                let lower = text.to_ascii_lowercase();
                literals.iter().any(|literal| literal.is_match(lower.as_bytes()))
            }
            Matcher::Regex(regex) => regex.is_match(text),
        }
    }

    /// Sets `out` to 1 in every row whose text matches. `out` is all 0 before.
    pub(crate) fn mark(&self, text: &Text, out: &mut [u8]) {
        match &self.0 {
            Matcher::Literals { literals, ignore_case } => {
                let lower = ignore_case.then(|| text.data().to_ascii_lowercase());
                let data = lower.as_deref().unwrap_or(text.data());
                for literal in literals {
                    literal.mark(data, text.ends(), text.states(), out);
                }
            }
            Matcher::Regex(regex) => {
                for (row, out) in out.iter_mut().enumerate() {
                    *out = u8::from(text.str(row).is_some_and(|text| regex.is_match(text)));
                }
            }
        }
    }
}

/// The alternatives of a pattern that is made of literals only.
fn literals(body: &str, ignore_case: bool) -> Option<Vec<Literal>> {
    // `^(a|b)$`: the anchors hold for every alternative.
    let (outer_start, rest) = strip(body, body.strip_prefix('^'));
    let (outer_end, rest) = strip(rest, rest.strip_suffix('$').filter(|rest| !rest.ends_with('\\')));
    let group =
        rest.strip_prefix("(?:").or_else(|| rest.strip_prefix('(').filter(|rest| !rest.starts_with('?')));
    let group = group.and_then(|group| group.strip_suffix(')')).filter(|group| !group.ends_with('\\'));
    let (at_start, at_end, alternatives) = match group {
        Some(group) => (outer_start, outer_end, group),
        None => (false, false, body),
    };
    let mut literals = Vec::new();
    for alternative in split(alternatives) {
        let mut literal = plain(alternative)?;
        literal.0 |= at_start;
        literal.1 |= at_end;
        let mut needle = literal.2;
        if ignore_case {
            if !needle.is_ascii() {
                return None;
            }
            needle.make_ascii_lowercase();
        }
        literals.push(Literal {
            at_start: literal.0,
            at_end: literal.1,
            finder: Finder::new(&needle).into_owned(),
        });
    }
    (literals.len() <= LITERALS_MAX).then_some(literals)
}

fn strip<'a>(whole: &'a str, stripped: Option<&'a str>) -> (bool, &'a str) {
    stripped.map_or((false, whole), |rest| (true, rest))
}

/// Parts between bars that are not escaped.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if c == '|' && !escaped {
            parts.push(text.get(start..at).unwrap_or_default());
            start = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// Start anchor, end anchor and bytes of one alternative, if nothing in it is special.
fn plain(text: &str) -> Option<(bool, bool, Vec<u8>)> {
    let (at_start, text) = strip(text, text.strip_prefix('^'));
    let mut at_end = false;
    let mut bytes = Vec::new();
    let mut chars = text.chars().peekable();
    let mut buffer = [0; 4];
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => chars.next().filter(char::is_ascii_punctuation)?,
            '$' if chars.peek().is_none() => {
                at_end = true;
                break;
            }
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '|' => return None,
            c => c,
        };
        bytes.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
    }
    Some((at_start, at_end, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_plain(pattern: &str) -> bool {
        matches!(Pattern::new(pattern).unwrap().0, Matcher::Literals { .. })
    }

    #[test]
    fn new_literal_alternations_are_searched_plainly() {
        for plain in [
            "bot|spider",
            "^/images/",
            "\\.png$",
            "^(GET|HEAD)$",
            "(?i)Bot|crawl",
            "(?:a|b)",
            "^a|b$",
            "",
            "a\\|b",
        ] {
            assert!(is_plain(plain), "{plain}");
        }
        for special in ["b.t", "a+", "[ab]", "a(b|c)", "(a)|(b)", "^/x/\\d", "(?s)a", "x{2}"] {
            assert!(!is_plain(special), "{special}");
        }
    }

    #[test]
    fn is_match_plain_and_regex_agree() {
        let patterns =
            ["bot|spider", "^/images/", "\\.png$", "^(GET|HEAD)$", "(?i)Bot|crawl", "^a|b$", "", "a\\|b"];
        let texts = [
            "Googlebot",
            "x/images/",
            "/images/a",
            "a.png",
            "apng",
            "GET",
            "GETS",
            "BOT",
            "CRAWLER",
            "ab",
            "b",
            "xa",
            "a|b",
            "",
        ];
        for pattern in patterns {
            let regex = regex_lite::Regex::new(pattern).unwrap();
            for text in texts {
                assert_eq!(
                    Pattern::new(pattern).unwrap().is_match(text),
                    regex.is_match(text),
                    "{pattern} on {text}"
                );
            }
        }
    }

    #[test]
    fn mark_hit_across_rows_is_no_hit() {
        let literal = Pattern::new("aab").unwrap();
        let Matcher::Literals { literals, .. } = &literal.0 else { panic!("no literal") };
        let mut out = [0; 4];
        // Rows `xa`, `aaab`, empty, `aab`: the bytes of rows 0 and 1 together hold the needle twice.
        literals[0].mark(b"xaaaabaab", &[2, 6, 6, 9], &[3; 4], &mut out);
        assert_eq!(out, [0, 1, 0, 1]);
    }
}
