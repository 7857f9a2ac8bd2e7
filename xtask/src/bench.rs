//! `cargo xtask bench`: what everything costs, measured in one run, as a table and as one JSON object.
//!
//! It builds what is measured, in release, runs the measuring programs (`wasmill-bench` for the transform stage,
//! `wasmill-bench-host` for whole hosts) and joins what they found. It measures nothing itself. A figure that misses its
//! bar is shown as missed and is no failure: the machine may be busy, and a timed test helps nobody.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::generate;
use crate::plugins;
use crate::project::Project;
use crate::suite;
use wasmill_author::process;
use wasmill_author::rust::toolchain;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write everything that was found to this file, as one JSON object
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Smaller input and shorter runs: to see that everything works, not to quote
    #[arg(long)]
    quick: bool,
    /// Interleaved runs of each figure, at least 5
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(5..))]
    runs: u64,
    /// An access log to repeat in place of a generated one [environment: WASMILL_ACCESS_LOG]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Only these of the whole-host measurements (job, push, firehose, latency, decide, state, reload, start, isolation, and those that take long and only run when they are named: neighbours, also one alone, such as neighbours.cpu_burner, and tenants), and not the transform stage
    #[arg(long, value_name = "NAMES")]
    only: Option<String>,
    /// Where the hosts that are measured keep their data: the disk to measure, or a memory file system to leave it out [default: the target directory]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// How many tenants there are in `tenants`
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    tenants: u64,
}

/// `cargo xtask tenants`.
#[derive(clap::Args)]
pub(crate) struct Tenants {
    /// How many of them, each with a stream and a plugin of its own
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    count: u64,
    /// Shorter: to see that everything works, not to quote
    #[arg(long)]
    quick: bool,
    /// Write everything that was found to this file, as one JSON object
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Many tenants who push at once, and what that costs: the measurement `tenants` alone.
pub(crate) fn tenants(project: &Project, arguments: Tenants) -> Result<()> {
    let Tenants { count, quick, json } = arguments;
    let only = Some("tenants".to_owned());
    run(project, &Arguments { json, quick, runs: 5, log: None, only, work: None, tenants: count })
}

/// What a figure must keep.
#[derive(Clone, Copy, Debug)]
enum Bar {
    Report,
    AtMost(f64),
    AtLeast(f64),
}

/// Every figure, with its bar.
const FIGURES: [(&str, Bar); 41] = [
    ("e2e_mb_per_s", Bar::Report),
    ("e2e_cpu_s_per_gb", Bar::Report),
    ("cpu_over_unix", Bar::AtMost(1.0)),
    ("wasm_over_native_e2e", Bar::AtMost(1.3)),
    ("wasm_over_native_bytes", Bar::AtMost(2.0)),
    ("column_over_serde", Bar::AtLeast(1.3)),
    ("ratio_over_single_frame", Bar::AtLeast(0.95)),
    ("push_records_per_s", Bar::Report),
    ("push_ack_over_probe_p99", Bar::AtMost(2.0)),
    ("firehose_records_per_s", Bar::AtLeast(50_000.0)),
    ("firehose_signature_cpu_share", Bar::Report),
    ("latency_over_probe_p99", Bar::AtMost(1.5)),
    ("decide_past_probe_p99_ms", Bar::AtMost(2.0)),
    ("decide_computed_p99_ms", Bar::AtMost(3.0)),
    ("decide_model_past_probe_p99_ms", Bar::AtMost(2.0)),
    ("decide_model_computed_p99_ms", Bar::AtMost(3.0)),
    ("window_records_per_s", Bar::AtLeast(300_000.0)),
    ("window_rss_mb_peak", Bar::Report),
    ("state_operations_per_s", Bar::Report),
    ("state_over_stateless_cpu", Bar::Report),
    ("syncs_per_batch", Bar::Report),
    ("bytes_written_per_byte_in", Bar::Report),
    ("reload_ms", Bar::AtMost(500.0)),
    ("host_rss_mb_peak", Bar::AtMost(400.0)),
    ("start_ms", Bar::AtMost(200.0)),
    ("unix_cpu_s_per_gb", Bar::Report),
    ("process_over_thread_cpu", Bar::Report),
    ("process_over_thread_wall", Bar::Report),
    ("process_over_thread_latency_p50", Bar::Report),
    ("neighbour_cpu_burner", Bar::AtMost(2.0)),
    ("neighbour_memory_bomb", Bar::AtMost(2.0)),
    ("neighbour_log_flooder", Bar::AtMost(2.0)),
    ("neighbour_compile_bomb", Bar::AtMost(2.0)),
    ("neighbour_push_flood", Bar::AtMost(2.0)),
    ("neighbour_unbounded_flood", Bar::Report),
    ("neighbour_hanging_destination", Bar::AtMost(2.0)),
    ("neighbour_reload_storm", Bar::AtMost(2.0)),
    ("tenants_over_one", Bar::AtLeast(0.8)),
    ("tenants_start_s", Bar::AtMost(10.0)),
    ("tenants_records_per_s", Bar::Report),
    ("tenants_one_records_per_s", Bar::Report),
];

/// Names the log where no argument does: the real one that figures are quoted for.
const LOG_VARIABLE: &str = "WASMILL_ACCESS_LOG";
/// Where packages are that train the model of a measurement.
const TRAINERS_VARIABLE: &str = "WASMILL_TRAINERS";
/// Lines of the generated one.
const GENERATED_LINES: u64 = 10_000;

pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    prepare_unix()?;
    for line in plugins::build(project, &[], &project.plugin_dir(), true)? {
        eprintln!("bench: {line}");
    }
    // The product alone first: built together, it would have what only the measuring programs switch on.
    build(project, &["--package", "wasmill", "--bin", "wasmill"])?;
    build(project, &["--package", "wasmill-bench", "--package", "wasmill-bench-host"])?;
    let work = arguments.work.clone().unwrap_or_else(|| project.target.join("bench"));
    std::fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let log = log(arguments)?;
    let mut found = Map::new();
    if arguments.only.is_none() {
        let generated = work.join("generated.log");
        if log.is_none() {
            generate::write_to(GENERATED_LINES, wasmill_access_log::DEFAULT_SEED, Some(&generated))?;
        }
        let mut command = program(project, "wasmill-bench");
        command
            .arg("--plugins")
            .arg(project.plugin_dir())
            .arg("--log")
            .arg(log.as_ref().unwrap_or(&generated));
        command.args(["--runs", &arguments.runs.to_string()]);
        found.append(&mut report_of(&mut command)?);
    }
    let mut command = program(project, "wasmill-bench-host");
    command.arg("measure").arg("--plugins").arg(project.plugin_dir()).arg("--guests");
    command.arg(project.guest_dir()).arg("--work").arg(&work);
    command.arg("--wasmill").arg(project.target.join("release/wasmill"));
    command.args(["--runs", &arguments.runs.to_string(), "--tenants", &arguments.tenants.to_string()]);
    command.args(arguments.quick.then_some("--quick"));
    if let Some(log) = &log {
        command.arg("--log").arg(log);
    }
    if let Some(only) = &arguments.only {
        command.args(["--only", only]);
    }
    if std::env::var_os(TRAINERS_VARIABLE).is_none() {
        match suite::trainers() {
            Ok(packages) => _ = command.env(TRAINERS_VARIABLE, packages),
            Err(error) => eprintln!("bench: no model is trained for `decide`: {error:#}"),
        }
    }
    found.append(&mut report_of(&mut command)?);
    show(&found);
    if let Some(file) = &arguments.json {
        write(file, found)?;
    }
    Ok(())
}

/// `mawk` and `zstd`, which the job is compared with.
fn prepare_unix() -> Result<()> {
    let missing: Vec<&str> =
        ["mawk", "zstd"].into_iter().filter(|name| process::on_path(name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("bench: installing {}: the job is compared with them", missing.join(" and "));
    if process::on_path("apt-get").is_none() || !toolchain::apt_install(&missing)? {
        bail!("{} cannot be installed here; please install what is missing", missing.join(" and "));
    }
    Ok(())
}

fn build(project: &Project, packages: &[&str]) -> Result<()> {
    let mut command = suite::cargo(project);
    command.args(["build", "--release"]).args(packages);
    process::run(&mut command)
}

fn program(project: &Project, name: &str) -> Command {
    Command::new(project.target.join("release").join(name))
}

fn log(arguments: &Arguments) -> Result<Option<PathBuf>> {
    let named = || std::env::var_os(LOG_VARIABLE).filter(|log| !log.is_empty()).map(PathBuf::from);
    let Some(log) = arguments.log.clone().or_else(named) else {
        eprintln!("bench: neither --log nor {LOG_VARIABLE}; measuring on a generated log");
        return Ok(None);
    };
    if !log.is_file() {
        bail!("there is no access log {} (--log or {LOG_VARIABLE})", log.display());
    }
    Ok(Some(log))
}

/// Runs a measuring program; its messages pass through, its report is one JSON object.
fn report_of(command: &mut Command) -> Result<Map<String, Value>> {
    let shown = process::shown(command);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed ({})", output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("read what `{shown}` found"))
}

fn show(found: &Map<String, Value>) {
    println!("{:<32} {:>10}  {:<23} {:<10}", "figure", "median", "spread", "bar");
    for (name, bar) in FIGURES {
        let Some(value) = found.get(name).and_then(Value::as_f64) else { continue };
        let spread = match found.get(&format!("{name}_spread")).and_then(Value::as_array).map(Vec::as_slice) {
            Some([least, most]) => format!(
                "{}..{}",
                number(least.as_f64().unwrap_or(f64::NAN)),
                number(most.as_f64().unwrap_or(f64::NAN))
            ),
            _ => String::new(),
        };
        println!("{name:<32} {:>10}  {spread:<23} {}", number(value), verdict(value, bar));
    }
    // What explains the figures, of measurements that have no others.
    let explains = |name: &str| name.starts_with("tenants_") || name.starts_with("neighbours_");
    for (name, value) in found.iter().filter(|(name, _)| explains(name)) {
        let known = FIGURES.iter().any(|(figure, _)| name.starts_with(figure));
        if let (false, Some(value)) = (known, value.as_f64()) {
            println!("{name:<48} {:>10}", number(value));
        }
    }
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn verdict(value: f64, bar: Bar) -> String {
    let (text, kept) = match bar {
        Bar::Report => return String::new(),
        Bar::AtMost(most) => (format!("<= {most}"), value <= most),
        Bar::AtLeast(least) => (format!(">= {least}"), value >= least),
    };
    format!("{text:<10} {}", if kept { "kept" } else { "MISSED" })
}

fn write(file: &Path, found: Map<String, Value>) -> Result<()> {
    let text = serde_json::to_string_pretty(&Value::Object(found))? + "\n";
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    eprintln!("bench: wrote {}", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_says_which_side_of_the_bar() {
        assert!(verdict(1.0, Bar::AtMost(1.0)).ends_with("kept"));
        assert!(verdict(1.01, Bar::AtMost(1.0)).ends_with("MISSED"));
        assert!(verdict(0.94, Bar::AtLeast(0.95)).ends_with("MISSED"));
        assert_eq!(verdict(7.0, Bar::Report), "");
    }
}
