//! Tools that a language's projects are built with and that nobody has to install by hand: each lies in a directory of
//! its own in a cache of the user's, named by tool and pinned version.
//!
//! Refuses to leave half a tool behind: it is installed beside its place and renamed when it is whole.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Where a version of a tool is, or goes.
pub(crate) fn dir(tool: &str, version: &str) -> Result<PathBuf> {
    Ok(cache()?.join("wasmill").join("tools").join(format!("{tool}-{version}")))
}

/// `$XDG_CACHE_HOME`, or `~/.cache`.
fn cache() -> Result<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    match named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache"))) {
        Some(dir) => Ok(dir),
        None => bail!("neither XDG_CACHE_HOME nor HOME names a directory, so there is no place for tools"),
    }
}

/// The directory of a tool. `install` fills it if it is not there.
///
/// # Errors
/// There is no place for tools, or `install` failed, which leaves nothing behind.
pub fn installed(tool: &str, version: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let place = dir(tool, version)?;
    fill(&place, install).with_context(|| format!("install {tool} {version}"))?;
    Ok(place)
}

fn fill(place: &Path, install: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if place.is_dir() {
        return Ok(());
    }
    let name = place.file_name().context("a tool's directory has a name")?.to_string_lossy();
    // Two builds at once do not see each other's half.
    let staged = place.with_file_name(format!(".{name}.{}", std::process::id()));
    clear(&staged)?;
    std::fs::create_dir_all(&staged).with_context(|| format!("create {}", staged.display()))?;
    if let Err(error) = install(&staged) {
        clear(&staged)?;
        return Err(error);
    }
    match std::fs::rename(&staged, place) {
        Ok(()) => Ok(()),
        // Another build was faster.
        Err(_) if place.is_dir() => clear(&staged),
        Err(error) => Err(error).with_context(|| format!("rename to {}", place.display())),
    }
}

fn clear(dir: &Path) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_failed_leaves_nothing_and_filled_is_not_filled_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("tools").join("saw-1");
        let failed = fill(&place, |dir| {
            std::fs::write(dir.join("half"), "").unwrap();
            bail!("no network")
        });
        assert!(format!("{:#}", failed.unwrap_err()).contains("no network"));
        assert_eq!(std::fs::read_dir(dir.path().join("tools")).unwrap().count(), 0);
        fill(&place, |dir| Ok(std::fs::write(dir.join("whole"), "")?)).unwrap();
        fill(&place, |_| bail!("it is there already")).unwrap();
        assert!(place.join("whole").is_file());
    }
}
