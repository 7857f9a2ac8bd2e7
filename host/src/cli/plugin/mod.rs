//! `wasmill plugin`: what authors of plugins do, from a new project to a component that a host takes; and what operators do
//! with its versions.

mod bench;
mod build;
mod dev;
mod inspect;
mod new;
mod pack;
mod push;
mod signing;
mod test;
mod versions;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use wasmill_author::{BuildOptions, Project};
use wasmill_transform::{CompileLimits, Engine, Inspection, Manifest, Plugin, PluginFault, check_manifest};

use super::output;

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
    /// Build whenever a file is saved, hand it to a running host, and show its records before and after
    Dev(dev::Arguments),
    /// Put a manifest into a component of any toolchain
    Pack(pack::Arguments),
    /// Say what a plugin file is: imports, exports, digest, size, manifest, limits, and whether it would be refused
    Inspect(inspect::Arguments),
    /// Make a key that signs plugins, and print its public half
    Keygen(signing::Keygen),
    /// Sign a plugin file for hosts that ask for it
    Sign(signing::Sign),
    /// Say whether a plugin file is signed by a key
    Verify(signing::Verify),
    /// Upload a plugin to a running host, which uses it under its name from then on
    Push(push::Arguments),
    /// List the versions of plugins that a running host knows: which are live, pinned, demoted, refused, and why
    Versions(versions::Versions),
    /// Keep a version live, whatever comes into the plugin directory
    Pin(versions::Pin),
    /// Make live what the plugin directory has
    Unpin(versions::Unpin),
    /// Make the version live that was live before, and pin it
    Rollback(versions::Rollback),
    /// Run a candidate beside the live version on the same records, and report what it does differently
    Shadow(versions::Shadow),
    /// Make a version live between two slices: the shadow, or any that the host knows
    Promote(versions::Promote),
}

pub(super) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::New(arguments) => new::run(arguments),
        Command::Build(arguments) => build::run(arguments),
        Command::Test(arguments) => test::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Dev(arguments) => dev::run(arguments),
        Command::Pack(arguments) => pack::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Keygen(arguments) => signing::keygen(arguments),
        Command::Sign(arguments) => signing::sign(arguments),
        Command::Verify(arguments) => signing::verify(arguments),
        Command::Push(arguments) => push::run(arguments),
        Command::Versions(arguments) => versions::versions(arguments),
        Command::Pin(arguments) => versions::pin(arguments),
        Command::Unpin(arguments) => versions::unpin(arguments),
        Command::Rollback(arguments) => versions::rollback(arguments),
        Command::Shadow(arguments) => versions::shadow(arguments),
        Command::Promote(arguments) => versions::promote(arguments),
    }
}

/// The bytes of a plugin file, which is a stranger: what it is and how large is looked at first.
fn read(file: &Path) -> Result<Vec<u8>> {
    let max = CompileLimits::default().wasm_bytes;
    let found = std::fs::metadata(file).with_context(|| format!("read {}", file.display()))?;
    if !found.is_file() {
        bail!("{} is no regular file", file.display());
    }
    let size = found.len();
    if size > max {
        bail!("{} has {size} bytes, a plugin may have {max}", file.display());
    }
    std::fs::read(file).with_context(|| format!("read {}", file.display()))
}

/// Why a host would refuse a component.
fn refused(inspection: &Result<Inspection, PluginFault>) -> Vec<String> {
    match inspection {
        Ok(inspection) => inspection.refused.clone(),
        Err(PluginFault::Refused { message }) => vec![message.clone()],
        Err(fault) => vec![fault.to_string()],
    }
}

/// The project, whose manifest is one that a host takes.
fn open(dir: &Path) -> Result<Project> {
    let project = Project::open(dir)?;
    manifest(&project)?;
    Ok(project)
}

/// What is tested or measured.
struct Subject {
    name: String,
    /// Where its cases are.
    dir: PathBuf,
    project: Option<Project>,
}

impl Subject {
    /// A project; or just a directory with cases, where there is a file to take in place of what it would build.
    fn open(dir: &Path, component: Option<&Path>) -> Result<Subject> {
        if let Some(file) = component.filter(|_| !dir.join("manifest.json").is_file()) {
            let dir = std::path::absolute(dir).with_context(|| format!("find {}", dir.display()))?;
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(Subject { name, dir, project: None });
        }
        let project = open(dir)?;
        Ok(Subject { name: project.name.clone(), dir: project.dir.clone(), project: Some(project) })
    }

    /// Its bytes and what they are called: of the file, or built.
    fn wasm(&self, component: Option<&Path>, options: &BuildOptions) -> Result<(Vec<u8>, String)> {
        match (component, &self.project) {
            (Some(file), _) => Ok((read(file)?, file.display().to_string())),
            (None, Some(project)) => Ok((project.component(options)?, project.name.clone())),
            (None, None) => bail!("there is nothing to build in {}", self.dir.display()),
        }
    }
}

fn manifest(project: &Project) -> Result<Manifest> {
    let file = project.dir.join("manifest.json");
    let expected = || format!("{} is not what a host expects", file.display());
    // Its own text first, so that an error names a place in it.
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_str::<Manifest>(&text).with_context(expected)?;
    let whole: Manifest = serde_json::from_str(&project.manifest).with_context(expected)?;
    check_manifest(&whole).with_context(|| file.display().to_string())?;
    Ok(whole)
}

/// The plugin, compiled or out of the cache; says so when that takes long.
fn load(engine: &Engine, wasm: &[u8], what: &str, cache: &Path) -> Result<Arc<Plugin>> {
    let (plugin, took) = wasmill_cases::load(engine, wasm, cache).with_context(|| what.to_owned())?;
    if let Some(took) = took.filter(|took| took.as_secs() >= 2) {
        output::complain(format_args!("compiled in {:.1} s", took.as_secs_f64()));
    }
    Ok(plugin)
}
