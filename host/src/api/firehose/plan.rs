//! A delivery stream as the definition of a stream of this host.
//!
//! What a definition cannot say is refused with the reason, so that nobody believes in what is not done: sources and
//! destinations that are not there yet, keys of a service that only AWS has. What only AWS's own machinery needs (roles, log
//! groups) is kept as it was told, and has no effect.

mod redshift;
mod requests;

use super::conversion;
use crate::pipeline::FirehoseSettings;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use wasmill_firehose::description::{Definition, Destination};
use wasmill_firehose::prefix::{Place, Template};
use wasmill_firehose::wire::{BufferingHints, ExtendedS3, KinesisSource, Processing, Processor, Refusal};

const BUCKET_ARN: &str = "arn:aws:s3:::";
/// Sub-records of one record; one with more is left whole.
const SUB_RECORDS_MAX: u64 = 500;
/// Deliveries to a bucket are tried again for as long.
const RETRY_FOR: &str = "24h";

/// See the head of this file.
pub(super) fn stream(definition: &Definition, firehose: &FirehoseSettings) -> Result<Value, Refusal> {
    let mut stream = delivered(definition, firehose)?;
    if let Some(source) = &definition.source {
        stream["source"] = kinesis(source, definition.created_at, firehose);
        de_aggregate(&mut stream["transforms"]);
    }
    Ok(stream)
}

/// Read from what came into Kinesis at the moment of creation on, as Firehose does.
fn kinesis(source: &KinesisSource, created_at: u64, firehose: &FirehoseSettings) -> Value {
    let created = i64::try_from(created_at).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let mut kinesis = json!({
        "type": "kinesis",
        "stream": source.stream_arn,
        "from": "at-timestamp",
        "timestamp": created.unwrap_or_default().to_string(),
    });
    if let Some(endpoint) = &firehose.kinesis_endpoint {
        kinesis["endpoint"] = endpoint.as_str().into();
    }
    kinesis
}

/// Firehose takes aggregates of the Kinesis Producer Library apart before anything else.
fn de_aggregate(transforms: &mut Value) {
    let Some(transforms) = transforms.as_array_mut() else { return };
    let steps = transforms.first_mut().filter(|first| first["plugin"] == "unpack");
    match steps.and_then(|unpack| unpack["config"]["steps"].as_array_mut()) {
        Some(steps) => steps.insert(0, json!({ "kpl": {} })),
        None => transforms.insert(0, json!({ "plugin": "unpack", "config": { "steps": [{ "kpl": {} }] } })),
    }
}

fn delivered(definition: &Definition, firehose: &FirehoseSettings) -> Result<Value, Refusal> {
    match &definition.destination {
        Destination::S3(s3) => of_bucket(&ExtendedS3::from((**s3).clone()), definition.version, firehose),
        Destination::ExtendedS3(extended) => of_bucket(extended, definition.version, firehose),
        Destination::HttpEndpoint(http) => requests::http_endpoint(http, definition.version, firehose),
        Destination::Splunk(splunk) => requests::splunk(splunk, definition.version, firehose),
        Destination::OpenSearch(cluster) => requests::opensearch(cluster, definition.version, firehose),
        Destination::Redshift(table) => redshift::redshift(table, definition.version, firehose),
    }
}

fn of_bucket(s3: &ExtendedS3, version: u64, firehose: &FirehoseSettings) -> Result<Value, Refusal> {
    let backed_up = backup(s3)?;
    no_kms(s3)?;
    let main_bucket = bucket(s3.bucket_arn.as_deref().unwrap_or_default())?;
    steps_are_names(s3, "")?;
    if let Some(backed_up) = &backed_up {
        steps_are_names(backed_up, "S3BackupConfiguration.")?;
    }
    let (transforms, is_delimited) = transforms(s3.processing.as_ref())?;
    let Names { prefix, names, errors } = names(s3, version);
    let mut output = place(main_bucket, &prefix, firehose);
    output.insert("firehose".to_owned(), names);
    if let Some(conversion) = s3.conversion.as_ref().filter(|_| s3.is_converted()) {
        output.append(&mut conversion::output(conversion, firehose)?);
    } else {
        output.insert("format".to_owned(), if is_delimited { "raw" } else { "verbatim" }.into());
        output.insert("compression".to_owned(), compression(s3.compression_format.as_deref()).into());
    }
    let hints = s3.buffering_hints.clone().unwrap_or_default();
    buffer(&mut output, &hints);
    output.insert("retry".to_owned(), json!({ "for": RETRY_FOR }));
    let interval = output["interval"].clone();
    let mut stream = whole(transforms, output, letters(main_bucket, errors, interval, firehose));
    if let Some(backed_up) = backed_up {
        stream["backup"] = backup_output(&backed_up, version, firehose)?;
    }
    Ok(stream)
}

/// Where records go as they came in, as an output.
fn backup_output(s3: &ExtendedS3, version: u64, firehose: &FirehoseSettings) -> Result<Value, Refusal> {
    no_kms(s3)?;
    let Names { prefix, names, errors: _ } = names(s3, version);
    let mut backup = place(bucket(s3.bucket_arn.as_deref().unwrap_or_default())?, &prefix, firehose);
    backup.insert("firehose".to_owned(), names);
    backup.insert("format".to_owned(), "verbatim".into());
    backup.insert("compression".to_owned(), compression(s3.compression_format.as_deref()).into());
    buffer(&mut backup, &s3.buffering_hints.clone().unwrap_or_default());
    backup.insert("retry".to_owned(), json!({ "for": RETRY_FOR }));
    Ok(backup.into())
}

fn whole(transforms: Vec<Value>, output: Map<String, Value>, letters: Map<String, Value>) -> Value {
    json!({
        "source": { "type": "http" },
        "transforms": transforms,
        "outputs": [output],
        // Firehose goes on, however many records fail.
        "max_failed_percent": 100,
        "dead_letters": { "output": letters },
    })
}

fn place(bucket: &str, prefix: &str, firehose: &FirehoseSettings) -> Map<String, Value> {
    let mut place = Map::new();
    place.insert("type".to_owned(), "s3".into());
    place.insert("bucket".to_owned(), bucket.into());
    place.insert("prefix".to_owned(), prefix.into());
    place.insert("region".to_owned(), firehose.region.clone().into());
    place.insert("path_style".to_owned(), firehose.path_style.into());
    if let Some(endpoint) = &firehose.endpoint {
        place.insert("endpoint".to_owned(), endpoint.clone().into());
    }
    place
}

/// Where records go that failed.
fn letters(
    bucket: &str,
    (prefix, names): (String, Value),
    interval: Value,
    firehose: &FirehoseSettings,
) -> Map<String, Value> {
    let mut letters = place(bucket, &prefix, firehose);
    letters.insert("firehose".to_owned(), names);
    letters.insert("compression".to_owned(), "none".into());
    letters.insert("interval".to_owned(), interval);
    letters
}

fn no_kms(s3: &ExtendedS3) -> Result<(), Refusal> {
    match s3.encryption.as_ref().is_some_and(|encryption| encryption.kms.is_some()) {
        true => Err(not_here("KMSEncryptionConfig", "set the encryption of the bucket")),
        false => Ok(()),
    }
}

/// Where records go as they came in, if they do.
fn backup(s3: &ExtendedS3) -> Result<Option<ExtendedS3>, Refusal> {
    if s3.backup_mode.as_deref() != Some("Enabled") {
        return Ok(None);
    }
    let Some(backup) = s3.backup.clone() else {
        return Err(Refusal::invalid("S3BackupConfiguration must be given when S3BackupMode is Enabled"));
    };
    // Times in names are those of the same zone.
    Ok(Some(ExtendedS3 { custom_time_zone: s3.custom_time_zone.clone(), ..ExtendedS3::from(backup) }))
}

pub(super) fn not_here(what: &str, instead: &str) -> Refusal {
    Refusal::invalid(format!("{what} is not available on this host; {instead}"))
}

fn bucket(arn: &str) -> Result<&str, Refusal> {
    let bucket = arn.strip_prefix(BUCKET_ARN).filter(|name| !name.is_empty() && !name.contains('/'));
    bucket.ok_or_else(|| {
        Refusal::invalid(format!("BucketARN {arn:?} names no bucket, expected {BUCKET_ARN}NAME"))
    })
}

/// A bucket has no steps; whoever copies it into directories has.
fn steps_are_names(s3: &ExtendedS3, within: &str) -> Result<(), Refusal> {
    for (member, prefix) in [("Prefix", &s3.prefix), ("ErrorOutputPrefix", &s3.error_output_prefix)] {
        let prefix = prefix.as_deref().unwrap_or_default();
        if let Some(step) = prefix.split('/').find(|step| *step == "." || *step == "..") {
            return Err(Refusal::invalid(format!(
                "{within}{member} {prefix:?} has the step {step:?}, which no name has here"
            )));
        }
    }
    Ok(())
}

/// Sizes are of records before compression, as Firehose has it.
fn buffer(output: &mut Map<String, Value>, hints: &BufferingHints) {
    let size = hints.size_in_mbs.unwrap_or(5);
    let interval = hints.interval_in_seconds.unwrap_or(300);
    output.insert("size".to_owned(), format!("{size}MiB").into());
    output.insert("interval".to_owned(), format!("{interval}s").into());
}

fn compression(format: Option<&str>) -> &'static str {
    match format {
        Some("GZIP") => "gzip",
        Some("ZIP") => "zip",
        Some("Snappy") => "snappy-java",
        Some("HADOOP_SNAPPY") => "hadoop-snappy",
        _ => "none",
    }
}

struct Names {
    /// Whole steps in front of everything evaluated: what a policy can be compared with.
    prefix: String,
    names: Value,
    /// The same of records that failed.
    errors: (String, Value),
}

fn names(s3: &ExtendedS3, version: u64) -> Names {
    let written = s3.prefix.as_deref().unwrap_or_default();
    let literal = literal(written, Place::Prefix);
    let (prefix, rest) = steps(written, literal);
    let mut names = json!({ "prefix": rest, "version": version });
    if let Some(zone) = s3.custom_time_zone.as_deref().filter(|zone| !zone.is_empty()) {
        names["time_zone"] = zone.into();
    }
    let mut error_names = names.clone();
    if let Some(extension) = s3.file_extension.as_deref().filter(|extension| !extension.is_empty()) {
        names["extension"] = extension.into();
    }
    // Errors without a prefix of their own are below that of records, which has no expressions then.
    let errors = s3.error_output_prefix.as_deref().filter(|prefix| !prefix.is_empty()).unwrap_or(literal);
    let (error_prefix, rest) = steps(errors, self::literal(errors, Place::ErrorOutputPrefix));
    error_names["prefix"] = rest.into();
    Names { prefix: prefix.to_owned(), names, errors: (error_prefix.to_owned(), error_names) }
}

/// What of a prefix is in front of its first expression.
fn literal(prefix: &str, place: Place) -> &str {
    let length = Template::parse(prefix, place).map_or(0, |template| template.literal_prefix().len());
    prefix.get(..length).unwrap_or_default()
}

/// The whole steps at the beginning, and what follows.
fn steps<'a>(prefix: &'a str, literal: &str) -> (&'a str, &'a str) {
    let end = literal.rfind('/').map_or(0, |at| at + 1);
    prefix.split_at_checked(end).unwrap_or(("", prefix))
}

/// Transforms in the order in which Firehose has them, and whether a delimiter follows each record.
fn transforms(processing: Option<&Processing>) -> Result<(Vec<Value>, bool), Refusal> {
    let (mut unpack, mut lambda, mut query, mut is_delimited) = (Vec::new(), Vec::new(), Vec::new(), false);
    let active: Vec<&Processor> = processing.into_iter().flat_map(Processing::active).collect();
    let kind = |processor: &&&Processor| order(processor.processor_type.as_deref().unwrap_or_default());
    let mut sorted: Vec<&&Processor> = active.iter().collect();
    sorted.sort_by_key(kind);
    for processor in sorted {
        match processor.processor_type.as_deref().unwrap_or_default() {
            "Decompression" => unpack.push(json!({ "decompress": "gzip" })),
            "CloudWatchLogProcessing" => {
                let messages = processor.parameter("DataMessageExtraction") != Some("false");
                unpack.push(json!({ "cloudwatch_logs": { "messages": messages } }));
            }
            "RecordDeAggregation" => unpack.push(de_aggregation(processor)?),
            "Lambda" => lambda.push(json!({ "plugin": plugin(processor)? })),
            "MetadataExtraction" => {
                let query_text = processor.parameter("MetadataExtractionQuery").unwrap_or_default();
                query.push(
                    json!({ "plugin": "jq", "name": "partition", "config": { "partition": query_text } }),
                );
            }
            "AppendDelimiterToRecord" => is_delimited = true,
            other => return Err(not_here(&format!("processor {other:?}"), "use a plugin")),
        }
    }
    let mut transforms = Vec::new();
    if !unpack.is_empty() {
        transforms.push(json!({ "plugin": "unpack", "config": { "steps": unpack } }));
    }
    transforms.append(&mut lambda);
    transforms.append(&mut query);
    Ok((transforms, is_delimited))
}

fn order(processor: &str) -> u8 {
    match processor {
        "Decompression" => 0,
        "CloudWatchLogProcessing" => 1,
        "RecordDeAggregation" => 2,
        "Lambda" => 3,
        "MetadataExtraction" => 4,
        _ => 5,
    }
}

fn de_aggregation(processor: &Processor) -> Result<Value, Refusal> {
    if processor.parameter("SubRecordType") != Some("DELIMITED") {
        return Ok(json!({ "json": { "leave_whole_beyond": SUB_RECORDS_MAX } }));
    }
    let written = processor.parameter("Delimiter").unwrap_or_default();
    let delimiter = STANDARD.decode(written).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty()).ok_or_else(|| {
        Refusal::invalid(format!("Delimiter {written:?} of RecordDeAggregation is no text in base64"))
    })?;
    Ok(json!({ "delimited": { "delimiter": delimiter, "leave_whole_beyond": SUB_RECORDS_MAX } }))
}

/// `arn:aws:lambda:REGION:ACCOUNT:function:NAME`, perhaps with `:$LATEST`, or with the digest of a version of the plugin
/// NAME as the alias: `:sha256-<64 digits>`.
fn plugin(processor: &Processor) -> Result<String, Refusal> {
    let arn = processor.parameter("LambdaArn").unwrap_or_default();
    let refused = || {
        Refusal::invalid(format!(
            "LambdaArn {arn:?}: expected arn:aws:lambda:REGION:ACCOUNT:function:NAME, where NAME is a plugin of this host, \
             with nothing, $LATEST or sha256-<64 hex digits of the plugin> behind it"
        ))
    };
    let parts: Vec<&str> = arn.split(':').collect();
    let (name, alias) = match parts[..] {
        ["arn", _, "lambda", _, _, "function", name] => (name, None),
        ["arn", _, "lambda", _, _, "function", name, alias] => (name, Some(alias)),
        _ => return Err(refused()),
    };
    if name.is_empty() {
        return Err(refused());
    }
    match alias {
        None | Some("$LATEST") => Ok(name.to_owned()),
        Some(alias) => match alias.strip_prefix("sha256-") {
            Some(digits) if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Ok(format!("{name}@sha256:{digits}"))
            }
            _ => Err(refused()),
        },
    }
}

#[cfg(test)]
mod tests;
