//! A delivery stream as the definition of a stream of this host.
//!
//! What a definition cannot say is refused with the reason, so that nobody believes in what is not done: sources and
//! destinations that are not there yet, keys of a service that only AWS has. What only AWS's own machinery needs (roles, log
//! groups) is kept as it was told, and has no effect.

mod processors;
mod redshift;
mod requests;

pub(super) use self::processors::leave_untold;
use self::processors::{Steps, de_aggregate, introduce};
use super::conversion;
use crate::pipeline::FirehoseSettings;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use wasmill_firehose::description::{self, Definition, Destination};
use wasmill_firehose::prefix::{Place, Template};
use wasmill_firehose::wire::{BufferingHints, ExtendedS3, KinesisSource, Refusal};

const BUCKET_ARN: &str = "arn:aws:s3:::";
/// How an expression begins that stands for a key of a query.
const QUERY_KEY: &str = "!{partitionKeyFromQuery:";
/// Deliveries to a bucket are tried again for as long.
const RETRY_FOR: &str = "24h";

/// See the head of this file.
pub(super) fn stream(definition: &Definition, firehose: &FirehoseSettings) -> Result<Value, Refusal> {
    let mut stream = delivered(definition, firehose)?;
    let arn = description::arn(&firehose.region, &firehose.account, &definition.name);
    introduce(&mut stream["transforms"], &arn);
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

fn delivered(definition: &Definition, firehose: &FirehoseSettings) -> Result<Value, Refusal> {
    match &definition.destination {
        Destination::S3(s3) => of_bucket(&ExtendedS3::from((**s3).clone()), definition.version, firehose),
        Destination::ExtendedS3(extended) => of_bucket(extended, definition.version, firehose),
        Destination::HttpEndpoint(http) => requests::http_endpoint(http, definition.version, firehose),
        Destination::Splunk(splunk) => requests::splunk(splunk, definition.version, firehose),
        Destination::OpenSearch(cluster) | Destination::Elasticsearch(cluster) => {
            requests::opensearch(cluster, definition.version, firehose)
        }
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
    let mut steps = Steps::of(s3.processing.as_ref())?;
    let Names { prefix, names, errors } = names(&apart(s3, &mut steps), version);
    let mut output = place(main_bucket, &prefix, firehose);
    output.insert("firehose".to_owned(), names);
    if let Some(conversion) = s3.conversion.as_ref().filter(|_| s3.is_converted()) {
        output.append(&mut conversion::output(conversion, firehose)?);
    } else {
        output.insert("format".to_owned(), steps.format().into());
        output.insert("compression".to_owned(), compression(s3.compression_format.as_deref()).into());
    }
    let hints = s3.buffering_hints.clone().unwrap_or_default();
    buffer(&mut output, &hints);
    output.insert("retry".to_owned(), json!({ "for": RETRY_FOR }));
    let interval = output["interval"].clone();
    let mut stream = whole(steps, output, letters(main_bucket, errors, interval, firehose));
    if let Some(conversion) = s3.conversion.as_ref().filter(|_| s3.is_converted()) {
        stream["dead_letters"]["output"]["firehose"]["table"] =
            conversion::catalog_table(conversion, firehose);
    }
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

fn whole(steps: Steps, output: Map<String, Value>, mut letters: Map<String, Value>) -> Value {
    if !steps.functions.is_empty()
        && let Some(Value::Object(names)) = letters.get_mut("firehose")
    {
        names.insert("functions".to_owned(), steps.functions.into());
    }
    json!({
        "source": { "type": "http" },
        "transforms": steps.transforms,
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

/// A record has one partition of a name: where a query and a function give a key of the same name, those of the query have
/// names of their own.
fn apart<'a>(s3: &'a ExtendedS3, steps: &mut Steps) -> Cow<'a, ExtendedS3> {
    let written = s3.prefix.as_deref().unwrap_or_default();
    let Ok(template) = Template::parse(written, Place::Prefix) else { return Cow::Borrowed(s3) };
    let of_function: Vec<&str> = template.lambda_keys().collect();
    if !template.query_keys().any(|key| of_function.contains(&key)) {
        return Cow::Borrowed(s3);
    }
    let mut front = "query.".to_owned();
    while of_function.iter().any(|key| key.starts_with(&front)) {
        front.insert(0, '-');
    }
    steps.name_query_keys(&front);
    let prefix = written.replace(QUERY_KEY, &format!("{QUERY_KEY}{front}"));
    Cow::Owned(ExtendedS3 { prefix: Some(prefix), ..s3.clone() })
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

#[cfg(test)]
mod tests;
