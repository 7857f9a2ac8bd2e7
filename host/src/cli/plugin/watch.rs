//! Doing something again whenever a file of a project changes, or one file alone.
//!
//! What was changed is told. A file that a run itself writes (a log, a cache) would start the next one for ever: one that
//! changes again and again as soon as a run is over, and changes nothing in what comes of it, is left out, and that is told.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use notify::{EventKind, RecursiveMode, Watcher};

use crate::cli::output;

/// Files come in bursts: quiet for so long means that an editor is done.
const QUIET: Duration = Duration::from_millis(150);
/// Somebody who writes all the time is not waited for longer.
const QUIET_WITHIN: Duration = Duration::from_secs(2);
/// Changes that wait to be looked at; of more, one says as much as all.
const CHANGES_MAX: usize = 64;
/// What changes so soon after a run was most likely changed by it.
const SOON: Duration = Duration::from_secs(3);
/// Runs in a row that one file may start in vain.
const IN_VAIN_MAX: u32 = 3;
/// Files that are left out.
const LEFT_OUT_MAX: usize = 1000;
/// What builds write, and what nobody edits.
const IGNORED: [&str; 8] =
    ["build", "dist", "target", ".git", "node_modules", "__pycache__", ".pytest_cache", "vendor"];

/// What changed since a run began.
pub(super) struct Changes {
    receiver: mpsc::Receiver<PathBuf>,
    seen: RefCell<BTreeSet<PathBuf>>,
}

impl Changes {
    /// Whether there is a reason to run again already.
    pub(super) fn any(&self) -> bool {
        let mut seen = self.seen.borrow_mut();
        seen.extend(self.receiver.try_iter().take(CHANGES_MAX));
        !seen.is_empty()
    }

    /// The files of the next burst of changes.
    fn next(&self) -> Result<BTreeSet<PathBuf>> {
        if !self.any() {
            let file = self.receiver.recv().context("the watcher ended")?;
            self.seen.borrow_mut().insert(file);
        }
        let end = Instant::now() + QUIET_WITHIN;
        while Instant::now() < end
            && let Ok(file) = self.receiver.recv_timeout(QUIET)
        {
            self.seen.borrow_mut().insert(file);
        }
        Ok(self.seen.take())
    }
}

/// Does it now, and again after each change, until the process is interrupted. It returns what came of it, so that two runs
/// can be told to have come to the same.
/// What happens below `work`, where toolchains write, is no change.
/// `watched` is a project, or one file: what else happens beside that is none either.
pub(super) fn each_change(
    watched: &Path,
    work: Option<&Path>,
    mut act: impl FnMut(&Changes) -> Option<String>,
) -> Result<ExitCode> {
    let watched = std::fs::canonicalize(watched).with_context(|| format!("find {}", watched.display()))?;
    // A file that is saved is replaced, so that its directory has to be watched.
    let (place, depth) = match watched.parent() {
        Some(dir) if watched.is_file() => (dir, RecursiveMode::NonRecursive),
        _ => (watched.as_path(), RecursiveMode::Recursive),
    };
    let (send, receiver) = mpsc::sync_channel(CHANGES_MAX);
    let inside = watched.clone();
    let work = work.map(std::path::absolute).transpose()?;
    let left_out: Arc<Mutex<BTreeSet<PathBuf>>> = Arc::default();
    let known = Arc::clone(&left_out);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if let Some(file) = counts(&event, &inside, work.as_deref())
            && !known.lock().unwrap_or_else(PoisonError::into_inner).contains(file)
        {
            // One that waits to be seen is as good as many.
            let _full = send.try_send(file.to_owned());
        }
    })?;
    watcher.watch(place, depth).with_context(|| format!("watch {}", place.display()))?;
    let changes = Changes { receiver, seen: RefCell::default() };
    let mut vain = Vain::default();
    loop {
        let outcome = act(&changes);
        let ended = Instant::now();
        output::complain(format_args!("waiting for changes in {}", watched.display()));
        let files = loop {
            // What came while it worked counts too.
            let files = changes.next()?;
            let soon = ended.elapsed() < SOON + QUIET_WITHIN;
            let Some(file) = vain.tell(&files, outcome.as_deref().filter(|_| soon)) else { break files };
            if file == watched {
                // There is nothing else to wait for.
                break files;
            }
            output::complain(format_args!(
                "{} changes with every run and changes nothing in what comes of it: it is not watched any more",
                shown(file, &watched)
            ));
            let mut left_out = left_out.lock().unwrap_or_else(PoisonError::into_inner);
            if left_out.len() < LEFT_OUT_MAX {
                left_out.insert(file.to_owned());
            }
        };
        if files.len() > 1 || files.first().is_some_and(|file| *file != vain.file) {
            // Something else goes on now.
            left_out.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        if let Some(file) = files.first() {
            let more = match files.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            output::complain(format_args!("changed: {}{more}", shown(file, &watched)));
        }
    }
}

fn shown(file: &Path, watched: &Path) -> String {
    let inside = file.strip_prefix(watched).ok().filter(|inside| !inside.as_os_str().is_empty());
    output::plain(&inside.unwrap_or(file).display().to_string())
}

/// How often one file alone started a run that came to the same as the one before.
#[derive(Default)]
struct Vain {
    file: PathBuf,
    outcome: String,
    times: u32,
}

impl Vain {
    /// Before a run: the files that start it, and what came of the one before if that has only just ended. The file that is
    /// not to start another.
    fn tell<'a>(&mut self, files: &'a BTreeSet<PathBuf>, outcome: Option<&str>) -> Option<&'a Path> {
        let (Some(file), 1, Some(outcome)) = (files.first(), files.len(), outcome) else {
            *self = Vain::default();
            return None;
        };
        if self.file != *file || self.outcome != outcome {
            *self = Vain { file: file.clone(), outcome: outcome.to_owned(), times: 0 };
        }
        self.times += 1;
        (self.times > IN_VAIN_MAX).then_some(file)
    }
}

/// The file by which an event is a change.
fn counts<'a>(
    event: &'a notify::Result<notify::Event>,
    watched: &'a Path,
    work: Option<&Path>,
) -> Option<&'a Path> {
    let Ok(event) = event else { return Some(watched) };
    if matches!(event.kind, EventKind::Access(_)) {
        return None;
    }
    let is_source = |path: &&PathBuf| {
        let Ok(inside) = path.strip_prefix(watched) else { return false };
        if inside.as_os_str().is_empty() {
            return true;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Of editors, and of who keeps what this says.
        let aside =
            name.starts_with('.') || [".log", ".swp", ".tmp", "~"].iter().any(|end| name.ends_with(end));
        !aside
            && !work.is_some_and(|work| path.starts_with(work))
            && !inside.iter().any(|part| IGNORED.iter().any(|ignored| part == *ignored))
    };
    event.paths.iter().find(is_source).map(PathBuf::as_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_author_edits_counts() {
        let event = |path: &str| Ok(notify::Event::new(EventKind::Any).add_path(Path::new("/p").join(path)));
        for (path, expected) in [
            ("src/lib.rs", true),
            ("cases/a/input.ndjson", true),
            ("build/debug.wasm", false),
            ("node_modules/x/y.js", false),
            ("between/debug.wasm", false),
            ("src/.lib.rs.swp", false),
            ("dev.log", false),
        ] {
            let work = Some(Path::new("/p/between"));
            assert_eq!(counts(&event(path), Path::new("/p"), work).is_some(), expected, "{path}");
        }
        let read =
            notify::Event::new(EventKind::Access(notify::event::AccessKind::Read)).add_path("/p/a".into());
        assert_eq!(counts(&Ok(read), Path::new("/p"), None), None);
        for (path, expected) in [("a.wasm", true), ("b.wasm", false), ("a.wasm.part", false)] {
            assert_eq!(counts(&event(path), Path::new("/p/a.wasm"), None).is_some(), expected, "{path}");
        }
    }

    #[test]
    fn file_that_starts_runs_in_vain_is_left_out_and_no_other() {
        let set = |names: &[&str]| names.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        let (one, other, both) = (set(&["out.txt"]), set(&["a.rs"]), set(&["a.rs", "out.txt"]));
        let mut vain = Vain::default();
        for _ in 0..IN_VAIN_MAX {
            assert_eq!(vain.tell(&one, Some("d")), None);
        }
        assert_eq!(vain.tell(&one, Some("d")), Some(Path::new("out.txt")));
        // Another file, another outcome, more files, or a pause: an author at work.
        for (files, outcome) in [(&other, Some("d")), (&one, Some("e")), (&both, Some("d")), (&one, None)] {
            let mut vain = Vain::default();
            for _ in 0..IN_VAIN_MAX {
                assert_eq!(vain.tell(&one, Some("d")), None);
            }
            assert_eq!(vain.tell(files, outcome), None);
            assert_eq!(vain.tell(&one, Some("d")), None);
        }
    }
}
