//! E-mail addresses: `local@label.label`, the last label of at least two letters.
//!
//! The local part is letters, digits and `. _ % + - '`; RFC 5322 also allows characters such as `=`, `/` and `&`,
//! which separate things in logs, and quoted local parts, which nobody has; those are not found as a whole.

use super::{Span, is_word};

pub(super) fn find(text: &[u8], spans: &mut Vec<Span>) {
    let mut from = 0;
    for at in memchr::memchr_iter(b'@', text) {
        if at < from {
            continue;
        }
        let mut start = at;
        while start > from && is_local(text[start - 1]) {
            start -= 1;
        }
        while start < at && matches!(text[start], b'.' | b'\'') {
            start += 1;
        }
        if start == at {
            continue;
        }
        if let Some(end) = domain(text, at + 1) {
            spans.push(Span { start, end });
            from = end;
        }
    }
}

fn is_local(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'')
}

/// The end of the domain that begins at `start`.
fn domain(text: &[u8], start: usize) -> Option<usize> {
    let length =
        text[start..].iter().take_while(|byte| is_word(**byte) || matches!(byte, b'.' | b'-')).count();
    let mut end = start + length;
    // Labels are taken off the end until the rest ends like a domain: `a@b.com.` and `a@b.com.5`.
    while end > start {
        let last = text[start..end].iter().rposition(|byte| *byte == b'.')? + start;
        if is_top_level(&text[last + 1..end]) && last > start && is_word(text[last - 1]) {
            return Some(end);
        }
        let trimmed = text[start..end].iter().rev().take_while(|byte| **byte == b'-').count();
        end = if trimmed > 0 { end - trimmed } else { last };
    }
    None
}

fn is_top_level(label: &[u8]) -> bool {
    label.len() >= 2
        && !label.ends_with(b"-")
        && (label.starts_with(b"xn--")
            || label.iter().all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80))
}

#[cfg(test)]
mod tests {
    use crate::config::Find;
    use crate::find::found;

    #[test]
    fn find_addresses_as_people_write_them() {
        for (text, want) in [
            ("mail bob@example.org.", vec!["bob@example.org"]),
            ("<o'brien+tag@mail.example.co.uk>, x", vec!["o'brien+tag@mail.example.co.uk"]),
            ("user=bob@x.io&b=1", vec!["bob@x.io"]),
            ("'bob@x.io'", vec!["bob@x.io"]),
            ("a@b.com@c.com", vec!["a@b.com"]),
            ("a@b.cc,c@d.ee", vec!["a@b.cc", "c@d.ee"]),
            ("müller@bücher.de", vec!["müller@bücher.de"]),
            ("a@x.xn--p1ai-", vec!["a@x.xn--p1ai"]),
            ("a@b.com.123", vec!["a@b.com"]),
            ("a@b", vec![]),
            ("a@1.2.3.4", vec![]),
            ("@b.com", vec![]),
            ("a@.com", vec![]),
            ("a @b.com", vec![]),
            ("a@b..com", vec![]),
            ("git@github.com:x/y", vec!["git@github.com"]),
        ] {
            assert_eq!(found(Find::Email, text), want, "{text}");
        }
    }
}
