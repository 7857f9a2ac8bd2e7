//! Rust: cargo with a compiler that knows Wasm; the SDK and the crate behind its unit tests go along with a project.

pub mod toolchain;
pub mod wasip1;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use include_dir::{Dir, include_dir};
use serde_json::Value;

use crate::language::{Need, Template};
use crate::project::{BuildOptions, Project};
use crate::scaffold::vendor;
use crate::{WIT, process};
use toolchain::{Toolchain, cargo};

static TEMPLATE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/rust/template");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/rust/src");
static CHUNK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../chunk/src");
const WORKSPACE: &str = include_str!("../../../../Cargo.toml");
const SDK_MANIFEST: &str = include_str!("../../../../plugins/sdk/rust/Cargo.toml");
const CHUNK_MANIFEST: &str = include_str!("../../../chunk/Cargo.toml");

pub(crate) fn needs() -> Vec<Need> {
    let found = process::output_of(cargo().arg("--version"));
    let wasm = Toolchain::present().map(|toolchain| toolchain.described());
    vec![
        Need { what: "cargo", found, how: "https://rustup.rs".to_owned(), installs: false },
        Need { what: "a Rust that builds Wasm", found: wasm, how: toolchain::how(), installs: true },
    ]
}

/// The SDK lies under `vendor/` as it does in its own repository, in a workspace of its own.
pub(crate) fn template() -> Template {
    let mut vendored = vec![
        ("vendor/Cargo.toml".to_owned(), workspace()),
        ("vendor/wit/plugin.wit".to_owned(), WIT.to_owned()),
        ("vendor/plugins/sdk/rust/Cargo.toml".to_owned(), SDK_MANIFEST.to_owned()),
        ("vendor/host/chunk/Cargo.toml".to_owned(), without_benches(CHUNK_MANIFEST)),
    ];
    vendor(&SDK, "vendor/plugins/sdk/rust/src", &mut vendored);
    vendor(&CHUNK, "vendor/host/chunk/src", &mut vendored);
    Template { files: &TEMPLATE, vendored }
}

/// The repository's workspace, with the two packages that go along.
fn workspace() -> String {
    let mut text =
        String::from("[workspace]\nresolver = \"3\"\nmembers = [\"host/chunk\", \"plugins/sdk/rust\"]\n");
    let manifests = [SDK_MANIFEST, CHUNK_MANIFEST];
    let used = |name: &str| {
        let lines = manifests.iter().flat_map(|manifest| manifest.lines());
        lines.filter_map(|line| line.split([' ', '.']).next()).any(|found| found == name)
    };
    let (mut keep, mut dependencies) = (false, false);
    for line in WORKSPACE.lines() {
        if line.starts_with('[') {
            keep = line.starts_with("[workspace.");
            dependencies = line == "[workspace.dependencies]";
        }
        let name = line.split(' ').next().unwrap_or_default();
        let unused = dependencies && line.contains('=') && !used(name);
        if keep && !unused && !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn without_benches(manifest: &str) -> String {
    manifest.split("[[bench]]").next().unwrap_or_default().to_owned()
}

pub(crate) fn build(project: &Project, options: &BuildOptions) -> Result<Vec<u8>> {
    let toolchain = if options.install { Toolchain::prepare()? } else { Toolchain::required()? };
    let package = Package::read(&project.dir)?;
    let wasm_dir = project.work(options);
    let mut command = toolchain.build_command(&wasm_dir);
    command.arg("--lib").current_dir(&project.dir);
    if options.debug {
        toolchain::with_debug(&mut command, &package.name);
    }
    process::run_tool(&mut command).context("build the plugin for Wasm")?;
    let built = wasm_dir.join(toolchain.target()).join("release").join(format!("{}.wasm", package.library));
    std::fs::read(&built).with_context(|| format!("read {}", built.display()))
}

/// What cargo says of a plugin's own package.
struct Package {
    name: String,
    /// File name, without extension, of the dynamic library that it builds.
    library: String,
}

impl Package {
    fn read(dir: &Path) -> Result<Package> {
        let output = cargo()
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .current_dir(dir)
            .output()
            .context("run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata: Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
        let is_here = |package: &&Value| {
            package["manifest_path"].as_str().is_some_and(|path| Path::new(path).parent() == Some(dir))
        };
        let package = metadata["packages"].as_array().and_then(|all| all.iter().find(is_here));
        let targets = package.and_then(|package| package["targets"].as_array());
        let is_cdylib = |target: &&Value| {
            target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"))
        };
        let found = targets.and_then(|targets| targets.iter().find(is_cdylib));
        let library = found.and_then(|target| target["name"].as_str()).with_context(|| {
            format!(
                "{} builds no cdylib: add crate-type = [\"cdylib\", \"rlib\"] to its [lib]",
                dir.display()
            )
        })?;
        let library = library.replace('-', "_");
        Ok(Package {
            name: package.and_then(|package| package["name"].as_str()).unwrap_or_default().to_owned(),
            library,
        })
    }
}

pub(crate) fn unit_tests(dir: &Path) -> Vec<Command> {
    let mut command = cargo();
    command.args(["test", "--quiet"]).current_dir(dir);
    vec![command]
}
