//! Reads granted files, each state of one once: what is in use is shared by all chains that have it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use wasmill_transform::{Digest, FileState, GrantError, GrantedFile, OpenFile};

use crate::pipeline::stats::wall_clock_ns;

/// How long a file must have been left alone before it counts as whole: a writer may be at work in between.
pub(super) const REST: Duration = Duration::from_millis(250);

/// Files of which is known what they have.
const SEEN_MAX: usize = 4096;

/// What a state of a file has.
struct Seen {
    state: FileState,
    digest: Digest,
    bytes: Weak<[u8]>,
}

/// By device and inode: whoever has opened a file may know what is in it.
static SEEN: LazyLock<Mutex<HashMap<(u64, u64), Seen>>> = LazyLock::new(Mutex::default);

fn seen() -> MutexGuard<'static, HashMap<(u64, u64), Seen>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether nobody has touched it for a while. A time to come is that of another clock.
pub(super) fn has_rested(state: &FileState) -> bool {
    let (seconds, nanoseconds) = state.changed;
    let changed = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let age = i128::from(wall_clock_ns()) - changed;
    age < 0 || age >= i128::try_from(REST.as_nanos()).unwrap_or(i128::MAX)
}

/// Its digest, and its content where that is at hand.
pub(super) fn digest(file: &mut OpenFile, max: u64) -> Result<(Digest, Option<GrantedFile>), GrantError> {
    let state = file.state()?;
    if let Some(seen) = seen().get(&(state.device, state.inode)).filter(|seen| seen.state == state) {
        let content = seen.bytes.upgrade().map(|bytes| GrantedFile { bytes, digest: seen.digest });
        return Ok((seen.digest, content));
    }
    let content = read(file, max)?;
    Ok((content.digest, Some(content)))
}

/// All of it.
pub(super) fn content(file: &mut OpenFile, max: u64) -> Result<GrantedFile, GrantError> {
    match digest(file, max)? {
        (_, Some(content)) => Ok(content),
        (_, None) => read(file, max),
    }
}

fn read(file: &mut OpenFile, max: u64) -> Result<GrantedFile, GrantError> {
    let (content, state) = file.read(max)?;
    // Of one that has not rested the next state may look the same.
    if has_rested(&state) {
        let mut seen = seen();
        if seen.len() >= SEEN_MAX {
            seen.retain(|_, seen| seen.bytes.strong_count() > 0);
        }
        if seen.len() < SEEN_MAX {
            let bytes = Arc::downgrade(&content.bytes);
            seen.insert((state.device, state.inode), Seen { state, digest: content.digest, bytes });
        }
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn open(path: &Path) -> OpenFile {
        OpenFile::open(path).unwrap()
    }

    fn rested(path: &Path) {
        let limit = std::time::Instant::now() + Duration::from_secs(30);
        while !has_rested(&open(path).state().unwrap()) {
            assert!(std::time::Instant::now() < limit);
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    #[test]
    fn file_that_rests_is_read_once_and_shared_and_another_state_is_another_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        fs::write(&path, "one").unwrap();
        assert!(!has_rested(&open(&path).state().unwrap()), "it was written just now");
        rested(&path);
        let first = content(&mut open(&path), 10).unwrap();
        let again = content(&mut open(&path), 10).unwrap();
        assert!(Arc::ptr_eq(&first.bytes, &again.bytes));
        // Same length, same name, in place and by a rename.
        for text in ["two", "six"] {
            fs::write(dir.path().join("part"), text).unwrap();
            match text {
                "two" => drop(fs::copy(dir.path().join("part"), &path).unwrap()),
                _ => fs::rename(dir.path().join("part"), &path).unwrap(),
            }
            rested(&path);
            let (digest, _) = digest(&mut open(&path), 10).unwrap();
            assert_eq!(digest, Digest::of(text.as_bytes()));
        }
        drop((first, again));
        // Nobody has it any more: the digest is known, the content is read again.
        let (known, gone) = digest(&mut open(&path), 10).unwrap();
        assert_eq!((known, gone.is_none()), (Digest::of(b"six"), true));
        assert_eq!(&*content(&mut open(&path), 10).unwrap().bytes, b"six");
    }

    #[test]
    fn file_over_the_limit_is_refused_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        fs::write(&path, "four").unwrap();
        rested(&path);
        for _ in 0..2 {
            assert!(matches!(content(&mut open(&path), 3), Err(GrantError::TooLarge { .. })));
        }
    }
}
