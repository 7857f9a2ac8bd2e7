//! Where the demo's records come from: generated, or a file; cut into request bodies.
//!
//! A body is bounded in records and bytes, and few bodies are in memory at a time. It refuses to know what a line means.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::sync::mpsc;
use wasmill_access_log::{AccessLog, DEFAULT_SEED};

/// Most records and bytes of a request.
const BODY_RECORDS_MAX: u64 = 2_000;
const BODY_BYTES_MAX: u64 = 1 << 20;
/// A small input is cut into at least so many bodies, so that the plugin can be replaced in the middle.
const BODIES_MIN: u64 = 20;
/// The share of the input from which on bodies wait until the plugin has been replaced, in percent.
const LATE_PERCENT: u64 = 90;

/// Lines, each with its line feed.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) lines: Bytes,
    pub(super) records: u64,
    /// Belongs to the last part of the input.
    pub(super) late: bool,
}

/// What is pushed.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Generated { records: u64 },
    File { path: PathBuf, bytes: u64 },
}

impl Input {
    pub(super) fn file(path: &Path) -> Result<Input> {
        let found = std::fs::metadata(path).with_context(|| format!("read {}", path.display()))?;
        if !found.is_file() {
            bail!("{} is not a file", path.display());
        }
        Ok(Input::File { path: path.to_owned(), bytes: found.len() })
    }

    /// Sends the bodies in order until the receiver is gone. Blocks the calling thread.
    pub(super) fn send(&self, bodies: &mpsc::Sender<Body>) -> Result<()> {
        match self {
            Input::Generated { records } => {
                let mut log = AccessLog::new(DEFAULT_SEED);
                let mut cut = Cut::new(*records, BODY_RECORDS_MAX);
                for _ in 0..*records {
                    log.append_line(&mut cut.lines);
                    if !cut.record(1, bodies) {
                        return Ok(());
                    }
                }
                cut.rest(bodies);
            }
            Input::File { path, bytes } => {
                let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
                let mut reader = BufReader::with_capacity(256 << 10, file);
                let mut cut = Cut::new(*bytes, BODY_BYTES_MAX);
                loop {
                    let start = cut.lines.len();
                    let read = reader.read_until(b'\n', &mut cut.lines);
                    let read = read.with_context(|| format!("read {}", path.display()))?;
                    if read == 0 {
                        break;
                    }
                    // What the host skips is no record.
                    if cut.lines.get(start..).unwrap_or_default().trim_ascii().is_empty() {
                        cut.lines.truncate(start);
                    } else if !cut.record(read as u64, bodies) {
                        return Ok(());
                    }
                }
                cut.rest(bodies);
            }
        }
        Ok(())
    }
}

/// Gathers lines into bodies. `done` and `whole` are records of a generated input, bytes of a file.
struct Cut {
    lines: Vec<u8>,
    records: u64,
    done: u64,
    body_from: u64,
    whole: u64,
    body_max: u64,
}

impl Cut {
    fn new(whole: u64, body_max: u64) -> Cut {
        let body_max = body_max.min(whole.div_ceil(BODIES_MIN)).max(1);
        Cut { lines: Vec::new(), records: 0, done: 0, body_from: 0, whole, body_max }
    }

    /// The line at the end is whole. `false`: nobody takes bodies any more.
    fn record(&mut self, size: u64, bodies: &mpsc::Sender<Body>) -> bool {
        self.records += 1;
        self.done += size;
        if self.done - self.body_from < self.body_max && self.records < BODY_RECORDS_MAX {
            return true;
        }
        self.rest(bodies)
    }

    fn rest(&mut self, bodies: &mpsc::Sender<Body>) -> bool {
        if self.records == 0 {
            return true;
        }
        let late = self.body_from * 100 >= self.whole * LATE_PERCENT;
        let lines = Bytes::from(std::mem::take(&mut self.lines));
        let body = Body { lines, records: std::mem::take(&mut self.records), late };
        self.body_from = self.done;
        bodies.blocking_send(body).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(input: &Input) -> Vec<Body> {
        let (sender, mut receiver) = mpsc::channel(10_000);
        input.send(&sender).unwrap();
        drop(sender);
        std::iter::from_fn(|| receiver.blocking_recv()).collect()
    }

    #[test]
    fn generated_input_is_cut_into_bounded_bodies_with_all_records() {
        for records in [1, 19, 20, 21, 1_000, 100_001] {
            let bodies = bodies(&Input::Generated { records });
            assert_eq!(bodies.iter().map(|body| body.records).sum::<u64>(), records);
            assert!(bodies.iter().all(|body| (1..=BODY_RECORDS_MAX).contains(&body.records)));
            let lines: usize =
                bodies.iter().map(|b| b.lines.iter().filter(|byte| **byte == b'\n').count()).sum();
            assert_eq!(lines as u64, records);
            assert!(!bodies[0].late);
            assert_eq!(bodies.last().unwrap().late, records > 10, "{records}");
        }
    }

    #[test]
    fn file_without_line_feed_at_the_end_and_with_empty_lines_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        std::fs::write(&path, "one\r\n\n \ntwo\nthree").unwrap();
        let bodies = bodies(&Input::file(&path).unwrap());
        assert_eq!(bodies.iter().map(|body| body.records).sum::<u64>(), 3);
        let bytes: Vec<u8> = bodies.iter().flat_map(|body| body.lines.to_vec()).collect();
        assert_eq!(bytes, b"one\r\ntwo\nthree");
        assert!(Input::file(dir.path()).is_err());
    }
}
