//! Data files: the object of a batch with the table's field ids in its footer, and what a table keeps of it.
//!
//! Pages stay as they are, byte for byte; only the footer is written anew, since an object is made before it is known how
//! its table numbers the columns. Source: the Iceberg table specification, "Manifests" (`data_file`) and appendix A.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use ::iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, PrimitiveType, Schema, Struct, Type,
};
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter,
};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor, Type as Column};
use xxhash_rust::xxh3::Xxh3;

/// The length of the footer, and `PAR1`.
const TAIL_BYTES: u64 = 8;
/// Longer bounds of text and bytes are left out; the writer cuts its own at 64.
const BOUND_BYTES_MAX: usize = 256;

/// A data file, written.
pub(super) struct Made {
    pub(super) metadata: ParquetMetaData,
    pub(super) bytes: u64,
    /// xxh3-128.
    pub(super) digest: u128,
}

/// The footer of a file of Parquet.
pub(super) fn read_footer(body: &File) -> Result<ParquetMetaData, String> {
    ParquetMetaDataReader::new().parse_and_finish(body).map_err(|error| error.to_string())
}

/// Writes `body` with these columns in its footer, synced.
pub(super) fn renumber(
    body: &Path,
    footer: &ParquetMetaData,
    columns: Column,
    to: &Path,
) -> io::Result<Made> {
    let mut body = File::open(body)?;
    let length = body.metadata()?.len();
    let mut tail = [0; TAIL_BYTES as usize];
    body.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    body.read_exact(&mut tail)?;
    let [a, b, c, d, ..] = tail;
    let footer_bytes = u64::from(u32::from_le_bytes([a, b, c, d]));
    let Some(pages) = length.checked_sub(TAIL_BYTES + footer_bytes) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is shorter than its footer"));
    };
    body.seek(SeekFrom::Start(0))?;
    let of_file = footer.file_metadata();
    let file_metadata = FileMetaData::new(
        of_file.version(),
        of_file.num_rows(),
        of_file.created_by().map(str::to_owned),
        of_file.key_value_metadata().cloned(),
        Arc::new(SchemaDescriptor::new(Arc::new(columns))),
        of_file.column_orders().cloned(),
    );
    let metadata = ParquetMetaData::new(file_metadata, footer.row_groups().to_vec());
    let mut made = Counted { to: File::create(to)?, bytes: 0, digest: Xxh3::new() };
    if io::copy(&mut body.take(pages), &mut made)? != pages {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    ParquetMetaDataWriter::new(&mut made, &metadata).finish().map_err(io::Error::other)?;
    made.to.sync_all()?;
    Ok(Made { metadata, bytes: made.bytes, digest: made.digest.digest128() })
}

struct Counted {
    to: File,
    bytes: u64,
    digest: Xxh3,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or(bytes));
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Counts and bounds of one column.
#[derive(Default)]
struct Measured {
    bytes: u64,
    values: u64,
    /// `None`: some of them are not known.
    nulls: Option<u64>,
    bounds: Bounds,
}

/// Of all row groups so far.
#[derive(Default)]
enum Bounds {
    /// No value yet.
    #[default]
    Nothing,
    Known(Datum, Datum),
    Unknown,
}

/// What the table keeps of a file at `location`.
pub(super) fn entry(made: &Made, location: &str, table: &Schema, spec_id: i32) -> Result<DataFile, String> {
    let mut columns: HashMap<i32, Measured> = HashMap::new();
    let described = made.metadata.file_metadata().schema_descr();
    for group in made.metadata.row_groups() {
        for (column, chunk) in described.columns().iter().zip(group.columns()) {
            let id = column.self_type().get_basic_info().id();
            let field = table.field_by_id(id).map(|field| &*field.field_type);
            let Some(Type::Primitive(kind)) = field else { continue };
            let measured =
                columns.entry(id).or_insert_with(|| Measured { nulls: Some(0), ..Measured::default() });
            measured.add(chunk, column, kind);
        }
    }
    let starts = made.metadata.row_groups().iter().filter_map(|group| group.columns().first());
    let starts = starts.filter_map(|chunk| i64::try_from(chunk.byte_range().0).ok()).collect();
    let mut bounds: (HashMap<i32, Datum>, HashMap<i32, Datum>) = Default::default();
    for (id, measured) in &columns {
        if let Bounds::Known(lower, upper) = &measured.bounds {
            bounds.0.insert(*id, lower.clone());
            bounds.1.insert(*id, upper.clone());
        }
    }
    let nulls = columns.iter().filter_map(|(id, measured)| Some((*id, measured.nulls?)));
    let built = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(location.to_owned())
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .partition_spec_id(spec_id)
        .record_count(u64::try_from(made.metadata.file_metadata().num_rows()).unwrap_or(0))
        .file_size_in_bytes(made.bytes)
        .column_sizes(columns.iter().map(|(id, measured)| (*id, measured.bytes)).collect())
        .value_counts(columns.iter().map(|(id, measured)| (*id, measured.values)).collect())
        .null_value_counts(nulls.collect())
        .lower_bounds(bounds.0)
        .upper_bounds(bounds.1)
        .split_offsets(Some(starts))
        .build();
    built.map_err(|error| error.to_string())
}

impl Measured {
    fn add(&mut self, chunk: &ColumnChunkMetaData, column: &ColumnDescriptor, kind: &PrimitiveType) {
        let values = u64::try_from(chunk.num_values()).unwrap_or(0);
        self.bytes += u64::try_from(chunk.compressed_size()).unwrap_or(0);
        self.values += values;
        let nulls = chunk.statistics().and_then(|statistics| statistics.null_count_opt());
        self.nulls = self.nulls.zip(nulls).map(|(sum, nulls)| sum + nulls);
        // What is inside a list has no bounds of its own.
        if column.max_rep_level() > 0 {
            self.bounds = Bounds::Unknown;
            return;
        }
        if nulls == Some(values) {
            return;
        }
        let statistics = chunk.statistics();
        let bound = |bytes: Option<&[u8]>| bytes.and_then(|bytes| datum(bytes, column, kind));
        let lower = bound(statistics.and_then(|statistics| statistics.min_bytes_opt()));
        let upper = bound(statistics.and_then(|statistics| statistics.max_bytes_opt()));
        let known = std::mem::replace(&mut self.bounds, Bounds::Unknown);
        self.bounds = match (known, lower.zip(upper)) {
            (Bounds::Nothing, Some((lower, upper))) => Bounds::Known(lower, upper),
            (Bounds::Known(least, most), Some((lower, upper))) => Bounds::Known(
                if lower < least { lower } else { least },
                if upper > most { upper } else { most },
            ),
            _ => Bounds::Unknown,
        };
    }
}

/// A bound as the table has it, of one as Parquet has it.
fn datum(bytes: &[u8], column: &ColumnDescriptor, kind: &PrimitiveType) -> Option<Datum> {
    if bytes.len() > BOUND_BYTES_MAX {
        return None;
    }
    let reversed: Vec<u8>;
    let bytes = match (kind, column.physical_type()) {
        // Tables have the most significant byte first.
        (PrimitiveType::Decimal { .. }, parquet::basic::Type::INT32 | parquet::basic::Type::INT64) => {
            reversed = bytes.iter().rev().copied().collect();
            &reversed[..]
        }
        _ => bytes,
    };
    Datum::try_from_bytes(bytes, kind.clone()).ok()
}
