//! What the two prefixes of a destination may be beside each other, and with partitioning.

use super::{NotATemplate, Part, Place, Template};
use crate::wire::{ExtendedS3, Refusal};

/// What of a destination has a say in which prefixes are good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Partitioning {
    /// Dynamic partitioning is enabled.
    pub is_enabled: bool,
    /// A processor extracts keys with a query.
    pub has_query: bool,
    /// A processor may give keys.
    pub has_lambda: bool,
}

impl Partitioning {
    /// Of a destination.
    pub fn of(extended: &ExtendedS3) -> Partitioning {
        let has = |name: &str| extended.processing.as_ref().is_some_and(|processing| processing.has(name));
        Partitioning {
            is_enabled: extended.is_partitioned(),
            has_query: has("MetadataExtraction"),
            has_lambda: has("Lambda"),
        }
    }
}

/// Parses both prefixes and holds them to the rules. Absent and empty are the same.
///
/// # Errors
/// `InvalidArgumentException` with the rule that is broken.
pub fn check(
    prefix: Option<&str>,
    error_output_prefix: Option<&str>,
    partitioning: Partitioning,
) -> Result<(Template, Template), Refusal> {
    let prefix = Template::parse(prefix.unwrap_or_default(), Place::Prefix).map_err(refused)?;
    let errors = Template::parse(error_output_prefix.unwrap_or_default(), Place::ErrorOutputPrefix)
        .map_err(refused)?;
    if partitioning.is_enabled && !partitioning.has_query && !partitioning.has_lambda {
        return Err(Refusal::invalid(
            "Processing Configuration is not enabled when DataPartitioning is enabled",
        ));
    }
    if partitioning.is_enabled && !prefix.has_partition_keys() {
        return Err(Refusal::invalid(
            "S3 Prefix should contain Dynamic Partitioning namespaces when Dynamic Partitioning is enabled",
        ));
    }
    if !partitioning.is_enabled && prefix.has_partition_keys() {
        return Err(Refusal::invalid(
            "S3 Prefix can contain Dynamic Partitioning namespaces only when Dynamic Partitioning is enabled",
        ));
    }
    if prefix.lambda_keys().next().is_some() && !partitioning.has_lambda {
        return Err(Refusal::invalid(
            "Lambda should be present when S3 Prefix contains keys from partitionKeyFromLambda namespace",
        ));
    }
    if prefix.query_keys().next().is_some() && !partitioning.has_query {
        return Err(Refusal::invalid(
            "MetadataExtraction processor should be present when S3 Prefix has partitionKeyFromQuery namespace",
        ));
    }
    // "Ths" is how the service has it; clients look for the sentence.
    let constraint = |what: &str| {
        Refusal::invalid(format!("Ths supplied prefix(es) do not satisfy the following constraint: {what}"))
    };
    if errors.parts.is_empty() && partitioning.is_enabled {
        return Err(constraint(
            "ErrorOutputPrefix cannot be null or empty when Dynamic Partitioning is enabled",
        ));
    }
    if errors.parts.is_empty() && prefix.has_expressions() {
        return Err(constraint("ErrorOutputPrefix cannot be null or empty when Prefix contains expressions"));
    }
    if errors.has_expressions() && !errors.parts.contains(&Part::ErrorOutputType) {
        return Err(constraint(
            "ErrorOutputPrefix must contain !{firehose:error-output-type} when it contains expressions",
        ));
    }
    Ok((prefix, errors))
}

fn refused(error: NotATemplate) -> Refusal {
    Refusal::invalid(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFF: Partitioning = Partitioning { is_enabled: false, has_query: false, has_lambda: false };
    const ON: Partitioning = Partitioning { is_enabled: true, has_query: true, has_lambda: true };

    #[test]
    fn each_rule_refuses_what_breaks_it() {
        let errors = Some("e/!{firehose:error-output-type}/");
        let query = Some("!{partitionKeyFromQuery:k}/");
        let lambda = Some("!{partitionKeyFromLambda:k}/");
        for (prefix, error_prefix, partitioning, broken) in [
            (None, None, OFF, ""),
            (Some(""), Some(""), OFF, ""),
            (Some("plain"), None, OFF, ""),
            (Some("plain"), Some("errors"), OFF, ""),
            (None, errors, OFF, ""),
            (Some("!{timestamp:yyyy}/"), errors, OFF, ""),
            (Some("a!{"), errors, OFF, "Prefix at position 1"),
            (None, Some("a!{x}"), OFF, "ErrorOutputPrefix at position 1"),
            (
                Some("!{timestamp:yyyy}/"),
                None,
                OFF,
                "ErrorOutputPrefix cannot be null or empty when Prefix contains expressions",
            ),
            (
                Some("!{timestamp:yyyy}/"),
                Some(""),
                OFF,
                "ErrorOutputPrefix cannot be null or empty when Prefix contains",
            ),
            (Some("!{timestamp:yyyy}/"), Some("plain/"), OFF, ""),
            (None, Some("!{timestamp:yyyy}/"), OFF, "must contain !{firehose:error-output-type}"),
            (query, errors, OFF, "only when Dynamic Partitioning is enabled"),
            (Some("plain/"), errors, ON, "should contain Dynamic Partitioning namespaces"),
            (None, errors, ON, "should contain Dynamic Partitioning namespaces"),
            (
                query,
                errors,
                Partitioning { has_query: false, has_lambda: false, ..ON },
                "Processing Configuration is not enabled",
            ),
            (
                query,
                errors,
                Partitioning { has_query: false, ..ON },
                "MetadataExtraction processor should be present",
            ),
            (lambda, errors, Partitioning { has_lambda: false, ..ON }, "Lambda should be present"),
            (
                query,
                None,
                ON,
                "ErrorOutputPrefix cannot be null or empty when Dynamic Partitioning is enabled",
            ),
            (query, errors, Partitioning { has_lambda: false, ..ON }, ""),
            (lambda, errors, Partitioning { has_query: false, ..ON }, ""),
        ] {
            match check(prefix, error_prefix, partitioning) {
                Ok(_) => assert_eq!(broken, "", "{prefix:?} {error_prefix:?} {partitioning:?}"),
                Err(refusal) => assert!(
                    !broken.is_empty() && refusal.message.contains(broken),
                    "{prefix:?} {error_prefix:?} {partitioning:?}: {refusal}"
                ),
            }
        }
    }
}
