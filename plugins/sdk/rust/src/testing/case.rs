//! Case folders: reads one, runs it in three ways that must agree, and compares what came with what is expected.
//!
//! It refuses what the host's runner refuses, and takes what that takes: the folders in
//! `plugins/sdk/conformance/format` say what a folder means, to every SDK.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{Outcome, Row, Run};
use crate::Plugin;

const ROWS: &str = "expected.ndjson";
const LETTERS: &str = "dead-letters.ndjson";
const REFUSAL: &str = "error.txt";

/// Runs every case folder under `folder` and panics with all differences.
///
/// A case is `config.json`, the input (`input.ndjson` or `input.txt`, one record per line) and either
/// `expected.ndjson` (the rows that leave, in the order of their records) with `dead-letters.ndjson` (for each record
/// that fails `{"offset":2,"reason":"…"}`; `reason_contains` asks for a part, neither for any reason), or `error.txt`
/// (the refusal; after a `~`, a part of it). Files under `files/` are granted by their name. Each case runs warm, with
/// a fresh instance per chunk, and cut to single records: all three must agree. `BLESS=1` rewrites what is expected.
/// `wasmill plugin test` runs the same folders through the component.
pub fn cases<P: Plugin>(folder: &Path) {
    let bless = std::env::var_os("BLESS").is_some();
    let faults = faults::<P>(folder, bless);
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

fn faults<P: Plugin>(folder: &Path, bless: bool) -> Vec<String> {
    let mut folders: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("read {}: {error}", folder.display()))
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "no case in {}", folder.display());
    let fault = |case: &std::path::PathBuf| {
        check::<P>(case, bless).err().map(|fault| format!("{}: {fault}", case.display()))
    };
    folders.iter().filter_map(fault).collect()
}

/// What came of a case, or must come.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Refused(String),
    /// Rows in the order of their records, letters in the order of theirs.
    Records {
        rows: Vec<String>,
        letters: Vec<(usize, String)>,
    },
}

impl Came {
    fn of(outcome: Result<Outcome, String>) -> Came {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(refusal) => return Came::Refused(refusal),
        };
        let mut rows: Vec<&Row> = outcome.emitted.iter().collect();
        // Rows without a record have no order but that in which they left.
        rows.sort_by_key(|row| (row.offset, if row.offset < 0 { 0 } else { row.child }));
        let letters =
            outcome.reasons().into_iter().map(|(record, reason)| (record, reason.to_owned())).collect();
        Came::Records { rows: rows.into_iter().map(|row| row.payload.clone()).collect(), letters }
    }
}

impl std::fmt::Display for Came {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Came::Refused(reason) => writeln!(f, "refused: {reason}"),
            Came::Records { rows, letters } => f.write_str(&(text(rows) + &text(&lines(letters)))),
        }
    }
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn lines(letters: &[(usize, String)]) -> Vec<String> {
    let line = |(record, reason): &(usize, String)| {
        format!("{{\"offset\":{record},\"reason\":{}}}", Value::from(reason.as_str()))
    };
    letters.iter().map(line).collect()
}

fn check<P: Plugin>(dir: &Path, bless: bool) -> Result<(), String> {
    let config = read(dir, "config.json")?.ok_or("no config.json")?;
    let input = match (read(dir, "input.ndjson")?, read(dir, "input.txt")?) {
        (Some(_), Some(_)) => return Err("input.ndjson and input.txt; only one can be".to_owned()),
        (input, None) | (None, input) => input.unwrap_or_default(),
    };
    let mut run = Run::new(&config);
    for (name, content) in granted(&dir.join("files"))? {
        run = run.file(&name, content);
    }
    let records: Vec<&str> = input.lines().collect();
    let came = Came::of(run.records::<P>(&records));
    for (way, other) in
        [("cut to single records", run.clone().chunk_rows(1)), ("fresh", run.clone().chunk_rows(3).fresh())]
    {
        let other = Came::of(other.records::<P>(&records));
        if other != came {
            return Err(format!("{way} differs\n--- at once\n{came}--- {way}\n{other}"));
        }
    }
    match compare(dir, &came) {
        // What fits stays as it is written: it may ask for a part of a reason.
        Err(_) if bless => write(dir, &came).map_err(|error| error.to_string()),
        compared => compared,
    }
}

fn compare(dir: &Path, came: &Came) -> Result<(), String> {
    let (rows, letters) = (read(dir, ROWS)?, read(dir, LETTERS)?);
    if let Some(refusal) = read(dir, REFUSAL)? {
        if rows.is_some() || letters.is_some() {
            return Err(format!("{REFUSAL}, and expects records too; only one can be"));
        }
        let Came::Refused(reason) = came else {
            return Err(format!("the config must be refused ({}), and was taken", refusal.trim_end()));
        };
        let fits = match refusal.strip_prefix('~') {
            Some(part) => reason.contains(part.trim()),
            None => refusal.trim_end() == reason.trim_end(),
        };
        return if fits { Ok(()) } else { Err(differs(REFUSAL, &refusal, &format!("{reason}\n"))) };
    }
    if rows.is_none() && letters.is_none() {
        return Err(format!("none of {ROWS}, {LETTERS}, {REFUSAL}; BLESS=1 writes them"));
    }
    let (came_rows, came_letters) = match came {
        Came::Refused(reason) => return Err(format!("the config was refused: {reason}")),
        Came::Records { rows, letters } => (rows, letters),
    };
    let (rows, letters) = (rows.unwrap_or_default(), letters.unwrap_or_default());
    if !rows.lines().eq(came_rows.iter().map(String::as_str)) {
        return Err(differs(ROWS, &rows, &text(came_rows)));
    }
    let mut fit = letters.lines().count() == came_letters.len();
    for (number, line) in letters.lines().enumerate() {
        let letter = Letter::read(line).ok_or_else(|| {
            format!("{LETTERS}:{}: a line is {{\"offset\":2,\"reason\":\"…\"}}", number + 1)
        })?;
        fit = fit && came_letters.get(number).is_some_and(|came| letter.fits(came));
    }
    if fit { Ok(()) } else { Err(differs(LETTERS, &letters, &text(&lines(came_letters)))) }
}

fn differs(file: &str, wanted: &str, came: &str) -> String {
    format!("{file}\n--- expected\n{wanted}--- got\n{came}")
}

/// A record that is expected to fail.
struct Letter {
    offset: i64,
    reason: Option<String>,
    part: Option<String>,
}

impl Letter {
    fn read(line: &str) -> Option<Letter> {
        let Ok(Value::Object(object)) = serde_json::from_str(line) else { return None };
        let (mut offset, mut reason, mut part) = (None, None, None);
        for (key, value) in object {
            match (key.as_str(), value) {
                ("offset", value) => offset = value.as_i64(),
                ("reason" | "reason_contains", Value::Null) => {}
                ("reason", Value::String(text)) => reason = Some(text),
                ("reason_contains", Value::String(text)) => part = Some(text),
                _ => return None,
            }
        }
        Some(Letter { offset: offset?, reason, part })
    }

    fn fits(&self, (record, reason): &(usize, String)) -> bool {
        usize::try_from(self.offset) == Ok(*record)
            && self.reason.as_ref().is_none_or(|whole| whole == reason)
            && self.part.as_ref().is_none_or(|part| reason.contains(part.as_str()))
    }
}

/// A file's text; `None` if there is no file.
fn read(dir: &Path, name: &str) -> Result<Option<String>, String> {
    match std::fs::read_to_string(dir.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("read {name}: {error}")),
    }
}

fn granted(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut files = BTreeMap::new();
    if folder.is_dir() {
        let told = |error: std::io::Error| format!("read {}: {error}", folder.display());
        for entry in std::fs::read_dir(folder).map_err(told)? {
            let entry = entry.map_err(told)?;
            let content = std::fs::read(entry.path()).map_err(told)?;
            files.insert(entry.file_name().to_string_lossy().into_owned(), content);
        }
    }
    Ok(files)
}

/// Writes what came as what is expected from now on.
fn write(dir: &Path, came: &Came) -> std::io::Result<()> {
    let [rows, letters, refusal] = match came {
        Came::Refused(reason) => [None, None, Some(format!("{}\n", reason.trim_end()))],
        // Rows are written down also where there are none: then it is said that none must come.
        Came::Records { rows, letters } => {
            [Some(text(rows)), (!letters.is_empty()).then(|| text(&lines(letters))), None]
        }
    };
    for (name, text) in [(ROWS, rows), (LETTERS, letters), (REFUSAL, refusal)] {
        let file = dir.join(name);
        match text {
            Some(text) => std::fs::write(&file, text)?,
            None if file.exists() => std::fs::remove_file(&file)?,
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Chunk, Setup};

    /// What the cases of the format are run through.
    struct Format {
        remembers: bool,
    }

    impl Plugin for Format {
        fn configure(config: &str, setup: &mut Setup) -> Result<Self, String> {
            let config: Value = serde_json::from_str(config).map_err(|error| error.to_string())?;
            if let Some(refusal) = config["refuse"].as_str() {
                return Err(refusal.to_owned());
            }
            match config["file"].as_str() {
                Some(name) => Err(String::from_utf8_lossy(&setup.file(name)?).into_owned()),
                None => Ok(Self { remembers: false }),
            }
        }

        fn process(&mut self, rows: &mut Chunk<'_>) -> Result<(), String> {
            let payloads = rows.payloads();
            let remembered = self.remembers;
            let mut keep = vec![1; payloads.len()];
            for (row, keep) in keep.iter_mut().enumerate() {
                let record = String::from_utf8_lossy(payloads.get(row)).into_owned();
                *keep = u8::from(record != "drop");
                if let Some(reason) = record.strip_prefix("fail ") {
                    rows.fail(row, reason);
                } else if record == "remember" {
                    self.remembers = true;
                    if remembered {
                        rows.fail(row, "there was one in an earlier call");
                    }
                }
            }
            rows.keep(&keep);
            Ok(())
        }
    }

    fn format(part: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/format").join(part)
    }

    #[test]
    fn folders_mean_what_the_format_says() {
        assert_eq!(faults::<Format>(&format("pass"), false), Vec::<String>::new());
        let mut failing = 0;
        for entry in std::fs::read_dir(format("fail")).unwrap() {
            let dir = entry.unwrap().path();
            let says = std::fs::read_to_string(dir.join("says.txt")).unwrap();
            let faults = faults::<Format>(&dir, false);
            assert!(
                matches!(faults.as_slice(), [fault] if fault.contains(says.trim_end())),
                "{}: {faults:?}, wanted {says}",
                dir.display()
            );
            failing += 1;
        }
        assert!(failing > 30, "{failing}");
    }

    #[test]
    fn what_is_blessed_fits_from_then_on_and_what_fits_stays() {
        let dir = std::env::temp_dir().join(format!("wasmill-sdk-bless-{}", std::process::id()));
        let case = dir.join("case");
        std::fs::create_dir_all(&case).unwrap();
        let outcome: Vec<(Vec<String>, Vec<String>)> =
            [("{}", "a\r\nfail \"so\"\n"), (r#"{"refuse":"never"}"#, "a\n"), ("{}", "drop\n")]
                .into_iter()
                .map(|(config, input)| {
                    std::fs::write(case.join("config.json"), config).unwrap();
                    std::fs::write(case.join("input.txt"), input).unwrap();
                    (faults::<Format>(&dir, true), faults::<Format>(&dir, false))
                })
                .collect();
        let written = [ROWS, LETTERS, REFUSAL].map(|name| case.join(name).exists());
        std::fs::write(case.join("input.txt"), "fail odd\n").unwrap();
        std::fs::write(case.join(LETTERS), "{\"offset\":0}\n").unwrap();
        assert_eq!(faults::<Format>(&dir, true), Vec::<String>::new());
        assert_eq!(std::fs::read_to_string(case.join(LETTERS)).unwrap(), "{\"offset\":0}\n");
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(outcome, [const { (Vec::new(), Vec::new()) }; 3]);
        assert_eq!(written, [true, false, false]);
    }
}
