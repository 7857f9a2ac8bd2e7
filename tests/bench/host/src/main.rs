//! What a whole host costs: prints one JSON object.
//!
//! `wasmill-bench-host measure --wasmill PROGRAM --plugins DIR --guests DIR --work DIR [--log FILE] [--runs N] [--quick] [--only
//! NAMES]`; of the neighbours one alone is `neighbours.NAME`. Everything is measured from outside, on real programs: CPU
//! time and memory as the system counts them, times as a client sees them. `run CONFIG` and `run-native CONFIG` are the hosts that it starts beside the product. Refuses to say
//! anything of a debug build.

mod arrivals;
mod child;
mod decide;
mod firehose;
mod http;
mod isolation;
mod job;
mod latency;
mod neighbours;
mod probe;
mod push;
mod reload;
mod rivals;
mod runner;
mod samples;
mod scene;
mod start;
mod state;
mod steady;
mod tenants;
mod unix;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::child::Program;
use crate::samples::Report;
use crate::scene::{Log, Scene};

type Measurement = fn(&Scene, &mut Report) -> Result<()>;

/// By name, in the order in which they run; the last two only when they are asked for: they take long.
const MEASUREMENTS: [(&str, Measurement); 11] = [
    ("job", job::measure),
    ("push", push::measure),
    ("firehose", firehose::measure),
    ("latency", latency::measure),
    ("decide", decide::measure),
    ("state", state::measure),
    ("reload", reload::measure),
    ("start", start::measure),
    ("isolation", isolation::measure),
    ("neighbours", neighbours::measure),
    ("tenants", tenants::measure),
];
/// Those that run unasked.
const USUAL: usize = MEASUREMENTS.len() - 2;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its user")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "compile-plugin") {
        return ExitCode::from(wasmill_transform::compile_child_main(&arguments[1..]));
    }
    match run(&arguments) {
        Ok(report) => {
            println!("{report:#}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<Value> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &words[..] {
        ["run", config] => runner::run(Path::new(config), runner::Plugins::Wasm),
        ["run-native", config] => runner::run(Path::new(config), runner::Plugins::Native),
        ["measure", options @ ..] => measure(options),
        _ => bail!("one of: measure OPTIONS, run CONFIG, run-native CONFIG"),
    }
}

fn measure(options: &[&str]) -> Result<Value> {
    if cfg!(debug_assertions) {
        bail!("built without optimisation: `cargo xtask bench` builds it right");
    }
    let scene = scene(options)?;
    let mut report = Report::default();
    for (place, (name, measurement)) in MEASUREMENTS.into_iter().enumerate() {
        let only = &scene.only;
        if (only.is_empty() && place < USUAL) || only.iter().any(|wanted| measurement_of(wanted) == name) {
            say(&format!("measuring {name}"));
            measurement(&scene, &mut report).with_context(|| format!("measure {name}"))?;
        }
    }
    Ok(report.into_value())
}

/// What is in front of the dot where only a part of a measurement is asked for.
fn measurement_of(wanted: &str) -> &str {
    wanted.split_once('.').map_or(wanted, |(name, _part)| name)
}

/// What to measure, and on what.
fn scene(options: &[&str]) -> Result<Scene> {
    let own = std::env::current_exe()?;
    let inside = Program { path: own.clone(), verb: "run" };
    let (mut product, mut plugins, mut guests) = (None, None, None);
    let (mut dir, mut log) = (None, None);
    let (mut runs, mut quick, mut only, mut tenants) = (5, false, Vec::new(), 1000);
    let mut options = options.iter().copied();
    while let Some(name) = options.next() {
        if name == "--quick" {
            quick = true;
            continue;
        }
        let value = options.next().with_context(|| format!("{name} wants a value"))?;
        match name {
            "--wasmill" => product = Some(PathBuf::from(value)),
            "--plugins" => plugins = Some(PathBuf::from(value)),
            "--guests" => guests = Some(PathBuf::from(value)),
            "--work" => dir = Some(PathBuf::from(value)),
            "--log" => log = Some(PathBuf::from(value)),
            "--runs" => runs = value.parse().context("--runs wants a number")?,
            "--tenants" => tenants = value.parse().context("--tenants wants a number")?,
            "--only" => only = value.split(',').map(str::to_owned).collect(),
            _ => bail!(
                "unknown option {name}; there are --wasmill, --plugins, --guests, --work, --log, --runs, --quick, --only, --tenants"
            ),
        }
    }
    if let Some(unknown) =
        only.iter().find(|name| !MEASUREMENTS.iter().any(|(known, _)| *known == measurement_of(name)))
    {
        bail!("no measurement is called {unknown:?}; there are {:?}", MEASUREMENTS.map(|(name, _)| name));
    }
    let dir: PathBuf = dir.context("--work DIR: where to work, on the disk to measure")?;
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let plugins = plugins.context("--plugins DIR: where `cargo xtask plugins` put the components")?;
    let product = product.context("--wasmill PROGRAM: the product, built in release")?;
    let guests = guests.context("--guests DIR: where `cargo xtask plugins --guests` put the guests")?;
    let scene = Scene {
        dir: dir.canonicalize()?,
        product: Program { path: product, verb: "run" },
        native: Program { path: own, verb: "run-native" },
        inside,
        plugins: plugins.canonicalize().with_context(|| format!("find {}", plugins.display()))?,
        guests: guests.canonicalize().with_context(|| format!("find {}", guests.display()))?,
        log: match &log {
            Some(log) => Log::read(log)?,
            None => Log::generate(),
        },
        runs,
        quick,
        tenants,
        only,
    };
    Ok(scene)
}

/// What is going on, for people.
#[expect(clippy::print_stderr, reason = "a command-line program talks to its user")]
pub(crate) fn say(text: &str) {
    eprintln!("bench: {text}");
}

/// Lets a moment pass between two looks at what another process does.
pub(crate) fn pause(moment: Duration) {
    #[expect(clippy::disallowed_methods, reason = "another process cannot wake us; callers have a deadline")]
    std::thread::sleep(moment);
}
