//! When a life ends: at any time, while it starts, upon an event seen from outside, or while it drains.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand::Rng;
use rand::rngs::SmallRng;
use rustix::process::Signal;
use wasmill_tests::events::{Event, Events};
use wasmill_tests::program::Program;

use crate::scene::{FILES, LINES, PUSH, Scene};

/// What does not come about by then is not waited for.
const LIFE_MAX: Duration = Duration::from_secs(4);
/// Longest wait for a host that runs.
const START_MAX: Duration = Duration::from_secs(30);
const RUNNING: &str = "wasmill is running";
const LOOK_AGAIN: Duration = Duration::from_micros(300);

/// When the host is killed.
#[derive(Clone, Debug)]
pub enum Moment {
    /// So long after its start, whether it runs by then or not.
    Starting(Duration),
    /// So long after it runs.
    Running(Duration),
    /// After the next event from a time on.
    Event { from: Duration, event: Event, delay: Duration },
    /// After the next change of what is in a directory, or of a file's length, from a time on.
    Change { from: Duration, place: PathBuf, delay: Duration },
    /// After its log says this for the first time.
    Says { text: &'static str, delay: Duration },
    /// So long after it was asked to end, at a time.
    Draining { at: Duration, after: Duration },
}

/// Most are short.
fn short(rng: &mut SmallRng, most_us: u64) -> Duration {
    let bound = rng.random_range(1..=most_us);
    Duration::from_micros(rng.random_range(0..=bound))
}

impl Moment {
    /// `start`: how long starts take.
    pub fn draw(rng: &mut SmallRng, scene: &Scene, start: Duration) -> Moment {
        let millis = |rng: &mut SmallRng, most| Duration::from_millis(rng.random_range(0..most));
        match rng.random_range(0..100) {
            0..20 => Moment::Starting(start.mul_f64(rng.random_range(0.0..1.5))),
            20..35 => Moment::Running(millis(rng, 2_500)),
            35..60 => {
                let event = Event::ALL[rng.random_range(0..Event::ALL.len())];
                Moment::Event { from: millis(rng, 1_000), event, delay: short(rng, 20_000) }
            }
            60..80 => {
                let stream = [PUSH, LINES, FILES][rng.random_range(0..3)];
                let data = scene.data();
                let out = scene.root.join("out").join(stream);
                let places = [
                    data.join("journal"),
                    data.join("spool"),
                    out.join(".wasmill-staging"),
                    out.join("a"),
                    scene.letters(stream).pop().unwrap_or_default(),
                    data.join("plugins"),
                ];
                let place = places[rng.random_range(0..places.len())].clone();
                Moment::Change { from: millis(rng, 1_000), place, delay: short(rng, 10_000) }
            }
            80..90 => {
                let texts = ["plugins reloaded", "plugin refused", "unfinished uploads", "\"WARN\""];
                Moment::Says { text: texts[rng.random_range(0..texts.len())], delay: short(rng, 20_000) }
            }
            _ => Moment::Draining { at: millis(rng, 1_500), after: millis(rng, 500) },
        }
    }

    /// Waits for it; how long the host took to start, if it was waited for. `Err`: it ended by itself, or does not come
    /// up.
    pub fn wait(&self, program: &mut Program, events: &Events) -> Result<Option<Duration>> {
        let started = Instant::now();
        if let Moment::Starting(after) = self {
            pass(program, *after)?;
            return Ok(None);
        }
        let start = up(program)?;
        let end = started + LIFE_MAX;
        match self {
            Moment::Starting(_) => {}
            Moment::Running(after) => pass(program, *after)?,
            Moment::Event { from, event, delay } => {
                pass(program, *from)?;
                let before = events.count(*event);
                look(program, end, |_| events.count(*event) != before)?;
                pass(program, *delay)?;
            }
            Moment::Change { from, place, delay } => {
                pass(program, *from)?;
                let before = Seen::of(place);
                look(program, end, |_| Seen::of(place) != before)?;
                pass(program, *delay)?;
            }
            Moment::Says { text, delay } => {
                look(program, end, |program| program.says(text))?;
                pass(program, *delay)?;
            }
            Moment::Draining { at, after } => {
                pass(program, *at)?;
                program.signal(Signal::TERM);
                let end = Instant::now() + *after;
                while Instant::now() < end {
                    match program.end() {
                        Some(status) if !status.success() => bail!("the host stopped with {status}"),
                        Some(_) => return Ok(Some(start)),
                        None => std::thread::park_timeout(LOOK_AGAIN),
                    }
                }
            }
        }
        Ok(Some(start))
    }
}

/// What can be told cheaply of a directory or file.
#[derive(PartialEq, Eq)]
struct Seen(BTreeSet<OsString>, u64);

impl Seen {
    fn of(place: &Path) -> Seen {
        let names = fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.file_name());
        Seen(
            names.collect(),
            fs::metadata(place).map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 }),
        )
    }
}

/// Waits until the host runs; how long that took.
pub fn up(program: &mut Program) -> Result<Duration> {
    let started = Instant::now();
    while !program.says(RUNNING) {
        alive(program)?;
        if started.elapsed() > START_MAX {
            bail!("the host did not start within {} s", START_MAX.as_secs());
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
    Ok(started.elapsed())
}

fn alive(program: &mut Program) -> Result<()> {
    match program.end() {
        Some(status) => bail!("the host ended by itself: {status}"),
        None => Ok(()),
    }
}

fn pass(program: &mut Program, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        alive(program)?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::park_timeout(left.min(Duration::from_millis(20)));
    }
}

fn look(program: &mut Program, end: Instant, mut condition: impl FnMut(&Program) -> bool) -> Result<()> {
    while !condition(program) && Instant::now() < end {
        alive(program)?;
        std::thread::park_timeout(LOOK_AGAIN);
    }
    Ok(())
}
