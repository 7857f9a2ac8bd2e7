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

    fn read(text: &str) -> Result<Self, Wrong> {
        let split = text.find(|letter: char| !letter.is_ascii_digit()).ok_or(Wrong::NoSpan)?;
        let (number, unit) = text.split_at_checked(split).ok_or(Wrong::NoSpan)?;
        let known = UNITS.iter().find(|(name, _)| *name == unit).filter(|_| split > 0);
        let (unit, scale) = *known.ok_or(Wrong::NoSpan)?;
        // Digits alone: what is no number of this kind is too large for it.
        let ns = number.parse::<i64>().ok().and_then(|number| number.checked_mul(scale));
        ns.map(Self).ok_or(Wrong::TooLong { most: i64::MAX / scale, unit })
    }
}

/// Why a text is no span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    NoSpan,
    /// The longest of its unit.
    TooLong {
        most: i64,
        unit: &'static str,
    },
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).map_err(|wrong| {
            D::Error::custom(match wrong {
                Wrong::NoSpan => format!(
                    "{text:?} is no length of time: a whole number and one of ns, us, ms, s, m, h, d, w, as in \"5m\""
                ),
                Wrong::TooLong { most, unit } => {
                    format!("{text:?} is too long: at most {most}{unit}, about 292 years")
                }
            })
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
            assert_eq!(Span::read(text), Ok(Span(ns)), "{text}");
        }
    }

    #[test]
    fn span_without_unit_or_with_sign_is_refused() {
        for text in ["", "5", "m", "-5m", "5 m", "1.5h", "5min", "99999999999999 w"] {
            assert_eq!(Span::read(text), Err(Wrong::NoSpan), "{text}");
        }
    }

    #[test]
    fn span_that_is_too_long_is_told_the_longest() {
        let longest = format!("{}ns", i64::MAX);
        assert_eq!(Span::read(&longest), Ok(Span(i64::MAX)));
        for (text, longest) in [
            ("15251w", "15250w"),
            ("9223372036854775808ns", "9223372036854775807ns"),
            ("99999999999999999999d", "106751d"),
        ] {
            let told = serde_json::from_str::<Span>(&format!("{text:?}")).unwrap_err().to_string();
            assert!(told.contains(&format!("{text:?} is too long: at most {longest}")), "{told}");
        }
        assert_eq!(Span::read("15250w").map(Span::ns), Ok(15_250 * 604_800_000_000_000));
    }
}
