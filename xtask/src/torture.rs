//! `cargo xtask torture`: builds the program in release and the torture of it, and runs it.
//!
//! Everything that happens then is the business of `tests/torture`; this only says where it may happen, and with which
//! seed when nobody chose one.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::project::Project;
use crate::suite;
use wasmill_author::process;

/// Kills when nothing else is asked for.
const RESTARTS: u32 = 200;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Stop after this time [default: no limit]
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// Kills [default: 200, or with --minutes as many as come]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    restarts: Option<u32>,
    /// The same seed makes the same choices [default: another one each time]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock before 1970")?;
    let seed = arguments.seed.unwrap_or(since_1970.as_secs());
    build(project, &["--release", "--package", "wasmill", "--bin", "wasmill"])?;
    build(project, &["--package", "wasmill-torture"])?;
    let work = project.target.join("torture").join(format!("{seed}-{}", std::process::id()));
    let restarts = arguments.restarts.unwrap_or(match arguments.minutes {
        Some(_) => u32::MAX,
        None => RESTARTS,
    });
    let mut torture = Command::new(project.target.join("debug/wasmill-torture"));
    torture.arg("--wasmill").arg(project.target.join("release/wasmill")).arg("--work").arg(&work);
    torture.args(["--seed", &seed.to_string(), "--restarts", &restarts.to_string()]);
    if let Some(minutes) = arguments.minutes {
        torture.args(["--minutes", &minutes.to_string()]);
    }
    process::run(&mut torture)
}

fn build(project: &Project, arguments: &[&str]) -> Result<()> {
    let mut command = suite::cargo(project);
    process::run(command.arg("build").args(arguments))
}
