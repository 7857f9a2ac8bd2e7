//! How rows become one object: what stands before, between and after them.
//!
//! The pipeline writes every row followed by `Format::separator`, if there is one; the encoder adds
//! prefix and suffix and takes away the last separator where the format wants none there.

/// The format of an object's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Payload bytes as they are, one after another with nothing between them, as Amazon Data Firehose delivers by default.
    Verbatim,
    /// Payload bytes as they are, each followed by a line feed.
    Raw,
    /// One JSON text per line.
    Ndjson,
    /// One JSON array of all rows.
    JsonArray,
    /// A Parquet file. Rows wait for it as they do for [`Format::Ndjson`]; it is written by the crate `columnar`, and
    /// the encoder here refuses it.
    Parquet,
}

impl Format {
    /// MIME type of the uncompressed object.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Verbatim => "application/octet-stream",
            Format::Raw => "text/plain; charset=utf-8",
            Format::Ndjson => "application/x-ndjson",
            Format::JsonArray => "application/json",
            Format::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// Extension with its dot, or nothing.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Verbatim => "",
            Format::Raw => ".log",
            Format::Ndjson => ".ndjson",
            Format::JsonArray => ".json",
            Format::Parquet => ".parquet",
        }
    }

    /// Bytes before the first row.
    pub fn prefix(self) -> &'static [u8] {
        match self {
            Format::Verbatim | Format::Raw | Format::Ndjson | Format::Parquet => b"",
            Format::JsonArray => b"[",
        }
    }

    /// The byte that follows every row in a piece, if one does.
    pub fn separator(self) -> Option<u8> {
        match self {
            Format::Verbatim => None,
            Format::Raw | Format::Ndjson | Format::Parquet => Some(b'\n'),
            Format::JsonArray => Some(b','),
        }
    }

    /// Whether the object ends as its last piece does, or the encoder takes the last separator away.
    pub fn keeps_last_separator(self) -> bool {
        !matches!(self, Format::JsonArray)
    }

    /// Bytes after the last row.
    pub fn suffix(self) -> &'static [u8] {
        match self {
            Format::Verbatim | Format::Raw | Format::Ndjson | Format::Parquet => b"",
            Format::JsonArray => b"]",
        }
    }

    /// Whether every row must be a valid JSON text.
    pub fn requires_json(self) -> bool {
        matches!(self, Format::Ndjson | Format::JsonArray | Format::Parquet)
    }

    /// Size of the uncompressed object whose pieces add up to `framed_bytes` (rows with their separators).
    pub fn object_bytes(self, framed_bytes: u64) -> u64 {
        let dropped = u64::from(framed_bytes > 0 && !self.keeps_last_separator());
        framed_bytes - dropped + self.prefix().len() as u64 + self.suffix().len() as u64
    }
}
