//! The codecs an output may choose, their levels, and what name and headers follow from them.
//!
//! Levels are checked here once, so that the encoder never meets an impossible one.

use std::ops::RangeInclusive;

use crate::Format;

/// Levels that gzip accepts.
pub const GZIP_LEVELS: RangeInclusive<u32> = 1..=9;
/// Levels that zstd accepts here; negative ones and "ultra" ones (more memory to read) are left out.
pub const ZSTD_LEVELS: RangeInclusive<i32> = 1..=19;
/// gzip level where the user names none.
pub const DEFAULT_GZIP_LEVEL: u32 = 6;
/// zstd level where the user names none.
pub const DEFAULT_ZSTD_LEVEL: i32 = 3;

/// The compression of an object. Levels outside their range are clamped by the encoder; `check` refuses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As it is.
    None,
    /// One gzip member.
    Gzip { level: u32 },
    /// One zstd frame with content checksum.
    Zstd { level: i32 },
    /// The snappy framing format.
    Snappy,
    /// The stream of snappy-java, in blocks of 32 KiB.
    SnappyJava,
    /// Hadoop's framing of snappy blocks, of 32 KiB each.
    HadoopSnappy,
    /// A ZIP archive of one deflated entry. Its name is a UUID made of the first 64 KiB of the
    /// uncompressed object, so that equal objects are equal and others can be unpacked beside each other.
    Zip,
}

/// A level that the codec does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{codec} level {level} is outside {min}..={max}")]
pub struct LevelOutOfRange {
    pub codec: &'static str,
    pub level: i64,
    pub min: i64,
    pub max: i64,
}

impl Compression {
    /// Refuses a level that the codec does not have.
    pub fn check(self) -> Result<(), LevelOutOfRange> {
        let (codec, level, min, max) = match self {
            Compression::None
            | Compression::Snappy
            | Compression::SnappyJava
            | Compression::HadoopSnappy
            | Compression::Zip => return Ok(()),
            Compression::Gzip { level } => {
                ("gzip", i64::from(level), i64::from(*GZIP_LEVELS.start()), i64::from(*GZIP_LEVELS.end()))
            }
            Compression::Zstd { level } => {
                ("zstd", i64::from(level), i64::from(*ZSTD_LEVELS.start()), i64::from(*ZSTD_LEVELS.end()))
            }
        };
        if (min..=max).contains(&level) {
            return Ok(());
        }
        Err(LevelOutOfRange { codec, level, min, max })
    }

    /// Value of `Content-Encoding`: a registered one, or the one that Amazon Data Firehose gives to the
    /// two framings of the JVM. Snappy's own framing and ZIP have none: their objects carry the format's
    /// content type and tell by their extension.
    pub fn content_encoding(self) -> Option<&'static str> {
        match self {
            Compression::None | Compression::Snappy | Compression::Zip => None,
            Compression::Gzip { .. } => Some("gzip"),
            Compression::Zstd { .. } => Some("zstd"),
            Compression::SnappyJava => Some("snappy-java"),
            Compression::HadoopSnappy => Some("hadoop-snappy"),
        }
    }

    /// Extension with its dot, or nothing. Both framings of the JVM have Amazon Data Firehose's: its
    /// guide speaks of `.hsnappy` for Hadoop's, but the service was seen to write `.snappy`.
    pub fn extension(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip { .. } => ".gz",
            Compression::Zstd { .. } => ".zst",
            Compression::Snappy => ".sz",
            Compression::SnappyJava | Compression::HadoopSnappy => ".snappy",
            Compression::Zip => ".zip",
        }
    }
}

/// Extension of an object's name, such as `.ndjson.zst`.
pub fn extension(format: Format, compression: Compression) -> String {
    format!("{}{}", format.extension(), compression.extension())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_outside_range_names_codec_and_range() {
        assert_eq!(
            Compression::Zstd { level: 20 }.check().unwrap_err().to_string(),
            "zstd level 20 is outside 1..=19"
        );
        assert!(Compression::Gzip { level: 0 }.check().is_err());
        assert!(Compression::Gzip { level: 9 }.check().is_ok());
    }

    #[test]
    fn extension_joins_format_and_codec() {
        assert_eq!(extension(Format::Ndjson, Compression::Zstd { level: 3 }), ".ndjson.zst");
        assert_eq!(extension(Format::Raw, Compression::None), ".log");
        assert_eq!(extension(Format::JsonArray, Compression::Snappy), ".json.sz");
        assert_eq!(extension(Format::Verbatim, Compression::None), "");
        assert_eq!(extension(Format::Verbatim, Compression::HadoopSnappy), ".snappy");
    }
}
