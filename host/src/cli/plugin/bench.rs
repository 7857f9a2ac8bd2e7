//! `wasmill plugin bench`: what a plugin costs on the records of one of its cases, beside another version if one is given,
//! and beside what the boundary alone costs: all records through the byte face and back, and one field of each through
//! the column face and back.
//!
//! All run in turns in one process, so that a busy machine disturbs them alike.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use wasmill_author::{BuildOptions, faces};
use wasmill_cases::{ARRIVAL, Case, Column, slice, worker};
use wasmill_transform::{ChainOptions, Engine, EngineOptions, Limits, Plugin, TransformSpec};

use crate::cli::output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Times are CPU times of the plugin's calls with all protection on, medians of the rounds; fuel is the same on every \
    machine and says nothing about time. The bare byte face hands every record in and back, the bare column face one \
    field of each: what the boundary alone costs.\n\n\
    Examples:\n  \
    wasmill plugin bench\n  \
    wasmill plugin bench geo --case city --against plugins/geo.wasm"
)]
pub(in crate::cli) struct Arguments {
    /// The project
    #[arg(default_value = ".")]
    project: PathBuf,
    /// The case whose config and records are used [default: the one with most records]
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// Records of a round; those of the case are repeated
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    records: u32,
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000), help = "Rounds")]
    rounds: u32,
    /// Another version, measured in turns with this one
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Measure this file instead of building one; of the project only cases/ is needed then
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Install missing tools, where they can go into a cache of the user's
    #[arg(long)]
    install: bool,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Version,
    ByteFace,
    /// Only where records have fields.
    ColumnFace,
}

/// What one version, or a bare face, cost.
struct Cost {
    what: What,
    name: String,
    bytes: usize,
    cpu: Vec<Duration>,
    fuel_per_record: u64,
    memory_peak: u64,
    passed: u64,
    failed: u64,
}

impl Cost {
    fn of(what: What, name: String, bytes: usize) -> Cost {
        let (cpu, fuel_per_record) = (Vec::new(), 0);
        Cost { what, name, bytes, cpu, fuel_per_record, memory_peak: 0, passed: 0, failed: 0 }
    }

    fn ns_per_record(&self, records: u32) -> f64 {
        let mut cpu = self.cpu.clone();
        cpu.sort();
        cpu.get(cpu.len() / 2).map_or(0.0, |median| median.as_nanos() as f64 / f64::from(records))
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let component = arguments.component.as_deref();
    let subject = super::Subject::open(&arguments.project, component)?;
    let case = chosen(arguments, &subject.dir)?;
    let options = BuildOptions { install: arguments.install, ..BuildOptions::default() };
    let (wasm, _) = subject.wasm(component, &options)?;
    let mut versions = vec![(What::Version, subject.name, wasm)];
    if let Some(file) = &arguments.against {
        versions.push((What::Version, file.display().to_string(), super::read(file)?));
    }
    let records = repeated(&case, arguments.records)?;
    versions.push((What::ByteFace, "bare byte face".to_owned(), faces::bytes()?));
    if let Some(field) = first_field(&records) {
        let name = format!("bare column face, field {field:?}");
        versions.push((What::ColumnFace, name, faces::column(&field)?));
    }
    let cache = subject.dir.join("build/compiled");
    let timed = Engine::new(EngineOptions::default())?;
    let counted = Engine::new(EngineOptions { fuel: true, ..EngineOptions::default() })?;
    let limits = Limits::default();
    let mut measured = Vec::new();
    for (what, name, wasm) in versions {
        let mut cost = Cost::of(what, name, wasm.len());
        let plugin = super::load(&counted, &wasm, &cost.name, &cache)?;
        let once = round(&counted, &plugin, what, &case, limits.clone(), &records)?;
        // A column face fails what is no object.
        let sound = what != What::ByteFace || once.failed == 0;
        if what != What::Version && (once.passed == 0 || !sound) {
            bail!("the {} fails: {}", cost.name, once.first_failure.unwrap_or_default());
        }
        if let Some(reason) = once.first_failure.filter(|_| once.passed == 0 && what == What::Version) {
            bail!(
                "{} fails every record of case {}, so there is nothing to measure: {reason}",
                cost.name,
                case.name
            );
        }
        cost.fuel_per_record = once.fuel / u64::from(arguments.records);
        let plugin = super::load(&timed, &wasm, &cost.name, &cache)?;
        measured.push((cost, plugin));
    }
    for _ in 0..arguments.rounds {
        for (cost, plugin) in &mut measured {
            let took = round(&timed, plugin, cost.what, &case, limits.clone(), &records)?;
            cost.cpu.push(took.cpu);
            cost.memory_peak = cost.memory_peak.max(took.memory_peak);
            (cost.passed, cost.failed) = (took.passed, took.failed);
        }
    }
    let costs: Vec<Cost> = measured.into_iter().map(|(cost, _)| cost).collect();
    if arguments.json {
        let of = |faces: bool| -> Vec<Value> {
            let some = costs.iter().filter(|cost| (cost.what != What::Version) == faces);
            some.map(|cost| as_json(cost, &costs, arguments.records)).collect()
        };
        let (versions, faces) = (of(false), of(true));
        return output::print_json(
            &json!({ "case": case.name, "records": arguments.records, "versions": versions, "faces": faces }),
        );
    }
    output::print(&table(&costs, &case.name, arguments.records))
}

fn chosen(arguments: &Arguments, dir: &Path) -> Result<Case> {
    let dir = dir.join("cases");
    let mut cases =
        Case::folders(&dir)?.iter().map(|folder| Case::read(folder)).collect::<Result<Vec<_>>>()?;
    cases.retain(|case| !case.records.as_ref().is_empty());
    if let Some(name) = &arguments.case {
        let known: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
        let found = cases.into_iter().find(|case| case.name == *name);
        return found.with_context(|| {
            format!("no case with records is called {name:?}; there are {}", known.join(", "))
        });
    }
    let most = cases.into_iter().max_by_key(|case| case.records.as_ref().len());
    most.with_context(|| format!("{} has no case with records", dir.display()))
}

fn repeated(case: &Case, records: u32) -> Result<Column> {
    const BYTES_MAX: usize = 1 << 30;
    let mut column = Column::default();
    let once: Vec<&[u8]> = case.records.as_ref().iter().collect();
    for record in once.into_iter().cycle().take(records as usize) {
        column.push(record);
        ensure!(
            column.data.len() <= BYTES_MAX,
            "{records} records of case {} are more than 1 GiB",
            case.name
        );
    }
    Ok(column)
}

/// A field at the top of the first record that has one, short enough for the column face.
fn first_field(records: &Column) -> Option<String> {
    let object = |record: &[u8]| serde_json::from_slice::<serde_json::Map<String, Value>>(record).ok();
    let keys = records.as_ref().iter().filter_map(object).flat_map(|object| object.into_iter());
    keys.map(|(key, _)| key).find(|key| key.len() <= faces::FIELD_BYTES_MAX)
}

/// How many times as long as a bare face it took; nothing where that face was not measured.
fn times(cost: &Cost, costs: &[Cost], face: What, records: u32) -> Option<f64> {
    let bare = costs.iter().find(|cost| cost.what == face)?.ns_per_record(records);
    (bare > 0.0).then(|| cost.ns_per_record(records) / bare)
}

struct Round {
    cpu: Duration,
    fuel: u64,
    memory_peak: u64,
    passed: u64,
    failed: u64,
    first_failure: Option<String>,
}

fn round(
    engine: &Engine,
    plugin: &Arc<Plugin>,
    what: What,
    case: &Case,
    limits: Limits,
    records: &Column,
) -> Result<Round> {
    // The faces take no config, and ask for no files.
    let mut spec =
        TransformSpec::new(Arc::clone(plugin), if what == What::Version { &case.config } else { "{}" });
    if what == What::Version {
        spec.files = case.files.clone();
    }
    spec.limits = limits;
    let mut worker = worker(engine, vec![spec], ChainOptions::default())?;
    let (_, report) = slice(&mut worker, records.as_ref(), ARRIVAL, 1);
    if let Some((_, fault)) = report.unrunnable {
        bail!("it cannot be run: {fault}");
    }
    let cost = report.transforms.into_iter().next().unwrap_or_default();
    Ok(Round {
        cpu: cost.cpu,
        fuel: cost.fuel,
        memory_peak: cost.memory_bytes_peak,
        passed: report.passed,
        failed: report.failures.len() as u64,
        first_failure: report.failures.into_iter().next().map(|letter| letter.reason),
    })
}

fn as_json(cost: &Cost, costs: &[Cost], records: u32) -> Value {
    let ns = cost.ns_per_record(records);
    let mut json = json!({
        "component_bytes": cost.bytes,
        "records_per_s": if ns > 0.0 { 1e9 / ns } else { 0.0 },
        "ns_per_record": ns,
        "fuel_per_record": cost.fuel_per_record,
        "memory_bytes_peak": cost.memory_peak,
    });
    let more = match cost.what {
        What::Version => json!({
            "version": cost.name,
            "passed": cost.passed,
            "failed": cost.failed,
            "times_byte_face": times(cost, costs, What::ByteFace, records),
            "times_column_face": times(cost, costs, What::ColumnFace, records),
        }),
        What::ByteFace => json!({ "face": "bytes" }),
        What::ColumnFace => json!({ "face": "column" }),
    };
    if let (Value::Object(json), Value::Object(more)) = (&mut json, more) {
        json.extend(more);
    }
    json
}

fn table(costs: &[Cost], case: &str, records: u32) -> String {
    let mut text = format!("case {case}, {records} records a round\n");
    for cost in costs {
        let ns = cost.ns_per_record(records);
        text.push_str(&format!(
            "{}: {:.0} records/s, {ns:.0} ns and {} fuel a record, {} of memory, {}\n",
            output::plain(&cost.name),
            if ns > 0.0 { 1e9 / ns } else { 0.0 },
            cost.fuel_per_record,
            output::binary_size(cost.memory_peak),
            output::binary_size(cost.bytes as u64),
        ));
        if cost.failed > 0 && cost.what == What::Version {
            text.push_str(&format!("  {} records passed, {} failed\n", cost.passed, cost.failed));
        }
        if cost.what == What::Version {
            let of = |face, name| {
                let times = times(cost, costs, face, records)?;
                Some(format!("{times:.1} times the bare {name} face"))
            };
            let ratios = [of(What::ByteFace, "byte"), of(What::ColumnFace, "column")];
            let ratios: Vec<String> = ratios.into_iter().flatten().collect();
            if !ratios.is_empty() {
                text.push_str(&format!("  {}\n", ratios.join(", ")));
            }
        }
    }
    let versions: Vec<f64> = costs
        .iter()
        .filter(|cost| cost.what == What::Version)
        .map(|cost| cost.ns_per_record(records))
        .collect();
    if let [first, other] = *versions
        && other > 0.0
    {
        text.push_str(&format!("time over the other version: {:.2}\n", first / other));
    }
    text
}
