//! Opening, closing and the numbers of the one journal of a data directory.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use bytes::Bytes;

use crate::disk::{Disk, DiskLock, RealDisk};
use crate::error::{AppendError, OpenError, StreamError};
use crate::format::Kind;
use crate::mover::Mover;
use crate::queue::Work;
use crate::state::{Shared, StreamCore};
use crate::stream::{self, Stream, StreamKey, StreamOptions};
use crate::writer::Writer;
use crate::{limits, recovery, snapshot};

/// When an append counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After `fdatasync`: it survives the loss of power.
    Fsync,
    /// After the write: it survives the end of the process, not that of the machine. Files are synced when
    /// they are full, so at most about one file of acknowledged records is at risk.
    Os,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub durability: Durability,
    /// Size of a journal file; a larger frame gets a larger file. There are at least two, one of them in reserve.
    pub file_bytes: u64,
    /// Once the journal is about to be longer, what slow streams still need moves to segments. It may pass this
    /// by a half and two files while that goes on; then records wait.
    pub max_journal_bytes: u64,
    /// Most buffered bytes of all streams together.
    pub max_total_bytes: u64,
    /// Recent frames kept in memory, all streams together.
    pub memory_bytes: u64,
    /// Appends that wait for the writer.
    pub queue_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            durability: Durability::Fsync,
            file_bytes: 64 << 20,
            max_journal_bytes: 512 << 20,
            max_total_bytes: 64 << 30,
            memory_bytes: 64 << 20,
            queue_bytes: 32 << 20,
        }
    }
}

/// What opening found. Records and entries in segments are checked only when they are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Closed in order, and nothing torn or corrupt.
    pub clean: bool,
    pub torn: Vec<Torn>,
    pub corrupt: Vec<Corrupt>,
    /// Offsets that were acknowledged and are still needed, but are gone.
    pub lost: Vec<(StreamKey, Range<u64>)>,
    pub streams: Vec<StreamKey>,
}

/// A tail that was never known to be durable, and was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    pub file: PathBuf,
    pub at: u64,
    pub bytes: u64,
    /// `None` if the tail does not say.
    pub records: Option<u64>,
}

/// What is wrong with bytes that were durable, or may have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// They do not pass their checksum.
    Content,
    /// Their file is shorter than it was made, which no crash does: it was cut from outside.
    Cut,
    /// Their file is gone, which no crash does: it was removed from outside.
    Missing,
}

/// Bytes that were durable, or may have been, and are of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrupt {
    pub damage: Damage,
    /// Of what is missing: the directory.
    pub file: PathBuf,
    pub at: u64,
    pub bytes: u64,
    /// Where a copy of the bytes is.
    pub set_aside: Option<PathBuf>,
    pub stream: Option<StreamKey>,
    pub offsets: Option<Range<u64>>,
}

/// Numbers since open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub syncs: u64,
    pub bytes_written: u64,
    pub groups: u64,
    pub frames: u64,
    pub records: u64,
    pub largest_group_frames: u64,
    pub failed_syncs: u64,
    pub failed_writes: u64,
    /// Places of corruption, those that opening found included.
    pub corruptions: u64,
    pub journal_files: u64,
    pub journal_bytes: u64,
    pub segment_bytes: u64,
    pub buffered_bytes: u64,
    /// Kept although no checkpoint needs it.
    pub retained_bytes: u64,
    pub cached_bytes: u64,
}

/// The journal of a data directory. Dropping it without `close` ends it as a crash would.
pub struct Journal {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    #[cfg(any(test, feature = "testing"))]
    writer: Option<std::sync::Mutex<Writer>>,
}

impl Journal {
    /// Opens or creates the journal under `dir`; blocks while it reads what is there.
    pub fn open(dir: &Path, options: Options) -> Result<(Journal, Recovery), OpenError> {
        Journal::open_on(Arc::new(RealDisk), dir, options)
    }

    /// The same on another disk.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
    ) -> Result<(Journal, Recovery), OpenError> {
        let (writer, shared, recovery) = open(disk, dir, options, true)?;
        let failed = |source| OpenError::Disk { action: "start a thread for", path: dir.to_owned(), source };
        let mut journal = Journal {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
            #[cfg(any(test, feature = "testing"))]
            writer: None,
        };
        journal.threads.push(Mover::start(Arc::clone(&shared)).map_err(failed)?);
        let thread = std::thread::Builder::new().name("wasmill-journal".into());
        let thread = thread.spawn(move || {
            let _end = CloseOnDrop(shared);
            writer.run();
        });
        journal.threads.push(thread.map_err(failed)?);
        Ok((journal, recovery))
    }

    /// The same without threads: everything is done by `step`, so that a test decides the order.
    #[cfg(any(test, feature = "testing"))]
    pub fn open_stepped(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
    ) -> Result<(Journal, Recovery), OpenError> {
        let (writer, shared, recovery) = open(disk, dir, options, false)?;
        Ok((Journal { shared, threads: Vec::new(), writer: Some(std::sync::Mutex::new(writer)) }, recovery))
    }

    /// Commits what waits as one group, moves and frees what can be. Does nothing on a journal with threads.
    #[cfg(any(test, feature = "testing"))]
    pub fn step(&self) {
        if let Some(writer) = &self.writer {
            crate::state::lock(writer).step();
        }
    }

    /// The same up to where what waits is written; its sync is the next step's. What waits meanwhile is written beside it by the
    /// next one of these.
    #[cfg(any(test, feature = "testing"))]
    pub fn step_to_sync(&self) {
        if let Some(writer) = &self.writer {
            crate::state::lock(writer).step_to_sync();
        }
    }

    /// Appends that were refused, or of which nobody knows, since the disk took one.
    #[cfg(any(test, feature = "testing"))]
    pub fn refused(&self) -> u64 {
        self.shared.refusal.borrow().as_ref().map_or(0, |refusal| refusal.appends)
    }

    /// The stream of this name, created durably if there is none.
    pub async fn stream(&self, key: &StreamKey, options: StreamOptions) -> Result<Stream, StreamError> {
        for part in [&key.tenant, &key.name] {
            if part.len() > limits::NAME_BYTES_MAX {
                return Err(StreamError::Name { what: "longer than 255 bytes" });
            }
        }
        let _one = self.shared.creating.lock().await;
        let known = |shared: &Shared| {
            let state = shared.state();
            let id = state.names.get(key)?;
            state.streams.get(id).map(|stream| Arc::clone(&stream.core))
        };
        let core = match known(&self.shared) {
            Some(core) => core,
            None => {
                let mut incarnation = [0; 16];
                self.shared
                    .disk
                    .entropy(&mut incarnation)
                    .map_err(|source| AppendError::Storage { source: Arc::new(source) })?;
                let id = {
                    let mut state = self.shared.state();
                    let id = state.next_stream;
                    state.next_stream = id
                        .checked_add(1)
                        .ok_or(AppendError::Invalid { what: "every stream id has been used" })?;
                    id
                };
                let core = Arc::new(StreamCore::new(id, key.clone(), incarnation, 0));
                let mut content = Vec::new();
                snapshot::put_key(&mut content, key);
                stream::send(
                    &self.shared,
                    Some(&core),
                    Kind::StreamCreated,
                    (0, 0),
                    content.into(),
                    Work::Create,
                )
                .await?;
                core
            }
        };
        core.max_bytes.store(options.max_bytes, Ordering::Relaxed);
        if let Some(stream) = self.shared.state().streams.get_mut(&core.id) {
            stream.retention = options.retention;
        }
        if self.shared.trim(core.id, i64::MIN) {
            self.shared.queue.poke();
        }
        Ok(Stream::new(Arc::clone(&self.shared), core))
    }

    /// The streams of a tenant that there are, by name, each as it was opened last or found.
    pub fn streams_of(&self, tenant: &str) -> Vec<Stream> {
        self.streams_where(|key| key.tenant == tenant)
    }

    /// The same of all tenants.
    pub fn streams(&self) -> Vec<Stream> {
        self.streams_where(|_| true)
    }

    fn streams_where(&self, wanted: impl Fn(&StreamKey) -> bool) -> Vec<Stream> {
        let state = self.shared.state();
        let of_tenant = state.names.iter().filter(|(key, _)| wanted(key));
        let mut cores: Vec<Arc<StreamCore>> = of_tenant
            .filter_map(|(_, id)| state.streams.get(id).map(|stream| Arc::clone(&stream.core)))
            .collect();
        drop(state);
        cores.sort_by(|a, b| (&a.key.tenant, &a.key.name).cmp(&(&b.key.tenant, &b.key.name)));
        cores.into_iter().map(|core| Stream::new(Arc::clone(&self.shared), core)).collect()
    }

    /// Writes what waits and the mark of an orderly end. Later appends are refused; reading still works.
    pub async fn close(&self) -> Result<(), AppendError> {
        stream::send(&self.shared, None, Kind::Closed, (0, 0), Bytes::new(), Work::Close).await?;
        Ok(())
    }

    /// Where the journal lies, for a thread that may block to look at.
    pub fn place(&self) -> Place {
        self.shared.place()
    }

    /// Whether the disk takes appends, as far as anybody has seen. If it refused the last ones, it is asked again, which
    /// takes the writer's time; if the writer ends meanwhile, no answer comes.
    ///
    /// # Errors
    /// It still refuses them, or the journal is closed.
    pub async fn check_takes_appends(&self) -> Result<(), AppendError> {
        let mut refusal = self.shared.refusal.subscribe();
        if refusal.borrow_and_update().is_none() {
            return Ok(());
        }
        self.shared.queue.ask()?;
        // The sender is ours.
        let _never_gone = refusal.changed().await;
        match &*refusal.borrow() {
            None => Ok(()),
            Some(refusal) => Err(AppendError::Storage { source: Arc::clone(&refusal.error) }),
        }
    }

    pub fn stats(&self) -> Stats {
        let state = self.shared.state();
        let counters = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            syncs: get(&counters.syncs),
            bytes_written: get(&counters.bytes_written),
            groups: get(&counters.groups),
            frames: get(&counters.frames),
            records: get(&counters.records),
            largest_group_frames: get(&counters.largest_group_frames),
            failed_syncs: get(&counters.failed_syncs),
            failed_writes: get(&counters.failed_writes),
            corruptions: get(&counters.corruptions),
            journal_files: state.files.len() as u64,
            journal_bytes: state.journal_bytes(),
            segment_bytes: state.segment_bytes(),
            buffered_bytes: get(&self.shared.buffered),
            retained_bytes: state.streams.values().map(|stream| get(&stream.core.retained)).sum(),
            cached_bytes: state.cache.bytes,
        }
    }
}

impl Shared {
    fn place(&self) -> Place {
        Place { dir: self.dir.clone(), lock: self.state().lock.as_ref().map(Arc::downgrade) }
    }

    /// Whoever opens the directory meets our lock; else it was removed, moved or replaced, and may be another's.
    pub(crate) fn check_lock(&self) -> io::Result<()> {
        self.place().check()
    }
}

/// Where a journal lies. It does not keep the journal open, nor its directory locked.
pub struct Place {
    dir: PathBuf,
    lock: Option<Weak<dyn DiskLock>>,
}

impl Place {
    /// Whether the data directory is still where it was opened, so that appends can succeed; nothing can be said of a
    /// journal that was closed. It asks the disk, and may block for as long as that does not answer.
    ///
    /// # Errors
    /// It was removed, moved or replaced, or cannot be looked at.
    pub fn check(&self) -> io::Result<()> {
        match self.lock.as_ref().and_then(Weak::upgrade).map(|lock| lock.is_in_place()) {
            None | Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("data directory {} was removed, moved or replaced while in use", self.dir.display()),
            )),
            Some(Err(error)) => Err(error),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.mover.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the journal panicked");
            }
        }
        end(&self.shared);
        self.shared.state().lock = None;
    }
}

/// Recovers and starts a file behind what was found.
fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: Options,
    threaded: bool,
) -> Result<(Writer, Arc<Shared>, Recovery), OpenError> {
    if options.file_bytes < limits::FILE_BYTES_MIN {
        return Err(OpenError::Option { option: "file_bytes", what: "at least 16 KiB" });
    }
    if options.queue_bytes == 0 {
        return Err(OpenError::Option { option: "queue_bytes", what: "more than 0" });
    }
    let journal = dir.join("journal");
    let failed = |action: &'static str| {
        let path = journal.clone();
        move |source| OpenError::Disk { action, path, source }
    };
    disk.create_dir(&journal).map_err(failed("create"))?;
    let lock = match disk.lock(&journal.join("lock")).map_err(failed("lock"))? {
        Ok(lock) => lock,
        Err(holder) => return Err(OpenError::Locked { path: dir.to_owned(), holder }),
    };
    let mut found = recovery::recover(disk.as_ref(), dir, options.file_bytes)?;
    found.state.lock = Some(Arc::from(lock));
    let journal_id = match found.journal_id {
        Some(id) => id,
        None => {
            let mut id = [0; 8];
            disk.entropy(&mut id).map_err(failed("draw an identity for"))?;
            u64::from_le_bytes(id)
        }
    };
    let identity = (journal_id, found.epoch);
    let shared = Arc::new(Shared::new(disk, dir, (options, threaded), identity, found.state));
    shared.counters.corruptions.store(found.recovery.corrupt.len() as u64, Ordering::Relaxed);
    let writer =
        Writer::open(Arc::clone(&shared), found.end, found.next_number).map_err(failed("start a file in"))?;
    Ok((writer, shared, found.recovery))
}

/// Nothing becomes durable any more: whoever waits learns it.
fn end(shared: &Shared) {
    shared.closed.store(true, Ordering::Release);
    shared.queue.close();
    drop(shared.beside.end());
    shared.state().streams.values().for_each(|stream| stream.core.wake());
}

/// However the writer ends, nobody waits for it in vain.
struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        end(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::testing::FaultyDisk;

    /// A lock that can be looked at only while the state is free for others.
    struct Nosy(Weak<Shared>);

    impl DiskLock for Nosy {
        fn is_in_place(&self) -> io::Result<bool> {
            let shared = self.0.upgrade().unwrap();
            let (seen, sees) = mpsc::sync_channel(1);
            std::thread::spawn(move || {
                drop(shared.state());
                let _failed = seen.send(());
            });
            Ok(sees.recv_timeout(Duration::from_secs(5)).is_ok())
        }
    }

    #[test]
    fn place_of_the_journal_is_looked_at_while_others_use_its_state() {
        let disk = FaultyDisk::new(0);
        let (journal, _) =
            Journal::open_stepped(Arc::new(disk), Path::new("/data"), Options::default()).unwrap();
        journal.shared.state().lock = Some(Arc::new(Nosy(Arc::downgrade(&journal.shared))));
        journal.place().check().unwrap();
        journal.shared.check_lock().unwrap();
        let place = journal.place();
        drop(journal);
        // It kept nothing locked.
        place.check().unwrap();
    }
}
