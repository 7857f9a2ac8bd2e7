//! The JSON Schema of the configuration, made from the raw types.
//!
//! It owns the clean-up of what `schemars` derives: optional keys are not "or null", references are
//! written out, and every table that is not a map is closed, so that an editor marks unknown keys and
//! the structural check can lean on the same text. It refuses to add descriptions of its own.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::raw;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<raw::Config>().to_value();
    clean(&mut schema);
    schema
});

/// The cleaned schema.
pub(crate) fn schema() -> &'static Value {
    &SCHEMA
}

fn clean(value: &mut Value) {
    match value {
        Value::Object(object) => clean_object(object),
        Value::Array(items) => items.iter_mut().for_each(clean),
        _ => {}
    }
}

fn clean_object(object: &mut Map<String, Value>) {
    // `anyOf: [T, null]` and `type: [T, null]` are what Option<T> derives; TOML has no null.
    if let Some(Value::Array(options)) = object.get_mut("anyOf") {
        options.retain(|option| option.get("type") != Some(&Value::from("null")));
        if options.len() == 1
            && let Some(Value::Object(only)) = options.pop()
        {
            object.remove("anyOf");
            for (key, inner) in only {
                object.entry(key).or_insert(inner);
            }
        }
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if types.len() == 1 {
            let only = types.remove(0);
            object.insert("type".to_owned(), only);
        }
    }
    if object.get("format").is_some_and(|format| {
        matches!(format.as_str(), Some("uint16" | "uint32" | "int32" | "uint64" | "int64"))
    }) {
        object.remove("format");
    }
    if object.get("type") == Some(&Value::from("object")) && !object.contains_key("additionalProperties") {
        object.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    // Defaults are the user's text, not schemas; everything else may hold schemas.
    for (key, inner) in object.iter_mut() {
        if key != "default" && key != "examples" {
            clean(inner);
        }
    }
}
