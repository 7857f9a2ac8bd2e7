//! The access-log job as a person would do it in a shell: `mawk SCRIPT FILE | zstd -3`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::child::{self, Used};
use crate::scene::{Input, Scene};

const SCRIPT: &str = include_str!("job.awk");

/// The pipeline, ready to run.
pub(crate) struct Unix {
    script: PathBuf,
    pub(crate) output: PathBuf,
}

impl Unix {
    pub(crate) fn prepare(scene: &Scene) -> Result<Unix> {
        let script = scene.dir.join("job.awk");
        std::fs::write(&script, SCRIPT)?;
        Ok(Unix { script, output: scene.dir.join("unix.zst") })
    }

    /// Both programs together.
    pub(crate) fn run(&self, input: &Input) -> Result<Used> {
        let started = Instant::now();
        let mut mawk = Command::new("mawk");
        mawk.arg("-f").arg(&self.script).arg(&input.path).stdout(Stdio::piped());
        let mut mawk = mawk.spawn().context("start mawk")?;
        let lines = mawk.stdout.take().context("mawk has no output")?;
        let mut zstd = Command::new("zstd");
        zstd.args(["-q", "-3", "-c"]).stdin(lines).stdout(File::create(&self.output)?);
        let mut zstd = zstd.spawn().context("start zstd")?;
        let (first, first_status) = child::wait(&mut mawk, started)?;
        let (second, second_status) = child::wait(&mut zstd, started)?;
        ensure!(
            first_status.success() && second_status.success(),
            "mawk: {first_status}, zstd: {second_status}"
        );
        Ok(Used {
            cpu_s: first.cpu_s + second.cpu_s,
            wall_s: second.wall_s,
            rss_bytes_peak: first.rss_bytes_peak + second.rss_bytes_peak,
        })
    }
}

/// Size of what a program reads from `text`, as one stream of `zstd -3`.
pub(crate) fn one_stream(text: &Path, compressed: &Path) -> Result<u64> {
    let mut zstd = Command::new("zstd");
    zstd.args(["-q", "-3", "-c"]).arg(text).stdout(File::create(compressed)?);
    child::run(&mut zstd)?;
    Ok(std::fs::metadata(compressed)?.len())
}

/// Decompresses into `text`.
pub(crate) fn decompress(compressed: &[PathBuf], text: &Path) -> Result<()> {
    let mut out = File::create(text)?;
    for file in compressed {
        let mut zstd = Command::new("zstd");
        zstd.args(["-q", "-d", "-c"]).arg(file).stdout(Stdio::piped());
        let mut zstd = zstd.spawn().context("start zstd")?;
        let mut lines = zstd.stdout.take().context("zstd has no output")?;
        std::io::copy(&mut lines, &mut out)?;
        let status = zstd.wait()?;
        ensure!(status.success(), "zstd -d {} failed ({status})", file.display());
    }
    Ok(())
}
