//! Checks of a stream's `event_time` table.

use std::time::Duration;

use jiff::fmt::strtime;
use jiff::tz::{Offset, TimeZone};

use crate::names;
use crate::raw;
use crate::resolve::Resolver;
use crate::settings::{EventTime, Late, Output, TimeFormat, TimeSource, Unreadable};
use crate::state::path;

/// Longest delay and lateness: times are counted in 63 bits of nanoseconds.
const SPAN_MAX: Duration = Duration::from_secs(3_650 * 86_400);
/// The shortest time without records that counts as idle.
const IDLE_MIN: Duration = Duration::from_millis(10);

/// What a format of times looks like, for messages.
const FORMATS: &str =
    "\"rfc3339\", \"s\", \"ms\", \"us\", \"ns\" or a pattern of strptime such as \"%d/%b/%Y:%H:%M:%S %z\"";

pub(crate) fn event_time(
    resolver: &mut Resolver<'_>,
    stream: &str,
    written: raw::EventTime,
    outputs: &[Output],
    names_known: bool,
) -> EventTime {
    let key = format!("{stream}.event_time");
    let source = source(resolver, &key, &written);
    let format = format(&written.format).unwrap_or_else(|why| {
        let format = &written.format;
        resolver.problem(&format!("{key}.format"), format!("{format:?} {why}, expected {FORMATS}"));
        TimeFormat::Rfc3339
    });
    let mut span = |name: &str, span: Duration, least: Duration| {
        if span > SPAN_MAX || span < least {
            let message = match least {
                Duration::ZERO => format!("\"{name}\" must be at most 3650d"),
                least => format!("\"{name}\" must be from {}ms to 3650d", least.as_millis()),
            };
            resolver.problem(&format!("{key}.{name}"), message);
        }
        span.clamp(least, SPAN_MAX)
    };
    let delay = span("delay", written.delay.0, Duration::ZERO);
    let lateness = span("lateness", written.lateness.0, Duration::ZERO);
    let idle_timeout = written.idle_timeout.map(|idle| span("idle_timeout", idle.0, IDLE_MIN));
    let ahead = written.ahead.map(|ahead| span("ahead", ahead.0, Duration::ZERO));
    let late = late(resolver, &key, &written, outputs, names_known);
    let unreadable = match written.unreadable {
        raw::Unreadable::Fail => Unreadable::Fail,
        raw::Unreadable::Drop => Unreadable::Drop,
        raw::Unreadable::Keep => Unreadable::Keep,
    };
    EventTime { source, format, delay, idle_timeout, lateness, late, unreadable, ahead }
}

fn source(resolver: &mut Resolver<'_>, key: &str, written: &raw::EventTime) -> TimeSource {
    match (&written.field, &written.pattern) {
        (Some(field), None) => {
            if let Some(names) = path(field) {
                return TimeSource::Field(names);
            }
            let message =
                format!("{field:?} is no field, expected its name, such as \"ts\" or \"request.time\"");
            resolver.problem(&format!("{key}.field"), message);
        }
        (None, Some(pattern)) => match regex::bytes::Regex::new(pattern) {
            Ok(regex) if regex.captures_len() == 2 => {}
            Ok(regex) => {
                let message = format!(
                    "the pattern has {} groups, expected one around the time, such as \"\\\\[([^\\\\]]+)\\\\]\"",
                    regex.captures_len() - 1
                );
                resolver.problem(&format!("{key}.pattern"), message);
            }
            Err(error) => {
                // What it is in one line: the rest draws an arrow below the pattern.
                let text = error.to_string();
                let what = text.lines().next_back().unwrap_or_default().trim_start_matches("error: ");
                resolver.problem(&format!("{key}.pattern"), format!("no regular expression: {what}"));
            }
        },
        (Some(_), Some(_)) => {
            let message = "there are \"field\" and \"pattern\", expected one of them";
            resolver.problem(key, message);
        }
        (None, None) => {
            let message = "\"event_time\" needs one of \"field\" (of JSON) and \"pattern\" (a regular expression over the record)";
            resolver.problem(key, message);
        }
    }
    TimeSource::Pattern(written.pattern.clone().unwrap_or_default())
}

/// The format, if times can be read by it.
fn format(written: &str) -> Result<TimeFormat, &'static str> {
    Ok(match written {
        "rfc3339" => TimeFormat::Rfc3339,
        "s" => TimeFormat::Number(1_000_000_000),
        "ms" => TimeFormat::Number(1_000_000),
        "us" => TimeFormat::Number(1_000),
        "ns" => TimeFormat::Number(1),
        pattern if pattern.contains('%') => {
            // What it writes of a moment must be that moment again.
            let zone = TimeZone::fixed(Offset::constant(0));
            let moment = jiff::Timestamp::constant(1_431_857_103, 0).to_zoned(zone);
            let text = strtime::format(pattern, &moment).map_err(|_why| "is no pattern of strptime")?;
            let parsed = strtime::parse(pattern, &text).map_err(|_why| "cannot be read again")?;
            let read = parsed
                .to_timestamp()
                .or_else(|_| parsed.to_datetime().and_then(|moment| TimeZone::UTC.to_timestamp(moment)));
            let read = read.map_err(|_why| "says not which moment it is: it needs date and time")?;
            if read.as_second().abs_diff(moment.timestamp().as_second()) >= 60 {
                return Err("says not which moment it is: it needs date and time");
            }
            TimeFormat::Strptime(pattern.to_owned())
        }
        _ => return Err("is no format of times"),
    })
}

fn late(
    resolver: &mut Resolver<'_>,
    key: &str,
    written: &raw::EventTime,
    outputs: &[Output],
    names_known: bool,
) -> Late {
    let name_key = format!("{key}.late_output");
    match (written.late, &written.late_output) {
        (raw::Late::Route, Some(wanted)) => {
            let Some(index) = outputs.iter().position(|output| output.name == *wanted) else {
                // An output that is bad may have had the name.
                if names_known {
                    let valid: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
                    let hint = names::suggestion(wanted, &valid);
                    resolver.problem(
                        &name_key,
                        format!("late_output {wanted:?} is no output of this stream{hint}"),
                    );
                }
                return Late::Keep;
            };
            Late::Route(index)
        }
        (raw::Late::Route, None) => {
            resolver.problem(
                &format!("{key}.late"),
                "late = \"route\" needs \"late_output\", the name of an output of this stream",
            );
            Late::Keep
        }
        (_, Some(_)) => {
            resolver.problem(&name_key, "\"late_output\" needs late = \"route\"");
            Late::Keep
        }
        (raw::Late::Keep, None) => Late::Keep,
        (raw::Late::Drop, None) => Late::Drop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_that_says_which_moment_it_is_is_taken() {
        for good in ["%d/%b/%Y:%H:%M:%S %z", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%.f", "%s"] {
            assert_eq!(format(good), Ok(TimeFormat::Strptime(good.to_owned())));
        }
        assert_eq!(format("ms"), Ok(TimeFormat::Number(1_000_000)));
        for (wrong, why) in [
            ("%H:%M:%S", "date and time"),
            ("%Y-%m-%d", "date and time"),
            ("%!", "no pattern"),
            ("iso", "no format"),
            ("", "no format"),
        ] {
            let told = format(wrong).unwrap_err();
            assert!(told.contains(why), "{wrong}: {told}");
        }
    }
}
