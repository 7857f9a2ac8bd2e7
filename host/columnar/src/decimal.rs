//! Decimal numbers as integers of a scale, exactly.

/// What becomes of digits behind the last that there is room for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surplus {
    /// A number that has some, other than 0, is refused.
    Refuse,
    /// They are cut off, towards the smaller number.
    Cut,
}

/// Past any that gives a number of 38 digits, and far from overflow.
const EXPONENT_MAX: i64 = 10_000;

/// `text` times 10 to the `scale`. `None`: it is no number (JSON's grammar, though leading zeros are allowed), or too
/// large.
pub(crate) fn scaled(text: &str, scale: u32, surplus: Surplus) -> Option<i128> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) if digits(fraction) => (whole, fraction),
        Some(_) => return None,
        None => (mantissa, ""),
    };
    if !digits(whole) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let mut digits = whole.bytes().chain(fraction.bytes()).map(|digit| i128::from(digit - b'0'));
    let room = i64::try_from(whole.len()).ok()? + exponent + i64::from(scale);
    let mut value = 0_i128;
    let mut left = room;
    while left > 0 {
        let Some(digit) = digits.next() else { break };
        value = value.checked_mul(10)?.checked_add(digit)?;
        left -= 1;
    }
    if value != 0 {
        for _ in 0..left.max(0) {
            value = value.checked_mul(10)?;
        }
    }
    let inexact = digits.any(|digit| digit != 0);
    match (inexact, surplus) {
        (true, Surplus::Refuse) => None,
        (true, Surplus::Cut) if negative => Some(-value - 1),
        _ if negative => Some(-value),
        _ => Some(value),
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse_exponent(text: &str) -> Option<i64> {
    let (sign, magnitude) = match text.split_at_checked(1)? {
        ("-", rest) => (-1, rest),
        ("+", rest) => (1, rest),
        _ => (1, text),
    };
    if !digits(magnitude) {
        return None;
    }
    // One that does not fit is past the bound anyway.
    Some(sign * magnitude.parse::<i64>().unwrap_or(EXPONENT_MAX).min(EXPONENT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_is_exact_or_refuses() {
        for (text, scale, expected) in [
            ("0", 2, Some(0)),
            ("-0.00", 2, Some(0)),
            ("12.5", 2, Some(1250)),
            ("12.50000000000000000000000000000000000000000000000000", 2, Some(1250)),
            ("-12.345", 2, None),
            ("1e3", 0, Some(1000)),
            ("1.5E+1", 1, Some(150)),
            ("15e-1", 1, Some(15)),
            ("1e-400", 2, None),
            ("0e99999999999999999999", 2, Some(0)),
            ("1e99999999999999999999", 2, None),
            ("170141183460469231731687303715884105727", 0, Some(i128::MAX)),
            ("170141183460469231731687303715884105728", 0, None),
            ("000000000000000000000000000000000000000000000007", 0, Some(7)),
            ("", 0, None),
            (".5", 1, None),
            ("5.", 1, None),
            ("1e", 0, None),
            ("+1", 0, None),
            ("1 ", 0, None),
            ("--1", 0, None),
        ] {
            assert_eq!(scaled(text, scale, Surplus::Refuse), expected, "{text:?}");
        }
    }

    #[test]
    fn scaled_cuts_towards_the_smaller() {
        assert_eq!(scaled("1.2399", 2, Surplus::Cut), Some(123));
        assert_eq!(scaled("-1.2301", 2, Surplus::Cut), Some(-124));
        assert_eq!(scaled("-1e-400", 2, Surplus::Cut), Some(-1));
    }
}
