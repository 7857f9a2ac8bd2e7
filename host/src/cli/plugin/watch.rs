//! Doing something again whenever a file of a project changes, or one file alone.

use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use notify::{EventKind, RecursiveMode, Watcher};

use crate::cli::output;

/// Files come in bursts: quiet for so long means that an editor is done.
const QUIET: Duration = Duration::from_millis(150);
/// Somebody who writes all the time is not waited for longer.
const QUIET_WITHIN: Duration = Duration::from_secs(2);
/// What builds write, and what nobody edits.
const IGNORED: [&str; 8] =
    ["build", "dist", "target", ".git", "node_modules", "__pycache__", ".pytest_cache", "vendor"];

/// Does it now, and again after each change, until the process is interrupted.
/// What happens below `work`, where toolchains write, is no change.
/// `watched` is a project, or one file: what else happens beside that is none either.
pub(super) fn each_change(watched: &Path, work: Option<&Path>, mut act: impl FnMut()) -> Result<ExitCode> {
    let watched = std::fs::canonicalize(watched).with_context(|| format!("find {}", watched.display()))?;
    // A file that is saved is replaced, so that its directory has to be watched.
    let (place, depth) = match watched.parent() {
        Some(dir) if watched.is_file() => (dir, RecursiveMode::NonRecursive),
        _ => (watched.as_path(), RecursiveMode::Recursive),
    };
    let (send, changes) = mpsc::sync_channel(1);
    let inside = watched.clone();
    let work = work.map(std::path::absolute).transpose()?;
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if counts(&event, &inside, work.as_deref()) {
            // One that waits to be seen is as good as many.
            let _full = send.try_send(());
        }
    })?;
    watcher.watch(place, depth).with_context(|| format!("watch {}", place.display()))?;
    loop {
        act();
        output::complain(format_args!("waiting for changes in {}", watched.display()));
        // What came while it worked counts too.
        changes.recv().context("the watcher ended")?;
        let end = Instant::now() + QUIET_WITHIN;
        while Instant::now() < end && changes.recv_timeout(QUIET).is_ok() {}
    }
}

fn counts(event: &notify::Result<notify::Event>, watched: &Path, work: Option<&Path>) -> bool {
    let Ok(event) = event else { return true };
    if matches!(event.kind, EventKind::Access(_)) {
        return false;
    }
    event.paths.iter().any(|path| {
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
    })
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
            assert_eq!(counts(&event(path), Path::new("/p"), work), expected, "{path}");
        }
        let read =
            notify::Event::new(EventKind::Access(notify::event::AccessKind::Read)).add_path("/p/a".into());
        assert!(!counts(&Ok(read), Path::new("/p"), None));
        for (path, expected) in [("a.wasm", true), ("b.wasm", false), ("a.wasm.part", false)] {
            assert_eq!(counts(&event(path), Path::new("/p/a.wasm"), None), expected, "{path}");
        }
    }
}
