//! Record format conversion as an output of columns.
//!
//! AWS Glue is not asked: a table is one of `[firehose.schemas]` of this host, and its columns become part of the
//! stream's definition when that is made. What only Glue needs (role, catalog, region) is kept and has no effect.

use serde_json::{Map, Value, json};
use wasmill_firehose::wire::{DataFormatConversion, Parquet, Refusal, Schema};

use super::plan::not_here;
use crate::pipeline::{FirehoseSettings, SchemaSource};

/// Firehose's own defaults, in bytes.
const BLOCK_BYTES: i64 = 256 << 20;
const PAGE_BYTES: i64 = 1 << 20;
/// What a writer here takes at most, in bytes.
const BLOCK_BYTES_MAX: i64 = 1 << 30;
const PAGE_BYTES_MAX: i64 = 64 << 20;

/// Format, compression and columns of the output.
pub(super) fn output(
    conversion: &DataFormatConversion,
    firehose: &FirehoseSettings,
) -> Result<Map<String, Value>, Refusal> {
    let serializer =
        conversion.output.as_ref().and_then(|output| output.serializer.clone()).unwrap_or_default();
    if serializer.orc.is_some() {
        return Err(not_here("OrcSerDe", "take ParquetSerDe, which the same readers know"));
    }
    let written = serializer.parquet.unwrap_or_default();
    let mut parquet = Map::new();
    match table(conversion.schema.as_ref(), firehose)? {
        SchemaSource::Columns(columns) => parquet.insert("schema".to_owned(), columns.as_str().into()),
        SchemaSource::Infer => parquet.insert("infer".to_owned(), true.into()),
    };
    let (block, page) = sizes(&written)?;
    parquet.insert("row_group".to_owned(), block.to_string().into());
    parquet.insert("page".to_owned(), page.to_string().into());
    let version = if written.writer_version.as_deref() == Some("V2") { "v2" } else { "v1" };
    parquet.insert("version".to_owned(), version.into());
    read_by(conversion, &mut parquet);
    let compression = match written.compression.as_deref() {
        Some("GZIP") => "gzip",
        Some("UNCOMPRESSED") => "none",
        _ => "snappy",
    };
    let mut output = Map::new();
    output.insert("format".to_owned(), "parquet".into());
    output.insert("compression".to_owned(), compression.into());
    output.insert("parquet".to_owned(), parquet.into());
    Ok(output)
}

/// The table as lines of records that failed tell it: the catalog is the account's own, where none was told.
pub(super) fn catalog_table(conversion: &DataFormatConversion, firehose: &FirehoseSettings) -> Value {
    let schema = conversion.schema.clone().unwrap_or_default();
    let told = |member: Option<String>| member.filter(|text| !text.is_empty());
    json!({
        "catalog": told(schema.catalog_id).unwrap_or_else(|| firehose.account.clone()),
        "database": schema.database_name,
        "table": schema.table_name,
        "region": told(schema.region).unwrap_or_else(|| firehose.region.clone()),
        "version": told(schema.version_id).unwrap_or_else(|| "LATEST".to_owned()),
    })
}

/// The columns of the table that is named.
fn table<'f>(schema: Option<&Schema>, firehose: &'f FirehoseSettings) -> Result<&'f SchemaSource, Refusal> {
    let of = |name: Option<&String>| name.filter(|name| !name.is_empty()).cloned();
    let database = of(schema.and_then(|schema| schema.database_name.as_ref()));
    let table = of(schema.and_then(|schema| schema.table_name.as_ref()));
    let (Some(database), Some(table)) = (database, table) else {
        return Err(Refusal::invalid("SchemaConfiguration must name a table: DatabaseName and TableName"));
    };
    let version = schema.and_then(|schema| schema.version_id.as_deref());
    if let Some(version) = version.filter(|version| !matches!(*version, "" | "LATEST")) {
        return Err(Refusal::invalid(format!(
            "VersionId {version:?} of the table is not available on this host: a table has the one version of its \
             configuration, LATEST"
        )));
    }
    let name = format!("{database}.{table}");
    firehose.schemas.get(&name).ok_or_else(|| {
        Refusal::invalid(format!(
            "SchemaConfiguration names the table {name:?}, which [firehose.schemas] of this host does not have; AWS Glue \
             is not asked"
        ))
    })
}

fn sizes(written: &Parquet) -> Result<(i64, i64), Refusal> {
    let of = |name: &str, written: Option<i64>, default: i64, max: i64| {
        let bytes = written.unwrap_or(default);
        if bytes <= max {
            return Ok(bytes);
        }
        Err(Refusal::invalid(format!("{name} {bytes} is not available on this host, expected at most {max}")))
    };
    Ok((
        of("BlockSizeBytes", written.block_size_bytes, BLOCK_BYTES, BLOCK_BYTES_MAX)?,
        of("PageSizeBytes", written.page_size_bytes, PAGE_BYTES, PAGE_BYTES_MAX)?,
    ))
}

/// How the deserializer finds columns, and reads times.
fn read_by(conversion: &DataFormatConversion, parquet: &mut Map<String, Value>) {
    let deserializer =
        conversion.input.as_ref().and_then(|input| input.deserializer.clone()).unwrap_or_default();
    if let Some(hive) = deserializer.hive_json {
        // Hive's names of columns are in lower case, and so are the keys that it looks for.
        parquet.insert("case_insensitive".to_owned(), true.into());
        parquet.insert("timestamps".to_owned(), json!(hive.timestamp_formats.unwrap_or_default()));
        return;
    }
    let open_x = deserializer.open_x_json.unwrap_or_default();
    parquet.insert("case_insensitive".to_owned(), open_x.case_insensitive.unwrap_or(true).into());
    parquet.insert("dots_to_underscores".to_owned(), open_x.convert_dots.unwrap_or(false).into());
    parquet.insert("keys".to_owned(), json!(open_x.column_mappings.unwrap_or_default()));
}
