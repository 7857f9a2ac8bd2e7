//! The structural check: a TOML tree against the JSON Schema.
//!
//! It owns unknown and missing keys, types, ranges, enumerations and the formats of single values, and
//! collects every problem instead of stopping at the first. What comes out is JSON that the raw types can
//! be read from, whatever was wrong: a bad value gives way to its default or to a stand-in, a misspelt key
//! counts as the one that was meant, a bad table in an array is null. Every key of which that is true is
//! noted in [`Bad`], so that what follows sees all the rest and repeats nothing. It refuses relations
//! between keys.

use std::collections::HashSet;
use std::net::SocketAddr;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::names;
use crate::secret::{masked_url, may_be_url};
use crate::tree::{self, Aliases, Found};
use crate::units;

/// Keys at which something is wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bad(HashSet<String>);

impl Bad {
    pub(crate) fn insert(&mut self, key: &str) {
        self.0.insert(key.to_owned());
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains(key)
    }

    /// Whether something is wrong at this key or below it.
    pub(crate) fn within(&self, key: &str) -> bool {
        let below = |bad: &String| bad.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', '[']));
        self.has(key) || self.0.iter().any(below)
    }
}

/// What became of a file.
pub(crate) struct Checked {
    pub(crate) json: Value,
    pub(crate) bad: Bad,
    pub(crate) aliases: Aliases,
}

/// Checks a whole file.
pub(crate) fn check(root: &Spanned<DeTable<'_>>, schema: &Value, found: &mut Vec<Found>) -> Checked {
    let mut check = Check { found, path: String::new(), bad: Bad::default(), aliases: Aliases::new() };
    let json = check.table(schema, root.get_ref(), root.span().start);
    Checked { json, bad: check.bad, aliases: check.aliases }
}

struct Check<'f> {
    found: &'f mut Vec<Found>,
    /// The key that is looked at.
    path: String,
    bad: Bad,
    aliases: Aliases,
}

impl Check<'_> {
    fn fail<T>(&mut self, at: usize, message: String) -> Option<T> {
        self.bad.insert(&self.path);
        self.found.push(Found { at, message });
        None
    }

    /// Does something one key deeper.
    fn below<T>(&mut self, step: &str, check: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(step);
        let result = check(self);
        self.path.truncate(length);
        result
    }

    fn below_key<T>(&mut self, name: &str, check: impl FnOnce(&mut Self) -> T) -> T {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.below(&format!("{dot}{}", tree::segment(name)), check)
    }

    fn value(&mut self, schema: &Value, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        if let Some(options) = schema.get("oneOf").and_then(Value::as_array) {
            return self.one_of(schema, options, key, value);
        }
        if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
            return self.any_of(options, key, value);
        }
        if let Some(format) = schema.get("format").and_then(Value::as_str) {
            return self.formatted(format, key, value);
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => match value.get_ref() {
                DeValue::Table(table) => Some(self.table(schema, table, value.span().start)),
                _ => self.mismatch(key, value, "a table"),
            },
            Some("array") => self.array(schema, key, value),
            Some("integer") => self.integer(schema, key, value),
            Some("boolean") => match value.get_ref() {
                DeValue::Boolean(flag) => Some(Value::Bool(*flag)),
                _ => self.mismatch(key, value, "true or false"),
            },
            Some("string") => match value.get_ref() {
                DeValue::String(text) => Some(Value::String(text.to_string())),
                _ => self.mismatch(key, value, "a string"),
            },
            _ => {
                let json = tree::to_json(value, self.found);
                if json.is_none() {
                    self.bad.insert(&self.path);
                }
                json
            }
        }
    }

    fn mismatch<T>(&mut self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> Option<T> {
        let found = match value.get_ref() {
            DeValue::String(text) if expected == URL_EXPECTED || may_be_url(text) => {
                format!("the string {:?}", shortened(&masked_url(text)))
            }
            DeValue::String(text) => format!("the string {:?}", shortened(text)),
            DeValue::Integer(integer) => format!("the integer {}", shortened(integer.as_str())),
            DeValue::Float(float) => format!("the number {}", shortened(float.as_str())),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(_) => "a date".to_owned(),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.fail(value.span().start, format!("\"{key}\" is {found}, expected {expected}"))
    }

    /// Every key of a table; a bad one never hides another.
    fn table(&mut self, schema: &Value, table: &DeTable<'_>, at: usize) -> Value {
        let title = schema.get("title").and_then(Value::as_str).unwrap_or("table");
        let properties = schema.get("properties").and_then(Value::as_object);
        let valid: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let other = schema.get("additionalProperties").filter(|other| **other != Value::Bool(false));
        let mut object = Map::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let known = properties.and_then(|properties| properties.get(name));
            if let Some(inner) = known.or(other) {
                if let Some(value) = self.below_key(name, |check| check.value(inner, name, value)) {
                    object.insert(name.to_owned(), value);
                }
                continue;
            }
            let place = match title {
                "configuration" => "at the top level".to_owned(),
                title => format!("in {title}"),
            };
            let hint = names::suggestion(name, &valid);
            let message = format!("unknown key \"{}\" {place}{hint}", shortened(name));
            self.found.push(Found { at: key.span().start, message });
            let meant = names::nearest(name, &valid).filter(|meant| !table.contains_key(*meant));
            if let Some((meant, inner)) = meant.and_then(|meant| Some((meant, properties?.get(meant)?)))
                && let Some(value) = self.below_key(meant, |check| check.as_meant(inner, name, value))
            {
                object.insert(meant.to_owned(), value);
            }
        }
        // What a table lacks is not told if its type is a guess.
        let guessed = self.below_key("type", |check| check.bad.has(&check.path));
        for name in required(schema) {
            if object.contains_key(name) {
                continue;
            }
            let schema = properties.and_then(|properties| properties.get(name)).unwrap_or(&Value::Null);
            self.below_key(name, |check| {
                if guessed {
                    check.bad.insert(&check.path);
                } else if !check.bad.has(&check.path) {
                    let message = format!("missing key \"{name}\" in {title}, expected {}", expected(schema));
                    check.fail::<()>(at, message);
                }
            });
            if let Some(value) = stand_in(schema) {
                object.insert(name.to_owned(), value);
            }
        }
        Value::Object(object)
    }

    /// The value of a misspelt key. Of a single value only what fits is taken, because the guess may be wrong.
    fn as_meant(&mut self, schema: &Value, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        self.aliases.insert(self.path.clone(), key.to_owned());
        let found = self.found.len();
        let checked = self.value(schema, key, value);
        if !matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_)) {
            self.found.truncate(found);
        }
        checked
    }

    /// A bad table keeps its place as null; with a bad value there is no array.
    fn array(&mut self, schema: &Value, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let Some(items) = value.get_ref().as_array() else {
            return self.mismatch(key, value, "an array");
        };
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        if (items.iter().count() as u64) < least {
            return self.fail(value.span().start, format!("\"{key}\" is empty, expected at least {least}"));
        }
        let inner = schema.get("items").unwrap_or(&Value::Null);
        let tables = holds_tables(inner);
        let mut array = Vec::new();
        let mut whole = true;
        for (index, item) in items.iter().enumerate() {
            match self.below(&format!("[{index}]"), |check| check.value(inner, key, item)) {
                Some(item) => array.push(item),
                None if tables => array.push(Value::Null),
                None => whole = false,
            }
        }
        whole.then_some(Value::Array(array))
    }

    fn integer(&mut self, schema: &Value, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let least = schema.get("minimum").and_then(Value::as_i64);
        let most = schema.get("maximum").and_then(Value::as_i64);
        match tree::integer(value) {
            Some(number)
                if least.is_none_or(|least| number >= least)
                    && most.is_none_or(|most| number <= most)
                    && i32::try_from(number).is_ok() =>
            {
                Some(number.into())
            }
            _ => {
                let expected = expected(schema);
                self.mismatch(key, value, &expected)
            }
        }
    }

    /// An enumeration, or a table whose `type` (or only key) tells which of several it is.
    fn one_of(
        &mut self,
        schema: &Value,
        options: &[Value],
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Value> {
        let constants: Vec<&str> =
            options.iter().filter_map(|option| option.get("const").and_then(Value::as_str)).collect();
        let at = value.span().start;
        if !constants.is_empty() {
            return match value.get_ref() {
                DeValue::String(text) if constants.contains(&text.as_ref()) => {
                    Some(Value::String(text.to_string()))
                }
                DeValue::String(text) => {
                    let hint = names::suggestion(text, &constants);
                    self.fail(at, format!("unknown {key} \"{}\"{hint}", shortened(text)))
                }
                _ => self.mismatch(key, value, &format!("one of {}", names::list(&constants))),
            };
        }
        let tagged: Vec<(&str, &Value)> =
            options.iter().filter_map(|option| Some((tag(option)?, option))).collect();
        let tags: Vec<&str> = tagged.iter().map(|(tag, _)| *tag).collect();
        // Of a table under a name of the user's own the key says nothing.
        let title = schema.get("title").and_then(Value::as_str).and_then(|title| title.rsplit('.').next());
        let what = title.unwrap_or(key.trim_end_matches('s'));
        let DeValue::Table(table) = value.get_ref() else {
            let expected = format!("a table with {}", alternatives(options));
            return self.mismatch(key, value, &expected);
        };
        if tagged.is_empty() {
            let option =
                options.iter().find(|option| only_key(option).is_some_and(|only| table.contains_key(only)));
            return match option {
                Some(option) => {
                    let object = self.table(option, table, at);
                    let whole = object.as_object().is_some_and(|object| object.len() == 1);
                    (whole && !self.bad.within(&self.path)).then_some(object)
                }
                None => {
                    self.fail(at, format!("\"{key}\" is not complete, expected {}", alternatives(options)))
                }
            };
        }
        let Some(kind) = table.get("type") else {
            let message = format!("missing key \"type\" in {what}, expected one of {}", names::list(&tags));
            return self.fail(at, message);
        };
        let DeValue::String(text) = kind.get_ref() else {
            return self.mismatch("type", kind, &format!("one of {}", names::list(&tags)));
        };
        let of = |tag: &str| tagged.iter().find(|(other, _)| *other == tag).map(|(_, option)| *option);
        if let Some(option) = of(text) {
            return Some(self.table(option, table, at));
        }
        let hint = names::suggestion(text, &tags);
        let message = format!("unknown {what} type \"{}\"{hint}", shortened(text));
        self.found.push(Found { at: kind.span().start, message });
        let Some((meant, option)) = names::nearest(text, &tags).and_then(|meant| Some((meant, of(meant)?)))
        else {
            self.bad.insert(&self.path);
            return None;
        };
        self.below_key("type", |check| check.bad.insert(&check.path));
        // The rest of the table is checked as what was meant; the schema's constant has the place of its type.
        let mut checked = self.table(option, table, at);
        checked["type"] = meant.into();
        Some(checked)
    }

    /// Text or a table.
    fn any_of(&mut self, options: &[Value], key: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let is_text = |option: &&Value| option.get("type").and_then(Value::as_str) == Some("string");
        let option = match value.get_ref() {
            DeValue::String(_) => options.iter().find(is_text),
            DeValue::Table(_) => options.iter().find(|option| !is_text(option)),
            _ => None,
        };
        match option {
            Some(option) => self.value(option, key, value),
            None => self.mismatch(key, value, "a string or a table"),
        }
    }

    fn formatted(&mut self, format: &str, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let (valid, wanted) = match (format, value.get_ref()) {
            ("size", DeValue::Integer(_)) => {
                return match tree::integer(value) {
                    Some(bytes) if bytes >= 0 => Some(bytes.into()),
                    _ => self.mismatch(key, value, units::SIZE_EXPECTED),
                };
            }
            ("cores", DeValue::Integer(_) | DeValue::Float(_)) => {
                let cores = match value.get_ref() {
                    DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
                    _ => tree::integer(value).map(|whole| whole as f64),
                };
                return match cores.filter(|cores| units::Cores::new(*cores).is_some()) {
                    Some(cores) => Some(cores.into()),
                    None => self.mismatch(key, value, units::CORES_EXPECTED),
                };
            }
            ("cores", _) => (false, units::CORES_EXPECTED),
            ("size", DeValue::String(text)) => (units::Size::parse(text).is_some(), units::SIZE_EXPECTED),
            ("size", _) => (false, units::SIZE_EXPECTED),
            ("interval", DeValue::String(text)) => {
                (units::Span::parse(text).is_some(), units::DURATION_EXPECTED)
            }
            ("interval", _) => (false, units::DURATION_EXPECTED),
            ("listen", DeValue::String(text)) if text == "off" => (true, ""),
            ("listen", DeValue::String(text)) => (is_address(text), LISTEN_EXPECTED),
            ("listen", _) => (false, LISTEN_EXPECTED),
            ("address", DeValue::String(text)) => (is_address(text), ADDRESS_EXPECTED),
            ("address", _) => (false, ADDRESS_EXPECTED),
            ("url", DeValue::String(text)) => (is_url(text), URL_EXPECTED),
            ("url", _) => (false, URL_EXPECTED),
            ("plugin", DeValue::String(text)) => (is_plugin(text), PLUGIN_EXPECTED),
            ("plugin", _) => (false, PLUGIN_EXPECTED),
            (_, DeValue::String(_)) => (true, ""),
            _ => (false, "a string"),
        };
        match value.get_ref() {
            DeValue::String(text) if valid => Some(Value::String(text.to_string())),
            _ => self.mismatch(key, value, wanted),
        }
    }
}

const ADDRESS_EXPECTED: &str = "an IP address and a port such as \"127.0.0.1:7070\" or \"[::1]:7070\"";
const LISTEN_EXPECTED: &str = "\"off\" or an IP address and a port such as \"127.0.0.1:7070\"";
const URL_EXPECTED: &str = "a URL that begins with http:// or https://";
const PLUGIN_EXPECTED: &str = "a plugin's name, or NAME@sha256: and 64 lower-case hex digits";

fn is_address(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok()
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with(['/', '?', '#', ':'])
            && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

fn is_plugin(text: &str) -> bool {
    match text.split_once('@') {
        None => names::is_name(text),
        Some((name, pin)) => {
            let digits = pin.strip_prefix("sha256:");
            names::is_name(name)
                && digits.is_some_and(|digits| {
                    digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                })
        }
    }
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Whether values of this schema are tables.
fn holds_tables(schema: &Value) -> bool {
    let options = schema.get("oneOf").and_then(Value::as_array);
    schema.get("type").and_then(Value::as_str) == Some("object")
        || options.is_some_and(|options| options.iter().all(|option| option.get("properties").is_some()))
}

/// What takes the place of a required value that is bad; of a table there is none.
fn stand_in(schema: &Value) -> Option<Value> {
    Some(match (schema.get("format").and_then(Value::as_str), schema.get("type").and_then(Value::as_str)) {
        (Some("address"), _) => "127.0.0.1:0".into(),
        (Some("url"), _) => "http://127.0.0.1".into(),
        (_, Some("string")) => "-".into(),
        (_, Some("array")) => Value::Array(Vec::new()),
        _ => return None,
    })
}

/// The constant of the `type` key of one option.
fn tag(option: &Value) -> Option<&str> {
    option.pointer("/properties/type/const").and_then(Value::as_str)
}

/// The one required key of an option without `type`.
fn only_key(option: &Value) -> Option<&str> {
    option.pointer("/required/0").and_then(Value::as_str)
}

fn alternatives(options: &[Value]) -> String {
    let tags: Vec<&str> = options.iter().filter_map(tag).collect();
    if !tags.is_empty() {
        return format!("a type that is one of {}", names::list(&tags));
    }
    let keys: Vec<String> =
        options.iter().filter_map(only_key).map(|key| format!("{{ {key} = \"..\" }}")).collect();
    keys.join(" or ")
}

/// What a key's value should be, in words.
fn expected(schema: &Value) -> String {
    if let Some(options) = schema.get("oneOf").and_then(Value::as_array) {
        return format!("a table with {}", alternatives(options));
    }
    let plain = match schema.get("format").and_then(Value::as_str) {
        Some("size") => units::SIZE_EXPECTED,
        Some("interval") => units::DURATION_EXPECTED,
        Some("listen") => LISTEN_EXPECTED,
        Some("address") => ADDRESS_EXPECTED,
        Some("url") => URL_EXPECTED,
        Some("plugin") => PLUGIN_EXPECTED,
        _ => match schema.get("type").and_then(Value::as_str) {
            Some("integer") => {
                let least = schema.get("minimum").and_then(Value::as_i64);
                let most = schema.get("maximum").and_then(Value::as_i64);
                // None is larger that is taken.
                let most = most.unwrap_or(i64::from(i32::MAX));
                return match least {
                    Some(least) => format!("an integer from {least} to {most}"),
                    None => format!("an integer up to {most}"),
                };
            }
            Some("boolean") => "true or false",
            Some("array") => "an array",
            Some("object") => "a table",
            _ => "a string",
        },
    };
    plain.to_owned()
}

/// At most 60 characters of a value, for messages.
fn shortened(text: &str) -> String {
    let mut characters = text.chars();
    let start: String = characters.by_ref().take(60).collect();
    if characters.next().is_some() { format!("{start}...") } else { start }
}
