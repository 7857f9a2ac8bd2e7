//! Walking through JSON text: every string (object keys too) and every number is handed on and perhaps replaced,
//! everything else stays byte for byte.
//!
//! The text must be valid JSON: callers check, or have it from the host. A number that is replaced becomes a string.

/// Rewrites `text` into `out`. `rewrite(value, out)` appends the new value and says whether it differs; where it
/// does not, nothing may be appended. Says whether anything differs.
pub fn rewrite(text: &[u8], out: &mut Vec<u8>, replace: &mut dyn FnMut(&[u8], &mut Vec<u8>) -> bool) -> bool {
    let (mut at, mut changed) = (0, false);
    let (mut plain, mut fresh) = (Vec::new(), Vec::new());
    while at < text.len() {
        let rest = &text[at..];
        let length = match rest[0] {
            b'"' => string(rest),
            b'-' | b'0'..=b'9' => rest.iter().take_while(|byte| is_number(**byte)).count(),
            _ => {
                let length =
                    rest.iter().take_while(|byte| **byte != b'"' && !is_number_start(**byte)).count();
                out.extend_from_slice(&rest[..length]);
                at += length;
                continue;
            }
        };
        let token = &rest[..length];
        let value = match token.first() {
            Some(b'"') => {
                let inner = &token[1..token.len().max(2) - 1];
                if inner.contains(&b'\\') {
                    plain.clear();
                    unescape(inner, &mut plain);
                    plain.as_slice()
                } else {
                    inner
                }
            }
            _ => token,
        };
        fresh.clear();
        if replace(value, &mut fresh) {
            quote(&fresh, out);
            changed = true;
        } else {
            out.extend_from_slice(token);
        }
        at += length;
    }
    changed
}

fn is_number_start(byte: u8) -> bool {
    byte == b'-' || byte.is_ascii_digit()
}

fn is_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// The length of the string token at the beginning, quotes included.
fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// Writes bytes as a JSON string; what is no UTF-8 becomes U+FFFD.
pub fn quote(text: &[u8], out: &mut Vec<u8>) {
    // Writing to a `Vec` cannot fail.
    let written = serde_json::to_writer(&mut *out, &String::from_utf8_lossy(text));
    debug_assert!(written.is_ok());
}

/// Takes escapes out of the inside of a valid JSON string. A lone surrogate becomes U+FFFD.
fn unescape(inner: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < inner.len() {
        let plain = memchr::memchr(b'\\', &inner[at..]).unwrap_or(inner.len() - at);
        out.extend_from_slice(&inner[at..at + plain]);
        at += plain;
        let Some(escape) = inner.get(at + 1) else { break };
        at += 2;
        match escape {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let high = hex(inner, at);
                at += 4;
                let low =
                    if inner[at.min(inner.len())..].starts_with(b"\\u") { hex(inner, at + 2) } else { 0 };
                let paired = (0xd800..0xdc00).contains(&high) && (0xdc00..0xe000).contains(&low);
                let code = if paired { 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00) } else { high };
                at += if paired { 6 } else { 0 };
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(*other),
        }
    }
}

/// Four hex digits; 0 where they are not.
fn hex(text: &[u8], at: usize) -> u32 {
    let digits = text.get(at..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(text: &str, from: &str, to: &str) -> String {
        let mut out = Vec::new();
        rewrite(text.as_bytes(), &mut out, &mut |value, out| {
            let hit = value == from.as_bytes();
            if hit {
                out.extend_from_slice(to.as_bytes());
            }
            hit
        });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rewrite_only_what_is_replaced_changes() {
        let text = r#" {"a" : "x", "b":[1.50,-2e3, "x\n", true,null],"x":{} } "#;
        assert_eq!(run(text, "none", ""), text);
        assert_eq!(run(text, "x", "\"y"), r#" {"a" : "\"y", "b":[1.50,-2e3, "x\n", true,null],"\"y":{} } "#);
        assert_eq!(run(text, "1.50", "*"), text.replace("1.50", "\"*\""));
        assert_eq!(run(text, "x\n", ""), text.replace("x\\n", ""));
    }

    #[test]
    fn rewrite_escapes_do_not_hide_a_value() {
        assert_eq!(run(r#"["\u0061\ud83d\ude00\/\ud800"]"#, "a\u{1f600}/\u{fffd}", "z"), r#"["z"]"#);
        assert_eq!(run(r#"["\\","\"" ]"#, "\"", "z"), r#"["\\","z" ]"#);
    }

    proptest! {
        #[test]
        fn rewrite_sees_what_a_parser_sees(strings in prop::collection::vec(any::<String>(), 0..6)) {
            let text = serde_json::to_string(&strings).unwrap();
            let (mut seen, mut out) = (Vec::new(), Vec::new());
            rewrite(text.as_bytes(), &mut out, &mut |value, _| {
                seen.push(String::from_utf8(value.to_vec()).unwrap());
                false
            });
            prop_assert_eq!(&seen, &strings);
            prop_assert_eq!(out, text.as_bytes());
        }

        #[test]
        fn rewrite_any_bytes_never_panics(text in prop::collection::vec(any::<u8>(), 0..60)) {
            rewrite(&text, &mut Vec::new(), &mut |_, _| false);
        }
    }
}
