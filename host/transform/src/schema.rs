//! The JSON Schema of a plugin's config: whether it is one, and whether a config fits it.
//!
//! A schema comes out of a plugin file, so it is bounded before anything is done with it: what it refers to lies in itself,
//! and with all references followed it has so many parts. Patterns are matched in time that grows with the text alone.
//! Nothing is fetched from anywhere.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Parts of a schema, each reference followed.
const PARTS_MAX: usize = 10_000;
/// Parts within one another, each reference followed.
const DEPTH_MAX: usize = 64;
/// A compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// What is told of a config that does not fit.
const PROBLEMS_MAX: usize = 5;
const PROBLEM_BYTES_MAX: usize = 300;
/// Keywords that say where references lead, apart from `$ref`.
const ELSEWHERE: [&str; 4] = ["$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor"];

/// Why it is no schema that this host takes: where in it, and what is wrong.
pub(crate) fn check(schema: &Value) -> Result<(), String> {
    build(schema).map(drop)
}

/// Whether a config, as JSON text, fits; else what does not, and where.
pub(crate) fn fits(schema: &Value, config: &str) -> Result<(), String> {
    let validator = build(schema).map_err(|reason| format!("config_schema is no JSON Schema: {reason}"))?;
    let config: Value =
        serde_json::from_str(config).map_err(|error| format!("the config is no JSON: {error}"))?;
    let mut problems = validator.iter_errors(&config).map(|error| {
        let at = error.instance_path().to_string();
        let at = if at.is_empty() { String::new() } else { format!("{at}: ") };
        crate::fault::cut_text(&format!("{at}{error}"), PROBLEM_BYTES_MAX)
    });
    let told: Vec<String> = problems.by_ref().take(PROBLEMS_MAX).collect();
    if told.is_empty() {
        return Ok(());
    }
    let more = if problems.next().is_some() { "; and more" } else { "" };
    Err(format!("the config does not fit the plugin's schema: {}{more}", told.join("; ")))
}

fn build(schema: &Value) -> Result<jsonschema::Validator, String> {
    if !schema.is_object() {
        return Err("it must be an object".to_owned());
    }
    Bounds { root: schema, known: BTreeMap::new() }.part(schema, 0)?;
    let patterns = jsonschema::PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
    jsonschema::options().with_pattern_options(patterns).build(schema).map_err(|error| {
        let at = error.instance_path().to_string();
        let at = if at.is_empty() { String::new() } else { format!("at {at}: ") };
        crate::fault::cut_text(&format!("{at}{error}"), PROBLEM_BYTES_MAX)
    })
}

/// How far a part reaches with each reference followed: parts, and how many of them are within one another.
#[derive(Clone, Copy, Default)]
struct Reach {
    parts: usize,
    depth: usize,
}

/// Follows a schema as a validator would.
struct Bounds<'a> {
    root: &'a Value,
    /// Where references lead that were followed; nothing yet for those that are being followed.
    known: BTreeMap<&'a str, Option<Reach>>,
}

impl<'a> Bounds<'a> {
    fn part(&mut self, part: &'a Value, depth: usize) -> Result<Reach, String> {
        let mut reach = Reach { parts: 1, depth: 1 };
        let within: Vec<&Value> = match part {
            Value::Object(fields) => {
                if let Some(further) = self.reference(fields, depth)? {
                    reach.add(further, depth)?;
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
        if depth > 0 && fields.get("$id").is_some_and(Value::is_string) {
            return Err("$id is taken at the top alone".to_owned());
        }
        let Some(Value::String(target)) = fields.get("$ref") else { return Ok(None) };
        if let Some(known) = self.known.get(target.as_str()) {
            // A way back to where it is being followed ends here: what that costs depends on the config.
            return Ok(Some(known.unwrap_or_default()));
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
        // One that refers to itself is an ordinary one.
        let tree = json!({"$ref": "#/$defs/tree", "$defs": {"tree": {
            "type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#"}},
            "additionalProperties": false,
        }}});
        fits(&tree, r#"{"left":{"right":{}}}"#).unwrap();
        assert!(fits(&tree, r#"{"left":{"middle":{}}}"#).unwrap_err().contains("/left: "));
        fits(&json!({"$ref": "#"}), "{}").unwrap();
    }

    #[test]
    fn config_that_does_not_fit_is_told_what_and_where() {
        let schema = json!({
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 1}, "mode": {"enum": ["a", "b"]}},
            "required": ["n"],
            "additionalProperties": false,
        });
        fits(&schema, r#"{"n":1,"mode":"a"}"#).unwrap();
        let reason = fits(&schema, r#"{"n":0,"mode":"c","modee":1}"#).unwrap_err();
        for part in ["does not fit the plugin's schema", "/n: 0 is less than", "/mode: \"c\"", "'modee'"] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
        assert!(fits(&schema, "{}").unwrap_err().contains("\"n\" is a required property"));
        let long = json!({"items": {"type": "integer"}});
        let many = fits(&long, &format!("[{}1]", "\"x\",".repeat(1000))).unwrap_err();
        assert!(many.ends_with("; and more") && many.len() < 2000, "{many}");
    }
}
