//! Moments as signatures have them: `20260713T141516Z`.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// How far clocks of clients may be off, either way.
pub(super) const SKEW_SECONDS: i64 = 15 * 60;

/// Seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) i64);

impl Moment {
    /// Only this form, with no other characters around it.
    pub(super) fn parse(text: &str) -> Option<Moment> {
        let bytes = text.as_bytes();
        if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let number = |from: usize, to: usize| -> Option<i16> {
            let digits = text.get(from..to)?;
            if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
        };
        let small = |from: usize| number(from, from + 2).and_then(|value| i8::try_from(value).ok());
        let time =
            DateTime::new(number(0, 4)?, small(4)?, small(6)?, small(9)?, small(11)?, small(13)?, 0).ok()?;
        Offset::UTC.to_timestamp(time).ok().map(|timestamp| Moment(timestamp.as_second()))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Offset::UTC.to_datetime(Timestamp::from_second(self.0).unwrap_or_default());
        let (year, month, day) = (time.year(), time.month(), time.day());
        write!(f, "{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", time.hour(), time.minute(), time.second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_it_is_shown_and_nothing_else() {
        let moment = Moment::parse("20260713T141516Z").unwrap();
        assert_eq!((moment.0, moment.to_string().as_str()), (1_783_952_116, "20260713T141516Z"));
        for text in [
            "",
            "20260713T141516",
            "2026-07-13T14:15Z",
            "20261313T141516Z",
            "2026071 T141516Z",
            "+0260713T141516Z",
            "20260713T251516Z",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }
}
