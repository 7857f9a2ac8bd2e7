//! Patterns of time, as Java's `DateTimeFormatter` has them in the locale of the United States.

use jiff::Zoned;
use jiff::civil::{Date, Weekday};

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
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const QUARTERS: [&str; 4] = ["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"];

/// Letters that are known, and how many of each may stand in a row.
const LETTERS: &[(char, usize, usize)] = &[
    ('y', 1, 19), // year of the era
    ('u', 1, 19), // year
    ('Y', 1, 19), // year that the week belongs to
    ('Q', 1, 5),  // quarter
    ('q', 1, 5),
    ('M', 1, 5), // month
    ('L', 1, 5),
    ('w', 1, 2), // week of the year
    ('d', 1, 2), // day of the month
    ('D', 1, 3), // day of the year
    ('E', 1, 5), // day of the week
    ('e', 1, 5), // the same, as a number up to two letters
    ('a', 1, 1), // half of the day
    ('h', 1, 2), // hour from 1 to 12
    ('K', 1, 2), // hour from 0 to 11
    ('H', 1, 2), // hour from 0 to 23
    ('k', 1, 2), // hour from 1 to 24
    ('m', 1, 2),
    ('s', 1, 2),
    ('S', 1, 9),  // fraction of the second
    ('n', 1, 19), // nanosecond
    ('z', 1, 3),  // short name of the zone
    ('V', 2, 2),  // id of the zone
    ('Z', 1, 5),  // offset
    ('x', 1, 5),
    ('X', 1, 5), // offset, Z for none
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(String),
    Field { letter: char, count: usize },
}

/// A pattern that can be formatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
}

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct PatternError {
    /// Where in the pattern, in bytes.
    pub at: usize,
    pub what: String,
}

impl Pattern {
    /// # Errors
    /// A letter that is not supported or stands too often in a row, a reserved character, an open quote, no pattern at all.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        if text.is_empty() {
            return Err(PatternError {
                at: 0,
                what: "the pattern is empty, expected one such as yyyy/MM/dd".to_owned(),
            });
        }
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let at = text.len() - rest.len();
            let length = match first {
                '\'' => quoted(rest, at, &mut tokens)?,
                letter if letter.is_ascii_alphabetic() => {
                    let count = rest.len() - rest.trim_start_matches(letter).len();
                    tokens.push(field(letter, count, at)?);
                    count
                }
                '[' | ']' | '{' | '}' | '#' => {
                    let what =
                        format!("{first:?} is reserved in patterns of time, write '{first}' in quotes");
                    return Err(PatternError { at, what });
                }
                other => {
                    literal(&mut tokens, other.encode_utf8(&mut [0; 4]));
                    other.len_utf8()
                }
            };
            rest = &rest[length..];
        }
        Ok(Pattern { tokens })
    }

    /// The text of this moment, after what is in `out`.
    pub fn format(&self, moment: &Zoned, out: &mut String) {
        for token in &self.tokens {
            match token {
                Token::Literal(text) => out.push_str(text),
                Token::Field { letter, count } => format_field(*letter, *count, moment, out),
            }
        }
    }
}

fn literal(tokens: &mut Vec<Token>, text: &str) {
    match tokens.last_mut() {
        Some(Token::Literal(last)) => last.push_str(text),
        _ => tokens.push(Token::Literal(text.to_owned())),
    }
}

/// Takes a quoted piece and says how long it was. Two quotes are one, within a piece and outside.
fn quoted(rest: &str, at: usize, tokens: &mut Vec<Token>) -> Result<usize, PatternError> {
    if rest.starts_with("''") {
        literal(tokens, "'");
        return Ok(2);
    }
    let mut length = 1;
    loop {
        let Some(piece) = rest[length..].find('\'') else {
            return Err(PatternError { at, what: "the quote is not closed".to_owned() });
        };
        literal(tokens, &rest[length..length + piece]);
        length += piece + 1;
        if !rest[length..].starts_with('\'') {
            return Ok(length);
        }
        literal(tokens, "'");
        length += 1;
    }
}

fn field(letter: char, count: usize, at: usize) -> Result<Token, PatternError> {
    let Some((_, min, max)) = LETTERS.iter().find(|(known, _, _)| *known == letter) else {
        let known: String = LETTERS.iter().map(|(known, _, _)| *known).collect();
        let what = format!(
            "the letter {letter:?} is not supported in patterns of time, expected one of {known}, or quotes around it"
        );
        return Err(PatternError { at, what });
    };
    if (*min..=*max).contains(&count) {
        return Ok(Token::Field { letter, count });
    }
    let expected = if min == max { max.to_string() } else { format!("{min} to {max}") };
    Err(PatternError {
        at,
        what: format!("the letter {letter:?} stands {count} times in a row, expected {expected}"),
    })
}

fn format_field(letter: char, count: usize, moment: &Zoned, out: &mut String) {
    let date = moment.date();
    let hour = i64::from(moment.hour());
    match letter {
        'y' => year(era_year(date.year()), count, out),
        'u' => year(i64::from(date.year()), count, out),
        'Y' => year(week(date).0, count, out),
        'Q' | 'q' => {
            let quarter = usize::from(date.month().unsigned_abs() - 1) / 3;
            match count {
                3 => padded(quarter as i64 + 1, 1, "Q", out),
                4 => out.push_str(QUARTERS[quarter]),
                5 => padded(quarter as i64 + 1, 1, "", out),
                _ => padded(quarter as i64 + 1, count, "", out),
            }
        }
        'M' | 'L' if count >= 3 => name(MONTHS[usize::from(date.month().unsigned_abs()) - 1], count, out),
        'M' | 'L' => padded(i64::from(date.month()), count, "", out),
        'w' => padded(week(date).1, count, "", out),
        'd' => padded(i64::from(date.day()), count, "", out),
        'D' => padded(i64::from(date.day_of_year()), count, "", out),
        'e' if count < 3 => padded(day_of_week(date) as i64 + 1, count, "", out),
        'E' | 'e' => name(DAYS[day_of_week(date)], count.max(3), out),
        'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
        'h' => padded((hour + 11) % 12 + 1, count, "", out),
        'K' => padded(hour % 12, count, "", out),
        'H' => padded(hour, count, "", out),
        'k' => padded((hour + 23) % 24 + 1, count, "", out),
        'm' => padded(i64::from(moment.minute()), count, "", out),
        's' => padded(i64::from(moment.second()), count, "", out),
        'S' => out.push_str(&format!("{:09}", moment.subsec_nanosecond())[..count]),
        'n' => padded(i64::from(moment.subsec_nanosecond()), count, "", out),
        'z' => out.push_str(moment.time_zone().to_offset_info(moment.timestamp()).abbreviation()),
        'V' => out.push_str(moment.time_zone().iana_name().unwrap_or("UTC")),
        // What is left are offsets; `field` lets no other letter through.
        _ => offset(letter, count, moment.offset().seconds(), out),
    }
}

fn padded(value: i64, width: usize, before: &str, out: &mut String) {
    out.push_str(&format!("{before}{value:0width$}"));
}

fn era_year(year: i16) -> i64 {
    let year = i64::from(year);
    if year > 0 { year } else { 1 - year }
}

fn year(year: i64, count: usize, out: &mut String) {
    match count {
        2 => padded(year.abs() % 100, 2, "", out),
        _ => padded(year, count, "", out),
    }
}

/// Three letters, the whole, or one.
fn name(whole: &str, count: usize, out: &mut String) {
    out.push_str(match count {
        3 => &whole[..3],
        4 => whole,
        _ => &whole[..1],
    });
}

/// Days since Sunday.
fn day_of_week(date: Date) -> usize {
    usize::from(date.weekday().to_sunday_zero_offset().unsigned_abs())
}

/// The year that a week belongs to and its number there. Weeks begin on Sunday, and the first has the first of January.
fn week(date: Date) -> (i64, i64) {
    let year = i64::from(date.year());
    let days_to_saturday = 6 - day_of_week(date) as i64;
    let days_in_year = i64::from(date.days_in_year());
    if i64::from(date.day_of_year()) + days_to_saturday > days_in_year {
        return (year + 1, 1);
    }
    let first_day = date.first_of_year().weekday().since(Weekday::Sunday);
    (year, (i64::from(date.day_of_year()) - 1 + i64::from(first_day)) / 7 + 1)
}

fn offset(letter: char, count: usize, seconds: i32, out: &mut String) {
    if seconds == 0 && (letter == 'X' || (letter == 'Z' && count == 5)) {
        out.push('Z');
        return;
    }
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes, rest) =
        (seconds.unsigned_abs() / 3600, seconds.unsigned_abs() / 60 % 60, seconds.unsigned_abs() % 60);
    let colon = if count == 3 || count == 5 || (letter == 'Z' && count == 4) { ":" } else { "" };
    if letter == 'Z' && count < 4 {
        out.push_str(&format!("{sign}{hours:02}{minutes:02}"));
        return;
    }
    if letter == 'Z' && count == 4 {
        out.push_str("GMT");
        if seconds == 0 {
            return;
        }
    }
    out.push_str(&format!("{sign}{hours:02}"));
    if count > 1 || minutes > 0 {
        out.push_str(&format!("{colon}{minutes:02}"));
    }
    if count > 3 && rest > 0 {
        out.push_str(&format!("{colon}{rest:02}"));
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use jiff::{Timestamp, civil};

    use super::*;

    fn format(pattern: &str, moment: &str, zone: TimeZone) -> String {
        let mut out = String::new();
        Pattern::parse(pattern)
            .unwrap()
            .format(&moment.parse::<Timestamp>().unwrap().to_zoned(zone), &mut out);
        out
    }

    fn tokyo() -> TimeZone {
        super::super::time_zone(Some("Asia/Tokyo")).unwrap()
    }

    #[test]
    fn each_letter_is_formatted_as_java_does() {
        // A Tuesday, in the 36th week.
        let at = "2026-09-01T04:05:06.007080900Z";
        for (pattern, expected) in [
            ("yyyy/MM/dd/HH/", "2026/09/01/04/"),
            ("y yy yyy yyyyy u uu uuuu", "2026 26 2026 02026 2026 26 2026"),
            ("Q QQ QQQ QQQQ QQQQQ q", "3 03 Q3 3rd quarter 3 3"),
            ("M MM MMM MMMM MMMMM L LLLL", "9 09 Sep September S 9 September"),
            ("YYYY w ww", "2026 36 36"),
            ("d dd D DDD", "1 01 244 244"),
            ("E EEE EEEE EEEEE e ee eee eeee", "Tue Tue Tuesday T 3 03 Tue Tuesday"),
            ("a h hh K KK H HH k kk", "AM 4 04 4 04 4 04 4 04"),
            ("m mm s ss", "5 05 6 06"),
            ("S SSS SSSSSS SSSSSSSSS n", "0 007 007080 007080900 7080900"),
            ("z VV Z ZZZZ ZZZZZ x xx xxx X XX", "UTC UTC +0000 GMT Z +00 +0000 +00:00 Z Z"),
            ("'year='yyyy''MM 'o''clock'", "year=2026'09 o'clock"),
            ("yyyy-MM-dd_HH.mm:ss", "2026-09-01_04.05:06"),
            ("dd.MM.yyyy \u{fc}", "01.09.2026 \u{fc}"),
        ] {
            assert_eq!(format(pattern, at, TimeZone::UTC), expected, "{pattern}");
        }
    }

    #[test]
    fn hours_have_four_clocks_and_they_differ_at_noon_and_midnight() {
        for (at, expected) in [
            ("2026-01-01T00:00:00Z", "AM 12 0 0 24"),
            ("2026-01-01T12:00:00Z", "PM 12 0 12 12"),
            ("2026-01-01T23:00:00Z", "PM 11 11 23 23"),
        ] {
            assert_eq!(format("a h K H k", at, TimeZone::UTC), expected);
        }
    }

    #[test]
    fn a_zone_shifts_the_clock_and_names_itself() {
        let at = "2026-12-31T20:00:00Z";
        assert_eq!(format("yyyy/MM/dd/HH", at, tokyo()), "2027/01/01/05");
        assert_eq!(
            format("z VV Z ZZZZ ZZZZZ x xx xxx xxxx xxxxx X XX XXX", at, tokyo()),
            "JST Asia/Tokyo +0900 GMT+09:00 +09:00 +09 +0900 +09:00 +0900 +09:00 +09 +0900 +09:00"
        );
        let india = super::super::time_zone(Some("Asia/Kolkata")).unwrap();
        assert_eq!(format("X x xxx", at, india), "+0530 +0530 +05:30");
        let new_york = super::super::time_zone(Some("America/New_York")).unwrap();
        assert_eq!(format("z X", at, new_york.clone()), "EST -05");
        assert_eq!(format("z X", "2026-07-01T00:00:00Z", new_york), "EDT -04");
    }

    #[test]
    fn weeks_begin_on_sunday_and_the_first_has_the_first_of_january() {
        // 2026-01-01 is a Thursday; the year 2022 begins on a Saturday, whose week is the first all the same.
        for (date, expected) in [
            (civil::date(2025, 12, 27), (2025, 52)),
            (civil::date(2025, 12, 28), (2026, 1)),
            (civil::date(2026, 1, 3), (2026, 1)),
            (civil::date(2026, 1, 4), (2026, 2)),
            (civil::date(2022, 1, 1), (2022, 1)),
            (civil::date(2022, 1, 2), (2022, 2)),
            (civil::date(2022, 12, 31), (2022, 53)),
            (civil::date(2016, 2, 25), (2016, 9)),
        ] {
            assert_eq!(week(date), expected, "{date}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_place() {
        for (pattern, at, expected) in [
            ("", 0, "the pattern is empty"),
            ("yyyy/B", 5, "the letter 'B' is not supported in patterns of time, expected one of yuY"),
            ("MMMMMM", 0, "the letter 'M' stands 6 times in a row, expected 1 to 5"),
            ("V", 0, "the letter 'V' stands 1 times in a row, expected 2"),
            ("zzzz", 0, "expected 1 to 3"),
            ("yyyy[MM]", 4, "'[' is reserved"),
            ("yyyy'", 4, "the quote is not closed"),
            ("'a''b", 0, "the quote is not closed"),
        ] {
            let error = Pattern::parse(pattern).unwrap_err();
            assert_eq!(error.at, at, "{pattern}");
            assert!(error.what.contains(expected), "{pattern}: {error}");
        }
    }
}
