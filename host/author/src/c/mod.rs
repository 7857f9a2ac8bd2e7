//! C and C++: one SDK, whose sources go along with a project; clang or zig makes the core module, and the metadata that
//! makes it a component is written here, so that a project needs nothing else.
//!
//! How a project's sources are compiled stands in its `compile_flags.txt`, which editors read too.

mod toolchain;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use include_dir::{Dir, include_dir};

use crate::language::{Need, Template};
use crate::project::{BuildOptions, Project};
use crate::scaffold::vendor;
use crate::{component, process};
use toolchain::Toolchain;

static C_TEMPLATE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/c/template");
static CPP_TEMPLATE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/cpp/template");
static INCLUDE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/c/include");
static CPP_INCLUDE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/cpp/include");
static SOURCES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/c/src");
static WASM: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/c/wasm");
static TEST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/c/test");

/// Where the SDK lies in a project.
const SDK: &str = "vendor/wasmill";
/// How the SDK itself is compiled; the project's own flags are not for it.
const SDK_FLAGS: [&str; 2] = ["-std=gnu11", "-Ivendor/wasmill/include"];
const LINK_FLAGS: [&str; 2] = ["-mexec-model=reactor", "-Wl,-z,stack-size=262144"];
/// The world of `wit/plugin.wit` that plugins are components of.
const WORLD: &str = "transformer";

/// A C compiler that makes objects for Wasm, as cargo's build scripts take one (`CC_…`); where it may, it is installed first.
pub fn freestanding_c(may_install: bool) -> Result<String> {
    let found = match may_install {
        true => Toolchain::prepare(Dialect::C)?,
        false => Toolchain::required(Dialect::C)?,
    };
    Ok(found.freestanding())
}

/// Which of the two a project's own sources are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    C,
    Cpp,
}

impl Dialect {
    fn ending(self) -> &'static str {
        match self {
            Dialect::C => "c",
            Dialect::Cpp => "cpp",
        }
    }

    /// Whether a project's sources are in it: `src/plugin.c` or `src/plugin.cpp`.
    pub(crate) fn is_of(self, dir: &Path) -> bool {
        dir.join("src/plugin").with_extension(self.ending()).is_file()
    }

    pub(crate) fn template(self) -> Template {
        let mut vendored = Vec::new();
        vendor(&INCLUDE, &format!("{SDK}/include"), &mut vendored);
        vendor(&SOURCES, &format!("{SDK}/src"), &mut vendored);
        vendor(&WASM, &format!("{SDK}/wasm"), &mut vendored);
        vendor(&TEST, &format!("{SDK}/test"), &mut vendored);
        match self {
            Dialect::C => Template { files: &C_TEMPLATE, vendored },
            Dialect::Cpp => {
                vendor(&CPP_INCLUDE, &format!("{SDK}/include"), &mut vendored);
                Template { files: &CPP_TEMPLATE, vendored }
            }
        }
    }

    pub(crate) fn needs(self) -> Vec<Need> {
        let found = Toolchain::present(self).map(|toolchain| toolchain.described());
        let what = match self {
            Dialect::C => "a C compiler that builds Wasm",
            Dialect::Cpp => "a C++ compiler that builds Wasm",
        };
        vec![Need { what, found, how: toolchain::how(), installs: true }]
    }

    pub(crate) fn build(self, project: &Project, options: &BuildOptions) -> Result<Vec<u8>> {
        let toolchain = if options.install { Toolchain::prepare(self)? } else { Toolchain::required(self)? };
        let work = project.work(options).join(if options.debug { "wasm-debug" } else { "wasm" });
        std::fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
        let own = flags(&project.dir)?;
        // The same code in both: what `plugin test` counts is what a host runs.
        let depth = ["-O2", if options.debug { "-g" } else { "-g0" }];
        let mut objects: Vec<PathBuf> = Vec::new();
        // What takes the place of parts of the C library comes first: zig names that library before all objects.
        for part in ["vendor/wasmill/wasm", "src", "vendor/wasmill/src"] {
            for file in sources(&project.dir, part)? {
                let object = work.join(format!("{}.o", file.replace('/', "-")));
                let mut command = toolchain.compiler(file.ends_with(".cpp"));
                command.args(depth).args(flags_of(self, part, &file, &own));
                command.args(["-c", &file, "-o"]).arg(&object).current_dir(&project.dir);
                process::run_tool(&mut command).with_context(|| format!("compile {file} for Wasm"))?;
                objects.push(object);
            }
        }
        let module = work.join("plugin.wasm");
        let mut command = toolchain.compiler(self == Dialect::Cpp);
        command
            .args(depth)
            .args(LINK_FLAGS)
            .args(toolchain.stack_first())
            .args(&objects)
            .arg("-o")
            .arg(&module)
            .current_dir(&project.dir);
        if !options.debug {
            command.arg("-Wl,--strip-all");
        }
        process::run_tool(&mut command).context("link the plugin")?;
        let module = std::fs::read(&module).with_context(|| format!("read {}", module.display()))?;
        component::with_metadata(module, WORLD)
    }

    /// `make test`, as the project's README says: for this machine, without Wasm.
    pub(crate) fn unit_tests(self, dir: &Path) -> Result<Vec<Command>> {
        let make = process::on_path("make")
            .context("there is no `make` on the path, which builds the unit tests")?;
        let mut command = Command::new(make);
        command.arg("test").arg(format!("CC={}", process::shown(&toolchain::native(false)?)));
        if self == Dialect::Cpp {
            command.arg(format!("CXX={}", process::shown(&toolchain::native(true)?)));
        }
        command.current_dir(dir);
        Ok(vec![command])
    }
}

/// The SDK has flags of its own, and so has C in a project of C++.
fn flags_of(dialect: Dialect, part: &str, file: &str, own: &[String]) -> Vec<String> {
    if part == "src" && file.ends_with(dialect.ending()) {
        return own.to_vec();
    }
    SDK_FLAGS.map(str::to_owned).to_vec()
}

/// The project's own flags, one a line.
fn flags(dir: &Path) -> Result<Vec<String>> {
    let file = dir.join("compile_flags.txt");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("read {}: how the project's sources are compiled", file.display()))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Sources in a directory of the project, sorted, as paths from the project's directory.
fn sources(dir: &Path, part: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let place = dir.join(part);
    let entries = std::fs::read_dir(&place).with_context(|| format!("read {}", place.display()))?;
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_str().with_context(|| format!("{}: a name that is no text", place.display()))?;
        if name.ends_with(".c") || name.ends_with(".cpp") {
            found.push(format!("{part}/{name}"));
        }
    }
    if found.is_empty() {
        bail!("{}: neither .c nor .cpp files", place.display());
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_projects_of_c_and_cpp_pass_their_own_tests() {
        for (dialect, language) in [(Dialect::C, crate::Language::C), (Dialect::Cpp, crate::Language::Cpp)] {
            let dir = tempfile::tempdir().unwrap();
            let project = dir.path().join("greet");
            crate::create(language, "greet", &project).unwrap();
            assert!(dialect.is_of(&project));
            for mut command in language.unit_tests(&project).unwrap() {
                process::run(&mut command).unwrap();
            }
        }
    }
}
