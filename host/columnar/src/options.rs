//! How rows are read and the file is written.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::pattern::PatternError;

/// Sizes of a row group that are allowed, in bytes.
pub const ROW_GROUP_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;
/// Sizes of a page that are allowed, in bytes.
pub const PAGE_BYTES: RangeInclusive<usize> = 4 << 10..=64 << 20;

/// How a file is made. Defaults are those of Amazon Data Firehose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Of pages.
    pub compression: Compression,
    /// Decoded bytes from which a row group is closed. Rows are not cut, and what is written is usually much smaller.
    pub row_group_bytes: u64,
    /// Encoded bytes, before compression, from which a page is closed; also the bound of a column's dictionary.
    pub page_bytes: usize,
    pub version: WriterVersion,
    pub names: Names,
    pub timestamps: Timestamps,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            compression: Compression::Snappy,
            row_group_bytes: 256 << 20,
            page_bytes: 1 << 20,
            version: WriterVersion::V1,
            names: Names::default(),
            timestamps: Timestamps::default(),
        }
    }
}

/// How pages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Snappy,
    /// `level`: 1 to 9.
    Gzip {
        level: u32,
    },
    /// `level`: 1 to 19.
    Zstd {
        level: i32,
    },
}

/// The format's two generations of pages and encodings. Every reader knows the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterVersion {
    V1,
    V2,
}

/// Which JSON key a column is filled from.
///
/// A column takes the key of its own name, or the one that `keys` has for it and that one alone; keys in `keys` are of
/// columns, not of fields inside them (Firehose's guide does not say). The other two rules hold for fields at any depth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `ClientIP` fills the column `clientip`, and the other way round.
    pub case_insensitive: bool,
    /// The key `client.ip` fills the column `client_ip`.
    pub dots_to_underscores: bool,
    /// JSON keys by column.
    pub keys: BTreeMap<String, String>,
}

impl Default for Names {
    fn default() -> Names {
        Names { case_insensitive: true, dots_to_underscores: false, keys: BTreeMap::new() }
    }
}

/// What a timestamp is read from. Text without a zone is in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Timestamps {
    /// As Firehose's OpenX JSON SerDe does: `2017-02-07T15:13:01.123Z`, `2017-02-07 15:13:01.123`, and seconds since
    /// 1970, milliseconds, or seconds with a fraction, as a number or as text. Whole numbers of 13 digits and more
    /// are milliseconds: the SerDe's rule, which the guide does not tell. Besides, an offset such as `+01:00` or
    /// nothing may stand for the `Z`.
    #[default]
    OpenX,
    /// As its Hive JSON SerDe does: these patterns of Joda-Time in turn, or `millis` for milliseconds since 1970, as a
    /// number or as text. Without any: `yyyy-[M]M-[d]d hh:mm:ss[.f...]`, as `java.sql.Timestamp.valueOf` reads it.
    ///
    /// Patterns have `y`, `Y`, `M` (a number, from `MMM` on an English name), `d`, `D`, `H`, `k`, `K`, `h`, `a`, `m`,
    /// `s`, `S`, `E`, `Z` and text in quotes; a year is needed. Two-digit years and names of zones are refused: what
    /// they mean depends on the day and the machine.
    Hive(Vec<String>),
}

/// Why nothing can be converted so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    #[error("row groups of {found} bytes, expected {} to {}", ROW_GROUP_BYTES.start(), ROW_GROUP_BYTES.end())]
    RowGroupBytes { found: u64 },
    #[error("pages of {found} bytes, expected {} to {}", PAGE_BYTES.start(), PAGE_BYTES.end())]
    PageBytes { found: usize },
    #[error("{codec} level {found}, expected {} to {}", .levels.start(), .levels.end())]
    Level { codec: &'static str, found: i64, levels: RangeInclusive<i64> },
    #[error("a JSON key is given for the column {column:?}, which the schema does not have")]
    NoSuchColumn { column: String },
    #[error("fields {first:?} and {second:?} would both be filled from the JSON key {key:?}")]
    SameKey { first: String, second: String, key: String },
    #[error("timestamp format {format:?}: {error}")]
    Timestamps { format: String, error: PatternError },
}
