//! Calendar time for plugins: reading and writing the time stamps of logs, without a time zone database.
//!
//! All arithmetic is on the proleptic Gregorian calendar. Offsets are those that the text states.

/// A point in time as a log line states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// 0 to 9999.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60: a leap second is read.
    pub second: u8,
    /// 0 to 999.
    pub millis: u16,
    /// Minutes east of UTC.
    pub offset: i16,
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar.
#[must_use]
pub fn days_from_civil(year: i64, month: u8, day: u8) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let month = i64::from(month);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Days of a month.
fn month_days(year: i64, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The date of a number of days since 1970-01-01: year, month, day.
#[must_use]
pub fn civil_from_days(days: i64) -> (i64, u8, u8) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = u8::try_from(doy - (153 * mp + 2) / 5 + 1).unwrap_or(1);
    let month = u8::try_from(if mp < 10 { mp + 3 } else { mp - 9 }).unwrap_or(1);
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

impl Stamp {
    /// The moment in UTC. Years outside 0 to 9999 are cut to that range.
    #[must_use]
    pub fn from_epoch_ms(ms: i64) -> Self {
        let days = ms.div_euclid(86_400_000);
        let of_day = ms.rem_euclid(86_400_000);
        let (year, month, day) = civil_from_days(days);
        let part = |value: i64| u8::try_from(value).unwrap_or(0);
        Self {
            year: year.clamp(0, 9999),
            month,
            day,
            hour: part(of_day / 3_600_000),
            minute: part(of_day / 60_000 % 60),
            second: part(of_day / 1000 % 60),
            millis: (of_day % 1000) as u16,
            offset: 0,
        }
    }

    /// Day of the week, 1 = Monday to 7 = Sunday (ISO 8601).
    #[must_use]
    pub fn weekday(&self) -> u8 {
        let days = days_from_civil(self.year, self.month, self.day);
        u8::try_from((days + 3).rem_euclid(7) + 1).unwrap_or(1)
    }

    /// Day of the year, from 1.
    #[must_use]
    pub fn day_of_year(&self) -> u16 {
        let days = days_from_civil(self.year, self.month, self.day) - days_from_civil(self.year, 1, 1);
        u16::try_from(days + 1).unwrap_or(1)
    }

    /// Whether every part is in its range (a leap second is allowed).
    #[must_use]
    pub fn is_valid(&self) -> bool {
        (1..=12).contains(&self.month)
            && self.day >= 1
            && self.day <= month_days(self.year, self.month)
            && self.hour < 24
            && self.minute < 60
            && self.second <= 60
            && (0..=9999).contains(&self.year)
            && self.offset.unsigned_abs() < 24 * 60
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn epoch_ms(&self) -> i64 {
        let days = days_from_civil(self.year, self.month, self.day);
        let minutes =
            (days * 24 + i64::from(self.hour)) * 60 + i64::from(self.minute) - i64::from(self.offset);
        (minutes * 60 + i64::from(self.second)) * 1000 + i64::from(self.millis)
    }

    /// Appends RFC 3339 text.
    pub fn write_rfc3339(&self, out: &mut Vec<u8>) {
        let two =
            |out: &mut Vec<u8>, value: u8| out.extend_from_slice(&[b'0' + value / 10, b'0' + value % 10]);
        let year = u16::try_from(self.year).unwrap_or(0);
        two(out, u8::try_from(year / 100).unwrap_or(0));
        two(out, (year % 100) as u8);
        out.push(b'-');
        two(out, self.month);
        out.push(b'-');
        two(out, self.day);
        out.push(b'T');
        two(out, self.hour);
        out.push(b':');
        two(out, self.minute);
        out.push(b':');
        two(out, self.second);
        if self.millis > 0 {
            out.push(b'.');
            out.push(b'0' + (self.millis / 100) as u8);
            two(out, (self.millis % 100) as u8);
        }
        if self.offset == 0 {
            out.push(b'Z');
        } else {
            out.push(if self.offset < 0 { b'-' } else { b'+' });
            let minutes = self.offset.unsigned_abs();
            two(out, (minutes / 60) as u8);
            out.push(b':');
            two(out, (minutes % 60) as u8);
        }
    }
}

/// `text` as a number, if it is nothing but digits.
fn digits(text: &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u32::from(digit);
    }
    Some(value)
}

fn small(text: &[u8]) -> Option<u8> {
    digits(text).and_then(|value| u8::try_from(value).ok())
}

/// The number of an English month's first three letters.
#[must_use]
pub fn month(name: &[u8]) -> Option<u8> {
    const NAMES: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    NAMES.chunks_exact(3).position(|known| known == name).and_then(|at| u8::try_from(at + 1).ok())
}

/// `+0200`, `+02:00` or `Z` as minutes east of UTC.
#[must_use]
pub fn offset(text: &[u8]) -> Option<i16> {
    let (sign, hours, minutes) = match text {
        [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => (sign, [*h1, *h2], [*m1, *m2]),
        _ => return None,
    };
    let total = i16::from(small(&hours)?) * 60 + i16::from(small(&minutes)?);
    match sign {
        b'+' => Some(total),
        b'-' => Some(-total),
        _ => None,
    }
}

/// `17/May/2015:10:05:03 +0000`.
#[must_use]
pub fn access(text: &[u8]) -> Option<Stamp> {
    let [d1, d2, b'/', n1, n2, n3, b'/', year @ .., b' ', z0, z1, z2, z3, z4] = text else { return None };
    let [y1, y2, y3, y4, b':', h1, h2, b':', m1, m2, b':', s1, s2] = year else { return None };
    let stamp = Stamp {
        year: i64::from(digits(&[*y1, *y2, *y3, *y4])?),
        month: month(&[*n1, *n2, *n3])?,
        day: small(&[*d1, *d2])?,
        hour: small(&[*h1, *h2])?,
        minute: small(&[*m1, *m2])?,
        second: small(&[*s1, *s2])?,
        millis: 0,
        offset: offset(&[*z0, *z1, *z2, *z3, *z4])?,
    };
    stamp.is_valid().then_some(stamp)
}

/// `2015-05-17T10:05:03.123456+02:00`; fractions below a millisecond are cut.
#[must_use]
pub fn rfc3339(text: &[u8]) -> Option<Stamp> {
    if text.len() < 20 || text[4] != b'-' || text[7] != b'-' || text[13] != b':' || text[16] != b':' {
        return None;
    }
    if !matches!(text[10], b'T' | b't' | b' ') {
        return None;
    }
    let (mut millis, mut rest) = (0, &text[19..]);
    if let Some(fraction) = rest.strip_prefix(b".") {
        let len = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digit = |at: usize| if at < len { u16::from(fraction[at] - b'0') } else { 0 };
        millis = digit(0) * 100 + digit(1) * 10 + digit(2);
        if len == 0 {
            return None;
        }
        rest = &fraction[len..];
    }
    let stamp = Stamp {
        year: i64::from(digits(&text[..4])?),
        month: small(&text[5..7])?,
        day: small(&text[8..10])?,
        hour: small(&text[11..13])?,
        minute: small(&text[14..16])?,
        second: small(&text[17..19])?,
        millis,
        offset: offset(rest)?,
    };
    stamp.is_valid().then_some(stamp)
}

/// A stamp without a year that lies further after the arrival than this is of the year before.
const AHEAD_MS: i64 = 2 * 86_400_000;

/// `May 17 10:05:03` of RFC 3164, which has no year: the latest one that does not put it more than two days after
/// `arrival` (nanoseconds since the epoch).
#[must_use]
pub fn bsd(text: &[u8], arrival: i64) -> Option<Stamp> {
    let [n1, n2, n3, b' ', d1, d2, b' ', h1, h2, b':', m1, m2, b':', s1, s2] = text else { return None };
    let arrival_ms = arrival.div_euclid(1_000_000);
    let (year, ..) = civil_from_days(arrival_ms.saturating_add(AHEAD_MS).div_euclid(86_400_000));
    let mut stamp = Stamp {
        year,
        month: month(&[*n1, *n2, *n3])?,
        day: if *d1 == b' ' { small(&[*d2])? } else { small(&[*d1, *d2])? },
        hour: small(&[*h1, *h2])?,
        minute: small(&[*m1, *m2])?,
        second: small(&[*s1, *s2])?,
        millis: 0,
        offset: 0,
    };
    // February 29 is only found in a leap year: at most eight years back.
    for _ in 0..9 {
        if stamp.is_valid() && stamp.epoch_ms() <= arrival_ms.saturating_add(AHEAD_MS) {
            return Some(stamp);
        }
        stamp.year -= 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(stamp: Stamp) -> String {
        let mut out = Vec::new();
        stamp.write_rfc3339(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn access_offset_is_kept_in_text_and_applied_in_epoch() {
        let stamp = access(b"17/May/2015:10:05:03 +0200").unwrap();
        assert_eq!(text(stamp), "2015-05-17T10:05:03+02:00");
        assert_eq!(stamp.epoch_ms(), 1_431_849_903_000);
        assert_eq!(access(b"17/May/2015:10:05:03 -0330").unwrap().offset, -210);
    }

    #[test]
    fn access_impossible_dates_are_none() {
        for bad in
            ["31/Feb/2015:10:05:03 +0000", "17/Mai/2015:10:05:03 +0000", "17/May/2015:25:05:03 +0000", ""]
        {
            assert_eq!(access(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn rfc3339_fraction_is_cut_to_milliseconds() {
        let stamp = rfc3339(b"2003-10-11T22:14:15.123999Z").unwrap();
        assert_eq!(text(stamp), "2003-10-11T22:14:15.123Z");
        assert_eq!(stamp.epoch_ms(), 1_065_910_455_123);
    }

    #[test]
    fn bsd_december_seen_in_january_is_last_year() {
        let january = 1_767_312_000_000_000_000; // 2026-01-02
        assert_eq!(bsd(b"Dec 31 23:59:59", january).unwrap().year, 2025);
        assert_eq!(bsd(b"Jan  2 00:00:00", january).unwrap().year, 2026);
        assert_eq!(bsd(b"Jan  5 00:00:00", january).unwrap().year, 2025);
        assert_eq!(bsd(b"Aug  2 00:00:00", january).unwrap().year, 2025);
        assert_eq!(bsd(b"Feb 29 00:00:00", january).unwrap().year, 2024);
        assert_eq!(bsd(b"Feb 30 00:00:00", january), None);
        let december = january - 3 * 86_400_000_000_000; // 2025-12-30
        assert_eq!(bsd(b"Jan  1 00:00:00", december).unwrap().year, 2026);
    }

    #[test]
    fn weekday_of_known_dates_is_iso() {
        assert_eq!(rfc3339(b"2026-11-22T00:00:00Z").unwrap().weekday(), 7);
        assert_eq!(rfc3339(b"1970-01-01T00:00:00Z").unwrap().weekday(), 4);
        assert_eq!(Stamp::from_epoch_ms(1_431_849_903_000).epoch_ms(), 1_431_849_903_000);
    }

    #[test]
    fn days_leap_years_are_counted() {
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(days_from_civil(2000, 3, 1), 11_017);
        assert_eq!(civil_from_days(days_from_civil(2024, 2, 29)), (2024, 2, 29));
    }
}
