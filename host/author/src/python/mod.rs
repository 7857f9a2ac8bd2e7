//! Python: componentize-py puts the interpreter and the plugin's modules into one component; pip installs it.
//!
//! What the component imports is what was imported while it was built, from the project, its `vendor/` and Python's own
//! library, never from packages that happen to be installed here.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use include_dir::{Dir, include_dir};

use crate::language::{Need, Template};
use crate::project::{BuildOptions, Project};
use crate::scaffold::vendor;
use crate::{WIT, process, tools};

static TEMPLATE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/python/template");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/python/wasmill");

const TOOL: &str = "componentize-py";
/// The newest that was tried.
const VERSION: &str = "0.25.1";
/// The module that componentize-py starts from.
const ENTRY: &str = "wasmill_entry";
const ENTRY_SOURCE: &str = "import plugin\nfrom wasmill.guest import Transform\n";
/// The oldest Python that the SDK and its tests run on; in a component it is componentize-py's own.
const PYTHON_MIN: &str = "3.10";

pub(crate) fn needs() -> Vec<Need> {
    let python = python().and_then(|python| process::output_of(Command::new(python).arg("--version")));
    let tool = Componentize::present().map(|tool| tool.described());
    vec![
        Need {
            what: "Python",
            found: python,
            how: format!("https://www.python.org, {PYTHON_MIN} or newer, with pip"),
            installs: false,
        },
        Need { what: TOOL, found: tool, how: how(), installs: true },
    ]
}

fn how() -> String {
    format!("`pip install {TOOL}=={VERSION}`, or `wasmill plugin build --install`")
}

pub(crate) fn template() -> Template {
    let mut vendored = Vec::new();
    vendor(&SDK, "vendor/wasmill", &mut vendored);
    Template { files: &TEMPLATE, vendored }
}

/// The interpreter for tests and pip.
fn python() -> Option<PathBuf> {
    ["python3", "python"].into_iter().find_map(process::on_path)
}

/// The directory with these packages, each `NAME==VERSION`, for `PYTHONPATH`: for those who test what others read with
/// them. Nothing that they depend on comes along. `name` tells them from others; `size` is said while they are installed.
pub fn python_packages(name: &str, packages: &[String], size: &str) -> Result<PathBuf> {
    // All of them would be too long for a file's name.
    let mut hash = DefaultHasher::new();
    packages.hash(&mut hash);
    installed(name, &format!("{:016x}", hash.finish()), packages, size)
}

/// The directory of a tool that is made of packages, installed if it is not there.
fn installed(tool: &str, version: &str, packages: &[String], size: &str) -> Result<PathBuf> {
    tools::installed(tool, version, |dir| {
        let Some(python) = python() else {
            bail!("there is no python3 on PATH; {tool} needs Python {PYTHON_MIN} or newer with pip");
        };
        eprintln!("installing {} from PyPI, {size}", packages.join(" "));
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]);
        pip.args(["--root-user-action=ignore", "--target"]).arg(dir).args(packages);
        process::run_tool(&mut pip)
    })
}

/// componentize-py, and where its package is if Python would not find it by itself.
struct Componentize {
    program: PathBuf,
    package: Option<PathBuf>,
}

impl Componentize {
    fn present() -> Option<Componentize> {
        match process::on_path(TOOL) {
            Some(program) => Some(Componentize { program, package: None }),
            None => Some(Componentize::in_dir(tools::dir(TOOL, VERSION).ok()?))
                .filter(|tool| tool.program.is_file()),
        }
    }

    fn in_dir(dir: PathBuf) -> Componentize {
        Componentize { program: dir.join("bin").join(TOOL), package: Some(dir) }
    }

    fn required() -> Result<Componentize> {
        match Componentize::present() {
            Some(tool) => Ok(tool),
            None => bail!("{TOOL} is missing. {} gets it", how()),
        }
    }

    fn prepare() -> Result<Componentize> {
        if let Some(tool) = Componentize::present() {
            return Ok(tool);
        }
        let packages = [format!("{TOOL}=={VERSION}")];
        Ok(Componentize::in_dir(installed(TOOL, VERSION, &packages, "about 50 MB")?))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_remove("PYTHONHOME").env_remove("PYTHONPATH");
        if let Some(package) = &self.package {
            command.env("PYTHONPATH", package);
        }
        command
    }

    fn described(&self) -> String {
        let version = process::output_of(self.command().arg("--version"));
        format!("{} ({})", self.program.display(), version.as_deref().unwrap_or("does not say its version"))
    }
}

pub(crate) fn build(project: &Project, options: &BuildOptions) -> Result<Vec<u8>> {
    let tool = if options.install { Componentize::prepare()? } else { Componentize::required()? };
    let work = project.work(options);
    let (wit, entry, nothing) = (work.join("wit"), work.join("entry"), work.join("environment"));
    for dir in [&wit, &entry, &nothing.join("lib").join("site-packages")] {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    for (file, text) in [(wit.join("plugin.wit"), WIT), (entry.join(format!("{ENTRY}.py")), ENTRY_SOURCE)] {
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    }
    let built = work.join("plugin.wasm");
    let mut command = tool.command();
    // An empty environment, or it would search the one that this machine's Python has.
    command.env("VIRTUAL_ENV", &nothing).current_dir(&project.dir);
    command.arg("--wit-path").arg(&wit).args(["--world", "transformer", "--quiet", "componentize"]);
    for path in [&entry, &project.dir, &project.dir.join("vendor")] {
        command.arg("--python-path").arg(path);
    }
    command.arg(ENTRY).arg("--output").arg(&built);
    process::run_tool(&mut command).context("build the plugin for Wasm")?;
    std::fs::read(&built).with_context(|| format!("read {}", built.display()))
}

/// pytest where it is, else what Python has itself: the tests of the template run with both.
pub(crate) fn unit_tests(dir: &Path) -> Result<Vec<Command>> {
    let Some(python) = python() else {
        bail!("there is no python3 on PATH, which runs the unit tests");
    };
    let pytest = process::output_of(Command::new(&python).args(["-c", "import pytest"])).is_some();
    let mut command = Command::new(python);
    match pytest {
        true => command.args(["-m", "pytest", "--quiet"]),
        false => command.args(["-m", "unittest", "--quiet"]),
    };
    command.env("PYTHONPATH", "vendor").current_dir(dir);
    Ok(vec![command])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sdk_passes_its_own_tests_and_new_projects_theirs() {
        let Some(python) = python() else { return eprintln!("skipped: there is no python3 on PATH") };
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/sdk/python");
        let mut own = Command::new(&python);
        own.args(["-m", "unittest", "discover", "--quiet", "-s", "tests"]).current_dir(&sdk);
        own.env("PYTHONPATH", ".").env("PYTHONDONTWRITEBYTECODE", "1");
        process::run(&mut own).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("p");
        crate::create(crate::Language::Python, "my-plugin", &project).unwrap();
        for mut tests in unit_tests(&project).unwrap() {
            process::run(&mut tests).unwrap();
        }
        // Also where there is no pytest.
        let mut plain = Command::new(&python);
        plain.args(["-m", "unittest", "--quiet"]).env("PYTHONPATH", "vendor").current_dir(&project);
        process::run(&mut plain).unwrap();
    }
}
