//! `wasmill plugin test`: builds the project and runs its case folders through the component.
//!
//! Each case runs warm, fresh and cut into other chunks, with everything that a host enforces. The cost that is shown is
//! fuel: the same on every machine, so that two versions can be compared; it is no time.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use wasmill_author::{BuildOptions, Project};
use wasmill_cases::{Case, Got, Ran, Way};
use wasmill_transform::{
    CodeCache, Digest, Engine, EngineOptions, Limits, Plugin, componentize, read_manifest,
};

use super::watch;
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
    /// Test this component instead of building one
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
    watch::each_change(&arguments.project, || {
        if let Err(error) = test(arguments, &engine) {
            output::complain(format_args!("error: {error:#}"));
        }
    })
}

/// Builds and runs everything once. Whether all cases passed.
fn test(arguments: &Arguments, engine: &Engine) -> Result<bool> {
    let project = Project::open(&arguments.project)?;
    let work = arguments.work.clone().unwrap_or_else(|| project.dir.join("build"));
    let wasm = match &arguments.component {
        Some(file) => std::fs::read(file).with_context(|| format!("read {}", file.display()))?,
        None => {
            let options = BuildOptions {
                work: arguments.work.clone(),
                debug: true,
                install: arguments.install,
                out: None,
            };
            project.component(&options)?
        }
    };
    let dir = project.dir.join("cases");
    let mut cases = Case::all(&dir)?;
    if let Some(part) = &arguments.case {
        cases.retain(|case| case.name.contains(part.as_str()));
    }
    if cases.is_empty() {
        bail!("there is no case to run in {}", dir.display());
    }
    let plugin = load(engine, &wasm, &work.join("compiled"))?;
    let before = read_fuel(&dir.join(FUEL))?;
    let mut fuel = before.clone();
    let mut tested = Vec::new();
    for case in &cases {
        let result = check(engine, &plugin, case, arguments.bless)?;
        if let Some(cost) = result.fuel {
            fuel.insert(case.name.clone(), cost);
        }
        if !arguments.json {
            output::print(&line(case, &result, before.get(&case.name).copied()))?;
        }
        tested.push((case.name.clone(), result));
    }
    if arguments.bless {
        let text = format!("{:#}\n", json!(fuel));
        std::fs::write(dir.join(FUEL), text)
            .with_context(|| format!("write {}", dir.join(FUEL).display()))?;
    }
    let failed = tested.iter().filter(|(_, result)| result.failure.is_some()).count();
    if arguments.json {
        let results: serde_json::Map<String, Value> = tested
            .iter()
            .map(|(name, result)| {
                (name.clone(), json!({ "failure": result.failure, "fuel_per_record": result.fuel, "before": before.get(name) }))
            })
            .collect();
        output::print_json(&json!({ "plugin": project.name, "failed": failed, "cases": results }))?;
    } else {
        output::print(&format!("{} cases, {failed} failed\n", tested.len()))?;
    }
    Ok(failed == 0)
}

/// What came of one case.
struct Tested {
    failure: Option<String>,
    /// Of a record, on a warm instance; none without records.
    fuel: Option<u64>,
    blessed: bool,
}

fn check(engine: &Engine, plugin: &Arc<Plugin>, case: &Case, bless: bool) -> Result<Tested> {
    let mut first: Option<Ran> = None;
    let mut failure = None;
    for way in Way::ALL {
        let ran = wasmill_cases::run(engine, plugin, case, way, host_limits()?)
            .with_context(|| format!("case {}, {}", case.name, way.name()))?;
        let difference = match &first {
            // What is expected may be out of date; that the ways agree is always wanted.
            Some(warm) if bless => (warm.got != ran.got).then(|| "differs from a warm instance".to_owned()),
            None if bless => None,
            _ => case.compare(&ran.got).err().map(|difference| difference.to_string()),
        };
        if let Some(difference) = difference {
            let mut text = format!("{}:\n{difference}", way.name());
            for fault in ran.faults.iter().filter(|fault| !fault.detail().is_empty()) {
                write!(text, "{fault}\n{}", fault.detail())?;
            }
            failure.get_or_insert(text);
        }
        first.get_or_insert(ran);
    }
    let warm = first.context("no way to run a case")?;
    let blessed = bless && failure.is_none();
    if blessed {
        case.bless(&warm.got)?;
    }
    let records = case.records.as_ref().len() as u64;
    let counted = records > 0 && matches!(warm.got, Got::Records { .. });
    Ok(Tested { failure, fuel: counted.then(|| warm.cost.fuel / records), blessed })
}

fn line(case: &Case, result: &Tested, before: Option<u64>) -> String {
    let verdict = match (&result.failure, result.blessed) {
        (Some(_), _) => "FAILED",
        (None, true) => "blessed",
        (None, false) => "ok",
    };
    let mut text = format!("{:<24} {verdict}", case.name);
    if let Some(fuel) = result.fuel {
        text.push_str(&format!(", {} records, {fuel} fuel a record", case.records.as_ref().len()));
        if let Some(before) = before.filter(|before| *before != fuel && *before > 0) {
            let change = (fuel as f64 / before as f64 - 1.0) * 100.0;
            text.push_str(&format!(" ({change:+.1}% of {before})"));
        }
    }
    text.push('\n');
    for line in result.failure.iter().flat_map(|failure| failure.lines()) {
        text.push_str(&format!("    {}\n", output::plain(line)));
    }
    text
}

/// What a host gives to a transform whose configuration says nothing about limits; the manifest narrows it.
pub(super) fn host_limits() -> Result<Limits> {
    let limits = super::inspect::limits(None).context("the defaults of the configuration")?;
    Ok(Limits {
        memory_bytes: limits.memory,
        deadline: limits.deadline,
        configure_deadline: limits.configure_deadline,
        output_bytes: limits.output,
        log_bytes: limits.log,
    })
}

/// The compiled plugin, from `cache` if it was compiled before.
pub(super) fn load(engine: &Engine, wasm: &[u8], cache: &Path) -> Result<Arc<Plugin>> {
    let component = componentize(wasm)?;
    let manifest =
        read_manifest(wasm)?.context("the component has no manifest; `wasmill plugin build` puts it in")?;
    let digest = Digest::of(wasm);
    let cache = CodeCache::open(cache)?;
    let path = match cache.get(engine, digest)? {
        Some(path) => path,
        None => {
            let started = Instant::now();
            let code = engine.precompile(&component)?;
            if started.elapsed().as_secs() >= 2 {
                output::complain(format_args!("compiled in {:.1} s", started.elapsed().as_secs_f64()));
            }
            cache.put(engine, digest, &code)?
        }
    };
    Ok(engine.load(&path, manifest, digest)?)
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
