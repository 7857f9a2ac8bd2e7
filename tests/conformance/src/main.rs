//! Runs the conformance plugin of each language and of each door through every case, and prints a table.
//!
//! `cargo xtask conformance` builds the components and calls this. A case is run in every way in which records can be cut
//! into chunks; what a plugin does to itself (traps, loops, takes all memory) in one that is warm and one that is fresh.
//! Figures are medians of a few runs on a machine that may be busy: they compare languages, and judge nothing.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its user")]

mod column;
mod figures;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use wasmill_cases::{Case, Way};
use wasmill_transform::{Engine, EngineOptions, Limits, Plugin};

use column::{Column, Form};
use figures::Figures;
use table::Verdict;

/// Bytes of the text in the record of a mebibyte.
const LARGE: usize = 1 << 20;
/// Name of the case that is not a folder: its record is made here.
const LARGE_RECORD: &str = "large-record";
/// Cases in which the guest fights its limits.
const FATAL: [&str; 4] = ["trap", "endless-loop", "memory-bomb", "oversized-output"];

#[derive(Parser)]
#[command(about = "Run the conformance plugins through every case")]
struct Arguments {
    /// A language and its component; may be given more than once
    #[arg(long = "component", value_name = "LANGUAGE=FILE", required = true, value_parser = named)]
    components: Vec<(String, PathBuf)>,
    /// What a language cannot do by its nature: lines of `case: why`
    #[arg(long = "not-applicable", value_name = "LANGUAGE=FILE", value_parser = named)]
    not_applicable: Vec<(String, PathBuf)>,
    /// The folder of a column that comes through a door: its form of config, and what differs there
    #[arg(long = "door", value_name = "NAME=DIR", value_parser = named)]
    doors: Vec<(String, PathBuf)>,
    /// The case folders
    #[arg(long, value_name = "DIR")]
    cases: PathBuf,
    /// Where compiled code is kept
    #[arg(long, value_name = "DIR")]
    cache: PathBuf,
    /// One JSON object with every verdict and figure
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("it is LANGUAGE=FILE".to_owned()),
    }
}

/// What came of one column.
pub(crate) struct Tested {
    pub(crate) name: String,
    pub(crate) verdicts: BTreeMap<String, Verdict>,
    pub(crate) figures: Figures,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let engine = Engine::new(EngineOptions::default())?;
    let folders = Case::folders(&arguments.cases)?;
    let mut cases = folders.iter().map(|folder| Case::read(folder)).collect::<Result<Vec<Case>>>()?;
    cases.push(large(&arguments.cases)?);
    let mut tested = Vec::new();
    for column in columns(arguments, &cases)? {
        tested.push(test(&engine, &arguments.cache, &cases, &column).with_context(|| column.name.clone())?);
    }
    print!("{}", table::text(&tested));
    if let Some(file) = &arguments.json {
        let text = format!("{:#}\n", table::json(&tested));
        std::fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(tested.iter().all(|column| column.verdicts.values().all(Verdict::is_good)))
}

fn columns(arguments: &Arguments, cases: &[Case]) -> Result<Vec<Column>> {
    for (name, _) in arguments.not_applicable.iter().chain(&arguments.doors) {
        let known = arguments.components.iter().any(|(component, _)| component == name);
        ensure!(known, "there is no component {name:?}");
    }
    let mut columns = Vec::new();
    for (name, file) in &arguments.components {
        let mut column = Column::of_language(name, file);
        for (_, file) in arguments.not_applicable.iter().filter(|(of, _)| of == name) {
            column.excuse(file, cases)?;
        }
        for (_, dir) in arguments.doors.iter().filter(|(of, _)| of == name) {
            column.door(dir, cases)?;
        }
        columns.push(column);
    }
    Ok(columns)
}

fn test(engine: &Engine, cache: &Path, cases: &[Case], column: &Column) -> Result<Tested> {
    let (plugin, mut figures) =
        figures::load(engine, column, cache).with_context(|| column.file.display().to_string())?;
    let mut verdicts = BTreeMap::new();
    for case in cases {
        let verdict = match column.form(case)? {
            Form::NotApplicable(why) => Verdict::NotApplicable(why.to_owned()),
            Form::AsItIs(case) => {
                judge(engine, &plugin, &case).map_or_else(Verdict::Failed, |()| Verdict::Passed)
            }
            Form::Own(case, why) => judge(engine, &plugin, &case)
                .map_or_else(Verdict::Failed, |()| Verdict::PassedItsOwn(why.to_owned())),
        };
        if let Verdict::Failed(how) = &verdict {
            eprintln!("{}: {}: {how}", column.name, case.name);
        }
        verdicts.insert(case.name.clone(), verdict);
    }
    figures::measure(engine, column, &plugin, &mut figures)?;
    Ok(Tested { name: column.name.clone(), verdicts, figures })
}

fn judge(engine: &Engine, plugin: &Arc<Plugin>, case: &Case) -> Result<(), String> {
    let fatal = FATAL.contains(&case.name.as_str());
    let ways: &[Way] = if fatal { &[Way::Warm, Way::Fresh] } else { &Way::ALL };
    let mut limits = Limits::default();
    if fatal {
        limits.deadline = Duration::from_millis(500);
    }
    for way in ways {
        let compared = wasmill_cases::run(engine, plugin, case, *way, limits.clone())
            .and_then(|ran| Ok(case.compare(&ran.got)?));
        if let Err(error) = compared {
            return Err(format!("{}: {error:#}", way.name()));
        }
    }
    Ok(())
}

/// The case with a record of more than a mebibyte between two small ones; made here, since nobody would read it.
fn large(dir: &Path) -> Result<Case> {
    let mut case = Case::read(&dir.join("map")).context("the case that the large record is made from")?;
    let record = |name: &str, more: &str| format!("{{\"user\":{{\"name\":\"{name}\"}}{more}}}");
    let name = "é".repeat(LARGE / 2);
    let (mut records, mut rows) = (wasmill_cases::Column::default(), Vec::new());
    for name in ["a", name.as_str(), "b"] {
        records.push(record(name, "").as_bytes());
        let more = format!(",\"greeting\":\"hello, {name}\",\"length\":{}", name.chars().count());
        rows.push(record(name, &more));
    }
    case.name = LARGE_RECORD.to_owned();
    case.records = records;
    case.expect(rows, Vec::new());
    Ok(case)
}
