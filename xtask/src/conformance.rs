//! `cargo xtask conformance`: a plugin of each language and of each door that must do the same, built as its author would
//! build it.
//!
//! A project of each language is made from its template, as `wasmill plugin new` makes it, and must pass its own unit
//! tests; then the sources in `plugins/sdk/<language>/conformance` take its place, and the component that comes of them
//! goes through `tests/conformance`, with the guests for the doors (`tests/guests`) beside it. What toolchains need is installed from their ordinary registries.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use wasmill_author::{BuildOptions, Language, Need, Project as Plugin};

use crate::project::Project;
use crate::{doors, suite};
use wasmill_author::process;
use wasmill_author::rust::toolchain::Toolchain;
use wasmill_author::rust::wasip1::Wasip1;

#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Only these languages, variants of one, such as javascript-quickjs, or doors, such as wasip1 [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// One JSON object with every verdict and figure
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run them on a host that is built for speed, so that figures are those of the product
    #[arg(long)]
    release: bool,
    /// Fail if a language's own toolchain is missing, instead of leaving it out
    #[arg(long)]
    all: bool,
    /// Only build the components, into <target dir>/conformance
    #[arg(long)]
    build_only: bool,
}

impl Arguments {
    /// Every language; `all`: none may be left out.
    pub(crate) fn of_a_test(all: bool) -> Arguments {
        Arguments { all, ..Arguments::default() }
    }
}

pub(crate) fn run(project: &Project, arguments: &Arguments) -> Result<()> {
    let mut suites = suites(&project.root.join("plugins/sdk"))?;
    let mut doors = doors::Column::all(project)?;
    let known: Vec<String> =
        suites.iter().map(|suite| &suite.name).chain(doors.iter().map(|door| &door.name)).cloned().collect();
    if let Some(name) = arguments.names.iter().find(|name| !known.contains(name)) {
        bail!("there is no conformance plugin {name:?}; there are {}", known.join(", "));
    }
    let wanted = |name: &String| arguments.names.is_empty() || arguments.names.contains(name);
    suites.retain(|suite| wanted(&suite.name));
    doors.retain(|door| wanted(&door.name));
    let out = project.target.join("conformance");
    let mut command = Command::new(runner(project, arguments)?);
    let (mut skipped, mut built) = (Vec::new(), 0);
    for suite in suites {
        let name = suite.name.as_str();
        eprintln!("conformance: {name}");
        let lacks = |need: &Need| need.found.is_none() && !need.installs;
        if let Some(need) = suite.language.needs().into_iter().find(lacks) {
            skipped.push(format!("{name} is skipped: {} is missing here ({})", need.what, need.how));
            continue;
        }
        let component = build(project, &suite, &out).with_context(|| name.to_owned())?;
        built += 1;
        command.arg("--component").arg(format!("{name}={}", component.display()));
        for sources in &suite.sources {
            let excused = sources.join("not-applicable.txt");
            if excused.is_file() {
                command.arg("--not-applicable").arg(format!("{name}={}", excused.display()));
            }
        }
    }
    if !doors.is_empty() {
        eprintln!("conformance: doors");
        match Toolchain::prepare().and_then(|toolchain| Wasip1::prepare().map(|_| toolchain)) {
            Ok(toolchain) => {
                doors::build(project, &toolchain)?;
                built += doors.len();
                for door in &doors {
                    let module = door.module(project);
                    command.arg("--component").arg(format!("{}={}", door.name, module.display()));
                    command.arg("--door").arg(format!("{}={}", door.name, door.dir.display()));
                }
            }
            Err(missing) => skipped.push(format!("the doors are skipped: {missing:#}")),
        }
    }
    for what in &skipped {
        eprintln!("conformance: {what}");
    }
    if arguments.all && !skipped.is_empty() {
        bail!("none may be skipped: {}", skipped.join("; "));
    }
    if arguments.build_only || built == 0 {
        return Ok(());
    }
    command.arg("--cases").arg(project.root.join("plugins/sdk/conformance/cases"));
    command.arg("--cache").arg(out.join("compiled"));
    if let Some(file) = &arguments.json {
        command.arg("--json").arg(std::path::absolute(file)?);
    }
    process::run(&mut command)
}

/// The program that runs the cases.
fn runner(project: &Project, arguments: &Arguments) -> Result<PathBuf> {
    let (profile, how): (&str, &[&str]) = match arguments.release {
        true => ("release", &["--release", "--package", "wasmill-conformance"]),
        // What the tests build too.
        false => ("debug", &["--workspace", "--bins"]),
    };
    if !arguments.build_only {
        process::run(suite::cargo(project).arg("build").args(how))?;
    }
    Ok(project.target.join(profile).join("wasmill-conformance"))
}

/// A conformance plugin: of a language, or a variant of it, such as another engine.
struct Suite {
    /// The language's name, of a variant `<language>-<variant>`.
    name: String,
    language: Language,
    /// What is copied over a new project, one after the other.
    sources: Vec<PathBuf>,
}

/// Every language has `conformance`; what a variant has besides lies in `conformance-<variant>`.
fn suites(sdk: &Path) -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for language in Language::ALL {
        let dir = sdk.join(language.name());
        let plain = dir.join("conformance");
        let mut variants = Vec::new();
        for entry in std::fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            variants.extend(name.strip_prefix("conformance-").map(str::to_owned));
        }
        variants.sort();
        suites.push(Suite { name: language.name().to_owned(), language, sources: vec![plain.clone()] });
        for variant in variants {
            let sources = vec![plain.clone(), dir.join(format!("conformance-{variant}"))];
            suites.push(Suite { name: format!("{}-{variant}", language.name()), language, sources });
        }
    }
    Ok(suites)
}

/// The component of a conformance plugin.
fn build(project: &Project, suite: &Suite, out: &Path) -> Result<PathBuf> {
    let language = suite.language;
    let dir = out.join(&suite.name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    wasmill_author::create(language, "conformance", &dir)?;
    // Rust's builds share what they have in common.
    let shared = out.join("build").join(&suite.name);
    for mut test in language.unit_tests(&dir)? {
        test.env("CARGO_TARGET_DIR", shared.join("tests"));
        process::run(&mut test).context("the unit tests of a new project")?;
    }
    for sources in &suite.sources {
        copy(sources, &dir)?;
    }
    let manifest = project.root.join("plugins/sdk/conformance/manifest.json");
    std::fs::copy(&manifest, dir.join("manifest.json"))
        .with_context(|| format!("copy {}", manifest.display()))?;
    let component = out.join(format!("{}.wasm", suite.name));
    let work = if language == Language::Rust { project.wasm_dir() } else { shared };
    let options =
        BuildOptions { out: Some(component.clone()), work: Some(work), debug: false, install: true };
    let plugin = Plugin::open(&dir)?;
    let built = plugin.place(plugin.component(&options)?, &options)?;
    eprintln!("conformance: {} has {} KiB", component.display(), built.component.len().div_ceil(1024));
    Ok(component)
}

/// Copies what is in `from` over what is in `to`.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let entries = std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))?;
    for entry in entries {
        let path = entry?.path();
        let target = to.join(path.file_name().context("an entry without a name")?);
        if path.is_dir() {
            std::fs::create_dir_all(&target)?;
            copy(&path, &target)?;
        } else {
            std::fs::copy(&path, &target).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}
