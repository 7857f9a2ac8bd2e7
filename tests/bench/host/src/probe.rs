//! What the disk itself takes: serial appends, each followed by `fdatasync`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::samples::Samples;

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

    /// Seconds from when each of `rate` requests a second was due until a probe was over that began afterwards: what a server
    /// would take that does nothing else, and for all that wait at once. A pause of the disk, which one probe in a thousand
    /// meets, meets everybody who is due meanwhile.
    pub(crate) fn at_rate(&mut self, rate: u32, span: Duration) -> Result<Samples> {
        let all = u32::try_from(span.as_millis())? * rate / 1000;
        let due = |number: u32| Duration::from_secs(1) * number / rate;
        let (started, mut samples, mut done) = (Instant::now(), Samples::default(), 0);
        while done < all {
            crate::pause(due(done).saturating_sub(started.elapsed()));
            let begun = started.elapsed();
            self.run()?;
            let over = started.elapsed();
            while done < all && due(done) <= begun {
                samples.push((over - due(done)).as_secs_f64());
                done += 1;
            }
        }
        Ok(samples)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // What is left is removed with the directory.
        let _left = std::fs::remove_file(&self.path);
    }
}
