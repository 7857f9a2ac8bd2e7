//! `cargo xtask plugins`: every first-party plugin as a component, and the guests that the tests use.
//!
//! A plugin is a directory below `plugins/` with a `manifest.json` and a package; a test guest is a package
//! below `tests/guests/`. Nothing is written when nothing changed, so that a running host that watches the
//! directory sees only real changes. Files appear by rename, never half written.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use crate::doors;
use crate::project::{self, Package, Project};
use wasmill_author::component;
use wasmill_author::freestanding_c;
use wasmill_author::process;
use wasmill_author::rust::toolchain::Toolchain;

/// The target that plugins with C inside are built for.
const WITHOUT_SYSTEM: &str = "wasm32-unknown-unknown";

/// A package that becomes a component.
struct Source {
    /// Name of the component's file, without extension.
    name: String,
    package: Package,
    /// `manifest.json`, made complete; test guests may have none.
    manifest: Option<String>,
    /// A member of the project's workspace; others are built on their own.
    is_member: bool,
}

/// Builds the first-party plugins (all when `names` is empty) into `out`, and if asked for the guests that tests and
/// bench need into a directory of their own.
/// Returns a line per component: name, size, digest, whether it changed.
pub(crate) fn build(project: &Project, names: &[String], out: &Path, guests: bool) -> Result<Vec<String>> {
    let started = Instant::now();
    let mut sources = plugin_sources(project)?;
    if let Some(unknown) = names.iter().find(|name| !sources.iter().any(|source| source.name == **name)) {
        let known: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        bail!("no plugin is called {unknown:?}; there are {}", known.join(", "));
    }
    if !names.is_empty() {
        sources.retain(|source| names.contains(&source.name));
    }
    let guests = if guests { guest_sources(project)? } else { Vec::new() };
    if sources.is_empty() && guests.is_empty() {
        eprintln!("plugins: none here (no directory below plugins/ has a manifest.json)");
        return Ok(Vec::new());
    }

    let toolchain = Toolchain::prepare()?;
    // It is some hundred megabytes: for tests and for those who ask for what needs it.
    let may_install = !names.is_empty() || !guests.is_empty();
    let c_compiler = c_compiler(&toolchain, may_install, &mut sources)?;
    eprintln!("plugins: building {} for Wasm with {}", listed(&sources, &guests), toolchain.described());
    if !project.wasm_dir().exists() {
        eprintln!(
            "plugins: the first build takes some minutes (the standard library too); later ones build only what changed"
        );
    }
    compile(project, &toolchain, c_compiler.as_deref(), sources.iter().chain(&guests))?;
    let mut lines = Vec::new();
    for (dir, sources) in [(out, &sources), (&project.guest_dir(), &guests)] {
        for source in sources {
            lines.push(install(project, &toolchain, source, dir)?);
        }
    }
    if !guests.is_empty() {
        lines.extend(doors::build(project, &toolchain)?);
    }
    eprintln!("plugins: ready in {} after {:.1} s", out.display(), started.elapsed().as_secs_f64());
    Ok(lines)
}

/// The compiler for the C in the plugins. Where there is none and none may be installed, those that have C are left out.
fn c_compiler(toolchain: &Toolchain, may_install: bool, sources: &mut Vec<Source>) -> Result<Option<String>> {
    let with_c: Vec<String> =
        sources.iter().filter(|source| source.package.has_c).map(|source| source.name.clone()).collect();
    if with_c.is_empty() {
        return Ok(None);
    }
    let found = match toolchain.target() {
        WITHOUT_SYSTEM => freestanding_c(may_install),
        other => Err(anyhow!("its C is built for {WITHOUT_SYSTEM}, and this Rust has {other} alone")),
    };
    match found {
        Ok(compiler) => Ok(Some(compiler)),
        Err(error) if !may_install => {
            eprintln!("plugins: {} is left out: {error:#}", with_c.join(", "));
            sources.retain(|source| !source.package.has_c);
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("{} has C inside", with_c.join(", "))),
    }
}

fn listed(sources: &[Source], guests: &[Source]) -> String {
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    match guests.len() {
        0 => names.join(", "),
        count => format!("{} and {count} test guests", names.join(", ")),
    }
}

fn plugin_sources(project: &Project) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for dir in directories(&project.root.join("plugins"))? {
        if !dir.join("manifest.json").is_file() {
            continue;
        }
        let package = project.package_in(&dir).with_context(|| {
            format!("{} has a manifest.json but is no member of the workspace", dir.display())
        })?;
        sources.push(source(&dir, package.clone(), true)?);
    }
    Ok(sources)
}

fn guest_sources(project: &Project) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for dir in directories(&project.root.join("tests/guests"))? {
        if !dir.join("Cargo.toml").is_file() {
            continue;
        }
        let found = match project.package_in(&dir) {
            Some(package) => source(&dir, package.clone(), true)?,
            None => source(&dir, project::package_outside(&dir)?, false)?,
        };
        // What guests share is a library, not a component.
        if found.package.cdylib.is_some() {
            sources.push(found);
        }
    }
    Ok(sources)
}

fn source(dir: &Path, package: Package, is_member: bool) -> Result<Source> {
    let name = dir.file_name().context("directory without a name")?.to_string_lossy().into_owned();
    let has_manifest = dir.join("manifest.json").is_file();
    let manifest = has_manifest.then(|| component::read_manifest(dir)).transpose()?;
    Ok(Source { name, package, manifest, is_member })
}

pub(crate) fn directories(parent: &Path) -> Result<Vec<PathBuf>> {
    if !parent.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(parent).with_context(|| format!("read {}", parent.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn compile<'a>(
    project: &Project,
    toolchain: &Toolchain,
    c_compiler: Option<&str>,
    sources: impl Iterator<Item = &'a Source>,
) -> Result<()> {
    let (members, others): (Vec<&Source>, Vec<&Source>) = sources.partition(|source| source.is_member);
    if !members.is_empty() {
        let mut command = toolchain.build_command(&project.wasm_dir());
        command.arg("--lib").current_dir(&project.root);
        if let Some(compiler) = c_compiler {
            command.env("CC_wasm32_unknown_unknown", compiler);
        }
        for source in members {
            command.args(["--package", &source.package.name]);
        }
        process::run(&mut command).context("build the plugins for Wasm")?;
    }
    for source in others {
        let mut command = toolchain.build_command(&project.wasm_dir());
        command.arg("--lib").current_dir(&source.package.dir);
        process::run(&mut command).with_context(|| format!("build the guest {}", source.name))?;
    }
    Ok(())
}

/// Makes the component and puts it into `dir`, unless the same one is there already.
fn install(project: &Project, toolchain: &Toolchain, source: &Source, dir: &Path) -> Result<String> {
    let library = source.package.cdylib.as_ref().with_context(|| {
        format!("package {} builds no cdylib, so it cannot become a plugin", source.package.name)
    })?;
    let built = project.wasm_dir().join(toolchain.target()).join("release").join(format!("{library}.wasm"));
    let wasm = std::fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    let component = component::assemble(&wasm, source.manifest.as_deref())
        .with_context(|| format!("make a component of {}", built.display()))?;
    let file = dir.join(format!("{}.wasm", source.name));
    let note = if component::place(&file, &component)? { "written" } else { "unchanged" };
    let size = component.len().div_ceil(1024);
    let digest = component::digest(&component);
    Ok(format!("{:<30} {size:>6} KiB  sha256:{digest}  {note}", source.name))
}
