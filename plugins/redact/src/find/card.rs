//! Payment card numbers: 13 to 19 digits whose last is the Luhn check digit (ISO/IEC 7812-1), the first not 0,
//! together or in groups of at least three digits with single spaces or dashes between them.
//!
//! Not found, because they are nearly always something else: digits behind a decimal point, and digits within a
//! run of 20 or more hexadecimal digits (digests and other identifiers).

use super::{Span, next_digit};

const DIGITS_MIN: usize = 13;
const DIGITS_MAX: usize = 19;
const GROUP_MIN: usize = 3;
/// A hexadecimal run of this length is an identifier.
const IDENTIFIER_MIN: usize = 20;

pub(super) fn find(text: &[u8], spans: &mut Vec<Span>) {
    let mut at = 0;
    while let Some(start) = next_digit(text, at) {
        at = start;
        match card(text, start) {
            Some(end) => {
                spans.push(Span { start, end });
                at = end;
            }
            // On to the next group: a card never begins within one.
            None => at += group(text, at),
        }
    }
}

fn group(text: &[u8], at: usize) -> usize {
    text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// The end of the longest card number that begins with the group at `start`.
fn card(text: &[u8], start: usize) -> Option<usize> {
    if text[start] == b'0' {
        return None;
    }
    let mut digits = [0u8; DIGITS_MAX];
    let (mut count, mut at, mut found) = (0, start, None);
    loop {
        let length = text[at..].iter().take(DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 || count + length > DIGITS_MAX || (length < GROUP_MIN && count > 0) {
            break;
        }
        for (digit, byte) in digits[count..].iter_mut().zip(&text[at..at + length]) {
            *digit = byte - b'0';
        }
        count += length;
        at += length;
        if count >= DIGITS_MIN && luhn(&digits[..count]) && !is_other(text, start, at) {
            found = Some(at);
        }
        if length < GROUP_MIN || !matches!(text.get(at), Some(b' ' | b'-')) {
            break;
        }
        at += 1;
    }
    found
}

fn luhn(digits: &[u8]) -> bool {
    let mut sum = 0u32;
    for (place, digit) in digits.iter().rev().enumerate() {
        let value = u32::from(*digit) << (place % 2);
        sum += if value > 9 { value - 9 } else { value };
    }
    sum.is_multiple_of(10)
}

/// Whether the digits are a fraction or a piece of a hexadecimal identifier.
fn is_other(text: &[u8], start: usize, end: usize) -> bool {
    if start >= 2 && text[start - 1] == b'.' && text[start - 2].is_ascii_digit() {
        return true;
    }
    let hex = |byte: &&u8| byte.is_ascii_hexdigit();
    let before = text[..start].iter().rev().take(IDENTIFIER_MIN).take_while(hex).count();
    let behind = text[end..].iter().take(IDENTIFIER_MIN).take_while(hex).count();
    (before > 0 || behind > 0) && before + (end - start) + behind >= IDENTIFIER_MIN
}

#[cfg(test)]
mod tests {
    use crate::config::Find;
    use crate::find::found;

    /// Test numbers that card networks and processors publish.
    const CARDS: [&str; 7] = [
        "4111111111111111",
        "4222222222222",
        "378282246310005",
        "5555555555554444",
        "6011111111111117",
        "30569309025904",
        "3530111333300000",
    ];

    #[test]
    fn find_published_test_numbers_are_found_and_others_not() {
        for card in &CARDS {
            assert_eq!(found(Find::Card, &format!("card:{card},")), [*card]);
            let last = (card.as_bytes()[card.len() - 1] - b'0' + 1) % 10;
            let wrong = format!("{}{last}", card.get(..card.len() - 1).unwrap());
            assert!(found(Find::Card, &wrong).is_empty(), "{wrong}");
        }
    }

    #[test]
    fn find_groups_and_neighbours() {
        for (text, want) in [
            ("4111 1111 1111 1111", vec!["4111 1111 1111 1111"]),
            ("3782-822463-10005 x", vec!["3782-822463-10005"]),
            ("order 123 4111-1111-1111-1111 5", vec!["4111-1111-1111-1111"]),
            ("4111 1111 1111 1111 1234 5678", vec!["4111 1111 1111 1111"]),
            ("cc4111111111111111x", vec!["4111111111111111"]),
            ("4111  1111 1111 1111", vec![]),
            ("0.4111111111111111", vec![]),
            ("041111111111111111", vec![]),
            ("94111111111111111110", vec![]),
            ("a4111111111111111b0c1", vec![]),
            ("2026-11-22 23-59-27", vec![]),
            ("1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6", vec![]),
        ] {
            assert_eq!(found(Find::Card, text), want, "{text}");
        }
    }
}
