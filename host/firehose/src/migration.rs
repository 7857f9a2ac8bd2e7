//! A stream of AWS, as `DescribeDeliveryStream` shows it there, as the request that makes it anew elsewhere.
//!
//! What only AWS has is taken out, and said with the reason, so that nobody believes in what is not done. Destinations that
//! are not there are an error: nothing of such a stream would be left. Members that are unknown are said, too.

mod servers;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::wire::{Kind, Refusal, parse};

/// Members of a bucket's description that a request has under the same name.
const BUCKET: [&str; 14] = [
    "RoleARN",
    "BucketARN",
    "Prefix",
    "ErrorOutputPrefix",
    "BufferingHints",
    "CompressionFormat",
    "EncryptionConfiguration",
    "CloudWatchLoggingOptions",
    "ProcessingConfiguration",
    "S3BackupMode",
    "DataFormatConversionConfiguration",
    "DynamicPartitioningConfiguration",
    "FileExtension",
    "CustomTimeZone",
];
/// The same of an HTTP endpoint.
const ENDPOINT: [&str; 9] = [
    "EndpointConfiguration",
    "BufferingHints",
    "CloudWatchLoggingOptions",
    "RequestConfiguration",
    "ProcessingConfiguration",
    "RoleARN",
    "RetryOptions",
    "S3BackupMode",
    "SecretsManagerConfiguration",
];
/// Parameters of a Lambda processor by which Firehose gathers and repeats, with their defaults.
const GATHERING: [(&str, &str); 3] =
    [("NumberOfRetries", "3"), ("BufferSizeInMBs", "1"), ("BufferIntervalInSeconds", "60")];
const SUFFIX: &str = "DestinationDescription";

/// What is made of functions that processors call: plugins by the names of functions, an empty one leaves the call out.
pub type Functions = BTreeMap<String, String>;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq)]
pub struct Migration {
    pub name: String,
    /// Of the stream in AWS.
    pub arn: Option<String>,
    /// The body of `CreateDeliveryStream`.
    pub request: Value,
    /// What is not carried over.
    pub left: Vec<Left>,
}

/// Something of a stream that its copy has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The member, with its value where that is short.
    pub what: String,
    pub why: String,
}

impl Migration {
    /// `text` is what `aws firehose describe-delivery-stream` prints, or the object in it.
    ///
    /// # Errors
    /// `SerializationException`: it is no such JSON. `InvalidArgumentException`: it has no name or no destination, or one that
    /// is not there.
    pub fn of(text: &[u8], functions: &Functions) -> Result<Migration, Refusal> {
        let whole: Value = parse(text)?;
        let description = whole.get("DeliveryStreamDescription").unwrap_or(&whole);
        let text = |name: &str| description[name].as_str();
        let Some(name) = text("DeliveryStreamName") else {
            let expected = "no DeliveryStreamName: expected what `aws firehose describe-delivery-stream` prints, as JSON";
            return Err(Refusal::new(Kind::Serialization, expected));
        };
        let mut left = Vec::new();
        let kind = text("DeliveryStreamType").unwrap_or("DirectPut");
        let source = &description["Source"]["KinesisStreamSourceDescription"];
        let source = source.as_object().filter(|_| kind == "KinesisStreamAsSource");
        if kind != "DirectPut" && source.is_none() {
            let why = "the stream takes records that clients put; let producers put them, or give it another source";
            leave(&mut left, "DeliveryStreamType", kind, why);
        }
        let encryption = &description["DeliveryStreamEncryptionConfiguration"];
        if let Some(status @ ("ENABLED" | "ENABLING")) = encryption["Status"].as_str() {
            let key = encryption["KeyARN"].as_str().or(encryption["KeyType"].as_str()).unwrap_or(status);
            let why = "records at rest are not encrypted by this host; keep its data on an encrypted disk";
            leave(&mut left, "DeliveryStreamEncryptionConfiguration", key, why);
        }
        let (member, destination) = destination(description, functions, &mut left)?;
        let mut request = json!({ "DeliveryStreamName": name, "DeliveryStreamType": "DirectPut" });
        if let Some(source) = source {
            let why = "no role is taken; the host reads with credentials of its own";
            leave(
                &mut left,
                "Source.RoleARN",
                source.get("RoleARN").and_then(Value::as_str).unwrap_or_default(),
                why,
            );
            leave(
                &mut left,
                "Source.DeliveryStartTimestamp",
                "",
                "reading begins at what comes into Kinesis from now on; set \"from\" and \"timestamp\" of the source to begin elsewhere",
            );
            request["DeliveryStreamType"] = kind.into();
            let taken =
                taken(source, &["KinesisStreamARN", "RoleARN"], &["DeliveryStartTimestamp"], &mut left);
            request["KinesisStreamSourceConfiguration"] = Value::Object(taken);
        }
        request[member] = Value::Object(destination);
        let arn = text("DeliveryStreamARN").map(str::to_owned);
        Ok(Migration { name: name.to_owned(), arn, request, left })
    }

    /// The region of the stream in AWS, which is that of its bucket as a rule.
    pub fn region(&self) -> Option<&str> {
        let mut parts = self.arn.as_deref()?.split(':');
        parts.nth(3).filter(|region| !region.is_empty())
    }
}

fn leave(left: &mut Vec<Left>, what: &str, value: &str, why: &str) {
    let value: String = value.chars().take(256).collect();
    let what = if value.is_empty() { what.to_owned() } else { format!("{what} {value}") };
    left.push(Left { what, why: why.to_owned() });
}

/// The member of a request, and what stands in it.
fn destination(
    description: &Value,
    functions: &Functions,
    left: &mut Vec<Left>,
) -> Result<(&'static str, Map<String, Value>), Refusal> {
    let given = description["Destinations"].as_array().and_then(|given| given.first());
    let given = given.and_then(Value::as_object).ok_or_else(|| {
        Refusal::invalid("Destinations is empty: there is nothing that the stream could deliver to")
    })?;
    let object = |name: &str| object_in(given, name);
    // Those that are here come beside no others; an extended one comes with the plain one.
    let other = given.keys().filter_map(|name| name.strip_suffix(SUFFIX));
    let is_known =
        |kind: &&str| ["S3", "ExtendedS3", "HttpEndpoint"].contains(kind) || servers::is_known(kind);
    let mut other = other.filter(|kind| !is_known(kind));
    if let Some(other) = other.next() {
        return Err(Refusal::invalid(format!(
            "the destination {other} is not available on this host; nothing of the stream is left"
        )));
    }
    if let Some((member, mut made)) = servers::destination(given, left) {
        without_logs(&mut made, "", left);
        processing(&mut made, functions, left);
        return Ok((member, made));
    }
    let of = |name: &str| format!("{name}{SUFFIX}");
    if let Some(http) = object(&of("HttpEndpoint")) {
        let mut made = taken(http, &ENDPOINT, &["S3DestinationDescription"], left);
        leave(left, "EndpointConfiguration.AccessKey", "", "AWS does not show it: set it again");
        beside(&mut made, http, ("S3DestinationDescription", "S3Configuration"), left);
        without_logs(&mut made, "", left);
        processing(&mut made, functions, left);
        return Ok(("HttpEndpointDestinationConfiguration", made));
    }
    if let Some(extended) = object(&of("ExtendedS3")) {
        let mut made = taken(extended, &BUCKET, &["S3BackupDescription"], left);
        plain(&mut made, "", left);
        beside(&mut made, extended, ("S3BackupDescription", "S3BackupConfiguration"), left);
        processing(&mut made, functions, left);
        return Ok(("ExtendedS3DestinationConfiguration", made));
    }
    let s3 = object(&of("S3")).ok_or_else(|| Refusal::invalid("Destinations has none that is known"))?;
    let mut made = taken(s3, &BUCKET, &[], left);
    plain(&mut made, "", left);
    Ok(("S3DestinationConfiguration", made))
}

fn object_in<'a>(given: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    given.get(name).and_then(Value::as_object)
}

/// A bucket beside a destination, which requests have under another name.
fn beside(
    made: &mut Map<String, Value>,
    given: &Map<String, Value>,
    (from, to): (&str, &str),
    left: &mut Vec<Left>,
) {
    if let Some(bucket) = object_in(given, from) {
        let mut bucket = taken(bucket, &BUCKET, &[], left);
        plain(&mut bucket, &format!("{to}."), left);
        made.insert(to.to_owned(), bucket.into());
    }
}

/// Members that requests have; others are said.
fn taken(
    given: &Map<String, Value>,
    known: &[&str],
    elsewhere: &[&str],
    left: &mut Vec<Left>,
) -> Map<String, Value> {
    let mut made = Map::new();
    for (name, value) in given {
        if known.contains(&name.as_str()) {
            made.insert(name.clone(), value.clone());
        } else if !elsewhere.contains(&name.as_str()) {
            leave(left, name, "", "not known here");
        }
    }
    made
}

/// What all buckets have and only AWS can use.
fn plain(bucket: &mut Map<String, Value>, at: &str, left: &mut Vec<Left>) {
    if let Some(role) = bucket.get("RoleARN").and_then(Value::as_str) {
        let why = "no role is taken; the host signs with credentials of its own";
        leave(left, &format!("{at}RoleARN"), role, why);
    }
    let kms = bucket.get("EncryptionConfiguration").map(|encryption| &encryption["KMSEncryptionConfig"]);
    if let Some(kms) = kms.filter(|kms| !kms.is_null()) {
        let key = kms["AWSKMSKeyARN"].as_str().unwrap_or_default().to_owned();
        let why = "objects are written without a key; set the encryption of the bucket";
        leave(left, &format!("{at}KMSEncryptionConfig"), &key, why);
        let none = json!({ "NoEncryptionConfig": "NoEncryption" });
        bucket.insert("EncryptionConfiguration".to_owned(), none);
    }
    without_logs(bucket, at, left);
}

fn without_logs(destination: &mut Map<String, Value>, at: &str, left: &mut Vec<Left>) {
    let Some(logging) = destination.remove("CloudWatchLoggingOptions") else { return };
    if logging["Enabled"] == true {
        let group = logging["LogGroupName"].as_str().unwrap_or_default();
        let why = "errors are in the log of the host and in its metrics";
        leave(left, &format!("{at}CloudWatchLoggingOptions"), group, why);
    }
}

/// Functions become plugins of their names.
fn processing(destination: &mut Map<String, Value>, functions: &Functions, left: &mut Vec<Left>) {
    let processors = destination.get_mut("ProcessingConfiguration").and_then(|all| all.get_mut("Processors"));
    let Some(processors) = processors.and_then(Value::as_array_mut) else { return };
    processors.retain_mut(|processor| processor["Type"] != "Lambda" || lambda(processor, functions, left));
    if processors.is_empty() {
        destination.remove("ProcessingConfiguration");
    }
}

/// Whether the processor stays.
fn lambda(processor: &mut Value, functions: &Functions, left: &mut Vec<Left>) -> bool {
    let Some(parameters) = processor["Parameters"].as_array_mut() else { return true };
    let value = |parameter: &Value| parameter["ParameterValue"].as_str().unwrap_or_default().to_owned();
    for (name, usual) in GATHERING {
        let set = parameters.iter().find(|parameter| parameter["ParameterName"] == name).map(value);
        if let Some(set) = set.filter(|set| set.parse::<f64>() != usual.parse::<f64>()) {
            let why = "a plugin is called with records as they come, and not again with the same ones";
            leave(left, &format!("Lambda.{name}"), &set, why);
        }
    }
    parameters.retain(|parameter| parameter["ParameterName"] != "RoleArn");
    let arn = parameters.iter_mut().find(|parameter| parameter["ParameterName"] == "LambdaArn");
    let Some(arn) = arn else { return true };
    let written = value(arn);
    let parts: Vec<&str> = written.split(':').collect();
    let (head, function, alias) = match parts[..] {
        [ref head @ .., "function", function] if head.len() == 5 => (head, function, None),
        [ref head @ .., "function", function, alias] if head.len() == 5 => (head, function, Some(alias)),
        _ => return true,
    };
    let plugin = match functions.get(function) {
        Some(plugin) if plugin.is_empty() => {
            leave(left, "Lambda", &written, "the function is left out, as it was asked for");
            return false;
        }
        Some(plugin) => plugin.clone(),
        // As names of plugins are.
        None => function.to_ascii_lowercase().replace('_', "-"),
    };
    if let Some(alias) = alias.filter(|alias| *alias != "$LATEST") {
        let why = format!("the version of the plugin {plugin:?} that is current on the host is run");
        leave(left, &format!("Lambda alias or version {function}"), alias, &why);
    }
    arn["ParameterValue"] = format!("{}:function:{plugin}", head.join(":")).into();
    true
}

#[cfg(test)]
mod tests;
