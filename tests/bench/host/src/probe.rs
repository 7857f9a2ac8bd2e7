//! What the disk itself takes: serial appends, each followed by `fdatasync`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

/// A file that probes append to.
pub(crate) struct Probe {
    path: PathBuf,
    file: File,
    block: Vec<u8>,
    appends: usize,
}

impl Probe {
    /// One probe is `appends` appends of `bytes` bytes in `dir`.
    pub(crate) fn open(dir: &Path, bytes: usize, appends: usize) -> Result<Probe> {
        let path = dir.join("probe");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("create {}", path.display()))?;
        let block = (0..bytes).map(|index| (index * 31 % 251) as u8).collect();
        Ok(Probe { path, file, block, appends })
    }

    /// Seconds of one probe.
    pub(crate) fn run(&mut self) -> Result<f64> {
        let started = Instant::now();
        for _ in 0..self.appends {
            self.file.write_all(&self.block)?;
            self.file.sync_data()?;
        }
        Ok(started.elapsed().as_secs_f64())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // What is left is removed with the directory.
        let _left = std::fs::remove_file(&self.path);
    }
}
