//! The checker finds what it looks for: records that are lost, doubled, altered, astray or from nowhere.
#![expect(clippy::unwrap_used, reason = "support of tests: what cannot be written fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use wasmill_torture::account::{Account, Known};
use wasmill_torture::check::{Checker, Findings};
use wasmill_torture::record::{Id, Output, Record, Verdict};
use wasmill_torture::scene::{PUSH, Scene};

const SEED: u64 = 3;
const RECORDS: u32 = 400;

/// Everything where it ought to be: files and their lines.
fn right(scene: &Scene) -> BTreeMap<PathBuf, Vec<String>> {
    let mut files: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    let letters = scene.data().join("dead-letters/default").join(PUSH).join("letters.ndjson");
    for number in 0..RECORDS {
        let record = Record::new(SEED, Id { client: 0, number });
        let mut line = String::new();
        record.write(&mut line);
        // What some versions let pass is either.
        let verdict = match record.verdict() {
            Verdict::Mend if number % 2 == 0 => Verdict::Fail,
            Verdict::Mend => Verdict::Pass,
            verdict => verdict,
        };
        let (file, line) = match (verdict, record.output()) {
            (Verdict::Drop, _) => continue,
            (Verdict::Fail, _) => {
                let letter = serde_json::json!({
                    "offset": number, "stage": "transform", "transform": "obey", "payload": line,
                });
                (letters.clone(), letter.to_string())
            }
            (_, output) => {
                let dir = scene.objects(PUSH, output);
                let dir = if output == Output::Directory { dir.join(record.key().to_string()) } else { dir };
                (dir.join("object.ndjson"), line.replacen("\"v\":\"-\"", "\"v\":\"1\"", 1))
            }
        };
        files.entry(file).or_default().push(line);
    }
    files
}

/// What the checker finds after `spoil` has had its way with what is right.
fn found(spoil: impl FnOnce(&mut BTreeMap<PathBuf, Vec<String>>, &Path)) -> Findings {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::new(&dir.path().join("work"), &mut SmallRng::seed_from_u64(SEED)).unwrap();
    let mut files = right(&scene);
    spoil(&mut files, &scene.objects(PUSH, Output::Directory));
    for (file, lines) in files {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, lines.join("\n") + "\n").unwrap();
    }
    let accounts = [Account::new(0, PUSH)];
    accounts[0].receipt(0, RECORDS - 100, 0, false);
    accounts[0].note(RECORDS - 100, 100, Known::Unknown);
    Checker { seed: SEED, scene: &scene, accounts: &accounts }.check().unwrap()
}

/// The partition `a` of the directory output.
fn object<'a>(files: &'a mut BTreeMap<PathBuf, Vec<String>>, out: &Path) -> &'a mut Vec<String> {
    files.get_mut(&out.join("a").join("object.ndjson")).unwrap()
}

#[test]
fn everything_in_its_place_is_good() {
    let findings = found(|_, _| {});
    assert!(findings.good(), "{findings:#?}");
    assert_eq!((findings.acknowledged, findings.unknown), (300, 100));
    assert!(findings.dropped > 10 && findings.letters > 0 && findings.objects >= 6, "{findings:?}");
}

#[test]
fn record_that_is_missing_is_lost_if_it_was_acknowledged() {
    let findings = found(|files, out| drop(object(files, out).remove(0)));
    assert_eq!((findings.lost, findings.doubled, findings.wrong), (1, 0, 0), "{findings:#?}");
    assert_eq!(findings.offenders.len(), 1);
    let unknown = found(|files, out| drop(object(files, out).pop()));
    assert!(unknown.good(), "{unknown:#?}");
}

#[test]
fn record_that_is_there_twice_is_doubled_even_if_nobody_acknowledged_it() {
    for last in [false, true] {
        let findings = found(|files, out| {
            let lines = object(files, out);
            let line = if last { lines.last() } else { lines.first() }.unwrap().clone();
            files.insert(out.join("a").join("other.ndjson"), vec![line]);
        });
        assert_eq!((findings.lost, findings.doubled, findings.wrong), (0, 1, 0), "{findings:#?}");
        assert_eq!(findings.offenders[0].places.len(), 2, "{findings:#?}");
    }
}

#[test]
fn line_that_is_altered_astray_or_from_nowhere_is_told() {
    let altered = found(|files, out| object(files, out)[0].push(' '));
    assert_eq!((altered.lost, altered.wrong), (1, 1), "{altered:#?}");
    let astray = found(|files, out| {
        let line = object(files, out).remove(0);
        files.get_mut(&out.join("b").join("object.ndjson")).unwrap().push(line);
    });
    assert_eq!((astray.lost, astray.doubled, astray.wrong), (0, 0, 1), "{astray:#?}");
    let nowhere = found(|files, out| {
        let mut unsent = (RECORDS..).map(|number| Record::new(SEED, Id { client: 0, number }));
        let fits = |record: &Record| {
            record.verdict() == Verdict::Pass && record.output() == Output::Directory && record.key() == 'a'
        };
        let mut line = String::new();
        unsent.find(fits).unwrap().write(&mut line);
        object(files, out).push(line.replacen("\"v\":\"-\"", "\"v\":\"1\"", 1));
    });
    assert_eq!((nowhere.lost, nowhere.wrong), (0, 1), "{nowhere:#?}");
}
