//! Dates and instants of JSON values, as [`crate::Timestamps`] says.

use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;

use crate::decimal::{Surplus, scaled};
use crate::pattern::{Pattern, PatternError};

/// From so many digits on, a whole number is milliseconds.
const MILLISECOND_DIGITS: usize = 13;

/// The formats to try.
#[derive(Debug)]
pub(crate) enum Formats {
    OpenX,
    Hive(Vec<HiveFormat>),
}

#[derive(Debug)]
pub(crate) enum HiveFormat {
    Millis,
    Pattern(Pattern),
}

impl Formats {
    /// Of patterns, or the one that does not hold.
    pub(crate) fn hive(patterns: &[String]) -> Result<Formats, (String, PatternError)> {
        let format = |text: &String| match text.as_str() {
            "millis" => Ok(HiveFormat::Millis),
            _ => Pattern::parse(text).map(HiveFormat::Pattern).map_err(|error| (text.clone(), error)),
        };
        patterns.iter().map(format).collect::<Result<_, _>>().map(Formats::Hive)
    }

    /// Nanoseconds since 1970 in UTC; `number`: `text` stood there without quotes.
    pub(crate) fn read(&self, text: &str, number: bool) -> Option<i128> {
        match self {
            Formats::OpenX => match text.contains(':') {
                true if !number => clock(text, true),
                _ => epoch(text),
            },
            Formats::Hive(formats) if formats.is_empty() => {
                if number {
                    None
                } else {
                    clock(text, false)
                }
            }
            Formats::Hive(formats) => formats.iter().find_map(|format| match format {
                HiveFormat::Millis => text.parse().ok().and_then(milliseconds),
                HiveFormat::Pattern(_) if number => None,
                HiveFormat::Pattern(pattern) => pattern.read(text),
            }),
        }
    }
}

fn milliseconds(count: i64) -> Option<i128> {
    Some(i128::from(count) * 1_000_000)
}

/// Seconds, milliseconds, or seconds with a fraction.
fn epoch(text: &str) -> Option<i128> {
    if text.contains(['.', 'e', 'E']) {
        return scaled(text, 9, Surplus::Cut);
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: i64 = text.parse().ok()?;
    if digits.len() >= MILLISECOND_DIGITS {
        milliseconds(count)
    } else {
        Some(i128::from(count) * 1_000_000_000)
    }
}

/// `yyyy-[M]M-[d]d hh:mm:ss[.f...]`; with `iso`, also with `T` and a zone.
fn clock(text: &str, iso: bool) -> Option<i128> {
    let mut reader = Reader(text);
    let (year, month, day) = reader.date()?;
    let zoned = iso && reader.takes("T");
    if !zoned && !reader.takes(" ") {
        return None;
    }
    let hour = reader.number(1, 2)?;
    reader.expect(":")?;
    let minute = reader.number(1, 2)?;
    reader.expect(":")?;
    let second = reader.number(1, 2)?;
    let nanosecond = if reader.takes(".") { reader.fraction(9)? } else { 0 };
    let offset = if zoned && !reader.takes("Z") && !reader.0.is_empty() { reader.offset()? } else { 0 };
    if !reader.0.is_empty() {
        return None;
    }
    instant([year, month, day, hour, minute, second], nanosecond, offset)
}

/// Days since 1970 of `yyyy-MM-dd`.
pub(crate) fn days(text: &str) -> Option<i32> {
    let mut reader = Reader(text);
    let (year, month, day) = reader.date()?;
    if !reader.0.is_empty() {
        return None;
    }
    let date = Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok()?;
    let instant = Offset::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight())).ok()?;
    i32::try_from(instant.as_second().div_euclid(86_400)).ok()
}

/// Nanoseconds since 1970 of year, month, day, hour, minute and second where the clock is `offset` seconds ahead of
/// UTC. `None`: there is no such time.
pub(crate) fn instant(clock: [u32; 6], nanosecond: u32, offset: i32) -> Option<i128> {
    let [year, month, day, hour, minute, second] = clock;
    let small = |number: u32| i8::try_from(number).ok();
    let clock = DateTime::new(
        year.try_into().ok()?,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second)?,
        nanosecond.try_into().ok()?,
    );
    let instant = Offset::from_seconds(offset).ok()?.to_timestamp(clock.ok()?).ok()?;
    Some(instant.as_nanosecond())
}

/// What is left of a text.
pub(crate) struct Reader<'a>(pub(crate) &'a str);

impl Reader<'_> {
    pub(crate) fn takes(&mut self, token: &str) -> bool {
        let Some(rest) = self.0.strip_prefix(token) else { return false };
        self.0 = rest;
        true
    }

    pub(crate) fn expect(&mut self, token: &str) -> Option<()> {
        self.takes(token).then_some(())
    }

    /// The digits that come next, at most `most` of them.
    pub(crate) fn digits(&mut self, least: usize, most: usize) -> Option<&str> {
        let count = self.0.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if count < least {
            return None;
        }
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        Some(digits)
    }

    pub(crate) fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        self.digits(least, most)?.parse().ok()
    }

    /// Digits behind the point, in nanoseconds.
    pub(crate) fn fraction(&mut self, most: usize) -> Option<u32> {
        let digits = self.digits(1, most)?;
        let scale = u32::try_from(digits.len()).ok()?;
        let number: u64 = digits.get(..digits.len().min(9))?.parse().ok()?;
        u32::try_from(number * 10_u64.pow(9_u32.saturating_sub(scale))).ok()
    }

    fn date(&mut self) -> Option<(u32, u32, u32)> {
        let year = self.number(4, 4)?;
        self.expect("-")?;
        let month = self.number(1, 2)?;
        self.expect("-")?;
        Some((year, month, self.number(1, 2)?))
    }

    /// `+01`, `+0100`, `+01:00` in seconds.
    pub(crate) fn offset(&mut self) -> Option<i32> {
        let sign = if self.takes("-") { -1 } else { self.expect("+").map(|()| 1)? };
        let hours = i32::try_from(self.number(2, 2)?).ok()?;
        let minutes = match self.takes(":") || !self.0.is_empty() {
            true => i32::try_from(self.number(2, 2)?).ok()?,
            false => 0,
        };
        (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i128 = 1_000_000_000;

    #[test]
    fn openx_reads_what_the_guide_lists() {
        let base = 1_486_480_381 * SECOND;
        for (text, expected) in [
            ("2017-02-07T15:13:01Z", base),
            ("2017-02-07T15:13:01.12Z", base + SECOND * 12 / 100),
            ("2017-02-07 15:13:01", base),
            ("2017-02-07 15:13:01.123456789", base + 123_456_789),
            ("2017-02-07T16:13:01+01:00", base),
            ("2017-02-07T09:43:01-0530", base),
            ("2017-02-07T15:13:01", base),
            ("2017-2-7 15:13:1", base),
            ("1486480381", base),
            ("1486480381123", base + 123_000_000),
            ("1486480381.5", base + SECOND / 2),
            ("1.486480381e9", base),
            ("-1", -SECOND),
            ("999999999999", 999_999_999_999 * SECOND),
        ] {
            assert_eq!(Formats::OpenX.read(text, false), Some(expected), "{text}");
        }
        for text in [
            "",
            "now",
            "2017-02-07",
            "2017-02-30T00:00:00Z",
            "2017-02-07T25:00:00Z",
            "2017-02-07T15:13:60Z",
            "2017-02-07T15:13:01Zulu",
            "2017-02-07 15:13:01Z",
            "2017-02-07T15:13:01+24:00",
            "2017-02-07T15:13:01.Z",
            "+5",
            "99999999999999999999",
        ] {
            assert_eq!(Formats::OpenX.read(text, false), None, "{text}");
        }
    }

    #[test]
    fn hive_without_patterns_reads_what_java_reads() {
        let formats = Formats::hive(&[]).unwrap();
        assert_eq!(formats.read("2017-02-07 15:13:01.5", false), Some(1_486_480_381 * SECOND + SECOND / 2));
        assert_eq!(formats.read("2017-02-07T15:13:01Z", false), None);
        assert_eq!(formats.read("1486480381", true), None);
    }

    #[test]
    fn hive_patterns_are_tried_in_turn() {
        let formats = Formats::hive(&["millis".into(), "dd/MMM/yyyy:HH:mm:ss Z".into()]).unwrap();
        assert_eq!(formats.read("1486480381123", true), Some(1_486_480_381_123_000_000));
        assert_eq!(formats.read("1486480381123", false), Some(1_486_480_381_123_000_000));
        assert_eq!(formats.read("07/Feb/2017:16:13:01 +0100", false), Some(1_486_480_381 * SECOND));
        assert_eq!(formats.read("1486480381.5", true), None);
        assert_eq!(formats.read("2017-02-07 15:13:01", false), None);
    }

    #[test]
    fn days_count_from_1970() {
        assert_eq!(days("1970-01-01"), Some(0));
        assert_eq!(days("1969-12-31"), Some(-1));
        assert_eq!(days("2024-02-29"), Some(19_782));
        assert_eq!(days("2023-02-29"), None);
        assert_eq!(days("2023-02-28T00:00:00Z"), None);
        assert_eq!(days("23-02-28"), None);
    }
}
