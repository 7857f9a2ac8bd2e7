//! The time of a record: where it stands and how it is written.
//!
//! Fields are read as plugins read them. Refuses to guess: a text is what the format says, a number has the unit that it names,
//! and nothing outside 1677 to 2262 is a time.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use regex::bytes::Regex;
use wasmill_chunk::{Chunk, ChunkLimits, Input, Layout, Misuse, RowsId, state};
use wasmill_config::{self as config, TimeFormat, TimeSource};

use super::NO_TIME;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Reader {
    source: Source,
    format: TimeFormat,
    /// What the source is called, for reasons.
    named: String,
}

#[derive(Debug)]
enum Source {
    Field(Arc<Layout>),
    Pattern(Regex),
}

/// Why a record has no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Missing,
    /// The value has another type than the format asks for.
    OtherType,
    /// The pattern is not there.
    NoMatch,
    /// The text is not written like that.
    Text,
    Range,
    Ahead,
    /// The record could not be looked into at all.
    Unread,
}

impl Reader {
    pub(super) fn new(written: &config::EventTime) -> Result<Reader, String> {
        let (source, named) = match &written.source {
            TimeSource::Field(path) => {
                let layout = Layout::new(&[vec![path.clone()]]).map_err(|error| error.to_string())?;
                (Source::Field(Arc::new(layout)), format!("field {:?}", path.join(".")))
            }
            TimeSource::Pattern(pattern) => {
                let regex = Regex::new(pattern).map_err(|error| error.to_string())?;
                (Source::Pattern(regex), format!("pattern {pattern:?}"))
            }
        };
        Ok(Reader { source, format: written.format.clone(), named })
    }

    /// For whoever looks at the letter.
    pub(super) fn reason(&self, why: Why) -> String {
        let named = &self.named;
        let wanted = match &self.format {
            TimeFormat::Rfc3339 => "RFC 3339 text".to_owned(),
            TimeFormat::Number(_) => "a number".to_owned(),
            TimeFormat::Strptime(pattern) => format!("text such as {pattern:?}"),
        };
        let what = match why {
            Why::Missing => format!("{named} is missing or null, or the record is no JSON object"),
            Why::OtherType | Why::Text => format!("{named} has something else than {wanted}"),
            Why::NoMatch => format!("{named} is not in the record"),
            Why::Range => format!("{named} has a time that is not between 1677 and 2262"),
            Why::Ahead => {
                return format!(
                    "event time: {named} is further ahead of the record's arrival than \"ahead\" allows"
                );
            }
            Why::Unread => format!("the record is too large for {named} to be looked for"),
        };
        format!("no event time: {what}")
    }

    /// One for each row, nanoseconds since the epoch.
    pub(super) fn read(&self, input: &Input<'_>) -> Vec<Result<i64, Why>> {
        match &self.source {
            Source::Pattern(regex) => {
                let rows = 0..input.payloads.len();
                rows.map(|row| {
                    let found = regex.captures(input.payloads.get(row)).and_then(|found| found.get(1));
                    self.text(found.ok_or(Why::NoMatch)?.as_bytes())
                })
                .collect()
            }
            Source::Field(layout) => self
                .fields(layout, input)
                .unwrap_or_else(|_misuse| input.rows().map(|_| Err(Why::Unread)).collect()),
        }
    }

    fn fields(&self, layout: &Arc<Layout>, input: &Input<'_>) -> Result<Vec<Result<i64, Why>>, Misuse> {
        let mut chunk = Chunk::new(Arc::clone(layout), ChunkLimits::default());
        chunk.begin(input, input.rows())?;
        chunk.enter(0, 0);
        let why = |found: u8| match found {
            state::MISSING | state::NULL => Why::Missing,
            _ => Why::OtherType,
        };
        let TimeFormat::Number(unit) = self.format else {
            let texts = chunk.get_text(RowsId::MAIN, 0)?;
            let states = texts.state.iter().zip(texts.iter());
            return Ok(states.map(|(found, text)| self.text(text.ok_or(why(*found))?)).collect());
        };
        let ints = chunk.get_ints(RowsId::MAIN, 0)?;
        let whole: Vec<Result<i64, u8>> = ints
            .state
            .iter()
            .zip(ints.values)
            .map(|(found, value)| if *found == state::VALUE { Ok(*value) } else { Err(*found) })
            .collect();
        if whole.iter().all(|value| !matches!(value, Err(state::OTHER))) {
            return Ok(whole.into_iter().map(|value| scaled_int(value.map_err(why)?, unit)).collect());
        }
        let floats = chunk.get_floats(RowsId::MAIN, 0)?;
        let floats = floats.state.iter().zip(floats.values);
        let read = whole.into_iter().zip(floats).map(|(whole, (found, float))| match whole {
            Ok(value) => scaled_int(value, unit),
            Err(_) if *found == state::VALUE => scaled_float(*float, unit),
            Err(_) => Err(why(*found)),
        });
        Ok(read.collect())
    }

    fn text(&self, text: &[u8]) -> Result<i64, Why> {
        let as_text = || std::str::from_utf8(text).map_err(|_no_utf8| Why::Text);
        match &self.format {
            TimeFormat::Rfc3339 => in_range(as_text()?.parse::<Timestamp>().map_err(|_wrong| Why::Text)?),
            TimeFormat::Strptime(pattern) => {
                let read = strtime::parse(pattern, text).map_err(|_wrong| Why::Text)?;
                // Without an offset it is UTC.
                let moment = match read.offset() {
                    Some(_) => read.to_timestamp(),
                    None => read.to_datetime().and_then(|moment| TimeZone::UTC.to_timestamp(moment)),
                };
                in_range(moment.or_else(|_| read.to_timestamp()).map_err(|_wrong| Why::Text)?)
            }
            TimeFormat::Number(unit) => {
                let text = as_text()?.trim();
                match text.parse::<i64>() {
                    Ok(value) => scaled_int(value, *unit),
                    Err(_) => scaled_float(text.parse().map_err(|_wrong| Why::Text)?, *unit),
                }
            }
        }
    }
}

fn in_range(moment: Timestamp) -> Result<i64, Why> {
    i64::try_from(moment.as_nanosecond()).ok().filter(|ns| *ns != NO_TIME).ok_or(Why::Range)
}

fn scaled_int(value: i64, unit: i64) -> Result<i64, Why> {
    value.checked_mul(unit).filter(|ns| *ns != NO_TIME).ok_or(Why::Range)
}

fn scaled_float(value: f64, unit: i64) -> Result<i64, Why> {
    // 2^63 itself is out of range; so is what is no number.
    if value.is_nan() || value.abs() >= 9_223_372_036_854_775_808.0 {
        return Err(Why::Range);
    }
    // The parts of the unit by themselves: in one float there are not digits enough for both.
    #[expect(clippy::cast_precision_loss, reason = "units are powers of ten that a float holds exactly")]
    let parts = (value.fract() * unit as f64).round();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range is checked, and parts are less than a unit"
    )]
    let (whole, parts) = (value.trunc() as i64, parts as i64);
    let ns = whole.checked_mul(unit).and_then(|whole| whole.checked_add(parts));
    ns.filter(|ns| *ns != NO_TIME).ok_or(Why::Range)
}
