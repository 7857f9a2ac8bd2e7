//! Data sets that tests have published figures of, out of packages of Debian: the package is unpacked and not installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use wasmill_author::{installed_tool, process};

/// The package, and the file in it: Statlog (Shuttle) of the UCI repository, as R's mlbench has it.
const SHUTTLE: (&str, &str) = ("r-cran-mlbench", "usr/lib/R/site-library/mlbench/data/Shuttle.rda");

/// The file of Shuttle, fetched if it is not there.
pub(crate) fn shuttle() -> Result<PathBuf> {
    let (package, file) = SHUTTLE;
    let dir = installed_tool("shuttle", package, |dir| {
        for tool in ["apt-get", "dpkg-deb"] {
            if process::on_path(tool).is_none() {
                bail!("there is no {tool} on PATH; Shuttle comes from Debian's package {package}");
            }
        }
        eprintln!("fetching Shuttle from Debian's package {package}, about 1 MB");
        if download(package, dir).is_err() {
            // The lists may be missing, or older than what is there.
            process::run_tool(Command::new("apt-get").args(["update", "-qq"]))?;
            download(package, dir)?;
        }
        let archive = archive(dir)?;
        process::run_tool(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(dir))?;
        if !dir.join(file).is_file() {
            bail!("Debian's package {package} has no {file} any more");
        }
        std::fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))
    })?;
    Ok(dir.join(file))
}

fn download(package: &str, dir: &Path) -> Result<()> {
    // Its own user cannot write here.
    let mut apt = Command::new("apt-get");
    apt.args(["download", "-qq", "-o", "APT::Sandbox::User=root", package]).current_dir(dir);
    process::run_tool(&mut apt)
}

fn archive(dir: &Path) -> Result<PathBuf> {
    let files = dir.read_dir().with_context(|| format!("read {}", dir.display()))?;
    let mut files = files.filter_map(|file| Some(file.ok()?.path()));
    let found = files.find(|file| file.extension().is_some_and(|extension| extension == "deb"));
    found.context("apt-get download has left no package")
}
