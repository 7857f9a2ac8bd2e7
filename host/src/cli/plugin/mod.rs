//! `wasmill plugin`: what authors of plugins do, from a new project to a component that a host takes.

mod bench;
mod build;
mod inspect;
mod new;
mod pack;
mod test;
mod watch;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a project that builds and passes its own tests at once
    New(new::Arguments),
    /// Build the project to a component that a host loads
    Build(build::Arguments),
    /// Run the project's case folders through its component, as a host would
    Test(test::Arguments),
    /// Measure what the plugin costs, beside another version if one is given
    Bench(bench::Arguments),
    /// Put a manifest into a component of any toolchain
    Pack(pack::Arguments),
    /// Say what a plugin file is: imports, exports, digest, size, manifest, limits, and whether it would be refused
    Inspect(inspect::Arguments),
}

pub(super) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::New(arguments) => new::run(arguments),
        Command::Build(arguments) => build::run(arguments),
        Command::Test(arguments) => test::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Pack(arguments) => pack::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
    }
}
