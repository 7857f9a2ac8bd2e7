//! Streams that were made in other words, described in those of Firehose as far as it has any.

use serde_json::{Map, Value, json};
use wasmill_firehose::description::{DESTINATION_ID, Seen, arn};
use wasmill_firehose::wire::DescribeDeliveryStream;

use crate::pipeline::DefineAnswer;

/// Of a role that nobody takes: the member is required.
const ROLE: &str = "arn:aws:iam::000000000000:role/wasmill";

pub(super) fn describe(
    name: &str,
    shown: &DefineAnswer,
    request: &DescribeDeliveryStream,
    seen: &Seen<'_>,
) -> Value {
    let changed_s = shown.body["changed_ms"].as_f64().unwrap_or(0.0) / 1000.0;
    let is_before = request.exclusive_start.as_deref().is_none_or(|start| start < DESTINATION_ID);
    let outputs = shown.body["definition"]["outputs"].as_array().into_iter().flatten();
    let destination = outputs.filter_map(destination).next().filter(|_| is_before);
    let source = &shown.body["definition"]["source"];
    let kinesis = (source["type"] == "kinesis").then(|| kinesis(source, seen));
    let mut description = json!({
        "DeliveryStreamName": name,
        "DeliveryStreamARN": arn(seen.region, seen.account, name),
        "DeliveryStreamStatus": seen.status,
        "DeliveryStreamType": if kinesis.is_some() { "KinesisStreamAsSource" } else { "DirectPut" },
        "VersionId": shown.version.unwrap_or(1).to_string(),
        "CreateTimestamp": changed_s,
        "DeliveryStreamEncryptionConfiguration": { "Status": "DISABLED" },
        "Destinations": Value::Array(destination.into_iter().collect()),
        "HasMoreDestinations": false,
    });
    if let Some(kinesis) = kinesis {
        description["Source"] = json!({ "KinesisStreamSourceDescription": kinesis });
    }
    if let Some((failure, details)) = seen.failure {
        description["FailureDescription"] = json!({ "Type": failure, "Details": details });
    }
    json!({ "DeliveryStreamDescription": description })
}

/// A name is one of the account that this host tells.
fn kinesis(source: &Value, seen: &Seen<'_>) -> Value {
    let stream = source["stream"].as_str().unwrap_or_default();
    let region = source["region"].as_str().unwrap_or(seen.region);
    let arn = match stream.starts_with("arn:") {
        true => stream.to_owned(),
        false => format!("arn:aws:kinesis:{region}:{}:stream/{stream}", seen.account),
    };
    json!({ "KinesisStreamARN": arn, "RoleARN": ROLE })
}

/// Of the first output that Firehose has a word for.
fn destination(output: &Value) -> Option<Value> {
    let mut told = Map::new();
    told.insert("DestinationId".to_owned(), DESTINATION_ID.into());
    let hints = json!({ "SizeInMBs": mebibytes(output), "IntervalInSeconds": seconds(output) });
    match output["type"].as_str()? {
        "s3" => {
            let bucket = json!({
                "RoleARN": ROLE,
                "BucketARN": format!("arn:aws:s3:::{}", output["bucket"].as_str().unwrap_or_default()),
                "Prefix": output["prefix"].as_str().unwrap_or_default(),
                "BufferingHints": hints,
                "CompressionFormat": match output["compression"].as_str() {
                    Some("gzip") => "GZIP",
                    Some("zip") => "ZIP",
                    Some("snappy-java") => "Snappy",
                    Some("hadoop-snappy") => "HADOOP_SNAPPY",
                    // zstd has no name there.
                    _ => "UNCOMPRESSED",
                },
                "EncryptionConfiguration": { "NoEncryptionConfig": "NoEncryption" },
            });
            told.insert("S3DestinationDescription".to_owned(), bucket.clone());
            told.insert("ExtendedS3DestinationDescription".to_owned(), bucket);
        }
        "http" => {
            let endpoint =
                json!({ "Url": output["url"], "Name": output["name"].as_str().unwrap_or("default") });
            told.insert(
                "HttpEndpointDestinationDescription".to_owned(),
                json!({ "EndpointConfiguration": endpoint, "BufferingHints": hints }),
            );
        }
        _ => return None,
    }
    Some(Value::Object(told))
}

/// As the definition has it: `"5MiB"`.
fn mebibytes(output: &Value) -> u64 {
    let text = output["size"].as_str().unwrap_or("5MiB");
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let number: u64 = number.parse().unwrap_or(5);
    match unit.trim() {
        "GiB" | "GB" => number.saturating_mul(1024),
        "MiB" | "MB" => number,
        _ => 1,
    }
}

/// As the definition has it: `"1m"`.
fn seconds(output: &Value) -> u64 {
    let text = output["interval"].as_str().unwrap_or("1m");
    let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let number: u64 = number.parse().unwrap_or(60);
    match unit.trim() {
        "h" => number.saturating_mul(3600),
        "m" => number.saturating_mul(60),
        "s" => number,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use wasmill_firehose::description::Status;

    use super::*;

    #[test]
    fn stream_of_other_words_is_told_as_far_as_there_are_words_for_it() {
        let seen =
            Seen { region: "eu-west-1", account: "123456789012", status: Status::Active, failure: None };
        let told = |outputs: Value| {
            let body = json!({ "definition": { "outputs": outputs }, "changed_ms": 1_500 });
            let shown = DefineAnswer { version: Some(7), body, ..DefineAnswer::default() };
            let described = describe("clicks", &shown, &DescribeDeliveryStream::default(), &seen);
            described["DeliveryStreamDescription"].clone()
        };
        let bucket = told(json!([
            { "type": "directory", "path": "out" },
            { "type": "s3", "bucket": "lake", "prefix": "raw/", "size": "64MiB", "interval": "2m", "compression": "gzip" },
        ]));
        assert_eq!(
            (bucket["VersionId"].as_str(), bucket["CreateTimestamp"].as_f64()),
            (Some("7"), Some(1.5))
        );
        let s3 = &bucket["Destinations"][0]["S3DestinationDescription"];
        assert_eq!(
            (s3["BucketARN"].as_str(), s3["Prefix"].as_str()),
            (Some("arn:aws:s3:::lake"), Some("raw/"))
        );
        assert_eq!(s3["BufferingHints"], json!({ "SizeInMBs": 64, "IntervalInSeconds": 120 }));
        assert_eq!(s3["CompressionFormat"], "GZIP");
        assert_eq!(told(json!([{ "type": "directory", "path": "out" }]))["Destinations"], json!([]));
        let http = told(json!([{ "type": "http", "url": "https://a.example/", "interval": "0s" }]));
        let http = &http["Destinations"][0]["HttpEndpointDestinationDescription"];
        assert_eq!(http["EndpointConfiguration"]["Url"], "https://a.example/");
        assert_eq!(http["BufferingHints"]["IntervalInSeconds"], 0);
    }
}
