//! `wasmill plugin build`: finds the toolchain, builds the project to a component, and says what came of it.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::json;
use wasmill_author::{BuildOptions, Built};
use wasmill_transform::inspect;

use crate::cli::output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The exit code is 1 if the component was not built, or if a host would refuse it.\n\n\
    Examples:\n  \
    wasmill plugin build\n  \
    wasmill plugin build geo --out plugins/geo.wasm"
)]
pub(in crate::cli) struct Arguments {
    /// The project
    #[arg(default_value = ".")]
    project: PathBuf,
    /// Where the component goes [default: dist/NAME.wasm in the project]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where toolchains put what they build in between [default: build in the project]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Keep debug information, so that a trap names file and line; the component is larger
    #[arg(long)]
    debug: bool,
    /// Install missing tools, where they can go into a cache of the user's
    #[arg(long)]
    install: bool,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    let project = super::open(&arguments.project)?;
    let options = BuildOptions {
        out: arguments.out.clone(),
        work: arguments.work.clone(),
        debug: arguments.debug,
        install: arguments.install,
    };
    let component = project.component(&options)?;
    let inspection = inspect(&component);
    let refused = super::refused(&inspection);
    if !refused.is_empty() && !arguments.json {
        let reasons = refused.join("; ");
        bail!("a host would refuse this component, so it was put nowhere: {reasons}");
    }
    let placed = if refused.is_empty() { Some(project.place(component, &options)?) } else { None };
    let imports: Vec<String> = inspection
        .iter()
        .flat_map(|inspection| &inspection.imports)
        .map(|import| import.interface.clone())
        .collect();
    let took = started.elapsed();
    if arguments.json {
        output::print_json(&json!({
            "plugin": project.name,
            "language": project.language()?.name(),
            "file": placed.as_ref().map(|built| built.file.display().to_string()),
            "bytes": placed.as_ref().map(|built| built.component.len()),
            "imports": imports,
            "changed": placed.as_ref().is_some_and(|built| built.changed),
            "refused": refused,
            "ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }))?;
    } else if let Some(Built { file, component, changed }) = &placed {
        let mut text = format!(
            "{} {}, {} in {:.1} s\n",
            file.display(),
            if *changed { "built" } else { "is as it was" },
            output::binary_size(component.len() as u64),
            took.as_secs_f64()
        );
        writeln!(
            text,
            "imports {}",
            if imports.is_empty() { "nothing".to_owned() } else { imports.join(", ") }
        )?;
        output::print(&text)?;
    }
    Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
