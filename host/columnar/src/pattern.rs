//! Patterns of Joda-Time's `DateTimeFormat`, as far as a text read with them means the same everywhere.

use crate::timestamp::{Reader, instant};

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 200;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A pattern that was understood.
#[derive(Debug)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// At least and at most so many digits.
    Number(Unit, usize, usize),
    /// English, whole or three letters.
    MonthName,
    DayName,
    /// AM or PM.
    Half,
    /// Digits behind the point, at most so many.
    Fraction(usize),
    Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Year,
    Month,
    Day,
    DayOfYear,
    /// 0 to 23.
    Hour,
    /// 1 to 24.
    ClockHour,
    /// 0 to 11, with AM or PM.
    HalfHour,
    /// 1 to 12, with AM or PM.
    HalfClockHour,
    Minute,
    Second,
}

/// Why a pattern is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("it has {0} bytes, expected at most {PATTERN_BYTES_MAX}")]
    TooLong(usize),
    #[error("the quote is not closed")]
    Quote,
    #[error(
        "{0:?} is not known; expected y, M, d, D, H, k, K, h, a, m, s, S, E, Z, text in quotes, or `millis` alone"
    )]
    Letter(char),
    #[error("a year of {0} digits means different years on different days, expected `yyyy`")]
    Year(usize),
    #[error("it has no year")]
    NoYear,
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Pattern, PatternError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong(text.len()));
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let part = if first == '\'' {
                let (quoted, after) = quoted(rest)?;
                rest = after;
                Part::Text(quoted)
            } else if first.is_ascii_alphabetic() {
                let after = rest.trim_start_matches(first);
                let count = rest.len() - after.len();
                rest = after;
                letter(first, count)?
            } else {
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
                Part::Text(first.to_string())
            };
            parts.push(part);
        }
        // A number that another follows at once has as many digits as letters; elsewhere leading zeros may be missing.
        for at in 0..parts.len() {
            let followed = matches!(parts.get(at + 1), Some(Part::Number(..) | Part::Fraction(_)));
            match parts.get_mut(at) {
                Some(Part::Number(Unit::Year, ..)) => {}
                Some(Part::Number(_, least, most)) if followed => *most = *least,
                Some(Part::Number(_, least, _)) => *least = 1,
                _ => {}
            }
        }
        if !parts.iter().any(|part| matches!(part, Part::Number(Unit::Year, ..))) {
            return Err(PatternError::NoYear);
        }
        Ok(Pattern(parts))
    }

    /// Nanoseconds since 1970; what the pattern does not have is the first of its kind.
    pub(crate) fn read(&self, text: &str) -> Option<i128> {
        let mut reader = Reader(text);
        let (mut year, mut month, mut day, mut day_of_year) = (1970, 1, 1, None);
        let (mut hour, mut afternoon, mut minute, mut second) = (0, false, 0, 0);
        let (mut nanosecond, mut offset) = (0, 0);
        for part in &self.0 {
            match part {
                Part::Text(text) => reader.expect(text)?,
                Part::MonthName => month = named(&mut reader, &MONTHS)?,
                Part::DayName => named(&mut reader, &DAYS).map(drop)?,
                Part::Half => afternoon = named(&mut reader, &["AM", "PM"])? == 2,
                Part::Fraction(most) => nanosecond = reader.fraction(*most)?,
                Part::Offset => offset = if reader.takes("Z") { 0 } else { reader.offset()? },
                Part::Number(unit, least, most) => {
                    let number = reader.number(*least, *most)?;
                    match unit {
                        Unit::Year => year = number,
                        Unit::Month => month = number,
                        Unit::Day => day = number,
                        Unit::DayOfYear => day_of_year = Some(number),
                        Unit::Hour => hour = number,
                        Unit::ClockHour => hour = within(number, 1, 24)? % 24,
                        Unit::HalfHour => hour = within(number, 0, 11)?,
                        Unit::HalfClockHour => hour = within(number, 1, 12)? % 12,
                        Unit::Minute => minute = number,
                        Unit::Second => second = number,
                    }
                }
            }
        }
        if !reader.0.is_empty() {
            return None;
        }
        if afternoon && hour < 12 {
            hour += 12;
        }
        if let Some(number) = day_of_year {
            let first = jiff::civil::Date::new(year.try_into().ok()?, 1, 1).ok()?;
            if number == 0 || number > u32::try_from(first.days_in_year()).ok()? {
                return None;
            }
            let date = first.checked_add(jiff::Span::new().days(i64::from(number) - 1)).ok()?;
            (month, day) = (u32::try_from(date.month()).ok()?, u32::try_from(date.day()).ok()?);
        }
        instant([year, month, day, hour, minute, second], nanosecond, offset)
    }
}

fn letter(letter: char, count: usize) -> Result<Part, PatternError> {
    let number = |unit| Part::Number(unit, count, count.max(2));
    Ok(match letter {
        'y' | 'Y' if count == 4 => Part::Number(Unit::Year, 4, 4),
        'y' | 'Y' => return Err(PatternError::Year(count)),
        'M' if count >= 3 => Part::MonthName,
        'M' => number(Unit::Month),
        'd' => number(Unit::Day),
        'D' => Part::Number(Unit::DayOfYear, count, count.max(3)),
        'H' => number(Unit::Hour),
        'k' => number(Unit::ClockHour),
        'K' => number(Unit::HalfHour),
        'h' => number(Unit::HalfClockHour),
        'm' => number(Unit::Minute),
        's' => number(Unit::Second),
        'S' => Part::Fraction(count),
        'E' => Part::DayName,
        'a' => Part::Half,
        'Z' if count <= 2 => Part::Offset,
        _ => return Err(PatternError::Letter(letter)),
    })
}

/// The text in quotes and what follows; two quotes in a row are one.
fn quoted(text: &str) -> Result<(String, &str), PatternError> {
    if let Some(rest) = text.strip_prefix("''") {
        return Ok(("'".to_owned(), rest));
    }
    let mut quoted = String::new();
    let mut rest = text.strip_prefix('\'').unwrap_or(text);
    loop {
        let (before, after) = rest.split_once('\'').ok_or(PatternError::Quote)?;
        quoted.push_str(before);
        match after.strip_prefix('\'') {
            Some(more) => {
                quoted.push('\'');
                rest = more;
            }
            None => return Ok((quoted, after)),
        }
    }
}

/// Which of these names comes next, from 1 on, whole or by its first three letters, in any case.
fn named(reader: &mut Reader<'_>, names: &[&str]) -> Option<u32> {
    for (number, name) in (1..).zip(names) {
        for name in [*name, name.get(..3).unwrap_or(name)] {
            if reader.0.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)) {
                reader.0 = reader.0.get(name.len()..).unwrap_or_default();
                return Some(number);
            }
        }
    }
    None
}

fn within(number: u32, least: u32, most: u32) -> Option<u32> {
    (least..=most).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_reads_what_it_describes() {
        let base = 1_486_480_381_000_000_000;
        for (pattern, text) in [
            ("yyyy-MM-dd'T'HH:mm:ss", "2017-02-07T15:13:01"),
            ("yyyyMMddHHmmss", "20170207151301"),
            ("EEE, d MMM yyyy hh:mm:ss a Z", "Tue, 7 Feb 2017 03:13:01 pm +0000"),
            ("EEEE MMMM d yyyy H:m:s", "Tuesday February 07 2017 15:13:1"),
            ("yyyy.D K:mm:ssa", "2017.38 3:13:01PM"),
            ("dd/MM/yyyy kk:mm:ss ZZ", "07/02/2017 16:13:01 +01:00"),
            ("yyyy-MM-dd HH 'o''clock' mm:ss", "2017-02-07 15 o'clock 13:01"),
            ("yyyy-MM-dd HH''mm:ss", "2017-02-07 15'13:01"),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().read(text), Some(base), "{pattern}");
        }
        let fraction = Pattern::parse("yyyyMMddHHmmss.SSS").unwrap();
        assert_eq!(fraction.read("20170207151301.25"), Some(base + 250_000_000));
        assert_eq!(fraction.read("20170207151301.2501"), None);
        assert_eq!(Pattern::parse("yyyy").unwrap().read("1970"), Some(0));
    }

    #[test]
    fn pattern_refuses_what_does_not_fit() {
        for (pattern, text) in [
            ("yyyy-MM-dd", "2017-02-07 "),
            ("yyyy-MM-dd", "2017-13-07"),
            ("yyyy-MM-dd", "2017-02-30"),
            ("yyyy D", "2017 366"),
            ("yyyy D", "2017 0"),
            ("yyyy hh a", "2017 13 PM"),
            ("yyyy kk", "2017 25"),
            ("yyyy MMM", "2017 Feby"),
            ("yyyyMMdd", "2017207"),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().read(text), None, "{pattern} {text}");
        }
    }

    #[test]
    fn pattern_that_means_different_things_is_refused() {
        for (pattern, expected) in [
            ("yy-MM-dd", PatternError::Year(2)),
            ("MM-dd", PatternError::NoYear),
            ("yyyy z", PatternError::Letter('z')),
            ("yyyy ZZZ", PatternError::Letter('Z')),
            ("yyyy 'T", PatternError::Quote),
            ("", PatternError::NoYear),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap_err(), expected, "{pattern}");
        }
        assert!(matches!(Pattern::parse(&"y".repeat(201)), Err(PatternError::TooLong(201))));
    }
}
