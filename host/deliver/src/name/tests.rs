//! Templates: what they render, what they refuse, and that no value leaves its step.

use super::*;
use proptest::prelude::*;

const DEFAULT: &str = "{stream}/{year}/{month}/{day}/{hour}/{batch}{extension}";

fn context<'a>(partition: &'a [(&'a str, &'a [u8])]) -> NameContext<'a> {
    NameContext {
        stream: "access",
        output: "default",
        batch_id: "BATCH",
        extension: ".ndjson.zst",
        codec_extension: ".zst",
        arrival: 1_772_582_645_000_000_000,
        partition,
        error: None,
    }
}

#[test]
fn template_default_renders_utc_dates() {
    let template = NameTemplate::parse(DEFAULT).unwrap();
    assert_eq!(template.render(&context(&[])), "access/2026/03/04/00/BATCH.ndjson.zst");
    let before_1970 = NameContext { arrival: -1, ..context(&[]) };
    assert_eq!(template.render(&before_1970), "access/1969/12/31/23/BATCH.ndjson.zst");
}

#[test]
fn template_all_placeholders_render() {
    let template =
        NameTemplate::parse("logs/{output}/class={partition.class}/{minute}-{partition.x}/{batch}").unwrap();
    assert_eq!(template.partitions(), ["class", "x"]);
    assert_eq!(template.literal_prefix(), "logs/");
    let name = template.render(&context(&[("class", b"bot")]));
    assert_eq!(name, "logs/default/class=bot/04-_/BATCH");
}

#[test]
fn template_unknown_placeholder_names_position_and_nearest() {
    let error = NameTemplate::parse("{stream}/{yaer}/{batch}").unwrap_err();
    assert_eq!(error.to_string(), "unknown placeholder {yaer} at position 9; did you mean {year}?");
    let error = NameTemplate::parse("{zzzzzzzzzz}/{batch}").unwrap_err();
    assert!(error.to_string().contains("valid are {stream}"), "{error}");
}

#[test]
fn template_bad_paths_refused_with_position() {
    use TemplateError::*;
    let cases = [
        ("/x/{batch}", BadPath { position: 0, problem: "a leading slash" }),
        ("x//{batch}", BadPath { position: 2, problem: "an empty step" }),
        ("x/{batch}/", BadPath { position: 10, problem: "an empty step" }),
        ("x/../{batch}", BadPath { position: 2, problem: "a step of dots only" }),
        ("./{batch}", BadPath { position: 0, problem: "a step of dots only" }),
        (".wasmill-staging/{batch}", BadPath { position: 0, problem: "a step that is reserved" }),
        ("x/.{stream}/{batch}", BadPath { position: 2, problem: "a step that starts with a dot" }),
        ("a\\{batch}", BadPath { position: 1, problem: "a backslash" }),
        ("a\n{batch}", BadPath { position: 1, problem: "a control character" }),
        ("{batch", Unclosed { position: 0 }),
        ("a}{batch}", Unopened { position: 1 }),
        ("{partition.}/{batch}", NoPartitionName { position: 0 }),
        ("{stream}", NoBatch),
        ("", NoBatch),
    ];
    for (template, expected) in cases {
        assert_eq!(NameTemplate::parse(template), Err(expected), "{template:?}");
    }
}

#[test]
fn template_names_that_could_grow_too_long_refused() {
    let wide = NameTemplate::parse("{partition.a}{partition.b}{batch}");
    assert!(matches!(wide, Err(TemplateError::StepTooLong { .. })), "{wide:?}");
    let deep = format!("{}{{batch}}", "{partition.a}/".repeat(10));
    assert!(matches!(NameTemplate::parse(&deep), Err(TemplateError::NameTooLong { .. })));
    assert!(NameTemplate::parse("{partition.a}-{batch}{extension}").is_ok());
}

#[test]
fn sanitise_known_values() {
    let cases: [(&[u8], &str); 12] = [
        (b"", "_"),
        (b"_", "%5F"),
        (b"bot", "bot"),
        (b"a=b_c-d.e", "a=b_c-d.e"),
        (b".", "%2E"),
        (b"..", "%2E%2E"),
        (b".hidden", "%2Ehidden"),
        (b"../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
        (b"C:\\x", "C%3A%5Cx"),
        (b"a\0b\n", "a%00b%0A"),
        (b"100%", "100%25"),
        ("\u{e9}".as_bytes(), "%C3%A9"),
    ];
    for (value, expected) in cases {
        assert_eq!(sanitise(value), expected);
    }
}

#[test]
fn sanitise_long_values_are_capped_and_differ() {
    let exact = "x".repeat(VALUE_BYTES_MAX);
    assert_eq!(sanitise(exact.as_bytes()), exact);
    let long = |tail: &str| sanitise(format!("{}{tail}", "/".repeat(500)).as_bytes());
    assert!(long("a").len() <= VALUE_BYTES_MAX);
    assert_ne!(long("a"), long("b"));
    assert!(long("a").starts_with("%2F%2F"));
}

proptest! {
    #[test]
    fn render_any_partition_value_stays_one_step(value: Vec<u8>, stream: String) {
        let template =
            NameTemplate::parse("p/{partition.a}/{stream}/{partition.a}-{batch}{extension}").unwrap();
        let partition: &[(&str, &[u8])] = &[("a", &value)];
        let name = template.render(&NameContext { stream: &stream, ..context(partition) });
        let steps: Vec<&str> = name.split('/').collect();
        prop_assert_eq!(steps.len(), 4);
        for step in steps {
            prop_assert!(!step.is_empty() && !step.starts_with('.') && step.len() <= STEP_BYTES_MAX);
            prop_assert!(step.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'));
        }
    }

    #[test]
    fn sanitise_different_short_values_differ(left: [u8; 2], right: [u8; 2]) {
        prop_assert_eq!(left == right, sanitise(&left) == sanitise(&right));
    }

    #[test]
    fn parse_any_text_never_panics(template: String) {
        if let Ok(template) = NameTemplate::parse(&template) {
            let name = template.render(&context(&[]));
            prop_assert!(name.contains("BATCH"));
        }
    }
}
