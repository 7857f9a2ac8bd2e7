//! The JSON Schema of a plugin's config: whether it is one, and whether a config fits it.
//!
//! A schema comes out of a plugin file, so it is bounded before anything is done with it: what it refers to lies in itself,
//! and with all references followed it has so many parts. Patterns are matched in time that grows with the text alone.
//! Nothing is fetched from anywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonschema::paths::Location;
use jsonschema::{Keyword, ValidationError};
use serde_json::{Map, Value};

/// Parts of a schema, each reference followed.
const PARTS_MAX: usize = 10_000;
/// Parts within one another, each reference followed.
const DEPTH_MAX: usize = 64;
/// A compiled pattern.
const PATTERN_BYTES_MAX: usize = 256 << 10;
/// Patterns of a schema, each reference followed.
const PATTERNS_MAX: usize = 64;
/// Parts of a schema times values of a config: how much is done at most to check it, and up to how much every problem is
/// looked for rather than the first.
const WORK_MAX: usize = 20_000_000;
const WORK_FOR_ALL: usize = 100_000;
/// What is told of a config that does not fit.
const PROBLEMS_MAX: usize = 5;
const PROBLEM_BYTES_MAX: usize = 300;
/// The wrong name of a source, as it is told.
const NAME_BYTES_MAX: usize = 64;
/// Says what a text of the config names, where the host alone knows what there is: `"source"`, of the stream's sources.
const NAMES: &str = "x-wasmill";
/// Keywords that say where references lead, apart from `$ref`.
const ELSEWHERE: [&str; 4] = ["$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor"];
/// Versions of JSON Schema in which references lead where they say.
const DRAFTS: [&str; 3] = [
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
];

/// Why it is no schema that this host takes: where in it, and what is wrong.
pub(crate) fn check(schema: &Value) -> Result<(), String> {
    build(schema, None).map(drop)
}

/// Whether a config, as JSON text, fits; else what does not, and where. `sources` are the names of the stream's sources, none where
/// its only one has no name; `None`: there is no stream.
pub(crate) fn fits(schema: &Value, config: &str, sources: Option<&Arc<[String]>>) -> Result<(), String> {
    let (validator, reach) = build(schema, sources.cloned())
        .map_err(|reason| format!("config_schema is no JSON Schema: {reason}"))?;
    let config: Value =
        serde_json::from_str(config).map_err(|error| format!("the config is no JSON: {error}"))?;
    let work = reach.parts.saturating_mul(values(&config));
    if work > WORK_MAX {
        return Err(format!(
            "the config is too large to be checked against the plugin's schema: {} parts of it times {} values are more than {WORK_MAX}",
            reach.parts,
            values(&config)
        ));
    }
    let text = |error: ValidationError<'_>| {
        let at = error.instance_path().to_string();
        let at = if at.is_empty() { String::new() } else { format!("{at}: ") };
        if let jsonschema::error::ValidationErrorKind::Custom { .. } = error.kind() {
            // Bounded already, and whole it has all names.
            return format!("{at}{error}");
        }
        crate::fault::cut_text(&format!("{at}{error}"), PROBLEM_BYTES_MAX)
    };
    let (told, more) = if work <= WORK_FOR_ALL {
        let mut problems = validator.iter_errors(&config).map(text);
        let told: Vec<String> = problems.by_ref().take(PROBLEMS_MAX).collect();
        (told, problems.next().is_some())
    } else {
        // All of them may be as many as all that is done.
        (validator.validate(&config).err().into_iter().map(text).collect(), false)
    };
    if told.is_empty() {
        return Ok(());
    }
    let more = if more { "; and more" } else { "" };
    Err(format!("the config does not fit the plugin's schema: {}{more}", told.join("; ")))
}

/// How many values a JSON text has, those within others counted too.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(fields) => fields.values().map(values).sum(),
        _ => 0,
    }
}

fn build(schema: &Value, sources: Option<Arc<[String]>>) -> Result<(jsonschema::Validator, Reach), String> {
    let Value::Object(fields) = schema else { return Err("it must be an object".to_owned()) };
    if let Some(draft) = fields.get("$schema") {
        let draft = draft.as_str().unwrap_or_default();
        if !DRAFTS.contains(&draft.trim_end_matches('#')) {
            return Err(format!("$schema {draft:?} is not taken, expected one of {}", DRAFTS.join(", ")));
        }
    }
    let reach = Bounds { root: schema, known: BTreeMap::new() }.part(schema, 0)?;
    if reach.patterns > PATTERNS_MAX {
        return Err(format!("it has more than {PATTERNS_MAX} patterns, each $ref followed"));
    }
    let patterns = jsonschema::PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
    let options = jsonschema::options().with_pattern_options(patterns).with_keyword(
        NAMES,
        move |_, names: &Value, _: Location| match names.as_str() {
            Some("source") => Ok(Box::new(OfSources(sources.clone())) as Box<dyn for<'i> Keyword<'i>>),
            _ => Err(ValidationError::schema("it says what a text names, expected \"source\"")),
        },
    );
    let built = options.build(schema).map_err(|error| {
        let at = error.instance_path().to_string();
        let at = if at.is_empty() { String::new() } else { format!("at {at}: ") };
        crate::fault::cut_text(&format!("{at}{error}"), PROBLEM_BYTES_MAX)
    });
    Ok((built?, reach))
}

/// Takes a text that is the name of one of these sources; anything where nobody knows them.
struct OfSources(Option<Arc<[String]>>);

impl OfSources {
    fn problem(&self, value: &Value) -> Option<String> {
        let (known, name) = (self.0.as_deref()?, value.as_str()?);
        if known.iter().any(|known| known == name) {
            return None;
        }
        let name = crate::fault::cut_text(name, NAME_BYTES_MAX);
        let known: Vec<String> = known.iter().map(|known| format!("{known:?}")).collect();
        Some(if known.is_empty() {
            format!(
                "the stream has no source {name:?}: it has one without a name, as `source` gives it; in `sources` they have names"
            )
        } else {
            format!("the stream has no source {name:?}; its sources are {}", known.join(", "))
        })
    }
}

impl<'i> Keyword<'i> for OfSources {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        self.problem(value).map_or(Ok(()), |problem| Err(ValidationError::custom(problem)))
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        self.problem(value).is_none()
    }
}

/// How far a part reaches with each reference followed: parts, how many of them are within one another, and patterns.
#[derive(Clone, Copy, Default)]
struct Reach {
    parts: usize,
    depth: usize,
    patterns: usize,
}

/// Follows a schema as a validator would.
struct Bounds<'a> {
    root: &'a Value,
    /// Where references lead that were followed; nothing yet for those that are being followed.
    known: BTreeMap<&'a str, Option<Reach>>,
}

impl<'a> Bounds<'a> {
    fn part(&mut self, part: &'a Value, depth: usize) -> Result<Reach, String> {
        let mut reach = Reach { parts: 1, depth: 1, patterns: 0 };
        let within: Vec<&Value> = match part {
            Value::Object(fields) => {
                if let Some(further) = self.reference(fields, depth)? {
                    reach.add(further, depth)?;
                }
                reach.patterns += usize::from(fields.get("pattern").is_some_and(Value::is_string));
                if let Some(Value::Object(patterns)) = fields.get("patternProperties") {
                    reach.patterns += patterns.len();
                }
                fields.values().collect()
            }
            Value::Array(items) => items.iter().collect(),
            _ => Vec::new(),
        };
        for part in within {
            reach.add(Reach::default(), depth)?;
            let further = self.part(part, depth + 1)?;
            reach.add(further, depth)?;
        }
        Ok(reach)
    }

    /// What a part refers to.
    fn reference(&mut self, fields: &'a Map<String, Value>, depth: usize) -> Result<Option<Reach>, String> {
        let is_text = |key: &&&str| fields.get(**key).is_some_and(Value::is_string);
        if let Some(key) = ELSEWHERE.iter().find(is_text) {
            return Err(format!("{key} is not taken; a $ref that begins with #/ is"));
        }
        if let Some(key) =
            ["$id", "$schema"].iter().find(|key| depth > 0 && fields.get(**key).is_some_and(Value::is_string))
        {
            return Err(format!("{key} is taken at the top alone"));
        }
        let Some(Value::String(target)) = fields.get("$ref") else { return Ok(None) };
        if let Some(known) = self.known.get(target.as_str()) {
            return match known {
                Some(_) => Ok(*known),
                // What that costs would depend on the config, and may be without bound.
                None => Err(format!(
                    "$ref {target:?} leads back to where it stands: a schema that refers to itself is not taken"
                )),
            };
        }
        if target.contains('%') {
            return Err(format!(
                "$ref {target:?} has a percent sign: give what it refers to a name without such characters"
            ));
        }
        let Some(pointer) = target.strip_prefix('#') else {
            return Err(format!("$ref {target:?} leads out of the schema; one that begins with #/ is taken"));
        };
        let Some(part) = self.root.pointer(pointer) else {
            return Err(format!("$ref {target:?} leads nowhere"));
        };
        self.known.insert(target, None);
        Reach::default().add(Reach::default(), depth)?;
        let reach = self.part(part, depth + 1)?;
        self.known.insert(target, Some(reach));
        Ok(Some(reach))
    }
}

impl Reach {
    /// With something further within it; `depth` is how deep it is itself.
    fn add(&mut self, further: Reach, depth: usize) -> Result<(), String> {
        self.parts = self.parts.saturating_add(further.parts);
        self.patterns = self.patterns.saturating_add(further.patterns);
        self.depth = self.depth.max(1 + further.depth);
        if self.parts > PARTS_MAX || depth + self.depth > DEPTH_MAX {
            return Err(format!(
                "it has more than {PARTS_MAX} parts, or more than {DEPTH_MAX} within one another, each $ref followed"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> String {
        check(schema).expect_err("a refused schema")
    }

    #[test]
    fn schema_that_is_none_is_refused_with_the_place() {
        for (schema, wanted) in [
            (json!(5), "must be an object"),
            (
                json!({"type": "object", "properties": {"a": {"type": "integr"}}}),
                "at /properties/a/type: \"integr\"",
            ),
            (json!({"properties": {"a": {"pattern": "("}}}), "at /properties/a/pattern"),
            (json!({"$ref": "https://example.com/schema"}), "leads out of the schema"),
            (json!({"$ref": "#/$defs/none"}), "leads nowhere"),
            (json!({"$dynamicRef": "#a"}), "$dynamicRef is not taken"),
            (json!({"properties": {"a": {"$id": "b"}}}), "$id is taken at the top alone"),
            (json!({"$schema": "https://example.com/draft"}), "example.com/draft"),
        ] {
            let reason = refused(&schema);
            assert!(reason.contains(wanted), "{schema}: {reason}");
        }
        for version in
            ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"]
        {
            check(&json!({"$schema": version, "$id": "https://example.com/a", "type": "object"})).unwrap();
        }
        // Properties may be called as keywords are.
        check(&json!({"properties": {"$ref": {"type": "string"}, "$id": {}, "$anchor": {}}})).unwrap();
    }

    #[test]
    fn schema_that_would_take_for_ever_or_too_deep_is_refused() {
        let name = |n: usize| format!("#/$defs/d{n}");
        let mut twice: Map<String, Value> = (0..40)
            .map(|n| (format!("d{n}"), json!({"allOf": [{"$ref": name(n + 1)}, {"$ref": name(n + 1)}]})))
            .collect();
        twice.insert("d40".to_owned(), json!({}));
        assert!(refused(&json!({"$ref": name(0), "$defs": twice})).contains("more than 10000 parts"));
        let mut chain: Map<String, Value> =
            (0..5000).map(|n| (format!("d{n}"), json!({"$ref": name(n + 1)}))).collect();
        chain.insert("d5000".to_owned(), json!({}));
        assert!(refused(&json!({"$ref": name(0), "$defs": chain})).contains("within one another"));
        // What one that refers to itself costs, nobody knows before.
        let tree = json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"properties": {"left": {"$ref": "#/$defs/tree"}}}}});
        assert!(refused(&tree).contains("leads back"), "{tree}");
        assert!(refused(&json!({"$ref": "#"})).contains("leads back"));
        assert!(refused(&json!({"properties": {"a": {"$ref": "#"}}})).contains("leads back"));
        // Where the validator would look elsewhere.
        assert!(refused(&json!({"$ref": "#/$defs/%61", "$defs": {"a": {}, "%61": {}}})).contains("percent"));
        let old =
            json!({"$schema": "http://json-schema.org/draft-04/schema#", "properties": {"a": {"id": "b"}}});
        assert!(refused(&old).contains("is not taken"));
        let many: Map<String, Value> = (0..=PATTERNS_MAX).map(|n| (format!("^{n}$"), json!({}))).collect();
        assert!(refused(&json!({"patternProperties": many})).contains("patterns"));
    }

    #[test]
    fn large_config_is_told_one_problem_and_one_that_would_take_too_long_is_refused() {
        let schema = json!({"items": {"allOf": vec![json!({"type": "integer"}); 50]}});
        let config = |items: usize| format!("[{}1]", "\"x\",".repeat(items));
        let reason = fits(&schema, &config(5_000), None).unwrap_err();
        assert!(reason.contains("/0: \"x\" is not of type") && !reason.contains("; "), "{reason}");
        assert!(fits(&schema, &config(400_000), None).unwrap_err().contains("too large to be checked"));
    }

    #[test]
    fn config_that_does_not_fit_is_told_what_and_where() {
        let schema = json!({
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 1}, "mode": {"enum": ["a", "b"]}},
            "required": ["n"],
            "additionalProperties": false,
        });
        fits(&schema, r#"{"n":1,"mode":"a"}"#, None).unwrap();
        let reason = fits(&schema, r#"{"n":0,"mode":"c","modee":1}"#, None).unwrap_err();
        for part in ["does not fit the plugin's schema", "/n: 0 is less than", "/mode: \"c\"", "'modee'"] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
        assert!(fits(&schema, "{}", None).unwrap_err().contains("\"n\" is a required property"));
        let long = json!({"items": {"type": "integer"}});
        let many = fits(&long, &format!("[{}1]", "\"x\",".repeat(1000)), None).unwrap_err();
        assert!(many.ends_with("; and more") && many.len() < 2000, "{many}");
    }

    #[test]
    fn name_of_a_source_that_the_stream_lacks_is_told_with_those_that_there_are() {
        let schema = json!({
            "properties": {"of": {"$ref": "#/$defs/source"}, "all": {"items": {"$ref": "#/$defs/source"}}},
            "$defs": {"source": {"type": "string", "x-wasmill": "source"}},
        });
        check(&schema).unwrap();
        let names =
            |names: &[&str]| -> Arc<[String]> { names.iter().map(|name| (*name).to_owned()).collect() };
        let two = names(&["orders", "payments"]);
        fits(&schema, r#"{"of":"orders","all":["payments","orders"]}"#, Some(&two)).unwrap();
        let wrong = r#"{"of":"ordres","all":["payments","web"]}"#;
        let reason = fits(&schema, wrong, Some(&two)).unwrap_err();
        for part in [
            "/of: the stream has no source \"ordres\"; its sources are \"orders\", \"payments\"",
            "/all/1: the stream has no source \"web\"",
        ] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
        assert!(fits(&schema, wrong, Some(&names(&[]))).unwrap_err().contains("one without a name"));
        // Where there is no stream, as in the tests of its author.
        fits(&schema, wrong, None).unwrap();
        // All sixteen, however long they are.
        let many: Arc<[String]> = (10..26).map(|n| format!("{n}{}", "x".repeat(62))).collect();
        let reason = fits(&schema, wrong, Some(&many)).unwrap_err();
        assert!(many.iter().all(|name| reason.contains(name.as_str())), "{reason}");
        let unknown = json!({"properties": {"a": {"x-wasmill": "stream"}}});
        assert!(refused(&unknown).contains("expected \"source\""), "{}", refused(&unknown));
    }
}
