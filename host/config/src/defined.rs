//! A stream that is defined at run time: JSON of the shape that `[streams.NAME]` has in the file, through the very same
//! checks, bound by the policy of its tenant.
//!
//! The JSON is written as TOML on one line, each value's column noted, so that whatever is told of a place in that line is
//! told of the key that the client sent. It also owns how a definition is shown: without what may be secret.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Map, Value};

use crate::authority::{Authority, Policy};
use crate::describe;
use crate::problem::Problem;
use crate::raw;
use crate::resolve::Resolver;
use crate::secret::{MASK, masked_url};
use crate::settings::{DEFAULT_TENANT, Settings, Stream, Text, at};
use crate::structure::{self, Bad, Checked};
use crate::tree::{self, Found};

/// What is wrong with a definition: where, and what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flaw {
    /// Within the definition, such as `outputs[0].path`; empty: the whole.
    pub key: String,
    pub message: String,
}

/// A stream that passed every check of this crate.
#[derive(Clone, Debug)]
pub struct Defined {
    pub stream: Stream,
    /// Those of the host, with the definition in the place of the file's text: for checks that happen later.
    pub settings: Settings,
    places: Vec<Place>,
}

/// From which column on which key stands.
#[derive(Clone, Debug)]
struct Place {
    column: usize,
    key: String,
}

impl Defined {
    /// A problem of [`Defined::settings`], in terms of what the client sent.
    pub fn flaw(&self, problem: &Problem) -> Flaw {
        flaw(&self.places, problem.column, problem.message.clone())
    }

    /// A key of [`Defined::stream`], in terms of what the client sent.
    pub fn key<'k>(&self, key: &'k str) -> &'k str {
        key.strip_prefix(&self.stream.key).map_or(key, |rest| rest.strip_prefix('.').unwrap_or(rest))
    }
}

fn flaw(places: &[Place], column: usize, message: String) -> Flaw {
    let place = places.iter().rev().find(|place| place.column <= column);
    Flaw { key: place.map(|place| place.key.clone()).unwrap_or_default(), message }
}

impl Settings {
    /// The policy of a tenant; of one that this configuration does not know, one that allows nothing.
    pub fn policy_of(&self, tenant: &str) -> Policy {
        match tenant {
            DEFAULT_TENANT => self.policy.clone(),
            tenant => self
                .tenants
                .iter()
                .find(|known| known.name == tenant)
                .map(|tenant| tenant.policy.clone())
                .unwrap_or_default(),
        }
    }

    /// Checks a definition as if it stood in the file, and by the policy of its tenant.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn define(&self, tenant: &str, name: &str, definition: &Value) -> Result<Defined, Vec<Flaw>> {
        let mut line = Line::default();
        let Value::Object(object) = definition else {
            let message = "expected a JSON object with what a [streams.NAME] table has".to_owned();
            return Err(vec![Flaw { key: String::new(), message }]);
        };
        line.text.push_str("streams.");
        line.string(name);
        line.text.push_str(" = ");
        line.object("", object);
        let Line { text, places, flaws } = line;
        if !flaws.is_empty() {
            return Err(flaws);
        }
        let told = |mut found: Vec<Found>| {
            found.sort();
            let flaws = found.into_iter().map(|found| {
                let problem = at(&self.file, &text, found);
                flaw(&places, problem.column, problem.message)
            });
            let mut flaws: Vec<Flaw> = flaws.collect();
            flaws.dedup();
            flaws
        };
        let root = tree::parse(&text).map_err(&told)?;
        let mut found = Vec::new();
        let Checked { json, bad, aliases } = structure::check(&root, describe::schema(), &mut found);
        let config: raw::Config = match serde_json::from_value(json) {
            Ok(config) => config,
            Err(error) => {
                found.push(Found { at: 0, message: error.to_string() });
                return Err(told(found));
            }
        };
        let policy = self.policy_of(tenant);
        let mut resolver = Resolver {
            root: &root,
            base: self.file.parent().unwrap_or(Path::new("")),
            // Every secret is the policy's.
            environment: &|_name| None,
            found: &mut found,
            bad: &bad,
            aliases: &aliases,
            policy: None,
            model_dir: self.model_dir_of(tenant).map(Path::to_owned),
            authority: Authority::Bound(&policy),
            judged: Bad::default(),
        };
        let key = format!("streams.{}", tree::segment(name));
        let stream =
            config.streams.into_iter().next().map(|(name, raw)| resolver.stream(tenant, name, key, raw));
        let Some(stream) = stream.filter(|_| found.is_empty()) else { return Err(told(found)) };
        let settings = Settings {
            text: Text(text.as_str().into()),
            aliases,
            streams: vec![stream.clone()],
            ..self.clone()
        };
        Ok(Defined { stream, settings, places })
    }

    /// What the file says of one of its streams, as it may be shown.
    pub fn written(&self, stream: &Stream) -> Value {
        let root = tree::parse(&self.text.0).ok();
        let value = root.as_ref().and_then(|root| tree::value(root, &stream.key, &self.aliases));
        let value = value.and_then(|value| tree::to_json(value, &mut Vec::new()));
        masked(&value.unwrap_or_default())
    }
}

/// A definition as it may be shown: URLs without what may be secret in them, and no values of headers.
pub fn masked(definition: &Value) -> Value {
    let mut shown = definition.clone();
    let outputs = shown.get_mut("outputs").and_then(Value::as_array_mut);
    outputs.into_iter().flatten().for_each(mask_output);
    for place in ["/dead_letters/output", "/backup"] {
        if let Some(output) = shown.pointer_mut(place) {
            mask_output(output);
        }
    }
    shown
}

fn mask_output(output: &mut Value) {
    for name in ["url", "endpoint"] {
        if let Some(Value::String(url)) = output.get_mut(name) {
            *url = masked_url(url);
        }
    }
    for name in ["access_key", "token", "password", "credentials"] {
        if let Some(value @ Value::String(_)) = output.get_mut(name) {
            *value = MASK.into();
        }
    }
    let headers = output.get_mut("headers").and_then(Value::as_object_mut);
    for (_, value) in headers.into_iter().flatten() {
        if value.is_string() {
            *value = MASK.into();
        }
    }
}

/// TOML on one line, with what cannot be said in it.
#[derive(Default)]
struct Line {
    text: String,
    places: Vec<Place>,
    flaws: Vec<Flaw>,
}

impl Line {
    fn note(&mut self, key: &str) {
        self.places.push(Place { column: self.text.chars().count() + 1, key: key.to_owned() });
    }

    fn value(&mut self, key: &str, value: &Value) {
        match value {
            Value::Null => self.flaw(key, "null is no value: leave the key out"),
            Value::Bool(flag) => self.text.push_str(if *flag { "true" } else { "false" }),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => self.text.push_str(&number.to_string()),
                (None, Some(float)) if !number.is_u64() => self.text.push_str(&format!("{float:?}")),
                _ => self.flaw(key, "number is above 9223372036854775807"),
            },
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                self.text.push('[');
                for (index, item) in items.iter().enumerate() {
                    let key = format!("{key}[{index}]");
                    self.note(&key);
                    self.value(&key, item);
                    self.text.push(',');
                }
                self.text.push(']');
            }
            Value::Object(object) => self.object(key, object),
        }
    }

    fn object(&mut self, key: &str, object: &Map<String, Value>) {
        self.note(key);
        self.text.push('{');
        for (index, (name, value)) in object.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            let dot = if key.is_empty() { "" } else { "." };
            let key = format!("{key}{dot}{}", tree::segment(name));
            self.note(&key);
            self.string(name);
            self.text.push('=');
            self.value(&key, value);
        }
        self.text.push('}');
    }

    fn flaw(&mut self, key: &str, message: &str) {
        self.flaws.push(Flaw { key: key.to_owned(), message: message.to_owned() });
        self.text.push('0');
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for character in text.chars() {
            match character {
                '"' | '\\' => self.text.extend(['\\', character]),
                character if character.is_control() => {
                    // Writing to text does not fail.
                    let _written = write!(self.text, "\\u{:04X}", u32::from(character));
                }
                character => self.text.push(character),
            }
        }
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::Destination;

    const HOST: &str = "[policy]\ndirectories = [\"out\"]\nhttp = [\"127.0.0.1:80\"]\n\
        s3 = [{ bucket = \"ours\", prefix = \"team\" }]\nsecrets = { token = { env = \"SET\" } }\n[tenants.other]\n";

    fn host(dir: &Path) -> Settings {
        let environment = |name: &str| (name == "SET").then(|| "sesame".to_owned());
        Settings::from_toml_with(HOST, &dir.join("wasmill.toml"), &environment).unwrap()
    }

    fn define(definition: &Value) -> Result<Defined, Vec<Flaw>> {
        let dir = tempfile::tempdir().unwrap();
        host(dir.path()).define("default", "events", definition)
    }

    fn flaws(definition: &Value) -> Vec<(String, String)> {
        define(definition).unwrap_err().into_iter().map(|flaw| (flaw.key, flaw.message)).collect()
    }

    /// The only flaw: its key, and a part of its message.
    fn only(output: &Value, key: &str, part: &str) {
        let found = flaws(&json!({"source": {"type": "http"}, "outputs": [output]}));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].0 == key && found[0].1.contains(part), "{found:?}");
    }

    #[test]
    fn definition_is_checked_as_the_file_is_and_each_flaw_names_its_key() {
        let found = flaws(&json!({
            "sorce": {"type": "http"},
            "max_failed_percent": 101,
            "\u{e9}\u{1}\"": 1,
            "outputs": [
                {"type": "directory", "path": "out", "object": "x"},
                {"type": "directory", "path": "out", "size": "5 apples", "compression": "lz4"},
            ],
        }));
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert!(keys.contains(&"sorce") && keys.contains(&"max_failed_percent"), "{found:?}");
        assert!(keys.contains(&"outputs[0].object") && keys.contains(&"outputs[1].size"), "{found:?}");
        let misspelt = found.iter().find(|(key, _)| key == "sorce").unwrap();
        assert!(misspelt.1.contains("did you mean \"source\""), "{misspelt:?}");
        assert!(flaws(&json!([1]))[0].1.contains("JSON object"));
        assert_eq!(flaws(&json!({"source": null}))[0].0, "source");
        let missing = flaws(&json!({"source": {"type": "http"}}));
        assert!(missing[0].1.contains("missing key \"outputs\""), "{missing:?}");
        let big = json!({"source": {"type": "http"}, "max_failed_percent": u64::MAX, "outputs": []});
        assert!(flaws(&big)[0].1.contains("above"));
    }

    #[test]
    fn text_of_any_kind_survives_the_way() {
        let config =
            json!({"a\"b\\": "\u{0}\u{7f}\u{85}\n\t\u{1F600}", "n": [1, -2.5, 1e300, true, {"x": []}]});
        let defined = define(&json!({
            "source": {"type": "http"},
            "transforms": [{"plugin": "p", "config": config}],
            "outputs": [{"type": "directory", "path": "out/a"}],
        }))
        .unwrap();
        let read: Value = serde_json::from_str(&defined.stream.transforms[0].config).unwrap();
        assert_eq!(read, config);
        let key = format!("{}.config.n", defined.stream.transforms[0].key);
        let problem = defined.settings.problem(&key, "hm");
        assert_eq!(defined.flaw(&problem).key, "transforms[0].config.n");
        assert_eq!(defined.key(&key), "transforms[0].config.n");
    }

    #[test]
    fn what_the_policy_does_not_list_is_refused() {
        for path in ["elsewhere", "out/../../x", "/etc", "outer"] {
            only(&json!({"type": "directory", "path": path}), "outputs[0].path", "not below");
        }
        only(&json!({"type": "stdout"}), "outputs[0].type", "configuration file");
        for (bucket, prefix) in [("ours", ""), ("ours", "teams"), ("theirs", "team/x")] {
            let output = json!({"type": "s3", "bucket": bucket, "prefix": prefix});
            only(&output, "outputs[0].bucket", "not in \"s3\"");
        }
        let endpoint =
            json!({"type": "s3", "bucket": "ours", "prefix": "team", "endpoint": "http://127.0.0.1"});
        only(&endpoint, "outputs[0].bucket", "at http://127.0.0.1");
        let region = json!({"type": "s3", "bucket": "ours", "prefix": "team", "region": "x.evil.example/"});
        only(&region, "outputs[0].region", "characters");
        for value in [json!({"env": "SET"}), json!({"file": "/etc/passwd"}), json!({"secret": "other"})] {
            let output = json!({"type": "http", "url": "http://127.0.0.1/", "headers": {"a": value}});
            only(&output, "outputs[0].headers.a", "\"token\"");
        }
        let source = |source: Value| {
            flaws(&json!({"source": source, "outputs": [{"type": "directory", "path": "out"}]}))[0].clone()
        };
        assert_eq!(source(json!({"type": "file", "paths": ["/etc/*"]})).0, "source.type");
        assert_eq!(source(json!({"type": "stdin"})).0, "source.type");
        assert_eq!(source(json!({"type": "tcp", "listen": "0.0.0.0:1"})).0, "source.listen");
        let file = json!({"source": {"type": "http"}, "outputs": [{"type": "directory", "path": "out"}],
            "transforms": [{"plugin": "p", "files": {"f": "/etc/passwd"}, "secrets": {"s": {"env": "SET"}}}]});
        let found = flaws(&file);
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["transforms[0].files.f", "transforms[0].secrets.s"], "{found:?}");
        let letters = json!({"source": {"type": "http"}, "outputs": [{"type": "directory", "path": "out"}],
            "dead_letters": {"output": {"type": "directory", "path": "/tmp"}}});
        assert_eq!(flaws(&letters)[0].0, "dead_letters.output.path");
    }

    #[test]
    fn tenant_without_a_policy_may_write_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let definition =
            json!({"source": {"type": "http"}, "outputs": [{"type": "directory", "path": "out"}]});
        for tenant in ["other", "unheard-of"] {
            let error = host(dir.path()).define(tenant, "events", &definition).unwrap_err();
            assert!(error[0].message.contains("not below"), "{error:?}");
        }
    }

    #[test]
    fn what_the_policy_lists_is_taken_and_nothing_secret_is_shown() {
        let definition = json!({
            "source": {"type": "http"},
            "outputs": [
                {"type": "s3", "bucket": "ours", "prefix": "team/a"},
                {"type": "http", "url": "http://u:hush@127.0.0.1/?key=hush", "headers": {
                    "a": {"secret": "token"}, "b": "hush",
                }},
            ],
        });
        let defined = define(&definition).unwrap();
        let Destination::Http(http) = &defined.stream.outputs[1].destination else { panic!() };
        assert_eq!(http.headers[0].1.reveal(), "sesame");
        assert_eq!(http.reach.as_ref().map(|reach| reach.networks.len()), Some(1));
        let shown = masked(&definition);
        assert!(!shown.to_string().contains("hush"), "{shown}");
        assert_eq!(shown["outputs"][1]["headers"]["a"], json!({"secret": "token"}));
        let again = flaws(&shown);
        assert!(again[0].1.contains("mask"), "{again:?}");
    }

    #[test]
    fn stream_of_the_file_is_shown_as_it_is_written_there() {
        let text = "[streams.a]\nsource = { type = \"http\" }\n[[streams.a.outputs]]\ntype = \"http\"\n\
            url = \"http://x/?hush\"\nheaders = { b = \"hush\" }\n";
        let settings = Settings::from_toml(text, Path::new("w.toml")).unwrap();
        let shown = settings.written(&settings.streams[0]);
        assert_eq!(shown["outputs"][0]["url"], "http://x/?***");
        assert!(!shown.to_string().contains("hush"), "{shown}");
    }
}
