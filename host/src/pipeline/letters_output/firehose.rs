//! Letters as Amazon Data Firehose writes records that failed: one JSON object a line, grouped by the type of error that
//! stands in the object's name.
//!
//! Source: Developer Guide, chapter on handling failures. A reason that begins with a code of Firehose (`Lambda.…: `,
//! `DynamicPartitioning.…: `) is told apart from its message; others have the code of their type.
//!
//! Firehose documents no type and no lines for what a bucket, Redshift or Iceberg does not take (the first loses it, the second
//! lists it in a manifest): their types, `s3-failed` and `redshift-failed`, and all their codes are this host's.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wasmill_config::{CatalogTable, FirehoseErrors};
use wasmill_deliver::{Destination, ErrorOutputType, FRAMED_CONTENT_TYPE, ObjectMeta, each_row};

use crate::pipeline::dead_letters::{DeadLetter, LetterRow, Stage};

/// How codes of documents begin, before the status that the cluster gave.
const OPEN_SEARCH: &str = "OpenSearch";
const HTTP_ENDPOINT: &str = "HttpEndpoint";
/// Name of the transform that takes partition keys out of records, where the Firehose API has made the stream.
const PARTITION: &str = "partition";

/// Of what is given up there.
pub(super) fn type_of(destination: &Destination) -> ErrorOutputType {
    match destination {
        Destination::Http(_) | Destination::Endpoint(_) => ErrorOutputType::HttpEndpointFailed,
        Destination::Splunk(_) => ErrorOutputType::SplunkFailed,
        Destination::OpenSearch(_) => ErrorOutputType::OpenSearchFailed,
        Destination::Redshift(_) => ErrorOutputType::RedshiftFailed,
        Destination::Iceberg(_) => ErrorOutputType::IcebergFailed,
        // Objects, wherever they were to stand.
        _ => ErrorOutputType::S3Failed,
    }
}

/// `of_output` is the type of what the letter's output gives up, where there still is such an output.
pub(super) fn error_type(letter: &DeadLetter, of_output: Option<ErrorOutputType>) -> ErrorOutputType {
    match letter.stage {
        Stage::Transform if letter.transform == PARTITION => ErrorOutputType::MetadataExtractionFailed,
        Stage::Transform => ErrorOutputType::ProcessingFailed,
        Stage::Encode => ErrorOutputType::FormatConversionFailed,
        Stage::Delivery => match code(&letter.reason).and_then(|(code, _)| code.split_once('.')) {
            Some(("Splunk", _)) => ErrorOutputType::SplunkFailed,
            Some((OPEN_SEARCH, _)) => ErrorOutputType::OpenSearchFailed,
            Some((HTTP_ENDPOINT, _)) => ErrorOutputType::HttpEndpointFailed,
            _ => of_output.unwrap_or(ErrorOutputType::S3Failed),
        },
    }
}

/// Id and index of a row that arrived then.
type Document<'a> = dyn Fn(&ObjectMeta, u64, i64) -> Option<(Option<String>, String)> + 'a;

/// What is known of a letter beside it.
pub(super) struct Known<'a> {
    pub(super) errors: &'a FirehoseErrors,
    /// As for [`error_type`].
    pub(super) of_output: Option<ErrorOutputType>,
    /// The object, if it has one.
    pub(super) object: Option<&'a Path>,
    /// Id and index of a document.
    pub(super) document: &'a Document<'a>,
}

/// One line for each record, with its line feed.
pub(super) fn lines(letter: &DeadLetter, known: &Known<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    let mut push = |line: &Value| {
        text.extend_from_slice(line.to_string().as_bytes());
        text.push(b'\n');
    };
    let of = error_type(letter, known.of_output);
    let whole = line(letter, of, known.errors);
    let framed =
        letter.object.as_ref().filter(|object| object.meta.content_type.starts_with(FRAMED_CONTENT_TYPE));
    if let (Some(kept), Some(path)) = (framed, known.object) {
        let mut row = kept.meta.first_row;
        let is_json = kept.meta.content_type.ends_with("json");
        let read = each_row(path, |arrival, bytes| {
            let record = if is_json { bytes.strip_suffix(b"\n").unwrap_or(bytes) } else { bytes };
            let mut line = whole.clone();
            line["rawData"] = STANDARD.encode(record).into();
            line["arrivalTimestamp"] = (arrival / 1_000_000).into();
            numbered(&mut line, of, &kept.meta, (row, arrival), known.document);
            push(&line);
            row += 1;
        });
        if read.is_ok() && row > kept.meta.first_row {
            return text;
        }
    }
    let mut line = whole;
    if let Some(row) = &letter.row {
        numbered(&mut line, of, &meta_of(letter, row), (row.row, letter.arrival), known.document);
    }
    if let Some(object) = &letter.object {
        line["object"] = object.meta.name.as_str().into();
    }
    let mut text = line.to_string().into_bytes();
    text.push(b'\n');
    text
}

fn meta_of(letter: &DeadLetter, row: &LetterRow) -> ObjectMeta {
    ObjectMeta {
        name: String::new(),
        content_type: FRAMED_CONTENT_TYPE.to_owned(),
        content_encoding: None,
        batch_id: row.batch_id.clone(),
        digest: 0,
        body_digest: 0,
        raw_bytes: 0,
        bytes: 0,
        records: 1,
        stream: String::new(),
        output: letter.output.clone().unwrap_or_default(),
        arrival: letter.arrival,
        first_row: row.row,
    }
}

/// By which the record is known, in the words of its destination.
fn numbered(
    line: &mut Value,
    of: ErrorOutputType,
    meta: &ObjectMeta,
    (row, arrival): (u64, i64),
    document: &Document<'_>,
) {
    match of {
        ErrorOutputType::SplunkFailed => line["EventId"] = format!("{}.{row}", meta.batch_id).into(),
        ErrorOutputType::OpenSearchFailed => {
            let (id, index) = document(meta, row, arrival).unwrap_or_default();
            line["esDocumentId"] = id.into();
            line["esIndexName"] = index.into();
            // Types are no more.
            line["esTypeName"] = "".into();
        }
        _ => {
            line["subsequenceNumber"] = row.into();
            line["dataId"] = format!("{}-{row}", meta.batch_id).into();
        }
    }
}

/// Without what tells records of one letter apart.
fn line(letter: &DeadLetter, error: ErrorOutputType, errors: &FirehoseErrors) -> Value {
    let (code, message) =
        code(&letter.reason).unwrap_or((default_code(error, &letter.reason), &letter.reason));
    // The code of these is the status of HTTP alone.
    let code = code.strip_prefix(OPEN_SEARCH).and_then(|rest| rest.strip_prefix('.')).unwrap_or(code);
    let raw = STANDARD.encode(letter.payload_bytes());
    let (arrival, failed) = (letter.arrival / 1_000_000, letter.failed / 1_000_000);
    let mut line = match error {
        ErrorOutputType::FormatConversionFailed => json!({
            "attemptsMade": letter.attempts, "arrivalTimestamp": arrival, "lastErrorCode": code,
            "lastErrorMessage": message, "attemptEndingTimestamp": failed, "rawData": raw,
            "sequenceNumber": letter.offset.to_string(), "subSequenceNumber": letter.child,
        }),
        _ => json!({
            "attemptsMade": letter.attempts, "arrivalTimestamp": arrival, "errorCode": code, "errorMessage": message,
            "attemptEndingTimestamp": failed, "rawData": raw,
        }),
    };
    if let Some(table) = errors.table.as_ref().filter(|_| error == ErrorOutputType::FormatConversionFailed) {
        line["dataCatalogTable"] = described(table);
    }
    if letter.stage == Stage::Transform {
        if let Some(function) = errors.functions.get(&letter.transform) {
            line["lambdaArn"] = function.as_str().into();
        }
        // What Firehose has no words for, and whoever looks for the cause needs.
        line["transform"] = letter.transform.as_str().into();
        line["plugin"] = letter.plugin.as_str().into();
    }
    line
}

fn described(table: &CatalogTable) -> Value {
    let CatalogTable { catalog, database, table, region, version } = table;
    json!({
        "catalogId": catalog, "databaseName": database, "tableName": table, "region": region, "versionId": version,
        "catalogArn": null,
    })
}

fn default_code(error: ErrorOutputType, reason: &str) -> &'static str {
    match error {
        ErrorOutputType::FormatConversionFailed if is_no_json(reason) => "DataFormatConversion.ParseError",
        ErrorOutputType::MetadataExtractionFailed => "DynamicPartitioning.MetadataExtractionFailed",
        ErrorOutputType::FormatConversionFailed => "DataFormatConversion.MalformedData",
        ErrorOutputType::HttpEndpointFailed => "HttpEndpoint.DestinationException",
        ErrorOutputType::S3Failed => "S3.DeliveryFailed",
        ErrorOutputType::RedshiftFailed => "Redshift.DeliveryFailed",
        ErrorOutputType::IcebergFailed => "Iceberg.DeliveryFailed",
        _ => "Lambda.FunctionError",
    }
}

/// As the chunk and the converter say it.
fn is_no_json(reason: &str) -> bool {
    reason == "the payload is not JSON" || reason.starts_with("not JSON: ")
}

/// `Lambda.MissingRecordId: there is none`.
fn code(reason: &str) -> Option<(&str, &str)> {
    let (code, message) = reason.split_once(": ")?;
    let (family, name) = code.split_once('.')?;
    let known =
        ["Lambda", "DynamicPartitioning", "DataFormatConversion", HTTP_ENDPOINT, "Splunk", OPEN_SEARCH]
            .contains(&family);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
    (known && !name.is_empty() && name.bytes().all(is_name)).then_some((code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(stage: Stage, transform: &str, reason: &str) -> DeadLetter {
        DeadLetter {
            number: 1,
            stage,
            transform: transform.to_owned(),
            plugin: "sha256:ab".to_owned(),
            output: None,
            reason: reason.to_owned(),
            slice: 0,
            offset: 17,
            child: 2,
            source: None,
            arrival: 1_500_000_000_000_000_000,
            failed: 1_500_000_001_250_000_000,
            attempts: 4,
            payload: Some("{}".to_owned()),
            payload_base64: None,
            object: None,
            row: None,
        }
    }

    fn known<'a>(errors: &'a FirehoseErrors, document: &'a Document<'a>) -> Known<'a> {
        Known { errors, of_output: None, object: None, document }
    }

    fn told(letter: &DeadLetter) -> Value {
        told_by(letter, &FirehoseErrors::default())
    }

    fn told_by(letter: &DeadLetter, errors: &FirehoseErrors) -> Value {
        let text = lines(letter, &known(errors, &|_, _, _| None));
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn line_has_what_firehose_has() {
        let arn = "arn:aws:lambda:eu-west-1:1:function:enrich";
        let errors = FirehoseErrors {
            functions: [("enrich".to_owned(), arn.to_owned())].into(),
            table: Some(CatalogTable {
                catalog: Some("123456789012".to_owned()),
                database: "lake".to_owned(),
                table: "clicks".to_owned(),
                region: Some("eu-west-1".to_owned()),
                version: "LATEST".to_owned(),
            }),
        };
        let told = |stage, transform, reason: &str| told_by(&letter(stage, transform, reason), &errors);
        let converted = told(Stage::Encode, "", "no JSON");
        assert_eq!(
            converted,
            json!({
                "attemptsMade": 4, "arrivalTimestamp": 1_500_000_000_000_u64,
                "lastErrorCode": "DataFormatConversion.MalformedData", "lastErrorMessage": "no JSON",
                "attemptEndingTimestamp": 1_500_000_001_250_u64, "rawData": "e30=", "sequenceNumber": "17",
                "subSequenceNumber": 2, "dataCatalogTable": {
                    "catalogId": "123456789012", "databaseName": "lake", "tableName": "clicks", "region": "eu-west-1",
                    "versionId": "LATEST", "catalogArn": null,
                },
            })
        );
        // One that is no function has no ARN.
        assert!(told(Stage::Transform, "clean", "no")["lambdaArn"].is_null());
        let told = told(Stage::Transform, "enrich", "Lambda.MissingRecordId: no such id: 7");
        assert_eq!(
            told,
            json!({
                "attemptsMade": 4, "arrivalTimestamp": 1_500_000_000_000_u64, "errorCode": "Lambda.MissingRecordId",
                "errorMessage": "no such id: 7", "attemptEndingTimestamp": 1_500_000_001_250_u64, "rawData": "e30=",
                "lambdaArn": arn, "transform": "enrich", "plugin": "sha256:ab",
            })
        );
    }

    #[test]
    fn type_and_code_follow_from_where_it_failed() {
        for (stage, transform, expected, code) in [
            (Stage::Transform, "enrich", "processing-failed", "Lambda.FunctionError"),
            (
                Stage::Transform,
                PARTITION,
                "metadata-extraction-failed",
                "DynamicPartitioning.MetadataExtractionFailed",
            ),
            (Stage::Delivery, "", "s3-failed", "S3.DeliveryFailed"),
        ] {
            // A reason with a colon has no code for that alone.
            let letter = letter(stage, transform, "line 1.2: no value");
            assert_eq!(error_type(&letter, None).to_string(), expected);
            assert_eq!(told(&letter)["errorCode"], code);
            assert_eq!(told(&letter)["errorMessage"], "line 1.2: no value");
        }
        let converted = letter(Stage::Encode, "", "no JSON");
        assert_eq!(error_type(&converted, None).to_string(), "format-conversion-failed");
        let told = told(&converted);
        assert_eq!(told["lastErrorCode"], "DataFormatConversion.MalformedData");
        assert_eq!(
            (told["sequenceNumber"].as_str(), told["subSequenceNumber"].as_u64()),
            (Some("17"), Some(2))
        );
        for reason in ["the payload is not JSON", "not JSON: expected value at line 1 column 1"] {
            let told = self::told(&letter(Stage::Encode, "", reason));
            assert_eq!(told["lastErrorCode"], "DataFormatConversion.ParseError");
        }
    }

    #[test]
    fn batch_that_was_given_up_has_the_type_of_its_output_unless_its_code_says_more() {
        let errors = FirehoseErrors::default();
        for (of_output, expected, code) in [
            (ErrorOutputType::S3Failed, "s3-failed", "S3.DeliveryFailed"),
            (ErrorOutputType::RedshiftFailed, "redshift-failed", "Redshift.DeliveryFailed"),
            (ErrorOutputType::IcebergFailed, "iceberg-failed", "Iceberg.DeliveryFailed"),
            (
                ErrorOutputType::HttpEndpointFailed,
                "http-endpoint-failed",
                "HttpEndpoint.DestinationException",
            ),
        ] {
            let letter = letter(Stage::Delivery, "", "nobody is there");
            assert_eq!(error_type(&letter, Some(of_output)).to_string(), expected);
            let known = Known { of_output: Some(of_output), ..known(&errors, &|_, _, _| None) };
            let line: Value = serde_json::from_slice(&lines(&letter, &known)).unwrap();
            assert_eq!(
                (line["errorCode"].as_str(), line["errorMessage"].as_str()),
                (Some(code), Some("nobody is there"))
            );
        }
        // The output of that name is another one by now.
        for (reason, expected) in [
            ("Splunk.AckTimeout: no acknowledgement", "splunk-failed"),
            ("HttpEndpoint.RequestTimeout: no answer", "http-endpoint-failed"),
            ("OpenSearch.503: busy", "AmazonOpenSearchService-failed"),
        ] {
            let letter = letter(Stage::Delivery, "", reason);
            assert_eq!(error_type(&letter, Some(ErrorOutputType::S3Failed)).to_string(), expected);
        }
    }

    #[test]
    fn batch_that_was_given_up_is_a_line_for_each_of_its_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("object");
        let mut rows = Vec::new();
        for (row, arrival) in
            [(&b"{}\n"[..], 1_499_999_000_000_000_000_i64), (b"a\n", 1_500_000_000_000_000_000)]
        {
            rows.extend_from_slice(&u32::try_from(row.len()).unwrap().to_le_bytes());
            rows.extend_from_slice(&arrival.to_le_bytes());
            rows.extend_from_slice(row);
        }
        std::fs::write(&path, rows).unwrap();
        let of = |reason: &str| {
            let mut letter = letter(Stage::Delivery, "", reason);
            letter.payload = None;
            let row = LetterRow { batch_id: "batch".to_owned(), row: 7 };
            let meta = ObjectMeta {
                content_type: "application/vnd.wasmill.records+json".to_owned(),
                ..meta_of(&letter, &row)
            };
            letter.object =
                Some(crate::pipeline::dead_letters::KeptObject { file: "object".to_owned(), meta });
            let document = |meta: &ObjectMeta, row: u64, arrival: i64| {
                Some((Some(format!("{}-{row}", meta.batch_id)), format!("logs-{}", arrival / 1_000_000_000)))
            };
            let errors = FirehoseErrors::default();
            let text = lines(&letter, &Known { object: Some(&path), ..known(&errors, &document) });
            let lines: Vec<Value> = text
                .split_inclusive(|byte| *byte == b'\n')
                .map(|line| serde_json::from_slice(line).unwrap())
                .collect();
            (error_type(&letter, None).to_string(), lines)
        };
        let (kind, lines) = of("HttpEndpoint.RequestTimeout: the endpoint did not answer in time");
        assert_eq!(kind, "http-endpoint-failed");
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0],
            json!({
                "attemptsMade": 4, "arrivalTimestamp": 1_499_999_000_000_u64, "errorCode": "HttpEndpoint.RequestTimeout",
                "errorMessage": "the endpoint did not answer in time", "attemptEndingTimestamp": 1_500_000_001_250_u64,
                "rawData": "e30=", "subsequenceNumber": 7, "dataId": "batch-7",
            })
        );
        assert_eq!(
            (lines[1]["rawData"].as_str(), lines[1]["dataId"].as_str()),
            (Some("YQ=="), Some("batch-8"))
        );
        let (kind, lines) = of("Splunk.ServerError.ContentTooLarge: the collector answered 413");
        assert_eq!(kind, "splunk-failed");
        assert_eq!(
            (lines[0]["errorCode"].as_str(), lines[1]["EventId"].as_str()),
            (Some("Splunk.ServerError.ContentTooLarge"), Some("batch.8"))
        );
        let (kind, lines) = of("OpenSearch.503: the cluster answered 503");
        assert_eq!(kind, "AmazonOpenSearchService-failed");
        assert_eq!(
            (lines[0]["errorCode"].as_str(), lines[0]["esDocumentId"].as_str()),
            (Some("503"), Some("batch-7"))
        );
        assert_eq!(
            (lines[1]["esIndexName"].as_str(), lines[1]["esTypeName"].as_str()),
            (Some("logs-1500000000"), Some(""))
        );
    }
}
