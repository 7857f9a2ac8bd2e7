//! The project's own commands: `cargo xtask demo | plugins | test | ci | bench | tenants | conformance | newcomer | torture | fuzz | generate`.
//!
//! This file owns the command line and nothing else: each command is a module that can be read alone.
//! It is a program for people who work on the project, so it talks on the terminal: what it does and why
//! goes to stderr, what another program would read (figures, generated data) to stdout.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its user")]

mod bench;
mod conformance;
mod datasets;
mod demo;
mod doors;
mod fuzz;
mod generate;
mod java;
mod newcomer;
mod plugins;
mod project;
mod suite;
mod torture;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::project::Project;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watch a million records pass through plugins into compressed files: builds what is missing, then `wasmill demo`
    Demo(demo::Arguments),
    /// Build the first-party plugins to Wasm components (finds or installs what that needs)
    Plugins {
        /// Only these plugins (all without)
        names: Vec<String>,
        /// Where the components go [default: <target dir>/plugins]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Build the guests of the tests too, into <target dir>/guests
        #[arg(long)]
        guests: bool,
    },
    /// Run every test: plugins built to Wasm, unit and black-box tests, doc tests
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
        /// Unit tests only: no Wasm build, no black-box tests, no doc tests
        #[arg(long)]
        fast: bool,
    },
    /// What CI runs: fmt, clippy with warnings denied, then every test
    Ci,
    /// Measure what everything costs: a table, and with --json one object with every figure
    Bench(bench::Arguments),
    /// Let a thousand tenants push at once, each with a stream and a plugin of its own, and weigh them against one
    Tenants(bench::Tenants),
    /// Run the conformance plugin of every language and door through the same cases (installs the toolchains that are missing)
    Conformance(conformance::Arguments),
    /// Time what a newcomer does: from `wasmill plugin new` to the first record through a live host, language by language
    Newcomer(newcomer::Arguments),
    /// Kill a host under load again and again while everything around it misbehaves, and account for every record
    Torture(torture::Arguments),
    /// Throw what a fuzzer thinks of at everything that takes bytes from outside (needs cargo-fuzz)
    Fuzz(fuzz::Arguments),
    /// Write a realistic access log (combined format) to stdout or a file
    Generate {
        /// Lines to write
        #[arg(long, default_value_t = 1_000_000)]
        records: u64,
        /// The same seed gives the same bytes
        #[arg(long, default_value_t = wasmill_access_log::DEFAULT_SEED)]
        seed: u64,
        /// Where to write [default: stdout]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo(arguments) => demo::run(&Project::find()?, &arguments),
        Command::Plugins { names, out, guests } => {
            let project = Project::find()?;
            let out = out.unwrap_or_else(|| project.plugin_dir());
            for line in plugins::build(&project, &names, &out, guests)? {
                println!("{line}");
            }
            Ok(())
        }
        Command::Test { filter, fast } => suite::test(&Project::find()?, filter.as_deref(), fast),
        Command::Ci => suite::ci(&Project::find()?),
        Command::Bench(arguments) => bench::run(&Project::find()?, &arguments),
        Command::Tenants(arguments) => bench::tenants(&Project::find()?, arguments),
        Command::Conformance(arguments) => conformance::run(&Project::find()?, &arguments),
        Command::Newcomer(arguments) => newcomer::run(&Project::find()?, &arguments),
        Command::Torture(arguments) => torture::run(&Project::find()?, &arguments),
        Command::Fuzz(arguments) => fuzz::run(&Project::find()?, &arguments),
        Command::Generate { records, seed, out } => generate::write_to(records, seed, out.as_deref()),
    }
}
