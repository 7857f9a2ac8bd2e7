//! What the demo shows while it runs: bars on a terminal, a plain line every other second elsewhere. All of it on stderr.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::cli::output::complain;

/// How often bars move, and how often lines are written.
const BARS_EVERY: Duration = Duration::from_millis(100);
const LINES_EVERY: Duration = Duration::from_secs(2);

/// Where things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) acknowledged: u64,
    pub(super) acknowledged_bytes: u64,
    pub(super) processed: u64,
    pub(super) dropped: u64,
    pub(super) dead_letters: u64,
    pub(super) delivered: u64,
    pub(super) objects: u64,
    pub(super) object_bytes: u64,
}

/// How much there is to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whole {
    Records(u64),
    Bytes(u64),
}

/// The display; nothing of it stays when it is dropped.
pub(super) struct Progress {
    bars: Option<Bars>,
    whole: Whole,
    since: Instant,
    shown: Instant,
}

struct Bars {
    all: MultiProgress,
    pushed: ProgressBar,
    through: ProgressBar,
}

impl Progress {
    pub(super) fn new(whole: Whole) -> Progress {
        let bars = std::io::stderr().is_terminal().then(Bars::new);
        let now = Instant::now();
        Progress { bars, whole, since: now, shown: now }
    }

    /// For log lines, so that they do not run through the bars.
    pub(super) fn log_writer(&self) -> Option<BoxMakeWriter> {
        let bars = self.bars.as_ref()?.all.clone();
        Some(BoxMakeWriter::new(move || AboveBars(bars.clone())))
    }

    /// How often [`Progress::show`] has something new to say.
    pub(super) fn every(&self) -> Duration {
        BARS_EVERY
    }

    /// A line that stays.
    pub(super) fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.all.suspend(|| complain(format_args!("{line}"))),
            None => complain(format_args!("{line}")),
        }
    }

    /// The clock of the rates starts now.
    pub(super) fn begin(&mut self) {
        self.since = Instant::now();
        self.shown = self.since;
    }

    pub(super) fn show(&mut self, figures: &Figures) {
        let elapsed = self.since.elapsed();
        let Some(bars) = &self.bars else {
            if self.shown.elapsed() >= LINES_EVERY {
                self.shown = Instant::now();
                complain(format_args!("{}", line(figures, self.whole, elapsed)));
            }
            return;
        };
        let (done, whole) = share(figures, self.whole);
        bars.pushed.set_length(whole);
        bars.pushed.set_position(done);
        bars.pushed.set_message(format!("{} acknowledged, {}", figures.acknowledged, rate(figures, elapsed)));
        bars.through.set_length(figures.acknowledged.max(1));
        bars.through.set_position(figures.processed);
        bars.through.set_message(fates(figures));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bars) = &self.bars {
            bars.pushed.finish_and_clear();
            bars.through.finish_and_clear();
        }
    }
}

impl Bars {
    fn new() -> Bars {
        let style = ProgressStyle::with_template("{prefix:>9} [{bar:30}] {percent:>3} %  {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
        let all = MultiProgress::new();
        let bar =
            |prefix: &'static str| all.add(ProgressBar::new(1).with_style(style.clone()).with_prefix(prefix));
        let (pushed, through) = (bar("pushed"), bar("processed"));
        Bars { all, pushed, through }
    }
}

fn share(figures: &Figures, whole: Whole) -> (u64, u64) {
    match whole {
        Whole::Records(records) => (figures.acknowledged, records),
        Whole::Bytes(bytes) => (figures.acknowledged_bytes, bytes),
    }
}

fn rate(figures: &Figures, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(1e-3);
    format!("{:.1} MB/s", figures.acknowledged_bytes as f64 / 1e6 / seconds)
}

fn fates(figures: &Figures) -> String {
    format!(
        "{} delivered in {} objects ({:.1} MB), {} dropped, {} dead letters",
        figures.delivered,
        figures.objects,
        figures.object_bytes as f64 / 1e6,
        figures.dropped,
        figures.dead_letters,
    )
}

fn line(figures: &Figures, whole: Whole, elapsed: Duration) -> String {
    let (done, whole) = share(figures, whole);
    let percent = (done * 100).checked_div(whole).unwrap_or(100).min(100);
    format!(
        "demo: {} acknowledged ({percent} %, {}), {}",
        figures.acknowledged,
        rate(figures, elapsed),
        fates(figures)
    )
}

/// Stderr, with the bars out of the way while it is written to.
struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.suspend(|| std::io::stderr().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_says_how_far_and_how_fast() {
        let figures = Figures {
            acknowledged: 500,
            acknowledged_bytes: 3_000_000,
            delivered: 400,
            objects: 2,
            object_bytes: 150_000,
            dropped: 49,
            dead_letters: 1,
            processed: 450,
        };
        assert_eq!(
            line(&figures, Whole::Records(1_000), Duration::from_secs(2)),
            "demo: 500 acknowledged (50 %, 1.5 MB/s), 400 delivered in 2 objects (0.1 MB), 49 dropped, 1 dead letters"
        );
        assert!(line(&Figures::default(), Whole::Bytes(0), Duration::ZERO).contains("(100 %, 0.0 MB/s)"));
    }
}
