//! JSON strings: where they end, what they say, and how text is written as one.
//!
//! Works 8 bytes at a time on plain integers. Refuses nothing by itself: validity of UTF-8 is checked by
//! whole columns elsewhere.

use crate::marks::{NOWHERE, Stops};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// High bit set in the first byte that is a quote, a backslash or a control character; higher bytes may be
/// set wrongly, lower ones never.
#[inline]
fn special(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let slash = word ^ (ONES * b'\\' as u64);
    let zero = quote.wrapping_sub(ONES) & !quote | slash.wrapping_sub(ONES) & !slash;
    (zero | word.wrapping_sub(ONES * 0x20) & !word) & HIGHS
}

/// Eight bytes from `at`, little-endian; zeros behind the end.
#[inline]
pub(crate) fn word_at(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => tail_word(text, at),
    }
}

#[cold]
fn tail_word(text: &[u8], at: usize) -> u64 {
    text.get(at..).unwrap_or_default().iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// Looks for stops word by word, where no marks were made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByWord;

impl Stops for ByWord {
    #[inline]
    fn next(self, text: &[u8], mut at: usize) -> usize {
        while at < text.len() {
            let hits = special(word_at(text, at));
            if hits != 0 {
                return at + hits.trailing_zeros() as usize / 8;
            }
            at += 8;
        }
        NOWHERE
    }
}

/// From behind the opening quote: the index of the closing quote and whether there are escapes. Checks
/// escapes and control characters, but not UTF-8.
#[inline(always)]
pub(crate) fn string_end(stops: impl Stops, text: &[u8], mut at: usize, end: usize) -> Option<(usize, bool)> {
    let mut escaped = false;
    loop {
        at = stops.next(text, at);
        if at >= end {
            return None;
        }
        match text[at] {
            b'"' => return Some((at, escaped)),
            b'\\' => {
                escaped = true;
                at = escape_end(text, at, end)?;
            }
            _ => return None,
        }
    }
}

/// From a backslash to behind its escape.
fn escape_end(text: &[u8], at: usize, end: usize) -> Option<usize> {
    let text = &text[..end];
    match text.get(at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 2),
        b'u' => {
            let hex = text.get(at + 2..at + 6)?;
            hex.iter().all(u8::is_ascii_hexdigit).then_some(at + 6)
        }
        _ => None,
    }
}

/// Appends what a valid JSON string (without its quotes) says; a lone surrogate becomes U+FFFD.
pub(crate) fn unescape_into(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(b'\\', text) {
        out.extend_from_slice(&text[..at]);
        let kind = text.get(at + 1).copied().unwrap_or(b'\\');
        text = text.get(at + 2..).unwrap_or_default();
        match kind {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let unit = hex(text);
                text = text.get(4..).unwrap_or_default();
                let mut code = unit;
                if (0xD800..0xDC00).contains(&unit) && text.starts_with(b"\\u") {
                    let low = hex(&text[2..]);
                    if (0xDC00..0xE000).contains(&low) {
                        code = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                        text = text.get(6..).unwrap_or_default();
                    }
                }
                let char = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(other),
        }
    }
    out.extend_from_slice(text);
}

fn hex(text: &[u8]) -> u32 {
    text.iter().take(4).fold(0, |code, &byte| code << 4 | (byte as char).to_digit(16).unwrap_or(0))
}

/// Whether text can stand between quotes as it is, and whether it is ASCII.
pub(crate) fn clean_and_ascii(text: &[u8]) -> (bool, bool) {
    let (mut dirty, mut all) = (0, 0);
    // Blocks, so that the inner loop is vectorised.
    for block in text.chunks(256) {
        for &byte in block {
            dirty |= u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
            all |= byte;
        }
    }
    (dirty == 0, all < 0x80)
}

/// Whether a piece of text can stand between quotes as it is.
#[inline]
pub(crate) fn is_clean_short(text: &[u8], span: std::ops::Range<usize>) -> bool {
    let mut at = span.start;
    while at < span.end {
        let hits = special(word_at(text, at));
        if hits != 0 {
            return at + hits.trailing_zeros() as usize / 8 >= span.end;
        }
        at += 8;
    }
    true
}

/// Appends text as it stands between the quotes of a JSON string: `\"`, `\\`, `\b \f \n \r \t`, `\u00xx`
/// for other control characters, everything else verbatim.
pub(crate) fn escape_into(text: &[u8], out: &mut Vec<u8>) {
    let mut done = 0;
    let mut at = 0;
    while at < text.len() {
        let hits = special(word_at(text, at));
        if hits == 0 {
            at += 8;
            continue;
        }
        at += hits.trailing_zeros() as usize / 8;
        let Some(&byte) = text.get(at) else { break };
        out.extend_from_slice(&text[done..at]);
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
        at += 1;
        done = at;
    }
    out.extend_from_slice(&text[done..]);
}

/// Appends text as a JSON string, quotes included.
pub(crate) fn quote_into(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    escape_into(text, out);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unescape(text: &str) -> String {
        let mut out = Vec::new();
        unescape_into(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn unescape_every_escape_is_read() {
        assert_eq!(unescape(r#"a\"\\\/\b\f\n\r\tz"#), "a\"\\/\u{8}\u{c}\n\r\tz");
        assert_eq!(unescape(r"\u00e9\u20AC\ud83d\ude00"), "é€😀");
    }

    #[test]
    fn unescape_lone_surrogate_becomes_replacement() {
        assert_eq!(unescape(r"\ud83d"), "\u{fffd}");
        assert_eq!(unescape(r"\ude00x"), "\u{fffd}x");
        assert_eq!(unescape(r"\ud83d\u0041"), "\u{fffd}A");
        assert_eq!(unescape(r"\ud83d\ud83d\ude00"), "\u{fffd}😀");
        assert_eq!(unescape(r"\ud83d\n"), "\u{fffd}\n");
    }

    #[test]
    fn escape_any_text_is_read_back() {
        let all: String = (0..0x250u32).filter_map(char::from_u32).collect();
        for start in 0..20 {
            let text = &all[start..];
            let mut out = Vec::new();
            quote_into(text.as_bytes(), &mut out);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            assert_eq!(unescape(std::str::from_utf8(&out[1..out.len() - 1]).unwrap()), text);
            assert_eq!(string_end(ByWord, &out, 1, out.len()), Some((out.len() - 1, true)));
        }
    }

    #[test]
    fn clean_only_without_quote_backslash_and_control() {
        let mut text = vec![b'x'; 600];
        assert_eq!(clean_and_ascii(&text), (true, true));
        for byte in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for at in [0, 255, 256, 599] {
                text[at] = byte;
                assert_eq!(clean_and_ascii(&text), (false, true));
                for (start, end) in [(0, 600), (at, at + 1), (at.saturating_sub(5), at + 1)] {
                    assert!(!is_clean_short(&text, start..end));
                }
                assert!(is_clean_short(&text, 0..at) && is_clean_short(&text, at + 1..600));
                text[at] = 0x7f;
                assert_eq!(clean_and_ascii(&text), (true, true));
                text[at] = 0x80;
                assert_eq!(clean_and_ascii(&text), (true, false));
                text[at] = b'x';
            }
        }
    }
}
