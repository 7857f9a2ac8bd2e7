//! `wasmill-torture`: the torture as a program; `cargo xtask torture` builds what it needs and runs it.
//!
//! Progress goes to stderr, what was found to stdout; it ends with 0 only if nothing was lost, doubled or otherwise wrong.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its user")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use wasmill_torture::{Options, run};

#[derive(Parser)]
#[command(
    about = "Kill a host under load again and again, and account for every record",
    disable_version_flag = true
)]
struct Arguments {
    /// The program to torture
    #[arg(long, value_name = "FILE")]
    wasmill: PathBuf,
    /// Directory for everything; it is removed when all is good
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
    /// The same seed makes the same choices
    #[arg(long)]
    seed: u64,
    /// Kills
    #[arg(long, value_name = "N")]
    restarts: u32,
    /// Stop after this time, although not so many have passed
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
}

fn main() -> ExitCode {
    let Arguments { wasmill, work, seed, restarts, minutes } = Arguments::parse();
    if work.exists() {
        eprintln!("error: {} is there already; a run wants a directory of its own", work.display());
        return ExitCode::FAILURE;
    }
    let time = minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let options = Options { wasmill, work, seed, restarts, time };
    match run(&options, &mut |progress| eprintln!("torture: {progress}")) {
        Ok(report) => {
            println!("{report}");
            for offender in &report.findings.offenders {
                println!("torture: {offender}");
            }
            for complaint in &report.findings.complaints {
                println!("torture: {complaint}");
            }
            if report.good() {
                return ExitCode::SUCCESS;
            }
            println!("torture: FAILED with seed {seed}; everything is in {}", options.work.display());
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            println!("torture: FAILED with seed {seed}; everything is in {}", options.work.display());
        }
    }
    ExitCode::FAILURE
}
