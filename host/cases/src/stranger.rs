//! What lies in a case folder and means nothing there: most often a name that is misspelt, so that a case asks for less than
//! its author thinks.

use std::path::Path;

/// Every name that means something.
const KNOWN: [&str; 7] = [
    "config.json",
    "input.ndjson",
    "input.txt",
    "files",
    "expected.ndjson",
    "dead-letters.ndjson",
    "error.txt",
];
/// Longer names are misspellings of nothing.
const NAME_BYTES_MAX: usize = 100;

/// A line for each stranger, by name; hidden files are none. What cannot be listed has none: reading it says why.
pub fn strangers(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.') && !KNOWN.contains(&name.as_str()));
    names.sort();
    names.iter().map(|name| line(name)).collect()
}

fn line(name: &str) -> String {
    match nearest(name) {
        Some(known) => format!("{name:?} means nothing in a case; did you mean {known:?}?"),
        None => format!("{name:?} means nothing in a case; what does is {}", KNOWN.join(", ")),
    }
}

fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let known = KNOWN.into_iter().map(|known| (strsim::damerau_levenshtein(name, known), known));
    known.filter(|(distance, known)| *distance <= known.len().div_ceil(3)).min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_nothing_are_told_with_the_nearest_that_does() {
        let dir = tempfile::tempdir().unwrap();
        for name in
            KNOWN.iter().copied().chain(["expectd.ndjson", "dead_letters.ndjson", ".DS_Store", "notes"])
        {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let told = strangers(dir.path());
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].ends_with("did you mean \"dead-letters.ndjson\"?"), "{told:?}");
        assert!(told[1].ends_with("did you mean \"expected.ndjson\"?"), "{told:?}");
        assert!(
            told[2].starts_with("\"notes\" means nothing") && told[2].contains("config.json"),
            "{told:?}"
        );
        assert_eq!(strangers(&dir.path().join("none")), [""; 0]);
    }
}
