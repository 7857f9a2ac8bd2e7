//! Which letters somebody means: the same words on the command line and in a query.

use super::letter::{DeadLetter, Stage};

/// Every condition that is set must hold. The default means all letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// First and last number of each range.
    pub numbers: Option<Vec<(u64, u64)>>,
    pub stage: Option<Stage>,
    /// Name of the transform or output.
    pub at: Option<String>,
    /// Name of the source that the record came from.
    pub source: Option<String>,
    /// First and last offset.
    pub from_offset: Option<i64>,
    pub to_offset: Option<i64>,
    /// The record became a letter before, or not before: nanoseconds since the epoch.
    pub failed_before: Option<i64>,
    pub failed_since: Option<i64>,
    /// Part of the reason.
    pub reason: Option<String>,
}

impl Filter {
    /// Sets one condition from its name and text; false when there is none of this name. `now` is what ages count from.
    pub fn set(&mut self, name: &str, text: &str, now: i64) -> Result<bool, String> {
        let wrong = |expected: &str| format!("{name} {text:?} is not understood, expected {expected}");
        let offset = || text.parse().map(Some).map_err(|_no_number| wrong("an offset"));
        let ago = || ago(text, now).map(Some).ok_or_else(|| wrong("an age such as 90s, 30m, 24h or 7d"));
        match name {
            "number" => {
                let numbers: Option<Vec<_>> = ranges(text).collect();
                let numbers = numbers.ok_or_else(|| wrong("numbers such as 17 or 3,7-9"))?;
                // Numbers begin at 1.
                if numbers.iter().any(|(first, last)| *first == 0 || first > last) {
                    return Err(format!(
                        "{name} {text:?} means no letter, expected numbers from 1 on, and the first of a range before its last"
                    ));
                }
                self.numbers = Some(numbers);
            }
            "stage" => self.stage = Some(text.parse()?),
            "at" => self.at = Some(text.to_owned()),
            "source" => self.source = Some(text.to_owned()),
            "from_offset" => self.from_offset = offset()?,
            "to_offset" => self.to_offset = offset()?,
            "older_than" => self.failed_before = ago()?,
            "newer_than" => self.failed_since = ago()?,
            "reason" => self.reason = Some(text.to_owned()),
            _ => return Ok(false),
        }
        match (self.from_offset, self.to_offset) {
            (Some(from), Some(to)) if from > to => {
                Err(format!("from_offset {from} is above to_offset {to}, which means no letter"))
            }
            _ => Ok(true),
        }
    }

    /// Whether it means all letters.
    pub fn is_empty(&self) -> bool {
        *self == Filter::default()
    }

    pub fn matches(&self, letter: &DeadLetter) -> bool {
        fn holds<T>(wanted: Option<&T>, test: impl FnOnce(&T) -> bool) -> bool {
            wanted.is_none_or(test)
        }
        holds(self.numbers.as_ref(), |ranges| {
            ranges.iter().any(|(first, last)| (*first..=*last).contains(&letter.number))
        }) && holds(self.stage.as_ref(), |stage| *stage == letter.stage)
            && holds(self.at.as_ref(), |at| letter.transform == *at || letter.output.as_ref() == Some(at))
            && holds(self.source.as_ref(), |source| letter.source.as_ref() == Some(source))
            && holds(self.from_offset.as_ref(), |from| letter.offset >= *from)
            && holds(self.to_offset.as_ref(), |to| letter.offset <= *to)
            && holds(self.failed_before.as_ref(), |before| letter.failed < *before)
            && holds(self.failed_since.as_ref(), |since| letter.failed >= *since)
            && holds(self.reason.as_ref(), |part| letter.reason.contains(part.as_str()))
    }
}

fn ranges(text: &str) -> impl Iterator<Item = Option<(u64, u64)>> {
    text.split(',').map(|part| {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        Some((first.parse().ok()?, last.parse().ok()?))
    })
}

/// The time so long before `now`; with or without the minus that moments have.
fn ago(text: &str, now: i64) -> Option<i64> {
    let text = text.strip_prefix('-').unwrap_or(text);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let number: i64 = number.parse().ok()?;
    now.checked_sub(number.checked_mul(seconds)?.checked_mul(1_000_000_000)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_of_each_name_is_understood_or_refused() {
        let mut filter = Filter::default();
        let now = 100_000_000_000_000;
        for (name, text) in [
            ("number", "3, 7-9"),
            ("stage", "encode"),
            ("source", "web"),
            ("from_offset", "-1"),
            ("older_than", "-1h"),
            ("newer_than", "1d"),
        ] {
            assert_eq!(filter.set(name, text, now), Ok(true), "{name}");
        }
        assert_eq!(filter.numbers, Some(vec![(3, 3), (7, 9)]));
        assert_eq!(
            (filter.failed_before, filter.failed_since),
            (Some(96_400_000_000_000), Some(13_600_000_000_000))
        );
        assert_eq!(filter.set("colour", "red", now), Ok(false));
        for (name, text) in [
            ("number", ""),
            ("number", "3-"),
            ("number", "0"),
            ("number", "4,9-7"),
            ("stage", "parse"),
            ("to_offset", "x"),
            ("older_than", "5"),
            ("older_than", "d"),
            ("newer_than", "99999999999999999d"),
        ] {
            assert!(filter.set(name, text, now).is_err(), "{name} {text}");
        }
        // Whichever of the two comes last.
        for (first, second) in [("from_offset", "to_offset"), ("to_offset", "from_offset")] {
            let mut filter = Filter::default();
            let of = |name| if name == "from_offset" { "9" } else { "3" };
            assert_eq!(filter.set(first, of(first), now), Ok(true));
            let said = filter.set(second, of(second), now).unwrap_err();
            assert_eq!(said, "from_offset 9 is above to_offset 3, which means no letter");
        }
    }
}
