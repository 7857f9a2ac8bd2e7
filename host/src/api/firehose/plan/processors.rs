//! Processors as transforms.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use wasmill_firehose::wire::{Processing, Processor, Refusal};

use super::not_here;

/// Sub-records of one record; one with more is left whole.
const SUB_RECORDS_MAX: u64 = 500;

/// What processors come to.
#[derive(Default)]
pub(super) struct Steps {
    pub(super) transforms: Vec<Value>,
    /// ARNs of functions by the names of their transforms.
    pub(super) functions: Map<String, Value>,
    /// A delimiter follows each record.
    pub(super) is_delimited: bool,
}

impl Steps {
    /// In the order in which Firehose has them.
    pub(super) fn of(processing: Option<&Processing>) -> Result<Steps, Refusal> {
        let (mut unpack, mut lambda, mut query) = (Vec::new(), Vec::new(), Vec::new());
        let mut steps = Steps::default();
        let mut active: Vec<&Processor> = processing.into_iter().flat_map(Processing::active).collect();
        active.sort_by_key(|processor| order(processor.processor_type.as_deref().unwrap_or_default()));
        steps.is_delimited = processing.is_some_and(|processing| processing.has("AppendDelimiterToRecord"));
        for processor in active {
            match processor.processor_type.as_deref().unwrap_or_default() {
                "Decompression" => unpack.push(json!({ "decompress": "gzip" })),
                "CloudWatchLogProcessing" => {
                    let is_text = processor.parameter("DataMessageExtraction") != Some("false");
                    unpack.push(json!({ "cloudwatch_logs": { "messages": is_text } }));
                    // A message a line, unless whatever leaves is one.
                    if is_text && !steps.is_delimited {
                        unpack.push(json!({ "append": "\n" }));
                    }
                }
                "RecordDeAggregation" => unpack.push(de_aggregation(processor)?),
                "Lambda" => {
                    let function = Function::of(processor)?;
                    // As transforms are called that have no name.
                    let taken = lambda
                        .iter()
                        .filter(|earlier: &&Value| earlier["config"]["function_name"] == function.name)
                        .count();
                    let name = match taken {
                        0 => function.name.to_owned(),
                        taken => format!("{}-{}", function.name, taken + 1),
                    };
                    steps.functions.insert(name.clone(), function.arn.into());
                    let config = json!({ "function_name": function.name });
                    lambda.push(json!({ "plugin": function.plugin, "name": name, "config": config }));
                }
                "MetadataExtraction" => {
                    let text = processor.parameter("MetadataExtractionQuery").unwrap_or_default();
                    query.push(
                        json!({ "plugin": "jq", "name": "partition", "config": { "partition": text } }),
                    );
                }
                "AppendDelimiterToRecord" => {}
                other => return Err(not_here(&format!("processor {other:?}"), "use a plugin")),
            }
        }
        if !unpack.is_empty() {
            steps.transforms.push(json!({ "plugin": "unpack", "config": { "steps": unpack } }));
        }
        steps.transforms.append(&mut lambda);
        steps.transforms.append(&mut query);
        Ok(steps)
    }

    /// Puts a text in front of each key that a query gives.
    pub(super) fn name_query_keys(&mut self, front: &str) {
        for transform in &mut self.transforms {
            if let Some(query) = transform["config"]["partition"].as_str() {
                let renamed = format!("({query}\n) | with_entries(.key = \"{front}\" + .key)");
                transform["config"]["partition"] = renamed.into();
            }
        }
    }

    /// How records stand in text.
    pub(super) fn format(&self) -> &'static str {
        if self.is_delimited { "raw" } else { "verbatim" }
    }
}

/// Functions are told whose records they get.
pub(super) fn introduce(transforms: &mut Value, arn: &str) {
    for transform in transforms.as_array_mut().into_iter().flatten() {
        if is_function(transform) {
            transform["config"]["stream_arn"] = arn.into();
        }
    }
}

/// Plugins that stand for functions and are none take no such config: whether there are some among those that are `refused`,
/// by their places. They get none, then.
pub(in crate::api::firehose) fn leave_untold(stream: &mut Value, refused: &[usize]) -> bool {
    let mut found = false;
    for (place, transform) in stream["transforms"].as_array_mut().into_iter().flatten().enumerate() {
        if refused.contains(&place)
            && is_function(transform)
            && let Value::Object(members) = transform
        {
            found |= members.remove("config").is_some();
        }
    }
    found
}

fn is_function(transform: &Value) -> bool {
    transform["config"].get("function_name").is_some()
}

/// Firehose takes aggregates of the Kinesis Producer Library apart before anything else.
pub(super) fn de_aggregate(transforms: &mut Value) {
    let Some(transforms) = transforms.as_array_mut() else { return };
    let steps = transforms.first_mut().filter(|first| first["plugin"] == "unpack");
    match steps.and_then(|unpack| unpack["config"]["steps"].as_array_mut()) {
        Some(steps) => steps.insert(0, json!({ "kpl": {} })),
        None => transforms.insert(0, json!({ "plugin": "unpack", "config": { "steps": [{ "kpl": {} }] } })),
    }
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

/// What a function's ARN names: `arn:aws:lambda:REGION:ACCOUNT:function:NAME`, perhaps with `:$LATEST`, or with the digest of a
/// version of the plugin NAME as the alias: `:sha256-<64 digits>`.
struct Function<'a> {
    arn: &'a str,
    name: &'a str,
    /// With its digest, if there is one.
    plugin: String,
}

impl Function<'_> {
    fn of(processor: &Processor) -> Result<Function<'_>, Refusal> {
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
        let plugin = match alias {
            None | Some("$LATEST") => name.to_owned(),
            Some(alias) => match alias.strip_prefix("sha256-") {
                Some(digits) if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                    format!("{name}@sha256:{digits}")
                }
                _ => return Err(refused()),
            },
        };
        Ok(Function { arn, name, plugin })
    }
}
