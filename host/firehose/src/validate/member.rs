//! Constraints of members that several requests have.

use super::violation::Pattern;
use super::{At, Violations};
use crate::wire::{EncryptionInput, KinesisSource, Tag};

/// Most labels of a stream.
pub(crate) const TAGS_MAX: usize = 50;

const NAME: Pattern = Pattern {
    shown: "[a-zA-Z0-9_.-]+",
    matches: |text| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    },
};
pub(super) const ARN: Pattern =
    Pattern { shown: "arn:.*", matches: |text| one_line(text) && text.starts_with("arn:") };
const KINESIS_ARN: Pattern = Pattern {
    shown: r"arn:.*:kinesis:[a-zA-Z0-9\-]+:\d{12}:stream/[a-zA-Z0-9_.-]+",
    matches: |text| {
        let parts: Vec<&str> = text.split(':').collect();
        let ["arn", partition, "kinesis", region, account, resource] = parts[..] else { return false };
        let plain = |part: &str, signs: &[u8]| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || signs.contains(&byte))
        };
        one_line(partition)
            && plain(region, b"-")
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && resource.strip_prefix("stream/").is_some_and(|name| plain(name, b"_.-"))
    },
};
const TAG_KEY: Pattern = Pattern {
    shown: r"^(?!aws:)[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*$",
    matches: |text| !text.starts_with("aws:") && text.chars().all(is_label),
};
const TAG_VALUE: Pattern =
    Pattern { shown: r"^[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*$", matches: |text| text.chars().all(is_label) };
const VERSION: Pattern = Pattern {
    shown: "[0-9]+",
    matches: |text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
};

fn is_label(c: char) -> bool {
    c.is_alphanumeric() || c == ' ' || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@%".contains(c)
}

/// What `.` matches: everything but the ends of lines.
pub(super) fn one_line(text: &str) -> bool {
    !text.contains(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'])
}

pub(crate) fn stream_name(violations: &mut Violations, at: At<'_>, name: Option<&str>) {
    let at = at.member("DeliveryStreamName");
    violations.required(at, name.is_some());
    if let Some(name) = name {
        optional_name(violations, at, name);
    }
}

/// Of a stream, where another member has it.
pub(super) fn optional_name(violations: &mut Violations, at: At<'_>, name: &str) {
    violations.length(at, name, 1, 64);
    violations.pattern(at, name, &NAME);
}

/// An ARN of at most so many characters.
pub(super) fn arn(violations: &mut Violations, at: At<'_>, arn: Option<&str>, max: usize) {
    if let Some(arn) = arn {
        violations.length(at, arn, 1, max);
        violations.pattern(at, arn, &ARN);
    }
}

pub(super) fn kinesis_source(violations: &mut Violations, at: At<'_>, source: &KinesisSource) {
    let stream_at = at.member("KinesisStreamARN");
    violations.required(stream_at, source.stream_arn.is_some());
    if let Some(stream) = &source.stream_arn {
        violations.length(stream_at, stream, 1, 512);
        violations.pattern(stream_at, stream, &KINESIS_ARN);
    }
    let role_at = at.member("RoleARN");
    violations.required(role_at, source.role_arn.is_some());
    arn(violations, role_at, source.role_arn.as_deref(), 512);
}

pub(super) fn version(violations: &mut Violations, at: At<'_>, version: Option<&str>) {
    violations.required(at, version.is_some());
    if let Some(version) = version {
        violations.length(at, version, 1, 50);
        violations.pattern(at, version, &VERSION);
    }
}

pub(super) fn destination_id(violations: &mut Violations, at: At<'_>, id: &str) {
    violations.length(at, id, 1, 100);
    violations.pattern(at, id, &NAME);
}

pub(super) fn tags(violations: &mut Violations, at: At<'_>, tags: &[Tag]) {
    violations.count(at, tags.len(), 1, TAGS_MAX);
    for (index, tag) in tags.iter().enumerate().take(TAGS_MAX) {
        let at = at.item(index);
        let key_at = at.member("Key");
        violations.required(key_at, tag.key.is_some());
        if let Some(key) = &tag.key {
            tag_key(violations, key_at, key);
        }
        if let Some(value) = &tag.value {
            let at = at.member("Value");
            violations.length(at, value, 0, 256);
            violations.pattern(at, value, &TAG_VALUE);
        }
    }
}

pub(super) fn tag_key(violations: &mut Violations, at: At<'_>, key: &str) {
    violations.length(at, key, 1, 128);
    violations.pattern(at, key, &TAG_KEY);
}

pub(super) fn encryption(violations: &mut Violations, at: At<'_>, input: &EncryptionInput) {
    let type_at = at.member("KeyType");
    violations.required(type_at, input.key_type.is_some());
    if let Some(key_type) = &input.key_type {
        violations.one_of(type_at, key_type, &["AWS_OWNED_CMK", "CUSTOMER_MANAGED_CMK"]);
    }
    arn(violations, at.member("KeyARN"), input.key_arn.as_deref(), 512);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_streams_have_letters_digits_and_three_signs() {
        for (name, fits) in
            [("a", true), ("A_b.C-9", true), ("", false), ("a b", false), ("ä", false), ("a/b", false)]
        {
            assert_eq!((NAME.matches)(name), fits, "{name}");
        }
        for (length, fits) in [(64, true), (65, false)] {
            let mut violations = Violations::default();
            stream_name(&mut violations, At::Root, Some(&"x".repeat(length)));
            assert_eq!(violations.finish().is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn labels_may_not_begin_as_those_of_aws_do() {
        for (key, fits) in [
            ("team", true),
            ("kosten stelle/ä@1", true),
            ("aws:x", false),
            ("AWS:x", true),
            ("a*b", false),
            ("a\nb", false),
        ] {
            assert_eq!((TAG_KEY.matches)(key), fits, "{key:?}");
        }
        assert!((TAG_VALUE.matches)("aws:x"));
    }

    #[test]
    fn too_many_tags_and_a_missing_key_are_told() {
        let tag = |key: &str| Tag { key: Some(key.to_owned()), value: None };
        let mut violations = Violations::default();
        tags(&mut violations, At::Root.member("Tags"), &vec![tag("k"); 51]);
        tags(&mut violations, At::Root.member("Tags"), &[tag("k"), Tag::default()]);
        let message = violations.finish().unwrap_err().message;
        assert!(message.starts_with("2 validation errors"), "{message}");
        assert!(message.ends_with(
            "Value null at 'tags.2.member.key' failed to satisfy constraint: Member must not be null"
        ));
    }
}
