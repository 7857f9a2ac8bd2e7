//! JSON numbers as integers and floats, and the text in which they are written.
//!
//! An integer is read exactly or not at all: `1.0`, `1e3` and `-0` are the integers 1, 1000 and 0; `1.5`
//! and 9223372036854775808 are none. A float is the nearest one; beyond the largest there is none.

/// The value of a valid JSON number if it is an integer that fits.
pub(crate) fn int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    if digits.len() <= 18 && digits.iter().all(u8::is_ascii_digit) {
        let value = digits.iter().fold(0i64, |value, &digit| value * 10 + i64::from(digit - b'0'));
        return Some(if negative { -value } else { value });
    }
    int_slow(negative, digits)
}

fn int_slow(negative: bool, digits: &[u8]) -> Option<i64> {
    let (mantissa, exponent) = match digits.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&digits[..at], exponent(&digits[at + 1..])),
        None => (digits, 0),
    };
    let (whole, fraction) = match memchr::memchr(b'.', mantissa) {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &mantissa[..0]),
    };
    // value = whole and fraction as one digit string * 10^scale
    let mut scale = exponent.saturating_sub(fraction.len() as i64);
    let digit = |at: usize| if at < whole.len() { whole[at] } else { fraction[at - whole.len()] };
    let mut end = whole.len() + fraction.len();
    let mut start = 0;
    while start < end && digit(start) == b'0' {
        start += 1;
    }
    while end > start && digit(end - 1) == b'0' {
        end -= 1;
        scale = scale.saturating_add(1);
    }
    if start == end {
        return Some(0);
    }
    if scale < 0 || (end - start) as i64 + scale.min(20) > 19 {
        return None;
    }
    let mut value = (start..end).fold(0i128, |value, at| value * 10 + i128::from(digit(at) - b'0'));
    for _ in 0..scale {
        value *= 10;
    }
    i64::try_from(if negative { -value } else { value }).ok()
}

fn exponent(text: &[u8]) -> i64 {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let value = digits
        .iter()
        .fold(0i64, |value, &digit| value.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if negative { -value } else { value }
}

/// The nearest float of a valid JSON number, if it is finite.
pub(crate) fn float(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// Appends an integer.
pub(crate) fn int_into(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the shortest text that reads back as the same finite float, in serde_json's form: always with
/// a point or an exponent (`1.0`, `0.1`, `1e-7`, `1e+16`).
pub(crate) fn float_into(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int_only_exact_and_in_range() {
        let cases: &[(&str, Option<i64>)] = &[
            ("0", Some(0)),
            ("-0", Some(0)),
            ("-0.0e-5", Some(0)),
            ("0e99999999999999999999", Some(0)),
            ("1.0", Some(1)),
            ("1e3", Some(1000)),
            ("1E+3", Some(1000)),
            ("12.50e1", Some(125)),
            ("1500e-2", Some(15)),
            ("1.5", None),
            ("1e-1", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-9223372036854775809", None),
            ("9223372036854775807.000", Some(i64::MAX)),
            ("922337203685477580.7e1", Some(i64::MAX)),
            ("1e18", Some(1_000_000_000_000_000_000)),
            ("1e19", None),
            ("1e999999999999999999999", None),
            ("1e-999999999999999999999", None),
            ("999999999999999999", Some(999_999_999_999_999_999)),
            ("00000000000000000000000000001", Some(1)),
        ];
        for (text, value) in cases {
            assert_eq!(int(text.as_bytes()), *value, "{text}");
        }
    }

    #[test]
    fn float_beyond_the_largest_is_none() {
        assert_eq!(float(b"1e308"), Some(1e308));
        assert_eq!(float(b"1e309"), None);
        assert_eq!(float(b"1e-400"), Some(0.0));
        assert_eq!(float(b"9007199254740993"), Some(9007199254740992.0));
    }

    #[test]
    fn float_written_reads_back() {
        for (value, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1e-7, "1e-7"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
        ] {
            let mut out = Vec::new();
            float_into(value, &mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), text);
        }
    }
}
