//! `wasmill plugin pack`: a component with its manifest inside, of what any toolchain wrote.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use wasmill_author::{Project, component};
use wasmill_transform::{embed_manifest, inspect};

use crate::cli::output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "For toolchains that `wasmill plugin build` does not know. The directory of the manifest may hold the schema that\n\
    its \"config_schema\" names. The exit code is 1 if a host would refuse what came of it.\n\n\
    Example:\n  \
    wasmill plugin pack zig-out/geo.wasm --project geo --out plugins/geo.wasm"
)]
pub(in crate::cli) struct Arguments {
    /// A component, or a core module with component metadata
    file: PathBuf,
    /// The directory with manifest.json
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
    /// Where the component goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { file, project, out } = arguments;
    let wasm = super::read(file)?;
    let manifest = super::manifest(&Project::open(project)?)?;
    let bare = wasmill_transform::componentize(&wasm).with_context(|| format!("{}", file.display()))?;
    if wasmill_transform::read_manifest(&bare)?.is_some() {
        bail!("{} has a manifest already; pack what the toolchain wrote", file.display());
    }
    let packed = embed_manifest(&bare, &manifest)?;
    let refused = inspect(&packed)?.refused;
    if !refused.is_empty() {
        bail!("a host would refuse this component, so it was put nowhere: {}", refused.join("; "));
    }
    component::place(out, &packed)?;
    output::print(&format!("{} packed, {}\n", out.display(), output::binary_size(packed.len() as u64)))
}
