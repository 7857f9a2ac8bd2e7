//! The case folders of first-party plugins (`plugins/*/cases/*`), run through a chain on the host.
//!
//! The format is that of `wasmill_sdk::testing::cases`: `config.json`, `input.ndjson` or `input.txt`, granted files
//! below `files/`, and `expected.ndjson` or `error.txt`. What is expected is never written from here.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use wasmill_chunk::Column;
use wasmill_sdk::testing::ARRIVAL;
use wasmill_transform::{ChainError, ChainOptions, Engine, GrantedFile, Plugin};

use crate::run;

/// Nanoseconds from one record's arrival to the next.
const ARRIVAL_STEP: u32 = 1_000_000;

/// The directories of all first-party plugins: those below `plugins/` that have a manifest.
pub fn plugins() -> Result<Vec<PathBuf>> {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let mut found = directories(&plugins)?;
    found.retain(|directory| directory.join("manifest.json").is_file());
    Ok(found)
}

/// The directories in `parent`, sorted; none if there is no `parent`.
pub fn directories(parent: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if parent.is_dir() {
        for entry in std::fs::read_dir(parent).with_context(|| format!("list {}", parent.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The last part of a path, as text.
pub fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// How the records of a case are cut into chunks and how long instances live.
fn ways() -> [(&'static str, ChainOptions); 4] {
    let cut = |chunk_bytes, chunk_rows, calls_per_instance| ChainOptions {
        chunk_bytes,
        chunk_rows,
        calls_per_instance,
        ..ChainOptions::default()
    };
    let ChainOptions { chunk_bytes, chunk_rows, .. } = ChainOptions::default();
    [
        ("warm", ChainOptions::default()),
        ("one record a chunk", cut(1, chunk_rows, 100_000)),
        ("chunks of 150 bytes", cut(150, chunk_rows, 100_000)),
        // An instance lives for one to three calls.
        ("fresh", cut(chunk_bytes, 2, 1)),
    ]
}

/// Runs one case in every way; all must give what is expected.
pub fn check(engine: &Engine, plugin: &Arc<Plugin>, case: &Path) -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(case.join(name)).ok();
    let config = read("config.json").context("no config.json")?;
    let expected = read("error.txt").or_else(|| read("expected.ndjson"));
    let expected = expected.context("neither expected.ndjson nor error.txt")?;
    let input = read("input.ndjson").or_else(|| read("input.txt")).unwrap_or_default();
    let mut records = Column::default();
    input.lines().for_each(|line| records.push(line.as_bytes()));
    for (way, options) in ways() {
        let mut spec = run::spec(Arc::clone(plugin), &config);
        spec.files = files(&case.join("files"))?;
        let got = match run::worker(engine, vec![spec], options) {
            Ok(mut worker) => describe(&mut worker, &records)?,
            Err(ChainError::Transforms(refused)) => {
                refused.iter().map(|refused| refused.fault.to_string()).collect()
            }
            Err(refused) => refused.source().map(ToString::to_string).unwrap_or_default(),
        };
        if got.trim_end() != expected.trim_end() {
            bail!("{way}:\n--- expected\n{expected}--- got\n{got}");
        }
    }
    Ok(())
}

fn files(folder: &Path) -> Result<BTreeMap<String, GrantedFile>> {
    let mut files = BTreeMap::new();
    if folder.is_dir() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            files.insert(name(&path), GrantedFile::from_bytes(std::fs::read(&path)?));
        }
    }
    Ok(files)
}

/// Rows and `!number reason` of failures, in the order of their records, one line each.
fn describe(worker: &mut wasmill_transform::ChainWorker, records: &Column) -> Result<String> {
    let (rows, report) = run::slice(worker, records.as_ref(), ARRIVAL, ARRIVAL_STEP);
    if let Some((_, fault)) = report.unrunnable {
        bail!("unrunnable: {fault}");
    }
    let payloads = rows.payloads.as_ref();
    let mut lines: Vec<(i64, u32, String)> = Vec::new();
    for ((offset, child), payload) in rows.identities.iter().zip(payloads.iter()) {
        lines.push((*offset, *child, String::from_utf8_lossy(payload).into_owned()));
    }
    for letter in &report.failures {
        lines.push((letter.offset, 0, format!("!{} {}", letter.offset, letter.reason)));
    }
    lines.sort_by_key(|(offset, child, _)| (*offset, *child));
    Ok(lines.into_iter().map(|(_, _, line)| line + "\n").collect())
}
