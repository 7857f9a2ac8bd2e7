//! One case folder: reading it, comparing what came with what is expected, and writing what came.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use wasmill_chunk::Column;
use wasmill_transform::GrantedFile;

use crate::run::Got;

/// Arrival time of a case's first record: 2026-11-22T00:00:00Z in nanoseconds.
pub const ARRIVAL: i64 = 1_795_305_600_000_000_000;
/// Nanoseconds from one record's arrival to the next.
pub const ARRIVAL_STEP: u32 = 1_000_000;
/// A larger input or expectation is refused.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A record that is expected to fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    pub offset: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_contains: Option<String>,
}

impl Letter {
    fn fits(&self, offset: i64, reason: &str) -> bool {
        self.offset == offset
            && self.reason.as_ref().is_none_or(|whole| whole == reason)
            && self.reason_contains.as_ref().is_none_or(|part| reason.contains(part.as_str()))
    }
}

/// What must come of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Refused(String),
    Records {
        rows: Vec<String>,
        letters: Vec<Letter>,
    },
    /// Nothing is written down yet.
    Nothing,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Case {
    pub dir: PathBuf,
    /// Name of the folder.
    pub name: String,
    pub config: String,
    pub records: Column,
    pub files: BTreeMap<String, GrantedFile>,
    expected: Expected,
}

/// What came is not what is expected: a text with a line for every difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(pub String);

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Difference {}

/// A file's text; `None` if there is no file.
fn text(file: &Path) -> Result<Option<String>> {
    let bytes = match std::fs::metadata(file) {
        Ok(found) if !found.is_file() => bail!("{} is no regular file", file.display()),
        Ok(found) => found.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
    };
    ensure!(
        bytes <= FILE_BYTES_MAX,
        "{} has {bytes} bytes, a case may have {FILE_BYTES_MAX}",
        file.display()
    );
    std::fs::read_to_string(file).map(Some).with_context(|| format!("read {}", file.display()))
}

impl Case {
    /// The folders of the cases below `dir`, by name.
    ///
    /// # Errors
    /// `dir` cannot be read.
    pub fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            }
        }
        folders.sort();
        Ok(folders)
    }

    /// What a case in this folder is called.
    pub fn name_of(folder: &Path) -> String {
        folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// # Errors
    /// There is no `config.json`, or a file is unreadable, too large, or not in its form.
    pub fn read(dir: &Path) -> Result<Case> {
        let config = text(&dir.join("config.json"))?
            .with_context(|| format!("{} has no config.json, so it is no case", dir.display()))?;
        let input = match (text(&dir.join("input.ndjson"))?, text(&dir.join("input.txt"))?) {
            (Some(_), Some(_)) => bail!("{} has input.ndjson and input.txt; only one can be", dir.display()),
            (one, other) => one.or(other),
        };
        let mut records = Column::default();
        input.unwrap_or_default().lines().for_each(|line| records.push(line.as_bytes()));
        let (files, expected) = (granted(&dir.join("files"))?, expected(dir)?);
        Ok(Case { dir: dir.to_owned(), name: Case::name_of(dir), config, records, files, expected })
    }

    /// Expects these rows and letters, whatever the folder says.
    pub fn expect(&mut self, rows: Vec<String>, letters: Vec<Letter>) {
        self.expected = Expected::Records { rows, letters };
    }

    /// # Errors
    /// What came is not what is expected.
    pub fn compare(&self, got: &Got) -> Result<(), Difference> {
        let mut text = String::new();
        match (&self.expected, got) {
            (Expected::Nothing, _) => {
                text.push_str("neither expected.ndjson, dead-letters.ndjson nor error.txt\n")
            }
            (Expected::Refused(wanted), Got::Refused(reason)) => {
                let fits = match wanted.strip_prefix('~') {
                    Some(part) => reason.contains(part.trim()),
                    None => wanted.trim_end() == reason.trim_end(),
                };
                if !fits {
                    side_by_side(&mut text, "error.txt", wanted.lines(), reason.lines());
                }
            }
            (Expected::Refused(wanted), Got::Records { .. }) => {
                said(
                    &mut text,
                    format_args!("the config must be refused ({}), and was taken", wanted.trim_end()),
                );
            }
            (Expected::Records { .. }, Got::Refused(reason)) => {
                said(&mut text, format_args!("the config was refused: {}", reason.trim_end()));
            }
            (Expected::Records { rows, letters }, Got::Records { rows: came, letters: failed }) => {
                side_by_side(
                    &mut text,
                    "expected.ndjson",
                    rows.iter().map(String::as_str),
                    came.iter().map(String::as_str),
                );
                let fits = letters.len() == failed.len()
                    && letters
                        .iter()
                        .zip(failed)
                        .all(|(letter, (offset, reason))| letter.fits(*offset, reason));
                if !fits {
                    let wanted: Vec<String> = letters.iter().map(line).collect();
                    let failed: Vec<String> =
                        failed.iter().map(|(offset, reason)| line(&letter(*offset, reason))).collect();
                    let wanted = wanted.iter().map(String::as_str);
                    side_by_side(&mut text, "dead-letters.ndjson", wanted, failed.iter().map(String::as_str));
                }
            }
        }
        if text.is_empty() { Ok(()) } else { Err(Difference(text)) }
    }

    /// Writes what came as what is expected from now on, unless it is that already. Whether anything was written.
    ///
    /// # Errors
    /// A file cannot be written, or what came cannot be written down so that it is read back as the same.
    pub fn bless(&self, got: &Got) -> Result<bool> {
        if self.compare(got).is_ok() {
            return Ok(false);
        }
        self.write(got)?;
        let written = Case::read(&self.dir)?;
        written.compare(got).with_context(|| {
            format!("{}: what came has line ends or other bytes that a case cannot say", self.dir.display())
        })?;
        Ok(true)
    }

    fn write(&self, got: &Got) -> Result<()> {
        let write = |name: &str, text: Option<String>| -> Result<()> {
            let file = self.dir.join(name);
            match text {
                Some(text) => {
                    std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))
                }
                None if file.exists() => {
                    std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))
                }
                None => Ok(()),
            }
        };
        let lines = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect::<String>();
        match got {
            Got::Refused(reason) => {
                write("error.txt", Some(format!("{}\n", reason.trim_end())))?;
                write("expected.ndjson", None)?;
                write("dead-letters.ndjson", None)
            }
            Got::Records { rows, letters } => {
                write("error.txt", None)?;
                write("expected.ndjson", Some(lines(rows.clone())))?;
                let letters: Vec<String> =
                    letters.iter().map(|(offset, reason)| line(&letter(*offset, reason))).collect();
                write("dead-letters.ndjson", (!letters.is_empty()).then(|| lines(letters)))
            }
        }
    }
}

fn letter(offset: i64, reason: &str) -> Letter {
    Letter { offset, reason: Some(reason.to_owned()), reason_contains: None }
}

fn line(letter: &Letter) -> String {
    serde_json::to_string(letter).unwrap_or_default()
}

fn granted(dir: &Path) -> Result<BTreeMap<String, GrantedFile>> {
    let mut files = BTreeMap::new();
    if dir.is_dir() {
        for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let content = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            files.insert(name, GrantedFile::from_bytes(content));
        }
    }
    Ok(files)
}

fn expected(dir: &Path) -> Result<Expected> {
    let rows = text(&dir.join("expected.ndjson"))?;
    let letters = text(&dir.join("dead-letters.ndjson"))?;
    if let Some(refusal) = text(&dir.join("error.txt"))? {
        if rows.is_some() || letters.is_some() {
            bail!("{} has error.txt, and expects records too; only one can be", dir.display());
        }
        return Ok(Expected::Refused(refusal));
    }
    if rows.is_none() && letters.is_none() {
        return Ok(Expected::Nothing);
    }
    let mut parsed = Vec::new();
    for (number, line) in letters.unwrap_or_default().lines().enumerate() {
        let letter = serde_json::from_str(line).with_context(|| {
            format!(
                "{}:{}: a line is {{\"offset\":2,\"reason\":\"…\"}}",
                dir.join("dead-letters.ndjson").display(),
                number + 1
            )
        })?;
        parsed.push(letter);
    }
    let rows = rows.unwrap_or_default().lines().map(str::to_owned).collect();
    Ok(Expected::Records { rows, letters: parsed })
}

fn said(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ok = writeln!(text, "{what}");
}

/// Lines that differ, with their neighbours' numbers; nothing if all are the same.
fn side_by_side<'a>(
    text: &mut String,
    what: &str,
    wanted: impl Iterator<Item = &'a str>,
    came: impl Iterator<Item = &'a str>,
) {
    const SHOWN_MAX: usize = 20;
    let (wanted, came): (Vec<&str>, Vec<&str>) = (wanted.collect(), came.collect());
    if wanted == came {
        return;
    }
    let same_start = wanted.iter().zip(&came).take_while(|(left, right)| left == right).count();
    let left = |lines: &[&str]| lines.len() - same_start;
    let same_end =
        wanted.iter().rev().zip(came.iter().rev()).take_while(|(left, right)| left == right).count();
    let same_end = same_end.min(left(&wanted)).min(left(&came));
    said(text, format_args!("{what}, from line {}:", same_start + 1));
    for (sign, lines) in [('-', &wanted), ('+', &came)] {
        let changed = lines.get(same_start..lines.len() - same_end).unwrap_or_default();
        for line in changed.iter().take(SHOWN_MAX) {
            said(text, format_args!("  {sign} {}", shortened(line)));
        }
        if changed.len() > SHOWN_MAX {
            said(text, format_args!("  {sign} … and {} more", changed.len() - SHOWN_MAX));
        }
    }
}

fn shortened(line: &str) -> String {
    const CHARS_MAX: usize = 500;
    match line.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}… ({} bytes)", line.get(..end).unwrap_or_default(), line.len()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Case>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = dir.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let case = Case::read(dir.path());
        (dir, case)
    }

    fn got(rows: &[&str], letters: &[(i64, &str)]) -> Got {
        Got::Records {
            rows: rows.iter().map(|row| (*row).to_owned()).collect(),
            letters: letters.iter().map(|(offset, reason)| (*offset, (*reason).to_owned())).collect(),
        }
    }

    #[test]
    fn differences_are_told_by_line_and_only_they() {
        let (_dir, case) = folder(&[
            ("config.json", "{}"),
            ("input.ndjson", "a\nb\nc\n"),
            ("expected.ndjson", "a\nb\n"),
            ("dead-letters.ndjson", "{\"offset\":2,\"reason_contains\":\"odd\"}\n"),
        ]);
        let case = case.unwrap();
        assert_eq!(case.records.as_ref().len(), 3);
        assert_eq!(case.compare(&got(&["a", "b"], &[(2, "an odd one")])), Ok(()));
        let Difference(text) = case.compare(&got(&["a", "x"], &[(2, "even")])).unwrap_err();
        assert_eq!(
            text,
            "expected.ndjson, from line 2:\n  - b\n  + x\ndead-letters.ndjson, from line 1:\n  \
             - {\"offset\":2,\"reason_contains\":\"odd\"}\n  + {\"offset\":2,\"reason\":\"even\"}\n"
        );
        let Difference(text) = case.compare(&Got::Refused("no".to_owned())).unwrap_err();
        assert_eq!(text, "the config was refused: no\n");
    }

    #[test]
    fn what_is_blessed_fits_from_then_on() {
        let (dir, case) = folder(&[("config.json", "{}"), ("input.txt", "a\n")]);
        let case = case.unwrap();
        assert!(case.compare(&got(&[], &[])).is_err());
        for came in [got(&["x"], &[(0, "why \"so\"")]), Got::Refused("never".to_owned()), got(&["x"], &[])] {
            assert!(Case::read(dir.path()).unwrap().bless(&came).unwrap());
            let case = Case::read(dir.path()).unwrap();
            assert_eq!(case.compare(&came), Ok(()), "{came:?}");
            assert!(!case.bless(&came).unwrap(), "{came:?} is blessed again");
        }
        assert!(!dir.path().join("dead-letters.ndjson").exists());
    }

    #[test]
    fn what_fits_a_part_stays_a_part_and_what_cannot_be_said_is_refused() {
        let part = "{\"offset\":0,\"reason_contains\":\"odd\"}\n";
        let (dir, case) =
            folder(&[("config.json", "{}"), ("expected.ndjson", ""), ("dead-letters.ndjson", part)]);
        assert!(!case.unwrap().bless(&got(&[], &[(0, "an odd one")])).unwrap());
        assert_eq!(std::fs::read_to_string(dir.path().join("dead-letters.ndjson")).unwrap(), part);
        for came in [got(&["a\nb"], &[]), got(&["a\r"], &[])] {
            let refused = Case::read(dir.path()).unwrap().bless(&came).unwrap_err();
            assert!(format!("{refused:#}").contains("cannot say"), "{refused:#}");
        }
    }

    #[test]
    fn folders_in_another_form_are_refused_with_the_place() {
        for (files, wanted) in [
            (vec![("input.txt", "a")], "has no config.json"),
            (vec![("config.json", "{}"), ("error.txt", "x"), ("expected.ndjson", "")], "only one can be"),
            (vec![("config.json", "{}"), ("input.ndjson", ""), ("input.txt", "")], "only one can be"),
            (vec![("config.json", "{}"), ("dead-letters.ndjson", "\n{\"at\":1}\n")], "dead-letters.ndjson:1"),
        ] {
            let (_dir, case) = folder(&files);
            assert!(format!("{:#}", case.unwrap_err()).contains(wanted), "{wanted}");
        }
    }
}
