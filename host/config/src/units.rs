//! Sizes and durations as people write them.
//!
//! It owns the units and their spelling, and that of processor cores: `"16MiB"` or a number of bytes, `"250ms"`, `"24h"`. It refuses
//! fractions of the smallest unit, negative values, and anything that does not fit.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

const DURATION_UNITS: [(&str, u64); 6] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
];

/// What a size looks like, for messages.
pub(crate) const SIZE_EXPECTED: &str = "a size such as \"16MiB\" or a number of bytes";
/// What a duration looks like, for messages.
pub(crate) const DURATION_EXPECTED: &str = "a duration such as \"250ms\", \"60s\", \"5m\" or \"24h\"";

/// What a number of cores looks like, for messages.
pub(crate) const CORES_EXPECTED: &str = "a number of cores from 0.001 to 10000, such as 0.5";

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

/// Thousandths of processor cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cores(pub(crate) u32);

impl Cores {
    /// Rounded to thousandths.
    pub(crate) fn new(cores: f64) -> Option<Cores> {
        let thousandths = (cores * 1000.0).round();
        #[expect(clippy::cast_possible_truncation, reason = "it is within the bounds")]
        let rounded = thousandths as u32;
        // Not so for what is no number.
        (1.0..=10_000_000.0).contains(&thousandths).then_some(Cores(rounded))
    }
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cores, D::Error> {
        Cores::new(f64::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom(CORES_EXPECTED))
    }
}

impl JsonSchema for Cores {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Cores".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "format": "cores", "minimum": 0.001, "maximum": 10_000 })
    }
}

impl Size {
    /// Parses a number with a unit, `"16MiB"`; a bare number is bytes.
    pub(crate) fn parse(text: &str) -> Option<Size> {
        let (number, unit) = split(text)?;
        let factor = match unit {
            "" => 1,
            _ => SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
        };
        scale(number, factor).map(Size)
    }
}

impl Span {
    /// Parses one number with a unit, `"250ms"`; `"0"` needs none.
    pub(crate) fn parse(text: &str) -> Option<Span> {
        let (number, unit) = split(text)?;
        if unit.is_empty() {
            return (number.trim_start_matches('0').is_empty()).then_some(Span(Duration::ZERO));
        }
        let factor = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?.1;
        scale(number, factor).map(|nanoseconds| Span(Duration::from_nanos(nanoseconds)))
    }
}

/// Cuts `"1.5 MiB"` into `("1.5", "MiB")`.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    (!number.is_empty()).then_some((number, unit.trim_start()))
}

/// `number * factor`, exactly; `None` if the result is no whole number or does not fit.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let numerator: u128 = fraction.parse().ok()?;
    let denominator = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = numerator * u128::from(factor);
    if !part.is_multiple_of(denominator) {
        return None;
    }
    let total = whole.checked_mul(u128::from(factor))?.checked_add(part / denominator)?;
    u64::try_from(total).ok()
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match unit {
            Some((name, factor)) if *factor > 1 => write!(f, "{}{name}", self.0 / factor),
            _ => write!(f, "{}B", self.0),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        let unit = DURATION_UNITS.iter().rev().find(|(name, factor)| {
            *name != "d" && nanoseconds > 0 && nanoseconds.is_multiple_of(u128::from(*factor))
        });
        match unit {
            Some((name, factor)) => write!(f, "{}{name}", nanoseconds / u128::from(*factor)),
            None => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(bytes) => Some(Size(bytes)),
            NumberOrText::Text(text) => Size::parse(&text),
        }
        .ok_or_else(|| serde::de::Error::custom(SIZE_EXPECTED))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        Span::parse(&String::deserialize(deserializer)?)
            .ok_or_else(|| serde::de::Error::custom(DURATION_EXPECTED))
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "format": "size", "minimum": 0 })
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "interval" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_with_every_unit_is_bytes() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("1KB", 1000),
            ("1KiB", 1024),
            ("1.5KiB", 1536),
            ("16 MiB", 16 << 20),
            ("16mib", 16 << 20),
            ("1_000MB", 1_000_000_000),
            ("8GiB", 8 << 30),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn size_malformed_is_refused() {
        for text in
            ["", "MiB", "-1", "1.3B", "1..5KiB", "1.KiB", ".5KiB", "1XB", "1 Mi B", "99999999999TiB", "1e3"]
        {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }

    #[test]
    fn duration_with_every_unit_is_exact() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("10us", 10_000),
            ("250ms", 250_000_000),
            ("1.5s", 1_500_000_000),
            ("5m", 300_000_000_000),
            ("24h", 86_400_000_000_000),
            ("7d", 604_800_000_000_000),
        ] {
            assert_eq!(Span::parse(text), Some(Span(Duration::from_nanos(nanoseconds))), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1S", "1min", "999999999999d"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }

    #[test]
    fn values_written_back_read_the_same() {
        for bytes in [0, 1, 1000, 1024, 1536, 5 << 20, 8 << 30, 123_456_789] {
            assert_eq!(Size::parse(&Size(bytes).to_string()), Some(Size(bytes)));
        }
        for milliseconds in [0, 1, 200, 1000, 90_000, 86_400_000] {
            let span = Span(Duration::from_millis(milliseconds));
            assert_eq!(Span::parse(&span.to_string()), Some(span));
        }
    }
}
