//! What the demo says at the end, after it has compared what the host counted with what lies on disk.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use super::progress::Figures;
use super::stage::Stage;
use super::verify::Delivered;

/// A plugin version that took over.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reload {
    pub(super) plugin: &'static str,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) digest: String,
    /// From the file's rename to the first slice through the new version, as seen from outside.
    pub(super) ms: u64,
    /// Records that were acknowledged when the file was replaced.
    pub(super) at_record: u64,
}

/// The end of a demo; what `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) records_in: u64,
    pub(super) bytes_in: u64,
    /// Records that were read back from the objects.
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    /// Lines of the dead letters' file.
    pub(super) dead_letters: u64,
    pub(super) objects: u64,
    pub(super) object_bytes: u64,
    /// Uncompressed.
    pub(super) raw_bytes: u64,
    /// From the first push until everything was delivered.
    pub(super) seconds: f64,
    /// Requests that were refused for now and sent again.
    pub(super) refused_requests: u64,
    pub(super) reload: Reload,
    pub(super) dir: String,
    pub(super) first_object: Option<String>,
    pub(super) dead_letters_file: Option<String>,
    pub(super) kept: bool,
}

impl Summary {
    pub(super) fn new(
        stage: &Stage,
        figures: &Figures,
        delivered: &Delivered,
        dead_letters: u64,
        reload: Reload,
        took: Duration,
    ) -> Summary {
        Summary {
            records_in: figures.acknowledged,
            bytes_in: figures.acknowledged_bytes,
            delivered: delivered.records,
            dropped: figures.dropped,
            dead_letters,
            objects: delivered.objects.len() as u64,
            object_bytes: delivered.bytes,
            raw_bytes: delivered.raw_bytes,
            seconds: took.as_secs_f64(),
            refused_requests: 0,
            reload,
            dir: stage.dir.display().to_string(),
            first_object: delivered.objects.first().map(|path| path.display().to_string()),
            dead_letters_file: None,
            kept: false,
        }
    }

    /// The books: what went in came out exactly once, and what the host counted is what lies on disk.
    pub(super) fn check(&self, figures: &Figures) -> Result<()> {
        let mut wrong = Vec::new();
        let mut compare = |what: &str, expected: u64, found: u64| {
            if expected != found {
                wrong.push(format!("{what}: {expected} expected, {found} found"));
            }
        };
        compare(
            "acknowledged = delivered + dropped + dead letters",
            self.records_in,
            self.delivered + self.dropped + self.dead_letters,
        );
        compare("records in objects", figures.delivered, self.delivered);
        compare("dead letters in the file", figures.dead_letters, self.dead_letters);
        compare("objects", figures.objects, self.objects);
        compare("bytes of objects", figures.object_bytes, self.object_bytes);
        if !wrong.is_empty() {
            bail!("the books do not balance: {}; everything is left in {}", wrong.join("; "), self.dir);
        }
        Ok(())
    }

    /// Where people look, once it is decided what stays.
    pub(super) fn note_places(&mut self, stage: &Stage, kept: bool) {
        self.kept = kept;
        let letters = if kept { stage.dead_letters() } else { stage.dir.join("dead-letters.ndjson") };
        self.dead_letters_file = (self.dead_letters > 0).then(|| letters.display().to_string());
    }

    /// The line that counts, then where to look.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "demo: {} in, {} delivered, {} dropped, {} dead letters, {} objects, {:.1} MB\n",
            self.records_in,
            self.delivered,
            self.dropped,
            self.dead_letters,
            self.objects,
            self.object_bytes as f64 / 1e6,
        );
        let mut line = |label: &str, said: String| {
            // Writing to a string does not fail.
            let _written = writeln!(text, "  {label:<13} {said}");
        };
        let seconds = self.seconds.max(1e-3);
        line(
            "time",
            format!(
                "{seconds:.1} s: {:.0} records/s, {:.1} MB/s in; {:.1} MB out before compression",
                self.records_in as f64 / seconds,
                self.bytes_in as f64 / 1e6 / seconds,
                self.raw_bytes as f64 / 1e6,
            ),
        );
        let reload = &self.reload;
        line(
            "reload",
            format!(
                "{} {} took over from {} in {} ms at record {}; every record came out exactly once",
                reload.plugin, reload.to, reload.from, reload.ms, reload.at_record
            ),
        );
        if let Some(object) = &self.first_object {
            line("look", format!("zstd -dc '{object}' | head -n 3"));
        }
        if let Some(letters) = &self.dead_letters_file {
            line("dead letters", format!("head -n 3 '{letters}'"));
        }
        line("configuration", format!("{}/wasmill.toml", self.dir));
        if self.kept {
            line("go on", format!("wasmill run '{}/wasmill.toml'", self.dir));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            records_in: 1_000_000,
            bytes_in: 225_000_000,
            delivered: 899_871,
            dropped: 100_112,
            dead_letters: 17,
            objects: 12,
            object_bytes: 61_249_999,
            raw_bytes: 500_000_000,
            seconds: 10.0,
            refused_requests: 0,
            reload: Reload {
                plugin: "filter",
                from: "0.1.0".to_owned(),
                to: "0.1.0+reloaded".to_owned(),
                digest: "sha256:00".to_owned(),
                ms: 300,
                at_record: 500_000,
            },
            dir: "wasmill-demo".to_owned(),
            first_object: Some("wasmill-demo/out/a.ndjson.zst".to_owned()),
            dead_letters_file: None,
            kept: true,
        }
    }

    fn figures() -> Figures {
        Figures {
            acknowledged: 1_000_000,
            delivered: 899_871,
            dropped: 100_112,
            dead_letters: 17,
            objects: 12,
            object_bytes: 61_249_999,
            ..Figures::default()
        }
    }

    #[test]
    fn text_begins_with_the_line_that_counts() {
        let text = summary().text();
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            "demo: 1000000 in, 899871 delivered, 100112 dropped, 17 dead letters, 12 objects, 61.2 MB"
        );
        assert!(text.contains("zstd -dc 'wasmill-demo/out/a.ndjson.zst' | head -n 3"), "{text}");
    }

    #[test]
    fn books_balance_only_if_every_record_is_there_once() {
        summary().check(&figures()).unwrap();
        let lost = Summary { delivered: 899_870, ..summary() };
        let error = lost.check(&figures()).unwrap_err().to_string();
        assert!(
            error.contains("899871 expected, 899870 found") && error.contains("acknowledged ="),
            "{error}"
        );
        let twice = Figures { acknowledged: 999_999, delivered: 899_872, ..figures() };
        assert!(summary().check(&twice).is_err());
    }
}
