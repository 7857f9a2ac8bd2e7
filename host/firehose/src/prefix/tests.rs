//! One row for each rule of names.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

const AT: &str = "2026-07-13T14:15:16Z";

static UTC: TimeZone = TimeZone::UTC;

struct Numbers(u64);

impl Randomness for Numbers {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

fn keys(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn layout(prefix: Option<&str>, errors: Option<&str>) -> Layout {
    let parse = |text: Option<&str>, place| Template::parse(text.unwrap_or_default(), place).unwrap();
    let (prefix, errors) = (parse(prefix, Place::Prefix), parse(errors, Place::ErrorOutputPrefix));
    Layout::new(prefix, errors, Compression::None, None)
}

fn context<'a>(zone: &'a TimeZone, keys: PartitionKeys<'a>) -> Context<'a> {
    Context { at: AT.parse().unwrap(), zone, stream: "clicks", version: 3, keys }
}

const SUFFIX: &str = "clicks-3-2026-07-13-14-15-16-";

#[test]
fn every_rule_of_prefixes_has_its_row() {
    let errors = Some("e/!{firehose:error-output-type}/");
    let tokyo = Some("Asia/Tokyo");
    // What is said, prefix, prefix of errors, zone, evaluated prefix, evaluated prefix of errors.
    for (rule, prefix, error_prefix, zone, expected, expected_errors) in [
        (
            "the default is the time, for errors after their type",
            None,
            None,
            None,
            "2026/07/13/14/",
            "processing-failed/2026/07/13/14/",
        ),
        ("empty is absent", Some(""), Some(""), None, "2026/07/13/14/", "processing-failed/2026/07/13/14/"),
        (
            "time is appended without a slash",
            Some("legacy"),
            None,
            None,
            "legacy2026/07/13/14/",
            "legacyprocessing-failed/2026/07/13/14/",
        ),
        (
            "a slash that is there stays",
            Some("logs/"),
            None,
            None,
            "logs/2026/07/13/14/",
            "logs/processing-failed/2026/07/13/14/",
        ),
        (
            "plain errors are as a plain prefix",
            Some("a/"),
            Some("bad/"),
            None,
            "a/2026/07/13/14/",
            "bad/processing-failed/2026/07/13/14/",
        ),
        (
            "plain records, errors with expressions",
            Some("a/"),
            errors,
            None,
            "a/2026/07/13/14/",
            "e/processing-failed/",
        ),
        (
            "nothing is appended to expressions",
            Some("!{timestamp:yyyy}-"),
            errors,
            None,
            "2026-",
            "e/processing-failed/",
        ),
        (
            "not even without a time",
            Some("r/!{firehose:random-string}/"),
            errors,
            None,
            "r/10000000000/",
            "e/processing-failed/",
        ),
        (
            "a plain prefix of errors beside expressions",
            Some("!{timestamp:MM}/"),
            Some("bad"),
            None,
            "07/",
            "badprocessing-failed/2026/07/13/14/",
        ),
        (
            "patterns have quotes",
            Some("!{timestamp:'year='yyyy'/month='MM}/"),
            errors,
            None,
            "year=2026/month=07/",
            "e/processing-failed/",
        ),
        (
            "all times are of one moment",
            Some("!{timestamp:yyyy}/!{timestamp:MM}/!{timestamp:ss}/"),
            errors,
            None,
            "2026/07/16/",
            "e/processing-failed/",
        ),
        (
            "random strings are new at each use",
            Some("!{firehose:random-string}!{firehose:random-string}"),
            errors,
            None,
            "1000000000020000000000",
            "e/processing-failed/",
        ),
        (
            "errors may have time and randomness",
            None,
            Some("!{firehose:error-output-type}/!{timestamp:dd}/!{firehose:random-string}"),
            None,
            "2026/07/13/14/",
            "processing-failed/13/10000000000",
        ),
        (
            "the zone shifts the default",
            None,
            None,
            tokyo,
            "2026/07/13/23/",
            "processing-failed/2026/07/13/23/",
        ),
        (
            "the zone shifts expressions",
            Some("!{timestamp:HH}/"),
            Some("!{timestamp:HH}/!{firehose:error-output-type}/"),
            tokyo,
            "23/",
            "23/processing-failed/",
        ),
        (
            "keys of queries",
            Some("c=!{partitionKeyFromQuery:customer}/"),
            errors,
            None,
            "c=acme/",
            "e/processing-failed/",
        ),
        (
            "keys of transforms",
            Some("d=!{partitionKeyFromLambda:device}/"),
            errors,
            None,
            "d=phone/",
            "e/processing-failed/",
        ),
        (
            "keys beside time",
            Some("!{partitionKeyFromQuery:customer}/!{timestamp:yyyy}/"),
            errors,
            None,
            "acme/2026/",
            "e/processing-failed/",
        ),
        (
            "what is no expression is literal",
            Some("a!b{c}/!{timestamp:yyyy}/$"),
            errors,
            None,
            "a!b{c}/2026/$",
            "e/processing-failed/",
        ),
    ] {
        let zone = time_zone(zone).unwrap();
        let (query, lambda) = (keys(&[("customer", "acme")]), keys(&[("device", "phone")]));
        let context = context(&zone, PartitionKeys { from_query: Some(&query), from_lambda: Some(&lambda) });
        let layout = layout(prefix, error_prefix);
        let name = layout.object(&context, &mut Numbers(0)).unwrap();
        let suffix = if zone == TimeZone::UTC { SUFFIX } else { "clicks-3-2026-07-13-23-15-16-" };
        let rest = name.strip_prefix(expected).unwrap_or_else(|| panic!("{rule}: {name}"));
        assert_eq!(rest.strip_prefix(suffix).map(str::len), Some(36), "{rule}: {name}");
        let name = layout.error_object(&context, ErrorOutputType::ProcessingFailed, &mut Numbers(0)).unwrap();
        let rest = name.strip_prefix(expected_errors).unwrap_or_else(|| panic!("{rule}: {name}"));
        assert_eq!(rest.strip_prefix(suffix).map(str::len), Some(36), "{rule}: {name}");
    }
}

#[test]
fn extensions_follow_the_compression_unless_one_is_given() {
    for (compression, given, expected) in [
        (Compression::None, None, ""),
        (Compression::Gzip, None, ".gz"),
        (Compression::Zip, None, ".zip"),
        (Compression::Snappy, None, ".snappy"),
        (Compression::HadoopSnappy, None, ".snappy"),
        (Compression::Parquet, None, ".parquet"),
        (Compression::Orc, None, ".orc"),
        (Compression::Gzip, Some(""), ".gz"),
        (Compression::Gzip, Some(".json"), ".json"),
        (Compression::None, Some(".tar.gz"), ".tar.gz"),
    ] {
        let layout = Layout::new(Template::default(), Template::default(), compression, given);
        let name = layout.object(&context(&UTC, PartitionKeys::default()), &mut Seeded(1)).unwrap();
        let expected = format!("2026/07/13/14/{SUFFIX}910a2dec-8902-4cc1-beeb-8da1658eec67{expected}");
        assert_eq!(name, expected, "{compression:?} {given:?}");
        let context = context(&UTC, PartitionKeys::default());
        let name =
            layout.error_object(&context, ErrorOutputType::HttpEndpointFailed, &mut Seeded(1)).unwrap();
        assert!(!name.contains('.'), "objects of errors have none: {name}");
    }
    assert_eq!(Compression::of("HADOOP_SNAPPY"), Some(Compression::HadoopSnappy));
    assert_eq!(Compression::of("gzip"), None);
}

#[test]
fn a_name_is_made_again_from_the_same_seed() {
    let layout = layout(Some("!{firehose:random-string}/"), Some("!{firehose:error-output-type}"));
    let context = context(&UTC, PartitionKeys::default());
    let name = |seed| layout.object(&context, &mut Seeded(seed)).unwrap();
    assert_eq!(name(7), name(7));
    assert_ne!(name(7), name(8));
    let uuid = &name(7)[name(7).len() - 36..];
    assert_eq!((uuid.as_bytes()[14], uuid.as_bytes()[8]), (b'4', b'-'), "{uuid}");
    assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
}

#[test]
fn keys_that_are_missing_or_empty_and_prefixes_that_are_too_long_are_told() {
    let layout = layout(Some("!{partitionKeyFromQuery:k}"), Some("!{firehose:error-output-type}"));
    let render = |values: &BTreeMap<String, String>| {
        let context = context(&UTC, PartitionKeys { from_query: Some(values), from_lambda: None });
        layout.prefix(&context, &mut Seeded(0))
    };
    assert_eq!(render(&keys(&[])), Err(RenderError::MissingKey { key: "k".to_owned() }));
    assert_eq!(render(&keys(&[("k", "")])), Err(RenderError::EmptyKey { key: "k".to_owned() }));
    assert_eq!(render(&keys(&[("k", &"ä".repeat(512))])), Ok("ä".repeat(512)));
    assert_eq!(render(&keys(&[("k", &"x".repeat(513))])), Err(RenderError::TooLong { length: 513 }));
}

#[test]
fn types_of_errors_are_those_of_the_service_and_two_more() {
    for (error, expected) in [
        (ErrorOutputType::ProcessingFailed, "processing-failed/"),
        (ErrorOutputType::FormatConversionFailed, "format-conversion-failed/"),
        (ErrorOutputType::HttpEndpointFailed, "http-endpoint-failed/"),
        (ErrorOutputType::OpenSearchFailed, "AmazonOpenSearchService-failed/"),
        (ErrorOutputType::SplunkFailed, "splunk-failed/"),
        (ErrorOutputType::SnowflakeFailed, "snowflake-failed/"),
        (ErrorOutputType::IcebergFailed, "iceberg-failed/"),
        (ErrorOutputType::MetadataExtractionFailed, "metadata-extraction-failed/"),
        (ErrorOutputType::ActivePartitionExceeded, "activePartitionExceeded/"),
        (ErrorOutputType::S3Failed, "s3-failed/"),
        (ErrorOutputType::RedshiftFailed, "redshift-failed/"),
    ] {
        let context = context(&UTC, PartitionKeys::default());
        let name = layout(None, None).error_object(&context, error, &mut Seeded(0)).unwrap();
        assert!(name.starts_with(expected), "{name}");
    }
}

proptest! {
    #[test]
    fn any_text_parses_or_says_where_it_does_not_and_renders_within_the_limit(
        text in r"([a-z/!{}:' ]|!\{timestamp:|!\{firehose:|random-string\}|yyyy|MM|\}){0,200}",
        seed in any::<u64>(),
        seconds in -62_000_000_000i64..250_000_000_000,
    ) {
        match Template::parse(&text, Place::Prefix) {
            Err(error) => prop_assert!(error.at <= text.len() && text.is_char_boundary(error.at)),
            Ok(template) => {
                let literal = !template.has_expressions();
                let layout = Layout::new(template, Template::default(), Compression::None, None);
                let context = Context {
                    at: jiff::Timestamp::from_second(seconds).unwrap(),
                    zone: &UTC,
                    stream: "s",
                    version: 1,
                    keys: PartitionKeys::default(),
                };
                match layout.prefix(&context, &mut Seeded(seed)) {
                    Ok(prefix) => {
                        prop_assert!(prefix.chars().count() <= 512);
                        prop_assert!(!literal || prefix.starts_with(&text));
                    }
                    Err(error) => {
                        let is_too_long = matches!(error, RenderError::TooLong { length } if length > 512);
                        prop_assert!(is_too_long);
                    }
                }
            }
        }
    }
}
