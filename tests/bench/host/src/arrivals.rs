//! Tells when an object becomes visible in a directory, without asking again and again.

use std::collections::VecDeque;
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
    /// Told of together with one that was asked for.
    seen: VecDeque<String>,
}

impl Arrivals {
    pub(crate) fn watch(dir: &Path) -> Result<Arrivals> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&queue, dir, WatchFlags::MOVED_TO)
            .with_context(|| format!("watch {}", dir.display()))?;
        Ok(Arrivals { queue, seen: VecDeque::new() })
    }

    /// Waits for the next file; its name.
    pub(crate) fn next(&mut self, longest: Duration) -> Result<String> {
        let longest = Timespec::try_from(longest)?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        loop {
            if let Some(name) = self.seen.pop_front() {
                return Ok(name);
            }
            let mut fds = [PollFd::new(&self.queue, PollFlags::IN)];
            if poll(&mut fds, Some(&longest))? == 0 {
                bail!("no object within {} s", longest.tv_sec);
            }
            let mut events = inotify::Reader::new(&self.queue, &mut buffer);
            loop {
                let event = match events.next() {
                    Ok(event) => event,
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(error).context("read what became visible"),
                };
                if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                    bail!("more files became visible at a time than the system keeps count of");
                }
                if event.events().contains(ReadFlags::MOVED_TO)
                    && let Some(name) = event.file_name()
                {
                    self.seen.push_back(name.to_string_lossy().into_owned());
                }
                if events.is_buffer_empty() {
                    break;
                }
            }
        }
    }
}
