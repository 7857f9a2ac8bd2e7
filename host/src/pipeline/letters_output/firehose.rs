//! Letters as Amazon Data Firehose writes records that failed: one JSON object a line, grouped by the type of error that
//! stands in the object's name.
//!
//! Source: Developer Guide, chapter on handling failures. A reason that begins with a code of Firehose (`Lambda.…: `,
//! `DynamicPartitioning.…: `) is told apart from its message; others have the code of their type.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use wasmill_deliver::ErrorOutputType;

use crate::pipeline::dead_letters::{DeadLetter, Stage};

/// Name of the transform that takes partition keys out of records, where the Firehose API has made the stream.
const PARTITION: &str = "partition";

pub(super) fn error_type(letter: &DeadLetter) -> ErrorOutputType {
    match letter.stage {
        Stage::Transform if letter.transform == PARTITION => ErrorOutputType::MetadataExtractionFailed,
        Stage::Transform => ErrorOutputType::ProcessingFailed,
        Stage::Encode => ErrorOutputType::FormatConversionFailed,
        Stage::Delivery => ErrorOutputType::HttpEndpointFailed,
    }
}

/// With its line feed.
pub(super) fn line(letter: &DeadLetter) -> Vec<u8> {
    let error = error_type(letter);
    let (code, message) =
        code(&letter.reason).unwrap_or((default_code(error, &letter.reason), &letter.reason));
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
    // What Firehose has no words for, and whoever looks for the cause needs.
    if letter.stage == Stage::Transform {
        line["transform"] = letter.transform.as_str().into();
        line["plugin"] = letter.plugin.as_str().into();
    }
    if let Some(object) = &letter.object {
        line["object"] = object.meta.name.as_str().into();
    }
    let mut text = line.to_string().into_bytes();
    text.push(b'\n');
    text
}

fn default_code(error: ErrorOutputType, reason: &str) -> &'static str {
    match error {
        ErrorOutputType::FormatConversionFailed if is_no_json(reason) => "DataFormatConversion.ParseError",
        ErrorOutputType::MetadataExtractionFailed => "DynamicPartitioning.MetadataExtractionFailed",
        ErrorOutputType::FormatConversionFailed => "DataFormatConversion.MalformedData",
        ErrorOutputType::HttpEndpointFailed => "HttpEndpoint.DestinationException",
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
    let known = ["Lambda", "DynamicPartitioning", "DataFormatConversion", "HttpEndpoint"].contains(&family);
    (known && !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .then_some((code, message))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

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
            arrival: 1_500_000_000_000_000_000,
            failed: 1_500_000_001_250_000_000,
            attempts: 4,
            payload: Some("{}".to_owned()),
            payload_base64: None,
            object: None,
        }
    }

    fn told(letter: &DeadLetter) -> Value {
        let text = line(letter);
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn line_has_what_firehose_has() {
        let told = told(&letter(Stage::Transform, "enrich", "Lambda.MissingRecordId: no such id: 7"));
        assert_eq!(
            told,
            json!({
                "attemptsMade": 4, "arrivalTimestamp": 1_500_000_000_000_u64, "errorCode": "Lambda.MissingRecordId",
                "errorMessage": "no such id: 7", "attemptEndingTimestamp": 1_500_000_001_250_u64, "rawData": "e30=",
                "transform": "enrich", "plugin": "sha256:ab",
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
            (Stage::Delivery, "", "http-endpoint-failed", "HttpEndpoint.DestinationException"),
        ] {
            // A reason with a colon has no code for that alone.
            let letter = letter(stage, transform, "line 1.2: no value");
            assert_eq!(error_type(&letter).to_string(), expected);
            assert_eq!(told(&letter)["errorCode"], code);
            assert_eq!(told(&letter)["errorMessage"], "line 1.2: no value");
        }
        let converted = letter(Stage::Encode, "", "no JSON");
        assert_eq!(error_type(&converted).to_string(), "format-conversion-failed");
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
}
