//! The checker: every record that clients know of against everything that came out.
//!
//! What passes is in exactly one object of its output, what is to be dropped is nowhere, what is to fail is exactly one
//! dead letter with its original bytes, and what fails in some versions only is one of the two. What nobody acknowledged may be missing, but is never there twice. Two bytes a
//! record; places are looked up again for the few records that are wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use wasmill_tests::objects;

use crate::account::{Account, Known};
use crate::record::{Id, Output, Record, Verdict};
use crate::scene::{OUTPUTS, STREAMS, Scene};

/// Violations that are told one by one, of each kind.
const TOLD_MAX: usize = 20;

/// A record that is not where it ought to be.
#[derive(Clone, Debug)]
pub struct Offender {
    pub id: Id,
    pub stream: &'static str,
    pub known: Known,
    pub verdict: Verdict,
    pub output: Output,
    /// Where it was acknowledged, or a dead letter has it.
    pub offset: Option<u64>,
    pub objects: u8,
    pub letters: u8,
    /// Files that have it.
    pub places: Vec<PathBuf>,
}

impl std::fmt::Display for Offender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Offender { id, stream, known, verdict, output, objects, letters, .. } = self;
        write!(
            f,
            "{id} of {stream} ({known:?}, to {verdict:?}, for {output:?}): in {objects} objects, {letters} letters"
        )?;
        match self.offset {
            Some(offset) => write!(f, ", offset {offset}")?,
            None => f.write_str(", offset unknown")?,
        }
        for place in &self.places {
            write!(f, "\n    {}", place.display())?;
        }
        Ok(())
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub acknowledged: u64,
    pub lost: u64,
    pub doubled: u64,
    /// Acknowledged, and rightly nowhere.
    pub dropped: u64,
    pub letters: u64,
    pub objects: u64,
    /// Sent without an answer.
    pub unknown: u64,
    /// Of these, those that came in all the same.
    pub unknown_found: u64,
    /// The first of the records that are wrong.
    pub offenders: Vec<Offender>,
    /// Everything else that is wrong: how much, and the first of it.
    pub wrong: u64,
    pub complaints: Vec<String>,
}

impl Findings {
    pub fn good(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.wrong == 0
    }

    pub fn complain(&mut self, what: impl Into<String>) {
        self.wrong += 1;
        if self.complaints.len() < TOLD_MAX {
            self.complaints.push(what.into());
        }
    }
}

/// How often each record of a client was found.
struct Found {
    objects: Vec<u8>,
    letters: Vec<u8>,
}

/// See the head of this file.
pub struct Checker<'a> {
    pub seed: u64,
    pub scene: &'a Scene,
    pub accounts: &'a [Account],
}

/// One run of the checker.
struct Run<'a> {
    checker: &'a Checker<'a>,
    known: Vec<Vec<Known>>,
    found: Vec<Found>,
    /// Offsets that dead letters give.
    letter_offsets: BTreeMap<Id, u64>,
    findings: Findings,
}

impl Checker<'_> {
    /// Reads everything that came out.
    pub fn check(&self) -> Result<Findings> {
        let known: Vec<Vec<Known>> = self.accounts.iter().map(Account::all).collect();
        let found = known
            .iter()
            .map(|known| Found { objects: vec![0; known.len()], letters: vec![0; known.len()] })
            .collect();
        let findings = Findings::default();
        let mut run = Run { checker: self, known, found, letter_offsets: BTreeMap::new(), findings };
        for stream in STREAMS {
            for output in OUTPUTS {
                for file in self.files(stream, output) {
                    run.object(stream, output, &file)?;
                }
            }
            for file in self.scene.letters(stream) {
                run.letters(stream, &file)?;
            }
            run.offsets(stream);
        }
        run.judge();
        let mut findings = run.findings;
        self.places(&mut findings.offenders)?;
        Ok(findings)
    }

    /// Objects of an output; what the store keeps about them has names that begin with a dot.
    fn files(&self, stream: &str, output: Output) -> Vec<PathBuf> {
        let hidden =
            |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        objects::files(&self.scene.objects(stream, output)).into_iter().filter(|file| !hidden(file)).collect()
    }

    fn places(&self, offenders: &mut [Offender]) -> Result<()> {
        if offenders.is_empty() {
            return Ok(());
        }
        for stream in STREAMS {
            let mut files: Vec<PathBuf> =
                OUTPUTS.iter().flat_map(|output| self.files(stream, *output)).collect();
            files.extend(self.scene.letters(stream));
            for file in files {
                let bytes = objects::open(&file);
                // The id of a letter's payload stands inside the letter.
                let text = String::from_utf8_lossy(&bytes);
                for offender in offenders.iter_mut().filter(|offender| offender.stream == stream) {
                    if text.contains(&offender.id.to_string()) {
                        offender.places.push(file.clone());
                    }
                }
            }
        }
        Ok(())
    }
}

impl Run<'_> {
    fn account(&self, id: Id) -> Option<&Account> {
        self.checker.accounts.iter().find(|account| account.client == id.client)
    }

    /// The record that a line is, if it is one of this stream, whole and as it was sent.
    fn record(&mut self, stream: &str, line: &[u8], stamped: bool, place: &Path) -> Option<Record> {
        let record = Record::id_of(line).map(|id| Record::new(self.checker.seed, id));
        let record = record.filter(|record| {
            self.account(record.id).is_some_and(|account| account.stream == stream)
                && record.is(line, stamped)
        });
        if record.is_none() {
            let start =
                String::from_utf8_lossy(line.get(..line.len().min(80)).unwrap_or_default()).into_owned();
            self.findings
                .complain(format!("{}: no record of this stream, or altered: {start}", place.display()));
        }
        record
    }

    fn object(&mut self, stream: &str, output: Output, file: &Path) -> Result<()> {
        self.findings.objects += 1;
        let bytes = objects::open(file);
        if bytes.is_empty() {
            self.findings.complain(format!("{} is empty", file.display()));
        }
        let key = file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Some(record) = self.record(stream, line, true, file) else { continue };
            let astray = record.output() != output
                || (output == Output::Directory && key.as_deref() != Some(record.key().to_string().as_str()));
            if astray {
                self.findings.complain(format!("{}: {} is astray", file.display(), record.id));
            }
            self.count(record.id, file, |found| &mut found.objects);
        }
        Ok(())
    }

    fn count(&mut self, id: Id, file: &Path, of: impl Fn(&mut Found) -> &mut Vec<u8>) {
        let index = self.checker.accounts.iter().position(|account| account.client == id.client);
        let found = index.and_then(|index| self.found.get_mut(index));
        match found.and_then(|found| of(found).get_mut(id.number as usize)) {
            Some(count) => *count = count.saturating_add(1),
            None => self.findings.complain(format!("{}: {id} was never sent", file.display())),
        }
    }

    fn letters(&mut self, stream: &str, path: &Path) -> Result<()> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let lines = BufReader::new(file).lines();
        for line in lines {
            let letter: Value =
                serde_json::from_str(&line?).with_context(|| format!("a letter in {}", path.display()))?;
            self.findings.letters += 1;
            let payload = letter["payload"].as_str().unwrap_or_default().to_owned();
            let Some(record) = self.record(stream, payload.as_bytes(), false, path) else { continue };
            if (letter["stage"].as_str(), letter["transform"].as_str()) != (Some("transform"), Some("obey")) {
                self.findings.complain(format!("{}: a letter of another stage: {letter}", path.display()));
            }
            if let Some(offset) = letter["offset"].as_u64() {
                self.letter_offsets.insert(record.id, offset);
                let acknowledged =
                    self.account(record.id).and_then(|account| account.offset(record.id.number));
                if acknowledged.is_some_and(|acknowledged| acknowledged != offset) {
                    let id = record.id;
                    self.findings.complain(format!(
                        "{id}: acknowledged at {acknowledged:?}, the letter says {offset}"
                    ));
                }
            }
            self.count(record.id, path, |found| &mut found.letters);
        }
        Ok(())
    }

    /// No offset is acknowledged twice.
    fn offsets(&mut self, stream: &str) {
        let of_stream = self.checker.accounts.iter().filter(|account| account.stream == stream);
        let mut ranges: Vec<(u64, u64, Id)> = of_stream.flat_map(Account::ranges).collect();
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if let [(from, to, one), (next, _, other)] = pair
                && next < to
            {
                self.findings
                    .complain(format!("{stream}: {one} at {from}..{to} and {other} at {next} share offsets"));
            }
        }
    }

    fn judge(&mut self) {
        let findings = &mut self.findings;
        let mut wrong = BTreeSet::new();
        for ((account, known), found) in self.checker.accounts.iter().zip(&self.known).zip(&self.found) {
            let counts = found.objects.iter().zip(&found.letters);
            for ((number, known), (objects, letters)) in (0..).zip(known).zip(counts) {
                let record = Record::new(self.checker.seed, Id { client: account.client, number });
                let (right, other) = match record.verdict() {
                    Verdict::Pass => (*objects, *letters),
                    Verdict::Fail => (*letters, *objects),
                    Verdict::Drop => (0, objects.saturating_add(*letters)),
                    Verdict::Mend => (objects.saturating_add(*letters), 0),
                };
                let verdict = record.verdict();
                findings.acknowledged += u64::from(*known == Known::Acknowledged);
                findings.unknown += u64::from(*known == Known::Unknown);
                findings.unknown_found += u64::from(*known == Known::Unknown && right > 0);
                let lost = *known == Known::Acknowledged && right == 0 && verdict != Verdict::Drop;
                let doubled = right > 1 || other > 1;
                let misplaced = other > 0 || (*known == Known::Unsent && right > 0);
                findings.lost += u64::from(lost);
                findings.doubled += u64::from(doubled);
                findings.dropped +=
                    u64::from(*known == Known::Acknowledged && verdict == Verdict::Drop && other == 0);
                if misplaced {
                    findings.complain(format!("{}: to {verdict:?}, {known:?}, but found", record.id));
                }
                if (lost || doubled || misplaced) && wrong.len() < TOLD_MAX && wrong.insert(record.id) {
                    let offset =
                        account.offset(number).or_else(|| self.letter_offsets.get(&record.id).copied());
                    findings.offenders.push(Offender {
                        id: record.id,
                        stream: account.stream,
                        known: *known,
                        verdict,
                        output: record.output(),
                        offset,
                        objects: *objects,
                        letters: *letters,
                        places: Vec::new(),
                    });
                }
            }
        }
    }
}

/// What is left behind although everything was delivered.
pub fn leftovers(scene: &Scene) -> Vec<PathBuf> {
    let mut found = objects::files(&scene.data().join("spool"));
    for stream in STREAMS {
        found.extend(objects::staged(&scene.objects(stream, Output::Directory)));
    }
    found
}

/// Removes what a good run leaves.
pub fn clean(root: &Path) -> Result<()> {
    fs::remove_dir_all(root).with_context(|| format!("remove {}", root.display()))
}
