//! Templates: literals and expressions.

use std::fmt;

use super::Pattern;

/// Which member a template is of; not every expression may stand in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Prefix,
    ErrorOutputPrefix,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Prefix => "Prefix",
            Place::ErrorOutputPrefix => "ErrorOutputPrefix",
        })
    }
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Literal(String),
    Timestamp(Pattern),
    RandomString,
    ErrorOutputType,
    /// A key that a query extracted from the record.
    FromQuery(String),
    /// A key that a transform gave.
    FromLambda(String),
}

/// A prefix that was parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    pub(super) parts: Vec<Part>,
}

/// A text that is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} at position {at}: {what}")]
pub struct NotATemplate {
    pub place: Place,
    /// In bytes from 0.
    pub at: usize,
    pub what: String,
}

const OPEN: &str = "!{";
const EXPECTED: &str = "expected !{timestamp:<pattern>}, !{firehose:random-string}, !{firehose:error-output-type}, \
                        !{partitionKeyFromQuery:<key>} or !{partitionKeyFromLambda:<key>}";

impl Template {
    /// # Errors
    /// `!{` without a whole expression behind it, an expression that is unknown or may not stand in this place, or a
    /// pattern of time that is none.
    pub fn parse(text: &str, place: Place) -> Result<Template, NotATemplate> {
        let mut parts = Vec::new();
        let mut from = 0;
        while let Some(found) = text[from..].find(OPEN) {
            let open = from + found;
            if open > from {
                parts.push(Part::Literal(text[from..open].to_owned()));
            }
            let inner = open + OPEN.len();
            let error = |at: usize, what: String| NotATemplate { place, at, what };
            let Some(length) = text[inner..].find('}') else {
                return Err(error(open, format!("the expression is not closed by }}, {EXPECTED}")));
            };
            let expression = &text[inner..inner + length];
            parts.push(
                part(expression, place)
                    .map_err(|(at, what)| error(if at == 0 { open } else { inner + at }, what))?,
            );
            from = inner + length + 1;
        }
        if from < text.len() {
            parts.push(Part::Literal(text[from..].to_owned()));
        }
        Ok(Template { parts })
    }

    /// Pieces in their order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub fn has_expressions(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part, Part::Literal(_)))
    }

    pub fn has_partition_keys(&self) -> bool {
        self.query_keys().next().is_some() || self.lambda_keys().next().is_some()
    }

    /// Keys that queries must extract.
    pub fn query_keys(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::FromQuery(key) => Some(key.as_str()),
            _ => None,
        })
    }

    /// Keys that a transform must give.
    pub fn lambda_keys(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::FromLambda(key) => Some(key.as_str()),
            _ => None,
        })
    }

    /// Of all literal text together.
    pub fn literal_characters(&self) -> usize {
        let literal = |part: &Part| if let Part::Literal(text) = part { text.chars().count() } else { 0 };
        self.parts.iter().map(literal).sum()
    }

    /// Literal text before the first expression.
    pub fn literal_prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(literal)) => literal,
            _ => "",
        }
    }

    /// Whether two objects may have the same evaluated prefix although nothing of them differs.
    pub fn is_random(&self) -> bool {
        self.parts.contains(&Part::RandomString)
    }
}

/// What stands between the braces. An error has its place in there, 0 for the whole.
fn part(expression: &str, place: Place) -> Result<Part, (usize, String)> {
    let Some((namespace, value)) = expression.split_once(':') else {
        return Err((0, format!("{:?} is no expression, {EXPECTED}", cut(expression))));
    };
    let value_at = namespace.len() + 1;
    let part = match (namespace, value) {
        ("timestamp", pattern) => {
            let pattern = Pattern::parse(pattern).map_err(|error| (value_at + error.at, error.what))?;
            return Ok(Part::Timestamp(pattern));
        }
        ("firehose", "random-string") => Part::RandomString,
        ("firehose", "error-output-type") => Part::ErrorOutputType,
        ("firehose", other) => {
            let what =
                format!("firehose has no {:?}, expected random-string or error-output-type", cut(other));
            return Err((value_at, what));
        }
        ("partitionKeyFromQuery" | "partitionKeyFromLambda", "") => {
            return Err((value_at, format!("{namespace} names no key")));
        }
        ("partitionKeyFromQuery", key) => Part::FromQuery(key.to_owned()),
        ("partitionKeyFromLambda", key) => Part::FromLambda(key.to_owned()),
        (other, _) => return Err((0, format!("the namespace {:?} is unknown, {EXPECTED}", cut(other)))),
    };
    let may_stand = match part {
        Part::ErrorOutputType => place == Place::ErrorOutputPrefix,
        Part::FromQuery(_) | Part::FromLambda(_) => place == Place::Prefix,
        _ => true,
    };
    match may_stand {
        true => Ok(part),
        false => Err((0, format!("!{{{expression}}} may not stand in {place}"))),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_expressions_alternate() {
        let template =
            Template::parse("a!{firehose:random-string}!b}/!{partitionKeyFromQuery:k}{c}", Place::Prefix)
                .unwrap();
        assert_eq!(
            template.parts(),
            [
                Part::Literal("a".to_owned()),
                Part::RandomString,
                Part::Literal("!b}/".to_owned()),
                Part::FromQuery("k".to_owned()),
                Part::Literal("{c}".to_owned()),
            ]
        );
        assert!(template.has_expressions() && template.has_partition_keys() && template.is_random());
        assert_eq!(template.query_keys().collect::<Vec<_>>(), ["k"]);
        assert!(!Template::parse("plain/", Place::Prefix).unwrap().has_expressions());
        assert_eq!(Template::parse("", Place::Prefix).unwrap(), Template::default());
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_place() {
        use Place::{ErrorOutputPrefix, Prefix};
        for (text, place, at, expected) in [
            ("a!{", Prefix, 1, "is not closed"),
            ("a!{timestamp:yyyy", Prefix, 1, "is not closed"),
            ("!{}", Prefix, 0, "\"\" is no expression, expected !{timestamp:"),
            ("x/!{yyyy}", Prefix, 2, "\"yyyy\" is no expression"),
            ("!{time:yyyy}", Prefix, 0, "the namespace \"time\" is unknown"),
            ("!{ timestamp:yyyy}", Prefix, 0, "the namespace \" timestamp\" is unknown"),
            ("a/!{timestamp:yyyy/b}", Prefix, 19, "the letter 'b' is not supported"),
            ("!{timestamp:}", Prefix, 12, "the pattern is empty"),
            ("!{firehose:random}", Prefix, 11, "firehose has no \"random\""),
            ("!{partitionKeyFromQuery:}", Prefix, 24, "names no key"),
            ("!{firehose:error-output-type}", Prefix, 0, "may not stand in Prefix"),
            ("e/!{partitionKeyFromQuery:k}", ErrorOutputPrefix, 2, "may not stand in ErrorOutputPrefix"),
            ("!{partitionKeyFromLambda:k}", ErrorOutputPrefix, 0, "may not stand in ErrorOutputPrefix"),
        ] {
            let error = Template::parse(text, place).unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
            assert!(error.to_string().starts_with(&format!("{place} at position {at}: ")), "{error}");
            assert!(error.what.contains(expected), "{text}: {error}");
        }
    }
}
