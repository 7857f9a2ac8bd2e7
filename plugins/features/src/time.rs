//! Time on circles: the time of day, of the week and of the year as angles, so that 23:59 lies beside 0:00.
//!
//! Position = (sin 2πf, cos 2πf), f the fraction of the circle that has passed (the usual cyclical encoding, see
//! for instance scikit-learn's example "Time-related feature engineering"). Zones are fixed distances from UTC;
//! there is no daylight saving. Leap seconds count as the second before.

use crate::config::{Part, TimeUnit};

const DAY: i64 = 86_400;

/// Reads an RFC 3339 time: seconds since the epoch and nanoseconds. The zone is required.
#[must_use]
pub fn rfc3339(text: &[u8]) -> Option<(i64, u32)> {
    let digits = |from: usize, count: usize| -> Option<i64> {
        let digits = text.get(from..from + count)?;
        let all = digits.iter().all(u8::is_ascii_digit);
        all.then(|| digits.iter().fold(0, |number, byte| number * 10 + i64::from(byte - b'0')))
    };
    let is = |at: usize, wanted: &[u8]| text.get(at).is_some_and(|byte| wanted.contains(byte));
    let (year, month, day) = (digits(0, 4)?, digits(5, 2)?, digits(8, 2)?);
    let (hour, minute, second) = (digits(11, 2)?, digits(14, 2)?, digits(17, 2)?);
    let separators = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !separators || !in_range {
        return None;
    }
    let (mut at, mut nanos) = (19, 0u32);
    if is(19, b".") {
        let count = text[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        for place in 0..9 {
            let digit = if place < count { u32::from(text[20 + place] - b'0') } else { 0 };
            nanos = nanos * 10 + digit;
        }
        at = 20 + count;
    }
    let offset = match text.get(at)? {
        b'Z' | b'z' if at + 1 == text.len() => 0,
        b'+' | b'-' => zone(text.get(at..)?)?,
        _ => return None,
    };
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second.min(59);
    Some((seconds - offset, nanos))
}

/// Reads `+hh:mm` or `-hh:mm` in seconds.
#[must_use]
pub fn zone(text: &[u8]) -> Option<i64> {
    let [sign, h1, h2, b':', m1, m2] = text else { return None };
    let number = |high: &u8, low: &u8| {
        (high.is_ascii_digit() && low.is_ascii_digit())
            .then(|| i64::from(high - b'0') * 10 + i64::from(low - b'0'))
    };
    let (hours, minutes) = (number(h1, h2)?, number(m1, m2)?);
    let seconds = (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)?;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

/// Seconds and nanoseconds of a number since the epoch; `None` far outside of the calendar.
#[must_use]
pub fn number(value: f64, unit: TimeUnit) -> Option<(i64, u32)> {
    let seconds = match unit {
        TimeUnit::S => value,
        TimeUnit::Ms => value / 1e3,
        TimeUnit::Us => value / 1e6,
        TimeUnit::Ns => value / 1e9,
    };
    let whole = libm::floor(seconds);
    if whole.is_nan() || whole.abs() > 1e11 {
        return None;
    }
    // Below one second, so below 2^30 nanoseconds.
    Some((whole as i64, ((seconds - whole) * 1e9) as u32))
}

/// The fraction of a circle that has passed.
#[must_use]
pub fn fraction(seconds: i64, nanos: u32, part: Part) -> f64 {
    let (day, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let passed = second as f64 + f64::from(nanos) / 1e9;
    match part {
        Part::TimeOfDay => passed / DAY as f64,
        // 1 January 1970 was a Thursday.
        Part::DayOfWeek => ((day + 3).rem_euclid(7) as f64 * DAY as f64 + passed) / (7 * DAY) as f64,
        Part::DayOfYear => {
            let year = year(day);
            let first = days(year, 1, 1);
            let length = days(year + 1, 1, 1) - first;
            ((day - first) as f64 * DAY as f64 + passed) / (length * DAY) as f64
        }
    }
}

/// Sine and cosine of a fraction of a circle.
#[must_use]
pub fn circle(fraction: f64) -> (f64, f64) {
    let angle = std::f64::consts::TAU * fraction;
    (libm::sin(angle), libm::cos(angle))
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1 January 1970 to a day of the Gregorian calendar; years are counted from March, so that the leap day
/// comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

/// The year of a day.
fn year(day: i64) -> i64 {
    // At most one off, since 400 years have 146,097 days.
    let mut year = 1970 + (day * 400).div_euclid(146_097);
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    while days(year, 1, 1) > day {
        year -= 1;
    }
    year
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc3339_known_times_agree() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some((0, 0))),
            ("2026-11-22T00:00:00Z", Some((1_795_305_600, 0))),
            ("2000-02-29T12:30:15.25+02:00", Some((951_820_215, 250_000_000))),
            ("1969-12-31T23:59:59-00:00", Some((-1, 0))),
            ("1900-03-01 00:00:00z", Some((-2_203_891_200, 0))),
            ("2016-12-31T23:59:60Z", Some((1_483_228_799, 0))),
            ("2001-02-29T00:00:00Z", None),
            ("2026-11-22T00:00:00", None),
            ("2026-11-22T24:00:00Z", None),
            ("2026-11-22T00:00:00.Z", None),
            ("2026-11-22T00:00:00Zx", None),
            ("2026-11-22", None),
            ("", None),
        ] {
            assert_eq!(rfc3339(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn fraction_known_times_agree() {
        // 2026-11-22 is a Sunday, day 326 of 365.
        let noon = 1_795_305_600 + 43_200;
        assert_eq!(fraction(noon, 0, Part::TimeOfDay), 0.5);
        assert!((fraction(noon, 0, Part::DayOfWeek) - 6.5 / 7.0).abs() < 1e-15);
        assert!((fraction(noon, 0, Part::DayOfYear) - 325.5 / 365.0).abs() < 1e-15);
        assert_eq!(fraction(-1, 500_000_000, Part::TimeOfDay), (86_399.5) / 86_400.0);
    }

    proptest! {
        #[test]
        fn year_and_days_agree(day in -800_000i64..3_000_000) {
            let year = year(day);
            prop_assert!(days(year, 1, 1) <= day && day < days(year + 1, 1, 1));
        }

        #[test]
        fn rfc3339_any_bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(rfc3339(&text).is_none_or(|(_, nanos)| nanos < 1_000_000_000));
        }
    }
}
