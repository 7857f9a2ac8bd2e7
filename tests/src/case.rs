//! The case folders of first-party plugins (`plugins/*/cases/*`), run through a chain on the host.
//!
//! What is expected is never written from here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use wasmill_cases::{Case, Way};
use wasmill_transform::{Engine, Limits, Plugin};

/// The directories of all first-party plugins: those below `plugins/` that have a manifest.
pub fn plugins() -> Result<Vec<PathBuf>> {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let mut found = directories(&plugins)?;
    found.retain(|directory| directory.join("manifest.json").is_file());
    Ok(found)
}

/// The directories in `parent`, sorted; none if there is no `parent`.
pub fn directories(parent: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if parent.is_dir() {
        for entry in std::fs::read_dir(parent).with_context(|| format!("list {}", parent.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The last part of a path, as text.
pub fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Runs one case in every way; all must give what is expected.
pub fn check(engine: &Engine, plugin: &Arc<Plugin>, folder: &Path) -> Result<()> {
    let case = Case::read(folder)?;
    for way in Way::ALL {
        let ran = wasmill_cases::run(engine, plugin, &case, way, Limits::default())?;
        case.compare(&ran.got).with_context(|| way.name())?;
    }
    Ok(())
}
