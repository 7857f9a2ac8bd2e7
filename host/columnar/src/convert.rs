//! Rows to a Parquet file: row by row into columns, a few MiB of them at a time to the writer, row group by row group out.

use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterVersion};

use crate::column::Column;
use crate::options::{Compression, Options, PAGE_BYTES, ROW_GROUP_BYTES, SetupError, Timestamps};
use crate::plan::Node;
use crate::row::{State, append};
use crate::schema::Schema;
use crate::timestamp::Formats;

/// Largest row, in bytes of JSON and in bytes that it takes in memory once it is read: a few bytes of JSON may be an
/// object of many columns.
pub const ROW_BYTES_MAX: u64 = 64 << 20;
/// Decoded bytes that go to the writer together.
const STEP_BYTES: u64 = 4 << 20;

/// Makes Parquet files of one schema. One converter serves any number of files and threads.
#[derive(Debug)]
pub struct Converter {
    root: Node,
    columns: SchemaRef,
    formats: Formats,
    properties: WriterProperties,
    row_group_bytes: u64,
}

/// A row that is not in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its number among the rows that were handed in, from 0.
    pub row: u64,
    pub reason: Reason,
}

/// Why a row does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It is no JSON, or more than one JSON value; the text says what and where.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// A value does not fit its column.
    #[error("{} takes {expected}, found {found}", place(.field))]
    Unfit {
        /// The column, or the path to what is inside it: `place.zip`, `tags[]`, `attributes{}`. Empty: the row itself.
        field: String,
        /// The type as it stands in a schema.
        expected: String,
        /// The value, shortened; `nothing` where a required field is missing.
        found: String,
    },
    /// The row, or what becomes of it in memory, is larger than [`ROW_BYTES_MAX`].
    #[error("larger than {ROW_BYTES_MAX} bytes, or it would be in memory")]
    TooLarge,
}

fn place(field: &str) -> String {
    if field.is_empty() { "a row".to_owned() } else { format!("field {field:?}") }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows in the file.
    pub rows: u64,
    pub row_groups: u64,
    /// Size of the file.
    pub bytes: u64,
}

/// What became of every row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub written: Written,
    /// In the order of the rows.
    pub rejected: Vec<Rejected>,
}

/// Why there is no whole file. What was written of it is none.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error("write the file")]
    Write(#[source] io::Error),
    #[error("encode columns")]
    Encode(#[source] ParquetError),
}

impl From<ParquetError> for ConvertError {
    fn from(error: ParquetError) -> ConvertError {
        match error {
            ParquetError::External(cause) => match cause.downcast::<io::Error>() {
                Ok(error) => ConvertError::Write(*error),
                Err(cause) => ConvertError::Encode(ParquetError::External(cause)),
            },
            error => ConvertError::Encode(error),
        }
    }
}

impl From<ArrowError> for ConvertError {
    fn from(error: ArrowError) -> ConvertError {
        ConvertError::from(ParquetError::from(error))
    }
}

impl Converter {
    /// A converter, unless the options are out of range or do not go with the schema.
    pub fn new(schema: &Schema, options: &Options) -> Result<Converter, SetupError> {
        if !ROW_GROUP_BYTES.contains(&options.row_group_bytes) {
            return Err(SetupError::RowGroupBytes { found: options.row_group_bytes });
        }
        if !PAGE_BYTES.contains(&options.page_bytes) {
            return Err(SetupError::PageBytes { found: options.page_bytes });
        }
        let formats = match &options.timestamps {
            Timestamps::OpenX => Formats::OpenX,
            Timestamps::Hive(patterns) => {
                Formats::hive(patterns).map_err(|(format, error)| SetupError::Timestamps { format, error })?
            }
        };
        let version = match options.version {
            crate::WriterVersion::V1 => WriterVersion::PARQUET_1_0,
            crate::WriterVersion::V2 => WriterVersion::PARQUET_2_0,
        };
        let properties = WriterProperties::builder()
            .set_compression(codec(options.compression)?)
            .set_writer_version(version)
            .set_data_page_size_limit(options.page_bytes)
            .set_dictionary_page_size_limit(options.page_bytes)
            // Row groups are closed here, by size.
            .set_max_row_group_row_count(None)
            .set_max_row_group_bytes(None)
            .build();
        Ok(Converter {
            root: Node::root(schema, &options.names)?,
            columns: Arc::new(schema.arrow()),
            formats,
            properties,
            row_group_bytes: options.row_group_bytes,
        })
    }

    /// Looks at rows without writing them.
    pub fn checker(&self) -> Checker<'_> {
        Checker {
            root: &self.root,
            columns: Column::row(self.columns.fields()),
            state: State::new(&self.formats),
        }
    }

    /// Writes the rows that fit, and gathers why the others do not: some 100 bytes for each of these.
    pub fn convert<R: AsRef<[u8]>>(
        &self,
        rows: impl IntoIterator<Item = R>,
        out: &mut (dyn Write + Send),
    ) -> Result<Report, ConvertError> {
        let mut rejected = Vec::new();
        let written = self.convert_with(rows, out, &mut |row| rejected.push(row))?;
        Ok(Report { written, rejected })
    }

    /// Writes the rows that fit, and hands on why each of the others does not, in the order of the rows. A file without
    /// rows is a valid one.
    pub fn convert_with<R: AsRef<[u8]>>(
        &self,
        rows: impl IntoIterator<Item = R>,
        out: &mut (dyn Write + Send),
        rejected: &mut dyn FnMut(Rejected),
    ) -> Result<Written, ConvertError> {
        let mut out = Counted { out, bytes: 0 };
        let options =
            ArrowWriterOptions::new().with_properties(self.properties.clone()).with_skip_arrow_metadata(true);
        let mut writer = ArrowWriter::try_new_with_options(&mut out, Arc::clone(&self.columns), options)?;
        let mut state = State::new(&self.formats);
        let mut columns = Column::row(self.columns.fields());
        let mut written = Written::default();
        // Decoded bytes of the row group, and of what the writer does not have yet.
        let (mut group, mut step) = (0, 0);
        for (number, row) in (0..).zip(rows) {
            match append(&self.root, &mut columns, &mut state, row.as_ref()) {
                Ok(bytes) => {
                    group += bytes;
                    step += bytes;
                }
                Err(reason) => {
                    rejected(Rejected { row: number, reason });
                    continue;
                }
            }
            let full = group >= self.row_group_bytes;
            if full || step >= STEP_BYTES {
                written.rows += self.hand_over(&mut columns, &mut writer)?;
                step = 0;
            }
            if full {
                writer.flush()?;
                group = 0;
            }
        }
        if columns.len() > 0 {
            written.rows += self.hand_over(&mut columns, &mut writer)?;
        }
        let metadata = writer.close()?;
        written.row_groups = metadata.num_row_groups() as u64;
        written.bytes = out.bytes;
        Ok(written)
    }

    /// Gives the columns to the writer; how many rows they had.
    fn hand_over<W: Write + Send>(
        &self,
        columns: &mut Column,
        writer: &mut ArrowWriter<W>,
    ) -> Result<u64, ConvertError> {
        let rows = columns.len() as u64;
        let arrays = columns.take_rows(self.columns.fields())?;
        writer.write(&RecordBatch::try_new(Arc::clone(&self.columns), arrays)?)?;
        Ok(rows)
    }
}

/// Tells of rows whether they fit, one by one. It holds the decoded values of one row.
pub struct Checker<'c> {
    root: &'c Node,
    columns: Column,
    state: State<'c>,
}

impl Checker<'_> {
    /// Whether the converter would write the row, or why not.
    pub fn check(&mut self, row: &[u8]) -> Result<(), Reason> {
        append(self.root, &mut self.columns, &mut self.state, row)?;
        self.columns.truncate(0);
        Ok(())
    }
}

fn codec(compression: Compression) -> Result<parquet::basic::Compression, SetupError> {
    Ok(match compression {
        Compression::None => parquet::basic::Compression::UNCOMPRESSED,
        Compression::Snappy => parquet::basic::Compression::SNAPPY,
        Compression::Gzip { level } => {
            let wrong = || SetupError::Level { codec: "gzip", found: i64::from(level), levels: 1..=9 };
            let level = Some(level).filter(|level| (1..=9).contains(level)).ok_or_else(wrong)?;
            parquet::basic::Compression::GZIP(GzipLevel::try_new(level).map_err(|_| wrong())?)
        }
        Compression::Zstd { level } => {
            let wrong = || SetupError::Level { codec: "zstd", found: i64::from(level), levels: 1..=19 };
            let level = Some(level).filter(|level| (1..=19).contains(level)).ok_or_else(wrong)?;
            parquet::basic::Compression::ZSTD(ZstdLevel::try_new(level).map_err(|_| wrong())?)
        }
    })
}

/// Counts what goes out.
struct Counted<'a> {
    out: &'a mut (dyn Write + Send),
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
