//! Go: the ordinary toolchain. Its SDK goes along with a project; nothing else is needed to build.

mod module;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use include_dir::{Dir, include_dir};
use serde_json::Value;

use crate::language::{Need, Template};
use crate::process;
use crate::project::{BuildOptions, Project};
use crate::scaffold::vendor;

static TEMPLATE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/go/template");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/go/sdk");

/// The first that exports functions of Wasm modules: see `go.mod` of the SDK.
const OLDEST: (u32, u32) = (1, 24);

/// What an operator grants unless told otherwise.
const MEMORY_BYTES: u64 = 64 << 20;

fn how() -> String {
    format!(
        "Go {}.{} or newer: https://go.dev/dl, or on Debian as root apt-get install --no-install-recommends golang-go \
         (of a release that has it)",
        OLDEST.0, OLDEST.1
    )
}

/// Toolchains that Go would fetch by itself are not asked for: what is there must do.
fn go() -> Command {
    let mut command = Command::new("go");
    command.env("GOTOOLCHAIN", "local");
    command
}

/// Such as `go1.26.8`.
fn version() -> Option<String> {
    process::output_of(go().args(["env", "GOVERSION"]))
}

fn new_enough(version: &str) -> bool {
    let digits = |text: &str| -> Option<u32> {
        text.split(|c: char| !c.is_ascii_digit()).next().and_then(|number| number.parse().ok())
    };
    let mut parts = version.trim_start_matches("go").split('.');
    match (parts.next().and_then(digits), parts.next().and_then(digits)) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST,
        // Built from source: as new as it gets.
        _ => version.starts_with("devel"),
    }
}

pub(crate) fn needs() -> Vec<Need> {
    vec![Need {
        what: "go",
        found: version().filter(|version| new_enough(version)),
        how: how(),
        installs: false,
    }]
}

/// The SDK is a module of its own beside the project's, which `replace` in `go.mod` points to. It is not called
/// `vendor`, because Go gives that name another meaning.
pub(crate) fn template() -> Template {
    let mut vendored = Vec::new();
    vendor(&SDK, "vendor-sdk", &mut vendored);
    vendored.retain(|(path, _)| !path.ends_with("_test.go"));
    Template { files: &TEMPLATE, vendored }
}

pub(crate) fn build(project: &Project, options: &BuildOptions) -> Result<Vec<u8>> {
    match version() {
        None => {
            bail!("`go` was not found on the path, and it cannot be installed from here. Needed is {}", how())
        }
        Some(version) if !new_enough(&version) => {
            bail!("{version} is too old for Wasm modules that export functions. Needed is {}", how())
        }
        Some(_) => {}
    }
    let work = project.work(options);
    std::fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let core = work.join("core.wasm");
    let mut command = go();
    command.args(["build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false"]);
    // Without debug information, which what is added below would shift. Go's own stacks name file and line without it;
    // the names of functions are for the host's backtraces.
    let names = if options.debug { "" } else { " -s" };
    let memory = memory_bytes(&project.manifest);
    command.arg(format!("-ldflags=-w{names} -X wasmill.dev/sdk/internal/guest.memoryLimit={memory}"));
    command
        .arg("-o")
        .arg(&core)
        .arg(".")
        .current_dir(&project.dir)
        .env("GOOS", "wasip1")
        .env("GOARCH", "wasm");
    process::run_tool(&mut command).context("build the plugin for Wasm")?;
    let wasm = std::fs::read(&core).with_context(|| format!("read {}", core.display()))?;
    module::complete(&wasm).context("prepare what the Go linker wrote")
}

/// What the manifest asks for, or what a plugin gets that asks for nothing.
fn memory_bytes(manifest: &str) -> u64 {
    let manifest: Value = serde_json::from_str(manifest).unwrap_or_default();
    manifest["limits"]["memory_bytes"].as_u64().unwrap_or(MEMORY_BYTES)
}

pub(crate) fn unit_tests(dir: &Path) -> Vec<Command> {
    let mut command = go();
    command.args(["test", "."]).current_dir(dir);
    vec![command]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sdk_passes_its_own_tests_and_new_projects_theirs() {
        if !version().is_some_and(|version| new_enough(&version)) {
            return eprintln!("skipped: there is no {}", how());
        }
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/sdk/go/sdk");
        process::run(go().args(["test", "./..."]).current_dir(&sdk)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("greet");
        crate::create(crate::Language::Go, "greet", &project).unwrap();
        for mut tests in unit_tests(&project) {
            process::run(&mut tests).unwrap();
        }
        process::run(go().args(["vet", "."]).current_dir(&project)).unwrap();
    }

    #[test]
    fn versions_that_cannot_export_functions_are_too_old() {
        for (version, enough) in
            [("go1.24", true), ("go1.26.8", true), ("go2.0", true), ("go1.25rc1", true), ("devel +abc", true)]
        {
            assert_eq!(new_enough(version), enough, "{version}");
        }
        for version in ["go1.23.9", "go1.4", "", "nonsense"] {
            assert!(!new_enough(version), "{version}");
        }
    }
}
