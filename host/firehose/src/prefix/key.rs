//! The name of an object out of its parts.

use std::collections::BTreeMap;
use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::{Part, Pattern, Template};

/// Longest evaluated prefix, in characters.
const PREFIX_MAX: usize = 512;
const RANDOM_LENGTH: usize = 11;
const RANDOM_LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const DEFAULT_TIME: &str = "yyyy/MM/dd/HH/";
const SUFFIX_TIME: &str = "yyyy-MM-dd-HH-mm-ss";

/// Where random pieces of names come from: handed in, so that a name can be made again.
pub trait Randomness {
    fn next(&mut self) -> u64;
}

/// The same numbers from the same seed (SplitMix64). Not for secrets.
#[derive(Clone, Copy, Debug)]
pub struct Seeded(pub u64);

impl Randomness for Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Why records are among the errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorOutputType {
    ProcessingFailed,
    FormatConversionFailed,
    HttpEndpointFailed,
    OpenSearchFailed,
    SplunkFailed,
    SnowflakeFailed,
    IcebergFailed,
    MetadataExtractionFailed,
    ActivePartitionExceeded,
    /// A bucket took no object; the service has no type for it, because the records are lost there.
    S3Failed,
    /// A table was not loaded; the service has no type for it, because a manifest lists the objects.
    RedshiftFailed,
}

impl fmt::Display for ErrorOutputType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorOutputType::ProcessingFailed => "processing-failed",
            ErrorOutputType::FormatConversionFailed => "format-conversion-failed",
            ErrorOutputType::HttpEndpointFailed => "http-endpoint-failed",
            ErrorOutputType::OpenSearchFailed => "AmazonOpenSearchService-failed",
            ErrorOutputType::SplunkFailed => "splunk-failed",
            ErrorOutputType::SnowflakeFailed => "snowflake-failed",
            ErrorOutputType::IcebergFailed => "iceberg-failed",
            ErrorOutputType::MetadataExtractionFailed => "metadata-extraction-failed",
            ErrorOutputType::ActivePartitionExceeded => "activePartitionExceeded",
            ErrorOutputType::S3Failed => "s3-failed",
            ErrorOutputType::RedshiftFailed => "redshift-failed",
        })
    }
}

/// What an object is, as far as its extension says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    None,
    Gzip,
    Zip,
    Snappy,
    HadoopSnappy,
    /// Converted records, whatever the compression within.
    Parquet,
    Orc,
}

impl Compression {
    /// Of `CompressionFormat`.
    pub fn of(format: &str) -> Option<Compression> {
        match format {
            "UNCOMPRESSED" => Some(Compression::None),
            "GZIP" => Some(Compression::Gzip),
            "ZIP" => Some(Compression::Zip),
            "Snappy" => Some(Compression::Snappy),
            "HADOOP_SNAPPY" => Some(Compression::HadoopSnappy),
            _ => None,
        }
    }

    /// The guide has `.hsnappy` for Hadoop's framing; the service writes `.snappy`.
    pub fn extension(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zip => ".zip",
            Compression::Snappy | Compression::HadoopSnappy => ".snappy",
            Compression::Parquet => ".parquet",
            Compression::Orc => ".orc",
        }
    }
}

/// Values of partition keys of the records in an object.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartitionKeys<'a> {
    pub from_query: Option<&'a BTreeMap<String, String>>,
    pub from_lambda: Option<&'a BTreeMap<String, String>>,
}

/// All that a name depends on, beside the randomness.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Approximate arrival of the oldest record in the object.
    pub at: Timestamp,
    /// Of the names; also of the suffix.
    pub zone: &'a TimeZone,
    pub stream: &'a str,
    /// The version of the stream.
    pub version: u64,
    pub keys: PartitionKeys<'a>,
}

/// An object has no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("the evaluated prefix has {length} characters, at most {PREFIX_MAX} are permitted")]
    TooLong { length: usize },
    #[error("the partition key {key:?} is missing")]
    MissingKey { key: String },
    #[error("partitionKeys values must not be null or empty: {key:?}")]
    EmptyKey { key: String },
}

/// How objects of a destination are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    prefix: Template,
    errors: Template,
    suffix_time: Option<Pattern>,
    extension: String,
}

impl Layout {
    /// Of templates that were [checked](super::check). A file extension that is not empty replaces that of the compression.
    pub fn new(
        prefix: Template,
        errors: Template,
        compression: Compression,
        file_extension: Option<&str>,
    ) -> Layout {
        let time = Pattern::parse(DEFAULT_TIME).ok().map(Part::Timestamp);
        let errors = match errors.parts.is_empty() {
            false => errors,
            // A prefix with expressions never comes without one of its own for errors.
            true => Template {
                parts: prefix.parts.iter().filter(|part| matches!(part, Part::Literal(_))).cloned().collect(),
            },
        };
        let mut layout = Layout {
            prefix,
            errors,
            suffix_time: Pattern::parse(SUFFIX_TIME).ok(),
            extension: file_extension
                .filter(|text| !text.is_empty())
                .unwrap_or(compression.extension())
                .to_owned(),
        };
        if !layout.errors.has_expressions() {
            layout.errors.parts.push(Part::ErrorOutputType);
            layout.errors.parts.push(Part::Literal("/".to_owned()));
            layout.errors.parts.extend(time.clone());
        }
        if !layout.prefix.has_expressions() {
            layout.prefix.parts.extend(time);
        }
        layout
    }

    /// The name of an object with records.
    ///
    /// # Errors
    /// See [`RenderError`].
    pub fn object(&self, context: &Context<'_>, random: &mut dyn Randomness) -> Result<String, RenderError> {
        let mut name = self.prefix(context, random)?;
        self.suffix(context, random, &mut name);
        name.push_str(&self.extension);
        Ok(name)
    }

    /// The name of an object with records that failed. It has no extension.
    ///
    /// # Errors
    /// See [`RenderError`].
    pub fn error_object(
        &self,
        context: &Context<'_>,
        error: ErrorOutputType,
        random: &mut dyn Randomness,
    ) -> Result<String, RenderError> {
        let mut name = render(&self.errors, context, Some(error), random)?;
        self.suffix(context, random, &mut name);
        Ok(name)
    }

    /// The evaluated prefix alone. Records belong into one object while it is the same, if it has nothing random.
    ///
    /// # Errors
    /// See [`RenderError`].
    pub fn prefix(&self, context: &Context<'_>, random: &mut dyn Randomness) -> Result<String, RenderError> {
        render(&self.prefix, context, None, random)
    }

    fn suffix(&self, context: &Context<'_>, random: &mut dyn Randomness, name: &mut String) {
        name.push_str(&format!("{}-{}-", context.stream, context.version));
        if let Some(time) = &self.suffix_time {
            time.format(&moment(context), name);
        }
        name.push('-');
        name.push_str(&uuid(random));
    }
}

fn moment(context: &Context<'_>) -> Zoned {
    context.at.to_zoned(context.zone.clone())
}

fn render(
    template: &Template,
    context: &Context<'_>,
    error: Option<ErrorOutputType>,
    random: &mut dyn Randomness,
) -> Result<String, RenderError> {
    let moment = moment(context);
    let mut out = String::new();
    for part in &template.parts {
        match part {
            Part::Literal(text) => out.push_str(text),
            Part::Timestamp(pattern) => pattern.format(&moment, &mut out),
            Part::RandomString => random_string(random, &mut out),
            // It stands in no prefix of records that did not fail.
            Part::ErrorOutputType => out.push_str(&error.map(|error| error.to_string()).unwrap_or_default()),
            Part::FromQuery(key) => out.push_str(value(context.keys.from_query, key)?),
            Part::FromLambda(key) => out.push_str(value(context.keys.from_lambda, key)?),
        }
    }
    let length = out.chars().count();
    if length > PREFIX_MAX {
        return Err(RenderError::TooLong { length });
    }
    Ok(out)
}

fn value<'a>(keys: Option<&'a BTreeMap<String, String>>, key: &str) -> Result<&'a str, RenderError> {
    match keys.and_then(|keys| keys.get(key)).map(String::as_str) {
        None => Err(RenderError::MissingKey { key: key.to_owned() }),
        Some("") => Err(RenderError::EmptyKey { key: key.to_owned() }),
        Some(value) => Ok(value),
    }
}

fn random_string(random: &mut dyn Randomness, out: &mut String) {
    let mut number = random.next();
    for _ in 0..RANDOM_LENGTH {
        out.push(char::from(RANDOM_LETTERS[(number % 36) as usize]));
        number /= 36;
    }
}

/// A random UUID (RFC 9562, version 4).
fn uuid(random: &mut dyn Randomness) -> String {
    let (high, low) = (random.next(), random.next());
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xffff);
    format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
}
