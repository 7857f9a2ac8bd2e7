//! What the options do to a file: names, codecs, row groups, pages, versions; and what a file looks like to others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{self, Write};

use parquet::basic::{ConvertedType, Encoding, LogicalType, Repetition, Type as Physical};
use parquet::file::reader::FileReader;
use serde_json::json;
use wasmill_columnar::{
    Compression, ConvertError, Converter, Names, Options, Schema, SetupError, Timestamps, WriterVersion,
};

mod reading;

use reading::{file, open, read};

fn log(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| {
            format!(
                "{{\"at\":{},\"path\":\"/images/{}\",\"status\":{},\"bytes\":{},\"tags\":[\"a\",\"t{}\"]}}",
                1_700_000_000_000_u64 + n as u64 * 37,
                n * 7919 % 100_003,
                200 + n % 7,
                n * n % 65_521,
                n % 50,
            )
        })
        .collect()
}

const LOG: &str = "at: timestamp, path: string, status: int32, bytes: int64, tags: list<string>";

#[test]
fn names_follow_their_rules() {
    let row = r#"{"ClientIP":"a","Client.Port":1,"ts":2,"STRASSE":{"ÉTÉ":3,"x.y":4},"extra":{"deep":[{}]}}"#;
    let schema = "clientip: string, client_port: int32, time: int64, strasse: struct<été: int32, x_y: int32>";
    let keys = BTreeMap::from([("time".to_owned(), "TS".to_owned())]);
    let options = |names| Options { names, ..Options::default() };
    let all = Names { case_insensitive: true, dots_to_underscores: true, keys };
    let (body, _) = file(schema, &options(all), &[row]);
    let whole = json!({"clientip": "a", "client_port": 1, "time": 2, "strasse": {"été": 3, "x_y": 4}});
    assert_eq!(read(&body), [whole]);
    let none = Names { case_insensitive: false, ..Names::default() };
    let (body, _) = file(schema, &options(none), &[row]);
    assert_eq!(read(&body), [json!({"clientip": null, "client_port": null, "time": null, "strasse": null})]);
}

#[test]
fn key_of_a_column_hides_its_name() {
    let keys = BTreeMap::from([("a".to_owned(), "b".to_owned()), ("b".to_owned(), "a".to_owned())]);
    let options = Options { names: Names { keys, ..Names::default() }, ..Options::default() };
    let (body, _) = file("a: int32, b: int32", &options, &[r#"{"a":1,"b":2}"#]);
    assert_eq!(read(&body), [json!({"a": 2, "b": 1})]);
}

#[test]
fn keys_in_any_order_fill_their_columns() {
    let rows = [r#"{"c":3,"a":1,"b":2}"#, r#"{"x":0,"b":2,"y":[],"c":3,"a":1,"b":4}"#, "{}"];
    let (body, _) = file("a: int32, b: int32, c: int32", &Options::default(), &rows);
    let none = json!({"a": null, "b": null, "c": null});
    assert_eq!(read(&body), [json!({"a": 1, "b": 2, "c": 3}), json!({"a": 1, "b": 4, "c": 3}), none]);
}

#[test]
fn every_codec_and_version_reads_back_and_repeats_itself() {
    let rows = log(3000);
    let (plain, _) = file(LOG, &Options { compression: Compression::None, ..Options::default() }, &rows);
    let expected = read(&plain);
    assert_eq!(expected[1]["path"], json!("/images/7919"));
    for compression in [
        Compression::None,
        Compression::Snappy,
        Compression::Gzip { level: 6 },
        Compression::Zstd { level: 3 },
    ] {
        for version in [WriterVersion::V1, WriterVersion::V2] {
            let options = Options { compression, version, ..Options::default() };
            let (body, _) = file(LOG, &options, &rows);
            assert!(read(&body) == expected, "{compression:?} {version:?}");
            assert!(file(LOG, &options, &rows).0 == body, "{compression:?} {version:?} again");
            let column = open(&body).metadata().row_group(0).column(1).compression();
            assert_eq!(column == parquet::basic::Compression::UNCOMPRESSED, compression == Compression::None);
            assert_eq!(
                open(&body).metadata().file_metadata().version(),
                if version == WriterVersion::V1 { 1 } else { 2 }
            );
        }
    }
}

#[test]
fn row_groups_are_closed_by_size() {
    let rows = log(20_000);
    let options = Options { row_group_bytes: 256 << 10, ..Options::default() };
    let (body, report) = file(LOG, &options, &rows);
    let reader = open(&body);
    let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(report.written.row_groups, groups.len() as u64);
    assert_eq!(groups.iter().sum::<i64>(), 20_000);
    assert!((4..20).contains(&groups.len()), "{groups:?}");
    // Rows of about the same size: groups of about the same number, but for the last.
    assert!(
        groups[..groups.len() - 1].iter().all(|rows| (rows - groups[0]).abs() < groups[0] / 10),
        "{groups:?}"
    );
    let (whole, report) = file(LOG, &Options::default(), &rows);
    assert_eq!(report.written.row_groups, 1);
    assert!(read(&body) == read(&whole));
}

#[test]
fn pages_are_closed_by_size() {
    let pages = |page_bytes| {
        let (body, _) = file(LOG, &Options { page_bytes, ..Options::default() }, &log(20_000));
        let reader = open(&body);
        let group = reader.get_row_group(0).unwrap();
        let mut pages = group.get_column_page_reader(3).unwrap();
        let mut count = 0;
        while pages.get_next_page().unwrap().is_some() {
            count += 1;
        }
        count
    };
    assert!(pages(4 << 10) > pages(1 << 20) + 5);
}

#[test]
fn columns_are_what_the_format_calls_them() {
    let schema = "a: int64 required, b: decimal(9, 2), c: timestamp(us, utc), d: timestamp(ms), \
                  e: list<string required>, f: map<string, double>, g: date, h: binary";
    let (body, _) = file(schema, &Options::default(), &["{\"a\":1}"]);
    let reader = open(&body);
    let metadata = reader.metadata().file_metadata();
    assert_eq!(metadata.key_value_metadata().map_or(0, Vec::len), 0, "nothing but the format's own");
    let columns = metadata.schema_descr().columns();
    let paths: Vec<String> = columns.iter().map(|column| column.path().string()).collect();
    assert_eq!(
        paths,
        ["a", "b", "c", "d", "e.list.element", "f.key_value.key", "f.key_value.value", "g", "h"]
    );
    assert_eq!(columns[0].self_type().get_basic_info().repetition(), Repetition::REQUIRED);
    assert_eq!((columns[1].physical_type(), columns[1].type_precision()), (Physical::INT32, 9));
    for (column, adjusted) in [(2, true), (3, false)] {
        let logical = columns[column].logical_type_ref();
        assert!(
            matches!(logical, Some(LogicalType::Timestamp { is_adjusted_to_u_t_c, .. }) if *is_adjusted_to_u_t_c == adjusted),
            "{logical:?}"
        );
    }
    assert_eq!(columns[4].self_type().get_basic_info().repetition(), Repetition::REQUIRED);
    assert_eq!(columns[4].converted_type(), ConvertedType::UTF8);
    assert_eq!(columns[7].converted_type(), ConvertedType::DATE);
    assert_eq!(columns[8].converted_type(), ConvertedType::NONE);
    let encodings: Vec<Encoding> = reader.metadata().row_group(0).column(0).encodings().collect();
    assert!(encodings.contains(&Encoding::PLAIN), "{encodings:?}");
}

#[test]
fn file_without_rows_is_a_file() {
    for rows in [vec![], vec!["no row"]] {
        let (body, report) = file(LOG, &Options::default(), &rows);
        assert_eq!((read(&body).len(), report.written.rows, report.written.row_groups), (0, 0, 0));
        assert_eq!(report.rejected.len(), rows.len());
    }
}

#[test]
fn neighbours_of_refused_rows_are_the_rows_of_a_clean_file() {
    let clean = log(5000);
    let bad =
        ["{", "{\"status\":\"x\"}", "{\"path\":\"p\",\"tags\":[\"a\",\"b\"],\"bytes\":[]}", "{\"tags\":7}"];
    let mixed: Vec<&str> = clean.iter().enumerate().flat_map(|(n, row)| [row.as_str(), bad[n % 4]]).collect();
    let options = Options { row_group_bytes: 256 << 10, ..Options::default() };
    let (body, report) = file(LOG, &options, &mixed);
    assert_eq!(report.rejected.len(), clean.len());
    assert!(report.rejected.iter().enumerate().all(|(n, refused)| refused.row == 2 * n as u64 + 1));
    assert!(body == file(LOG, &options, &clean).0);
}

struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.0 {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "full"));
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn writer_that_fails_is_told_as_it_is() {
    let schema = Schema::from_config(LOG).unwrap();
    let converter =
        Converter::new(&schema, &Options { row_group_bytes: 64 << 10, ..Options::default() }).unwrap();
    for room in [0, 100, 50_000] {
        let error = converter.convert(log(20_000), &mut Full(room)).unwrap_err();
        assert!(
            matches!(&error, ConvertError::Write(e) if e.kind() == io::ErrorKind::StorageFull),
            "{error:?}"
        );
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let schema = Schema::from_config("a: int32, B: int32, a_b: int32, \"a.b\": int32").unwrap();
    let refused = |options: Options| Converter::new(&schema, &options).unwrap_err().to_string();
    let names = |names| Options { names, ..Options::default() };
    let keys = |column: &str, key: &str| BTreeMap::from([(column.to_owned(), key.to_owned())]);
    assert_eq!(
        refused(Options { row_group_bytes: 1, ..Options::default() }),
        "row groups of 1 bytes, expected 65536 to 1073741824"
    );
    assert_eq!(
        refused(Options { page_bytes: 1 << 30, ..Options::default() }),
        "pages of 1073741824 bytes, expected 4096 to 67108864"
    );
    assert_eq!(
        refused(Options { compression: Compression::Zstd { level: 20 }, ..Options::default() }),
        "zstd level 20, expected 1 to 19"
    );
    assert_eq!(
        refused(Options { compression: Compression::Gzip { level: 0 }, ..Options::default() }),
        "gzip level 0, expected 1 to 9"
    );
    assert_eq!(
        refused(names(Names { dots_to_underscores: true, ..Names::default() })),
        "fields \"a_b\" and \"a.b\" would both be filled from the JSON key \"a_b\""
    );
    assert_eq!(
        refused(names(Names { keys: keys("c", "x"), ..Names::default() })),
        "a JSON key is given for the column \"c\", which the schema does not have"
    );
    assert_eq!(
        refused(names(Names { keys: keys("a", "b"), ..Names::default() })),
        "fields \"a\" and \"B\" would both be filled from the JSON key \"b\""
    );
    let hive = Options { timestamps: Timestamps::Hive(vec!["yy".to_owned()]), ..Options::default() };
    assert_eq!(
        refused(hive),
        "timestamp format \"yy\": a year of 2 digits means different years on different days, expected `yyyy`"
    );
    let twice = Schema::from_config("x: struct<A: int32, a: int32>").unwrap();
    assert!(matches!(Converter::new(&twice, &Options::default()), Err(SetupError::SameKey { .. })));
    assert!(Converter::new(&twice, &names(Names { case_insensitive: false, ..Names::default() })).is_ok());
}
