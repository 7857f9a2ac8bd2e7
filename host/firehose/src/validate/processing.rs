//! Processors: constraints of their members, and what each needs.

use super::{At, Violations};
use crate::wire::{Processing, Processor, Refusal};

const TYPES: &[&str] = &[
    "RecordDeAggregation",
    "Decompression",
    "CloudWatchLogProcessing",
    "Lambda",
    "MetadataExtraction",
    "AppendDelimiterToRecord",
];
const PARAMETERS: &[&str] = &[
    "LambdaArn",
    "NumberOfRetries",
    "MetadataExtractionQuery",
    "JsonParsingEngine",
    "RoleArn",
    "BufferSizeInMBs",
    "BufferIntervalInSeconds",
    "SubRecordType",
    "Delimiter",
    "CompressionFormat",
    "DataMessageExtraction",
];
/// The API names no limit; more than there are types, each of them twice.
const PROCESSORS_MAX: usize = 16;

pub(super) fn constraints(violations: &mut Violations, at: At<'_>, processing: &Processing) {
    let list = at.member("Processors");
    let processors = processing.processors.as_deref().unwrap_or_default();
    violations.count(list, processors.len(), 0, PROCESSORS_MAX);
    for (index, processor) in processors.iter().enumerate().take(PROCESSORS_MAX) {
        let at = list.item(index);
        let type_at = at.member("Type");
        violations.required(type_at, processor.processor_type.is_some());
        if let Some(processor_type) = &processor.processor_type {
            violations.one_of(type_at, processor_type, TYPES);
        }
        let list = at.member("Parameters");
        for (index, parameter) in processor.parameters.iter().flatten().enumerate() {
            let at = list.item(index);
            let (name_at, value_at) = (at.member("ParameterName"), at.member("ParameterValue"));
            violations.required(name_at, parameter.name.is_some());
            violations.required(value_at, parameter.value.is_some());
            if let Some(name) = &parameter.name {
                violations.one_of(name_at, name, PARAMETERS);
            }
            if let Some(value) = &parameter.value {
                violations.length(value_at, value, 1, 5120);
            }
        }
    }
}

/// What each processor needs. Parameters of other types are let through: clients are known to send some.
pub(super) fn rules(processing: &Processing) -> Result<(), Refusal> {
    for processor in processing.active() {
        match processor.processor_type.as_deref() {
            Some("Lambda") => lambda(processor)?,
            Some("MetadataExtraction") => {
                needed(processor, "MetadataExtractionQuery")?;
                exactly(processor, "JsonParsingEngine", &["JQ-1.6"])?;
            }
            Some("RecordDeAggregation") => {
                exactly(processor, "SubRecordType", &["JSON", "DELIMITED"])?;
                if processor.parameter("SubRecordType") == Some("DELIMITED") {
                    let delimiter = needed(processor, "Delimiter")?;
                    let decoded = base64_simd::STANDARD.decode_to_vec(delimiter);
                    if decoded.map_or(true, |bytes| bytes.is_empty()) {
                        return Err(wrong(
                            "RecordDeAggregation",
                            "Delimiter",
                            delimiter,
                            "base64 of one byte or more",
                        ));
                    }
                }
            }
            Some("Decompression") => exactly(processor, "CompressionFormat", &["GZIP"])?,
            Some("CloudWatchLogProcessing") => {
                exactly(processor, "DataMessageExtraction", &["true"])?;
                if !processing.has("Decompression") {
                    return Err(Refusal::invalid(
                        "CloudWatchLogProcessing processor needs the Decompression processor beside it",
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn lambda(processor: &Processor) -> Result<(), Refusal> {
    needed(processor, "LambdaArn")?;
    number(processor, "NumberOfRetries", 0.0, 300.0, true)?;
    number(processor, "BufferSizeInMBs", 0.2, 3.0, false)?;
    number(processor, "BufferIntervalInSeconds", 0.0, 900.0, true)
}

fn number(processor: &Processor, name: &str, min: f64, max: f64, whole: bool) -> Result<(), Refusal> {
    let Some(text) = processor.parameter(name) else { return Ok(()) };
    let fits = |value: &f64| (min..=max).contains(value) && (!whole || value.fract() == 0.0);
    if text.parse::<f64>().ok().filter(fits).is_none() {
        let kind = if whole { "a whole number" } else { "a number" };
        return Err(wrong("Lambda", name, text, &format!("{kind} from {min} to {max}")));
    }
    Ok(())
}

fn needed<'a>(processor: &'a Processor, name: &str) -> Result<&'a str, Refusal> {
    let processor_type = processor.processor_type.as_deref().unwrap_or_default();
    processor
        .parameter(name)
        .ok_or_else(|| Refusal::invalid(format!("{processor_type} processor needs the parameter {name}")))
}

fn exactly(processor: &Processor, name: &str, set: &[&str]) -> Result<(), Refusal> {
    let value = needed(processor, name)?;
    if set.contains(&value) {
        return Ok(());
    }
    let processor_type = processor.processor_type.as_deref().unwrap_or_default();
    Err(wrong(processor_type, name, value, &set.join(" or ")))
}

fn wrong(processor_type: &str, name: &str, found: &str, expected: &str) -> Refusal {
    let found: String = found.chars().take(64).collect();
    Refusal::invalid(format!("{processor_type} processor has {name} {found:?}, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    fn processing(processors: &str) -> Processing {
        parse(format!(r#"{{"Enabled":true,"Processors":[{processors}]}}"#).as_bytes()).unwrap()
    }

    fn processor(processor_type: &str, parameters: &[(&str, &str)]) -> String {
        let parameters: Vec<String> = parameters
            .iter()
            .map(|(name, value)| format!(r#"{{"ParameterName":"{name}","ParameterValue":"{value}"}}"#))
            .collect();
        format!(r#"{{"Type":"{processor_type}","Parameters":[{}]}}"#, parameters.join(","))
    }

    #[test]
    fn each_processor_is_held_to_what_it_needs() {
        let decompression = processor("Decompression", &[("CompressionFormat", "GZIP")]);
        let logs = processor("CloudWatchLogProcessing", &[("DataMessageExtraction", "true")]);
        for (text, broken) in [
            (processor("Lambda", &[("LambdaArn", "arn:x"), ("BufferSizeInMBs", "0.2")]), ""),
            (processor("Lambda", &[]), "needs the parameter LambdaArn"),
            (
                processor("Lambda", &[("LambdaArn", "arn:x"), ("BufferSizeInMBs", "4")]),
                "expected a number from 0.2 to 3",
            ),
            (
                processor("Lambda", &[("LambdaArn", "arn:x"), ("NumberOfRetries", "1.5")]),
                "a whole number from 0 to 300",
            ),
            (
                processor("Lambda", &[("LambdaArn", "arn:x"), ("BufferIntervalInSeconds", "x")]),
                "from 0 to 900",
            ),
            (
                processor("MetadataExtraction", &[("JsonParsingEngine", "JQ-1.6")]),
                "needs the parameter MetadataExtractionQuery",
            ),
            (
                processor(
                    "MetadataExtraction",
                    &[("MetadataExtractionQuery", "{a:.a}"), ("JsonParsingEngine", "JQ-1.7")],
                ),
                r#"has JsonParsingEngine "JQ-1.7", expected JQ-1.6"#,
            ),
            (processor("RecordDeAggregation", &[("SubRecordType", "JSON")]), ""),
            (
                processor("RecordDeAggregation", &[("SubRecordType", "DELIMITED")]),
                "needs the parameter Delimiter",
            ),
            (
                processor("RecordDeAggregation", &[("SubRecordType", "DELIMITED"), ("Delimiter", "##")]),
                "expected base64",
            ),
            (processor("RecordDeAggregation", &[("SubRecordType", "DELIMITED"), ("Delimiter", "Cg==")]), ""),
            (processor("AppendDelimiterToRecord", &[]), ""),
            (processor("AppendDelimiterToRecord", &[("Delimiter", "n")]), ""),
            (processor("Decompression", &[("CompressionFormat", "ZIP")]), "expected GZIP"),
            (logs.clone(), "needs the Decompression processor"),
            (format!("{decompression},{logs}"), ""),
        ] {
            match rules(&processing(&text)) {
                Ok(()) => assert_eq!(broken, "", "{text}"),
                Err(refusal) => {
                    assert!(!broken.is_empty() && refusal.message.contains(broken), "{text}: {refusal}");
                }
            }
        }
    }

    #[test]
    fn processors_that_do_not_run_are_not_looked_at() {
        let mut processing = processing(&processor("Lambda", &[]));
        processing.enabled = Some(false);
        assert!(rules(&processing).is_ok());
    }

    #[test]
    fn types_and_parameters_are_those_of_the_api() {
        let processing = processing(
            r#"{"Type":"Wasm"},{"Type":"Lambda","Parameters":[{"ParameterName":"X","ParameterValue":""},{}]},{}"#,
        );
        let mut violations = Violations::default();
        constraints(&mut violations, At::Root.member("ProcessingConfiguration"), &processing);
        let message = violations.finish().unwrap_err().message;
        for expected in [
            "6 validation errors detected",
            "Value 'Wasm' at 'processingConfiguration.processors.1.member.type'",
            "Value 'X' at 'processingConfiguration.processors.2.member.parameters.1.member.parameterName'",
            "parameters.2.member.parameterValue",
            "Value null at 'processingConfiguration.processors.3.member.type'",
        ] {
            assert!(message.contains(expected), "{expected}: {message}");
        }
    }
}
