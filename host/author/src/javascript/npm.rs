//! The npm packages that projects are built with: pinned to the last dependency, in a cache of the user's, never in a
//! project. A project that has one in its own `node_modules` gets that one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, tools};

/// The oldest Node that the tools run on.
const NODE_MAJOR_MIN: u32 = 20;

/// A package with a program.
pub(super) struct Tool {
    /// Name of its directory in the cache.
    name: &'static str,
    version: &'static str,
    /// The program in `node_modules/.bin`.
    program: &'static str,
    manifest: &'static str,
    lock: &'static str,
    /// For the message that says what is fetched.
    megabytes: u32,
}

/// Makes one module of the author's, the SDK's and what else they import.
pub(super) const ESBUILD: Tool = Tool {
    name: "esbuild",
    version: "0.28.2",
    program: "esbuild",
    manifest: include_str!("tools/esbuild/package.json"),
    lock: include_str!("tools/esbuild/package-lock.json"),
    megabytes: 11,
};

/// Makes a component with StarlingMonkey of a module.
///
/// Its own dependencies leave open a version of preview2-shim that cannot read files on some Nodes, so that one is pinned.
pub(super) const STARLINGMONKEY: Tool = Tool {
    name: "componentize-js",
    version: "0.23.0",
    program: "componentize-js",
    manifest: include_str!("tools/starlingmonkey/package.json"),
    lock: include_str!("tools/starlingmonkey/package-lock.json"),
    megabytes: 385,
};

/// Makes a component with QuickJS of a module.
pub(super) const QUICKJS: Tool = Tool {
    name: "componentize-qjs",
    version: "0.4.5",
    program: "componentize-qjs",
    manifest: include_str!("tools/quickjs/package.json"),
    lock: include_str!("tools/quickjs/package-lock.json"),
    megabytes: 38,
};

/// Checks types.
pub(super) const TYPESCRIPT: Tool = Tool {
    name: "typescript",
    version: "5.9.3",
    program: "tsc",
    manifest: include_str!("tools/typescript/package.json"),
    lock: include_str!("tools/typescript/package-lock.json"),
    megabytes: 24,
};

impl Tool {
    /// The program, of the project or of the cache. With `install` it is fetched if it is nowhere.
    pub(super) fn command(&self, project: &Path, install: bool) -> Result<Command> {
        if let Some(program) = self.present(Some(project))? {
            return Ok(Command::new(program));
        }
        if !install {
            bail!("{} {} is not installed; {}", self.program, self.version, self.how());
        }
        let dir = tools::installed(self.name, self.version, |dir| self.install(dir))?;
        Ok(Command::new(dir.join("node_modules/.bin").join(self.program)))
    }

    /// Where the program is.
    pub(super) fn present(&self, project: Option<&Path>) -> Result<Option<PathBuf>> {
        let cache = tools::dir(self.name, self.version)?;
        let places = project.into_iter().chain([cache.as_path()]);
        Ok(places.map(|dir| dir.join("node_modules/.bin").join(self.program)).find(|file| file.is_file()))
    }

    pub(super) fn how(&self) -> String {
        format!(
            "`wasmill plugin build --install` fetches it from npm into {} ({} MB)",
            tools::dir(self.name, self.version)
                .map_or_else(|_| "a cache".to_owned(), |dir| dir.display().to_string()),
            self.megabytes
        )
    }

    fn install(&self, dir: &Path) -> Result<()> {
        node()?;
        eprintln!(
            "plugins: fetching {} {} from npm ({} MB, once)",
            self.program, self.version, self.megabytes
        );
        fetch(dir, self.manifest, self.lock)
    }
}

/// Packages without a program of their own, pinned by their lock: for those who test with what others wrote.
#[derive(Clone, Copy, Debug)]
pub struct NpmPackages {
    /// Tells them from others.
    pub name: &'static str,
    /// `package.json` and `package-lock.json`.
    pub manifest: &'static str,
    pub lock: &'static str,
    /// For the message that says what is fetched.
    pub size: &'static str,
}

impl NpmPackages {
    /// The directory with them, for `NODE_PATH`, installed if it is not there.
    ///
    /// # Errors
    /// There is no Node, or they cannot be fetched.
    pub fn installed(&self) -> Result<PathBuf> {
        let mut hash = DefaultHasher::new();
        self.lock.hash(&mut hash);
        let dir = tools::installed(self.name, &format!("{:016x}", hash.finish()), |dir| {
            node()?;
            eprintln!("fetching {} from npm, {}", self.name, self.size);
            fetch(dir, self.manifest, self.lock)
        })?;
        Ok(dir.join("node_modules"))
    }
}

/// What a lock says, and nothing else.
fn fetch(dir: &Path, manifest: &str, lock: &str) -> Result<()> {
    for (file, text) in [("package.json", manifest), ("package-lock.json", lock)] {
        std::fs::write(dir.join(file), text)
            .with_context(|| format!("write {}", dir.join(file).display()))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    process::run_tool(npm.current_dir(dir))
}

/// The version of the Node on the path.
///
/// # Errors
/// There is none, or it is too old.
pub(super) fn node() -> Result<String> {
    let found = process::output_of(Command::new("node").arg("--version"));
    let version = found.with_context(|| format!("there is no `node` on the path; {}", how_to_get_node()))?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE_MAJOR_MIN) {
        bail!("node is {version}, which is too old; {}", how_to_get_node());
    }
    Ok(version)
}

pub(super) fn how_to_get_node() -> String {
    format!("Node {NODE_MAJOR_MIN} or newer with npm: https://nodejs.org, or your system's package nodejs")
}
