//! Reading a transform's config: JSON into the plugin's own type, with errors that name the nearest valid key.
//!
//! Use it with `#[serde(deny_unknown_fields)]`: a misspelt key is refused, never ignored.

use serde::de::DeserializeOwned;

/// Reads `config`. The error says where it is wrong, what was expected and, for an unknown key or choice,
/// which valid one is nearest.
pub fn read<T: DeserializeOwned>(config: &str) -> Result<T, String> {
    let text = if config.trim().is_empty() { "{}" } else { config };
    serde_json::from_str(text).map_err(|error| explain(&error.to_string()))
}

/// Adds the nearest valid name to serde's "unknown field `x`, expected one of `a`, `b`".
fn explain(message: &str) -> String {
    let unknown = message.contains("unknown field") || message.contains("unknown variant");
    let mut quoted = message.split('`').skip(1).step_by(2);
    match (unknown, quoted.next()) {
        (true, Some(wrong)) => match nearest(wrong, quoted) {
            Some(right) => format!("config: {message}; did you mean `{right}`?"),
            None => format!("config: {message}"),
        },
        _ => format!("config: {message}"),
    }
}

/// The candidate that differs least from `name`, if the difference is small enough to be a slip.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (name.chars().count() / 3).max(1) + 1;
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) between two names, upper and lower case alike.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().flat_map(char::to_lowercase).collect();
    let right: Vec<char> = right.chars().flat_map(char::to_lowercase).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let replace = previous[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = replace.min(previous[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(default)]
        format: String,
    }

    #[test]
    fn read_unknown_key_names_the_nearest() {
        let error = read::<Config>(r#"{"fromat": "x"}"#).unwrap_err();
        assert!(error.contains("did you mean `format`?"), "{error}");
    }

    #[test]
    fn read_empty_text_is_an_empty_object() {
        assert_eq!(read::<Config>("").unwrap().format, "");
    }

    #[test]
    fn nearest_far_names_gives_none() {
        assert_eq!(nearest("status", ["agent", "path"]), None);
        assert_eq!(nearest("stauts", ["agent", "status"]), Some("status"));
    }
}
