//! Test guests that are no components: what `tests/guests` holds for the doors, built as their own systems would.
//!
//! A directory there that is a workspace of its own, with examples that are dynamic libraries (each a module for
//! `wasm32-unknown-unknown`) or programs (each one for WASI preview 1). What comes of it goes into the directory of the
//! guests unchanged, under the name of the example or program. `tests/guests/conformance/doors` has a folder for each that
//! is the conformance plugin of a door: `conformance-<folder>`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wasmill_author::component;
use wasmill_author::process;
use wasmill_author::rust::toolchain::Toolchain;
use wasmill_author::rust::wasip1::{self, Wasip1};

use crate::plugins::directories;
use crate::project::{self, Project};

/// Builds all of them; a line for each.
pub(crate) fn build(project: &Project, toolchain: &Toolchain) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let wasm_dir = project.wasm_dir();
    for dir in directories(&project.root.join("tests/guests"))? {
        if project.package_in(&dir).is_some() || !dir.join("Cargo.toml").is_file() {
            continue;
        }
        let package = project::package_outside(&dir)?;
        if !package.examples.is_empty() {
            let mut command = toolchain.build_command(&wasm_dir);
            command.args(["--locked", "--examples"]).current_dir(&dir);
            process::run(&mut command).with_context(|| format!("build {}", package.name))?;
            let built = wasm_dir.join(toolchain.target()).join("release/examples");
            for name in &package.examples {
                let file = built.join(format!("{}.wasm", name.replace('-', "_")));
                lines.push(install(project, name, &file)?);
            }
        }
        if !package.programs.is_empty() {
            let mut command = Wasip1::prepare()?.build_command(&wasm_dir);
            command.args(["--locked", "--bins"]).current_dir(&dir);
            process::run(&mut command).with_context(|| format!("build {}", package.name))?;
            let built = wasm_dir.join(wasip1::TARGET).join("release");
            for name in &package.programs {
                lines.push(install(project, name, &built.join(format!("{name}.wasm")))?);
            }
        }
    }
    Ok(lines)
}

/// A conformance plugin behind a door.
pub(crate) struct Column {
    pub(crate) name: String,
    /// What differs there from the cases of the languages.
    pub(crate) dir: PathBuf,
}

impl Column {
    pub(crate) fn all(project: &Project) -> Result<Vec<Column>> {
        let named = |dir: PathBuf| {
            let name = dir.file_name().context("a folder without a name")?.to_string_lossy().into_owned();
            Ok(Column { name, dir })
        };
        directories(&project.root.join("tests/guests/conformance/doors"))?.into_iter().map(named).collect()
    }

    /// Where [`build`] puts it.
    pub(crate) fn module(&self, project: &Project) -> PathBuf {
        project.guest_dir().join(format!("conformance-{}.wasm", self.name))
    }
}

fn install(project: &Project, name: &str, built: &Path) -> Result<String> {
    let wasm = std::fs::read(built).with_context(|| format!("read {}", built.display()))?;
    let note = if component::place(&project.guest_dir().join(format!("{name}.wasm")), &wasm)? {
        "written"
    } else {
        "unchanged"
    };
    let (size, digest) = (wasm.len().div_ceil(1024), component::digest(&wasm));
    Ok(format!("{name:<30} {size:>6} KiB  sha256:{digest}  {note}"))
}
