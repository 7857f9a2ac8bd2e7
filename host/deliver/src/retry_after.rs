//! The `Retry-After` header: seconds, or a date of HTTP's.
//!
//! What cannot be read counts as absent, and no destination may make us wait longer than an hour.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// Longest wish that is honoured.
const AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// The wait that the header's value asks for, from now.
pub(crate) fn retry_after(value: &str) -> Option<Duration> {
    retry_after_at(value, Timestamp::now())
}

fn retry_after_at(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 has are a very long time.
        return Some(value.parse().map_or(AFTER_MAX, Duration::from_secs).min(AFTER_MAX));
    }
    let date = DateTimeParser::new().parse_timestamp(value).ok()?;
    let wait = Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO);
    Some(wait.min(AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_seconds_and_dates_read() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let seconds = |value| retry_after_at(value, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(seconds(" 120 "), Some(120));
        assert_eq!(seconds("99999999999999999999999999"), Some(3600));
        assert_eq!(seconds("Sun, 22 Nov 2026 10:00:30 GMT"), Some(30));
        assert_eq!(seconds("Sun, 22 Nov 2026 09:00:00 GMT"), Some(0));
        assert_eq!(seconds("Sun, 22 Nov 2099 09:00:00 GMT"), Some(3600));
        assert_eq!(seconds(""), None);
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds("-1"), None);
    }
}
