//! What authors of plugins need: projects from templates, toolchains, components.
//!
//! A project is a directory with a `manifest.json` and the sources of one language; [`Project::component`] makes the
//! component that a host loads. Everything that a project needs besides its language's toolchain (the SDK, the WIT) is
//! part of this crate, so that a new project builds without this repository. It never runs a plugin.
//!
//! A language is a module here, a template and an SDK below `plugins/sdk/<language>`, and a variant of [`Language`].

#![expect(clippy::print_stderr, reason = "says what it installs and builds while it does")]

mod c;
pub mod component;
pub mod faces;
mod go;
mod javascript;
mod language;
pub mod process;
mod project;
mod python;
pub mod rust;
mod scaffold;
mod tools;

pub use c::freestanding_c;
pub use javascript::NpmPackages;
pub use language::{Language, Need};
pub use project::{BuildOptions, Built, Project};
pub use python::python_packages;
pub use scaffold::{NameError, check_name, create};
pub use tools::installed as installed_tool;

/// The plugin ABI, as toolchains read it.
pub const WIT: &str = include_str!("../../../wit/plugin.wit");
