//! Constraints that are violated, in the words of AWS.

use std::fmt;

use crate::wire::{Kind, Refusal};

/// Longest piece of a value that is repeated, in characters.
const SHOWN_MAX: usize = 256;
/// Most violations that are told of one request; the number that is said is of all.
const TOLD_MAX: usize = 64;

/// Where a member is in a request. Displayed as `records.1.member.data`.
#[derive(Clone, Copy, Debug)]
pub enum At<'a> {
    Root,
    Member(&'a At<'a>, &'static str),
    /// Counted from 0; displayed from 1.
    Item(&'a At<'a>, usize),
}

impl At<'_> {
    /// A member by its name on the wire.
    pub fn member(&self, name: &'static str) -> At<'_> {
        At::Member(self, name)
    }

    /// A member of a list.
    pub fn item(&self, index: usize) -> At<'_> {
        At::Item(self, index)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Root => Ok(()),
            At::Member(At::Root, name) => lower_first(f, name),
            At::Member(parent, name) => {
                write!(f, "{parent}.")?;
                lower_first(f, name)
            }
            At::Item(parent, index) => write!(f, "{parent}.{}.member", index + 1),
        }
    }
}

fn lower_first(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let mut rest = name.chars();
    match rest.next() {
        Some(first) => write!(f, "{}{}", first.to_ascii_lowercase(), rest.as_str()),
        None => Ok(()),
    }
}

/// A pattern as the API Reference has it, and how a text is told to match the whole of it.
pub(crate) struct Pattern {
    pub(crate) shown: &'static str,
    pub(crate) matches: fn(&str) -> bool,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Violations {
    told: Vec<String>,
    count: usize,
}

impl Violations {
    fn add(&mut self, value: fmt::Arguments<'_>, at: At<'_>, constraint: fmt::Arguments<'_>) {
        self.count += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(format!(
                "Value{value} at '{at}' failed to satisfy constraint: Member must {constraint}"
            ));
        }
    }

    pub fn required(&mut self, at: At<'_>, is_there: bool) {
        if !is_there {
            self.add(format_args!(" null"), at, format_args!("not be null"));
        }
    }

    /// Of a list.
    pub fn count(&mut self, at: At<'_>, count: usize, min: usize, max: usize) {
        self.bounded(format_args!(""), at, count, min, max);
    }

    /// In characters.
    pub fn length(&mut self, at: At<'_>, text: &str, min: usize, max: usize) {
        self.bounded(format_args!(" '{}'", shown(text)), at, text.chars().count(), min, max);
    }

    /// In characters, of a text that is not to be repeated.
    pub fn length_of_secret(&mut self, at: At<'_>, text: &str, max: usize) {
        self.bounded(format_args!(""), at, text.chars().count(), 0, max);
    }

    fn bounded(&mut self, value: fmt::Arguments<'_>, at: At<'_>, length: usize, min: usize, max: usize) {
        if length < min {
            self.add(value, at, format_args!("have length greater than or equal to {min}"));
        } else if length > max {
            self.add(value, at, format_args!("have length less than or equal to {max}"));
        }
    }

    /// Of bytes; shown as AWS shows them.
    pub fn blob_too_long(&mut self, at: At<'_>, bytes: usize, max: usize) {
        let value = format_args!(" 'java.nio.HeapByteBuffer[pos=0 lim={bytes} cap={bytes}]'");
        self.add(value, at, format_args!("have length less than or equal to {max}"));
    }

    pub(crate) fn pattern(&mut self, at: At<'_>, text: &str, pattern: &Pattern) {
        if !(pattern.matches)(text) {
            let constraint = format_args!("satisfy regular expression pattern: {}", pattern.shown);
            self.add(format_args!(" '{}'", shown(text)), at, constraint);
        }
    }

    pub fn range(&mut self, at: At<'_>, value: i64, min: i64, max: i64) {
        if value < min {
            self.add(
                format_args!(" '{value}'"),
                at,
                format_args!("have value greater than or equal to {min}"),
            );
        } else if value > max {
            self.add(format_args!(" '{value}'"), at, format_args!("have value less than or equal to {max}"));
        }
    }

    /// A share between 0 and 1.
    pub fn share(&mut self, at: At<'_>, value: f64) {
        if value < 0.0 {
            self.add(format_args!(" '{value}'"), at, format_args!("have value greater than or equal to 0"));
        } else if value > 1.0 {
            self.add(format_args!(" '{value}'"), at, format_args!("have value less than or equal to 1"));
        }
    }

    pub fn one_of(&mut self, at: At<'_>, text: &str, set: &[&str]) {
        if !set.contains(&text) {
            let constraint = format_args!("satisfy enum value set: [{}]", set.join(", "));
            self.add(format_args!(" '{}'", shown(text)), at, constraint);
        }
    }

    /// # Errors
    /// `ValidationException`, if anything was found.
    pub fn finish(self) -> Result<(), Refusal> {
        if self.count == 0 {
            return Ok(());
        }
        let plural = if self.count == 1 { "" } else { "s" };
        let message = format!("{} validation error{plural} detected: {}", self.count, self.told.join("; "));
        Err(Refusal::new(Kind::Validation, message))
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_violation_is_told_in_the_singular_with_its_path() {
        let mut violations = Violations::default();
        let at = At::Root;
        let destination = at.member("ExtendedS3DestinationConfiguration");
        let hints = destination.member("BufferingHints");
        violations.range(hints.member("SizeInMBs"), 129, 1, 128);
        assert_eq!(
            violations.finish().unwrap_err().message,
            "1 validation error detected: Value '129' at 'extendedS3DestinationConfiguration.bufferingHints.sizeInMBs' failed to \
             satisfy constraint: Member must have value less than or equal to 128"
        );
    }

    #[test]
    fn sets_are_listed_and_long_values_are_cut() {
        let mut violations = Violations::default();
        let long = "x".repeat(300);
        violations.one_of(At::Root.member("S3BackupMode"), &long, &["Disabled", "Enabled"]);
        let message = violations.finish().unwrap_err().message;
        assert!(message.ends_with("...' at 's3BackupMode' failed to satisfy constraint: Member must satisfy enum value set: [Disabled, Enabled]"));
        assert!(message.len() < 450, "{}", message.len());
    }

    #[test]
    fn a_flood_of_violations_is_counted_and_not_told_in_full() {
        let mut violations = Violations::default();
        for index in 0..500 {
            violations.required(At::Root.item(index), false);
        }
        let message = violations.finish().unwrap_err().message;
        assert!(message.starts_with("500 validation errors detected: "), "{message}");
        assert_eq!(message.matches("Member must").count(), TOLD_MAX);
    }

    #[test]
    fn nothing_found_is_no_refusal() {
        let mut violations = Violations::default();
        violations.required(At::Root, true);
        violations.range(At::Root, 0, 0, 900);
        violations.length(At::Root, "ä", 1, 1);
        assert!(violations.finish().is_ok());
    }
}
