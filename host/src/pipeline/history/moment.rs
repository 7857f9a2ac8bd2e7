//! Moments as people write them: RFC 3339, `now`, or so long ago (`-2h`); and back to RFC 3339 in UTC.
//!
//! Nanoseconds since 1970, as arrivals are. It reads no clock and knows no time zones but offsets.

const EXPECTED: &str =
    "expected a time such as 2026-01-31T12:00:00Z, now, or so long ago: -90s, -30m, -2h, -7d";
const SECOND: i64 = 1_000_000_000;
const DAY_S: i64 = 86_400;

/// The moment that `text` means at `now`.
///
/// # Errors
/// What would be right.
pub fn parse_moment(text: &str, now: i64) -> Result<i64, String> {
    let moment = match text.strip_prefix('-') {
        Some(ago) => before(ago, now),
        None if text == "now" => Some(i128::from(now)),
        None => rfc3339(text),
    };
    let moment = moment.ok_or_else(|| format!("{text:?} is no time, {EXPECTED}"))?;
    i64::try_from(moment).map_err(|_out_of_range| {
        let (first, last) = (moment_text(i64::MIN), moment_text(i64::MAX));
        format!("{text:?} is out of range, expected a time from {first} to {last}")
    })
}

/// In nanoseconds, as they are: perhaps more than arrivals have.
fn before(ago: &str, now: i64) -> Option<i128> {
    let digits = ago.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = ago.split_at_checked(digits)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => DAY_S,
        _ => return None,
    };
    let number: i64 = number.parse().ok()?;
    Some(i128::from(now) - i128::from(number) * i128::from(seconds * SECOND))
}

fn rfc3339(text: &str) -> Option<i128> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let is = |at: usize, any: &str| text.get(at..at + 1).is_some_and(|found| any.contains(found));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let shape = is(4, "-") && is(7, "-") && is(10, "Tt ") && is(13, ":") && is(16, ":");
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !shape || !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let (written, after) = fraction.split_at_checked(digits)?;
        if !(1..=9).contains(&digits) {
            return None;
        }
        nanos = written.parse::<i64>().ok()? * 10_i64.pow(9 - u32::try_from(digits).ok()?);
        rest = after;
    }
    let offset = match rest {
        "Z" | "z" => 0,
        _ => {
            let at = text.len().checked_sub(6)?;
            let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            if rest.len() != 6 || !is(at + 3, ":") || hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 3_600 + minutes * 60;
            match text.get(at..at + 1)? {
                "+" => offset,
                "-" => -offset,
                _ => return None,
            }
        }
    };
    let seconds = days_before(year, month, day) * DAY_S + hour * 3_600 + minute * 60 + second - offset;
    Some(i128::from(seconds) * i128::from(SECOND) + i128::from(nanos))
}

/// Days from 1970-01-01 to this date.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// RFC 3339 in UTC, with as many digits of the second as there are.
pub fn moment_text(ns: i64) -> String {
    let (seconds, nanos) = (ns.div_euclid(SECOND), ns.rem_euclid(SECOND));
    let (days, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let fraction = match nanos {
        0 => String::new(),
        nanos => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    };
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moment_is_read_in_every_form_and_written_in_utc() {
        let now = 1_700_000_000 * SECOND;
        for (text, moment) in [
            ("now", now),
            ("-2h", now - 7_200 * SECOND),
            ("-90s", now - 90 * SECOND),
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-25T23:19:50Z", 1_795_648_790 * SECOND),
            ("2026-11-25T23:19:50.25Z", 1_795_648_790 * SECOND + 250_000_000),
            ("2026-11-26T01:19:50+02:00", 1_795_648_790 * SECOND),
            ("2000-02-29t12:00:00-00:30", 951_827_400 * SECOND),
        ] {
            assert_eq!(parse_moment(text, now), Ok(moment), "{text}");
            assert_eq!(parse_moment(&moment_text(moment), now), Ok(moment), "{text}");
        }
        assert_eq!(moment_text(1_795_648_790 * SECOND + 250_000_000), "2026-11-25T23:19:50.25Z");
        assert_eq!(moment_text(-1), "1969-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn what_is_no_moment_is_refused_with_what_would_be() {
        for text in [
            "",
            "-",
            "-2",
            "-2w",
            "yesterday",
            "2026-11-25",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-25T24:00:00Z",
            "2026-11-25T23:19:50",
            "2026-11-25T23:19:50.Z",
            "2026-11-25T23:19:50+0200",
            "2026-11-25T23:19:50.1234567890Z",
            "-99999999999999999999d",
            "+026-01-01T00:00:00Z",
        ] {
            assert!(parse_moment(text, 0).unwrap_err().contains("expected a time such as"), "{text}");
        }
    }

    #[test]
    fn moment_beyond_what_arrivals_count_is_out_of_range_and_the_bounds_are_said() {
        for text in ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "-9999999999999999d"] {
            let said = parse_moment(text, 0).unwrap_err();
            assert!(said.contains("is out of range") && said.contains("to 2262-04-11T23:47:16"), "{said}");
        }
        assert_eq!(parse_moment("2262-04-11T23:47:16.854775807Z", 0), Ok(i64::MAX));
    }
}
