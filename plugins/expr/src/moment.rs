//! Time in expressions: epoch milliseconds, texts that state a time, and formats in the manner of `strftime`.

use wasmill_sdk::time::{self, Stamp};

use crate::value::Value;

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

/// A time: epoch milliseconds, or a text in RFC 3339 or access-log form. In UTC.
pub(crate) fn of(value: &Value<'_>) -> Option<Stamp> {
    match value {
        Value::Int(ms) => Some(Stamp::from_epoch_ms(*ms)),
        Value::Float(ms) => Some(Stamp::from_epoch_ms(*ms as i64)),
        Value::Text(text) => read(text.as_bytes()).map(|stamp| Stamp::from_epoch_ms(stamp.epoch_ms())),
        _ => None,
    }
}

fn read(text: &[u8]) -> Option<Stamp> {
    time::rfc3339(text).or_else(|| time::access(text))
}

/// Epoch milliseconds of a text, by `format` or else in RFC 3339 or access-log form.
pub(crate) fn parse(text: &str, format: Option<&str>) -> Option<i64> {
    let stamp = match format {
        None => read(text.as_bytes())?,
        Some(format) => by_format(text, format)?,
    };
    Some(stamp.epoch_ms())
}

/// Takes a number of at most `width` digits from the front.
fn number(rest: &mut &str, width: usize) -> Option<i64> {
    let len = rest.bytes().take(width).take_while(u8::is_ascii_digit).count();
    let value = rest.get(..len)?.parse().ok()?;
    *rest = rest.get(len..)?;
    Some(value)
}

/// Takes one of the names, whole or its first three letters; gives its number from 1.
fn name(rest: &mut &str, names: &[&str]) -> Option<u8> {
    for (at, name) in names.iter().enumerate() {
        for shown in [*name, name.get(..3)?] {
            if rest.get(..shown.len()).is_some_and(|found| found.eq_ignore_ascii_case(shown)) {
                *rest = rest.get(shown.len()..)?;
                return u8::try_from(at + 1).ok();
            }
        }
    }
    None
}

fn by_format(text: &str, format: &str) -> Option<Stamp> {
    let small = |value: i64| u8::try_from(value).ok();
    let mut stamp =
        Stamp { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0, millis: 0, offset: 0 };
    let (mut rest, mut chars) = (text, format.chars());
    let mut afternoon = None;
    while let Some(c) = chars.next() {
        if c != '%' {
            rest = rest.strip_prefix(c)?;
            continue;
        }
        match chars.next()? {
            'Y' => stamp.year = number(&mut rest, 4)?,
            'm' => stamp.month = small(number(&mut rest, 2)?)?,
            'd' | 'e' => {
                rest = rest.trim_start_matches(' ');
                stamp.day = small(number(&mut rest, 2)?)?;
            }
            'H' | 'I' => stamp.hour = small(number(&mut rest, 2)?)?,
            'M' => stamp.minute = small(number(&mut rest, 2)?)?,
            'S' => stamp.second = small(number(&mut rest, 2)?)?,
            'p' => {
                afternoon = Some(rest.get(..2)?.eq_ignore_ascii_case("pm"));
                rest = rest.get(2..)?;
            }
            'b' | 'B' => stamp.month = name(&mut rest, &MONTHS)?,
            'a' | 'A' => {
                name(&mut rest, &DAYS)?;
            }
            'f' => {
                let len = rest.bytes().take_while(u8::is_ascii_digit).count();
                let digits = rest.get(..len).filter(|digits| !digits.is_empty())?;
                stamp.millis = format!("{digits}000").get(..3)?.parse().ok()?;
                rest = rest.get(len..)?;
            }
            'z' => {
                let len =
                    if rest.starts_with(['Z', 'z']) { 1 } else { 5 + usize::from(rest.get(3..4)? == ":") };
                stamp.offset = time::offset(rest.get(..len)?.as_bytes())?;
                rest = rest.get(len..)?;
            }
            's' => stamp = Stamp::from_epoch_ms(number(&mut rest, 12)?.checked_mul(1000)?),
            '%' => rest = rest.strip_prefix('%')?,
            _ => return None,
        }
    }
    if let Some(afternoon) = afternoon {
        stamp.hour = stamp.hour % 12 + if afternoon { 12 } else { 0 };
    }
    (rest.is_empty() && stamp.is_valid()).then_some(stamp)
}

/// Writes a time by `format`, in UTC. An unknown directive gives `None`.
pub(crate) fn format(stamp: &Stamp, format: Option<&str>) -> Option<String> {
    use std::fmt::Write as _;
    let Some(format) = format else {
        let mut out = Vec::new();
        stamp.write_rfc3339(&mut out);
        return String::from_utf8(out).ok();
    };
    let month = MONTHS.get(usize::from(stamp.month) - 1)?;
    let weekday = DAYS.get(usize::from(stamp.weekday()) - 1)?;
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let written = match chars.next()? {
            'Y' => write!(out, "{:04}", stamp.year),
            'm' => write!(out, "{:02}", stamp.month),
            'd' => write!(out, "{:02}", stamp.day),
            'e' => write!(out, "{:2}", stamp.day),
            'H' => write!(out, "{:02}", stamp.hour),
            'I' => write!(out, "{:02}", (stamp.hour + 11) % 12 + 1),
            'M' => write!(out, "{:02}", stamp.minute),
            'S' => write!(out, "{:02}", stamp.second),
            'p' => write!(out, "{}", if stamp.hour < 12 { "AM" } else { "PM" }),
            'f' => write!(out, "{:03}", stamp.millis),
            'b' => write!(out, "{}", month.get(..3)?),
            'B' => write!(out, "{month}"),
            'a' => write!(out, "{}", weekday.get(..3)?),
            'A' => write!(out, "{weekday}"),
            'j' => write!(out, "{:03}", stamp.day_of_year()),
            'u' => write!(out, "{}", stamp.weekday()),
            'z' => write!(out, "+0000"),
            's' => write!(out, "{}", stamp.epoch_ms().div_euclid(1000)),
            '%' => write!(out, "%"),
            _ => return None,
        };
        written.ok()?;
    }
    Some(out)
}
