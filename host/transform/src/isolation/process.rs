//! One process that runs plugins, as the host holds it.
//!
//! Owns its start, what it has loaded, and its end: dropped, it is killed and waited for. After an error it must be dropped,
//! since nobody knows where in a frame it is.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Weak;
use std::time::{Duration, Instant};

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Serialize;
use wait4::Wait4;

use super::messages::{Answer, Request};
use super::wire::Channel;
use super::{LINES_MAX, ProcessOptions, SUBCOMMAND};
use crate::fault::{PluginFault, cut_text};
use crate::plugin::Digest;

/// Of what it wrote to stderr.
const LAST_WORDS_BYTES: usize = 2048;
/// What the process needs beside the memory of guests.
pub(super) const OWN_BYTES: u64 = 128 << 20;

/// See the head of this file.
pub(super) struct Process {
    child: Child,
    channel: Channel,
    /// Where it writes the place in the chain of the transform that it is about to call.
    position: File,
    stderr: File,
    memory_bytes: u64,
    clock: Option<ClockId>,
    loaded: Vec<Loaded>,
    code: Vec<Digest>,
}

/// A chain that it has.
struct Loaded {
    chain: u64,
    /// Gone with the chain itself.
    alive: Weak<()>,
    memory_bytes: u64,
}

impl Process {
    /// Starts one that may use so much private memory, or as much as the options say if that is more.
    pub(super) fn start(
        options: &ProcessOptions,
        memory_bytes: u64,
        fuel: bool,
        debug_info: bool,
    ) -> io::Result<Process> {
        let memory_bytes = memory_bytes.max(options.memory_bytes);
        let (ours, theirs) = UnixStream::pair()?;
        let in_memory = |name: &str| -> io::Result<(File, Stdio)> {
            let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
            let theirs = Stdio::from(file.try_clone()?);
            Ok((file, theirs))
        };
        let (position, stdout) = in_memory("position")?;
        let (stderr, their_stderr) = in_memory("stderr")?;
        let child = Command::new(&options.program)
            .arg(SUBCOMMAND)
            .arg(memory_bytes.to_string())
            .arg(u8::from(fuel).to_string())
            .arg(u8::from(debug_info).to_string())
            .env_clear()
            // A signal to the host's group is not meant for it: it ends when the host lets go of it.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(stdout)
            .stderr(their_stderr)
            .spawn()?;
        let pid = i32::try_from(child.id()).ok().map(Pid::from_raw);
        let clock = pid.and_then(|pid| clock_getcpuclockid(pid).ok());
        let channel = Channel::watched(ours)?;
        let (loaded, code) = (Vec::new(), Vec::new());
        Ok(Process { child, channel, position, stderr, memory_bytes, clock, loaded, code })
    }

    /// Whether it has not ended.
    pub(super) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    pub(super) fn has(&self, chain: u64) -> bool {
        self.loaded.iter().any(|loaded| loaded.chain == chain)
    }

    pub(super) fn has_code(&self, digest: &Digest) -> bool {
        self.code.contains(digest)
    }

    pub(super) fn note_code(&mut self, digest: Digest) {
        self.code.push(digest);
    }

    pub(super) fn note_loaded(&mut self, chain: u64, alive: Weak<()>, memory_bytes: u64) {
        self.loaded.push(Loaded { chain, alive, memory_bytes });
    }

    /// Unloads chains that are gone, and then the oldest ones, until there is room for so much.
    pub(super) fn make_room(&mut self, memory_bytes: u64, until: Instant) -> io::Result<()> {
        let mut at = 0;
        while let Some(loaded) = self.loaded.get(at) {
            if loaded.alive.strong_count() > 0 {
                at += 1;
                continue;
            }
            self.unload(at, until)?;
        }
        let used = |loaded: &[Loaded]| loaded.iter().map(|loaded| loaded.memory_bytes).sum::<u64>();
        while !self.loaded.is_empty() && used(&self.loaded).saturating_add(memory_bytes) > self.memory_bytes {
            self.unload(0, until)?;
        }
        Ok(())
    }

    fn unload(&mut self, at: usize, until: Instant) -> io::Result<()> {
        let loaded = self.loaded.remove(at);
        if self.loaded.is_empty() {
            // It lets go of what no chain needs.
            self.code.clear();
        }
        self.send(&Request::Unload { chain: loaded.chain }, &[], until)?;
        // What its guests logged last comes before.
        for _line in 0..LINES_MAX {
            match self.receive(until)?.0 {
                Answer::Gone => return Ok(()),
                Answer::Line { .. } | Answer::Dropped { .. } => {}
                _ => break,
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "something else than that a chain is gone"))
    }

    pub(super) fn send(&mut self, head: &impl Serialize, body: &[&[u8]], until: Instant) -> io::Result<()> {
        self.channel.send(head, body, Some(until))
    }

    pub(super) fn receive(&mut self, until: Instant) -> io::Result<(Answer, Vec<u8>)> {
        self.channel.receive(Some(until))
    }

    /// CPU time of all its threads so far, by the kernel's account.
    pub(super) fn cpu(&self) -> Duration {
        let now = self.clock.and_then(|clock| clock.now().ok());
        now.map_or(Duration::ZERO, |now| {
            Duration::from_nanos(u64::try_from(now.num_nanoseconds()).unwrap_or_default())
        })
    }

    /// The transform that it called last, by its place.
    pub(super) fn position(&self) -> usize {
        let mut place = [0; 4];
        match self.position.read_at(&mut place, 0) {
            Ok(4) => u32::from_le_bytes(place) as usize,
            _ => 0,
        }
    }

    /// Ends it and says why talking to it failed, and the CPU time that it used in all.
    pub(super) fn end(mut self, error: &io::Error) -> (PluginFault, Duration) {
        // One that has ended keeps the status that it has.
        let killed = self.child.kill();
        let ended = self.child.wait4();
        let used = ended.as_ref().map_or(Duration::ZERO, |ended| ended.rusage.utime + ended.rusage.stime);
        let message = match (error.kind(), killed.and(ended.map(|ended| ended.status))) {
            (io::ErrorKind::TimedOut, _) => "the process of its plugins did not answer in time".to_owned(),
            (io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput, _) => {
                format!("the process of its plugins answered what cannot be: {error}")
            }
            (_, Ok(status)) => format!("the process of its plugins ended: {status}"),
            (_, Err(unknown)) => format!("the process of its plugins ended: {unknown}"),
        };
        (PluginFault::Trap { message, detail: self.last_words() }, used)
    }

    fn last_words(&self) -> String {
        let length = self.stderr.metadata().map_or(0, |metadata| metadata.len());
        let mut bytes = vec![0; LAST_WORDS_BYTES];
        let from = length.saturating_sub(LAST_WORDS_BYTES as u64);
        let read = self.stderr.read_at(&mut bytes, from).unwrap_or(0);
        bytes.truncate(read);
        cut_text(String::from_utf8_lossy(&bytes).trim(), LAST_WORDS_BYTES)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killing what has ended does nothing, and waiting twice neither.
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}
