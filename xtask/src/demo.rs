//! `cargo xtask demo`: from a bare checkout to a stream that runs, in three steps that say what they do.
//!
//! It prepares the Wasm toolchain and builds the demo's plugins, builds the program in release, and runs `wasmill demo`,
//! which does and checks everything else. What the demo says on stdout passes through untouched.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::plugins;
use crate::project::Project;
use crate::suite;
use wasmill_author::process;

/// Those that the demo's stream passes.
const PLUGINS: [&str; 4] = ["parse", "filter", "enrich", "features"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Records of the generated access log
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// A real access log (combined format) instead of a generated one
    #[arg(long, value_name = "FILE", conflicts_with = "records")]
    input: Option<PathBuf>,
    /// Where the demo puts everything [default: <target dir>/demo]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the journal and the compiled plugins too, to run the host again from there
    #[arg(long)]
    keep: bool,
    /// One JSON object on stdout instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    if let Some(input) = arguments.input.as_ref().filter(|input| !input.is_file()) {
        bail!("there is no file {}", input.display());
    }
    eprintln!("demo: step 1 of 3: plugins ({}) to Wasm", PLUGINS.join(", "));
    let names = PLUGINS.map(str::to_owned);
    for line in plugins::build(project, &names, &project.plugin_dir(), false)? {
        eprintln!("demo: {line}");
    }

    eprintln!("demo: step 2 of 3: the program, in release");
    let program = project.target.join("release/wasmill");
    if !program.exists() {
        eprintln!(
            "demo: the first build compiles the Wasm runtime and takes some minutes; later ones take seconds"
        );
    }
    let mut build = suite::cargo(project);
    build.args(["build", "--release", "--package", "wasmill", "--bin", "wasmill"]);
    process::run(&mut build).context("build wasmill")?;

    eprintln!("demo: step 3 of 3: {} demo", program.display());
    let mut demo = std::process::Command::new(&program);
    demo.arg("demo").arg("--plugins").arg(project.plugin_dir());
    demo.arg("--dir").arg(arguments.dir.clone().unwrap_or_else(|| project.target.join("demo")));
    match &arguments.input {
        Some(input) => demo.arg("--input").arg(input),
        None => demo.args(["--records", &arguments.records.to_string()]),
    };
    demo.args(arguments.keep.then_some("--keep")).args(arguments.json.then_some("--json"));
    process::run(&mut demo)
}
