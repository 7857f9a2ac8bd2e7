//! Which configuration a command is about: `--config FILE`, as all take it, or a word in its place.

use std::path::{Path, PathBuf};

/// What is meant where nobody says it.
pub(super) const DEFAULT: &str = "wasmill.toml";

#[derive(Debug, clap::Args)]
pub(super) struct ConfigFile {
    /// The configuration (TOML) [default: wasmill.toml]
    #[arg(value_name = "CONFIG", conflicts_with = "config")]
    word: Option<PathBuf>,
    /// The same, as other commands take it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    pub(super) fn path(&self) -> &Path {
        self.word.as_deref().or(self.config.as_deref()).unwrap_or_else(|| Path::new(DEFAULT))
    }
}
