//! Event time: the moment that a record states, in nanoseconds since 1970-01-01 UTC, and how it is written again.
//!
//! Refuses to guess: a text is RFC 3339, a number has the unit that the config names.

use serde::Deserialize;
use wasmill_sdk::path::Path;
use wasmill_sdk::time::{Stamp, rfc3339};
use wasmill_sdk::{Cell, Chunk, Field, Setup, is_object};

use crate::span::Span;

/// How a moment stands in a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeFormat {
    /// RFC 3339 text, to the nanosecond.
    #[default]
    Rfc3339,
    /// A number of seconds since 1970; parts of a second are read too.
    S,
    /// A number of milliseconds.
    Ms,
    /// A number of microseconds.
    Us,
    /// A number of nanoseconds.
    Ns,
}

impl TimeFormat {
    /// Nanoseconds of the unit; `None` for text.
    fn unit(self) -> Option<i64> {
        match self {
            Self::Rfc3339 => None,
            Self::S => Some(1_000_000_000),
            Self::Ms => Some(1_000_000),
            Self::Us => Some(1_000),
            Self::Ns => Some(1),
        }
    }

    /// Appends a moment as JSON. Numbers are whole: parts of the unit are cut.
    pub fn write(self, ns: i64, out: &mut Vec<u8>) {
        let Some(unit) = self.unit() else {
            out.push(b'"');
            write_rfc3339(ns, out);
            out.push(b'"');
            return;
        };
        out.extend_from_slice(ns.div_euclid(unit).to_string().as_bytes());
    }
}

/// Appends RFC 3339 text in UTC, with as many digits behind the second as it needs (0, 3, 6 or 9).
fn write_rfc3339(ns: i64, out: &mut Vec<u8>) {
    let (seconds, rest) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    Stamp::from_epoch_ms(seconds * 1000).write_rfc3339(out);
    if rest == 0 {
        return;
    }
    out.pop();
    let digits = format!("{rest:09}");
    let kept = if rest % 1_000_000 == 0 {
        3
    } else if rest % 1_000 == 0 {
        6
    } else {
        9
    };
    out.push(b'.');
    out.extend(digits.bytes().take(kept));
    out.push(b'Z');
}

/// RFC 3339 text as nanoseconds since the epoch; digits behind the ninth are cut.
#[must_use]
pub fn read_rfc3339(text: &[u8]) -> Option<i64> {
    let stamp = rfc3339(text)?;
    let mut nanos = 0_i64;
    if let Some(fraction) = text.get(19..).and_then(|rest| rest.strip_prefix(b".")) {
        let mut scale = 100_000_000;
        for digit in fraction.iter().take_while(|byte| byte.is_ascii_digit()) {
            nanos += i64::from(digit - b'0') * scale;
            scale /= 10;
        }
    }
    let seconds = (stamp.epoch_ms() - i64::from(stamp.millis)).div_euclid(1000);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// Where a transform finds the time of a record.
#[derive(Debug)]
pub struct EventTime {
    field: Option<(Field, String)>,
    format: TimeFormat,
    of_stream: bool,
}

impl EventTime {
    /// The time in a field, or where none is named the time of arrival.
    ///
    /// # Errors
    /// A format of a field that is not named.
    pub fn new(path: Option<&Path>, format: Option<TimeFormat>, setup: &mut Setup) -> Result<Self, String> {
        if path.is_none() && format.is_some() {
            return Err(
                "config: `time_format` says how the time stands in the field `time`, which is not given: name the field, or leave \
                 `time_format` out"
                    .to_owned(),
            );
        }
        Ok(Self {
            field: path.map(|path| (setup.field(&path.0), path.shown())),
            format: format.unwrap_or_default(),
            of_stream: false,
        })
    }

    /// The time in a field; where none is named that of the stream, in streams that have event time, else that of arrival.
    ///
    /// # Errors
    /// A format of a field that is not named; a `delay` beside the stream's event time, which has its own.
    pub fn or_of_stream(
        path: Option<&Path>,
        format: Option<TimeFormat>,
        delay: Span,
        setup: &mut Setup,
    ) -> Result<Self, String> {
        let of_field = Self::new(path, format, setup)?;
        if path.is_some() || !setup.has_event_time() {
            return Ok(of_field);
        }
        if !delay.is_zero() {
            return Err(
                "config: `delay` is that of the stream's `event_time`, whose watermark counts".to_owned()
            );
        }
        Ok(Self { of_stream: true, ..of_field })
    }

    /// Whether time and watermark are those that the host keeps of the stream.
    #[must_use]
    pub fn is_of_stream(&self) -> bool {
        self.of_stream
    }

    /// The watermark in front of each row, where the stream keeps it.
    #[must_use]
    pub fn watermarks(&self, rows: &Chunk<'_>) -> Option<Vec<i64>> {
        self.of_stream.then(|| rows.watermarks())
    }

    /// The moment of each row, or why it has none.
    pub fn read(&self, rows: &Chunk<'_>) -> Vec<Result<i64, String>> {
        if self.of_stream {
            let times = rows.event_times();
            let time = |row| times.get(row).ok_or_else(|| "it has no event time".to_owned());
            return (0..times.len()).map(time).collect();
        }
        let Some((field, name)) = &self.field else {
            return rows.arrival_times().into_iter().map(Ok).collect();
        };
        let mut payloads = None;
        let mut missing = |row| {
            let payloads = payloads.get_or_insert_with(|| rows.payloads());
            match is_object(payloads.get(row)) {
                true => format!("the time in `{name}` is missing"),
                false => "the record is not a JSON object".to_owned(),
            }
        };
        let Some(unit) = self.format.unit() else {
            let texts = rows.text(*field);
            return texts
                .iter()
                .enumerate()
                .map(|(row, cell)| match cell {
                    Cell::Value(text) => read_rfc3339(text).ok_or_else(|| {
                        format!("the time in `{name}` is no RFC 3339 text between 1677 and 2262")
                    }),
                    Cell::Missing | Cell::Null => Err(missing(row)),
                    Cell::Other => Err(format!(
                        "the time in `{name}` is no text (`time_format` names the unit of a number)"
                    )),
                })
                .collect();
        };
        let (ints, floats) = (rows.ints(*field), rows.floats(*field));
        (0..ints.len())
            .map(|row| match (ints.cell(row), floats.get(row)) {
                (Cell::Value(number), _) => number.checked_mul(unit).ok_or_else(|| out_of_range(name)),
                (_, Some(number)) => scaled(number, unit).ok_or_else(|| out_of_range(name)),
                (Cell::Missing | Cell::Null, _) => Err(missing(row)),
                (Cell::Other, _) => Err(format!("the time in `{name}` is no number (`time_format`)")),
            })
            .collect()
    }
}

fn out_of_range(name: &str) -> String {
    format!("the time in `{name}` is not between 1677 and 2262 (`time_format` names its unit)")
}

fn scaled(number: f64, unit: i64) -> Option<i64> {
    #[expect(clippy::cast_precision_loss, reason = "units are powers of ten that a float holds exactly")]
    let ns = (number * unit as f64).round();
    // 2^63 itself is out of range.
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    (ns.abs() < 9_223_372_036_854_775_808.0).then_some(ns as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ns: i64) -> String {
        let mut out = Vec::new();
        TimeFormat::Rfc3339.write(ns, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rfc3339_is_read_and_written_to_the_nanosecond() {
        for (written, ns) in [
            ("2015-05-17T10:05:03Z", 1_431_857_103_000_000_000),
            ("2015-05-17T10:05:03.120Z", 1_431_857_103_120_000_000),
            ("2015-05-17T10:05:03.000001Z", 1_431_857_103_000_001_000),
            ("2015-05-17T10:05:03.123456789Z", 1_431_857_103_123_456_789),
            ("1969-12-31T23:59:59.999999999Z", -1),
        ] {
            assert_eq!(read_rfc3339(written.as_bytes()), Some(ns), "{written}");
            assert_eq!(text(ns), format!("\"{written}\""));
        }
        assert_eq!(read_rfc3339(b"2015-05-17T12:05:03.5+02:00"), Some(1_431_857_103_500_000_000));
    }

    #[test]
    fn rfc3339_out_of_range_or_wrong_is_none() {
        for wrong in ["9999-01-01T00:00:00Z", "2015-05-17", "yesterday", "2015-05-17T10:05:03.Z"] {
            assert_eq!(read_rfc3339(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_are_written_in_their_unit_and_cut() {
        let mut out = Vec::new();
        TimeFormat::Ms.write(-1, &mut out);
        assert_eq!(out, b"-1");
        assert_eq!(scaled(1.5, 1_000_000_000), Some(1_500_000_000));
        assert_eq!(scaled(1e300, 1), None);
    }
}
