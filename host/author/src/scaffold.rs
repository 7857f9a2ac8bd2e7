//! New projects: a template with the name put in, and beside it the SDK of the language.

use std::path::Path;

use anyhow::{Context, Result, bail};
use include_dir::{Dir, DirEntry};

use crate::language::Language;

const NAME_BYTES_MAX: usize = 64;

/// Why a name is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError(String);

impl std::fmt::Display for NameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} cannot be a plugin's name: it needs 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -, and begins with a letter",
            self.0
        )
    }
}

impl std::error::Error for NameError {}

/// # Errors
/// The name is not one that a stream can use.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = name.len() <= NAME_BYTES_MAX
        && name.bytes().all(fits)
        && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
    if good { Ok(()) } else { Err(NameError(name.to_owned())) }
}

/// Makes the project in `dir`, which must not exist or be empty. Returns the files that are the author's, sorted.
///
/// # Errors
/// The name is none, there is something in `dir`, or it cannot be written.
pub fn create(language: Language, name: &str, dir: &Path) -> Result<Vec<String>> {
    check_name(name)?;
    let occupied = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied || dir.is_file() {
        bail!("{} is there already and not empty; nothing was written", dir.display());
    }
    let template = language.template();
    let mut files = Vec::new();
    collect(template.files, name, &mut files)?;
    for (path, text) in files.iter().chain(&template.vendored) {
        let file = dir.join(path);
        let parent = file.parent().context("a file without a directory")?;
        std::fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    }
    let mut names: Vec<String> = files.into_iter().map(|(path, _)| path).collect();
    names.sort();
    Ok(names)
}

/// The files of a template with the name in them.
fn collect(dir: &Dir<'_>, name: &str, into: &mut Vec<(String, String)>) -> Result<()> {
    let rendered = |text: &str| text.replace("{{name}}", name).replace("{{ident}}", &name.replace('-', "_"));
    for entry in dir.entries() {
        match entry {
            DirEntry::Dir(inner) => collect(inner, name, into)?,
            DirEntry::File(file) => {
                let path = file.path().to_str().context("a template's path that is no text")?;
                let text = file.contents_utf8().with_context(|| format!("template {path} is no text"))?;
                let path = rendered(path.strip_suffix(".in").unwrap_or(path));
                into.push((path, rendered(text)));
            }
        }
    }
    Ok(())
}

/// Every text file of an embedded directory, below `to`.
pub(crate) fn vendor(dir: &Dir<'_>, to: &str, into: &mut Vec<(String, String)>) {
    for entry in dir.entries() {
        match entry {
            DirEntry::Dir(inner) => vendor(inner, to, into),
            DirEntry::File(file) => {
                if let (Some(path), Some(text)) = (file.path().to_str(), file.contents_utf8()) {
                    into.push((format!("{to}/{path}"), text.to_owned()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_streams_cannot_use_are_refused() {
        for good in ["a", "my-plugin", "x9"] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in ["", "-a", "9a", "My", "a_b", "a/b", "ä", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_language_makes_a_project_of_its_own_language_with_its_name_in_it() {
        for language in Language::ALL {
            let dir = tempfile::tempdir().unwrap();
            let project = dir.path().join("p");
            let files = create(language, "my-plugin", &project).unwrap();
            assert_eq!(Language::of(&project), Some(language));
            for wanted in ["manifest.json", "README.md"] {
                assert!(files.iter().any(|file| file == wanted), "{} has no {wanted}", language.name());
            }
            assert!(files.iter().any(|file| file.starts_with("cases/")), "{} has no cases", language.name());
            let opened = crate::Project::open(&project).unwrap();
            assert_eq!((opened.name.as_str(), opened.language().unwrap()), ("my-plugin", language));
            for file in &files {
                let text = std::fs::read_to_string(project.join(file)).unwrap();
                assert!(!text.contains("{{"), "{}: {file} has a placeholder left", language.name());
            }
            // A second time it touches nothing.
            assert!(create(language, "other", &project).is_err());
        }
    }
}
