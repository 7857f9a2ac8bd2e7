//! The reference page: the schema's descriptions as Markdown.
//!
//! It owns the page's layout. It refuses text of its own about single keys, so that editors, problems
//! and the page say the same.

use serde_json::Value;

const HEAD: &str = "# Configuration

This page is generated from the schema that `wasmill schema` prints; editors with a TOML language \
server complete and check with it. `wasmill check CONFIG` reports every problem at once, with file, line and \
column.

Sizes are strings with a unit (`\"64KiB\"`, `\"5MiB\"`, `\"8GiB\"`; KB, MB and GB are powers of ten) or a \
number of bytes. Durations are strings with a unit (`\"250ms\"`, `\"60s\"`, `\"5m\"`, `\"24h\"`). Names have 1 \
to 64 letters, digits, `-` and `_`, those of streams dots, too. Relative paths are relative to the directory of the configuration file.

A small configuration:

```toml
[streams.access]
source = { type = \"http\" }

[[streams.access.transforms]]
plugin = \"parse\"
config = { format = \"combined\" }

[[streams.access.outputs]]
type = \"directory\"
path = \"out\"
```
";

/// Writes the page.
pub(crate) fn page(schema: &Value) -> String {
    let mut page = HEAD.to_owned();
    section(&mut page, "Top level", "", schema);
    page
}

/// One table: its keys, then the tables inside it.
fn section(page: &mut String, heading: &str, path: &str, schema: &Value) {
    let mut own = format!(
        "\n## {heading}\n\n{}\n\n| key | value | default | meaning |\n|---|---|---|---|\n",
        text(schema)
    );
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let keys = schema.get("properties").and_then(Value::as_object);
    let mut inner = Vec::new();
    for (key, value) in keys.into_iter().flatten() {
        let default = match value.get("default") {
            Some(default) => format!("`{default}`"),
            None if required.contains(&key.as_str()) => "required".to_owned(),
            None => String::new(),
        };
        let mut meaning = text(value).replace('|', "\\|");
        for choice in value.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
            if let Some(name) = choice.get("const").and_then(Value::as_str) {
                meaning.push_str(&format!(" `\"{name}\"`: {}", text(choice)));
            }
        }
        own.push_str(&format!("| `{key}` | {} | {default} | {meaning} |\n", kind(value)));
        inner.push((join(path, key), value));
    }
    // A table that several others hold stands behind the first of them.
    if page.contains(&own) {
        return;
    }
    page.push_str(&own);
    for (path, value) in inner {
        tables(page, &path, value);
    }
}

/// Sections for the tables that a value consists of, if any.
fn tables(page: &mut String, path: &str, value: &Value) {
    if value.get("properties").is_some() {
        section(page, &format!("`[{path}]`"), path, value);
    } else if let Some(items) = value.get("items") {
        tables(page, &format!("[{path}]"), items);
    } else if let Some(entry) =
        value.get("additionalProperties").filter(|entry| entry.get("properties").is_some())
    {
        let path = join(path, "NAME");
        // Streams of a tenant have the keys of all streams, which come before.
        if path.ends_with(".streams.NAME") {
            return;
        }
        section(page, &format!("`[{path}]`"), &path, entry);
    } else if let Some(entry) = value.get("additionalProperties").filter(|entry| entry.get("anyOf").is_some())
    {
        // Text, or a table that has more to say than where a secret is.
        let path = join(path, "NAME");
        let tables = entry.get("anyOf").and_then(Value::as_array).into_iter().flatten();
        for table in tables.filter(|table| keys_of(table) > 1) {
            section(page, &format!("`[{path}]`"), &path, table);
        }
    } else {
        for option in value.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
            if let Some(tag) = option.pointer("/properties/type/const").and_then(Value::as_str) {
                section(page, &format!("`[{path}]` with `type = \"{tag}\"`"), path, option);
            }
        }
    }
}

fn keys_of(schema: &Value) -> usize {
    schema.get("properties").and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

fn join(path: &str, key: &str) -> String {
    let path = path.trim_start_matches('[').trim_end_matches(']');
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn text(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

fn kind(schema: &Value) -> String {
    let options: Vec<&Value> =
        ["oneOf", "anyOf"].iter().filter_map(|key| schema.get(*key)?.as_array()).flatten().collect();
    if !options.is_empty() {
        let mut kinds: Vec<String> = options.iter().map(|option| kind(option)).collect();
        kinds.dedup();
        return kinds.join(" or ");
    }
    if let Some(constant) = schema.get("const") {
        return format!("`{constant}`");
    }
    let only = |schema: &Value| Some(schema.pointer("/required/0")?.as_str()?.to_owned());
    match (schema.get("format").and_then(Value::as_str), schema.get("type").and_then(Value::as_str)) {
        (Some("size"), _) => "size".to_owned(),
        (Some("interval"), _) => "duration".to_owned(),
        (Some("cores"), _) => "number".to_owned(),
        (Some("listen" | "address"), _) => "address".to_owned(),
        (Some("url"), _) => "URL".to_owned(),
        (_, Some("array")) => format!("array of {}s", kind(schema.get("items").unwrap_or(&Value::Null))),
        (_, Some("integer")) => match (schema.get("minimum"), schema.get("maximum")) {
            (Some(least), Some(most)) => format!("{least} to {most}"),
            _ => "integer".to_owned(),
        },
        (_, Some("object")) => match schema.pointer("/properties/type") {
            None if schema.get("title").and_then(Value::as_str) == Some("secret") || is_single(schema) => {
                only(schema).map_or("table".to_owned(), |key| format!("`{{ {key} = \"..\" }}`"))
            }
            _ => "table".to_owned(),
        },
        (_, Some(other)) => other.to_owned(),
        _ => "any".to_owned(),
    }
}

/// A table with one key that must be there.
fn is_single(schema: &Value) -> bool {
    let keys = schema.get("properties").and_then(Value::as_object);
    keys.is_some_and(|keys| keys.len() == 1) && schema.pointer("/required/0").is_some()
}
