//! The project of one plugin: a directory with a manifest and sources, and how it becomes a component.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::component;
use crate::language::Language;
use crate::scaffold::check_name;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Project {
    pub dir: PathBuf,
    /// The plugin's name, from the manifest.
    pub name: String,
    /// `manifest.json` with the schema that it names put in its place.
    pub manifest: String,
}

/// How to build.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Where the component goes [default: `dist/<name>.wasm` in the project].
    pub out: Option<PathBuf>,
    /// Where what toolchains build in between goes [default: a directory in the project].
    pub work: Option<PathBuf>,
    /// Keeps debug information: larger, but traps name file and line.
    pub debug: bool,
    /// Installs tools that are missing, where that needs no administrator, into a cache of the user's.
    pub install: bool,
}

/// What was built.
#[derive(Clone, Debug)]
pub struct Built {
    pub file: PathBuf,
    pub component: Vec<u8>,
    /// Whether the file changed.
    pub changed: bool,
}

impl Project {
    /// # Errors
    /// There is no such directory, or no manifest in it that has a name.
    pub fn open(dir: &Path) -> Result<Project> {
        let dir = std::path::absolute(dir).with_context(|| format!("find {}", dir.display()))?;
        if !dir.is_dir() {
            bail!("{} is no directory", dir.display());
        }
        if !dir.join("manifest.json").is_file() {
            bail!(
                "{} is no plugin project: it has no manifest.json. `wasmill plugin new` makes a project",
                dir.display()
            );
        }
        let manifest = component::read_manifest(&dir)?;
        let parsed: Value = serde_json::from_str(&manifest)?;
        let name = parsed["name"]
            .as_str()
            .with_context(|| format!("{}: no \"name\"", dir.join("manifest.json").display()))?;
        check_name(name).with_context(|| dir.join("manifest.json").display().to_string())?;
        Ok(Project { name: name.to_owned(), manifest, dir })
    }

    /// The language, told by the sources.
    ///
    /// # Errors
    /// There are none that are known here.
    pub fn language(&self) -> Result<Language> {
        Language::of(&self.dir).with_context(|| {
            let known: Vec<&str> = Language::ALL.into_iter().map(Language::name).collect();
            format!(
                "{}: no sources of a language that is known here ({})",
                self.dir.display(),
                known.join(", ")
            )
        })
    }

    /// Where toolchains work.
    pub(crate) fn work(&self, options: &BuildOptions) -> PathBuf {
        options.work.clone().unwrap_or_else(|| self.dir.join("build"))
    }

    /// Builds the component, with its manifest inside.
    ///
    /// # Errors
    /// A tool is missing or refuses the sources; its own output has been shown.
    pub fn component(&self, options: &BuildOptions) -> Result<Vec<u8>> {
        let wasm = self.language()?.build(self, options)?;
        component::assemble(&wasm, Some(&self.manifest))
            .with_context(|| format!("make a component of {}", self.name))
    }

    /// Puts the component in its place by renaming, so that nobody reads half of it.
    pub fn place(&self, component: Vec<u8>, options: &BuildOptions) -> Result<Built> {
        let file =
            options.out.clone().unwrap_or_else(|| self.dir.join("dist").join(format!("{}.wasm", self.name)));
        let changed = component::place(&file, &component)?;
        Ok(Built { file, component, changed })
    }
}
