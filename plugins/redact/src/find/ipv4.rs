//! IPv4 addresses: four numbers from 0 to 255 with dots, not part of a longer dotted number.
//!
//! Leading zeros are allowed, since some programs write them. A version number of four parts looks the same and is
//! found too.

use super::{Span, next_digit};

pub(super) fn find(text: &[u8], spans: &mut Vec<Span>) {
    let mut at = 0;
    while let Some(start) = next_digit(text, at) {
        at = start;
        let inner = at >= 2 && text[at - 1] == b'.' && text[at - 2].is_ascii_digit();
        match address(text, at).filter(|_| !inner) {
            Some(end) => {
                spans.push(Span { start: at, end });
                at = end;
            }
            None => at += text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
        }
    }
}

/// The end of the address that begins at `start`.
pub(super) fn address(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    for part in 0..4 {
        if part > 0 {
            if text.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let length = text[at..].iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
        let value = text[at..at + length].iter().fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
        if length == 0 || length > 3 || value > 255 {
            return None;
        }
        at += length;
    }
    let longer = text.get(at) == Some(&b'.') && text.get(at + 1).is_some_and(u8::is_ascii_digit);
    (!longer).then_some(at)
}

#[cfg(test)]
mod tests {
    use crate::config::Find;
    use crate::find::found;

    #[test]
    fn find_addresses_and_what_only_looks_like_them() {
        for (text, want) in [
            ("from 192.0.2.1:80, 10.0.0.255.", vec!["192.0.2.1", "10.0.0.255"]),
            ("010.001.000.009", vec!["010.001.000.009"]),
            ("x192.0.2.1y", vec!["192.0.2.1"]),
            ("1.2.3.4.5", vec![]),
            ("1.2.3", vec![]),
            ("256.1.1.1", vec![]),
            ("1.1.1.1234", vec![]),
            ("1.1.1.", vec![]),
        ] {
            assert_eq!(found(Find::Ipv4, text), want, "{text}");
        }
    }
}
