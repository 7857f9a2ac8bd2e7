//! Names: which are allowed, and which valid one a misspelt one is nearest to.
//!
//! It owns the character set of names and the wording of suggestions. It refuses to guess when
//! nothing is near; then all valid names are listed.

/// Longest name of a stream, transform, output or plugin, in bytes.
const NAME_MAX: usize = 64;

/// What [`is_name`] accepts, for messages.
pub(crate) const NAME_EXPECTED: &str =
    "1 to 64 letters, digits, `-` and `_`, beginning with a letter or a digit";

/// What [`is_stream_name`] accepts, for messages.
pub(crate) const STREAM_NAME_EXPECTED: &str =
    "1 to 64 letters, digits, `-`, `_` and `.`, beginning with a letter or a digit";

/// The same with dots, which delivery streams of Firehose have. It is a step of a path, and no hidden one: it does not begin
/// with a dot.
pub(crate) fn is_stream_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && is_name(&name.replace('.', "-"))
}

/// Whether a name can stand in a URL, an object name and a metric label without quoting.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The valid name that is nearest to `name`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(name: &str, valid: &[&'a str]) -> Option<&'a str> {
    // An edit distance costs the product of the lengths; nobody misspells a name of 100 characters.
    if name.len() > 100 {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_', ' '], "");
    let wanted = plain(name);
    valid
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(wanted.len()).div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "size"?`, or the list of valid names, or nothing if there is none.
pub(crate) fn suggestion(name: &str, valid: &[&str]) -> String {
    match nearest(name, valid) {
        Some(candidate) => format!("; did you mean \"{candidate}\"?"),
        None if valid.is_empty() => String::new(),
        None => format!("; expected one of {}", list(valid)),
    }
}

/// `"a", "b", "c"`, each once.
pub(crate) fn list(names: &[&str]) -> String {
    let first = names.iter().enumerate().filter(|(index, name)| !names[..*index].contains(name));
    first.map(|(_, name)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_misspelt_name_is_found_and_a_foreign_one_is_not() {
        let valid = ["size", "interval", "format", "max_partitions"];
        assert_eq!(nearest("sise", &valid), Some("size"));
        assert_eq!(nearest("fromat", &valid), Some("format"));
        assert_eq!(nearest("maxPartitions", &valid), Some("max_partitions"));
        assert_eq!(nearest("bucket", &valid), None);
        assert_eq!(nearest(&"x".repeat(101), &valid), None);
    }

    #[test]
    fn stream_names_have_dots_but_not_in_front() {
        for name in ["a", "a.b", "a..b.", "0-_.", &"a.".repeat(32)] {
            assert!(is_stream_name(name), "{name}");
        }
        for name in ["", ".", "..", ".a", "-a", "_a", "a/b", "a b", "ä", &"a.".repeat(33)] {
            assert!(!is_stream_name(name), "{name}");
        }
    }

    #[test]
    fn list_names_each_once() {
        assert_eq!(list(&["a", "b", "a"]), r#""a", "b""#);
    }

    #[test]
    fn name_with_foreign_characters_is_refused() {
        assert!(is_name("access-log_2"));
        for name in ["", "-a", "a.b", "a/b", "ä", " a", &"a".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
