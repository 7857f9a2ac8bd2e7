//! Object names from a template.
//!
//! A template is literal text and `{placeholders}`; it must contain `{batch}`, which makes every
//! name unique. Dates come from the batch's arrival time, in UTC. Values that come from data
//! (partitions) and from config (stream, output) pass `sanitise`, so they can never add a step to
//! the path, leave it, or name a hidden file. A template whose names could grow longer than a file
//! system takes is refused when it is parsed, so rendering cannot fail. Names as Amazon Data Firehose gives them have a
//! grammar of their own ([`NameTemplate::firehose`]).

mod firehose;

use std::fmt::Write;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use xxhash_rust::xxh3::xxh3_64;

use crate::batch_id::BATCH_ID_LENGTH;

pub use firehose::FirehoseNames;
pub use wasmill_firehose::prefix::ErrorOutputType;

/// Longest sanitised value, in bytes.
const VALUE_BYTES_MAX: usize = 96;
/// `-` and 16 hex digits: what stands in for the tail of a longer value.
const HASH_BYTES: usize = 17;
/// Longest extension, in bytes.
const EXTENSION_BYTES_MAX: usize = 24;
/// Longest step of a name: what file systems take.
const STEP_BYTES_MAX: usize = 255;
/// Longest name: S3 takes 1,024 bytes, of which the prefix needs some.
const NAME_BYTES_MAX: usize = 900;
/// Prefix of placeholders that name a partition.
const PARTITION: &str = "partition.";
/// What the user may write, for messages and for the nearest name.
const NAMES: [&str; 9] = ["stream", "output", "batch", "extension", "year", "month", "day", "hour", "minute"];

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Parts { parts: Vec<Part>, partitions: Vec<String> },
    Firehose(Box<firehose::Names>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Stream,
    Output,
    Batch,
    Extension,
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Partition(String),
}

/// Why a template was refused. `position` is a byte offset into it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("unknown placeholder {{{name}}} at position {position}{}", hint(.nearest))]
    UnknownPlaceholder { position: usize, name: String, nearest: Option<&'static str> },
    #[error("the placeholder that starts at position {position} has no closing brace")]
    Unclosed { position: usize },
    #[error("closing brace without an opening one at position {position}")]
    Unopened { position: usize },
    #[error("{{partition.NAME}} at position {position} names no partition")]
    NoPartitionName { position: usize },
    #[error("{problem} at position {position}")]
    BadPath { position: usize, problem: &'static str },
    #[error("the template must contain {{batch}}, or objects would share a name")]
    NoBatch,
    #[error(
        "names could have {bytes} bytes between two slashes, more than {STEP_BYTES_MAX}; give partitions directories of their own"
    )]
    StepTooLong { bytes: usize },
    #[error("names could have {bytes} bytes, more than {NAME_BYTES_MAX}")]
    NameTooLong { bytes: usize },
    /// Of names as Firehose gives them.
    #[error("{message}")]
    Expression { message: String },
}

fn hint(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {{{nearest}}}?"),
        None => format!("; valid are {{{}}} and {{partition.NAME}}", NAMES.join("}, {")),
    }
}

/// What a name is made from.
#[derive(Clone, Copy, Debug)]
pub struct NameContext<'a> {
    pub stream: &'a str,
    pub output: &'a str,
    pub batch_id: &'a str,
    /// With its dot, such as `.ndjson.zst`.
    pub extension: &'a str,
    /// What of it is of the codec, such as `.zst`, or nothing.
    pub codec_extension: &'a str,
    /// Of the batch's first record, in nanoseconds since 1970.
    pub arrival: i64,
    /// Names and values; a name that the template wants and that is missing here gives `_`.
    pub partition: &'a [(&'a str, &'a [u8])],
    /// Of an object of what failed.
    pub error: Option<ErrorOutputType>,
}

impl NameTemplate {
    pub fn parse(template: &str) -> Result<NameTemplate, TemplateError> {
        let mut parts = Vec::new();
        let mut partitions: Vec<String> = Vec::new();
        let mut at = 0;
        while at < template.len() {
            let rest = template.get(at..).unwrap_or_default();
            if let Some(inner) = rest.strip_prefix('{') {
                let Some((name, _)) = inner.split_once('}') else {
                    return Err(TemplateError::Unclosed { position: at });
                };
                let part = placeholder(name, at)?;
                if let Part::Partition(name) = &part
                    && !partitions.contains(name)
                {
                    partitions.push(name.clone());
                }
                parts.push(part);
                at += name.len() + 2;
                continue;
            }
            let length = rest.find(['{', '}']).unwrap_or(rest.len());
            if length == 0 {
                return Err(TemplateError::Unopened { position: at });
            }
            let literal = rest.get(..length).unwrap_or_default();
            check_bytes(literal, at)?;
            parts.push(Part::Literal(literal.to_owned()));
            at += length;
        }
        if !parts.contains(&Part::Batch) {
            return Err(TemplateError::NoBatch);
        }
        check_steps(template)?;
        check_lengths(&parts)?;
        Ok(NameTemplate(Kind::Parts { parts, partitions }))
    }

    /// Names as Amazon Data Firehose gives them: this prefix, evaluated, and a suffix with stream, version, time and a UUID.
    ///
    /// # Errors
    /// [`TemplateError::Expression`]: the prefix or what stands beside it is not as Firehose has it.
    pub fn firehose(prefix: &str, names: &FirehoseNames) -> Result<NameTemplate, TemplateError> {
        Ok(NameTemplate(Kind::Firehose(Box::new(firehose::Names::parse(prefix, names)?))))
    }

    pub fn is_firehose(&self) -> bool {
        matches!(self.0, Kind::Firehose(_))
    }

    /// Names of the partitions that the template uses, each once.
    pub fn partitions(&self) -> &[String] {
        match &self.0 {
            Kind::Parts { partitions, .. } => partitions,
            Kind::Firehose(names) => names.partitions(),
        }
    }

    /// Literal text before the first placeholder: the prefix that all objects share.
    pub fn literal_prefix(&self) -> &str {
        match &self.0 {
            Kind::Parts { parts, .. } => match parts.first() {
                Some(Part::Literal(literal)) => literal,
                _ => "",
            },
            Kind::Firehose(names) => names.literal_prefix(),
        }
    }

    /// The name of one object.
    pub fn render(&self, context: &NameContext<'_>) -> String {
        let parts = match &self.0 {
            Kind::Parts { parts, .. } => parts,
            Kind::Firehose(names) => return names.render(context),
        };
        let time = utc(context.arrival);
        let mut name = String::with_capacity(256);
        for part in parts {
            let written = match part {
                Part::Literal(literal) => name.write_str(literal),
                Part::Stream => name.write_str(&sanitise(context.stream.as_bytes())),
                Part::Output => name.write_str(&sanitise(context.output.as_bytes())),
                Part::Batch => name.write_str(context.batch_id),
                Part::Extension => name.write_str(context.extension),
                Part::Year => write!(name, "{:04}", time.year()),
                Part::Month => write!(name, "{:02}", time.month()),
                Part::Day => write!(name, "{:02}", time.day()),
                Part::Hour => write!(name, "{:02}", time.hour()),
                Part::Minute => write!(name, "{:02}", time.minute()),
                Part::Partition(wanted) => {
                    let value = context.partition.iter().find(|(found, _)| found == wanted);
                    name.write_str(&sanitise(value.map_or(b"".as_slice(), |(_, value)| value)))
                }
            };
            debug_assert!(written.is_ok(), "a String takes everything");
        }
        name
    }
}

fn utc(nanoseconds: i64) -> Zoned {
    // Every i64 of nanoseconds lies within the library's range (year -9999 to 9999).
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default().to_zoned(TimeZone::UTC)
}

fn placeholder(name: &str, position: usize) -> Result<Part, TemplateError> {
    if let Some(partition) = name.strip_prefix(PARTITION) {
        if partition.is_empty() {
            return Err(TemplateError::NoPartitionName { position });
        }
        return Ok(Part::Partition(partition.to_owned()));
    }
    Ok(match name {
        "stream" => Part::Stream,
        "output" => Part::Output,
        "batch" => Part::Batch,
        "extension" => Part::Extension,
        "year" => Part::Year,
        "month" => Part::Month,
        "day" => Part::Day,
        "hour" => Part::Hour,
        "minute" => Part::Minute,
        unknown => {
            let nearest = NAMES
                .into_iter()
                .chain(["partition.NAME"])
                .map(|valid| (strsim::damerau_levenshtein(unknown, valid), valid))
                .min()
                .filter(|(distance, valid)| *distance <= valid.len() / 2)
                .map(|(_, valid)| valid);
            return Err(TemplateError::UnknownPlaceholder { position, name: unknown.to_owned(), nearest });
        }
    })
}

/// Refuses literal text that not every destination can hold.
fn check_bytes(literal: &str, at: usize) -> Result<(), TemplateError> {
    for (index, character) in literal.char_indices() {
        let problem = match character {
            '\\' => "a backslash",
            character if character.is_control() => "a control character",
            _ => continue,
        };
        return Err(TemplateError::BadPath { position: at + index, problem });
    }
    Ok(())
}

/// Refuses steps that are empty or lead elsewhere; a step with a placeholder is never one of these.
fn check_steps(template: &str) -> Result<(), TemplateError> {
    let mut position = 0;
    for step in template.split('/') {
        let problem = match step {
            "" if position == 0 => "a leading slash",
            "" => "an empty step",
            "." | ".." => "a step of dots only",
            step if step.starts_with(".wasmill") => "a step that is reserved",
            // `.{stream}` and `..{batch}`: what follows is never empty, but hidden files are no objects.
            step if step.starts_with('.') => "a step that starts with a dot",
            _ => {
                position += step.len() + 1;
                continue;
            }
        };
        return Err(TemplateError::BadPath { position, problem });
    }
    Ok(())
}

/// Refuses a template whose longest name would be too long.
fn check_lengths(parts: &[Part]) -> Result<(), TemplateError> {
    let (mut name, mut step) = (0, 0);
    for part in parts {
        let length = match part {
            Part::Literal(literal) => {
                for (index, text) in literal.split('/').enumerate() {
                    if index > 0 {
                        step = 0;
                    }
                    step += text.len();
                    if step > STEP_BYTES_MAX {
                        return Err(TemplateError::StepTooLong { bytes: step });
                    }
                }
                name += literal.len();
                continue;
            }
            Part::Stream | Part::Output | Part::Partition(_) => VALUE_BYTES_MAX,
            Part::Batch => BATCH_ID_LENGTH,
            Part::Extension => EXTENSION_BYTES_MAX,
            Part::Year => 4,
            Part::Month | Part::Day | Part::Hour | Part::Minute => 2,
        };
        name += length;
        step += length;
        if step > STEP_BYTES_MAX {
            return Err(TemplateError::StepTooLong { bytes: step });
        }
    }
    if name > NAME_BYTES_MAX {
        return Err(TemplateError::NameTooLong { bytes: name });
    }
    Ok(())
}

/// Makes any bytes one harmless step of a path, of at most 96 bytes.
///
/// `[A-Za-z0-9=._-]` stay, everything else is percent-encoded byte by byte; so are a leading dot and
/// values of dots only. The empty value is `_`, and the value `_` is `%5F`. What gets too long ends
/// with a hash of the whole value instead of its tail. Different values give different steps
/// (hash collisions of long ones aside; the batch id in the name tells those apart).
pub fn sanitise(value: &[u8]) -> String {
    match value {
        b"" => return "_".to_owned(),
        b"_" => return "%5F".to_owned(),
        _ => {}
    }
    let only_dots = value.iter().all(|&byte| byte == b'.');
    let mut step = String::with_capacity(value.len().min(VALUE_BYTES_MAX));
    // Where the tail would have to be cut: the last whole character that leaves room for the hash.
    let mut cut = 0;
    for (index, &byte) in value.iter().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'.' | b'_' | b'-');
        if plain && !(byte == b'.' && (only_dots || index == 0)) {
            step.push(char::from(byte));
        } else {
            step.push('%');
            for digit in [byte >> 4, byte & 15] {
                step.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
        if step.len() <= VALUE_BYTES_MAX - HASH_BYTES {
            cut = step.len();
        }
        if step.len() > VALUE_BYTES_MAX {
            step.truncate(cut);
            step.push_str(&format!("-{:016x}", xxh3_64(value)));
            return step;
        }
    }
    step
}

#[cfg(test)]
mod tests;
