//! The languages, and the one match per question that a new one extends.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use include_dir::Dir;

use crate::c::Dialect;
use crate::project::{BuildOptions, Project};
use crate::{go, javascript, python, rust};

/// A language that plugins are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Rust,
    Go,
    Python,
    JavaScript,
    TypeScript,
    C,
    Cpp,
}

/// A program that a language's projects need.
#[derive(Clone, Debug)]
pub struct Need {
    pub what: &'static str,
    /// What was found, such as a version or a path.
    pub found: Option<String>,
    /// What a person can do to get it.
    pub how: String,
    /// Whether a build that may install things gets it by itself.
    pub installs: bool,
}

/// Files that go into every new project: where, and what.
pub(crate) struct Template {
    /// Files whose names end with `.in` lose that ending.
    pub(crate) files: &'static Dir<'static>,
    /// What the project gets along under `vendor/`: path and text.
    pub(crate) vendored: Vec<(String, String)>,
}

impl Language {
    pub const ALL: [Language; 7] = [
        Language::Rust,
        Language::Go,
        Language::Python,
        Language::JavaScript,
        Language::TypeScript,
        Language::C,
        Language::Cpp,
    ];

    /// As `--lang` takes it, and as its directory below `plugins/sdk` is called.
    pub fn name(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::Go => "go",
            Language::Python => "python",
            Language::JavaScript => "javascript",
            Language::TypeScript => "typescript",
            Language::C => "c",
            Language::Cpp => "cpp",
        }
    }

    /// # Errors
    /// There is no such language; the message lists those there are.
    pub fn parse(name: &str) -> Result<Language> {
        let lower = name.to_ascii_lowercase();
        match Language::ALL.into_iter().find(|language| language.name() == lower) {
            Some(language) => Ok(language),
            None => {
                let known: Vec<&str> = Language::ALL.into_iter().map(Language::name).collect();
                bail!("no language is called {name:?}; there are {}", known.join(", "))
            }
        }
    }

    /// The language of the project in `dir`, told by the files there.
    pub(crate) fn of(dir: &Path) -> Option<Language> {
        Language::ALL.into_iter().find(|language| match language {
            Language::Rust => dir.join("Cargo.toml").is_file(),
            Language::Go => dir.join("go.mod").is_file(),
            Language::Python => dir.join("plugin.py").is_file(),
            Language::JavaScript => {
                dir.join("package.json").is_file() && !dir.join("tsconfig.json").is_file()
            }
            Language::TypeScript => dir.join("package.json").is_file() && dir.join("tsconfig.json").is_file(),
            Language::C => Dialect::C.is_of(dir),
            Language::Cpp => Dialect::Cpp.is_of(dir),
        })
    }

    /// What must be installed to build projects of this language, and whether it is. Installs nothing.
    pub fn needs(self) -> Vec<Need> {
        match self {
            Language::Rust => rust::needs(),
            Language::Go => go::needs(),
            Language::Python => python::needs(),
            Language::JavaScript => javascript::needs(),
            Language::TypeScript => javascript::typescript_needs(),
            Language::C => Dialect::C.needs(),
            Language::Cpp => Dialect::Cpp.needs(),
        }
    }

    pub(crate) fn template(self) -> Template {
        match self {
            Language::Rust => rust::template(),
            Language::Go => go::template(),
            Language::Python => python::template(),
            Language::JavaScript => javascript::template(),
            Language::TypeScript => javascript::typescript_template(),
            Language::C => Dialect::C.template(),
            Language::Cpp => Dialect::Cpp.template(),
        }
    }

    /// A core module with component metadata, or a component.
    pub(crate) fn build(self, project: &Project, options: &BuildOptions) -> Result<Vec<u8>> {
        match self {
            Language::Rust => rust::build(project, options),
            Language::Go => go::build(project, options),
            Language::Python => python::build(project, options),
            Language::JavaScript => javascript::build(project, options),
            Language::TypeScript => javascript::build_typescript(project, options),
            Language::C => Dialect::C.build(project, options),
            Language::Cpp => Dialect::Cpp.build(project, options),
        }
    }

    /// What runs the project's own unit tests, one after the other.
    pub fn unit_tests(self, dir: &Path) -> Result<Vec<Command>> {
        match self {
            Language::Rust => Ok(rust::unit_tests(dir)),
            Language::Go => Ok(go::unit_tests(dir)),
            Language::Python => python::unit_tests(dir),
            Language::JavaScript => Ok(javascript::unit_tests(dir)),
            Language::TypeScript => Ok(javascript::typescript_unit_tests(dir)),
            Language::C => Dialect::C.unit_tests(dir),
            Language::Cpp => Dialect::Cpp.unit_tests(dir),
        }
    }
}
