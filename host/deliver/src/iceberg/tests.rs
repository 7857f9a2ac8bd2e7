//! Types and what does not fit, locations, what a table remembers of batches, and files with another footer.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use ::iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::Field;
use parquet::schema::parser::parse_message_type;

use super::catalog::RestConfig;
use super::store::{At, at};
use super::{Iceberg, IcebergConfig, StoreConfig, columns, data_location, file, history};
use crate::destination::Setting;
use crate::fault::Retry;
use crate::http::HttpConfig;
use crate::staged;

/// All types, nested ones in another order than a table may have.
const COLUMNS: &str = "message rows {
    required int64 n;
    optional int32 small;
    optional boolean ok;
    optional float half;
    optional double ratio;
    optional int32 price (DECIMAL(9, 2));
    optional fixed_len_byte_array(13) large (DECIMAL(30, 3));
    optional int32 day (DATE);
    optional int64 at (TIMESTAMP(MICROS, true));
    optional int64 wall (TIMESTAMP(MICROS, false));
    optional binary text (STRING);
    optional binary bytes;
    optional group tags (LIST) { repeated group list { optional binary element (STRING); } }
    optional group counts (MAP) { repeated group key_value { required binary key (STRING); optional int64 value; } }
    optional group place { optional binary city (STRING); optional int32 zip; }
}";

fn table(fields: Vec<NestedField>) -> Schema {
    Schema::builder().with_fields(fields.into_iter().map(Arc::new)).build().unwrap()
}

fn primitive(id: i32, name: &str, kind: PrimitiveType, required: bool) -> NestedField {
    NestedField::new(id, name, Type::Primitive(kind), required)
}

#[test]
fn table_that_is_made_for_columns_has_their_types_and_takes_them() {
    let root = parse_message_type(COLUMNS).unwrap();
    let schema = columns::schema_for(&root).unwrap();
    let kinds: Vec<String> = schema
        .as_struct()
        .fields()
        .iter()
        .map(|field| format!("{}{} {}", field.name, if field.required { "!" } else { "" }, field.field_type))
        .collect();
    assert_eq!(
        kinds[..12],
        [
            "n! long",
            "small int",
            "ok boolean",
            "half float",
            "ratio double",
            "price decimal(9, 2)",
            "large decimal(30, 3)",
            "day date",
            "at timestamptz",
            "wall timestamp",
            "text string",
            "bytes binary",
        ]
    );
    let numbered = columns::numbered(&root, &schema).unwrap();
    let of = |path: &[&str]| {
        let mut column = &numbered;
        for name in path {
            column = column.get_fields().iter().find(|field| field.name() == *name).unwrap();
        }
        column.get_basic_info().has_id().then(|| column.get_basic_info().id())
    };
    let id = |name: &str| schema.field_id_by_name(name);
    assert_eq!(of(&["n"]), id("n"));
    assert_eq!(of(&["tags", "list"]), None);
    assert_eq!(of(&["tags", "list", "element"]), id("tags.element"));
    assert_eq!(of(&["counts", "key_value", "key"]), id("counts.key"));
    assert_eq!(of(&["counts", "key_value", "value"]), id("counts.value"));
    assert_eq!(of(&["place"]), id("place"));
    assert_eq!(of(&["place", "zip"]), id("place.zip"));
    assert!(id("place.zip").is_some() && id("counts.value").is_some());
}

#[test]
fn what_does_not_fit_a_table_is_told_with_column_and_types() {
    let n = || primitive(7, "n", PrimitiveType::Long, true);
    let told = |message: &str, fields: Vec<NestedField>| {
        columns::numbered(&parse_message_type(message).unwrap(), &table(fields)).err().unwrap_or_default()
    };
    // What readers widen, and columns of the table that may be without a value.
    let wider = vec![n(), primitive(8, "more", PrimitiveType::String, false)];
    assert_eq!(told("message rows { required int32 n; }", wider), "");
    let wider = vec![primitive(1, "p", PrimitiveType::Decimal { precision: 12, scale: 2 }, false)];
    assert_eq!(told("message rows { optional int32 p (DECIMAL(9, 2)); }", wider), "");
    for (message, fields, part) in [
        (
            "message rows { required int64 n; optional binary x (STRING); }",
            vec![n()],
            "no column \"x\" (here of type string)",
        ),
        ("message rows { optional int64 n; }", vec![n()], "write `required`"),
        (
            "message rows { required binary n (STRING); }",
            vec![n()],
            "\"n\" is of type string here, and of type long",
        ),
        (
            "message rows { required int64 n; }",
            vec![primitive(7, "n", PrimitiveType::Int, true)],
            "of type long here, and of type int",
        ),
        (
            "message rows { required int64 n; }",
            vec![n(), primitive(8, "k", PrimitiveType::Long, true)],
            "\"k\" must have a value",
        ),
        ("message rows { required group n { optional int64 a; } }", vec![n()], "of type struct here"),
        (
            "message rows { required int64 n (TIMESTAMP(MILLIS, true)); }",
            vec![n()],
            "expected timestamp(us) or timestamp(us, utc)",
        ),
    ] {
        let told = told(message, fields);
        assert!(told.contains(part), "{message}: {told}");
    }
    assert!(columns::schema_for(&parse_message_type("message m { optional int96 t; }").unwrap()).is_err());
}

#[test]
fn location_is_an_object_or_a_file_or_unknown() {
    assert_eq!(at("s3://b/a/c.avro"), Some(At::S3 { bucket: "b", key: "a/c.avro" }));
    assert_eq!(at("s3a://b/a"), Some(At::S3 { bucket: "b", key: "a" }));
    for path in ["file:///a/b", "file:/a/b", "/a/b"] {
        assert_eq!(at(path), Some(At::File("/a/b")), "{path}");
    }
    for unknown in ["gs://b/a", "s3://b", "s3:///a", "a/b", "file:a", "file://host/a", ""] {
        assert_eq!(at(unknown), None, "{unknown}");
    }
}

fn metadata(properties: &[(String, String)]) -> ::iceberg::spec::TableMetadata {
    let creation = ::iceberg::TableCreation::builder()
        .name("t".to_owned())
        .location("s3://b/t".to_owned())
        .schema(table(vec![primitive(1, "n", PrimitiveType::Long, true)]))
        .properties(properties.iter().cloned())
        .build();
    let built = ::iceberg::spec::TableMetadataBuilder::from_table_creation(creation).unwrap().build();
    built.unwrap().metadata
}

#[test]
fn table_remembers_the_newest_batches_of_an_output() {
    let mut meta = staged::meta("a", b"");
    let mut properties = vec![("x".to_owned(), "y".to_owned())];
    for n in 0..40 {
        meta.batch_id = format!("batch-{n:02}");
        let known = metadata(&properties);
        assert!(!history::has(&known, &meta), "{n}");
        properties = vec![(history::property(&meta), history::with(&known, &meta))];
        assert!(history::has(&metadata(&properties), &meta));
    }
    assert_eq!(properties[0].0, "wasmill.batches.access.default");
    let known = metadata(&properties);
    let listed: Vec<bool> = (0..40)
        .map(|n| {
            meta.batch_id = format!("batch-{n:02}");
            history::has(&known, &meta)
        })
        .collect();
    assert_eq!(listed.iter().filter(|is_listed| **is_listed).count(), 32);
    assert!(listed[8] && !listed[7]);
    // Of another output, and a part of an id.
    meta.batch_id = "batch-39".to_owned();
    meta.output = "other".to_owned();
    assert!(!history::has(&known, &meta));
    meta.output = "default".to_owned();
    meta.batch_id = "batch-3".to_owned();
    assert!(!history::has(&known, &meta));
    assert_eq!(history::summary(&meta).count(), 3);
}

#[test]
fn data_files_are_where_the_table_says() {
    assert_eq!(data_location(&metadata(&[]), "a"), "s3://b/t/data/a.parquet");
    let moved = metadata(&[("write.data.path".to_owned(), "s3://c/d/".to_owned())]);
    assert_eq!(data_location(&moved, "a"), "s3://c/d/a.parquet");
}

#[test]
fn file_with_another_footer_has_the_same_rows_and_what_a_table_keeps_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (body, to) = (dir.path().join("body"), dir.path().join("to"));
    let columns =
        "message rows { required int64 n; optional binary text (STRING); optional int32 price (DECIMAL(9, 2));
        optional fixed_len_byte_array(13) large (DECIMAL(30, 3)); }";
    let root = Arc::new(parse_message_type(columns).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(File::create(&body).unwrap(), root, properties).unwrap();
    for group in 0..2_i64 {
        let mut rows = writer.next_row_group().unwrap();
        while let Some(mut column) = rows.next_column().unwrap() {
            match column.untyped() {
                ColumnWriter::Int64ColumnWriter(n) => {
                    n.write_batch(&[group * 10, group * 10 + 3], None, None).unwrap()
                }
                ColumnWriter::ByteArrayColumnWriter(text) => {
                    text.write_batch(&[ByteArray::from("b")], Some(&[0, 1]), None).unwrap()
                }
                ColumnWriter::Int32ColumnWriter(price) => {
                    price.write_batch(&[-500, 1234], Some(&[1, 1]), None).unwrap()
                }
                // None has a value.
                ColumnWriter::FixedLenByteArrayColumnWriter(large) => {
                    large.write_batch(&[] as &[FixedLenByteArray], Some(&[0, 0]), None).unwrap()
                }
                _ => unreachable!(),
            };
            column.close().unwrap();
        }
        rows.close().unwrap();
    }
    writer.close().unwrap();

    let footer = file::read_footer(&File::open(&body).unwrap()).unwrap();
    let schema = table(vec![
        primitive(30, "text", PrimitiveType::String, false),
        primitive(11, "n", PrimitiveType::Long, true),
        primitive(12, "price", PrimitiveType::Decimal { precision: 9, scale: 2 }, false),
        primitive(13, "large", PrimitiveType::Decimal { precision: 30, scale: 3 }, false),
    ]);
    let numbered = columns::numbered(super::root(&footer), &schema).unwrap();
    let made = file::renumber(&body, &footer, numbered, &to).unwrap();
    assert_eq!(made.bytes, std::fs::metadata(&to).unwrap().len());
    assert_eq!(made.digest, xxhash_rust::xxh3::xxh3_128(&std::fs::read(&to).unwrap()));
    let read = SerializedFileReader::new(File::open(&to).unwrap()).unwrap();
    let ids: Vec<i32> = read
        .metadata()
        .file_metadata()
        .schema()
        .get_fields()
        .iter()
        .map(|field| field.get_basic_info().id())
        .collect();
    assert_eq!(ids, [11, 30, 12, 13]);
    let rows: Vec<_> = read.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    let numbers: Vec<&Field> = rows.iter().map(|row| row.get_column_iter().next().unwrap().1).collect();
    assert_eq!(numbers, [&Field::Long(0), &Field::Long(3), &Field::Long(10), &Field::Long(13)]);

    let entry = file::entry(&made, "s3://b/t/data/a.parquet", &schema, 0).unwrap();
    assert_eq!((entry.record_count(), entry.file_size_in_bytes()), (4, made.bytes));
    assert_eq!(entry.value_counts(), &HashMap::from([(11, 4), (30, 4), (12, 4), (13, 4)]));
    assert_eq!(entry.null_value_counts(), &HashMap::from([(11, 0), (30, 2), (12, 0), (13, 4)]));
    let bound = |bounds: &HashMap<i32, ::iceberg::spec::Datum>, id| bounds.get(&id).map(ToString::to_string);
    let both = |id| (bound(entry.lower_bounds(), id), bound(entry.upper_bounds(), id));
    assert_eq!(both(11), (Some("0".to_owned()), Some("13".to_owned())));
    assert_eq!(both(30), (Some("\"b\"".to_owned()), Some("\"b\"".to_owned())));
    assert_eq!(both(12), (Some("-5.00".to_owned()), Some("12.34".to_owned())));
    assert_eq!(both(13), (None, None));
    assert_eq!(entry.split_offsets().map(<[i64]>::len), Some(2));
}

fn config(url: &str) -> IcebergConfig {
    IcebergConfig {
        catalog: RestConfig {
            http: HttpConfig {
                url: url.to_owned(),
                headers: Default::default(),
                ca: None,
                timeout: std::time::Duration::from_secs(5),
                reach: None,
            },
            warehouse: None,
            token: None,
            credential: Some("id:sesame".to_owned()),
            oauth2_url: None,
            scope: None,
        },
        namespace: vec!["a".to_owned()],
        table: "t".to_owned(),
        create: false,
        store: StoreConfig::default(),
        columns: None,
    }
}

#[test]
fn settings_that_cannot_work_are_told_at_their_place() {
    let mut wrong = config("ftp://a");
    wrong.catalog.token = Some("a\nb".to_owned());
    wrong.catalog.http.headers.insert("Authorization".to_owned(), "x".to_owned());
    wrong.store.endpoint = Some("nowhere".to_owned());
    let at: Vec<Setting> = wrong.wrong().into_iter().map(|wrong| wrong.at).collect();
    let header = Setting::Header("Authorization".to_owned());
    assert_eq!(at, [Setting::Url, header, Setting::Token, Setting::Endpoint]);
    assert!(config("http://127.0.0.1:1/api").wrong().is_empty());
}

#[tokio::test]
async fn catalog_that_is_down_is_tried_later_and_no_secret_is_told() {
    let config = config("http://user:s3cr3t@127.0.0.1:1/api?key=s3cr3t");
    let table = Iceberg::open(&config).await.unwrap();
    let error = table.probe().await.unwrap_err();
    assert_eq!(error.retry, Retry::Later { after: None });
    assert_eq!(error.message, "the table cannot be loaded: the catalog cannot be reached");
    let shown = format!("{error:?} {table:?} {config:?}");
    assert!(!shown.contains("s3cr3t") && !shown.contains("sesame"), "{shown}");
}
