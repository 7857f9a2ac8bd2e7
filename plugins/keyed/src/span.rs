//! Lengths of time in configs: a whole number and a unit, `"250ms"`, `"5m"`, `"1d"`.

use serde::de::{Deserialize, Deserializer, Error};

/// A length of time in nanoseconds, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(i64);

/// Units and their nanoseconds.
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

impl Span {
    /// So many nanoseconds; negative ones are none.
    #[must_use]
    pub const fn from_ns(ns: i64) -> Self {
        Self(if ns < 0 { 0 } else { ns })
    }

    /// In nanoseconds.
    #[must_use]
    pub const fn ns(self) -> i64 {
        self.0
    }

    /// Whether it is no time at all.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    fn read(text: &str) -> Option<Self> {
        let split = text.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, unit) = text.split_at_checked(split)?;
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        number.parse::<i64>().ok()?.checked_mul(*scale).map(Self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is no length of time: a whole number and one of ns, us, ms, s, m, h, d, w, as in \"5m\""
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_number_and_unit_are_nanoseconds() {
        for (text, ns) in
            [("0s", 0), ("250ms", 250_000_000), ("5m", 300_000_000_000), ("1w", 604_800_000_000_000)]
        {
            assert_eq!(Span::read(text), Some(Span(ns)), "{text}");
        }
    }

    #[test]
    fn span_without_unit_with_sign_or_too_long_is_refused() {
        for text in ["", "5", "m", "-5m", "5 m", "1.5h", "5min", "99999999999999w"] {
            assert_eq!(Span::read(text), None, "{text}");
        }
    }
}
