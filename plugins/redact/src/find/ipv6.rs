//! IPv6 addresses as RFC 4291 writes them: eight groups, or fewer with one `::`, the last 32 bits perhaps as IPv4.
//!
//! `::` alone says nothing about anybody and is not found. Text that is glued to letters (`std::vec`) is no address.
//! Eight groups out of a longer row of groups are found.

use super::{Span, ipv4, is_word};

pub(super) fn find(text: &[u8], spans: &mut Vec<Span>) {
    let mut from = 0;
    for colon in memchr::memchr_iter(b':', text) {
        if colon < from {
            continue;
        }
        // The group before the colon is where an address may begin.
        let group =
            text[from..colon].iter().rev().take(5).take_while(|byte| byte.is_ascii_hexdigit()).count();
        let start = colon - group;
        let glued = start > 0 && (is_word(text[start - 1]) || (group == 0 && text[start - 1] == b':'));
        if group > 4 || glued {
            continue;
        }
        if let Some(end) = address(text, start) {
            spans.push(Span { start, end });
            from = end;
        }
    }
}

/// The end of the longest address that begins at `start`.
fn address(text: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut groups, mut compressed, mut found) = (start, 0, false, None);
    let mut accept = |end: usize, groups: usize, compressed: bool| {
        let whole = if compressed { (1..8).contains(&groups) } else { groups == 8 };
        if whole && !text.get(end).is_some_and(|byte| is_word(*byte)) {
            found = Some(end);
        }
    };
    while groups < 8 {
        let length = text[at..].iter().take(5).take_while(|byte| byte.is_ascii_hexdigit()).count();
        if length > 4 {
            break;
        }
        if length > 0 {
            if text.get(at + length) == Some(&b'.')
                && groups <= 6
                && (groups > 0 || compressed)
                && let Some(end) = ipv4::address(text, at)
            {
                accept(end, groups + 2, compressed);
                break;
            }
            groups += 1;
            at += length;
            accept(at, groups, compressed);
        }
        match (text.get(at), text.get(at + 1)) {
            (Some(b':'), Some(b':')) if !compressed => {
                compressed = true;
                at += 2;
                accept(at, groups, compressed);
            }
            (Some(b':'), Some(next)) if length > 0 && next.is_ascii_hexdigit() => at += 1,
            _ => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::config::Find;
    use crate::find::found;

    #[test]
    fn find_addresses_and_what_only_looks_like_them() {
        for (text, want) in [
            ("::1", vec!["::1"]),
            ("[2001:db8::1]:443", vec!["2001:db8::1"]),
            ("client:2001:db8::1, x", vec!["2001:db8::1"]),
            ("fe80::1%eth0", vec!["fe80::1"]),
            ("2001:db8:0:0:0:0:0:1:443", vec!["2001:db8:0:0:0:0:0:1"]),
            ("::ffff:192.0.2.1.", vec!["::ffff:192.0.2.1"]),
            ("2001:db8::.", vec!["2001:db8::"]),
            ("1:2:3:4:5:6:7::", vec!["1:2:3:4:5:6:7::"]),
            ("::", vec![]),
            ("std::vec", vec![]),
            ("bad::thing", vec![]),
            ("12:34:56", vec![]),
            ("aa:bb:cc:dd:ee:ff", vec![]),
            ("12345::1", vec![]),
            ("a:b", vec![]),
        ] {
            assert_eq!(found(Find::Ipv6, text), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn find_every_address_the_standard_library_writes_is_found(
            parts in prop::array::uniform8(prop_oneof![Just(0u16), any::<u16>()]),
        ) {
            prop_assume!(parts != [0; 8]);
            let text = std::net::Ipv6Addr::from(parts).to_string();
            prop_assert_eq!(found(Find::Ipv6, &format!("a {text} b")), [text]);
        }

        #[test]
        fn find_what_is_found_is_an_address(text in "[0-9a-f:. x]{0,40}") {
            for piece in found(Find::Ipv6, &text) {
                let plain = piece.split(':').map(|group| group.to_owned()).collect::<Vec<_>>().join(":");
                let dotted = plain.contains('.');
                prop_assert!(dotted || plain.parse::<std::net::Ipv6Addr>().is_ok(), "{}", piece);
            }
        }
    }
}
