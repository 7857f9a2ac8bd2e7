//! Files, read once or followed.
//!
//! A file is known by device and inode, and by a hash of its first bytes, so that rotation by renaming
//! goes on where it was and a reused inode or a rewritten file starts anew. Each file has a slot (a
//! partition of the source's positions); its position becomes durable together with its records: from
//! file to buffer exactly once. A line over the limit is skipped, counted and logged with its place. A last line
//! without a line feed waits while followed, and is a record when read once or rotated away.
//!
//! It refuses to find a file again that left the patterns while the program was not running.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::append::{Append, Position, RecordBatch};
use crate::lane::{Lane, LaneEnd, OnUnknown, now};
use crate::lines::{Lines, Splitter};
use crate::position::{FINGER, Saved, fingerprint};
use crate::stats::SourceStats;

/// Files whose positions are kept at a time, per source.
pub const PARTITIONS_MAX: u32 = 4096;
/// Files that are open at a time; more are left until one is closed.
const OPEN_MAX: usize = 512;
/// Blocks of one file before the next has its turn.
const TURN_BLOCKS: usize = 16;
/// Turns of all files before new ones are looked for: a file that never falls silent hides no other.
const TURNS: usize = 16;
/// Appends on the way at a time.
const ON_THE_WAY: usize = 4;

/// Where to begin in files that are there when the source starts for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Start,
    End,
}

/// What to read and how.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Name under which positions are kept; unique in the stream.
    pub name: String,
    /// Glob patterns.
    pub paths: Vec<String>,
    /// Keep reading what is appended, created and rotated; else read once and end.
    pub follow: bool,
    pub from: Start,
    /// Bytes of one line; a longer one is skipped, counted and logged.
    pub max_record: u64,
    /// How often globs are expanded again without a notification.
    pub poll_interval: Duration,
}

/// Reads lines of files into a stream.
pub struct FileSource<A> {
    options: FileOptions,
    append: Arc<A>,
    stats: Arc<SourceStats>,
}

/// Why a file source ended early.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("pattern `{pattern}` is no glob")]
    Pattern { pattern: String, source: glob::PatternError },
    #[error("no file matches {patterns:?}")]
    NothingMatches { patterns: Vec<String> },
    #[error("more than {limit} files match; positions are kept for no more")]
    TooManyFiles { limit: u32 },
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("stream is closed")]
    Closed,
}

/// A file that is being read.
struct Open {
    path: PathBuf,
    file: Arc<File>,
    saved: Saved,
    slot: u32,
    splitter: Splitter,
    /// Its name now belongs to another file, or to none.
    rotated: bool,
    done: bool,
}

enum Ended {
    Finished,
    Restart,
}

impl<A: Append> FileSource<A> {
    pub fn new(options: FileOptions, append: Arc<A>) -> FileSource<A> {
        FileSource { options, append, stats: Arc::default() }
    }

    /// Counters, readable while it runs.
    pub fn stats(&self) -> Arc<SourceStats> {
        Arc::clone(&self.stats)
    }

    /// Runs until everything is read (once) or `stop` is cancelled; what was read by then is appended.
    ///
    /// # Errors
    /// A pattern that is none, nothing to read once, a file that cannot be read once, or a closed stream.
    pub async fn run(self, stop: CancellationToken) -> Result<(), FileError> {
        let wake = Arc::new(Notify::new());
        // Held until the end: dropping it ends the notifications.
        let watcher = if self.options.follow { self.watch(&wake) } else { None };
        let mut first = true;
        let result = loop {
            match self.pass(&stop, &wake, first).await {
                Ok(Ended::Restart) if !stop.is_cancelled() => first = false,
                Ok(_) => break Ok(()),
                Err(FileError::Closed) if stop.is_cancelled() => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        drop(watcher);
        SourceStats::set(&self.stats.open, 0);
        result
    }

    fn watch(&self, wake: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
        let signal = Arc::clone(wake);
        let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading makes access events of its own.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                signal.notify_one();
            }
        });
        let mut watcher = match made {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(%error, "no file notifications, polling only");
                return None;
            }
        };
        for pattern in &self.options.paths {
            let (folder, deep) = fixed_part(pattern);
            let mode = if deep { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
            if let Err(error) = watcher.watch(&folder, mode) {
                tracing::warn!(%error, path = %folder.display(), "cannot watch directory, polling only");
            }
        }
        Some(watcher)
    }

    /// From the durable positions on, until the end or until positions have to be read again.
    async fn pass(&self, stop: &CancellationToken, wake: &Notify, first: bool) -> Result<Ended, FileError> {
        let Some(mut known) = self.positions(stop).await else { return Ok(Ended::Finished) };
        let mut lane =
            Lane::new(Arc::clone(&self.append), self.stats(), stop.clone(), OnUnknown::GiveBack, ON_THE_WAY);
        let mut open: Vec<Open> = Vec::new();
        let mut from_end =
            first && self.options.follow && self.options.from == Start::End && known.is_empty();
        loop {
            self.scan(&mut open, &mut known, from_end)?;
            from_end = false;
            SourceStats::set(&self.stats.open, open.len() as u64);
            let end = self.drain(&mut open, &mut lane, stop).await;
            let end = match end {
                Ok(more) => lane.flush().await.map(|()| more).map_err(Stop::Lane),
                Err(end) => Err(end),
            };
            let more = match end {
                Ok(more) => more,
                Err(Stop::Lane(LaneEnd::Unknown)) => return Ok(Ended::Restart),
                Err(Stop::Lane(LaneEnd::Closed)) => return Err(FileError::Closed),
                Err(Stop::File(error)) => return Err(error),
            };
            for file in open.iter().filter(|file| file.done) {
                known.retain(|(slot, _)| *slot != file.slot);
                known.push((file.slot, file.saved));
            }
            open.retain(|file| !file.done);
            if stop.is_cancelled() {
                return Ok(Ended::Finished);
            }
            if !self.options.follow {
                if open.is_empty() && self.next_unread(&known)? {
                    continue;
                }
                if open.is_empty() {
                    return Ok(Ended::Finished);
                }
                continue;
            }
            if more {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(Ended::Finished),
                () = wake.notified() => {}
                () = tokio::time::sleep(self.options.poll_interval) => {}
            }
        }
    }

    /// Every durable position; waits while they are not known. `None` when stopped.
    async fn positions(&self, stop: &CancellationToken) -> Option<Vec<(u32, Saved)>> {
        'again: loop {
            let mut known = Vec::new();
            for slot in 0..PARTITIONS_MAX {
                match self.append.position(&self.options.name, slot) {
                    Ok(Some(bytes)) => match Saved::read(&bytes) {
                        Some(saved) => known.push((slot, saved)),
                        None => tracing::error!(slot, "durable file position is unreadable, ignored"),
                    },
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(%error, "durable file positions are not known yet");
                        tokio::select! {
                            () = stop.cancelled() => return None,
                            () = tokio::time::sleep(Duration::from_millis(500)) => continue 'again,
                        }
                    }
                }
            }
            return Some(known);
        }
    }

    fn matches(&self) -> Result<Vec<PathBuf>, FileError> {
        let mut paths = Vec::new();
        for pattern in &self.options.paths {
            let found = glob::glob(pattern)
                .map_err(|source| FileError::Pattern { pattern: pattern.clone(), source })?;
            paths.extend(found.filter_map(Result::ok).filter(|path| path.is_file()));
        }
        paths.sort();
        paths.dedup();
        if paths.is_empty() && !self.options.follow {
            return Err(FileError::NothingMatches { patterns: self.options.paths.clone() });
        }
        Ok(paths)
    }

    /// Whether a matching file is not read to its end yet (read once: files are opened in portions).
    fn next_unread(&self, known: &[(u32, Saved)]) -> Result<bool, FileError> {
        Ok(self.matches()?.iter().any(|path| {
            std::fs::metadata(path).is_ok_and(|meta| {
                meta.len() > 0
                    && !known.iter().any(|(_, saved)| saved.is(&meta) && saved.offset >= meta.len())
            })
        }))
    }

    /// Opens what is new, notes what was renamed, rotated away or rewritten.
    fn scan(
        &self,
        open: &mut Vec<Open>,
        known: &mut Vec<(u32, Saved)>,
        from_end: bool,
    ) -> Result<(), FileError> {
        let mut seen = HashSet::new();
        for path in self.matches()? {
            let read = |source| FileError::Read { path: path.clone(), source };
            let meta = match std::fs::metadata(&path) {
                Ok(meta) => meta,
                Err(_) if self.options.follow => continue,
                Err(error) => return Err(read(error)),
            };
            if !seen.insert((meta.dev(), meta.ino())) {
                continue;
            }
            if let Some(file) = open.iter_mut().find(|file| file.saved.is(&meta)) {
                file.path = path;
                file.rotated = false;
                continue;
            }
            let finished = |saved: &Saved| saved.is(&meta) && saved.offset >= meta.len();
            if open.len() >= OPEN_MAX
                || (!self.options.follow && known.iter().any(|(_, saved)| finished(saved)))
            {
                continue;
            }
            let opened =
                File::open(&path).and_then(|file| self.begin(file, path.clone(), open, known, from_end));
            match opened {
                Ok(Some(file)) => open.push(file),
                Ok(None) => return Err(FileError::TooManyFiles { limit: PARTITIONS_MAX }),
                Err(error) if self.options.follow => {
                    tracing::warn!(%error, path = %path.display(), "cannot open file");
                }
                Err(error) => return Err(read(error)),
            }
        }
        for file in open.iter_mut() {
            file.rotated |= !seen.contains(&(file.saved.device, file.saved.inode));
        }
        Ok(())
    }

    /// A newly opened file, where it was left or at its begin. `None`: no slot is free.
    fn begin(
        &self,
        file: File,
        path: PathBuf,
        open: &[Open],
        known: &mut Vec<(u32, Saved)>,
        from_end: bool,
    ) -> io::Result<Option<Open>> {
        let meta = file.metadata()?;
        let mut saved = Saved { device: meta.dev(), inode: meta.ino(), ..Saved::default() };
        let before =
            known.iter().position(|(_, saved)| saved.is(&meta)).map(|index| known.swap_remove(index));
        let slot = match before {
            Some((slot, before)) => {
                let same = meta.len() >= before.offset && before.matches(&file)?;
                if same {
                    saved = before;
                } else {
                    tracing::info!(path = %path.display(), "file is another one than before, reading from its begin");
                }
                slot
            }
            None => {
                if from_end {
                    saved.offset = meta.len();
                }
                let used = |slot: &u32| {
                    known.iter().any(|(other, _)| other == slot)
                        || open.iter().any(|other| other.slot == *slot)
                };
                let gone = |known: &mut Vec<(u32, Saved)>| {
                    // Every slot has a position: the first whose file no longer matches is reused.
                    (!known.is_empty() && self.options.follow).then(|| known.remove(0).0)
                };
                match (0..PARTITIONS_MAX).find(|slot| !used(slot)).or_else(|| gone(known)) {
                    Some(slot) => slot,
                    None => return Ok(None),
                }
            }
        };
        let splitter = Splitter::new(self.options.max_record, saved.offset);
        Ok(Some(Open { path, file: Arc::new(file), saved, slot, splitter, rotated: false, done: false }))
    }

    /// Reads every open file to its end, in turns; when followed, so many turns at most. Whether there may be more.
    async fn drain(
        &self,
        open: &mut [Open],
        lane: &mut Lane<A>,
        stop: &CancellationToken,
    ) -> Result<bool, Stop> {
        let mut busy = true;
        let mut turns = 0;
        while busy && !stop.is_cancelled() {
            if self.options.follow && turns == TURNS {
                return Ok(true);
            }
            turns += 1;
            busy = false;
            for file in open.iter_mut().filter(|file| !file.done) {
                // A file that is read once is finished before the next, so that its lines stay together.
                let blocks = if self.options.follow { TURN_BLOCKS } else { usize::MAX };
                busy |= self.turn(file, blocks, lane, stop).await?;
            }
        }
        Ok(false)
    }

    /// Reads at most `blocks` blocks; whether there may be more.
    async fn turn(
        &self,
        file: &mut Open,
        blocks: usize,
        lane: &mut Lane<A>,
        stop: &CancellationToken,
    ) -> Result<bool, Stop> {
        self.notice_rewriting(file, lane).await?;
        for _ in 0..blocks {
            if stop.is_cancelled() {
                return Ok(false);
            }
            match read_block(file).await {
                Ok(0) => {
                    if file.rotated || !self.options.follow {
                        let lines = file.splitter.finish();
                        self.send(file, lines, lane).await?;
                        file.done = true;
                    }
                    return Ok(false);
                }
                Ok(read) => {
                    let lines = file.splitter.take(read);
                    self.send(file, lines, lane).await?;
                }
                Err(source) if self.options.follow => {
                    tracing::warn!(error = %source, path = %file.path.display(), "cannot read file");
                    return Ok(false);
                }
                Err(source) => return Err(Stop::File(FileError::Read { path: file.path.clone(), source })),
            }
        }
        Ok(true)
    }

    /// A file that became shorter, or whose first bytes changed, was truncated or rewritten: it starts anew.
    async fn notice_rewriting(&self, file: &mut Open, lane: &mut Lane<A>) -> Result<(), Stop> {
        let rewritten = file.file.metadata().is_ok_and(|meta| meta.len() < file.splitter.read_from())
            || file.saved.matches(&file.file).is_ok_and(|same| !same);
        if rewritten {
            tracing::info!(path = %file.path.display(), at = file.splitter.read_from(), "file was truncated, reading from its begin");
            let lines = file.splitter.finish();
            // Together with the last line of what was there goes the position from which the file starts anew: a
            // restart must not take the old position for one in what stands there now.
            file.splitter = Splitter::new(self.options.max_record, 0);
            (file.saved.offset, file.saved.finger_bytes) = (0, 0);
            self.send(file, lines, lane).await?;
        }
        Ok(())
    }

    async fn send(&self, file: &mut Open, lines: Lines, lane: &mut Lane<A>) -> Result<(), Stop> {
        for at in &lines.too_long {
            SourceStats::add(&self.stats.too_long, 1);
            tracing::warn!(path = %file.path.display(), at, limit = self.options.max_record, "line over the limit skipped");
        }
        file.saved.offset = file.splitter.complete_to();
        if file.saved.finger_bytes < FINGER && u64::from(file.saved.finger_bytes) < file.saved.offset {
            let whole = u16::try_from(file.saved.offset).unwrap_or(FINGER).min(FINGER);
            if let Ok(Some(hash)) = fingerprint(&file.file, whole) {
                (file.saved.finger_bytes, file.saved.finger) = (whole, hash);
            }
        }
        if lines.ends.is_empty() {
            return Ok(());
        }
        let position =
            Position { name: self.options.name.clone(), partition: file.slot, position: file.saved.write() };
        let batch = RecordBatch {
            payload: lines.payload.into(),
            ends: lines.ends,
            arrival: now(),
            source: Some(position),
            numbered: None,
            early: false,
        };
        lane.send(batch).await.map_err(Stop::Lane)
    }
}

/// Why reading stops.
enum Stop {
    Lane(LaneEnd),
    File(FileError),
}

async fn read_block(file: &mut Open) -> io::Result<usize> {
    let source = Arc::clone(&file.file);
    let mut splitter = std::mem::take(&mut file.splitter);
    let done = tokio::task::spawn_blocking(move || {
        let at = splitter.read_from();
        let read = source.read_at(splitter.space(), at);
        (splitter, read)
    })
    .await;
    match done {
        Ok((splitter, read)) => {
            file.splitter = splitter;
            read
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

/// The directory in front of a pattern's first wildcard, and whether there are more below it.
fn fixed_part(pattern: &str) -> (PathBuf, bool) {
    let mut folder = PathBuf::new();
    let mut parts = Path::new(pattern).components().peekable();
    while let Some(part) = parts.next() {
        let wild = part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
        if wild || parts.peek().is_none() {
            if folder.as_os_str().is_empty() {
                folder.push(".");
            }
            return (folder, parts.peek().is_some());
        }
        folder.push(part);
    }
    (folder, false)
}
