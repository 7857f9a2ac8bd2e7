//! Outputs whose rows become columns: which columns there are, and the file of a batch.
//!
//! Columns are given by the configuration, or taken from the rows of the first batch that is sealed and pinned: outcomes
//! carry them until a checkpoint does (`outcome.rs`, `ledger.rs`), so that a later run has the same ones. It refuses to
//! decide what becomes of a row that does not fit.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use wasmill_columnar as columnar;
use wasmill_columnar::{
    Checker, ConvertError, Converter, Names, Options, Reason, Rejected, Schema, SchemaError, SetupError,
    Timestamps, WriterVersion,
};
use wasmill_config::{self as config, SchemaSource};
use wasmill_encode::Encoded;
use xxhash_rust::xxh3::Xxh3;

/// Rows of a batch that may be refused when it is sealed, and their bytes: their letters are part of one journal entry.
const REFUSED_ROWS_MAX: usize = 100_000;
pub(crate) const REFUSED_BYTES_MAX: usize = 32 << 20;

/// See the head of this file.
pub(crate) struct Columns {
    options: Options,
    /// Whether the columns are to be those of the first batch.
    infers: bool,
    pinned: OnceLock<Pinned>,
    /// Held while columns are inferred: of two batches one is the first.
    inferring: Mutex<()>,
    /// A durable checkpoint has them.
    noted: AtomicBool,
}

struct Pinned {
    text: String,
    converter: Converter,
}

/// Why there are no columns.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ColumnsError {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Setup(#[from] SetupError),
}

impl Columns {
    /// Of what the configuration says.
    pub(crate) fn new(
        parquet: &config::Parquet,
        compression: config::Compression,
    ) -> Result<Columns, ColumnsError> {
        let columns = Columns {
            options: options(parquet, compression),
            infers: parquet.schema == SchemaSource::Infer,
            pinned: OnceLock::new(),
            inferring: Mutex::default(),
            noted: AtomicBool::new(false),
        };
        if let SchemaSource::Columns(text) = &parquet.schema {
            columns.pin(text)?;
        } else {
            // Options that suit no schema suit none later either.
            let any = Schema::from_config("any: string")?;
            Converter::new(
                &any,
                &Options { names: unmapped(&columns.options.names), ..columns.options.clone() },
            )?;
        }
        Ok(columns)
    }

    /// From now on these are the columns, unless others are already.
    pub(crate) fn pin(&self, text: &str) -> Result<(), ColumnsError> {
        let schema = Schema::from_config(text)?;
        // What is given for a column that no row had is not wrong.
        let options = if self.infers { within(&self.options, &schema) } else { self.options.clone() };
        let pinned = Pinned { converter: Converter::new(&schema, &options)?, text: schema.to_string() };
        // The first one stays.
        drop(self.pinned.set(pinned));
        Ok(())
    }

    /// Whether the columns are those of the first batch, and there was none yet.
    pub(crate) fn is_open(&self) -> bool {
        self.pinned.get().is_none()
    }

    /// The columns that were inferred.
    pub(crate) fn inferred(&self) -> Option<&str> {
        self.pinned.get().filter(|_| self.infers).map(|pinned| pinned.text.as_str())
    }

    /// The same, as long as no durable checkpoint has them.
    pub(crate) fn unnoted(&self) -> Option<&str> {
        self.inferred().filter(|_| !self.noted.load(Ordering::Relaxed))
    }

    /// A durable checkpoint has them.
    pub(crate) fn note(&self) {
        self.noted.store(true, Ordering::Relaxed);
    }

    /// Of the pinned columns.
    pub(crate) fn checker(&self) -> Option<Checker<'_>> {
        self.pinned.get().map(|pinned| pinned.converter.checker())
    }

    /// A file of them without rows; `None` while they are open.
    pub(crate) fn without_rows(&self) -> Option<Vec<u8>> {
        let mut file = Vec::new();
        let written = write(&self.pinned.get()?.converter, &[], &mut file);
        written.ok().map(|_| file)
    }

    /// Those of the configuration or of an earlier batch, or else the columns of these rows, from now on.
    pub(crate) fn converter(&self, pieces: &[Bytes]) -> Result<&Converter, ColumnsError> {
        let alone = self.inferring.lock().unwrap_or_else(PoisonError::into_inner);
        if self.pinned.get().is_none() {
            let schema = Schema::infer(rows(pieces), &self.options.names)?;
            self.pin(&schema.to_string())?;
        }
        drop(alone);
        // It has just been set.
        let pinned = self.pinned.get().map(|pinned| &pinned.converter);
        pinned.ok_or(ColumnsError::Schema(SchemaError::Unsound("there is none".to_owned())))
    }
}

/// Writes the rows that fit, as one file; which do not, in their order.
pub(crate) fn write(
    converter: &Converter,
    pieces: &[Bytes],
    to: &mut (dyn Write + Send),
) -> io::Result<(Encoded, Vec<Rejected>)> {
    let mut to = Digested { to, digest: Xxh3::new() };
    let mut rejected = Vec::new();
    let mut refuse = |row| {
        if rejected.len() <= REFUSED_ROWS_MAX {
            rejected.push(row);
        }
    };
    let written =
        converter.convert_with(rows(pieces), &mut to, &mut refuse).map_err(|error| match error {
            ConvertError::Write(error) => error,
            error @ ConvertError::Encode(_) => io::Error::other(super::with_causes(&error)),
        })?;
    if rejected.len() > REFUSED_ROWS_MAX {
        return Err(too_many());
    }
    let (bytes, digest) = (written.bytes, to.digest.digest128());
    // The object as it is has no other form: compression is inside.
    Ok((Encoded { raw_bytes: bytes, bytes, digest, body_digest: digest }, rejected))
}

/// Of a first batch that says nothing about columns: no row of it fits.
pub(crate) fn all_without_fields(pieces: &[Bytes]) -> io::Result<Vec<Rejected>> {
    if rows(pieces).nth(REFUSED_ROWS_MAX).is_some() {
        return Err(too_many());
    }
    let reason = || Reason::Unfit {
        field: String::new(),
        expected: "an object with fields".to_owned(),
        found: "none".to_owned(),
    };
    Ok((0..).zip(rows(pieces)).map(|(row, _)| Rejected { row, reason: reason() }).collect())
}

/// Whoever changed the columns is to know before so many rows become letters.
pub(crate) fn too_many() -> io::Error {
    io::Error::other(format!(
        "more than {REFUSED_ROWS_MAX} rows or {REFUSED_BYTES_MAX} bytes of a batch do not fit the columns; give the output \
         columns that they fit"
    ))
}

/// Rows as they are framed: each on a line.
pub(crate) fn rows(pieces: &[Bytes]) -> impl Iterator<Item = &[u8]> {
    let framed = pieces.iter().filter(|piece| !piece.is_empty());
    framed.flat_map(|piece| {
        let piece: &[u8] = piece;
        piece.strip_suffix(b"\n").unwrap_or(piece).split(|byte| *byte == b'\n')
    })
}

struct Digested<'a> {
    to: &'a mut (dyn Write + Send),
    digest: Xxh3,
}

impl Write for Digested<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn options(parquet: &config::Parquet, compression: config::Compression) -> Options {
    Options {
        compression: match compression.codec {
            config::Codec::Gzip => {
                columnar::Compression::Gzip { level: u32::try_from(compression.level).unwrap_or(0) }
            }
            config::Codec::Zstd => columnar::Compression::Zstd { level: compression.level },
            config::Codec::None => columnar::Compression::None,
            // Others are refused where the configuration is read.
            config::Codec::Snappy
            | config::Codec::SnappyJava
            | config::Codec::HadoopSnappy
            | config::Codec::Zip => columnar::Compression::Snappy,
        },
        row_group_bytes: parquet.row_group,
        page_bytes: usize::try_from(parquet.page).unwrap_or(usize::MAX),
        version: if parquet.v2 { WriterVersion::V2 } else { WriterVersion::V1 },
        names: Names {
            case_insensitive: parquet.case_insensitive,
            dots_to_underscores: parquet.dots_to_underscores,
            keys: parquet.keys.clone(),
        },
        timestamps: parquet.timestamps.clone().map_or(Timestamps::OpenX, Timestamps::Hive),
    }
}

fn unmapped(names: &Names) -> Names {
    Names { keys: BTreeMap::new(), ..names.clone() }
}

/// Without keys of columns that are not there.
fn within(options: &Options, schema: &Schema) -> Options {
    let mut options = options.clone();
    options.names.keys.retain(|column, _| schema.fields().iter().any(|field| field.name == *column));
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(schema: SchemaSource) -> Result<Columns, ColumnsError> {
        let parquet = config::Parquet {
            schema,
            schema_key: String::new(),
            row_group: 1 << 20,
            page: 1 << 20,
            v2: false,
            case_insensitive: true,
            dots_to_underscores: false,
            keys: BTreeMap::from([("day".to_owned(), "date".to_owned())]),
            timestamps: None,
        };
        Columns::new(&parquet, config::Compression { codec: config::Codec::Zstd, level: 3 })
    }

    #[test]
    fn first_batch_decides_the_columns_for_all_others() {
        let columns = columns(SchemaSource::Infer).unwrap();
        assert!(columns.is_open() && columns.checker().is_none() && columns.inferred().is_none());
        let first = [Bytes::from_static(b"{\"n\":1}\n{\"n\":2,\"s\":\"x\"}\n")];
        let mut file = Vec::new();
        let (encoded, refused) = write(columns.converter(&first).unwrap(), &first, &mut file).unwrap();
        assert_eq!((encoded.bytes as usize, refused.len()), (file.len(), 0));
        assert_eq!(columns.inferred(), Some("n: int64, s: string"));
        let other = [Bytes::from_static(b"{\"n\":\"x\"}\n{\"n\":3,\"more\":1}\n")];
        let (again, refused) = write(columns.converter(&other).unwrap(), &other, &mut Vec::new()).unwrap();
        assert_eq!(refused.iter().map(|refused| refused.row).collect::<Vec<_>>(), [0]);
        assert_ne!(again.digest, encoded.digest);
        // Another run that is told what was pinned makes the same bytes.
        let later = self::columns(SchemaSource::Infer).unwrap();
        later.pin("n: int64, s: string").unwrap();
        let mut same = Vec::new();
        write(later.converter(&first).unwrap(), &first, &mut same).unwrap();
        assert_eq!(same, file);
        assert_eq!(later.unnoted(), Some("n: int64, s: string"));
        later.note();
        assert_eq!((later.unnoted(), later.inferred()), (None, Some("n: int64, s: string")));
    }

    #[test]
    fn columns_that_are_given_are_checked_and_never_pinned() {
        assert!(columns(SchemaSource::Columns("n: int65".to_owned())).is_err());
        // A key for a column that is not there.
        assert!(matches!(
            columns(SchemaSource::Columns("n: int64".to_owned())),
            Err(ColumnsError::Setup(SetupError::NoSuchColumn { .. }))
        ));
        let columns = columns(SchemaSource::Columns("day: date".to_owned())).unwrap();
        assert_eq!((columns.is_open(), columns.inferred()), (false, None));
        assert!(columns.checker().unwrap().check(br#"{"date":"2024-02-29"}"#).is_ok());
        assert!(columns.checker().unwrap().check(br#"{"date":"2023-02-29"}"#).is_err());
    }
}
