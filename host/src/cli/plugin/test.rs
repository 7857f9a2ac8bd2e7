//! `wasmill plugin test`: builds the project and runs its case folders through the component.
//!
//! Each case runs warm, fresh and cut into other chunks, with everything that a host enforces. The cost that is shown is
//! fuel: the same on every machine, so that two versions can be compared; it is no time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use wasmill_author::BuildOptions;
use wasmill_cases::{Case, Got, Ran, Way, strangers};
use wasmill_transform::{Engine, EngineOptions, Limits, Plugin};

use super::watch;
use crate::cli::check::counted;
use crate::cli::output;

/// Fuel of a record in each case, beside the case folders.
const FUEL: &str = "fuel.json";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A case is a folder in cases/ with config.json, input.ndjson, and what must come of it: expected.ndjson and\n\
    dead-letters.ndjson ({\"offset\":2,\"reason\":\"…\"} a line), or error.txt. Files in its files/ are granted. --bless writes\n\
    what came as what must come from now on, and its fuel as what later runs are compared with.\n\n\
    The exit code is 1 if a case failed.\n\n\
    Examples:\n  \
    wasmill plugin test\n  \
    wasmill plugin test geo --case city --bless\n  \
    wasmill plugin test --watch"
)]
pub(in crate::cli) struct Arguments {
    /// The project
    #[arg(default_value = ".")]
    project: PathBuf,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,
    /// Write what came as what must come
    #[arg(long)]
    bless: bool,
    /// Run again whenever a file of the project changes, until interrupted
    #[arg(long, conflicts_with_all = ["json", "bless"])]
    watch: bool,
    /// Test this file instead of building one; of the project only cases/ is needed then
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Where toolchains put what they build in between [default: build in the project]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Install missing tools, where they can go into a cache of the user's
    #[arg(long)]
    install: bool,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let options = EngineOptions { fuel: true, debug_info: true, ..EngineOptions::default() };
    let engine = Engine::new(options)?;
    if !arguments.watch {
        let good = test(arguments, &engine)?;
        return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    watch::each_change(&arguments.project, arguments.work.as_deref(), |_| {
        if let Err(error) = test(arguments, &engine) {
            output::complain(format_args!("error: {error:#}"));
        }
        // Cases are sources too, and what came of them is on the screen.
        None
    })
}

/// Builds and runs everything once. Whether all cases passed.
fn test(arguments: &Arguments, engine: &Engine) -> Result<bool> {
    let component = arguments.component.as_deref();
    let subject = super::Subject::open(&arguments.project, component)?;
    let work = arguments.work.clone().unwrap_or_else(|| subject.dir.join("build"));
    let dir = subject.dir.join("cases");
    let folders = wanted(&dir, arguments.case.as_deref())?;
    let options =
        BuildOptions { work: arguments.work.clone(), debug: true, install: arguments.install, out: None };
    let (wasm, what) = subject.wasm(component, &options)?;
    let run = Run {
        engine,
        plugin: super::load(engine, &wasm, &what, &work.join("compiled"))?,
        limits: Limits::default(),
        bless: arguments.bless,
    };
    let before = read_fuel(&dir.join(FUEL))?;
    let mut fuel = before.clone();
    let mut tested = Vec::new();
    for folder in &folders {
        let name = Case::name_of(folder);
        let result = Tested { strangers: strangers(folder), ..run.case(folder) };
        if let Some(cost) = result.fuel.filter(|_| result.failure.is_none()) {
            fuel.insert(name.clone(), cost);
        }
        if !arguments.json {
            output::print(&line(&name, &result, before.get(&name).copied()))?;
        }
        tested.push((name, result));
    }
    if arguments.bless {
        // A case that is gone has no cost any more.
        fuel.retain(|name, _| dir.join(name).is_dir());
        let text = format!("{:#}\n", json!(fuel));
        std::fs::write(dir.join(FUEL), text)
            .with_context(|| format!("write {}", dir.join(FUEL).display()))?;
    }
    let failed = tested.iter().filter(|(_, result)| result.failure.is_some()).count();
    if arguments.json {
        let results: serde_json::Map<String, Value> = tested
            .iter()
            .map(|(name, result)| {
                (name.clone(), json!({ "failure": result.failure, "fuel_per_record": result.fuel, "before": before.get(name), "unknown_files": result.strangers }))
            })
            .collect();
        output::print_json(&json!({ "plugin": subject.name, "failed": failed, "cases": results }))?;
    } else {
        output::print(&format!("{}, {failed} failed\n", counted(tested.len(), "case")))?;
    }
    Ok(failed == 0)
}

/// The folders of the cases whose names contain `part`.
fn wanted(dir: &Path, part: Option<&str>) -> Result<Vec<PathBuf>> {
    let folders = Case::folders(dir)?;
    let known: Vec<String> = folders.iter().map(|folder| Case::name_of(folder)).collect();
    let wanted: Vec<PathBuf> = folders
        .into_iter()
        .filter(|folder| part.is_none_or(|part| Case::name_of(folder).contains(part)))
        .collect();
    match part {
        _ if !wanted.is_empty() => Ok(wanted),
        Some(part) if !known.is_empty() => {
            bail!("no case in {} has {part:?} in its name; there are {}", dir.display(), known.join(", "))
        }
        _ => bail!("there is no case to run in {}", dir.display()),
    }
}

/// What came of one case.
#[derive(Default)]
struct Tested {
    failure: Option<String>,
    records: usize,
    /// Of a record, on a warm instance; none without records.
    fuel: Option<u64>,
    blessed: bool,
    /// What lies there and means nothing: told, and no failure.
    strangers: Vec<String>,
}

/// What all cases share.
struct Run<'a> {
    engine: &'a Engine,
    plugin: Arc<Plugin>,
    limits: Limits,
    bless: bool,
}

impl Run<'_> {
    /// A case that cannot be read or run has failed, and keeps no other from being run.
    fn case(&self, folder: &Path) -> Tested {
        let tested = Case::read(folder).and_then(|case| self.check(&case));
        tested.unwrap_or_else(|error| Tested { failure: Some(format!("{error:#}")), ..Tested::default() })
    }

    fn check(&self, case: &Case) -> Result<Tested> {
        let mut first: Option<Ran> = None;
        let mut failure = None;
        for way in Way::ALL {
            let ran = wasmill_cases::run(self.engine, &self.plugin, case, way, self.limits.clone())
                .with_context(|| way.name())?;
            let difference = match &first {
                // What is expected may be out of date; that the ways agree is always wanted.
                Some(warm) if self.bless => {
                    (warm.got != ran.got).then(|| "differs from a warm instance".to_owned())
                }
                None if self.bless => None,
                _ => case.compare(&ran.got).err().map(|difference| difference.to_string()),
            };
            failure = difference.map(|difference| explained(way, &difference, &ran));
            first.get_or_insert(ran);
            if failure.is_some() {
                break;
            }
        }
        let warm = first.context("no way to run a case")?;
        let blessed = self.bless && failure.is_none() && case.bless(&warm.got)?;
        let records = case.records.as_ref().len();
        let is_counted = records > 0 && matches!(warm.got, Got::Records { .. });
        let fuel = is_counted.then(|| warm.cost.fuel / records as u64);
        Ok(Tested { failure, records, fuel, blessed, strangers: Vec::new() })
    }
}

/// A difference with what the plugin itself said about it.
fn explained(way: Way, difference: &str, ran: &Ran) -> String {
    let mut text = format!("{}:\n{}", way.name(), difference.trim_end());
    for fault in ran.faults.iter().filter(|fault| !fault.detail().is_empty()) {
        text.push_str(&format!("\n{fault}\n{}", fault.detail().trim_end()));
    }
    if !ran.log.is_empty() {
        text.push_str(&format!("\nits log:\n{}", ran.log.join("\n")));
    }
    text
}

fn line(name: &str, result: &Tested, before: Option<u64>) -> String {
    let verdict = match (&result.failure, result.blessed) {
        (Some(_), _) => "FAILED",
        (None, true) => "blessed",
        (None, false) => "ok",
    };
    let mut text = format!("{name:<24} {verdict}");
    if let Some(fuel) = result.fuel {
        text.push_str(&format!(", {}, {fuel} fuel a record", counted(result.records, "record")));
        if let Some(before) = before.filter(|before| *before != fuel && *before > 0) {
            let change = (fuel as f64 / before as f64 - 1.0) * 100.0;
            text.push_str(&format!(" ({change:+.1}% of {before})"));
        }
    }
    text.push('\n');
    for line in result.failure.iter().flat_map(|failure| failure.lines()) {
        text.push_str(&format!("    {}\n", output::plain(line)));
    }
    for stranger in &result.strangers {
        text.push_str(&format!("    note: {}\n", output::plain(stranger)));
    }
    text
}

fn read_fuel(file: &Path) -> Result<BTreeMap<String, u64>> {
    match std::fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).with_context(|| {
            format!("{}: it holds {{\"case\": fuel}}; remove it and --bless makes it anew", file.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}
