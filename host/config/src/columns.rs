//! Columnar outputs: from raw keys to settings. Reads schema files; what a schema's text means is judged elsewhere.

use std::path::Path;

use crate::authority::Authority;
use crate::raw;
use crate::resolve::Resolver;
use crate::settings::{Codec, Compression, Destination, Format, Parquet, SchemaSource};

/// Longest schema file, in bytes.
const SCHEMA_MAX: u64 = 1 << 20;
/// Bytes of a row group.
const ROW_GROUP: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;
/// Bytes of a page.
const PAGE: std::ops::RangeInclusive<u64> = 4 << 10..=64 << 20;

impl Resolver<'_> {
    /// The columns of an output whose format has some.
    pub(crate) fn parquet(
        &mut self,
        key: &str,
        format: Format,
        destination: &Destination,
        written: Option<raw::Parquet>,
    ) -> Option<Parquet> {
        let table = format!("{key}.parquet");
        if format != Format::Parquet {
            if written.is_some() && self.sound(&format!("{key}.format")) {
                self.problem(&table, "\"parquet\" has no effect without format = \"parquet\"");
            }
            return None;
        }
        if !matches!(destination, Destination::Directory(_) | Destination::S3(_) | Destination::Iceberg(_)) {
            let message = format!(
                "format \"parquet\" is for directory, s3 and iceberg outputs: an {} output has no files",
                destination.kind()
            );
            self.problem(&format!("{key}.format"), message);
            return None;
        }
        let Some(written) = written else {
            if self.sound(&table) {
                self.problem(
                    &format!("{key}.format"),
                    "format \"parquet\" needs columns: parquet = { schema = \"id: int64, name: string\" }, or { infer = true }",
                );
            }
            return None;
        };
        let raw::Parquet { schema, schema_file, infer, row_group, page, version, .. } = written;
        let (schema, schema_key) = self.schema(&table, schema, schema_file, infer)?;
        if !ROW_GROUP.contains(&row_group.0) {
            self.problem(&format!("{table}.row_group"), "\"row_group\" must be from 64KiB to 1GiB");
        }
        if !PAGE.contains(&page.0) {
            self.problem(&format!("{table}.page"), "\"page\" must be from 4KiB to 64MiB");
        }
        Some(Parquet {
            schema,
            schema_key,
            row_group: row_group.0,
            page: page.0,
            v2: matches!(version, raw::ParquetVersion::V2),
            case_insensitive: written.case_insensitive,
            dots_to_underscores: written.dots_to_underscores,
            keys: written.keys,
            timestamps: written.timestamps,
        })
    }

    /// Exactly one of the three, and its key.
    fn schema(
        &mut self,
        table: &str,
        text: Option<String>,
        file: Option<String>,
        infer: bool,
    ) -> Option<(SchemaSource, String)> {
        let file_key = format!("{table}.schema_file");
        match (text, file, infer) {
            (Some(text), None, false) => Some((SchemaSource::Columns(text), format!("{table}.schema"))),
            (None, Some(written), false) => {
                if matches!(self.authority, Authority::Bound(_)) {
                    let message = "a file of the host is for streams of the configuration file: write the columns in \"schema\"";
                    self.problem(&file_key, message);
                    return None;
                }
                let text = self.schema_file(&file_key, &written)?;
                Some((SchemaSource::Columns(text), file_key))
            }
            (None, None, true) => Some((SchemaSource::Infer, format!("{table}.infer"))),
            (None, None, false) => {
                if self.sound(table) {
                    self.problem(
                        table,
                        "no columns: expected \"schema\", \"schema_file\", or infer = true, which takes them from the first batch",
                    );
                }
                None
            }
            _ => {
                self.problem(table, "\"schema\", \"schema_file\" and \"infer\" exclude each other: keep one");
                None
            }
        }
    }

    /// The text of a schema file.
    pub(crate) fn schema_file(&mut self, key: &str, written: &str) -> Option<String> {
        let path = self.path(key, written);
        match read(&path) {
            Ok(text) => Some(text),
            Err(why) => {
                self.problem(key, format!("schema file {}: {why}", path.display()));
                None
            }
        }
    }

    /// Compression inside a Parquet file, which has codecs of its own.
    pub(crate) fn parquet_codec(&mut self, key: &str, compression: Compression) {
        match compression.codec {
            Codec::None | Codec::Gzip | Codec::Zstd | Codec::Snappy => {}
            Codec::SnappyJava | Codec::HadoopSnappy | Codec::Zip => {
                self.problem(
                    &format!("{key}.compression"),
                    "pages of Parquet are compressed with \"snappy\", \"zstd\", \"gzip\" or \"none\"",
                );
            }
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !size.is_file() {
        return Err("no file".to_owned());
    }
    if size.len() > SCHEMA_MAX {
        return Err(format!("has {} bytes, the limit is {SCHEMA_MAX}", size.len()));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_other| "is not UTF-8".to_owned())
}
