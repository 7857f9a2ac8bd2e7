//! The command line: what can be asked for, where the answers go, which exit code they give.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 the configuration or the command
//! line is wrong, 3 a run came to its end and some records could not be delivered. It owns no logic: each command hands over to a stage or to the pipeline, and turns what comes back
//! into text.

mod check;
mod config_file;
mod dead_letters;
mod demo;
mod host_client;
mod import_firehose;
mod input;
mod key;
mod output;
mod plugin;
mod replay;
mod run;
mod state;
mod stream;
mod tenant;
#[cfg(test)]
mod tests;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::pipeline::{HostOptions, plugin_version};
use crate::telemetry::{LogFormat, LogOptions, check_log_filter, start_log};

/// Name of the hidden subcommand that compiles one plugin; `main` looks for it before anything else.
pub const COMPILE_PLUGIN: &str = "compile-plugin";
/// The same for the one that runs the plugins of a tenant in a process of its own.
pub const RUN_PLUGINS: &str = "run-plugins";

/// The configuration or the command line is wrong.
const EXIT_USAGE: u8 = 2;
/// A run that ended by itself, or a replay, has records left that could not be delivered: they are dead letters, or wait
/// for the next start.
const EXIT_UNDELIVERED: u8 = 3;

/// A programmable Firehose in one binary.
///
/// Streams come in, are buffered durably, pass batch by batch through WebAssembly plugins, and leave compressed for
/// files, S3 and HTTP endpoints.
#[derive(Debug, Parser)]
#[command(
    name = "wasmill",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong configuration or command line, 3 ran to its end and could not deliver all.\n\
        Data goes to stdout, logs go to stderr. Commands about a configuration take --config FILE, wasmill.toml unless given; \
        those about a running host take --host URL in its place.\n\n\
        Examples:\n  \
        wasmill demo                         watch a million records pass\n  \
        wasmill check wasmill.toml           everything that is wrong with a configuration\n  \
        wasmill run wasmill.toml             run it until SIGTERM\n  \
        wasmill plugin inspect parse.wasm    what a plugin is and may do"
)]
struct Arguments {
    #[command(flatten)]
    log: LogArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct LogArguments {
    /// How log lines look
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT", help_heading = "Logging")]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or by target: info,plugin=debug [default: info; demo: warn; check: error]
    #[arg(
        long,
        global = true,
        env = "WASMILL_LOG",
        hide_env_values = true,
        value_name = "LEVEL",
        value_parser = check_log_filter,
        help_heading = "Logging"
    )]
    log_level: Option<String>,
}

impl LogArguments {
    fn options(&self, default: &str) -> LogOptions {
        let filter = self.log_level.clone().unwrap_or_else(|| default.to_owned());
        LogOptions { format: self.log_format, filter }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the streams of a configuration until SIGTERM or SIGINT, or until all of them have ended
    Run(run::Arguments),
    /// Check a configuration and load its plugins: every problem at once, with file, line and column
    Check(check::Arguments),
    /// Run the history of a stream again, perhaps through other versions of its plugins, beside live delivery
    Replay(replay::Arguments),
    /// Watch a generated access log pass through plugins into compressed files, on a host of its own
    Demo(demo::Arguments),
    /// List, show, replay, export and purge records that could not be transformed, encoded or delivered
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Make, build and look into plugins
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Make, change, show and remove streams of a running host
    #[command(subcommand)]
    Stream(stream::Command),
    /// List, show, export and drop what plugins of a running host keep
    #[command(subcommand)]
    State(state::Command),
    /// Bring a stream of Amazon Data Firehose here, out of what AWS's command line prints of it
    ImportFirehose(import_firehose::Arguments),
    /// Make, list, rotate and revoke keys: who may do what at a host
    #[command(subcommand)]
    Key(key::Command),
    /// Make, list and remove tenants of a host
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Show what tenants, streams and plugins of a host have used, for people and for bills
    Usage(usage::Arguments),
    /// Print the JSON Schema of the configuration, for editors
    #[command(after_help = "Example:\n  wasmill schema > wasmill.schema.json")]
    Schema,
    /// Print completions for a shell
    #[command(after_help = "Example:\n  wasmill completions bash > /etc/bash_completion.d/wasmill")]
    Completions { shell: Shell },
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    // Help and usage errors: clap prints them and ends with 0 or 2.
    let arguments = Arguments::parse();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => {
            output::complain(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &Arguments) -> Result<ExitCode> {
    let log = &arguments.log;
    match &arguments.command {
        Command::Run(command) => {
            start_log(&log.options("info"), None)?;
            run::run(command)
        }
        Command::Check(command) => {
            // What is wrong with a plugin is among the problems; the catalog's warnings would only say it twice.
            start_log(&log.options("error"), None)?;
            check::run(command)
        }
        Command::DeadLetters(command) => {
            start_log(&log.options("warn"), None)?;
            dead_letters::run(command)
        }
        Command::Replay(command) => {
            start_log(&log.options("warn"), None)?;
            replay::run(command)
        }
        Command::Demo(command) => demo::run(command, &log.options("warn")),
        Command::Plugin(command) => plugin::run(command),
        Command::Key(command) => {
            start_log(&log.options("warn"), None)?;
            key::run(command)
        }
        Command::State(command) => {
            start_log(&log.options("warn"), None)?;
            state::run(command)
        }
        Command::Stream(command) => {
            start_log(&log.options("warn"), None)?;
            stream::run(command)
        }
        Command::ImportFirehose(command) => {
            start_log(&log.options("warn"), None)?;
            import_firehose::run(command)
        }
        Command::Tenant(command) => {
            start_log(&log.options("warn"), None)?;
            tenant::run(command)
        }
        Command::Usage(command) => {
            start_log(&log.options("warn"), None)?;
            usage::run(command)
        }
        Command::Schema => output::print(&wasmill_config::schema()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "wasmill", &mut script);
            output::print(&String::from_utf8(script).context("write the completions")?)
        }
    }
}

/// This program compiles its own plugins.
fn host_options() -> Result<HostOptions> {
    // What runs, also when the file has been replaced since: another version's code and messages are not this one's.
    let running = PathBuf::from("/proc/self/exe");
    let compiler = match running.exists() {
        true => running,
        false => std::env::current_exe().context("find the path of this program")?,
    };
    Ok(HostOptions { compiler })
}

/// A plugin's version on the command line.
fn version(text: &str) -> Result<String, String> {
    plugin_version(text).map(|_parts| text.to_owned())
}

/// The async runtime of a command.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the async runtime")
}
