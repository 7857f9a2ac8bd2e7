//! Manifests that lie, swell, or ask for everything.
#![expect(
    clippy::expect_used,
    reason = "support of tests: what cannot be set up fails the test that wanted it"
)]

use serde_json::json;
use wasmill_transform::{Grants, Manifest, Sample, embed_manifest};

use super::core::Core;
use super::files::section;
use super::{Answer, Case};

/// A plugin that works, with these bytes for its manifest.
fn raw(json: &str) -> Vec<u8> {
    let mut contents = vec![16];
    contents.extend_from_slice(b"wasmill:manifest");
    contents.extend_from_slice(json.as_bytes());
    let size = u32::try_from(contents.len()).unwrap_or_default();
    [Core::default().wasm(), section(0, size, &contents)].concat()
}

/// The beginning of a manifest, to be followed by a comma or a brace.
fn head(name: &str) -> String {
    format!("{{\"name\":\"{name}\",\"version\":\"1.0.0\"")
}

/// With a schema that no host takes; written by hand, since no tool would.
fn schema(name: &str, schema: &serde_json::Value) -> Case {
    let json = format!("{},\"config_schema\":{schema}}}", head(name));
    Case::new(name, Answer::Refused("config_schema"), raw(&json))
}

fn with(name: &str, answer: Answer, core: &Core, change: impl FnOnce(&mut Manifest)) -> Case {
    let mut manifest = Manifest { name: name.to_owned(), version: "1.0.0".to_owned(), ..Manifest::default() };
    change(&mut manifest);
    Case::new(name, answer, embed_manifest(&core.wasm(), &manifest).expect("a manifest"))
}

pub(super) fn cases() -> Vec<Case> {
    use Answer::{Harmless, Refused, Unfit};
    let by_hand = |name: &str, answer, json: &str| Case::new(name, answer, raw(json));
    let nested = format!(
        "{},\"config_schema\":{}{}}}",
        head("manifest-nested-without-end"),
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let doubling: serde_json::Map<_, _> = (0..40)
        .map(|n| {
            let next = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
            (format!("d{n}"), json!({ "allOf": [next, next] }))
        })
        .chain([("d40".to_owned(), json!({}))])
        .collect();
    let plain = Core::default();
    let endless = Core::rows("(loop $ever (br $ever))");
    vec![
        by_hand("manifest-that-is-no-json", Refused("manifest"), "\u{0}\u{1}evil"),
        by_hand("manifest-over-its-limit", Refused("over the limit of 1048576"), &" ".repeat(2 << 20)),
        by_hand("manifest-nested-without-end", Refused("recursion limit"), &nested),
        by_hand(
            "manifest-with-a-huge-key",
            Refused("unknown field"),
            &format!("{},\"{}\":1}}", head("manifest-with-a-huge-key"), "k".repeat(900_000)),
        ),
        by_hand(
            "manifest-named-as-a-path",
            Refused("must match"),
            &format!("{}}}", head("../../../etc/passwd")),
        ),
        by_hand(
            "manifest-with-a-huge-name",
            Refused("must match"),
            &format!("{}}}", head(&"n".repeat(900_000))),
        ),
        by_hand(
            "manifest-named-as-another",
            Refused("both named"),
            &format!("{}}}", head("trap-in-process")),
        ),
        by_hand(
            "manifest-of-a-later-host",
            Refused("9.9.9"),
            &format!("{},\"wit\":\"9.9.9\"}}", head("manifest-of-a-later-host")),
        ),
        by_hand(
            "manifest-of-no-version",
            Refused("no semantic version"),
            "{\"name\":\"manifest-of-no-version\",\"version\":\"yes\"}",
        ),
        Case::new("manifest-twice", Refused("more than one manifest"), {
            let once = raw(&format!("{}}}", head("manifest-twice")));
            let section = once[Core::default().wasm().len()..].to_vec();
            [once, section].concat()
        }),
        schema("schema-of-itself", &json!({ "$ref": "#" })),
        schema("schema-that-doubles", &json!({ "$ref": "#/$defs/d0", "$defs": doubling })),
        schema("schema-from-elsewhere", &json!({ "$ref": "http://169.254.169.254/latest/meta-data" })),
        schema("schema-of-a-file", &json!({ "$ref": "file:///etc/passwd" })),
        schema("schema-with-a-pattern-bomb", &json!({ "pattern": "((a{1,1000}){1,1000}){1,1000}" })),
        with("limits-raised", Harmless, &plain, |manifest| {
            manifest.limits.memory_bytes = Some(u64::MAX);
            manifest.limits.deadline_ms = Some(u64::MAX);
            manifest.limits.output_bytes = Some(u64::MAX);
        }),
        with("limits-too-low-for-itself", Unfit("memory"), &plain, |manifest| {
            manifest.limits.memory_bytes = Some(1);
        }),
        with("grants-asked-by-the-thousand", Harmless, &plain, |manifest| {
            let names = |kind: &str| (0..5000).map(|n| format!("{kind}-{n}")).collect();
            manifest.grants = Grants {
                files: names("file"),
                secrets: names("secret"),
                http: names("host"),
                state: true,
                models: names("model"),
            };
        }),
        by_hand(
            "sample-by-the-hundred-thousand",
            Refused("over 32768 values"),
            &format!(
                "{},\"sample\":{{\"records\":[\"\"{}]}}}}",
                head("sample-by-the-hundred-thousand"),
                ",\"\"".repeat(299_999)
            ),
        ),
        by_hand(
            "schema-of-half-a-million-values",
            Refused("over 32768 values"),
            &format!(
                "{},\"config_schema\":{{\"enum\":[0{}]}}}}",
                head("schema-of-half-a-million-values"),
                ",0".repeat(500_000)
            ),
        ),
        with("sample-by-the-ten-thousand", Harmless, &plain, |manifest| {
            manifest.sample = Some(Sample { records: vec![String::new(); 30_000], ..Sample::default() });
        }),
        with("sample-that-loops", Unfit("sample"), &endless, |manifest| {
            manifest.sample = Some(Sample { records: vec!["{}".to_owned()], ..Sample::default() });
        }),
    ]
}
