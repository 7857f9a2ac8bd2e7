//! Where things are: the checkout, cargo's target directory, and which packages the workspace has.
//!
//! Everything comes from `cargo metadata`, so that `CARGO_TARGET_DIR` and cargo's own configuration are
//! honoured. It writes nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use wasmill_author::rust::toolchain::cargo;

/// A checkout of the project and its target directory.
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    /// File name (without extension) of the dynamic library that the package builds, if it builds one.
    pub(crate) cdylib: Option<String>,
    /// Names of the examples that are dynamic libraries.
    pub(crate) examples: Vec<String>,
    pub(crate) programs: Vec<String>,
    /// Needs a C compiler for Wasm (`package.metadata.wasmill.c`).
    pub(crate) has_c: bool,
}

impl Project {
    /// The checkout that this program was built from.
    pub(crate) fn find() -> Result<Project> {
        let manifest_dir =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest_dir).parent().context("xtask has no parent directory")?.to_path_buf();
        let (target, packages) = metadata(&root)?;
        Ok(Project { root, target, packages })
    }

    /// Where `cargo xtask plugins` puts the components, and where the tests look for them.
    pub(crate) fn plugin_dir(&self) -> PathBuf {
        self.target.join("plugins")
    }

    /// Where the components that only the tests use go.
    pub(crate) fn guest_dir(&self) -> PathBuf {
        self.target.join("guests")
    }

    /// Cargo's target directory for everything that is built to Wasm.
    pub(crate) fn wasm_dir(&self) -> PathBuf {
        self.target.join("wasm")
    }

    /// The member of the workspace whose manifest lies in `dir`.
    pub(crate) fn package_in(&self, dir: &Path) -> Option<&Package> {
        self.packages.iter().find(|package| package.dir == dir)
    }
}

/// The package that lies in `dir`, in whatever workspace it belongs to.
pub(crate) fn package_outside(dir: &Path) -> Result<Package> {
    let (_, packages) = metadata(dir)?;
    packages
        .into_iter()
        .find(|package| package.dir == dir)
        .with_context(|| format!("{} holds no package", dir.display()))
}

fn metadata(dir: &Path) -> Result<(PathBuf, Vec<Package>)> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(dir)
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    Ok((PathBuf::from(target), packages.iter().filter_map(package).collect()))
}

fn package(value: &Value) -> Option<Package> {
    let name = value["name"].as_str()?.to_owned();
    let dir = Path::new(value["manifest_path"].as_str()?).parent()?.to_path_buf();
    let is = |target: &Value, list: &str, wanted: &str| {
        target[list].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == wanted))
    };
    let targets = value["targets"].as_array()?;
    let named = |wanted: &dyn Fn(&Value) -> bool| -> Vec<String> {
        let found = targets.iter().filter(|target| wanted(target));
        found.filter_map(|target| target["name"].as_str()).map(str::to_owned).collect()
    };
    let cdylib = named(&|target| is(target, "kind", "cdylib"));
    let cdylib = cdylib.first().map(|name| name.replace('-', "_"));
    let examples = named(&|target| is(target, "kind", "example") && is(target, "crate_types", "cdylib"));
    let programs = named(&|target| is(target, "kind", "bin"));
    let has_c = value["metadata"]["wasmill"]["c"] == true;
    Some(Package { name, dir, cdylib, examples, programs, has_c })
}
