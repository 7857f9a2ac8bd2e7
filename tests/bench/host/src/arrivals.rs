//! Tells when an object becomes visible in a directory, without asking again and again.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// Files that are renamed into one directory.
pub(crate) struct Arrivals {
    queue: OwnedFd,
}

impl Arrivals {
    pub(crate) fn watch(dir: &Path) -> Result<Arrivals> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&queue, dir, WatchFlags::MOVED_TO)
            .with_context(|| format!("watch {}", dir.display()))?;
        Ok(Arrivals { queue })
    }

    /// Waits for the next file; its name.
    pub(crate) fn next(&self, longest: Duration) -> Result<String> {
        let longest = Timespec::try_from(longest)?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        loop {
            let mut fds = [PollFd::new(&self.queue, PollFlags::IN)];
            if poll(&mut fds, Some(&longest))? == 0 {
                bail!("no object within {} s", longest.tv_sec);
            }
            let mut events = inotify::Reader::new(&self.queue, &mut buffer);
            while let Ok(event) = events.next() {
                if event.events().contains(ReadFlags::MOVED_TO)
                    && let Some(name) = event.file_name()
                {
                    return Ok(name.to_string_lossy().into_owned());
                }
            }
        }
    }
}
